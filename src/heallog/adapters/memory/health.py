"""How sync fares, in memory."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import Tables
from heallog.domain.health import (
    LAGS,
    Chosen,
    Count,
    Device,
    Gauges,
    Mode,
    Outcome,
    Place,
    Reading,
    SyncEvent,
    Waiting,
    reading,
    readings,
    seen,
)
from heallog.domain.pushes import Quarantined

_ADDED = ("bytes", "records", "conflicts", "merges", "quarantined", "retries")


class HealthLog:
    """Writes at once: there is nobody to wait for."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def record(self, event: SyncEvent) -> None:
        self._tables.sync_events[event.practice_id, event.id] = replace(event, position=None, member=True)
        for device in seen([event]):
            key = device.practice_id, device.device_id
            before = self._tables.sync_devices.get(key)
            if before is None:
                self._tables.sync_devices[key] = device
            elif device.seen_at >= before.seen_at:
                self._tables.sync_devices[key] = replace(
                    device,
                    position=before.position if device.position is None else device.position,
                    reached=before.reached if device.reached is None else device.reached,
                )
        for read, amount in readings(event):
            self._count(read, amount)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        self._count(reading(name, labels), amount)

    def _count(self, key: Reading, amount: float) -> None:
        self._tables.sync_meters[key] = self._tables.sync_meters.get(key, 0) + amount

    async def flush(self) -> None:
        return None

    async def forget(self, before: datetime, most: int) -> int:
        old = [key for key, event in self._tables.sync_events.items() if event.at < before][:most]
        for key in old:
            del self._tables.sync_events[key]
        return len(old)


class HealthReads:
    """Plain reads of what is kept."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def positions(self, practice_id: str) -> Sequence[Device]:
        head = self._tables.sync_heads[practice_id][0]
        found = [
            replace(device, behind_ms=None if device.reached is None else max(head - device.reached, 0))
            for device in self._tables.sync_devices.values()
            if device.practice_id == practice_id
        ]
        return sorted(sorted(found, key=lambda one: one.device_id), key=lambda one: one.seen_at, reverse=True)

    async def events(self, practice_id: str, chosen: Chosen, after: Place | None, limit: int) -> Sequence[SyncEvent]:
        found = [
            event
            for event in self._tables.sync_events.values()
            if event.practice_id == practice_id
            and chosen.device_id in (None, event.device_id)
            and chosen.outcome in (None, event.outcome)
            and (after is None or _order(Place.of(event)) < _order(after))
        ]
        return sorted(found, key=lambda event: _order(Place.of(event)), reverse=True)[:limit]

    async def counts(self, practice_id: str, since: datetime) -> Sequence[Count]:
        groups: dict[tuple[Mode, Outcome, str | None], list[SyncEvent]] = defaultdict(list)
        for event in self._since(practice_id, since):
            groups[event.mode, event.outcome, event.code].append(event)
        return [
            Count(
                *kind,
                events=len(events),
                **{name: sum(getattr(event, name) for event in events) for name in _ADDED},
                skew_ms=max((event.skew_ms for event in events if event.skew_ms is not None), default=None),
            )
            for kind, events in sorted(groups.items(), key=lambda group: (group[0][:2], group[0][2] or "~"))
        ]

    async def disputes(self, practice_id: str, since: datetime) -> Sequence[tuple[str, int]]:
        counted = Counter(dispute for event in self._since(practice_id, since) for dispute in event.disputes)
        return sorted(counted.items(), key=lambda found: (-found[1], found[0]))

    async def waiting(self, practice_id: str) -> Waiting:
        return _waiting([item for item in self._tables.quarantine.values() if item.practice_id == practice_id])

    async def meters(self) -> Sequence[tuple[Reading, float]]:
        return sorted(self._tables.sync_meters.items())

    async def gauges(self, since: datetime) -> Gauges:
        behind = [
            max(self._tables.sync_heads[device.practice_id][0] - (device.reached or 0), 0)
            for device in self._tables.sync_devices.values()
            if device.seen_at >= since
        ]
        within = tuple(sum(one <= lag * 1000 for one in behind) for lag in LAGS)
        return Gauges(len(behind), within, max(behind, default=0), _waiting(list(self._tables.quarantine.values())))

    def _since(self, practice_id: str, since: datetime) -> list[SyncEvent]:
        events = self._tables.sync_events.values()
        return [event for event in events if event.practice_id == practice_id and event.at >= since]


def _waiting(items: Sequence[Quarantined]) -> Waiting:
    at = [item.at for item in items if item.closed_at is None]
    return Waiting(len(at), min(at, default=None))


def _order(place: Place) -> tuple[int, str]:
    return place.at_ms, place.id


if TYPE_CHECKING:
    from heallog.application.ports import health as ports

    _: type[ports.HealthLog] = HealthLog
    __: type[ports.HealthReads] = HealthReads
