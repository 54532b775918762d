"""Servers to measure, each in a process group of its own, on loopback, ended at the end; and databases for them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from heallog import config
from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations

HOST = "127.0.0.1"
KEY = "k" * 48
OURS = "heallog.bootstrap:app"


@dataclass(frozen=True)
class House:
    """A migrated database with nothing in it, in a folder of its own, and what a server has to know of it."""

    url: str
    folder: Path

    @property
    def settings(self) -> config.Settings:
        return config.Settings(database_url=self.url, secret_key=KEY, data_dir=self.folder)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HEALLOG_DATABASE_URL": self.url,
            "HEALLOG_SECRET_KEY": KEY,
            "HEALLOG_DATA_DIR": str(self.folder),
        }

    @property
    def postgres(self) -> psutil.Process:
        """The database server."""
        return psutil.Process(int((self.folder / "postgres" / "postmaster.pid").read_text().split()[0]))


@contextmanager
def empty_house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="heallog-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as embedded:
            migrations.upgrade(embedded.url)
            yield House(embedded.url, Path(folder))


_SERVE = """
import sys
from granian import Granian
target, port, workers = sys.argv[1:]
Granian(target, address="127.0.0.1", port=int(port), workers=int(workers), interface="asgi", loop="uvloop",
        factory=True, websockets=False, log_level="warning").serve()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(target: str, workers: int, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A server's port and process id, once it answers."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, target, str(port), str(workers)],
        env={**os.environ, "HEALLOG_LOG_LEVEL": "info", "HEALLOG_RATE_LIMITS": "off", **environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(port)
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _wait(port: int) -> None:
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health/live", timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server does not answer")


def memory(pid: int) -> float:
    """MiB of the largest process of a server."""
    return _largest(_all(psutil.Process(pid)))


def cpu(parent: psutil.Process) -> float:
    """Seconds that a server and its processes have worked."""
    return sum(sum(process.cpu_times()[:2]) for process in _all(parent))


class Watch:
    """Looks at a server's memory 20 times a second: `most` MiB that its largest process had meanwhile."""

    def __init__(self, pid: int) -> None:
        self._processes = _all(psutil.Process(pid))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0.0

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, _largest(self._processes))

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _all(parent: psutil.Process) -> list[psutil.Process]:
    return [parent, *parent.children(recursive=True)]


def _largest(processes: list[psutil.Process]) -> float:
    return max(process.memory_info().rss for process in processes) / 2**20
