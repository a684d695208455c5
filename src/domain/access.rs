//! Who may act: the one place that decides what a token, a session and a standing are good for.
//!
//! ```text
//! token ──read──► Presented ──facts──► Subject ──enter──► TenantScope ──require──► yes
//!        signature,          session, user,      membership,           permissions,
//!        claims              epochs, expiry      tenant                roles
//! ```
//!
//! Every arrow refuses unless all holds, and each type can be made by its arrow only. Order matters where a stranger could learn
//! something: the membership is looked at before the tenant's state, so that only members learn that.
//!
//! A service account has no session and no membership: `access/workload.rs` says what its tokens are good for.
//!
//! **Rights = facts ∩ scope.** A *capped* token (one with a scope) has no roles and no superuser; a *narrowed* token (one without the
//! issuer among its audiences) has no superuser and is good only where its audience is named.

use std::sync::Arc;

use bytes::Bytes;

use self::workload::Workload;
use crate::{
    app::App,
    domain::{
        memory::{Digest, Freshness},
        tokens::{
            self, Kind,
            claims::{ExpiryRule, SubjectKind},
            jws,
        },
    },
    error::{Error, Result},
    store::{
        facts::{self, About, Facts},
        feed::Entity,
        memberships::{MembershipState, Standing},
        sessions::Session,
        tenants::{TenantKey, TenantState},
        users::{User, UserState},
    },
    values::{
        permission::{PermissionSet, Scope},
        time::Timestamp,
    },
};

mod scope;
mod subject;
pub mod workload;

pub use scope::{InstanceScope, Requirements, TenantScope, TenantView};
pub use subject::{Subject, Visible};

/// About how many bytes the wire makes of a principal, but for what may be long.
const SHOWN: u64 = 1_024;

/// What a token takes away from its subject's rights.
#[derive(Clone, Debug, Default)]
pub struct Powers {
    /// The token's scope, where it has one.
    cap: Option<PermissionSet>,
    narrowed: bool,
}

impl Powers {
    /// The powers of a session that is being opened or refreshed: only its scope limits them.
    #[must_use]
    pub const fn capped(cap: Option<PermissionSet>) -> Self {
        Self { cap, narrowed: false }
    }

    /// The powers of a narrowed token: its scope limits them, and it is no superuser's.
    #[must_use]
    pub const fn narrowed(cap: Option<PermissionSet>) -> Self {
        Self { cap, narrowed: true }
    }

    fn superuser(&self, user: &User) -> bool {
        user.superuser && !self.narrowed && self.cap.is_none()
    }
}

/// Whose tokens a method accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// People's.
    #[default]
    People,
    /// Service accounts'.
    Workloads,
    /// Both.
    Anybody,
}

/// What a method accepts of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accepts {
    /// Of which kind of principal.
    pub whose: Whose,
    /// Tokens without the issuer among their audiences.
    pub narrowed: bool,
    /// Tokens of a login that must change its password.
    pub must_change: bool,
}

impl Accepts {
    /// An ordinary token of a workload.
    pub const WORKLOAD: Self = Self { whose: Whose::Workloads, narrowed: false, must_change: false };

    /// Whether it takes tokens of this kind of principal at all.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`].
    fn judge_kind(self, kind: SubjectKind) -> Result<()> {
        let own = match kind {
            SubjectKind::User => Whose::People,
            SubjectKind::ServiceAccount => Whose::Workloads,
        };
        let is_taken = self.whose == Whose::Anybody || self.whose == own;
        if is_taken { Ok(()) } else { Err(Error::TokenInvalid) }
    }

    /// Whether a good token is good here.
    ///
    /// # Errors
    /// [`Error::PasswordChangeRequired`], [`Error::AudienceMismatch`].
    pub fn judge(self, token: &tokens::Presented, issuer: &str) -> Result<()> {
        if token.kind == Kind::PasswordChange && !self.must_change {
            return Err(Error::PasswordChangeRequired);
        }
        if !self.narrowed && !token.claims.has_audience(issuer) {
            return Err(Error::AudienceMismatch);
        }
        Ok(())
    }
}

