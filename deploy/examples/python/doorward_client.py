"""What a backend needs to call Doorward well: a channel, TLS, proof of who calls, a deadline, the right retries, and each reason as an
HTTP answer.

It knows no web framework; `fastapi_app.py` and `ninja_auth.py` are one page each on top of it. The stubs are made beside it:

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I ../../../proto --python_out=. --grpc_python_out=. ../../../proto/doorward/v1/*.proto

The environment says where Doorward is and who this backend is there; README.md has the list. It is read when this module is imported, so
that a backend does not start over a mistake in it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
from doorward.v1 import auth_service_pb2 as pb
from doorward.v1 import auth_service_pb2_grpc, tenant_pb2, user_pb2
from google.rpc import error_details_pb2, status_pb2

# Seconds for one call, its repetitions included. Without a deadline a server that hangs would hang this backend too.
TIMEOUT = 2.0
# The part of an access token's life after which the next one is bought: what is left is for purchases that fail.
RENEW_AFTER = 0.8
# Seconds without another purchase after one that failed: a refused secret would be presented as often as this backend is called.
PURCHASE_PAUSE = 0.5

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
    # In spite of its name the time that one attempt has at least, its TLS handshake included.
    ("grpc.min_reconnect_backoff_ms", 1_000),
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


@dataclass(frozen=True)
class Settings:
    """Where Doorward is, and who this backend is there."""

    # `dns:///` with a name that has every replica's address (a headless Service) lets calls spread over them.
    target: str
    # PEM. Without authorities there is no TLS, and nothing of what follows.
    authorities: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)
    # A service account's id, and one of its secrets.
    client_id: str
    client_secret: str = field(repr=False)

    @classmethod
    def of_environment(cls) -> Settings:
        """What the environment says, or a ValueError with what is wrong."""
        names = "TARGET", "CA_FILE", "CERT_FILE", "KEY_FILE", "CLIENT_ID", "CLIENT_SECRET"
        given = {name: os.environ[f"AUTH_{name}"] for name in names if f"AUTH_{name}" in os.environ}
        for name in given:
            # Taken for one that is not set, an empty AUTH_CA_FILE would send tokens in the clear.
            if not given[name]:
                raise ValueError(f"AUTH_{name} is empty")
        for one, other in [("CERT_FILE", "KEY_FILE"), ("CLIENT_ID", "CLIENT_SECRET")]:
            if (one in given) != (other in given):
                raise ValueError(f"AUTH_{one} and AUTH_{other} belong together: set both or neither")
        if "CLIENT_SECRET" in given and "CA_FILE" not in given:
            raise ValueError("AUTH_CLIENT_SECRET needs AUTH_CA_FILE: a secret and its tokens never cross the wire in the clear")
        if "CERT_FILE" in given and "CA_FILE" not in given:
            raise ValueError("AUTH_CERT_FILE needs AUTH_CA_FILE: without TLS nobody is shown a certificate")
        authorities, certificate, key = (_read(name, given[name]) if name in given else None for name in names[1:4])
        target = given.get("TARGET", "dns:///127.0.0.1:50051")
        return cls(target, authorities, certificate, key, given.get("CLIENT_ID", ""), given.get("CLIENT_SECRET", ""))

    def transport(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authorities, self.key, self.certificate)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"AUTH_{name} cannot be read: {error}") from error


class Caller(grpc.AuthMetadataPlugin):
    """Proves on every call which workload calls: `doorward-caller` with an access token that the service account's secret buys.

    The token is kept, and shared by all channels of the process. A call for which none can be had fails with UNAVAILABLE: for this
    backend's clients that is 503, whatever the cause, which the log tells.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Held during a purchase, so that there is one at a time.
        self._lock = threading.Lock()
        self._token, self._failure = "", ""
        self._bought_at = self._renew_at = self._expires_at = -math.inf  # By the monotonic clock.

    def __call__(self, _: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        # gRPC gives each call a thread of its own here, that of `grpc.aio` too: it may wait.
        if token := self._current():
            callback((("doorward-caller", f"Bearer {token}"),), None)
        else:
            callback((), ConnectionError(self._failure))

    def doubt(self) -> None:
        """To be told of CALLER_UNAUTHENTICATED: the token may have been revoked before its time, and the secret still be good."""
        # A call that is answered so long after the purchase was not made with a token of before.
        if time.monotonic() > self._bought_at + TIMEOUT:
            self._renew_at = self._expires_at = -math.inf

    def _current(self) -> str | None:
        # Whoever has a good token does not wait for the next one.
        if self._lock.acquire(blocking=not self._is_good()):
            try:
                if time.monotonic() >= self._renew_at:
                    self._buy()
            finally:
                self._lock.release()
        return self._token if self._is_good() else None

    def _is_good(self) -> bool:
        return time.monotonic() < self._expires_at

    def _buy(self) -> None:
        grant = pb.ClientCredentialsGrant(client_id=self._settings.client_id, client_secret=self._settings.client_secret)
        asked_at = time.monotonic()
        try:
            tokens = self._auth.IssueToken(pb.IssueTokenRequest(client_credentials=grant), timeout=TIMEOUT).tokens
        except grpc.RpcError as error:
            # Those that waited meanwhile hear the same: if each tried for itself, a silent Doorward would be waited for in turn.
            self._renew_at = time.monotonic() + PURCHASE_PAUSE
            self._failure = f"no access token for this backend: {_describe(error)}"
        else:
            self._token, self._bought_at = tokens.access_token, time.monotonic()
            self._renew_at, self._expires_at = asked_at + RENEW_AFTER * tokens.expires_in, asked_at + tokens.expires_in

    @cached_property
    def _auth(self) -> auth_service_pb2_grpc.AuthServiceStub:
        """A channel without this plugin, or the purchase would wait for itself."""
        channel = grpc.secure_channel(self._settings.target, self._settings.transport(), options=OPTIONS)
        return auth_service_pb2_grpc.AuthServiceStub(channel)


# Nothing of gRPC is made here: it would not survive the fork of a server's workers.
SETTINGS = Settings.of_environment()
CALLER = Caller(SETTINGS) if SETTINGS.client_secret else None


def open_channel(api: ModuleType) -> Any:
    """The channel to Doorward, one for the life of the process: of `grpc` or of `grpc.aio`, whichever is given."""
    if SETTINGS.authorities is None:
        return api.insecure_channel(SETTINGS.target, options=OPTIONS)
    credentials = SETTINGS.transport()
    if CALLER is not None:
        credentials = grpc.composite_channel_credentials(credentials, grpc.metadata_call_credentials(CALLER))
    return api.secure_channel(SETTINGS.target, credentials, options=OPTIONS)


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


def _describe(error: grpc.RpcError) -> str:
    """A failed call, for operators: texts of the transport name addresses."""
    trailers = dict(error.trailing_metadata() or ())
    reason, request_id = trailers.get("doorward-reason", "without a reason"), trailers.get("x-request-id")
    return f"{error.code().name} {reason}, request id {request_id}: {error.details()}"


def refusal(error: grpc.RpcError) -> Refused:
    """A failed call, of `grpc` or of `grpc.aio`, as its HTTP answer."""
    trailers = dict(error.trailing_metadata() or ())
    reason = trailers.get("doorward-reason", "")
    if reason == "CALLER_UNAUTHENTICATED" and CALLER is not None:
        CALLER.doubt()
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
        # For this backend's operators, not for its clients.
        logging.getLogger(__name__).error("Doorward: %s", _describe(error))
        answer.detail = "try again later" if answer.status == 503 else "internal error"
    return answer
