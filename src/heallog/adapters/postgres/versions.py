"""The table of versions, reading it, and the one statement that appends to it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.audit import audit_entries
from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import ID, TIME, Bytes, identifier, metadata, moment
from heallog.domain.audit import Written
from heallog.domain.versions import Change, Collection, Head, Version

SEPARATOR = "\x1f"
"""Joins lists inside an array parameter (PostgreSQL has no arrays of arrays of unequal length). No text holds it."""

versions = Table(
    "versions",
    metadata,
    identifier("practice_id"),
    identifier("collection"),
    identifier("thing_id"),
    identifier("patient_id"),
    Column("number", Integer, nullable=False),
    Column("parent", Integer),
    Column("inputs", ARRAY(Integer), nullable=False),
    Column("change", Text, nullable=False),
    Column("content", Bytes),
    identifier("author_id"),
    identifier("device_id"),
    moment("received_at"),
    moment("client_time", nullable=True),
    Column("reason", Text),
    identifier("contribution_id"),
    Column("source", Bytes),
    Column("source_digest", LargeBinary),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("practice_id", "collection", "thing_id", "number"),
)


def head_columns() -> list[Column[Any]]:
    """What every table of heads has, in the order of `head_of`."""
    return [
        identifier("practice_id"),
        identifier("id"),
        identifier("patient_id"),
        Column("version", Integer, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        Column("content", Bytes),
        moment("created_at"),
        moment("updated_at"),
        identifier("updated_by"),
        Column("source_digest", LargeBinary),
        Column("source_version", Integer),
    ]


_HEAD = tuple(column.name for column in head_columns())


def head_select(table: Any) -> Select[Any]:
    return select(*(table.c[name] for name in _HEAD))


def head_of(collection: Collection, row: Row) -> Head:
    practice_id, *rest = row
    return Head(practice_id, collection, *rest[: len(_HEAD) - 1])


def lock_statement(heads: Table) -> Statement:
    return Statement(
        head_select(heads)
        .where(heads.c.practice_id == bindparam("practice_id"), heads.c.id == any_(bindparam("ids", type_=ARRAY(ID))))
        .order_by(heads.c.id)
        .with_for_update()
    )


def get_statement(heads: Table) -> Statement:
    return Statement(
        head_select(heads).where(heads.c.practice_id == bindparam("practice_id"), heads.c.id == bindparam("id"))
    )


# -- appending ----------------------------------------------------------------------------------------------------

_SHARED: Mapping[str, Any] = {
    "practice_id": ID,
    "collection": ID,
    "at": TIME,
    "account_id": ID,
    "device_id": ID,
    "contribution_id": ID,
    "role": Text(),
    "session_id": ID,
    "request_id": Text(),
}
_EACH: Mapping[str, Any] = {
    "thing_id": ID,
    "patient_id": ID,
    "number": Integer(),
    "parent": Integer(),
    "inputs": Text(),
    "change": Text(),
    "content": Bytes(),
    "client_time": TIME,
    "reason": Text(),
    "source": Bytes(),
    "source_digest": LargeBinary(),
    "hash": LargeBinary(),
    "created_at": TIME,
    "head_digest": LargeBinary(),
    "head_source": Integer(),
    "entry_id": ID,
    "action": Text(),
    "fields": Text(),
}


class Append:
    """Versions, heads and audit entries of one contribution to one collection, in one statement.

    The primary key of `versions` makes it impossible to write a number twice, whatever was locked or not; a head
    moves only to the version after its own.
    """

    def __init__(
        self,
        collection: Collection,
        heads: Table,
        own: Mapping[str, Any],
        project: Callable[[Head], Sequence[Any]],
        lists: Mapping[str, Any],
    ) -> None:
        """`own` are the table's further columns with their parameter types, `project` fills them from a head.

        `lists` names those that hold lists, joined by `SEPARATOR`, with the type of their elements.
        """
        self._collection = collection
        self._own = tuple(own)
        self._project = project
        each = {**_EACH, **own}
        arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in each.items()))
        given = select(arrays.table_valued(*each).render_derived(name="arrays")).cte("given")
        shared = {name: bindparam(name, type_=kind) for name, kind in _SHARED.items()}

        def listed(name: str, kind: Any) -> Any:
            parts = func.string_to_array(given.c[name], literal_column("E'\\x1f'"))
            return cast(parts, ARRAY(kind))

        version = {
            "practice_id": shared["practice_id"],
            "collection": shared["collection"],
            "thing_id": given.c.thing_id,
            "patient_id": given.c.patient_id,
            "number": given.c.number,
            "parent": given.c.parent,
            "inputs": listed("inputs", Integer),
            "change": given.c.change,
            "content": given.c.content,
            "author_id": shared["account_id"],
            "device_id": shared["device_id"],
            "received_at": shared["at"],
            "client_time": given.c.client_time,
            "reason": given.c.reason,
            "contribution_id": shared["contribution_id"],
            "source": given.c.source,
            "source_digest": given.c.source_digest,
            "hash": given.c.hash,
        }
        head = {
            "practice_id": shared["practice_id"],
            "id": given.c.thing_id,
            "patient_id": given.c.patient_id,
            "version": given.c.number,
            "hash": given.c.hash,
            "content": given.c.content,
            "created_at": given.c.created_at,
            "updated_at": shared["at"],
            "updated_by": shared["account_id"],
            "source_digest": given.c.head_digest,
            "source_version": given.c.head_source,
            **{name: listed(name, lists[name]) if name in lists else given.c[name] for name in own},
        }
        entry = {
            "practice_id": shared["practice_id"],
            "id": given.c.entry_id,
            "at": shared["at"],
            "account_id": shared["account_id"],
            "role": shared["role"],
            "session_id": shared["session_id"],
            "device_id": shared["device_id"],
            "request_id": shared["request_id"],
            "action": given.c.action,
            "outcome": literal_column("'done'"),
            "collection": shared["collection"],
            "thing_id": given.c.thing_id,
            "patient_id": given.c.patient_id,
            "version": given.c.number,
            "reason": given.c.reason,
            "fields": listed("fields", Text),
        }
        write_versions = insert(versions).from_select(list(version), select(*version.values())).cte("write_versions")
        write_entries = insert(audit_entries).from_select(list(entry), select(*entry.values())).cte("write_entries")
        write_heads = upsert(heads).from_select(list(head), select(*head.values()))
        fixed = {"practice_id", "id", "patient_id", "created_at"}

        def moved_to(name: str) -> Any:
            new = write_heads.excluded
            # What is deleted keeps its place in lists: a cursor on it still leads on from there.
            return case((new.content.is_(None), heads.c[name]), else_=new[name]) if name in own else new[name]

        write = write_heads.on_conflict_do_update(
            index_elements=["practice_id", "id"],
            set_={name: moved_to(name) for name in head if name not in fixed},
            where=heads.c.version == write_heads.excluded.version - literal_column("1"),
        ).returning(heads.c.id)
        moved = write.add_cte(write_versions, write_entries).cte("write_heads")
        self._statement = Statement(select(func.count()).select_from(moved))

    async def __call__(self, executor: Executor, written: Sequence[Written]) -> None:
        """Raises `AlreadyExists` where an id, or a version's number, is taken; then nothing is written."""
        if not written:
            return
        first = written[0]
        if len({(item.version.contribution_id, item.head.practice_id) for item in written}) > 1:
            raise ValueError("one append is one contribution")
        columns: dict[str, list[Any]] = {name: [] for name in (*_EACH, *self._own)}
        places = list(columns.values())
        for item in written:
            values = (*_row(item), *self._project(item.head))
            for values_of_column, value in zip(places, values, strict=True):
                values_of_column.append(value)
        moved = await executor.row(
            self._statement,
            practice_id=first.head.practice_id,
            collection=self._collection,
            at=first.version.received_at,
            account_id=first.version.author_id,
            device_id=first.version.device_id,
            contribution_id=first.version.contribution_id,
            role=first.entry.role,
            session_id=first.entry.session_id,
            request_id=first.entry.request_id,
            **columns,
        )
        if moved is None or moved[0] != len(written):
            raise RuntimeError("a head was not where its lock left it")


