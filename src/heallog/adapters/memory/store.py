"""The shared state: what is committed, what a unit of work lays over it, and the lock that keeps two of them apart.

Ids and names are compared as `str`: UTF-8 keeps the order of code points, so this is PostgreSQL's C collation.
"""

import asyncio
from collections import ChainMap
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime

from heallog.domain.accounts import Account
from heallog.domain.audit import AuditEntry, Seal
from heallog.domain.codes import OneTimeCode
from heallog.domain.conflicts import Conflict
from heallog.domain.health import Device, Reading, SyncEvent
from heallog.domain.patients import SearchKey
from heallog.domain.policies import Setting
from heallog.domain.practices import Emergency, Invitation, Membership, Practice
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sessions import Session
from heallog.domain.sync import Item
from heallog.domain.tries import Tries
from heallog.domain.versions import Head, Version

InPractice = tuple[str, str]
"""A practice and an id in it."""

Thing = tuple[str, str, str]
"""A practice, a collection and an id in it."""


class ConstraintViolated(Exception):
    """A row that cannot be. No domain error: no use case may get here, so it is a bug and answers 500."""


@dataclass(frozen=True, slots=True)
class PatientRow:
    """A patient's head and what it is found by."""

    head: Head
    key: SearchKey
    trigrams: frozenset[int]
    tags: frozenset[str]

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands in lists by name."""
        return self.key.sort_name, self.head.id


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A record's head and what lists choose by."""

    head: Head
    kind: str | None
    status: str | None
    occurred_at: datetime
    code: str | None

    @property
    def place(self) -> tuple[datetime, str]:
        """Where it stands in lists by time."""
        return self.occurred_at, self.head.id


@dataclass(slots=True)
class Tables:
    """Everything that is kept. A thing's versions stand in the order of their numbers."""

    accounts: MutableMapping[str, Account] = field(default_factory=dict)
    emails: MutableMapping[str, str] = field(default_factory=dict)
    """The account of each e-mail key."""
    practices: MutableMapping[str, Practice] = field(default_factory=dict)
    memberships: MutableMapping[InPractice, Membership] = field(default_factory=dict)
    invitations: MutableMapping[InPractice, Invitation] = field(default_factory=dict)
    emergencies: MutableMapping[InPractice, Emergency] = field(default_factory=dict)
    sessions: MutableMapping[InPractice, Session | None] = field(default_factory=dict)
    """None where one was: an overlay can lay nothing over a row but another one."""
    codes: MutableMapping[tuple[str, str], OneTimeCode | None] = field(default_factory=dict)
    """By e-mail key and id."""
    tries: MutableMapping[str, Tries | None] = field(default_factory=dict)
    patients: MutableMapping[InPractice, PatientRow] = field(default_factory=dict)
    records: MutableMapping[InPractice, RecordRow] = field(default_factory=dict)
    versions: MutableMapping[Thing, tuple[Version, ...]] = field(default_factory=dict)
    conflicts: MutableMapping[InPractice, Conflict] = field(default_factory=dict)
    policies: MutableMapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    """A practice's settings in the order of their numbers."""
    audit_entries: MutableMapping[InPractice, AuditEntry] = field(default_factory=dict)
    feed: MutableMapping[tuple[str, str, str], tuple[int, Item] | None] = field(default_factory=dict)
    """By practice, stream and id, each with its `seq`."""
    pushes: MutableMapping[tuple[str, str, str], Pushed | None] = field(default_factory=dict)
    """By practice, device and id."""
    quarantine: MutableMapping[InPractice, Quarantined] = field(default_factory=dict)
    contributions: MutableMapping[InPractice, int | None] = field(default_factory=dict)
    """The `seq` of each."""
    pulls: MutableMapping[InPractice, dict[int, tuple[int, datetime]]] = field(default_factory=dict)
    """Of each practice and device: from where to where it pulled, and when, by the end."""
    sync_heads: MutableMapping[str, tuple[int, str, int]] = field(default_factory=dict)
    """The latest `seq` of each practice, its epoch and its floor."""
    sync_events: MutableMapping[InPractice, SyncEvent] = field(default_factory=dict)
    sync_devices: MutableMapping[InPractice, Device] = field(default_factory=dict)
    sync_meters: MutableMapping[Reading, float] = field(default_factory=dict)


_TABLES = tuple(table.name for table in fields(Tables))


class Store(Tables):
    """What is committed. Whoever wants to change it holds `alone` meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.alone = asyncio.Lock()
        self.audit_places: dict[InPractice, int] = {}
        """The number of each entry that was ever looked at, in the order in which they came."""
        self.audit_seals: list[Seal] = []

    async def open(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to leave; the rows go with the process."""

    async def ready(self) -> bool:
        return True


class Overlay(Tables):
    """The tables as one unit of work sees them: its own rows before the committed ones, which stay as they are."""

    def __init__(self, store: Store) -> None:
        super().__init__(**{name: ChainMap({}, getattr(store, name)) for name in _TABLES})
        self._store = store
        self._writable = True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around each write. After one that failed, as after the end, nothing can be written or committed."""
        if not self._writable:
            raise RuntimeError("this unit of work has ended, or a write in it has failed")
        self._writable = False
        yield
        self._writable = True

    def commit(self) -> None:
        """Hand the own rows over. There is no `await` in here, so nobody sees half of them."""
        with self.writing():
            for name in _TABLES:
                getattr(self._store, name).update(getattr(self, name).maps[0])

    def close(self) -> None:
        self._writable = False
