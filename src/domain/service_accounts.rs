//! Service accounts: making, showing, disabling and deleting them; below, what proves them.
//!
//! ```text
//!              create
//!                │
//!                ▼     disable
//!             active ──────────► disabled
//!                │  ◄──────────     │
//!                │     enable       │
//!                └────────┬─────────┘
//!                         ▼ delete: secrets, certificates and roles go
//!                      deleted     found by nobody, and the id is never given again
//!
//!   secret:    added ──► good ──► removed, or expired and forgotten when the next one is added
//! ```
//!
//! Every arrow between two states moves the account's epoch on, so that tokens of before are refused from then on, also after it is
//! enabled again. Taking a secret away ends what it buys; what it has bought dies with it only on request, for it could as well have been
//! bought by another.
//!
//! **Nobody gives what they do not hold.** Whoever makes or enables an account, adds a secret to it or lets a certificate stand for it can
//! act as it from then on, or let somebody: so each of these asks whether they hold what the account holds, as it stands under the lock.
//! Taking something away asks for the permission alone.
//!
//! An account that calls has no more rights here than it holds: one of a tenant cannot give itself a further secret unless it is an owner,
//! for its own level is not below its own.
//!
//! | file | what |
//! |---|---|
//! | `administrator.rs` | who administers, where, and what they may give |
//! | `proofs.rs` | secrets and names in certificates |

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    audit::{self, Event},
    pages::{self, Page},
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{
        Db, Tx, audit_events,
        audit_events::Row,
        memberships,
        roles::{self, Role},
        service_account_secrets::{self as secrets, AccountSecret},
        service_accounts::{self as accounts, AccountState, NewServiceAccount, Place, ServiceAccount},
    },
    values::{
        certificate::certificate_name,
        ids::{RoleId, ServiceAccountId},
        permission::{Permission, PermissionSet},
        text,
        time::Timestamp,
    },
};

mod administrator;
mod proofs;

pub use administrator::Administrator;
pub use proofs::{add_certificate, add_secret, holder_of_certificate, remove_certificate, remove_secret};

/// What changes accounts of a tenant or of the instance.
const WRITE: &str = "doorward.service_accounts:write";
/// The resources that instance-wide accounts may have permissions for begin so: nothing of an application's is the instance's to give.
const OWN_RESOURCES: &str = "doorward.";
/// The most bytes of a name.
const MAX_NAME: usize = 255;
/// The most roles of one account, and their names together, in bytes of JSON: a token of the account says them all.
const MAX_ROLES: usize = 32;
const MAX_ROLE_BYTES: usize = 2 * 1024;
/// The most permissions of an instance-wide account.
const MAX_PERMISSIONS: usize = 64;
/// The most names in certificates that stand for one account.
const MAX_CERTIFICATES: usize = 16;
const ANOTHERS: &str = "stands for another service account";
/// What page tokens of the list are bound to, beside whoever asks and where.
const LIST: &str = "doorward.v1.ServiceAccountService/ListServiceAccounts";

/// What a service account is made of.
#[derive(Debug, Default)]
pub struct NewAccount {
    /// The name to show.
    pub name: String,
    /// The names of the roles of an account of a tenant.
    pub roles: Vec<String>,
    /// What an instance-wide account may do.
    pub permissions: Vec<String>,
    /// The names in certificates that stand for it.
    pub certificate_names: Vec<String>,
    /// Its first secret, if it is to have one.
    pub secret: Option<FirstSecret>,
}

/// The first secret of a service account.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstSecret {
    /// When it ceases to be good; none for never.
    pub expires_at: Option<Timestamp>,
}

/// A service account with what it may do and what proves it.
#[derive(Clone, Debug)]
pub struct Details {
    /// The account.
    pub account: ServiceAccount,
    /// The roles of one of a tenant, the highest level first.
    pub roles: Vec<Role>,
    /// The names in certificates that stand for it, sorted.
    pub certificate_names: Vec<String>,
    /// Its secrets, as far as they can be told, the oldest first.
    pub secrets: Vec<AccountSecret>,
}

