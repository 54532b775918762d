"""The command line over the house that it works in: settings, a database, the container."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from heallog import __version__, config
from heallog.adapters import logs, mail, witness
from heallog.adapters.postgres import migrations
from heallog.adapters.postgres.ledger import ledger
from heallog.adapters.postgres.refeed import refeed
from heallog.application import audit
from heallog.application.ledger import Proof, verify
from heallog.bootstrap import Container, container, read_settings
from heallog.entrypoints.cli import create_cli
from heallog.entrypoints.demo import known_to_all, seed
from heallog.entrypoints.house import Watch


class House:
    """What the command line works with: settings, a database, the container."""

    def __init__(self) -> None:
        self._settings: config.Settings | None = None

    @property
    def _read(self) -> config.Settings:
        if self._settings is None:
            self._settings = read_settings()
            logs.configure("warning")
        return self._settings

    def settings(self) -> list[tuple[str, str]]:
        settings = self._read
        settings.keys()
        return config.shown(settings) + [(name, "(not a setting; ignored)") for name in config.unknown()]

    @contextmanager
    def database(self) -> Iterator[str]:
        if self._read.database_url is not None:
            yield self._read.database_url
            return
        # Only here: the server's workers need not carry it.
        from heallog.adapters.embedded import EmbeddedPostgres

        with EmbeddedPostgres(self._read.data_dir.resolve() / "postgres") as embedded:
            yield embedded.url

    @asynccontextmanager
    async def services(self, url: str) -> AsyncIterator[Container]:
        wired = container(self._read.model_copy(update={"database_url": url}))
        await wired.database().open()
        if isinstance(post := wired.mail(), mail.SmtpMail):
            await post.start()
        try:
            yield wired
        finally:
            if isinstance(post, mail.SmtpMail):
                await post.stop()
            await wired.trail().close()
            await wired.database().close()

    def upgrade(self, url: str, revision: str) -> None:
        migrations.upgrade(url, revision)
        if migrations.current(url) == migrations.head_revision():
            asyncio.run(self._refeed(url))

    async def _refeed(self, url: str) -> None:
        async with self.services(url) as services:
            await refeed(services.database())

    def downgrade(self, url: str, revision: str) -> None:
        migrations.downgrade(url, revision)

    def current(self, url: str) -> tuple[str | None, str]:
        return migrations.current(url), migrations.head_revision()

    def drift(self, url: str) -> list[Any]:
        return migrations.drift(url)

    async def verify(self, services: Container, watch: Watch) -> Proof:
        async with ledger(services.database()) as books:
            return await verify(books, watch)

    async def prove(
        self, services: Container, practice_id: str | None, files: Sequence[Path], watch: Watch
    ) -> audit.Proof:
        told = chain.from_iterable(witness.read(path) for path in files) if files else services.witness().told()
        async with services.evidence() as evidence:
            return await audit.verify(evidence, told, practice_id, watch)

    def address(self, host: str | None, port: int | None) -> tuple[str, int]:
        host, port = host or self._read.host, port or self._read.port
        self._read.keys()
        config.check_port(host, port)
        return host, port

    async def demo(self, services: Container, host: str, port: int) -> str:
        if self._read.environment == "production":
            raise config.ConfigurationError("the demo's password is public; there is no demo in production")
        return await seed(services, f"http://{host}:{port}")

    async def _no_demo(self, url: str) -> None:
        async with self.services(url) as services:
            if email := await known_to_all(services):
                raise config.ConfigurationError(
                    f"{email} of the demo is in this database, with a password that everyone knows; use another one"
                )

    def serve(self, url: str, host: str, port: int, workers: int | None, ready: str) -> None:
        from heallog.entrypoints.server import serve

        settings = self._read
        if settings.environment == "production":
            asyncio.run(self._no_demo(url))
        # The workers read their settings themselves; these they cannot know.
        os.environ["HEALLOG_DATABASE_URL"] = url
        os.environ["HEALLOG_SECRET_KEY"] = settings.keys()[0]
        serve("heallog.bootstrap:app", host, port, workers or settings.workers, f"HealLog {__version__}", ready)


def run() -> None:
    create_cli(House(), __version__, (config.ConfigurationError, ValueError, FileNotFoundError)).meta()
