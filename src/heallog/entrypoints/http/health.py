"""Whether this process lives, whether it can work, and how the sync of a practice's devices fares."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from heallog.application.sync.health import Health
from heallog.domain.canon import moment
from heallog.domain.errors import FieldError, InvalidFields, Unavailable
from heallog.domain.health import (
    LONGEST_WINDOW,
    Chosen,
    Count,
    Device,
    Door,
    Mode,
    Outcome,
    Place,
    Stats,
    SyncEvent,
)
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import Limit
from heallog.entrypoints.http.limits import Rate
from heallog.entrypoints.http.openapi import describes

Ready = Callable[[], Awaitable[bool]]

_STATUS: dict[str, Any] = {"type": "object", "properties": {"status": {"type": "string"}}}


@get(
    "/health/live",
    operation_id="live",
    summary="Is the process alive",
    tags=["health"],
    public=True,
    rate=Rate.NONE,
    sync_to_thread=False,
    **describes(answer=_STATUS),
)
def live() -> dict[str, str]:
    return {"status": "live"}


@get(
    "/health/ready",
    operation_id="ready",
    summary="Can it work: is the database there",
    tags=["health"],
    public=True,
    rate=Rate.NONE,
    **describes(answer=_STATUS),
)
async def ready(is_ready: NamedDependency[Ready]) -> dict[str, str]:
    if not await is_ready():
        raise Unavailable("the database does not answer")
    return {"status": "ready"}


_TEXT: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_COUNT: dict[str, Any] = {"type": "integer"}
_MAYBE: dict[str, Any] = {"type": ["integer", "null"]}
_TOTALS = ("records", "conflicts", "merges", "quarantined", "retries", "bytes")
_DISPUTE = {"field": _TEXT, "policy": _TEXT}
_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "at": _TIME,
        "account_id": _TEXT,
        "device_id": _TEXT,
        "door": {"type": "string", "enum": list(Door)},
        "mode": {"type": "string", "enum": list(Mode)},
        "outcome": {"type": "string", "enum": list(Outcome)},
        "code": {"type": ["string", "null"], "description": "Of a refusal or failure."},
        "duration_ms": {"type": "number"},
        "bytes": {"type": "integer", "description": "Sent by a pull, received by a push."},
        "records": {"type": "integer", "description": "Things pulled, operations pushed."},
        **dict.fromkeys(("conflicts", "merges", "quarantined", "retries"), _COUNT),
        "disputes": {"type": "array", "items": {"type": "object", "properties": _DISPUTE}},
        "reached": {**_MAYBE, "description": "What a pull brought the device up to, as a `head`."},
        "clock_skew_ms": {
            **_MAYBE,
            "description": "Newest client time of a push less our time. Below 0 it may be work without a network.",
        },
    },
}
_DEVICE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "device_id": _TEXT,
        "account_id": _TEXT,
        "seen_at": _TIME,
        "outcome": {"type": "string", "enum": list(Outcome)},
        "lag_ms": {**_MAYBE, "description": "How far it is behind the practice's head; null: it never pulled."},
    },
}
_WAITING = {"waiting": _COUNT, "oldest_at": {"type": ["string", "null"], "format": "date-time"}}
_FAILURE = {"mode": {"type": "string", "enum": list(Mode)}, "outcome": _TEXT, "code": _TEXT, "count": _COUNT}
_STATS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "since": _TIME,
        "devices": {"type": "array", "items": _DEVICE},
        "pulls": _COUNT,
        "pushes": _COUNT,
        **dict.fromkeys(_TOTALS, _COUNT),
        "failures": {"type": "array", "items": {"type": "object", "properties": _FAILURE}},
        "disputes": {"type": "array", "items": {"type": "object", "properties": {**_DISPUTE, "count": _COUNT}}},
        "quarantine": {"type": "object", "properties": _WAITING},
        "clock_skew_ms": _MAYBE,
    },
}


@get(
    "/v1/sync/stats",
    operation_id="syncStats",
    summary="How the practice's devices fare",
    tags=["sync"],
    **describes(answer=_STATS),
)
async def sync_stats(
    request: ApiRequest,
    health: NamedDependency[Health],
    hours: Annotated[int, QueryParameter(ge=1, le=LONGEST_WINDOW, description="How far back the sums go.")] = 24,
) -> dict[str, Any]:
    """Devices as they are now, those that were seen last; sums over the last hours. No clinical value is in it."""
    return _stats(await health.stats(request.user, hours))


def _stats(stats: Stats) -> dict[str, Any]:
    counts = stats.counts
    skews = [count.skew_ms for count in counts if count.skew_ms is not None]
    oldest = stats.waiting.oldest_at
    return {
        "since": moment(stats.since),
        "devices": [_device(device) for device in stats.devices],
        "pulls": sum(count.events for count in counts if count.mode is not Mode.PUSH),
        "pushes": sum(count.events for count in counts if count.mode is Mode.PUSH),
        **{name: sum(getattr(count, name) for count in counts) for name in _TOTALS},
        "failures": [_failure(count) for count in counts if count.outcome is not Outcome.OK],
        "disputes": [{**_dispute(dispute), "count": count} for dispute, count in stats.disputes],
        "quarantine": {"waiting": stats.waiting.count, "oldest_at": None if oldest is None else moment(oldest)},
        "clock_skew_ms": max(skews, default=None),
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "device_id": device.device_id,
        "account_id": device.account_id,
        "seen_at": moment(device.seen_at),
        "outcome": device.outcome,
        "lag_ms": device.behind_ms,
    }


def _failure(count: Count) -> dict[str, Any]:
    return {"mode": count.mode, "outcome": count.outcome, "code": count.code, "count": count.events}


def _dispute(dispute: str) -> dict[str, str]:
    field, _, policy = dispute.partition(":")
    return {"field": field, "policy": policy}


@get(
    "/v1/sync/events",
    operation_id="listSyncEvents",
    summary="The practice's pulls and pushes",
    tags=["sync"],
    **describes(answer=wire.listed(_EVENT), codes=("INVALID_CURSOR",)),
)
async def list_sync_events(
    request: ApiRequest,
    health: NamedDependency[Health],
    device_id: Annotated[str | None, QueryParameter(max_length=64, pattern=r"^[A-Za-z0-9.-]{1,64}(?!\n)$")] = None,
    outcome: Annotated[str | None, QueryParameter(max_length=40, description="What became of them.")] = None,
    limit: Limit = 50,
    cursor: Annotated[
        str | None,
        QueryParameter(pattern=r"^[A-Za-z0-9.-]{1,100}(?!\n)$", description="`next_cursor` of the page before."),
    ] = None,
) -> dict[str, Any]:
    """Newest first, also those that were refused or failed. The latest may be a second late."""
    if outcome is not None and outcome not in tuple(Outcome):
        raise InvalidFields([FieldError("outcome", "choice", f"must be one of {', '.join(Outcome)}")])
    after = None if cursor is None else Place.read(cursor)
    chosen = Chosen(device_id, None if outcome is None else Outcome(outcome))
    found = await health.events(request.user, chosen, after, limit + 1)
    shown = found[:limit]
    return {
        "items": [_event(event) for event in shown],
        "next_cursor": Place.of(shown[-1]).text if len(found) > limit else None,
    }


def _event(event: SyncEvent) -> dict[str, Any]:
    same = ("account_id", "device_id", "door", "mode", "outcome", "code", "duration_ms", "reached", *_TOTALS)
    return {
        "id": event.id,
        "at": moment(event.at),
        **{name: getattr(event, name) for name in same},
        "disputes": [_dispute(dispute) for dispute in event.disputes],
        "clock_skew_ms": event.skew_ms,
    }


HANDLERS = [live, ready, sync_stats, list_sync_events]
