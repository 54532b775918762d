"""Pushes, pulls and what was quarantined, in PostgreSQL."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.feed import contributions, sync_heads
from heallog.adapters.postgres.schema import ID, TIME, Bytes, identifier, metadata, moment
from heallog.adapters.postgres.versions import versions
from heallog.application.ports.sync import Standing, Window
from heallog.domain.canon import as_came, canonical, decode
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Feed, Stream
from heallog.domain.versions import Collection

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
    Index("pushes_practice_id_at_idx", "practice_id", "at"),
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
    select(pulls.c.lo, sync_heads.c.floor, sync_heads.c.seq.label("head"))
    .select_from(
        sync_heads.outerjoin(
            pulls,
            and_(
                pulls.c.practice_id == sync_heads.c.practice_id,
                pulls.c.device_id == bindparam("device", type_=ID),
                pulls.c.hi == bindparam("hi", type_=BigInteger),
            ),
        )
    )
    .where(sync_heads.c.practice_id == bindparam("practice", type_=ID))
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

    mine = versions.c.device_id == bindparam("device", type_=ID)
    first = (versions.c.number == literal(1, Integer)) & mine
    unseen = mine & (seq > bindparam("lo", type_=BigInteger)) & (versions.c.parent > literal(0, Integer))
    since = func.min(versions.c.parent).filter(unseen).label("since")
    practice = bindparam("practice", type_=ID)
    numbered = and_(contributions.c.practice_id == practice, contributions.c.id == versions.c.contribution_id)
    # Lateral: one thing after the other by its key, whatever the planner believes of how many there are.
    stood = (
        select(latest("lo"), latest("hi"), func.bool_or(first).label("own"), since)
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

    async def window(self, practice_id: str, device_id: str, hi: int) -> Window:
        return Window(*await self._executor.row(WINDOW, practice=practice_id, device=device_id, hi=hi))

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
            (Collection(collection), thing_id): Standing(before, after, own, since)
            for collection, thing_id, before, after, own, since in rows
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
        return [_quarantined(row) for row in rows]

    async def lock_quarantined(self, practice_id: str, item_id: str) -> Quarantined | None:
        row = await self._executor.row(LOCK_QUARANTINED, practice=practice_id, item=item_id)
        return None if row is None else _quarantined(row)

    async def close(self, item: Quarantined) -> None:
        await self._executor.fetch(CLOSE, practice=item.practice_id, item=item.id, at=item.closed_at)


if TYPE_CHECKING:
    from heallog.application.ports import sync as ports

    _: type[ports.SyncRepository] = SyncRepository
