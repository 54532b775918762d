"""What of sync is dropped when nobody can ask for it any more, and the new epoch after a restore.

The feed of a practice is written by whoever holds its head; so it is here: a sweep meets nobody in the feed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.feed import NOW, change_feed, contributions, sync_heads
from heallog.adapters.postgres.health import sync_devices
from heallog.adapters.postgres.schema import ID, TIME
from heallog.adapters.postgres.sync import pulls, pushes
from heallog.application.ports.retention import Keep

_PRACTICE = bindparam("practice", type_=ID)
_TOMBSTONES: Any = bindparam("tombstones", type_=TIME)
_ANSWERS: Any = bindparam("answers", type_=TIME)


def _edges(*only: ColumnElement[bool]) -> CTE:
    """Up to where each practice's feed may be dropped: what is old enough, and every active device has.

    What a device has is the place that it came back with. One that had nothing, or less than the floor, asks for
    everything anew: it holds nothing. A number reads as milliseconds; one that a wrong clock made too low brings a
    device to ask anew too early, and never to miss something.
    """

    def held(table: Table, place: ColumnElement[int], seen: ColumnElement[Any]) -> Select[Any]:
        return (
            select(table.c.practice_id, place.label("place"))
            .join_from(table, sync_heads, table.c.practice_id == sync_heads.c.practice_id)
            .where(*only, seen >= _TOMBSTONES, place > literal(1, BigInteger), place >= sync_heads.c.floor)
        )

    places = union_all(
        held(sync_devices, sync_devices.c.position, sync_devices.c.seen_at), held(pulls, pulls.c.lo, pulls.c.at)
    ).subquery("places")
    lowest = select(places.c.practice_id, func.min(places.c.place).label("place")).group_by(places.c.practice_id).cte()
    old = cast(func.floor(func.extract("epoch", _TOMBSTONES) * 1000), BigInteger)
    return (
        select(
            sync_heads.c.practice_id,
            sync_heads.c.floor,
            func.least(old, sync_heads.c.seq, lowest.c.place).label("edge"),
        )
        .select_from(sync_heads.outerjoin(lowest, sync_heads.c.practice_id == lowest.c.practice_id))
        .where(*only)
        .cte("edges")
    )


def _old(table: Table, edges: CTE) -> tuple[ColumnElement[bool], ...]:
    """Which rows of a table may go."""
    of = table.c.practice_id == edges.c.practice_id
    if table is pushes:
        return of, pushes.c.at < _ANSWERS
    if table is pulls:
        # At the floor itself a device may still push from this pull.
        return of, pulls.c.hi < edges.c.floor, pulls.c.at < _TOMBSTONES
    dead = (change_feed.c.deleted,) if table is change_feed else ()
    return of, table.c.seq <= edges.c.edge, *dead


_SWEPT = (change_feed, contributions, pulls, pushes)


def _overdue() -> Statement:
    edges = _edges()
    some = (exists().where(*_old(table, edges)) for table in _SWEPT)
    return Statement(select(edges.c.practice_id).where(or_(*some)).order_by(edges.c.practice_id))


def _dropped(table: Table, edges: CTE, oldest: ColumnElement[Any]) -> CTE:
    """Of one table the oldest that may go, gone."""
    key = table.primary_key.columns
    found = (
        select(*key)
        .join_from(table, edges, _old(table, edges)[0])
        .where(*_old(table, edges)[1:])
        .order_by(oldest)
        .limit(bindparam("most", type_=Integer))
        .cte(f"old_{table.name}")
    )
    return (
        delete(table)
        .where(table.c.practice_id == _PRACTICE, tuple_(*key) == tuple_(*(found.c[column.name] for column in key)))
        .returning(oldest.label("place"))
        .cte(f"dropped_{table.name}")
    )


def _drop() -> Statement:
    edges = _edges(sync_heads.c.practice_id == _PRACTICE)
    tombstones = _dropped(change_feed, edges, change_feed.c.seq)
    numbers = _dropped(contributions, edges, contributions.c.seq)
    others = _dropped(pulls, edges, pulls.c.hi), _dropped(pushes, edges, pushes.c.at)
    places = union_all(select(tombstones.c.place), select(numbers.c.place)).subquery("gone")
    highest = select(func.max(places.c.place)).scalar_subquery()
    raised = (
        update(sync_heads)
        .where(sync_heads.c.practice_id == _PRACTICE)
        .values(floor=func.greatest(sync_heads.c.floor, highest))
        .cte("raised")
    )
    counts = [select(func.count()).select_from(gone).scalar_subquery() for gone in (tombstones, numbers, *others)]
    return Statement(select(sum(counts[1:], counts[0]).label("count")).add_cte(raised))


LOCK = Statement(select(sync_heads.c.seq).where(sync_heads.c.practice_id == _PRACTICE).with_for_update())
OVERDUE = _overdue()
DROP = _drop()


def _renew() -> Statement:
    locked = select(sync_heads.c.practice_id).order_by(sync_heads.c.practice_id).with_for_update().cte("locked")
    above = func.greatest(sync_heads.c.seq, NOW) + bindparam("leap", type_=BigInteger)
    return Statement(
        update(sync_heads)
        .where(sync_heads.c.practice_id == locked.c.practice_id)
        .values(epoch=cast(func.gen_random_uuid(), Text), seq=above, floor=above)
        .returning(sync_heads.c.practice_id)
    )


RENEW = _renew()


class RetentionRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def overdue(self, keep: Keep) -> Sequence[str]:
        rows = await self._executor.fetch(OVERDUE, tombstones=keep.tombstones, answers=keep.answers)
        return [row["practice_id"] for row in rows]

    async def drop(self, practice_id: str, keep: Keep, most: int) -> int:
        # By itself: what follows must see what whoever held it has committed.
        await self._executor.row(LOCK, practice=practice_id)
        row = await self._executor.row(
            DROP, practice=practice_id, tombstones=keep.tombstones, answers=keep.answers, most=most
        )
        return int(row["count"])

    async def renew(self, leap: int) -> Sequence[str]:
        return sorted(row["practice_id"] for row in await self._executor.fetch(RENEW, leap=leap))


if TYPE_CHECKING:
    from heallog.application.ports import retention as ports

    _: type[ports.RetentionRepository] = RetentionRepository
