"""One transaction on one connection."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import asyncpg
from sqlalchemy import BigInteger, Text, bindparam, func, select

from heallog.adapters.postgres import audit, feed, sync
from heallog.adapters.postgres.accounts import AccountRepository
from heallog.adapters.postgres.codes import CodeRepository
from heallog.adapters.postgres.conflicts import ConflictRepository
from heallog.adapters.postgres.database import Database, Statement, Transaction
from heallog.adapters.postgres.patients import PatientRepository
from heallog.adapters.postgres.policies import PolicyRepository
from heallog.adapters.postgres.practices import PracticeRepository
from heallog.adapters.postgres.records import RecordRepository
from heallog.adapters.postgres.retention import RetentionRepository
from heallog.adapters.postgres.schema import metadata
from heallog.adapters.postgres.sessions import SessionRepository
from heallog.adapters.postgres.tries import TriesRepository
from heallog.adapters.postgres.versions import VersionReads
from heallog.application.ports.world import Ears
from heallog.domain.audit import AuditEntry
from heallog.domain.errors import DomainError
from heallog.domain.events import Event

EXCLUSIVE = Statement(
    select(
        func.pg_advisory_xact_lock(
            func.hashtextextended(bindparam("what", type_=Text), bindparam("seed", 0x4EA1, type_=BigInteger))
        )
    )
)


class PostgresUnitOfWork:
    """READ COMMITTED: use cases lock what they read before they decide."""

    patients: PatientRepository
    records: RecordRepository
    versions: VersionReads
    accounts: AccountRepository
    practices: PracticeRepository
    sessions: SessionRepository
    codes: CodeRepository
    tries: TriesRepository
    sync: sync.SyncRepository
    retention: RetentionRepository
    conflicts: ConflictRepository
    policies: PolicyRepository

    def __init__(self, database: Database, ears: Ears) -> None:
        self._database = database
        self._ears = ears
        self._events: list[Event] = []
        self._stack = AsyncExitStack()
        self._transaction: Transaction | None = None
        self._open = False
        self._feed = feed.Prepared()

    async def __aenter__(self) -> Self:
        transaction = await self._stack.enter_async_context(self._database.connection())
        self._transaction = transaction
        try:
            await transaction.run("BEGIN")
        except BaseException:
            await self._stack.aclose()
            raise
        self._open = True
        told = self._feed
        told.owner = asyncio.current_task()
        self.patients = PatientRepository(transaction, told)
        self.records = RecordRepository(transaction, told)
        self.versions = VersionReads(transaction)
        self.accounts = AccountRepository(transaction)
        self.practices = PracticeRepository(transaction)
        self.sessions = SessionRepository(transaction)
        self.codes = CodeRepository(transaction)
        self.tries = TriesRepository(transaction)
        self.sync = sync.SyncRepository(transaction, told)
        self.retention = RetentionRepository(transaction)
        self.conflicts = ConflictRepository(transaction, told)
        self.policies = PolicyRepository(transaction)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._open:
                self._open = False
                await self._current.run("ROLLBACK")
        except DomainError:
            if error is None:
                raise
        finally:
            await self._stack.aclose()

    @property
    def _current(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("the unit of work was not entered")
        return self._transaction

    async def audit(self, entries: Sequence[AuditEntry]) -> None:
        await audit.add(self._current, entries)

    async def exclusive(self, practice_id: str, work: str) -> None:
        await self._current.fetch(EXCLUSIVE, what=f"{practice_id}/{work}")

    def tell(self, event: Event) -> None:
        self._events.append(event)

    async def commit(self) -> None:
        if not self._open:
            raise RuntimeError("the unit of work has ended")
        # The last lock: from here to the commit nothing else happens that takes time.
        try:
            await feed.write(self._current, self._feed)
        except asyncpg.InFailedSQLTransactionError:
            raise RuntimeError("something in this unit of work has failed: nothing was kept") from None
        await self._current.run("COMMIT")
        self._open = False
        for event in self._events:
            self._ears(event)


__all__ = ["PostgresUnitOfWork", "metadata"]
