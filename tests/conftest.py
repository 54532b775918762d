"""Real parts for every test: one embedded PostgreSQL for the run, migrated once. A test's own practice is its fence."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations
from heallog.adapters.postgres.database import Database


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL in a folder that lives as long as the run."""
    with tempfile.TemporaryDirectory(prefix="heallog-") as folder:
        Path(folder).chmod(0o755)
        embedded = EmbeddedPostgres(Path(folder) / "postgres")
        embedded.start()
        yield embedded
        embedded.stop()


@pytest.fixture(scope="session")
def database_url(server: EmbeddedPostgres) -> str:
    """A migrated database."""
    migrations.upgrade(server.url)
    return server.url


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on the migrated database."""
    opened = Database(database_url, connections=20)
    await opened.open()
    yield opened
    await opened.close()
