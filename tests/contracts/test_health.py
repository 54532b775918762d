"""What every place promises where it is kept how sync fares."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from heallog.domain.health import (
    DISPUTES,
    REQUESTS,
    RETRIES,
    Chosen,
    Door,
    Mode,
    Outcome,
    Place,
    SyncEvent,
    Waiting,
)
from heallog.domain.pushes import Quarantined
from heallog.domain.sync import Place as Start

from .clinic import MINUTE, MONDAY, Clinic

EVERY = Chosen()


def event(clinic: Clinic, device: str = "tablet", after: timedelta = timedelta(), **more: Any) -> SyncEvent:
    """A pull that went well, on Monday."""
    known = {
        "account_id": clinic.dr_okafor.account_id,
        "door": Door.NATIVE,
        "mode": Mode.PULL,
        "outcome": Outcome.OK,
        "code": None,
        "duration_ms": 1.5,
        "bytes": 700,
    }
    return SyncEvent(clinic.id, str(uuid4()), MONDAY + after, device_id=device, **known | more)


async def happened(clinic: Clinic, *events: SyncEvent) -> None:
    for one in events:
        clinic.backend.health_log.record(one)
    await clinic.backend.health_log.flush()


async def test_events_come_back_as_they_were_newest_first(clinic: Clinic, elsewhere: Clinic) -> None:
    whole = event(
        clinic,
        mode=Mode.PUSH,
        outcome=Outcome.REFUSED,
        code="PUSH_CONFLICT",
        records=5,
        conflicts=4,
        merges=3,
        quarantined=2,
        retries=1,
        reached=1_772_438_400_000,
        skew_ms=-86_400_000,
        disputes=("dose:atomic_group", "title:manual"),
    )
    later = event(clinic, after=MINUTE, door=Door.WATERMELON, mode=Mode.BATCHED_PULL)
    await happened(clinic, later, whole, event(elsewhere))
    assert await clinic.backend.health.events(clinic.id, EVERY, None, 10) == [later, whole]


async def test_events_are_paged_without_losing_those_of_the_same_moment(clinic: Clinic) -> None:
    made = [event(clinic, after=MINUTE * (number // 3)) for number in range(9)]
    await happened(clinic, *made)
    found: list[SyncEvent] = []
    after = None
    while page := await clinic.backend.health.events(clinic.id, EVERY, after, 2):
        found += page
        after = Place.read(Place.of(page[-1]).text)
    assert found == sorted(made, key=lambda one: (one.at, one.id), reverse=True)


async def test_events_are_chosen_by_device_and_outcome(clinic: Clinic) -> None:
    tablet, phone = event(clinic), event(clinic, "phone", outcome=Outcome.FAILED, code="UNAVAILABLE")
    await happened(clinic, tablet, phone)
    for chosen, wanted in (
        (Chosen("tablet"), [tablet]),
        (Chosen(outcome=Outcome.FAILED), [phone]),
        (Chosen("tablet", Outcome.FAILED), []),
    ):
        assert await clinic.backend.health.events(clinic.id, chosen, None, 10) == wanted


async def test_counts_add_up_a_window_by_mode_outcome_and_code(clinic: Clinic, elsewhere: Clinic) -> None:
    await happened(
        clinic,
        event(clinic, after=-MINUTE, records=100),
        event(clinic, records=2, bytes=10),
        event(clinic, records=3, bytes=20),
        event(clinic, mode=Mode.PUSH, skew_ms=-5, disputes=("dose:manual", "title:lww"), merges=1),
        event(clinic, mode=Mode.PUSH, skew_ms=9_000, disputes=("title:lww",), conflicts=1, retries=2),
        event(clinic, mode=Mode.PUSH, outcome=Outcome.REFUSED, code="INVALID_FIELDS"),
        event(elsewhere, records=7, disputes=("sex:manual",)),
    )
    reads = clinic.backend.health
    counts = await reads.counts(clinic.id, MONDAY)
    assert [
        (one.mode, one.outcome, one.code, one.events, one.records, one.merges, one.conflicts, one.retries, one.skew_ms)
        for one in counts
    ] == [
        (Mode.PULL, Outcome.OK, None, 2, 5, 0, 0, 0, None),
        (Mode.PUSH, Outcome.OK, None, 2, 0, 1, 1, 2, 9_000),
        (Mode.PUSH, Outcome.REFUSED, "INVALID_FIELDS", 1, 0, 0, 0, 0, None),
    ]
    assert counts[0].bytes == 30
    assert await reads.disputes(clinic.id, MONDAY) == [("title:lww", 2), ("dose:manual", 1)]
    assert await reads.disputes(clinic.id, MONDAY + MINUTE) == []


# -- where devices are --------------------------------------------------------------------------------------------


async def where(clinic: Clinic, device: str = "tablet") -> tuple[int | None, int | None]:
    (found,) = (one for one in await clinic.backend.health.positions(clinic.id) if one.device_id == device)
    return found.position, found.reached


async def test_a_device_stands_where_it_said_last_that_it_stands(clinic: Clinic) -> None:
    await happened(clinic, event(clinic, position=5, reached=9))
    assert await where(clinic) == (5, 9)
    # In the midst of a pull, and in a push, it says nothing.
    await happened(clinic, event(clinic, after=MINUTE, mode=Mode.PUSH))
    assert await where(clinic) == (5, 9)
    # One that was set up anew from an old backup is further back.
    await happened(clinic, event(clinic, after=2 * MINUTE, position=3, reached=12))
    assert await where(clinic) == (3, 12)


async def test_of_one_batch_the_latest_word_counts(clinic: Clinic) -> None:
    await happened(
        clinic,
        event(clinic, after=MINUTE, position=7, reached=9),
        event(clinic, after=2 * MINUTE, outcome=Outcome.FAILED, code="UNAVAILABLE"),
        event(clinic, position=1, reached=2),
    )
    assert await where(clinic) == (7, 9)
    (device,) = await clinic.backend.health.positions(clinic.id)
    assert (device.seen_at, device.outcome) == (MONDAY + 2 * MINUTE, Outcome.FAILED)


async def test_what_another_process_writes_late_moves_no_device_back(clinic: Clinic) -> None:
    await happened(clinic, event(clinic, after=MINUTE, position=7, reached=9))
    await happened(clinic, event(clinic, position=1, reached=2))
    assert await where(clinic) == (7, 9)


async def test_a_device_that_only_pushes_has_no_position(clinic: Clinic) -> None:
    await happened(clinic, event(clinic, mode=Mode.PUSH))
    assert await where(clinic) == (None, None)
    await happened(clinic, event(clinic, after=MINUTE, position=0, reached=4))
    assert await where(clinic) == (0, 4)


async def test_devices_are_the_practices_own_and_lag_behind_its_head(clinic: Clinic, elsewhere: Clinic) -> None:
    await clinic.admit("alice")
    head = (await clinic.backend.feed.page(clinic.id, (), Start(), None, 1)).head
    await happened(
        clinic,
        event(clinic, reached=head),
        event(clinic, "phone", after=MINUTE, reached=head - 5_000),
        event(clinic, "watch", after=2 * MINUTE, reached=head + 1),
        event(clinic, "radio", after=3 * MINUTE, mode=Mode.PUSH),
        event(elsewhere, "theirs", position=1),
    )
    found = await clinic.backend.health.positions(clinic.id)
    assert [(one.device_id, one.behind_ms) for one in found] == [
        ("radio", None),
        ("watch", 0),
        ("phone", 5_000),
        ("tablet", 0),
    ]
    assert {one.account_id for one in found} == {clinic.dr_okafor.account_id}
    assert {one.practice_id for one in found} == {clinic.id}


# -- meters, gauges, and what is over -----------------------------------------------------------------------------


async def readings(clinic: Clinic) -> dict[Any, float]:
    await clinic.backend.health_log.flush()
    return dict(await clinic.backend.health.meters())


async def test_meters_add_up_whoever_counts(clinic: Clinic) -> None:
    """They are of the whole house: only what is added is known."""
    work = f"work-{clinic.id}"
    log = clinic.backend.health_log
    log.add(RETRIES.name, work=work)
    log.add(RETRIES.name, 2, work=work)
    before = await readings(clinic)
    assert before[RETRIES.name, (work,)] == 3
    log.add(RETRIES.name, 4, work=work)
    field = f"field-{clinic.id}"
    await happened(clinic, event(clinic, disputes=(f"{field}:manual",)), event(clinic, disputes=(f"{field}:manual",)))
    after = await readings(clinic)
    assert after[RETRIES.name, (work,)] == 7
    assert after[DISPUTES.name, (field, "manual")] == 2
    which = REQUESTS.name, (Door.NATIVE, Mode.PULL, Outcome.OK)
    assert after[which] - before.get(which, 0) == 2


async def test_what_is_not_declared_is_not_counted(clinic: Clinic) -> None:
    log = clinic.backend.health_log
    for name, labels in (
        ("heallog_anything", {}),
        (RETRIES.name, {}),
        (RETRIES.name, {"work": "push", "practice": clinic.id}),
        ("heallog_sync_duration_seconds", {}),
    ):
        with pytest.raises(ValueError, match="not declared"):
            log.add(name, **labels)


async def test_the_oldest_in_quarantine_is_told(clinic: Clinic, elsewhere: Clinic) -> None:
    reads = clinic.backend.health
    assert await reads.waiting(clinic.id) == Waiting(0, None)
    who = clinic.dr_okafor
    kept = [
        Quarantined(clinic.id, clinic.new_id(), "p-1", who.account_id, "tablet", MONDAY + MINUTE * number, {}, ())
        for number in range(3)
    ]
    before = (await reads.gauges(MONDAY)).waiting.count
    async with clinic.backend.uow() as uow:
        await uow.sync.quarantine(kept)
        await uow.sync.close(replace(kept[0], closed_at=MONDAY))
        await uow.commit()
    assert await reads.waiting(clinic.id) == Waiting(2, MONDAY + MINUTE)
    assert await reads.waiting(elsewhere.id) == Waiting(0, None)
    assert (await reads.gauges(MONDAY)).waiting.count == before + 2


async def test_gauges_count_devices_by_how_far_they_are_behind(clinic: Clinic) -> None:
    """Of the whole house: seen on a day on which nobody else was."""
    await clinic.admit("alice")
    head = (await clinic.backend.feed.page(clinic.id, (), Start(), None, 1)).head
    far = timedelta(days=3_000 + int(uuid4()) % 30_000)
    await happened(
        clinic,
        event(clinic, "one", far, reached=head),
        event(clinic, "two", far, reached=head - 30_000),
        event(clinic, "three", far, reached=head - 7_200_000),
        event(clinic, "four", far - 2 * MINUTE, reached=head),
    )
    gauges = await clinic.backend.health.gauges(MONDAY + far)
    assert (gauges.devices, tuple(gauges.behind), gauges.most_behind_ms) == (3, (1, 2, 2, 2, 3, 3), 7_200_000)


async def test_what_is_old_is_forgotten_so_many_at_a_time(clinic: Clinic) -> None:
    """Older than whatever any other test made."""
    ago = timedelta(days=-20_000)
    old = [event(clinic, after=ago + MINUTE * number) for number in range(5)]
    young = event(clinic)
    await happened(clinic, *old, young)
    before = old[-1].at + MINUTE
    assert [await clinic.backend.health_log.forget(before, 3) for _ in range(3)] == [3, 2, 0]
    assert await clinic.backend.health.events(clinic.id, EVERY, None, 10) == [young]
