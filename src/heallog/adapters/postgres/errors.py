"""From PostgreSQL's errors to the domain's, by exact constraint name."""

import asyncpg

from heallog.domain.errors import AlreadyExists, Contended, DomainError, EmailTaken, NotFound, Unavailable

_BY_CONSTRAINT: dict[str, tuple[type[DomainError], str]] = {
    "versions_pkey": (AlreadyExists, "this id is taken"),
    "policies_pkey": (AlreadyExists, "this id is taken"),
    "patients_pkey": (AlreadyExists, "this id is taken"),
    "records_pkey": (AlreadyExists, "this id is taken"),
    "records_patients_fkey": (NotFound, "there is no such patient"),
    "memberships_practices_fkey": (NotFound, "there is no such practice"),
    "accounts_email_key_key": (EmailTaken, "an account with this e-mail address exists"),
}

_CONTENDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""The database says so itself, and that it rolled back; a lost connection says nothing of what became of a COMMIT."""

_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


def translated(error: Exception) -> Exception:
    """The domain error that this is, or the error itself where it is none: then it is a bug and answers 500."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        known = _BY_CONSTRAINT.get(error.constraint_name or "")
        return known[0](known[1]) if known else error
    if isinstance(error, _CONTENDED):
        return Contended("others are changing the same things; nothing of this was kept")
    if isinstance(error, _UNAVAILABLE):
        return Unavailable("the database does not answer")
    return error
