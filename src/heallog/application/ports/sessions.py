"""Where sessions are kept, and who makes and reads access tokens."""

from datetime import datetime
from typing import Protocol

from heallog.domain.access import Actor
from heallog.domain.sessions import AccessToken, Session


class SessionRepository(Protocol):
    async def add(self, session: Session) -> None: ...


class AccessTokens(Protocol):
    """Signs who someone is, and reads it back."""

    def issue(self, actor: Actor, now: datetime) -> AccessToken: ...

    def read(self, token: str, request_id: str) -> Actor:
        """Raises `NotAuthenticated` or `TokenExpired`."""


class Passwords(Protocol):
    """Slow hashes, off the event loop."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Takes as long for no account (None) as for a wrong password."""