/// Whoever a good token speaks for.
#[derive(Clone, Debug)]
pub enum Principal {
    /// A person, in a session.
    User(Arc<Subject>),
    /// A service account, by its token.
    ServiceAccount(Arc<Workload>, Arc<tokens::Presented>),
}

impl Principal {
    /// The token.
    #[must_use]
    pub fn token(&self) -> &tokens::Presented {
        match self {
            Self::User(subject) => &subject.token,
            Self::ServiceAccount(_, token) => token,
        }
    }

    /// What the wire makes of it, made once: of the principal, its token and the tenant that it was judged in.
    pub fn shown(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        let shown = match self {
            Self::User(subject) => &subject.shown,
            Self::ServiceAccount(workload, _) => &workload.shown,
        };
        shown.get_or_init(make).clone()
    }

    /// The same as it is remembered. `shared` answers one set for all that are equal.
    #[must_use]
    pub fn slim(&self, shared: &mut dyn FnMut(PermissionSet) -> Arc<PermissionSet>) -> Self {
        match self {
            Self::User(subject) => Self::User(Arc::new(subject.slim(shared))),
            // There are few of them.
            Self::ServiceAccount(..) => self.clone(),
        }
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        // And what the wire makes of it.
        SHOWN
            + match self {
                Self::User(subject) => subject.weight(),
                Self::ServiceAccount(workload, token) => workload.facts().weight() * 2 + token.weight(),
            }
    }

    /// What it was judged by, so that a change of any of it is one of the judgement; none where the tenant that was asked about is not
    /// there, or is none of the principal's: see [`crate::domain::memory`].
    #[must_use]
    pub fn entities(&self, about: &About) -> Option<Vec<Entity>> {
        match self {
            Self::User(subject) => subject.entities(about),
            Self::ServiceAccount(workload, _) => Some(workload.facts().entities().collect()),
        }
    }

    /// Judges somebody who was judged before, and about whom nothing changed since, in the order of the first time.
    fn judge_again(&self, app: &App, accepts: Accepts, now: Timestamp) -> Result<()> {
        let token = self.token();
        token.judge_time(now)?;
        accepts.judge_kind(token.claims.sub_kind)?;
        accepts.judge(token, &app.config.tokens.issuer)?;
        match self {
            Self::User(subject) => judge_session(&subject.facts, now),
            Self::ServiceAccount(..) => Ok(()),
        }
    }

    /// The tenant that the facts are about, if the principal may act in it. `asked` is the tenant that the request named.
    ///
    /// # Errors
    /// Those of [`Subject::tenant`] and [`Workload::tenant`].
    pub fn tenant(&self, asked: Option<&TenantKey>) -> Result<Option<Arc<TenantScope>>> {
        match self {
            Self::User(subject) => subject.tenant(asked),
            Self::ServiceAccount(workload, _) => workload.tenant(asked),
        }
    }

    /// Whether the requirement of being a superuser is met.
    ///
    /// # Errors
    /// [`Error::SuperuserRequired`].
    pub fn require_superuser(&self) -> Result<()> {
        match self {
            Self::User(subject) => subject.require_superuser(),
            Self::ServiceAccount(..) => Err(Error::SuperuserRequired),
        }
    }
}

