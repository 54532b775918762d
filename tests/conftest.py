"""Real parts for every test: one embedded PostgreSQL for the run, migrated once. A test's own practice is its fence."""

import os
import shutil
import sys
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


CURL = """#!{python}
import sys, urllib.request
headers, data, address = {{}}, None, ""
given = iter(sys.argv[1:])
for word in given:
    if word == "-H":
        name, _, value = next(given).partition(": ")
        headers[name] = value
    elif word == "-d":
        data = next(given).encode()
    elif word != "-s":
        address = word
request = urllib.request.Request(address, data=data, headers=headers)
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=30).read())
"""


@pytest.fixture(scope="session")
def pasting(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell that requests are pasted into; with a plain `curl` of our own where there is none."""
    if shutil.which("curl") is not None:
        return dict(os.environ)
    curl = tmp_path_factory.mktemp("bin") / "curl"
    curl.write_text(CURL.format(python=sys.executable))
    curl.chmod(0o755)
    return {**os.environ, "PATH": f"{curl.parent}{os.pathsep}{os.environ['PATH']}"}
