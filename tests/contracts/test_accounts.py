"""What every place where accounts are kept promises."""

import pytest

from heallog.domain.errors import DomainError, EmailTaken

from .clinic import Backend, Clinic


async def test_dr_okafor_is_found_by_id_and_by_email_key(backend: Backend, clinic: Clinic) -> None:
    amara = clinic.account("amara", email="Amara@Example.org", email_key=f"amara@{clinic.id}.org", name="Amara Okafor")
    async with backend.uow() as uow:
        await uow.accounts.add(amara)
        await uow.commit()
    async with backend.uow() as uow:
        assert await uow.accounts.get(amara.id) == amara
        assert await uow.accounts.by_email(amara.email_key) == amara
        assert await uow.accounts.by_email(amara.email) is None
        assert await uow.accounts.by_email(amara.email_key.upper()) is None
        assert await uow.accounts.get("nobody") is None


async def test_an_email_address_has_one_account(backend: Backend, clinic: Clinic) -> None:
    first = clinic.account("amara")
    async with backend.uow() as uow:
        await uow.accounts.add(first)
        await uow.commit()
    async with backend.uow() as uow:
        with pytest.raises(EmailTaken):
            await uow.accounts.add(clinic.account("another", email_key=first.email_key))
    async with backend.uow() as uow:
        assert await uow.accounts.by_email(first.email_key) == first
        assert await uow.accounts.get(f"{clinic.id}-another") is None


async def test_the_address_is_taken_within_one_unit_of_work_too(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        await uow.accounts.add(clinic.account("amara"))
        with pytest.raises(EmailTaken):
            await uow.accounts.add(clinic.account("another", email_key=clinic.account("amara").email_key))


async def test_an_id_given_twice_is_a_bug_and_no_domain_error(backend: Backend, clinic: Clinic) -> None:
    amara = clinic.account("amara")
    async with backend.uow() as uow:
        await uow.accounts.add(amara)
        with pytest.raises(Exception) as refused:
            await uow.accounts.add(clinic.account("another", id=amara.id))
    assert not isinstance(refused.value, DomainError)


async def test_an_account_that_was_not_committed_leaves_its_address_free(backend: Backend, clinic: Clinic) -> None:
    amara = clinic.account("amara")
    async with backend.uow() as uow:
        await uow.accounts.add(amara)
        assert await uow.accounts.by_email(amara.email_key) == amara
    async with backend.uow() as uow:
        assert await uow.accounts.by_email(amara.email_key) is None
        await uow.accounts.add(amara)
        await uow.commit()
