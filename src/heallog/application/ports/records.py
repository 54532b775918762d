"""Where records are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from heallog.domain.audit import Written
from heallog.domain.versions import Head


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which of a patient's records. `since` and `until` are about `occurred_at`; `until` is exclusive."""

    kind: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    code: str | None = None


class RecordRepository(Protocol):
    """Records inside a unit of work."""

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
        """The heads that exist, locked until the end of the unit of work, in the order of their ids."""

    async def append(self, written: Sequence[Written]) -> None:
        """Store one contribution's versions, heads and audit entries at once, each thing at most one time.

        Raises `AlreadyExists` where an id, or a version's number, is taken; then nothing is stored.
        """


class RecordReads(Protocol):
    """Plain reads."""

    async def get(self, practice_id: str, record_id: str) -> Head | None: ...

    async def of_patient(
        self, practice_id: str, patient_id: str, chosen: RecordFilter, *, after: str | None, limit: int
    ) -> Sequence[Head] | None:
        """Latest `occurred_at` first, after the record with id `after`. None where the patient is missing."""
