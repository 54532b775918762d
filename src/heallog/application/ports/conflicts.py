"""Where conflicts are kept."""

from collections.abc import Sequence
from typing import Protocol

from heallog.domain.conflicts import Conflict, State


class ConflictRepository(Protocol):
    """Conflicts inside a unit of work. Whoever writes one holds the lock of the thing that it is about."""

    async def these(self, practice_id: str, ids: Sequence[str]) -> dict[str, Conflict]:
        """Those of the asked conflicts that exist."""

    async def put(self, conflicts: Sequence[Conflict]) -> None:
        """Store them, new or known. A thing has one open conflict at most: a second one is a bug."""


class ConflictReads(Protocol):
    """Plain reads."""

    async def get(self, practice_id: str, conflict_id: str) -> Conflict | None: ...

    async def page(
        self, practice_id: str, *, state: State | None, patient_id: str | None, after: str | None, limit: int
    ) -> Sequence[Conflict]:
        """The newest first, after the conflict with id `after`."""