/// Reads and judges a token of whichever kind of principal; a person's together with the facts about one tenant. From memory, where what it
/// holds is current enough.
///
/// # Errors
/// The reasons of `UNAUTHENTICATED`; for a token of a tenant also those of [`enter`].
pub async fn authenticate(
    app: &App,
    token: &str,
    accepts: Accepts,
    about: About,
    freshness: Freshness,
    now: Timestamp,
) -> Result<Principal> {
    // What is longer was never remembered, and is not worth a digest.
    if token.len() > jws::MAX_TOKEN_BYTES {
        return Err(Error::TokenInvalid);
    }
    let asked = (Digest::of(token), about);
    if let Some(principal) = app.memory.principal(app, &asked, freshness).await {
        principal.judge_again(app, accepts, now)?;
        return Ok(principal);
    }
    let position = app.store.feed().position();
    let token = tokens::read(app, token, ExpiryRule::Enforced, freshness, now).await?;
    let token = Arc::new(token);
    accepts.judge_kind(token.claims.sub_kind)?;
    let principal = match token.claims.sub_kind {
        SubjectKind::User => Principal::User(Arc::new(authenticate_user(app, token, accepts, asked.1.clone(), now).await?)),
        SubjectKind::ServiceAccount => Principal::ServiceAccount(Arc::new(workload::authenticate(app, &token, accepts).await?), token),
    };
    app.memory.keep_principal(asked, &principal, position);
    Ok(principal)
}

/// The same person with the facts about another tenant.
///
/// # Errors
/// Those of [`Subject::about`].
pub async fn in_tenant(
    app: &App,
    subject: &Subject,
    digest: Digest,
    key: &TenantKey,
    freshness: Freshness,
    now: Timestamp,
) -> Result<Arc<Subject>> {
    let asked = (digest, About::Tenant(key.clone()));
    if let Some(Principal::User(subject)) = app.memory.principal(app, &asked, freshness).await {
        judge_session(&subject.facts, now)?;
        return Ok(subject);
    }
    let position = app.store.feed().position();
    let subject = Arc::new(subject.about(app, key, now).await?);
    app.memory.keep_principal(asked, &Principal::User(Arc::clone(&subject)), position);
    Ok(subject)
}

async fn authenticate_user(app: &App, token: Arc<tokens::Presented>, accepts: Accepts, about: About, now: Timestamp) -> Result<Subject> {
    accepts.judge(&token, &app.config.tokens.issuer)?;
    let narrowed = !token.claims.has_audience(&app.config.tokens.issuer);
    let sid = token.claims.sid.ok_or(Error::TokenInvalid)?;
    // An exchanged token can be bound to a tenant that its session is not bound to.
    let about = match (about, token.claims.tid) {
        (About::Own, Some(tid)) => About::Tenant(TenantKey::Id(tid)),
        (about, _) => about,
    };
    let found = app.store.read("session_facts", about, move |db, about| async move { facts::find(&db, sid, &about).await }).await?;
    let facts = found.ok_or(Error::SessionRevoked)?;
    judge(&token, narrowed, &facts, now)?;
    let cap = match &token.claims.scope {
        Some(scope) => Scope::parse(scope).map_err(|_| Error::TokenInvalid)?,
        None => None,
    };
    Subject::judged(token, facts, Powers { cap, narrowed })
}

/// The session and its user, in the order in which the reasons help most.
fn judge(token: &tokens::Presented, narrowed: bool, facts: &Facts, now: Timestamp) -> Result<()> {
    let session = &facts.session;
    let is_exchanged = narrowed && session.tenant_id.is_none() && token.claims.tid.is_some();
    let fits = if is_exchanged { fits_but_for_tenant } else { fits };
    if !fits(token, session) {
        return Err(Error::TokenInvalid);
    }
    judge_session(facts, now)?;
    if token.claims.ver.iter().take(2).ne([&session.epochs.instance, &session.epochs.user]) {
        return Err(Error::SessionRevoked);
    }
    Ok(())
}

/// Whether a token is of this session at all: of its user, its kind and, but for one that is good for changing the password only, its
/// tenant.
#[must_use]
pub fn fits(token: &tokens::Presented, session: &Session) -> bool {
    let tid = if token.kind == Kind::PasswordChange { None } else { session.tenant_id };
    fits_but_for_tenant(token, session) && token.claims.tid == tid
}

fn fits_but_for_tenant(token: &tokens::Presented, session: &Session) -> bool {
    token.claims.sub == session.user_id.as_uuid() && (token.kind == Kind::PasswordChange) == session.must_change
}

