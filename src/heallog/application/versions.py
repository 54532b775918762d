"""What every versioned thing can do: change, delete, restore, revert; history, versions, differences.

Patients and records are driven through this, each with its own rules; nothing here knows what their fields mean. What
is based on an older version than the head is merged, field by field; what cannot be merged is kept as a conflict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.domain import conflicts
from heallog.domain.access import Actor
from heallog.domain.audit import Written, done, noted
from heallog.domain.canon import canonical, decode, reread, same
from heallog.domain.conflicts import Conflict, Dispute, Origin, State
from heallog.domain.errors import AlreadyExists, NotFound, WrongState
from heallog.domain.events import ContributionCommitted
from heallog.domain.merging import Mergeable
from heallog.domain.versions import (
    Change,
    Collection,
    Contribution,
    Head,
    Seen,
    Version,
    advance,
    branch,
    check_seen,
    differing,
    immutable,
    saw,
)

Content = Mapping[str, Any]
Transform = Callable[[Content, Contribution], Content]
"""From the head's content to the next."""


class Things(Protocol):
    """The part of a repository that changes need; patients and records both have it."""

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]: ...

    async def append(self, written: Sequence[Written]) -> None: ...


@immutable
class Why:
    """What a caller may say about a change: a reason, and the time on the device."""

    reason: str | None = None
    client_time: datetime | None = None

    @property
    def said(self) -> dict[str, Any]:
        """By the names that versions have for it."""
        return {"reason": self.reason, "client_time": self.client_time}


NO_REASON = Why()


def _never(_: Content) -> bool:
    return False


@immutable
class Step:
    """One sort of change: how it is called, and how it turns one content into the next.

    With `policies` it is merged where it comes late; without, it must be about the head. `locked` tells the contents
    that take no such change any more: there it becomes a proposal.
    """

    action: str
    change: Change
    transform: Transform
    changes: Content | None = None
    policies: Callable[[Content], Mergeable] | None = None
    locked: Callable[[Content], bool] = _never

    def named(self, mine: Content) -> Content:
        """The fields that it is about; all of them, where none are named."""
        return mine if self.changes is None else self.changes


@immutable
class Outcome:
    """What became of a change: the head now, the conflict about it, and whether this change is (partly) held back."""

    head: Head
    conflict: Conflict | None = None
    held: bool = False


