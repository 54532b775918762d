"""Where tries are counted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.tries import Tries


class TriesRepository(Protocol):
    """Counters inside a unit of work."""

    async def lock(self, keys: Sequence[str], now: datetime) -> Sequence[Tries]:
        """The counters of these keys in their order, made where they are missing, locked until the end of the work."""

    async def put(self, tries: Sequence[Tries]) -> None:
        """Whoever writes them has locked them."""

    async def forget(self, keys: Sequence[str]) -> None:
        """Begin anew."""
