"""Everything there is, in memory."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import Store
from heallog.domain.versions import Collection, Head, Version


class MemoryLedger:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def versions(self, collection: Collection) -> AsyncIterator[Version]:
        for thing, versions in sorted(self._store.versions.items(), key=lambda item: item[0]):
            if thing[1] == collection:
                for version in versions:
                    yield replace(version)

    async def heads(self, collection: Collection) -> AsyncIterator[Head]:
        if collection is Collection.PATIENTS:
            heads = [row.head for row in self._store.patients.values()]
        else:
            heads = [row.head for row in self._store.records.values()]
        for head in sorted(heads, key=lambda head: (head.practice_id, head.id)):
            yield replace(head)

    async def size(self) -> int:
        return sum(map(len, self._store.versions.values()))


if TYPE_CHECKING:
    from heallog.application.ports.versions import Ledger

    _: type[Ledger] = MemoryLedger
