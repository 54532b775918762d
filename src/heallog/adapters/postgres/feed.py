"""The change feed in PostgreSQL: written as a unit of work commits, read by one statement a page."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Select,
    Table,
    Text,
    UniqueConstraint,
    any_,
    bindparam,
    cast,
    false,
    func,
    insert,
    literal_column,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.database import Executor, Row, Statement, Transaction
from heallog.adapters.postgres.schema import ID, SEPARATOR, identifier, metadata, parameters, rows_of
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
    given = rows_of(_GIVEN, "arrays").subquery("given")
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


PIECE = 100
"""Items of a piece: some 60 KiB. PostgreSQL, the driver and the C library hand these on in memory that they have; one
value of 3 MiB is copied into fresh memory by each of them, which measured twice the time."""

_KEYS = (change_feed.c.seq, change_feed.c.rank, change_feed.c.id)
_PRACTICE = bindparam("practice", type_=ID)
_LIMIT = bindparam("limit", type_=Integer)
_HEAD = (
    select(sync_heads.c.seq, sync_heads.c.epoch, sync_heads.c.floor)
    .where(sync_heads.c.practice_id == _PRACTICE)
    .cte("head")
)
_UNTIL = func.coalesce(bindparam("until", type_=BigInteger), _HEAD.c.seq)
_MOST = select(_UNTIL).select_from(_HEAD).scalar_subquery()


def _constant(number: int) -> ColumnElement[int]:
    """Written into the statement: the planner goes by it."""
    return literal_column(str(number), Integer)


def _items(*columns: ColumnElement[Any]) -> Select[Any]:
    """Of the practice's feed, of the streams that are asked for."""
    return select(*columns).where(
        change_feed.c.practice_id == _PRACTICE,
        change_feed.c.rank == any_(bindparam("ranks", type_=ARRAY(Integer))),
    )


def _joined(found: Select[Any], order: Sequence[Column[Any]], ranks: Sequence[int | None]) -> Select[Any]:
    """Bytes joined where they lie, apart by rank or (None) all of them, in the order in which they are found."""
    items = found.order_by(*order).subquery("found")
    comma: Any = aggregate_order_by(literal_column("','::bytea"), *(items.c[key.name] for key in order))
    every = func.string_agg(items.c.bytes, comma)
    return select(
        *(
            (every if rank is None else every.filter(items.c.rank == _constant(rank))).label(f"changes_{number}")
            for number, rank in enumerate(ranks)
        ),
        func.count().label("count"),
        func.string_agg(items.c.patient_id, literal_column("E'\\x1f'", Text)).label("patients"),
    )


def _end(found: Select[Any], order: Sequence[Column[Any]], number: ColumnElement[int]) -> Select[Any]:
    """The place of item `number`, if there is another after it; read in the index alone."""
    two = found.order_by(*order).offset(number - _constant(1)).limit(_constant(2)).subquery("two")
    backwards = (two.c[key.name].desc() for key in order)
    return select(two).order_by(*backwards).offset(_constant(1)).limit(_constant(1))


def _page(column: Column[bytes], ranks: Sequence[int | None]) -> Statement:
    """The page after a place, a row for each piece, the head in each; one with nothing where there is nothing.

    First the index says where pieces start, then each is read from there.
    """
    given = (bindparam("seq", type_=BigInteger), bindparam("rank", type_=Integer), bindparam("id", type_=ID))
    beginning = select(_constant(0).label("number"), *(place.label(place.key) for place in given))
    starts = beginning.cte("starts", recursive=True)
    number, one, most = starts.c.number, _constant(1), _constant(PIECE)

    def after(*columns: ColumnElement[Any]) -> Select[Any]:
        place = tuple_(starts.c.seq, starts.c.rank, starts.c.id)
        return _items(*columns).where(tuple_(*_KEYS) > place, change_feed.c.seq <= _MOST).correlate(starts)

    following = after(*_KEYS).order_by(*_KEYS).offset(most - one).limit(one).lateral("following")
    starts = starts.union_all(
        select(number + one, following).join_from(starts, following, true()).where((number + one) * most < _LIMIT)
    )
    rest = _LIMIT - starts.c.number * most
    found = after(*_KEYS, change_feed.c.patient_id, column.label("bytes")).limit(func.least(most, rest))
    piece = _joined(found, _KEYS, ranks).lateral("piece")
    end = _end(after(*_KEYS).where(rest <= most), _KEYS, rest).lateral("last")
    return Statement(
        select(
            starts.c.number,
            _HEAD.c.epoch,
            _HEAD.c.seq.label("head"),
            _HEAD.c.floor,
            _UNTIL.label("until"),
            piece,
            end,
        )
        .select_from(_HEAD)
        .join(starts, true())
        .join(piece, true())
        .outerjoin(end, true())
    )


