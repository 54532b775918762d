"""Routes of accounts: become one, be one."""

from typing import Any

from litestar import get, patch, post
from litestar.di import NamedDependency
from litestar.response import Response

from heallog.application.accounts import Accounts, Registered
from heallog.domain.accounts import ACCEPT, CHANGE_PASSWORD, REGISTRATION, RENAME
from heallog.domain.canon import moment
from heallog.domain.fields import object_schema, read
from heallog.entrypoints.http.auth import TOKENS, ApiRequest, tokens
from heallog.entrypoints.http.bodies import json_object
from heallog.entrypoints.http.callers import caller
from heallog.entrypoints.http.limits import Rate, forgiven, guesses_of, limited
from heallog.entrypoints.http.openapi import describes

_WHO: dict[str, Any] = {
    "type": "object",
    "properties": {"account": {"type": "object"}, "practice": {"type": "object"}},
    "required": ["account", "practice"],
}
_MINE: dict[str, Any] = {
    **_WHO,
    "properties": {**_WHO["properties"], "practices": {"type": "array", "items": {"type": "object"}}},
    "required": [*_WHO["required"], "practices"],
}
_WITH_TOKENS: dict[str, Any] = {**_WHO, "properties": {**_WHO["properties"], "tokens": TOKENS}}


def _who(registered: Registered) -> dict[str, Any]:
    account, practice = registered.account, registered.practice
    return {
        "account": {
            "id": account.id,
            "email": account.email,
            "email_verified": account.verified_at is not None,
            "name": account.name,
            "second_factor": account.second_factor,
            "recovery_codes_left": len(account.recovery),
            "created_at": moment(account.created_at),
        },
        "practice": {
            "id": practice.id,
            "name": practice.name,
            "plan": practice.plan,
            "role": registered.role,
            "created_at": moment(practice.created_at),
        },
    }


def _mine(known: Registered) -> dict[str, Any]:
    practices = [{"id": practice.id, "name": practice.name, "role": role} for practice, role in known.practices]
    return {**_who(known), "practices": practices}


def _entered(registered: Registered) -> Response[dict[str, Any]]:
    given = {"tokens": tokens(registered.tokens)} if registered.tokens else {}
    return Response({**_who(registered), **given}, status_code=201, headers={"Location": "/v1/me"})


@post(
    "/v1/auth/register",
    operation_id="register",
    summary="Register an account and its practice",
    tags=["accounts"],
    public=True,
    **describes(
        body=object_schema(REGISTRATION),
        example={
            "email": "ada@example.org",
            "password": "nine lanterns over the ford",
            "name": "Ada Obi",
            "practice_name": "Hillside",
        },
        answer=_WITH_TOKENS,
        codes=("MALFORMED_JSON", "EMAIL_TAKEN", "INVALID_FIELDS"),
    ),
)
async def register(request: ApiRequest, accounts: NamedDependency[Accounts]) -> Response[dict[str, Any]]:
    """The account owns the new practice and is logged in at once. A code to verify the address is mailed."""
    who = caller(request)
    # A slow hash each: an address makes a few practices, and not thousands.
    await limited(request, Rate.LOGIN, f"register {who.address}")
    return _entered(await accounts.register(await json_object(request), who))


@post(
    "/v1/auth/accept-invitation",
    operation_id="acceptInvitation",
    summary="Join a practice by its invitation",
    tags=["accounts"],
    public=True,
    **describes(
        body=object_schema(ACCEPT),
        example={
            "email": "ben@example.org",
            "code": "the code of the mail",
            "password": "eleven barges under the moon",
            "name": "Ben Ito",
        },
        answer=_WITH_TOKENS,
        codes=(
            "MALFORMED_JSON",
            "INVALID_CREDENTIALS",
            "OTP_REQUIRED",
            "OTP_INVALID",
            "ACCOUNT_LOCKED",
            "CODE_INVALID",
            "PRO_REQUIRED",
            "ALREADY_EXISTS",
            "EMAIL_TAKEN",
            "FORBIDDEN",
            "INVALID_FIELDS",
        ),
    ),
)
async def accept_invitation(request: ApiRequest, accounts: NamedDependency[Accounts]) -> Response[dict[str, Any]]:
    """Who has an account shows its password; for who has none it becomes the password of a new one."""
    body, who = read(ACCEPT, await json_object(request)), caller(request)
    counted = guesses_of(who, body["email"])
    await limited(request, Rate.LOGIN, counted)
    registered = await accounts.accept(
        body["email"],
        body["code"],
        body["password"],
        body.get("otp"),
        body.get("name"),
        body.get("device_id"),
        who,
    )
    await forgiven(request, Rate.LOGIN, counted)
    return _entered(registered)


@post(
    "/v1/auth/password/change",
    operation_id="changePassword",
    summary="Choose another password",
    tags=["accounts"],
    status_code=200,
    **describes(
        body=object_schema(CHANGE_PASSWORD),
        example={"password": "nine lanterns over the ford", "new_password": "ten herons and a brass kettle"},
        answer=TOKENS,
        codes=(
            "MALFORMED_JSON",
            "INVALID_CREDENTIALS",
            "OTP_REQUIRED",
            "OTP_INVALID",
            "ACCOUNT_LOCKED",
            "INVALID_FIELDS",
        ),
    ),
)
async def change_password(request: ApiRequest, accounts: NamedDependency[Accounts]) -> dict[str, Any]:
    """Shows the old one. Every session ends, this one too: the answer has the tokens of a new one for this device."""
    body = read(CHANGE_PASSWORD, await json_object(request))
    return tokens(
        await accounts.change_password(
            request.user, body["password"], body.get("otp"), body["new_password"], caller(request)
        )
    )


@get("/v1/me", operation_id="me", summary="Who am I", tags=["accounts"], **describes(answer=_MINE))
async def me(request: ApiRequest, accounts: NamedDependency[Accounts]) -> dict[str, Any]:
    """The account, practice and role that the token speaks for; and every practice that it could be switched to."""
    return _mine(await accounts.me(request.user))


@patch(
    "/v1/me",
    operation_id="changeMe",
    summary="Change my name",
    tags=["accounts"],
    **describes(
        body=object_schema(RENAME),
        example={"name": "Ada Obi-Lindqvist"},
        answer=_MINE,
        codes=("MALFORMED_JSON", "INVALID_FIELDS"),
    ),
)
async def change_me(request: ApiRequest, accounts: NamedDependency[Accounts]) -> dict[str, Any]:
    """How the audit trail and the list of members call the account."""
    body = read(RENAME, await json_object(request))
    return _mine(await accounts.rename(request.user, body["name"]))


HANDLERS = [register, accept_invitation, change_password, me, change_me]
