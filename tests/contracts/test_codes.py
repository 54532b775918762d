"""What every place where one-time codes are kept promises."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from heallog.domain.codes import OneTimeCode, Purpose
from heallog.domain.errors import DomainError

from .clinic import MINUTE, MONDAY, Backend, Clinic, in_turn

HOUR = timedelta(hours=1)


@pytest.fixture
def address(clinic: Clinic) -> str:
    return clinic.account("okafor").email_key


def _code(address: str, id: str, at: datetime = MONDAY, **fields: Any) -> OneTimeCode:
    made = OneTimeCode(id, address, Purpose.VERIFY, "okafor", b"\x00digest\xff", at, at + 10 * MINUTE)
    return replace(made, **fields)


async def _add(backend: Backend, *codes: OneTimeCode) -> None:
    async with backend.uow() as uow:
        for code in codes:
            await uow.codes.add(code)
        await uow.commit()


async def _sent(backend: Backend, address: str, since: datetime = MONDAY - HOUR) -> list[OneTimeCode]:
    async with backend.uow() as uow:
        return list(await uow.codes.lock(address, since))


async def test_a_code_is_read_back_whole(backend: Backend, address: str) -> None:
    verify = _code(address, "c-1")
    reset = _code(address, "c-2", purpose=Purpose.RESET, account_id=None, looks=4, used_at=MONDAY + MINUTE)
    await _add(backend, verify, reset)
    found = await _sent(backend, address)
    assert found == [reset, verify]
    assert [code.purpose for code in found] == [Purpose.RESET, Purpose.VERIFY]
    assert all(isinstance(code.purpose, Purpose) for code in found)


async def test_codes_come_newest_first_and_of_one_moment_by_id(backend: Backend, address: str) -> None:
    made = {"c-1": 2, "c-b": 1, "c-B": 1, "c-a": 1, "c-9": 0}
    await _add(backend, *(_code(address, name, MONDAY + minutes * MINUTE) for name, minutes in made.items()))
    assert [code.id for code in await _sent(backend, address)] == ["c-1", "c-b", "c-a", "c-B", "c-9"]


async def test_only_what_was_sent_after_a_moment_counts(backend: Backend, address: str) -> None:
    await _add(backend, *(_code(address, f"c-{minute}", MONDAY + minute * MINUTE) for minute in range(3)))
    for since, ids in ((MONDAY - MINUTE, ["c-2", "c-1", "c-0"]), (MONDAY, ["c-2", "c-1"]), (MONDAY + 2 * MINUTE, [])):
        assert [code.id for code in await _sent(backend, address, since)] == ids


async def test_another_address_has_its_own(backend: Backend, clinic: Clinic, address: str) -> None:
    other = clinic.account("other").email_key
    mine, theirs = _code(address, "c-1"), _code(other, "c-1", looks=2)
    await _add(backend, mine, theirs)
    assert await _sent(backend, address) == [mine]
    assert await _sent(backend, other) == [theirs]
    assert await _sent(backend, f"{address}x") == []


async def test_of_a_code_only_the_looks_and_the_use_change(backend: Backend, clinic: Clinic, address: str) -> None:
    first, second, theirs = (
        _code(address, "c-1"),
        _code(address, "c-2"),
        _code(clinic.account("other").email_key, "c-1"),
    )
    await _add(backend, first, second, theirs)
    async with backend.uow() as uow:
        await uow.codes.lock(address, MONDAY - HOUR)
        other = replace(
            first,
            purpose=Purpose.RESET,
            account_id="thief",
            digest=b"known",
            created_at=MONDAY + MINUTE,
            expires_at=MONDAY + HOUR,
            looks=3,
            used_at=MONDAY + MINUTE,
        )
        await uow.codes.put(other)
        await uow.commit()
    assert await _sent(backend, address) == [second, replace(first, looks=3, used_at=MONDAY + MINUTE)]
    assert await _sent(backend, theirs.email_key) == [theirs]


async def test_writing_makes_no_code(backend: Backend, address: str) -> None:
    async with backend.uow() as uow:
        await uow.codes.put(_code(address, "c-1"))
        await uow.commit()
    assert await _sent(backend, address) == []


async def test_what_was_not_committed_is_not_kept(backend: Backend, address: str) -> None:
    kept = _code(address, "c-1")
    await _add(backend, kept)
    async with backend.uow() as uow:
        await uow.codes.add(_code(address, "c-2"))
        await uow.codes.put(replace(kept, looks=5))
        assert list(await uow.codes.lock(address, MONDAY - HOUR)) == [_code(address, "c-2"), replace(kept, looks=5)]
    assert await _sent(backend, address) == [kept]


async def test_an_id_given_twice_is_a_bug_and_no_domain_error(backend: Backend, address: str) -> None:
    kept = _code(address, "c-1")
    await _add(backend, kept)
    with pytest.raises(Exception) as refused:
        await _add(backend, replace(kept, digest=b"other"))
    assert not isinstance(refused.value, DomainError)
    assert await _sent(backend, address) == [kept]


# -- one after the other ------------------------------------------------------------------------------------------


async def test_two_who_send_to_one_address_wait_although_nothing_was_sent_yet(backend: Backend, address: str) -> None:
    code = _code(address, "c-1")
    seen = await in_turn(backend, lambda uow: uow.codes.lock(address, MONDAY - HOUR), lambda uow: uow.codes.add(code))
    assert list(seen) == [code]


async def test_two_who_look_at_one_code_are_both_counted(backend: Backend, address: str) -> None:
    code = _code(address, "c-1")
    await _add(backend, code)
    seen = await in_turn(
        backend, lambda uow: uow.codes.lock(address, MONDAY - HOUR), lambda uow: uow.codes.put(replace(code, looks=1))
    )
    assert list(seen) == [replace(code, looks=1)]


async def test_of_two_hundred_who_send_at_once_three_do(backend: Backend, address: str) -> None:
    async def send(number: int) -> bool:
        async with backend.uow() as uow:
            if len(await uow.codes.lock(address, MONDAY - HOUR)) >= 3:
                return False
            await uow.codes.add(_code(address, f"c-{number}"))
            await uow.commit()
            return True

    assert sum(await asyncio.gather(*map(send, range(200)))) == 3
    assert len(await _sent(backend, address)) == 3


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_another_address_is_not_waited_for(backend: Backend, clinic: Clinic, address: str) -> None:
    async with backend.uow() as first, backend.uow() as second:
        await first.codes.lock(address, MONDAY)
        assert await second.codes.lock(clinic.account("other").email_key, MONDAY) == []
        await second.exclusive(clinic.id, address)
