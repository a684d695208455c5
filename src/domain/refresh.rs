//! Refreshing: moving a session's chain of refresh tokens on by one.
//!
//! A token holds the session's id, its generation *n* and a secret; the row holds the digest of the current generation *g*.
//! `secret(n+1) = HMAC(refresh key, session ‖ n+1 ‖ secret(n))`, so a successor can be derived again by whoever holds the token before
//! it, and by nobody who reads the database.
//!
//! | presented | then |
//! |---|---|
//! | n = g, digest right | one conditional update moves the row to g+1; new tokens |
//! | n = g − 1, its successor is the row's, within `tokens.refresh_grace` | the same successor again, nothing written: a lost answer, a double click, two tabs |
//! | the same after the grace, or n < g − 1 | reuse: the session dies, one event, `REFRESH_TOKEN_REUSED` |
//! | n > g (restored backup), or a secret that does not fit the row's digest | `TOKEN_INVALID`, nothing ends |
//!
//! The update itself checks everything again: client, expiries, the states and epochs of instance, user, tenant and membership. Of many
//! parallel calls one moves the row; the others find themselves one generation behind, within the grace.

use std::sync::Arc;

use super::{
    access::{self, Powers, TenantScope},
    audit::{self, Actor, Event, Origin},
    callers::Client,
    tenants::policy,
    tokens::{self, TokenSet, Wanted},
};
use crate::{
    app::App,
    ctx::tenant_key,
    error::{Error, Result},
    metrics::{Metrics, Refreshed as Counted},
    store::{
        Tx, audit_events,
        audit_events::Row,
        facts::{self, About, Facts},
        sessions::{self, Rotation, Session},
        tenants::TenantKey,
    },
    values::{
        opaque::RefreshToken,
        permission::{PermissionSet, Scope},
        secret,
        time::Timestamp,
    },
};

/// What a client asks for with a refresh token.
#[derive(Debug)]
pub struct Request {
    /// The refresh token.
    pub token: String,
    /// Empty, or the session's tenant, as the request names it; read only after the token was found good.
    pub tenant_id: String,
    /// A cap within the session's, and audiences.
    pub wanted: Wanted,
    /// The client that presents it.
    pub client: Client,
    /// Where the call comes from.
    pub origin: Origin,
}

#[derive(Clone)]
struct Step {
    rotation: Rotation,
    grace: std::time::Duration,
    tenant_id: String,
    cap: Option<PermissionSet>,
    reuse: Row,
}

enum Outcome {
    Refreshed(Box<Refreshed>),
    Reused,
}

struct Refreshed {
    /// Whether the token was the one before, whose answer was lost.
    is_healed: bool,
    session: Session,
    scope: Option<TenantScope>,
    cap: Option<PermissionSet>,
}

/// Exchanges a refresh token for a new set.
///
/// # Errors
/// [`Error::TokenInvalid`], [`Error::SessionExpired`], [`Error::SessionRevoked`], [`Error::PrincipalDisabled`],
/// [`Error::RefreshTokenReused`], the reasons of [`access::enter`], and [`Error::InvalidField`] for what is not within the session's.
pub async fn refresh(app: &App, request: Request) -> Result<TokenSet> {
    let presented = RefreshToken::parse(&request.token, &app.roots).map_err(|_| Error::TokenInvalid)?;
    let successor = presented.successor(&app.roots).ok_or(Error::TokenInvalid)?;
    let now = request.origin.time;
    let about =
        audit::About { object_id: Some(presented.session.to_string()), session_id: Some(presented.session), ..audit::About::default() };
    let step = Step {
        rotation: Rotation {
            id: presented.session,
            client_id: request.client.id.clone(),
            generation: presented.generation,
            digest: presented.digest(),
            successor: successor.digest(),
            now,
            idle_expires_at: now.plus(app.config.tokens.idle_lifetime),
        },
        grace: app.config.tokens.refresh_grace,
        tenant_id: request.tenant_id,
        cap: request.wanted.scope,
        reuse: audit::failure(app, Event::RefreshTokenReused, &Error::RefreshTokenReused, Actor::System, &request.origin, about),
    };
    let metrics = Arc::clone(&app.metrics);
    let unit = |tx, step| async move { take_step(tx, step).await };
    let refreshed = match app.store.write_then("refresh", step, unit, move |outcome| count(&metrics, outcome)).await? {
        Outcome::Refreshed(refreshed) => refreshed,
        Outcome::Reused => return Err(Error::RefreshTokenReused),
    };
    let wanted = Wanted { scope: refreshed.cap, audience: request.wanted.audience };
    let (access_token, expires_in) = tokens::mint(app, &refreshed.session, refreshed.scope.as_ref(), &wanted, now)?;
    Ok(TokenSet { access_token, expires_in, refresh_token: successor.encode(&app.roots), scope: wanted.scope })
}

