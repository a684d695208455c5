"""A FastAPI backend behind Doorward: dependencies for people, optional people, permissions and roles.

    uvicorn fastapi_app:app --port 8000
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import grpc
from doorward.v1 import auth_service_pb2 as pb
from doorward.v1 import auth_service_pb2_grpc, tenant_pb2, user_pb2
from doorward_client import TIMEOUT, Refused, Subject, bearer_token, open_channel, refusal, subject
from fastapi import Depends, FastAPI, Path, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """One channel for the life of the process, with TLS and as a known caller where the environment says so."""
    async with open_channel(grpc.aio) as channel:
        yield {"auth": auth_service_pb2_grpc.AuthServiceStub(channel)}


async def validate(request: Request, **needs: Any) -> Subject:
    """Asks Doorward about the request's token, and for what else is needed. It answers, or raises what the client is to be told."""
    question = pb.ValidateSessionRequest(access_token=bearer_token(request.headers.get("authorization")), **needs)
    try:
        return subject(await request.state.auth.ValidateSession(question, timeout=TIMEOUT))
    except grpc.aio.AioRpcError as error:
        raise refusal(error) from error


async def get_current_user(request: Request) -> user_pb2.User:
    return (await validate(request)).user


async def get_optional_user(request: Request) -> user_pb2.User | None:
    """Nobody only where no token was given. A bad token is an error, and so is a Doorward that cannot be asked."""
    try:
        return await get_current_user(request)
    except Refused as refused:
        if refused.reason == "TOKEN_MISSING":
            return None
        raise


Tenant = Annotated[str, Path(description="A tenant's UUID, or ext: and its external id")]
Check = Callable[[Request, str], Awaitable[tenant_pb2.TenantMembership]]


def require_permission(*permissions: str) -> Check:
    """All of the permissions in the path's `{tenant}`. Answers the tenant: use its id from here on, not what the client sent."""

    async def check(request: Request, tenant: Tenant) -> tenant_pb2.TenantMembership:
        return (await validate(request, tenant_id=tenant, permissions=permissions)).tenant

    return check


def require_role(*roles: str) -> Check:
    """One of the roles in the path's `{tenant}`."""

    async def check(request: Request, tenant: Tenant) -> tenant_pb2.TenantMembership:
        return (await validate(request, tenant_id=tenant, any_role=roles)).tenant

    return check


# HTTPBearer is for the documentation page alone: it takes a header that it does not know for none.
app = FastAPI(lifespan=lifespan, dependencies=[Depends(HTTPBearer(auto_error=False))])


@app.exception_handler(Refused)
async def answer(_: Request, refused: Refused) -> JSONResponse:
    return JSONResponse(refused.body, refused.status, refused.headers)


@app.get("/me")
async def me(user: Annotated[user_pb2.User, Depends(get_current_user)]) -> dict[str, str]:
    return {"id": user.id, "email": user.email}


@app.get("/greeting")
async def greeting(user: Annotated[user_pb2.User | None, Depends(get_optional_user)]) -> dict[str, str]:
    return {"hello": user.full_name if user else "stranger"}


@app.post("/tenants/{tenant}/sales")
async def sell(tenant: Annotated[tenant_pb2.TenantMembership, Depends(require_permission("sales:write"))]) -> dict[str, str]:
    return {"sold_in": tenant.id}


@app.delete("/tenants/{tenant}/sales")
async def clear(tenant: Annotated[tenant_pb2.TenantMembership, Depends(require_role("owner"))]) -> dict[str, str]:
    return {"cleared": tenant.id}
