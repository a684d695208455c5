//! Counting calls: one that is answered by its head at once, a stream when it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, codegen::Bytes};

use super::status;
use crate::{
    methods::{Kind, find_open},
    metrics::rpc::Call,
};

type Body = axum::body::Body;

/// Ends `call` with what was answered; where that is a stream, when it ends.
pub fn answered(call: Call, path: &str, response: Response<Body>) -> Response<Body> {
    let (code, reason) = outcome(response.headers());
    let streams = || find_open(path).is_some_and(|open| open.kind != Kind::Unary);
    match code {
        // Its status comes behind its messages.
        None if streams() => response.map(|body| Body::new(Streaming { body, call: Some(call) })),
        // Ours are unary: one that has no error in its head is a success.
        code => {
            call.end(name(code.unwrap_or(Code::Ok)), reason);
            response
        }
    }
}

/// The status of an answer by its head or its trailers, as far as they have one.
fn outcome(headers: &HeaderMap) -> (Option<Code>, Option<&str>) {
    let code = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
    (code, headers.get(status::REASON).and_then(|reason| reason.to_str().ok()))
}

/// A stream's body. Dropped before its end, its call was canceled.
struct Streaming {
    body: Body,
    call: Option<Call>,
}

impl HttpBody for Streaming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let code = match &frame {
            None => Some(Code::Ok),
            Some(Err(_)) => Some(Code::Unknown),
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| outcome(trailers).0.unwrap_or(Code::Unknown)),
        };
        if let Some(code) = code
            && let Some(call) = self.call.take()
        {
            call.end(name(code), None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A code by the name that dashboards know it by: that of Go's gRPC, which was there first.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
