"""What the contract tests tell their stories with: a backend, and a practice on it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

from heallog.adapters.memory import audit as memory_audit
from heallog.adapters.memory.conflicts import ConflictReads as MemoryConflictReads
from heallog.adapters.memory.health import HealthLog as MemoryHealthLog
from heallog.adapters.memory.health import HealthReads as MemoryHealthReads
from heallog.adapters.memory.ledger import ledger as memory_ledger
from heallog.adapters.memory.patients import PatientReads as MemoryPatientReads
from heallog.adapters.memory.records import RecordReads as MemoryRecordReads
from heallog.adapters.memory.sessions import SessionReads as MemorySessionReads
from heallog.adapters.memory.store import Store
from heallog.adapters.memory.sync import FeedReads as MemoryFeedReads
from heallog.adapters.memory.unit_of_work import MemoryUnitOfWork
from heallog.adapters.memory.versions import VersionReads as MemoryVersionReads
from heallog.adapters.postgres import seals
from heallog.adapters.postgres.audit import AuditReads as PostgresAuditReads
from heallog.adapters.postgres.conflicts import ConflictReads as PostgresConflictReads
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.feed import FeedReads as PostgresFeedReads
from heallog.adapters.postgres.health import HealthLog as PostgresHealthLog
from heallog.adapters.postgres.health import HealthReads as PostgresHealthReads
from heallog.adapters.postgres.ledger import ledger as postgres_ledger
from heallog.adapters.postgres.patients import PatientReads as PostgresPatientReads
from heallog.adapters.postgres.records import RecordReads as PostgresRecordReads
from heallog.adapters.postgres.sessions import SessionReads as PostgresSessionReads
from heallog.adapters.postgres.trail import PostgresTrail
from heallog.adapters.postgres.unit_of_work import PostgresUnitOfWork
from heallog.adapters.postgres.versions import VersionReads as PostgresVersionReads
from heallog.application.ports.audit import AuditReads, Evidence, Sealing, Trail
from heallog.application.ports.conflicts import ConflictReads
from heallog.application.ports.health import HealthLog, HealthReads
from heallog.application.ports.patients import PatientReads, PatientRepository
from heallog.application.ports.records import RecordFilter, RecordReads, RecordRepository
from heallog.application.ports.sessions import SessionReads
from heallog.application.ports.sync import FeedReads
from heallog.application.ports.unit_of_work import UnitOfWork
from heallog.application.ports.versions import Ledger, VersionReads
from heallog.domain.access import Actor, Role
from heallog.domain.accounts import Account
from heallog.domain.audit import AuditEntry, Written, done
from heallog.domain.events import Event
from heallog.domain.patients import query
from heallog.domain.practices import Membership, Practice
from heallog.domain.versions import Change, Collection, Contribution, Head, advance, branch, unborn

MONDAY = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EVERY_RECORD = RecordFilter()


@dataclass(frozen=True)
class Backend:
    """One implementation of the ports. `until_waiting` returns once each of its tasks stands at a lock or is done."""

    name: str
    uow: Callable[[], UnitOfWork]
    patients: PatientReads
    records: RecordReads
    versions: VersionReads
    conflicts: ConflictReads
    sessions: SessionReads
    ledger: Callable[[], AbstractAsyncContextManager[Ledger]]
    told: list[Event]
    until_waiting: Callable[..., Any]
    audit: "AuditSide"
    feed: FeedReads
    health_log: HealthLog
    health: HealthReads


@dataclass(frozen=True)
class AuditSide:
    """The ports of the audit trail. `sealing(largest)` seals so many entries a round."""

    trail: Trail
    reads: AuditReads
    sealing: Callable[[int], Sealing]
    evidence: Callable[[], AbstractAsyncContextManager[Evidence]]


def memory() -> Backend:
    store = Store()
    told: list[Event] = []

    async def until_waiting(*tasks: asyncio.Task[Any]) -> None:
        await asyncio.wait(tasks, timeout=0)  # one turn of the loop: that far they get

    return Backend(
        "memory",
        lambda: MemoryUnitOfWork(store, told.append),
        MemoryPatientReads(store),
        MemoryRecordReads(store),
        MemoryVersionReads(store),
        MemoryConflictReads(store),
        MemorySessionReads(store),
        lambda: memory_ledger(store),
        told,
        until_waiting,
        AuditSide(
            memory_audit.MemoryTrail(store),
            memory_audit.AuditReads(store),
            lambda largest: memory_audit.MemorySealing(store, largest=largest),
            lambda: memory_audit.evidence(store),
        ),
        MemoryFeedReads(store),
        MemoryHealthLog(store),
        MemoryHealthReads(store),
    )


def postgres(database: Database) -> Backend:
    told: list[Event] = []

    async def until_waiting(*tasks: asyncio.Task[Any]) -> None:
        while going := sum(not task.done() for task in tasks):
            if await database.pool.fetchval("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") >= going:
                return

    return Backend(
        "postgres",
        lambda: PostgresUnitOfWork(database, told.append),
        PostgresPatientReads(database),
        PostgresRecordReads(database),
        PostgresVersionReads(database),
        PostgresConflictReads(database),
        PostgresSessionReads(database),
        lambda: postgres_ledger(database),
        told,
        until_waiting,
        AuditSide(
            PostgresTrail(database),
            PostgresAuditReads(database),
            lambda largest: seals.PostgresSealing(database, largest=largest),
            lambda: seals.evidence(database),
        ),
        PostgresFeedReads(database),
        PostgresHealthLog(database),
        PostgresHealthReads(database),
    )


Seen = TypeVar("Seen")


async def in_turn(
    backend: Backend, lock: Callable[[UnitOfWork], Awaitable[Seen]], change: Callable[[UnitOfWork], Awaitable[object]]
) -> Seen:
    """Of two who come to one lock the second waits until the first has made a change. What the second sees then."""

    async def second() -> Seen:
        async with backend.uow() as uow:
            return await lock(uow)

    async with backend.uow() as uow:
        await lock(uow)
        task = asyncio.create_task(second())
        await backend.until_waiting(task)
        assert not task.done()
        await change(uow)
        assert not task.done()
        await uow.commit()
    return await task


def things(uow: UnitOfWork, collection: Collection) -> PatientRepository | RecordRepository:
    return uow.patients if collection is Collection.PATIENTS else uow.records


@dataclass
class Clinic:
    """A practice with dr_okafor in it. Its clock goes on by a minute with every contribution."""

    backend: Backend
    id: str = field(default_factory=lambda: f"clinic-{uuid4()}")
    now: datetime = MONDAY
    _count: int = 0

    @property
    def dr_okafor(self) -> Actor:
        return Actor(f"{self.id}-okafor", self.id, Role.OWNER, "session-1", "tablet-1", "request-1")

    def new_id(self) -> str:
        self._count += 1
        return f"{self.id}-{self._count:04}"

    def account(self, who: str, **fields: Any) -> Account:
        email = f"{who}@{self.id}.example"
        return Account(
            **{
                "id": f"{self.id}-{who}",
                "email": email,
                "email_key": email,
                "name": who,
                "password_hash": "$argon2id$",
                "created_at": MONDAY,
            }
            | fields
        )

    async def open(self) -> "Clinic":
        async with self.backend.uow() as uow:
            await uow.accounts.add(self.account("okafor"))
            await uow.practices.add(Practice(self.id, "Okafor & Daughters", MONDAY))
            await uow.practices.join(Membership(self.id, self.dr_okafor.account_id, Role.OWNER, MONDAY))
            await uow.commit()
        return self

    async def hire(self, who: str, role: Role = Role.CLINICIAN, at: datetime = MONDAY) -> Membership:
        """One member more, with an account of their own."""
        member = Membership(self.id, self.account(who).id, role, at)
        async with self.backend.uow() as uow:
            await uow.accounts.add(self.account(who))
            await uow.practices.join(member)
            await uow.commit()
        return member

    # -- preparing ----------------------------------------------------------------------------------------------

    def contribution(self, device_id: str = "tablet-1") -> Contribution:
        self.now += MINUTE
        return Contribution(self.new_id(), replace(self.dr_okafor, device_id=device_id), self.now)

    def next(
        self,
        head: Head,
        content: dict[str, Any] | None,
        *,
        change: Change = Change.MODIFICATION,
        contribution: Contribution | None = None,
        **told: Any,
    ) -> Written:
        """The next version of something, ready to be appended."""
        contribution = contribution or self.contribution()
        moved, version = advance(head, content, change, contribution, **told)
        return done(
            self.new_id(), f"{head.collection}.{change}", contribution.actor, moved, (version,), tuple(content or ())
        )

    def beside(
        self,
        head: Head,
        parent: int,
        content: dict[str, Any] | None,
        *,
        change: Change = Change.MODIFICATION,
        contribution: Contribution | None = None,
        **told: Any,
    ) -> Written:
        """What someone made of an older version, ready to be kept beside the trunk."""
        contribution = contribution or self.contribution()
        moved, version = branch(head, parent, content, change, contribution, **told)
        return done(self.new_id(), f"{head.collection}.{change}", contribution.actor, moved, (version,), (), "conflict")

    def merged(
        self,
        head: Head,
        parent: int,
        mine: dict[str, Any] | None,
        merged: dict[str, Any],
        *,
        contribution: Contribution | None = None,
    ) -> Written:
        """The same, with the merge that is the head then: two versions of one contribution."""
        contribution = contribution or self.contribution()
        beside, kept = branch(head, parent, mine, Change.MODIFICATION, contribution)
        moved, made = advance(beside, merged, Change.MERGE, contribution, inputs=(head.version, kept.number))
        return done(self.new_id(), f"{head.collection}.change", contribution.actor, moved, (kept, made), tuple(merged))

    def first(
        self,
        collection: Collection,
        id: str,
        content: dict[str, Any],
        *,
        of: str | None = None,
        contribution: Contribution | None = None,
        **told: Any,
    ) -> Written:
        """The first version of something, ready to be appended. `of` is the patient whose record it is."""
        contribution = contribution or self.contribution()
        head = unborn(self.id, collection, id, of or id, contribution.at)
        return self.next(head, content, change=Change.CREATION, contribution=contribution, **told)

    def patient(self, id: str, **content: Any) -> Written:
        return self.first(Collection.PATIENTS, id, content)

    def record(self, id: str, of: str, **content: Any) -> Written:
        defaults = {"kind": "note", "status": "draft", "text": "Feels well."}
        return self.first(Collection.RECORDS, id, defaults | content, of=of)

    def entry(self, id: str) -> AuditEntry:
        actor = self.dr_okafor
        return AuditEntry(
            self.id, id, self.now, actor.account_id, actor.role, "", "tablet-1", "", "sessions.login", "refused"
        )

    # -- doing --------------------------------------------------------------------------------------------------

    async def write(self, *written: Written) -> list[Head]:
        """Append to one collection and commit."""
        async with self.backend.uow() as uow:
            await things(uow, written[0].head.collection).append(written)
            await uow.commit()
        return [item.head for item in written]

    async def admit(self, id: str, **content: Any) -> Head:
        [head] = await self.write(self.patient(id, **({"family_name": id.capitalize()} | content)))
        return head

    async def file(self, id: str, of: str, **content: Any) -> Head:
        [head] = await self.write(self.record(id, of, **content))
        return head

    async def change(self, head: Head, **content: Any) -> Head:
        [moved] = await self.write(self.next(head, content))
        return moved

    async def delete(self, head: Head) -> Head:
        [moved] = await self.write(self.next(head, None, change=Change.DELETION))
        return moved

    # -- asking -------------------------------------------------------------------------------------------------

    async def page(
        self, *, after: str | None = None, limit: int = 100, tag: str | None = None, since: datetime | None = None
    ) -> list[str]:
        heads = await self.backend.patients.page(self.id, after=after, limit=limit, tag=tag, updated_since=since)
        return _ids(heads)

    async def search(
        self, text: str, *, limit: int = 100, tag: str | None = None, since: datetime | None = None
    ) -> list[str]:
        heads = await self.backend.patients.search(
            self.id, query(self.id, text), limit=limit, tag=tag, updated_since=since
        )
        return _ids(heads)

    async def records_of(
        self, patient_id: str, chosen: RecordFilter = EVERY_RECORD, *, after: str | None = None, limit: int = 100
    ) -> list[str] | None:
        heads = await self.backend.records.of_patient(self.id, patient_id, chosen, after=after, limit=limit)
        return None if heads is None else _ids(heads)


def _ids(heads: Sequence[Head]) -> list[str]:
    return [head.id for head in heads]
