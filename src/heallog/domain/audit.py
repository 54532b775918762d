"""The audit entry: who did what, to which thing and version, when, from where, with what outcome; and what seals it.

An entry names changed fields and never holds a value of one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from heallog.domain.access import Actor
from heallog.domain.versions import Head, Version, immutable


@immutable
class AuditEntry:
    """One line of the trail.

    `subjects` are the patients that a list showed; `hash` is the version's, where it made one.
    """

    practice_id: str
    id: str
    at: datetime
    account_id: str
    role: str
    session_id: str
    device_id: str
    request_id: str
    action: str
    outcome: str
    collection: str | None = None
    thing_id: str | None = None
    patient_id: str | None = None
    version: int | None = None
    reason: str | None = None
    fields: tuple[str, ...] = ()
    hash: bytes | None = None
    subjects: tuple[str, ...] = ()


def noted(
    entry_id: str,
    at: datetime,
    actor: Actor,
    action: str,
    outcome: str = "done",
    *,
    collection: str | None = None,
    thing_id: str | None = None,
    patient_id: str | None = None,
    version: int | None = None,
    reason: str | None = None,
    fields: tuple[str, ...] = (),
    hash: bytes | None = None,
    subjects: tuple[str, ...] = (),
) -> AuditEntry:
    """The entry of what an actor did: a read, a list, a refusal; of a change with its fields and its version's hash."""
    return AuditEntry(
        actor.practice_id,
        entry_id,
        at,
        actor.account_id,
        actor.capacity,
        actor.session_id,
        actor.device_id,
        actor.request_id,
        action,
        outcome,
        collection,
        thing_id,
        patient_id,
        version,
        reason,
        fields,
        hash,
        subjects,
    )


def operated(
    entry_id: str, at: datetime, practice_id: str, action: str, thing_id: str | None = None, reason: str | None = None
) -> AuditEntry:
    """The entry of what the operator of the installation did, on the command line: no account of a practice."""
    return AuditEntry(
        practice_id, entry_id, at, "", "operator", "", "", "", action, "done", thing_id=thing_id, reason=reason
    )


@immutable
class Written:
    """New versions of one thing, the head after them and the entry that declares them: all stored, or none."""

    head: Head
    versions: tuple[Version, ...]
    entry: AuditEntry

    @property
    def before(self) -> int:
        """The number of the thing's latest version before these."""
        return self.versions[0].number - 1


def done(
    entry_id: str,
    action: str,
    actor: Actor,
    head: Head,
    versions: tuple[Version, ...],
    fields: tuple[str, ...],
    outcome: str = "done",
) -> Written:
    """A change with the entry that tells of it, and names the last of its versions by number and hash."""
    version = versions[-1]
    entry = noted(
        entry_id,
        version.received_at,
        actor,
        action,
        outcome,
        collection=head.collection,
        thing_id=head.id,
        patient_id=head.patient_id,
        version=version.number,
        reason=version.reason,
        fields=fields,
        hash=version.hash,
    )
    return Written(head, versions, entry)


# -- seals --------------------------------------------------------------------------------------------------------

DIGEST_SIZE = 32

SCALARS = (
    "practice_id",
    "id",
    "at",
    "account_id",
    "role",
    "session_id",
    "device_id",
    "request_id",
    "action",
    "outcome",
    "collection",
    "thing_id",
    "patient_id",
    "version",
    "reason",
    "hash",
)
"""What a digest is made of, in this order; then the place, then the lists."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def digest(entry: AuditEntry, cluster: int, transaction: int) -> bytes:
    """SHA-256 of an entry as it is kept: three JSON arrays after each other, in UTF-8, without spaces.

    The first has every single value and the entry's place as strings: times as microseconds since 1970, hashes in
    hexadecimal, what is missing as null. The second has the fields, the third the subjects (null where there are none).
    The database makes the same of its row (`adapters/postgres/seals.py`).
    """
    values = [_text(getattr(entry, name)) for name in SCALARS]
    subjects = _json(entry.subjects) if entry.subjects else "null"
    text = _json([*values, str(cluster), str(transaction)]) + _json(entry.fields) + subjects
    return hashlib.sha256(text.encode()).digest()


def _json(values: Sequence[str | None]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return str((value - _EPOCH) // _MICROSECOND)
    if isinstance(value, bytes):
        return value.hex()
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Seal:
    """What a practice's trail was from transaction `low` up to and without `high` of one database server.

    `entries` are the ids in the order of (transaction, id), `digests` their digests one after the other. A practice's
    seals are numbered from 1 and chained by their hashes.
    """

    practice_id: str
    number: int
    at: datetime
    cluster: int
    low: int
    high: int
    entries: tuple[str, ...]
    digests: bytes
    hash: bytes


def sealed(previous: bytes, seal: Seal) -> bytes:
    """What `seal.hash` must be: SHA-256 of previous hash ‖ SHA-256(metadata) ‖ SHA-256(ids) ‖ SHA-256(digests)."""
    metadata = [
        seal.practice_id,
        str(seal.number),
        _text(seal.at),
        *map(str, (seal.cluster, seal.low, seal.high, len(seal.entries))),
    ]
    parts = (_json(metadata).encode(), _json(seal.entries).encode(), seal.digests)
    return hashlib.sha256(previous + b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A seal as it is told outside the database. `first` is its first entry, `count` how many it has."""

    practice_id: str
    number: int
    at: datetime
    first: str
    count: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """An entry as it is shown: with the name of the account, if it is still known."""

    entry: AuditEntry
    account_name: str | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries: about a patient, by an account, from `since` on and before `until`."""

    patient_id: str | None = None
    account_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
