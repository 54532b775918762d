"""The composition root: the only place that knows which adapter stands behind which port."""

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from dependency_injector import containers, providers
from redis.asyncio import Redis

from heallog import config
from heallog.adapters import limits, logs, mail, security, tokens, witness, world
from heallog.adapters.fhir import FhirBundle, FhirFiles
from heallog.adapters.guesses import KnownGuesses
from heallog.adapters.memory import audit as memory_audit
from heallog.adapters.memory import conflicts as memory_conflicts
from heallog.adapters.memory import health as memory_health
from heallog.adapters.memory import patients as memory_patients
from heallog.adapters.memory import records as memory_records
from heallog.adapters.memory import sessions as memory_sessions
from heallog.adapters.memory import sync as memory_sync
from heallog.adapters.memory import versions as memory_versions
from heallog.adapters.memory.store import Store
from heallog.adapters.memory.unit_of_work import MemoryUnitOfWork
from heallog.adapters.postgres import audit as postgres_audit
from heallog.adapters.postgres import conflicts, feed, health, patients, records, seals, sessions, versions
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.trail import PostgresTrail
from heallog.adapters.postgres.unit_of_work import PostgresUnitOfWork
from heallog.adapters.redis import sessions as redis_sessions
from heallog.application import audit
from heallog.application.accounts import Accounts
from heallog.application.codes import Codes
from heallog.application.conflicts import Conflicts
from heallog.application.credentials import Credentials
from heallog.application.imports import Imports
from heallog.application.patience import Patience
from heallog.application.patients import Patients
from heallog.application.policies import Policies
from heallog.application.ports.health import Meter
from heallog.application.ports.mail import Mail
from heallog.application.ports.sessions import TokenBlacklist
from heallog.application.ports.world import Clock
from heallog.application.practices import Practices
from heallog.application.records import Records
from heallog.application.sessions import Sessions
from heallog.application.sync.health import Health
from heallog.application.sync.pull import Sync
from heallog.application.sync.push import Pushes
from heallog.application.sync.quarantine import Quarantine
from heallog.application.sync.retention import Retention
from heallog.application.sync.watermelon import Watermelon
from heallog.application.trail import Books
from heallog.domain.health import RETRIES
from heallog.domain.sync import Pages
from heallog.domain.tries import Allowance
from heallog.entrypoints.worker import Repeated

if TYPE_CHECKING:
    from litestar import Litestar


def _keys(settings: config.Settings, label: str) -> tuple[bytes, ...]:
    """Keys for one thing alone, the one in use first."""
    return tuple(tokens.derived(secret, label) for secret in settings.keys())  # noqa: SIM118 - no dict


def _redis(settings: config.Settings) -> Redis | None:
    return redis_sessions.connect(settings.redis_url) if settings.redis_url else None


def _blacklist(redis: Redis | None, database: Database, clock: Clock, reads: sessions.SessionReads) -> TokenBlacklist:
    """In Redis where there is one, else in the database."""
    if redis is None:
        return sessions.PostgresTokenBlacklist(database, clock, reads)
    return redis_sessions.RedisTokenBlacklist(redis, clock)


def _mail(settings: config.Settings, clock: Clock) -> Mail:
    """By SMTP where there is a server, else on the screen."""
    return mail.SmtpMail(settings.smtp, settings.mail_from, clock=clock) if settings.smtp else mail.ConsoleMail()


def read_settings() -> config.Settings:
    """The settings of this process, checked by whoever will use them. Raises `ConfigurationError`."""
    settings = config.read()
    checks: dict[str, Callable[[], object]] = {"REDIS_URL": partial(_redis, settings)}
    if settings.smtp is not None:
        checks["MAIL_URL"] = partial(mail.server, settings.smtp)
        checks["MAIL_FROM"] = partial(mail.address, settings.mail_from)
    for name, rate in (settings.rates or {}).items():
        checks[f"RATE_{name.upper()}"] = partial(limits.check, rate)
    wrong = []
    if settings.environment == "production":
        try:
            settings.keys()
        except config.ConfigurationError as error:
            wrong.append(str(error))
        if settings.mail_url is None:
            wrong.append(
                f"HEALLOG_MAIL_URL must be set in production; {config.CONSOLE} prints letters, and codes, to the log"
            )
    for name, check in checks.items():
        try:
            check()
        except ValueError as error:
            wrong.append(f"HEALLOG_{name}: {error}")
    if wrong:
        raise config.ConfigurationError("\n".join(wrong))
    return settings


def _counted(meter: Meter) -> Callable[[str], None]:
    return lambda action: meter.add(RETRIES.name, work=action)


def _rate_limits(settings: config.Settings) -> limits.RateLimits | None:
    return limits.RateLimits(settings.rates, settings.redis_url) if settings.rates is not None else None


