//! Refreshing: moving a session's chain of refresh tokens on by one.
//!
//! A token holds the session's id, its generation *n* and a secret; the row holds the digest of the current generation *g*.
//! `secret(n+1) = HMAC(refresh key, session ‖ n+1 ‖ secret(n))`, so a successor can be derived again by whoever holds the token before
//! it, and by nobody who reads the database.
//!
//! ```text
//!                  login
//!                    │      ┌─────┐ n = g: one conditional update; g becomes g + 1
//!                    ▼      ▼     │
//!                  live, at generation g ◄───┐ n = g − 1, within the grace: the same answer again, nothing moves
//!                    │          │     └──────┘
//!   n = g − 1 after  │          │ logout, an operator, a moved epoch; the idle or the absolute lifetime
//!   the grace, or    │          │
//!   n < g − 1: reuse │          │
//!                    ▼          ▼
//!                  over: no token of the chain does anything any more, for whoever holds it
//! ```
//!
//! Disabled users and suspended tenants and memberships are no state of the chain: it rests, and goes on where they do.
//!
//! | presented | then |
//! |---|---|
//! | n = g, digest right | one conditional update moves the row to g+1; new tokens |
//! | n = g − 1, its successor is the row's, within `tokens.refresh_grace` | the same successor again, nothing written: a lost answer, a double click, two tabs |
//! | the same after the grace, or n < g − 1 | reuse: the session dies, one event, `REFRESH_TOKEN_REUSED` |
//! | n > g (restored backup), or a secret that does not fit the row's digest | `TOKEN_INVALID`, nothing ends |
//! | anything, by another client than the session's | `TOKEN_INVALID`, nothing ends |
//!
//! Generations decide; the clock says only how long the one before may still heal. So reuse is reuse within one second and after a
//! restart, and a clock that jumps can shorten or lengthen the grace, but makes no old token a new one.
//!
//! **One statement.** The update itself checks everything again: client, expiries, the states and epochs of instance, user, tenant and
//! membership. Of many parallel calls one moves the row; the others find themselves one generation behind, within the grace. A refresh that
//! asks for nothing special is that update and nothing else, of a session without tenant and scope not even a transaction around it. Where
//! it matches no row, or where the request asks for a scope or a tenant, the transaction judges what it then reads. What cannot be answered
//! is rolled back, so that neither a request for more than the session has nor a row that was broken by hand uses the token up.
//!
//! **Whose.** A session works for its client only. A session of callers without an identity (`tokens.default_client_id`), or one that was
//! imported, becomes in the same update that of the first known caller that refreshes it.

use std::sync::Arc;

use super::{
    access::{self, Powers, TenantScope},
    audit::{self, Actor, Event, Origin},
    callers::Client,
    tokens::{self, SessionClaims, TenantClaims, TokenSet, Wanted},
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
        rotation::{self, Rotated, Rotation},
        sessions::{self, Session},
    },
    values::{
        ids::SessionId,
        opaque::RefreshToken,
        permission::{PermissionSet, Scope},
        secret,
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
    Reused(Reuse),
    /// Nothing was written. What operators are told is more than what the caller is.
    Refused(Counted, Error),
}

struct Refreshed {
    /// Whether the token was the one before, whose answer was lost.
    is_healed: bool,
    session: SessionClaims,
    tenant: Option<TenantClaims>,
    cap: Option<PermissionSet>,
}

