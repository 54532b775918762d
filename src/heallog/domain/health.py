"""How sync fares: what every pull and push came to, where devices are, and what is counted of all of it.

Nothing in here is clinical, and nothing names a patient: fields are told by name, never by value or by entry.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from heallog.domain.errors import InvalidCursor

LATEST_DEVICES = 500
"""Devices that statistics show, those that were seen last."""

LONGEST_WINDOW = 24 * 90
"""Hours that statistics may go back."""


class Door(StrEnum):
    """Which protocol a device speaks."""

    NATIVE = "native"
    WATERMELON = "watermelon"


class Mode(StrEnum):
    """`batched_pull`: a page of a pull of several, or an answer in several parts."""

    PULL = "pull"
    BATCHED_PULL = "batched_pull"
    PUSH = "push"


class Outcome(StrEnum):
    """`refused`: it was the caller's to put right. `failed`: ours, or the answer never got to its end."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


ABORTED = "ABORTED"
"""The code of an answer that never got to its end: the device hung up, or we did."""


@dataclass(slots=True)
class Tally:
    """What a pull or push comes to, written down as it goes.

    `position` is the `seq` up to which the device has confirmed to have everything, where it said so anew; `reached`
    the one up to which it was sent it. `disputes` are the fields and policies of what came into conflict.
    `skew_ms` is how far the newest edit's client time is ahead of our clock.
    """

    records: int = 0
    conflicts: int = 0
    merges: int = 0
    quarantined: int = 0
    retries: int = 0
    batched: bool = False
    position: int | None = None
    reached: int | None = None
    skew_ms: int | None = None
    disputes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """One pull or push, whatever became of it. `bytes` were sent by a pull, received by a push."""

    practice_id: str
    id: str
    at: datetime
    account_id: str
    device_id: str
    door: Door
    mode: Mode
    outcome: Outcome
    code: str | None
    duration_ms: float
    bytes: int
    records: int = 0
    conflicts: int = 0
    merges: int = 0
    quarantined: int = 0
    retries: int = 0
    reached: int | None = None
    position: int | None = None
    skew_ms: int | None = None
    disputes: tuple[str, ...] = ()
    """`field:policy` of each."""
    member: bool = True
    """Not where a former member handed something in: whatever that device has, nobody waits for it. It is not kept."""


def outcome_of(status: int | None) -> Outcome:
    """By the HTTP status of an answer that got to its end; None for one that did not."""
    if status is None or status >= 500:
        return Outcome.FAILED
    return Outcome.OK if status < 400 else Outcome.REFUSED


def disputed(path: str, policy: str) -> tuple[str, str]:
    """A dispute as it is counted: the declared field, without the entry, whose name somebody wrote."""
    return path.partition(".")[0], policy


# -- devices ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """Where a device is. Everything up to `position` it has for sure: it said so. None: it never pulled.

    `reached` is what it was sent last, `behind_ms` how far that is behind the practice's head; `seq` reads as
    milliseconds. `seen_at` is its latest pull or push, `outcome` what became of that.
    """

    practice_id: str
    device_id: str
    account_id: str
    position: int | None
    seen_at: datetime
    reached: int | None
    outcome: Outcome
    behind_ms: int | None = None


def seen(events: Iterable[SyncEvent]) -> list[Device]:
    """The devices of events, by practice and id, each as its latest event left it."""
    found: dict[tuple[str, str], Device] = {}
    for event in events:
        if not event.member:
            continue
        key = event.practice_id, event.device_id
        before = found.get(key)
        if before is not None and before.seen_at > event.at:
            continue
        found[key] = Device(
            *key,
            event.account_id,
            event.position if event.position is not None or before is None else before.position,
            event.at,
            event.reached if event.reached is not None or before is None else before.reached,
            event.outcome,
        )
    return [found[key] for key in sorted(found)]


# -- lists and statistics -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events are asked for."""

    device_id: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a list of events, which goes by time and id."""

    at_ms: int
    id: str

    @classmethod
    def of(cls, event: SyncEvent) -> "Place":
        return cls(round(event.at.timestamp() * 1000), event.id)

    @classmethod
    def read(cls, text: str) -> "Place":
        """Raises `InvalidCursor`."""
        number, _, event_id = text.partition(".")
        if not (number.isascii() and number.isdigit() and len(number) < 15 and event_id):
            raise InvalidCursor("this is no cursor of ours; begin without one")
        return cls(int(number), event_id)

    @property
    def text(self) -> str:
        return f"{self.at_ms}.{self.id}"


@dataclass(frozen=True, slots=True)
class Count:
    """Events of one mode, outcome and code, added up. `skew_ms` is the largest."""

    mode: Mode
    outcome: Outcome
    code: str | None
    events: int
    bytes: int
    records: int
    conflicts: int
    merges: int
    quarantined: int
    retries: int
    skew_ms: int | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is in quarantine, and since when the oldest of it is."""

    count: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How a practice's devices fare. `disputes` are `field:policy` with how many there were."""

    since: datetime
    devices: Sequence[Device]
    counts: Sequence[Count]
    disputes: Sequence[tuple[str, int]]
    waiting: Waiting


