"""Where one-time codes are kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.codes import OneTimeCode


class CodeRepository(Protocol):
    """One-time codes inside a unit of work."""

    async def lock(self, email_key: str, since: datetime) -> Sequence[OneTimeCode]:
        """An address's codes since then, newest first. No other unit of work makes or locks any until the end."""

    async def add(self, code: OneTimeCode) -> None: ...

    async def put(self, code: OneTimeCode) -> None:
        """What may change of a code: how often it was looked at, and that it was used."""
