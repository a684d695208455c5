//! Sessions: what a new one is, how one ends.
//!
//! ```text
//!              login, password grant, password change
//!                             │
//!                             ▼            refresh (generation + 1)
//!                           live ◄──────────────┐
//!            ┌────────────────┼────────────────┴┘
//!  logout, revocation,   idle or absolute      epoch of instance, user, tenant
//!  reuse, session limit     expiry             or membership moved on
//!            ▼                ▼                      ▼
//!         revoked          expired                 dead
//! ```
//!
//! A session never comes back. It is good while it is not revoked, not expired, and every epoch that it was opened under is still the
//! current one: ending all sessions of a user is one changed row, and so is ending all of a tenant or of the instance.

use std::time::Duration;

use crate::{
    app::App,
    domain::{
        access::{self, Accepts},
        audit::{self, Actor, Event, Origin, Repeated},
        callers::Client,
        memory::Freshness,
        tenants::policy,
        tokens::{self, PASSWORD_CHANGE_LIFETIME, Presented, claims::ExpiryRule},
    },
    error::{Error, Result},
    store::{
        Tx, audit_events,
        facts::{self, About, Facts},
        sessions::{self, Device, Epochs, Session},
        tenants::Tenant,
    },
    values::{
        ids::{SessionId, UserId},
        opaque::{self, ClientSecret, RefreshToken},
        permission::PermissionSet,
        time::Timestamp,
    },
};

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Whose it is.
    pub user_id: UserId,
    /// The client whose refresh tokens it answers.
    pub client_id: String,
    /// Whether it is to be bound to a tenant.
    pub is_bound: bool,
    /// The cap.
    pub scope: Option<PermissionSet>,
    /// The device.
    pub device: Device,
    /// Good for changing the password only: short, and without a refresh token.
    pub must_change: bool,
}

/// A new session with its first refresh token. Tenant and epochs are filled in by the transaction that stores it, from what it reads.
///
/// # Errors
/// [`Error::Internal`] where the refresh token cannot be made.
pub fn prepare(app: &App, opening: Opening, now: Timestamp) -> Result<(Session, Option<RefreshToken>)> {
    let id = SessionId::hinting(&app.entropy, &app.clock, opening.is_bound);
    let tokens = &app.config.tokens;
    let (idle, absolute) = if opening.must_change {
        (PASSWORD_CHANGE_LIFETIME, PASSWORD_CHANGE_LIFETIME)
    } else {
        (tokens.idle_lifetime, tokens.absolute_lifetime)
    };
    let refresh = (!opening.must_change).then(|| RefreshToken::first(&app.roots, id, &app.entropy));
    let mut session = Session {
        id,
        user_id: opening.user_id,
        tenant_id: None,
        client_id: opening.client_id,
        scope: opening.scope.map(|scope| scope.to_string()).unwrap_or_default(),
        // RFC 8176: a password.
        amr: "pwd".to_owned(),
        epochs: Epochs { instance: 0, user: 0, tenant: None, membership: None },
        must_change: opening.must_change,
        created_at: now,
        last_seen_at: now,
        idle_expires_at: now,
        expires_at: now,
        device: opening.device,
        revoked_at: None,
        refresh_generation: 0,
        refresh_digest: refresh.as_ref().map(|token| token.digest().to_vec()),
        rotated_at: now,
    };
    set_lifetimes(&mut session, idle, absolute);
    Ok((session, refresh))
}

/// Says how long a new session lives.
fn set_lifetimes(session: &mut Session, idle: Duration, absolute: Duration) {
    session.idle_expires_at = session.created_at.plus(idle.min(absolute));
    session.expires_at = session.created_at.plus(absolute);
}

/// Gives a new session the lifetimes of the tenant that it is bound to, where that has its own.
///
/// # Errors
/// Those of [`policy::of`].
pub(super) fn apply_policy(session: &mut Session, tenant: &Tenant) -> Result<()> {
    let own = policy::of(tenant)?;
    // Changing a password takes its ten minutes wherever.
    if let Some(own) = own.filter(|_| !session.must_change) {
        set_lifetimes(session, own.idle(), own.absolute());
    }
    Ok(())
}

/// What a session is opened beside: so many live ones of its user at most, itself among them.
#[derive(Clone, Debug)]
pub struct Room {
    most: u32,
    ended: Repeated,
}

