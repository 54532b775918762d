"""Patients in memory."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from heallog.adapters.memory import versions
from heallog.adapters.memory.store import ConstraintViolated, Overlay, PatientRow, Tables
from heallog.domain.audit import Written
from heallog.domain.canon import decode
from heallog.domain.patients import Query, search_key
from heallog.domain.sync import Feed
from heallog.domain.versions import Head


def _row(head: Head, place: PatientRow | None) -> PatientRow:
    if place is not None:
        return replace(place, head=head)
    content = {} if head.content is None else decode(head.content)
    key = search_key(head.practice_id, content)
    return PatientRow(head, key, frozenset(key.trigrams), frozenset(content.get("tags", ())))


class PatientRepository:
    """Patients inside a unit of work."""

    def __init__(self, tables: Overlay, feed: Feed) -> None:
        self._tables = tables
        self._feed = feed

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
        return versions.lock(self._tables.patients, practice_id, ids)

    async def present(self, practice_id: str, ids: Sequence[str]) -> set[str]:
        heads = versions.lock(self._tables.patients, practice_id, ids)
        return {patient_id for patient_id, head in heads.items() if not head.deleted}

    async def append(self, written: Sequence[Written]) -> None:
        versions.append(self._tables, self._tables.patients, written, _row, self._check_new)
        self._feed.wrote(written)

    def _check_new(self, head: Head) -> None:
        if head.practice_id not in self._tables.practices:
            raise ConstraintViolated("patients: no such practice")


class PatientReads:
    """Plain reads of what is committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, practice_id: str, patient_id: str) -> Head | None:
        return versions.get(self._tables.patients, practice_id, patient_id)

    async def page(
        self, practice_id: str, *, after: str | None, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        rows = self._chosen(practice_id, tag, updated_since)
        if after is not None:
            there = self._tables.patients.get((practice_id, after))
            # Nothing comes after what is not there.
            rows = [] if there is None else [row for row in rows if row.place > there.place]
        return _by_name(rows, limit)

    async def search(
        self, practice_id: str, query: Query, *, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        rows = self._chosen(practice_id, tag, updated_since)
        patterns = [_pattern(like) for like in query.contains]
        exact = [
            row
            for row in rows
            if row.trigrams.issuperset(query.must) and all(pattern.fullmatch(row.key.words) for pattern in patterns)
        ]
        if exact or not query.fuzzy:
            return _by_name(exact, limit)
        return _best(rows, query, limit)

    def _chosen(self, practice_id: str, tag: str | None, updated_since: datetime | None) -> list[PatientRow]:
        """The practice's patients that were not deleted and pass the filters."""
        return [
            row
            for (owner, _), row in self._tables.patients.items()
            if owner == practice_id
            and not row.head.deleted
            and (tag is None or tag in row.tags)
            and (updated_since is None or row.head.updated_at >= updated_since)
        ]


def _by_name(rows: list[PatientRow], limit: int) -> list[Head]:
    return [replace(row.head) for row in sorted(rows, key=lambda row: row.place)[:limit]]


def _pattern(like: str) -> re.Pattern[str]:
    """A LIKE pattern; queries are made of letters, digits, `#` and `%` alone."""
    return re.compile(".*".join(map(re.escape, like.split("%"))), re.DOTALL)


def _best(rows: list[PatientRow], query: Query, limit: int) -> list[Head]:
    """Whoever shares enough trigrams with the query: most shared first, then who has least else, then by name."""
    fuzzy = frozenset(query.fuzzy)
    patterns = [_pattern(like) for like in query.codes]
    ranked = [
        (-len(row.trigrams & fuzzy), len(row.trigrams), row.place, row.head)
        for row in rows
        if all(pattern.fullmatch(row.key.words) for pattern in patterns)
    ]
    close = [rank for rank in ranked if -rank[0] >= query.enough]
    return [replace(head) for *_, head in sorted(close, key=lambda rank: rank[:3])[:limit]]


if TYPE_CHECKING:
    from heallog.application.ports import patients as ports

    _: type[ports.PatientReads] = PatientReads
