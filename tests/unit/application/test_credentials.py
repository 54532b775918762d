"""The use cases of credentials: a second factor is set up, asked for, and removed."""

from collections.abc import Awaitable

import pyotp
import pytest

from heallog.adapters.security import TotpAuthenticators
from heallog.application.credentials import Claim, Enrolment
from heallog.application.ports.unit_of_work import UnitOfWork
from heallog.domain.errors import (
    AccountLocked,
    DomainError,
    InvalidCredentials,
    NotFound,
    OtpInvalid,
    OtpRequired,
    WrongState,
)

from .world import HOME, HOUR, KEYS, MINUTE, PASSWORD, WRONG, World, address


@pytest.fixture
async def okafor(world: World) -> World:
    await world.hire(world.dr_okafor)
    world.clock.now += MINUTE
    return world


async def refused(asked: Awaitable[object], kind: type[DomainError]) -> DomainError:
    with pytest.raises(kind) as refusal:
        await asked
    return refusal.value


async def enrolled(world: World) -> Enrolment:
    return await world.credentials.enrol(world.dr_okafor, PASSWORD, HOME)


# -- set up -------------------------------------------------------------------------------------------------------


async def test_a_new_second_factor_is_shown_once_and_asks_for_nothing_yet(okafor: World) -> None:
    enrolment = await enrolled(okafor)
    assert pyotp.parse_uri(enrolment.uri).secret == enrolment.secret
    assert "dr_okafor%40north.example" in enrolment.uri
    account = okafor.account("dr_okafor")
    assert not account.second_factor
    assert account.totp is not None
    assert enrolment.secret.encode() not in account.totp
    await okafor.login("dr_okafor")
    assert [entry.action for entry in okafor.entries] == ["credentials.enrol", "sessions.login"]


async def test_a_second_factor_is_set_up_with_the_password_only(okafor: World) -> None:
    await refused(okafor.credentials.enrol(okafor.dr_okafor, WRONG, HOME), InvalidCredentials)
    assert okafor.account("dr_okafor").totp is None


async def test_whoever_lost_the_first_secret_gets_another_before_it_is_confirmed(okafor: World) -> None:
    first, second = await enrolled(okafor), await enrolled(okafor)
    assert first.secret != second.secret
    await refused(okafor.credentials.activate(okafor.dr_okafor, okafor.otp(first.secret)), OtpInvalid)
    await okafor.credentials.activate(okafor.dr_okafor, okafor.otp(second.secret))


async def test_the_apps_first_code_confirms_it_and_recovery_codes_are_shown(okafor: World) -> None:
    enrolment = await enrolled(okafor)
    okafor.forget()
    codes = await okafor.credentials.activate(okafor.dr_okafor, okafor.otp(enrolment.secret))
    assert len(set(codes)) == 10
    account = okafor.account("dr_okafor")
    assert (account.totp_confirmed_at, len(account.recovery)) == (okafor.clock(), 10)
    assert not any(code.encode() in account.recovery for code in codes)
    [letter] = okafor.mail.to(address("dr_okafor"))
    assert "authenticator app from now on" in letter.text
    assert not any(code in letter.text for code in codes)
    assert [entry.action for entry in okafor.entries] == ["credentials.activate"]
    await refused(okafor.login("dr_okafor"), OtpRequired)


async def test_a_wrong_first_code_confirms_nothing(okafor: World) -> None:
    enrolment = await enrolled(okafor)
    okafor.forget()
    late = okafor.otp(enrolment.secret)
    okafor.clock.now += HOUR
    for code in ("000000", "", late):
        await refused(okafor.credentials.activate(okafor.dr_okafor, code), OtpInvalid)
    assert not okafor.account("dr_okafor").second_factor
    assert okafor.mail.letters == []
    assert {(entry.action, entry.reason) for entry in okafor.entries} == {("credentials.activate", "OTP_INVALID")}


