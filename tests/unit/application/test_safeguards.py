"""Roundabout ways to more than one was given, and small print that would surprise whoever runs into it."""

from contextlib import suppress

import pytest

from heallog.application.credentials import Claim
from heallog.domain.access import Plan, Role
from heallog.domain.errors import AccountLocked, DomainError, InvalidCredentials, NotFound, OtpInvalid, Unavailable
from heallog.domain.practices import Membership
from heallog.domain.sessions import Tokens

from .world import DAY, FRESH, HOME, MINUTE, PASSWORD, World, address


@pytest.fixture
async def okafor(world: World) -> World:
    await world.hire(world.dr_okafor, world.grace)
    world.clock.now += MINUTE
    return world


async def test_a_switch_to_the_same_practice_makes_no_second_session_of_a_borrowed_token(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    borrowed = await okafor.who(tokens)
    try:
        kept = await okafor.sessions.switch(borrowed, "northside", HOME)
    except DomainError:
        return
    await okafor.sessions.logout(borrowed)
    with pytest.raises(DomainError):
        await okafor.sessions.refresh(kept.refresh_token, HOME)


async def test_whoever_switches_practices_for_ever_shows_the_password_after_90_days_too(okafor: World) -> None:
    async with okafor.uow() as uow:
        await uow.practices.join(Membership("southside", "dr_okafor", Role.AUDITOR, okafor.clock()))
        await uow.commit()
    tokens = await okafor.login("dr_okafor")
    practices = ["southside", "northside"]

    async def for_ever(tokens: Tokens) -> None:
        for _ in range(10):
            okafor.clock.now += 20 * DAY
            tokens = await okafor.sessions.refresh(tokens.refresh_token, HOME)
            tokens = await okafor.sessions.switch(await okafor.who(tokens), practices[0], HOME)
            practices.reverse()

    with pytest.raises(DomainError):
        await for_ever(tokens)


async def test_the_right_password_never_locks_whoever_asks_for_a_session_that_is_over(okafor: World) -> None:
    actor = await okafor.enter("dr_okafor")
    for _ in range(7):
        with pytest.raises(NotFound):
            await okafor.sessions.revoke(actor, "a session of yesterday", PASSWORD, HOME)


async def test_a_password_alone_buys_no_further_guesses_at_the_second_factor(okafor: World) -> None:
    """Not even by what takes the password only, with a session that was stolen."""
    _, codes = await okafor.secure(okafor.dr_okafor)
    stolen, *others = [await okafor.enter("dr_okafor", otp=code) for code in codes[:5]]
    looked_at = 0
    for other in others:
        for _ in range(4):
            try:
                await okafor.login("dr_okafor", "000000")
            except OtpInvalid:
                looked_at += 1
            except AccountLocked:
                break
        with suppress(AccountLocked):
            await okafor.sessions.revoke(stolen, other.session_id, PASSWORD, HOME)
    assert looked_at == 5


async def test_a_password_that_changes_at_every_look_is_wrong_in_the_end(okafor: World) -> None:
    async def there() -> None:
        okafor.change("dr_okafor", password_hash=f"old hash of {PASSWORD}")
        okafor.passwords.meanwhile = and_back

    async def and_back() -> None:
        okafor.change("dr_okafor", password_hash=f"hash of {PASSWORD}")

    okafor.passwords.meanwhile = there
    with pytest.raises(InvalidCredentials):
        await okafor.login("dr_okafor")
    assert [entry.reason for entry in okafor.entries] == ["INVALID_CREDENTIALS"]


async def test_what_could_not_be_asked_is_no_refusal_of_anyone(okafor: World) -> None:
    async def silent(*_: object) -> None:
        raise Unavailable("it does not answer")

    claim = Claim(address("dr_okafor"), PASSWORD, None, "tablet-1", "sessions.login")
    with pytest.raises(Unavailable):
        await okafor.credentials.prove(claim, HOME, silent)
    assert okafor.entries == []


async def test_after_a_smaller_plan_no_further_members_come(okafor: World) -> None:
    await okafor.practices.set_plan("northside", Plan.PRO)
    codes = []
    for n in range(5):
        await okafor.practices.invite(okafor.grace, f"{n}@north.example", Role.ASSISTANT, "")
        codes.append(okafor.mail.letters[-1].text.split("    ")[1].split("\n")[0])
    await okafor.practices.set_plan("northside", Plan.FREE)

    async def all_accept() -> None:
        for n, code in enumerate(codes):
            await okafor.accounts.accept(f"{n}@north.example", code, FRESH, None, "Someone", None, HOME)

    with pytest.raises(DomainError):
        await all_accept()


async def test_a_wrong_password_is_written_to_the_trail_of_the_practice_that_it_was_said_in(okafor: World) -> None:
    async with okafor.uow() as uow:
        await uow.practices.join(Membership("southside", "dr_okafor", Role.CLINICIAN, okafor.clock()))
        await uow.commit()
    there = await okafor.who(await okafor.sessions.switch(await okafor.enter("dr_okafor"), "southside", HOME))
    okafor.forget()
    with pytest.raises(InvalidCredentials):
        await okafor.sessions.logout_all(there, "wrong horse battery", HOME)
    assert okafor.entries[0].practice_id == "southside"


async def test_every_refusal_of_a_second_factor_leaves_an_entry(okafor: World) -> None:
    with pytest.raises(DomainError):
        await okafor.credentials.deactivate(okafor.dr_okafor, PASSWORD, "000000", HOME)
    assert [entry.outcome for entry in okafor.entries] == ["refused"]
