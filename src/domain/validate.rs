//! `ValidateSession`: one call that answers session, tenant, membership and any number of requirements.

use super::access::{self, Accepts, Principal, Requirements, TenantScope, TenantView};
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
}

/// The answer to a good token.
#[derive(Debug)]
pub struct Answer {
    /// Whom it speaks for.
    pub principal: Principal,
    /// The tenant that the request is about.
    pub tenant: Option<TenantView>,
    /// The subject's tenants.
    pub tenants: Vec<TenantView>,
    /// Whether there are more.
    pub more_tenants: bool,
    /// Whether only the superuser flag made it a yes.
    pub superuser_access: bool,
}

/// Judges a token.
///
/// # Errors
/// In this order: the reasons of [`access::authenticate`] (for a token of a tenant also those of [`access::enter`]),
/// [`Error::AudienceMismatch`], those of [`access::enter`] for the tenant of the question, [`Error::SuperuserRequired`],
/// [`Error::InvalidField`] for requirements without a tenant, [`Error::PermissionMissing`], [`Error::RoleMissing`].
pub async fn validate(app: &App, token: &str, accepts: Accepts, question: Question, now: Timestamp) -> Result<Answer> {
    let about = question.tenant.clone().map_or(About::Own, About::Tenant);
    let principal = access::authenticate(app, token, accepts, about, now).await?;
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
    let (tenants, more_tenants) = if question.include_tenants { listed(app, &principal).await? } else { (Vec::new(), false) };
    Ok(Answer { tenant: scope.map(TenantScope::into), principal, tenants, more_tenants, superuser_access })
}

async fn listed(app: &App, principal: &Principal) -> Result<(Vec<TenantView>, bool)> {
    match principal {
        Principal::User(subject) => {
            super::tenants::first_page(app, subject.facts.user.id, subject.visible(), subject.powers(), MAX_TENANTS).await
        }
        Principal::ServiceAccount(workload, _) => Ok((workload.tenants()?, false)),
    }
}
