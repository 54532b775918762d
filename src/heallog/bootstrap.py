"""The composition root: the only place that knows which adapter stands behind which port."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from dependency_injector import containers, providers
from litestar import Litestar

from heallog import __version__, config
from heallog.adapters import logs, security, witness, world
from heallog.adapters.fhir import FhirBundle, FhirFiles
from heallog.adapters.guesses import KnownGuesses
from heallog.adapters.memory import audit as memory_audit
from heallog.adapters.memory import conflicts as memory_conflicts
from heallog.adapters.memory import patients as memory_patients
from heallog.adapters.memory import records as memory_records
from heallog.adapters.memory import versions as memory_versions
from heallog.adapters.memory.store import Store
from heallog.adapters.memory.unit_of_work import MemoryUnitOfWork
from heallog.adapters.postgres import audit as postgres_audit
from heallog.adapters.postgres import conflicts, migrations, patients, records, seals, versions
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.ledger import ledger
from heallog.adapters.postgres.trail import PostgresTrail
from heallog.adapters.postgres.unit_of_work import PostgresUnitOfWork
from heallog.adapters.tokens import JwtAccessTokens
from heallog.application import audit
from heallog.application.accounts import Accounts
from heallog.application.conflicts import Conflicts
from heallog.application.imports import Imports
from heallog.application.ledger import Proof, verify
from heallog.application.patients import Patients
from heallog.application.policies import Policies
from heallog.application.records import Records
from heallog.application.sessions import Sessions
from heallog.application.trail import Books
from heallog.entrypoints.cli import create_cli
from heallog.entrypoints.demo import seed
from heallog.entrypoints.house import Watch
from heallog.entrypoints.http.app import create_app
from heallog.entrypoints.worker import Repeated


class Container(containers.DeclarativeContainer):
    """One per process."""

    settings = providers.Dependency(instance_of=config.Settings)
    clock = providers.Object(world.clock)
    ids = providers.Object(world.new_id)
    ears = providers.Singleton(world.EventLog)
    database = providers.Singleton(
        Database, settings.provided.database_url, connections=settings.provided.database_connections
    )
    uow = providers.Factory(PostgresUnitOfWork, database, ears)
    version_reads = providers.Singleton(versions.VersionReads, database)
    patient_reads = providers.Singleton(patients.PatientReads, database)
    record_reads = providers.Singleton(records.RecordReads, database)
    conflict_reads = providers.Singleton(conflicts.ConflictReads, database)
    trail = providers.Singleton(PostgresTrail, database)
    books = providers.Singleton(Books, trail, clock, ids)
    passwords = providers.Singleton(security.Argon2Passwords)
    guesses = providers.Singleton(KnownGuesses)
    tokens = providers.Singleton(JwtAccessTokens, settings.provided.keys.call(), clock)

    accounts = providers.Singleton(
        Accounts, uow.provider, passwords, guesses, providers.Object(security.deliverable), clock, ids
    )
    sessions = providers.Singleton(Sessions, uow.provider, passwords, tokens, clock, ids)
    patients = providers.Singleton(Patients, uow.provider, patient_reads, version_reads, books, clock, ids)
    records = providers.Singleton(Records, uow.provider, record_reads, version_reads, books, clock, ids)
    conflicts = providers.Singleton(Conflicts, uow.provider, conflict_reads, version_reads, books, clock, ids)
    policies = providers.Singleton(Policies, uow.provider, books, clock, ids)
    imports = providers.Singleton(Imports, uow.provider, books, clock, ids)
    audit_reads = providers.Singleton(postgres_audit.AuditReads, database)
    evidence = providers.Factory(seals.evidence, database)
    sealing = providers.Singleton(seals.PostgresSealing, database)
    witness = providers.Singleton(witness.FileWitness, settings.provided.seals_file)
    sealer = providers.Singleton(audit.Sealer, sealing, witness, clock)
    audit = providers.Singleton(audit.Audit, audit_reads, patient_reads, evidence.provider, witness, books)
    fhir_bundle: providers.Provider[type[FhirBundle]] = providers.Object(FhirBundle)
    fhir_files = providers.Factory(FhirFiles)
    is_ready = providers.Callable(lambda database: database.ready, database)


SERVED = (
    "accounts",
    "sessions",
    "patients",
    "records",
    "conflicts",
    "policies",
    "imports",
    "audit",
    "fhir_bundle",
    "is_ready",
)


def container(settings: config.Settings) -> Container:
    return Container(settings=providers.Object(settings))


def in_memory(settings: config.Settings) -> Container:
    """The same house on the memory adapters: no database, nothing outlives the process. For quick tries and tests."""
    wired = container(settings)
    store = Store()
    wired.database.override(providers.Object(store))
    wired.uow.override(providers.Factory(MemoryUnitOfWork, store, wired.ears))
    wired.version_reads.override(providers.Object(memory_versions.VersionReads(store)))
    wired.patient_reads.override(providers.Object(memory_patients.PatientReads(store)))
    wired.record_reads.override(providers.Object(memory_records.RecordReads(store)))
    wired.conflict_reads.override(providers.Object(memory_conflicts.ConflictReads(store)))
    wired.trail.override(providers.Object(memory_audit.MemoryTrail(store)))
    wired.audit_reads.override(providers.Object(memory_audit.AuditReads(store)))
    wired.evidence.override(providers.Factory(memory_audit.evidence, store))
    wired.sealing.override(providers.Object(memory_audit.MemorySealing(store)))
    wired.witness.override(providers.Object(memory_audit.MemoryWitness()))
    return wired


def http_app(wired: Container) -> Litestar:
    """The application over one container; the pool opens and closes with it."""
    database, trail = wired.database(), wired.trail()
    sealing = Repeated("audit.seal", wired.sealer().seal, wired.settings().seal_every)
    return create_app(
        {name: getattr(wired, name) for name in SERVED},
        tokens=wired.tokens,
        on_startup=[database.open, sealing.start],
        on_shutdown=[trail.close, sealing.stop, database.close],
    )


def app() -> Litestar:
    """What the server's workers load."""
    if multiprocessing.parent_process() is not None:
        _leave_the_group()
    settings = config.read()
    logs.configure(settings.log_level)
    return http_app(container(settings))


