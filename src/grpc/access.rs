//! `AccessService` on the wire.

use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::answer;
use crate::{
    app::App,
    ctx::Ctx,
    domain::keys::KEY_SET_MAX_AGE,
    error::{Error, Result},
    pb::v1::{self, access_service_server::AccessService},
};

/// The service.
#[derive(Clone, Debug)]
pub struct Access(Arc<App>);

impl Access {
    /// The service of an app.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[tonic::async_trait]
impl AccessService for Access {
    async fn get_key_set(&self, request: Request<v1::GetKeySetRequest>) -> Result<Response<v1::GetKeySetResponse>, Status> {
        answer!(self, request, key_set)
    }
}

async fn key_set(app: &App, _: &Ctx, _: v1::GetKeySetRequest) -> Result<v1::GetKeySetResponse> {
    let max_age = KEY_SET_MAX_AGE.try_into().map_err(Error::internal)?;
    let keys = app.keys.latest().published.iter().map(json_web_key).collect::<Result<_>>()?;
    Ok(v1::GetKeySetResponse { keys, max_age: Some(max_age) })
}

/// The members by their names in JSON, which is how the other half of the world gets them: so the two cannot differ.
fn json_web_key(key: &Jwk) -> Result<v1::JsonWebKey> {
    let members = serde_json::to_value(key).map_err(Error::internal)?;
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(v1::JsonWebKey {
        kid: text("kid"),
        kty: text("kty"),
        alg: text("alg"),
        r#use: text("use"),
        crv: text("crv"),
        x: text("x"),
        y: text("y"),
        n: text("n"),
        e: text("e"),
    })
}
