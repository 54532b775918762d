"""Conflicts in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import ConstraintViolated, Overlay, Tables
from heallog.domain.conflicts import Conflict, State
from heallog.domain.sync import Feed, of_conflict


class ConflictRepository:
    """Conflicts inside a unit of work."""

    def __init__(self, tables: Overlay, feed: Feed) -> None:
        self._tables = tables
        self._feed = feed

    async def these(self, practice_id: str, ids: Sequence[str]) -> dict[str, Conflict]:
        found = ((conflict_id, self._tables.conflicts.get((practice_id, conflict_id))) for conflict_id in ids)
        return {conflict_id: replace(conflict) for conflict_id, conflict in found if conflict is not None}

    async def put(self, conflicts: Sequence[Conflict]) -> None:
        with self._tables.writing():
            if len({conflict.id for conflict in conflicts}) < len(conflicts):
                raise ConstraintViolated("conflicts: one comes twice")
            for conflict in conflicts:
                self._check(conflict)
                key = conflict.practice_id, conflict.id
                if (known := self._tables.conflicts.get(key)) is not None:
                    # What it is about and when it began never change.
                    about = ("collection", "thing_id", "patient_id", "opened_at")
                    conflict = replace(conflict, **{name: getattr(known, name) for name in about})  # noqa: PLW2901
                self._tables.conflicts[key] = replace(conflict)
        for conflict in conflicts:
            self._feed.tell(conflict.practice_id, [of_conflict(conflict)])

    def _check(self, conflict: Conflict) -> None:
        if conflict.practice_id not in self._tables.practices:
            raise ConstraintViolated("conflicts: no such practice")
        about = conflict.practice_id, conflict.collection, conflict.thing_id
        if conflict.state is State.OPEN and any(
            other.state is State.OPEN
            and other.id != conflict.id
            and (other.practice_id, other.collection, other.thing_id) == about
            for other in self._tables.conflicts.values()
        ):
            raise ConstraintViolated("conflicts: one is open already")


class ConflictReads:
    """Plain reads of what is committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, practice_id: str, conflict_id: str) -> Conflict | None:
        conflict = self._tables.conflicts.get((practice_id, conflict_id))
        return None if conflict is None else replace(conflict)

    async def page(
        self, practice_id: str, *, state: State | None, patient_id: str | None, after: str | None, limit: int
    ) -> Sequence[Conflict]:
        chosen = [
            conflict
            for (owner, conflict_id), conflict in self._tables.conflicts.items()
            if owner == practice_id
            and state in (None, conflict.state)
            and patient_id in (None, conflict.patient_id)
            and (after is None or conflict_id < after)
        ]
        return [replace(conflict) for conflict in sorted(chosen, key=lambda one: one.id, reverse=True)[:limit]]


if TYPE_CHECKING:
    from heallog.application.ports import conflicts as ports

    _: type[ports.ConflictReads] = ConflictReads
