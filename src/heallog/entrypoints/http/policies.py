"""Routes of policies: how each field is merged in this practice."""

from typing import Any

from litestar import get, put
from litestar.di import NamedDependency
from litestar.response import Response

from heallog.application.policies import DECLARED, Policies
from heallog.domain.canon import moment
from heallog.domain.fields import Choice, Field, Fields, Group, Number, Text, object_schema
from heallog.domain.policies import Policy
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import LARGEST_VERSION, Before, Limit, json_object, only
from heallog.entrypoints.http.openapi import describes

_WORDS = {"type": "object", "additionalProperties": {"type": "string", "enum": list(Policy)}}
POLICIES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "version": {"type": "integer", "description": "The practice's setting; 0 while it has none."},
        **dict.fromkeys(DECLARED, _WORDS),
    },
}
SETTING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "version": {"type": "integer"},
        "at": {"type": "string", "format": "date-time"},
        "account_id": {"type": "string"},
        "reason": {"type": "string"},
        **dict.fromkeys(DECLARED, _WORDS),
    },
}
_WANTED = Choice((Policy.MANUAL,))
SETTING_BODY: Fields = {
    "base_version": Field(
        Number(least=0, most=LARGEST_VERSION, whole=True), required=True, says="The setting that you saw; 0 for none."
    ),
    "reason": Field(Text(2_000, lines=True, shortest=1), required=True),
    **{
        collection: Field(
            Group({name: Field(_WANTED) for name in rules}), says="Fields that people shall decide about, as `manual`."
        )
        for collection, rules in DECLARED.items()
    },
}


@get(
    "/v1/practice/policies",
    operation_id="getPolicies",
    summary="How each field is merged",
    tags=["practice"],
    **describes(answer=POLICIES),
)
async def get_policies(request: ApiRequest, policies: NamedDependency[Policies]) -> Response[dict[str, Any]]:
    """The policies in force: as declared, or as this practice has tightened them."""
    return await _in_force(request, policies)


async def _in_force(request: ApiRequest, policies: Policies) -> Response[dict[str, Any]]:
    number, fields = await policies.get(request.user)
    return Response({"version": number, **fields}, headers={"ETag": f'"{number}"'})


@put(
    "/v1/practice/policies",
    operation_id="setPolicies",
    summary="Tighten policies",
    tags=["practice"],
    **describes(
        body=object_schema(SETTING_BODY),
        example={"base_version": 0, "patients": {"phone": "manual"}, "reason": "wrong numbers were called"},
        answer=POLICIES,
        codes=("MALFORMED_JSON", "VERSION_CONFLICT", "INVALID_FIELDS"),
    ),
)
async def set_policies(request: ApiRequest, policies: NamedDependency[Policies]) -> Response[dict[str, Any]]:
    """Names all fields that are to be decided by people; a field left out is merged as declared again.

    A policy can only be tightened: what is `manual` by declaration stays so.
    """
    said = only(await json_object(request), SETTING_BODY)
    fields = {str(collection): said[collection] for collection in DECLARED if collection in said}
    await policies.set(request.user, said["base_version"], fields, said["reason"])
    return await _in_force(request, policies)


@get(
    "/v1/practice/policies/history",
    operation_id="policyHistory",
    summary="Every setting of policies",
    tags=["practice"],
    **describes(answer=wire.listed(SETTING)),
)
async def policy_history(
    request: ApiRequest, policies: NamedDependency[Policies], limit: Limit = 50, cursor: Before = None
) -> dict[str, Any]:
    """The newest first."""
    found = await policies.history(request.user, cursor, limit + 1)
    shown = found[:limit]
    items = [
        {"version": one.number, "at": moment(one.at), "account_id": one.account_id, "reason": one.reason, **one.fields}
        for one in shown
    ]
    return {"items": items, "next_cursor": str(shown[-1].number) if len(found) > limit else None}


HANDLERS = [get_policies, set_policies, policy_history]
