"""Tries in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from heallog.adapters.memory.store import Overlay
from heallog.domain.tries import Tries


class TriesRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def lock(self, keys: Sequence[str], now: datetime) -> Sequence[Tries]:
        with self._tables.writing():
            for key in keys:
                if self._tables.tries.get(key) is None:
                    self._tables.tries[key] = Tries(key, 0, now)
            return [replace(one) for key in keys if (one := self._tables.tries[key])]

    async def put(self, tries: Sequence[Tries]) -> None:
        with self._tables.writing():
            for one in tries:
                if self._tables.tries.get(one.key) is not None:
                    self._tables.tries[one.key] = replace(one)

    async def forget(self, keys: Sequence[str]) -> None:
        with self._tables.writing():
            self._tables.tries.update(dict.fromkeys(keys))
