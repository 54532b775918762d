"""The use cases of accounts."""

from dataclasses import replace
from typing import Any

import pytest

from heallog.domain.access import Role
from heallog.domain.errors import EmailTaken, InvalidFields, NotAuthenticated
from heallog.domain.events import AccountRegistered
from heallog.domain.practices import Membership

from .world import NOON, World

OKAFOR: dict[str, object] = {
    "email": " Amara.Okafor@North.example ",
    "password": "correct horse battery",
    "name": "Dr Amara Okafor",
    "practice_name": "Okafor & Daughters",
}


async def test_dr_okafor_registers_and_owns_a_practice(world: World) -> None:
    registered = await world.accounts.register(OKAFOR, "request-7")
    account, practice = registered.account, registered.practice
    assert (account.email, account.email_key) == ("Amara.Okafor@North.example", "amara.okafor@north.example")
    assert (account.name, account.created_at) == ("Dr Amara Okafor", NOON)
    assert account.password_hash == "hash of correct horse battery"
    assert (practice.name, practice.created_at, registered.role) == ("Okafor & Daughters", NOON, Role.OWNER)
    async with world.uow() as uow:
        assert await uow.accounts.by_email("amara.okafor@north.example") == account
        assert await uow.practices.get(practice.id) == practice
        assert await uow.practices.members(practice.id) == [Membership(practice.id, account.id, Role.OWNER, NOON)]
    assert world.told == [AccountRegistered(practice.id, account.id)]
    [entry] = world.trail
    assert (entry.practice_id, entry.account_id, entry.action) == (practice.id, account.id, "accounts.register")
    assert (entry.role, entry.outcome, entry.request_id, entry.at) == (Role.OWNER, "done", "request-7", NOON)
    assert "horse" not in repr(world.trail) + repr(world.told)


async def test_an_address_registers_once_however_it_is_written(world: World) -> None:
    await world.accounts.register(OKAFOR)
    with pytest.raises(EmailTaken):
        await world.accounts.register(OKAFOR | {"email": "AMARA.okafor@north.example", "practice_name": "Another"})
    async with world.uow() as uow:
        assert "Another" not in [practice.name for practice in await uow.practices.all()]
    assert len(world.told) == len(world.trail) == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"password": "too short"}, "password"),
        ({"password": "amara.okafor@north.EXAMPLE"}, "password"),
        ({"password": "Okafor & Daughters, 1984"}, "password"),
        ({"password": "correct horse 7"}, "password"),
        ({"password": "one quiet heron"}, "password"),
        ({"name": ""}, "name"),
        ({"practice_name": None}, "practice_name"),
        ({"plan": "pro"}, "plan"),
        ({"email": "amara@nowhere.invalid"}, "email"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_written(
    world: World, wrong: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidFields) as refused:
        await world.accounts.register(OKAFOR | wrong)
    assert [error.field for error in refused.value.errors] == [field]
    assert (world.told, world.trail) == ([], [])


async def test_the_reason_why_mail_cannot_be_delivered_is_passed_on(world: World) -> None:
    with pytest.raises(InvalidFields, match=r"must end in \.example"):
        await world.accounts.register(OKAFOR | {"email": "amara@nowhere.invalid"})


# -- join ---------------------------------------------------------------------------------------------------------

BOLA: dict[str, Any] = {"email": "bola@north.example", "password": "correct horse battery", "name": "Bola"}


async def test_the_operator_lets_bola_join(world: World) -> None:
    bola = await world.accounts.join("northside", Role.ASSISTANT, **BOLA)
    async with world.uow() as uow:
        assert await uow.practices.memberships(bola.id) == [Membership("northside", bola.id, Role.ASSISTANT, NOON)]
    [entry] = world.trail
    assert (entry.practice_id, entry.account_id, entry.action) == ("northside", bola.id, "accounts.join")
    assert entry.role == Role.ASSISTANT


async def test_joining_follows_the_rules_of_registering(world: World) -> None:
    await world.accounts.join("northside", Role.ASSISTANT, **BOLA)
    with pytest.raises(EmailTaken):
        await world.accounts.join("southside", Role.OWNER, **BOLA)
    with pytest.raises(InvalidFields):
        await world.accounts.join("northside", Role.OWNER, **BOLA | {"password": "short", "email": "b@b.example"})
    with pytest.raises(InvalidFields):
        await world.accounts.join("northside", Role.OWNER, **BOLA | {"email": "bola@nowhere.invalid"})
    with pytest.raises(InvalidFields, match="the practice's name"):
        await world.accounts.join(
            "northside", Role.OWNER, **BOLA | {"password": "Northside 1984", "email": "b@b.example"}
        )
    assert len(world.trail) == 1


# -- me -----------------------------------------------------------------------------------------------------------


async def test_a_token_says_whose_it_is(world: World) -> None:
    registered = await world.accounts.register(OKAFOR)
    actor = replace(world.dr_okafor, account_id=registered.account.id, practice_id=registered.practice.id)
    me = await world.accounts.me(actor)
    assert (me.account, me.practice, me.role) == (registered.account, registered.practice, actor.role)


async def test_a_token_that_outlived_its_account_or_practice_proves_nothing(world: World) -> None:
    registered = await world.accounts.register(OKAFOR)
    for account_id, practice_id in ((registered.account.id, "gone"), ("gone", registered.practice.id)):
        with pytest.raises(NotAuthenticated):
            await world.accounts.me(replace(world.dr_okafor, account_id=account_id, practice_id=practice_id))
