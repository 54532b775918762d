"""Routes of sessions: log in, stay logged in, log out."""

from typing import Any

from litestar import delete, get, post
from litestar.di import NamedDependency

from heallog.application.sessions import Sessions
from heallog.domain.accounts import PROVE
from heallog.domain.canon import moment
from heallog.domain.fields import object_schema, read
from heallog.domain.sessions import LOGIN, REFRESH, SWITCH, Session
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import TOKENS, ApiRequest, tokens
from heallog.entrypoints.http.bodies import Id, json_object
from heallog.entrypoints.http.callers import caller
from heallog.entrypoints.http.limits import Rate, forgiven, guesses_of, limited
from heallog.entrypoints.http.openapi import describes

_PASSWORD = "nine lanterns over the ford"  # noqa: S105 - an example
_PROVING = ("MALFORMED_JSON", "INVALID_CREDENTIALS", "ACCOUNT_LOCKED", "INVALID_FIELDS")
_TIME = {"type": "string", "format": "date-time"}
_SESSION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "practice_id": {"type": "string"},
        "device_id": {"type": "string"},
        "created_at": _TIME,
        "refreshed_at": {**_TIME, "description": "When the device last asked for tokens."},
        "expires_at": {**_TIME, "description": "When it ends, if the device does not ask again."},
        "current": {"type": "boolean", "description": "Whether it is the one that asks."},
    },
}


@post(
    "/v1/auth/login",
    operation_id="login",
    summary="Log in",
    tags=["sessions"],
    status_code=200,
    public=True,
    **describes(
        body=object_schema(LOGIN),
        example={"email": "ada@example.org", "password": _PASSWORD},
        answer=TOKENS,
        codes=(*_PROVING, "OTP_REQUIRED", "OTP_INVALID", "FORBIDDEN"),
    ),
)
async def login(request: ApiRequest, sessions: NamedDependency[Sessions]) -> dict[str, Any]:
    """A session on this device, for the account's first practice. Its access token is good for 15 minutes."""
    body, who = read(LOGIN, await json_object(request)), caller(request)
    counted = guesses_of(who, body["email"])
    await limited(request, Rate.LOGIN, counted)
    given = await sessions.login(body["email"], body["password"], body.get("device_id"), body.get("otp"), who)
    await forgiven(request, Rate.LOGIN, counted)
    return tokens(given)


@post(
    "/v1/auth/refresh",
    operation_id="refresh",
    summary="Get the next tokens",
    tags=["sessions"],
    status_code=200,
    public=True,
    **describes(
        body=object_schema(REFRESH),
        example={"refresh_token": "the refresh token of the last answer"},
        answer=TOKENS,
        codes=("MALFORMED_JSON", "SESSION_ENDED", "MEMBERSHIP_ENDED", "INVALID_FIELDS"),
    ),
)
async def refresh(request: ApiRequest, sessions: NamedDependency[Sessions]) -> dict[str, Any]:
    """A refresh token is good once; asked again within ten seconds, it gives the same answer, for one may get lost.

    Later than that, it shows that it was copied: the session ends, for whoever has it.
    """
    body = read(REFRESH, await json_object(request))
    return tokens(await sessions.refresh(body["refresh_token"], caller(request)))


@post(
    "/v1/auth/logout",
    operation_id="logout",
    summary="Log out",
    tags=["sessions"],
    status_code=204,
    ends_only=True,
    **describes(),
)
async def logout(request: ApiRequest, sessions: NamedDependency[Sessions]) -> None:
    """The session's tokens are worth nothing from here on, on every server."""
    await sessions.logout(request.user)


@post(
    "/v1/auth/logout-all",
    operation_id="logoutAll",
    summary="Log out everywhere",
    tags=["sessions"],
    status_code=204,
    **describes(body=object_schema(PROVE), example={"password": _PASSWORD}, codes=_PROVING),
)
async def logout_all(request: ApiRequest, sessions: NamedDependency[Sessions]) -> None:
    """Every session of the account ends, this one too. Takes the password: a stolen token alone cannot do it."""
    body = read(PROVE, await json_object(request))
    await sessions.logout_all(request.user, body["password"], caller(request))


@post(
    "/v1/auth/switch",
    operation_id="switch",
    summary="Speak for another practice",
    tags=["sessions"],
    status_code=200,
    **describes(
        body=object_schema(SWITCH),
        example={"practice_id": "01980000-0000-7000-8000-000000000000"},
        answer=TOKENS,
        codes=("MALFORMED_JSON", "NOT_FOUND", "WRONG_STATE", "INVALID_FIELDS"),
    ),
)
async def switch(request: ApiRequest, sessions: NamedDependency[Sessions]) -> dict[str, Any]:
    """Tokens for another practice of the same account. Those at hand stay good for theirs."""
    body = read(SWITCH, await json_object(request))
    return tokens(await sessions.switch(request.user, body["practice_id"], caller(request)))


@get(
    "/v1/sessions",
    operation_id="listSessions",
    summary="Where I am logged in",
    tags=["sessions"],
    **describes(answer=wire.listed(_SESSION)),
)
async def list_sessions(request: ApiRequest, sessions: NamedDependency[Sessions]) -> dict[str, Any]:
    """The account's live sessions in all its practices, newest first; all on one page."""
    found = await sessions.mine(request.user)
    return {"items": [_shown(one, request.user.session_id) for one in found], "next_cursor": None}


@delete(
    "/v1/sessions/{session_id:str}",
    operation_id="revokeSession",
    summary="Log out another device",
    tags=["sessions"],
    **describes(body=object_schema(PROVE), example={"password": _PASSWORD}, codes=(*_PROVING, "NOT_FOUND")),
)
async def revoke_session(request: ApiRequest, sessions: NamedDependency[Sessions], session_id: Id) -> None:
    """It was lost, or lent. Takes the password: a stolen token alone cannot do it."""
    body = read(PROVE, await json_object(request))
    await sessions.revoke(request.user, session_id, body["password"], caller(request))


def _shown(session: Session, current: str) -> dict[str, Any]:
    return {
        "id": session.id,
        "practice_id": session.practice_id,
        "device_id": session.device_id,
        "created_at": moment(session.created_at),
        "refreshed_at": moment(session.refreshed_at),
        "expires_at": moment(session.expires_at),
        "current": session.id == current,
    }


HANDLERS = [login, refresh, logout, logout_all, switch, list_sessions, revoke_session]
