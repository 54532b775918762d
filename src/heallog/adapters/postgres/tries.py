"""Tries in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Integer, PrimaryKeyConstraint, Table, bindparam, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import ID, TIME, identifier, metadata, moment
from heallog.domain.tries import Tries

tries = Table(
    "tries",
    metadata,
    identifier("key"),
    Column("count", Integer, nullable=False),
    moment("last_at"),
    moment("locked_until", nullable=True),
    PrimaryKeyConstraint("key"),
)

_KEYS = bindparam("keys", type_=ARRAY(ID))


def _lock() -> Statement:
    """Makes what is missing and locks what is there, in one step: nobody comes between the two."""
    given = func.unnest(_KEYS).table_valued("key").render_derived(name="given")
    rows = select(given.c.key, literal(0, Integer), bindparam("now", type_=TIME))
    made = insert(tries).from_select(["key", "count", "last_at"], rows)
    return Statement(
        made.on_conflict_do_update(index_elements=["key"], set_={"key": made.excluded.key}).returning(tries)
    )


def _put() -> Statement:
    names: dict[str, Any] = {"keys": ID, "counts": Integer(), "lasts": TIME, "untils": TIME}
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in names.items()))
    given = arrays.table_valued(*names).render_derived(name="given")
    return Statement(
        update(tries)
        .where(tries.c.key == given.c["keys"])
        .values(count=given.c.counts, last_at=given.c.lasts, locked_until=given.c.untils)
    )


LOCK = _lock()
PUT = _put()
FORGET = Statement(delete(tries).where(tries.c.key == func.any(_KEYS)))


class TriesRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def lock(self, keys: Sequence[str], now: datetime) -> Sequence[Tries]:
        # In one order always, or two requests from two addresses for two accounts wait for each other.
        rows = await self._executor.fetch(LOCK, keys=sorted(set(keys)), now=now)
        found = {row["key"]: Tries(*row) for row in rows}
        return [found[key] for key in keys]

    async def put(self, tries: Sequence[Tries]) -> None:
        await self._executor.fetch(
            PUT,
            keys=[one.key for one in tries],
            counts=[one.count for one in tries],
            lasts=[one.last_at for one in tries],
            untils=[one.locked_until for one in tries],
        )

    async def forget(self, keys: Sequence[str]) -> None:
        await self._executor.fetch(FORGET, keys=list(keys))
