"""The change feed in PostgreSQL: written as a unit of work commits, read by one statement a page."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    any_,
    bindparam,
    cast,
    false,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.database import Executor, Statement, Transaction
from heallog.adapters.postgres.schema import ID, identifier, metadata
from heallog.application.ports import sync as ports
from heallog.application.ports.sync import Page
from heallog.domain import watermelon
from heallog.domain.audit import Written
from heallog.domain.sync import Feed, Item, Place, Stream

Snapshot = Callable[[], AbstractAsyncContextManager[Transaction]]

sync_heads = Table(
    "sync_heads",
    metadata,
    identifier("practice_id"),
    Column("seq", BigInteger, nullable=False),
    identifier("epoch"),
    Column("floor", BigInteger, nullable=False, server_default=text("0")),
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
    Column("row", LargeBinary, nullable=False),
    Column("deleted", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("practice_id", "seq", "rank", "id"),
    UniqueConstraint("practice_id", "rank", "id"),
    Index("change_feed_tombstones_idx", "practice_id", "seq", postgresql_where=text("deleted")),
)

contributions = Table(
    "contributions",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("practice_id", "id"),
    Index("contributions_practice_id_seq_idx", "practice_id", "seq"),
)

_GIVEN: dict[str, Any] = {
    "ranks": Integer(),
    "ids": ID,
    "patients": ID,
    "versions": Integer(),
    "wires": LargeBinary(),
    "rows": LargeBinary(),
    "deleted": Boolean(),
}

NOW = cast(func.floor(func.extract("epoch", func.clock_timestamp()) * 1000), BigInteger)
"""Milliseconds, by the database's clock."""


def _write() -> Statement:
    """Takes the practice's next `seq`, then moves the items to it.

    `greatest` keeps it rising whatever the clock does; where the clock is right it reads as milliseconds. The row of
    the head stays locked until the commit: the next contribution gets its number after this one is there to be seen.
    """
    practice = bindparam("practice", type_=ID)
    head = (
        update(sync_heads)
        .where(sync_heads.c.practice_id == practice)
        .values(seq=func.greatest(sync_heads.c.seq + 1, NOW))
        .returning(sync_heads.c.seq)
        .cte("head")
    )
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in _GIVEN.items()))
    given = arrays.table_valued(*_GIVEN).render_derived(name="given")
    rows = select(practice, head.c.seq, *(given.c[name] for name in _GIVEN)).join_from(given, head, true())
    names = ["practice_id", "seq", "rank", "id", "patient_id", "version", "wire", "row", "deleted"]
    write = upsert(change_feed).from_select(names, rows)
    ids = func.unnest(bindparam("contributions", type_=ARRAY(ID))).table_valued("id").render_derived(name="behind")
    number = upsert(contributions).from_select(
        ["practice_id", "id", "seq"], select(practice, ids.c.id, head.c.seq).join_from(ids, head, true())
    )
    numbered = number.on_conflict_do_update(
        index_elements=["practice_id", "id"], set_={"seq": number.excluded.seq}
    ).cte("numbered")
    return Statement(
        write.on_conflict_do_update(
            index_elements=["practice_id", "rank", "id"],
            set_={name: write.excluded[name] for name in ("seq", "version", "wire", "row", "deleted")},
        ).add_cte(numbered)
    )


def _again() -> Statement:
    """Moves items to the number that the practice's head has now, as they are."""
    names: dict[str, Any] = {"ranks": Integer(), "ids": ID}
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in names.items()))
    given = arrays.table_valued(*names).render_derived(name="given")
    practice = bindparam("practice", type_=ID)
    return Statement(
        update(change_feed)
        .values(seq=select(sync_heads.c.seq).where(sync_heads.c.practice_id == practice).scalar_subquery())
        .where(
            change_feed.c.practice_id == practice,
            change_feed.c.rank == given.c.ranks,
            change_feed.c.id == given.c.ids,
            # Says the same again, so that a plan made for a small feed goes by the key in a large one too.
            change_feed.c.rank == any_(bindparam("ranks", type_=ARRAY(Integer))),
            change_feed.c.id == any_(bindparam("ids", type_=ARRAY(ID))),
        )
    )


BEGIN = Statement(
    insert(sync_heads).values(
        practice_id=bindparam("practice", type_=ID), seq=0, epoch=cast(func.gen_random_uuid(), Text)
    )
)
WRITE = _write()
AGAIN = _again()