def _skipped() -> Statement:
    """The page after so many items, in one piece. All before it are read, one and all: the cost grows with them."""
    order = (change_feed.c.rank, change_feed.c.id)
    skip = bindparam("skip", type_=Integer)
    found = _items(*_KEYS, change_feed.c.patient_id, change_feed.c.wire.label("bytes")).offset(skip).limit(_LIMIT)
    piece = _joined(found, order, [None]).subquery("piece")
    end = _end(_items(*_KEYS), order, skip + _LIMIT).subquery("last")
    return Statement(
        select(
            _constant(0).label("number"),
            _HEAD.c.epoch,
            _HEAD.c.seq.label("head"),
            _HEAD.c.floor,
            _HEAD.c.seq.label("until"),
            piece,
            end,
        )
        .select_from(_HEAD)
        .join(piece, true())
        .outerjoin(end, true())
    )


PAGE = _page(change_feed.c.wire, [None])
ROWS = _page(change_feed.c.row, [stream.rank for stream in Stream])
SKIPPED = _skipped()


class Prepared(Feed):
    """What devices are told, with the rows of it, made while the database keeps whoever tells it waiting.

    `owner` is the task that works on the unit of work. What is written beside it waits with its rows: it has other
    things to do then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owner: asyncio.Task[Any] | None = None
        self.rows: dict[tuple[str, Stream, str], bytes] = {}
        self._waiting: dict[tuple[str, Stream, str], Item] = {}

    def tell(self, practice_id: str, items: Iterable[Item]) -> None:
        items = tuple(items)
        super().tell(practice_id, items)
        self._waiting.update({(practice_id, item.stream, item.id): item for item in items})

    def prepare(self, most: int | None = None) -> bool:
        """Make so many rows, or all that wait. Whether there were any."""
        keys = list(islice(self._waiting, most))
        for key in keys:
            self.rows[key] = watermelon.row_of(self._waiting.pop(key))
        return bool(keys)


async def append(work: Coroutine[Any, Any, None], feed: Prepared, written: Sequence[Written]) -> None:
    """Let the database write versions, and prepare what is told of them meanwhile."""
    writing = asyncio.create_task(work)
    try:
        for start in range(0, len(written), _AT_ONCE):
            # The first turn sends the statement; a long one leaves in several.
            await asyncio.sleep(0)
            feed.wrote(written[start : start + _AT_ONCE])
        if asyncio.current_task() is feed.owner:
            while feed.prepare(_AT_ONCE):
                if writing.done():
                    break
                await asyncio.sleep(0)
    finally:
        await writing


_AT_ONCE = 50


async def write(executor: Executor, feed: Prepared) -> None:
    """The last statement before the commit. Every practice has a head: it got one when it began."""
    feed.prepare()
    for practice_id, items in feed.told():
        rows = (
            (
                item.stream.rank,
                item.id,
                item.patient_id,
                item.version,
                item.wire,
                feed.rows[practice_id, item.stream, item.id],
                item.deleted,
            )
            for item in items
        )
        contributions = feed.contributions(practice_id)
        await executor.fetch(WRITE, practice=practice_id, contributions=contributions, **parameters(_GIVEN, rows))
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
        return await self._read(PAGE, practice_id, streams, limit, **_after(after, until))

    async def rows(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        return await self._read(ROWS, practice_id, streams, limit, **_after(after, until))

    async def skipped(self, practice_id: str, streams: Sequence[str], skip: int, limit: int) -> Page:
        return await self._read(SKIPPED, practice_id, streams, limit, skip=skip)

    async def _read(
        self, statement: Statement, practice_id: str, streams: Sequence[str], limit: int, **place: Any
    ) -> Page:
        ranks = [Stream(stream).rank for stream in streams]
        found = await self._executor.fetch(statement, practice=practice_id, ranks=ranks, limit=limit, **place)
        # Not by the database: it would hold all of them back until it had the last.
        pieces = sorted(found, key=itemgetter("number"))
        end = pieces[-1]
        named = SEPARATOR.join(piece["patients"] for piece in pieces if piece["count"])
        return Page(
            end["epoch"],
            end["head"],
            end["until"],
            _pieces(pieces, 0),
            sum(piece["count"] for piece in pieces),
            None if end["seq"] is None else Place(end["seq"], end["rank"], end["id"]),
            tuple(dict.fromkeys(named.split(SEPARATOR))) if named else (),
            [b",".join(_pieces(pieces, stream.rank)) for stream in Stream] if statement is ROWS else (),
            end["floor"],
        )


def _after(place: Place, until: int | None) -> dict[str, Any]:
    return {"seq": place.seq, "rank": place.rank, "id": place.id, "until": until}


def _pieces(pieces: Sequence[Row], number: int) -> list[bytes]:
    return [piece[f"changes_{number}"] for piece in pieces if piece[f"changes_{number}"] is not None]


if TYPE_CHECKING:
    _: type[ports.FeedReads] = FeedReads
