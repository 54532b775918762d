"""Routes of the practice: its name, its members, and broken glass."""

from typing import Any

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.response import Response

from heallog.application.practices import Practices
from heallog.domain.access import ENTITLEMENTS, Plan, Role
from heallog.domain.canon import moment
from heallog.domain.fields import object_schema, read
from heallog.domain.practices import (
    BREAKING_GLASS,
    CHANGING_ROLE,
    EMERGENCY_MINUTES,
    INVITING,
    RENAMING,
    Emergency,
    Member,
    Practice,
    Presence,
)
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import Cursor, Id, Limit, json_object
from heallog.entrypoints.http.openapi import describes

_STRING = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_PRACTICE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _STRING,
        "name": _STRING,
        "plan": {"type": "string", "enum": list(Plan)},
        "members_at_most": {"type": "integer", "description": "With this plan, open invitations included."},
        "created_at": _TIME,
    },
}
_MEMBER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _STRING,
        "state": {"type": "string", "enum": list(Presence)},
        "email": _STRING,
        "name": _STRING,
        "role": {"type": "string", "enum": list(Role)},
        "since": _TIME,
        "expires_at": {**_TIME, "description": "Of an invitation."},
    },
}
_EMERGENCY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _STRING,
        "account_id": _STRING,
        "account_name": _STRING,
        "reason": _STRING,
        "opened_at": _TIME,
        "until": _TIME,
        "closed_at": {"type": ["string", "null"], "format": "date-time"},
    },
}


def _practice(practice: Practice) -> dict[str, Any]:
    return {
        "id": practice.id,
        "name": practice.name,
        "plan": practice.plan,
        "members_at_most": ENTITLEMENTS[practice.plan].members,
        "created_at": moment(practice.created_at),
    }


def _member(member: Member) -> dict[str, Any]:
    shown = {
        "id": member.id,
        "state": member.presence,
        "email": member.email,
        "name": member.name,
        "role": member.role,
        "since": moment(member.since),
    }
    return shown | ({"expires_at": moment(member.expires_at)} if member.expires_at else {})


def _emergency(emergency: Emergency, name: str) -> dict[str, Any]:
    return {
        "id": emergency.id,
        "account_id": emergency.account_id,
        "account_name": name,
        "reason": emergency.reason,
        "opened_at": moment(emergency.opened_at),
        "until": moment(emergency.until),
        "closed_at": moment(emergency.closed_at) if emergency.closed_at else None,
    }


@get(
    "/v1/practice", operation_id="getPractice", summary="My practice", tags=["practice"], **describes(answer=_PRACTICE)
)
async def get_practice(request: ApiRequest, practices: NamedDependency[Practices]) -> dict[str, Any]:
    """The practice that the token speaks for, and what its plan gives."""
    return _practice(await practices.get(request.user))


@patch(
    "/v1/practice",
    operation_id="changePractice",
    summary="Rename the practice",
    tags=["practice"],
    **describes(
        body=object_schema(RENAMING),
        example={"name": "Hillside and Lakeside"},
        answer=_PRACTICE,
        codes=("MALFORMED_JSON", "INVALID_FIELDS"),
    ),
)
async def change_practice(request: ApiRequest, practices: NamedDependency[Practices]) -> dict[str, Any]:
    """By an owner."""
    body = read(RENAMING, await json_object(request))
    return _practice(await practices.rename(request.user, body["name"]))


@get(
    "/v1/practice/members",
    operation_id="listMembers",
    summary="Who belongs to the practice",
    tags=["practice"],
    **describes(answer=wire.listed(_MEMBER)),
)
async def list_members(request: ApiRequest, practices: NamedDependency[Practices]) -> dict[str, Any]:
    """Members, then open invitations, each the oldest first; all on one page."""
    return {"items": [_member(one) for one in await practices.members(request.user)], "next_cursor": None}


