"""Importing foreign resources: set-based, streamed, repeatable.

Each batch is one unit of work with a constant number of statements. Running the same import again changes nothing; an
import that was killed goes on where it stopped. What a person changed here since is never overwritten.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from heallog.application.ports.imports import Incoming, Mapped, ResourceSource
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.application.trail import Books, audited
from heallog.domain import patients, records
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import Written, done
from heallog.domain.canon import decode
from heallog.domain.errors import AlreadyExists, InvalidFields
from heallog.domain.events import ContributionCommitted
from heallog.domain.versions import Change, Collection, Contribution, Head, advance, differing, unborn

BATCH = 1_000
"""Resources per unit of work: the fixed cost of a batch is spread thin, its memory stays a few MiB."""

MOST_REFUSALS = 1_000
"""How many refusals a report spells out; all are counted."""

TRIES = 3


@dataclass(slots=True)
class Tally:
    """What became of the resources of one type."""

    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    not_mapped: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One resource that was not taken, where it stood and why."""

    where: str
    type: str
    id: str
    reason: str


@dataclass(slots=True)
class Report:
    """What an import did, by type."""

    types: dict[str, Tally] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    def of(self, kind: str) -> Tally:
        return self.types.setdefault(kind, Tally())

    def count(self, item: Incoming, outcome: str, reason: str = "") -> None:
        tally = self.of(item.type)
        tally.read += 1
        setattr(tally, outcome, getattr(tally, outcome) + 1)
        if outcome == "refused" and len(self.refusals) < MOST_REFUSALS:
            self.refusals.append(Refusal(item.where, item.type, item.id, reason))

    @property
    def refused(self) -> int:
        return sum(tally.refused for tally in self.types.values())


@dataclass(frozen=True, slots=True)
class _Planned:
    """A mapped resource whose content is good."""

    item: Incoming
    mapped: Mapped
    content: Mapping[str, Any]


_Outcome = tuple[Incoming, str, str]
"""What became of a resource, and why where it was refused."""

_Batch = tuple[list[_Planned], list[_Outcome]]


class _Refused(Exception):
    pass


class Imports:
    """One use case: take everything that can be taken, and say what could not."""

    def __init__(self, uow: UnitOfWorkFactory, books: Books, clock: Clock, ids: Ids) -> None:
        self.books = books
        self._uow = uow
        self._clock = clock
        self._ids = ids

    @audited("imports.run")
    async def run(
        self, actor: Actor, source: ResourceSource, watch: Callable[[Report, tuple[int, int]], None] | None = None
    ) -> Report:
        """Patients first, then everything else. `watch` is called after each batch with the report so far."""
        authorise(actor, Permission.IMPORT)
        await self.books.started(actor, "imports.run")
        report = Report()
        for collection, items in (
            (Collection.PATIENTS, source.patients()),
            (Collection.RECORDS, source.others()),
        ):
            async for plans, left_out in _ahead(items):
                for item, outcome, reason in left_out:
                    report.count(item, outcome, reason)
                await self._take(actor, collection, plans, report)
                if watch is not None:
                    watch(report, source.progress())
        return report

    async def _take(self, actor: Actor, collection: Collection, plans: list[_Planned], report: Report) -> None:
        for part in _without_repeats(plans):
            for left in reversed(range(TRIES)):
                try:
                    outcomes = await self._write(actor, collection, part)
                except AlreadyExists:
                    # Someone created one of these between our look and our write: look again.
                    if not left:
                        raise
                else:
                    for item, outcome, reason in outcomes:
                        report.count(item, outcome, reason)
                    break

    async def _write(self, actor: Actor, collection: Collection, plans: list[_Planned]) -> list[_Outcome]:
        contribution = Contribution(self._ids(), actor, self._clock())
        outcomes: list[_Outcome] = []
        written: list[Written] = []
        async with self._uow() as uow:
            await uow.exclusive(actor.practice_id, "import")
            things = uow.patients if collection is Collection.PATIENTS else uow.records
            heads = await things.lock(actor.practice_id, sorted({plan.mapped.id for plan in plans}))
            present = await self._present(uow, actor, collection, plans)
            for plan in plans:
                head = heads.get(plan.mapped.id)
                try:
                    item = self._decide(plan, head, contribution, present)
                except _Refused as refusal:
                    outcomes.append((plan.item, "refused", str(refusal)))
                    continue
                if item is None:
                    outcomes.append((plan.item, "unchanged", ""))
                else:
                    written.append(item)
                    outcomes.append((plan.item, "created" if head is None else "updated", ""))
            if written:
                await things.append(written)
                uow.tell(
                    ContributionCommitted(
                        actor.practice_id,
                        contribution.id,
                        actor.account_id,
                        actor.request_id,
                        f"{collection}.import",
                        len(written),
                    )
                )
                await uow.commit()
        return outcomes

    async def _present(
        self, uow: UnitOfWork, actor: Actor, collection: Collection, plans: list[_Planned]
    ) -> set[str] | None:
        """The patients that these records may be filed under."""
        if collection is Collection.PATIENTS:
            return None
        return await uow.patients.present(actor.practice_id, sorted({plan.mapped.patient_id for plan in plans}))

    def _decide(
        self, plan: _Planned, head: Head | None, contribution: Contribution, present: set[str] | None
    ) -> Written | None:
        """The version to write, or None where nothing is new. Raises `_Refused`."""
        mapped, item = plan.mapped, plan.item
        if head is not None and head.source_digest == hashlib.sha256(item.source).digest():
            return None
        if present is not None and mapped.patient_id not in present:
            raise _Refused(f"patient {mapped.patient_id} is not here")
        if head is None:
            head = unborn(
                contribution.actor.practice_id, mapped.collection, mapped.id, mapped.patient_id, contribution.at
            )
        else:
            _may_update(head, plan)
        before = {} if head.content is None else decode(head.content)
        moved, version = advance(head, plan.content, Change.IMPORT, contribution, source=item.source)
        names = differing(before, plan.content)
        return done(self._ids(), f"{mapped.collection}.import", contribution.actor, moved, (version,), names)


