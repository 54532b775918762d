"""Records in memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heallog.adapters.memory import versions
from heallog.adapters.memory.store import Overlay, RecordRow, Tables
from heallog.application.ports.records import RecordFilter
from heallog.domain.audit import Written
from heallog.domain.canon import decode
from heallog.domain.errors import NotFound
from heallog.domain.records import started_at
from heallog.domain.sync import Feed
from heallog.domain.versions import Head


def _row(head: Head, place: RecordRow | None) -> RecordRow:
    if place is not None:
        return replace(place, head=head)
    content = {} if head.content is None else decode(head.content)
    # For lists: when it was entered, if it does not say when it was.
    occurred_at = started_at(content["occurred_at"]) if "occurred_at" in content else head.created_at
    code = content.get("code", {}).get("code")
    return RecordRow(head, content.get("kind"), content.get("status"), occurred_at, code)


class RecordRepository:
    """Records inside a unit of work."""

    def __init__(self, tables: Overlay, feed: Feed) -> None:
        self._tables = tables
        self._feed = feed

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
        return versions.lock(self._tables.records, practice_id, ids)

    async def append(self, written: Sequence[Written]) -> None:
        versions.append(self._tables, self._tables.records, written, _row, self._check_new)
        self._feed.wrote(written)

    def _check_new(self, head: Head) -> None:
        if (head.practice_id, head.patient_id) not in self._tables.patients:
            raise NotFound("there is no such patient")


class RecordReads:
    """Plain reads of what is committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, practice_id: str, record_id: str) -> Head | None:
        return versions.get(self._tables.records, practice_id, record_id)

    async def of_patient(
        self, practice_id: str, patient_id: str, chosen: RecordFilter, *, after: str | None, limit: int
    ) -> Sequence[Head] | None:
        patient = versions.get(self._tables.patients, practice_id, patient_id)
        if patient is None or patient.deleted:
            return None
        rows = [
            row
            for (owner, _), row in self._tables.records.items()
            if (owner, row.head.patient_id) == (practice_id, patient_id) and _passes(row, chosen)
        ]
        if after is not None:
            there = self._tables.records.get((practice_id, after))
            # Nothing comes after what is not there.
            rows = [] if there is None else [row for row in rows if row.place < there.place]
        latest_first = sorted(rows, key=lambda row: row.place, reverse=True)
        return [replace(row.head) for row in latest_first[:limit]]


def _passes(row: RecordRow, chosen: RecordFilter) -> bool:
    return (
        not row.head.deleted
        and chosen.kind in (None, row.kind)
        and chosen.status in (None, row.status)
        and chosen.code in (None, row.code)
        and (chosen.since is None or row.occurred_at >= chosen.since)
        and (chosen.until is None or row.occurred_at < chosen.until)
    )


if TYPE_CHECKING:
    from heallog.application.ports import records as ports

    _: type[ports.RecordReads] = RecordReads