async def test_there_is_one_second_factor_at_most(okafor: World) -> None:
    await refused(okafor.credentials.activate(okafor.dr_okafor, "000000"), WrongState)
    secret, _ = await okafor.secure(okafor.dr_okafor)
    before = okafor.account("dr_okafor")
    await refused(okafor.credentials.activate(okafor.dr_okafor, okafor.otp(secret)), WrongState)
    sealed = before.totp
    await refused(enrolled(okafor), WrongState)
    assert okafor.account("dr_okafor").totp == sealed
    del okafor.store.accounts["dr_okafor"]
    await refused(okafor.credentials.activate(okafor.dr_okafor, okafor.otp(secret)), WrongState)


# -- asked for ----------------------------------------------------------------------------------------------------


async def test_whoever_confirms_something_with_a_second_factor_shows_it(okafor: World) -> None:
    secret, codes = await okafor.secure(okafor.dr_okafor)
    remove = okafor.credentials.deactivate
    await refused(remove(okafor.dr_okafor, PASSWORD, "", HOME), OtpRequired)
    await refused(remove(okafor.dr_okafor, PASSWORD, "000000", HOME), OtpInvalid)
    await refused(remove(okafor.dr_okafor, WRONG, okafor.otp(secret), HOME), InvalidCredentials)
    await refused(remove(okafor.dr_okafor, WRONG, codes[0], HOME), InvalidCredentials)
    assert okafor.account("dr_okafor").second_factor
    assert len(okafor.account("dr_okafor").recovery) == 10


async def test_guesses_of_who_is_logged_in_are_counted_apart_whatever_they_confirm(okafor: World) -> None:
    for _ in range(5):
        await refused(okafor.credentials.enrol(okafor.dr_okafor, WRONG, HOME), InvalidCredentials)
    await refused(okafor.sessions.logout_all(okafor.dr_okafor, PASSWORD, HOME), AccountLocked)
    assert (okafor.entries[-1].action, okafor.entries[-1].reason) == ("sessions.logout-all", "ACCOUNT_LOCKED")
    await okafor.login("dr_okafor")


async def test_a_stranger_who_guesses_keeps_nobody_from_ending_what_was_stolen(okafor: World) -> None:
    for _ in range(5):
        await refused(okafor.login("dr_okafor", password=WRONG), InvalidCredentials)
    await refused(okafor.login("dr_okafor"), AccountLocked)
    await okafor.sessions.logout_all(okafor.dr_okafor, PASSWORD, HOME)


async def test_work_that_fails_leaves_nothing_of_a_proof(okafor: World) -> None:
    secret, _ = await okafor.secure(okafor.dr_okafor)
    before = okafor.account("dr_okafor")

    async def breaks(*_: object) -> None:
        raise RuntimeError("the disk is full")

    claim = Claim(address("dr_okafor"), PASSWORD, okafor.otp(secret), "tablet-1", "sessions.login")
    with pytest.raises(RuntimeError):
        await okafor.credentials.prove(claim, HOME, breaks)
    assert okafor.account("dr_okafor") == before
    assert okafor.entries == []


# -- removed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["app", "recovery code"])
async def test_a_second_factor_is_removed_by_both_factors(okafor: World, by: str) -> None:
    secret, codes = await okafor.secure(okafor.dr_okafor)
    await okafor.credentials.deactivate(
        okafor.dr_okafor, PASSWORD, okafor.otp(secret) if by == "app" else codes[0], HOME
    )
    account = okafor.account("dr_okafor")
    assert (account.second_factor, account.totp, account.recovery) == (False, None, ())
    [letter] = okafor.mail.to(address("dr_okafor"))
    assert "password alone again" in letter.text
    assert [entry.action for entry in okafor.entries] == ["credentials.deactivate"]
    await okafor.login("dr_okafor")
    await okafor.secure(okafor.dr_okafor)


