"""What practices have tightened, in PostgreSQL."""

from collections.abc import Sequence

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    insert,
    select,
)

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import Bytes, identifier, metadata, moment
from heallog.domain.canon import canonical, decode
from heallog.domain.policies import Setting

policies = Table(
    "policies",
    metadata,
    identifier("practice_id"),
    Column("number", Integer, nullable=False),
    moment("at"),
    identifier("account_id"),
    Column("reason", Text, nullable=False),
    Column("fields", Bytes, nullable=False),
    PrimaryKeyConstraint("practice_id", "number"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
)

ADD = Statement(insert(policies).values({c.name: bindparam(c.name, type_=c.type) for c in policies.c}))
HISTORY = Statement(
    select(policies)
    .where(
        policies.c.practice_id == bindparam("practice"),
        policies.c.number < bindparam("before", type_=Integer),
    )
    .order_by(policies.c.number.desc())
    .limit(bindparam("limit", type_=Integer))
)


class PolicyRepository:
    """The settings of practices; each is appended, none is changed."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def current(self, practice_id: str) -> Setting | None:
        return next(iter(await self.history(practice_id, None, 1)), None)

    async def add(self, setting: Setting) -> None:
        values = {column.name: getattr(setting, column.name) for column in policies.c}
        await self._executor.fetch(ADD, **values | {"fields": canonical(setting.fields)})

    async def history(self, practice_id: str, before: int | None, limit: int) -> Sequence[Setting]:
        before = 2**31 - 1 if before is None else before
        rows = await self._executor.fetch(HISTORY, practice=practice_id, before=before, limit=limit)
        return [
            Setting(practice_id, row["number"], row["at"], row["account_id"], row["reason"], decode(row["fields"]))
            for row in rows
        ]
