"""Importing over HTTP."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from litestar import post
from litestar.di import NamedDependency

from heallog.application.imports import Imports, Report
from heallog.application.ports.imports import ResourceSource
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.errors import UnsupportedMediaType
from heallog.entrypoints.http.limits import Rate
from heallog.entrypoints.http.openapi import describes

FhirBundle = Callable[[bytes], ResourceSource]
"""Reads a Bundle. Raises `MalformedJson`, `InvalidFields`."""

_COUNT = {"type": "integer"}
REPORT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "types": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": dict.fromkeys(
                    ("read", "created", "updated", "unchanged", "refused", "not_mapped"), _COUNT
                ),
            },
        },
        "refused": _COUNT,
        "refusals": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("where", "type", "id", "reason")},
            },
        },
    },
}
_EXAMPLE = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {
            "resource": {
                "resourceType": "Patient",
                "id": "7f3a1c9e-4b1d-4a5e-9a44-0c8f3f1d2b10",
                "name": [{"family": "Obi", "given": ["Ngozi"]}],
                "birthDate": "1984-02-29",
            }
        }
    ],
}


def report_document(report: Report) -> dict[str, Any]:
    return {
        "types": {kind: asdict(tally) for kind, tally in sorted(report.types.items())},
        "refused": report.refused,
        "refusals": [asdict(refusal) for refusal in report.refusals],
    }


@post(
    "/v1/import/fhir",
    rate=Rate.BULK,
    operation_id="importFhir",
    summary="Import a FHIR R4 Bundle",
    tags=["imports"],
    status_code=200,
    **describes(
        body={"type": "object", "required": ["resourceType"], "properties": {"resourceType": {"type": "string"}}},
        example=_EXAMPLE,
        answer=REPORT,
        codes=("MALFORMED_JSON", "INVALID_FIELDS"),
    ),
)
async def import_fhir(
    request: ApiRequest, imports: NamedDependency[Imports], fhir_bundle: NamedDependency[FhirBundle]
) -> dict[str, Any]:
    """Takes what can be taken and reports the rest. Sending the same Bundle again changes nothing."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared not in ("application/json", "application/fhir+json"):
        raise UnsupportedMediaType("the body must be application/fhir+json or application/json")
    return report_document(await imports.run(request.user, fhir_bundle(await request.body())))


HANDLERS = [import_fhir]
