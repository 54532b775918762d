"""The schema's history, and walking it.

Two migrators at once: the second waits for the first and then finds nothing to do. A migration that would queue behind
a long transaction gives up after `lock_timeout` instead of stopping the whole clinic behind it.
"""

import asyncio
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, pool
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """The revision that this code needs."""
    revision = ScriptDirectory.from_config(configuration()).get_current_head()
    if revision is None:
        raise RuntimeError("there are no migrations")
    return revision


def _with_connection(url: str, work: Any) -> Any:
    async def run() -> Any:
        engine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            poolclass=pool.NullPool,
            # Prepared statements of a connection that lives for one migration buy nothing.
            connect_args={"statement_cache_size": 0},
        )
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to a revision."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Take the schema down to a revision; `base` takes everything away, data too."""
    _run(url, lambda config: command.downgrade(config, revision))


def _run(url: str, step: Any) -> None:
    def work(connection: Connection) -> None:
        config = configuration()
        config.attributes["connection"] = connection
        step(config)

    _with_connection(url, work)


def current(url: str) -> str | None:
    """The revision that the database is at; None where it is empty."""

    def work(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    revision: str | None = _with_connection(url, work)
    return revision


def drift(url: str) -> list[Any]:
    """How the database's tables differ from the code's; empty where they agree."""
    from heallog.adapters.postgres.unit_of_work import metadata

    def work(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, metadata))

    differences: list[Any] = _with_connection(url, work)
    return differences
