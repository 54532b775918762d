"""The table of versions, reading it, and the one statement that appends to it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
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
    false,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from heallog.adapters.postgres.audit import PLACE, audit_entries
from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import (
    BETWEEN,
    DIGEST,
    ID,
    SEPARATOR,
    TIME,
    Bytes,
    identifier,
    metadata,
    moment,
    parameters,
    rows_of,
)
from heallog.domain.audit import Written
from heallog.domain.versions import ENTERED, Change, Collection, Head, Version

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
    Column("branch", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("practice_id", "collection", "thing_id", "number"),
)


def head_columns() -> list[Column[Any]]:
    """What every table of heads has, in the order of `head_of`."""
    return [
        identifier("practice_id"),
        identifier("id"),
        identifier("patient_id"),
        Column("version", Integer, nullable=False),
        Column("last", Integer, nullable=False, server_default=text("0")),
        Column("hash", LargeBinary, nullable=False),
        Column("content", Bytes),
        moment("created_at"),
        moment("updated_at"),
        identifier("updated_by"),
        Column("source_digest", LargeBinary),
        Column("source_version", Integer),
        Column("conflict_id", ID),
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
    "role": Text(),
    "session_id": ID,
    "request_id": Text(),
}
_VERSION: Mapping[str, Any] = {
    "v_thing_id": ID,
    "v_patient_id": ID,
    "v_number": Integer(),
    "v_parent": Integer(),
    "v_inputs": Text(),
    "v_change": ID,
    "v_content": Bytes(),
    "v_client_time": TIME,
    "v_reason": Text(),
    "v_source": Bytes(),
    "v_source_digest": DIGEST,
    "v_hash": DIGEST,
    "v_branch": Boolean(),
    "v_contribution_id": ID,
}
_MOVED: Mapping[str, Any] = {
    "before": Integer(),
    "id": ID,
    "patient_id": ID,
    "version": Integer(),
    "last": Integer(),
    "hash": DIGEST,
    "content": Bytes(),
    "created_at": TIME,
    "updated_at": TIME,
    "updated_by": ID,
    "source_digest": DIGEST,
    "source_version": Integer(),
    "conflict_id": ID,
    "entry_id": ID,
    "action": ID,
    "outcome": ID,
    "reason": Text(),
    "fields": Text(),
}


def _given(name: str, columns: Mapping[str, Any]) -> Any:
    """Rows out of one parameter per column."""
    return rows_of(columns, f"{name}_arrays").cte(name)


def _listed(joined: Any, kind: Any) -> Any:
    return cast(func.string_to_array(joined, BETWEEN), ARRAY(kind))


class Append:
    """Versions, heads and audit entries of one device's contributions to one collection, in one statement.

    The primary key of `versions` makes it impossible to write a number twice, whatever was locked or not; a head
    moves only from where its lock left it.
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
        self._project = project
        self._moved = {**_MOVED, **own}
        given, moved = _given("given", _VERSION), _given("moved", self._moved)
        shared = {name: bindparam(name, type_=kind) for name, kind in _SHARED.items()}
        version = {
            "practice_id": shared["practice_id"],
            "collection": shared["collection"],
            **{
                name: given.c[f"v_{name}"]
                for name in ("thing_id", "patient_id", "number", "parent", "change", "content")
            },
            "inputs": _listed(given.c.v_inputs, Integer),
            "author_id": shared["account_id"],
            "device_id": shared["device_id"],
            "received_at": shared["at"],
            **{
                name: given.c[f"v_{name}"]
                for name in ("client_time", "reason", "source", "source_digest", "hash", "branch", "contribution_id")
            },
        }
        head = {
            "practice_id": shared["practice_id"],
            **{name: moved.c[name] for name in _HEAD if name != "practice_id"},
            "updated_at": func.coalesce(moved.c.updated_at, shared["at"]),
            **{name: _listed(moved.c[name], lists[name]) if name in lists else moved.c[name] for name in own},
        }
        entry = {
            **{name: shared[name] for name in ("practice_id", "at", "account_id", "role", "session_id", "device_id")},
            "request_id": shared["request_id"],
            "collection": shared["collection"],
            "id": moved.c.entry_id,
            "action": moved.c.action,
            "outcome": moved.c.outcome,
            "thing_id": moved.c.id,
            "patient_id": moved.c.patient_id,
            "version": moved.c.last,
            "reason": moved.c.reason,
            "fields": _listed(moved.c.fields, Text),
            "hash": moved.c.hash,
            **PLACE,
        }

        def moved_to(name: str) -> Any:
            # What is deleted keeps its place in lists: a cursor on it still leads on from there.
            return case((moved.c.content.is_(None), heads.c[name]), else_=head[name]) if name in own else head[name]

        fixed = {"practice_id", "id", "patient_id", "created_at"}
        born = moved.c.before == literal_column("0")
        write_versions = insert(versions).from_select(list(version), select(*version.values())).cte("write_versions")
        write_entries = insert(audit_entries).from_select(list(entry), select(*entry.values())).cte("write_entries")
        begin = insert(heads).from_select(list(head), select(*head.values()).where(born)).returning(heads.c.id)
        known = heads.alias("known")
        place = (
            select(literal_column("known.ctid"))
            .select_from(known)
            .where(known.c.practice_id == shared["practice_id"], known.c.id == moved.c.id)
            .correlate(moved)
            .scalar_subquery()
        )
        move = (
            update(heads)
            .values({name: moved_to(name) for name in head if name not in fixed})
            .where(
                # One after the other by its key, whatever the planner believes of how many there are: by the practice,
                # which the place is of anyway, it would read all of its things where it believes that they are few.
                literal_column(f"{heads.name}.ctid") == place,
                heads.c.last == moved.c.before,
            )
            .returning(heads.c.id)
        )
        counts = [
            select(func.count()).select_from(part.cte(name)).scalar_subquery()
            for name, part in (("begin", begin.add_cte(write_versions, write_entries)), ("move", move))
        ]
        self._statement = Statement(select(counts[0] + counts[1]))

    async def __call__(self, executor: Executor, written: Sequence[Written]) -> None:
        """Raises `AlreadyExists` where an id, or a version's number, is taken; then nothing is written."""
        if not written:
            return
        version, entry = written[0].versions[0], written[0].entry
        added = [new for item in written for new in item.versions]
        if len({(new.practice_id, new.author_id, new.device_id, new.received_at) for new in added}) > 1:
            raise ValueError("one append is one device's, at one time")
        if len({item.head.id for item in written}) < len(written):
            raise ValueError("one append takes a thing once")
        moved = await executor.row(
            self._statement,
            practice_id=version.practice_id,
            collection=self._collection,
            at=version.received_at,
            account_id=version.author_id,
            device_id=version.device_id,
            role=entry.role,
            session_id=entry.session_id,
            request_id=entry.request_id,
            **parameters(_VERSION, map(_version_row, added)),
            **parameters(self._moved, ((*_moved_row(item), *self._project(item.head)) for item in written)),
        )
        if moved is None or moved[0] != len(written):
            raise RuntimeError("a head was not where its lock left it")