def _leave_the_group() -> None:
    """Let the server alone end its workers, and let them end with it.

    Ctrl-C goes to the whole process group; a worker that obeyed it by itself would look like a crashed one.
    """
    if sys.platform == "linux":
        os.setpgid(0, 0)
        # PR_SET_PDEATHSIG: no orphan keeps the port when the server is killed.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class House:
    """What the command line works with: settings, a database, the container."""

    def __init__(self) -> None:
        self._settings: config.Settings | None = None

    @property
    def _read(self) -> config.Settings:
        if self._settings is None:
            self._settings = config.read()
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
        try:
            yield wired
        finally:
            await wired.trail().close()
            await wired.database().close()

    def upgrade(self, url: str, revision: str) -> None:
        migrations.upgrade(url, revision)

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

    def serve(self, url: str, host: str, port: int, workers: int | None, ready: str) -> None:
        from granian import Granian

        class Server(Granian):  # type: ignore[misc]
            """Listens to the first signal only: `make` passes on what the terminal has sent to all already.

            A second one that arrives while the first is handled would wait for a lock that the first holds.
            """

            def signal_handler_interrupt(self, *arguments: Any, **named: Any) -> None:
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
                super().signal_handler_interrupt(*arguments, **named)

        settings = self._read
        # The workers read their settings themselves; these they cannot know.
        os.environ["HEALLOG_DATABASE_URL"] = url
        os.environ["HEALLOG_SECRET_KEY"] = settings.keys()[0]
        # A fresh interpreter per worker: forked ones would share this one's open sockets and threads.
        multiprocessing.set_start_method("spawn", force=True)
        address = f"http://{host}:{port}"
        threading.Thread(target=_announce, args=(address, ready), daemon=True).start()
        Server(
            "heallog.bootstrap:app",
            address=host,
            port=port,
            workers=workers or settings.workers,
            interface="asgi",
            loop="uvloop",
            factory=True,
            websockets=False,
            log_level="warning",
        ).serve()


def _announce(address: str, ready: str) -> None:
    """Say where the server is, once it answers and not before."""
    pause = threading.Event()
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{address}/health/ready", timeout=2):  # noqa: S310 - our own address
                break
        except (urllib.error.URLError, OSError):
            pause.wait(0.05)
    print(f"HealLog {__version__} answers at {address}  (try it at {address}/schema)\n\n{ready}", flush=True)


def command_line() -> None:
    create_cli(House(), __version__, (config.ConfigurationError, ValueError, FileNotFoundError)).meta()
