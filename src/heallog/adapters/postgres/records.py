"""Records in PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    or_,
    select,
    true,
    tuple_,
)

from heallog.adapters.postgres import feed
from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.patients import patients
from heallog.adapters.postgres.schema import ID, TIME, metadata, moment
from heallog.adapters.postgres.versions import (
    Append,
    get_statement,
    head_columns,
    head_of,
    head_select,
    lock_statement,
)
from heallog.application.ports.records import RecordFilter
from heallog.domain.audit import Written
from heallog.domain.records import started_at
from heallog.domain.versions import Collection, Head

records = Table(
    "records",
    metadata,
    *head_columns(),
    Column("kind", Text),
    Column("status", Text),
    moment("occurred_at"),
    Column("code", Text),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id", "patient_id"], ["patients.practice_id", "patients.id"]),
)
Index(
    None,
    records.c.practice_id,
    records.c.patient_id,
    records.c.occurred_at.desc(),
    records.c.id.desc(),
    postgresql_where=records.c.content.is_not(None),
)


class _Code(msgspec.Struct):
    code: str | None = None


class _Listed(msgspec.Struct):
    """What of a record's content lists go by: the rest is not read."""

    kind: str | None = None
    status: str | None = None
    occurred_at: str | None = None
    code: _Code | None = None


_LISTED = msgspec.json.Decoder(_Listed)


def _project(head: Head) -> tuple[Any, ...]:
    """Kind, status, when (for lists: when it was entered, if it does not say), and code."""
    if head.content is None:
        return None, None, head.created_at, None
    listed = _LISTED.decode(head.content)
    occurred_at = head.created_at if listed.occurred_at is None else started_at(listed.occurred_at)
    return listed.kind, listed.status, occurred_at, None if listed.code is None else listed.code.code


APPEND = Append(
    Collection.RECORDS,
    records,
    {"kind": ID, "status": ID, "occurred_at": TIME, "code": ID},
    _project,
    {},
)
LOCK = lock_statement(records)
GET = get_statement(records)


def _of_patient() -> Statement:
    chosen = {name: bindparam(name, type_=Text) for name in ("kind", "status", "code")}
    since, until = bindparam("since", type_=TIME), bindparam("until", type_=TIME)
    cursor = bindparam("after", type_=ID)
    there = records.alias("there")
    place = (
        select(there.c.occurred_at, there.c.id)
        .where(there.c.practice_id == bindparam("practice_id"), there.c.id == cursor)
        .scalar_subquery()
    )
    page = (
        head_select(records)
        .add_columns(records.c.occurred_at)
        .where(
            records.c.practice_id == patients.c.practice_id,
            records.c.patient_id == patients.c.id,
            records.c.content.is_not(None),
            *(or_(wanted.is_(None), records.c[name] == wanted) for name, wanted in chosen.items()),
            or_(since.is_(None), records.c.occurred_at >= since),
            or_(until.is_(None), records.c.occurred_at < until),
            or_(cursor.is_(None), tuple_(records.c.occurred_at, records.c.id) < place),
        )
        .order_by(records.c.occurred_at.desc(), records.c.id.desc())
        .limit(bindparam("limit", type_=Integer))
        .lateral("page")
    )
    return Statement(
        head_select(page)
        .select_from(patients.join(page, true(), isouter=True))
        .where(
            patients.c.practice_id == bindparam("practice_id"),
            patients.c.id == bindparam("patient_id"),
            patients.c.content.is_not(None),
        )
        .order_by(page.c.occurred_at.desc(), page.c.id.desc())
    )


OF_PATIENT = _of_patient()


class RecordRepository:
    """Records inside a unit of work."""

    def __init__(self, executor: Executor, told: feed.Prepared) -> None:
        self._executor = executor
        self._feed = told

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
        rows = await self._executor.fetch(LOCK, practice_id=practice_id, ids=list(ids))
        return {row["id"]: head_of(Collection.RECORDS, row) for row in rows}

    async def append(self, written: Sequence[Written]) -> None:
        await feed.append(APPEND(self._executor, written), self._feed, written)


class RecordReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def get(self, practice_id: str, record_id: str) -> Head | None:
        row = await self._executor.row(GET, practice_id=practice_id, id=record_id)
        return None if row is None else head_of(Collection.RECORDS, row)

    async def of_patient(
        self, practice_id: str, patient_id: str, chosen: RecordFilter, *, after: str | None, limit: int
    ) -> Sequence[Head] | None:
        """One statement: the patient's row comes even where no record does, and its absence says 'missing'."""
        rows = await self._executor.fetch(
            OF_PATIENT,
            practice_id=practice_id,
            patient_id=patient_id,
            kind=chosen.kind,
            status=chosen.status,
            code=chosen.code,
            since=chosen.since,
            until=chosen.until,
            after=after,
            limit=limit,
        )
        if not rows:
            return None
        return [head_of(Collection.RECORDS, row) for row in rows if row["id"] is not None]