def _version_row(version: Version) -> tuple[Any, ...]:
    return (
        version.thing_id,
        version.patient_id,
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
        version.branch,
        version.contribution_id,
    )


def _moved_row(item: Written) -> tuple[Any, ...]:
    head, entry = item.head, item.entry
    return (
        item.before,
        head.id,
        head.patient_id,
        head.version,
        head.last,
        head.hash,
        head.content,
        # A time is dear to encode, and these are seldom anything else.
        head.created_at if item.before == 0 else None,
        None if head.updated_at == item.versions[0].received_at else head.updated_at,
        head.updated_by,
        head.source_digest,
        head.source_version,
        head.conflict_id,
        entry.id,
        entry.action,
        entry.outcome,
        entry.reason,
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
_OWN = versions.alias("own")
_LATEST_OWN = (
    select(func.max(_OWN.c.number))
    .where(
        _OWN.c.practice_id == bindparam("practice_id"),
        _OWN.c.collection == bindparam("collection"),
        _OWN.c.thing_id == bindparam("thing_id"),
        _OWN.c.device_id == bindparam("device_id"),
        _OWN.c.number > bindparam("base", type_=Integer),
        func.coalesce(_OWN.c.parent, literal_column("0")) >= bindparam("base", type_=Integer),
        _OWN.c.change.in_([literal_column(f"'{change}'") for change in ENTERED]),
    )
    .scalar_subquery()
)
LINEAGE = Statement(
    select(*_WITHOUT_SOURCE).where(
        *_THING,
        or_(versions.c.number == bindparam("base", type_=Integer), versions.c.number == _LATEST_OWN),
    )
)


_ASKED: Mapping[str, Any] = {"collections": ID, "things": ID, "bases": Integer()}


def _lineages() -> Statement:
    """For each asked thing the version that it names, and the device's own latest one on the grounds of it."""
    given = rows_of(_ASKED, "arrays").cte("given")
    there = (
        versions.c.practice_id == bindparam("practice_id", type_=ID),
        versions.c.collection == given.c.collections,
        versions.c.thing_id == given.c.things,
    )
    one: Any = literal_column("1")
    # One for each, by its key: joined, all versions of the practice are read where the planner believes that they are
    # few.
    based = select(*_WITHOUT_SOURCE).where(*there, versions.c.number == given.c.bases).limit(one).lateral("based")
    own = (
        select(*_WITHOUT_SOURCE)
        .where(
            *there,
            versions.c.device_id == bindparam("device_id", type_=ID),
            versions.c.number > given.c.bases,
            func.coalesce(versions.c.parent, literal_column("0")) >= given.c.bases,
            versions.c.change.in_([literal_column(f"'{change}'") for change in ENTERED]),
        )
        .order_by(versions.c.number.desc())
        .limit(one)
        .lateral("own")
    )
    found = (select(given.c.bases.label("asked"), *part.c).join_from(given, part, true()) for part in (based, own))
    return Statement(union_all(*found))


LINEAGES = _lineages()


_COLLECTIONS = {str(collection): collection for collection in Collection}
_CHANGES = {str(change): change for change in Change}


def version_of(row: Row) -> Version:
    (practice_id, collection, thing_id, patient_id, number, parent, inputs, change, *rest) = row
    there = practice_id, _COLLECTIONS[collection], thing_id, patient_id
    return Version(*there, number, parent, tuple(inputs), _CHANGES[change], *rest)


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

    async def lineage(
        self, practice_id: str, collection: Collection, thing_id: str, base: int, device_id: str
    ) -> tuple[Version | None, Version | None]:
        rows = await self._executor.fetch(
            LINEAGE,
            practice_id=practice_id,
            collection=collection,
            thing_id=thing_id,
            base=base,
            device_id=device_id,
        )
        found = {version.number: version for version in map(version_of, rows)}
        return found.pop(base, None), next(iter(found.values()), None)

    async def lineages(
        self, practice_id: str, asked: Sequence[tuple[Collection, str, int]], device_id: str
    ) -> dict[tuple[Collection, str, int], tuple[Version | None, Version | None]]:
        asked = list(dict.fromkeys(asked))
        rows = await self._executor.fetch(
            LINEAGES,
            practice_id=practice_id,
            device_id=device_id,
            **parameters(_ASKED, asked),
        )
        found: dict[tuple[Collection, str, int], list[Version | None]] = {one: [None, None] for one in asked}
        for base, *row in rows:
            version = version_of(row)
            found[version.collection, version.thing_id, base][version.number != base] = version
        return {one: (started, own) for one, (started, own) in found.items()}
