"""The unit of work: everything that one operation writes, committed together or not at all."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from heallog.application.ports.accounts import AccountRepository
from heallog.application.ports.codes import CodeRepository
from heallog.application.ports.conflicts import ConflictRepository
from heallog.application.ports.patients import PatientRepository
from heallog.application.ports.policies import PolicyRepository
from heallog.application.ports.practices import PracticeRepository
from heallog.application.ports.records import RecordRepository
from heallog.application.ports.retention import RetentionRepository
from heallog.application.ports.sessions import SessionRepository
from heallog.application.ports.sync import SyncRepository
from heallog.application.ports.tries import TriesRepository
from heallog.application.ports.versions import VersionReads
from heallog.domain.audit import AuditEntry
from heallog.domain.events import Event


class UnitOfWork(Protocol):
    """One transaction. Leaving it without `commit()` rolls everything back."""

    @property
    def patients(self) -> PatientRepository: ...
    @property
    def records(self) -> RecordRepository: ...
    @property
    def versions(self) -> VersionReads: ...
    @property
    def accounts(self) -> AccountRepository: ...
    @property
    def practices(self) -> PracticeRepository: ...
    @property
    def conflicts(self) -> ConflictRepository: ...
    @property
    def policies(self) -> PolicyRepository: ...
    @property
    def sessions(self) -> SessionRepository: ...
    @property
    def codes(self) -> CodeRepository: ...
    @property
    def sync(self) -> SyncRepository: ...
    @property
    def retention(self) -> RetentionRepository: ...
    @property
    def tries(self) -> TriesRepository: ...

    async def audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries that belong to no version (logins, refusals)."""

    async def exclusive(self, practice_id: str, work: str) -> None:
        """Wait until no other unit of work holds the same kind of work for this practice; hold it until the end."""

    def tell(self, event: Event) -> None:
        """Publish after the commit, and only then."""

    async def commit(self) -> None: ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class UnitOfWorkFactory(Protocol):
    """Gives a fresh unit of work per operation."""

    def __call__(self) -> UnitOfWork: ...
