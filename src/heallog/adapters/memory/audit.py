"""The audit trail in memory: entries, reading them, seals and what they are proved by."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from heallog.adapters.memory.ledger import ledger
from heallog.adapters.memory.store import ConstraintViolated, Overlay, Store, Tables
from heallog.application.ports.audit import Evidence, Kept, Undeclared
from heallog.domain.audit import AuditEntry, Chosen, Line, Seal, Witnessed, digest, sealed
from heallog.domain.versions import GENESIS, Head, Version

CLUSTER = 1
"""There is one server only, and each entry is a transaction of its own."""


def add(tables: Overlay, entries: Sequence[AuditEntry]) -> None:
    """Entries that belong to no version; those of versions go with their versions."""
    with tables.writing():
        for entry in entries:
            check(tables, entry)
            put(tables, entry)


def check(tables: Tables, entry: AuditEntry) -> None:
    if (entry.practice_id, entry.id) in tables.audit_entries:
        raise ConstraintViolated("audit_entries: this id is taken")


def put(tables: Tables, entry: AuditEntry) -> None:
    tables.audit_entries[entry.practice_id, entry.id] = replace(
        entry, fields=tuple(entry.fields), subjects=tuple(entry.subjects)
    )


class MemoryTrail:
    """What is in memory is as durable as it gets here."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(self, entry: AuditEntry) -> None:
        check(self._store, entry)
        put(self._store, entry)

    async def close(self) -> None:
        """Nothing is on its way."""


