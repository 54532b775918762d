"""One-time codes: eight digits in a mail, that prove who reads it.

A code is one of 10^8, so it is short-lived, looked at a few times, sent a few times an hour, and kept only as an
HMAC under a key of the server: whoever has the database alone cannot try them all.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DIGITS = 8
LIFE = timedelta(minutes=10)
LOOKS = 5
"""How often a code may be wrong before it is worthless."""
AN_HOUR = timedelta(hours=1)
PER_HOUR = 3
"""Codes that one address is sent within an hour, for the same purpose."""


class Purpose(StrEnum):
    """What a code is for. One is never good for the other."""

    VERIFY = "verify"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """A code as it is kept. Without an account it is nobody's and was never sent: so that all looks alike."""

    id: str
    email_key: str
    purpose: Purpose
    account_id: str | None
    digest: bytes
    created_at: datetime
    expires_at: datetime
    looks: int = 0
    used_at: datetime | None = None


def digits(chance: bytes) -> str:
    """A code out of 16 random bytes: the remainder prefers no code by more than 10^-30."""
    return f"{int.from_bytes(chance[:16]) % 10**DIGITS:0{DIGITS}}"


def digest(key: bytes, purpose: Purpose, email_key: str, code: str) -> bytes:
    return hmac.digest(key, f"{purpose}\0{email_key}\0{code}".encode(), "sha256")


def wait(sent: Sequence[OneTimeCode], now: datetime) -> timedelta | None:
    """How long until another code may be sent, where it may not be now. `sent` are the address's latest ones."""
    recent = sorted(code.created_at for code in sent if now - code.created_at < AN_HOUR)
    return AN_HOUR - (now - recent[-PER_HOUR]) if len(recent) >= PER_HOUR else None


def good(code: OneTimeCode, said: str, keys: Iterable[bytes], now: datetime) -> bool:
    """Whether this is the code, and may still be used. Says nothing faster or slower for a reason."""
    right = [hmac.compare_digest(digest(key, code.purpose, code.email_key, said), code.digest) for key in keys]
    usable = code.used_at is None and now < code.expires_at and code.looks < LOOKS and code.account_id is not None
    return any(right) and usable
