"""What every versioned thing can do: change, delete, restore, revert; history, versions, differences.

Patients and records are driven through this, each with its own rules; nothing here knows what their fields mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.domain.access import Actor
from heallog.domain.audit import Written, done
from heallog.domain.errors import AlreadyExists, NotFound, WrongState
from heallog.domain.events import ContributionCommitted
from heallog.domain.fields import canonical, decode, same
from heallog.domain.versions import (
    Change,
    Collection,
    Contribution,
    Difference,
    Head,
    Seen,
    Version,
    advance,
    check_seen,
    diff,
)

Content = Mapping[str, Any]
Transform = Callable[[Content, Contribution], Content]
"""From the head's content to the next."""


class Things(Protocol):
    """The part of a repository that changes need; patients and records both have it."""

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]: ...

    async def append(self, written: Sequence[Written]) -> None: ...


@dataclass(frozen=True, slots=True)
class Why:
    """What a caller may say about a change: a reason, and the time on the device."""

    reason: str | None = None
    client_time: datetime | None = None


NO_REASON = Why()


class Versions:
    """The versioned side of one collection."""

    def __init__(
        self, collection: Collection, uow: UnitOfWorkFactory, reads: VersionReads, clock: Clock, ids: Ids
    ) -> None:
        self.collection = collection
        self._uow = uow
        self._reads = reads
        self._clock = clock
        self._ids = ids

    def contribution(self, actor: Actor) -> Contribution:
        return Contribution(self._ids(), actor, self._clock())

    def missing(self) -> NotFound:
        return NotFound(f"there is no such {self.collection[:-1]}")

    def _things(self, uow: UnitOfWork) -> Things:
        return uow.patients if self.collection is Collection.PATIENTS else uow.records

    async def write(
        self,
        uow: UnitOfWork,
        contribution: Contribution,
        action: str,
        head: Head,
        content: Content | None,
        change: Change,
        why: Why = NO_REASON,
    ) -> Head:
        """Append one version, its head and its audit entry, and commit."""
        before: Content = {} if head.content is None else head.fields()
        moved, version = advance(head, content, change, contribution, reason=why.reason, client_time=why.client_time)
        after = content or {}
        names = [name for name in sorted(before.keys() | after.keys()) if not same(before.get(name), after.get(name))]
        await self._things(uow).append(
            [done(self._ids(), f"{self.collection}.{action}", contribution.actor, moved, version, tuple(names))]
        )
        uow.tell(
            ContributionCommitted(
                moved.practice_id,
                contribution.id,
                contribution.actor.account_id,
                contribution.actor.request_id,
                f"{self.collection}.{action}",
                1,
            )
        )
        await uow.commit()
        return moved

    async def created_before(self, actor: Actor, head: Head, content: Content) -> Head:
        """Where the same creation was done already (its answer was lost): the thing as it is now.

        Raises `AlreadyExists` where the id belongs to something else.
        """
        async with self._uow() as uow:
            existing = (await self._things(uow).lock(actor.practice_id, [head.id])).get(head.id)
            first = (await uow.versions.numbered(actor.practice_id, self.collection, head.id, [1])).get(1)
        again = first is not None and (first.content, first.patient_id) == (canonical(content), head.patient_id)
        if existing is None or not again:
            raise AlreadyExists("this id is taken by something else")
        return existing

    async def change(
        self,
        actor: Actor,
        thing_id: str,
        seen: Seen,
        transform: Transform,
        *,
        action: str,
        change: Change,
        why: Why = NO_REASON,
        changes: Content | None = None,
    ) -> Head:
        """Lock the head, check what the caller saw, transform, append. The same content again is no new version."""
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = (await self._things(uow).lock(actor.practice_id, [thing_id])).get(thing_id)
            if head is None:
                raise self.missing()
            check_seen(head, seen, changes)
            before = head.fields()
            after = transform(before, contribution)
            if same(before, after):
                return head
            return await self.write(uow, contribution, action, head, after, change, why)

    async def delete(self, actor: Actor, thing_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        """Append a version whose content is void. Deleting what is deleted changes nothing."""
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = (await self._things(uow).lock(actor.practice_id, [thing_id])).get(thing_id)
            if head is None:
                raise self.missing()
            if head.deleted:
                return head
            check_seen(head, seen)
            return await self.write(uow, contribution, "delete", head, None, Change.DELETION, why)

    async def restore(self, actor: Actor, thing_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        """Append the content that the deletion took away."""
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = (await self._things(uow).lock(actor.practice_id, [thing_id])).get(thing_id)
            if head is None:
                raise self.missing()
            if not head.deleted:
                raise WrongState("this is not deleted", context={"version": head.version})
            check_seen(head, seen)
            earlier = await self._earlier(uow.versions, actor, thing_id, head.version - 1)
            return await self.write(uow, contribution, "restore", head, earlier, Change.RESTORATION, why)

    async def revert(
        self,
        actor: Actor,
        thing_id: str,
        seen: Seen,
        to: int,
        transform: Callable[[Content, Content], Content],
        why: Why,
    ) -> Head:
        """Append the content of version `to`, as far as `transform(now, then)` allows."""
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = (await self._things(uow).lock(actor.practice_id, [thing_id])).get(thing_id)
            if head is None:
                raise self.missing()
            check_seen(head, seen)
            before = head.fields()
            after = transform(before, await self._earlier(uow.versions, actor, thing_id, to))
            return await self.write(uow, contribution, "revert", head, after, Change.REVERSION, why)

    async def _earlier(self, versions: VersionReads, actor: Actor, thing_id: str, number: int) -> Content:
        found = (await versions.numbered(actor.practice_id, self.collection, thing_id, [number])).get(number)
        if found is None:
            raise NotFound(f"there is no version {number}", field="to")
        if found.content is None:
            raise WrongState(f"version {number} is a deletion; it has no content", field="to")
        content: Content = decode(found.content)
        return content

    async def history(self, actor: Actor, thing_id: str, before: int | None, limit: int) -> Sequence[Version]:
        """Newest first. Raises `NotFound` where there is no such thing."""
        versions = await self._reads.history(actor.practice_id, self.collection, thing_id, before, limit)
        if not versions and not await self._reads.numbered(actor.practice_id, self.collection, thing_id, [1]):
            raise self.missing()
        return versions

    async def numbered(self, actor: Actor, thing_id: str, number: int) -> Version:
        """One version, with its source. Raises `NotFound`."""
        found = await self._reads.numbered(actor.practice_id, self.collection, thing_id, [number])
        if number not in found:
            raise NotFound(f"there is no such {self.collection[:-1]} or no version {number} of it")
        return found[number]

    async def differences(self, actor: Actor, thing_id: str, one: int, other: int) -> list[Difference]:
        """Field by field, from version `one` to version `other`. A deletion has no fields."""
        found = await self._reads.numbered(actor.practice_id, self.collection, thing_id, [one, other])
        for number in (one, other):
            if number not in found:
                raise NotFound(f"there is no such {self.collection[:-1]} or no version {number} of it")
        before, after = (found[number].content for number in (one, other))
        return list(diff(decode(before) if before else {}, decode(after) if after else {}))
