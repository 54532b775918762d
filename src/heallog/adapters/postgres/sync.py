"""The change feed in PostgreSQL: written as a unit of work commits, read by one statement a page."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    and_,
    any_,
    bindparam,
    cast,
    delete,
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

from heallog.adapters.postgres.database import Executor, Statement, Transaction
from heallog.adapters.postgres.schema import ID, TIME, Bytes, identifier, metadata, moment
from heallog.adapters.postgres.versions import versions
from heallog.application.ports import sync as ports
from heallog.application.ports.sync import Page, Standing
from heallog.domain import watermelon
from heallog.domain.fields import as_came, canonical, decode
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Feed, Place, Stream
from heallog.domain.versions import Collection

Snapshot = Callable[[], AbstractAsyncContextManager[Transaction]]

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
    Column("rank", SmallInteger, nullable=False),
    identifier("id"),
    identifier("patient_id"),
    Column("version", Integer, nullable=False),
    Column("wire", LargeBinary, nullable=False),
    Column("row", LargeBinary, nullable=False),
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

contributions = Table(
    "contributions",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("practice_id", "id"),
)

pulls = Table(
    "pulls",
    metadata,
    identifier("practice_id"),
    identifier("device_id"),
    Column("hi", BigInteger, nullable=False),
    Column("lo", BigInteger, nullable=False),
    moment("at"),
    PrimaryKeyConstraint("practice_id", "device_id", "hi"),
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
    "ranks": SmallInteger(),
    "ids": ID,
    "patients": ID,
    "versions": Integer(),
    "wires": LargeBinary(),
    "rows": LargeBinary(),
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
        practice, head.c.seq, *(given.c[name] for name in ("ranks", "ids", "patients", "versions", "wires", "rows"))
    ).join_from(given, head, true())
    names = ["practice_id", "seq", "rank", "id", "patient_id", "version", "wire", "row"]
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
            set_={name: write.excluded[name] for name in ("seq", "version", "wire", "row")},
        ).add_cte(numbered)
    )


def _again() -> Statement:
    """Moves items to the number that the practice's head has now, as they are."""
    names: dict[str, Any] = {"ranks": SmallInteger(), "ids": ID}
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
            change_feed.c.rank == any_(bindparam("ranks", type_=ARRAY(SmallInteger))),
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


