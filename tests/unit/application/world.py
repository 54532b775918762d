"""The small world in which the use cases are driven: memory, a clock that is set, ids that count, kept letters.

What must agree between processes is what several `Server`s over one store show.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import pyotp

from heallog.adapters.mail import MemoryMail
from heallog.adapters.memory.audit import MemoryTrail
from heallog.adapters.memory.conflicts import ConflictReads
from heallog.adapters.memory.patients import PatientReads
from heallog.adapters.memory.records import RecordReads
from heallog.adapters.memory.sessions import MemoryTokenBlacklist, SessionReads
from heallog.adapters.memory.store import Store
from heallog.adapters.memory.unit_of_work import MemoryUnitOfWork
from heallog.adapters.memory.versions import VersionReads
from heallog.adapters.security import TotpAuthenticators
from heallog.adapters.tokens import JwtAccessTokens
from heallog.application.accounts import Accounts
from heallog.application.codes import Codes
from heallog.application.conflicts import Conflicts
from heallog.application.credentials import Credentials
from heallog.application.patients import Patients
from heallog.application.policies import Policies
from heallog.application.ports.sessions import TokenBlacklist
from heallog.application.ports.unit_of_work import UnitOfWork
from heallog.application.practices import Practices
from heallog.application.records import Records
from heallog.application.sessions import Sessions
from heallog.application.trail import Books
from heallog.domain.access import Actor, Caller, Role
from heallog.domain.accounts import Account
from heallog.domain.audit import AuditEntry
from heallog.domain.events import Event
from heallog.domain.practices import Membership, Practice
from heallog.domain.sessions import Session, Tokens
from heallog.domain.tries import Allowance
from heallog.domain.versions import Head, Seen

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

PASSWORD, WRONG = "correct horse battery", "wrong horse battery"
FRESH = "kettle violin harbour"
"""Another good password."""
KEYS = (b"the key in use".ljust(32), b"the key before".ljust(32))
HOME = Caller("192.0.2.7", "request-9")


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
        return f"id-{self.given:05}"


@dataclass
class Chance:
    """Bytes that are other ones each time, and the same ones in each run."""

    asked: int = 0

    def __call__(self, size: int) -> bytes:
        self.asked += 1
        return hashlib.shake_256(b"%d" % self.asked).digest(size)


class Passwords:
    """A hash that can be read, and the hashes that were asked about. `meanwhile` is what happens while one is made."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def hash(self, password: str) -> str:
        await self._slowly()
        return f"hash of {password}"

    async def verify(self, password_hash: str | None, password: str) -> bool:
        self.asked.append(password_hash)
        await self._slowly()
        return password_hash in (f"hash of {password}", f"old hash of {password}")

    def outdated(self, password_hash: str) -> bool:
        return password_hash.startswith("old ")

    async def _slowly(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(0)


class Guesses:
    """Guesses everything with a one in it."""

    def common(self, skeleton: str) -> bool:
        return skeleton == "correcthorse"

    def strength(self, text: str) -> int:
        return 2 if "one" in text else 3


class Listened:
    """A part of the unit of work that remembers what it was asked."""

    def __init__(self, part: Any, name: str, statements: list[str]) -> None:
        self._part, self._name, self._statements = part, name, statements

    def __getattr__(self, asked: str) -> Any:
        self._statements.append(f"{self._name}.{asked}")
        return getattr(self._part, asked)


PARTS = frozenset(
    (
        *("patients", "records", "versions", "accounts", "practices"),
        *("sessions", "codes", "tries", "conflicts", "policies"),
    )
)


class ListenedWork:
    """The memory's unit of work, and every statement that was made in it."""

    def __init__(self, inner: MemoryUnitOfWork, statements: list[str]) -> None:
        self._inner, self._statements = inner, statements

    def __getattr__(self, name: str) -> Any:
        if name in PARTS:
            return Listened(getattr(self._inner, name), name, self._statements)
        self._statements.append(name)
        return getattr(self._inner, name)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        self._statements.append("begin")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._statements.append("end")
        await self._inner.__aexit__(kind, error, trace)


def deliverable(email: str) -> None:
    if not email.strip().endswith(".example"):
        raise ValueError("must end in .example")


@dataclass
class Server:
    """What one process has of identity."""

    credentials: Credentials
    sessions: Sessions
    codes: Codes
    accounts: Accounts
    practices: Practices


def _actor(practice_id: str, name: str, role: Role, device_id: str = "tablet-1") -> Actor:
    return Actor(name, practice_id, role, f"session-of-{name}", device_id, "request-1")


@dataclass
class World:
    store: Store = field(default_factory=Store)
    told: list[Event] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    ids: Ids = field(default_factory=Ids)
    chance: Chance = field(default_factory=Chance)
    mail: MemoryMail = field(default_factory=MemoryMail)
    passwords: Passwords = field(default_factory=Passwords)
    guesses: Guesses = field(default_factory=Guesses)
    statements: list[str] = field(default_factory=list)
    """Everything that units of work were asked for, in its order."""

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
        self.tokens = JwtAccessTokens(["the secret of this house, thirty-two+"], self.clock)
        self.blacklist = MemoryTokenBlacklist(self.clock)
        self.authenticators = TotpAuthenticators(KEYS)
        self.here = self.server()
        self.credentials, self.sessions, self.codes = self.here.credentials, self.here.sessions, self.here.codes
        self.accounts, self.practices = self.here.accounts, self.here.practices

    def server(
        self,
        keys: Sequence[bytes] = KEYS,
        *,
        blacklist: TokenBlacklist | None = None,
        reads: Any = None,
        verified_only: bool = False,
    ) -> Server:
        """Another process on the same store."""
        uow, books, clock, ids, chance = self.uow, self.books, self.clock, self.ids, self.chance
        credentials = Credentials(
            uow,
            self.passwords,
            self.authenticators,
            self.mail,
            books,
            clock,
            ids,
            chance,
            by_account=Allowance(5),
            by_address=Allowance(50),
        )
        sessions = Sessions(
            uow,
            credentials,
            self.tokens,
            reads or SessionReads(self.store),
            blacklist or self.blacklist,
            books,
            clock,
            ids,
            chance,
            keys=keys,
            queue=timedelta(days=400),
            verified_only=verified_only,
        )
        codes = Codes(
            uow,
            self.passwords,
            self.guesses,
            credentials,
            sessions,
            self.mail,
            books,
            clock,
            ids,
            chance,
            keys=keys,
        )
        accounts = Accounts(
            uow, self.passwords, self.guesses, deliverable, credentials, codes, sessions, self.mail, clock, ids
        )
        practices = Practices(uow, sessions, deliverable, self.mail, books, clock, ids, chance)
        return Server(credentials, sessions, codes, accounts, practices)

    def uow(self) -> UnitOfWork:
        return ListenedWork(MemoryUnitOfWork(self.store, self.told.append), self.statements)  # type: ignore[return-value]

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

    def forget(self) -> None:
        """What was told, written and mailed up to now is not what a test is about."""
        self.told.clear()
        self.store.audit_entries.clear()
        self.mail.letters.clear()
        self.statements.clear()

    # -- patients and records -----------------------------------------------------------------------------------

    async def admit(self, patient_id: str, **fields: Any) -> Head:
        body = {"family_name": patient_id.capitalize()} | fields
        return await self.patients.create(self.dr_okafor, body, patient_id)

    async def note(self, record_id: str, of: str = "alice", **fields: Any) -> Head:
        body = {"kind": "note", "text": "Feels well."} | fields
        return await self.records.create(self.dr_okafor, of, body, record_id)

    # -- people -------------------------------------------------------------------------------------------------

    async def hire(self, *actors: Actor, verified: bool = True) -> None:
        """Accounts for these, as members of their practices; each has `PASSWORD`, and an address on their name."""
        async with self.uow() as uow:
            for actor in actors:
                name, at = actor.account_id, self.clock()
                if await uow.accounts.get(name) is None:
                    password_hash = f"hash of {PASSWORD}"
                    account = Account(name, address(name), address(name), name.title(), password_hash, NOON)
                    await uow.accounts.add(account)
                    await uow.accounts.put(replace(account, verified_at=NOON if verified else None))
                await uow.practices.join(Membership(actor.practice_id, name, actor.role, at))
            await uow.commit()
        self.forget()

    async def login(self, name: str, otp: str | None = None, device_id: str = "tablet-1", **other: Any) -> Tokens:
        return await self.sessions.login(
            address(name), other.get("password", PASSWORD), device_id, otp, other.get("caller", HOME)
        )

    async def enter(self, name: str, device_id: str = "tablet-1", otp: str | None = None) -> Actor:
        """Someone after a login of their own."""
        return await self.who(await self.login(name, otp, device_id))

    async def who(self, tokens: Tokens) -> Actor:
        return await self.sessions.admit(tokens.access_token, "request-1", unsafe=True)

    async def secure(self, actor: Actor) -> tuple[str, tuple[str, ...]]:
        """Set up a second factor for a member. The secret of the app, and the recovery codes."""
        enrolment = await self.credentials.enrol(actor, PASSWORD, HOME)
        codes = await self.credentials.activate(actor, self.otp(enrolment.secret))
        self.clock.now += MINUTE
        self.forget()
        return enrolment.secret, codes

    def otp(self, secret: str) -> str:
        """What the app shows now."""
        return pyotp.TOTP(secret).at(self.clock())

    def account(self, name: str) -> Account:
        return self.store.accounts[name]

    def change(self, who: str, /, **changes: Any) -> None:
        """Something about an account that no use case is needed for."""
        self.store.accounts[who] = replace(self.account(who), **changes)

    def live(self, name: str) -> list[Session]:
        """Someone's live sessions, oldest first."""
        now = self.clock()
        return [one for one in self.store.sessions.values() if one and one.account_id == name and one.live(now)]

    def mailed(self, name: str) -> str:
        """The code in the last letter to someone, as it stands there."""
        text = self.mail.to(address(name))[-1].text
        return next(line for line in text.splitlines() if line.startswith("    ")).strip()


def address(name: str) -> str:
    return f"{name}@north.example"


def saw(head: Head) -> Seen:
    """Whoever read this head."""
    return Seen(head.version)
