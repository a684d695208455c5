//! `ServiceAccountService` on the wire.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};

use super::{answer, convert};
use crate::{
    app::App,
    ctx::Ctx,
    domain::service_accounts::{self, Administrator, FirstSecret, NewAccount},
    error::{Error, Result},
    pb::v1::{self, service_account_service_server::ServiceAccountService},
    store::{
        service_accounts::{AccountState, ServiceAccount},
        sessions::Device,
    },
    values::ids::ServiceAccountId,
};

/// The service.
#[derive(Clone, Debug)]
pub struct ServiceAccounts(Arc<App>);

impl ServiceAccounts {
    /// The service of an app.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl ServiceAccountService for ServiceAccounts {
    async fn create_service_account(
        &self,
        request: Request<v1::CreateServiceAccountRequest>,
    ) -> Result<Response<v1::CreateServiceAccountResponse>, Status> {
        answer!(self, request, create)
    }

    async fn get_service_account(
        &self,
        request: Request<v1::GetServiceAccountRequest>,
    ) -> Result<Response<v1::GetServiceAccountResponse>, Status> {
        answer!(self, request, get)
    }

    async fn list_service_accounts(
        &self,
        request: Request<v1::ListServiceAccountsRequest>,
    ) -> Result<Response<v1::ListServiceAccountsResponse>, Status> {
        answer!(self, request, list)
    }

    async fn disable_service_account(
        &self,
        request: Request<v1::DisableServiceAccountRequest>,
    ) -> Result<Response<v1::DisableServiceAccountResponse>, Status> {
        answer!(self, request, disable)
    }

    async fn enable_service_account(
        &self,
        request: Request<v1::EnableServiceAccountRequest>,
    ) -> Result<Response<v1::EnableServiceAccountResponse>, Status> {
        answer!(self, request, enable)
    }

    async fn delete_service_account(
        &self,
        request: Request<v1::DeleteServiceAccountRequest>,
    ) -> Result<Response<v1::DeleteServiceAccountResponse>, Status> {
        answer!(self, request, delete)
    }

    async fn add_service_account_secret(
        &self,
        request: Request<v1::AddServiceAccountSecretRequest>,
    ) -> Result<Response<v1::AddServiceAccountSecretResponse>, Status> {
        answer!(self, request, add_secret)
    }

    async fn remove_service_account_secret(
        &self,
        request: Request<v1::RemoveServiceAccountSecretRequest>,
    ) -> Result<Response<v1::RemoveServiceAccountSecretResponse>, Status> {
        answer!(self, request, remove_secret)
    }
}

async fn create(app: &App, ctx: &Ctx, request: v1::CreateServiceAccountRequest) -> Result<v1::CreateServiceAccountResponse> {
    let by = administrator(app, ctx, &request.tenant_id).await?;
    let expires_at = convert::moment("secret_expire_time", request.secret_expire_time)?;
    if expires_at.is_some() && !request.create_secret {
        return Err(Error::field("secret_expire_time", "needs create_secret"));
    }
    let new = NewAccount {
        name: request.name,
        roles: request.roles,
        permissions: request.permissions,
        certificate_names: request.certificate_names,
        secret: request.create_secret.then_some(FirstSecret { expires_at }),
    };
    let (details, secret) = service_accounts::create(app, by, new).await?;
    Ok(v1::CreateServiceAccountResponse {
        service_account: Some(convert::account_details(details)),
        client_secret: secret.as_ref().map(shown_once).unwrap_or_default(),
    })
}

async fn get(app: &App, ctx: &Ctx, request: v1::GetServiceAccountRequest) -> Result<v1::GetServiceAccountResponse> {
    let by = administrator(app, ctx, &request.tenant_id).await?;
    let details = service_accounts::get(app, &by, account_id(&request.service_account_id)?).await?;
    Ok(v1::GetServiceAccountResponse { service_account: Some(convert::account_details(details)) })
}

async fn list(app: &App, ctx: &Ctx, request: v1::ListServiceAccountsRequest) -> Result<v1::ListServiceAccountsResponse> {
    let by = administrator(app, ctx, &request.tenant_id).await?;
    let (found, next_page_token) = service_accounts::list(app, &by, request.page_size, &request.page_token).await?;
    let service_accounts = found.into_iter().map(convert::account_details).collect();
    Ok(v1::ListServiceAccountsResponse { service_accounts, next_page_token })
}

async fn disable(app: &App, ctx: &Ctx, request: v1::DisableServiceAccountRequest) -> Result<v1::DisableServiceAccountResponse> {
    let account = set_state(app, ctx, &request.tenant_id, &request.service_account_id, AccountState::Disabled).await?;
    Ok(v1::DisableServiceAccountResponse { service_account: Some(convert::service_account(account)) })
}

async fn enable(app: &App, ctx: &Ctx, request: v1::EnableServiceAccountRequest) -> Result<v1::EnableServiceAccountResponse> {
    let account = set_state(app, ctx, &request.tenant_id, &request.service_account_id, AccountState::Active).await?;
    Ok(v1::EnableServiceAccountResponse { service_account: Some(convert::service_account(account)) })
}

async fn delete(app: &App, ctx: &Ctx, request: v1::DeleteServiceAccountRequest) -> Result<v1::DeleteServiceAccountResponse> {
    set_state(app, ctx, &request.tenant_id, &request.service_account_id, AccountState::Deleted).await?;
    Ok(v1::DeleteServiceAccountResponse {})
}

async fn add_secret(app: &App, ctx: &Ctx, request: v1::AddServiceAccountSecretRequest) -> Result<v1::AddServiceAccountSecretResponse> {
    let by = administrator(app, ctx, &request.tenant_id).await?;
    let (id, expires_at) = (account_id(&request.service_account_id)?, convert::moment("expire_time", request.expire_time)?);
    let (secret, text) = service_accounts::add_secret(app, by, id, expires_at).await?;
    Ok(v1::AddServiceAccountSecretResponse { secret: Some(convert::account_secret(&secret)), client_secret: shown_once(&text) })
}

async fn remove_secret(
    app: &App,
    ctx: &Ctx,
    request: v1::RemoveServiceAccountSecretRequest,
) -> Result<v1::RemoveServiceAccountSecretResponse> {
    let by = administrator(app, ctx, &request.tenant_id).await?;
    let id = account_id(&request.service_account_id)?;
    let secret = request.secret_id.parse().map_err(|_| Error::field("secret_id", "must be a UUID"))?;
    service_accounts::remove_secret(app, by, id, secret, request.revoke_tokens).await?;
    Ok(v1::RemoveServiceAccountSecretResponse {})
}

async fn set_state(app: &App, ctx: &Ctx, tenant_id: &str, id: &str, to: AccountState) -> Result<ServiceAccount> {
    let by = administrator(app, ctx, tenant_id).await?;
    service_accounts::set_state(app, by, account_id(id)?, to).await
}

/// Whoever calls, at the place that the request names: before anything else of it is looked at.
async fn administrator(app: &App, ctx: &Ctx, tenant_id: &str) -> Result<Administrator> {
    let place = ctx.place(app, tenant_id).await?;
    let origin = ctx.origin(&Device::default(), &ctx.client(app).id);
    Ok(Administrator::calling(place, ctx.actor()?, origin))
}

fn account_id(text: &str) -> Result<ServiceAccountId> {
    text.parse().map_err(|_| Error::field("service_account_id", "must be a UUID"))
}

/// The one time that a secret leaves.
fn shown_once(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}
