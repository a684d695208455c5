//! The grant `client_credentials` (RFC 6749, section 4.4): a service account's secret for an access token. There is no session and no refresh
//! token: whoever holds the secret asks again.
//!
//! Unknown account, another account's secret, a removed or expired one, a disabled account: one answer, as for passwords. A string that is
//! no secret of ours never reaches the database. Only after the secret was right is anything said about the account's tenant.
//!
//! Not audited: a workload asks every few minutes, and opens no session. `doorward_client_credentials_total` counts, a refusal of a secret of
//! ours is logged with its id, and the secret's row says when it was last used.

use super::{
    access::workload::Workload,
    audit::Origin,
    tokens::{self, TokenSet, Wanted},
};
use crate::{
    app::App,
    ctx::tenant_key,
    error::{Error, Result},
    metrics::Credentials as Counted,
    store::{account_facts, account_facts::AccountFacts, service_account_secrets, service_account_secrets::AccountSecret},
    values::{ids::ServiceAccountId, opaque::ClientSecret, secret, time::Timestamp},
};
use std::time::Duration;

/// The time of the last use is kept to the minute: a write for each token would make every token one.
const USE_PRECISION: Duration = Duration::from_mins(1);

/// What a workload asks with.
#[derive(Debug)]
pub struct Request {
    /// The service account's id.
    pub client_id: String,
    /// One of its secrets.
    pub client_secret: String,
    /// Empty, or the account's tenant, as the request names it.
    pub tenant_id: String,
    /// Cap and audiences.
    pub wanted: Wanted,
    /// Where the call comes from.
    pub origin: Origin,
}

/// Exchanges a secret for an access token. It is for the issuer alone or, where audiences are asked for, for exactly those.
///
/// # Errors
/// [`Error::InvalidCredentials`]; then [`Error::InvalidField`], [`Error::NotAMember`] and [`Error::TenantSuspended`] for the tenant.
pub async fn issue(app: &App, request: Request) -> Result<TokenSet> {
    let outcome = buy(app, request).await;
    match &outcome {
        Ok(_) => app.metrics.client_credentials(Counted::Issued),
        // An outage is no refusal, nor is a request that asks for something odd.
        Err(Error::InvalidCredentials | Error::NotAMember | Error::TenantSuspended) => app.metrics.client_credentials(Counted::Refused),
        Err(_) => {}
    }
    outcome
}

async fn buy(app: &App, request: Request) -> Result<TokenSet> {
    let now = request.origin.time;
    check_audience(app, &request.wanted)?;
    let (facts, used) = prove(app, &request).await?;
    let workload = Workload::proved(facts, request.wanted.scope.clone()).map_err(|error| match error {
        Error::PrincipalDisabled => Error::InvalidCredentials,
        other => other,
    })?;
    let scope = workload.tenant(tenant_key(&request.tenant_id)?.as_ref())?;
    let (access_token, expires_in) = tokens::mint_for_account(app, workload.facts(), scope.as_deref(), &request.wanted, now).await?;
    remember_use(app, &used, now).await;
    Ok(TokenSet { access_token, expires_in, refresh_token: None, scope: request.wanted.scope })
}

/// A token for Doorward itself is for nobody else: whoever it is sent to could act here with it.
fn check_audience(app: &App, wanted: &Wanted) -> Result<()> {
    let is_mixed = wanted.audience.len() > 1 && wanted.audience.contains(&app.config.tokens.issuer);
    if is_mixed { Err(Error::field("audience", "must not name the issuer beside others")) } else { Ok(()) }
}

async fn prove(app: &App, request: &Request) -> Result<(AccountFacts, AccountSecret)> {
    let presented = ClientSecret::parse(&request.client_secret, &app.roots).map_err(|_| Error::InvalidCredentials)?;
    let client: ServiceAccountId = request.client_id.parse().map_err(|_| Error::InvalidCredentials)?;
    let unit = |db, id| async move { account_facts::find_by_secret(&db, id).await };
    let found = app.store.read("account_by_secret", presented.id, unit).await?;
    let digest = presented.digest();
    let good = found.filter(|(facts, stored)| {
        facts.account.id == client && secret::equal(&stored.digest, &digest) && stored.is_live(request.origin.time)
    });
    good.ok_or_else(|| {
        // Whoever holds a string with a good tag holds, or held, a secret of ours.
        let (secret_id, request_id) = (presented.id.to_string(), request.origin.request_id.as_deref());
        tracing::warn!(target: "doorward::security", secret_id, request_id, "a client secret that is not good was presented");
        Error::InvalidCredentials
    })
}

/// Tells operators which secrets are in use. The token is good without it.
async fn remember_use(app: &App, used: &AccountSecret, now: Timestamp) {
    if used.last_used_at.is_some_and(|last| now < last.plus(USE_PRECISION)) {
        return;
    }
    let unit = |tx, (id, now)| async move { service_account_secrets::mark_used(&tx, id, now).await };
    if let Err(error) = app.store.write("mark_secret_used", (used.id, now), unit).await {
        tracing::debug!(%error, "the use of a client secret could not be remembered");
    }
}
