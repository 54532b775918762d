"""The small world in which the use cases are driven: memory, a clock that is set, ids that count."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from heallog.adapters.memory.audit import MemoryTrail
from heallog.adapters.memory.conflicts import ConflictReads
from heallog.adapters.memory.patients import PatientReads
from heallog.adapters.memory.records import RecordReads
from heallog.adapters.memory.store import Store
from heallog.adapters.memory.unit_of_work import MemoryUnitOfWork
from heallog.adapters.memory.versions import VersionReads
from heallog.application.accounts import Accounts
from heallog.application.conflicts import Conflicts
from heallog.application.patients import Patients
from heallog.application.policies import Policies
from heallog.application.ports.unit_of_work import UnitOfWork
from heallog.application.records import Records
from heallog.application.sessions import Sessions
from heallog.application.trail import Books
from heallog.domain.access import Actor, Role
from heallog.domain.audit import AuditEntry
from heallog.domain.events import Event
from heallog.domain.practices import Practice
from heallog.domain.sessions import AccessToken
from heallog.domain.versions import Head, Seen

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class Clock:
    """Stands still until someone moves it."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Ids:
    given: int = 0

    def __call__(self) -> str:
        self.given += 1
        return f"id-{self.given}"


class Passwords:
    """A hash that can be read, and the hashes that were asked about."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    async def hash(self, password: str) -> str:
        return f"hash of {password}"

    async def verify(self, password_hash: str | None, password: str) -> bool:
        self.asked.append(password_hash)
        return password_hash == f"hash of {password}"


class Guesses:
    """Guesses everything with a one in it."""

    def common(self, skeleton: str) -> bool:
        return skeleton == "correcthorse"

    def strength(self, text: str) -> int:
        return 2 if "one" in text else 3


class Tokens:
    """Tokens that remember for whom they were issued."""

    def __init__(self) -> None:
        self.issued: dict[str, Actor] = {}

    def issue(self, actor: Actor, now: datetime) -> AccessToken:
        token = AccessToken(f"token of {actor.session_id} at {now.isoformat()}", 900)
        self.issued[token.access_token] = actor
        return token

    def read(self, token: str, request_id: str) -> Actor:
        return replace(self.issued[token], request_id=request_id)


def deliverable(email: str) -> None:
    if not email.strip().endswith(".example"):
        raise ValueError("must end in .example")


def _actor(practice_id: str, name: str, role: Role, device_id: str = "tablet-1") -> Actor:
    return Actor(name, practice_id, role, f"session-of-{name}", device_id, "request-1")


@dataclass
class World:
    store: Store = field(default_factory=Store)
    told: list[Event] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    ids: Ids = field(default_factory=Ids)
    passwords: Passwords = field(default_factory=Passwords)
    guesses: Guesses = field(default_factory=Guesses)
    tokens: Tokens = field(default_factory=Tokens)

    dr_okafor = _actor("northside", "dr_okafor", Role.CLINICIAN)
    dr_lee = _actor("northside", "dr_lee", Role.CLINICIAN, "laptop-2")
    """A colleague, on another device."""
    amara = _actor("northside", "amara", Role.ASSISTANT)
    ines = _actor("northside", "ines", Role.AUDITOR)
    grace = _actor("northside", "grace", Role.OWNER, "desk-3")
    dr_stern = _actor("southside", "dr_stern", Role.OWNER)
    """From another practice."""

    def __post_init__(self) -> None:
        reads = PatientReads(self.store), RecordReads(self.store), VersionReads(self.store)
        self.books = Books(MemoryTrail(self.store), self.clock, self.ids)
        self.patients = Patients(self.uow, reads[0], reads[2], self.books, self.clock, self.ids)
        self.records = Records(self.uow, reads[1], reads[2], self.books, self.clock, self.ids)
        self.conflicts = Conflicts(self.uow, ConflictReads(self.store), reads[2], self.books, self.clock, self.ids)
        self.policies = Policies(self.uow, self.books, self.clock, self.ids)
        self.accounts = Accounts(self.uow, self.passwords, self.guesses, deliverable, self.clock, self.ids)
        self.sessions = Sessions(self.uow, self.passwords, self.tokens, self.clock, self.ids)

    def uow(self) -> UnitOfWork:
        return MemoryUnitOfWork(self.store, self.told.append)

    async def open(self) -> "World":
        async with self.uow() as uow:
            for practice in ("northside", "southside"):
                await uow.practices.add(Practice(practice, practice.capitalize(), NOON))
            await uow.commit()
        return self

    @property
    def entries(self) -> list[AuditEntry]:
        """All audit entries, in the order in which they were written."""
        return list(self.store.audit_entries.values())

    @property
    def trail(self) -> list[AuditEntry]:
        """The audit entries of what was written: without reads and refusals."""
        return [entry for entry in self.entries if entry.hash is not None or entry.collection is None]

    @property
    def actions(self) -> list[str]:
        return [entry.action for entry in self.trail]

    async def admit(self, patient_id: str, **fields: Any) -> Head:
        body = {"family_name": patient_id.capitalize()} | fields
        return await self.patients.create(self.dr_okafor, body, patient_id)

    async def note(self, record_id: str, of: str = "alice", **fields: Any) -> Head:
        body = {"kind": "note", "text": "Feels well."} | fields
        return await self.records.create(self.dr_okafor, of, body, record_id)


def saw(head: Head) -> Seen:
    """Whoever read this head."""
    return Seen(head.version)
