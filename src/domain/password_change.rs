//! `ChangePassword`: the current password, a new one, and with it the end of every session of the user but the one it answers.
//!
//! In one transaction: the user's epoch moves (conditional on the one that was read), the credential is replaced (conditional on its
//! version), the new session opens under the new epoch. Every access and refresh token of before is dead with the commit.

use std::time::Instant;

use super::{
    access::{Powers, Subject, TenantScope},
    audit::{self, Actor, Event, Origin},
    login,
    passwords::{self, Normalized, hasher::Verdict},
    sessions::{self, Opening},
    tokens::{self, TokenSet, Wanted},
};
use crate::{
    app::App,
    error::{Error, FieldViolation, Result},
    store::{
        self, Tx, audit_events,
        audit_events::Row,
        credentials::{self, Credential},
        sessions::{Device, Session},
        tenants::TenantKey,
        users::{self, User},
    },
    values::{
        permission::Scope,
        secret::{self, Password},
        time::Timestamp,
    },
};

/// What a person asks for.
#[derive(Debug)]
pub struct Change {
    /// The password now.
    pub current: Password,
    /// The password from now on.
    pub new: Password,
    /// The device, as far as the request tells.
    pub device: Device,
    /// Where the call comes from.
    pub origin: Origin,
    /// When the answer is no longer waited for.
    pub deadline: Instant,
}

#[derive(Clone)]
struct Unit {
    user: User,
    credential: Credential,
    old_session: Session,
    hash: (&'static str, String),
    session: Session,
    tenant: Option<TenantKey>,
    powers: Powers,
    event: Row,
    now: Timestamp,
}

/// Changes the subject's password and opens a new session for the tenant, client and scope of the old one.
///
/// # Errors
/// [`Error::PasswordRejected`], [`Error::InvalidCredentials`], [`Error::Overloaded`]; [`Error::SessionRevoked`] where the user's
/// sessions ended meanwhile; the reasons of `access::enter` for the old session's tenant.
pub async fn change(app: &App, subject: &Subject, change: Change) -> Result<(TokenSet, Session)> {
    let new = passwords::check_new(&change.new, "new_password", app.config.passwords.min_length)?;
    // As they are hashed: another spelling of the same letters is no new password.
    if Normalized::new(&change.current).is_some_and(|current| secret::equal(current.as_bytes(), new.as_bytes())) {
        let description = "must not be the current one".to_owned();
        return Err(Error::PasswordRejected(vec![FieldViolation { field: "new_password".to_owned(), description }]));
    }
    let credential = verify_current(app, subject, &change).await?;
    let hash = app.hasher.hash(new, change.deadline).await?;

    let old = &subject.facts.session;
    let scope = Scope::parse(&old.scope).map_err(|_| Error::internal("the session's scope cannot be read"))?;
    let opening = Opening {
        user_id: subject.facts.user.id,
        client_id: old.client_id.clone(),
        is_bound: old.tenant_id.is_some(),
        scope: scope.clone(),
        device: device(change.device, &old.device),
        must_change: false,
    };
    let (session, refresh) = sessions::prepare(app, opening, change.origin.time)?;
    let about = audit::About {
        object_id: Some(session.user_id.to_string()),
        tenant_id: old.tenant_id,
        session_id: Some(session.id),
        ..audit::About::default()
    };
    let unit = Unit {
        user: subject.facts.user.clone(),
        credential,
        old_session: old.clone(),
        hash,
        tenant: old.tenant_id.map(TenantKey::Id),
        powers: Powers::capped(scope.clone()),
        event: audit::success(app, Event::PasswordChanged, Actor::User(session.user_id), &change.origin, about),
        now: session.created_at,
        session,
    };
    let (session, tenant) = app.store.write("change_password", unit, |tx, unit| async move { replace(tx, unit).await }).await?;
    let wanted = Wanted { scope, audience: Vec::new() };
    let (access_token, expires_in) = tokens::mint(app, &session, tenant.as_ref(), &wanted, session.created_at).await?;
    let refresh_token = refresh.and_then(|token| token.encode(&app.roots));
    Ok((TokenSet { access_token, expires_in, refresh_token, scope: wanted.scope }, session))
}

async fn verify_current(app: &App, subject: &Subject, change: &Change) -> Result<Credential> {
    let user = subject.facts.user.id;
    let credential = app.store.read("find_credential", user, |db, user| async move { credentials::find(&db, user).await }).await?;
    let session = &subject.facts.session;
    let about = audit::About {
        object_id: Some(user.to_string()),
        tenant_id: session.tenant_id,
        session_id: Some(session.id),
        ..audit::About::default()
    };
    let failure = audit::failure(app, Event::PasswordChangeFailed, &Error::InvalidCredentials, Actor::User(user), &change.origin, about);
    match passwords::verify(app, &change.current, credential.as_ref(), change.deadline, failure).await? {
        Verdict::Wrong => Err(Error::InvalidCredentials),
        Verdict::Right | Verdict::RightButOld(_) => credential.ok_or_else(|| Error::internal("a password was right for nobody")),
    }
}

async fn replace(tx: Tx, unit: Unit) -> Result<(Session, Option<TenantScope>)> {
    // First of all the row that every other change of this user's sessions starts with: they queue here.
    if !users::advance_epoch(&tx, unit.user.id, unit.user.epoch).await? {
        return Err(Error::SessionRevoked);
    }
    // The asking session can have been ended by itself, which moves no epoch: then it opens nothing new.
    if store::sessions::find(&tx, unit.old_session.id).await?.is_none_or(|old| old.revoked_at.is_some()) {
        return Err(Error::SessionRevoked);
    }
    let (scheme, hash) = &unit.hash;
    if !credentials::replace(&tx, unit.user.id, &unit.credential, scheme, hash, unit.now).await? {
        return Err(Error::InvalidCredentials);
    }
    let mut user = unit.user;
    user.epoch += 1;
    let mut session = unit.session;
    let scope = login::bind(&tx, &user, unit.tenant.as_ref(), &unit.powers, &mut session).await?;
    if !opened_under_the_same(&unit.old_session, &session) {
        return Err(Error::SessionRevoked);
    }
    store::sessions::insert(&tx, session.clone()).await?;
    let mut event = unit.event;
    if scope.as_ref().is_some_and(TenantScope::is_superuser_access) {
        audit::mark_superuser(&mut event);
    }
    audit_events::insert(&tx, event).await?;
    Ok((session, scope))
}

/// Whether instance, tenant and membership still have the epochs that the old session was opened under, so that whoever ended it by one of
/// them while the password was hashed ended what comes of it too. The user's moved here.
fn opened_under_the_same(old: &Session, new: &Session) -> bool {
    let (old, new) = (old.epochs, new.epochs);
    // A superuser's session of a tenant has no membership's; becoming a member meanwhile ends nothing.
    let same_membership = old.membership.is_none() || old.membership == new.membership;
    old.instance == new.instance && old.tenant == new.tenant && same_membership
}

/// What the request does not tell of the device is as it was.
fn device(told: Device, old: &Device) -> Device {
    Device {
        ip_address: told.ip_address.or_else(|| old.ip_address.clone()),
        user_agent: told.user_agent.or_else(|| old.user_agent.clone()),
        device_name: told.device_name.or_else(|| old.device_name.clone()),
    }
}
