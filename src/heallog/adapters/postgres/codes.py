"""One-time codes in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    update,
)

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import ID, TIME, identifier, metadata, moment
from heallog.domain.codes import OneTimeCode, Purpose

one_time_codes = Table(
    "one_time_codes",
    metadata,
    identifier("id"),
    identifier("email_key"),
    Column("purpose", Text, nullable=False),
    Column("account_id", ID),
    Column("digest", LargeBinary, nullable=False),
    moment("created_at"),
    moment("expires_at"),
    Column("looks", Integer, nullable=False),
    moment("used_at", nullable=True),
    PrimaryKeyConstraint("email_key", "id"),
)

_COLUMNS = tuple(column.name for column in one_time_codes.c)
_VALUES = {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in one_time_codes.c}

ADD = Statement(insert(one_time_codes).values(_VALUES))
PUT = Statement(
    update(one_time_codes)
    .where(one_time_codes.c.email_key == _VALUES["email_key"], one_time_codes.c.id == _VALUES["id"])
    .values(looks=_VALUES["looks"], used_at=_VALUES["used_at"])
)
ALONE = Statement(
    select(
        func.pg_advisory_xact_lock(
            func.hashtextextended(bindparam("key", type_=Text), bindparam("seed", 0xC0DE, type_=BigInteger))
        )
    )
)
SINCE = Statement(
    select(one_time_codes)
    .where(
        one_time_codes.c.email_key == bindparam("key", type_=ID),
        one_time_codes.c.created_at > bindparam("since", type_=TIME),
    )
    .order_by(one_time_codes.c.created_at.desc(), one_time_codes.c.id.desc())
)


class CodeRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def lock(self, email_key: str, since: datetime) -> Sequence[OneTimeCode]:
        # By a statement of its own: the next one must see what was committed until it got the lock.
        await self._executor.fetch(ALONE, key=email_key)
        rows = await self._executor.fetch(SINCE, key=email_key, since=since)
        return [OneTimeCode(**dict(row) | {"purpose": Purpose(row["purpose"])}) for row in rows]

    async def add(self, code: OneTimeCode) -> None:
        await self._executor.fetch(ADD, **_values(code))

    async def put(self, code: OneTimeCode) -> None:
        await self._executor.fetch(PUT, **_values(code))


def _values(code: OneTimeCode) -> dict[str, object]:
    return {f"new_{name}": getattr(code, name) for name in _COLUMNS}
