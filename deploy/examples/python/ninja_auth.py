"""A bearer class for django-ninja: `auth=DoorwardBearer(permissions=["sales:write"])` on an API, a router or an operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import grpc
from django.http import HttpRequest, HttpResponse
from doorward.v1 import auth_service_pb2 as pb
from doorward.v1 import auth_service_pb2_grpc
from doorward_client import TIMEOUT, Refused, Subject, bearer_token, open_channel, refusal, subject
from ninja import NinjaAPI
from ninja.security import HttpBearer


@cache
def _auth() -> auth_service_pb2_grpc.AuthServiceStub:
    """One channel for the life of the process, made by the first request: a channel does not survive the fork of a server's workers.

    With TLS and as a known caller where the environment says so."""
    return auth_service_pb2_grpc.AuthServiceStub(open_channel(grpc))


class Anonymous:
    """Who calls without a token where that is allowed. (django-ninja refuses the request where authentication answers None.)"""


class DoorwardBearer(HttpBearer):
    """Lets a request in whose token is good and has all the permissions and one of the roles; `request.auth` is its `Subject`.

    The tenant is the one of the header `X-Tenant`; what counts afterwards is `request.auth.tenant`, Doorward's answer.
    """

    def __init__(self, *, permissions: Sequence[str] = (), any_role: Sequence[str] = (), optional: bool = False) -> None:
        super().__init__()
        self.permissions, self.any_role, self.optional = permissions, any_role, optional

    def __call__(self, request: HttpRequest) -> Subject | Anonymous:
        # Not the base class's: it takes a header that it does not know for none, and answers without WWW-Authenticate.
        try:
            return self.authenticate(request, bearer_token(request.headers.get("Authorization")))
        except Refused as refused:
            # A bad token is an error, and so is a Doorward that cannot be asked.
            if self.optional and refused.reason == "TOKEN_MISSING":
                return Anonymous()
            raise

    def authenticate(self, request: HttpRequest, token: str) -> Subject:
        tenant = request.headers.get("X-Tenant", "")
        if not tenant and (self.permissions or self.any_role):
            # Without a tenant Doorward would take the one that the token may be bound to.
            raise Refused(400, "INVALID_FIELD", "the header X-Tenant is missing: a tenant's UUID, or ext: and its external id")
        question = pb.ValidateSessionRequest(access_token=token, tenant_id=tenant, permissions=self.permissions, any_role=self.any_role)
        try:
            return subject(_auth().ValidateSession(question, timeout=TIMEOUT))
        except grpc.RpcError as error:
            raise refusal(error) from error


def answer_refused(api: NinjaAPI) -> None:
    """Makes an API answer what `DoorwardBearer` raises."""

    @api.exception_handler(Refused)
    def answer(request: HttpRequest, refused: Refused) -> HttpResponse:
        response = api.create_response(request, refused.body, status=refused.status)
        for name, value in refused.headers.items():
            response[name] = value
        return response
