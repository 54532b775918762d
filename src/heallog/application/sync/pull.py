"""Use cases of sync: pull what changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from heallog.application.ports.sync import FeedReads
from heallog.application.ports.world import Clock
from heallog.application.trail import Books, audited
from heallog.domain import sync
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.sync import Pages, Stream

READING = {
    Stream.PATIENTS: Permission.READ_PATIENTS,
    Stream.RECORDS: Permission.READ_RECORDS,
    Stream.CONFLICTS: Permission.READ_CONFLICTS,
}


@dataclass(frozen=True, slots=True)
class Pulled:
    """`changes` are wire bytes joined by commas. While `more`, the pull goes on from `cursor`."""

    changes: bytes
    cursor: str
    more: bool
    head: int
    epoch: str


class Sync:
    """`keys` are what cursors are signed with, the one in use first."""

    def __init__(self, feed: FeedReads, books: Books, clock: Clock, pages: Pages, *, keys: Sequence[bytes]) -> None:
        self._feed = feed
        self.books = books
        self._clock = clock
        self._pages = pages
        self._keys = keys

    @audited("sync.pull")
    async def pull(self, actor: Actor, cursor: str | None, streams: Sequence[Stream], limit: int | None) -> Pulled:
        """What changed since a cursor, or everything; at most `limit` items at a time.

        Every item that was committed when the pull began comes once in it, unless it changed meanwhile: then it comes
        in the next. Raises `InvalidCursor`, `ResyncRequired`, and `InvalidFields` for a limit that is out of range.
        """
        for stream in streams:
            authorise(actor, READING[stream])
        limit = self._pages.size(limit)
        now = self._clock()
        known = None if cursor is None else sync.read(cursor, self._keys, actor, now)
        if known is not None and known.streams != tuple(streams):
            raise InvalidFields([FieldError("collections", "differs", "differs from what the cursor is of")])
        after, until = (known.after, known.until) if known else (sync.Place(), None)
        page = await self._feed.page(actor.practice_id, streams, after, until, limit)
        known = known or sync.begun(actor, page.epoch, streams)
        sync.check(known, page.epoch, page.head)
        further = sync.moved(known, actor, page.last if page.more else None, page.until, now, self._pages.life)
        await self.books.listed(actor, "sync.pull", subjects=page.patients)
        return Pulled(page.changes, further.text(self._keys[0]), page.more, page.head, page.epoch)