class Container(containers.DeclarativeContainer):
    """One per process."""

    settings = providers.Dependency(instance_of=config.Settings)
    clock = providers.Object(world.clock)
    ids = providers.Object(world.new_id)
    chance = providers.Object(world.chance)
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
    health_log = providers.Singleton(health.HealthLog, database)
    patience = providers.Singleton(Patience, chance, retried=providers.Callable(_counted, health_log))
    mail = providers.Singleton(_mail, settings, clock)
    passwords = providers.Singleton(
        security.Argon2Passwords,
        passes=settings.provided.argon2_passes,
        mebibytes=settings.provided.argon2_mebibytes,
        lanes=settings.provided.argon2_lanes,
    )
    guesses = providers.Singleton(KnownGuesses)
    deliverable = providers.Object(security.deliverable)
    authenticators = providers.Singleton(
        security.TotpAuthenticators, providers.Singleton(_keys, settings, "authenticator")
    )
    tokens = providers.Singleton(tokens.JwtAccessTokens, settings.provided.keys.call(), clock)
    session_reads = providers.Singleton(sessions.SessionReads, database)
    redis = providers.Singleton(_redis, settings)
    blacklist = providers.Singleton(_blacklist, redis, database, clock, session_reads)
    rate_limits = providers.Singleton(_rate_limits, settings)

    credentials = providers.Singleton(
        Credentials,
        uow.provider,
        passwords,
        authenticators,
        mail,
        books,
        clock,
        ids,
        chance,
        by_account=providers.Factory(Allowance, settings.provided.login_tries),
        by_address=providers.Factory(Allowance, settings.provided.login_tries_per_address),
    )
    sessions = providers.Singleton(
        Sessions,
        uow.provider,
        credentials,
        tokens,
        session_reads,
        blacklist,
        books,
        clock,
        ids,
        chance,
        keys=providers.Singleton(_keys, settings, "refresh token"),
        queue=providers.Factory(timedelta, settings.provided.push_days),
        verified_only=settings.provided.verified_only,
    )
    codes = providers.Singleton(
        Codes,
        uow.provider,
        passwords,
        guesses,
        credentials,
        sessions,
        mail,
        books,
        clock,
        ids,
        chance,
        keys=providers.Singleton(_keys, settings, "one-time code"),
    )
    accounts = providers.Singleton(
        Accounts, uow.provider, passwords, guesses, deliverable, credentials, codes, sessions, mail, clock, ids
    )
    practices = providers.Singleton(Practices, uow.provider, sessions, deliverable, mail, books, clock, ids, chance)
    patients = providers.Singleton(
        Patients, uow.provider, patient_reads, version_reads, books, clock, ids, patience=patience
    )
    records = providers.Singleton(
        Records, uow.provider, record_reads, version_reads, books, clock, ids, patience=patience
    )
    conflicts = providers.Singleton(
        Conflicts, uow.provider, conflict_reads, version_reads, books, clock, ids, patience=patience
    )
    policies = providers.Singleton(Policies, uow.provider, books, clock, ids)
    imports = providers.Singleton(Imports, uow.provider, books, clock, ids)
    feed_reads = providers.Singleton(
        feed.FeedReads, database, database.provided.snapshot, settings.provided.database_connections
    )
    pages = providers.Singleton(
        Pages,
        settings.provided.min_sync_batch_size,
        settings.provided.sync_batch_size,
        settings.provided.max_sync_records,
        providers.Factory(timedelta, hours=settings.provided.sync_pull_hours),
    )
    sync = providers.Singleton(
        Sync, feed_reads, books, clock, pages, keys=providers.Singleton(_keys, settings, "sync cursor")
    )
    pushes = providers.Singleton(
        Pushes,
        uow.provider,
        patient_reads,
        record_reads,
        version_reads,
        books,
        clock,
        ids,
        most=settings.provided.max_sync_records,
        patience=patience,
    )
    watermelon_sync = providers.Singleton(
        Watermelon,
        uow.provider,
        feed_reads,
        pushes,
        conflicts,
        conflict_reads,
        books,
        clock,
        ids,
        part=settings.provided.sync_batch_size,
        most=settings.provided.max_sync_rows,
        patience=patience,
    )
    quarantine = providers.Singleton(
        Quarantine, uow.provider, pushes, watermelon_sync, books, clock, ids, patience=patience
    )
    retention = providers.Singleton(
        Retention,
        uow.provider,
        clock,
        ids,
        tombstones=providers.Factory(timedelta, settings.provided.tombstone_days),
        answers=providers.Factory(timedelta, settings.provided.push_days),
    )
    health_reads = providers.Singleton(health.HealthReads, database)
    health = providers.Singleton(
        Health, health_log, health_reads, books, clock, ids, days=settings.provided.sync_event_days
    )
    metrics_token = settings.provided.metrics_token
    audit_reads = providers.Singleton(postgres_audit.AuditReads, database)
    evidence = providers.Factory(seals.evidence, database)
    sealing = providers.Singleton(seals.PostgresSealing, database)
    witness = providers.Singleton(witness.FileWitness, settings.provided.seals_file)
    sealer = providers.Singleton(audit.Sealer, sealing, witness, clock)
    audit = providers.Singleton(audit.Audit, audit_reads, patient_reads, evidence.provider, witness, books)
    fhir_bundle: providers.Provider[type[FhirBundle]] = providers.Object(FhirBundle)
    fhir_files = providers.Factory(FhirFiles)
    is_ready = providers.Callable(lambda database: database.ready, database)


