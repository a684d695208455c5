//! The audit trail: what becomes an event, and what is in it.
//!
//! Logins, admitted failed logins, new sessions, revocations, reuse and administrative changes make exactly one event each, stored in
//! the transaction of the fact, so that the two cannot part. Token checks, good refreshes and malformed input make none.
//!
//! Nothing that a person typed is stored in the clear: an identifier that names nobody may be a password in the wrong field, so it is
//! kept as an HMAC, equal for equal canonical forms.

use serde_json::json;

use crate::{
    app::App,
    error::Error,
    store::{audit_events::Row, sessions::Session},
    values::{
        entropy::Entropy,
        identifier,
        ids::{AuditEventId, ServiceAccountId, SessionId, TenantId, UserId},
        secret::{self, Purpose},
        time::{Clock, Timestamp},
    },
};

/// What happened. The name is `noun.verb`, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A password was right and a session opened.
    LoginSucceeded,
    /// A password was admitted and did not open a session.
    LoginFailed,
    /// A live session was ended: by its holder, by an operator, or by a login beyond what a user may have.
    SessionRevoked,
    /// Every session of a user was ended, by an operator or by the user; or every one but that which asked.
    UserSessionsRevoked,
    /// An operator ended every session that one member has in a tenant.
    MemberSessionsRevoked,
    /// An operator ended every session that is bound to a tenant.
    TenantSessionsRevoked,
    /// An operator ended every session of the instance.
    AllSessionsRevoked,
    /// A refresh token was used again after the grace; the session was ended.
    RefreshTokenReused,
    /// A person changed their password; a new session opened.
    PasswordChanged,
    /// A person gave a wrong current password.
    PasswordChangeFailed,
    /// A user was made.
    UserCreated,
    /// A user was disabled.
    UserDisabled,
    /// A user was enabled.
    UserEnabled,
    /// A user was deleted.
    UserDeleted,
    /// An operator set a user's password.
    UserPasswordSet,
    /// A tenant was made, with its system roles.
    TenantCreated,
    /// A tenant was suspended.
    TenantSuspended,
    /// A tenant was activated.
    TenantActivated,
    /// A tenant got other lifetimes.
    TenantPolicyChanged,
    /// A role was made.
    RoleCreated,
    /// A user became a member.
    MemberAdded,
    /// A membership ended.
    MemberRemoved,
    /// A service account was made, with whatever proves it from the start.
    ServiceAccountCreated,
    /// A service account was disabled.
    ServiceAccountDisabled,
    /// A service account was enabled.
    ServiceAccountEnabled,
    /// A service account was deleted.
    ServiceAccountDeleted,
    /// A service account got a secret.
    ServiceAccountSecretAdded,
    /// A secret of a service account was removed.
    ServiceAccountSecretRemoved,
    /// A name in certificates stands for a service account.
    ServiceAccountCertificateAdded,
    /// A name in certificates no longer does.
    ServiceAccountCertificateRemoved,
    /// A signing key was made, and is published.
    SigningKeyCreated,
    /// A signing key began to sign.
    SigningKeyActivated,
    /// A signing key ceased to sign, and verifies what it signed.
    SigningKeyRetired,
    /// A signing key was declared compromised: what it signed is refused.
    SigningKeyRevoked,
    /// A signing key went, whose last token had expired, or which never signed.
    SigningKeyRemoved,
    /// The private half of a signing key was sealed under another root secret.
    SigningKeyResealed,
}

