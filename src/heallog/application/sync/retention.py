"""What of sync is kept for how long, and the new beginning after a restore."""

from collections.abc import Sequence
from datetime import timedelta

from heallog.application.ports.retention import Keep
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.domain.audit import operated

BATCH = 1_000
"""Of each sort, in one unit of work: whoever commits to the practice waits for so many at most."""

LEAP = 86_400_000
"""Numbers that are left out at a new epoch: a day, for clocks that were wrong, or so many commits."""


class Retention:
    """For the server itself, and for the operator.

    `tombstones` is how long a device may be away and still go on from what it has; `answers`, how long a push that
    comes again is known.
    """

    def __init__(
        self, uow: UnitOfWorkFactory, clock: Clock, ids: Ids, *, tombstones: timedelta, answers: timedelta
    ) -> None:
        self._uow = uow
        self._clock = clock
        self._ids = ids
        self._tombstones = tombstones
        self._answers = answers

    async def sweep(self) -> int:
        """Drop what no device can ask for any more. How many rows that were.

        What was entered is not touched: heads, versions, conflicts and quarantine stay.
        """
        now = self._clock()
        keep = Keep(now - self._tombstones, now - self._answers)
        async with self._uow() as uow:
            overdue = await uow.retention.overdue(keep)
        swept = 0
        for practice_id in overdue:
            while dropped := await self._drop(practice_id, keep):
                swept += dropped
        return swept

    async def _drop(self, practice_id: str, keep: Keep) -> int:
        async with self._uow() as uow:
            dropped = await uow.retention.drop(practice_id, keep, BATCH)
            await uow.commit()
        return dropped

    async def restored(self) -> Sequence[str]:
        """The database is an older one than devices know: each of them has to push, and then to pull anew.

        The practices, all of them or (if it fails) none. Again, it only makes everybody begin anew once more.
        """
        async with self._uow() as uow:
            practices = await uow.retention.renew(LEAP)
            now = self._clock()
            await uow.audit([operated(self._ids(), now, practice_id, "sync.restored") for practice_id in practices])
            await uow.commit()
        return practices