class AuditReads:
    """Plain reads of what is committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def page(self, practice_id: str, chosen: Chosen, *, after: str | None, limit: int) -> Sequence[Line]:
        entries = self._tables.audit_entries
        found = [entry for (owner, _), entry in entries.items() if owner == practice_id and _passes(entry, chosen)]
        if after is not None:
            there = entries.get((practice_id, after))
            # Nothing comes after what is not there.
            found = [] if there is None else [entry for entry in found if _when(entry) < _when(there)]
        return [self._line(entry) for entry in sorted(found, key=_when, reverse=True)[:limit]]

    def _line(self, entry: AuditEntry) -> Line:
        account = self._tables.accounts.get(entry.account_id)
        return Line(replace(entry), None if account is None else account.name)


def _when(entry: AuditEntry) -> tuple[datetime, str]:
    return entry.at, entry.id


def _passes(entry: AuditEntry, chosen: Chosen) -> bool:
    return (
        (chosen.patient_id in (None, entry.patient_id) or chosen.patient_id in entry.subjects)
        and chosen.account_id in (None, entry.account_id)
        and (chosen.since is None or entry.at >= chosen.since)
        and (chosen.until is None or entry.at < chosen.until)
    )


# -- seals --------------------------------------------------------------------------------------------------------


def _places(store: Store) -> dict[tuple[str, str], int]:
    """What is in the store is committed; whoever looks first gives it its number."""
    for key in store.audit_entries:
        store.audit_places.setdefault(key, len(store.audit_places) + 1)
    return store.audit_places


class MemorySealing:
    """Seals whatever there is, `largest` entries at a time."""

    def __init__(self, store: Store, *, largest: int = 20_000) -> None:
        self._store = store
        self._largest = largest

    async def round(self, at: datetime) -> tuple[Sequence[Witnessed], bool]:
        store = self._store
        low = max((seal.high for seal in store.audit_seals), default=1)
        waiting = sorted((place, key) for key, place in _places(store).items() if place >= low)
        chosen, left = waiting[: self._largest], waiting[self._largest :]
        made = []
        for practice_id in sorted({owner for _, (owner, _) in chosen}):
            places = [(place, id_) for place, (owner, id_) in chosen if owner == practice_id]
            made.append(self._seal(practice_id, at, chosen[-1][0] + 1, places))
        store.audit_seals += made
        return [
            Witnessed(seal.practice_id, seal.number, seal.at, seal.entries[0], len(seal.entries), seal.hash)
            for seal in made
        ], bool(left)

    def _seal(self, practice_id: str, at: datetime, high: int, places: list[tuple[int, str]]) -> Seal:
        entries = self._store.audit_entries
        last = [seal for seal in self._store.audit_seals if seal.practice_id == practice_id][-1:]
        digests = [digest(entries[practice_id, id_], CLUSTER, place) for place, id_ in places]
        seal = Seal(
            practice_id,
            last[0].number + 1 if last else 1,
            at,
            CLUSTER,
            last[0].high if last else 0,
            high,
            tuple(id_ for _, id_ in places),
            b"".join(digests),
            b"",
        )
        return replace(seal, hash=sealed(last[0].hash if last else GENESIS, seal))


class MemoryWitness:
    """A list: outside the store, though not outside the process."""

    def __init__(self) -> None:
        self._told: list[Witnessed] = []

    def tell(self, seals: Sequence[Witnessed]) -> None:
        self._told += seals

    def told(self) -> Sequence[Witnessed]:
        return list(self._told)


class MemoryProofs:
    """Of one moment: writers go on meanwhile and are not seen."""

    def __init__(self, store: Store) -> None:
        self._entries = dict(store.audit_entries)
        self._places = dict(_places(store))
        self._seals = list(store.audit_seals)
        self._versions = dict(store.versions)
        self._heads = [row.head for rows in (store.patients, store.records) for row in rows.values()]

    async def seals(self, practice_id: str | None, *, by_cluster: bool = False) -> AsyncIterator[Seal]:  # noqa: ARG002
        for seal in sorted(self._seals, key=lambda seal: (seal.practice_id, seal.number)):
            if practice_id in (None, seal.practice_id):
                yield replace(seal)

    async def entries(self, practice_id: str | None) -> AsyncIterator[Kept]:
        kept = [(owner, self._places[owner, id_], id_) for owner, id_ in self._entries if practice_id in (None, owner)]
        for owner, place, id_ in sorted(kept):
            yield Kept(owner, CLUSTER, place, id_, digest(self._entries[owner, id_], CLUSTER, place))

    async def edges(self) -> Mapping[int, int]:
        return {CLUSTER: max(seal.high for seal in self._seals)} if self._seals else {}

    async def unknown(self, told: Sequence[Witnessed]) -> Witnessed | None:
        known = {(seal.practice_id, seal.number, seal.hash) for seal in self._seals}
        return next((seal for seal in told if (seal.practice_id, seal.number, seal.hash) not in known), None)

    async def undeclared(self, practice_id: str | None) -> Undeclared | None:
        chosen = [entry for entry in self._entries.values() if practice_id in (None, entry.practice_id)]
        return next(self._lost(chosen), None) or next(self._forged(chosen, practice_id), None)

    def _lost(self, entries: list[AuditEntry]) -> Iterator[Undeclared]:
        for entry in sorted(entries, key=lambda entry: (entry.practice_id, *_when(entry))):
            if entry.collection in ("patients", "records") and entry.thing_id and entry.version is not None:
                version = self._version(entry.practice_id, entry.collection, entry.thing_id, entry.version)
                if version is None or entry.hash not in (None, version.hash):
                    yield Undeclared(entry.practice_id, entry.id, entry.collection, entry.thing_id, entry.version)

    def _version(self, practice_id: str, collection: str, thing_id: str, number: int) -> Version | None:
        versions = self._versions.get((practice_id, collection, thing_id), ())
        return next((version for version in versions if version.number == number), None)

    def _forged(self, entries: list[AuditEntry], practice_id: str | None) -> Iterator[Undeclared]:
        declared = {(e.practice_id, e.collection, e.thing_id, e.version, e.hash) for e in entries}
        for head in self._heads:
            if practice_id in (None, head.practice_id) and _declaration(head) not in declared:
                yield Undeclared(head.practice_id, None, head.collection, head.id, head.last)

    async def size(self, practice_id: str | None) -> int:
        return sum(practice_id in (None, owner) for owner, _ in self._entries)


def _declaration(head: Head) -> tuple[str, str, str, int, bytes]:
    return head.practice_id, head.collection, head.id, head.last, head.hash


@asynccontextmanager
async def evidence(store: Store) -> AsyncIterator[Evidence]:
    """Everything as it stands now."""
    async with ledger(store) as books:
        yield Evidence(MemoryProofs(store), books)


if TYPE_CHECKING:
    from heallog.application.ports import audit as ports

    _: type[ports.Trail] = MemoryTrail
    __: type[ports.AuditReads] = AuditReads
    ___: type[ports.Sealing] = MemorySealing
    ____: type[ports.Witness] = MemoryWitness
    _____: type[ports.Proofs] = MemoryProofs
