"""The use cases of sessions: log in, stay logged in, be let in, log out."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from heallog.domain.access import Caller, Permission, Plan, Role, authorise
from heallog.domain.accounts import Account
from heallog.domain.errors import (
    AccountLocked,
    DomainError,
    EmailNotVerified,
    Forbidden,
    InvalidCredentials,
    NotAuthenticated,
    NotFound,
    OtpInvalid,
    OtpRequired,
    SessionEnded,
    TokenExpired,
    Unavailable,
)
from heallog.domain.events import LoggedIn, SessionClosed
from heallog.domain.practices import Emergency, Membership
from heallog.domain.sessions import Ending, Session, Standing, Tokens, parse

from .world import DAY, FRESH, HOME, HOUR, KEYS, MINUTE, NOON, PASSWORD, SECOND, WRONG, World, address

TEN_SECONDS = 10 * SECOND


@pytest.fixture
async def okafor(world: World) -> World:
    """The world with dr_okafor in it, a minute later."""
    await world.hire(world.dr_okafor)
    world.clock.now += MINUTE
    return world


async def refused(asked: Awaitable[object], kind: type[DomainError]) -> DomainError:
    with pytest.raises(kind) as refusal:
        await asked
    return refusal.value


async def lets_in(world: World, tokens: Tokens) -> bool:
    try:
        await world.who(tokens)
    except SessionEnded:
        return False
    return True


# -- logging in ---------------------------------------------------------------------------------------------------


async def test_dr_okafor_logs_in(okafor: World) -> None:
    tokens = await okafor.sessions.login(" DR_OKAFOR@north.example", PASSWORD, "tablet-1", None, HOME)
    assert (tokens.expires_in, tokens.token_type) == (900, "Bearer")
    actor = await okafor.who(tokens)
    assert (actor.account_id, actor.practice_id, actor.role) == ("dr_okafor", "northside", Role.CLINICIAN)
    assert (actor.device_id, actor.request_id, actor.plan) == ("tablet-1", "request-1", Plan.FREE)
    [session] = okafor.live("dr_okafor")
    now = NOON + MINUTE
    assert (session.id, session.device_id, session.generation) == (actor.session_id, "tablet-1", 1)
    assert (session.created_at, session.refreshed_at, session.expires_at) == (now, now, now + 30 * DAY)
    assert okafor.told == [LoggedIn("northside", "dr_okafor", actor.session_id)]
    [entry] = okafor.entries
    assert (entry.action, entry.outcome, entry.session_id) == ("sessions.login", "done", actor.session_id)
    assert (entry.account_id, entry.role, entry.device_id) == ("dr_okafor", "clinician", "tablet-1")
    assert (entry.request_id, entry.at) == ("request-9", now)


async def test_a_device_without_an_id_is_given_one(okafor: World) -> None:
    tokens = [await okafor.sessions.login(address("dr_okafor"), PASSWORD, None, None, HOME) for _ in range(2)]
    one, other = [await okafor.who(each) for each in tokens]
    assert one.device_id
    assert one.device_id != other.device_id
    assert one.session_id != other.session_id


async def test_a_login_speaks_for_the_first_practice(okafor: World) -> None:
    async with okafor.uow() as uow:
        await uow.practices.join(Membership("southside", "dr_okafor", Role.AUDITOR, NOON - MINUTE))
        await uow.commit()
    actor = await okafor.enter("dr_okafor")
    assert (actor.practice_id, actor.role) == ("southside", Role.AUDITOR)


async def test_a_wrong_password_is_refused_and_remembered(okafor: World) -> None:
    await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
    assert (okafor.live("dr_okafor"), okafor.told) == ([], [])
    [entry] = okafor.entries
    assert (entry.action, entry.outcome, entry.reason) == ("sessions.login", "refused", "INVALID_CREDENTIALS")
    assert (entry.account_id, entry.practice_id, entry.role) == ("dr_okafor", "northside", "clinician")
    assert (entry.device_id, entry.request_id, entry.session_id) == ("tablet-1", "request-9", "")


async def answer(world: World, email: str, password: str) -> tuple[Any, ...]:
    """Everything by which an answer can be told from another: what is said, what is done, what is written."""
    world.forget()
    world.passwords.asked.clear()
    refusal = await refused(
        world.sessions.login(email, password, "tablet-1", None, Caller("", "request-9")), DomainError
    )
    [entry] = world.entries
    return (
        type(refusal),
        refusal.message,
        refusal.field,
        refusal.context,
        tuple(world.statements),
        len(world.passwords.asked),
        (entry.action, entry.outcome, entry.reason, entry.device_id, entry.request_id),
    )


async def test_unknown_and_wrong_answer_alike_in_all_that_can_be_seen(okafor: World) -> None:
    """And do alike: the same statements in the same order, one slow hash, one entry."""
    for _ in range(7):
        unknown = await answer(okafor, "nobody@north.example", PASSWORD)
        assert okafor.passwords.asked in ([None], [])
        wrong = await answer(okafor, address("dr_okafor"), WRONG)
        assert unknown == wrong
    assert (wrong[0], wrong[5]) == (AccountLocked, 0)


async def test_whoever_belongs_to_no_practice_is_told_so_and_only_with_the_right_password(world: World) -> None:
    async with world.uow() as uow:
        homeless = Account("h", "h@north.example", "h@north.example", "H", f"hash of {PASSWORD}", NOON)
        await uow.accounts.add(homeless)
        await uow.commit()
    login = world.sessions.login
    await refused(login("h@north.example", WRONG, None, None, HOME), InvalidCredentials)
    await refused(login("h@north.example", PASSWORD, None, None, HOME), Forbidden)
    assert [(entry.practice_id, entry.account_id, entry.reason) for entry in world.entries] == [
        ("", "h", "INVALID_CREDENTIALS"),
        ("", "h", "FORBIDDEN"),
    ]
    assert world.live("h") == []


# -- locked -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", [address("dr_okafor"), "nobody@north.example"])
async def test_of_two_hundred_guesses_at_once_five_are_looked_at(okafor: World, email: str) -> None:
    servers = [okafor.server() for _ in range(3)]
    guesses = [
        servers[n % 3].sessions.login(email, WRONG, "tablet-1", None, Caller(f"192.0.2.{n % 250}")) for n in range(200)
    ]
    answers = await asyncio.gather(*guesses, return_exceptions=True)
    assert len(okafor.passwords.asked) == 5
    kinds = [type(one) for one in answers]
    assert (kinds.count(InvalidCredentials), kinds.count(AccountLocked)) == (5, 195)
    assert len(okafor.entries) == 200


async def test_a_locked_account_says_how_long_and_does_not_look_at_the_right_password_either(okafor: World) -> None:
    for _ in range(5):
        await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
    okafor.clock.now += 30 * SECOND
    locked = await refused(okafor.login("dr_okafor"), AccountLocked)
    assert locked.context == {"retry_after": 30}
    assert "30 s" in locked.message
    assert len(okafor.passwords.asked) == 5
    assert okafor.entries[-1].reason == "ACCOUNT_LOCKED"
    okafor.clock.now += 30 * SECOND
    assert await lets_in(okafor, await okafor.login("dr_okafor"))


async def test_a_right_login_begins_anew(okafor: World) -> None:
    for _ in range(3):
        for _ in range(4):
            await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
        await okafor.login("dr_okafor")


async def test_one_address_has_fifty_guesses_at_whoever_it_likes(okafor: World) -> None:
    for n in range(50):
        await refused(okafor.sessions.login(f"{n}@x.example", WRONG, None, None, HOME), InvalidCredentials)
    await refused(okafor.login("dr_okafor"), AccountLocked)
    assert await lets_in(okafor, await okafor.login("dr_okafor", caller=Caller("192.0.2.8")))
    assert await lets_in(okafor, await okafor.login("dr_okafor", caller=Caller()))


async def test_an_account_of_ones_own_gives_an_address_no_more_guesses(okafor: World) -> None:
    wrong = 0
    for n in range(60):
        try:
            await okafor.sessions.login(f"{n}@x.example", WRONG, None, None, HOME)
        except InvalidCredentials:
            wrong += 1
        except AccountLocked:
            break
        else:
            raise AssertionError
        if wrong < 50:
            await okafor.login("dr_okafor")
    assert wrong == 50


# -- the second factor --------------------------------------------------------------------------------------------


async def test_a_login_asks_for_the_second_factor_and_takes_no_try_for_it(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    for _ in range(10):
        await refused(okafor.login("dr_okafor"), OtpRequired)
    assert {entry.reason for entry in okafor.entries} == {"OTP_REQUIRED"}
    assert okafor.live("dr_okafor") == []
    assert await lets_in(okafor, await okafor.login("dr_okafor", okafor.otp(secret)))


async def test_with_a_wrong_password_nobody_hears_of_a_second_factor(okafor: World) -> None:
    secret, codes = await okafor.secure(okafor.dr_okafor)
    for otp in (None, "000000", okafor.otp(secret), codes[0]):
        await refused(okafor.login("dr_okafor", otp, password=WRONG), InvalidCredentials)
    assert await lets_in(okafor, await okafor.login("dr_okafor", codes[0]))


async def test_a_wrong_code_takes_a_try(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    okafor.clock.now += HOUR
    for _ in range(5):
        await refused(okafor.login("dr_okafor", "000000"), OtpInvalid)
        assert okafor.entries[-1].reason == "OTP_INVALID"
    await refused(okafor.login("dr_okafor", okafor.otp(secret)), AccountLocked)


async def test_a_code_is_good_once(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    seen = okafor.otp(secret)
    await okafor.login("dr_okafor", seen)
    await refused(okafor.login("dr_okafor", seen), OtpInvalid)
    okafor.clock.now += 30 * SECOND
    await refused(okafor.login("dr_okafor", seen), OtpInvalid)
    late = okafor.otp(secret)
    okafor.clock.now += 30 * SECOND
    assert await lets_in(okafor, await okafor.login("dr_okafor", late))


async def test_of_two_logins_with_one_code_at_once_one_is_let_in(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    code = okafor.otp(secret)
    other = okafor.server()
    answers = await asyncio.gather(
        okafor.login("dr_okafor", code),
        other.sessions.login(address("dr_okafor"), PASSWORD, "phone", code, HOME),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in answers) == ["OtpInvalid", "Tokens"]


async def test_the_code_of_the_enrolment_is_used_up_by_it(okafor: World) -> None:
    enrolment = await okafor.credentials.enrol(okafor.dr_okafor, PASSWORD, HOME)
    code = okafor.otp(enrolment.secret)
    await okafor.credentials.activate(okafor.dr_okafor, code)
    await refused(okafor.login("dr_okafor", code), OtpInvalid)


async def test_a_recovery_code_opens_once_however_it_is_typed(okafor: World) -> None:
    _, codes = await okafor.secure(okafor.dr_okafor)
    await okafor.login("dr_okafor", f" {codes[3].lower().replace('-', ' ')} ")
    await refused(okafor.login("dr_okafor", codes[3]), OtpInvalid)
    await okafor.login("dr_okafor", codes[4])
    assert len(okafor.account("dr_okafor").recovery) == 8


async def test_recovery_codes_open_when_the_servers_key_of_the_secret_is_gone(okafor: World) -> None:
    secret, codes = await okafor.secure(okafor.dr_okafor)
    okafor.change("dr_okafor", totp=b"sealed under a key that nobody has")
    await refused(okafor.login("dr_okafor", okafor.otp(secret)), OtpInvalid)
    await okafor.login("dr_okafor", codes[0])
    okafor.change("dr_okafor", totp=None)
    await okafor.login("dr_okafor", codes[1])


# -- hashes and races ---------------------------------------------------------------------------------------------


async def test_a_hash_of_old_parameters_is_made_anew_at_the_login(okafor: World) -> None:
    okafor.change("dr_okafor", password_hash=f"old hash of {PASSWORD}")
    await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
    assert okafor.account("dr_okafor").password_hash.startswith("old")
    await okafor.login("dr_okafor")
    assert okafor.account("dr_okafor").password_hash == f"hash of {PASSWORD}"
    assert await lets_in(okafor, await okafor.login("dr_okafor"))


async def test_a_hash_is_made_anew_together_with_the_second_factors_step(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    okafor.change("dr_okafor", password_hash=f"old hash of {PASSWORD}")
    await okafor.login("dr_okafor", okafor.otp(secret))
    account = okafor.account("dr_okafor")
    assert account.password_hash == f"hash of {PASSWORD}"
    assert account.totp_step == int(okafor.clock().timestamp()) // 30


async def test_logins_at_once_are_all_let_in_while_the_hash_is_made_anew(okafor: World) -> None:
    okafor.change("dr_okafor", password_hash=f"old hash of {PASSWORD}")
    tokens = await asyncio.gather(*(okafor.login("dr_okafor") for _ in range(2)))
    assert all([await lets_in(okafor, each) for each in tokens])
    assert [entry.outcome for entry in okafor.entries] == ["done", "done"]


async def test_a_password_that_was_reset_while_it_was_looked_at_opens_nothing(okafor: World) -> None:
    async def reset() -> None:
        await okafor.codes.forgot(address("dr_okafor"), HOME)
        await okafor.server().codes.reset(address("dr_okafor"), okafor.mailed("dr_okafor"), FRESH, HOME)

    okafor.passwords.meanwhile = reset
    await refused(okafor.login("dr_okafor"), InvalidCredentials)
    assert okafor.live("dr_okafor") == []
    assert okafor.account("dr_okafor").password_hash == f"hash of {FRESH}"


async def test_an_account_that_goes_while_its_password_is_looked_at_is_refused(okafor: World) -> None:
    async def goes() -> None:
        del okafor.store.accounts["dr_okafor"]

    okafor.passwords.meanwhile = goes
    await refused(okafor.login("dr_okafor"), InvalidCredentials)


# -- staying in ---------------------------------------------------------------------------------------------------


async def test_a_refresh_gives_the_next_tokens_and_the_old_ones_access_goes_on(okafor: World) -> None:
    first = await okafor.login("dr_okafor")
    okafor.clock.now += 10 * MINUTE
    okafor.forget()
    second = await okafor.sessions.refresh(first.refresh_token, HOME)
    assert second.expires_in == 900
    assert {first.access_token, first.refresh_token}.isdisjoint({second.access_token, second.refresh_token})
    assert await lets_in(okafor, first)
    assert await lets_in(okafor, second)
    [session] = okafor.live("dr_okafor")
    assert (session.generation, session.refreshed_at) == (2, okafor.clock())
    assert session.expires_at == okafor.clock() + 30 * DAY
    assert (okafor.told, okafor.entries) == ([], [])


async def test_fifty_tasks_that_refresh_together_on_three_servers_get_one_answer(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    servers = [okafor.server(), okafor.server(KEYS[::-1]), okafor.server((b"a third key", *KEYS))]
    answers = await asyncio.gather(*(servers[n % 3].sessions.refresh(tokens.refresh_token, HOME) for n in range(50)))
    assert len(set(answers)) == 1
    assert [one.generation for one in okafor.live("dr_okafor")] == [2]
    assert await lets_in(okafor, answers[0])


async def test_the_same_refresh_within_ten_seconds_gets_the_same_answer_to_the_byte(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    answer = await okafor.sessions.refresh(tokens.refresh_token, HOME)
    okafor.clock.now += TEN_SECONDS
    assert await okafor.server(KEYS[::-1]).sessions.refresh(tokens.refresh_token, HOME) == answer


async def test_a_copied_token_ends_the_session_everywhere_and_is_told_of(okafor: World) -> None:
    stolen = await okafor.login("dr_okafor")
    own = await okafor.sessions.refresh(stolen.refresh_token, HOME)
    okafor.clock.now += TEN_SECONDS + SECOND
    okafor.forget()
    await refused(okafor.sessions.refresh(stolen.refresh_token, Caller("203.0.113.5", "request-13")), SessionEnded)
    [session] = [one for one in okafor.store.sessions.values() if one]
    assert (session.ending, session.ended_at) == (Ending.REPLAYED, okafor.clock())
    assert okafor.told == [SessionClosed("northside", "dr_okafor", session.id, "replayed")]
    [entry] = okafor.entries
    assert (entry.action, entry.account_id, entry.session_id) == ("sessions.replay", "dr_okafor", session.id)
    assert (entry.request_id, entry.device_id) == ("request-13", "tablet-1")
    assert await okafor.blacklist.revoked("northside", session.id)
    assert not await lets_in(okafor, own)
    await refused(okafor.server().sessions.refresh(own.refresh_token, HOME), SessionEnded)
    assert len(okafor.entries) == 1


async def test_nobody_ends_a_session_with_what_is_made_up(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    token = parse(tokens.refresh_token)
    assert token is not None
    session, sealed = token.session_id, tokens.refresh_token[-64:]
    other = await okafor.login("dr_okafor")
    for made_up in (
        "",
        "hlr_",
        tokens.access_token,
        f"hlr_northside_nothing_1_{sealed}",
        f"hlr_southside_{session}_1_{sealed}",
        f"hlr_northside_{session}_1_{'A' * 64}",
        f"hlr_northside_{session}_2_{sealed}",
        f"hlr_northside_{session}_1_{other.refresh_token[-64:]}",
    ):
        okafor.forget()
        await refused(okafor.sessions.refresh(made_up, HOME), SessionEnded)
        assert (okafor.told, okafor.entries) == ([], [])
    assert await lets_in(okafor, await okafor.sessions.refresh(tokens.refresh_token, HOME))


async def test_whoever_was_removed_gets_no_further_tokens_and_comes_back_to_the_same_token(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    member = okafor.store.memberships["northside", "dr_okafor"]
    okafor.store.memberships["northside", "dr_okafor"] = Membership(
        "northside", "dr_okafor", Role.CLINICIAN, NOON, okafor.clock()
    )
    await refused(okafor.sessions.refresh(tokens.refresh_token, HOME), SessionEnded)
    assert not await lets_in(okafor, tokens)
    assert [one.generation for one in okafor.live("dr_okafor")] == [1]
    okafor.store.memberships["northside", "dr_okafor"] = member
    assert await lets_in(okafor, await okafor.sessions.refresh(tokens.refresh_token, HOME))


async def left(world: World, who: str) -> None:
    """As a practice removes a member."""
    async with world.uow() as uow:
        ended = await world.sessions.end(uow, who, Ending.MEMBERSHIP, "northside")
        await uow.practices.put_member(Membership("northside", who, Role.CLINICIAN, NOON, world.clock()))
        await uow.commit()
    await world.sessions.blacklist(ended)


async def test_whoever_was_removed_is_told_so_and_whoever_makes_up_a_token_is_not(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    out = await okafor.login("dr_okafor")
    await okafor.sessions.logout(await okafor.who(out))
    await left(okafor, "dr_okafor")
    session = parse(tokens.refresh_token)
    made_up = f"hlr_northside_{session.session_id}_1_{out.refresh_token[-64:]}"
    codes = [
        (await refused(okafor.sessions.refresh(one, HOME), SessionEnded)).code
        for one in (tokens.refresh_token, tokens.refresh_token, out.refresh_token, made_up)
    ]
    assert codes == ["MEMBERSHIP_ENDED", "MEMBERSHIP_ENDED", "SESSION_ENDED", "SESSION_ENDED"]
    # A member again, they log in as everybody does.
    okafor.store.memberships["northside", "dr_okafor"] = Membership("northside", "dr_okafor", Role.CLINICIAN, NOON)
    assert (await refused(okafor.sessions.refresh(tokens.refresh_token, HOME), SessionEnded)).code == "SESSION_ENDED"


async def test_whoever_was_removed_hands_in_with_the_last_token_and_does_nothing_else(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor", device_id="tablet-1")
    member = await okafor.sessions.admit_to_hand_in(tokens.access_token, "r-1")
    assert member == await okafor.sessions.admit(tokens.access_token, "r-1", unsafe=True)
    await left(okafor, "dr_okafor")
    for after in (timedelta(), DAY, 398 * DAY):
        okafor.clock.now += after
        actor = await okafor.sessions.admit_to_hand_in(tokens.access_token, "r-2")
        assert (actor.role, actor.capacity, actor.device_id) == (None, "former", "tablet-1")
        assert (actor.account_id, actor.practice_id, actor.session_id) == ("dr_okafor", "northside", member.session_id)
        for permission in Permission:
            with pytest.raises(Forbidden):
                authorise(actor, permission)
        await refused(okafor.sessions.admit(tokens.access_token, "r-3", unsafe=False), DomainError)
        await okafor.sessions.sweep()
    okafor.clock.now += 2 * DAY
    await refused(okafor.sessions.admit_to_hand_in(tokens.access_token, "r-4"), TokenExpired)
    assert await okafor.sessions.sweep() > 0
    assert list(okafor.store.sessions.values()).count(None) == len(okafor.store.sessions)


async def test_who_is_a_member_hands_nothing_in_with_a_token_that_expired(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    okafor.clock.now += DAY
    await refused(okafor.sessions.admit_to_hand_in(tokens.access_token, "r-1"), TokenExpired)


@pytest.mark.parametrize("how", ["logged out", "copied", "too old", "blacklisted"])
async def test_what_had_ended_before_hands_nothing_in(okafor: World, how: str) -> None:
    tokens = await okafor.login("dr_okafor")
    actor = await okafor.who(tokens)
    if how == "logged out":
        await okafor.sessions.logout(actor)
    elif how == "copied":
        await okafor.sessions.refresh(tokens.refresh_token, HOME)
        okafor.clock.now += MINUTE
        await refused(okafor.sessions.refresh(tokens.refresh_token, HOME), SessionEnded)
    elif how == "too old":
        okafor.clock.now += 31 * DAY
    else:
        await okafor.blacklist.revoke([("northside", actor.session_id)], okafor.clock() + HOUR)
        await refused(okafor.sessions.admit_to_hand_in(tokens.access_token, "r-1"), SessionEnded)
        return
    await left(okafor, "dr_okafor")
    await refused(
        okafor.sessions.admit_to_hand_in(tokens.access_token, "r-1"), TokenExpired if how == "too old" else SessionEnded
    )


async def test_a_copied_token_of_someone_who_was_removed_is_refused_like_any(okafor: World) -> None:
    first = await okafor.login("dr_okafor")
    await okafor.sessions.refresh(first.refresh_token, HOME)
    okafor.store.memberships["northside", "dr_okafor"] = Membership(
        "northside", "dr_okafor", Role.CLINICIAN, NOON, okafor.clock()
    )
    okafor.clock.now += MINUTE
    okafor.forget()
    await refused(okafor.sessions.refresh(first.refresh_token, HOME), SessionEnded)
    assert (okafor.told, okafor.entries) == ([], [])


async def test_a_token_is_over_after_a_month_away(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    okafor.clock.now += 30 * DAY
    await refused(okafor.sessions.refresh(tokens.refresh_token, HOME), SessionEnded)
    assert okafor.told[1:] == []


async def test_the_servers_keys_may_change_without_logging_anyone_out(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    for keys in ([b"first"], [b"second", b"first"], [b"second"], [b"third"]):
        tokens = await okafor.server(keys).sessions.refresh(tokens.refresh_token, HOME)
        okafor.clock.now += DAY
    await okafor.sessions.refresh(tokens.refresh_token, HOME)


# -- at the door --------------------------------------------------------------------------------------------------


class Silent:
    """A blacklist, or a database, that does not answer. Or breaks."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or Unavailable("it does not answer")

    async def revoked(self, practice_id: str, session_id: str) -> bool:
        raise self.error

    async def revoke(self, sessions: Sequence[tuple[str, str]], until: datetime) -> None:
        raise self.error

    async def standing(self, bearer: object) -> Standing | None:
        raise self.error


