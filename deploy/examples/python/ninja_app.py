"""A whole Django project of one file around `ninja_auth.py`, to try it.

    uvicorn ninja_app:application --port 8000
"""

from __future__ import annotations

import secrets

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest
from django.urls import path

# django-ninja reads the settings as it is imported. Nothing here signs anything: a key of the process's own will do.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"], SECRET_KEY=secrets.token_urlsafe(50))

from ninja import NinjaAPI  # noqa: E402
from ninja_auth import Anonymous, DoorwardBearer, answer_refused  # noqa: E402

api = NinjaAPI()
answer_refused(api)


@api.get("/me", auth=DoorwardBearer())
def me(request: HttpRequest) -> dict[str, str]:
    return {"id": request.auth.user.id, "email": request.auth.user.email}


@api.get("/greeting", auth=DoorwardBearer(optional=True))
def greeting(request: HttpRequest) -> dict[str, str]:
    return {"hello": "stranger" if isinstance(request.auth, Anonymous) else request.auth.user.full_name}


@api.post("/sales", auth=DoorwardBearer(permissions=["sales:write"]))
def sell(request: HttpRequest) -> dict[str, str]:
    return {"sold_in": request.auth.tenant.id}


@api.delete("/sales", auth=DoorwardBearer(any_role=["owner"]))
def clear(request: HttpRequest) -> dict[str, str]:
    return {"cleared": request.auth.tenant.id}


urlpatterns = [path("", api.urls)]
application = get_asgi_application()
