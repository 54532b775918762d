"""Versions: immutable states of a versioned thing, chained by hash, and the head that reads answer with.

Nothing is updated in place. A change appends a version and moves the head; deleting appends a version whose content
is void. Patients and records share all of this.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar, dataclass_transform

from heallog.domain.access import Actor
from heallog.domain.canon import canonical, decode, moment, reread, same
from heallog.domain.errors import Deleted, StaleVersion, VersionConflict, VersionRequired

GENESIS = bytes(32)
"""What the first version of a thing chains to."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def immutable(cls: type[T]) -> type[T]:
    """A frozen dataclass as the type checker sees it; nothing is checked when one is made.

    For what is made by the thousand: a frozen one of nineteen fields takes nine times as long, most of what a push
    of merges spends on its versions.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


class Collection(StrEnum):
    """The kinds of versioned things."""

    PATIENTS = "patients"
    RECORDS = "records"


class Change(StrEnum):
    """Why a version exists (openEHR's audit change types, with our own for merging and importing)."""

    CREATION = "creation"
    MODIFICATION = "modification"
    MERGE = "merge"
    SIGNATURE = "signature"
    AMENDMENT = "amendment"
    REVERSION = "reversion"
    DELETION = "deletion"
    RESTORATION = "restoration"
    IMPORT = "import"


ENTERED = (Change.CREATION, Change.MODIFICATION, Change.AMENDMENT, Change.REVERSION, Change.RESTORATION)
"""Versions whose content a person gave; the others are made from these, or have none."""


@immutable
class Version:
    """One immutable state. `content` is canonical JSON, or None where the thing was deleted.

    `number` counts every version of a thing, `parent` is the one that the author saw. A `branch` never became the head:
    it keeps what someone submitted on an older version. `inputs` are the versions that a merge was made from. `source`
    is the foreign resource that an import made the version from, byte for byte.
    """

    practice_id: str
    collection: Collection
    thing_id: str
    patient_id: str
    number: int
    parent: int | None
    inputs: tuple[int, ...]
    change: Change
    content: bytes | None
    author_id: str
    device_id: str
    received_at: datetime
    client_time: datetime | None
    reason: str | None
    contribution_id: str
    source: bytes | None
    source_digest: bytes | None
    hash: bytes
    branch: bool = False


@immutable
class Head:
    """The state that reads answer with. `content` is None while deleted; `version` 0 is a thing not yet created.

    `last` is the number of its latest version, on the trunk (then it is `version`) or on a branch, and `hash` that
    version's. `conflict_id` names the open conflict about it, if there is one. `patient_id` is the patient that it
    belongs to (a patient belongs to itself). `source_digest` and `source_version` tell which foreign resource was
    imported last and which version that made.
    """

    practice_id: str
    collection: Collection
    id: str
    patient_id: str
    version: int
    last: int
    hash: bytes
    content: bytes | None
    created_at: datetime
    updated_at: datetime
    updated_by: str
    source_digest: bytes | None = None
    source_version: int | None = None
    conflict_id: str | None = None
    merged_from: tuple[int, ...] = field(default=(), compare=False)
    """What the version was merged from; known right after the merge and not stored (the version's `inputs` are)."""

    @property
    def deleted(self) -> bool:
        return self.content is None

    def fields(self) -> dict[str, Any]:
        """The content as a dict; raises `Deleted` where there is none."""
        if self.content is None:
            raise Deleted(
                "this was deleted; its history can be read and it can be restored", context={"version": self.version}
            )
        fields: dict[str, Any] = reread(self.content)
        return fields


def document(head: Head, *, merger: bool = True) -> bytes:
    """A head as one JSON object: what identifies it, then its fields. No decoding: the content is bytes already.

    What it was merged from is said once, to whoever merged.
    """
    if head.content is None:
        raise Deleted("this was deleted", context={"version": head.version})
    owner = f'"patient_id":"{head.patient_id}",' if head.collection is Collection.RECORDS else ""
    known = (
        f'{{"id":"{head.id}",{owner}"version":{head.version},"created_at":"{moment(head.created_at)}",'
        f'"updated_at":"{moment(head.updated_at)}","updated_by":"{head.updated_by}",'
    )
    if head.conflict_id is not None:
        known += f'"conflict_id":"{head.conflict_id}",'
    if merger and head.merged_from:
        known += f'"merged_from":[{",".join(map(str, head.merged_from))}],'
    rest = head.content[1:]
    return known.removesuffix(",").encode() + rest if rest == b"}" else known.encode() + rest


@immutable
class Seen:
    """The version that a caller saw. `strict` (If-Match) asks for exactly that head or nothing."""

    version: int | None
    strict: bool = False


def chain(previous: bytes, version: Version) -> bytes:
    """SHA-256 of previous hash ‖ SHA-256(content) ‖ SHA-256(metadata): what `version.hash` must be.

    Each part has a fixed length, so no two different versions read as the same bytes. Content enters by its digest:
    a version whose content had to be erased by law still proves its place.
    """
    digest = hashlib.sha256(previous)
    digest.update(hashlib.sha256(version.content or b"").digest())
    digest.update(hashlib.sha256(_metadata(version).encode()).digest())
    return digest.digest()


def _metadata(version: Version) -> str:
    """What `canonical` would make of it, its names in their order: told by hand, for it is told with every version."""
    # Only where it is so: histories from before there were branches go on proving themselves.
    branch = '"branch":true,' if version.branch else ""
    client_time = "null" if version.client_time is None else f'"{moment(version.client_time)}"'
    source = "null" if version.source_digest is None else f'"{version.source_digest.hex()}"'
    return (
        f'{{"author_id":{_text(version.author_id)},{branch}"change":"{version.change}","client_time":{client_time},'
        f'"collection":"{version.collection}","contribution_id":{_text(version.contribution_id)},'
        f'"device_id":{_text(version.device_id)},"id":{_text(version.thing_id)},'
        f'"inputs":[{",".join(map(str, version.inputs))}],"number":{version.number},'
        f'"parent":{"null" if version.parent is None else version.parent},"patient_id":{_text(version.patient_id)},'
        f'"practice_id":{_text(version.practice_id)},"reason":{_text(version.reason)},'
        f'"received_at":"{moment(version.received_at)}","source":{source},'
        f'"void":{"true" if version.content is None else "false"}}}'
    )


@lru_cache(maxsize=4_096)
def _text(value: str | None) -> str:
    return canonical(value).decode()


def proves(previous: bytes, version: Version) -> bool:
    """Whether a stored version is what was written: its hash follows, and its source is the one it names."""
    source_holds = version.source is None or hashlib.sha256(version.source).digest() == version.source_digest
    return source_holds and chain(previous, version) == version.hash


@immutable
class Contribution:
    """The set of versions committed together: who, when, from which request, all or nothing."""

    id: str
    actor: Actor
    at: datetime


def unborn(practice_id: str, collection: Collection, thing_id: str, patient_id: str, at: datetime) -> Head:
    """The head of a thing before its first version."""
    return Head(practice_id, collection, thing_id, patient_id, 0, 0, GENESIS, None, at, at, "")


def advance(
    head: Head,
    content: Mapping[str, Any] | None,
    change: Change,
    contribution: Contribution,
    *,
    inputs: tuple[int, ...] = (),
    reason: str | None = None,
    client_time: datetime | None = None,
    source: bytes | None = None,
) -> tuple[Head, Version]:
    """The next version of a thing and its head after it. `inputs` are what it was merged from."""
    version = _next(head, head.version, content, change, contribution, inputs, reason, client_time, source)
    # By place: the names of so many fields cost more than everything else about a head.
    moved = Head(
        head.practice_id,
        head.collection,
        head.id,
        head.patient_id,
        version.number,
        version.number,
        version.hash,
        version.content,
        head.created_at,
        contribution.at,
        contribution.actor.account_id,
        version.source_digest or head.source_digest,
        version.number if source is not None else head.source_version,
        head.conflict_id,
        inputs,
    )
    return moved, version


def branch(
    head: Head,
    parent: int,
    content: Mapping[str, Any] | None,
    change: Change,
    contribution: Contribution,
    *,
    reason: str | None = None,
    client_time: datetime | None = None,
) -> tuple[Head, Version]:
    """What someone made of version `parent`, kept beside the trunk: the head answers as before."""
    version = _next(head, parent, content, change, contribution, (), reason, client_time, None, beside=True)
    # By place, as in `advance`.
    beside = Head(
        head.practice_id,
        head.collection,
        head.id,
        head.patient_id,
        head.version,
        version.number,
        version.hash,
        head.content,
        head.created_at,
        head.updated_at,
        head.updated_by,
        head.source_digest,
        head.source_version,
        head.conflict_id,
        head.merged_from,
    )
    return beside, version


def _next(
    head: Head,
    parent: int,
    content: Mapping[str, Any] | None,
    change: Change,
    contribution: Contribution,
    inputs: tuple[int, ...],
    reason: str | None,
    client_time: datetime | None,
    source: bytes | None,
    *,
    beside: bool = False,
) -> Version:
    version = Version(
        head.practice_id,
        head.collection,
        head.id,
        head.patient_id,
        head.last + 1,
        parent or None,
        inputs,
        change,
        None if content is None else canonical(content),
        contribution.actor.account_id,
        contribution.actor.device_id,
        contribution.at,
        client_time,
        reason,
        contribution.id,
        source,
        None if source is None else hashlib.sha256(source).digest(),
        b"",
        beside,
    )
    # It gets its hash before anyone has seen it.
    object.__setattr__(version, "hash", chain(head.hash, version))
    return version


def saw(head: Head, seen: Seen) -> bool:
    """Whether the caller saw the head; False where they saw an older version and did not ask for the head or nothing.

    Raises `VersionRequired`, `StaleVersion` (strict), `VersionConflict` for a version that does not exist yet.
    """
    if seen.version is None:
        raise VersionRequired("name the version you saw, in If-Match or in base_version")
    if seen.version == head.version:
        return True
    context: dict[str, Any] = {"version": head.version}
    if seen.strict:
        raise StaleVersion(f"this is at version {head.version} now, not {seen.version}", context=context)
    if seen.version > head.last:
        raise VersionConflict(f"there is no version {seen.version}; the head is {head.version}", context=context)
    return False


def check_seen(head: Head, seen: Seen) -> None:
    """Pass if the caller saw the head: what cannot be merged must be about it. Raises as `saw` does."""
    if not saw(head, seen):
        raise VersionConflict(
            f"this changed since version {seen.version}; the head is {head.version}",
            context={
                "version": head.version,
                "base_version": seen.version,
                "head": None if head.content is None else decode(head.content),
            },
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs. `before` or `after` is None where the field is absent on that side."""

    field: str
    before: Any
    after: Any


def diff(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[Difference]:
    """Field by field, into objects but not into lists, in the order of the field names."""
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from diff(one, other, f"{prefix}{name}.")
        elif not same(one, other):
            yield Difference(prefix + name, one, other)


def between(one: Version, other: Version) -> list[Difference]:
    """What differs from one version to another. A deletion has no fields."""
    before, after = ({} if version.content is None else decode(version.content) for version in (one, other))
    return list(diff(before, after))


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the fields in which two contents differ, in their order. One that is not there is None."""
    names = before.keys() | after.keys()
    # What was left as it was is often the very same thing.
    return tuple(
        sorted(
            name
            for name in names
            if (one := before.get(name)) is not (other := after.get(name)) and not same(one, other)
        )
    )
