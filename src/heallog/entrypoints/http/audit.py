"""Routes of the audit trail."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from heallog.application.audit import Audit, Proof
from heallog.domain.audit import Chosen, Line
from heallog.domain.canon import moment
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import Errors
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import Cursor, Id, Limit, instant
from heallog.entrypoints.http.openapi import describes

_STRING: dict[str, Any] = {"type": "string"}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}
_COUNT: dict[str, Any] = {"type": "integer"}

ACCESS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _STRING,
        "at": {"type": "string", "format": "date-time"},
        "account_id": _STRING,
        "account_name": _MAYBE,
        "role": _STRING,
        "action": _STRING,
        "outcome": {"type": "string", "description": "`done`, `refused`, or what became of it otherwise."},
        "collection": _MAYBE,
        "thing_id": _MAYBE,
        "version": {"type": ["integer", "null"]},
        "reason": {"type": ["string", "null"], "description": "What the caller said; of a refusal, its code."},
    },
}
ENTRY: dict[str, Any] = {
    "type": "object",
    "properties": {
        **ACCESS["properties"],
        "patient_id": _MAYBE,
        "session_id": _STRING,
        "device_id": _STRING,
        "request_id": _STRING,
        "fields": {"type": "array", "items": _STRING, "description": "The names of the changed fields."},
        "subjects": {"type": "array", "items": _STRING, "description": "The patients that a list showed."},
        "hash": {"type": ["string", "null"], "description": "The version's, where it made one."},
    },
}
PROOF: dict[str, Any] = {
    "type": "object",
    "properties": {
        "good": {"type": "boolean"},
        "entries": _COUNT,
        "seals": _COUNT,
        "witnessed": _COUNT,
        "unsealed": _COUNT,
        "versions": _COUNT,
        "flaw": {
            "type": ["object", "null"],
            "properties": {
                "what": _STRING,
                "entry_id": _MAYBE,
                "seal": {"type": ["integer", "null"]},
                "collection": _MAYBE,
                "thing_id": _MAYBE,
                "version": {"type": ["integer", "null"]},
            },
        },
    },
}

Wanted = Annotated[str | None, QueryParameter(pattern=r"^[A-Za-z0-9.-]{1,64}(?!\n)$")]


def _access(line: Line) -> dict[str, Any]:
    entry = line.entry
    return {
        "id": entry.id,
        "at": moment(entry.at),
        "account_id": entry.account_id,
        "account_name": line.account_name,
        "role": entry.role,
        "action": entry.action,
        "outcome": entry.outcome,
        "collection": entry.collection,
        "thing_id": entry.thing_id,
        "version": entry.version,
        "reason": entry.reason,
    }


def _entry(line: Line) -> dict[str, Any]:
    entry = line.entry
    return {
        **_access(line),
        "patient_id": entry.patient_id,
        "session_id": entry.session_id,
        "device_id": entry.device_id,
        "request_id": entry.request_id,
        "fields": list(entry.fields),
        "subjects": list(entry.subjects),
        "hash": None if entry.hash is None else entry.hash.hex(),
    }


def _page(lines: Sequence[Line], limit: int, shape: Any) -> dict[str, Any]:
    """A list that was asked for with one more than `limit`."""
    shown = lines[:limit]
    return {
        "items": [shape(line) for line in shown],
        "next_cursor": shown[-1].entry.id if len(lines) > limit else None,
    }


def proof_document(proof: Proof) -> dict[str, Any]:
    """A proof as one JSON object; of a flaw, what is known."""
    flaw = proof.flaw
    return {
        "good": flaw is None,
        **{name: getattr(proof, name) for name in ("entries", "seals", "witnessed", "unsealed", "versions")},
        "flaw": None
        if flaw is None
        else {name: getattr(flaw, name) for name in PROOF["properties"]["flaw"]["properties"]},
    }


@get(
    "/v1/audit",
    operation_id="listAudit",
    summary="The practice's audit trail",
    tags=["audit"],
    **describes(answer=wire.listed(ENTRY)),
)
async def list_audit(
    request: ApiRequest,
    audit: NamedDependency[Audit],
    patient_id: Wanted = None,
    account_id: Wanted = None,
    from_: Annotated[str | None, QueryParameter(name="from", max_length=40)] = None,
    to: Annotated[str | None, QueryParameter(name="to", max_length=40)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """The newest first; about a patient, lists that showed them too. `from` is inclusive, `to` is not."""
    wrong: Errors = []
    chosen = Chosen(patient_id, account_id, instant("from", from_, wrong), instant("to", to, wrong))
    if wrong:
        raise InvalidFields(wrong)
    return _page(await audit.page(request.user, chosen, after=cursor, limit=limit + 1), limit, _entry)


@get(
    "/v1/audit/verify",
    operation_id="verifyAudit",
    summary="Prove the practice's trail and versions",
    tags=["audit"],
    **describes(answer=PROOF),
)
async def verify_audit(request: ApiRequest, audit: NamedDependency[Audit]) -> dict[str, Any]:
    """Reads everything there is: seals, entries, versions. Names the first that is not what was written."""
    return proof_document(await audit.verify(request.user))


@get(
    "/v1/patients/{patient_id:str}/access-log",
    operation_id="patientAccessLog",
    summary="Who read or changed a patient's record",
    tags=["audit"],
    **describes(answer=wire.listed(ACCESS), codes=("NOT_FOUND",)),
)
async def patient_access_log(
    request: ApiRequest, audit: NamedDependency[Audit], patient_id: Id, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """The newest first, refusals too. Also of a patient who was deleted."""
    return _page(await audit.access_log(request.user, patient_id, after=cursor, limit=limit + 1), limit, _access)


HANDLERS = [list_audit, verify_audit, patient_access_log]
