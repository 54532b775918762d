"""Where the change feed is read. It is written by units of work as they commit."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Place, Stream
from heallog.domain.versions import Collection


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the feed at one moment. `changes` are the items' wire bytes, in pieces; commas join each and all.

    `last`: where the page ended before `until`, and another begins; None where that was all. `patients` are those that
    the items are about, each once. `head` is the latest `seq` of the practice at that moment.
    """

    epoch: str
    head: int
    until: int
    changes: Sequence[bytes]
    count: int
    last: Place | None
    patients: Sequence[str]
    rows: Sequence[bytes] = ()
    """The same as rows of WatermelonDB, joined by commas: of each stream, in the order of their ranks."""
    floor: int = 0
    """Up to here not everything is told any more: tombstones were dropped."""

    @property
    def more(self) -> bool:
        return self.last is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a thing stood when a device began and ended a pull: the head's version, or None where there was none.

    `own`: the device itself made it. `since`: the oldest version that the device changed after its pull began; what
    became of that it had not pulled then.
    """

    before: int | None
    after: int | None
    own: bool
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The feed as a device that pushes may know it: `lo` is what it had before its last pull, None where that is not
    known; `floor` and `head` are the practice's.
    """

    lo: int | None
    floor: int
    head: int


class SyncRepository(Protocol):
    """Pushes, what was quarantined of them, and pulls, inside a unit of work."""

    def again(self, practice_id: str, keys: Iterable[tuple[Stream, str]]) -> None:
        """Let things come again at the next pull, though they did not change."""

    async def pulled(self, practice_id: str, device_id: str, lo: int, hi: int, at: datetime) -> None:
        """Keep that a device, which had everything up to `lo`, was sent everything up to `hi`."""

    async def window(self, practice_id: str, device_id: str, hi: int) -> Window:
        """What the device had before it pulled up to `hi`, the last time that it did."""

    async def standing(
        self, practice_id: str, device_id: str, things: Sequence[tuple[Collection, str]], lo: int, hi: int
    ) -> dict[tuple[Collection, str], Standing]:
        """Of things that exist, where they stood at two places of the feed."""

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
        """Items after a place, in order, up to `until` (None: the head of this moment). One snapshot; at least one item
        is asked for.
        """

    async def skipped(self, practice_id: str, streams: Sequence[str], skip: int, limit: int) -> Page:
        """Items after so many others, in an order in which none ever moves: by stream and id. One snapshot.

        What is new may push others back, so that they come twice; none comes forward, unless one is taken out.
        """

    async def rows(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        """The same, with the items as rows."""

    def still(self) -> "AbstractAsyncContextManager[FeedReads]":
        """The same reads, all of them at one moment."""
