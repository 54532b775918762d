"""What every place that keeps sync drops, what it never drops, and how it begins anew after a restore."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heallog.application.ports.retention import Keep
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Place, Stream
from heallog.domain.versions import Change, Collection, Head

from .clinic import MONDAY, Clinic

LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
"""Everything in the feed is older than this."""

ALL = Keep(LATER, MONDAY)
"""Keeps no tombstone, and every answer."""

A_DAY = 86_400_000


async def drop(clinic: Clinic, keep: Keep = ALL, most: int = 1_000) -> int:
    async with clinic.backend.uow() as uow:
        dropped = await uow.retention.drop(clinic.id, keep, most)
        await uow.commit()
    return dropped


async def overdue(clinic: Clinic, keep: Keep = ALL) -> bool:
    async with clinic.backend.uow() as uow:
        found = await uow.retention.overdue(keep)
    assert list(found) == sorted(found)
    return clinic.id in found


async def page(clinic: Clinic) -> Any:
    return await clinic.backend.feed.page(clinic.id, tuple(Stream), Place(), None, 100)


async def told(clinic: Clinic) -> list[tuple[str, str]]:
    changes = json.loads(b"[%s]" % b",".join((await page(clinic)).changes))
    return [(change["op"], change["id"]) for change in changes]


async def head(clinic: Clinic) -> int:
    return (await page(clinic)).head


async def gone(clinic: Clinic, name: str) -> Head:
    """A patient who came and went."""
    return await clinic.delete(await clinic.admit(name))


async def pulls(clinic: Clinic, device: str, lo: int, hi: int, at: datetime) -> None:
    async with clinic.backend.uow() as uow:
        await uow.sync.pulled(clinic.id, device, lo, hi, at)
        await uow.commit()


async def test_old_tombstones_go_and_the_floor_is_where_the_last_of_them_was(clinic: Clinic, elsewhere: Clinic) -> None:
    await gone(clinic, "alice")
    await gone(elsewhere, "alice")
    await clinic.admit("bruno")
    await gone(clinic, "clara")
    last = await head(clinic)
    await clinic.admit("dora")
    assert await told(clinic) == [("delete", "alice"), ("put", "bruno"), ("delete", "clara"), ("put", "dora")]
    assert await overdue(clinic)
    assert await drop(clinic) > 0
    assert await told(clinic) == [("put", "bruno"), ("put", "dora")]
    assert last <= (await page(clinic)).floor <= await head(clinic)
    assert await told(elsewhere) == [("delete", "alice")]
    assert (await page(elsewhere)).floor == 0
    assert not await overdue(clinic)
    assert await drop(clinic) == 0


async def test_what_is_younger_stays_and_so_does_the_floor(clinic: Clinic) -> None:
    await gone(clinic, "alice")
    young = Keep(LATER - timedelta(days=400), MONDAY)
    assert not await overdue(clinic, young)
    assert await drop(clinic, young) == 0
    assert (await told(clinic), (await page(clinic)).floor) == ([("delete", "alice")], 0)


async def test_nothing_is_dropped_above_what_an_active_device_has(clinic: Clinic) -> None:
    await gone(clinic, "alice")
    has = await head(clinic)
    await gone(clinic, "bruno")
    await pulls(clinic, "tablet", has, await head(clinic), LATER)
    await drop(clinic)
    assert (await told(clinic), (await page(clinic)).floor) == ([("delete", "bruno")], has)
    assert not await overdue(clinic)


@pytest.mark.parametrize("lo", [0, 1])
async def test_who_was_away_for_too_long_or_had_nothing_holds_nothing(clinic: Clinic, lo: int) -> None:
    await gone(clinic, "alice")
    has = await head(clinic)
    await gone(clinic, "bruno")
    await pulls(clinic, "old-tablet", has, await head(clinic), LATER - timedelta(seconds=1))
    await pulls(clinic, "new-phone", lo, await head(clinic), LATER)
    await drop(clinic)
    assert await told(clinic) == []
    assert (await page(clinic)).floor == await head(clinic)


async def test_who_is_below_the_floor_already_holds_nothing_either(clinic: Clinic) -> None:
    """They begin anew anyway."""
    await gone(clinic, "alice")
    await drop(clinic)
    floor = (await page(clinic)).floor
    await gone(clinic, "bruno")
    await pulls(clinic, "tablet", floor - 1, await head(clinic), LATER)
    await drop(clinic)
    assert await told(clinic) == []


async def test_the_head_the_versions_and_the_hash_chain_stay(clinic: Clinic) -> None:
    before = await gone(clinic, "alice")
    await drop(clinic)
    assert await clinic.backend.patients.get(clinic.id, "alice") == before
    history = await clinic.backend.versions.history(clinic.id, Collection.PATIENTS, "alice", None, 10)
    assert [version.number for version in history] == [2, 1]


async def test_what_was_dropped_comes_back_when_it_is_restored_and_again_when_it_is_deleted_again(
    clinic: Clinic,
) -> None:
    deleted = await gone(clinic, "alice")
    await drop(clinic)
    restored = clinic.next(deleted, {"family_name": "Alice"}, change=Change.RESTORATION)
    [moved] = await clinic.write(restored)
    assert await told(clinic) == [("put", "alice")]
    assert not any(op == "delete" for op, _ in await told(clinic))
    await drop(clinic)
    assert await told(clinic) == [("put", "alice")]
    await clinic.delete(moved)
    assert await told(clinic) == [("delete", "alice")]
    await drop(clinic)
    assert await told(clinic) == []


async def test_so_many_go_at_once_the_oldest_first(clinic: Clinic) -> None:
    for name in ("alice", "bruno", "clara"):
        await gone(clinic, name)
    await drop(clinic, most=1)
    assert await told(clinic) == [("delete", "bruno"), ("delete", "clara")]
    assert await overdue(clinic)
    while await drop(clinic, most=2):
        assert (await page(clinic)).floor <= await head(clinic)
    assert await told(clinic) == []


# -- what places in the feed are told apart by ----------------------------------------------------------------------


async def standing(clinic: Clinic, lo: int, hi: int) -> tuple[int | None, int | None]:
    async with clinic.backend.uow() as uow:
        found = await uow.sync.standing(clinic.id, "tablet", [(Collection.PATIENTS, "alice")], lo, hi)
    known = found[Collection.PATIENTS, "alice"]
    return known.before, known.after


async def versions_at(clinic: Clinic, count: int) -> list[int]:
    """Alice at so many versions; the head of the feed after each."""
    alice, places = await clinic.admit("alice"), []
    for number in range(count):
        if number:
            alice = await clinic.change(alice, phone=str(number))
        places.append(await head(clinic))
    return places


async def test_above_the_floor_it_is_known_where_a_thing_stood_as_it_was_before(clinic: Clinic) -> None:
    """A version that lost its number is older than any place that is still told apart."""
    places = await versions_at(clinic, 4)
    await pulls(clinic, "tablet", places[1], places[3], LATER)
    pairs = [(places[one], places[other]) for one in range(1, 4) for other in range(one, 4)]
    before = [await standing(clinic, *pair) for pair in pairs]
    assert before == [(2, 2), (2, 3), (2, 4), (3, 3), (3, 4), (4, 4)]
    assert await standing(clinic, places[0], places[0]) == (1, 1)
    assert await drop(clinic) == 2
    assert (await page(clinic)).floor == places[1]
    assert [await standing(clinic, *pair) for pair in pairs] == before
    assert await standing(clinic, places[0], places[0]) == (2, 2), "below the floor nobody may rely on it"


async def test_a_pull_is_forgotten_when_nobody_can_go_on_from_it(clinic: Clinic) -> None:
    places = await versions_at(clinic, 3)
    await pulls(clinic, "old-tablet", 0, places[0], MONDAY)
    await pulls(clinic, "phone", 0, places[0], LATER)
    await pulls(clinic, "old-tablet", places[0], places[2], MONDAY)
    while await drop(clinic):
        pass
    floor = (await page(clinic)).floor
    assert floor == places[2]

    async def lo(device: str, hi: int) -> int | None:
        async with clinic.backend.uow() as uow:
            window = await uow.sync.window(clinic.id, device, hi)
        assert (window.floor, window.head) == (floor, places[2])
        return window.lo

    assert await lo("old-tablet", places[0]) is None
    assert await lo("phone", places[0]) == 0, "it was seen since"
    assert await lo("old-tablet", places[2]) == places[0], "at the floor itself it may still push"


# -- pushes -------------------------------------------------------------------------------------------------------


async def test_answers_are_kept_as_long_as_they_are_asked_for_and_quarantine_for_ever(
    clinic: Clinic, elsewhere: Clinic
) -> None:
    def push(number: int, at: datetime, practice_id: str = clinic.id) -> Pushed:
        return Pushed(practice_id, "tablet", f"p-{number}", "okafor", at, b"d", b"{}")

    async def kept(pushes: Sequence[Pushed]) -> list[str]:
        async with clinic.backend.uow() as uow:
            known = [await uow.sync.pushed(one.practice_id, one.device_id, one.push_id) for one in pushes]
        return [one.push_id for one in known if one is not None]

    pushes = [push(number, MONDAY + timedelta(days=number)) for number in range(5)]
    others = [push(9, MONDAY, elsewhere.id)]
    closed = Quarantined(clinic.id, "q-1", "p-1", "okafor", "tablet", MONDAY, {}, (), closed_at=MONDAY)
    async with clinic.backend.uow() as uow:
        for one in (*pushes, *others):
            await uow.sync.keep(one)
        await uow.sync.quarantine([closed, replace(closed, id="q-2", closed_at=None)])
        await uow.commit()
    keep = Keep(MONDAY, MONDAY + timedelta(days=3))
    assert await overdue(clinic, keep)
    assert await drop(clinic, keep, most=2) == 2
    assert await kept(pushes) == ["p-2", "p-3", "p-4"]
    assert await drop(clinic, keep, most=2) == 1
    assert await kept(pushes) == ["p-3", "p-4"]
    assert not await overdue(clinic, keep)
    assert await kept(others) == ["p-9"]
    async with clinic.backend.uow() as uow:
        assert await uow.sync.lock_quarantined(clinic.id, "q-1") is not None
        assert [one.id for one in await uow.sync.quarantined(clinic.id, None, 9)] == ["q-2"]
        # The id is free again: a push that comes after so long is another one.
        await uow.sync.keep(push(0, LATER))
        await uow.commit()


# -- after a restore ----------------------------------------------------------------------------------------------


async def test_a_new_epoch_begins_above_everything_that_was_given_out(clinic: Clinic, elsewhere: Clinic) -> None:
    await clinic.admit("alice")
    before = await page(clinic)
    async with clinic.backend.uow() as uow:
        practices = await uow.retention.renew(A_DAY)
        await uow.commit()
    assert {clinic.id, elsewhere.id} <= set(practices)
    assert list(practices) == sorted(practices)
    after = await page(clinic)
    assert after.epoch != before.epoch
    assert after.floor == after.head >= before.head + A_DAY
    assert after.changes == before.changes
    assert (await page(elsewhere)).epoch not in (before.epoch, after.epoch)
    await clinic.admit("bruno")
    assert (await page(clinic)).head > after.head
    again = await drop(clinic, Keep(MONDAY, MONDAY))
    assert again == 0


async def test_a_new_epoch_that_is_not_committed_is_none(clinic: Clinic) -> None:
    before = await page(clinic)
    async with clinic.backend.uow() as uow:
        await uow.retention.renew(A_DAY)
    assert await page(clinic) == before
