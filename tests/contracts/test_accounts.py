"""What every place where accounts are kept promises."""

from dataclasses import replace

import pytest

from heallog.domain.accounts import Account
from heallog.domain.errors import DomainError, EmailTaken

from .clinic import MINUTE, MONDAY, Backend, Clinic, in_turn


async def _kept(backend: Backend, account: Account) -> Account | None:
    async with backend.uow() as uow:
        return await uow.accounts.get(account.id)


async def _put(backend: Backend, account: Account) -> None:
    async with backend.uow() as uow:
        await uow.accounts.lock(account.id)
        await uow.accounts.put(account)
        await uow.commit()


@pytest.fixture
async def amara(backend: Backend, clinic: Clinic) -> Account:
    """Dr Okafor's account with everything that an account can have."""
    amara = clinic.account(
        "amara",
        verified_at=MONDAY + MINUTE,
        totp=b"\x00sealed\xff",
        totp_confirmed_at=MONDAY + 2 * MINUTE,
        totp_step=2**40,
        recovery=(b"\x00" * 32, b"\xff" * 32, b""),
    )
    async with backend.uow() as uow:
        await uow.accounts.add(amara)
        await uow.commit()
    return amara


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


async def test_an_account_is_kept_whole(backend: Backend, clinic: Clinic, amara: Account) -> None:
    assert await _kept(backend, amara) == amara
    plain = clinic.account("plain")
    async with backend.uow() as uow:
        await uow.accounts.add(plain)
        await uow.commit()
        found = await _kept(backend, plain)
    assert found == plain
    assert (found.verified_at, found.totp, found.totp_confirmed_at, found.recovery) == (None, None, None, ())


async def test_what_may_change_of_an_account_changes(backend: Backend, amara: Account) -> None:
    changed = replace(
        amara,
        name="Amara Ökafor",
        password_hash="$argon2id$other",
        verified_at=MONDAY + 3 * MINUTE,
        totp=b"other",
        totp_confirmed_at=MONDAY + 4 * MINUTE,
        totp_step=2**40 + 1,
        recovery=(b"\xff" * 32,),
    )
    await _put(backend, changed)
    assert await _kept(backend, amara) == changed


async def test_what_was_given_up_is_gone(backend: Backend, amara: Account) -> None:
    bare = replace(amara, verified_at=None, totp=None, totp_confirmed_at=None, totp_step=0, recovery=())
    await _put(backend, bare)
    assert await _kept(backend, amara) == bare


async def test_an_address_and_a_beginning_stay_whatever_is_written(backend: Backend, amara: Account) -> None:
    thief = replace(
        amara, name="Thief", email="thief@x.example", email_key="thief@x.example", created_at=MONDAY - MINUTE
    )
    await _put(backend, thief)
    renamed = replace(amara, name="Thief")
    assert await _kept(backend, amara) == renamed
    async with backend.uow() as uow:
        assert await uow.accounts.by_email(amara.email_key) == renamed
        assert await uow.accounts.by_email("thief@x.example") is None


async def test_writing_changes_this_account_and_makes_none(backend: Backend, clinic: Clinic, amara: Account) -> None:
    other = clinic.account("other")
    async with backend.uow() as uow:
        await uow.accounts.add(other)
        await uow.commit()
    await _put(backend, replace(amara, name="Amara"))
    await _put(backend, clinic.account("nobody"))
    assert await _kept(backend, other) == other
    assert await _kept(backend, clinic.account("nobody")) is None


async def test_what_is_locked_is_the_account_as_it_is_now(backend: Backend, clinic: Clinic, amara: Account) -> None:
    async with backend.uow() as uow:
        assert await uow.accounts.lock(amara.id) == amara
        assert await uow.accounts.lock(f"{clinic.id}-nobody") is None
        await uow.accounts.put(replace(amara, name="A."))
        assert await uow.accounts.lock(amara.id) == replace(amara, name="A.")


async def test_what_was_not_committed_did_not_change_it(backend: Backend, amara: Account) -> None:
    async with backend.uow() as uow:
        await uow.accounts.put(replace(amara, name="A.", recovery=()))
    assert await _kept(backend, amara) == amara


async def test_of_two_who_lock_an_account_the_second_sees_what_the_first_made_of_it(
    backend: Backend, amara: Account
) -> None:
    used = replace(amara, recovery=amara.recovery[1:])
    seen = await in_turn(backend, lambda uow: uow.accounts.lock(amara.id), lambda uow: uow.accounts.put(used))
    assert seen == used


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_who_only_reads_a_locked_account_does_not_wait(backend: Backend, clinic: Clinic, amara: Account) -> None:
    async with backend.uow() as first, backend.uow() as second:
        await first.accounts.lock(amara.id)
        await first.accounts.put(replace(amara, name="A."))
        assert await second.accounts.get(amara.id) == amara
        assert await second.accounts.by_email(amara.email_key) == amara
        assert await second.accounts.lock(clinic.dr_okafor.account_id) is not None
