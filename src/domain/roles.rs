//! Roles: a name, a level and permissions, per tenant.
//!
//! A tenant is born with three *system* roles, which cannot be changed:
//!
//! | role | level | permissions |
//! |---|---|---|
//! | `owner` | 100 | everything, `*:*` |
//! | `admin` | 60 | Doorward's own tenant permissions, [`ADMIN_PERMISSIONS`] |
//! | `member` | 20 | none |

use serde_json::json;

use super::audit::{self, Actor, Event, Origin};
use crate::{
    app::App,
    error::{Error, Result, Taken},
    store::{
        Tx, audit_events,
        audit_events::Row,
        roles::{self, NewRole, Role},
        tenants::Tenant,
    },
    values::{
        ids::{RoleId, TenantId},
        permission::PermissionSet,
        text,
        time::Timestamp,
    },
};

/// What a tenant's administrator may do in Doorward itself: everything about the tenant but deleting it.
pub const ADMIN_PERMISSIONS: [&str; 12] = [
    "doorward.audit:read",
    "doorward.invitations:read",
    "doorward.invitations:write",
    "doorward.members:read",
    "doorward.members:write",
    "doorward.roles:read",
    "doorward.roles:write",
    "doorward.service_accounts:read",
    "doorward.service_accounts:write",
    "doorward.sessions:write",
    "doorward.tenant:read",
    "doorward.tenant:write",
];
/// The names of the roles that a tenant is born with, in any case nobody else's.
const SYSTEM_NAMES: [&str; 3] = ["owner", "admin", "member"];
/// The most permissions of one role.
const MAX_PERMISSIONS: usize = 256;

/// The roles that a tenant is born with.
///
/// # Errors
/// [`Error::Internal`] never, as long as the table above is well-formed.
pub fn system_roles(app: &App, tenant: TenantId, now: Timestamp) -> Result<Vec<NewRole>> {
    let table: [(&str, i32, &[&str], &str); 3] = [
        ("owner", 100, &["*:*"], "May do everything in the tenant"),
        ("admin", 60, &ADMIN_PERMISSIONS, "Administers the tenant"),
        ("member", 20, &[], "Belongs to the tenant"),
    ];
    let role = |(name, level, permissions, description): (&str, i32, &[&str], &str)| {
        Ok(NewRole {
            id: RoleId::generate(&app.entropy, &app.clock),
            tenant_id: tenant,
            name: name.to_owned(),
            description: description.to_owned(),
            level,
            system: true,
            permissions: PermissionSet::parse(permissions).map_err(Error::internal)?,
            now,
        })
    };
    table.into_iter().map(role).collect()
}

/// What an operator makes a role of.
#[derive(Debug)]
pub struct NewRoleRequest {
    /// Unique in the tenant.
    pub name: String,
    /// 0 to 100.
    pub level: i32,
    /// What it allows.
    pub permissions: Vec<String>,
    /// What it is for.
    pub description: String,
}

/// Makes a role.
///
/// # Errors
/// [`Error::InvalidField`], [`Error::Taken`].
pub async fn create(app: &App, tenant: &Tenant, request: NewRoleRequest, actor: Actor) -> Result<Role> {
    let input = prepare(app, tenant.id, request, actor)?;
    app.store.write("create_role", input, |tx, input| async move { insert(&tx, input).await }).await
}

/// A role that is ready to be stored, with its event.
pub(super) type Creating = (NewRole, Row);

/// Checks everything that needs no transaction.
pub(super) fn prepare(app: &App, tenant: TenantId, request: NewRoleRequest, actor: Actor) -> Result<Creating> {
    text::role_name(&request.name).map_err(|e| Error::field("name", e.to_string()))?;
    text::text(&request.description, 1024).map_err(|e| Error::field("description", e.to_string()))?;
    // The database refuses the same name; a look-alike in other case would pass for it with people.
    if SYSTEM_NAMES.contains(&request.name.to_lowercase().as_str()) {
        return Err(Error::Taken(Taken::RoleName));
    }
    if !(0..=100).contains(&request.level) {
        return Err(Error::field("level", "must be between 0 and 100"));
    }
    if request.permissions.len() > MAX_PERMISSIONS {
        return Err(Error::field("permissions", format!("must be at most {MAX_PERMISSIONS}")));
    }
    let permissions = PermissionSet::parse(&request.permissions).map_err(|e| Error::field("permissions", e.to_string()))?;
    let id = RoleId::generate(&app.entropy, &app.clock);
    let details = json!({ "name": request.name, "level": request.level, "permissions": permissions.to_strings() });
    let about =
        audit::About { object_id: Some(id.to_string()), tenant_id: Some(tenant), details: Some(details), ..audit::About::default() };
    let origin = Origin::local(app);
    let event = audit::success(app, Event::RoleCreated, actor, &origin, about);
    let new = NewRole {
        id,
        tenant_id: tenant,
        name: request.name,
        description: request.description,
        level: request.level,
        system: false,
        permissions,
        now: origin.time,
    };
    Ok((new, event))
}

/// Stores a prepared role.
pub(super) async fn insert(tx: &Tx, (new, event): Creating) -> Result<Role> {
    let role = roles::insert(tx, new).await?;
    audit_events::insert(tx, event).await?;
    Ok(role)
}

/// Every role of a tenant, the highest level first.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(app: &App, tenant: TenantId) -> Result<Vec<Role>> {
    app.store.read("list_roles", tenant, |db, tenant| async move { roles::list(&db, tenant).await }).await
}
