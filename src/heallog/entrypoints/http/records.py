"""Routes of records."""

from dataclasses import replace
from typing import Annotated, Any

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Response

from heallog.application.ports.records import RecordFilter
from heallog.application.records import Records
from heallog.domain import records as domain
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import Field, Fields, Group, Text, object_schema
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import (
    CHANGING,
    CREATING,
    LARGEST_VERSION,
    REVERTING,
    Before,
    Cursor,
    Id,
    Limit,
    VersionNumber,
    Word,
    instant,
    json_object,
    only,
    seen,
    split,
    why,
)
from heallog.entrypoints.http.openapi import describes

REASONED: Fields = {**CHANGING, "reason": Field(Text(2_000, lines=True, shortest=1), required=True)}

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {**wire.IDENTITY, "patient_id": {"type": "string"}, **object_schema(domain.ANY)["properties"]},
}
_NEW: dict[str, Any] = {
    "oneOf": [
        object_schema({**CREATING, **fields}, writing=True)
        | {"title": kind, "required": ["kind"]}
        | {"properties": {**object_schema({**CREATING, **fields}, writing=True)["properties"], "kind": {"const": kind}}}
        for kind, fields in domain.FIELDS.items()
    ]
}
_EXAMPLE = {
    "kind": "observation",
    "title": "Blood pressure",
    "code": {"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"},
    "occurred_at": "2026-03-01T09:30:00Z",
    "values": {"systolic": {"value": 128, "unit": "mm[Hg]"}, "diastolic": {"value": 82, "unit": "mm[Hg]"}},
}
_CODES = ("MALFORMED_JSON", "NOT_FOUND", "VERSION_CONFLICT", "STALE_VERSION", "INVALID_FIELDS", "VERSION_REQUIRED")


@post(
    "/v1/patients/{patient_id:str}/records",
    operation_id="createRecord",
    summary="Create a record",
    tags=["records"],
    **describes(
        body=_NEW,
        example=_EXAMPLE,
        answer=RECORD,
        codes=("MALFORMED_JSON", "NOT_FOUND", "ALREADY_EXISTS", "VERSION_CONFLICT", "INVALID_FIELDS"),
    ),
)
async def create_record(request: ApiRequest, records: NamedDependency[Records], patient_id: Id) -> Response[bytes]:
    """A draft. The id may be the client's own; sending the same creation again answers as the first time did."""
    said, body = split(await json_object(request), CREATING, domain.ANY)
    head = await records.create(request.user, patient_id, body, said.get("id"), why(said))
    return wire.answer(head, created=f"/v1/records/{head.id}")


