"""Who is asking. The token is decoded and judged here, once per request; every route asks unless it says `public`.

A route that says `hands_in` lets somebody in, too, whose membership has ended: as an actor without a role.
"""

from collections.abc import Callable
from typing import Any

from litestar.connection import ASGIConnection, Request
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from heallog.application.sessions import Sessions
from heallog.domain.access import Actor
from heallog.domain.errors import NotAuthenticated
from heallog.domain.sessions import Tokens
from heallog.entrypoints.http.errors import request_id

ApiRequest = Request[Actor, None, Any]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing: they may go on without the blacklist, which only repeats what the session's row says."""


def authentication(sessions: Callable[[], Sessions]) -> type[AbstractAuthenticationMiddleware]:
    """The middleware, admitting by what the container gives."""

    class Authentication(AbstractAuthenticationMiddleware):
        async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
            scheme, _, token = connection.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise NotAuthenticated("send the access token as: Authorization: Bearer …")
            scope, said = connection.scope, connection.route_handler.opt
            if said.get("hands_in"):
                actor = await sessions().admit_to_hand_in(token.strip(), request_id(scope))
            else:
                # Whoever only wants to end a session may, although nobody can say whether it has ended already.
                unsafe = scope.get("method") not in SAFE and not said.get("ends_only")
                actor = await sessions().admit(token.strip(), request_id(scope), unsafe=unsafe)
            return AuthenticationResult(actor, None)

    return Authentication


_STRING = {"type": "string"}
TOKENS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "access_token": {**_STRING, "description": "Good for `expires_in` seconds."},
        "refresh_token": {**_STRING, "description": "Good once, for the next tokens."},
        "token_type": _STRING,
        "expires_in": {"type": "integer"},
    },
    "required": ["access_token", "refresh_token", "token_type", "expires_in"],
}


def tokens(issued: Tokens) -> dict[str, Any]:
    """Tokens as they are sent."""
    return {
        "access_token": issued.access_token,
        "refresh_token": issued.refresh_token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in,
    }
