"""The tables of audit entries and seals; adding entries that belong to no version, and reading them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from heallog.adapters.postgres.accounts import accounts
from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import ID, SEPARATOR, TIME, identifier, metadata, moment
from heallog.domain.audit import AuditEntry, Chosen, Line

audit_entries = Table(
    "audit_entries",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    moment("at"),
    identifier("account_id"),
    Column("role", Text, nullable=False),
    identifier("session_id"),
    identifier("device_id"),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("collection", ID),
    Column("thing_id", ID),
    Column("patient_id", ID),
    Column("version", Integer),
    Column("reason", Text),
    Column("fields", ARRAY(Text), nullable=False),
    Column("hash", LargeBinary),
    Column("subjects", ARRAY(ID)),
    Column("cluster", BigInteger, nullable=False, server_default=text("0")),
    Column("transaction", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("practice_id", "id"),
    Index(None, "practice_id", "at", "id"),
    Index(None, "practice_id", "patient_id", "at"),
    Index(None, "practice_id", "account_id", "at", "id"),
    Index(None, "cluster", "transaction"),
)
Index(None, audit_entries.c.subjects, postgresql_using="gin", postgresql_where=audit_entries.c.subjects.is_not(None))

PLACE: Mapping[str, Any] = {
    "cluster": literal_column("current_setting('heallog.cluster')::bigint"),
    "transaction": literal_column("pg_current_xact_id()::text::bigint"),
}
"""Which transaction of which server wrote an entry: what seals go by. Connections set `heallog.cluster`."""

audit_seals = Table(
    "audit_seals",
    metadata,
    identifier("practice_id"),
    Column("number", Integer, nullable=False),
    moment("at"),
    Column("cluster", BigInteger, nullable=False),
    Column("low", BigInteger, nullable=False),
    Column("high", BigInteger, nullable=False),
    Column("entries", ARRAY(ID), nullable=False),
    Column("digests", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("practice_id", "number"),
    Index(None, "cluster", "high"),
)

_WRITTEN = tuple(column for column in audit_entries.c if column.name not in PLACE)
_PLAIN = tuple(c for c in audit_entries.c if c.name not in {*PLACE, "practice_id", "id", "fields", "subjects"})
_LISTS = {"fields": Text(), "subjects": ID}
_KEYS = ("practice_id", "id")
_values = attrgetter(*_KEYS, *(column.name for column in _PLAIN))
_NAMES = (*_KEYS, *(column.name for column in _PLAIN), *_LISTS)


def _add() -> Statement:
    """Rows out of one array parameter per column; lists come joined, and none as NULL."""
    types = {c.name: c.type for c in audit_entries.c} | dict.fromkeys(_LISTS, Text())
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(types[name])) for name in _NAMES))
    given = arrays.table_valued(*_NAMES).render_derived(name="given")
    separator: Any = literal_column("E'\\x1f'")
    values = {
        name: cast(func.string_to_array(given.c[name], separator), ARRAY(_LISTS[name]))
        if name in _LISTS
        else given.c[name]
        for name in _NAMES
    } | dict(PLACE)
    return Statement(insert(audit_entries).from_select(list(values), select(*values.values())))


ADD = _add()


async def add(executor: Executor, entries: Sequence[AuditEntry]) -> None:
    """One statement, however many there are. Entries of versions go with their versions."""
    if not entries:
        return
    columns = [list(column) for column in zip(*map(_values, entries), strict=True)]
    columns.append([SEPARATOR.join(entry.fields) for entry in entries])
    columns.append([SEPARATOR.join(entry.subjects) or None for entry in entries])
    await executor.fetch(ADD, **dict(zip(_NAMES, columns, strict=True)))


# -- reading ------------------------------------------------------------------------------------------------------

_LIMIT = bindparam("limit", type_=Integer)
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, tzinfo=UTC)


def _page(*, patient: bool, account: bool, cursor: bool) -> Statement:
    """A statement for each choice: a filter that is switched off by a parameter would keep the index from being used.

    About a patient there are two sorts of entries, and each has an index: its own, and lists that showed it.
    """
    e = audit_entries.c
    conditions = [
        e.practice_id == bindparam("practice_id", type_=ID),
        e.at >= bindparam("since", type_=TIME),
        e.at < bindparam("until", type_=TIME),
    ]
    if account:
        conditions.append(e.account_id == bindparam("account_id", type_=ID))
    if cursor:
        there = audit_entries.alias("there").c
        place = select(there.at, there.id).where(
            there.practice_id == bindparam("practice_id", type_=ID), there.id == bindparam("after", type_=ID)
        )
        conditions.append(tuple_(e.at, e.id) < place.scalar_subquery())
    page = select(*_WRITTEN).where(*conditions).order_by(e.at.desc(), e.id.desc()).limit(_LIMIT)
    found = page.subquery("found")
    if patient:
        wanted = bindparam("patient_id", type_=ID)
        its_own = page.where(e.patient_id == wanted)
        listed = page.where(
            e.subjects.contains(bindparam("subjects", type_=ARRAY(ID))), e.patient_id.is_distinct_from(wanted)
        )
        found = union_all(its_own.subquery().select(), listed.subquery().select()).subquery("found")
    return Statement(
        select(found, accounts.c.name)
        .select_from(found.outerjoin(accounts, accounts.c.id == found.c.account_id))
        .order_by(found.c.at.desc(), found.c.id.desc())
        .limit(_LIMIT)
    )


PAGES = {
    choice: _page(**dict(zip(("patient", "account", "cursor"), choice, strict=True)))
    for choice in product((False, True), repeat=3)
}


def _line(row: Row) -> Line:
    values = list(row)
    values[15], values[17] = tuple(values[15]), tuple(values[17] or ())
    return Line(AuditEntry(*values[:18]), values[18])


class AuditReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def page(self, practice_id: str, chosen: Chosen, *, after: str | None, limit: int) -> Sequence[Line]:
        rows = await self._executor.fetch(
            PAGES[chosen.patient_id is not None, chosen.account_id is not None, after is not None],
            practice_id=practice_id,
            patient_id=chosen.patient_id,
            subjects=[chosen.patient_id],
            account_id=chosen.account_id,
            after=after,
            since=chosen.since or _BEGINNING,
            until=chosen.until or _END,
            limit=limit,
        )
        return [_line(row) for row in rows]
