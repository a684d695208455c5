//! What a handler knows of its call: the method's policy, the request id, the time, the deadline, the token and, where the class of the
//! method demands one, the subject. The gate makes it; a handler without one refuses.

use std::{sync::Arc, time::Instant};

use crate::{
    app::App,
    config::CallersMode,
    domain::{
        access::{Accepts, InstanceScope, Principal, Subject, TenantScope, Whose, workload::Workload},
        audit::{Actor, Origin},
        callers::Client,
    },
    error::{Error, Result},
    methods::{Access, Method, Policy},
    store::{sessions::Device, tenants::TenantKey},
    values::{
        entropy::Entropy,
        permission::Permission,
        text,
        time::{Clock, Timestamp},
    },
};

/// The longest `x-request-id` that is taken over.
const MAX_REQUEST_ID: usize = 128;

/// The name of one call in logs, errors and the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id that the caller gave, if it is at most 128 plain characters, else a new one.
    #[must_use]
    pub fn take(given: Option<&str>, entropy: &Entropy, clock: &Clock) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+=@".contains(c);
        match given {
            Some(id) if !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.chars().all(plain) => Self(id.to_owned()),
            _ => Self(entropy.uuid_v7(clock).to_string()),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Ctx {
    method: &'static Method,
    request_id: RequestId,
    now: Timestamp,
    deadline: Instant,
    bearer: Bearer,
    identity: Identity,
}

/// Who stands behind a call, as far as the class of its method made the gate find out.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Whom the token in `authorization` speaks for.
    pub principal: Option<Principal>,
    /// The workload that calls.
    pub caller: Option<Arc<Workload>>,
}

/// Where a method that can be about a tenant or the instance is to act.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a tenant.
    Tenant(Box<TenantScope>),
    /// In the instance as a whole.
    Instance(InstanceScope),
}

/// What stands in `authorization`.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// Nothing: the call has no such header.
    Missing,
    /// Something that is not one bearer token.
    Malformed,
    /// A token; whether it is a good one is another question.
    Token(String),
}

impl Bearer {
    /// The token.
    ///
    /// # Errors
    /// [`Error::TokenMissing`]; [`Error::NoBearerToken`] for what is none, so that a backend with optional login never takes a broken
    /// client for an anonymous one.
    pub fn token(&self) -> Result<&str> {
        match self {
            Self::Missing => Err(Error::TokenMissing),
            Self::Malformed => Err(Error::NoBearerToken),
            Self::Token(token) => Ok(token),
        }
    }
}

impl Ctx {
    /// The context of a call that the gate let through. `now` is the time at which it came; `bearer` the token of `authorization`;
    /// `identity` what the method's class made the gate find out.
    #[must_use]
    pub const fn new(
        method: &'static Method,
        request_id: RequestId,
        now: Timestamp,
        deadline: Instant,
        bearer: Bearer,
        identity: Identity,
    ) -> Self {
        Self { method, request_id, now, deadline, bearer, identity }
    }

