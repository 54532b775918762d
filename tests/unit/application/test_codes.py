"""The use cases of one-time codes: an address is verified, and a forgotten password is replaced."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from heallog.domain.codes import Purpose
from heallog.domain.errors import (
    AccountLocked,
    CodeInvalid,
    DomainError,
    InvalidCredentials,
    InvalidFields,
    NotAuthenticated,
    OtpRequired,
    RateLimited,
    SessionEnded,
    WrongState,
)
from heallog.domain.events import SessionClosed

from .world import FRESH, HOME, KEYS, MINUTE, NOON, PASSWORD, SECOND, WRONG, World, address

NOBODY = "nobody@north.example"


@pytest.fixture
async def okafor(world: World) -> World:
    await world.hire(world.dr_okafor)
    world.clock.now += MINUTE
    return world


@pytest.fixture
async def newcomer(world: World) -> World:
    """dr_okafor has not shown yet that the address is hers."""
    await world.hire(world.dr_okafor, verified=False)
    world.clock.now += MINUTE
    return world


async def refused(asked: Awaitable[object], kind: type[DomainError]) -> DomainError:
    with pytest.raises(kind) as refusal:
        await asked
    return refusal.value


async def forgot(world: World, name: str = "dr_okafor") -> str:
    """The code that comes by mail."""
    await world.codes.forgot(address(name), HOME)
    return world.mailed(name)


def reset(world: World, code: str, password: str = FRESH, name: str = "dr_okafor") -> Awaitable[None]:
    return world.codes.reset(address(name), code, password, HOME)


def wrong(code: str) -> str:
    return f"{(int(code.replace(' ', '')) + 1) % 10**8:08}"


# -- verifying ----------------------------------------------------------------------------------------------------


async def test_dr_okafor_verifies_her_address_with_the_code_that_was_mailed(newcomer: World) -> None:
    await newcomer.codes.resend(newcomer.dr_okafor)
    [letter] = newcomer.mail.letters
    assert (letter.to, letter.subject) == (address("dr_okafor"), "Your HealLog code")
    assert "show that this address is yours" in letter.text
    code = newcomer.mailed("dr_okafor")
    await newcomer.codes.verify(newcomer.dr_okafor, code)
    assert newcomer.account("dr_okafor").verified_at == newcomer.clock()
    [entry] = newcomer.entries
    assert (entry.action, entry.account_id, entry.outcome) == ("codes.verify", "dr_okafor", "done")
    # Again changes nothing, whatever is said.
    await newcomer.codes.verify(newcomer.dr_okafor, "00000000")
    assert len(newcomer.entries) == 1


@pytest.mark.parametrize("spelled", ["12345678", "1234 5678", " 12 34 56 78\t"])
async def test_a_code_may_be_typed_with_spaces(newcomer: World, spelled: str) -> None:
    newcomer.chance = (12345678).to_bytes  # type: ignore[assignment]
    server = newcomer.server()
    await server.codes.resend(newcomer.dr_okafor)
    assert newcomer.mailed("dr_okafor") == "1234 5678"
    await server.codes.verify(newcomer.dr_okafor, spelled)


async def test_a_wrong_code_verifies_nothing_and_five_of_them_spoil_the_right_one(newcomer: World) -> None:
    await newcomer.codes.resend(newcomer.dr_okafor)
    code = newcomer.mailed("dr_okafor")
    for _ in range(5):
        refusal = await refused(newcomer.codes.verify(newcomer.dr_okafor, wrong(code)), CodeInvalid)
        assert refusal.field == "code"
    await refused(newcomer.codes.verify(newcomer.dr_okafor, code), CodeInvalid)
    assert newcomer.account("dr_okafor").verified_at is None
    assert {(entry.action, entry.reason) for entry in newcomer.entries} == {("codes.verify", "CODE_INVALID")}
    await newcomer.codes.resend(newcomer.dr_okafor)
    await newcomer.codes.verify(newcomer.dr_okafor, newcomer.mailed("dr_okafor"))


async def test_four_wrong_ones_do_not_spoil_it(newcomer: World) -> None:
    await newcomer.codes.resend(newcomer.dr_okafor)
    code = newcomer.mailed("dr_okafor")
    for _ in range(4):
        await refused(newcomer.codes.verify(newcomer.dr_okafor, wrong(code)), CodeInvalid)
    await newcomer.codes.verify(newcomer.dr_okafor, code)


async def test_two_hundred_guesses_at_once_are_five_looks(newcomer: World) -> None:
    await newcomer.codes.resend(newcomer.dr_okafor)
    code = newcomer.mailed("dr_okafor")
    guesses = [newcomer.codes.verify(newcomer.dr_okafor, wrong(code)) for _ in range(200)]
    await asyncio.gather(*guesses, newcomer.codes.verify(newcomer.dr_okafor, code), return_exceptions=True)
    assert newcomer.account("dr_okafor").verified_at is None


async def test_only_the_newest_code_is_good_and_only_for_ten_minutes(newcomer: World) -> None:
    codes = []
    for _ in range(2):
        newcomer.clock.now += SECOND
        await newcomer.codes.resend(newcomer.dr_okafor)
        codes.append(newcomer.mailed("dr_okafor"))
    await refused(newcomer.codes.verify(newcomer.dr_okafor, codes[0]), CodeInvalid)
    newcomer.clock.now += 10 * MINUTE
    await refused(newcomer.codes.verify(newcomer.dr_okafor, codes[1]), CodeInvalid)


async def test_a_code_that_nobody_asked_for_verifies_nothing(newcomer: World) -> None:
    await refused(newcomer.codes.verify(newcomer.dr_okafor, "00000000"), CodeInvalid)


async def test_another_code_is_not_sent_where_none_is_needed(okafor: World) -> None:
    await refused(okafor.codes.resend(okafor.dr_okafor), WrongState)
    assert okafor.mail.letters == []


async def test_whose_account_is_gone_verifies_nothing(newcomer: World) -> None:
    del newcomer.store.accounts["dr_okafor"]
    await refused(newcomer.codes.resend(newcomer.dr_okafor), NotAuthenticated)
    await refused(newcomer.codes.verify(newcomer.dr_okafor, "00000000"), NotAuthenticated)


async def test_three_codes_an_hour_are_sent_for_the_same_thing(newcomer: World) -> None:
    for _ in range(3):
        await newcomer.codes.resend(newcomer.dr_okafor)
        newcomer.clock.now += 10 * MINUTE
    newcomer.forget()
    refusal = await refused(newcomer.codes.resend(newcomer.dr_okafor), RateLimited)
    assert refusal.context == {"retry_after": 30 * 60}
    assert (newcomer.mail.letters, newcomer.entries) == ([], [])
    newcomer.clock.now += 30 * MINUTE
    await newcomer.codes.resend(newcomer.dr_okafor)
    assert len(newcomer.mail.letters) == 1


async def test_that_someone_registered_an_hour_ago_does_not_show_when_a_password_is_forgotten(newcomer: World) -> None:
    """Neither kind of code takes one from the other."""
    for _ in range(3):
        await newcomer.codes.resend(newcomer.dr_okafor)
    for email in (address("dr_okafor"), NOBODY):
        for _ in range(3):
            await newcomer.codes.forgot(email, HOME)
        refusal = await refused(newcomer.codes.forgot(email, HOME), RateLimited)
        assert refusal.context == {"retry_after": 3600}


async def test_of_ten_that_ask_at_once_three_are_sent_a_code(okafor: World) -> None:
    servers = [okafor.server() for _ in range(3)]
    answers = await asyncio.gather(
        *(servers[n % 3].codes.forgot(address("dr_okafor"), HOME) for n in range(10)), return_exceptions=True
    )
    assert [type(one).__name__ for one in answers].count("RateLimited") == 7
    assert len(okafor.mail.letters) == 3


async def test_a_code_for_one_thing_is_none_for_the_other(newcomer: World) -> None:
    await newcomer.codes.resend(newcomer.dr_okafor)
    verify = newcomer.mailed("dr_okafor")
    await refused(reset(newcomer, verify), CodeInvalid)
    again = await forgot(newcomer)
    await refused(newcomer.codes.verify(newcomer.dr_okafor, again), CodeInvalid)
    # Neither spoilt the other.
    await newcomer.codes.verify(newcomer.dr_okafor, verify)
    await reset(newcomer, again)


async def test_a_code_outlives_a_change_of_the_servers_key(okafor: World) -> None:
    await okafor.server(KEYS[1:]).codes.forgot(address("dr_okafor"), HOME)
    code = okafor.mailed("dr_okafor")
    await refused(okafor.server(KEYS[:1]).codes.reset(address("dr_okafor"), code, FRESH, HOME), CodeInvalid)
    await okafor.server(KEYS).codes.reset(address("dr_okafor"), code, FRESH, HOME)


# -- forgotten ----------------------------------------------------------------------------------------------------


async def test_dr_okafor_chooses_a_new_password(okafor: World) -> None:
    code = await forgot(okafor)
    assert "choose a new password" in okafor.mail.letters[-1].text
    await okafor.codes.reset(" DR_OKAFOR@north.example ", code, FRESH, HOME)
    assert okafor.account("dr_okafor").password_hash == f"hash of {FRESH}"
    assert "password of your HealLog account was changed" in okafor.mail.letters[-1].text
    assert [(entry.action, entry.practice_id, entry.account_id, entry.outcome) for entry in okafor.entries] == [
        ("codes.forgot", "northside", "dr_okafor", "done"),
        ("codes.reset", "northside", "dr_okafor", "done"),
    ]
    assert {entry.request_id for entry in okafor.entries} == {"request-9"}
    await refused(okafor.login("dr_okafor"), InvalidCredentials)
    await okafor.login("dr_okafor", password=FRESH)


async def answer(world: World, asked: Awaitable[None]) -> tuple[Any, ...]:
    """Everything by which an answer can be told from another."""
    world.statements.clear()
    world.store.audit_entries.clear()
    refusal: tuple[Any, ...] = ()
    try:
        await asked
    except DomainError as error:
        refusal = (type(error), error.message, error.field, error.context)
    entries = [(entry.action, entry.outcome, entry.reason) for entry in world.entries]
    return refusal, tuple(world.statements), entries


async def test_a_known_and_an_unknown_address_are_answered_alike(okafor: World) -> None:
    """With the same statements in the same order, and as many entries; only the letter tells, to who reads the mail."""
    guessed = []
    for _ in range(4):
        for asks in (
            lambda email: okafor.codes.forgot(email, HOME),
            *[lambda email: okafor.codes.reset(email, "00000000", FRESH, HOME)] * 2,
        ):
            known, unknown = [await answer(okafor, asks(email)) for email in (address("dr_okafor"), NOBODY)]
            assert known == unknown
            guessed.append(known[0][:1])
    assert guessed[-3:] == [(RateLimited,), (CodeInvalid,), (CodeInvalid,)]
    assert {letter.to for letter in okafor.mail.letters} == {address("dr_okafor")}
    assert okafor.passwords.asked == []


async def test_nobodys_code_is_never_good(world: World) -> None:
    """Not even where it is guessed, and an account begins meanwhile."""
    world.chance = (12345678).to_bytes  # type: ignore[assignment]
    server = world.server()
    await server.codes.forgot(NOBODY, HOME)
    assert world.mail.letters == []
    await refused(server.codes.reset(NOBODY, "12345678", FRESH, HOME), CodeInvalid)
    await world.hire(world.dr_okafor)
    world.change("dr_okafor", email_key=NOBODY)
    world.store.emails[NOBODY] = "dr_okafor"
    await refused(server.codes.reset(NOBODY, "12345678", FRESH, HOME), CodeInvalid)


async def test_a_reset_ends_every_session_and_lifts_the_lock(okafor: World) -> None:
    tokens = [await okafor.login("dr_okafor", device_id=device) for device in ("tablet-1", "phone")]
    for _ in range(5):
        await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
    await refused(okafor.login("dr_okafor"), AccountLocked)
    okafor.told.clear()
    await reset(okafor, await forgot(okafor))
    for each in tokens:
        await refused(okafor.who(each), SessionEnded)
        await refused(okafor.server().sessions.refresh(each.refresh_token, HOME), SessionEnded)
    assert [event.ending for event in okafor.told if isinstance(event, SessionClosed)] == ["password"] * 2
    for event in okafor.told:
        assert isinstance(event, SessionClosed)
        assert await okafor.blacklist.revoked("northside", event.session_id)
    await okafor.login("dr_okafor", password=FRESH)


async def test_a_reset_keeps_the_second_factor(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    before = okafor.account("dr_okafor")
    await reset(okafor, await forgot(okafor))
    after = okafor.account("dr_okafor")
    assert (after.totp, after.totp_confirmed_at, after.recovery) == (
        before.totp,
        before.totp_confirmed_at,
        before.recovery,
    )
    await refused(okafor.login("dr_okafor", password=FRESH), OtpRequired)
    await okafor.login("dr_okafor", okafor.otp(secret), password=FRESH)


async def test_whoever_resets_has_verified_the_address_and_a_verification_keeps_its_date(newcomer: World) -> None:
    await reset(newcomer, await forgot(newcomer))
    verified_at = newcomer.account("dr_okafor").verified_at
    assert verified_at == newcomer.clock()
    newcomer.clock.now += MINUTE
    await reset(newcomer, await forgot(newcomer), "another good passphrase")
    assert newcomer.account("dr_okafor").verified_at == verified_at


@pytest.mark.parametrize(
    "password", ["short", "correct horse 7", "dr_okafor@north.example", "Okafor Okafor, 1984", "number one heron"]
)
async def test_a_bad_password_does_not_use_the_code_up(okafor: World, password: str) -> None:
    okafor.change("dr_okafor", name="Ada Okafor")
    code = await forgot(okafor)
    for _ in range(7):
        refusal = await refused(reset(okafor, code, password), InvalidFields)
        assert refusal.field == "password"
    assert okafor.account("dr_okafor").password_hash == f"hash of {PASSWORD}"
    await reset(okafor, code)


async def test_a_persons_name_is_known_to_the_reset_only_after_the_right_code(okafor: World) -> None:
    """Else the answer would tell who has an account under this name."""
    okafor.change("dr_okafor", name="Quentin Zebra")
    code = await forgot(okafor)
    await refused(reset(okafor, wrong(code), "Quentin Zebra"), CodeInvalid)
    await refused(reset(okafor, code, "Quentin Zebra"), InvalidFields)


async def test_a_code_resets_once(okafor: World) -> None:
    code = await forgot(okafor)
    await reset(okafor, code)
    await refused(reset(okafor, code, "another good passphrase"), CodeInvalid)
    assert okafor.account("dr_okafor").password_hash == f"hash of {FRESH}"


async def test_of_resets_at_once_with_one_code_one_counts(okafor: World) -> None:
    code = await forgot(okafor)
    passwords = [f"a good passphrase {letter}" for letter in "abcdefgh"]
    servers = [okafor.server() for _ in passwords]
    answers = await asyncio.gather(
        *(
            server.codes.reset(address("dr_okafor"), code, password, HOME)
            for server, password in zip(servers, passwords, strict=True)
        ),
        return_exceptions=True,
    )
    assert [type(one) for one in answers].count(CodeInvalid) == 7
    [winner] = [password for password, one in zip(passwords, answers, strict=True) if one is None]
    assert okafor.account("dr_okafor").password_hash == f"hash of {winner}"
    assert [entry.action for entry in okafor.entries].count("codes.reset") == 1


async def test_a_code_that_was_asked_for_meanwhile_counts_instead(okafor: World) -> None:
    code = await forgot(okafor)
    okafor.clock.now += SECOND

    async def asks_again() -> None:
        await okafor.codes.forgot(address("dr_okafor"), HOME)

    okafor.passwords.meanwhile = asks_again
    await refused(reset(okafor, code), CodeInvalid)
    await reset(okafor, okafor.mailed("dr_okafor"))


async def test_an_account_that_goes_meanwhile_is_not_reset(okafor: World) -> None:
    code = await forgot(okafor)

    async def goes() -> None:
        del okafor.store.accounts["dr_okafor"]

    okafor.passwords.meanwhile = goes
    await refused(reset(okafor, code), CodeInvalid)


async def test_a_login_that_began_before_the_reset_and_ends_after_it_is_refused(okafor: World) -> None:
    code = await forgot(okafor)
    okafor.passwords.meanwhile = lambda: reset(okafor, code)
    await refused(okafor.login("dr_okafor"), InvalidCredentials)
    assert okafor.live("dr_okafor") == []


async def test_of_codes_no_more_is_kept_than_digests_and_none_gets_into_the_trail(okafor: World) -> None:
    code = (await forgot(okafor)).replace(" ", "")
    await refused(reset(okafor, wrong(code)), CodeInvalid)
    await reset(okafor, code)
    shown = repr(okafor.store.codes) + repr(okafor.entries) + repr(okafor.told) + repr(okafor.mail.letters)
    assert code not in shown
    assert wrong(code) not in shown
    assert FRESH not in shown
    [kept] = [one for one in okafor.store.codes.values() if one]
    assert (kept.purpose, kept.looks, kept.used_at, kept.created_at) == (Purpose.RESET, 1, NOON + MINUTE, NOON + MINUTE)
