//! The calls of `AuthService` about the subject's own sessions.

use super::convert;
use crate::{
    app::App,
    ctx::Ctx,
    domain::{access::Subject, audit::Origin, own_sessions},
    error::{Error, Result},
    pb::v1,
    store::sessions::Device,
};

pub async fn list(app: &App, ctx: &Ctx, request: v1::ListSessionsRequest) -> Result<v1::ListSessionsResponse> {
    let subject = ctx.subject()?;
    let (found, next_page_token) = own_sessions::list(app, subject, request.page_size, &request.page_token, ctx.now()).await?;
    let current = subject.facts.session.id;
    Ok(v1::ListSessionsResponse {
        sessions: found.into_iter().map(|session| convert::session(session, current)).collect(),
        next_page_token,
    })
}

pub async fn revoke(app: &App, ctx: &Ctx, request: v1::RevokeSessionRequest) -> Result<v1::RevokeSessionResponse> {
    let subject = ctx.subject()?;
    let id = request.session_id.parse().map_err(|e| Error::field("session_id", format!("{e}")))?;
    own_sessions::revoke(app, subject, id, &origin(ctx, subject)).await?;
    Ok(v1::RevokeSessionResponse {})
}

pub async fn revoke_all(app: &App, ctx: &Ctx, request: v1::RevokeAllSessionsRequest) -> Result<v1::RevokeAllSessionsResponse> {
    let subject = ctx.subject()?;
    let ended = own_sessions::revoke_all(app, subject, request.keep_current, &origin(ctx, subject)).await?;
    Ok(v1::RevokeAllSessionsResponse { revoked_sessions: i32::try_from(ended).unwrap_or(i32::MAX) })
}

/// These requests tell nothing of the device.
fn origin(ctx: &Ctx, subject: &Subject) -> Origin {
    ctx.origin(&Device::default(), &subject.facts.session.client_id)
}