impl Event {
    /// The name in the table, and what the event is about.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::LoginSucceeded => ("login.succeeded", "user"),
            Self::LoginFailed => ("login.failed", "user"),
            Self::SessionRevoked => ("session.revoked", "session"),
            Self::UserSessionsRevoked => ("user.sessions_revoked", "user"),
            Self::MemberSessionsRevoked => ("member.sessions_revoked", "membership"),
            Self::TenantSessionsRevoked => ("tenant.sessions_revoked", "tenant"),
            Self::AllSessionsRevoked => ("instance.sessions_revoked", "instance"),
            Self::RefreshTokenReused => ("session.refresh_token_reused", "session"),
            Self::PasswordChanged => ("password.changed", "user"),
            Self::PasswordChangeFailed => ("password.change_failed", "user"),
            Self::UserCreated => ("user.created", "user"),
            Self::UserDisabled => ("user.disabled", "user"),
            Self::UserEnabled => ("user.enabled", "user"),
            Self::UserDeleted => ("user.deleted", "user"),
            Self::UserPasswordSet => ("user.password_set", "user"),
            Self::TenantCreated => ("tenant.created", "tenant"),
            Self::TenantSuspended => ("tenant.suspended", "tenant"),
            Self::TenantActivated => ("tenant.activated", "tenant"),
            Self::TenantPolicyChanged => ("tenant.policy_changed", "tenant"),
            Self::RoleCreated => ("role.created", "role"),
            Self::MemberAdded => ("member.added", "membership"),
            Self::MemberRemoved => ("member.removed", "membership"),
            Self::ServiceAccountCreated => ("service_account.created", "service_account"),
            Self::ServiceAccountDisabled => ("service_account.disabled", "service_account"),
            Self::ServiceAccountEnabled => ("service_account.enabled", "service_account"),
            Self::ServiceAccountDeleted => ("service_account.deleted", "service_account"),
            Self::ServiceAccountSecretAdded => ("service_account.secret_added", "service_account"),
            Self::ServiceAccountSecretRemoved => ("service_account.secret_removed", "service_account"),
            Self::ServiceAccountCertificateAdded => ("service_account.certificate_added", "service_account"),
            Self::ServiceAccountCertificateRemoved => ("service_account.certificate_removed", "service_account"),
            Self::SigningKeyCreated => ("signing_key.created", "signing_key"),
            Self::SigningKeyActivated => ("signing_key.activated", "signing_key"),
            Self::SigningKeyRetired => ("signing_key.retired", "signing_key"),
            Self::SigningKeyRevoked => ("signing_key.revoked", "signing_key"),
            Self::SigningKeyRemoved => ("signing_key.removed", "signing_key"),
            Self::SigningKeyResealed => ("signing_key.resealed", "signing_key"),
        }
    }
}

/// Who made it happen.
#[derive(Clone, Debug)]
pub enum Actor {
    /// A person whom the call proved or named.
    User(UserId),
    /// A workload, by its token or certificate.
    ServiceAccount(ServiceAccountId),
    /// Somebody who gave an identifier that names nobody: its HMAC.
    Anonymous(String),
    /// An operator at the command line, by the name of the operating system's user.
    Cli(String),
    /// The service itself.
    System,
}

/// When and where a call came from, as far as it is known.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The time of the call, taken once.
    pub time: Timestamp,
    /// The call's request id.
    pub request_id: Option<String>,
    /// The end user's address, as the backend tells.
    pub ip_address: Option<String>,
    /// The client.
    pub client_id: Option<String>,
}

impl Origin {
    /// Of what an operator or the service itself does now.
    #[must_use]
    pub fn local(app: &App) -> Self {
        Self::at(app.clock.now())
    }

    /// Of what the service itself does at a time.
    #[must_use]
    pub const fn at(time: Timestamp) -> Self {
        Self { time, request_id: None, ip_address: None, client_id: None }
    }
}

/// What an event is about.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The object's id.
    pub object_id: Option<String>,
    /// The tenant.
    pub tenant_id: Option<TenantId>,
    /// The session.
    pub session_id: Option<SessionId>,
    /// More, a JSON object without secrets and names of people.
    pub details: Option<serde_json::Value>,
}

/// The event of a fact of which a transaction finds out how many there are.
#[derive(Clone, Debug)]
pub struct Repeated {
    row: Row,
    entropy: Entropy,
    clock: Clock,
}

