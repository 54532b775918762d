"""Routes of patients."""

from typing import Annotated, Any

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Response

from heallog.application.patients import Patients
from heallog.domain import patients as domain
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import Errors, object_schema
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

PATIENT: dict[str, Any] = {
    "type": "object",
    "properties": {**wire.IDENTITY, **object_schema(domain.FIELDS)["properties"]},
}
_EXAMPLE = {
    "family_name": "Obi",
    "given_name": "Ngozi",
    "birth_date": "1984-02-29",
    "sex": "female",
    "phone": "+234 803 555 0142",
    "identifiers": [{"system": "urn:example:mrn", "value": "H-20117"}],
}
_CHANGE_CODES = (
    "MALFORMED_JSON",
    "NOT_FOUND",
    "VERSION_CONFLICT",
    "STALE_VERSION",
    "INVALID_FIELDS",
    "VERSION_REQUIRED",
)


@post(
    "/v1/patients",
    operation_id="createPatient",
    summary="Create a patient",
    tags=["patients"],
    **describes(
        body=object_schema({**CREATING, **domain.FIELDS}, writing=True),
        example=_EXAMPLE,
        answer=PATIENT,
        codes=("MALFORMED_JSON", "ALREADY_EXISTS", "VERSION_CONFLICT", "INVALID_FIELDS"),
    ),
)
async def create_patient(request: ApiRequest, patients: NamedDependency[Patients]) -> Response[bytes]:
    """The id may be the client's own; sending the same creation again answers as the first time did."""
    said, body = split(await json_object(request), CREATING, domain.FIELDS)
    head = await patients.create(request.user, body, said.get("id"), why(said))
    return wire.answer(head, created=f"/v1/patients/{head.id}")


@get(
    "/v1/patients",
    operation_id="listPatients",
    summary="List or find patients",
    tags=["patients"],
    **describes(answer=wire.listed(PATIENT)),
)
async def list_patients(
    request: ApiRequest,
    patients: NamedDependency[Patients],
    q: Annotated[
        str | None, QueryParameter(max_length=200, description="Name, phone or identifier; forgives typos.")
    ] = None,
    tag: Word = None,
    updated_since: Annotated[str | None, QueryParameter(max_length=40)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response[bytes]:
    """By name. With `q` the best matches come first, on one page."""
    wrong: Errors = []
    since = instant("updated_since", updated_since, wrong)
    if wrong:
        raise InvalidFields(wrong)
    if q is not None and q.strip():
        found = await patients.search(request.user, q, limit=limit, tag=tag, updated_since=since)
        return wire.page(found, limit)
    heads = await patients.page(request.user, after=cursor, limit=limit + 1, tag=tag, updated_since=since)
    return wire.page(heads, limit)


@get(
    "/v1/patients/{patient_id:str}",
    operation_id="getPatient",
    summary="Read a patient",
    tags=["patients"],
    **describes(answer=PATIENT, codes=("NOT_FOUND",)),
)
async def get_patient(request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id) -> Response[bytes]:
    return wire.answer_if_changed(request, await patients.get(request.user, patient_id))


@patch(
    "/v1/patients/{patient_id:str}",
    operation_id="changePatient",
    summary="Change a patient",
    tags=["patients"],
    **describes(
        body=object_schema({**CHANGING, **domain.FIELDS}, writing=True),
        example={"base_version": 1, "phone": "+234 803 555 0199"},
        answer=PATIENT,
        codes=_CHANGE_CODES,
        tag=True,
    ),
)
async def change_patient(request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id) -> Response[bytes]:
    """Only the fields that are sent change; `null` takes a field away."""
    said, changes = split(await json_object(request), CHANGING, domain.FIELDS)
    return wire.answer(await patients.change(request.user, patient_id, changes, seen(request, said), why(said)))


@delete(
    "/v1/patients/{patient_id:str}",
    operation_id="deletePatient",
    summary="Delete a patient",
    tags=["patients"],
    **describes(body=object_schema(CHANGING), codes=_CHANGE_CODES, tag=True),
)
async def delete_patient(request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id) -> Response[None]:
    """Appends an empty version; every earlier one stays. The answer's ETag is the version to restore from."""
    said = only(await json_object(request), CHANGING)
    return wire.gone(await patients.delete(request.user, patient_id, seen(request, said), why(said)))


@post(
    "/v1/patients/{patient_id:str}/restore",
    operation_id="restorePatient",
    summary="Restore a deleted patient",
    tags=["patients"],
    status_code=200,
    **describes(
        body=object_schema(CHANGING),
        example={"base_version": 2},
        answer=PATIENT,
        codes=(*_CHANGE_CODES, "WRONG_STATE"),
        tag=True,
    ),
)
async def restore_patient(request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id) -> Response[bytes]:
    said = only(await json_object(request), CHANGING)
    return wire.answer(await patients.restore(request.user, patient_id, seen(request, said), why(said)))


@post(
    "/v1/patients/{patient_id:str}/revert",
    operation_id="revertPatient",
    summary="Go back to an earlier version",
    tags=["patients"],
    status_code=200,
    **describes(
        body=object_schema(REVERTING),
        example={"base_version": 3, "to": 1, "reason": "wrong patient"},
        answer=PATIENT,
        codes=(*_CHANGE_CODES, "WRONG_STATE"),
        tag=True,
    ),
)
async def revert_patient(request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id) -> Response[bytes]:
    """Appends a version with the content of version `to`."""
    said = only(await json_object(request), REVERTING)
    return wire.answer(await patients.revert(request.user, patient_id, seen(request, said), said["to"], why(said)))


@get(
    "/v1/patients/{patient_id:str}/history",
    operation_id="patientHistory",
    summary="Every version of a patient",
    tags=["patients"],
    **describes(answer=wire.listed(wire.VERSION), codes=("NOT_FOUND",)),
)
async def patient_history(
    request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id, limit: Limit = 50, cursor: Before = None
) -> Response[bytes]:
    """The newest first."""
    return wire.history(await patients.history(request.user, patient_id, cursor, limit + 1), limit)


@get(
    "/v1/patients/{patient_id:str}/versions/{number:int}",
    operation_id="patientVersion",
    summary="One version of a patient",
    tags=["patients"],
    **describes(answer=wire.VERSION, codes=("NOT_FOUND",)),
)
async def patient_version(
    request: ApiRequest, patients: NamedDependency[Patients], patient_id: Id, number: VersionNumber
) -> Response[bytes]:
    return wire.one_version(await patients.version(request.user, patient_id, number))


@get(
    "/v1/patients/{patient_id:str}/diff",
    operation_id="patientDiff",
    summary="What differs between two versions of a patient",
    tags=["patients"],
    **describes(answer=wire.DIFFERENCES, codes=("NOT_FOUND",)),
)
async def patient_diff(
    request: ApiRequest,
    patients: NamedDependency[Patients],
    patient_id: Id,
    from_: Annotated[int, QueryParameter(name="from", ge=1, le=LARGEST_VERSION)],
    to: Annotated[int, QueryParameter(name="to", ge=1, le=LARGEST_VERSION)],
) -> dict[str, Any]:
    found = await patients.differences(request.user, patient_id, from_, to)
    return wire.differences(from_, to, found)


HANDLERS = [
    create_patient,
    list_patients,
    get_patient,
    change_patient,
    delete_patient,
    restore_patient,
    revert_patient,
    patient_history,
    patient_version,
    patient_diff,
]
