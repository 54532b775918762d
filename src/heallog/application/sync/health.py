"""Use cases of the health of sync: note what every pull and push came to, and tell it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from heallog.application.ports.health import HealthLog, HealthReads
from heallog.application.ports.world import Clock, Ids
from heallog.application.trail import Books, audited
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.health import (
    LATEST_DEVICES,
    Chosen,
    Door,
    Gauges,
    Metrics,
    Mode,
    Outcome,
    Place,
    Stats,
    SyncEvent,
    Tally,
)

SWEPT_AT_ONCE = 10_000
"""Events that one statement deletes."""

GAUGES_LIFE = timedelta(seconds=15)
"""How long a look at all devices and quarantines is good for, however often it is asked for."""

ACTIVE = timedelta(days=30)
"""Devices that were not seen for longer do not count as lagging behind."""


class Health:
    """`days` are how long events are kept."""

    def __init__(self, log: HealthLog, reads: HealthReads, books: Books, clock: Clock, ids: Ids, *, days: int) -> None:
        self.books = books
        self._log = log
        self._reads = reads
        self._clock = clock
        self._ids = ids
        self._kept = timedelta(days=days)
        self._gauges: tuple[datetime, Gauges] | None = None

    def now(self) -> datetime:
        """When a pull or push begins."""
        return self._clock()

    def note(
        self,
        actor: Actor,
        door: Door,
        mode: Mode,
        at: datetime,
        tally: Tally,
        *,
        outcome: Outcome,
        code: str | None,
        duration_ms: float,
        bytes: int,
    ) -> None:
        """What a pull or push came to. It costs nobody anything: `flush` writes it."""
        self._log.record(
            SyncEvent(
                actor.practice_id,
                self._ids(),
                at,
                actor.account_id,
                actor.device_id,
                door,
                Mode.BATCHED_PULL if tally.batched else mode,
                outcome,
                code,
                round(duration_ms, 3),
                bytes,
                tally.records,
                tally.conflicts,
                tally.merges,
                tally.quarantined,
                tally.retries,
                tally.reached,
                tally.position,
                tally.skew_ms,
                tuple(f"{field}:{policy}" for field, policy in tally.disputes),
                actor.role is not None,
            )
        )

    async def flush(self) -> None:
        await self._log.flush()

    @audited("sync.stats")
    async def stats(self, actor: Actor, hours: int) -> Stats:
        """How the practice's devices fare, over the last hours."""
        authorise(actor, Permission.READ_SYNC_HEALTH)
        await self.flush()
        practice_id, since = actor.practice_id, self._clock() - timedelta(hours=hours)
        stats = Stats(
            since,
            (await self._reads.positions(practice_id))[:LATEST_DEVICES],
            await self._reads.counts(practice_id, since),
            await self._reads.disputes(practice_id, since),
            await self._reads.waiting(practice_id),
        )
        await self.books.listed(actor, "sync.stats")
        return stats

    @audited("sync.events")
    async def events(self, actor: Actor, chosen: Chosen, after: Place | None, limit: int) -> Sequence[SyncEvent]:
        """The practice's pulls and pushes, newest first."""
        authorise(actor, Permission.READ_SYNC_HEALTH)
        await self.flush()
        found = await self._reads.events(actor.practice_id, chosen, after, limit)
        await self.books.listed(actor, "sync.events")
        return found

    async def metrics(self) -> Metrics:
        """What is counted over the whole house. Whoever asks has shown that they may."""
        await self.flush()
        now = self._clock()
        if self._gauges is None or now - self._gauges[0] >= GAUGES_LIFE:
            self._gauges = now, await self._reads.gauges(now - ACTIVE)
        return Metrics(now, await self._reads.meters(), self._gauges[1])

    async def sweep(self) -> int:
        """Delete events that are too old, so many at a time. How many that were."""
        before, swept = self._clock() - self._kept, 0
        while some := await self._log.forget(before, SWEPT_AT_ONCE):
            swept += some
        return swept
