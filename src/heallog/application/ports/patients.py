"""Where patients are kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.audit import Written
from heallog.domain.patients import Query
from heallog.domain.versions import Head


class PatientRepository(Protocol):
    """Patients inside a unit of work."""

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
        """The heads that exist, locked until the end of the unit of work, in the order of their ids."""

    async def present(self, practice_id: str, ids: Sequence[str]) -> set[str]:
        """Which of these exist and are not deleted; they stay so until the end of the unit of work."""

    async def append(self, written: Sequence[Written]) -> None:
        """Store one contribution's versions, heads and audit entries at once, each thing at most one time.

        Raises `AlreadyExists` where an id, or a version's number, is taken; then nothing is stored.
        """


class PatientReads(Protocol):
    """Plain reads."""

    async def get(self, practice_id: str, patient_id: str) -> Head | None: ...

    async def page(
        self, practice_id: str, *, after: str | None, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        """By name, after the patient with id `after`; not the deleted ones."""

    async def search(
        self, practice_id: str, query: Query, *, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        """Exact matches by name; where there are none, forgiving ones, best first."""
