"""What every place where tries are counted promises."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest

from heallog.domain.tries import Tries

from .clinic import MINUTE, MONDAY, Backend, Clinic, in_turn


@pytest.fixture
def a(clinic: Clinic) -> str:
    return f"account:{clinic.id}"


@pytest.fixture
def b(clinic: Clinic) -> str:
    return f"address:{clinic.id}"


async def _locked(backend: Backend, *keys: str, now: datetime = MONDAY) -> list[Tries]:
    """As they are now, and nothing of it kept."""
    async with backend.uow() as uow:
        return list(await uow.tries.lock(keys, now))


async def _count(backend: Backend, *tries: Tries) -> None:
    async with backend.uow() as uow:
        await uow.tries.lock([one.key for one in tries], MONDAY)
        await uow.tries.put(tries)
        await uow.commit()


async def test_a_counter_that_is_missing_begins_now(backend: Backend, a: str) -> None:
    assert await _locked(backend, a) == [Tries(a, 0, MONDAY)]
    # Nothing was committed, so it is missing again.
    assert await _locked(backend, a, now=MONDAY + MINUTE) == [Tries(a, 0, MONDAY + MINUTE)]


async def test_a_counter_once_made_stays_as_it_is(backend: Backend, a: str) -> None:
    async with backend.uow() as uow:
        await uow.tries.lock([a], MONDAY)
        await uow.commit()
    assert await _locked(backend, a, now=MONDAY + MINUTE) == [Tries(a, 0, MONDAY)]


async def test_counters_come_in_the_order_of_the_keys(backend: Backend, a: str, b: str) -> None:
    known = Tries(b, 3, MONDAY + MINUTE, MONDAY + 2 * MINUTE)
    await _count(backend, known)
    keys = (f"{b}-9", a, b, f"{a}-1")
    fresh = {key: Tries(key, 0, MONDAY) for key in keys}
    assert await _locked(backend, *keys) == [fresh[keys[0]], fresh[a], known, fresh[keys[3]]]
    assert await _locked(backend, b, a) == [known, fresh[a]]


async def test_what_was_counted_is_read_back(backend: Backend, a: str, b: str) -> None:
    locked, free = Tries(a, 2**31 - 1, MONDAY + MINUTE, MONDAY + 60 * MINUTE), Tries(b, 1, MONDAY - MINUTE)
    await _count(backend, locked, free)
    assert await _locked(backend, a, b) == [locked, free]
    await _count(backend, Tries(a, 0, MONDAY + 2 * MINUTE))
    assert await _locked(backend, a, b) == [Tries(a, 0, MONDAY + 2 * MINUTE), free]


async def test_within_one_unit_of_work_the_last_count_is_seen(backend: Backend, a: str) -> None:
    async with backend.uow() as uow:
        await uow.tries.lock([a], MONDAY)
        await uow.tries.put([Tries(a, 1, MONDAY)])
        assert await uow.tries.lock([a], MONDAY + MINUTE) == [Tries(a, 1, MONDAY)]


async def test_to_count_nothing_is_nothing(backend: Backend, a: str) -> None:
    """A login from nowhere gives back the tries of no address."""
    async with backend.uow() as uow:
        assert list(await uow.tries.lock([], MONDAY)) == []
        await uow.tries.put([])
        await uow.tries.forget([])
        await uow.commit()
    assert await _locked(backend, a) == [Tries(a, 0, MONDAY)]


async def test_what_was_not_committed_was_not_counted(backend: Backend, a: str) -> None:
    await _count(backend, Tries(a, 1, MONDAY))
    async with backend.uow() as uow:
        await uow.tries.put([Tries(a, 2, MONDAY)])
    async with backend.uow() as uow:
        await uow.tries.forget([a])
    assert await _locked(backend, a) == [Tries(a, 1, MONDAY)]


async def test_what_is_forgotten_begins_anew(backend: Backend, a: str, b: str) -> None:
    await _count(backend, Tries(a, 9, MONDAY, MONDAY + MINUTE), Tries(b, 2, MONDAY))
    async with backend.uow() as uow:
        await uow.tries.forget([a, f"{a}-never"])
        assert await uow.tries.lock([a], MONDAY + MINUTE) == [Tries(a, 0, MONDAY + MINUTE)]
        await uow.tries.forget([a])
        await uow.commit()
    assert await _locked(backend, a, b, now=MONDAY + MINUTE) == [Tries(a, 0, MONDAY + MINUTE), Tries(b, 2, MONDAY)]


async def test_what_nobody_locked_is_not_made_by_writing_it(backend: Backend, a: str) -> None:
    async with backend.uow() as uow:
        await uow.tries.put([Tries(a, 7, MONDAY)])
        await uow.commit()
    assert await _locked(backend, a) == [Tries(a, 0, MONDAY)]


# -- one after the other ------------------------------------------------------------------------------------------


async def test_the_second_waits_for_a_counter_that_the_first_has_just_made(backend: Backend, a: str, b: str) -> None:
    counted = Tries(a, 1, MONDAY)
    seen = await in_turn(backend, lambda uow: uow.tries.lock([b, a], MONDAY), lambda uow: uow.tries.put([counted]))
    assert list(seen) == [Tries(b, 0, MONDAY), counted]


async def test_the_second_waits_for_a_counter_that_is_there(backend: Backend, a: str) -> None:
    await _count(backend, Tries(a, 4, MONDAY))
    counted = Tries(a, 5, MONDAY, MONDAY + MINUTE)
    seen = await in_turn(backend, lambda uow: uow.tries.lock([a], MONDAY), lambda uow: uow.tries.put([counted]))
    assert list(seen) == [counted]


async def test_who_waits_for_a_counter_that_is_forgotten_gets_a_new_one(backend: Backend, a: str) -> None:
    await _count(backend, Tries(a, 4, MONDAY))
    later = MONDAY + MINUTE
    seen = await in_turn(backend, lambda uow: uow.tries.lock([a], later), lambda uow: uow.tries.forget([a]))
    assert list(seen) == [Tries(a, 0, later)]


async def test_the_second_makes_the_counter_where_the_first_gives_up(backend: Backend, a: str) -> None:
    async with backend.uow() as uow:
        await uow.tries.lock([a], MONDAY)
        await uow.tries.put([Tries(a, 1, MONDAY)])
        task = asyncio.create_task(_locked(backend, a, now=MONDAY + MINUTE))
        await backend.until_waiting(task)
        assert not task.done()
    assert await task == [Tries(a, 0, MONDAY + MINUTE)]


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_other_counters_are_not_waited_for(backend: Backend, a: str, b: str) -> None:
    async with backend.uow() as first, backend.uow() as second:
        await first.tries.lock([a], MONDAY)
        assert await second.tries.lock([b], MONDAY) == [Tries(b, 0, MONDAY)]


async def _one_more(backend: Backend, keys: Sequence[str]) -> None:
    async with backend.uow() as uow:
        counted = await uow.tries.lock(keys, MONDAY)
        await uow.tries.put([Tries(one.key, one.count + 1, MONDAY) for one in counted])
        await uow.commit()


async def test_fifty_pairs_with_the_keys_in_opposite_order_count_each_other(backend: Backend, a: str, b: str) -> None:
    keys = [a, *(f"{a}-{number}" for number in range(20)), b]
    async with asyncio.timeout(60):
        await asyncio.gather(*(_one_more(backend, order) for _ in range(50) for order in (keys, keys[::-1])))
    assert {one.count for one in await _locked(backend, *keys)} == {100}


async def test_two_who_wait_for_a_third_do_not_wait_for_each_other(backend: Backend, a: str, b: str) -> None:
    """Whoever took `b` first and then waited for `a`, behind who has `a` next and wants `b`, would wait for ever."""
    await _count(backend, Tries(a, 0, MONDAY), Tries(b, 0, MONDAY))

    async with asyncio.timeout(30):
        async with backend.uow() as uow:
            await uow.tries.lock([a], MONDAY)
            second = asyncio.create_task(_one_more(backend, [a, b]))
            await backend.until_waiting(second)
            third = asyncio.create_task(_one_more(backend, [b, a]))
            await backend.until_waiting(second, third)
            assert not second.done()
            assert not third.done()
        await asyncio.gather(second, third)
    assert await _locked(backend, a, b) == [Tries(a, 2, MONDAY), Tries(b, 2, MONDAY)]