async def test_a_token_of_another_kind_proves_nothing(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    for token in ("", "x", tokens.refresh_token, f"{tokens.access_token}x"):
        await refused(okafor.sessions.admit(token, "request-1", unsafe=False), NotAuthenticated)


async def test_a_token_expires_after_a_quarter_of_an_hour_and_the_session_does_not(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    okafor.clock.now += 16 * MINUTE
    await refused(okafor.who(tokens), TokenExpired)
    assert await lets_in(okafor, await okafor.sessions.refresh(tokens.refresh_token, HOME))


@pytest.mark.parametrize("unsafe", [False, True])
async def test_a_session_that_ended_lets_nobody_in_whatever_its_token_says(okafor: World, unsafe: bool) -> None:
    tokens = await okafor.login("dr_okafor")
    [(key, session)] = okafor.store.sessions.items()
    assert session is not None
    for over in (session.ended(Ending.REVOKED, okafor.clock()), None):
        okafor.store.sessions[key] = over
        await refused(okafor.sessions.admit(tokens.access_token, "", unsafe=unsafe), SessionEnded)


async def test_a_session_that_expires_lets_nobody_in(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    okafor.clock.now += 30 * DAY - MINUTE
    late = await okafor.sessions.refresh(tokens.refresh_token, HOME)
    [(key, session)] = okafor.store.sessions.items()
    assert session is not None
    okafor.store.sessions[key] = Session(
        **{name: getattr(session, name) for name in Session.__slots__} | {"expires_at": okafor.clock()}
    )
    await refused(okafor.who(late), SessionEnded)


async def test_what_is_on_the_blacklist_is_not_let_in_although_its_row_is_live(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    actor = await okafor.who(tokens)
    await okafor.blacklist.revoke([("northside", actor.session_id)], okafor.clock() + MINUTE)
    for unsafe in (False, True):
        await refused(okafor.sessions.admit(tokens.access_token, "", unsafe=unsafe), SessionEnded)
    okafor.clock.now += MINUTE
    assert await lets_in(okafor, tokens)


async def test_without_the_blacklist_reading_goes_on_and_writing_waits(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    door = okafor.server(blacklist=Silent()).sessions
    assert (await door.admit(tokens.access_token, "", unsafe=False)).account_id == "dr_okafor"
    await refused(door.admit(tokens.access_token, "", unsafe=True), Unavailable)
    actor = await okafor.who(tokens)
    await okafor.sessions.logout(actor)
    await refused(door.admit(tokens.access_token, "", unsafe=False), SessionEnded)


async def test_a_blacklist_that_breaks_in_an_unheard_of_way_lets_nobody_in(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    door = okafor.server(blacklist=Silent(RuntimeError("what?"))).sessions
    for unsafe in (False, True):
        with pytest.raises(RuntimeError):
            await door.admit(tokens.access_token, "", unsafe=unsafe)


async def test_without_the_rows_nobody_is_let_in(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    for door in (okafor.server(reads=Silent()).sessions, okafor.server(reads=Silent(), blacklist=Silent()).sessions):
        for unsafe in (False, True):
            await refused(door.admit(tokens.access_token, "", unsafe=unsafe), Unavailable)


async def test_a_session_of_somebody_else_is_not_let_in(okafor: World) -> None:
    class Mixed(Silent):
        async def standing(self, bearer: object) -> Standing | None:
            return Standing("alice", "tablet-1", NOON + DAY, Role.OWNER, Plan.PRO, True, None)

    tokens = await okafor.login("dr_okafor")
    door = okafor.server(reads=Mixed()).sessions
    await refused(door.admit(tokens.access_token, "", unsafe=False), SessionEnded)


async def test_another_role_or_plan_counts_at_the_very_next_request(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    okafor.store.memberships["northside", "dr_okafor"] = Membership("northside", "dr_okafor", Role.AUDITOR, NOON)
    await okafor.practices.set_plan("northside", Plan.PRO)
    actor = await okafor.who(tokens)
    assert (actor.role, actor.plan) == (Role.AUDITOR, Plan.PRO)


async def test_broken_glass_is_seen_at_the_door_until_its_end(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    assert not (await okafor.who(tokens)).emergency
    until = okafor.clock() + 5 * MINUTE
    async with okafor.uow() as uow:
        await uow.practices.declare(Emergency("northside", "e-1", "dr_okafor", "a reason", okafor.clock(), until))
        await uow.commit()
    okafor.clock.now = until - SECOND
    assert (await okafor.who(tokens)).emergency
    okafor.clock.now = until
    assert not (await okafor.who(tokens)).emergency


async def test_where_addresses_have_to_be_verified_nothing_else_can_be_done_before(world: World) -> None:
    await world.hire(world.dr_okafor, verified=False)
    tokens = await world.login("dr_okafor")
    strict = world.server(verified_only=True).sessions
    actor = await strict.admit(tokens.access_token, "", unsafe=True)
    with pytest.raises(EmailNotVerified):
        authorise(actor, Permission.READ_PATIENTS)
    authorise(await world.who(tokens), Permission.READ_PATIENTS)
    world.change("dr_okafor", verified_at=world.clock())
    authorise(await strict.admit(tokens.access_token, "", unsafe=True), Permission.READ_PATIENTS)


# -- another practice ---------------------------------------------------------------------------------------------


async def test_dr_okafor_speaks_for_another_practice_and_still_for_the_first(okafor: World) -> None:
    async with okafor.uow() as uow:
        await uow.practices.join(Membership("southside", "dr_okafor", Role.AUDITOR, okafor.clock()))
        await uow.commit()
    tokens = await okafor.login("dr_okafor", device_id="phone")
    actor = await okafor.who(tokens)
    okafor.forget()
    other = await okafor.sessions.switch(actor, "southside", HOME)
    there = await okafor.who(other)
    assert (there.practice_id, there.role, there.device_id) == ("southside", Role.AUDITOR, "phone")
    assert (await okafor.who(tokens)).practice_id == "northside"
    assert okafor.told == [LoggedIn("southside", "dr_okafor", there.session_id)]
    [entry] = okafor.entries
    assert (entry.action, entry.practice_id, entry.session_id) == ("sessions.switch", "southside", there.session_id)


@pytest.mark.parametrize("practice", ["southside", "nowhere"])
async def test_a_practice_of_others_is_as_good_as_none(okafor: World, practice: str) -> None:
    actor = await okafor.enter("dr_okafor")
    okafor.forget()
    refusal = await refused(okafor.sessions.switch(actor, practice, HOME), NotFound)
    assert refusal.message == "there is no such practice"
    assert len(okafor.live("dr_okafor")) == 1
    [entry] = okafor.entries
    assert (entry.action, entry.outcome, entry.practice_id) == ("sessions.switch", "refused", "northside")


async def test_a_session_that_ended_while_it_asked_speaks_for_no_other_practice(okafor: World) -> None:
    actor = await okafor.enter("dr_okafor")
    await okafor.sessions.logout(actor)
    await refused(okafor.sessions.switch(actor, "northside", HOME), SessionEnded)
    okafor.store.sessions.clear()
    await refused(okafor.sessions.switch(actor, "northside", HOME), SessionEnded)
    assert okafor.live("dr_okafor") == []


# -- out ----------------------------------------------------------------------------------------------------------


async def test_after_a_logout_every_server_refuses_at_once(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    other = await okafor.login("dr_okafor", device_id="phone")
    actor = await okafor.who(tokens)
    okafor.forget()
    await okafor.sessions.logout(actor)
    for server in (okafor.here, okafor.server(KEYS[::-1])):
        await refused(server.sessions.admit(tokens.access_token, "", unsafe=False), SessionEnded)
        await refused(server.sessions.refresh(tokens.refresh_token, HOME), SessionEnded)
    assert await lets_in(okafor, other)
    assert okafor.told == [SessionClosed("northside", "dr_okafor", actor.session_id, "logout")]
    [entry] = okafor.entries
    assert (entry.action, entry.session_id, entry.outcome) == ("sessions.logout", actor.session_id, "done")


async def test_the_blacklist_keeps_a_token_for_longer_than_it_could_be_good(okafor: World) -> None:
    actor = await okafor.enter("dr_okafor")
    await okafor.sessions.logout(actor)
    okafor.clock.now += 16 * MINUTE - SECOND
    assert await okafor.blacklist.revoked("northside", actor.session_id)
    okafor.clock.now += SECOND
    assert not await okafor.blacklist.revoked("northside", actor.session_id)


async def test_a_logout_works_where_the_blacklist_does_not_answer(okafor: World) -> None:
    tokens = await okafor.login("dr_okafor")
    door = okafor.server(blacklist=Silent()).sessions
    await door.logout(await okafor.who(tokens))
    assert not await lets_in(okafor, tokens)


async def test_nobody_logs_out_of_a_session_that_was_swept(okafor: World) -> None:
    actor = await okafor.enter("dr_okafor")
    okafor.store.sessions.clear()
    await refused(okafor.sessions.logout(actor), SessionEnded)


async def test_logging_out_everywhere_takes_the_password_and_ends_all_sessions(okafor: World) -> None:
    async with okafor.uow() as uow:
        await uow.practices.join(Membership("southside", "dr_okafor", Role.AUDITOR, okafor.clock()))
        await uow.commit()
    await okafor.hire(okafor.dr_lee)
    lee = await okafor.login("dr_lee")
    tokens = [await okafor.login("dr_okafor") for _ in range(3)]
    actor = await okafor.who(tokens[0])
    tokens.append(await okafor.sessions.switch(actor, "southside", HOME))
    okafor.forget()
    await refused(okafor.sessions.logout_all(actor, WRONG, HOME), InvalidCredentials)
    assert all([await lets_in(okafor, each) for each in tokens])
    assert await okafor.sessions.logout_all(actor, PASSWORD, HOME) == 4
    assert not any([await lets_in(okafor, each) for each in tokens])
    assert await lets_in(okafor, lee)
    assert {event.ending for event in okafor.told if isinstance(event, SessionClosed)} == {"logout"}
    assert okafor.entries[-1].action == "sessions.logout-all"


async def test_logging_out_everywhere_works_without_the_lost_phone(okafor: World) -> None:
    """The authenticator app is on it."""
    secret, _ = await okafor.secure(okafor.dr_okafor)
    actor = await okafor.enter("dr_okafor", otp=okafor.otp(secret))
    assert await okafor.sessions.logout_all(actor, PASSWORD, HOME) == 1


async def test_a_person_sees_their_live_sessions_newest_first_and_no_one_elses(okafor: World) -> None:
    await okafor.hire(okafor.dr_lee)
    await okafor.login("dr_lee")
    actors = []
    for device in ("tablet-1", "phone", "laptop"):
        okafor.clock.now += MINUTE
        actors.append(await okafor.enter("dr_okafor", device))
    await okafor.sessions.logout(actors[1])
    assert [one.device_id for one in await okafor.sessions.mine(actors[0])] == ["laptop", "tablet-1"]
    okafor.clock.now += 31 * DAY
    assert await okafor.sessions.mine(actors[0]) == []


async def test_a_stolen_tablet_is_logged_out_from_the_phone(okafor: World) -> None:
    tablet, phone = await okafor.login("dr_okafor"), await okafor.login("dr_okafor", device_id="phone")
    stolen, actor = await okafor.who(tablet), await okafor.who(phone)
    okafor.forget()
    await okafor.sessions.revoke(actor, stolen.session_id, PASSWORD, HOME)
    assert not await lets_in(okafor, tablet)
    assert await lets_in(okafor, phone)
    assert okafor.told == [SessionClosed("northside", "dr_okafor", stolen.session_id, "revoked")]
    [entry] = okafor.entries
    assert (entry.action, entry.thing_id, entry.session_id) == (
        "sessions.revoke",
        stolen.session_id,
        actor.session_id,
    )
    refusal = await refused(okafor.sessions.revoke(actor, stolen.session_id, PASSWORD, HOME), NotFound)
    assert "no such session" in refusal.message


async def test_a_session_of_somebody_else_is_as_good_as_none(okafor: World) -> None:
    await okafor.hire(okafor.dr_lee)
    lee = await okafor.login("dr_lee")
    foreign, actor = await okafor.who(lee), await okafor.enter("dr_okafor")
    okafor.forget()
    answers = [
        await refused(okafor.sessions.revoke(actor, session_id, PASSWORD, HOME), NotFound)
        for session_id in (foreign.session_id, "nothing")
    ]
    assert answers[0].message == answers[1].message
    assert await lets_in(okafor, lee)
    entry = okafor.entries[0]
    assert (entry.action, entry.outcome, entry.thing_id) == ("sessions.revoke", "refused", foreign.session_id)


async def test_to_log_out_another_device_takes_the_password(okafor: World) -> None:
    tokens, actor = await okafor.login("dr_okafor"), await okafor.enter("dr_okafor", "phone")
    session_id = (await okafor.who(tokens)).session_id
    await refused(okafor.sessions.revoke(actor, session_id, WRONG, HOME), InvalidCredentials)
    assert await lets_in(okafor, tokens)


async def test_whose_account_is_gone_confirms_nothing(okafor: World) -> None:
    actor = await okafor.enter("dr_okafor")
    del okafor.store.accounts["dr_okafor"]
    await refused(okafor.sessions.logout_all(actor, PASSWORD, HOME), NotAuthenticated)


# -- and what is left ---------------------------------------------------------------------------------------------


async def test_what_was_over_a_week_ago_is_swept_away_and_nothing_else(okafor: World) -> None:
    ended, live = await okafor.enter("dr_okafor"), await okafor.enter("dr_okafor")
    await okafor.sessions.logout(ended)
    await okafor.codes.forgot(address("dr_okafor"), HOME)
    await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
    okafor.clock.now += timedelta(days=7)
    assert await okafor.sessions.sweep() == 0
    okafor.clock.now += HOUR
    # The session, the code, and two counters of the wrong login: of the account, and of the address.
    assert await okafor.sessions.sweep() == 4
    assert await okafor.sessions.sweep() == 0
    assert [one.id for one in okafor.live("dr_okafor")] == [live.session_id]


# -- by the operator ----------------------------------------------------------------------------------------------


async def test_the_operator_logs_out_one_account_or_everybody(okafor: World) -> None:
    await okafor.hire(okafor.dr_lee, okafor.dr_stern)
    tokens = {name: await okafor.login(name) for name in ("dr_okafor", "dr_lee", "dr_stern")}
    okafor.forget()
    assert await okafor.sessions.log_out(" DR_LEE@north.example") == 1
    assert [name for name, each in tokens.items() if await lets_in(okafor, each)] == ["dr_okafor", "dr_stern"]
    assert await okafor.sessions.log_out(None) == 2
    assert not any([await lets_in(okafor, each) for each in tokens.values()])
    assert await okafor.sessions.log_out(None) == 0
    assert {event.ending for event in okafor.told if isinstance(event, SessionClosed)} == {"revoked"}
    assert sorted((entry.action, entry.account_id, entry.practice_id) for entry in okafor.entries) == [
        ("sessions.log-out", "", "northside"),
        ("sessions.log-out", "", "northside"),
        ("sessions.log-out", "", "southside"),
    ]
    for session in okafor.store.sessions.values():
        assert session is not None
        assert await okafor.blacklist.revoked(session.practice_id, session.id)
    await refused(okafor.sessions.log_out("nobody@north.example"), NotFound)
