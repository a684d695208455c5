"""What a backend needs to call Doorward well: channel options, a deadline, the right retries, and each reason as an HTTP answer.

It knows no web framework; `fastapi_app.py` and `ninja_auth.py` are one page each on top of it. The stubs are made beside it:

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I ../../../proto --python_out=. --grpc_python_out=. ../../../proto/doorward/v1/*.proto
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import dataclass, field

import grpc
from doorward.v1 import auth_service_pb2 as pb
from doorward.v1 import tenant_pb2, user_pb2
from google.rpc import error_details_pb2, status_pb2

# Seconds for one call, its repetitions included. Without a deadline a server that hangs would hang this backend too.
TIMEOUT = 2.0

_SERVICE_CONFIG = {
    # Calls spread over all the addresses that the name has.
    "loadBalancingConfig": [{"round_robin": {}}],
    # Only what is safe to repeat, and only where the call was not served: a login costs a password hash each time, and a repeated
    # ChangePassword meets a password that has changed already.
    "methodConfig": [
        {
            "name": [{"service": "doorward.v1.AuthService", "method": "ValidateSession"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}

OPTIONS = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # Finds a connection that died in silence.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The pause between attempts to connect grows to two minutes by default: a server that is back would be missed for so long.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The same for the name's addresses: replicas that were replaced have new ones.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
]

# The HTTP answer for each reason, as the README's table has it. (INVALID_CREDENTIALS of ChangePassword is 403: the session is good.)
HTTP = {
    reason: status
    for status, reasons in {
        400: "INVALID_FIELD PASSWORD_REJECTED IDEMPOTENCY_KEY_REUSED",
        401: "TOKEN_MISSING TOKEN_EXPIRED TOKEN_INVALID SESSION_EXPIRED SESSION_REVOKED PRINCIPAL_DISABLED REFRESH_TOKEN_REUSED "
        "REAUTHENTICATION_REQUIRED INVALID_CREDENTIALS",
        403: "PASSWORD_CHANGE_REQUIRED AUDIENCE_MISMATCH NOT_A_MEMBER MEMBERSHIP_SUSPENDED TENANT_SUSPENDED PERMISSION_MISSING "
        "ROLE_MISSING SUPERUSER_REQUIRED GRANT_EXCEEDS_OWN",
        404: "NOT_FOUND",
        409: "EMAIL_TAKEN USERNAME_TAKEN SLUG_TAKEN TAX_ID_TAKEN EXTERNAL_ID_TAKEN ROLE_NAME_TAKEN ALREADY_MEMBER LAST_OWNER "
        "SYSTEM_ROLE KEY_STATE INVITATION_NOT_PENDING SEAT_LIMIT",
        429: "THROTTLED",
        500: "CALLER_UNAUTHENTICATED CALLER_NOT_ALLOWED FEATURE_DISABLED METHOD_UNKNOWN INTERNAL",
        503: "OVERLOADED UNAVAILABLE DEADLINE CONFLICT",
    }.items()
    for reason in reasons.split()
}
# The fields of a request whose value a client of this backend chooses; any other unacceptable one is a bug of the backend.
_CLIENT_FIELDS = {"tenant_id"}
# An error without a reason comes from this side of the connection, or from something in between.
_OUTAGES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}


@dataclass
class Refused(Exception):
    """Why a request is not served, as its HTTP answer. Only the reason TOKEN_MISSING may be read as "anonymous"."""

    status: int
    reason: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, str]:
        return {"reason": self.reason, "detail": self.detail}


@dataclass(frozen=True)
class Subject:
    """Whom a token speaks for. What it may do comes from here alone: `tenant` is what was asked about, as Doorward answered it."""

    user: user_pb2.User
    tenant: tenant_pb2.TenantMembership


def target() -> str:
    """Where Doorward is. `dns:///` with a name that has every replica's address (a headless Service) lets calls spread over them."""
    return os.environ.get("AUTH_TARGET", "dns:///127.0.0.1:50051")


def bearer_token(authorization: str | None) -> str:
    """The token of an `Authorization` header. That there is no header is one thing; that it holds something else is another."""
    if authorization is None:
        raise refused("TOKEN_MISSING", "no token was given")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise refused("TOKEN_INVALID", "the header Authorization holds no bearer token")
    return token.strip()


def subject(answer: pb.ValidateSessionResponse) -> Subject:
    """Whom an answer of ValidateSession is about. A backend that also serves service accounts looks at `principal` itself."""
    if answer.principal.WhichOneof("kind") != "user":
        raise Refused(403, "NOT_A_USER", "this is for people")
    return Subject(answer.principal.user, answer.tenant)


def refused(reason: str, detail: str, retry_after: int = 1) -> Refused:
    """A reason as its HTTP answer."""
    status = HTTP.get(reason, 500)
    headers = {}
    if status == 401:
        # RFC 6750, section 3: no error code where no token was given.
        headers["WWW-Authenticate"] = "Bearer" if reason == "TOKEN_MISSING" else 'Bearer error="invalid_token"'
    if status in (429, 503):
        headers["Retry-After"] = str(retry_after)
    return Refused(status, reason, detail, headers)


def refusal(error: grpc.RpcError) -> Refused:
    """A failed call, of `grpc` or of `grpc.aio`, as its HTTP answer."""
    trailers = dict(error.trailing_metadata() or ())
    reason = trailers.get("doorward-reason", "")
    details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    retry, bad = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in details.details:
        for message in (retry, bad):
            detail.Unpack(message)  # Only where it is of this type.

    if not reason:
        reason = "UNAVAILABLE" if error.code() in _OUTAGES else "INTERNAL"
    answer = refused(reason, error.details() or "", max(1, math.ceil(retry.retry_delay.ToTimedelta().total_seconds())))
    if reason == "INVALID_FIELD" and not {violation.field for violation in bad.field_violations} <= _CLIENT_FIELDS:
        answer.status = 500
    if answer.status >= 500:
        # For this backend's operators, not for its clients: texts of the transport name addresses.
        logging.getLogger(__name__).error(
            "Doorward: %s %s, request id %s: %s", error.code().name, reason, trailers.get("x-request-id"), error.details()
        )
        answer.detail = "try again later" if answer.status == 503 else "internal error"
    return answer
