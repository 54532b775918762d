"""The change feed in memory."""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import ConstraintViolated, Overlay, Tables
from heallog.application.ports import sync as ports
from heallog.application.ports.sync import Page, Standing, Window
from heallog.domain import watermelon
from heallog.domain.canon import as_came, decode
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Feed, Item, Place, Stream
from heallog.domain.versions import Collection


def write(tables: Overlay, feed: Feed) -> None:
    """Numbers rise whatever the clock does, and read as milliseconds where it is right."""
    for practice_id, items in feed.told():
        last, epoch, floor = tables.sync_heads[practice_id]
        seq = max(last + 1, int(time.time() * 1000))
        tables.sync_heads[practice_id] = seq, epoch, floor
        for stream, thing_id in feed.repeated(practice_id):
            if (known := tables.feed.get((practice_id, stream, thing_id))) is not None:
                tables.feed[practice_id, stream, thing_id] = seq, known[1]
        for item in items:
            tables.feed[practice_id, item.stream, item.id] = seq, item
        for contribution_id in feed.contributions(practice_id):
            tables.contributions[practice_id, contribution_id] = seq


class SyncRepository:
    """Pushes, what was quarantined of them, and pulls, inside a unit of work."""

    def __init__(self, tables: Overlay, feed: Feed) -> None:
        self._tables = tables
        self._feed = feed

    def again(self, practice_id: str, keys: Iterable[tuple[Stream, str]]) -> None:
        self._feed.again(practice_id, keys)

    async def pulled(self, practice_id: str, device_id: str, lo: int, hi: int, at: datetime) -> None:
        with self._tables.writing():
            known = self._tables.pulls.get((practice_id, device_id), {})
            kept = {end: pull for end, pull in known.items() if end >= lo}
            self._tables.pulls[practice_id, device_id] = {**kept, hi: (lo, at)}

    async def window(self, practice_id: str, device_id: str, hi: int) -> Window:
        head, _, floor = self._tables.sync_heads[practice_id]
        lo, _ = self._tables.pulls.get((practice_id, device_id), {}).get(hi, (None, None))
        return Window(lo, floor, head)

    async def standing(
        self, practice_id: str, device_id: str, things: Sequence[tuple[Collection, str]], lo: int, hi: int
    ) -> dict[tuple[Collection, str], Standing]:
        found = {}
        for collection, thing_id in things:
            versions = self._tables.versions.get((practice_id, collection, thing_id), ())
            trunk = [
                (version.number, self._tables.contributions.get((practice_id, version.contribution_id)) or 0)
                for version in versions
                if not version.branch
            ]
            if versions:
                before, after = (
                    max((number for number, seq in trunk if seq <= most), default=None) for most in (lo, hi)
                )
                own = versions[0].number == 1 and versions[0].device_id == device_id
                since = min(
                    (
                        version.parent
                        for version in versions
                        if version.parent
                        and version.device_id == device_id
                        and (self._tables.contributions.get((practice_id, version.contribution_id)) or 0) > lo
                    ),
                    default=None,
                )
                found[collection, thing_id] = Standing(before, after, own, since)
        return found

    async def pushed(self, practice_id: str, device_id: str, push_id: str) -> Pushed | None:
        return self._tables.pushes.get((practice_id, device_id, push_id))

    async def keep(self, pushed: Pushed) -> None:
        key = pushed.practice_id, pushed.device_id, pushed.push_id
        with self._tables.writing():
            if self._tables.pushes.get(key) is not None:
                raise ConstraintViolated("pushes: this id is taken")
            self._tables.pushes[key] = pushed

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        with self._tables.writing():
            for item in items:
                copied = decode(as_came(item.operation))
                self._tables.quarantine[item.practice_id, item.id] = replace(item, operation=copied)

    async def quarantined(self, practice_id: str, after: str | None, limit: int) -> Sequence[Quarantined]:
        found = [
            item
            for item in self._tables.quarantine.values()
            if item.practice_id == practice_id and item.closed_at is None and (after is None or item.id < after)
        ]
        return sorted(found, key=lambda item: item.id, reverse=True)[:limit]

    async def lock_quarantined(self, practice_id: str, item_id: str) -> Quarantined | None:
        return self._tables.quarantine.get((practice_id, item_id))

    async def close(self, item: Quarantined) -> None:
        key = item.practice_id, item.id
        with self._tables.writing():
            if (known := self._tables.quarantine.get(key)) is not None:
                self._tables.quarantine[key] = replace(known, closed_at=item.closed_at)


class FeedReads:
    """Plain reads of what is committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    @asynccontextmanager
    async def still(self) -> AsyncIterator[ports.FeedReads]:
        kept = Tables(feed=dict(self._tables.feed), sync_heads=dict(self._tables.sync_heads))
        yield FeedReads(kept)

    async def rows(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        return await self.page(practice_id, streams, after, until, limit)

    async def skipped(self, practice_id: str, streams: Sequence[str], skip: int, limit: int) -> Page:
        places = sorted(self._places(practice_id, streams), key=lambda found: (found[0].rank, found[0].id))
        return self._page(practice_id, places[skip:], None, limit)

    async def page(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        most = self._tables.sync_heads[practice_id][0] if until is None else until
        places = sorted(self._places(practice_id, streams), key=lambda found: _order(found[0]))
        found = [(place, item) for place, item in places if _order(after) < _order(place) and place.seq <= most]
        return self._page(practice_id, found, until, limit)

    def _places(self, practice_id: str, streams: Sequence[str]) -> Iterator[tuple[Place, Item]]:
        return (
            (Place(told[0], told[1].stream.rank, told[1].id), told[1])
            for (practice, stream, _), told in self._tables.feed.items()
            if practice == practice_id and stream in streams and told is not None
        )

    def _page(self, practice_id: str, found: Sequence[tuple[Place, Item]], until: int | None, limit: int) -> Page:
        head, epoch, floor = self._tables.sync_heads[practice_id]
        shown = found[:limit]
        return Page(
            epoch,
            head,
            head if until is None else until,
            [item.wire for _, item in shown],
            len(shown),
            shown[-1][0] if len(found) > limit else None,
            tuple(dict.fromkeys(item.patient_id for _, item in shown)),
            tuple(
                b",".join(watermelon.row_of(item) for _, item in shown if item.stream is stream) for stream in Stream
            ),
            floor,
        )


def _order(place: Place) -> tuple[int, int, str]:
    return place.seq, place.rank, place.id


if TYPE_CHECKING:
    _: type[ports.FeedReads] = FeedReads
    __: type[ports.SyncRepository] = SyncRepository
