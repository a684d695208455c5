//! Logging in by password: `Login`, and the password grant of `IssueToken`.
//!
//! ```text
//! identifier ─► user and credential ─► one hash ─► right? ─► must change? ─► tenant ─► session
//!                (or nobody)            always        │ no                     │ no
//!                                                     ▼                        ▼
//!                                         INVALID_CREDENTIALS, audited    its reason, audited
//! ```
//!
//! Wrong password, unknown identifier, disabled user, no password, reset required, and anything malformed or over-long: one path, one
//! answer, one hash, one audit event. The tenant is looked at only after the password was right, so that nobody learns anything about a
//! tenant without one. What is no tenant's name at all is a bad request like any other: it leaves no event.
//!
//! The session is opened on condition that nothing moved since the password was looked up: the user's state, the credential's version
//! and the epochs of instance, user, tenant and membership are compared again in the transaction that stores the session. A password
//! change that ran meanwhile wins, and so does whoever ended the sessions of everybody, of the user, of the tenant or of the member:
//! the login that they did not see opens nothing either. So the tenant's epochs are read with the password; they decide nothing before.

use std::time::Instant;

use super::{
    access::{self, Powers, TenantScope, TenantView, Visible},
    audit::{self, Actor, Event, Origin},
    callers::Client,
    passwords::{self, hasher::Verdict},
    sessions::{self, Opening, Room},
    tokens::{self, TokenSet, Wanted},
};
use crate::{
    app::App,
    ctx::tenant_key,
    error::{Error, Result},
    store::{
        self, Tx, audit_events,
        audit_events::Row,
        credentials::{self, Credential},
        instance,
        logins::{self, Before},
        memberships,
        sessions::{Device, Epochs, Session},
        tenants::TenantKey,
        users::{self, User, UserState},
    },
    values::{identifier::Identifier, ids::UserId, secret::Password},
};

/// The most tenants that a login answers.
pub const MAX_TENANTS: usize = 100;

/// What somebody logs in with.
#[derive(Debug)]
pub struct Attempt {
    /// E-mail address or user name, as typed.
    pub identifier: String,
    /// The password, as typed.
    pub password: Password,
    /// The tenant to bind the session to, as the request names it; read only after the password was right.
    pub tenant_id: String,
    /// Cap and audiences.
    pub wanted: Wanted,
    /// The client that asks.
    pub client: Client,
    /// The device.
    pub device: Device,
    /// Where the call comes from.
    pub origin: Origin,
    /// When the answer is no longer waited for.
    pub deadline: Instant,
}

/// A login that succeeded.
#[derive(Debug)]
pub struct LoggedIn {
    /// The tokens.
    pub tokens: TokenSet,
    /// Who.
    pub user: User,
    /// The new session.
    pub session: Session,
    /// What the session is capped to.
    powers: Powers,
}

/// Who a right password belongs to, as it was when the password was looked up.
#[derive(Clone, Debug)]
struct Verified {
    user: User,
    credential: Credential,
    /// Everything else of that moment.
    before: Before,
    /// The same password under the current parameters, where it was stored under others.
    renewed: Option<String>,
}

/// Checks a password and opens a session.
///
/// # Errors
/// [`Error::InvalidCredentials`], [`Error::Overloaded`]; then [`Error::InvalidField`] for `tenant_id` and the reasons of
/// [`access::enter`].
pub async fn log_in(app: &App, attempt: Attempt) -> Result<LoggedIn> {
    let verified = verify(app, &attempt).await?;
    let must_change = verified.credential.must_change;
    let user_id = verified.user.id;
    let wanted = attempt.wanted.clone();
    let tenant = tenant_key(&attempt.tenant_id)?;
    let opening = Opening {
        user_id,
        client_id: attempt.client.id.clone(),
        is_bound: tenant.is_some(),
        scope: wanted.scope.clone(),
        device: attempt.device.clone(),
        must_change,
    };
    let (session, refresh) = sessions::prepare(app, opening, attempt.origin.time)?;
    let powers = Powers::capped(wanted.scope.clone());
    let about = audit::About { object_id: Some(user_id.to_string()), session_id: Some(session.id), ..audit::About::default() };
    let event = audit::success(app, Event::LoginSucceeded, Actor::User(user_id), &attempt.origin, about);
    let room = Room::new(app, &session, &attempt.origin);
    let input = Box::new((verified, session, room, tenant, powers.clone(), event));
    let unit = |tx, input: Box<OpeningInput>| Box::pin(open(tx, *input));
    let (user, session, scope) = match app.store.write("open_session", input, unit).await {
        Ok(opened) => opened,
        Err(error) => return Err(refused(app, error, user_id, &attempt.origin).await),
    };
    let (access_token, expires_in) = tokens::mint(app, &session, scope.as_ref(), &wanted, session.created_at).await?;
    let refresh_token = refresh.and_then(|token| token.encode(&app.roots));
    Ok(LoggedIn { tokens: TokenSet { access_token, expires_in, refresh_token, scope: wanted.scope }, user, session, powers })
}

