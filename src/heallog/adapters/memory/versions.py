"""Versions in memory: reading them, and the one step that appends to them."""

from bisect import bisect_left
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from heallog.adapters.memory import audit
from heallog.adapters.memory.store import ConstraintViolated, InPractice, Overlay, Tables, Thing
from heallog.domain.audit import Written
from heallog.domain.errors import AlreadyExists
from heallog.domain.versions import ENTERED, Collection, Head, Version


class Row(Protocol):
    """A row of either collection."""

    @property
    def head(self) -> Head: ...


AnyRow = TypeVar("AnyRow", bound=Row)
Heads = MutableMapping[InPractice, AnyRow]


def get(heads: Heads[AnyRow], practice_id: str, thing_id: str) -> Head | None:
    row = heads.get((practice_id, thing_id))
    return None if row is None else replace(row.head)


def lock(heads: Heads[AnyRow], practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
    """Units of work exclude each other, so whoever reads here holds the lock already."""
    found = ((thing_id, get(heads, practice_id, thing_id)) for thing_id in sorted(set(ids)))
    return {thing_id: head for thing_id, head in found if head is not None}


# -- appending ----------------------------------------------------------------------------------------------------


def append(
    tables: Overlay,
    heads: Heads[AnyRow],
    written: Sequence[Written],
    row_of: Callable[[Head, AnyRow | None], AnyRow],
    check_new: Callable[[Head], None],
) -> None:
    """Everything is checked before anything is written. `check_new` refuses a first head that belongs to nothing.

    `row_of(head, place)` makes a row, in another's place if there is one.
    Raises `AlreadyExists` where an id, or a version's number, is taken.
    """
    with tables.writing():
        _check_contribution(written)
        _check_numbers(tables, written)
        _check_heads(heads, written, check_new)
        for item in written:
            audit.check(tables, item.entry)
        for item in written:
            for version in item.versions:
                _put_version(tables, version)
            key = item.head.practice_id, item.head.id
            old = heads.get(key)
            head = replace(item.head) if old is None else _moved(old.head, item.head)
            # What is deleted keeps its place in lists: a cursor on it still leads on from there.
            heads[key] = row_of(head, old if head.deleted else None)
            audit.put(tables, item.entry)


def _check_contribution(written: Sequence[Written]) -> None:
    """PostgreSQL is told these once for all; a version of another contribution would be stored with a wrong author."""
    versions = [version for item in written for version in item.versions]
    shared = {(v.practice_id, v.author_id, v.device_id, v.received_at) for v in versions}
    if len(shared) > 1:
        raise ConstraintViolated("one append is one device's, at one time")


def _check_numbers(tables: Overlay, written: Sequence[Written]) -> None:
    things = [_thing(item.versions[0]) for item in written]
    if len(set(things)) < len(things) or len({item.entry.id for item in written}) < len(things):
        raise ConstraintViolated("one thing, or one entry, comes twice")
    for thing, item in zip(things, written, strict=True):
        numbers = {version.number for version in item.versions}
        if any(version.number in numbers for version in tables.versions.get(thing, ())):
            raise AlreadyExists("this id is taken")


def _check_heads(heads: Heads[AnyRow], written: Sequence[Written], check_new: Callable[[Head], None]) -> None:
    rows = [(item, heads.get((item.head.practice_id, item.head.id))) for item in written]
    for item, row in rows:
        if row is None:
            check_new(item.head)
    if any((0 if row is None else row.head.last) != item.before for item, row in rows):
        raise RuntimeError("a head was not where its lock left it")


def _moved(old: Head, new: Head) -> Head:
    """Whose it is and when it began never change."""
    return replace(new, patient_id=old.patient_id, created_at=old.created_at)


def _put_version(tables: Overlay, version: Version) -> None:
    thing = _thing(version)
    others = tables.versions.get(thing, ())
    at = bisect_left(others, version.number, key=_number)
    own = replace(version, inputs=tuple(version.inputs))
    tables.versions[thing] = (*others[:at], own, *others[at:])


def _thing(version: Version) -> Thing:
    return version.practice_id, version.collection, version.thing_id


def _number(version: Version) -> int:
    return version.number


# -- reading ------------------------------------------------------------------------------------------------------


class VersionReads:
    """Any version of anything, within one practice."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def history(
        self, practice_id: str, collection: Collection, thing_id: str, before: int | None, limit: int
    ) -> Sequence[Version]:
        versions = self._tables.versions.get((practice_id, collection, thing_id), ())
        below = len(versions) if before is None else bisect_left(versions, before, key=_number)
        return [replace(version, source=None) for version in islice(reversed(versions[:below]), limit)]

    async def numbered(
        self, practice_id: str, collection: Collection, thing_id: str, numbers: Sequence[int]
    ) -> dict[int, Version]:
        versions = self._tables.versions.get((practice_id, collection, thing_id), ())
        return {version.number: replace(version) for version in versions if version.number in numbers}

    async def lineage(
        self, practice_id: str, collection: Collection, thing_id: str, base: int, device_id: str
    ) -> tuple[Version | None, Version | None]:
        versions = self._tables.versions.get((practice_id, collection, thing_id), ())
        started = next((version for version in versions if version.number == base), None)
        own = [
            version
            for version in versions
            if version.number > base
            and (version.parent or 0) >= base
            and version.device_id == device_id
            and version.change in ENTERED
        ]
        return started and replace(started, source=None), replace(own[-1], source=None) if own else None

    async def lineages(
        self, practice_id: str, asked: Sequence[tuple[Collection, str, int]], device_id: str
    ) -> dict[tuple[Collection, str, int], tuple[Version | None, Version | None]]:
        return {one: await self.lineage(practice_id, *one, device_id) for one in asked}


if TYPE_CHECKING:
    from heallog.application.ports import versions as ports

    _: type[ports.VersionReads] = VersionReads