def _page(column: Column[bytes], ranks: Sequence[int | None], *, skipping: bool = False) -> Statement:
    """One row: the head, and the page's bytes joined where they lie, apart by rank or (None) all of them.

    Nothing per item leaves the database. A page begins after a place or (`skipping`) after so many others, which are
    read, one and all: its cost grows with them.
    """
    practice = bindparam("practice", type_=ID)
    wanted = sync_heads.c.practice_id == practice
    head = select(sync_heads.c.seq, sync_heads.c.epoch, sync_heads.c.floor).where(wanted).cte("head")
    until = func.coalesce(bindparam("until", type_=BigInteger), head.c.seq)
    most = select(until).select_from(head).scalar_subquery()
    place = tuple_(bindparam("seq", type_=BigInteger), bindparam("rank", type_=Integer), bindparam("id", type_=ID))
    skip = bindparam("skip", type_=Integer)
    keys = (change_feed.c.seq, change_feed.c.rank, change_feed.c.id)
    order = keys[1:] if skipping else keys
    number = func.row_number().over(order_by=order)
    items = (
        select(
            *keys,
            change_feed.c.patient_id,
            column.label("bytes"),
            (number - skip if skipping else number).label("number"),
        )
        .where(
            change_feed.c.practice_id == practice,
            *(() if skipping else (tuple_(*keys) > place, change_feed.c.seq <= most)),
            change_feed.c.rank == any_(bindparam("ranks", type_=ARRAY(Integer))),
        )
        .order_by(*order)
        # One more than is shown: it says whether there is more.
        .limit(bindparam("limit", type_=Integer) + literal(1, Integer))
    )
    found = (items.offset(skip) if skipping else items).cte("found")
    shown = found.c.number <= bindparam("limit", type_=Integer)
    count = func.count().filter(shown)
    # As the items come: PostgreSQL sees that, and sorts nothing.
    by = [found.c[key.name] for key in order]

    def last(name: str) -> Any:
        return func.array_agg(aggregate_order_by(found.c[name], *by)).filter(shown)[count]

    def joined(rank: int | None) -> Any:
        wanted = shown if rank is None else shown & (found.c.rank == literal(rank, Integer))
        return func.string_agg(found.c.bytes, aggregate_order_by(literal_column("','::bytea"), *by)).filter(wanted)

    page = select(
        *(joined(rank).label(f"changes_{number}") for number, rank in enumerate(ranks)),
        count.label("count"),
        func.count().label("found"),
        last("seq").label("seq"),
        last("rank").label("rank"),
        last("id").label("id"),
        func.array_agg(found.c.patient_id.distinct()).filter(shown).label("patients"),
    ).cte("page")
    return Statement(
        select(head.c.epoch, head.c.seq.label("head"), head.c.floor, until.label("until"), page)
        .select_from(page)
        .join(head, true())
    )


PAGE = _page(change_feed.c.wire, [None])
SKIPPED = _page(change_feed.c.wire, [None], skipping=True)
ROWS = _page(change_feed.c.row, [stream.rank for stream in Stream])


_BEGINNING = Place()


class Prepared(Feed):
    """What devices are told, with the rows of it made as it comes: the database has versions to write meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, Stream, str], bytes] = {}

    def tell(self, practice_id: str, items: Iterable[Item]) -> None:
        items = tuple(items)
        super().tell(practice_id, items)
        for item in items:
            self.rows[practice_id, item.stream, item.id] = watermelon.row_of(item)


async def append(work: Coroutine[Any, Any, None], feed: Feed, written: Sequence[Written]) -> None:
    """Let the database write versions, and prepare what is told of them meanwhile."""
    writing = asyncio.create_task(work)
    try:
        for start in range(0, len(written), _AT_ONCE):
            # The first turn sends the statement; a long one leaves in several.
            await asyncio.sleep(0)
            feed.wrote(written[start : start + _AT_ONCE])
    finally:
        await writing


_AT_ONCE = 50


async def write(executor: Executor, feed: Prepared) -> None:
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
            rows=[feed.rows[practice_id, item.stream, item.id] for item in items],
            deleted=[item.deleted for item in items],
            contributions=feed.contributions(practice_id),
        )
        if again := feed.repeated(practice_id):
            await executor.fetch(
                AGAIN,
                practice=practice_id,
                ranks=[stream.rank for stream, _ in again],
                ids=[thing_id for _, thing_id in again],
            )


class FeedReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor, snapshot: Snapshot | None = None, connections: int = 2) -> None:
        self._executor = executor
        self._snapshot = snapshot
        # Whoever reads for long holds a connection meanwhile; the other half is for everything else.
        self._long = asyncio.Semaphore(max(1, connections // 2))

    @asynccontextmanager
    async def still(self) -> AsyncIterator[ports.FeedReads]:
        if self._snapshot is None:
            yield self
            return
        async with self._long, self._snapshot() as transaction:
            yield FeedReads(transaction)

    async def page(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        return await self._read(PAGE, practice_id, streams, limit, after, until)

    async def rows(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        return await self._read(ROWS, practice_id, streams, limit, after, until)

    async def skipped(self, practice_id: str, streams: Sequence[str], skip: int, limit: int) -> Page:
        return await self._read(SKIPPED, practice_id, streams, limit, skip=skip)

    async def _read(
        self,
        statement: Statement,
        practice_id: str,
        streams: Sequence[str],
        limit: int,
        after: Place = _BEGINNING,
        until: int | None = None,
        skip: int = 0,
    ) -> Page:
        row = await self._executor.row(
            statement,
            practice=practice_id,
            ranks=[Stream(stream).rank for stream in streams],
            seq=after.seq,
            rank=after.rank,
            id=after.id,
            until=until,
            skip=skip,
            limit=limit,
        )
        last = Place(row["seq"], row["rank"], row["id"]) if row["count"] else None
        return Page(
            row["epoch"],
            row["head"],
            row["until"],
            row["changes_0"] or b"",
            row["count"],
            last,
            row["found"] > row["count"],
            row["patients"] or (),
            tuple(row[f"changes_{stream.rank}"] or b"" for stream in Stream) if statement is ROWS else (),
            row["floor"],
        )


if TYPE_CHECKING:
    _: type[ports.FeedReads] = FeedReads
