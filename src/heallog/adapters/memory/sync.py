"""The change feed in memory."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import ConstraintViolated, Overlay, Tables
from heallog.application.ports.sync import Page
from heallog.domain.fields import canonical, decode
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Feed, Place


def write(tables: Overlay, feed: Feed) -> None:
    """Numbers rise whatever the clock does, and read as milliseconds where it is right."""
    for practice_id, items in feed.told():
        last, epoch = tables.sync_heads[practice_id]
        seq = max(last + 1, int(time.time() * 1000))
        tables.sync_heads[practice_id] = seq, epoch
        for item in items:
            tables.feed[practice_id, item.stream, item.id] = seq, item


class SyncRepository:
    """Pushes and what was quarantined of them, inside a unit of work."""

    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def pushed(self, practice_id: str, device_id: str, push_id: str) -> Pushed | None:
        return self._tables.pushes.get((practice_id, device_id, push_id))

    async def keep(self, pushed: Pushed) -> None:
        key = pushed.practice_id, pushed.device_id, pushed.push_id
        with self._tables.writing():
            if key in self._tables.pushes:
                raise ConstraintViolated("pushes: this id is taken")
            self._tables.pushes[key] = pushed

    async def quarantine(self, items: Sequence[Quarantined]) -> None:
        with self._tables.writing():
            for item in items:
                copied = decode(canonical(item.operation))
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

    async def page(self, practice_id: str, streams: Sequence[str], after: Place, until: int | None, limit: int) -> Page:
        head, epoch = self._tables.sync_heads[practice_id]
        until = head if until is None else until
        places = sorted(
            (
                (Place(seq, item.stream.rank, item.id), item)
                for (practice, _, _), (seq, item) in self._tables.feed.items()
                if practice == practice_id and item.stream in streams
            ),
            key=lambda found: _order(found[0]),
        )
        found = [(place, item) for place, item in places if _order(after) < _order(place) and place.seq <= until]
        shown = found[:limit]
        return Page(
            epoch,
            head,
            until,
            b",".join(item.wire for _, item in shown),
            len(shown),
            shown[-1][0] if shown else None,
            len(found) > limit,
            tuple(dict.fromkeys(item.patient_id for _, item in shown)),
        )


def _order(place: Place) -> tuple[int, int, str]:
    return place.seq, place.rank, place.id


if TYPE_CHECKING:
    from heallog.application.ports import sync as ports

    _: type[ports.FeedReads] = FeedReads
