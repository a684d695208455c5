//! The errors of the house: what can go wrong with a call, in the words of the contract.
//!
//! `store` and `domain` answer [`enum@Error`]; only `grpc/status.rs` turns it into a wire status, and `cli` into a sentence and an exit code.
//! A reason's name is the name in `proto/doorward/v1/errors.proto` without `ERROR_REASON_`; a test compares the two lists. To add one:
//! the proto, and here a variant with its name, code and text.

use std::time::Duration;

use thiserror::Error;

/// A field that is not acceptable, by its path in the request (`client_info.ip_address`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path in the request, in the proto's names.
    pub field: String,
    /// What is wrong, as a sentence without the value itself.
    pub description: String,
}

/// Why a call failed.
///
/// The message of each is what the client reads: it never holds a value from the request, nor anything of the database.
#[derive(Debug, Error)]
pub enum Error {
    /// A field is not acceptable. Clients: mend the request.
    #[error("{}", describe(.0))]
    InvalidField(Vec<FieldViolation>),
    /// The new password breaks rules, one violation each. Clients: show them to the person.
    #[error("the new password is not acceptable: {}", describe(.0))]
    PasswordRejected(Vec<FieldViolation>),
    /// The credentials are not good; one answer for every cause. Clients: ask again.
    #[error("the credentials are not valid")]
    InvalidCredentials,
    /// No token came with the call.
    #[error("no token was given")]
    TokenMissing,
    /// The access token is past its time. Clients: refresh.
    #[error("the token has expired")]
    TokenExpired,
    /// The token is not one of ours, malformed, or of another kind.
    #[error("the token is not valid")]
    TokenInvalid,
    /// The header of the token holds something else than one bearer token. To a program it is the same.
    #[error("the header holds no bearer token: it must be `Bearer`, a space and the token, once")]
    NoBearerToken,
    /// The session is over by time.
    #[error("the session has expired")]
    SessionExpired,
    /// The session was ended.
    #[error("the session was revoked")]
    SessionRevoked,
    /// The principal is disabled or gone.
    #[error("the principal is disabled")]
    PrincipalDisabled,
    /// A good token for another audience.
    #[error("the token is not meant for this audience")]
    AudienceMismatch,
    /// The login is too old for this method.
    #[error("this needs a login of the last ten minutes")]
    ReauthenticationRequired,
    /// The token is good for ChangePassword and Logout only.
    #[error("the password must be changed first")]
    PasswordChangeRequired,
    /// The refresh token was used before; the session has been ended.
    #[error("the refresh token was used before; the session has been ended")]
    RefreshTokenReused,
    /// The calling workload has no valid identity.
    #[error("the calling workload is not authenticated")]
    CallerUnauthenticated,
    /// Not a member, or no such tenant.
    #[error("not a member of the tenant")]
    NotAMember,
    /// The membership is suspended.
    #[error("the membership is suspended")]
    MembershipSuspended,
    /// The tenant is suspended.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// A permission is missing: the first one that is.
    #[error("the permission {0} is missing")]
    PermissionMissing(String),
    /// None of the asked roles is held.
    #[error("none of the required roles is held")]
    RoleMissing,
    /// Only superusers may do this.
    #[error("this is for superusers only")]
    SuperuserRequired,
    /// A grant would give more than whoever grants holds.
    #[error("nobody can give a role or a permission that they do not hold themselves")]
    GrantExceedsOwn,
    /// The calling workload may not do this.
    #[error("the calling workload may not do this")]
    CallerNotAllowed,
    /// The object (a noun) does not exist, or is another tenant's.
    #[error("the {0} does not exist")]
    NotFound(&'static str),
    /// A unique name is taken.
    #[error("{}", .0.sentence())]
    Taken(Taken),
    /// The signing key is in no state for this; says why.
    #[error("{0}")]
    KeyState(String),
    /// The feature is not offered or switched off.
    #[error("{0}")]
    FeatureDisabled(&'static str),
    /// The tenant has no free seat.
    #[error("the seats of the tenant are used up")]
    SeatLimit,
    /// More password work than can be done in time.
    #[error("too much password work is waiting; try again later")]
    Overloaded {
        /// When a further try is worth it.
        retry_after: Duration,
    },
    /// A race was lost, also after retries.
    #[error("the change collided with another one; try again")]
    Conflict,
    /// The database is away or the server is stopping. The text in it is for the log alone.
    #[error("the service is not available right now")]
    Unavailable(String),
    /// The deadline passed.
    #[error("the deadline has passed")]
    Deadline,
    /// There is no such method.
    #[error("there is no such method")]
    MethodUnknown,
    /// A defect. The text in it is for the log alone.
    #[error("internal error")]
    Internal(String),
}

/// A name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A user's e-mail address.
    Email,
    /// A user's name.
    Username,
    /// A tenant's slug.
    Slug,
    /// A tenant's tax id.
    TaxId,
    /// An external id of anything.
    ExternalId,
    /// A role's name within its tenant.
    RoleName,
    /// A membership of the same user and tenant.
    Member,
}

impl Taken {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Email => "the e-mail address is taken",
            Self::Username => "the user name is taken",
            Self::Slug => "the slug is taken",
            Self::TaxId => "the tax id is taken",
            Self::ExternalId => "the external id is taken",
            Self::RoleName => "the tenant has a role of this name",
            Self::Member => "the user is a member of the tenant already",
        }
    }
}

