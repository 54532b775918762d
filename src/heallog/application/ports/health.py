"""Where it is kept how sync fares."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.health import Chosen, Count, Device, Gauges, Place, Reading, SyncEvent, Waiting


class Meter(Protocol):
    """Counts, over all processes."""

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count one of `domain.health.METRICS` up. Returns at once. Raises `ValueError` for one that is not there."""


class HealthLog(Meter, Protocol):
    """Takes events from whoever syncs, and costs them nothing: they are written a little later, many together.

    The last ones are lost where a process is killed; they decide nothing.
    """

    def record(self, event: SyncEvent) -> None: ...

    async def flush(self) -> None:
        """Write what was taken so far: events, where their devices are now, what they count up. Raises `Unavailable`;
        then it is kept for the next time."""

    async def forget(self, before: datetime, most: int) -> int:
        """Delete events of the time before, at most so many. How many that were."""


class Devices(Protocol):
    async def positions(self, practice_id: str) -> Sequence[Device]:
        """Every device that ever came, the one that was seen last first."""


class HealthReads(Devices, Protocol):
    """Plain reads of what was flushed."""

    async def events(self, practice_id: str, chosen: Chosen, after: Place | None, limit: int) -> Sequence[SyncEvent]:
        """Newest first, after a place."""

    async def counts(self, practice_id: str, since: datetime) -> Sequence[Count]: ...

    async def disputes(self, practice_id: str, since: datetime) -> Sequence[tuple[str, int]]:
        """`field:policy` with how often it was, the most frequent first."""

    async def waiting(self, practice_id: str) -> Waiting: ...

    async def meters(self) -> Sequence[tuple[Reading, float]]:
        """Everything that was counted, in its order."""

    async def gauges(self, since: datetime) -> Gauges:
        """Of all practices; of devices those that were seen since."""
