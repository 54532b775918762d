"""Where the change feed is read. It is written by units of work as they commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heallog.domain.sync import Place


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the feed at one moment. `changes` are the items' wire bytes, joined by commas.

    `last` is the place of the last item, if there is one; `more`: there is another up to `until`. `patients` are
    those that the items are about, each once. `head` is the latest `seq` of the practice at that moment.
    """

    epoch: str
    head: int
    until: int
    changes: bytes
    count: int
    last: Place | None
    more: bool
    patients: Sequence[str]


class FeedReads(Protocol):
    async def page(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        """Items after a place, in order, up to `until` (None: the head of this moment). One snapshot."""
