"""The change feed in PostgreSQL: written as a unit of work commits, read by one statement a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    any_,
    bindparam,
    cast,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import ID, TIME, Bytes, identifier, metadata, moment
from heallog.application.ports.sync import Page
from heallog.domain.fields import canonical, decode
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Feed, Place, Stream

sync_heads = Table(
    "sync_heads",
    metadata,
    identifier("practice_id"),
    Column("seq", BigInteger, nullable=False),
    identifier("epoch"),
    PrimaryKeyConstraint("practice_id"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
)

change_feed = Table(
    "change_feed",
    metadata,
    identifier("practice_id"),
    Column("seq", BigInteger, nullable=False),
    Column("rank", Integer, nullable=False),
    identifier("id"),
    identifier("patient_id"),
    Column("version", Integer, nullable=False),
    Column("wire", LargeBinary, nullable=False),
    PrimaryKeyConstraint("practice_id", "seq", "rank", "id"),
    UniqueConstraint("practice_id", "rank", "id"),
)

pushes = Table(
    "pushes",
    metadata,
    identifier("practice_id"),
    identifier("device_id"),
    identifier("push_id"),
    identifier("account_id"),
    moment("at"),
    Column("digest", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    PrimaryKeyConstraint("practice_id", "device_id", "push_id"),
)

quarantine = Table(
    "quarantine",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    identifier("push_id"),
    identifier("account_id"),
    identifier("device_id"),
    moment("at"),
    Column("operation", Bytes, nullable=False),
    Column("errors", Bytes, nullable=False),
    moment("closed_at", nullable=True),
    PrimaryKeyConstraint("practice_id", "id"),
)

_GIVEN: dict[str, Any] = {
    "ranks": Integer(),
    "ids": ID,
    "patients": ID,
    "versions": Integer(),
    "wires": LargeBinary(),
}


def _write() -> Statement:
    """Takes the practice's next `seq`, then moves the items to it.

    `greatest` keeps it rising whatever the clock does; where the clock is right it reads as milliseconds. The row of
    the head stays locked until the commit: the next contribution gets its number after this one is there to be seen.
    """
    now = cast(func.floor(func.extract("epoch", func.clock_timestamp()) * 1000), BigInteger)
    practice = bindparam("practice", type_=ID)
    head = (
        update(sync_heads)
        .where(sync_heads.c.practice_id == practice)
        .values(seq=func.greatest(sync_heads.c.seq + 1, now))
        .returning(sync_heads.c.seq)
        .cte("head")
    )
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in _GIVEN.items()))
    given = arrays.table_valued(*_GIVEN).render_derived(name="given")
    rows = select(
        practice, head.c.seq, given.c.ranks, given.c.ids, given.c.patients, given.c.versions, given.c.wires
    ).join_from(given, head, true())
    names = ["practice_id", "seq", "rank", "id", "patient_id", "version", "wire"]
    write = upsert(change_feed).from_select(names, rows)
    return Statement(
        write.on_conflict_do_update(
            index_elements=["practice_id", "rank", "id"],
            set_={name: write.excluded[name] for name in ("seq", "version", "wire")},
        )
    )


BEGIN = Statement(
    insert(sync_heads).values(
        practice_id=bindparam("practice", type_=ID), seq=0, epoch=cast(func.gen_random_uuid(), Text)
    )
)
WRITE = _write()


def _page() -> Statement:
    """One row: the head, and the page's wire bytes joined where they lie. Nothing per item leaves the database."""
    practice = bindparam("practice", type_=ID)
    head = select(sync_heads.c.seq, sync_heads.c.epoch).where(sync_heads.c.practice_id == practice).cte("head")
    until = func.coalesce(bindparam("until", type_=BigInteger), head.c.seq)
    place = tuple_(bindparam("seq", type_=BigInteger), bindparam("rank", type_=Integer), bindparam("id", type_=ID))
    order = (change_feed.c.seq, change_feed.c.rank, change_feed.c.id)
    found = (
        select(
            change_feed,
            func.row_number().over(order_by=order).label("number"),
        )
        .where(
            change_feed.c.practice_id == practice,
            tuple_(*order) > place,
            change_feed.c.seq <= select(until).select_from(head).scalar_subquery(),
            change_feed.c.rank == any_(bindparam("ranks", type_=ARRAY(Integer))),
        )
        .order_by(*order)
        # One more than is shown: it says whether there is more.
        .limit(bindparam("limit", type_=Integer) + literal(1, Integer))
        .cte("found")
    )
    shown = found.c.number <= bindparam("limit", type_=Integer)
    by = found.c.number

    def last(name: str) -> Any:
        return func.array_agg(aggregate_order_by(found.c[name], by.desc())).filter(shown)[1]

    joined = func.string_agg(found.c.wire, aggregate_order_by(literal_column("','::bytea"), by)).filter(shown)
    page = select(
        joined.label("changes"),
        func.count().filter(shown).label("count"),
        func.count().label("found"),
        last("seq").label("seq"),
        last("rank").label("rank"),
        last("id").label("id"),
        func.array_agg(found.c.patient_id.distinct()).filter(shown).label("patients"),
    ).cte("page")
    return Statement(
        select(head.c.epoch, head.c.seq.label("head"), until.label("until"), page).select_from(page).join(head, true())
    )


