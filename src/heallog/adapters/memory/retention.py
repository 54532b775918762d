"""What of sync is dropped when nobody can ask for it any more, and the new epoch after a restore; in memory."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from heallog.adapters.memory.store import InPractice, Overlay, Thing
from heallog.application.ports.retention import Keep

_Numbered = tuple[int, Thing]
_Timed = tuple[datetime, Thing]


class RetentionRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def overdue(self, keep: Keep) -> Sequence[str]:
        return [practice_id for practice_id in sorted(self._tables.sync_heads) if _some(*self._old(practice_id, keep))]

    async def drop(self, practice_id: str, keep: Keep, most: int) -> int:
        tables = self._tables
        head, epoch, floor = tables.sync_heads[practice_id]
        tombstones, numbers, pulls, pushes = self._old(practice_id, keep)
        tombstones, numbers, pulls, pushes = tombstones[:most], numbers[:most], pulls[:most], pushes[:most]
        with tables.writing():
            floor = max([floor, *(place for place, _ in tombstones), *(place for place, _ in numbers)])
            tables.sync_heads[practice_id] = head, epoch, floor
            tables.feed.update(dict.fromkeys(key for _, key in tombstones))
            tables.contributions.update(dict.fromkeys(key for _, key in numbers))
            tables.pushes.update(dict.fromkeys(key for _, key in pushes))
            for end, device in pulls:
                known = tables.pulls[device]
                tables.pulls[device] = {hi: pull for hi, pull in known.items() if hi != end}
        return len(tombstones) + len(numbers) + len(pulls) + len(pushes)

    async def renew(self, leap: int) -> Sequence[str]:
        with self._tables.writing():
            for practice_id, (head, _, _) in dict(self._tables.sync_heads).items():
                above = max(head, int(time.time() * 1000)) + leap
                self._tables.sync_heads[practice_id] = above, str(uuid4()), above
        return sorted(self._tables.sync_heads)

    def _old(
        self, practice_id: str, keep: Keep
    ) -> tuple[list[_Numbered], list[tuple[int, InPractice]], list[tuple[int, InPractice]], list[_Timed]]:
        """Tombstones, numbers of contributions, pulls and answers that may go, by their places, the oldest first."""
        tables, since = self._tables, keep.tombstones
        head, _, floor = tables.sync_heads[practice_id]
        devices = [
            (device.position, device.seen_at)
            for device in tables.sync_devices.values()
            if device.practice_id == practice_id and device.position is not None
        ]
        pulled = [
            (hi, lo, at, key)
            for key, pulls in tables.pulls.items()
            if key[0] == practice_id
            for hi, (lo, at) in pulls.items()
        ]
        held = [place for place, at in (*devices, *((lo, at) for _, lo, at, _ in pulled)) if at >= since]
        edge = min([head, int(since.timestamp() * 1000), *(place for place in held if place > 1 and place >= floor)])
        tombstones = [
            (told[0], key)
            for key, told in tables.feed.items()
            if key[0] == practice_id and told is not None and told[1].deleted and told[0] <= edge
        ]
        numbers = [
            (seq, key)
            for key, seq in tables.contributions.items()
            if key[0] == practice_id and seq is not None and seq <= edge
        ]
        pulls = [(hi, key) for hi, _, at, key in pulled if hi < floor and at < since]
        pushes = [
            (push.at, key)
            for key, push in tables.pushes.items()
            if key[0] == practice_id and push is not None and push.at < keep.answers
        ]
        return sorted(tombstones), sorted(numbers), sorted(pulls), sorted(pushes)


def _some(*lists: Sequence[object]) -> bool:
    return any(lists)


if TYPE_CHECKING:
    from heallog.application.ports import retention as ports

    _: type[ports.RetentionRepository] = RetentionRepository