SWEEP_EVERY = 3600.0
"""Seconds between two clean-ups of what is over, and of what nobody can ask for any more."""

RESEAL_EVERY = 60.0
"""Seconds, while there are two keys, between two looks for what is still under the old one."""

SERVED = (
    "accounts",
    "sessions",
    "codes",
    "credentials",
    "practices",
    "patients",
    "records",
    "conflicts",
    "policies",
    "imports",
    "sync",
    "pushes",
    "quarantine",
    "watermelon_sync",
    "health",
    "metrics_token",
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
    wired.session_reads.override(providers.Object(memory_sessions.SessionReads(store)))
    wired.blacklist.override(providers.Object(memory_sessions.MemoryTokenBlacklist(wired.clock())))
    wired.mail.override(providers.Object(mail.MemoryMail()))
    wired.feed_reads.override(providers.Object(memory_sync.FeedReads(store)))
    wired.health_log.override(providers.Object(memory_health.HealthLog(store)))
    wired.health_reads.override(providers.Object(memory_health.HealthReads(store)))
    wired.trail.override(providers.Object(memory_audit.MemoryTrail(store)))
    wired.audit_reads.override(providers.Object(memory_audit.AuditReads(store)))
    wired.evidence.override(providers.Factory(memory_audit.evidence, store))
    wired.sealing.override(providers.Object(memory_audit.MemorySealing(store)))
    wired.witness.override(providers.Object(memory_audit.MemoryWitness()))
    return wired


def http_app(wired: Container) -> "Litestar":
    """The application over one container; pools and what goes on beside the requests open and close with it."""
    # Only here: the command line need not carry it.
    from heallog.entrypoints.http.app import create_app

    database, trail = wired.database(), wired.trail()
    beside: list[Repeated | mail.SmtpMail] = [
        Repeated("audit.seal", wired.sealer().seal, wired.settings().seal_every, at_last=True),
        Repeated("sessions.sweep", wired.sessions().sweep, SWEEP_EVERY),
        Repeated("sync.flush", wired.health().flush, wired.settings().sync_events_every, at_last=True),
        Repeated("sync-health.sweep", wired.health().sweep, SWEEP_EVERY),
        Repeated("sync.sweep", wired.retention().sweep, SWEEP_EVERY),
    ]
    if len(wired.settings().keys()) > 1:
        beside.append(Repeated("credentials.reseal", wired.credentials().reseal, RESEAL_EVERY))
    if isinstance(post := wired.mail(), mail.SmtpMail):
        beside.append(post)

    async def leave() -> None:
        """Of Redis only what was ever asked."""
        if (redis := wired.redis()) is not None:
            await redis_sessions.close(redis)
        if (counting := wired.rate_limits()) is not None:
            await counting.close()

    return create_app(
        {name: getattr(wired, name) for name in SERVED},
        door=wired.sessions,
        rate_limits=wired.rate_limits,
        pages=wired.pages(),
        largest_body=wired.settings().max_body_mebibytes,
        largest_push=wired.settings().max_push_mebibytes,
        fares=wired.health,
        proxies=wired.settings().proxies,
        on_startup=[database.open, *(one.start for one in beside)],
        on_shutdown=[trail.close, *(one.stop for one in beside), leave, database.close],
    )


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of `malloc.h`."""


def app() -> "Litestar":
    """What the server's workers load."""
    if multiprocessing.parent_process() is not None:
        from heallog.entrypoints.server import leave_the_group

        leave_the_group()
    settings = read_settings()
    logs.configure(settings.log_level)
    made = http_app(container(settings))
    # What is there from the start stays. Looking through it again and again would hold up requests for a tenth of a
    # second each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    _keep_memory()
    return made


def _keep_memory() -> None:
    """Let glibc keep up to 64 MiB of what large answers took: to get a page of memory costs more than to fill it.

    Measured: 11 ms of processor for 3 MiB of changes, 6 with this. Other C libraries go by their own rules.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
