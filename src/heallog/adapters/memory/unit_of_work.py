"""One unit of work at a time: it writes into an overlay, and commit hands that over."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from heallog.adapters.memory import audit, sync
from heallog.adapters.memory.accounts import AccountRepository
from heallog.adapters.memory.codes import CodeRepository
from heallog.adapters.memory.conflicts import ConflictRepository
from heallog.adapters.memory.patients import PatientRepository
from heallog.adapters.memory.policies import PolicyRepository
from heallog.adapters.memory.practices import PracticeRepository
from heallog.adapters.memory.records import RecordRepository
from heallog.adapters.memory.retention import RetentionRepository
from heallog.adapters.memory.sessions import SessionRepository
from heallog.adapters.memory.store import Overlay, Store
from heallog.adapters.memory.tries import TriesRepository
from heallog.adapters.memory.versions import VersionReads
from heallog.application.ports.world import Ears
from heallog.domain.audit import AuditEntry
from heallog.domain.events import Event
from heallog.domain.sync import Feed


class MemoryUnitOfWork:
    """Serial: from its beginning to its commit or end no other unit of work of the same store runs."""

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

    def __init__(self, store: Store, ears: Ears) -> None:
        self._store = store
        self._ears = ears
        self._events: list[Event] = []
        self._tables: Overlay | None = None
        self._open = False
        self._feed = Feed()

    async def __aenter__(self) -> Self:
        await self._store.alone.acquire()
        self._open = True
        self._tables = tables = Overlay(self._store)
        feed = self._feed
        self.patients = PatientRepository(tables, feed)
        self.records = RecordRepository(tables, feed)
        self.versions = VersionReads(tables)
        self.accounts = AccountRepository(tables)
        self.practices = PracticeRepository(tables)
        self.sessions = SessionRepository(tables)
        self.codes = CodeRepository(tables)
        self.tries = TriesRepository(tables)
        self.sync = sync.SyncRepository(tables, feed)
        self.retention = RetentionRepository(tables)
        self.conflicts = ConflictRepository(tables, feed)
        self.policies = PolicyRepository(tables)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._current.close()
            self._store.alone.release()

    @property
    def _current(self) -> Overlay:
        if self._tables is None:
            raise RuntimeError("the unit of work was not entered")
        return self._tables

    async def audit(self, entries: Sequence[AuditEntry]) -> None:
        audit.add(self._current, entries)

    async def exclusive(self, practice_id: str, work: str) -> None:  # noqa: ARG002
        """Every unit of work here excludes every other, whatever its work."""
        _ = self._current

    def tell(self, event: Event) -> None:
        self._events.append(event)

    async def commit(self) -> None:
        sync.write(self._current, self._feed)
        self._current.commit()
        self._end()
        for event in self._events:
            self._ears(event)


if TYPE_CHECKING:
    from heallog.application.ports.unit_of_work import UnitOfWork

    _: type[UnitOfWork] = MemoryUnitOfWork