def _may_update(head: Head, plan: _Planned) -> None:
    """Raises `_Refused` where an update could hurt: it would undo a person's work or join two people."""
    if head.content is None:
        raise _Refused("it was deleted here")
    if head.source_version is None:
        raise _Refused("the id is taken by something that was entered here")
    if head.conflict_id is not None:
        raise _Refused("a conflict about it is open here")
    if head.version != head.source_version:
        raise _Refused(f"it was changed here since it was imported (version {head.version})")
    if head.patient_id != plan.mapped.patient_id:
        raise _Refused(f"it belongs to patient {head.patient_id} here")
    current = decode(head.content)
    if head.collection is Collection.PATIENTS:
        if patients.may_be_another(current, plan.content):
            raise _Refused("another person has this id here: neither family name nor birth date agrees")
    elif current["kind"] != plan.content["kind"]:
        raise _Refused(f"it is of kind {current['kind']} here")


def _planned(batch: list[Incoming]) -> _Batch:
    """Those of a batch whose content is good, and what becomes of the others."""
    plans: list[_Planned] = []
    left_out: list[_Outcome] = []
    for item in batch:
        if item.mapped is None:
            left_out.append((item, "refused" if item.refused else "not_mapped", item.refused or ""))
            continue
        try:
            if item.mapped.collection is Collection.PATIENTS:
                content = patients.new(item.mapped.body)
            else:
                content = records.imported(item.mapped.body, item.mapped.status)
        except InvalidFields as error:
            reason = "; ".join(f"{wrong.field}: {wrong.message}" for wrong in error.errors)
            left_out.append((item, "refused", reason))
        else:
            plans.append(_Planned(item, item.mapped, content))
    return plans, left_out


def _without_repeats(plans: Iterable[_Planned]) -> list[list[_Planned]]:
    """Parts in which no id comes twice: the second of two must see what the first became."""
    seen: dict[str, int] = defaultdict(int)
    parts: list[list[_Planned]] = []
    for plan in plans:
        at = seen[plan.mapped.id]
        seen[plan.mapped.id] += 1
        if at == len(parts):
            parts.append([])
        parts[at].append(plan)
    return parts


async def _ahead(items: Iterator[Incoming]) -> AsyncIterator[_Batch]:
    """Batches; the next one is read and checked in a thread while this one is written.

    The event loop stays free for others, and the database and the reader work at the same time.
    """

    def read() -> _Batch | None:
        batch = list(islice(items, BATCH))
        return _planned(batch) if batch else None

    coming = asyncio.create_task(asyncio.to_thread(read))
    try:
        while (batch := await coming) is not None:
            coming = asyncio.create_task(asyncio.to_thread(read))
            yield batch
    finally:
        # A thread cannot be called off: wait for it, so that it never reads on behind a failed import.
        await asyncio.wait([coming])
