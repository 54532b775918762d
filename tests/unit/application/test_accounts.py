"""The use cases of accounts."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from heallog.application.accounts import Registered
from heallog.domain.access import Plan, Role
from heallog.domain.errors import (
    AccountLocked,
    CodeInvalid,
    DomainError,
    EmailTaken,
    InvalidCredentials,
    InvalidFields,
    NotAuthenticated,
    NotFound,
    OtpRequired,
    SessionEnded,
)
from heallog.domain.events import AccountRegistered, LoggedIn, SessionClosed
from heallog.domain.practices import Membership

from .world import DAY, FRESH, HOME, MINUTE, NOON, PASSWORD, WRONG, World, address

OKAFOR: dict[str, object] = {
    "email": " Amara.Okafor@North.example ",
    "password": "correct horse battery",
    "name": "Dr Amara Okafor",
    "practice_name": "Okafor & Daughters",
}


async def test_dr_okafor_registers_and_owns_a_practice(world: World) -> None:
    registered = await world.accounts.register(OKAFOR, HOME)
    account, practice = registered.account, registered.practice
    assert (account.email, account.email_key) == ("Amara.Okafor@North.example", "amara.okafor@north.example")
    assert (account.name, account.created_at) == ("Dr Amara Okafor", NOON)
    assert account.password_hash == "hash of correct horse battery"
    assert (practice.name, practice.created_at, registered.role) == ("Okafor & Daughters", NOON, Role.OWNER)
    async with world.uow() as uow:
        assert await uow.accounts.by_email("amara.okafor@north.example") == account
        assert await uow.practices.get(practice.id) == practice
        assert await uow.practices.members(practice.id) == [Membership(practice.id, account.id, Role.OWNER, NOON)]
    assert (account.verified_at, practice.plan) == (None, Plan.FREE)
    assert registered.tokens is not None
    actor = await world.who(registered.tokens)
    assert (actor.account_id, actor.practice_id, actor.role) == (account.id, practice.id, Role.OWNER)
    assert world.told == [
        AccountRegistered(practice.id, account.id),
        LoggedIn(practice.id, account.id, actor.session_id),
    ]
    entry, login = world.trail
    assert (entry.practice_id, entry.account_id, entry.action) == (practice.id, account.id, "accounts.register")
    assert (entry.role, entry.outcome, entry.request_id, entry.at) == (Role.OWNER, "done", "request-9", NOON)
    assert (login.action, login.session_id) == ("sessions.login", actor.session_id)
    assert "horse" not in repr(world.trail) + repr(world.told)


async def test_whoever_registers_is_mailed_a_code_that_verifies_the_address(world: World) -> None:
    registered = await world.accounts.register(OKAFOR, HOME)
    [letter] = world.mail.to("Amara.Okafor@North.example")
    code = letter.text.split("    ")[1].split("\n")[0]
    assert registered.tokens is not None
    actor = await world.who(registered.tokens)
    await world.codes.verify(actor, code)
    assert (await world.accounts.me(actor)).account == replace(registered.account, verified_at=NOON)


async def test_nobody_can_keep_a_stranger_from_registering(world: World) -> None:
    """By asking for codes to that address until no more are sent."""
    for _ in range(3):
        await world.codes.forgot("amara.okafor@north.example", HOME)
    await world.accounts.register(OKAFOR, HOME)


async def test_a_refused_registration_is_mailed_nothing(world: World) -> None:
    await world.accounts.register(OKAFOR, HOME)
    world.forget()
    for body in (OKAFOR, OKAFOR | {"password": "short"}):
        with pytest.raises((EmailTaken, InvalidFields)):
            await world.accounts.register(body, HOME)
    assert (world.mail.letters, world.told, world.entries) == ([], [], [])


async def test_an_address_registers_once_however_it_is_written(world: World) -> None:
    await world.accounts.register(OKAFOR)
    with pytest.raises(EmailTaken):
        await world.accounts.register(OKAFOR | {"email": "AMARA.okafor@north.example", "practice_name": "Another"})
    async with world.uow() as uow:
        assert "Another" not in [practice.name for practice in await uow.practices.all()]
    assert len(world.told) == len(world.trail) == 2


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


# -- by the operator ----------------------------------------------------------------------------------------------


async def test_the_operator_founds_a_practice_and_vouches_for_the_address(world: World) -> None:
    founded = await world.accounts.found(OKAFOR, Plan.PRO)
    assert (founded.practice.plan, founded.role, founded.tokens) == (Plan.PRO, Role.OWNER, None)
    async with world.uow() as uow:
        account = await uow.accounts.get(founded.account.id)
        assert (await uow.practices.get(founded.practice.id)) == founded.practice
    assert account is not None
    assert account.verified_at == NOON
    assert world.told == [AccountRegistered(founded.practice.id, account.id)]
    assert (world.mail.letters, world.live(account.id)) == ([], [])
    [entry] = world.trail
    assert (entry.action, entry.role, entry.request_id) == ("accounts.register", "owner", "")


# -- join ---------------------------------------------------------------------------------------------------------

BOLA: dict[str, Any] = {"email": "bola@north.example", "password": "correct horse battery", "name": "Bola"}


async def test_the_operator_lets_bola_join(world: World) -> None:
    bola = await world.accounts.join("northside", Role.ASSISTANT, **BOLA)
    async with world.uow() as uow:
        assert await uow.practices.memberships(bola.id) == [Membership("northside", bola.id, Role.ASSISTANT, NOON)]
    assert bola.verified_at == NOON
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
    with pytest.raises(NotFound):
        await world.accounts.join("nowhere", Role.OWNER, **BOLA | {"email": "b@b.example"})
    assert len(world.trail) == 1


# -- accept -------------------------------------------------------------------------------------------------------


async def refused(asked: Awaitable[object], kind: type[DomainError]) -> DomainError:
    with pytest.raises(kind) as refusal:
        await asked
    return refusal.value


@pytest.fixture
async def house(world: World) -> World:
    """Grace owns northside; dr_stern, of southside, has an account."""
    await world.hire(world.grace, world.dr_stern)
    world.clock.now += MINUTE
    return world


async def invited(world: World, email: str, role: Role = Role.CLINICIAN) -> str:
    """The code in an invitation to northside."""
    await world.practices.invite(world.grace, email, role, "Someone")
    code: str = world.mail.letters[-1].text.split("    ")[1].split("\n")[0]
    world.forget()
    return code


def accept(world: World, email: str, code: str, **other: Any) -> Awaitable[Registered]:
    given = {"password": FRESH, "otp": None, "name": "Bola", "device_id": "phone", "caller": HOME} | other
    return world.accounts.accept(email, code, **given)


async def test_bola_follows_an_invitation_with_a_new_account(house: World) -> None:
    code = await invited(house, "bola@north.example")
    joined = await accept(house, " Bola@North.example", f" {code}\n")
    account, practice = joined.account, joined.practice
    assert (practice.id, joined.role) == ("northside", Role.CLINICIAN)
    assert (account.email, account.name, account.password_hash) == ("Bola@North.example", "Bola", f"hash of {FRESH}")
    # Who has the code has read the address's mail.
    assert account.verified_at == house.clock()
    assert house.account(account.id) == account
    assert joined.tokens is not None
    actor = await house.who(joined.tokens)
    assert (actor.account_id, actor.practice_id, actor.device_id) == (account.id, "northside", "phone")
    assert [(entry.action, entry.account_id) for entry in house.entries] == [
        ("accounts.accept", account.id),
        ("sessions.login", account.id),
    ]
    assert house.mail.letters == []


async def test_dr_stern_follows_an_invitation_with_her_own_password(house: World) -> None:
    code = await invited(house, address("dr_stern"))
    house.change("dr_stern", verified_at=None)
    joined = await accept(house, address("dr_stern"), code, password=PASSWORD, name=None, device_id=None)
    assert (joined.account.id, joined.practice.id) == ("dr_stern", "northside")
    assert joined.account.verified_at == house.account("dr_stern").verified_at == house.clock()
    assert house.account("dr_stern").name == "Dr_Stern"
    assert joined.tokens is not None
    actor = await house.who(joined.tokens)
    assert actor.practice_id == "northside"
    assert actor.device_id
    assert {one.practice_id for one in await house.sessions.mine(actor)} == {"northside"}
    async with house.uow() as uow:
        assert len(await uow.practices.memberships("dr_stern")) == 2


async def test_an_address_that_was_verified_keeps_its_date(house: World) -> None:
    code = await invited(house, address("dr_stern"))
    joined = await accept(house, address("dr_stern"), code, password=PASSWORD)
    assert joined.account.verified_at == NOON


async def test_an_invitation_is_no_way_around_a_password_or_a_second_factor(house: World) -> None:
    code = await invited(house, address("dr_stern"))
    secret, _ = await house.secure(house.dr_stern)
    await refused(accept(house, address("dr_stern"), code, password=FRESH), InvalidCredentials)
    await refused(accept(house, address("dr_stern"), code, password=PASSWORD), OtpRequired)
    assert {(entry.action, entry.practice_id) for entry in house.entries} == {("accounts.accept", "southside")}
    joined = await accept(house, address("dr_stern"), code, password=PASSWORD, otp=house.otp(secret))
    assert joined.practice.id == "northside"


async def test_a_wrong_password_for_an_invitation_takes_a_try(house: World) -> None:
    code = await invited(house, address("dr_stern"))
    for _ in range(5):
        await refused(accept(house, address("dr_stern"), code, password=WRONG), InvalidCredentials)
    await refused(accept(house, address("dr_stern"), code, password=PASSWORD), AccountLocked)


async def test_an_invitation_is_good_once_for_a_week_and_for_its_own_address(house: World) -> None:
    code = await invited(house, "bola@north.example")
    for email, said in (("mallory@north.example", code), ("bola@north.example", code[:-1]), (address("grace"), code)):
        refusal = await refused(accept(house, email, said), CodeInvalid)
        assert refusal.field == "code"
    await accept(house, "bola@north.example", code)
    for password in (FRESH, WRONG):
        await refused(accept(house, "bola@north.example", code, password=password), CodeInvalid)
    late = await invited(house, "chidi@north.example")
    house.clock.now += 7 * DAY
    await refused(accept(house, "chidi@north.example", late), CodeInvalid)


async def test_a_wrong_code_of_an_invitation_does_not_tell_who_has_an_account(house: World) -> None:
    answers = []
    for email in (address("dr_stern"), "nobody@north.example"):
        house.forget()
        house.passwords.asked.clear()
        refusal = await refused(accept(house, email, "made up"), CodeInvalid)
        answers.append((refusal.message, refusal.context, list(house.statements), list(house.passwords.asked)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"password": "short"}, "password"),
        ({"password": "bola@north.example"}, "password"),
        ({"password": "correct horse 7"}, "password"),
    ],
)
async def test_a_new_account_lacks_nothing_and_the_invitation_waits_for_it(
    house: World, other: dict[str, Any], field: str
) -> None:
    code = await invited(house, "bola@north.example")
    refusal = await refused(accept(house, "bola@north.example", code, **other), InvalidFields)
    assert refusal.field == field
    await accept(house, "bola@north.example", code)


async def test_an_invitation_without_a_name_is_followed_too(house: World) -> None:
    await house.practices.invite(house.grace, "bola@north.example", Role.OWNER, "")
    code = house.mail.letters[-1].text.split("    ")[1].split("\n")[0]
    assert (await accept(house, "bola@north.example", code)).account.name == "Bola"


async def test_of_several_that_follow_one_invitation_at_once_one_joins(house: World) -> None:
    code = await invited(house, address("dr_stern"))
    servers = [house.server() for _ in range(4)]
    answers = await asyncio.gather(
        *(server.accounts.accept(address("dr_stern"), code, PASSWORD, None, None, "phone", HOME) for server in servers),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in answers) == ["CodeInvalid", "CodeInvalid", "CodeInvalid", "Registered"]


async def test_an_invitation_that_is_withdrawn_while_the_password_is_looked_at_opens_nothing(house: World) -> None:
    code = await invited(house, address("dr_stern"))
    new = await invited(house, "bola@north.example")

    async def withdrawn() -> None:
        for one in await house.practices.members(house.grace):
            if one.presence == "invited":
                await house.practices.remove(house.grace, one.id)

    house.passwords.meanwhile = withdrawn
    await refused(accept(house, address("dr_stern"), code, password=PASSWORD), CodeInvalid)
    assert house.live("dr_stern") == []
    house.passwords.meanwhile = withdrawn
    await refused(accept(house, "bola@north.example", new), CodeInvalid)


async def test_an_account_that_begins_while_its_invitation_is_followed_is_not_taken_over(house: World) -> None:
    code = await invited(house, "bola@north.example")

    async def registers() -> None:
        await house.server().accounts.register(OKAFOR | {"email": "bola@north.example"}, HOME)

    house.passwords.meanwhile = registers
    await refused(accept(house, "bola@north.example", code), EmailTaken)
    # With the password of that account it goes on.
    assert (await accept(house, "bola@north.example", code, password=OKAFOR["password"])).practice.id == "northside"


# -- me -----------------------------------------------------------------------------------------------------------


async def test_a_token_says_whose_it_is(world: World) -> None:
    registered = await world.accounts.register(OKAFOR)
    actor = replace(world.dr_okafor, account_id=registered.account.id, practice_id=registered.practice.id)
    me = await world.accounts.me(actor)
    assert (me.account, me.practice, me.role) == (registered.account, registered.practice, registered.role)


async def test_a_token_that_outlived_its_account_or_practice_proves_nothing(world: World) -> None:
    registered = await world.accounts.register(OKAFOR)
    gone = replace(world.dr_okafor, account_id="gone")
    with pytest.raises(NotAuthenticated):
        await world.accounts.rename(gone, "Nobody")
    for account_id, practice_id in ((registered.account.id, "gone"), ("gone", registered.practice.id)):
        with pytest.raises(NotAuthenticated):
            await world.accounts.me(replace(world.dr_okafor, account_id=account_id, practice_id=practice_id))


async def test_someone_has_another_name_from_now_on(house: World) -> None:
    before = house.account("grace")
    renamed = await house.accounts.rename(house.grace, "Grace Hopper-Lindqvist")
    assert renamed.account == house.account("grace") == replace(before, name="Grace Hopper-Lindqvist")
    assert (renamed.practice.id, renamed.role) == ("northside", Role.OWNER)
    [entry] = house.entries
    assert (entry.action, entry.account_id) == ("accounts.rename", "grace")
    assert "Lindqvist" not in repr(entry)


# -- another password ---------------------------------------------------------------------------------------------


async def test_with_another_password_every_other_session_ends_and_this_device_stays_in(house: World) -> None:
    old = [await house.login("grace", device_id=device) for device in ("desk-3", "phone", "tablet")]
    actor = await house.who(old[0])
    house.forget()
    fresh = await house.accounts.change_password(actor, PASSWORD, None, FRESH, HOME)
    for tokens in old:
        await refused(house.who(tokens), SessionEnded)
        await refused(house.server().sessions.refresh(tokens.refresh_token, HOME), SessionEnded)
    now = await house.who(fresh)
    assert (now.account_id, now.practice_id, now.device_id, now.role) == ("grace", "northside", "desk-3", Role.OWNER)
    await house.sessions.refresh(fresh.refresh_token, HOME)
    assert [event.ending for event in house.told if isinstance(event, SessionClosed)] == ["password"] * 3
    assert [entry.action for entry in house.entries] == ["accounts.change-password", "sessions.login"]
    [letter] = house.mail.to(address("grace"))
    assert "every other device was logged out" in letter.text
    await refused(house.login("grace"), InvalidCredentials)
    await house.login("grace", password=FRESH)


@pytest.mark.parametrize(
    "fresh", ["short", "grace@north.example", "Grace Grace 1984", "Northside, 1984", "correct horse 7", "one heron two"]
)
async def test_a_bad_new_password_changes_nothing(house: World, fresh: str) -> None:
    house.change("grace", name="Grace Lindqvist")
    actor = await house.enter("grace")
    house.forget()
    refusal = await refused(house.accounts.change_password(actor, PASSWORD, None, fresh, HOME), InvalidFields)
    assert refusal.field == "new_password"
    assert house.account("grace").password_hash == f"hash of {PASSWORD}"
    assert (len(house.live("grace")), house.mail.letters, house.told) == (1, [], [])


async def test_another_password_takes_the_old_one_and_the_second_factor(house: World) -> None:
    secret, _ = await house.secure(house.grace)
    change = house.accounts.change_password
    await refused(change(house.grace, WRONG, house.otp(secret), FRESH, HOME), InvalidCredentials)
    await refused(change(house.grace, PASSWORD, None, FRESH, HOME), OtpRequired)
    assert house.account("grace").password_hash == f"hash of {PASSWORD}"
    assert house.mail.letters == []
    await change(house.grace, PASSWORD, house.otp(secret), FRESH, HOME)
    assert house.account("grace").second_factor


async def test_a_hash_of_old_parameters_does_not_stand_in_the_way_of_another_password(house: World) -> None:
    house.change("grace", password_hash=f"old hash of {PASSWORD}")
    await house.accounts.change_password(house.grace, PASSWORD, None, FRESH, HOME)
    assert house.account("grace").password_hash == f"hash of {FRESH}"
