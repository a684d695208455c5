//! `AccessService` on the wire.

use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::{answer, convert};
use crate::{
    app::App,
    ctx::{Ctx, tenant_key},
    domain::{
        checks::{self, Check, Decision, Rights, Whom},
        keys::KEY_SET_MAX_AGE,
    },
    error::{Error, Result},
    pb::v1::{self, access_service_server::AccessService},
    values::permission::Permission,
};

/// The most questions of one call.
const MAX_CHECKS: usize = 1_000;

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
    async fn check_access(&self, request: Request<v1::CheckAccessRequest>) -> Result<Response<v1::CheckAccessResponse>, Status> {
        answer!(self, request, check)
    }

    async fn batch_check_access(
        &self,
        request: Request<v1::BatchCheckAccessRequest>,
    ) -> Result<Response<v1::BatchCheckAccessResponse>, Status> {
        answer!(self, request, batch_check)
    }

    async fn list_effective_permissions(
        &self,
        request: Request<v1::ListEffectivePermissionsRequest>,
    ) -> Result<Response<v1::ListEffectivePermissionsResponse>, Status> {
        answer!(self, request, list_permissions)
    }

    async fn get_key_set(&self, request: Request<v1::GetKeySetRequest>) -> Result<Response<v1::GetKeySetResponse>, Status> {
        answer!(self, request, key_set)
    }
}

async fn check(app: &App, ctx: &Ctx, request: v1::CheckAccessRequest) -> Result<v1::CheckAccessResponse> {
    let whom = whom(ctx, &request.access_token, request.audience, request.freshness)?;
    let asked = request.check.ok_or_else(|| Error::field("check", "is needed"))?;
    let check = asked_for(|| "check".to_owned(), &asked)?;
    let decision = checks::decide(app, whom, &[check], |_| "check".to_owned(), ctx.now()).await?.pop();
    Ok(v1::CheckAccessResponse { decision: Some(decided(&decision.ok_or_else(|| Error::internal("no decision"))?)) })
}

async fn batch_check(app: &App, ctx: &Ctx, request: v1::BatchCheckAccessRequest) -> Result<v1::BatchCheckAccessResponse> {
    let whom = whom(ctx, &request.access_token, request.audience, request.freshness)?;
    if !(1..=MAX_CHECKS).contains(&request.checks.len()) {
        return Err(Error::field("checks", format!("must be 1 to {MAX_CHECKS}")));
    }
    let place = |index| format!("checks[{index}]");
    let asked = request.checks.iter().enumerate().map(|(index, check)| asked_for(|| place(index), check)).collect::<Result<Vec<_>>>()?;
    let decisions = checks::decide(app, whom, &asked, place, ctx.now()).await?.iter().map(decided).collect();
    Ok(v1::BatchCheckAccessResponse { decisions })
}

async fn list_permissions(
    app: &App,
    ctx: &Ctx,
    request: v1::ListEffectivePermissionsRequest,
) -> Result<v1::ListEffectivePermissionsResponse> {
    let whom = whom(ctx, &request.access_token, request.audience, request.freshness)?;
    let Rights { permissions, roles, superuser } = checks::rights(app, whom, tenant_key(&request.tenant_id)?, ctx.now()).await?;
    Ok(v1::ListEffectivePermissionsResponse { permissions: permissions.to_strings(), roles, superuser })
}

fn whom(ctx: &Ctx, token: &str, audience: String, freshness: i32) -> Result<Whom> {
    let token = ctx.token(token)?.to_owned();
    convert::audience(&audience)?;
    let freshness = convert::freshness(freshness)?;
    Ok(Whom { token, accepts: ctx.accepts(), audience: (!audience.is_empty()).then_some(audience), freshness })
}

fn asked_for(place: impl Fn() -> String, check: &v1::AccessCheck) -> Result<Check> {
    let flaw = |field: &str, text: String| Error::field(format!("{}.{field}", place()), text);
    let tenant = tenant_key(&check.tenant_id).map_err(|_| flaw("tenant_id", "must be a UUID or ext: and an external id".to_owned()))?;
    let permission = Permission::parse(&check.permission).map_err(|e| flaw("permission", e.to_string()))?;
    Ok(Check { tenant, permission })
}

fn decided(decision: &Decision) -> v1::AccessDecision {
    match *decision {
        Decision::Allowed { superuser_access } => v1::AccessDecision { allowed: true, superuser_access, ..v1::AccessDecision::default() },
        Decision::Denied(reason) => {
            let reason = v1::ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).unwrap_or_default();
            v1::AccessDecision { allowed: false, reason: reason.into(), superuser_access: false }
        }
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
