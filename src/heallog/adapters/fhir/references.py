"""Ids and references: which patient a resource is about, and which records it points to."""

import hashlib
import re
from collections.abc import Callable, Container, Iterable

from heallog.adapters.fhir.node import Node, Refused, shown

Resolve = Callable[[str], tuple[str, str] | None]
"""The type and id of the resource that a Bundle calls by this `urn:`."""

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REFERENCE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://[^?#]*/)?([A-Z][A-Za-z]{1,63})/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?"
)


def own_id(resource: Node) -> str:
    """The resource's id. Raises `Refused` where FHIR would not allow it."""
    own = resource.lines("id")
    if not own:
        raise Refused("id is missing")
    if not _ID.fullmatch(own):
        raise Refused(f"id {shown(own)} is not 1 to 64 letters, digits, dots or hyphens")
    return own


def record_id(type: str, id: str) -> str:
    """A record's id here. FHIR ids are unique per type only, so what is not a UUID gets its type before it."""
    if _UUID.fullmatch(id):
        return id
    named = f"{type}.{id}"
    return named if len(named) <= 64 else f"{type}.{hashlib.sha256(id.encode()).hexdigest()[:32]}"


class Links:
    """Follows references; what a `urn:` stands for is up to the Bundle that it was found in."""

    def __init__(self, resolve: Resolve, records: Container[str]) -> None:
        self._resolve = resolve
        self._records = records

    def patient(self, resource: Node, name: str) -> str:
        """The id of the patient that `subject` or `patient` names. Raises `Refused` where it names none."""
        subject = resource.node(name)
        if not subject.fields:
            raise Refused(f"no patient: {name} is missing")
        reference = subject.lines("reference")
        if not reference:
            raise Refused(f"no patient: {name} has no reference, and an identifier or a name alone is not enough")
        found = self._target(reference)
        if found is None:
            raise Refused(f"no patient: {name}.reference {shown(reference)} {_obstacle(reference)}")
        if found[0] != "Patient":
            raise Refused(f"no patient: {name}.reference {shown(reference)} is a {found[0]}")
        return found[1]

    def record(self, reference: Node, *types: str) -> str:
        """The id of the record that is referred to, or "" where it is not one of ours (of these types)."""
        found = self._target(reference.lines("reference"))
        if found is None or found[0] not in (types or self._records):
            return ""
        return record_id(*found)

    def records(self, references: Iterable[Node], *types: str) -> list[str]:
        return [found for reference in references if (found := self.record(reference, *types))]

    def _target(self, reference: str) -> tuple[str, str] | None:
        if reference.startswith("urn:"):
            meant = self._resolve(reference)
            return meant if meant and _ID.fullmatch(meant[1]) else None
        found = _REFERENCE.fullmatch(reference)
        return (found[1], found[2]) if found else None


def _obstacle(reference: str) -> str:
    if reference.startswith("urn:"):
        return "is not in this Bundle"
    if reference.startswith("#"):
        return "is inside the resource itself; a patient of its own is needed"
    if "?" in reference:
        return "is a search, not an id"
    return "is not of the form Patient/id"