def _row(item: Written) -> tuple[Any, ...]:
    head, version, entry = item.head, item.version, item.entry
    return (
        version.thing_id,
        head.patient_id,
        version.number,
        version.parent,
        SEPARATOR.join(map(str, version.inputs)),
        version.change,
        version.content,
        version.client_time,
        version.reason,
        version.source,
        version.source_digest,
        version.hash,
        head.created_at,
        head.source_digest,
        head.source_version,
        entry.id,
        entry.action,
        SEPARATOR.join(entry.fields),
    )


# -- reading ------------------------------------------------------------------------------------------------------

_COLUMNS = tuple(versions.c)
_WITHOUT_SOURCE = tuple(null().label("source") if c.name == "source" else c for c in _COLUMNS)
_THING = (
    versions.c.practice_id == bindparam("practice_id"),
    versions.c.collection == bindparam("collection"),
    versions.c.thing_id == bindparam("thing_id"),
)

HISTORY = Statement(
    select(*_WITHOUT_SOURCE)
    .where(*_THING, versions.c.number < bindparam("before", type_=Integer))
    .order_by(versions.c.number.desc())
    .limit(bindparam("limit", type_=Integer))
)
NUMBERED = Statement(
    select(*_COLUMNS).where(*_THING, versions.c.number == any_(bindparam("numbers", type_=ARRAY(Integer))))
)
EVERY = Statement(
    select(*_COLUMNS)
    .where(versions.c.collection == bindparam("collection"))
    .order_by(versions.c.practice_id, versions.c.thing_id, versions.c.number)
)
SIZE = Statement(select(func.count()).select_from(versions))


def version_of(row: Row) -> Version:
    (practice_id, collection, thing_id, patient_id, number, parent, inputs, change, *rest) = row
    return Version(
        practice_id, Collection(collection), thing_id, patient_id, number, parent, tuple(inputs), Change(change), *rest
    )


class VersionReads:
    """Any version of anything, within one practice."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def history(
        self, practice_id: str, collection: Collection, thing_id: str, before: int | None, limit: int
    ) -> Sequence[Version]:
        rows = await self._executor.fetch(
            HISTORY,
            practice_id=practice_id,
            collection=collection,
            thing_id=thing_id,
            before=2**31 - 1 if before is None else before,
            limit=limit,
        )
        return [version_of(row) for row in rows]

    async def numbered(
        self, practice_id: str, collection: Collection, thing_id: str, numbers: Sequence[int]
    ) -> dict[int, Version]:
        rows = await self._executor.fetch(
            NUMBERED, practice_id=practice_id, collection=collection, thing_id=thing_id, numbers=list(numbers)
        )
        return {version.number: version for version in map(version_of, rows)}
