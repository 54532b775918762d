"""Passwords by argon2id, codes of authenticator apps, and whether an e-mail address is one."""

import asyncio
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from email_validator import EmailNotValidError, validate_email

from heallog.domain.passwords import spelled

Result = TypeVar("Result")


class Argon2Passwords:
    """argon2id in a thread: it takes tens of milliseconds. By default as RFC 9106 has it for little memory.

    This is the one place that brings a password into the form in which it is hashed and verified.
    """

    def __init__(self, *, passes: int = 3, mebibytes: int = 64, lanes: int = 4) -> None:
        self._hasher = PasswordHasher(passes, mebibytes * 1024, lanes)
        # As many at once as there are cores: more would only take more memory.
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "argon2")
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        return await self._aside(self._hasher.hash, spelled(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        right = await self._aside(self._verify, password_hash or self._nobody, spelled(password))
        return right and password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)

    async def _aside(self, work: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


STEP = 30
"""Seconds that an app shows a code."""

_CODE = re.compile(r"[0-9]{6}")


class TotpAuthenticators:
    """TOTP as apps know it: SHA-1, six digits, thirty seconds (RFC 6238).

    The present code is good, and the one before: it may have been typed as it changed. The secrets are kept under a key
    of the server; `keys` begin with the one in use.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        ciphers = [Fernet(urlsafe_b64encode(key)) for key in keys]
        self._present = ciphers[0]
        self._all = MultiFernet(ciphers)

    def new(self) -> str:
        return pyotp.random_base32()

    def uri(self, secret: str, email: str) -> str:
        return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name="HealLog")

    def sealed(self, secret: str) -> bytes:
        return self._present.encrypt(secret.encode())

    def step(self, sealed: bytes, code: str, now: datetime) -> int | None:
        said = "".join(code.split())
        if not _CODE.fullmatch(said):
            return None
        try:
            app = pyotp.TOTP(self._all.decrypt(sealed).decode())
        except InvalidToken:
            # The key is gone. The account's recovery codes still open.
            return None
        present = int(now.timestamp()) // STEP
        return next((at for at in (present, present - 1) if secrets.compare_digest(app.generate_otp(at), said)), None)

    def resealed(self, sealed: bytes) -> bytes | None:
        try:
            self._present.decrypt(sealed)
        except InvalidToken:
            return self._all.rotate(sealed)
        return None


def deliverable(email: str) -> None:
    """Raises ValueError saying what is wrong with an address. Asks no server: registering works offline."""
    try:
        validate_email(email.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
