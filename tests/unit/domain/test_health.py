"""What is told of how sync fares, and that none of it says anything about a patient."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from heallog.domain import health
from heallog.domain.errors import InvalidCursor
from heallog.domain.health import (
    Door,
    Mode,
    Outcome,
    Place,
    SyncEvent,
    disputed,
    measured,
    outcome_of,
    reading,
    readings,
    seen,
)

MONDAY = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PULL = SyncEvent(
    "northside", "e-1", MONDAY, "alice", "tablet", Door.NATIVE, Mode.PULL, Outcome.OK, None, duration_ms=30.0, bytes=7
)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (304, "ok"), (400, "refused"), (410, "refused"), (500, "failed"), (503, "failed"), (None, "failed")],
)
def test_an_outcome_is_whose_fault_it_was(status: int | None, outcome: str) -> None:
    assert outcome_of(status) == outcome


def test_a_dispute_is_told_by_the_declared_field_without_what_somebody_wrote() -> None:
    assert disputed("values.hiv viral load", "manual") == ("values", "manual")
    assert disputed("dose", "atomic_group") == ("dose", "atomic_group")


@pytest.mark.parametrize(
    ("value", "bound"), [(0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (60, "60"), (61, "+Inf")]
)
def test_what_is_measured_falls_into_one_bucket_and_into_the_sum(value: float, bound: str) -> None:
    assert dict(measured(health.DURATION, value, "native", "pull", "ok")) == {
        ("heallog_sync_duration_seconds", ("native", "pull", "ok", bound)): 1,
        ("heallog_sync_duration_seconds_sum", ("native", "pull", "ok")): value,
    }


def test_an_event_adds_what_it_has_and_nothing_else() -> None:
    which = ("native", "pull", "ok")
    assert dict(readings(PULL)) == {
        ("heallog_sync_requests", which): 1,
        ("heallog_sync_duration_seconds", (*which, "0.05")): 1,
        ("heallog_sync_duration_seconds_sum", which): 0.03,
        ("heallog_sync_bytes", ("native", "pull")): 7,
    }


def test_a_push_adds_conflicts_by_field_and_policy_and_how_far_its_clock_is_ahead() -> None:
    push = replace(
        PULL,
        mode=Mode.PUSH,
        outcome=Outcome.REFUSED,
        code="PUSH_CONFLICT",
        bytes=0,
        conflicts=2,
        retries=1,
        skew_ms=20_000,
        disputes=("dose:atomic_group", "notes:text"),
    )
    added = dict(readings(push))
    assert added["heallog_sync_failures", ("native", "PUSH_CONFLICT")] == 1
    assert added["heallog_sync_conflicts", ("native",)] == 2
    assert not any(name == "heallog_retries" for name, _ in added)  # counted as it happens, with all other work
    assert added["heallog_sync_disputes", ("dose", "atomic_group")] == 1
    assert added["heallog_sync_disputes", ("notes", "text")] == 1
    assert added["heallog_sync_clock_skew_seconds", ("30",)] == 1
    # Work of last week, pushed now, is no slow clock; and a sum of a histogram never falls.
    behind = dict(readings(replace(push, skew_ms=-604_800_000)))
    assert behind["heallog_sync_clock_skew_seconds", ("1",)] == 1
    assert behind["heallog_sync_clock_skew_seconds_sum", ()] == 0


def test_everything_that_an_event_adds_is_declared() -> None:
    push = replace(
        PULL, code="X", records=1, conflicts=1, merges=1, quarantined=1, retries=1, skew_ms=1, disputes=("a:b",)
    )
    for (name, labels), _ in readings(push):
        metric = health.METRICS[name.removesuffix(health.SUM)]
        bucket = bool(metric.buckets) and not name.endswith(health.SUM)
        assert len(labels) == len(metric.labels) + bucket


def test_no_metric_is_told_by_practice_account_device_or_patient() -> None:
    labels = {label for metric in health.METRICS.values() for label in metric.labels}
    assert labels == {"door", "mode", "outcome", "code", "field", "policy", "work"}


def test_labels_are_told_in_their_order() -> None:
    assert reading("heallog_sync_failures", {"code": "INTERNAL", "door": "native"}) == (
        "heallog_sync_failures",
        ("native", "INTERNAL"),
    )


def test_devices_are_where_their_latest_event_left_them() -> None:
    events = [
        replace(PULL, at=MONDAY + timedelta(minutes=2), reached=9, position=7),
        replace(PULL, at=MONDAY, position=1, reached=2, account_id="bruno"),
        replace(PULL, at=MONDAY + timedelta(minutes=3), mode=Mode.PUSH, outcome=Outcome.FAILED),
        replace(PULL, device_id="phone"),
    ]
    phone, tablet = seen(events)
    assert (phone.device_id, phone.position, phone.reached) == ("phone", None, None)
    assert (tablet.account_id, tablet.position, tablet.reached, tablet.outcome) == ("alice", 7, 9, Outcome.FAILED)


@pytest.mark.parametrize("text", ["", "1", "1.", ".a", "-1.a", "1e3.a", "999999999999999.a"])
def test_a_place_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Place.read(text)


def test_a_place_is_the_events_own() -> None:
    event = replace(PULL, at=MONDAY + timedelta(milliseconds=333))
    assert Place.read(Place.of(event).text) == Place.of(event) == Place(1_772_438_400_333, "e-1")
