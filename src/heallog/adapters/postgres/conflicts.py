"""Conflicts in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import ID, Bytes, identifier, metadata, moment
from heallog.domain.canon import canonical, decode
from heallog.domain.canon import moment as moment_of
from heallog.domain.conflicts import Conflict, Dispute, Kind, Resolution, Severity, State
from heallog.domain.sync import Feed, of_conflict
from heallog.domain.versions import Collection

conflicts = Table(
    "conflicts",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    identifier("collection"),
    identifier("thing_id"),
    identifier("patient_id"),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("head_version", Integer, nullable=False),
    Column("branches", ARRAY(Integer), nullable=False),
    Column("disputes", Bytes, nullable=False),
    moment("opened_at"),
    moment("updated_at"),
    Column("resolution", Bytes),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
    Index(None, "practice_id", "state", "id"),
    Index(None, "practice_id", "patient_id", "id"),
    Index(
        "conflicts_one_open_idx",
        "practice_id",
        "collection",
        "thing_id",
        unique=True,
        postgresql_where=literal_column("state") == literal_column("'open'"),
    ),
)

_EACH = tuple(column for column in conflicts.c if column.name != "branches")
_GIVEN = {f"c_{column.name}": column.type for column in _EACH} | {"c_branches": Text()}
_MINE = conflicts.c.practice_id == bindparam("practice_id")


def _put() -> Statement:
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in _GIVEN.items()))
    given = select(arrays.table_valued(*_GIVEN).render_derived(name="given")).cte("conflicts_given")
    values: dict[str, Any] = {column.name: given.c[f"c_{column.name}"] for column in _EACH}
    values["branches"] = cast(func.string_to_array(given.c.c_branches, literal_column("','")), ARRAY(Integer))
    write = upsert(conflicts).from_select(list(values), select(*values.values()))
    fixed = {"practice_id", "id", "collection", "thing_id", "patient_id", "opened_at"}
    return Statement(
        write.on_conflict_do_update(
            index_elements=["practice_id", "id"],
            set_={name: write.excluded[name] for name in values if name not in fixed},
        )
    )


PUT = _put()
THESE = Statement(select(conflicts).where(_MINE, conflicts.c.id == any_(bindparam("ids", type_=ARRAY(ID)))))
GET = Statement(select(conflicts).where(_MINE, conflicts.c.id == bindparam("id")))
PAGE = Statement(
    select(conflicts)
    .where(
        _MINE,
        *(
            or_(bindparam(name, type_=Text).is_(None), conflicts.c[name] == bindparam(name, type_=Text))
            for name in ("state", "patient_id")
        ),
        or_(bindparam("after", type_=ID).is_(None), conflicts.c.id < bindparam("after", type_=ID)),
    )
    .order_by(conflicts.c.id.desc())
    .limit(bindparam("limit", type_=Integer))
)


def _row(conflict: Conflict) -> tuple[Any, ...]:
    values = {
        **{name: getattr(conflict, name) for name in conflicts.c.keys()},  # noqa: SIM118 - columns, not a dict
        "branches": ",".join(map(str, conflict.branches)),
        "disputes": canonical([asdict(dispute) | {"at": moment_of(dispute.at)} for dispute in conflict.disputes]),
        "resolution": None if conflict.resolution is None else _resolution(conflict.resolution),
    }
    return tuple(values[name.removeprefix("c_")] for name in _GIVEN)


def _resolution(resolution: Resolution) -> bytes:
    return canonical(asdict(resolution) | {"at": moment_of(resolution.at)})


def conflict_of(row: Row) -> Conflict:
    disputes = tuple(
        Dispute(
            **{
                **dispute,
                "kind": Kind(dispute["kind"]),
                "severity": Severity(dispute["severity"]),
                "at": datetime.fromisoformat(dispute["at"]),
            }
        )
        for dispute in decode(row["disputes"])
    )
    resolution = None if row["resolution"] is None else decode(row["resolution"])
    return Conflict(
        practice_id=row["practice_id"],
        id=row["id"],
        collection=Collection(row["collection"]),
        thing_id=row["thing_id"],
        patient_id=row["patient_id"],
        state=State(row["state"]),
        base_version=row["base_version"],
        head_version=row["head_version"],
        branches=tuple(row["branches"]),
        disputes=disputes,
        opened_at=row["opened_at"],
        updated_at=row["updated_at"],
        resolution=resolution and Resolution(**{**resolution, "at": datetime.fromisoformat(resolution["at"])}),
    )


class ConflictRepository:
    """Conflicts inside a unit of work."""

    def __init__(self, executor: Executor, feed: Feed) -> None:
        self._executor = executor
        self._feed = feed

    async def these(self, practice_id: str, ids: Sequence[str]) -> dict[str, Conflict]:
        rows = await self._executor.fetch(THESE, practice_id=practice_id, ids=list(ids))
        return {row["id"]: conflict_of(row) for row in rows}

    async def put(self, conflicts: Sequence[Conflict]) -> None:
        if conflicts:
            columns = zip(*map(_row, conflicts), strict=True)
            await self._executor.fetch(PUT, **dict(zip(_GIVEN, map(list, columns), strict=True)))
            self._feed.tell(conflicts[0].practice_id, [of_conflict(conflict) for conflict in conflicts])


class ConflictReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def get(self, practice_id: str, conflict_id: str) -> Conflict | None:
        row = await self._executor.row(GET, practice_id=practice_id, id=conflict_id)
        return None if row is None else conflict_of(row)

    async def page(
        self, practice_id: str, *, state: State | None, patient_id: str | None, after: str | None, limit: int
    ) -> Sequence[Conflict]:
        rows = await self._executor.fetch(
            PAGE, practice_id=practice_id, state=state, patient_id=patient_id, after=after, limit=limit
        )
        return [conflict_of(row) for row in rows]
