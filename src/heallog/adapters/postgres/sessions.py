"""Sessions in PostgreSQL."""

from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, Table, bindparam, insert

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import identifier, metadata, moment
from heallog.domain.sessions import Session

sessions = Table(
    "sessions",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    identifier("account_id"),
    identifier("device_id"),
    moment("created_at"),
    moment("expires_at"),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id", "account_id"], ["memberships.practice_id", "memberships.account_id"]),
)

_COLUMNS = tuple(column.name for column in sessions.c)
ADD = Statement(insert(sessions).values({c.name: bindparam(c.name, type_=c.type) for c in sessions.c}))


class SessionRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, session: Session) -> None:
        await self._executor.fetch(ADD, **{name: getattr(session, name) for name in _COLUMNS})
