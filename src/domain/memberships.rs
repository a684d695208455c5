//! Members of a tenant: adding, removing and listing them.

use serde_json::json;

use super::audit::{self, Actor, Event, Origin};
use crate::{
    app::App,
    error::{Error, Result},
    store::{
        Tx, audit_events,
        audit_events::Row,
        memberships::{self, Membership, MembershipState},
        roles::{self, Role},
        tenants::Tenant,
        users::{self, User, UserState},
    },
    values::{
        ids::{MembershipId, RoleId, TenantId, UserId},
        time::Timestamp,
    },
};

/// The most roles of one member.
const MAX_ROLES: usize = 32;
/// Their names together, in bytes of JSON: a token of the tenant says them all.
const MAX_ROLE_BYTES: usize = 2 * 1024;

/// A membership that is ready to be stored.
#[derive(Clone)]
pub(super) struct Adding {
    id: MembershipId,
    tenant: TenantId,
    user: UserId,
    role_names: Vec<String>,
    state: MembershipState,
    now: Timestamp,
    event: Row,
}

/// Makes a user a member with the roles of those names.
///
/// # Errors
/// [`Error::InvalidField`] for too many roles; [`Error::NotFound`] for a user who is deleted and for a role that the tenant does not have,
/// [`Error::Taken`] where the user is a member already, [`Error::SeatLimit`] where the tenant is full.
pub async fn add(app: &App, tenant: &Tenant, user: &User, role_names: Vec<String>, actor: Actor) -> Result<(Membership, Vec<Role>)> {
    let input = prepare(app, tenant.id, user.id, role_names, MembershipState::Active, actor)?;
    app.store.write("add_member", input, |tx, input| async move { insert(&tx, input).await }).await
}

/// Checks everything that needs no transaction. `state` is where the membership stands from the start: active, or suspended.
pub(super) fn prepare(
    app: &App,
    tenant: TenantId,
    user: UserId,
    role_names: Vec<String>,
    state: MembershipState,
    actor: Actor,
) -> Result<Adding> {
    if role_names.len() > MAX_ROLES {
        return Err(Error::field("roles", format!("must be at most {MAX_ROLES}")));
    }
    if json!(role_names).to_string().len() > MAX_ROLE_BYTES {
        return Err(Error::field("roles", format!("must have names of at most {MAX_ROLE_BYTES} bytes together")));
    }
    let id = MembershipId::generate(&app.entropy, &app.clock);
    let mut details = json!({ "user_id": user.to_string(), "roles": role_names });
    if let (true, Some(details)) = (state != MembershipState::Active, details.as_object_mut()) {
        details.insert("state".to_owned(), state.as_str().into());
    }
    let about =
        audit::About { object_id: Some(id.to_string()), tenant_id: Some(tenant), details: Some(details), ..audit::About::default() };
    let origin = Origin::local(app);
    let event = audit::success(app, Event::MemberAdded, actor, &origin, about);
    Ok(Adding { id, tenant, user, role_names, state, now: origin.time, event })
}

/// Stores a prepared membership with its event.
pub(super) async fn insert(tx: &Tx, adding: Adding) -> Result<(Membership, Vec<Role>)> {
    // Before the tenant, as logins and changes of password do: who takes two locks in one order never waits in a circle.
    if users::find_locked(tx, adding.user).await?.is_none_or(|user| user.state == UserState::Deleted) {
        return Err(Error::NotFound("user"));
    }
    // The tenant's row is the queue for its seats.
    let tenant = memberships::lock_tenant(tx, adding.tenant).await?;
    let taken = memberships::count_seats(tx, tenant.id).await?;
    if tenant.seat_limit.is_some_and(|limit| taken >= u64::try_from(limit).unwrap_or_default()) {
        return Err(Error::SeatLimit);
    }
    let mut held: Vec<Role> = Vec::new();
    for name in &adding.role_names {
        let role = roles::find_by_name(tx, tenant.id, name).await?.ok_or(Error::NotFound("role"))?;
        if held.iter().all(|other| other.id != role.id) {
            held.push(role);
        }
    }
    let ids: Vec<RoleId> = held.iter().map(|role| role.id).collect();
    let mut membership = memberships::add(tx, adding.id, tenant.id, adding.user, &ids, adding.now).await?;
    if adding.state == MembershipState::Suspended {
        if !memberships::suspend(tx, membership.id).await? {
            return Err(Error::internal("a membership that was just made is not active"));
        }
        membership = Membership { state: adding.state, epoch: membership.epoch + 1, ..membership };
    }
    // An earlier membership keeps its id.
    audit_events::insert(tx, Row { object_id: Some(membership.id.to_string()), ..adding.event }).await?;
    Ok((membership, held))
}

/// Ends a membership.
///
/// # Errors
/// [`Error::NotFound`] where there is none.
pub async fn remove(app: &App, tenant: &Tenant, user: &User, actor: Actor) -> Result<()> {
    let about = audit::About {
        object_id: Some(user.id.to_string()),
        tenant_id: Some(tenant.id),
        details: Some(json!({ "user_id": user.id.to_string() })),
        ..audit::About::default()
    };
    let event = audit::success(app, Event::MemberRemoved, actor, &Origin::local(app), about);
    let unit = |tx, (tenant, user, event)| async move { delete(tx, tenant, user, event).await };
    app.store.write("remove_member", (tenant.id, user.id, event), unit).await
}

async fn delete(tx: Tx, tenant: TenantId, user: UserId, event: Row) -> Result<()> {
    if !memberships::remove(&tx, tenant, user).await? {
        return Err(Error::NotFound("membership"));
    }
    audit_events::insert(&tx, event).await
}

/// Every member of a tenant with their roles.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(app: &App, tenant: TenantId) -> Result<Vec<(Membership, User, Vec<Role>)>> {
    super::collect(
        |after: Option<MembershipId>| {
            app.store.read("list_members", after, move |db, after| async move {
                memberships::list_members(&db, tenant, after, super::BATCH).await
            })
        },
        |(membership, _, _)| membership.id,
    )
    .await
}
