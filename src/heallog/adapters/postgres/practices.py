"""Practices and memberships in PostgreSQL."""

from collections.abc import Sequence

from sqlalchemy import Column, ForeignKeyConstraint, PrimaryKeyConstraint, Table, Text, bindparam, insert, select

from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import ID, TIME, identifier, metadata, moment
from heallog.domain.access import Role
from heallog.domain.practices import Membership, Practice

practices = Table(
    "practices",
    metadata,
    identifier("id"),
    Column("name", Text, nullable=False),
    moment("created_at"),
    PrimaryKeyConstraint("id"),
)

memberships = Table(
    "memberships",
    metadata,
    identifier("practice_id"),
    identifier("account_id", index=True),
    Column("role", Text, nullable=False),
    moment("created_at"),
    PrimaryKeyConstraint("practice_id", "account_id"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
    ForeignKeyConstraint(["account_id"], ["accounts.id"]),
)

ADD = Statement(
    insert(practices).values(
        id=bindparam("id", type_=ID), name=bindparam("name", type_=Text), created_at=bindparam("at", type_=TIME)
    )
)
JOIN = Statement(
    insert(memberships).values(
        practice_id=bindparam("practice", type_=ID),
        account_id=bindparam("account", type_=ID),
        role=bindparam("as_role", type_=Text),
        created_at=bindparam("at", type_=TIME),
    )
)
_BY_AGE = (memberships.c.created_at, memberships.c.practice_id, memberships.c.account_id)
GET = Statement(select(practices).where(practices.c.id == bindparam("id")))
ALL = Statement(select(practices).order_by(practices.c.created_at, practices.c.id))
OF_ACCOUNT = Statement(select(memberships).where(memberships.c.account_id == bindparam("account")).order_by(*_BY_AGE))
OF_PRACTICE = Statement(
    select(memberships).where(memberships.c.practice_id == bindparam("practice")).order_by(*_BY_AGE)
)


def _membership(row: Row) -> Membership:
    return Membership(row["practice_id"], row["account_id"], Role(row["role"]), row["created_at"])


class PracticeRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, practice: Practice) -> None:
        await self._executor.fetch(ADD, id=practice.id, name=practice.name, at=practice.created_at)

    async def join(self, membership: Membership) -> None:
        await self._executor.fetch(
            JOIN,
            practice=membership.practice_id,
            account=membership.account_id,
            as_role=membership.role,
            at=membership.created_at,
        )

    async def get(self, practice_id: str) -> Practice | None:
        row = await self._executor.row(GET, id=practice_id)
        return None if row is None else Practice(*row)

    async def all(self) -> Sequence[Practice]:
        return [Practice(*row) for row in await self._executor.fetch(ALL)]

    async def memberships(self, account_id: str) -> Sequence[Membership]:
        return [_membership(row) for row in await self._executor.fetch(OF_ACCOUNT, account=account_id)]

    async def members(self, practice_id: str) -> Sequence[Membership]:
        return [_membership(row) for row in await self._executor.fetch(OF_PRACTICE, practice=practice_id)]
