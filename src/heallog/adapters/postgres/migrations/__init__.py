"""The schema's history, and walking it.

Two migrators at once: the second waits for the first and then finds nothing to do. A migration that would queue behind
a long transaction gives up after `lock_timeout` instead of stopping the whole clinic behind it.
"""

import asyncio
import io
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, pool
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from heallog.domain.errors import Unavailable


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

    try:
        return asyncio.run(run())
    except (OSError, asyncpg.PostgresError, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise Unavailable(f"the database refused: {cause}") from error


LOCK_TIMEOUT = "5s"
"""How long a migration waits for a table's lock; behind it would wait everyone else."""


def upgrade(url: str, revision: str = "head", *, lock_timeout: str = LOCK_TIMEOUT) -> None:
    """Bring the schema up to a revision."""
    _run(url, lambda config: command.upgrade(config, revision), lock_timeout)


def downgrade(url: str, revision: str, *, lock_timeout: str = LOCK_TIMEOUT) -> None:
    """Take the schema down to a revision; `base` takes everything away, data too."""
    _run(url, lambda config: command.downgrade(config, revision), lock_timeout)


def script(revision: str = "head") -> str:
    """The SQL that upgrades an empty database, for reading and for linters."""
    config = configuration()
    config.output_buffer = io.StringIO()
    command.upgrade(config, revision, sql=True)
    return config.output_buffer.getvalue()


def _run(url: str, step: Any, lock_timeout: str) -> None:
    def work(connection: Connection) -> None:
        config = configuration()
        config.attributes["connection"] = connection
        config.attributes["lock_timeout"] = lock_timeout
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
