"""Use cases of sync: push what was done without a network."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from heallog.application.patience import ONCE, Patience, retried
from heallog.application.patients import Patients
from heallog.application.ports.patients import PatientReads
from heallog.application.ports.records import RecordReads
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.application.records import Records
from heallog.application.sync.batch import Batch, BatchUnitOfWork, Wanted
from heallog.application.trail import Books, audited
from heallog.application.versions import Why
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import noted
from heallog.domain.canon import as_came, canonical
from heallog.domain.errors import DomainError, Forbidden, HeldBack, InvalidFields, PushConflict, Unavailable
from heallog.domain.events import PushCommitted
from heallog.domain.health import Tally
from heallog.domain.pushes import MERGE, Operation, Outcome, Push, Quarantined, Status, pushed, unlike
from heallog.domain.sync import Stream
from heallog.domain.versions import Collection, Head, Seen

TURN = 50
"""Contributions after which other requests of this process get on: some ten milliseconds."""


@dataclass(frozen=True, slots=True)
class _Capabilities:
    """Patients and records over one batch."""

    patients: Patients
    records: Records


class Pushes:
    """What a device did, applied as if it had been here: each operation by the use case that does it alone.

    `most` operations may be sent at once.
    """

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        patient_reads: PatientReads,
        record_reads: RecordReads,
        versions: VersionReads,
        books: Books,
        clock: Clock,
        ids: Ids,
        *,
        most: int,
        patience: Patience = ONCE,
    ) -> None:
        self.most = most
        self.patience = patience
        self._uow = uow
        self._reads = patient_reads, record_reads, versions
        self.books = books
        self._clock = clock
        self._ids = ids

    @audited("sync.push")
    @retried("sync.push")
    async def push(
        self,
        actor: Actor,
        push: Push,
        again: Sequence[tuple[Stream, str]] = (),
        said: datetime | None = None,
        tally: Tally | None = None,
    ) -> bytes:
        """The answer, as JSON bytes: of each operation what became of it. The same push again gets the same answer.

        What is in `again` comes at the next pull, whatever became of it. `said` is when it came, where it is done only
        now. `tally` hears what was done: nothing, where it had been done before.

        Of who may not write, or not any more, all is quarantined. Raises `InvalidFields` where the id of a push stands
        for another one, `PushConflict` in the mode `strict`.
        """
        digest = hashlib.sha256(as_came(push.as_sent)).digest()
        if (refusal := refused(actor)) is not None:
            return await self._aside(actor, push, refusal, digest, again, tally)
        async with self._uow() as uow:
            kept = await kept_of(uow, actor, push.id, digest)
            if isinstance(kept, bytes):
                return kept
            now = self._clock()
            batch = Batch(uow, actor, said)
            await batch.load([_wanted(operation) for operation in push.operations])
            try:
                outcomes, quarantined = await self._applied(actor, push, batch, now, said)
            finally:
                await batch.sent()
            if push.mode != MERGE and (clashes := [one for one in outcomes if one.status is Status.CONFLICT]):
                raise PushConflict(
                    f"{len(clashes)} of {len(outcomes)} operations are in conflict; nothing was kept",
                    context={"conflicts": [one.as_dict() for one in clashes]},
                )
            answering = asyncio.create_task(_answer(push.id, outcomes))
            versions = await batch.write()
            if quarantined:
                await uow.sync.quarantine(quarantined)
            answer = await answering
            uow.sync.again(actor.practice_id, again)
            await uow.sync.keep(pushed(actor, kept, now, digest, answer))
            await uow.audit([noted(self._ids(), now, actor, "sync.push", thing_id=push.id)])
            uow.tell(PushCommitted(actor.practice_id, push.id, actor.account_id, actor.request_id, versions))
            await uow.commit()
        if tally is not None:
            _told(tally, push, outcomes, batch.disputed(), now)
        return answer

    async def _aside(
        self,
        actor: Actor,
        push: Push,
        refusal: DomainError,
        digest: bytes,
        again: Sequence[tuple[Stream, str]],
        tally: Tally | None,
    ) -> bytes:
        """Keep all of a push for a person to look at, and look at nothing that it is about."""
        async with self._uow() as uow:
            kept = await kept_of(uow, actor, push.id, digest)
            if isinstance(kept, bytes):
                return kept
            now = self._clock()
            wrong = errors(refusal)
            outcomes = [_refused(operation, wrong, self._ids()) for operation in push.operations]
            items = [
                Quarantined.of(actor, push.id, one.quarantine_id or "", operation, one, now)
                for one, operation in zip(outcomes, push.operations, strict=True)
            ]
            if items:
                await uow.sync.quarantine(items)
            answer = await _answer(push.id, outcomes)
            if actor.role is not None:
                uow.sync.again(actor.practice_id, again)
            await uow.sync.keep(pushed(actor, kept, now, digest, answer))
            await uow.audit(
                [noted(self._ids(), now, actor, "sync.push", "refused", thing_id=push.id, reason=refusal.code)]
            )
            uow.tell(PushCommitted(actor.practice_id, push.id, actor.account_id, actor.request_id, 0))
            await uow.commit()
        if tally is not None:
            _told(tally, push, outcomes, [], now)
        return answer

    async def _applied(
        self, actor: Actor, push: Push, batch: Batch, now: datetime, said: datetime | None
    ) -> tuple[list[Outcome], list[Quarantined]]:
        capabilities = self._over(batch, now)
        outcomes: dict[int, Outcome] = {}
        quarantined: list[Quarantined] = []
        contributions = push.in_order()
        for number, contribution in enumerate(contributions, 1):
            if len(contributions) > 2 * TURN and number == len(contributions) // 2:
                # It is written in about the time that the rest takes.
                batch.send()
            if number % TURN == 0:
                # Nothing in here waits: let others have their turn.
                await asyncio.sleep(0)
            mark = batch.mark()
            made: list[Outcome] = []
            wrong: Wrong | None = None
            for operation in contribution.operations:
                try:
                    made.append(await self._one(actor, operation, capabilities, batch))
                except Unavailable:
                    raise
                except DomainError as error:
                    # What is wrong, and not the error: that knows of this very frame.
                    wrong, refused_one = errors(error), operation
                    break
            if wrong is not None:
                batch.back_to(mark)
                # What was said in one breath (a row that is changed and deleted) is kept once.
                apart = {one.index: one for one in contribution.operations} | {refused_one.index: refused_one}
                made = [_refused(one, wrong if one is refused_one else MATE, self._ids()) for one in apart.values()]
                quarantined += [
                    Quarantined.of(actor, push.id, one.quarantine_id or "", operation, one, said or now)
                    for one, operation in zip(made, apart.values(), strict=True)
                ]
            outcomes.update({one.index: one for one in made})
        return [outcomes[index] for index in sorted(outcomes)], quarantined

    def _over(self, batch: Batch, now: datetime) -> _Capabilities:
        """The use cases, on the batch: all of it is one contribution, at one time, and refusals are kept with it."""
        # The same one for each operation, for it holds nothing of its own. The batch does not know of it: a push whose
        # parts held each other would stay in memory until the collector came by, and hold up others then.
        inner = BatchUnitOfWork(batch)
        uow = cast("UnitOfWorkFactory", lambda: inner)
        books = Books(batch, lambda: now, self._ids)
        patient_reads, record_reads, versions = self._reads
        contribution_id = self._ids()
        shared: Any = (versions, books, lambda: now, self._ids, lambda: contribution_id)
        return _Capabilities(Patients(uow, patient_reads, *shared), Records(uow, record_reads, *shared))

    async def _one(self, actor: Actor, operation: Operation, on: _Capabilities, batch: Batch) -> Outcome:
        operation.check()
        key = operation.collection, operation.id
        before = batch.heads.get(key)
        try:
            head = await _DO[operation.op, operation.collection](actor, operation, on)
        except HeldBack as held:
            conflict = held.context["conflict"]
            return Outcome(
                operation.index,
                Status.CONFLICT,
                operation.collection,
                operation.id,
                held.context["version"],
                conflict_id=conflict["id"],
                severity=conflict["severity"],
            )
        return Outcome(
            operation.index,
            _status(before, head),
            operation.collection,
            operation.id,
            head.version,
            conflict_id=head.conflict_id,
        )


async def _answer(push_id: str, outcomes: Sequence[Outcome]) -> bytes:
    """Made when the database has its work, and not before."""
    await asyncio.sleep(0)
    return canonical({"push_id": push_id, "results": [one.as_dict() for one in outcomes]})


def refused(actor: Actor) -> Forbidden | None:
    """Why nothing is done that somebody pushes; None where they may write. Raises `EmailNotVerified`."""
    try:
        authorise(actor, Permission.WRITE_RECORDS)
    except Forbidden as refusal:
        return refusal
    return None


async def kept_of(uow: UnitOfWork, actor: Actor, push_id: str, digest: bytes) -> bytes | str:
    """The answer that was kept of a push; or where there is none, the id to keep one under.

    Pushes are named by devices, and a device may be shared. So that a former member learns nothing of the others there,
    theirs are kept under names that no device can give; and what they had pushed before is theirs still.
    """
    practice_id, device_id, names = actor.practice_id, actor.device_id, [push_id]
    if actor.role is None:
        names.insert(0, f"former:{actor.account_id}:{push_id}")
    await uow.exclusive(practice_id, f"push/{device_id}" if actor.role is not None else f"former/{actor.account_id}")
    for name in names:
        known = await uow.sync.pushed(practice_id, device_id, name)
        if known is not None and (actor.role is not None or known.account_id == actor.account_id):
            if known.digest != digest:
                raise unlike()
            return known.answer
    return names[0]


def _status(before: Head | None, head: Head) -> Status:
    if before is None:
        return Status.CREATED
    if head.last == before.last:
        return Status.UNCHANGED
    return Status.MERGED if head.merged_from else Status.UPDATED


def _wanted(operation: Operation) -> Wanted:
    return Wanted(operation.collection, operation.id, operation.base_version or 0, operation.patient_id)


Wrong = tuple[dict[str, str], ...]
MATE: Wrong = ({"field": "", "code": "CONTRIBUTION", "message": "something it belongs with was refused"},)


def _refused(operation: Operation, wrong: Wrong, quarantine_id: str) -> Outcome:
    return Outcome(
        operation.index,
        Status.QUARANTINED,
        operation.collection,
        operation.id,
        None,
        quarantine_id=quarantine_id,
        errors=wrong,
    )


def errors(error: DomainError) -> Wrong:
    """A refusal, as it is told of an operation and kept with it."""
    if isinstance(error, InvalidFields):
        return tuple(one.as_dict() for one in error.errors)
    return ({"field": error.field or "", "code": error.code, "message": error.message},)


def _told(
    tally: Tally, push: Push, outcomes: Sequence[Outcome], disputes: Sequence[tuple[str, str]], now: datetime
) -> None:
    """After the commit, once: a push of WatermelonDB is done in several."""
    statuses = [one.status for one in outcomes]
    tally.records += len(statuses)
    tally.conflicts += statuses.count(Status.CONFLICT)
    tally.merges += statuses.count(Status.MERGED)
    tally.quarantined += statuses.count(Status.QUARANTINED)
    tally.disputes += disputes
    times = [operation.client_time for operation in push.operations if operation.client_time is not None]
    if times:
        tally.skew_ms = round((max(times) - now).total_seconds() * 1000)


def _why(operation: Operation) -> Why:
    return Why(operation.reason, operation.client_time)


async def _create_patient(actor: Actor, operation: Operation, on: _Capabilities) -> Head:
    return await on.patients.create(actor, operation.fields, operation.id, _why(operation))


async def _create_record(actor: Actor, operation: Operation, on: _Capabilities) -> Head:
    return await on.records.create(actor, operation.patient_id or "", operation.fields, operation.id, _why(operation))


async def _change_patient(actor: Actor, operation: Operation, on: _Capabilities) -> Head:
    seen = Seen(operation.base_version)
    return await on.patients.change(actor, operation.id, operation.fields, seen, _why(operation))


async def _change_record(actor: Actor, operation: Operation, on: _Capabilities) -> Head:
    seen = Seen(operation.base_version)
    return await on.records.change(actor, operation.id, operation.fields, seen, _why(operation))


async def _delete_patient(actor: Actor, operation: Operation, on: _Capabilities) -> Head:
    return await on.patients.delete(actor, operation.id, Seen(operation.base_version), _why(operation))


async def _delete_record(actor: Actor, operation: Operation, on: _Capabilities) -> Head:
    return await on.records.delete(actor, operation.id, Seen(operation.base_version), _why(operation))


_Do = Callable[[Actor, Operation, _Capabilities], Any]
_DO: Mapping[tuple[str, Collection], _Do] = {
    ("create", Collection.PATIENTS): _create_patient,
    ("create", Collection.RECORDS): _create_record,
    ("update", Collection.PATIENTS): _change_patient,
    ("update", Collection.RECORDS): _change_record,
    ("delete", Collection.PATIENTS): _delete_patient,
    ("delete", Collection.RECORDS): _delete_record,
}