/// One look-up, one hash, and on failure one event, whatever the reason.
async fn verify(app: &App, attempt: &Attempt) -> Result<Verified> {
    let (found, before) = match Identifier::parse(&attempt.identifier) {
        Some(identifier) => {
            // What is no tenant's name is told once the password was right.
            let input = (identifier, tenant_key(&attempt.tenant_id).unwrap_or_default());
            let read = |db, (identifier, tenant): (Identifier, Option<TenantKey>)| async move {
                logins::find(&db, &identifier, tenant.as_ref()).await
            };
            let (found, before) = app.store.read("find_login", input, read).await?;
            (found, Some(before))
        }
        None => (None, None),
    };
    let user_id = found.as_ref().map(|(user, _)| user.id);
    let actor = user_id.map_or_else(|| audit::unknown_identifier(app, &attempt.identifier), Actor::User);
    let failure = failed(app, &Error::InvalidCredentials, actor, user_id, &attempt.origin);
    // Whoever may not log in is verified against nothing; the hash is done all the same.
    let candidate = found.as_ref().filter(|(user, _)| user.state == UserState::Active);
    let credential = candidate.and_then(|(_, credential)| credential.as_ref());
    let renewed = match passwords::verify(app, &attempt.password, credential, attempt.deadline, failure).await? {
        Verdict::Wrong => return Err(Error::InvalidCredentials),
        Verdict::Right => None,
        Verdict::RightButOld(phc) => Some(phc),
    };
    match (found, before) {
        (Some((user, Some(credential))), Some(before)) => Ok(Verified { user, credential, before, renewed }),
        _ => Err(Error::internal("a password was right for nobody")),
    }
}

/// The event of a failed attempt.
fn failed(app: &App, error: &Error, actor: Actor, user: Option<UserId>, origin: &Origin) -> Row {
    let about = audit::About { object_id: user.map(|id| id.to_string()), ..audit::About::default() };
    audit::failure(app, Event::LoginFailed, error, actor, origin, about)
}

/// Stores that a right password opened nothing, unless it was the database or a race that failed; answers the reason.
async fn refused(app: &App, error: Error, user: UserId, origin: &Origin) -> Error {
    let is_refusal = matches!(error, Error::InvalidCredentials | Error::NotAMember | Error::MembershipSuspended | Error::TenantSuspended);
    if !is_refusal {
        return error;
    }
    let event = failed(app, &error, Actor::User(user), Some(user), origin);
    let stored = app.store.write("record_failed_login", event, |tx, event| async move { audit_events::insert(&tx, event).await }).await;
    stored.err().unwrap_or(error)
}

type OpeningInput = (Verified, Session, Room, Option<TenantKey>, Powers, Row);

/// The transaction: everything that the password check relied on must still hold.
async fn open(tx: Tx, input: OpeningInput) -> Result<(User, Session, Option<TenantScope>)> {
    let (verified, mut session, room, tenant, powers, mut event) = input;
    let user = users::find_locked(&tx, verified.user.id).await?.ok_or(Error::InvalidCredentials)?;
    let credential = credentials::find(&tx, user.id).await?;
    let unmoved = user.state == UserState::Active
        && user.epoch == verified.user.epoch
        && credential.as_ref().is_some_and(|now| now.version == verified.credential.version && !now.reset_required);
    if !unmoved {
        return Err(Error::InvalidCredentials);
    }
    let scope = bind(&tx, &user, tenant.as_ref(), &powers, &mut session).await?;
    if !opens_under_the_same(&verified.before, session.epochs) {
        return Err(Error::InvalidCredentials);
    }
    room.make(&tx, user.id, session.created_at).await?;
    store::sessions::insert(&tx, session.clone()).await?;
    if let Some(phc) = &verified.renewed {
        credentials::rehash(&tx, user.id, &verified.credential, passwords::ARGON2ID, phc).await?;
    }
    event.tenant_id = session.tenant_id;
    if scope.as_ref().is_some_and(TenantScope::is_superuser_access) {
        audit::mark_superuser(&mut event);
    }
    audit_events::insert(&tx, event).await?;
    Ok((user, session, scope))
}

/// Whether the epochs of instance, tenant and membership are those of before the password was verified. What was not there then, nobody
/// has ended.
fn opens_under_the_same(before: &Before, now: Epochs) -> bool {
    let same = |before: Option<i64>, now: Option<i64>| before.is_none() || now.is_none() || before == now;
    before.instance == now.instance && same(before.tenant, now.tenant) && same(before.membership, now.membership)
}

/// Binds a session to the epochs of this moment, and to a tenant that its user may act in, with the lifetimes of that tenant.
///
/// # Errors
/// Those of [`access::enter`] and [`sessions::apply_policy`].
pub(super) async fn bind(
    tx: &Tx,
    user: &User,
    tenant: Option<&TenantKey>,
    powers: &Powers,
    session: &mut Session,
) -> Result<Option<TenantScope>> {
    let instance = instance::find(tx).await?.ok_or_else(|| Error::internal("the instance row is missing"))?;
    session.epochs = Epochs { instance: instance.epoch, user: user.epoch, tenant: None, membership: None };
    let Some(key) = tenant else { return Ok(None) };
    let standing = memberships::find_standing(tx, user.id, key).await?;
    let scope = access::enter(user, standing, powers)?;
    session.tenant_id = Some(scope.tenant().id);
    session.epochs.tenant = Some(scope.tenant().epoch);
    session.epochs.membership = scope.membership().map(|membership| membership.epoch);
    sessions::apply_policy(session, scope.tenant())?;
    Ok(Some(scope))
}

impl LoggedIn {
    /// The user as the answer may show it.
    #[must_use]
    pub fn shown_user(&self) -> User {
        User { superuser: self.user.superuser && self.tokens.scope.is_none(), ..self.user.clone() }
    }

    /// The user's tenants, at most [`MAX_TENANTS`], and whether there are more. Nothing where the password must be changed first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away.
    pub async fn tenants(&self, app: &App) -> Result<(Vec<TenantView>, bool)> {
        if self.session.must_change {
            return Ok((Vec::new(), false));
        }
        super::tenants::first_page(app, self.user.id, Visible::All, &self.powers, MAX_TENANTS).await
    }
}
