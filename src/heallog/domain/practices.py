"""A practice: the tenant that owns everything below it."""

from dataclasses import dataclass
from datetime import datetime

from heallog.domain.access import Role


@dataclass(frozen=True, slots=True)
class Practice:
    """A clinic, a ward, or one clinician alone."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Membership:
    """Joins an account to a practice with a role."""

    practice_id: str
    account_id: str
    role: Role
    created_at: datetime
