"""FHIR resources written for tests, and reading them as the adapter does."""

import base64
from typing import Any

from heallog.adapters.fhir.mapping import map_resource
from heallog.application.ports.imports import Incoming, Mapped
from heallog.domain import patients, records
from heallog.domain.errors import InvalidFields
from heallog.domain.versions import Collection

Resource = dict[str, Any]

UUID = "0b9c6a52-6f0e-4c57-9d0e-3f3c0a1d2e4f"
ALICE = {"reference": "Patient/alice"}
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"


def nowhere(url: str) -> tuple[str, str] | None:
    """A Bundle that calls nothing by a name of its own."""
    return None


def read(resource: Resource) -> Incoming:
    return map_resource(resource, "Some.ndjson:1", b"{}", nowhere)


def complaints(found: Mapped) -> list[tuple[str, str]]:
    """What the domain has to say: field and code."""
    try:
        if found.collection is Collection.PATIENTS:
            patients.new(found.body)
        else:
            records.imported(found.body, found.status)
    except InvalidFields as refusal:
        return [(error.field, error.code) for error in refusal.errors]
    return []


def mapped(resource: Resource) -> Mapped:
    """The resource in our words, and the domain agrees with every one of them."""
    incoming = read(resource)
    assert incoming.refused is None
    assert incoming.mapped is not None
    assert complaints(incoming.mapped) == []
    return incoming.mapped


def body(resource: Resource) -> Resource:
    return dict(mapped(resource).body)


def refused(resource: Resource) -> str:
    incoming = read(resource)
    assert incoming.mapped is None
    assert incoming.refused is not None
    return incoming.refused


def some(type: str, /, **fields: Any) -> Resource:
    """A resource of a type with a subject; a name with `None` is left out."""
    who = "patient" if type in ("AllergyIntolerance", "Immunization") else "subject"
    whole = {"resourceType": type, "id": "x1", who: ALICE, **fields}
    return {name: value for name, value in whole.items() if value is not None}


def coded(code: str, display: str = "", system: str = SNOMED, **more: Any) -> Resource:
    return {"coding": [{"system": system, "code": code, **({"display": display} if display else {})}], **more}


def encoded(text: str, charset: str = "utf-8") -> str:
    return base64.b64encode(text.encode(charset)).decode()


def observation(**fields: Any) -> Resource:
    return some("Observation", **{"code": coded("8302-2", "Body height", LOINC), "status": "final", **fields})
