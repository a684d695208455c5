//! `SigningKeyService` on the wire.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{answer, convert};
use crate::{
    app::App,
    ctx::Ctx,
    domain::keys::{self, KeyOperator, Outlook},
    error::Result,
    pb::v1::{self, signing_key::State, signing_key_service_server::SigningKeyService},
    store::{
        sessions::Device,
        signing_keys::{KeyState, SigningKey},
    },
};

/// The service.
#[derive(Clone, Debug)]
pub struct SigningKeys(Arc<App>);

impl SigningKeys {
    /// The service of an app.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl SigningKeyService for SigningKeys {
    async fn list_signing_keys(
        &self,
        request: Request<v1::ListSigningKeysRequest>,
    ) -> Result<Response<v1::ListSigningKeysResponse>, Status> {
        answer!(self, request, list)
    }

    async fn get_signing_key(&self, request: Request<v1::GetSigningKeyRequest>) -> Result<Response<v1::GetSigningKeyResponse>, Status> {
        answer!(self, request, get)
    }

    async fn rotate_signing_key(
        &self,
        request: Request<v1::RotateSigningKeyRequest>,
    ) -> Result<Response<v1::RotateSigningKeyResponse>, Status> {
        answer!(self, request, rotate)
    }

    async fn retire_signing_key(
        &self,
        request: Request<v1::RetireSigningKeyRequest>,
    ) -> Result<Response<v1::RetireSigningKeyResponse>, Status> {
        answer!(self, request, retire)
    }

    async fn revoke_signing_key(
        &self,
        request: Request<v1::RevokeSigningKeyRequest>,
    ) -> Result<Response<v1::RevokeSigningKeyResponse>, Status> {
        answer!(self, request, revoke)
    }

    async fn reseal_signing_keys(
        &self,
        request: Request<v1::ResealSigningKeysRequest>,
    ) -> Result<Response<v1::ResealSigningKeysResponse>, Status> {
        answer!(self, request, reseal)
    }
}

async fn list(app: &App, ctx: &Ctx, _: v1::ListSigningKeysRequest) -> Result<v1::ListSigningKeysResponse> {
    ctx.instance()?;
    let signing_keys = keys::list(app).await?.iter().map(|key| shown(app, key)).collect();
    Ok(v1::ListSigningKeysResponse { signing_keys })
}

async fn get(app: &App, ctx: &Ctx, request: v1::GetSigningKeyRequest) -> Result<v1::GetSigningKeyResponse> {
    ctx.instance()?;
    let key = keys::get(app, &request.kid).await?;
    Ok(v1::GetSigningKeyResponse { signing_key: Some(shown(app, &key)) })
}

async fn rotate(app: &App, ctx: &Ctx, request: v1::RotateSigningKeyRequest) -> Result<v1::RotateSigningKeyResponse> {
    let key = keys::rotate(app, operator(app, ctx)?, request.activate_at_once).await?;
    Ok(v1::RotateSigningKeyResponse { signing_key: Some(shown(app, &key)) })
}

async fn retire(app: &App, ctx: &Ctx, request: v1::RetireSigningKeyRequest) -> Result<v1::RetireSigningKeyResponse> {
    let key = keys::retire(app, operator(app, ctx)?, &request.kid).await?;
    Ok(v1::RetireSigningKeyResponse { signing_key: key.map(|key| shown(app, &key)) })
}

async fn revoke(app: &App, ctx: &Ctx, request: v1::RevokeSigningKeyRequest) -> Result<v1::RevokeSigningKeyResponse> {
    let key = keys::revoke(app, operator(app, ctx)?, &request.kid).await?;
    Ok(v1::RevokeSigningKeyResponse { signing_key: Some(shown(app, &key)) })
}

async fn reseal(app: &App, ctx: &Ctx, _: v1::ResealSigningKeysRequest) -> Result<v1::ResealSigningKeysResponse> {
    let keys::Resealed { changed, unchanged } = keys::reseal(app, operator(app, ctx)?).await?;
    Ok(v1::ResealSigningKeysResponse { changed, unchanged })
}

/// Whoever calls, if they may.
fn operator(app: &App, ctx: &Ctx) -> Result<KeyOperator> {
    let scope = ctx.instance()?;
    let origin = ctx.origin(&Device::default(), &ctx.client(app).id);
    Ok(KeyOperator::calling(ctx.actor()?, origin, scope.is_superuser_access()))
}

fn shown(app: &App, key: &SigningKey) -> v1::SigningKey {
    let outlook = Outlook::new(&app.config.tokens);
    let state = match key.state {
        KeyState::Pending => State::Pending,
        KeyState::Active => State::Active,
        KeyState::Retired => State::Retired,
        KeyState::Revoked => State::Revoked,
        KeyState::Unknown => State::Unspecified,
    };
    v1::SigningKey {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        state: state.into(),
        create_time: Some(convert::time(key.created_at)),
        activate_time: outlook.activates_at(key).map(convert::time),
        retire_time: key.retired_at.map(convert::time),
        revoke_time: key.revoked_at.map(convert::time),
        remove_time: outlook.removes_at(key).map(convert::time),
    }
}
