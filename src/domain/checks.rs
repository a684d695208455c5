//! `CheckAccess` and its relatives: what the subject of a token may do, as a yes or no.
//!
//! A token that is not good is an error. A token that is good and does not get in is a no, with its reason: what `PERMISSION_DENIED` says
//! elsewhere. The one thing between is a token of a tenant that is not good in its own tenant any more: it is good nowhere, and an error.
//!
//! The facts of each tenant come from memory as far as that is current, and else are read in one statement, once for all questions about it.

use std::sync::Arc;

use super::{
    access::{self, Accepts, Principal, TenantScope},
    memory::{Digest, Freshness},
};
use crate::{
    app::App,
    error::{Code, Error, Result},
    store::{facts::About, tenants::TenantKey},
    values::{
        permission::{Permission, PermissionSet},
        time::Timestamp,
    },
};

/// The most different tenants that one call may ask about: each is a statement.
const MAX_TENANTS: usize = 100;

const NO_TENANT: &str = "is needed: the token is bound to no tenant";
/// Of a tenant that was asked about and not entered: none is, but this is no place for a yes.
const NOWHERE: &str = "NOT_A_MEMBER";

/// A tenant that the subject may act in, or the name of the reason why not.
type Entered = Result<Arc<TenantScope>, &'static str>;

/// Something that may be done in a tenant or not.
#[derive(Clone, Debug)]
pub struct Check {
    /// The tenant; none for the token's own.
    pub tenant: Option<TenantKey>,
    /// What is to be done.
    pub permission: Permission,
}

/// Whose rights are asked for.
#[derive(Clone, Debug)]
pub struct Whom {
    /// The token.
    pub token: String,
    /// What the method accepts.
    pub accepts: Accepts,
    /// The audience that the token must have; none for the issuer.
    pub audience: Option<String>,
    /// How current the answer must be.
    pub freshness: Freshness,
}

/// Whether it may be done.
#[derive(Debug)]
pub enum Decision {
    /// Yes.
    Allowed {
        /// Whether only the superuser flag made it so.
        superuser_access: bool,
    },
    /// No, for the reason of this name.
    Denied(&'static str),
}

/// What a subject may do in a tenant.
#[derive(Debug)]
pub struct Rights {
    /// By its roles, capped by the token's scope.
    pub permissions: PermissionSet,
    /// The names of the roles that may be shown.
    pub roles: Vec<String>,
    /// Whether it may do everything.
    pub superuser: bool,
}

/// Decides each of some questions, in their order. `field` names the place of a question in the request.
///
/// # Errors
/// The reasons of [`access::authenticate`], [`Error::AudienceMismatch`]; [`Error::InvalidField`] for a question without a tenant where the
/// token has none, and for too many different ones.
pub async fn decide(app: &App, whom: Whom, checks: &[Check], field: fn(usize) -> String, now: Timestamp) -> Result<Vec<Decision>> {
    let mut tenants: Vec<&Option<TenantKey>> = Vec::new();
    for check in checks {
        if !tenants.contains(&&check.tenant) {
            tenants.push(&check.tenant);
        }
        if tenants.len() > MAX_TENANTS {
            return Err(Error::field("checks", format!("must be about at most {MAX_TENANTS} different tenants")));
        }
    }
    let Some(first) = tenants.first() else { return Ok(Vec::new()) };
    let (principal, first) = authenticate(app, &whom, (*first).clone(), now).await?;
    let mut first = Some(first);
    let mut entered: Vec<(&Option<TenantKey>, Entered)> = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let scope = match first.take() {
            Some(first) => first,
            None => enter(app, &whom, &principal, tenant.as_ref(), now).await,
        };
        let scope = match scope {
            Ok(Some(scope)) => Ok(scope),
            Ok(None) => {
                let place = checks.iter().position(|check| check.tenant.is_none()).map(field).unwrap_or_default();
                return Err(Error::field(format!("{place}.tenant_id"), NO_TENANT));
            }
            Err(error) if error.reason().1 == Code::PermissionDenied => Err(error.reason().0),
            Err(error) => return Err(error),
        };
        entered.push((tenant, scope));
    }
    let decision = |check: &Check| {
        let scope = entered.iter().find(|(tenant, _)| **tenant == check.tenant).map_or(&Err(NOWHERE), |(_, scope)| scope);
        match scope.as_ref().map(|scope| scope.require(std::slice::from_ref(&check.permission), &[])) {
            Ok(Ok(superuser_access)) => Decision::Allowed { superuser_access },
            Ok(Err(error)) => Decision::Denied(error.reason().0),
            Err(reason) => Decision::Denied(reason),
        }
    };
    Ok(checks.iter().map(decision).collect())
}

/// What a subject may do in a tenant.
///
/// # Errors
/// The reasons of [`access::authenticate`], [`Error::AudienceMismatch`], [`Error::InvalidField`] where no tenant is meant; those of
/// [`access::enter`].
pub async fn rights(app: &App, whom: Whom, tenant: Option<TenantKey>, now: Timestamp) -> Result<Rights> {
    let (_, scope) = authenticate(app, &whom, tenant, now).await?;
    let scope = scope?.ok_or_else(|| Error::field("tenant_id", NO_TENANT))?;
    Ok(Rights { permissions: scope.permissions().clone(), roles: scope.role_names(), superuser: scope.is_superuser() })
}

/// The subject, and what it may do in the tenant that is asked about first.
async fn authenticate(
    app: &App,
    whom: &Whom,
    tenant: Option<TenantKey>,
    now: Timestamp,
) -> Result<(Principal, Result<Option<Arc<TenantScope>>>)> {
    let Whom { token, accepts, audience, freshness } = whom;
    let about = tenant.clone().map_or(About::Own, About::Tenant);
    let (principal, scope) = match access::authenticate(app, token, *accepts, about, *freshness, now).await {
        Ok(principal) => {
            let scope = principal.tenant(tenant.as_ref());
            (principal, scope)
        }
        // A token of another tenant, which may be good there: then it is a no, and else an error.
        Err(Error::NotAMember) if tenant.is_some() => {
            (access::authenticate(app, token, *accepts, About::Own, *freshness, now).await?, Err(Error::NotAMember))
        }
        Err(error) => return Err(error),
    };
    let audience = audience.as_deref().unwrap_or(&app.config.tokens.issuer);
    if principal.token().claims.has_audience(audience) { Ok((principal, scope)) } else { Err(Error::AudienceMismatch) }
}

/// What the subject may do in a further tenant.
async fn enter(
    app: &App,
    whom: &Whom,
    principal: &Principal,
    tenant: Option<&TenantKey>,
    now: Timestamp,
) -> Result<Option<Arc<TenantScope>>> {
    let own = principal.token().claims.tid.map(TenantKey::Id);
    match (principal, tenant.or(own.as_ref())) {
        (Principal::User(subject), Some(key)) => {
            access::in_tenant(app, subject, Digest::of(&whom.token), key, whom.freshness, now).await?.tenant(Some(key))
        }
        (Principal::User(_), None) => Ok(None),
        (Principal::ServiceAccount(workload, _), _) => workload.tenant(tenant),
    }
}
