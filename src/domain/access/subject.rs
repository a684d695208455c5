//! A person whom a good token speaks for: the token, the facts, and what they may do by the two.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;

use super::{Powers, TenantScope, enter, judge, judge_tenant_epochs};
use crate::{
    app::App,
    domain::tokens,
    error::{Error, Result},
    store::{
        facts::{self, About, Facts},
        feed::Entity,
        roles::Role,
        tenants::TenantKey,
        users::User,
    },
    values::{ids::TenantId, permission::PermissionSet, time::Timestamp},
};

/// A login that is older does not count as recent.
const RECENT: Duration = Duration::from_mins(10);
/// Whom a good token speaks for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The token.
    pub token: Arc<tokens::Presented>,
    /// What the database says.
    pub facts: Facts,
    powers: Powers,
    /// The tenant that the facts are about, where the subject may act in it: worked out once, since it is asked for at every request.
    entered: Option<Arc<TenantScope>>,
    pub(super) shown: OnceLock<Bytes>,
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
    pub(super) fn judged(token: Arc<tokens::Presented>, facts: Facts, powers: Powers) -> Result<Self> {
        // Whoever may not enter is told why when they ask for it.
        let entered = facts.standing.clone().and_then(|standing| enter(&facts.user, Some(standing), &powers).ok()).map(Arc::new);
        let subject = Self { token, facts, powers, entered, shown: OnceLock::new() };
        subject.judge_own_tenant()?;
        Ok(subject)
    }

    /// The same subject as it is remembered: of the tenant there is what the subject may do in it, and no longer what that was made of. It
    /// answers questions, and can be entered with no other powers.
    pub(super) fn slim(&self, shared: &mut dyn FnMut(PermissionSet) -> Arc<PermissionSet>) -> Self {
        let Some(scope) = &self.entered else { return self.clone() };
        let facts = Facts {
            session: self.facts.session.clone(),
            user: self.facts.user.clone(),
            instance_epoch: self.facts.instance_epoch,
            standing: None,
        };
        let entered = Some(Arc::new(scope.slim(shared)));
        Self { token: Arc::clone(&self.token), facts, powers: self.powers.clone(), entered, shown: OnceLock::new() }
    }

    pub(super) fn weight(&self) -> u64 {
        let Facts { user, standing, .. } = &self.facts;
        let standing =
            standing.as_ref().map_or(0, |standing| standing.tenant.weight() + standing.roles.iter().map(Role::weight).sum::<u64>());
        let entered = self.entered.as_ref().map_or(0, |scope| scope.weight());
        self.token.weight() + 1_024 + user.attributes.to_string().len() as u64 * 2 + standing + entered
    }

    pub(super) fn entities(&self, about: &About) -> Option<Vec<Entity>> {
        let Facts { session, user, .. } = &self.facts;
        let is_tenant_asked = matches!(about, About::Tenant(_)) || session.tenant_id.is_some() || self.token.claims.tid.is_some();
        let is_of_it = self.entered.is_some() || self.facts.standing.as_ref().is_some_and(|standing| standing.membership.is_some());
        if is_tenant_asked && !is_of_it {
            return None;
        }
        let tenant = self.known_tenant().map(Entity::Tenant);
        let own = [Entity::Instance, Entity::User(user.id), Entity::Session(session.id)];
        Some(own.into_iter().chain(tenant).collect())
    }

    /// The user as answers may show it: narrowed and capped tokens carry no superuser.
    #[must_use]
    pub fn user(&self) -> User {
        User { superuser: self.powers.superuser(&self.facts.user), ..self.facts.user.clone() }
    }

    /// The same subject with newer facts, possibly about another tenant. They are judged like the first ones: what ended since then ends
    /// the call.
    ///
    /// # Errors
    /// Those of [`super::authenticate`] that the database decides.
    pub fn with_facts(&self, facts: Facts, now: Timestamp) -> Result<Self> {
        judge(&self.token, self.powers.narrowed, &facts, now)?;
        Self::judged(Arc::clone(&self.token), facts, self.powers.clone())
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
    pub fn tenant(&self, asked: Option<&TenantKey>) -> Result<Option<Arc<TenantScope>>> {
        if asked.is_none() && self.token.claims.tid.is_none() {
            return Ok(None);
        }
        if self.known_tenant().is_some_and(|known| self.token.claims.tid.is_some_and(|tid| tid != known)) {
            return Err(Error::NotAMember);
        }
        match &self.entered {
            Some(scope) => Ok(Some(Arc::clone(scope))),
            None => enter(&self.facts.user, self.facts.standing.clone(), &self.powers).map(|scope| Some(Arc::new(scope))),
        }
    }

    /// The tenant that the facts are about, if there is one.
    fn known_tenant(&self) -> Option<TenantId> {
        let entered = self.entered.as_ref().map(|scope| scope.tenant().id);
        entered.or_else(|| self.facts.standing.as_ref().map(|standing| standing.tenant.id))
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
