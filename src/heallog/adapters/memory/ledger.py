"""Everything there is, in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import Store, Tables
from heallog.domain.versions import Collection, Head, Version


class MemoryLedger:
    """Of one moment: writers go on meanwhile and are not seen."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def versions(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Version]:
        for thing, versions in sorted(self._tables.versions.items(), key=lambda item: item[0]):
            if thing[1] == collection and practice_id in (None, thing[0]):
                for version in versions:
                    yield replace(version)

    async def heads(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Head]:
        if collection is Collection.PATIENTS:
            heads = [row.head for row in self._tables.patients.values()]
        else:
            heads = [row.head for row in self._tables.records.values()]
        for head in sorted(heads, key=lambda head: (head.practice_id, head.id)):
            if practice_id in (None, head.practice_id):
                yield replace(head)

    async def size(self, practice_id: str | None = None) -> int:
        return sum(
            len(versions) for thing, versions in self._tables.versions.items() if practice_id in (None, thing[0])
        )


@asynccontextmanager
async def ledger(store: Store) -> AsyncIterator[MemoryLedger]:
    """The ledger as it stands now. Rows are never changed in place, so the tables' own copies are enough."""
    yield MemoryLedger(
        Tables(patients=dict(store.patients), records=dict(store.records), versions=dict(store.versions))
    )


if TYPE_CHECKING:
    from heallog.application.ports.versions import Ledger

    _: type[Ledger] = MemoryLedger
