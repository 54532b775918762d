"""Servers of the tests' own: real processes on the loopback with a real database, which end with the tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import httpx
import psutil

PASSWORD = "correct horse battery"
KEY = "L4vq9TzWn2RkYb7HsXc5GmJd8PfAe3Uu"

ENDS_WITH_US = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes another program, which the kernel asks to end when we do, however we end."""

CHEAP = {"HEALLOG_ARGON2_PASSES": "1", "HEALLOG_ARGON2_MEBIBYTES": "8", "HEALLOG_ARGON2_LANES": "1"}


class Redis(Protocol):
    """The real one (tests/conftest.py)."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what must come true; the time is what the busiest machine may take."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One `heallog serve`. It may be stopped, killed and started again, with other settings too."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """What it has printed since it was started."""
        return (self._folder / "said").read_text()

    def begin(self, **settings: str) -> None:
        """Start it and wait for nothing. Call from the thread that outlives it: the kernel asks when that one ends."""
        self._settings |= settings
        self.port = free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEALLOG_")}
        with (self._folder / "said").open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", ENDS_WITH_US,
                 sys.executable, "-m", "heallog", "serve", "--port", str(self.port)],
                env={**inherited, "HEALLOG_LOG_LEVEL": "error", **self._settings},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=self._folder,
            )  # fmt: skip

    def ready(self) -> None:
        for _ in range(3):
            until(lambda: self._ended or "answers at" in self.said)
            if not self._ended:
                return
            assert "HEALLOG_PORT" in self.said, self.said
            self.begin()
        raise AssertionError("every port is taken")

    def start(self, **settings: str) -> None:
        self.begin(**settings)
        self.ready()

    def stop(self) -> None:
        """Ask it to end, and wait for nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def stopped(self) -> None:
        if self._process is not None:
            assert self._process.wait(60) == 0, self.said

    def kill(self) -> None:
        """The server and its workers, at once and without a word."""
        if self._process is None or self._ended:
            return
        kill(psutil.Process(self._process.pid))
        self._process.wait()

    def processes(self) -> list[psutil.Process]:
        """The one that was started, and its workers."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def worker(self, port: int) -> int | None:
        """The process that has this connection, by the client's port."""
        assert self._process is not None
        for process in psutil.Process(self._process.pid).children(recursive=True):
            if any(one.raddr and one.raddr.port == port for one in process.net_connections("tcp")):
                return process.pid
        return None

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


def kill(process: psutil.Process) -> None:
    group = [process, *process.children(recursive=True)]
    for member in group:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            os.kill(member.pid, signal.SIGKILL)


class Site:
    """Two servers on one embedded PostgreSQL of their own; `redis`, where they share one.

    The first has two processes, the second one.
    """

    def __init__(self, folder: Path, redis: Redis | None, **settings: str) -> None:
        self.redis = redis
        self._data = folder / "data"
        shared = {"HEALLOG_REDIS_URL": redis.url} if redis else {}
        shared |= {"HEALLOG_DATA_DIR": str(self._data), "HEALLOG_SECRET_KEY": KEY, "HEALLOG_RATE_LIMITS": "off"}
        # Every client comes from the loopback; in front of it stands, as it were, a proxy that knows better.
        shared |= {"HEALLOG_PROXIES": "1", **CHEAP, **settings}
        self.first = Server(folder / "first", **shared, HEALLOG_WORKERS="2")
        self.second = Server(folder / "second", **shared)
        self.both = (self.first, self.second)

    def start(self) -> None:
        """Both at the same time, on the same folder: one of them starts the database."""
        for server in self.both:
            server.begin()
        for server in self.both:
            server.ready()

    def restart(self) -> None:
        """Everything ends as it should: the servers, PostgreSQL with the last one, and Redis, which keeps nothing."""
        for server in self.both:
            server.stop()
        for server in self.both:
            server.stopped()
        until(lambda: not self._postmaster.exists())
        self._renew_redis()
        self.start()

    def crash(self) -> None:
        """`kill -9` of everything at once."""
        postmaster = psutil.Process(int(self._postmaster.read_text().splitlines()[0]))
        for server in self.both:
            server.kill()
        kill(postmaster)
        self._renew_redis()
        self.start()

    def end(self) -> None:
        """Nothing of it is left running."""
        for server in self.both:
            server.kill()
        with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
            kill(psutil.Process(int(self._postmaster.read_text().splitlines()[0])))

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        folder = self._postmaster.read_text().splitlines()[4]
        return await rows(f"postgresql://postgres@/heallog?host={folder}", sql, *arguments)

    @property
    def _postmaster(self) -> Path:
        return self._data / "postgres" / "postmaster.pid"

    def _renew_redis(self) -> None:
        if self.redis is not None:
            self.redis.kill()
            self.redis.start()


@contextmanager
def site(redis: Redis | None) -> Iterator[Site]:
    """Ends whatever happens. Its folder is none of pytest's: those are closed to PostgreSQL's user again and again."""
    with tempfile.TemporaryDirectory(prefix="heallog-") as folder:
        Path(folder).chmod(0o755)
        made = Site(Path(folder), redis)
        try:
            made.start()
            yield made
        finally:
            made.end()


async def rows(url: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows, by a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


class Calls:
    """Calls to servers, as many at once as are made."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(
        self, server: Server, method: str, path: str, body: object = None, token: str = "", **headers: str
    ) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body)
        return await self._client.request(method, server.url + path, content=content, headers=sent)

    async def good(self, *call: Any, **headers: str) -> Any:
        """What is answered, and that it is."""
        answer = await self(*call, **headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def register(self, server: Server, email: str) -> Any:
        """Tokens of a new account that owns a new practice."""
        fields = {"email": email, "password": PASSWORD, "name": "Alice Obi", "practice_name": "Hillside"}
        return (await self.good(server, "POST", "/v1/auth/register", fields))["tokens"]

    async def login(self, server: Server, email: str, **more: str) -> Any:
        fields = {"email": email, "password": PASSWORD, **more}
        return await self.good(server, "POST", "/v1/auth/login", fields)


def code(answer: httpx.Response) -> str:
    """What the refusal is called; its status, where it is none."""
    return str(answer.json()["error"]["code"]) if answer.is_error else str(answer.status_code)
