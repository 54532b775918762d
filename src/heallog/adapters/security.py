"""Passwords by argon2id, and whether an e-mail address is one."""

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from email_validator import EmailNotValidError, validate_email

from heallog.domain.passwords import spelled


class Argon2Passwords:
    """argon2id with the library's parameters (RFC 9106, low memory), in a thread: it takes tens of milliseconds.

    This is the one place that brings a password into the form in which it is hashed and verified.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        return await asyncio.to_thread(self._hasher.hash, spelled(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        right = await asyncio.to_thread(self._verify, password_hash or self._nobody, spelled(password))
        return right and password_hash is not None

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def deliverable(email: str) -> None:
    """Raises ValueError saying what is wrong with an address. Asks no server: registering works offline."""
    try:
        validate_email(email.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
