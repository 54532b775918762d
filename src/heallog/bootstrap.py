"""The composition root: the only place that knows which adapter stands behind which port."""

from dependency_injector import containers, providers
from litestar import Litestar

from heallog import config
from heallog.adapters import logs, security, world
from heallog.adapters.fhir import FhirBundle, FhirFiles
from heallog.adapters.postgres import patients, records, versions
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.unit_of_work import PostgresUnitOfWork
from heallog.application.accounts import Accounts
from heallog.application.imports import Imports
from heallog.application.patients import Patients
from heallog.application.records import Records
from heallog.application.sessions import Sessions
from heallog.entrypoints.http.app import create_app


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
    passwords = providers.Singleton(security.Argon2Passwords)
    tokens = providers.Singleton(security.JwtAccessTokens, settings.provided.key.call())

    accounts = providers.Singleton(
        Accounts, uow.provider, passwords, providers.Object(security.deliverable), clock, ids
    )
    sessions = providers.Singleton(Sessions, uow.provider, passwords, tokens, clock, ids)
    patients = providers.Singleton(Patients, uow.provider, patient_reads, version_reads, clock, ids)
    records = providers.Singleton(Records, uow.provider, record_reads, version_reads, clock, ids)
    imports = providers.Singleton(Imports, uow.provider, clock, ids)
    fhir_bundle = providers.Object(FhirBundle)
    fhir_files = providers.Object(FhirFiles)
    is_ready = providers.Callable(lambda database: database.ready, database)


SERVED = ("accounts", "sessions", "patients", "records", "imports", "fhir_bundle", "is_ready")


def container(settings: config.Settings) -> Container:
    return Container(settings=providers.Object(settings))


def http_app(wired: Container) -> Litestar:
    """The application over one container; the pool opens and closes with it."""
    database = wired.database()
    return create_app(
        {name: getattr(wired, name) for name in SERVED},
        tokens=wired.tokens,
        on_startup=[database.open],
        on_shutdown=[database.close],
    )


def app() -> Litestar:
    """What the server's workers load."""
    settings = config.read()
    logs.configure(settings.log_level)
    return http_app(container(settings))
