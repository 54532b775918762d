"""What every place where practices and memberships are kept promises."""

import pytest

from heallog.domain.access import Role
from heallog.domain.errors import DomainError, NotFound
from heallog.domain.practices import Membership, Practice

from .clinic import MINUTE, MONDAY, Backend, Clinic


async def test_a_practice_is_read_back(backend: Backend, clinic: Clinic) -> None:
    ward = Practice(f"{clinic.id}-ward", "Ward Ä 3", MONDAY)
    async with backend.uow() as uow:
        await uow.practices.add(ward)
        assert await uow.practices.get(ward.id) == ward
        await uow.commit()
    async with backend.uow() as uow:
        assert await uow.practices.get(ward.id) == ward
        assert await uow.practices.get("nowhere") is None


async def test_all_practices_come_oldest_first(backend: Backend, clinic: Clinic) -> None:
    names = {"young": MONDAY + MINUTE, "old-b": MONDAY - MINUTE, "old-B": MONDAY - MINUTE, "old-a": MONDAY - MINUTE}
    async with backend.uow() as uow:
        for name, at in names.items():
            await uow.practices.add(Practice(f"{clinic.id}-{name}", name, at))
        await uow.commit()
    async with backend.uow() as uow:
        ours = [practice for practice in await uow.practices.all() if practice.id.startswith(clinic.id)]
    assert [practice.id.removeprefix(f"{clinic.id}-") for practice in ours] == [
        *("old-B", "old-a", "old-b"),
        clinic.id,
        "young",
    ]


async def test_members_and_memberships_come_oldest_first(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    amara, bola = clinic.account("amara"), clinic.account("bola")
    bola_here = Membership(clinic.id, bola.id, Role.AUDITOR, MONDAY - MINUTE)
    amara_here = Membership(clinic.id, amara.id, Role.CLINICIAN, MONDAY + MINUTE)
    amara_there = Membership(elsewhere.id, amara.id, Role.ASSISTANT, MONDAY - MINUTE)
    async with backend.uow() as uow:
        await uow.accounts.add(amara)
        await uow.accounts.add(bola)
        for membership in (amara_here, bola_here, amara_there):
            await uow.practices.join(membership)
        await uow.commit()
    async with backend.uow() as uow:
        okafor = Membership(clinic.id, clinic.dr_okafor.account_id, Role.OWNER, MONDAY)
        assert await uow.practices.members(clinic.id) == [bola_here, okafor, amara_here]
        assert await uow.practices.memberships(amara.id) == [amara_there, amara_here]
        assert await uow.practices.members("nowhere") == []
        assert await uow.practices.memberships("nobody") == []


async def test_members_of_one_age_come_by_id(backend: Backend, clinic: Clinic) -> None:
    names = ("b", "B", "a")
    async with backend.uow() as uow:
        for name in names:
            await uow.accounts.add(clinic.account(name, id=f"{clinic.id}-{name}"))
            await uow.practices.join(Membership(clinic.id, f"{clinic.id}-{name}", Role.ASSISTANT, MONDAY + MINUTE))
        members = [member.account_id for member in await uow.practices.members(clinic.id)]
    assert members == [f"{clinic.id}-{name}" for name in ("okafor", "B", "a", "b")]


async def test_nobody_joins_a_practice_that_is_not_there(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        with pytest.raises(NotFound):
            await uow.practices.join(Membership("nowhere", clinic.dr_okafor.account_id, Role.OWNER, MONDAY))


async def test_what_cannot_be_is_a_bug_and_no_domain_error(backend: Backend, clinic: Clinic) -> None:
    okafor = clinic.dr_okafor.account_id
    for impossible in (
        Membership(clinic.id, okafor, Role.AUDITOR, MONDAY),
        Membership(clinic.id, "nobody", Role.OWNER, MONDAY),
    ):
        async with backend.uow() as uow:
            with pytest.raises(Exception) as refused:
                await uow.practices.join(impossible)
        assert not isinstance(refused.value, DomainError)
    async with backend.uow() as uow:
        with pytest.raises(Exception) as refused:
            await uow.practices.add(Practice(clinic.id, "Twin", MONDAY))
    assert not isinstance(refused.value, DomainError)
    async with backend.uow() as uow:
        assert [member.role for member in await uow.practices.members(clinic.id)] == [Role.OWNER]
