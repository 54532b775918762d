"""What an import reads: foreign resources, already in our words, each with its place of origin."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from heallog.domain.versions import Collection


@dataclass(frozen=True, slots=True)
class Mapped:
    """A resource in our words: `body` has the fields of `domain/patients.py` or `domain/records.py`, not yet checked.

    `status` is the status that a record has on arrival (`draft`, `signed`, …); a patient has none.
    """

    collection: Collection
    id: str
    patient_id: str
    body: Mapping[str, Any]
    status: str = ""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One resource as it was read. Mapped, or refused with a reason, or (neither) of a type that is not mapped.

    `where` says where it stood: `Observation.ndjson.gz:17`, `entry 3`. `source` is the resource byte for byte; `id` is
    its own id, as far as it could be read.
    """

    where: str
    type: str
    id: str
    source: bytes
    mapped: Mapped | None = None
    refused: str | None = None


class ResourceSource(Protocol):
    """Something to import, readable twice: patients first, for everything else belongs to one. Both stream."""

    def patients(self) -> Iterator[Incoming]:
        """Only the patients."""

    def others(self) -> Iterator[Incoming]:
        """Everything else, what cannot be read included: each resource comes in exactly one of the two."""

    def progress(self) -> tuple[int, int]:
        """How many bytes of both readings are behind, of how many."""