/// Where the chain stood when an old token of it came.
struct Reuse {
    current_generation: u32,
    seconds_since_rotation: u64,
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
    let rotation = Rotation {
        id: presented.session,
        takes_over: request.client.takes_over(app),
        client_id: request.client.id,
        generation: presented.generation,
        digest: presented.digest(),
        successor: successor.digest(),
        now,
        idle_lifetime: app.config.tokens.idle_lifetime,
    };
    let asks_for_less = asks_for_less(&request.tenant_id, request.wanted.scope.as_ref());
    // The id is a hint only: of a session that is bound all the same, this moves nothing.
    let is_plain = !asks_for_less && !rotation.id.hints_bound();
    let at_once = if is_plain { at_once(app, &rotation).await? } else { None };
    let refreshed = match at_once {
        Some(refreshed) => refreshed,
        // In a box: the longer way is not to weigh on the shorter.
        None => Box::pin(judged(app, rotation, request.tenant_id, request.wanted.scope, request.origin)).await?,
    };
    let wanted = Wanted { scope: refreshed.cap, audience: request.wanted.audience };
    let (access_token, expires_in) = tokens::mint_with(app, refreshed.session, refreshed.tenant, &wanted, now).await?;
    Ok(TokenSet { access_token, expires_in, refresh_token: successor.encode(&app.roots), scope: wanted.scope })
}

/// Whether there is more to decide than whether the session goes on.
const fn asks_for_less(tenant_id: &str, cap: Option<&PermissionSet>) -> bool {
    !tenant_id.is_empty() || cap.is_some()
}

/// The ordinary refresh of a session without tenant and scope: one statement. None where something is otherwise.
async fn at_once(app: &App, rotation: &Rotation) -> Result<Option<Refreshed>> {
    let metrics = Arc::clone(&app.metrics);
    let unit = |once, rotation: Rotation| async move {
        let rotated = rotation::rotate_at_once(once, &rotation).await?;
        rotated.map(|rotated| moved_on(rotated, rotation)).transpose()
    };
    let then = move |outcome: &Result<Option<Refreshed>>| {
        if let Ok(Some(_)) = outcome {
            metrics.refreshed(Counted::Rotated);
        }
    };
    app.store.write_once("refresh", rotation.clone(), unit, then).await
}

/// What the update found, as [`access::enter`] would have it: its conditions are the same.
fn moved_on(rotated: Rotated, rotation: Rotation) -> Result<Refreshed> {
    let cap = cap_of(&rotated.scope)?;
    let (roles, permissions) = access::rights(rotated.roles, cap.as_ref());
    let names = || roles.into_iter().map(|role| role.name).collect();
    let tenant = match (rotated.tenant_id, &rotated.policy) {
        (Some(id), Some(policy)) => Some(TenantClaims::new(id, policy, names(), permissions)?),
        _ => None,
    };
    let session = SessionClaims {
        id: rotation.id,
        user_id: rotated.user_id,
        tenant_id: rotated.tenant_id,
        client_id: rotation.client_id,
        amr: rotated.amr,
        epochs: rotated.epochs,
        must_change: false,
        created_at: rotated.created_at,
        expires_at: rotated.expires_at,
    };
    Ok(Refreshed { is_healed: false, session, tenant, cap })
}

/// Every other refresh: a transaction.
async fn judged(app: &App, rotation: Rotation, tenant_id: String, cap: Option<PermissionSet>, origin: Origin) -> Result<Refreshed> {
    let id = rotation.id;
    let about = audit::About { object_id: Some(id.to_string()), session_id: Some(id), ..audit::About::default() };
    let reuse = audit::failure(app, Event::RefreshTokenReused, &Error::RefreshTokenReused, Actor::System, &origin, about);
    let witness = Witness {
        metrics: Arc::clone(&app.metrics),
        session: id,
        client_id: rotation.client_id.clone(),
        generation: rotation.generation,
        request_id: origin.request_id,
    };
    let step = Step { rotation, grace: app.config.tokens.refresh_grace, tenant_id, cap, reuse };
    let unit = |tx, step| async move { take_step(tx, step).await };
    match app.store.write_then("refresh_judged", step, unit, move |outcome| witness.tell(outcome)).await? {
        Outcome::Refreshed(refreshed) => Ok(*refreshed),
        Outcome::Reused(_) => Err(Error::RefreshTokenReused),
        Outcome::Refused(_, error) => Err(error),
    }
}

/// What operators are told of a refresh, in counters and in the log.
struct Witness {
    metrics: Arc<Metrics>,
    session: SessionId,
    client_id: String,
    generation: u32,
    request_id: Option<String>,
}

