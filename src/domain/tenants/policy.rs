//! A tenant's own lifetimes of tokens and sessions, in `tenants.policy`.
//!
//! They hold for the sessions that are bound to the tenant, in the place of the configuration's: when one is opened, when its access
//! tokens are made, and when a refresh moves its idle expiry on. A policy that names one of the three names all, so that no later
//! configuration makes them contradict each other. Members that this version does not know are kept and passed over; what it knows and
//! cannot read is an error, never a default that nobody chose.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::audit::{self, Actor, Event, Origin};
use crate::{
    app::App,
    config::{
        self,
        tokens::{MAX_ACCESS_LIFETIME, MAX_REFRESH_GRACE},
    },
    error::{Error, Result},
    store::{
        Tx, audit_events,
        audit_events::Row,
        memberships,
        tenants::{self, Tenant, TenantState},
    },
    values::ids::TenantId,
};

/// The members, in whole seconds.
const ACCESS: &str = "access_lifetime";
const IDLE: &str = "idle_lifetime";
const ABSOLUTE: &str = "absolute_lifetime";
/// As long as any configured length: ten years.
const LONGEST: Duration = Duration::from_hours(3_650 * 24);

/// Three lifetimes that fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    access: Duration,
    idle: Duration,
    absolute: Duration,
}

impl Lifetimes {
    /// From whole seconds.
    ///
    /// # Errors
    /// [`Error::InvalidField`] with the member that does not fit.
    pub fn new(access: Duration, idle: Duration, absolute: Duration) -> Result<Self> {
        if access.as_secs() == 0 || access > MAX_ACCESS_LIFETIME {
            return Err(Error::field(ACCESS, "must be longer than zero and at most 12h"));
        }
        // The largest grace, whatever is configured: it may change after the policy was set.
        if idle <= access.saturating_add(MAX_REFRESH_GRACE) {
            let rule = "must be longer than the access lifetime and 300s (the longest tokens.refresh_grace) together, or sessions end that \
                        are in use";
            return Err(Error::field(IDLE, rule));
        }
        if absolute < idle {
            return Err(Error::field(ABSOLUTE, "must not be shorter than the idle lifetime"));
        }
        if absolute > LONGEST {
            return Err(Error::field(ABSOLUTE, "must be at most 3650d"));
        }
        Ok(Self { access, idle, absolute })
    }

    /// Life of an access token.
    #[must_use]
    pub const fn access(&self) -> Duration {
        self.access
    }

    /// A session that is not refreshed for so long ends.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        self.idle
    }

    /// A session ends so long after its login.
    #[must_use]
    pub const fn absolute(&self) -> Duration {
        self.absolute
    }

    fn members(&self) -> [(&'static str, u64); 3] {
        [(ACCESS, self.access.as_secs()), (IDLE, self.idle.as_secs()), (ABSOLUTE, self.absolute.as_secs())]
    }
}

/// The lifetimes of a tenant; none where the configuration's hold.
///
/// # Errors
/// [`Error::Internal`] as [`read`].
pub fn of(tenant: &Tenant) -> Result<Option<Lifetimes>> {
    read(tenant.id, &tenant.policy)
}

/// What the policy of a tenant says of lifetimes.
///
/// # Errors
/// [`Error::Internal`] for what cannot be read, and for what says what could not have been set.
pub fn read(id: TenantId, policy: &Value) -> Result<Option<Lifetimes>> {
    let unreadable = || Error::Internal(format!("bad row: tenants {id}: the policy cannot be read"));
    let policy = policy.as_object().ok_or_else(unreadable)?;
    let [access, idle, absolute] = match [ACCESS, IDLE, ABSOLUTE].map(|name| policy.get(name)) {
        [None, None, None] => return Ok(None),
        members => members.map(|member| member.and_then(Value::as_u64).map(Duration::from_secs)),
    };
    let (Some(access), Some(idle), Some(absolute)) = (access, idle, absolute) else { return Err(unreadable()) };
    Lifetimes::new(access, idle, absolute).map(Some).map_err(|_| unreadable())
}

/// How long an access token lives that is made for a tenant, or for none: never longer than verifiers take one for good.
///
/// # Errors
/// Those of [`of`].
pub fn access_lifetime(tokens: &config::Tokens, tenant: Option<&Tenant>) -> Result<Duration> {
    let own = tenant.map(of).transpose()?.flatten();
    Ok(own.map_or(tokens.access_lifetime, |own| own.access.min(tokens.max_access_lifetime)))
}

/// Gives a tenant lifetimes of its own, or with none the configuration's again. Answers whether that changed anything.
///
/// # Errors
/// [`Error::NotFound`] for a deleted tenant.
pub async fn set(app: &App, tenant: TenantId, lifetimes: Option<Lifetimes>, actor: Actor) -> Result<bool> {
    let about = audit::About { object_id: Some(tenant.to_string()), tenant_id: Some(tenant), ..audit::About::default() };
    let event = audit::success(app, Event::TenantPolicyChanged, actor, &Origin::local(app), about);
    let input = (tenant, lifetimes, event);
    app.store.write("set_tenant_policy", input, |tx, input| async move { replace(tx, input).await }).await
}

async fn replace(tx: Tx, (id, lifetimes, event): (TenantId, Option<Lifetimes>, Row)) -> Result<bool> {
    let tenant = memberships::lock_tenant(&tx, id).await?;
    if tenant.state == TenantState::Deleted {
        return Err(Error::NotFound("tenant"));
    }
    let old = tenant.policy.as_object().cloned().unwrap_or_default();
    let mut new = old.clone();
    for name in [ACCESS, IDLE, ABSOLUTE] {
        new.remove(name);
    }
    for (name, seconds) in lifetimes.iter().flat_map(Lifetimes::members) {
        new.insert(name.to_owned(), seconds.into());
    }
    if tenant.policy == Value::Object(new.clone()) {
        return Ok(false);
    }
    let details = json!({ "old": numbers(&old), "new": numbers(&new) });
    if !tenants::set_policy(&tx, id, Value::Object(new)).await? {
        return Err(Error::NotFound("tenant"));
    }
    audit_events::insert(&tx, Row { details, ..event }).await?;
    Ok(true)
}

/// The members that this version knows, as they are stored; `null` where the configuration holds.
fn numbers(policy: &Map<String, Value>) -> Value {
    let known: Map<String, Value> =
        [ACCESS, IDLE, ABSOLUTE].iter().filter_map(|&name| policy.get(name).map(|value| (name.to_owned(), value.clone()))).collect();
    if known.is_empty() { Value::Null } else { Value::Object(known) }
}
