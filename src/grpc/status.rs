//! Errors on the wire: code, text, `ErrorInfo`, `RequestInfo` and what else helps, plus the trailer `doorward-reason`.
//!
//! What went wrong inside (the text of [`Error::Internal`] and [`Error::Unavailable`]) is logged here with the request id and goes no
//! further.

use std::{collections::HashMap, time::Duration};

use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    ctx::RequestId,
    error::{self, Error},
};

/// The trailer that carries the reason.
pub const REASON: &str = "doorward-reason";
/// `ErrorInfo.domain`.
const DOMAIN: &str = "doorward.dev";
/// When an unavailable call may be repeated.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

/// The status of an error of a call.
#[must_use]
pub fn of(error: &Error, request_id: &RequestId) -> Status {
    log(error, request_id.as_str());
    build(error, request_id.as_str())
}

/// The status of an error of a call that has no request id, since it came past the gate.
#[must_use]
pub fn without_request(error: &Error) -> Status {
    log(error, "");
    build(error, "")
}

/// What tonic itself answered (a message that cannot be decoded, is too long, or compressed in an unknown way), in our own form.
#[must_use]
pub fn foreign(status: &Status, request_id: &RequestId) -> Status {
    let error = match status.code() {
        Code::Unimplemented if status.message().contains("ompress") => Error::field("message", "is compressed in a way that is not served"),
        Code::Unimplemented => Error::MethodUnknown,
        Code::OutOfRange | Code::ResourceExhausted => Error::field("message", "is too long for server.max_message_bytes"),
        Code::DeadlineExceeded | Code::Cancelled => Error::Deadline,
        // Our own handlers only answer by `of`: an internal error of tonic's is a message that it could not decode.
        _ => Error::field("message", "cannot be decoded"),
    };
    of(&error, request_id)
}

fn log(error: &Error, request_id: &str) {
    match error {
        Error::Internal(cause) => tracing::error!(request_id, cause, "a call failed by a defect"),
        Error::Unavailable(cause) => tracing::warn!(request_id, cause, "a call failed for want of the database"),
        _ => {}
    }
}

fn build(error: &Error, request_id: &str) -> Status {
    let (reason, code) = error.reason();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata(error));
    details.set_request_info(request_id, "");
    match error {
        Error::InvalidField(violations) | Error::PasswordRejected(violations) => {
            let violations: Vec<_> = violations.iter().map(|v| FieldViolation::new(&v.field, &v.description)).collect();
            details.set_bad_request(violations);
        }
        Error::Overloaded { retry_after } => {
            details.set_retry_info(Some(*retry_after));
        }
        Error::Unavailable(_) => {
            details.set_retry_info(Some(RETRY_UNAVAILABLE));
        }
        Error::SeatLimit => {
            details.set_quota_failure(vec![tonic_types::QuotaViolation::new("seats", "the seats of the tenant are used up")]);
        }
        _ => {}
    }
    let mut trailers = MetadataMap::new();
    trailers.insert(REASON, MetadataValue::from_static(reason));
    Status::with_error_details_and_metadata(wire(code), error.to_string(), details, trailers)
}

/// What a program may want to know beside the reason.
fn metadata(error: &Error) -> HashMap<String, String> {
    match error {
        Error::PermissionMissing(permission) => HashMap::from([("permission".to_owned(), permission.clone())]),
        _ => HashMap::new(),
    }
}

const fn wire(code: error::Code) -> Code {
    match code {
        error::Code::InvalidArgument => Code::InvalidArgument,
        error::Code::Unauthenticated => Code::Unauthenticated,
        error::Code::PermissionDenied => Code::PermissionDenied,
        error::Code::NotFound => Code::NotFound,
        error::Code::AlreadyExists => Code::AlreadyExists,
        error::Code::FailedPrecondition => Code::FailedPrecondition,
        error::Code::ResourceExhausted => Code::ResourceExhausted,
        error::Code::Aborted => Code::Aborted,
        error::Code::Unavailable => Code::Unavailable,
        error::Code::DeadlineExceeded => Code::DeadlineExceeded,
        error::Code::Unimplemented => Code::Unimplemented,
        error::Code::Internal => Code::Internal,
    }
}
