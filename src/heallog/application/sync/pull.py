"""Use cases of sync: pull what changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from heallog.application.ports.sync import FeedReads, Page
from heallog.application.ports.world import Clock
from heallog.application.trail import Books, audited
from heallog.domain import sync
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.health import Tally
from heallog.domain.sync import Pages, Stream

READING = {
    Stream.PATIENTS: Permission.READ_PATIENTS,
    Stream.RECORDS: Permission.READ_RECORDS,
    Stream.CONFLICTS: Permission.READ_CONFLICTS,
}


@dataclass(frozen=True, slots=True)
class Pulled:
    """`changes` are wire bytes in pieces, to be joined by commas. While `more`, the pull goes on from `cursor`.

    `then`: of the first of several pages that are turned by skipping, where to go on from after the last of them.
    """

    changes: Sequence[bytes]
    cursor: str | None
    more: bool
    head: int
    epoch: str
    then: str | None = None


class Sync:
    """`keys` are what cursors are signed with, the one in use first."""

    def __init__(self, feed: FeedReads, books: Books, clock: Clock, pages: Pages, *, keys: Sequence[bytes]) -> None:
        self._feed = feed
        self.books = books
        self._clock = clock
        self._pages = pages
        self._keys = keys

    @audited("sync.pull")
    async def pull(
        self, actor: Actor, cursor: str | None, streams: Sequence[Stream], limit: int | None, tally: Tally | None = None
    ) -> Pulled:
        """What changed since a cursor, or everything; at most `limit` items at a time. `tally` hears what it came to.

        Every item that was committed when the pull began comes once in it, unless it changed meanwhile: then it comes
        in the next. Raises `InvalidCursor`, `ResyncRequired`, and `InvalidFields` for a limit that is out of range.
        """
        limit = self._allowed(actor, streams, limit)
        now = self._clock()
        known = None if cursor is None else sync.read(cursor, self._keys, actor, now)
        if known is not None and known.streams != tuple(streams):
            raise InvalidFields([FieldError("collections", "differs", "differs from what the cursor is of")])
        after, until = (known.after, known.until) if known else (sync.Place(), None)
        page = await self._feed.page(actor.practice_id, streams, after, until, limit)
        known = known or sync.begun(actor, page.epoch, streams)
        sync.check(known, page.epoch, page.head, page.floor)
        further = sync.moved(known, actor, page.last, page.until, now, self._pages.life)
        if tally is not None:
            _told(tally, known, page)
        await self.books.listed(actor, "sync.pull", subjects=page.patients)
        return Pulled(page.changes, further.text(self._keys[0]), page.more, page.head, page.epoch)

    @audited("sync.pull")
    async def skipped(
        self, actor: Actor, skip: int, streams: Sequence[Stream], limit: int | None, tally: Tally | None = None
    ) -> Pulled:
        """Everything, from a position on: how clients turned pages before there were cursors.

        Items stand by stream and id, where no change moves one: each that was there at the first page comes in one of
        the pages, or in two. What changed or is new since then is after `then`, which the first page alone gives: a
        later one does not know what happened behind it. So it is no `cursor`, unless the first page is the only one:
        whoever goes on from it before the last page would never see the others. Raises `InvalidFields`.
        """
        limit = self._allowed(actor, streams, limit)
        page = await self._feed.skipped(actor.practice_id, streams, skip, limit)
        then = None
        if skip == 0:
            begun = sync.begun(actor, page.epoch, streams)
            then = sync.moved(begun, actor, None, page.head, self._clock(), self._pages.life).text(self._keys[0])
        if tally is not None:
            tally.records = page.count
            tally.batched = skip > 0 or page.more
            tally.position = 0 if skip == 0 else None
        await self.books.listed(actor, "sync.pull", subjects=page.patients)
        return Pulled(page.changes, None if page.more else then, page.more, page.head, page.epoch, then)

    def _allowed(self, actor: Actor, streams: Sequence[Stream], limit: int | None) -> int:
        for stream in streams:
            authorise(actor, READING[stream])
        return self._pages.size(limit)


def _told(tally: Tally, cursor: sync.Cursor, page: Page) -> None:
    """A device in the midst of a pull may have written none of it down yet: it has what it had when that began."""
    going_on = cursor.until is not None
    tally.records = page.count
    tally.batched = going_on or page.more
    tally.position = None if going_on else cursor.after.seq
    tally.reached = page.until if page.last is None else page.last.seq
