"""Where the change feed is read. It is written by units of work as they commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heallog.domain.pushes import Pushed, Quarantined
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


class SyncRepository(Protocol):
    """Pushes and what was quarantined of them, inside a unit of work."""

    async def pushed(self, practice_id: str, device_id: str, push_id: str) -> Pushed | None: ...

    async def keep(self, pushed: Pushed) -> None: ...

    async def quarantine(self, items: Sequence[Quarantined]) -> None: ...

    async def quarantined(self, practice_id: str, after: str | None, limit: int) -> Sequence[Quarantined]:
        """Those that wait for a person, newest first, after the one with this id."""

    async def lock_quarantined(self, practice_id: str, item_id: str) -> Quarantined | None:
        """One of them, closed or not, locked until the end of the unit of work."""

    async def close(self, item: Quarantined) -> None:
        """Its end. Whoever writes it has locked it."""


class FeedReads(Protocol):
    async def page(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        """Items after a place, in order, up to `until` (None: the head of this moment). One snapshot."""
