//! `ValidateSession`: one call that answers session, tenant, membership and any number of requirements.

use std::sync::Arc;

use super::{
    access::{self, Accepts, Principal, Requirements, TenantScope},
    memory::{Digest, Freshness, Listed},
};
use crate::{
    app::App,
    error::{Error, Result},
    store::{facts::About, tenants::TenantKey},
    values::time::Timestamp,
};

/// The most tenants that an answer lists.
const MAX_TENANTS: usize = 100;

/// What a backend wants to know of a token.
#[derive(Debug)]
pub struct Question {
    /// The tenant that the request is about.
    pub tenant: Option<TenantKey>,
    /// What must hold.
    pub requirements: Requirements,
    /// The audience that the token must have; none for the issuer.
    pub audience: Option<String>,
    /// Whether to list the subject's tenants.
    pub include_tenants: bool,
    /// How current the answer must be.
    pub freshness: Freshness,
}

/// The answer to a good token.
#[derive(Debug)]
pub struct Answer {
    /// Whom it speaks for.
    pub principal: Principal,
    /// The tenant that the request is about.
    pub tenant: Option<Arc<TenantScope>>,
    /// The subject's tenants, where they were asked for, and whether there are more.
    pub tenants: Option<Arc<Listed>>,
    /// Whether only the superuser flag made it a yes.
    pub superuser_access: bool,
    /// Until when it is as good as one that is asked for anew, in milliseconds of Unix time.
    pub fresh_until: u64,
}

/// Judges a token.
///
/// # Errors
/// In this order: the reasons of [`access::authenticate`] (for a token of a tenant also those of [`access::enter`]),
/// [`Error::AudienceMismatch`], those of [`access::enter`] for the tenant of the question, [`Error::SuperuserRequired`],
/// [`Error::InvalidField`] for requirements without a tenant, [`Error::PermissionMissing`], [`Error::RoleMissing`].
pub async fn validate(app: &App, token: &str, accepts: Accepts, question: Question, now: Timestamp) -> Result<Answer> {
    let about = question.tenant.clone().map_or(About::Own, About::Tenant);
    let fresh_until = fresh_until(app, question.freshness);
    let principal = access::authenticate(app, token, accepts, about, question.freshness, now).await?;
    let audience = question.audience.as_deref().unwrap_or(&app.config.tokens.issuer);
    if !principal.token().claims.has_audience(audience) {
        return Err(Error::AudienceMismatch);
    }
    let scope = principal.tenant(question.tenant.as_ref())?;
    let requirements = &question.requirements;
    if requirements.superuser {
        principal.require_superuser()?;
    }
    let superuser_access = match &scope {
        Some(scope) => scope.require(&requirements.permissions, &requirements.any_role)?,
        None if requirements.need_tenant() => return Err(Error::field("tenant_id", "is needed for permissions and any_role")),
        None => false,
    };
    let tenants = if question.include_tenants { Some(listed(app, token, &principal, question.freshness).await?) } else { None };
    Ok(Answer { tenant: scope, principal, tenants, superuser_access, fresh_until })
}

/// What was known when the last completed poll of the changes began may be used for `freshness.max_staleness` from then on, by whom ever: an
/// answer that is used again until then is no older than one from here may be. To be asked before the facts are.
fn fresh_until(app: &App, freshness: Freshness) -> u64 {
    let limit = app.config.freshness.max_staleness;
    let age = match freshness {
        Freshness::Bounded => app.store.feed().age().filter(|age| *age <= limit),
        Freshness::Since(_) => None,
    };
    let left = limit.saturating_sub(age.unwrap_or_default());
    app.clock.now_millis().saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

async fn listed(app: &App, token: &str, principal: &Principal, freshness: Freshness) -> Result<Arc<Listed>> {
    let subject = match principal {
        Principal::User(subject) => subject,
        Principal::ServiceAccount(workload, _) => return Ok(Arc::new((workload.tenants()?, false))),
    };
    let digest = Digest::of(token);
    if let Some(listed) = app.memory.list(app, digest, freshness).await {
        return Ok(listed);
    }
    let position = app.store.feed().position();
    let page = super::tenants::first_page(app, subject.facts.user.id, subject.visible(), subject.powers(), MAX_TENANTS).await?;
    let listed = Arc::new(page);
    app.memory.keep_list(digest, principal, &listed, position);
    Ok(listed)
}
