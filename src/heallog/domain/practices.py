"""A practice: the tenant that owns everything below it; who belongs to it, and who is asked to."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from heallog.domain.access import Plan, Role
from heallog.domain.errors import LastOwner
from heallog.domain.fields import Choice, Field, Fields, Number, Text

RENAMING: Fields = {"name": Field(Text(200, shortest=1), required=True)}
INVITING: Fields = {
    "email": Field(Text(254, shortest=3), required=True),
    "role": Field(Choice(tuple(Role)), required=True),
    "name": Field(Text(200), says="How the practice calls the person until there is an account."),
}
CHANGING_ROLE: Fields = {"role": Field(Choice(tuple(Role)), required=True)}
BREAKING_GLASS: Fields = {
    "reason": Field(Text(2_000, shortest=10, lines=True), required=True, says="What happens; the owners read it."),
    "minutes": Field(Number(least=5, most=240, whole=True), says="How long; 60 where it is missing."),
}


@dataclass(frozen=True, slots=True)
class Practice:
    """A clinic, a ward, or one clinician alone."""

    id: str
    name: str
    created_at: datetime
    plan: Plan = Plan.FREE


@dataclass(frozen=True, slots=True)
class Membership:
    """Joins an account to a practice with a role. One that has ended stays, for what was done in it stays too."""

    practice_id: str
    account_id: str
    role: Role
    created_at: datetime
    ended_at: datetime | None = None


class Presence(StrEnum):
    """How far someone belongs to a practice."""

    ACTIVE = "active"
    INVITED = "invited"


@dataclass(frozen=True, slots=True)
class Member:
    """Someone in the list of members: a person with access, or an open invitation. `id` is the one's or the other's."""

    id: str
    presence: Presence
    email: str
    name: str
    role: Role
    since: datetime
    expires_at: datetime | None = None


def still_owned(members: Iterable[Membership], account_id: str) -> None:
    """Raises `LastOwner` where nobody but this account owns the practice."""
    if not any(one.role is Role.OWNER and one.ended_at is None and one.account_id != account_id for one in members):
        raise LastOwner("this is the practice's only owner; make someone else an owner first")


# -- invitations --------------------------------------------------------------------------------------------------

INVITATION_LIFE = timedelta(days=7)
INVITATION_SIZE = 32
INVITATIONS_PER_HOUR = 20
"""Mails to strangers that one practice can cause."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """Asks whoever reads an address's mail to join. `digest` is of the code in the mail."""

    practice_id: str
    id: str
    email: str
    email_key: str
    name: str
    role: Role
    invited_by: str
    digest: bytes
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None = None

    def open(self, now: datetime) -> bool:
        return self.closed_at is None and now < self.expires_at


def invitation_code(chance: bytes) -> str:
    """A code out of `INVITATION_SIZE` random bytes: too long to guess, so a plain hash keeps it."""
    return urlsafe_b64encode(chance).rstrip(b"=").decode()


def invitation_digest(code: str) -> bytes:
    return hashlib.sha256(code.strip().encode()).digest()


# -- broken glass -------------------------------------------------------------------------------------------------

EMERGENCY_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Emergency:
    """Broken glass: for a while someone may do more than their role lets them, and everyone is told."""

    practice_id: str
    id: str
    account_id: str
    reason: str
    opened_at: datetime
    until: datetime
    closed_at: datetime | None = None

    def open(self, now: datetime) -> bool:
        return self.closed_at is None and now < self.until
