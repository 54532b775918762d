"""For each page a database of its own, as a newcomer has it, an empty folder to work in, and a free port."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from heallog import bootstrap, config
from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations

from .pages import Reader, environment

LATE = """
import os
from datetime import timedelta
from pathlib import Path

from heallog.adapters import world

clock = world.clock
world.clock = lambda: clock() + timedelta(seconds=float(Path(os.environ["LATE"]).read_text()))
"""
"""Python runs a module called sitecustomize before anything else: this one puts HealLog's clock forward."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's own folders: an embedded server that is started here by root makes the way to it readable."""
    with tempfile.TemporaryDirectory(prefix="heallog-docs-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
        return free


@pytest.fixture
def own_database(server: EmbeddedPostgres, folder: Path) -> str:
    """An empty database beside the one of the other tests."""
    name = folder.name.replace("-", "_").lower()

    async def create() -> None:
        connection = await asyncpg.connect(server.url)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()

    asyncio.run(create())
    return server.url.replace("/heallog?", f"/{name}?")


@pytest.fixture
def migrated(own_database: str) -> str:
    migrations.upgrade(own_database)
    return own_database


@pytest.fixture
async def client(migrated: str, folder: Path) -> AsyncIterator[AsyncTestClient[Litestar]]:
    """The application in process."""
    settings = config.Settings(database_url=migrated, data_dir=folder / ".heallog", seal_every=3600, _env_file=None)
    async with AsyncTestClient(bootstrap.http_app(bootstrap.container(settings))) as opened:
        yield opened


@pytest.fixture
def reader(client: AsyncTestClient[Litestar], migrated: str, folder: Path) -> Reader:
    """Someone with the application at hand and commands that work on the same database."""
    return Reader(folder, environment(HEALLOG_DATABASE_URL=migrated), client.request)


@pytest.fixture
def late(tmp_path: Path) -> Path:
    """A file with the seconds by which HealLog's clock is put forward, for what runs with this folder on its path."""
    (tmp_path / "sitecustomize.py").write_text(LATE)
    (tmp_path / "late").write_text("0")
    return tmp_path / "late"


@pytest.fixture
def resident(own_database: str, folder: Path, port: int, late: Path) -> Reader:
    """Someone with the commands, a database for them, and time."""
    settings = {"HEALLOG_DATABASE_URL": own_database, "HEALLOG_PORT": str(port)}
    return Reader(folder, environment(**settings, PYTHONPATH=str(late.parent), LATE=str(late)), late=late)


@pytest.fixture
def newcomer(server: EmbeddedPostgres, folder: Path, port: int) -> Reader:
    """Someone with nothing but the commands, and an administrator who runs SQL for them."""

    async def sql(name: str, text: str) -> None:
        connection = await asyncpg.connect(server.url.replace("/heallog?", f"/{name}?"))
        for statement in text.split(";\n"):
            await connection.execute(statement)
        await connection.close()

    return Reader(folder, environment(HEALLOG_PORT=str(port)), sql=sql)