/// Whether a session is live: its user active, not ended, not over, opened under the current epochs of instance and user. Idle expiry
/// is the refresh's to judge.
///
/// # Errors
/// [`Error::PrincipalDisabled`], [`Error::SessionRevoked`], [`Error::SessionExpired`].
pub fn judge_session(facts: &Facts, now: Timestamp) -> Result<()> {
    let Facts { session, user, instance_epoch, .. } = facts;
    if user.state != UserState::Active {
        return Err(Error::PrincipalDisabled);
    }
    if session.revoked_at.is_some() || session.epochs.user != user.epoch || session.epochs.instance != *instance_epoch {
        return Err(Error::SessionRevoked);
    }
    if session.expires_at <= now {
        return Err(Error::SessionExpired);
    }
    Ok(())
}

/// Whether a session is over for good: ended, past its time, or opened under an epoch that moved on. One whose user, tenant or membership
/// is only out of use can live again, and is not.
#[must_use]
pub fn is_over(facts: &Facts, now: Timestamp) -> bool {
    let Facts { session, user, instance_epoch, standing } = facts;
    let epochs = session.epochs;
    let tenant = standing.as_ref().map(|standing| standing.tenant.epoch);
    let membership = standing.as_ref().and_then(|standing| standing.membership.as_ref()).map(|membership| membership.epoch);
    session.revoked_at.is_some()
        || session.expires_at <= now
        || epochs.instance != *instance_epoch
        || epochs.user != user.epoch
        || epochs.tenant != tenant
        || (epochs.membership.is_some() && epochs.membership != membership)
}

/// Whether the epochs of tenant and membership that a session was opened under are still the current ones. A session without a
/// membership is a superuser's; losing that flag moves the user's epoch.
///
/// # Errors
/// [`Error::SessionRevoked`].
pub fn judge_tenant_epochs(facts: &Facts, scope: &TenantScope) -> Result<()> {
    let epochs = facts.session.epochs;
    let membership = scope.membership.as_ref().map(|membership| membership.epoch);
    let same = epochs.tenant == Some(scope.tenant.epoch) && (epochs.membership.is_none() || epochs.membership == membership);
    if same { Ok(()) } else { Err(Error::SessionRevoked) }
}

/// Whether a user may act in a tenant at all.
///
/// # Errors
/// In this order: [`Error::NotAMember`] (absent, invited or removed; tenant deleted or unknown), [`Error::MembershipSuspended`],
/// [`Error::TenantSuspended`].
pub fn enter(user: &User, standing: Option<Standing>, powers: &Powers) -> Result<TenantScope> {
    let Standing { tenant, membership, roles } = standing.filter(|s| s.tenant.state != TenantState::Deleted).ok_or(Error::NotAMember)?;
    let superuser = powers.superuser(user);
    let membership = match membership {
        Some(membership) if membership.state == MembershipState::Active => Some(membership),
        Some(membership) if membership.state == MembershipState::Suspended => return Err(Error::MembershipSuspended),
        _ if superuser => None,
        _ => return Err(Error::NotAMember),
    };
    if tenant.state != TenantState::Active {
        return Err(Error::TenantSuspended);
    }
    let held = if membership.is_some() { roles } else { Vec::new() };
    let (roles, permissions) = rights(held, powers.cap.as_ref());
    Ok(TenantScope { tenant, membership, roles, permissions: Arc::new(permissions), superuser })
}

/// Facts ∩ scope: the roles that may be shown, and the permissions that count.
#[must_use]
pub fn rights<R: AsRef<PermissionSet>>(roles: Vec<R>, cap: Option<&PermissionSet>) -> (Vec<R>, PermissionSet) {
    let all: PermissionSet = roles.iter().flat_map(|role| role.as_ref().iter().cloned()).collect();
    match cap {
        Some(cap) => (Vec::new(), all.intersect(cap)),
        None => (roles, all),
    }
}
