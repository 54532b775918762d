"""Use cases of the quarantine: look at what could not be done, do it after all, or let it go."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from heallog.application.patience import ONCE, Patience, retried
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.application.sync.push import Pushes
from heallog.application.sync.rows import Sent
from heallog.application.sync.watermelon import Watermelon
from heallog.application.trail import Books, audited
from heallog.domain import pushes
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import noted
from heallog.domain.errors import NotFound
from heallog.domain.pushes import Quarantined


class Quarantine:
    """What a device said and nobody could do: it waits here for a person, and is never thrown away unseen."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        pushes: Pushes,
        watermelon: Watermelon,
        books: Books,
        clock: Clock,
        ids: Ids,
        *,
        patience: Patience = ONCE,
    ) -> None:
        self.patience = patience
        self._uow = uow
        self._pushes = pushes
        self._watermelon = watermelon
        self.books = books
        self._clock = clock
        self._ids = ids

    @audited("quarantines.read")
    async def page(self, actor: Actor, after: str | None, limit: int) -> Sequence[Quarantined]:
        """What waits, newest first."""
        authorise(actor, Permission.READ_CONFLICTS)
        async with self._uow() as uow:
            items = await uow.sync.quarantined(actor.practice_id, after, limit)
        await self.books.listed(actor, "quarantines.read")
        return items

    @audited("quarantines.release")
    async def release(self, actor: Actor, quarantine_id: str, operation: Any) -> bytes:
        """Do it after all: as it was said, or as it is put right now (`operation`); in the name of whoever releases it.

        As it was said, it starts from what its device had then, also where it was said as a row of WatermelonDB. The
        answer is that of a push. What still cannot be done is quarantined anew. Raises `NotFound`.
        """
        authorise(actor, Permission.RESOLVE_CONFLICTS)
        async with self._uow() as uow:
            item = await self._open(uow, actor, quarantine_id)
        on, row = replace(actor, device_id=item.device_id), Sent.of(item.operation) if operation is None else None
        # Once only: where the answer is lost, the same release finds the push and goes on to close.
        if row is not None:
            answer = await self._watermelon.release(on, item, row)
        else:
            said = item.operation if operation is None else operation
            push = pushes.read({"push_id": quarantine_id, "contributions": [{"operations": [said]}]}, 1)
            answer = await self._pushes.push(on, push, said=item.at if operation is None else None)
        await self._close(actor, quarantine_id, "quarantines.release")
        return answer

    @audited("quarantines.discard")
    async def discard(self, actor: Actor, quarantine_id: str, reason: str) -> None:
        """It was a mistake, or was done by hand. It stays in the database. Raises `NotFound`."""
        authorise(actor, Permission.RESOLVE_CONFLICTS)
        await self._close(actor, quarantine_id, "quarantines.discard", reason)

    @retried("quarantines.close")
    async def _close(self, actor: Actor, quarantine_id: str, action: str, reason: str | None = None) -> None:
        async with self._uow() as uow:
            item = await self._open(uow, actor, quarantine_id)
            now = self._clock()
            await uow.sync.close(replace(item, closed_at=now))
            await uow.audit([noted(self._ids(), now, actor, action, thing_id=quarantine_id, reason=reason)])
            await uow.commit()

    async def _open(self, uow: UnitOfWork, actor: Actor, quarantine_id: str) -> Quarantined:
        item = await uow.sync.lock_quarantined(actor.practice_id, quarantine_id)
        if item is None or item.closed_at is not None:
            raise NotFound("there is nothing in quarantine with this id")
        return item
