"""What has happened, told after the commit. An event carries names and counts, never clinical values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContributionCommitted:
    """One or more versions of a practice are durable."""

    practice_id: str
    contribution_id: str
    account_id: str
    request_id: str
    action: str
    versions: int


@dataclass(frozen=True, slots=True)
class PushCommitted:
    """What a device pushed is durable, all of it: so many versions, none where it was so already."""

    practice_id: str
    push_id: str
    account_id: str
    request_id: str
    versions: int


@dataclass(frozen=True, slots=True)
class AccountRegistered:
    """A person registered, and with them a practice."""

    practice_id: str
    account_id: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A session began."""

    practice_id: str
    account_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A session ended before its time. `ending` says why; `replayed` means that a refresh token was copied."""

    practice_id: str
    account_id: str
    session_id: str
    ending: str


@dataclass(frozen=True, slots=True)
class GlassBroken:
    """Someone may do more than their role lets them, for a while."""

    practice_id: str
    account_id: str
    emergency_id: str


Event = ContributionCommitted | PushCommitted | AccountRegistered | LoggedIn | SessionClosed | GlassBroken
