//! Service accounts as principals: what a token, a certificate or a secret of one is good for.
//!
//! An account of a tenant acts in that tenant alone, by its roles; an instance-wide one acts in none, and holds permissions of its own for
//! Doorward's SERVICE and OPERATOR methods. None is ever a superuser.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Accepts, Powers, TenantScope, TenantView, rights};
use crate::{
    app::App,
    domain::tokens,
    error::{Error, Result},
    store::{
        account_facts::{self, AccountFacts},
        service_accounts::{AccountState, ServiceAccount},
        tenants::{TenantKey, TenantState},
    },
    values::{
        ids::ServiceAccountId,
        permission::{Permission, PermissionSet, Scope},
    },
};

/// A service account that was proved, by a token or otherwise.
#[derive(Clone, Debug)]
pub struct Workload {
    facts: AccountFacts,
    powers: Powers,
    /// Its tenant, and what it may do there: worked out once.
    entered: Option<Arc<TenantScope>>,
    pub(super) shown: OnceLock<Bytes>,
}

impl Workload {
    /// A service account that something else than a token proves: a certificate, or a secret that is exchanged for a token of this scope.
    ///
    /// # Errors
    /// [`Error::PrincipalDisabled`]; [`Error::NotAMember`] and [`Error::TenantSuspended`] for the state of its tenant.
    pub fn proved(facts: AccountFacts, scope: Option<PermissionSet>) -> Result<Self> {
        judge(&facts)?;
        Ok(Self::judged(facts, Powers::capped(scope)))
    }

    fn judged(facts: AccountFacts, powers: Powers) -> Self {
        let entered = facts.tenant.clone().map(|tenant| {
            let (roles, permissions) = rights(facts.roles.clone(), powers.cap.as_ref());
            Arc::new(TenantScope { tenant, membership: None, roles, permissions: Arc::new(permissions), superuser: false })
        });
        Self { facts, powers, entered, shown: OnceLock::new() }
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> &ServiceAccount {
        &self.facts.account
    }

    /// What the database says.
    #[must_use]
    pub const fn facts(&self) -> &AccountFacts {
        &self.facts
    }

    /// The account's tenant and what it may do there; none for an instance-wide one. `asked` is the tenant that a request names.
    ///
    /// # Errors
    /// [`Error::NotAMember`] where that is another one.
    pub fn tenant(&self, asked: Option<&TenantKey>) -> Result<Option<Arc<TenantScope>>> {
        let Some(scope) = &self.entered else {
            return if asked.is_none() { Ok(None) } else { Err(Error::NotAMember) };
        };
        if asked.is_some_and(|key| !scope.tenant.is_named(key)) {
            return Err(Error::NotAMember);
        }
        Ok(Some(Arc::clone(scope)))
    }

    /// What the account may do for the instance: nothing, where it belongs to a tenant.
    #[must_use]
    pub fn instance_permissions(&self) -> PermissionSet {
        let own = if self.facts.account.tenant_id.is_none() { self.facts.account.permissions.clone() } else { PermissionSet::default() };
        match &self.powers.cap {
            Some(cap) => own.intersect(cap),
            None => own,
        }
    }

    /// Whether the account may do this for the instance.
    #[must_use]
    pub fn holds(&self, permission: &Permission) -> bool {
        self.instance_permissions().covers(permission)
    }

    /// Its tenant as lists show it: the one entry that there is, or none.
    ///
    /// # Errors
    /// None, as long as no tenant is asked for.
    pub fn tenants(&self) -> Result<Vec<TenantView>> {
        Ok(self.tenant(None)?.as_deref().into_iter().map(TenantView::from).collect())
    }
}

/// Judges a service account's token.
///
/// # Errors
/// [`Error::TokenInvalid`] for one of another tenant than the account's; the reasons of [`Accepts::judge`]; [`Error::PrincipalDisabled`]; [`Error::SessionRevoked`] where
/// an epoch moved on; [`Error::NotAMember`] and [`Error::TenantSuspended`] for the state of its tenant.
pub(super) async fn authenticate(app: &App, token: &tokens::Presented, accepts: Accepts) -> Result<Workload> {
    let claims = &token.claims;
    accepts.judge(token, &app.config.tokens.issuer)?;
    let id = ServiceAccountId::from_uuid(claims.sub);
    let found = app.store.read("account_facts", id, |db, id| async move { account_facts::find(&db, id).await }).await?;
    let facts = found.ok_or(Error::PrincipalDisabled)?;
    if claims.tid != facts.account.tenant_id {
        return Err(Error::TokenInvalid);
    }
    judge(&facts)?;
    if claims.ver != epochs(&facts) {
        return Err(Error::SessionRevoked);
    }
    let cap = match &claims.scope {
        Some(scope) => Scope::parse(scope).map_err(|_| Error::TokenInvalid)?,
        None => None,
    };
    Ok(Workload::judged(facts, Powers { cap, narrowed: !claims.has_audience(&app.config.tokens.issuer) }))
}

/// What a token of the account is made under; it is good while each is still the current one. An account has no membership.
#[must_use]
pub fn epochs(facts: &AccountFacts) -> Vec<i64> {
    let mut epochs = vec![facts.instance_epoch, facts.account.epoch];
    if let Some(tenant) = &facts.tenant {
        epochs.extend([tenant.epoch, 0]);
    }
    epochs
}

/// Whether the account may act at all.
fn judge(facts: &AccountFacts) -> Result<()> {
    if facts.account.state != AccountState::Active {
        return Err(Error::PrincipalDisabled);
    }
    // The key between the two tables keeps an account from losing its tenant; should it ever, it is not taken for an instance-wide one.
    if facts.account.tenant_id != facts.tenant.as_ref().map(|tenant| tenant.id) {
        return Err(Error::internal("a service account without its tenant"));
    }
    match facts.tenant.as_ref().map(|tenant| tenant.state) {
        None | Some(TenantState::Active) => Ok(()),
        Some(TenantState::Suspended | TenantState::Unknown) => Err(Error::TenantSuspended),
        Some(TenantState::Deleted) => Err(Error::NotAMember),
    }
}