    /// The method and its policy.
    #[must_use]
    pub const fn method(&self) -> &'static Method {
        self.method
    }

    /// The call's name.
    #[must_use]
    pub const fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The time of the call: whatever is decided or stored for it is of this moment.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// When the caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whom the call is about.
    ///
    /// # Errors
    /// [`Error::Internal`] in a method whose class has no subject: a defect that must not become a yes.
    pub fn principal(&self) -> Result<&Principal> {
        self.identity.principal.as_ref().ok_or_else(|| Error::internal("a method without a subject asked for one"))
    }

    /// The person whom the call is about.
    ///
    /// # Errors
    /// As [`Ctx::principal`], and in a method that takes service accounts.
    pub fn subject(&self) -> Result<&Subject> {
        match self.principal()? {
            Principal::User(subject) => Ok(subject),
            Principal::ServiceAccount(..) => Err(Error::internal("a method that takes service accounts asked for a person")),
        }
    }

    /// The workload that calls.
    ///
    /// # Errors
    /// [`Error::CallerUnauthenticated`] where one must be known and is not. For methods whose message could have proved it.
    pub fn demand_caller(&self, app: &App) -> Result<()> {
        let is_demanded = app.config.callers.mode() == CallersMode::Required;
        if is_demanded && self.identity.caller.is_none() { Err(Error::CallerUnauthenticated) } else { Ok(()) }
    }

    /// Who does it, for the audit trail.
    ///
    /// # Errors
    /// [`Error::Internal`] in a method that nobody has to be known for.
    pub fn actor(&self) -> Result<Actor> {
        match (&self.identity.principal, &self.identity.caller) {
            (Some(Principal::User(subject)), _) => Ok(Actor::User(subject.facts.user.id)),
            (Some(Principal::ServiceAccount(workload, _)), _) => Ok(Actor::ServiceAccount(workload.account().id)),
            (None, Some(caller)) => Ok(Actor::ServiceAccount(caller.account().id)),
            (None, None) => Err(Error::internal("nobody does it")),
        }
    }

    /// The token that a TOKEN method is about: the one in the message or, where that is empty, in `authorization`.
    ///
    /// # Errors
    /// Those of [`Bearer::token`] where the message has none.
    pub fn token<'a>(&'a self, field: &'a str) -> Result<&'a str> {
        if field.is_empty() { self.bearer.token() } else { Ok(field) }
    }

    /// What the method accepts of a token.
    #[must_use]
    pub const fn accepts(&self) -> Accepts {
        accepts(&self.method.policy)
    }

    /// The tenant that a request names, if the subject may act in it and holds the method's permission there. The only way to a
    /// tenant's data.
    ///
    /// # Errors
    /// [`Error::InvalidField`]; those of `Subject::about` and `access::enter`; [`Error::PermissionMissing`].
    pub async fn tenant(&self, app: &App, tenant_id: &str) -> Result<TenantScope> {
        let permission = self.permission()?;
        let key = tenant_key(tenant_id)?.ok_or_else(|| Error::field("tenant_id", "is needed"))?;
        let scope = match self.identity.principal.as_ref().ok_or(Error::TokenMissing)? {
            Principal::User(subject) => subject.about(app, &key, self.now).await?.tenant(Some(&key))?,
            // Its facts are about its own tenant already, and it has no other.
            Principal::ServiceAccount(workload, _) => workload.tenant(Some(&key))?,
        };
        let scope = scope.ok_or(Error::NotAMember)?;
        scope.require(&[permission], &[])?;
        Ok(Arc::unwrap_or_clone(scope))
    }

    /// The right to act on the instance. The only way to what belongs to no tenant.
    ///
    /// # Errors
    /// [`Error::TokenMissing`], [`Error::SuperuserRequired`], [`Error::ReauthenticationRequired`], [`Error::PermissionMissing`].
    pub fn instance(&self) -> Result<InstanceScope> {
        let scope = InstanceScope::of(self.identity.principal.as_ref(), self.identity.caller.as_deref(), &self.permission()?)?;
        match &self.identity.principal {
            Some(Principal::User(subject)) if self.method.policy.recent_auth => subject.require_recent_login(self.now).map(|()| scope),
            _ => Ok(scope),
        }
    }

    /// The tenant that a request names as by [`Ctx::tenant`] or, where it names none, the instance as by [`Ctx::instance`].
    ///
    /// # Errors
    /// Those of the two.
    pub async fn place(&self, app: &App, tenant_id: &str) -> Result<Place> {
        if tenant_id.is_empty() && self.method.policy.accepts_instance {
            return self.instance().map(Place::Instance);
        }
        Ok(Place::Tenant(Box::new(self.tenant(app, tenant_id).await?)))
    }

    fn permission(&self) -> Result<Permission> {
        Permission::parse(self.method.policy.permission).map_err(Error::internal)
    }

    /// The client that calls.
    #[must_use]
    pub fn client(&self, app: &App) -> Client {
        Client::of(app, self.identity.caller.as_deref())
    }

    /// When and where the call comes from.
    #[must_use]
    pub fn origin(&self, device: &Device, client_id: &str) -> Origin {
        Origin {
            time: self.now,
            request_id: Some(self.request_id.0.clone()),
            ip_address: device.ip_address.clone(),
            client_id: Some(client_id.to_owned()),
        }
    }
}

/// What a method's policy accepts of a token.
#[must_use]
pub const fn accepts(policy: &Policy) -> Accepts {
    // The other classes judge the rights of whoever it is.
    let judges_rights = matches!(policy.access, Access::Tenant | Access::Service | Access::Operator);
    Accepts {
        narrowed: policy.accepts_narrowed,
        must_change: policy.accepts_must_change,
        whose: if policy.accepts_service_accounts || judges_rights { Whose::Anybody } else { Whose::People },
    }
}

/// The tenant that a request names, if it names one: a UUID or `ext:<external id>`. The one place that reads `tenant_id` fields.
///
/// # Errors
/// [`Error::InvalidField`] at `tenant_id`.
pub fn tenant_key(tenant_id: &str) -> Result<Option<TenantKey>> {
    if tenant_id.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::field("tenant_id", "must be a UUID, or ext: and an external id");
    if let Some(external) = tenant_id.strip_prefix("ext:") {
        return text::required_text(external, 255).map(|()| Some(TenantKey::ExternalId(external.to_owned()))).map_err(|_| invalid());
    }
    tenant_id.parse().map(|id| Some(TenantKey::Id(id))).map_err(|_| invalid())
}