@post(
    "/v1/practice/members",
    operation_id="inviteMember",
    summary="Ask someone to join",
    tags=["practice"],
    **describes(
        body=object_schema(INVITING),
        example={"email": "ben@example.org", "role": "clinician", "name": "Ben Ito"},
        answer=_MEMBER,
        codes=("MALFORMED_JSON", "PRO_REQUIRED", "ALREADY_EXISTS", "INVALID_FIELDS"),
    ),
)
async def invite_member(request: ApiRequest, practices: NamedDependency[Practices]) -> Response[dict[str, Any]]:
    """A code is mailed to the address, good for seven days. Asking again mails another, and the first is void then.

    Whether the address has an account already shows in nothing.
    """
    body = read(INVITING, await json_object(request))
    member = await practices.invite(request.user, body["email"], Role(body["role"]), body.get("name") or "")
    return Response(_member(member), status_code=201)


@patch(
    "/v1/practice/members/{member_id:str}",
    operation_id="changeMember",
    summary="Change a member's role",
    tags=["practice"],
    **describes(
        body=object_schema(CHANGING_ROLE),
        example={"role": "assistant"},
        answer=_MEMBER,
        codes=("MALFORMED_JSON", "NOT_FOUND", "LAST_OWNER", "INVALID_FIELDS"),
    ),
)
async def change_member(request: ApiRequest, practices: NamedDependency[Practices], member_id: Id) -> dict[str, Any]:
    """The very next request of the member is judged by it."""
    body = read(CHANGING_ROLE, await json_object(request))
    return _member(await practices.change_role(request.user, member_id, Role(body["role"])))


@delete(
    "/v1/practice/members/{member_id:str}",
    operation_id="removeMember",
    summary="End a membership, or withdraw an invitation",
    tags=["practice"],
    **describes(codes=("NOT_FOUND", "LAST_OWNER")),
)
async def remove_member(request: ApiRequest, practices: NamedDependency[Practices], member_id: Id) -> None:
    """The member's sessions in the practice end at once. What they wrote stays, with their name."""
    await practices.remove(request.user, member_id)


@delete(
    "/v1/practice/members/{member_id:str}/sessions",
    operation_id="logOutMember",
    summary="Log a member out everywhere",
    tags=["practice"],
    **describes(codes=("NOT_FOUND",)),
)
async def log_out_member(request: ApiRequest, practices: NamedDependency[Practices], member_id: Id) -> None:
    """A tablet was stolen, and its owner cannot be reached. Ends the member's sessions in this practice."""
    await practices.log_out(request.user, member_id)


@post(
    "/v1/practice/emergencies",
    operation_id="breakGlass",
    summary="Break the glass",
    tags=["practice"],
    **describes(
        body=object_schema(BREAKING_GLASS),
        example={"reason": "No clinician can be reached, the patient does not breathe.", "minutes": 60},
        answer=_EMERGENCY,
        codes=("MALFORMED_JSON", "WRONG_STATE", "INVALID_FIELDS"),
    ),
)
async def break_glass(request: ApiRequest, practices: NamedDependency[Practices]) -> Response[dict[str, Any]]:
    """For a while an assistant may sign and decide conflicts. Every owner is written to; the audit trail says so."""
    body = read(BREAKING_GLASS, await json_object(request))
    emergency, name = await practices.break_glass(
        request.user, body["reason"], int(body.get("minutes") or EMERGENCY_MINUTES)
    )
    return Response(_emergency(emergency, name), status_code=201)


@get(
    "/v1/practice/emergencies",
    operation_id="listEmergencies",
    summary="When the glass was broken",
    tags=["practice"],
    **describes(answer=wire.listed(_EMERGENCY)),
)
async def list_emergencies(
    request: ApiRequest, practices: NamedDependency[Practices], limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """The newest first."""
    found = await practices.emergencies(request.user, cursor, limit + 1)
    shown = found[:limit]
    items = [_emergency(emergency, name) for emergency, name in shown]
    return {"items": items, "next_cursor": shown[-1][0].id if len(found) > limit else None}


@delete(
    "/v1/practice/emergencies/{emergency_id:str}",
    operation_id="closeEmergency",
    summary="The emergency is over",
    tags=["practice"],
    **describes(codes=("NOT_FOUND",)),
)
async def close_emergency(request: ApiRequest, practices: NamedDependency[Practices], emergency_id: Id) -> None:
    """Said by who broke the glass, or by an owner."""
    await practices.close(request.user, emergency_id)


HANDLERS = [
    get_practice,
    change_practice,
    list_members,
    invite_member,
    change_member,
    remove_member,
    log_out_member,
    break_glass,
    list_emergencies,
    close_emergency,
]