impl Witness {
    fn tell(&self, outcome: &Result<Outcome>) {
        let counted = match outcome {
            Ok(Outcome::Refreshed(refreshed)) if refreshed.is_healed => Counted::Healed,
            Ok(Outcome::Refreshed(_)) => Counted::Rotated,
            Ok(Outcome::Reused(_)) => Counted::Reused,
            Ok(Outcome::Refused(counted, _)) => *counted,
            // An outage is none of these, nor is a client that asks for too much with a good token.
            Err(error) => match counted(error) {
                Some(counted) => counted,
                None => return,
            },
        };
        self.metrics.refreshed(counted);
        let (session_id, request_id) = (self.session.to_string(), self.request_id.as_deref());
        match outcome {
            Ok(Outcome::Reused(reuse)) => tracing::warn!(
                target: "doorward::security",
                session_id,
                request_id,
                client_id = self.client_id,
                generation = self.generation,
                current_generation = reuse.current_generation,
                seconds_since_rotation = reuse.seconds_since_rotation,
                "a refresh token was used again: its session was ended"
            ),
            Ok(Outcome::Refused(Counted::ClientMismatch, _)) => tracing::warn!(
                target: "doorward::security",
                session_id,
                request_id,
                client_id = self.client_id,
                "a client presented another client's refresh token"
            ),
            _ => {}
        }
    }
}

/// What a refusal is counted as, as far as its reason tells; none for what says nothing of the token.
const fn counted(error: &Error) -> Option<Counted> {
    match error {
        Error::SessionExpired => Some(Counted::Expired),
        Error::SessionRevoked => Some(Counted::Revoked),
        Error::PrincipalDisabled => Some(Counted::PrincipalGone),
        Error::NotAMember | Error::MembershipSuspended | Error::TenantSuspended => Some(Counted::Tenant),
        Error::TokenInvalid => Some(Counted::Invalid),
        _ => None,
    }
}

/// The transaction. An error leaves no trace, so a request for more than the session has does not use the token up.
async fn take_step(tx: Tx, step: Step) -> Result<Outcome> {
    let rotated = rotation::rotate(&tx, &step.rotation).await?;
    let is_healed = rotated.is_none();
    if let Some(rotated) = rotated.filter(|_| !asks_for_less(&step.tenant_id, step.cap.as_ref())) {
        return Ok(Outcome::Refreshed(Box::new(moved_on(rotated, step.rotation)?)));
    }
    let found = facts::find(&tx, step.rotation.id, &About::Own).await?;
    let Some(mut facts) = found else { return Ok(Outcome::Refused(Counted::Revoked, Error::SessionRevoked)) };
    if is_healed {
        if let Some((counted, error)) = judge_refusal(&facts, &step) {
            return Ok(Outcome::Refused(counted, error));
        }
        match judge_generation(&facts.session, &step)? {
            Generation::Lost => heal(&tx, &mut facts.session, &step.rotation).await?,
            Generation::Old => return reuse(&tx, &facts, step).await,
            Generation::Foreign => return Ok(Outcome::Refused(Counted::Invalid, Error::TokenInvalid)),
        }
    }
    answer(&facts, step, is_healed)
}

/// Why the update matched no row, where it is not the generation.
fn judge_refusal(facts: &Facts, step: &Step) -> Option<(Counted, Error)> {
    let session = &facts.session;
    if !step.rotation.fits_client(&session.client_id) {
        return Some((Counted::ClientMismatch, Error::TokenInvalid));
    }
    if session.must_change {
        return Some((Counted::Invalid, Error::TokenInvalid));
    }
    let plain = |error: Error| (counted(&error).unwrap_or(Counted::Invalid), error);
    if let Err(error) = access::judge_session(facts, step.rotation.now) {
        return Some(plain(error));
    }
    if session.idle_expires_at <= step.rotation.now {
        return Some((Counted::Idle, Error::SessionExpired));
    }
    own_scope(facts, None).err().map(plain)
}

