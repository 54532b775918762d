"""Accounts in PostgreSQL."""

from sqlalchemy import Column, PrimaryKeyConstraint, Table, Text, UniqueConstraint, bindparam, insert, select

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import identifier, metadata, moment
from heallog.domain.accounts import Account

accounts = Table(
    "accounts",
    metadata,
    identifier("id"),
    Column("email", Text, nullable=False),
    identifier("email_key"),
    Column("name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    moment("created_at"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("email_key"),
)

_COLUMNS = tuple(column.name for column in accounts.c)
ADD = Statement(insert(accounts).values({c.name: bindparam(c.name, type_=c.type) for c in accounts.c}))
BY_EMAIL = Statement(select(accounts).where(accounts.c.email_key == bindparam("key")))
GET = Statement(select(accounts).where(accounts.c.id == bindparam("account")))


class AccountRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, account: Account) -> None:
        await self._executor.fetch(ADD, **{name: getattr(account, name) for name in _COLUMNS})

    async def by_email(self, email_key: str) -> Account | None:
        row = await self._executor.row(BY_EMAIL, key=email_key)
        return None if row is None else Account(*row)

    async def get(self, account_id: str) -> Account | None:
        row = await self._executor.row(GET, account=account_id)
        return None if row is None else Account(*row)