impl Repeated {
    /// An event of success that happens to any number of objects.
    #[must_use]
    pub fn success(app: &App, event: Event, actor: Actor, origin: &Origin, about: About) -> Self {
        Self { row: success(app, event, actor, origin, about), entropy: app.entropy.clone(), clock: app.clock.clone() }
    }

    /// The event of one session among them.
    #[must_use]
    pub fn of_session(&self, session: &Session) -> Row {
        Row {
            id: AuditEventId::generate(&self.entropy, &self.clock),
            object_kind: Some("session"),
            object_id: Some(session.id.to_string()),
            tenant_id: session.tenant_id,
            session_id: Some(session.id),
            ..self.row.clone()
        }
    }
}

/// Makes the events of facts of which a transaction finds out which they are.
#[derive(Clone, Debug)]
pub struct Trail {
    actor: Actor,
    origin: Origin,
    by_flag: bool,
    entropy: Entropy,
    clock: Clock,
}

impl Trail {
    /// Of what somebody does.
    #[must_use]
    pub fn new(entropy: &Entropy, clock: &Clock, actor: Actor, origin: Origin) -> Self {
        Self { actor, origin, by_flag: false, entropy: entropy.clone(), clock: clock.clone() }
    }

    /// Of what only the superuser flag lets them do, where `by_flag` says so.
    #[must_use]
    pub fn by_flag(self, by_flag: bool) -> Self {
        Self { by_flag, ..self }
    }

    /// An event of success.
    #[must_use]
    pub fn success(&self, event: Event, about: About) -> Row {
        let id = AuditEventId::generate(&self.entropy, &self.clock);
        let mut row = row(id, event, None, self.actor.clone(), &self.origin, about);
        if self.by_flag {
            mark_superuser(&mut row);
        }
        row
    }
}

/// An event of success, ready to be stored.
#[must_use]
pub fn success(app: &App, event: Event, actor: Actor, origin: &Origin, about: About) -> Row {
    row(AuditEventId::generate(&app.entropy, &app.clock), event, None, actor, origin, about)
}

/// An event of failure, ready to be stored.
#[must_use]
pub fn failure(app: &App, event: Event, error: &Error, actor: Actor, origin: &Origin, about: About) -> Row {
    let id = AuditEventId::generate(&app.entropy, &app.clock);
    row(id, event, Some(error.reason().0), actor, origin, about)
}

fn row(id: AuditEventId, event: Event, reason: Option<&'static str>, actor: Actor, origin: &Origin, about: About) -> Row {
    let (name, object_kind) = event.names();
    let (actor_kind, actor_id) = match actor {
        Actor::User(id) => ("user", Some(id.to_string())),
        Actor::ServiceAccount(id) => ("service_account", Some(id.to_string())),
        Actor::Anonymous(identifier) => ("anonymous", Some(identifier)),
        Actor::Cli(user) => ("cli", Some(format!("cli:{user}"))),
        Actor::System => ("system", None),
    };
    Row {
        id,
        created_at: origin.time,
        event: name,
        outcome: if reason.is_some() { "failure" } else { "success" },
        reason,
        actor_kind,
        actor_id,
        object_kind: about.object_id.is_some().then_some(object_kind),
        object_id: about.object_id,
        tenant_id: about.tenant_id,
        session_id: about.session_id,
        client_id: origin.client_id.clone(),
        ip_address: origin.ip_address.clone(),
        request_id: origin.request_id.clone(),
        details: about.details.unwrap_or_else(|| json!({})),
    }
}

/// Says of an event that only the superuser flag let whoever made it happen.
pub fn mark_superuser(event: &mut Row) {
    if let Some(details) = event.details.as_object_mut() {
        details.insert("superuser_access".to_owned(), true.into());
    }
}

/// An identifier that names nobody, as the trail may keep it.
#[must_use]
pub fn unknown_identifier(app: &App, raw: &str) -> Actor {
    let mac = app.roots.first().mac(Purpose::Identifier, &[identifier::throttle_text(raw).as_bytes()]);
    Actor::Anonymous(secret::hex(&mac))
}