/// A service account that is ready to be stored.
#[derive(Clone)]
struct Creating {
    by: Administrator,
    new: NewServiceAccount,
    role_names: Vec<String>,
    certificate_names: Vec<String>,
    secret: Option<AccountSecret>,
    event: Row,
}

/// Makes a service account, and answers it with the text of its first secret, if it has one.
///
/// # Errors
/// [`Error::InvalidField`]; [`Error::NotFound`] for a role that the tenant does not have, [`Error::GrantExceedsOwn`]; for a tenant that
/// changed meanwhile [`Error::NotAMember`] and [`Error::TenantSuspended`].
pub async fn create(app: &App, by: Administrator, new: NewAccount) -> Result<(Details, Option<SecretString>)> {
    check(&by, &new)?;
    let id = ServiceAccountId::generate(&app.entropy, &app.clock);
    let made = new.secret.map(|first| proofs::make(app, id, first.expires_at, by.now(), "secret_expire_time")).transpose()?;
    let (secret, text) = made.map(|made| (made.secret, made.text)).unzip();
    let permissions = permissions(&new.permissions)?;
    let event = by.event(app, Event::ServiceAccountCreated, id, told(&new, &permissions, secret.as_ref()))?;
    let NewAccount { name, roles: role_names, certificate_names, .. } = new;
    let new = NewServiceAccount { id, tenant_id: by.tenant_id(), name, permissions, now: by.now() };
    let input = Creating { by, new, role_names, certificate_names, secret, event };
    let details = app.store.write("create_service_account", input, |tx, input| async move { insert(&tx, input).await }).await?;
    Ok((details, text))
}

/// Checks everything that needs no transaction.
fn check(by: &Administrator, new: &NewAccount) -> Result<()> {
    text::required_text(&new.name, MAX_NAME).map_err(|e| Error::field("name", e.to_string()))?;
    match by.place() {
        Place::Instance if !new.roles.is_empty() => {
            return Err(Error::field("roles", "must be empty for an instance-wide account: roles are a tenant's"));
        }
        Place::Tenant(_) if !new.permissions.is_empty() => {
            return Err(Error::field("permissions", "must be empty for an account of a tenant, which has roles"));
        }
        Place::Instance | Place::Tenant(_) => {}
    }
    if new.roles.len() > MAX_ROLES {
        return Err(Error::field("roles", format!("must be at most {MAX_ROLES}")));
    }
    if json!(new.roles).to_string().len() > MAX_ROLE_BYTES {
        return Err(Error::field("roles", format!("must have names of at most {MAX_ROLE_BYTES} bytes together")));
    }
    for (index, role) in new.roles.iter().enumerate() {
        text::role_name(role).map_err(|e| Error::field(format!("roles[{index}]"), e.to_string()))?;
    }
    if !new.certificate_names.is_empty() {
        by.may_name_certificates()?;
    }
    if new.certificate_names.len() > MAX_CERTIFICATES {
        return Err(too_many_certificates());
    }
    for (index, name) in new.certificate_names.iter().enumerate() {
        certificate_name(name).map_err(|e| Error::field(format!("certificate_names[{index}]"), e.to_string()))?;
    }
    Ok(())
}

fn too_many_certificates() -> Error {
    Error::field("certificate_names", format!("must be at most {MAX_CERTIFICATES} for one account"))
}

/// The permissions of an instance-wide account.
fn permissions(texts: &[String]) -> Result<PermissionSet> {
    if texts.len() > MAX_PERMISSIONS {
        return Err(Error::field("permissions", format!("must be at most {MAX_PERMISSIONS}")));
    }
    let read = |(index, text): (usize, &String)| {
        let wrong = |problem: String| Error::field(format!("permissions[{index}]"), problem);
        let permission = Permission::parse(text).map_err(|e| wrong(e.to_string()))?;
        let is_own = permission.resource().len() > OWN_RESOURCES.len() && permission.resource().starts_with(OWN_RESOURCES);
        // A `*` for the resource would reach beyond Doorward's own.
        if is_own { Ok(permission) } else { Err(wrong(format!("must be for a resource that begins with {OWN_RESOURCES}"))) }
    };
    texts.iter().enumerate().map(read).collect()
}