class Versions:
    """The versioned side of one collection."""

    def __init__(
        self,
        collection: Collection,
        uow: UnitOfWorkFactory,
        reads: VersionReads,
        clock: Clock,
        ids: Ids,
        contributions: Ids | None = None,
    ) -> None:
        """`contributions` gives them their ids, where several changes are committed together."""
        self.collection = collection
        self._uow, self._reads, self._clock, self._ids = uow, reads, clock, ids
        self._contributions = contributions or ids

    def contribution(self, actor: Actor) -> Contribution:
        return Contribution(self._contributions(), actor, self._clock())

    def missing(self) -> NotFound:
        return NotFound(f"there is no such {self.collection[:-1]}")

    def things(self, uow: UnitOfWork) -> Things:
        return uow.patients if self.collection is Collection.PATIENTS else uow.records

    async def locked(self, uow: UnitOfWork, actor: Actor, thing_id: str) -> Head:
        """The head, locked until the end of the unit of work. Raises `NotFound`."""
        head = (await self.things(uow).lock(actor.practice_id, [thing_id])).get(thing_id)
        if head is None:
            raise self.missing()
        return head

    # -- writing --------------------------------------------------------------------------------------------------

    async def write(
        self,
        uow: UnitOfWork,
        contribution: Contribution,
        action: str,
        head: Head,
        content: Content | None,
        change: Change,
        why: Why = NO_REASON,
        inputs: tuple[int, ...] = (),
    ) -> Head:
        """Append one version, its head and its audit entry, and commit. An open conflict learns where the head is."""
        before: Content = {} if head.content is None else head.fields()
        moved, version = advance(head, content, change, contribution, inputs=inputs, **why.said)
        names = differing(before, content or {})
        conflict = await self._open(uow, head)
        if conflict is not None:
            touched = conflicts.touched(conflict, before, content or {})
            conflict = conflicts.joined(conflict, head.version, (), contribution.actor.device_id, touched)
            conflict = conflicts.followed(conflict, moved, contribution.at)
            moved = replace(moved, conflict_id=conflict.id if conflict.state is State.OPEN else None)
        await self.append(uow, contribution, action, moved, (version,), names, conflict)
        return moved

    async def append(
        self,
        uow: UnitOfWork,
        contribution: Contribution,
        action: str,
        head: Head,
        versions: tuple[Version, ...],
        names: tuple[str, ...],
        conflict: Conflict | None = None,
        outcome: str = "done",
    ) -> None:
        """Store versions with their head, audit entry and conflict, and commit."""
        action = f"{self.collection}.{action}"
        await self.things(uow).append([done(self._ids(), action, contribution.actor, head, versions, names, outcome)])
        if conflict is not None:
            await uow.conflicts.put([conflict])
        uow.tell(
            ContributionCommitted(
                head.practice_id,
                contribution.id,
                contribution.actor.account_id,
                contribution.actor.request_id,
                action,
                len(versions),
            )
        )
        await uow.commit()

    async def _unchanged(self, uow: UnitOfWork, contribution: Contribution, action: str, head: Head) -> Head:
        """Nothing to append: what was asked for is so already. But the head is shown, and that leaves an entry."""
        entry = noted(
            self._ids(),
            contribution.at,
            contribution.actor,
            f"{self.collection}.{action}",
            "unchanged",
            collection=self.collection,
            thing_id=head.id,
            patient_id=head.patient_id,
            version=head.version,
        )
        await uow.audit([entry])
        await uow.commit()
        return head

    async def _open(self, uow: UnitOfWork, head: Head) -> Conflict | None:
        if head.conflict_id is None:
            return None
        return (await uow.conflicts.these(head.practice_id, [head.conflict_id]))[head.conflict_id]

    async def _undisputed(self, uow: UnitOfWork, head: Head, what: str) -> None:
        """Raises `WrongState` while something that was held back waits for a decision."""
        conflict = await self._open(uow, head)
        if conflict is not None and any(dispute.field != conflicts.DELETED for dispute in conflict.held):
            raise WrongState(
                f"there is an open conflict about this: resolve it before you {what}",
                context={"version": head.version, "conflict_id": conflict.id},
            )

    # -- changing -------------------------------------------------------------------------------------------------

    async def change(self, actor: Actor, thing_id: str, seen: Seen, step: Step, why: Why = NO_REASON) -> Head:
        """Lock the head and append to it; what comes late is merged. The same content again is no new version.

        Raises `VersionConflict` where something of it was held back: then it is kept, in the conflict that the error
        carries, and the rest of it may be on the head.
        """
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = await self.locked(uow, actor, thing_id)
            if step.policies is None:
                check_seen(head, seen)
            if saw(head, seen):
                outcome = Outcome(await self._onward(uow, contribution, head, step, why))
            else:
                outcome = await self._late(uow, contribution, head, seen.version or 0, step, why)
        if outcome.held and outcome.conflict is not None:
            raise conflicts.held_back(
                outcome.conflict,
                outcome.head,
                f"this changed since version {seen.version}; a part of your change waits for a decision",
                base_version=seen.version,
                changes=dict(step.changes or {}),
            )
        return outcome.head

    async def _onward(self, uow: UnitOfWork, contribution: Contribution, head: Head, step: Step, why: Why) -> Head:
        """From the head, by someone who saw it."""
        before = head.fields()
        after = step.transform(before, contribution)
        if same(before, after):
            return await self._unchanged(uow, contribution, step.action, head)
        if step.change is Change.SIGNATURE:
            await self._undisputed(uow, head, "sign")
        return await self.write(uow, contribution, step.action, head, after, step.change, why)

    async def _late(
        self, uow: UnitOfWork, contribution: Contribution, head: Head, base: int, step: Step, why: Why
    ) -> Outcome:
        """From an older version than the head."""
        actor = contribution.actor
        started, latest = await self._lineage(uow, actor, head, base)
        if latest.number == head.version:
            # Nobody else was here since: this device changes what it wrote itself.
            return Outcome(await self._onward(uow, contribution, head, step, why))
        before: Content = reread(latest.content or b"{}")
        mine = step.transform(before, contribution)
        conflict = await self._open(uow, head)
        if same(before, mine):
            await self._unchanged(uow, contribution, step.action, head)
            return Outcome(head, conflict, _still_held(conflict, actor, step.named(mine)))
        standing, deletion = await self._standing(uow, head)
        theirs: Content = reread(standing.content or b"{}")
        assert step.policies is not None
        policies = await self._tightened(uow, head, step.policies(theirs))
        beside, version = branch(head, started.number, mine, step.change, contribution, **why.said)
        ancestor: Content = before if started is latest else reread(started.content or b"{}")
        edit = conflicts.Edit(ancestor, before, mine, step.locked(theirs))
        reconciled = conflicts.reconcile(theirs, edit, policies, Origin.of(version), Origin.of(standing))
        # A deletion gives way to an edit, but not to a mere proposal.
        survives = deletion is not None and not edit.locked
        disputes = reconciled.disputes
        if deletion is not None and survives:
            disputes = (*disputes, conflicts.deletion(Origin.of(deletion)))
        versions: tuple[Version, ...] = (version,)
        after = beside
        if reconciled.took or survives:
            inputs = (head.version, version.number)
            after, merged = advance(beside, reconciled.content, Change.MERGE, contribution, inputs=inputs, **why.said)
            versions = (version, merged)
        said = before, mine
        kept = await self._kept(
            uow, contribution, step.action, after, versions, said, conflict, started.number, disputes
        )
        # What it repeats of an earlier edit may be held back still.
        if not kept.held and _still_held(kept.conflict, actor, step.named(mine)):
            return replace(kept, held=True)
        return kept

    async def _kept(
        self,
        uow: UnitOfWork,
        contribution: Contribution,
        action: str,
        head: Head,
        versions: tuple[Version, ...],
        said: tuple[Content, Content],
        conflict: Conflict | None,
        base: int,
        disputes: tuple[Dispute, ...],
    ) -> Outcome:
        """Append what came late, with the conflict that it makes or joins. `said`: what it changed, and into what."""
        if conflict is not None:
            touched = conflicts.touched(conflict, *said)
            conflict = conflicts.joined(conflict, base, disputes, contribution.actor.device_id, touched)
        elif disputes:
            conflict = conflicts.opened(self._ids(), head, base, disputes, contribution.at)
        if conflict is not None:
            conflict = conflicts.followed(conflict, head, contribution.at)
            head = replace(head, conflict_id=conflict.id if conflict.state is State.OPEN else None)
        held = any(
            dispute.branch == versions[0].number and dispute.severity is not conflicts.Severity.SOFT
            for dispute in disputes
        )
        outcome = "conflict" if held else "done"
        await self.append(uow, contribution, action, head, versions, differing(*said), conflict, outcome)
        return Outcome(head, conflict, held)

    async def _lineage(self, uow: UnitOfWork, actor: Actor, head: Head, base: int) -> tuple[Version, Version]:
        """The version that an edit started from, and what the device itself made of it last.

        The answer to an earlier edit may have been lost, or may still be on its way: only that device knows of it.
        """
        found, own = await uow.versions.lineage(actor.practice_id, self.collection, head.id, base, actor.device_id)
        if found is None or found.content is None:
            # Nothing can be merged into what was a deletion.
            check_seen(head, Seen(base))
            raise self.missing()
        return found, own or found

    async def _standing(self, uow: UnitOfWork, head: Head) -> tuple[Head | Version, Version | None]:
        """What stands: the head, or, where it was deleted, the version before that; and the deletion."""
        if head.content is not None:
            return head, None
        there = self.collection, head.id
        deletion = (await uow.versions.numbered(head.practice_id, *there, [head.version]))[head.version]
        number = deletion.parent or 0
        return (await uow.versions.numbered(head.practice_id, *there, [number]))[number], deletion

    async def _tightened(self, uow: UnitOfWork, head: Head, policies: Mergeable) -> Mergeable:
        """The policies as this practice wants them."""
        setting = await uow.policies.current(head.practice_id)
        return policies if setting is None else replace(policies, rules=setting.rules(self.collection, policies.rules))

    async def created_before(
        self, contribution: Contribution, head: Head, content: Content, step: Step, why: Why
    ) -> Head:
        """Where the id is taken: the same creation, done already, answers as it is now; the same device's with other
        content is its edit; another device's is kept beside the first, as a conflict.

        Raises `AlreadyExists` where the id belongs to something else altogether, `VersionConflict` with the conflict.
        """
        actor = contribution.actor
        async with self._uow() as uow:
            existing = await self.locked(uow, actor, head.id)
            first = (await uow.versions.numbered(actor.practice_id, self.collection, head.id, [1])).get(1)
            if first is None or first.content is None or first.patient_id != head.patient_id:
                raise AlreadyExists("this id is taken by something else")
            if first.content == canonical(content):
                return await self._unchanged(uow, contribution, "create", existing)
            if existing.deleted or decode(first.content).get("kind") != content.get("kind"):
                raise AlreadyExists("this id is taken by something else")
            if first.device_id == actor.device_id:
                outcome = await self._late(uow, contribution, existing, 1, step, why)
            else:
                outcome = await self._twin(uow, contribution, existing, content, step, why)
        if outcome.held and outcome.conflict is not None:
            raise conflicts.held_back(
                outcome.conflict, outcome.head, "this id was used for something else; yours is kept beside it"
            )
        return outcome.head

    async def _twin(
        self, uow: UnitOfWork, contribution: Contribution, head: Head, content: Content, step: Step, why: Why
    ) -> Outcome:
        actor = contribution.actor
        conflict = await self._open(uow, head)
        _, own = await uow.versions.lineage(actor.practice_id, self.collection, head.id, 0, actor.device_id)
        if own is not None and own.content == canonical(content):
            await self._unchanged(uow, contribution, "create", head)
            return Outcome(head, conflict, _still_held(conflict, actor, content))
        beside, version = branch(head, 0, content, Change.CREATION, contribution, **why.said)
        assert step.policies is not None
        disputes = conflicts.twins(head.fields(), content, step.policies(content).rules, Origin.of(version))
        said: tuple[Content, Content] = {}, content
        return await self._kept(uow, contribution, "create", beside, (version,), said, conflict, 0, disputes)

    async def delete(self, actor: Actor, thing_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        """Append a version whose content is void. Deleting what is deleted changes nothing.

        Where someone edited meanwhile, the edit survives and the deletion is held back: raises `VersionConflict`.
        """
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = await self.locked(uow, actor, thing_id)
            if head.deleted:
                return await self._unchanged(uow, contribution, "delete", head)
            if not saw(head, seen):
                started, latest = await self._lineage(uow, actor, head, seen.version or 0)
                if latest.number != head.version:
                    outcome = await self._late_deletion(uow, contribution, head, started.number, why)
                    assert outcome.conflict is not None
                    raise conflicts.held_back(
                        outcome.conflict,
                        outcome.head,
                        f"this changed since version {seen.version}; the deletion waits for a decision",
                        base_version=seen.version,
                    )
            await self._undisputed(uow, head, "delete")
            return await self.write(uow, contribution, "delete", head, None, Change.DELETION, why)

    async def _late_deletion(
        self, uow: UnitOfWork, contribution: Contribution, head: Head, base: int, why: Why
    ) -> Outcome:
        conflict = await self._open(uow, head)
        if _still_held(conflict, contribution.actor, {conflicts.DELETED: True}):
            await self._unchanged(uow, contribution, "delete", head)
            return Outcome(head, conflict, held=True)
        beside, version = branch(head, base, None, Change.DELETION, contribution, **why.said)
        dispute = conflicts.deletion(Origin.of(version))
        return await self._kept(uow, contribution, "delete", beside, (version,), ({}, {}), conflict, base, (dispute,))

    async def restore(self, actor: Actor, thing_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        """Append the content that the deletion took away."""
        contribution = self.contribution(actor)
        async with self._uow() as uow:
            head = await self.locked(uow, actor, thing_id)
            if not head.deleted:
                raise WrongState("this is not deleted", context={"version": head.version})
            check_seen(head, seen)
            standing, _ = await self._standing(uow, head)
            earlier: Content = reread(standing.content or b"{}")
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
            head = await self.locked(uow, actor, thing_id)
            check_seen(head, seen)
            before = head.fields()
            after = transform(before, await self._earlier(uow.versions, head, to))
            return await self.write(uow, contribution, "revert", head, after, Change.REVERSION, why)

    async def _earlier(self, versions: VersionReads, head: Head, number: int) -> Content:
        found = (await versions.numbered(head.practice_id, self.collection, head.id, [number])).get(number)
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

    async def pair(self, actor: Actor, thing_id: str, one: int, other: int) -> tuple[Version, Version]:
        """Two versions. Raises `NotFound` where either is missing."""
        found = await self._reads.numbered(actor.practice_id, self.collection, thing_id, [one, other])
        for number in (one, other):
            if number not in found:
                raise NotFound(f"there is no such {self.collection[:-1]} or no version {number} of it")
        return found[one], found[other]


def _still_held(conflict: Conflict | None, actor: Actor, changes: Content) -> bool:
    """Whether a repeated change was held back the first time, and still is."""
    if conflict is None or conflict.state is not State.OPEN:
        return False
    own = (dispute for dispute in conflict.held if dispute.device_id == actor.device_id)
    return any(dispute.field.partition(".")[0] in changes for dispute in own)
