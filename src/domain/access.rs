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
//! **Rights = facts ∩ scope.** A *capped* token (one with a scope) has no roles and no superuser; a *narrowed* token (one without the
//! issuer among its audiences) has no superuser and is good only where its audience is named.

use crate::{
    app::App,
    domain::tokens::{self, Kind, claims::ExpiryRule},
    error::{Error, Result},
    store::{
        facts::{self, About, Facts},
        memberships::{Membership, MembershipState, Standing},
        roles::Role,
        sessions::Session,
        tenants::{Tenant, TenantKey, TenantState},
        users::{User, UserState},
    },
    values::{
        ids::TenantId,
        permission::{Permission, PermissionSet, Scope},
        time::Timestamp,
    },
};

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

/// A tenant that a subject may act in, and what it may do there. There is no other way to a tenant's data than one of these, and no
/// other way to one than [`enter`].
#[derive(Clone, Debug)]
pub struct TenantScope {
    tenant: Tenant,
    membership: Option<Membership>,
    roles: Vec<Role>,
    permissions: PermissionSet,
    superuser: bool,
}

/// Reads and judges a token, together with the facts about one tenant.
///
/// # Errors
/// The reasons of `UNAUTHENTICATED`; for a token of a tenant also those of [`enter`].
pub async fn authenticate(app: &App, token: &str, accepts: Accepts, about: About, now: Timestamp) -> Result<Subject> {
    let token = tokens::read(app, token, ExpiryRule::Enforced, now)?;
    accepts.judge(&token, &app.config.tokens.issuer)?;
    let narrowed = !token.claims.has_audience(&app.config.tokens.issuer);
    let sid = token.claims.sid.ok_or(Error::TokenInvalid)?;
    let found = app.store.read("session_facts", about, move |db, about| async move { facts::find(&db, sid, &about).await }).await?;
    let facts = found.ok_or(Error::SessionRevoked)?;
    judge(&token, &facts, now)?;
    let cap = match &token.claims.scope {
        Some(scope) => Scope::parse(scope).map_err(|_| Error::TokenInvalid)?,
        None => None,
    };
    let subject = Subject { token, facts, powers: Powers { cap, narrowed } };
    subject.judge_own_tenant()?;
    Ok(subject)
}

/// The session and its user, in the order in which the reasons help most.
fn judge(token: &tokens::Presented, facts: &Facts, now: Timestamp) -> Result<()> {
    let session = &facts.session;
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
    let (is_for_change, tid) = (token.kind == Kind::PasswordChange, token.claims.tid);
    token.claims.sub == session.user_id.as_uuid()
        && is_for_change == session.must_change
        && if is_for_change { tid.is_none() } else { tid == session.tenant_id }
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
        judge(&self.token, &facts, now)?;
        let subject = Self { facts, ..self.clone() };
        subject.judge_own_tenant()?;
        Ok(subject)
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
        judge_tenant_epochs(&self.facts, &scope)?;
        let epochs = self.facts.session.epochs;
        let said = [epochs.tenant.unwrap_or_default(), epochs.membership.unwrap_or_default()];
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

/// A tenant as answers show it to one of its members.
#[derive(Clone, Debug)]
pub struct TenantView {
    /// The tenant.
    pub tenant: Tenant,
    /// Where the subject's membership stands; none for a superuser who is no member.
    pub membership: Option<MembershipState>,
    /// The roles that may be shown.
    pub roles: Vec<Role>,
    /// What the subject may do.
    pub permissions: PermissionSet,
}

impl TenantView {
    /// An entry of a list. Where tenant or membership is not active there are no rights to show, whoever forgets to look at the state.
    #[must_use]
    pub fn listed(standing: Standing, powers: &Powers) -> Self {
        let membership = standing.membership.map(|membership| membership.state);
        let usable = standing.tenant.state == TenantState::Active && membership == Some(MembershipState::Active);
        let (roles, permissions) = rights(if usable { standing.roles } else { Vec::new() }, powers.cap.as_ref());
        Self { tenant: standing.tenant, membership, roles, permissions }
    }
}

impl From<TenantScope> for TenantView {
    fn from(scope: TenantScope) -> Self {
        let membership = scope.membership.map(|membership| membership.state);
        Self { tenant: scope.tenant, membership, roles: scope.roles, permissions: scope.permissions }
    }
}

/// What a request demands beside a good token.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// All of these.
    pub permissions: Vec<Permission>,
    /// One of these, if there are any.
    pub any_role: Vec<String>,
    /// The subject is a superuser.
    pub superuser: bool,
}

impl Requirements {
    /// Whether they need a tenant to be judged in.
    #[must_use]
    pub const fn need_tenant(&self) -> bool {
        !self.permissions.is_empty() || !self.any_role.is_empty()
    }
}

impl Subject {
    /// Whether the requirement of being a superuser is met.
    ///
    /// # Errors
    /// [`Error::SuperuserRequired`].
    pub fn require_superuser(&self) -> Result<()> {
        if self.powers.superuser(&self.facts.user) { Ok(()) } else { Err(Error::SuperuserRequired) }
    }
}

impl TenantScope {
    /// The tenant.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The membership; none for a superuser who is no member.
    #[must_use]
    pub const fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// The roles that may be shown.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Their names.
    #[must_use]
    pub fn role_names(&self) -> Vec<String> {
        self.roles.iter().map(|role| role.name.clone()).collect()
    }

    /// What the subject may do here by its roles.
    #[must_use]
    pub const fn permissions(&self) -> &PermissionSet {
        &self.permissions
    }

    /// Whether all that is required is there. Answers whether only the superuser flag made it so.
    ///
    /// # Errors
    /// [`Error::PermissionMissing`] with the first one that is, [`Error::RoleMissing`].
    pub fn require(&self, permissions: &[Permission], any_role: &[String]) -> Result<bool> {
        let missing = permissions.iter().find(|permission| !self.permissions.covers(permission));
        let role_held = any_role.is_empty() || self.roles.iter().any(|role| any_role.contains(&role.name));
        match (missing, role_held) {
            _ if self.superuser => Ok(self.membership.is_none() || missing.is_some() || !role_held),
            (Some(permission), _) => Err(Error::PermissionMissing(permission.to_string())),
            (None, false) => Err(Error::RoleMissing),
            (None, true) => Ok(false),
        }
    }
}
