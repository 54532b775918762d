"""Patients in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    all_,
    any_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from heallog.adapters.postgres import feed
from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import ID, SEPARATOR, TIME, metadata
from heallog.adapters.postgres.versions import (
    Append,
    get_statement,
    head_columns,
    head_of,
    head_select,
    lock_statement,
)
from heallog.domain.audit import Written
from heallog.domain.canon import decode
from heallog.domain.patients import Query, search_key
from heallog.domain.versions import Collection, Head

patients = Table(
    "patients",
    metadata,
    *head_columns(),
    Column("sort_name", ID, nullable=False),
    Column("words", Text, nullable=False),
    Column("trigrams", ARRAY(BigInteger), nullable=False),
    Column("tags", ARRAY(Text), nullable=False),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
)
_PRESENT = patients.c.content.is_not(None)
Index(None, patients.c.practice_id, patients.c.sort_name, patients.c.id, postgresql_where=_PRESENT)
Index(None, patients.c.trigrams, postgresql_using="gin")

_MINE = patients.c.practice_id == bindparam("practice_id")
_LIMIT = bindparam("limit", type_=Integer)


def _project(head: Head) -> tuple[Any, ...]:
    content = {} if head.content is None else decode(head.content)
    key = search_key(head.practice_id, content)
    return key.sort_name, key.words, SEPARATOR.join(map(str, key.trigrams)), SEPARATOR.join(content.get("tags", ()))


APPEND = Append(
    Collection.PATIENTS,
    patients,
    {"sort_name": Text(), "words": Text(), "trigrams": Text(), "tags": Text()},
    _project,
    {"trigrams": BigInteger(), "tags": Text()},
)
LOCK = lock_statement(patients)
GET = get_statement(patients)
PRESENT = Statement(
    select(patients.c.id)
    .where(_MINE, patients.c.id == any_(bindparam("ids", type_=ARRAY(ID))), _PRESENT)
    .order_by(patients.c.id)
    .with_for_update(read=True)
)


def _filters() -> list[ColumnElement[bool]]:
    tag, since = bindparam("tag", type_=Text), bindparam("updated_since", type_=TIME)
    return [
        or_(tag.is_(None), tag == any_(patients.c.tags)),
        or_(since.is_(None), patients.c.updated_at >= since),
    ]


def _after() -> ColumnElement[bool]:
    """Past the row that the cursor names. A cursor is an id, so that no name travels in an address."""
    cursor = bindparam("after", type_=ID)
    there = patients.alias("there")
    place = select(there.c.sort_name, there.c.id).where(
        there.c.practice_id == bindparam("practice_id"), there.c.id == cursor
    )
    return or_(cursor.is_(None), tuple_(patients.c.sort_name, patients.c.id) > place.scalar_subquery())


PAGE = Statement(
    head_select(patients)
    .where(_MINE, _PRESENT, _after(), *_filters())
    .order_by(patients.c.sort_name, patients.c.id)
    .limit(_LIMIT)
)
EXACT = Statement(
    head_select(patients)
    .where(
        _MINE,
        _PRESENT,
        patients.c.trigrams.contains(bindparam("must", type_=ARRAY(BigInteger))),
        patients.c.words.like(all_(bindparam("contains", type_=ARRAY(Text)))),
        *_filters(),
    )
    .order_by(patients.c.sort_name, patients.c.id)
    .limit(_LIMIT)
)


def _forgiving() -> Statement:
    fuzzy = bindparam("fuzzy", type_=ARRAY(BigInteger))
    grams = func.unnest(patients.c.trigrams).table_valued("gram", name="grams").render_derived()
    common = select(func.count()).select_from(grams).where(grams.c.gram == any_(fuzzy))
    shared = common.correlate(patients).scalar_subquery()
    found = (
        head_select(patients)
        .add_columns(shared.label("shared"), func.cardinality(patients.c.trigrams).label("of"), patients.c.sort_name)
        .where(
            _MINE,
            _PRESENT,
            patients.c.trigrams.overlap(fuzzy),
            patients.c.words.like(all_(bindparam("codes", type_=ARRAY(Text)))),
            *_filters(),
        )
        .subquery("found")
    )
    return Statement(
        head_select(found)
        .where(found.c.shared >= bindparam("enough", type_=Integer))
        .order_by(found.c.shared.desc(), found.c.of, found.c.sort_name, found.c.id)
        .limit(_LIMIT)
    )


FORGIVING = _forgiving()


class PatientRepository:
    """Patients inside a unit of work."""

    def __init__(self, executor: Executor, told: feed.Prepared) -> None:
        self._executor = executor
        self._feed = told

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:
        rows = await self._executor.fetch(LOCK, practice_id=practice_id, ids=list(ids))
        return {row["id"]: head_of(Collection.PATIENTS, row) for row in rows}

    async def present(self, practice_id: str, ids: Sequence[str]) -> set[str]:
        rows = await self._executor.fetch(PRESENT, practice_id=practice_id, ids=list(ids))
        return {row[0] for row in rows}

    async def append(self, written: Sequence[Written]) -> None:
        await feed.append(APPEND(self._executor, written), self._feed, written)


class PatientReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def get(self, practice_id: str, patient_id: str) -> Head | None:
        row = await self._executor.row(GET, practice_id=practice_id, id=patient_id)
        return None if row is None else head_of(Collection.PATIENTS, row)

    async def page(
        self, practice_id: str, *, after: str | None, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        rows = await self._executor.fetch(
            PAGE, practice_id=practice_id, after=after, limit=limit, tag=tag, updated_since=updated_since
        )
        return [head_of(Collection.PATIENTS, row) for row in rows]

    async def search(
        self, practice_id: str, query: Query, *, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        shared = {"practice_id": practice_id, "limit": limit, "tag": tag, "updated_since": updated_since}
        rows = await self._executor.fetch(EXACT, must=query.must, contains=query.contains, **shared)
        if not rows and query.fuzzy:
            rows = await self._executor.fetch(
                FORGIVING, fuzzy=query.fuzzy, codes=query.codes, enough=query.enough, **shared
            )
        return [head_of(Collection.PATIENTS, row) for row in rows]