# -- meters -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is counted; with `buckets`, how large it was each time (a histogram)."""

    name: str
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_WHICH = ("door", "mode", "outcome")
REQUESTS = Metric("heallog_sync_requests", "Pulls and pushes.", _WHICH)
DURATION = Metric(
    "heallog_sync_duration_seconds",
    "How long a pull or push took, to the last byte of its answer.",
    _WHICH,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
FAILURES = Metric("heallog_sync_failures", "Pulls and pushes that were refused or failed, by code.", ("door", "code"))
RECORDS = Metric("heallog_sync_records", "Things that were pulled, operations that were pushed.", ("door", "mode"))
BYTES = Metric("heallog_sync_bytes", "Bytes of answers to pulls, and of pushes.", ("door", "mode"))
CONFLICTS = Metric("heallog_sync_conflicts", "Pushed operations that were held back in a conflict.", ("door",))
MERGES = Metric("heallog_sync_merges", "Pushed operations that were merged.", ("door",))
QUARANTINED = Metric("heallog_sync_quarantined", "Pushed operations that were quarantined.", ("door",))
DISPUTES = Metric("heallog_sync_disputes", "Fields that pushes brought into conflict.", ("field", "policy"))
SKEW = Metric(
    "heallog_sync_clock_skew_seconds",
    "How far a device's clock was ahead of ours at a push's newest edit; 0 for edits of the past.",
    (),
    (1, 5, 30, 60, 300, 3_600, 86_400, 604_800),
)
RETRIES = Metric("heallog_retries", "Work that was done again after the database had called it off.", ("work",))
LOST = Metric("heallog_sync_events_lost", "Sync events that could not be kept.")

METRICS = {
    metric.name: metric
    for metric in (
        *(REQUESTS, DURATION, FAILURES, RECORDS, BYTES, CONFLICTS),
        *(MERGES, QUARANTINED, DISPUTES, SKEW, RETRIES, LOST),
    )
}
"""Everything that is counted over the whole house. Labels are few and short: no practice, no device, no person."""

SUM, INFINITE = "_sum", "+Inf"

Reading = tuple[str, tuple[str, ...]]
"""A metric's name and the values of its labels in their order; of a histogram's bucket its bound comes last."""


def reading(name: str, labels: dict[str, str]) -> Reading:
    """Raises `ValueError` for a metric, or labels, that are not declared."""
    metric = METRICS.get(name)
    if metric is None or metric.buckets or labels.keys() != set(metric.labels):
        raise ValueError(f"{name} with {sorted(labels)} is not declared in METRICS")
    return name, tuple(str(labels[label]) for label in metric.labels)


def measured(metric: Metric, value: float, *labels: str) -> Iterator[tuple[Reading, float]]:
    """One observation of a histogram: its bucket, and what it adds to the sum."""
    bound = next((f"{bound:g}" for bound in metric.buckets if value <= bound), INFINITE)
    yield (metric.name, (*labels, bound)), 1
    yield (metric.name + SUM, labels), value


def readings(event: SyncEvent) -> Iterator[tuple[Reading, float]]:
    """What an event adds to the meters."""
    door, which = event.door, (event.door, event.mode, event.outcome)
    yield (REQUESTS.name, which), 1
    yield from measured(DURATION, event.duration_ms / 1000, *which)
    if event.code is not None:
        yield (FAILURES.name, (door, event.code)), 1
    amounts: tuple[tuple[Metric, tuple[str, ...], int], ...] = (
        (RECORDS, (door, event.mode), event.records),
        (BYTES, (door, event.mode), event.bytes),
        (CONFLICTS, (door,), event.conflicts),
        (MERGES, (door,), event.merges),
        (QUARANTINED, (door,), event.quarantined),
    )
    for metric, labels, amount in amounts:
        if amount:
            yield (metric.name, labels), amount
    for dispute in event.disputes:
        yield (DISPUTES.name, tuple(dispute.split(":", 1))), 1
    if event.skew_ms is not None:
        yield from measured(SKEW, max(event.skew_ms, 0) / 1000)


LAGS = (1, 60, 300, 3_600, 86_400, 604_800)
"""Seconds by which devices are counted that are behind."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """How things stand in the whole house. `behind` counts devices that lag by at most each of `LAGS`."""

    devices: int
    behind: Sequence[int]
    most_behind_ms: int
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is told to whoever watches over the house, at `at`."""

    at: datetime
    meters: Sequence[tuple[Reading, float]]
    gauges: Gauges
