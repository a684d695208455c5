//! The wire. A call goes through the gate ([`gate`]), is decoded, handed to `domain`, and its answer encoded; nothing is decided here.
//!
//! | file | what |
//! |---|---|
//! | `gate.rs` | every call: request id, policy, caller, subject, deadline, answer's status |
//! | `observe.rs` | counting calls |
//! | `status.rs` | errors on the wire; the only place that builds a `Status` |
//! | `convert.rs` | records → messages, and fields → values |
//! | `prepared.rs` | the answers of `ValidateSession`, encoded once |
//! | one file per service | decode → call → encode |
//! | `sessions.rs` | the part of `AuthService` about the subject's own sessions |
//!
//! **A new RPC**: the proto with its policy, a method here that takes its [`crate::ctx::Ctx`] by `context`, a function in `domain`.

use tonic::{Request, Status};

use crate::{
    ctx::Ctx,
    error::{Error, Result},
};

pub mod access;
pub mod auth;
mod convert;
pub mod gate;
mod observe;
pub mod prepared;
pub mod service_accounts;
mod sessions;
pub mod signing_keys;
pub mod status;

/// Takes the context out of the request, runs the call, and turns its error into a status.
macro_rules! answer {
    ($self:ident, $request:ident, $call:path) => {{
        let (ctx, message) = super::context($request)?;
        $call(&$self.0, &ctx, message).await.map(Response::new).map_err(|error| super::status::of(&error, ctx.request_id()))
    }};
}
use answer;

/// The context that the gate put into a request, and the message.
fn context<T>(request: Request<T>) -> Result<(Ctx, T), Status> {
    let (_, mut extensions, message) = request.into_parts();
    match extensions.remove::<Ctx>() {
        Some(ctx) => Ok((ctx, message)),
        // Served past the gate: a defect that must not become a yes.
        None => Err(status::without_request(&Error::internal("a call came past the gate"))),
    }
}
