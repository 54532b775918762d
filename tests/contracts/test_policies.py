"""What every place where practices keep their policies promises."""

import pytest

from heallog.domain.errors import AlreadyExists, DomainError
from heallog.domain.policies import Setting

from .clinic import MINUTE, MONDAY, Backend, Clinic

PHONES = {"patients": {"phone": "manual", "email": "manual"}, "records": {}}


def setting(clinic: Clinic, number: int, **fields: dict[str, str]) -> Setting:
    return Setting(clinic.id, number, MONDAY + number * MINUTE, "okafor", f"Reason Ä {number}.", fields)


async def add(clinic: Clinic, *settings: Setting) -> None:
    async with clinic.backend.uow() as uow:
        for one in settings:
            await uow.policies.add(one)
        await uow.commit()


async def history(clinic: Clinic, before: int | None = None, limit: int = 9) -> list[Setting]:
    async with clinic.backend.uow() as uow:
        return list(await uow.policies.history(clinic.id, before, limit))


async def current(clinic: Clinic) -> Setting | None:
    async with clinic.backend.uow() as uow:
        return await uow.policies.current(clinic.id)


async def test_a_practice_has_no_setting_until_it_makes_one(clinic: Clinic) -> None:
    assert await current(clinic) is None
    assert await history(clinic) == []


async def test_a_setting_is_read_back_whole(clinic: Clinic) -> None:
    made = setting(clinic, 1, **PHONES)
    await add(clinic, made)
    assert await current(clinic) == made
    assert await history(clinic) == [made]


async def test_the_latest_one_counts_and_none_is_lost(clinic: Clinic) -> None:
    settings = [setting(clinic, number, patients={"phone": "manual"}) for number in range(1, 12)]
    await add(clinic, *settings)
    assert await current(clinic) == settings[-1]
    assert await history(clinic, limit=99) == settings[::-1]
    assert await history(clinic, limit=2) == [settings[10], settings[9]]
    assert await history(clinic, before=10, limit=2) == [settings[8], settings[7]]
    assert await history(clinic, before=1) == []
    assert await history(clinic, limit=0) == []


async def test_a_number_is_taken_once_and_nothing_of_the_unit_of_work_is_kept(backend: Backend, clinic: Clinic) -> None:
    first = setting(clinic, 1, **PHONES)
    await add(clinic, first)
    async with backend.uow() as uow:
        await uow.policies.add(setting(clinic, 2))
        with pytest.raises(AlreadyExists):
            await uow.policies.add(setting(clinic, 1))
    assert await history(clinic) == [first]


async def test_another_practice_has_its_own(clinic: Clinic, elsewhere: Clinic) -> None:
    here, there = setting(clinic, 1, **PHONES), setting(elsewhere, 1)
    await add(clinic, here)
    assert await current(elsewhere) is None
    await add(elsewhere, there)
    assert (await current(clinic), await current(elsewhere)) == (here, there)


async def test_a_setting_is_kept_with_the_unit_of_work_or_not_at_all(backend: Backend, clinic: Clinic) -> None:
    made = setting(clinic, 1, **PHONES)
    async with backend.uow() as uow:
        await uow.policies.add(made)
        assert await uow.policies.current(clinic.id) == made
    assert await current(clinic) is None


async def test_what_was_given_may_be_changed_afterwards(clinic: Clinic) -> None:
    """What is kept is a copy."""
    fields = {"patients": {"phone": "manual"}}
    await add(clinic, Setting(clinic.id, 1, MONDAY, "okafor", "", fields))
    fields["patients"]["sex"] = "lww"
    found = await current(clinic)
    assert found is not None
    assert found.fields == {"patients": {"phone": "manual"}}


async def test_a_setting_needs_a_practice(clinic: Clinic) -> None:
    with pytest.raises(Exception) as refused:
        await add(clinic, Setting(f"{clinic.id}-nowhere", 1, MONDAY, "okafor", "", {}))
    assert not isinstance(refused.value, DomainError)
