//! Ending sessions as an operator: one by one, or all of a user, of a tenant, of a member or of the instance by moving one row's epoch on.
//!
//! A moved epoch is one changed row, however many sessions there are: nothing has to be found, so nothing is forgotten, also not what is
//! opened or refreshed at the same moment. Every session remembers the epochs that it was opened under, and every check of a token compares
//! them: running servers refuse at once. A login of afterwards opens its session under the new epoch and is good.

use serde_json::json;

use super::{
    access,
    audit::{self, Actor, Event, Origin},
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{
        Tx, audit_events,
        audit_events::Row,
        facts::{self, About, Facts, Whose},
        instance,
        memberships::{self, MembershipState},
        sessions,
        tenants::{self, TenantState},
        users::{self, UserState},
    },
    values::{
        ids::{SessionId, TenantId, UserId},
        time::Timestamp,
    },
};

/// Where a session stands, for whoever looks at a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Its tokens are good.
    Active,
    /// Its tokens are refused as long as its user, tenant or membership is out of use, and good again afterwards.
    Suspended,
    /// It was ended, by itself or with all others of its user, tenant, membership or instance.
    Revoked,
    /// Its time is over.
    Expired,
}

impl SessionState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// Whether it will never be good again.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired)
    }

    /// Where the session of these facts stands. Nobody has a good access token of a session that has been idle for too long, and its
    /// refresh token is refused: it is over too.
    pub(super) fn of(facts: &Facts, now: Timestamp) -> Self {
        let Facts { session, user, standing, .. } = facts;
        let is_late = session.expires_at <= now || session.idle_expires_at <= now;
        if session.revoked_at.is_some() || (access::is_over(facts, now) && session.expires_at > now) {
            return Self::Revoked;
        }
        if is_late {
            return Self::Expired;
        }
        let is_in_use = standing.as_ref().is_none_or(|standing| {
            let membership = standing.membership.as_ref().map(|membership| membership.state);
            let may_act = session.epochs.membership.is_none() || membership == Some(MembershipState::Active);
            standing.tenant.state == TenantState::Active && may_act
        });
        if user.state == UserState::Active && is_in_use { Self::Active } else { Self::Suspended }
    }
}

/// The sessions of a user, a tenant or everybody, in the order of their ids; those that are over only with `ended`.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn list(app: &App, whose: Whose, ended: bool) -> Result<Vec<(Facts, SessionState)>> {
    let now = app.clock.now();
    let live_at = (!ended).then_some(now);
    let read = |after: Option<SessionId>| {
        let unit = move |db, after| async move { facts::list(&db, whose, live_at, after, super::BATCH).await };
        app.store.read("list_sessions", after, unit)
    };
    let all = super::collect(read, |facts| facts.session.id).await?;
    let judged = all.into_iter().map(|facts| {
        let state = SessionState::of(&facts, now);
        (facts, state)
    });
    Ok(judged.collect())
}

/// One session and where it stands.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(app: &App, id: SessionId) -> Result<(Facts, SessionState)> {
    let found = app.store.read("get_session", id, |db, id| async move { facts::find(&db, id, &About::Own).await }).await?;
    let facts = found.ok_or(Error::NotFound("session"))?;
    let state = SessionState::of(&facts, app.clock.now());
    Ok((facts, state))
}

/// How many sessions [`revoke_all`] would end now.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn count(app: &App, whose: Whose) -> Result<u64> {
    let now = app.clock.now();
    app.store.read("count_sessions", (), move |db, ()| async move { facts::count_live(&db, whose, now).await }).await
}

/// Ends one session; answers whether it was not over already. Doing it twice is no error.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke(app: &App, id: SessionId, actor: Actor) -> Result<bool> {
    let (facts, state) = get(app, id).await?;
    // One that is only late by this machine's clock is ended all the same: a replica whose clock is behind would let it live on.
    if state == SessionState::Revoked {
        return Ok(false);
    }
    let origin = Origin::local(app);
    let about = audit::About {
        object_id: Some(id.to_string()),
        tenant_id: facts.session.tenant_id,
        session_id: Some(id),
        details: Some(json!({ "cause": "operator" })),
    };
    let event = audit::success(app, Event::SessionRevoked, actor, &origin, about);
    let unit = |tx, (id, now, event): (SessionId, Timestamp, Row)| async move {
        let was_live = sessions::revoke_late_or_not(&tx, id, "operator", now).await?;
        if was_live {
            audit_events::insert(&tx, event).await?;
        }
        Ok(was_live)
    };
    app.store.write("revoke_session", (id, origin.time, event), unit).await
}

/// Ends every session of a user, a tenant, a member or everybody; answers how many there were. The epoch moves also where there is none:
/// the count is for the operator, and a login may come between it and the move.
///
/// # Errors
/// [`Error::NotFound`] for a user or a tenant that is deleted, and for a user who is no member.
pub async fn revoke_all(app: &App, whose: Whose, actor: Actor) -> Result<u64> {
    let (event, object_id, tenant_id) = match whose {
        Whose::User(id) => (Event::UserSessionsRevoked, Some(id.to_string()), None),
        Whose::Tenant(id) => (Event::TenantSessionsRevoked, Some(id.to_string()), Some(id)),
        // Which membership it is, the transaction finds.
        Whose::Member { tenant, .. } => (Event::MemberSessionsRevoked, None, Some(tenant)),
        Whose::Everybody => (Event::AllSessionsRevoked, None, None),
    };
    let origin = Origin::local(app);
    let event = audit::success(app, event, actor, &origin, audit::About { object_id, tenant_id, ..audit::About::default() });
    let input = (whose, origin.time, event);
    app.store.write("revoke_sessions", input, |tx, input| async move { end_all(tx, input).await }).await
}

async fn end_all(tx: Tx, (whose, now, event): (Whose, Timestamp, Row)) -> Result<u64> {
    if let Whose::Member { user, tenant } = whose {
        return end_member(tx, (user, tenant, now, event)).await;
    }
    let live = facts::count_live(&tx, whose, now).await?;
    match whose {
        Whose::User(id) if !users::bump_epoch(&tx, id).await? => return Err(Error::NotFound("user")),
        Whose::Tenant(id) if !tenants::bump_epoch(&tx, id).await? => return Err(Error::NotFound("tenant")),
        Whose::Everybody => instance::bump_epoch(&tx).await?,
        Whose::User(_) | Whose::Tenant(_) | Whose::Member { .. } => {}
    }
    audit_events::insert(&tx, Row { details: json!({ "sessions": live }), ..event }).await?;
    Ok(live)
}

/// One row for what was opened by the membership. A superuser's session of a tenant can be without one, and no epoch of this tenant alone
/// is its own: such rows are marked, behind the lock that their opening takes.
async fn end_member(tx: Tx, (user, tenant, now, event): (UserId, TenantId, Timestamp, Row)) -> Result<u64> {
    users::find_locked(&tx, user).await?.ok_or(Error::NotFound("user"))?;
    let live = facts::count_live(&tx, Whose::Member { user, tenant }, now).await?;
    let membership = memberships::bump_epoch(&tx, tenant, user).await?;
    let without = sessions::revoke_of_no_member(&tx, user, tenant, "operator", now).await?;
    if membership.is_none() && without == 0 {
        return Err(Error::NotFound("membership"));
    }
    let details = json!({ "sessions": live, "user_id": user.to_string() });
    let object_id = membership.map(|id| id.to_string());
    let object_kind = object_id.is_some().then_some("membership");
    audit_events::insert(&tx, Row { object_kind, object_id, details, ..event }).await?;
    Ok(live)
}