/// Where a token stands in the chain of its session, when it is not the current one.
enum Generation {
    /// It is the one before, and its holder may just have lost the answer.
    Lost,
    /// It was used up.
    Old,
    /// It is of no moment of this chain that the row knows.
    Foreign,
}

/// Of the token before the current one, the row tells whether its secret is of this chain at all; of those further back it does not.
fn judge_generation(session: &Session, step: &Step) -> Result<Generation> {
    let Rotation { generation, digest, successor, now, .. } = &step.rotation;
    let is_the_row_s = |digest: &[u8; 32]| session.refresh_digest.as_deref().is_some_and(|own| secret::equal(own, digest));
    if *generation >= session.refresh_generation {
        // What stopped the update is gone a moment later: it is to be tried again.
        let is_current = *generation == session.refresh_generation && is_the_row_s(digest);
        return if is_current { Err(Error::Conflict) } else { Ok(Generation::Foreign) };
    }
    if generation.checked_add(1) != Some(session.refresh_generation) {
        return Ok(Generation::Old);
    }
    if !is_the_row_s(successor) {
        return Ok(Generation::Foreign);
    }
    let is_within = step.grace.as_secs() > 0 && *now <= session.rotated_at.plus(step.grace);
    Ok(if is_within { Generation::Lost } else { Generation::Old })
}

/// Nothing is written, but for a session of nobody in particular, which is its client's from now on.
async fn heal(tx: &Tx, session: &mut Session, rotation: &Rotation) -> Result<()> {
    if session.client_id != rotation.client_id {
        rotation::take_over(tx, session, &rotation.client_id).await?;
        session.client_id.clone_from(&rotation.client_id);
    }
    Ok(())
}

/// Of many who come with old tokens at once, one ends the session: that is the one event. The others find it ended.
async fn reuse(tx: &Tx, facts: &Facts, step: Step) -> Result<Outcome> {
    let (session, now) = (&facts.session, step.rotation.now);
    if !sessions::revoke(tx, session.id, "refresh_token_reused", now).await? {
        return Ok(Outcome::Refused(Counted::Revoked, Error::SessionRevoked));
    }
    let reuse = Reuse { current_generation: session.refresh_generation, seconds_since_rotation: now.since(session.rotated_at).as_secs() };
    let details = serde_json::json!({
        "user_id": session.user_id.to_string(),
        "session_client_id": session.client_id,
        "generation": step.rotation.generation,
        "current_generation": reuse.current_generation,
        "seconds_since_rotation": reuse.seconds_since_rotation,
    });
    audit_events::insert(tx, Row { tenant_id: session.tenant_id, details, ..step.reuse }).await?;
    Ok(Outcome::Reused(reuse))
}

fn answer(facts: &Facts, step: Step, is_healed: bool) -> Result<Outcome> {
    let cap = narrower(cap_of(&facts.session.scope)?, step.cap)?;
    let scope = own_scope(facts, cap.as_ref())?;
    if let Some(asked) = tenant_key(&step.tenant_id)? {
        let own = scope.as_ref().is_some_and(|scope| scope.tenant().is_named(&asked));
        if !own {
            return Err(Error::field("tenant_id", "is not the tenant of the session"));
        }
    }
    // While it can still be rolled back: a policy that cannot be read must not use the token up.
    let tenant = scope.as_ref().map(TenantClaims::of).transpose()?;
    Ok(Outcome::Refreshed(Box::new(Refreshed { is_healed, session: (&facts.session).into(), tenant, cap })))
}

fn cap_of(scope: &str) -> Result<Option<PermissionSet>> {
    Scope::parse(scope).map_err(|_| Error::internal("the session's scope cannot be read"))
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
pub(super) fn narrower(own: Option<PermissionSet>, asked: Option<PermissionSet>) -> Result<Option<PermissionSet>> {
    match (own, asked) {
        (own, None) => Ok(own),
        (None, asked) => Ok(asked),
        (Some(own), Some(asked)) if own.covers_all(&asked) => Ok(Some(asked)),
        _ => Err(Error::field("scope", "is not within the scope that it comes from")),
    }
}
