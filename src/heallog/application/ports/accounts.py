"""Where accounts are kept, and what proves a person."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.accounts import Account


class AccountRepository(Protocol):
    async def add(self, account: Account) -> None:
        """Raises `EmailTaken`."""

    async def by_email(self, email_key: str) -> Account | None: ...

    async def get(self, account_id: str) -> Account | None: ...

    async def lock(self, account_id: str) -> Account | None:
        """The account as it is now, locked until the end of the unit of work."""

    async def sealed(self) -> Sequence[str]:
        """The ids of the accounts that have the secret of an authenticator app."""

    async def put(self, account: Account) -> None:
        """Everything of an account but its id, address and beginning. Whoever writes it has locked it."""


class Passwords(Protocol):
    """Slow hashes, off the event loop."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Takes as long for no account (None) as for a wrong password."""

    def outdated(self, password_hash: str) -> bool:
        """Whether it was made with other parameters than are in use now."""


class Authenticators(Protocol):
    """Apps that show a code of six digits every thirty seconds (TOTP, RFC 6238)."""

    def new(self) -> str:
        """A secret, as an app takes it."""

    def uri(self, secret: str, email: str) -> str:
        """What a QR code for an app holds."""

    def sealed(self, secret: str) -> bytes:
        """A secret as it is kept."""

    def step(self, sealed: bytes, code: str, now: datetime) -> int | None:
        """The number of the step that this is the code of; the present one, or one beside it."""

    def resealed(self, sealed: bytes) -> bytes | None:
        """The same secret under the key in use, where it is under another one."""
