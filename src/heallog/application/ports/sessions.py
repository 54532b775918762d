"""Where sessions are kept, who makes and reads access tokens, and which of them are worth nothing any more."""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.sessions import Bearer, Session, Standing


class SessionRepository(Protocol):
    """Sessions inside a unit of work."""

    async def add(self, session: Session) -> None: ...

    async def lock(self, practice_id: str, session_id: str) -> Session | None:
        """The session as it is now, locked until the end of the unit of work."""

    async def put(self, session: Session) -> None:
        """What may change of a session: its token, its times and its end. Whoever writes it has locked it."""

    async def of_account(self, account_id: str, now: datetime, practice_id: str | None = None) -> Sequence[Session]:
        """An account's live sessions, newest first, locked; in one practice, or in all."""

    async def live(self, now: datetime) -> Sequence[Session]:
        """Everybody's live sessions, locked (for the operator's command line)."""

    async def sweep(self, before: datetime, left: datetime) -> int:
        """Delete what was over before then: sessions, codes, tries, revoked tokens. How many rows that were.

        Sessions that ended with a membership go when that was before `left`.
        """


class SessionReads(Protocol):
    """Plain reads."""

    def standing(self, bearer: Bearer) -> Awaitable[Standing | None]:
        """What the holder of a session is now. None where there is none, it has ended, or the membership has."""

    async def left(self, bearer: Bearer) -> str | None:
        """The device of a session that ended because the membership did, where its account is still no member.

        None of every other session, and where the account is not the bearer's.
        """


class TokenBlacklist(Protocol):
    """Access tokens that are worth nothing any more although they have not expired: those of ended sessions."""

    async def revoke(self, sessions: Sequence[tuple[str, str]], until: datetime) -> None:
        """The tokens of these sessions (practice and id), for as long as any of them could still be good."""

    def revoked(self, practice_id: str, session_id: str) -> Awaitable[bool]:
        """Raises `Unavailable` where that cannot be known."""


class AccessTokens(Protocol):
    """Signs who someone is, and reads it back."""

    def issue(self, session: Session, at: datetime) -> tuple[str, int]:
        """The token of the session's present generation, and how many seconds it is good for; the same each time."""

    def read(self, token: str, since: datetime | None = None) -> Bearer:
        """Raises `NotAuthenticated` or `TokenExpired`. One that was issued after `since` is read though it expired."""
