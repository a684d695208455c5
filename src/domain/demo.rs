//! Tenants and people for trying things out.
//!
//! ```text
//!                acme                           globex (three seats)
//!   olivia   owner                              –
//!   adam     admin                              –
//!   sam      seller                             analyst
//!   max      seller, suspended                  –
//!   grace    –                                  owner
//! ```
//!
//! Everything is one transaction on a database without users and tenants: it is there whole, or nothing is. Nobody is a superuser, and
//! there is no default password: a world that somebody forgets on a network must not be one that everybody can enter.

use super::{
    audit::Actor,
    memberships::{self, Adding},
    roles::{self, NewRoleRequest},
    tenants::{self, NewTenantRequest},
    users::{self, NewUserRequest},
};
use crate::{
    app::App,
    error::Result,
    store::{
        self, Tx, instance,
        memberships::{Membership, MembershipState},
        roles::Role,
        tenants::Tenant,
        users::User,
    },
    values::{
        ids::{TenantId, UserId},
        secret::Password,
    },
};

/// Slug, name, tax id, seats.
const TENANTS: [(&str, &str, &str, Option<i32>); 2] =
    [("acme", "Acme Ltd", "76.123.456-0", None), ("globex", "Globex SpA", "96.543.210-8", Some(3))];
/// Tenant, name, level, permissions, what it is for.
const ROLES: [(&str, &str, i32, &[&str], &str); 2] = [
    ("acme", "seller", 30, &["sales:read", "sales:write", "invoices:read"], "Sells, and sees what was invoiced"),
    ("globex", "analyst", 10, &["sales:read", "reports:*"], "Reads sales, does everything with reports"),
];
/// E-mail address, user name, full name.
const PEOPLE: [(&str, &str, &str); 5] = [
    ("olivia@acme.example", "olivia", "Olivia Owner"),
    ("adam@acme.example", "adam", "Adam Admin"),
    ("sam@acme.example", "sam", "Sam Seller"),
    ("max@acme.example", "max", "Max Away"),
    ("grace@globex.example", "grace", "Grace Owner"),
];
/// User name, tenant, role, where the membership stands.
const MEMBERS: [(&str, &str, &str, MembershipState); 6] = [
    ("olivia", "acme", "owner", MembershipState::Active),
    ("adam", "acme", "admin", MembershipState::Active),
    ("sam", "acme", "seller", MembershipState::Active),
    ("sam", "globex", "analyst", MembershipState::Active),
    ("max", "acme", "seller", MembershipState::Suspended),
    ("grace", "globex", "owner", MembershipState::Active),
];

/// What was made.
#[derive(Debug)]
pub struct Demo {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// The people.
    pub users: Vec<User>,
    /// Who belongs where, with which roles.
    pub members: Vec<(Membership, Vec<Role>)>,
}

/// Everything that is ready to be stored.
#[derive(Clone, Default)]
struct Plan {
    tenants: Vec<tenants::Creating>,
    roles: Vec<roles::Creating>,
    users: Vec<users::Creating>,
    members: Vec<Adding>,
}

/// Whether there is neither a user nor a tenant, nor ever was.
///
/// # Errors
/// [`crate::error::Error::Unavailable`] where the database is away.
pub async fn is_empty(app: &App) -> Result<bool> {
    app.store.read("is_empty", (), |db, ()| async move { has_nobody(&db).await }).await
}

async fn has_nobody(db: &impl store::Db) -> Result<bool> {
    Ok(store::users::list(db, None, 1).await?.is_empty() && store::tenants::list(db, None, 1).await?.is_empty())
}

/// Fills an empty database; every person has the password. Answers nothing where the database is not empty, and leaves it as it is.
///
/// # Errors
/// [`crate::error::Error::PasswordRejected`].
pub async fn fill(app: &App, password: &Password, actor: &Actor) -> Result<Option<Demo>> {
    let plan = plan(app, password, actor).await?;
    app.store.write("fill_demo", plan, |tx, plan| async move { insert(tx, plan).await }).await
}

async fn insert(tx: Tx, plan: Plan) -> Result<Option<Demo>> {
    // Two of them queue here, and the first superuser with them.
    instance::lock(&tx).await?;
    if !has_nobody(&tx).await? {
        return Ok(None);
    }
    let mut demo = Demo { tenants: Vec::new(), users: Vec::new(), members: Vec::new() };
    for tenant in plan.tenants {
        demo.tenants.push(tenants::insert(&tx, tenant).await?);
    }
    for role in plan.roles {
        roles::insert(&tx, role).await?;
    }
    for user in plan.users {
        demo.users.push(users::insert(&tx, user).await?);
    }
    for member in plan.members {
        demo.members.push(memberships::insert(&tx, member).await?);
    }
    Ok(Some(demo))
}

async fn plan(app: &App, password: &Password, actor: &Actor) -> Result<Plan> {
    let mut plan = Plan::default();
    for (slug, name, tax_id, seat_limit) in TENANTS {
        let external_id = Some(format!("crm-{slug}"));
        let request =
            NewTenantRequest { slug: slug.to_owned(), name: name.to_owned(), tax_id: Some(tax_id.to_owned()), external_id, seat_limit };
        plan.tenants.push(tenants::prepare(app, request, actor.clone())?);
    }
    for (tenant, name, level, permissions, description) in ROLES {
        let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
        let request = NewRoleRequest { name: name.to_owned(), level, permissions, description: description.to_owned() };
        plan.roles.push(roles::prepare(app, plan.tenant(tenant)?, request, actor.clone())?);
    }
    for (email, username, full_name) in PEOPLE {
        let request = NewUserRequest {
            email: Some(email.to_owned()),
            username: Some(username.to_owned()),
            full_name: full_name.to_owned(),
            superuser: false,
            password: Some((password.clone(), false)),
        };
        plan.users.push(users::prepare(app, request, actor.clone()).await?);
    }
    for (user, tenant, role, state) in MEMBERS {
        let (tenant, user) = (plan.tenant(tenant)?, plan.user(user)?);
        plan.members.push(memberships::prepare(app, tenant, user, vec![role.to_owned()], state, actor.clone())?);
    }
    Ok(plan)
}

impl Plan {
    fn tenant(&self, slug: &str) -> Result<TenantId> {
        let found = self.tenants.iter().find(|(tenant, ..)| tenant.slug == slug);
        found.map(|(tenant, ..)| tenant.id).ok_or_else(|| crate::error::Error::internal("the demo names a tenant that it does not make"))
    }

    fn user(&self, username: &str) -> Result<UserId> {
        let is_named = |user: &&users::Creating| user.user.username.as_ref().is_some_and(|name| name.as_str() == username);
        let found = self.users.iter().find(is_named);
        found.map(|user| user.user.id).ok_or_else(|| crate::error::Error::internal("the demo names a person that it does not make"))
    }
}
