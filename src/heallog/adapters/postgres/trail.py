"""Entries of concurrent requests, written together: one statement, one flush of the log, many answers.

While a batch is being written, the entries of whoever reads meanwhile collect; they are the next batch. Nobody waits
for a timer, and a reader alone waits for its own entry only (ADR 11).
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heallog.adapters.postgres.audit import add
from heallog.adapters.postgres.database import CLOSING, Executor
from heallog.domain.audit import AuditEntry
from heallog.domain.errors import Unavailable

LARGEST = 1_000
"""Entries in one batch."""

MOST_WAITING = 20_000
"""Entries that may wait; beyond that reads are refused, for the database does not keep up."""

_Waiting = tuple[AuditEntry, "asyncio.Future[None]"]


class PostgresTrail:
    """Group commit. `flights` batches may be on their way at once."""

    def __init__(self, executor: Executor, *, flights: int = 1, largest: int = LARGEST) -> None:
        self._executor = executor
        self._flights = flights
        self._largest = largest
        self._waiting: list[_Waiting] = []
        self._flying = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def record(self, entry: AuditEntry) -> None:
        if self._closed or len(self._waiting) >= MOST_WAITING:
            raise Unavailable("the audit trail takes no entries now")
        # Each its own future: a request that is cancelled takes nobody with it, and its entry is written all the same.
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, kept))
        if self._flying < self._flights:
            self._flying += 1
            task = asyncio.create_task(self._fly())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await kept

    async def close(self) -> None:
        """Refuse what comes from here on; what was taken is written, if the database answers in time."""
        self._closed = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSING)
            for task in late:
                task.cancel()

    async def _fly(self) -> None:
        """Batch after batch, until nobody waits. Counted down in here: a callback would come a turn too late."""
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
                try:
                    await self._write(batch)
                except Exception as error:
                    _fail(batch, error)
        finally:
            self._flying -= 1
            # Only where this task was called off is anybody left.
            _fail([*batch, *self._waiting] if self._closed else batch, Unavailable("the audit trail was closed"))

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            await add(self._executor, [entry for entry, _ in batch])
        except Unavailable:
            raise
        except Exception:
            # One entry that the database will not have must not cost the others theirs.
            if len(batch) == 1:
                raise
            for one in batch:
                try:
                    await self._write([one])
                except Exception as error:
                    _fail([one], error)
            return
        for _, kept in batch:
            if not kept.done():
                kept.set_result(None)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, kept in batch:
        if not kept.done():
            kept.set_exception(error)


if TYPE_CHECKING:
    from heallog.application.ports.audit import Trail

    _: type[Trail] = PostgresTrail
