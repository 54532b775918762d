"""Who is asking. The token is decoded here, once per request; every route asks unless it says `public`."""

from collections.abc import Callable
from typing import Any

from litestar import get, post
from litestar.connection import ASGIConnection, Request
from litestar.di import NamedDependency
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.response import Response

from heallog.application.accounts import Accounts, Registered
from heallog.application.ports.sessions import AccessTokens
from heallog.application.sessions import Sessions
from heallog.domain.access import Actor
from heallog.domain.accounts import REGISTRATION
from heallog.domain.errors import NotAuthenticated
from heallog.domain.fields import moment, object_schema, read
from heallog.domain.sessions import LOGIN, AccessToken
from heallog.entrypoints.http.bodies import json_object
from heallog.entrypoints.http.errors import request_id
from heallog.entrypoints.http.openapi import describes

ApiRequest = Request[Actor, None, Any]


def authentication(tokens: Callable[[], AccessTokens]) -> type[AbstractAuthenticationMiddleware]:
    """The middleware, reading tokens with what the container gives."""

    class Authentication(AbstractAuthenticationMiddleware):
        async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
            scheme, _, token = connection.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise NotAuthenticated("send the access token as: Authorization: Bearer …")
            return AuthenticationResult(tokens().read(token.strip(), request_id(connection.scope)), None)

    return Authentication


def _tokens(issued: AccessToken) -> dict[str, Any]:
    return {
        "access_token": issued.access_token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
    }


def _who(registered: Registered) -> dict[str, Any]:
    account, practice = registered.account, registered.practice
    return {
        "account": {
            "id": account.id,
            "email": account.email,
            "name": account.name,
            "created_at": moment(account.created_at),
        },
        "practice": {
            "id": practice.id,
            "name": practice.name,
            "role": registered.role,
            "created_at": moment(practice.created_at),
        },
    }


_STRING = {"type": "string"}
_TOKENS = {
    "type": "object",
    "properties": {"access_token": _STRING, "token_type": _STRING, "expires_in": {"type": "integer"}},
    "required": ["access_token", "token_type", "expires_in"],
}
_WHO = {
    "type": "object",
    "properties": {"account": {"type": "object"}, "practice": {"type": "object"}},
    "required": ["account", "practice"],
}
_EXAMPLE = {"email": "ada@example.org", "password": "nine lanterns over the ford"}


@post(
    "/v1/auth/register",
    operation_id="register",
    summary="Register an account and its practice",
    tags=["accounts"],
    public=True,
    **describes(
        body=object_schema(REGISTRATION),
        example={**_EXAMPLE, "name": "Ada Obi", "practice_name": "Hillside"},
        answer={**_WHO, "properties": {**_WHO["properties"], "tokens": _TOKENS}},  # type: ignore[dict-item]
        codes=("MALFORMED_JSON", "EMAIL_TAKEN", "INVALID_FIELDS"),
    ),
)
async def register(
    request: ApiRequest, accounts: NamedDependency[Accounts], sessions: NamedDependency[Sessions]
) -> Response[dict[str, Any]]:
    """The account owns the new practice and is logged in at once."""
    body = await json_object(request)
    registered = await accounts.register(body, request_id(request.scope))
    tokens = await sessions.login(registered.account.email, str(body["password"]), request_id=request_id(request.scope))
    return Response({**_who(registered), "tokens": _tokens(tokens)}, status_code=201, headers={"Location": "/v1/me"})


@post(
    "/v1/auth/login",
    operation_id="login",
    summary="Log in",
    tags=["accounts"],
    status_code=200,
    public=True,
    **describes(
        body=object_schema(LOGIN),
        example=_EXAMPLE,
        answer=_TOKENS,
        codes=("MALFORMED_JSON", "INVALID_CREDENTIALS", "INVALID_FIELDS"),
    ),
)
async def login(request: ApiRequest, sessions: NamedDependency[Sessions]) -> dict[str, Any]:
    """An access token, good for 15 minutes."""
    body = read(LOGIN, await json_object(request))
    return _tokens(
        await sessions.login(body["email"], body["password"], body.get("device_id"), request_id(request.scope))
    )


@get(
    "/v1/me",
    operation_id="me",
    summary="Who am I",
    tags=["accounts"],
    **describes(answer=_WHO),
)
async def me(request: ApiRequest, accounts: NamedDependency[Accounts]) -> dict[str, Any]:
    """The account, practice and role that the token speaks for."""
    return _who(await accounts.me(request.user))


HANDLERS = [register, login, me]
