"""What of sync is kept for how long, and its new beginning after a restore."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Keep:
    """Since when tombstones (and what else tells places in the feed apart) and answers to pushes are kept.

    Devices that were seen since `tombstones` are active: they hold whatever lies above what they have.
    """

    tombstones: datetime
    answers: datetime


class RetentionRepository(Protocol):
    async def overdue(self, keep: Keep) -> Sequence[str]:
        """The practices that have something to drop."""

    async def drop(self, practice_id: str, keep: Keep, most: int) -> int:
        """Drop what nobody can ask for any more, the oldest first, at most so many of each sort. How many in all.

        The practice's floor rises to the highest number that was dropped. Nothing waits for the practice's head but
        whoever commits to its feed, for as long as this unit of work takes.
        """

    async def renew(self, leap: int) -> Sequence[str]:
        """Give every practice a new epoch, and a head and floor above any number that was given out; which they are.

        The head goes on from where it was or from now, whichever is later, by `leap`.
        """
