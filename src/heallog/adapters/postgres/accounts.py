"""Accounts in PostgreSQL."""

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from heallog.adapters.postgres.database import Executor, Row, Statement
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
    moment("verified_at", nullable=True),
    Column("totp", LargeBinary),
    moment("totp_confirmed_at", nullable=True),
    Column("totp_step", BigInteger, nullable=False, server_default=text("0")),
    Column("recovery", ARRAY(LargeBinary), nullable=False, server_default=text("'{}'")),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("email_key"),
)

_COLUMNS = tuple(column.name for column in accounts.c)
_FIXED = {"id", "email", "email_key", "created_at"}
_VALUES = {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in accounts.c}
ADD = Statement(insert(accounts).values(_VALUES))
BY_EMAIL = Statement(select(accounts).where(accounts.c.email_key == bindparam("key")))
GET = Statement(select(accounts).where(accounts.c.id == bindparam("account")))
LOCK = Statement(select(accounts).where(accounts.c.id == bindparam("account")).with_for_update())
SEALED = Statement(select(accounts.c.id).where(accounts.c.totp.is_not(None)).order_by(accounts.c.id))
PUT = Statement(
    update(accounts)
    .where(accounts.c.id == bindparam("new_id", type_=accounts.c.id.type))
    .values({name: value for name, value in _VALUES.items() if name not in _FIXED})
)


def _account(row: Row) -> Account | None:
    return None if row is None else Account(**dict(row) | {"recovery": tuple(row["recovery"])})


def _values(account: Account) -> dict[str, object]:
    return {f"new_{name}": getattr(account, name) for name in _COLUMNS}


class AccountRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, account: Account) -> None:
        await self._executor.fetch(ADD, **_values(account))

    async def by_email(self, email_key: str) -> Account | None:
        return _account(await self._executor.row(BY_EMAIL, key=email_key))

    async def get(self, account_id: str) -> Account | None:
        return _account(await self._executor.row(GET, account=account_id))

    async def lock(self, account_id: str) -> Account | None:
        return _account(await self._executor.row(LOCK, account=account_id))

    async def sealed(self) -> Sequence[str]:
        return [row[0] for row in await self._executor.fetch(SEALED)]

    async def put(self, account: Account) -> None:
        await self._executor.fetch(PUT, **_values(account))