def _page(column: Column[bytes], ranks: Sequence[int | None]) -> Statement:
    """One row: the head, and the page's bytes joined where they lie, apart by rank or (None) all of them.

    Nothing per item leaves the database.
    """
    practice = bindparam("practice", type_=ID)
    head = select(sync_heads.c.seq, sync_heads.c.epoch).where(sync_heads.c.practice_id == practice).cte("head")
    until = func.coalesce(bindparam("until", type_=BigInteger), head.c.seq)
    place = tuple_(bindparam("seq", type_=BigInteger), bindparam("rank", type_=SmallInteger), bindparam("id", type_=ID))
    order = (change_feed.c.seq, change_feed.c.rank, change_feed.c.id)
    found = (
        select(
            *order,
            change_feed.c.patient_id,
            column.label("bytes"),
            func.row_number().over(order_by=order).label("number"),
        )
        .where(
            change_feed.c.practice_id == practice,
            tuple_(*order) > place,
            change_feed.c.seq <= select(until).select_from(head).scalar_subquery(),
            change_feed.c.rank == any_(bindparam("ranks", type_=ARRAY(SmallInteger))),
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

    def joined(rank: int | None) -> Any:
        wanted = shown if rank is None else shown & (found.c.rank == literal(rank, SmallInteger))
        return func.string_agg(found.c.bytes, aggregate_order_by(literal_column("','::bytea"), by)).filter(wanted)

    page = select(
        *(joined(rank).label(f"changes_{number}") for number, rank in enumerate(ranks)),
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


PAGE = _page(change_feed.c.wire, [None])
ROWS = _page(change_feed.c.row, [stream.rank for stream in Stream])


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


def _pulled() -> Statement:
    """Remembers a pull, and forgets those that the device has gone on from."""
    there = (
        pulls.c.practice_id == bindparam("practice", type_=ID),
        pulls.c.device_id == bindparam("device", type_=ID),
    )
    past = delete(pulls).where(*there, pulls.c.hi < bindparam("lo", type_=BigInteger)).cte("past")
    kept = upsert(pulls).values(
        practice_id=bindparam("practice", type_=ID),
        device_id=bindparam("device", type_=ID),
        hi=bindparam("hi", type_=BigInteger),
        lo=bindparam("lo", type_=BigInteger),
        at=bindparam("at", type_=TIME),
    )
    return Statement(
        kept.on_conflict_do_update(
            index_elements=["practice_id", "device_id", "hi"],
            set_={"lo": kept.excluded.lo, "at": kept.excluded.at},
        ).add_cte(past)
    )


PULLED = _pulled()
WINDOW = Statement(
    select(pulls.c.lo).where(
        pulls.c.practice_id == bindparam("practice", type_=ID),
        pulls.c.device_id == bindparam("device", type_=ID),
        pulls.c.hi == bindparam("hi", type_=BigInteger),
    )
)


def _standing() -> Statement:
    """The latest version of the trunk whose contribution is numbered at most so. One without a number is older."""
    names: dict[str, Any] = {"collections": ID, "things": ID}
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in names.items()))
    given = arrays.table_valued(*names).render_derived(name="given")
    seq = func.coalesce(contributions.c.seq, literal(0, BigInteger))

    def latest(name: str) -> Any:
        trunk = versions.c.branch.is_(False) & (seq <= bindparam(name, type_=BigInteger))
        return func.max(versions.c.number).filter(trunk).label(name)

    first = (versions.c.number == literal(1, Integer)) & (versions.c.device_id == bindparam("device", type_=ID))
    practice = bindparam("practice", type_=ID)
    numbered = and_(contributions.c.practice_id == practice, contributions.c.id == versions.c.contribution_id)
    # Lateral: one thing after the other by its key, whatever the planner believes of how many there are.
    stood = (
        select(latest("lo"), latest("hi"), func.bool_or(first).label("own"))
        .select_from(versions.outerjoin(contributions, numbered))
        .where(
            versions.c.practice_id == practice,
            versions.c.collection == given.c.collections,
            versions.c.thing_id == given.c.things,
        )
        .having(func.count() > literal(0, Integer))
        .lateral("stood")
    )
    return Statement(select(*given.c, *stood.c).join_from(given, stood, true()))


STANDING = _standing()


class SyncRepository:
    """Pushes, what was quarantined of them, and pulls, inside a unit of work."""

    def __init__(self, executor: Executor, feed: Feed) -> None:
        self._executor = executor
        self._feed = feed

    def again(self, practice_id: str, keys: Iterable[tuple[Stream, str]]) -> None:
        self._feed.again(practice_id, keys)

    async def pulled(self, practice_id: str, device_id: str, lo: int, hi: int, at: datetime) -> None:
        await self._executor.fetch(PULLED, practice=practice_id, device=device_id, lo=lo, hi=hi, at=at)

    async def window(self, practice_id: str, device_id: str, hi: int) -> int | None:
        row = await self._executor.row(WINDOW, practice=practice_id, device=device_id, hi=hi)
        return None if row is None else int(row["lo"])

    async def standing(
        self, practice_id: str, device_id: str, things: Sequence[tuple[Collection, str]], lo: int, hi: int
    ) -> dict[tuple[Collection, str], Standing]:
        rows = await self._executor.fetch(
            STANDING,
            practice=practice_id,
            device=device_id,
            collections=[collection for collection, _ in things],
            things=[thing_id for _, thing_id in things],
            lo=lo,
            hi=hi,
        )
        return {
            (Collection(row["collections"]), row["things"]): Standing(row["lo"], row["hi"], row["own"]) for row in rows
        }

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
            | {"operation": as_came(item.operation), "errors": canonical(list(item.errors))}
            for item in items
        ]
        await self._executor.fetch(QUARANTINE, **{f"q_{c.name}": [row[c.name] for row in rows] for c in quarantine.c})

    async def quarantined(self, practice_id: str, after: str | None, limit: int) -> Sequence[Quarantined]:
        rows = await self._executor.fetch(QUARANTINED, practice=practice_id, after=after, limit=limit)
        return [
            Quarantined(**dict(row) | {"operation": decode(row["operation"]), "errors": tuple(decode(row["errors"]))})
            for row in rows
        ]


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
            rows=[watermelon.row_of(item) for item in items],
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
        return await self._read(PAGE, practice_id, streams, after, until, limit)

    async def rows(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        return await self._read(ROWS, practice_id, streams, after, until, limit)

    async def _read(
        self,
        statement: Statement,
        practice_id: str,
        streams: Sequence[str],
        after: Place,
        until: int | None,
        limit: int,
    ) -> Page:
        row = await self._executor.row(
            statement,
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
            row["changes_0"] or b"",
            row["count"],
            last,
            row["found"] > row["count"],
            row["patients"] or (),
            tuple(row[f"changes_{stream.rank}"] or b"" for stream in Stream) if statement is ROWS else (),
        )


if TYPE_CHECKING:
    _: type[ports.FeedReads] = FeedReads
    __: type[ports.SyncRepository] = SyncRepository
