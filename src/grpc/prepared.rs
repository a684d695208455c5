//! `ValidateSession` answers as they go over the wire.
//!
//! Nearly all of an answer is the same each time that a token is asked about: principal, session, token and tenant. That part is encoded
//! once and kept with the principal in memory; of each call is only what may differ: how long the answer is fresh, whether it took the
//! superuser flag, and the list of tenants where it was asked for. On the wire the parts of a message are put together by putting one
//! behind the other, so that no client can tell.
//!
//! A profile of the server under load said: to make the message of some forty texts, encode and drop it was 4 of the 35 µs that a call took
//! of the processor, as much as everything else that is done for it beside HTTP/2. So this one method does not go through the code that is
//! made of the proto, which takes whole messages; its route comes before that one.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, task::Poll};

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use tonic::{
    Request, Response, Status,
    codec::{Codec, EncodeBuf, Encoder},
    server::{Grpc, UnaryService},
};
use tonic_prost::{ProstCodec, ProstDecoder};
use tower::Service;

use super::{answer, auth};
use crate::{app::App, pb::v1};

/// The path that this serves.
pub const PATH: &str = "/doorward.v1.AuthService/ValidateSession";

/// An answer.
#[derive(Debug)]
pub struct Prepared {
    /// What was encoded before.
    kept: Bytes,
    /// What is of this call.
    own: v1::ValidateSessionResponse,
}

impl Prepared {
    /// Of two parts that have no field in common.
    #[must_use]
    pub const fn new(kept: Bytes, own: v1::ValidateSessionResponse) -> Self {
        Self { kept, own }
    }

    /// The whole message.
    ///
    /// # Errors
    /// [`Status`] INTERNAL for bytes that are none: a defect.
    pub fn into_message(self) -> Result<v1::ValidateSessionResponse, Status> {
        let mut message = self.own;
        match message.merge(self.kept) {
            Ok(()) => Ok(message),
            Err(_) => Err(super::status::without_request(&crate::error::Error::internal("a kept answer cannot be read"))),
        }
    }
}

/// The method, as a service for its route.
#[derive(Clone, Debug)]
pub struct ValidateSession {
    app: Arc<App>,
    limit: usize,
}

impl ValidateSession {
    /// Of an app; messages of more bytes than `limit` are refused.
    #[must_use]
    pub const fn new(app: Arc<App>, limit: usize) -> Self {
        Self { app, limit }
    }
}

impl Service<http::Request<axum::body::Body>> for ValidateSession {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        let (method, limit) = (Method(Arc::clone(&self.app)), self.limit);
        Box::pin(async move {
            let mut grpc = Grpc::new(Answers).apply_max_message_size_config(Some(limit), None);
            Ok(grpc.unary(method, request).await)
        })
    }
}

struct Method(Arc<App>);

impl UnaryService<v1::ValidateSessionRequest> for Method {
    type Response = Prepared;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Prepared>, Status>> + Send>>;

    fn call(&mut self, request: Request<v1::ValidateSessionRequest>) -> Self::Future {
        let this = Self(Arc::clone(&self.0));
        Box::pin(async move { answer!(this, request, auth::validate_session) })
    }
}

/// Reads requests, and writes answers of two parts.
#[derive(Clone, Copy, Debug, Default)]
struct Answers;

impl Codec for Answers {
    type Encode = Prepared;
    type Decode = v1::ValidateSessionRequest;
    type Encoder = Self;
    type Decoder = ProstDecoder<v1::ValidateSessionRequest>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<v1::ValidateSessionResponse, v1::ValidateSessionRequest>::default().decoder()
    }
}

impl Encoder for Answers {
    type Item = Prepared;
    type Error = Status;

    fn encode(&mut self, Prepared { kept, own }: Prepared, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(kept.len() + own.encoded_len());
        to.put_slice(&kept);
        // What there is no room for is the only error, and there is room.
        own.encode(to).map_err(|_| super::status::without_request(&crate::error::Error::internal("an answer cannot be written")))
    }
}
