"""Routes of conflicts."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Response

from heallog.application.conflicts import Conflicts
from heallog.domain.conflicts import Kind, Severity, State, document
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import ID, Errors, Field, Fields, Moment, Number, Text, object_schema
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import LARGEST_VERSION, Cursor, Id, Limit, json_object, only, why
from heallog.entrypoints.http.openapi import describes

_VALUE: dict[str, Any] = {"description": "Null where the field is absent."}
_STRING: dict[str, Any] = {"type": "string"}
_INTEGER: dict[str, Any] = {"type": "integer"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}

CONFLICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _STRING,
        "collection": _STRING,
        "thing_id": _STRING,
        "patient_id": _STRING,
        "kind": {"type": "string", "enum": list(Kind)},
        "severity": {"type": "string", "enum": list(Severity)},
        "state": {"type": "string", "enum": list(State)},
        "base_version": {**_INTEGER, "description": "The oldest version that one of the edits started from."},
        "head_version": {**_INTEGER, "description": "What to name in resolving."},
        "branch_versions": {"type": "array", "items": _INTEGER, "description": "The versions that keep the edits."},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {**_STRING, "description": "Its path, such as `dose` or `values.systolic`."},
                    "kind": {"type": "string", "enum": list(Kind)},
                    "severity": {"type": "string", "enum": list(Severity)},
                    "policy": _STRING,
                    "group": {"type": ["string", "null"], "description": "Fields of one group are one value."},
                    "base": _VALUE,
                    "theirs": {"description": "The head's value; null where absent."},
                    "mine": {"description": "The value that was held back; null where absent."},
                    "proposal": {"description": "Where a person may start from; null where there is none."},
                    "branch_version": _INTEGER,
                    "author_id": _STRING,
                    "device_id": {"type": ["string", "null"]},
                    "at": _TIME,
                },
            },
        },
        "opened_at": _TIME,
        "updated_at": _TIME,
        "resolution": {
            "type": ["object", "null"],
            "properties": {
                "account_id": _STRING,
                "at": _TIME,
                "reason": _STRING,
                "version": _INTEGER,
                "choices": {"type": "object"},
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Choices:
    """A choice for every disputed field, by its path. What may be chosen is the conflict's to say."""

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, dict):
            errors.append(FieldError(path, "type", "must be an object"))
        return value

    def schema(self) -> dict[str, Any]:
        take = {
            "type": "object",
            "properties": {"take": {"enum": ["mine", "theirs", "base"]}, "branch_version": {"type": "integer"}},
            "required": ["take"],
            "additionalProperties": False,
        }
        value = {"type": "object", "properties": {"value": {}}, "required": ["value"], "additionalProperties": False}
        return {"type": "object", "additionalProperties": {"oneOf": [take, value]}}


RESOLVING: Fields = {
    "head_version": Field(Number(least=1, most=LARGEST_VERSION, whole=True), required=True),
    "choices": Field(Choices(), required=True, says="For each field: take mine, theirs or base, or name a value."),
    "reason": Field(Text(2_000, lines=True, shortest=1), required=True),
    "client_time": Field(Moment(exact=True), says="The device's clock. Kept, never trusted."),
}


@get(
    "/v1/conflicts",
    operation_id="listConflicts",
    summary="What waits for a decision",
    tags=["conflicts"],
    **describes(answer=wire.listed(CONFLICT)),
)
async def list_conflicts(
    request: ApiRequest,
    conflicts: NamedDependency[Conflicts],
    state_: Annotated[str | None, QueryParameter(name="state", max_length=40)] = None,
    patient_id: Annotated[str | None, QueryParameter(max_length=64)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """The newest first; `state=open` for those that nobody has decided yet."""
    wrong: Errors = []
    if state_ is not None and state_ not in tuple(State):
        wrong.append(FieldError("state", "choice", f"must be one of {', '.join(State)}"))
    if patient_id is not None:
        ID.check(patient_id, "patient_id", wrong)
    if wrong:
        raise InvalidFields(wrong)
    found = await conflicts.page(
        request.user,
        state=State(state_) if state_ is not None else None,
        patient_id=patient_id,
        after=cursor,
        limit=limit + 1,
    )
    shown = found[:limit]
    items = [document(conflict) for conflict in shown]
    return {"items": items, "next_cursor": shown[-1].id if len(found) > limit else None}


@get(
    "/v1/conflicts/{conflict_id:str}",
    operation_id="getConflict",
    summary="Read a conflict",
    tags=["conflicts"],
    **describes(answer=CONFLICT, codes=("NOT_FOUND",)),
)
async def get_conflict(request: ApiRequest, conflicts: NamedDependency[Conflicts], conflict_id: Id) -> dict[str, Any]:
    """`mine` is the edit that was held back, `theirs` the head as it is now."""
    conflict = await conflicts.get(request.user, conflict_id)
    return document(conflict)


@post(
    "/v1/conflicts/{conflict_id:str}/resolve",
    operation_id="resolveConflict",
    summary="Decide",
    tags=["conflicts"],
    status_code=200,
    **describes(
        body=object_schema(RESOLVING),
        example={"head_version": 2, "choices": {"dose": {"take": "mine"}}, "reason": "checked with the pharmacy"},
        answer=CONFLICT,
        codes=("MALFORMED_JSON", "NOT_FOUND", "VERSION_CONFLICT", "WRONG_STATE", "INVALID_FIELDS"),
    ),
)
async def resolve_conflict(
    request: ApiRequest, conflicts: NamedDependency[Conflicts], conflict_id: Id
) -> Response[dict[str, Any]]:
    """Appends a version that names every version it was made from; the answer's ETag is that version."""
    said = only(await json_object(request), RESOLVING)
    resolved, head = await conflicts.resolve(
        request.user, conflict_id, said["head_version"], said["choices"], why(said)
    )
    return Response(document(resolved), headers={"ETag": f'"{head.version}"'})


HANDLERS = [list_conflicts, get_conflict, resolve_conflict]