@get(
    "/v1/patients/{patient_id:str}/records",
    operation_id="listRecords",
    summary="A patient's records",
    tags=["records"],
    **describes(answer=wire.listed(RECORD), codes=("NOT_FOUND",)),
)
async def list_records(
    request: ApiRequest,
    records: NamedDependency[Records],
    patient_id: Id,
    kind: Word = None,
    status: Word = None,
    from_: Annotated[str | None, QueryParameter(name="from", max_length=40)] = None,
    to: Annotated[str | None, QueryParameter(name="to", max_length=40)] = None,
    code: Word = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response[bytes]:
    """What happened last comes first. `from` is inclusive, `to` is not."""
    wrong = [
        FieldError(name, "choice", f"must be one of {', '.join(words)}")
        for name, value, words in (("kind", kind, domain.KINDS), ("status", status, domain.STATUSES))
        if value is not None and value not in words
    ]
    chosen = RecordFilter(kind, status, instant("from", from_, wrong), instant("to", to, wrong), code)
    if wrong:
        raise InvalidFields(wrong)
    heads = await records.of_patient(request.user, patient_id, chosen, after=cursor, limit=limit + 1)
    return wire.page(heads, limit)


@get(
    "/v1/records/{record_id:str}",
    operation_id="getRecord",
    summary="Read a record",
    tags=["records"],
    **describes(answer=RECORD, codes=("NOT_FOUND",)),
)
async def get_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    return wire.answer_if_changed(request, await records.get(request.user, record_id))


@patch(
    "/v1/records/{record_id:str}",
    operation_id="changeRecord",
    summary="Change a draft",
    tags=["records"],
    **describes(
        body=object_schema({**CHANGING, **domain.ANY}, writing=True),
        example={"base_version": 1, "title": "Blood pressure, sitting"},
        answer=RECORD,
        codes=(*_CODES, "RECORD_SIGNED", "WRONG_STATE"),
        tag=True,
    ),
)
async def change_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    """Only the fields that are sent change; `null` takes a field away. What is signed is amended instead."""
    said, changes = split(await json_object(request), CHANGING, domain.ANY)
    return wire.answer(await records.change(request.user, record_id, changes, seen(request, said), why(said)))


@delete(
    "/v1/records/{record_id:str}",
    operation_id="deleteRecord",
    summary="Delete a record",
    tags=["records"],
    **describes(body=object_schema(CHANGING), codes=_CODES, tag=True),
)
async def delete_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[None]:
    """Appends an empty version; every earlier one stays. The answer's ETag is the version to restore from."""
    said = only(await json_object(request), CHANGING)
    return wire.gone(await records.delete(request.user, record_id, seen(request, said), why(said)))


@post(
    "/v1/records/{record_id:str}/sign",
    operation_id="signRecord",
    summary="Sign a draft",
    tags=["records"],
    status_code=200,
    **describes(
        body=object_schema(CHANGING),
        example={"base_version": 2},
        answer=RECORD,
        codes=(*_CODES, "WRONG_STATE"),
        tag=True,
    ),
)
async def sign_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    """From here on the content never changes; it can be amended."""
    said = only(await json_object(request), CHANGING)
    return wire.answer(await records.sign(request.user, record_id, seen(request, said), why(said)))


AMENDING: Fields = {
    **REASONED,
    "changes": Field(Group(domain.ANY), required=True, says="The fields to set, or to take away with null."),
}


@post(
    "/v1/records/{record_id:str}/amend",
    operation_id="amendRecord",
    summary="Amend what is signed",
    tags=["records"],
    status_code=200,
    **describes(
        body=object_schema(AMENDING, writing=True),
        example={"base_version": 3, "changes": {"title": "Blood pressure, lying"}, "reason": "position was wrong"},
        answer=RECORD,
        codes=(*_CODES, "WRONG_STATE"),
        tag=True,
    ),
)
async def amend_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    """Appends a version with an author and a reason; the signed one stays as it was."""
    said = only(await json_object(request), AMENDING, raw="changes")
    based_on = seen(request, said)
    try:
        head = await records.amend(request.user, record_id, said["changes"], based_on, why(said))
    except InvalidFields as refused:
        raise InvalidFields([replace(wrong, field=f"changes.{wrong.field}") for wrong in refused.errors]) from None
    return wire.answer(head)


@post(
    "/v1/records/{record_id:str}/entered-in-error",
    operation_id="retractRecord",
    summary="Mark as entered in error",
    tags=["records"],
    status_code=200,
    **describes(
        body=object_schema(REASONED),
        example={"base_version": 4, "reason": "belongs to another patient"},
        answer=RECORD,
        codes=(*_CODES, "WRONG_STATE"),
        tag=True,
    ),
)
async def retract_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    """The record stays, readable, and says that it is not to be believed."""
    said = only(await json_object(request), REASONED)
    return wire.answer(await records.retract(request.user, record_id, seen(request, said), why(said)))


@post(
    "/v1/records/{record_id:str}/restore",
    operation_id="restoreRecord",
    summary="Restore a deleted record",
    tags=["records"],
    status_code=200,
    **describes(
        body=object_schema(CHANGING),
        example={"base_version": 2},
        answer=RECORD,
        codes=(*_CODES, "WRONG_STATE"),
        tag=True,
    ),
)
async def restore_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    said = only(await json_object(request), CHANGING)
    return wire.answer(await records.restore(request.user, record_id, seen(request, said), why(said)))


@post(
    "/v1/records/{record_id:str}/revert",
    operation_id="revertRecord",
    summary="Go back to an earlier version of a draft",
    tags=["records"],
    status_code=200,
    **describes(
        body=object_schema(REVERTING),
        example={"base_version": 2, "to": 1, "reason": "typed into the wrong record"},
        answer=RECORD,
        codes=(*_CODES, "RECORD_SIGNED", "WRONG_STATE"),
        tag=True,
    ),
)
async def revert_record(request: ApiRequest, records: NamedDependency[Records], record_id: Id) -> Response[bytes]:
    """Appends a version with the content of version `to`."""
    said = only(await json_object(request), REVERTING)
    return wire.answer(await records.revert(request.user, record_id, seen(request, said), said["to"], why(said)))


@get(
    "/v1/records/{record_id:str}/history",
    operation_id="recordHistory",
    summary="Every version of a record",
    tags=["records"],
    **describes(answer=wire.listed(wire.VERSION), codes=("NOT_FOUND",)),
)
async def record_history(
    request: ApiRequest, records: NamedDependency[Records], record_id: Id, limit: Limit = 50, cursor: Before = None
) -> Response[bytes]:
    """The newest first."""
    return wire.history(await records.history(request.user, record_id, cursor, limit + 1), limit)


@get(
    "/v1/records/{record_id:str}/versions/{number:int}",
    operation_id="recordVersion",
    summary="One version of a record",
    tags=["records"],
    **describes(answer=wire.VERSION, codes=("NOT_FOUND",)),
)
async def record_version(
    request: ApiRequest, records: NamedDependency[Records], record_id: Id, number: VersionNumber
) -> Response[bytes]:
    """With the foreign resource that it was imported from, where it was."""
    return wire.one_version(await records.version(request.user, record_id, number))


@get(
    "/v1/records/{record_id:str}/diff",
    operation_id="recordDiff",
    summary="What differs between two versions of a record",
    tags=["records"],
    **describes(answer=wire.DIFFERENCES, codes=("NOT_FOUND",)),
)
async def record_diff(
    request: ApiRequest,
    records: NamedDependency[Records],
    record_id: Id,
    from_: Annotated[int, QueryParameter(name="from", ge=1, le=LARGEST_VERSION)],
    to: Annotated[int, QueryParameter(name="to", ge=1, le=LARGEST_VERSION)],
) -> dict[str, Any]:
    return wire.differences(from_, to, await records.differences(request.user, record_id, from_, to))


HANDLERS = [
    create_record,
    list_records,
    get_record,
    change_record,
    delete_record,
    sign_record,
    amend_record,
    retract_record,
    restore_record,
    revert_record,
    record_history,
    record_version,
    record_diff,
]