/// What the trail says of a new account.
fn told(new: &NewAccount, permissions: &PermissionSet, secret: Option<&AccountSecret>) -> Value {
    let mut details = json!({ "name": new.name });
    let lists = [
        ("roles", json!(new.roles)),
        ("permissions", json!(permissions.to_strings())),
        ("certificate_names", json!(new.certificate_names)),
        ("secret_id", json!(secret.map(|secret| secret.id.to_string()))),
    ];
    if let Some(details) = details.as_object_mut() {
        let is_said = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
        details.extend(lists.into_iter().filter(|(_, value)| is_said(value)).map(|(key, value)| (key.to_owned(), value)));
    }
    details
}

async fn insert(tx: &Tx, creating: Creating) -> Result<Details> {
    let Creating { by, new, role_names, certificate_names, secret, mut event } = creating;
    let mut held: Vec<Role> = Vec::new();
    if let Some(tenant) = new.tenant_id {
        // Whoever deletes or suspends the tenant waits, or has come first.
        let tenant = memberships::lock_tenant(tx, tenant).await?;
        by.check_tenant(&tenant)?;
        for name in &role_names {
            let role = roles::find_by_name(tx, tenant.id, name).await?.ok_or(Error::NotFound("role"))?;
            if held.iter().all(|other| other.id != role.id) {
                held.push(role);
            }
        }
    }
    if by.may_give(&held, &new.permissions)? {
        audit::mark_superuser(&mut event);
    }
    let now = new.now;
    let ids: Vec<RoleId> = held.iter().map(|role| role.id).collect();
    let account = accounts::insert(tx, new, &ids).await?;
    // In one order, so that of two who name the same ones neither waits for the other in a circle.
    let mut sorted = certificate_names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    for name in &sorted {
        if !accounts::add_certificate(tx, account.id, name, now).await? {
            let index = certificate_names.iter().position(|other| other == name).unwrap_or_default();
            return Err(Error::field(format!("certificate_names[{index}]"), ANOTHERS));
        }
    }
    if let Some(secret) = &secret {
        secrets::insert(tx, secret.clone()).await?;
    }
    audit_events::insert(tx, event).await?;
    held.sort_by(|one, other| other.level.cmp(&one.level).then_with(|| one.name.cmp(&other.name)));
    Ok(Details { account, roles: held, certificate_names: sorted, secrets: secret.into_iter().collect() })
}

/// A service account.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(app: &App, by: &Administrator, id: ServiceAccountId) -> Result<Details> {
    let unit = |db, (place, id)| async move {
        let account = accounts::find(&db, place, id).await?.ok_or(NOT_FOUND)?;
        detailed(&db, vec![account]).await
    };
    app.store.read("get_service_account", (by.place(), id), unit).await?.pop().ok_or(NOT_FOUND)
}

/// A page of the service accounts of a place, and the token of the next one (empty at the end).
///
/// # Errors
/// [`Error::InvalidField`] for a page size below 0 and for a page token that is not of this list, place and caller.
pub async fn list(app: &App, by: &Administrator, page_size: i32, page_token: &str) -> Result<(Vec<Details>, String)> {
    let asked = Page::read(app, LIST, by.binding(), page_size, page_token)?;
    let (after, limit) = (asked.after().map(ServiceAccountId::from_uuid), asked.limit());
    let unit = move |db, place| async move {
        let mut found = accounts::list(&db, place, after, pages::ask(limit)).await?;
        let more = pages::cut(&mut found, limit, |last| Some(last.id));
        Ok((detailed(&db, found).await?, more))
    };
    let (page, more) = app.store.read("list_service_accounts", by.place(), unit).await?;
    let next = more.map(|last| asked.next(app, last.as_uuid())).unwrap_or_default();
    Ok((page, next))
}