PAGE = _page()


_PUSHED = {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in pushes.c}
KEEP = Statement(insert(pushes).values(_PUSHED))
PUSHED = Statement(
    select(pushes).where(*(pushes.c[name] == _PUSHED[name] for name in ("practice_id", "device_id", "push_id")))
)


def _quarantine() -> Statement:
    names = {f"q_{c.name}": c.type for c in quarantine.c}
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in names.items()))
    given = arrays.table_valued(*names).render_derived(name="given")
    return Statement(
        insert(quarantine).from_select([c.name for c in quarantine.c], select(*(given.c[name] for name in names)))
    )


QUARANTINE = _quarantine()
_AFTER: Any = bindparam("after", type_=ID)
QUARANTINED = Statement(
    select(quarantine)
    .where(
        quarantine.c.practice_id == bindparam("practice", type_=ID),
        quarantine.c.closed_at.is_(None),
        or_(_AFTER.is_(None), quarantine.c.id < _AFTER),
    )
    .order_by(quarantine.c.id.desc())
    .limit(bindparam("limit", type_=Integer))
)


_ONE = (
    quarantine.c.practice_id == bindparam("practice", type_=ID),
    quarantine.c.id == bindparam("item", type_=ID),
)
LOCK_QUARANTINED = Statement(select(quarantine).where(*_ONE).with_for_update())
CLOSE = Statement(update(quarantine).where(*_ONE).values(closed_at=bindparam("at", type_=TIME)))


def _quarantined(row: Row) -> Quarantined:
    return Quarantined(**dict(row) | {"operation": decode(row["operation"]), "errors": tuple(decode(row["errors"]))})


class SyncRepository:
    """Pushes and what was quarantined of them, inside a unit of work."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def pushed(self, practice_id: str, device_id: str, push_id: str) -> Pushed | None:
        row = await self._executor.row(
            PUSHED, new_practice_id=practice_id, new_device_id=device_id, new_push_id=push_id
        )
        return None if row is None else Pushed(**dict(row))

    async def keep(self, pushed: Pushed) -> None:
        await self._executor.fetch(KEEP, **{f"new_{c.name}": getattr(pushed, c.name) for c in pushes.c})

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        rows = [
            {**{c.name: getattr(item, c.name) for c in quarantine.c}}
            | {"operation": canonical(item.operation), "errors": canonical(list(item.errors))}
            for item in items
        ]
        await self._executor.fetch(QUARANTINE, **{f"q_{c.name}": [row[c.name] for row in rows] for c in quarantine.c})

    async def quarantined(self, practice_id: str, after: str | None, limit: int) -> Sequence[Quarantined]:
        rows = await self._executor.fetch(QUARANTINED, practice=practice_id, after=after, limit=limit)
        return [_quarantined(row) for row in rows]

    async def lock_quarantined(self, practice_id: str, item_id: str) -> Quarantined | None:
        row = await self._executor.row(LOCK_QUARANTINED, practice=practice_id, item=item_id)
        return None if row is None else _quarantined(row)

    async def close(self, item: Quarantined) -> None:
        await self._executor.fetch(CLOSE, practice=item.practice_id, item=item.id, at=item.closed_at)


async def write(executor: Executor, feed: Feed) -> None:
    """The last statement before the commit. Every practice has a head: it got one when it began."""
    for practice_id, items in feed.told():
        await executor.fetch(
            WRITE,
            practice=practice_id,
            ranks=[item.stream.rank for item in items],
            ids=[item.id for item in items],
            patients=[item.patient_id for item in items],
            versions=[item.version for item in items],
            wires=[item.wire for item in items],
        )


class FeedReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def page(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        row = await self._executor.row(
            PAGE,
            practice=practice_id,
            ranks=[Stream(stream).rank for stream in streams],
            seq=after.seq,
            rank=after.rank,
            id=after.id,
            until=until,
            limit=limit,
        )
        last = Place(row["seq"], row["rank"], row["id"]) if row["count"] else None
        return Page(
            row["epoch"],
            row["head"],
            row["until"],
            row["changes"] or b"",
            row["count"],
            last,
            row["found"] > row["count"],
            row["patients"] or (),
        )


if TYPE_CHECKING:
    from heallog.application.ports import sync as ports

    _: type[ports.FeedReads] = FeedReads