impl Room {
    /// The room that the configuration gives, for the opening of a session by its user.
    #[must_use]
    pub fn new(app: &App, session: &Session, origin: &Origin) -> Self {
        let details = Some(serde_json::json!({ "cause": "session_limit", "by_session": session.id.to_string() }));
        let about = audit::About { details, ..audit::About::default() };
        let ended = Repeated::success(app, Event::SessionRevoked, Actor::User(session.user_id), origin, about);
        Self { most: app.config.tokens.max_sessions, ended }
    }

    /// Ends the oldest sessions of a user until there is room for one more. Whoever calls this holds the lock of the user's row.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away.
    pub async fn make(&self, tx: &Tx, user: UserId, now: Timestamp) -> Result<()> {
        let ended = sessions::revoke_oldest(tx, user, self.most.saturating_sub(1), "session_limit", now).await?;
        audit_events::insert_all(tx, ended.iter().map(|session| self.ended.of_session(session)).collect()).await
    }
}

/// The credential that names the session to end.
#[derive(Debug)]
pub enum Ending {
    /// An access token, also an expired one, of either kind.
    AccessToken(String),
    /// A refresh token of any generation.
    RefreshToken(String),
}

/// Ends the session that a token names. What is not a token of ours, or names a session that is over, is success (RFC 7009, 2.2) without
/// an event: the holder wanted it to be good for nothing, and it is.
///
/// # Errors
/// [`Error::TokenInvalid`] for a token of another kind, for a service account's and for another client's refresh token of a live session, which
/// would all go on living unnoticed; [`Error::AudienceMismatch`] for a narrowed token: who holds one must not end the session that it was
/// made from.
pub async fn end(app: &App, ending: Ending, accepts: Accepts, client: &Client, origin: Origin) -> Result<()> {
    let now = origin.time;
    let Some(named) = named(app, ending, accepts, now).await? else { return Ok(()) };
    let id = named.session();
    let found = app.store.read("session_to_end", id, |db, id| async move { facts::find(&db, id, &About::Own).await }).await?;
    let Some(Facts { session, .. }) = found.filter(|facts| !access::is_over(facts, now)) else { return Ok(()) };
    match &named {
        Named::Access(token, _) if !access::fits(token, &session) => return Ok(()),
        Named::Refresh(_) if !client.fits(app, &session.client_id) => return Err(Error::TokenInvalid),
        Named::Access(..) | Named::Refresh(_) => {}
    }
    let about = audit::About {
        object_id: Some(id.to_string()),
        tenant_id: session.tenant_id,
        session_id: Some(id),
        details: Some(serde_json::json!({ "cause": "logout" })),
    };
    let event = audit::success(app, Event::SessionRevoked, Actor::User(session.user_id), &origin, about);
    let input = (id, event, now);
    let unit = |tx, (id, event, now)| async move {
        if sessions::revoke(&tx, id, "logout", now).await? {
            audit_events::insert(&tx, event).await?;
        }
        Ok(())
    };
    app.store.write("end_session", input, unit).await
}

/// A good token, and the session that it names.
enum Named {
    Access(Box<Presented>, SessionId),
    Refresh(SessionId),
}

impl Named {
    const fn session(&self) -> SessionId {
        match self {
            Self::Access(_, id) | Self::Refresh(id) => *id,
        }
    }
}

async fn named(app: &App, ending: Ending, accepts: Accepts, now: Timestamp) -> Result<Option<Named>> {
    match ending {
        Ending::AccessToken(token) => {
            if opaque::kind_of(&token).is_some() {
                return Err(Error::TokenInvalid);
            }
            let Some(presented) = ours(app, &token, now).await? else { return Ok(None) };
            accepts.judge(&presented, &app.config.tokens.issuer)?;
            let sid = presented.claims.sid.ok_or(Error::TokenInvalid)?;
            Ok(Some(Named::Access(Box::new(presented), sid)))
        }
        Ending::RefreshToken(token) => {
            let token = token.as_str();
            if let Ok(refresh) = RefreshToken::parse(token, &app.roots) {
                return Ok(Some(Named::Refresh(refresh.session)));
            }
            let is_another = ClientSecret::parse(token, &app.roots).is_ok();
            if is_another || ours(app, token, now).await?.is_some() { Err(Error::TokenInvalid) } else { Ok(None) }
        }
    }
}

/// A token that was issued here, expired or not; none for anything else.
async fn ours(app: &App, token: &str, now: Timestamp) -> Result<Option<Presented>> {
    match tokens::read(app, token, ExpiryRule::Ignored, Freshness::Bounded, now).await {
        Ok(presented) => Ok(Some(presented)),
        Err(Error::TokenInvalid | Error::TokenExpired) => Ok(None),
        Err(error) => Err(error),
    }
}