/// Every service account of a place, for operators.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list_all(app: &App, place: Place) -> Result<Vec<Details>> {
    super::collect(
        |after: Option<ServiceAccountId>| {
            let unit = move |db, after| async move { detailed(&db, accounts::list(&db, place, after, super::BATCH).await?).await };
            app.store.read("list_all_service_accounts", after, unit)
        },
        |details| details.account.id,
    )
    .await
}

/// The service accounts of a place that an operator may mean: the one of that id, else those of that name.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn named(app: &App, place: Place, text: &str) -> Result<Vec<ServiceAccount>> {
    let (id, name) = (text.parse::<ServiceAccountId>().ok(), text.to_owned());
    let unit = move |db, ()| async move {
        let by_id = match id {
            Some(id) => accounts::find(&db, place, id).await?,
            None => None,
        };
        match by_id {
            Some(account) => Ok(vec![account]),
            None => accounts::find_by_name(&db, place, &name).await,
        }
    };
    app.store.read("resolve_service_account", (), unit).await
}

/// Disables, enables or deletes a service account, and answers it. Doing it twice is no error, but for what is deleted.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::GrantExceedsOwn`] where it is enabled.
pub async fn set_state(app: &App, by: Administrator, id: ServiceAccountId, to: AccountState) -> Result<ServiceAccount> {
    let event = match to {
        AccountState::Active => Event::ServiceAccountEnabled,
        AccountState::Disabled => Event::ServiceAccountDisabled,
        AccountState::Deleted => Event::ServiceAccountDeleted,
        AccountState::Unknown => return Err(Error::internal("no state to put an account into")),
    };
    let event = by.event(app, event, id, json!({}))?;
    let unit = |tx, (by, id, to, event)| async move { change(&tx, &by, id, to, event).await };
    app.store.write("set_service_account_state", (by, id, to, event), unit).await
}

async fn change(tx: &Tx, by: &Administrator, id: ServiceAccountId, to: AccountState, mut event: Row) -> Result<ServiceAccount> {
    let account = get_locked(tx, by, id).await?;
    if to == AccountState::Active {
        may_let_act(tx, by, &account, &mut event).await?;
    }
    if account.state == to {
        return Ok(account);
    }
    if !accounts::set_state(tx, id, account.state, to).await? {
        return Err(Error::internal("a service account in a state that this version does not know"));
    }
    if to == AccountState::Deleted {
        secrets::remove_all(tx, id).await?;
        accounts::remove_certificates(tx, id).await?;
        accounts::unlink_roles(tx, id).await?;
    }
    audit_events::insert(tx, event).await?;
    Ok(ServiceAccount { state: to, epoch: account.epoch + 1, ..account })
}

const NOT_FOUND: Error = Error::NotFound("service account");

/// The account to be changed, under its lock: changes of one account come one after the other.
async fn get_locked(tx: &Tx, by: &Administrator, id: ServiceAccountId) -> Result<ServiceAccount> {
    accounts::find_locked(tx, by.place(), id).await?.ok_or(NOT_FOUND)
}

/// Whether whoever administers may let this account act; what only the superuser flag allowed is said in the event.
async fn may_let_act(tx: &Tx, by: &Administrator, account: &ServiceAccount, event: &mut Row) -> Result<()> {
    let roles = accounts::roles_of(tx, &[account.id]).await?.remove(&account.id).unwrap_or_default();
    if by.may_give(&roles, &account.permissions)? {
        audit::mark_superuser(event);
    }
    Ok(())
}

/// Accounts with what they may do and what proves them, by one statement a table.
async fn detailed(db: &impl Db, found: Vec<ServiceAccount>) -> Result<Vec<Details>> {
    let ids: Vec<ServiceAccountId> = found.iter().map(|account| account.id).collect();
    let mut roles = accounts::roles_of(db, &ids).await?;
    let mut certificates = accounts::certificates_of(db, &ids).await?;
    let mut secrets = secrets::list_of(db, &ids).await?;
    let details = found.into_iter().map(|account| Details {
        roles: roles.remove(&account.id).unwrap_or_default(),
        certificate_names: certificates.remove(&account.id).unwrap_or_default(),
        secrets: secrets.remove(&account.id).unwrap_or_default(),
        account,
    });
    Ok(details.collect())
}
