"""Alembic's environment: one transaction, one migrator at a time, and no waiting behind others' locks."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from heallog.adapters.postgres.migrations import LOCK_TIMEOUT
from heallog.adapters.postgres.unit_of_work import metadata

MIGRATORS = 0x4EA110C
"""The advisory lock that migrators take."""


def migrate(connection: Connection) -> None:
    with connection.begin():
        connection.execute(text("SET LOCAL statement_timeout = '120s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:migrators)"), {"migrators": MIGRATORS})
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        wait = context.config.attributes.get("lock_timeout", LOCK_TIMEOUT)
        connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": wait})
        context.configure(connection=connection, target_metadata=metadata, compare_type=True)
        context.run_migrations()


async def by_hand() -> None:
    engine = create_async_engine(
        make_url(os.environ["HEALLOG_DATABASE_URL"]).set(drivername="postgresql+asyncpg"), poolclass=pool.NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


def on_paper() -> None:
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    context.run_migrations()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    on_paper()
elif given is not None:
    migrate(given)
else:
    asyncio.run(by_hand())