async def test_what_is_not_there_cannot_be_removed(okafor: World) -> None:
    await refused(okafor.credentials.deactivate(okafor.dr_okafor, PASSWORD, "000000", HOME), WrongState)
    assert okafor.mail.letters == []


# -- by the operator ----------------------------------------------------------------------------------------------


async def test_the_operator_helps_whoever_lost_the_app_and_the_recovery_codes(okafor: World) -> None:
    await okafor.secure(okafor.dr_okafor)
    for _ in range(5):
        await refused(okafor.login("dr_okafor", "000000"), OtpInvalid)
    okafor.forget()
    await okafor.credentials.reset_factor(" DR_OKAFOR@north.example")
    account = okafor.account("dr_okafor")
    assert (account.second_factor, account.totp, account.recovery) == (False, None, ())
    [letter] = okafor.mail.to(address("dr_okafor"))
    assert "password alone again" in letter.text
    [entry] = okafor.entries
    assert (entry.action, entry.account_id, entry.practice_id, entry.thing_id) == (
        "credentials.reset-factor",
        "",
        "northside",
        "dr_okafor",
    )
    await okafor.login("dr_okafor")
    await refused(okafor.credentials.reset_factor("nobody@north.example"), NotFound)


async def test_secrets_of_apps_come_under_the_key_in_use_and_stay_the_same(okafor: World) -> None:
    okafor.authenticators = TotpAuthenticators(KEYS[1:])
    okafor.credentials = okafor.server().credentials
    secret, _ = await okafor.secure(okafor.dr_okafor)
    await okafor.hire(okafor.dr_lee, okafor.ines)
    okafor.authenticators = TotpAuthenticators(KEYS)
    during = okafor.server().credentials
    okafor.credentials = during
    await okafor.secure(okafor.dr_lee)
    lees = okafor.account("dr_lee").totp
    assert await during.reseal() == 1
    assert await during.reseal() == 0
    assert okafor.account("dr_lee").totp == lees
    okafor.authenticators = TotpAuthenticators(KEYS[:1])
    after = okafor.server().sessions
    await after.login(address("dr_okafor"), PASSWORD, None, okafor.otp(secret), HOME)


async def test_an_account_that_loses_its_factor_meanwhile_is_left_alone(okafor: World) -> None:
    okafor.authenticators = TotpAuthenticators(KEYS[1:])
    okafor.credentials = okafor.server().credentials
    await okafor.secure(okafor.dr_okafor)
    okafor.authenticators = TotpAuthenticators(KEYS)
    work = okafor.uow
    begun = 0

    def meanwhile() -> UnitOfWork:
        nonlocal begun
        begun += 1
        if begun == 2:
            okafor.change("dr_okafor", totp=None, totp_confirmed_at=None)
        return work()

    okafor.uow = meanwhile  # type: ignore[method-assign]
    assert await okafor.server().credentials.reseal() == 0
    assert okafor.account("dr_okafor").totp is None


# -- the right password is no guess -------------------------------------------------------------------------------


async def test_an_entry_of_a_refusal_shows_no_password_and_no_code(okafor: World) -> None:
    secret, codes = await okafor.secure(okafor.dr_okafor)
    for password, otp in ((WRONG, codes[0]), (PASSWORD, "987654"), (PASSWORD, None)):
        await refused(okafor.login("dr_okafor", otp, password=password), DomainError)
    shown = repr(okafor.entries) + repr(okafor.told)
    assert not any(said in shown for said in (PASSWORD, WRONG, "987654", codes[0], secret))


async def test_a_claim_and_an_enrolment_show_no_secret_where_they_are_printed(okafor: World) -> None:
    enrolment = await enrolled(okafor)
    claim = Claim(address("dr_okafor"), PASSWORD, "987654", "tablet-1", "sessions.login")
    shown = f"{claim!r} {enrolment!r} {await okafor.login('dr_okafor')!r}"
    assert not any(said in shown for said in (PASSWORD, "987654", enrolment.secret, "hlr_", "eyJ"))
