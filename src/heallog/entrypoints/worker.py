"""What goes on beside the requests, for as long as the application lives."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

LAST = 5.0
"""Seconds that the last round has when the application ends."""


class Repeated:
    """Work that is done again every so often, and (`at_last`) once more at the end.

    What goes wrong is logged, never fatal.
    """

    def __init__(
        self, name: str, work: Callable[[], Awaitable[object]], every: float, *, at_last: bool = False
    ) -> None:
        self._name = name
        self._work = work
        self._every = every
        self._at_last = at_last
        self._log = structlog.get_logger("heallog.worker")
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends within `LAST` seconds, whatever the work is waiting for."""
        if self._task is None:
            return
        self._over.set()
        await asyncio.wait([self._task], timeout=LAST)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    async def _run(self) -> None:
        last = False
        while not last:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every)
            last = self._over.is_set()
            if last and not self._at_last:
                return
            try:
                await self._work()
            except Exception as error:
                self._log.error("work_failed", action=self._name, type=type(error).__qualname__)