/// Tells operators apart what clients need not. An outage is none of these, nor is a client that asks for too much with a good token.
fn count(metrics: &Metrics, outcome: &Result<Outcome>) {
    let counted = match outcome {
        Ok(Outcome::Refreshed(refreshed)) if refreshed.is_healed => Counted::Healed,
        Ok(Outcome::Refreshed(_)) => Counted::Rotated,
        Ok(Outcome::Reused) => Counted::Reused,
        Err(Error::Unavailable(_) | Error::Internal(_) | Error::Conflict | Error::InvalidField(_)) => return,
        Err(_) => Counted::Refused,
    };
    metrics.refreshed(counted);
}

/// The transaction. An error leaves no trace, so a request for more than the session has does not use the token up.
async fn take_step(tx: Tx, step: Step) -> Result<Outcome> {
    let rotated = sessions::rotate(&tx, &step.rotation).await?;
    let facts = facts::find(&tx, step.rotation.id, &About::Own).await?.ok_or(Error::SessionRevoked)?;
    if !rotated {
        judge_refusal(&facts, &step)?;
        if !is_lost_answer(&facts.session, &step)? {
            return reuse(&tx, &facts, step).await;
        }
    }
    answer(facts, step, !rotated)
}

/// Why the update matched no row, where it is not the generation.
fn judge_refusal(facts: &Facts, step: &Step) -> Result<()> {
    let session = &facts.session;
    if session.client_id != step.rotation.client_id || session.must_change {
        return Err(Error::TokenInvalid);
    }
    access::judge_session(facts, step.rotation.now)?;
    if session.idle_expires_at <= step.rotation.now {
        return Err(Error::SessionExpired);
    }
    own_scope(facts, None)?;
    if step.rotation.generation >= session.refresh_generation { Err(Error::TokenInvalid) } else { Ok(()) }
}

/// Whether the presented token is the one before the current one, and its holder may just have lost the answer. Of the one before, the
/// row tells whether its secret is of this chain at all; of those further back it does not.
fn is_lost_answer(session: &Session, step: &Step) -> Result<bool> {
    if step.rotation.generation.checked_add(1) != Some(session.refresh_generation) {
        return Ok(false);
    }
    if !session.refresh_digest.as_deref().is_some_and(|digest| secret::equal(digest, &step.rotation.successor)) {
        return Err(Error::TokenInvalid);
    }
    Ok(step.grace.as_secs() > 0 && within(session.rotated_at, step.rotation.now, step.grace))
}

fn within(from: Timestamp, now: Timestamp, grace: std::time::Duration) -> bool {
    now <= from.plus(grace)
}

async fn reuse(tx: &Tx, facts: &Facts, step: Step) -> Result<Outcome> {
    if sessions::revoke(tx, facts.session.id, "refresh_token_reused", step.rotation.now).await? {
        let client_id = Some(facts.session.client_id.clone());
        let details = serde_json::json!({ "user_id": facts.session.user_id.to_string(), "generation": step.rotation.generation });
        audit_events::insert(tx, Row { tenant_id: facts.session.tenant_id, client_id, details, ..step.reuse }).await?;
    }
    Ok(Outcome::Reused)
}

fn answer(facts: Facts, step: Step, is_healed: bool) -> Result<Outcome> {
    let own_cap = Scope::parse(&facts.session.scope).map_err(|_| Error::internal("the session's scope cannot be read"))?;
    let cap = narrower(own_cap, step.cap)?;
    let scope = own_scope(&facts, cap.as_ref())?;
    // While it can still be rolled back: a policy that cannot be read must not use the token up.
    scope.as_ref().map(|scope| policy::of(scope.tenant())).transpose()?;
    if let Some(asked) = tenant_key(&step.tenant_id)? {
        let own = scope.as_ref().is_some_and(|scope| match asked {
            TenantKey::Id(id) => id == scope.tenant().id,
            TenantKey::ExternalId(id) => Some(&id) == scope.tenant().external_id.as_ref(),
        });
        if !own {
            return Err(Error::field("tenant_id", "is not the tenant of the session"));
        }
    }
    Ok(Outcome::Refreshed(Box::new(Refreshed { is_healed, session: facts.session, scope, cap })))
}

/// The session's tenant as it is now, under the epochs that the session was opened with.
fn own_scope(facts: &Facts, cap: Option<&PermissionSet>) -> Result<Option<TenantScope>> {
    if facts.session.tenant_id.is_none() {
        return Ok(None);
    }
    let powers = Powers::capped(cap.cloned());
    let scope = access::enter(&facts.user, facts.standing.clone(), &powers)?;
    access::judge_tenant_epochs(facts, &scope)?;
    Ok(Some(scope))
}

/// The asked cap, which must be within the session's.
fn narrower(own: Option<PermissionSet>, asked: Option<PermissionSet>) -> Result<Option<PermissionSet>> {
    match (own, asked) {
        (own, None) => Ok(own),
        (None, asked) => Ok(asked),
        (Some(own), Some(asked)) if own.covers_all(&asked) => Ok(Some(asked)),
        _ => Err(Error::field("scope", "is not within the scope of the session")),
    }
}
