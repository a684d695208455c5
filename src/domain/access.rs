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

use std::time::Duration;

use self::workload::Workload;
use crate::{
    app::App,
    domain::tokens::{
        self, Kind,
        claims::{ExpiryRule, SubjectKind},
    },
    error::{Error, Result},
    store::{
        facts::{self, About, Facts},
        memberships::{MembershipState, Standing},
        sessions::Session,
        tenants::{TenantKey, TenantState},
        users::{User, UserState},
    },
    values::{
        ids::TenantId,
        permission::{PermissionSet, Scope},
        time::Timestamp,
    },
};

mod scope;
pub mod workload;

pub use scope::{InstanceScope, Requirements, TenantScope, TenantView};

/// A login that is older does not count as recent.
const RECENT: Duration = Duration::from_mins(10);
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

/// What a method accepts of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accepts {
    /// Tokens without the issuer among their audiences.
    pub narrowed: bool,
    /// Tokens of a login that must change its password.
    pub must_change: bool,
    /// Tokens of service accounts.
    pub service_accounts: bool,
}

impl Accepts {
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

/// Whom a good token speaks for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The token.
    pub token: tokens::Presented,
    /// What the database says.
    pub facts: Facts,
    powers: Powers,
}

/// Whoever a good token speaks for.
#[derive(Clone, Debug)]
pub enum Principal {
    /// A person, in a session.
    User(Box<Subject>),
    /// A service account, by its token.
    ServiceAccount(Box<Workload>, Box<tokens::Presented>),
}

impl Principal {
    /// The token.
    #[must_use]
    pub const fn token(&self) -> &tokens::Presented {
        match self {
            Self::User(subject) => &subject.token,
            Self::ServiceAccount(_, token) => token,
        }
    }

    /// The tenant that the facts are about, if the principal may act in it. `asked` is the tenant that the request named.
    ///
    /// # Errors
    /// Those of [`Subject::tenant`] and [`Workload::tenant`].
    pub fn tenant(&self, asked: Option<&TenantKey>) -> Result<Option<TenantScope>> {
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

/// Reads and judges a token of whichever kind of principal; a person's together with the facts about one tenant.
///
/// # Errors
/// The reasons of `UNAUTHENTICATED`; for a token of a tenant also those of [`enter`].
pub async fn authenticate(app: &App, token: &str, accepts: Accepts, about: About, now: Timestamp) -> Result<Principal> {
    let token = tokens::read(app, token, ExpiryRule::Enforced, now).await?;
    match token.claims.sub_kind {
        SubjectKind::User => Ok(Principal::User(Box::new(authenticate_user(app, token, accepts, about, now).await?))),
        SubjectKind::ServiceAccount if accepts.service_accounts => {
            let workload = workload::authenticate(app, &token, accepts).await?;
            Ok(Principal::ServiceAccount(Box::new(workload), Box::new(token)))
        }
        SubjectKind::ServiceAccount => Err(Error::TokenInvalid),
    }
}

async fn authenticate_user(app: &App, token: tokens::Presented, accepts: Accepts, about: About, now: Timestamp) -> Result<Subject> {
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
    let subject = Subject { token, facts, powers: Powers { cap, narrowed } };
    subject.judge_own_tenant()?;
    Ok(subject)
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
    Ok(TenantScope { tenant, membership, roles, permissions, superuser })
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

impl Subject {
    /// The user as answers may show it: narrowed and capped tokens carry no superuser.
    #[must_use]
    pub fn user(&self) -> User {
        User { superuser: self.powers.superuser(&self.facts.user), ..self.facts.user.clone() }
    }

    /// The same subject with newer facts, possibly about another tenant. They are judged like the first ones: what ended since then ends
    /// the call.
    ///
    /// # Errors
    /// Those of [`authenticate`] that the database decides.
    pub fn with_facts(&self, facts: Facts, now: Timestamp) -> Result<Self> {
        judge(&self.token, self.powers.narrowed, &facts, now)?;
        let subject = Self { facts, ..self.clone() };
        subject.judge_own_tenant()?;
        Ok(subject)
    }

    /// The same subject with the facts about a tenant, as they are now.
    ///
    /// # Errors
    /// Those of [`Subject::with_facts`].
    pub async fn about(&self, app: &App, key: &TenantKey, now: Timestamp) -> Result<Self> {
        let (session, about) = (self.facts.session.id, About::Tenant(key.clone()));
        let unit = move |db, about| async move { facts::find(&db, session, &about).await };
        let found = app.store.read("tenant_facts", about, unit).await?;
        self.with_facts(found.ok_or(Error::SessionRevoked)?, now)
    }

    /// What the token takes away.
    #[must_use]
    pub const fn powers(&self) -> &Powers {
        &self.powers
    }

    /// Which of the user's tenants a list may show: a narrowed token knows only its own.
    #[must_use]
    pub fn visible(&self) -> Visible {
        match (self.powers.narrowed, self.token.claims.tid) {
            (false, _) => Visible::All,
            (true, Some(tid)) => Visible::Only(tid),
            (true, None) => Visible::Nothing,
        }
    }

    /// The tenant that the facts are about, if the subject may act in it. `asked` is the tenant that the request named.
    ///
    /// # Errors
    /// Those of [`enter`]; a token of one tenant that is asked about another answers [`Error::NotAMember`].
    pub fn tenant(&self, asked: Option<&TenantKey>) -> Result<Option<TenantScope>> {
        if asked.is_none() && self.token.claims.tid.is_none() {
            return Ok(None);
        }
        let foreign = |standing: &Standing| self.token.claims.tid.is_some_and(|tid| tid != standing.tenant.id);
        let standing = self.facts.standing.clone();
        if standing.as_ref().is_some_and(foreign) {
            return Err(Error::NotAMember);
        }
        enter(&self.facts.user, standing, &self.powers).map(Some)
    }

    /// A token of a tenant is good only while its tenant and membership are; whatever it is presented for.
    fn judge_own_tenant(&self) -> Result<()> {
        if self.token.claims.tid.is_none() {
            return Ok(());
        }
        let Some(scope) = self.tenant(None)? else { return Ok(()) };
        let said = if self.facts.session.tenant_id.is_some() {
            judge_tenant_epochs(&self.facts, &scope)?;
            let epochs = self.facts.session.epochs;
            [epochs.tenant.unwrap_or_default(), epochs.membership.unwrap_or_default()]
        } else {
            scope.epochs()
        };
        if self.token.claims.ver.iter().skip(2).eq(&said) { Ok(()) } else { Err(Error::SessionRevoked) }
    }
}

/// Which of a user's tenants a list may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Every one.
    All,
    /// This one.
    Only(TenantId),
    /// None.
    Nothing,
}

impl Subject {
    /// Whether the login behind the token is of the last ten minutes.
    ///
    /// # Errors
    /// [`Error::ReauthenticationRequired`].
    pub fn require_recent_login(&self, now: Timestamp) -> Result<()> {
        let is_recent = self.token.claims.auth_time.is_some_and(|login| now <= login.plus(RECENT));
        if is_recent { Ok(()) } else { Err(Error::ReauthenticationRequired) }
    }

    /// Whether the requirement of being a superuser is met.
    ///
    /// # Errors
    /// [`Error::SuperuserRequired`].
    pub fn require_superuser(&self) -> Result<()> {
        if self.powers.superuser(&self.facts.user) { Ok(()) } else { Err(Error::SuperuserRequired) }
    }
}