/// The gRPC status code of an error, in our own words so that `domain` needs no gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of google.rpc.Code")]
pub enum Code {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    Aborted,
    Unavailable,
    DeadlineExceeded,
    Unimplemented,
    Internal,
}

impl Error {
    /// One field that is not acceptable.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidField(vec![FieldViolation { field: field.into(), description: description.into() }])
    }

    /// A defect; `context` goes to the log, never to the client.
    pub fn internal(context: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{context}"))
    }

    /// The reason's name on the wire and the gRPC code that goes with it.
    #[must_use]
    pub const fn reason(&self) -> (&'static str, Code) {
        match self {
            Self::InvalidField(_) => ("INVALID_FIELD", Code::InvalidArgument),
            Self::PasswordRejected(_) => ("PASSWORD_REJECTED", Code::InvalidArgument),
            Self::InvalidCredentials => ("INVALID_CREDENTIALS", Code::Unauthenticated),
            Self::TokenMissing => ("TOKEN_MISSING", Code::Unauthenticated),
            Self::TokenExpired => ("TOKEN_EXPIRED", Code::Unauthenticated),
            Self::TokenInvalid | Self::NoBearerToken => ("TOKEN_INVALID", Code::Unauthenticated),
            Self::SessionExpired => ("SESSION_EXPIRED", Code::Unauthenticated),
            Self::SessionRevoked => ("SESSION_REVOKED", Code::Unauthenticated),
            Self::PrincipalDisabled => ("PRINCIPAL_DISABLED", Code::Unauthenticated),
            Self::AudienceMismatch => ("AUDIENCE_MISMATCH", Code::Unauthenticated),
            Self::ReauthenticationRequired => ("REAUTHENTICATION_REQUIRED", Code::Unauthenticated),
            Self::PasswordChangeRequired => ("PASSWORD_CHANGE_REQUIRED", Code::Unauthenticated),
            Self::RefreshTokenReused => ("REFRESH_TOKEN_REUSED", Code::Unauthenticated),
            Self::CallerUnauthenticated => ("CALLER_UNAUTHENTICATED", Code::Unauthenticated),
            Self::NotAMember => ("NOT_A_MEMBER", Code::PermissionDenied),
            Self::MembershipSuspended => ("MEMBERSHIP_SUSPENDED", Code::PermissionDenied),
            Self::TenantSuspended => ("TENANT_SUSPENDED", Code::PermissionDenied),
            Self::PermissionMissing(_) => ("PERMISSION_MISSING", Code::PermissionDenied),
            Self::RoleMissing => ("ROLE_MISSING", Code::PermissionDenied),
            Self::SuperuserRequired => ("SUPERUSER_REQUIRED", Code::PermissionDenied),
            Self::GrantExceedsOwn => ("GRANT_EXCEEDS_OWN", Code::PermissionDenied),
            Self::CallerNotAllowed => ("CALLER_NOT_ALLOWED", Code::PermissionDenied),
            Self::NotFound(_) => ("NOT_FOUND", Code::NotFound),
            Self::Taken(Taken::Email) => ("EMAIL_TAKEN", Code::AlreadyExists),
            Self::Taken(Taken::Username) => ("USERNAME_TAKEN", Code::AlreadyExists),
            Self::Taken(Taken::Slug) => ("SLUG_TAKEN", Code::AlreadyExists),
            Self::Taken(Taken::TaxId) => ("TAX_ID_TAKEN", Code::AlreadyExists),
            Self::Taken(Taken::ExternalId) => ("EXTERNAL_ID_TAKEN", Code::AlreadyExists),
            Self::Taken(Taken::RoleName) => ("ROLE_NAME_TAKEN", Code::AlreadyExists),
            Self::Taken(Taken::Member) => ("ALREADY_MEMBER", Code::AlreadyExists),
            Self::KeyState(_) => ("KEY_STATE", Code::FailedPrecondition),
            Self::FeatureDisabled(_) => ("FEATURE_DISABLED", Code::FailedPrecondition),
            Self::SeatLimit => ("SEAT_LIMIT", Code::ResourceExhausted),
            Self::Overloaded { .. } => ("OVERLOADED", Code::ResourceExhausted),
            Self::Conflict => ("CONFLICT", Code::Aborted),
            Self::Unavailable(_) => ("UNAVAILABLE", Code::Unavailable),
            Self::Deadline => ("DEADLINE", Code::DeadlineExceeded),
            Self::MethodUnknown => ("METHOD_UNKNOWN", Code::Unimplemented),
            Self::Internal(_) => ("INTERNAL", Code::Internal),
        }
    }
}

fn describe(violations: &[FieldViolation]) -> String {
    violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ")
}

/// What the house's fallible functions answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
