"""One FHIR resource in our words: mapped, refused with a reason, or of a type that HealLog does not take."""

import re
from typing import Any

from heallog.adapters.fhir.node import Node, Refused, shown
from heallog.adapters.fhir.patients import read_patient
from heallog.adapters.fhir.records import KINDS, read_record
from heallog.adapters.fhir.references import Links, Resolve, own_id, record_id
from heallog.application.ports.imports import Incoming, Mapped
from heallog.domain.versions import Collection

PATIENT = "Patient"
BUNDLE = "Bundle"
UNKNOWN = "?"
"""The type of what cannot be read."""

_TYPE = re.compile(r"[A-Za-z]{1,64}")


def map_resource(resource: dict[str, Any], where: str, source: bytes, resolve: Resolve) -> Incoming:
    """A decoded resource, mapped. Never raises: what is wrong with it is in `refused`, with its FHIR path."""
    own = resource.get("id")
    own = own if isinstance(own, str) and len(own) <= 64 and own.isprintable() else ""
    kind = UNKNOWN
    try:
        kind = _type(resource)
        mapped = _mapped(kind, resource, resolve)
    except Refused as refusal:
        return Incoming(where, kind, own, source, refused=str(refusal))
    return Incoming(where, kind, own, source, mapped)


def _type(resource: dict[str, Any]) -> str:
    kind = resource.get("resourceType")
    if kind is None:
        raise Refused("resourceType is missing")
    if not isinstance(kind, str):
        raise Refused("resourceType: must be a string")
    if not _TYPE.fullmatch(kind):
        raise Refused(f"resourceType: {shown(kind)} is not the name of a type")
    return kind


def _mapped(type: str, resource: dict[str, Any], resolve: Resolve) -> Mapped | None:
    if type not in KINDS and type != PATIENT:
        return None
    root = Node(resource)
    own = own_id(root)
    if type == PATIENT:
        return Mapped(Collection.PATIENTS, own, own, read_patient(root))
    patient_id, body, status = read_record(type, root, Links(resolve, KINDS))
    return Mapped(Collection.RECORDS, record_id(type, own), patient_id, body, status)
