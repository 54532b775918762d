"""What proves that it is Bola: her password, her app, her recovery codes; and how often anyone may guess."""

import asyncio
from typing import Any

import httpx
import pyotp
import pytest

from heallog.domain.access import Role

from .clinic import PASSWORD, refused
from .people import FRESH, HOUR, MINUTE, SECOND, House, NewHouse, Person

WRONG = "not her password"
LOGIN = "/v1/auth/login"


@pytest.fixture
async def bola(house: House) -> Person:
    return await house.person("Bola")


# -- another password ---------------------------------------------------------------------------------------------


async def test_bola_changes_her_password_and_only_this_device_stays(bola: Person) -> None:
    await bola.login(device_id="phone")
    phone = dict(bola.tokens)
    await bola.login(device_id="tablet")
    tablet = dict(bola.tokens)
    said = {"password": PASSWORD, "new_password": FRESH}
    bola.tokens = await bola.did("POST", "/v1/auth/password/change", said)
    assert await bola.trail() == [("accounts.change-password", "done", None), ("sessions.login", "done", None)]
    for old in (phone, tablet):
        assert not await bola.alive(old["access_token"])
        refused(await bola.refresh(old["refresh_token"]), 401, "SESSION_ENDED")
    (session,) = (await bola.get("/v1/sessions"))["items"]
    assert (session["device_id"], session["current"]) == ("tablet", True)
    assert bola.letters[-1].subject == "Your HealLog password was changed"
    refused(await bola.login(PASSWORD), 401, "INVALID_CREDENTIALS")
    assert (await bola.login(FRESH)).status_code == 200


async def test_who_does_not_know_the_old_password_changes_nothing(bola: Person) -> None:
    letters = len(bola.letters)
    said = {"password": WRONG, "new_password": FRESH}
    refused(await bola.post("/v1/auth/password/change", said), 401, "INVALID_CREDENTIALS")
    assert await bola.trail() == [("accounts.change-password", "refused", "INVALID_CREDENTIALS")]
    assert await bola.alive()
    assert len(bola.letters) == letters
    assert (await bola.login(PASSWORD)).status_code == 200


@pytest.mark.parametrize("bad", ["short", "password1234", "Bola at Lakeside", "{email}"])
async def test_a_new_password_must_be_a_good_one(bola: Person, bad: str) -> None:
    said = {"password": PASSWORD, "new_password": bad.format(email=bola.email)}
    refused(await bola.post("/v1/auth/password/change", said), 422, "INVALID_FIELDS", "new_password")
    assert await bola.alive()


# -- the second factor --------------------------------------------------------------------------------------------


class App:
    """Bola's authenticator app."""

    def __init__(self, person: Person, enrolment: dict[str, str]) -> None:
        self._clock = person.house.clock
        self._totp = pyotp.parse_uri(enrolment["uri"])
        assert isinstance(self._totp, pyotp.TOTP)
        assert self._totp.secret == enrolment["secret"]
        assert (self._totp.issuer, self._totp.name) == ("HealLog", person.email)

    def shows(self) -> str:
        return self._totp.at(self._clock.now)


async def enrolled(person: Person) -> App:
    return App(person, await person.did("POST", "/v1/auth/totp", {"password": PASSWORD}))


async def confirmed(person: Person) -> tuple[App, list[str]]:
    app = await enrolled(person)
    codes = (await person.did("POST", "/v1/auth/totp/confirm", {"otp": app.shows()}))["recovery_codes"]
    person.house.clock.now += MINUTE
    return app, codes


async def test_an_app_asks_for_nothing_until_it_is_confirmed(bola: Person) -> None:
    await enrolled(bola)
    assert await bola.trail() == [("credentials.enrol", "done", None)]
    assert (await bola.login()).status_code == 200
    app = await enrolled(bola)
    refused(await bola.post("/v1/auth/totp/confirm", {"otp": "000000"}), 401, "OTP_INVALID")
    assert await bola.trail() == [("credentials.activate", "refused", "OTP_INVALID")]
    codes = await bola.did("POST", "/v1/auth/totp/confirm", {"otp": f" {app.shows()[:3]} {app.shows()[3:]} "})
    assert await bola.trail() == [("credentials.activate", "done", None)]
    assert len(set(codes["recovery_codes"])) == 10
    account = (await bola.get("/v1/me"))["account"]
    assert (account["second_factor"], account["recovery_codes_left"]) == (True, 10)
    assert bola.letters[-1].subject == "How you log in to HealLog was changed"
    refused(await bola.login(), 401, "OTP_REQUIRED")


async def test_beginning_with_an_app_takes_the_password(bola: Person) -> None:
    refused(await bola.post("/v1/auth/totp", {"password": WRONG}), 401, "INVALID_CREDENTIALS")
    assert await bola.trail() == [("credentials.enrol", "refused", "INVALID_CREDENTIALS")]
    refused(await bola.post("/v1/auth/totp/confirm", {"otp": "123456"}), 409, "WRONG_STATE")


async def test_bola_logs_in_with_her_app_and_each_code_is_good_once(house: House, bola: Person) -> None:
    app, _ = await confirmed(bola)
    refused(await bola.login(), 401, "OTP_REQUIRED")
    assert await bola.trail() == [("sessions.login", "refused", "OTP_REQUIRED")]
    code = app.shows()
    assert (await bola.login(otp=code)).status_code == 200
    refused(await bola.login(otp=code), 401, "OTP_INVALID")
    assert await bola.trail() == [("sessions.login", "refused", "OTP_INVALID")]
    house.clock.now += 30 * SECOND
    code = app.shows()
    house.clock.now += 30 * SECOND  # It changed while she typed.
    assert (await bola.login(otp=code)).status_code == 200
    house.clock.now += 30 * SECOND
    late = app.shows()
    house.clock.now += 60 * SECOND
    refused(await bola.login(otp=late), 401, "OTP_INVALID")


async def test_the_code_that_confirmed_the_app_logs_nobody_in(bola: Person) -> None:
    app = await enrolled(bola)
    code = app.shows()
    await bola.did("POST", "/v1/auth/totp/confirm", {"otp": code})
    refused(await bola.login(otp=code), 401, "OTP_INVALID")


async def test_of_ten_logins_with_one_code_one_gets_in(bola: Person) -> None:
    app, _ = await confirmed(bola)
    body = {"email": bola.email, "password": PASSWORD, "otp": app.shows()}
    answers = await asyncio.gather(*(bola.post(LOGIN, body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_a_right_code_with_a_wrong_password_is_a_wrong_password(bola: Person) -> None:
    app, codes = await confirmed(bola)
    for otp in (app.shows(), codes[0], "000000"):
        refused(await bola.login(WRONG, otp=otp), 401, "INVALID_CREDENTIALS")
    # The code was not used up by it.
    assert (await bola.login(otp=app.shows())).status_code == 200


async def test_a_recovery_code_opens_once_however_it_is_typed(bola: Person) -> None:
    _, codes = await confirmed(bola)
    assert (await bola.login(otp=codes[3].lower().replace("-", " "))).status_code == 200
    assert (await bola.get("/v1/me"))["account"]["recovery_codes_left"] == 9
    refused(await bola.login(otp=codes[3]), 401, "OTP_INVALID")
    assert (await bola.login(otp=codes[4])).status_code == 200


async def test_asking_for_the_code_is_no_try_and_guessing_it_is(bola: Person) -> None:
    app, _ = await confirmed(bola)
    for _ in range(8):
        refused(await bola.login(), 401, "OTP_REQUIRED")
    for _ in range(5):
        refused(await bola.login(otp="000000"), 401, "OTP_INVALID")
    refused(await bola.login(otp=app.shows()), 423, "ACCOUNT_LOCKED")


async def test_a_second_app_takes_the_first_ones_code_and_its_removal(house: House, bola: Person) -> None:
    app, codes = await confirmed(bola)
    both = {"password": PASSWORD, "otp": app.shows()}
    refused(await bola.ask("DELETE", "/v1/auth/totp", {"password": PASSWORD}), 422, "INVALID_FIELDS", "otp")
    refused(await bola.ask("DELETE", "/v1/auth/totp", {**both, "password": WRONG}), 401, "INVALID_CREDENTIALS")
    refused(await bola.ask("DELETE", "/v1/auth/totp", {**both, "otp": "000000"}), 401, "OTP_INVALID")
    assert await bola.trail() == [("credentials.deactivate", "refused", "OTP_INVALID")]
    await bola.did("DELETE", "/v1/auth/totp", both)
    assert await bola.trail() == [("credentials.deactivate", "done", None)]
    assert bola.letters[-1].subject == "How you log in to HealLog was changed"
    account = (await bola.get("/v1/me"))["account"]
    assert (account["second_factor"], account["recovery_codes_left"]) == (False, 0)
    assert (await bola.login()).status_code == 200
    refused(await bola.ask("DELETE", "/v1/auth/totp", {**both, "otp": codes[0]}), 409, "WRONG_STATE")


async def test_a_lost_app_is_removed_with_a_recovery_code(bola: Person) -> None:
    _, codes = await confirmed(bola)
    await bola.did("DELETE", "/v1/auth/totp", {"password": PASSWORD, "otp": codes[0]})
    assert (await bola.login()).status_code == 200


async def test_a_new_password_takes_the_second_factor_too(bola: Person) -> None:
    app, _ = await confirmed(bola)
    said = {"password": PASSWORD, "new_password": FRESH}
    refused(await bola.post("/v1/auth/password/change", said), 401, "OTP_REQUIRED")
    assert await bola.alive()
    await bola.did("POST", "/v1/auth/password/change", {**said, "otp": app.shows()})


async def test_a_secret_is_kept_sealed_and_recovery_codes_as_digests(bola: Person) -> None:
    secret = (await bola.did("POST", "/v1/auth/totp", {"password": PASSWORD}))["secret"]
    said = {"otp": pyotp.TOTP(secret).at(bola.house.clock.now)}
    codes = (await bola.did("POST", "/v1/auth/totp/confirm", said))["recovery_codes"]
    pool = bola.house.container.database().pool
    row = dict(await pool.fetchrow("SELECT * FROM accounts WHERE id = $1", bola.id))
    kept = str(row).casefold()
    for plain in (secret, *codes, *(code.replace("-", "") for code in codes)):
        assert plain.casefold() not in kept


# -- lockout ------------------------------------------------------------------------------------------------------


def as_answered(answer: httpx.Response) -> tuple[Any, ...]:
    return answer.status_code, {**answer.json(), "request_id": ""}, {**answer.headers, "x-request-id": ""}


async def test_after_five_wrong_passwords_everyone_waits_whether_the_address_is_known_or_not(
    house: House, bola: Person
) -> None:
    nobody = house.stranger()
    answers: list[list[tuple[Any, ...]]] = []
    for person in (bola, nobody):
        said = [await person.login(WRONG) for _ in range(7)]
        for answer in said[:5]:
            refused(answer, 401, "INVALID_CREDENTIALS")
        for answer in said[5:]:
            error = refused(answer, 423, "ACCOUNT_LOCKED")
            assert answer.headers["retry-after"] == "60" == str(error["context"]["retry_after"])
        assert await person.trail() == [("sessions.login", "refused", "ACCOUNT_LOCKED")]
        answers.append([as_answered(answer) for answer in said])
    assert answers[0] == answers[1]
    # The right password does not open before the time, and is no try either.
    refused(await bola.login(), 423, "ACCOUNT_LOCKED")
    house.clock.now += MINUTE - SECOND
    answer = await bola.login()
    refused(answer, 423, "ACCOUNT_LOCKED")
    assert answer.headers["retry-after"] == "1"
    house.clock.now += SECOND
    assert (await bola.login()).status_code == 200


async def test_each_further_wrong_try_locks_for_twice_as_long_up_to_an_hour(house: House, bola: Person) -> None:
    for _ in range(5):
        await bola.login(WRONG)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        answer = await bola.login(WRONG)
        refused(answer, 423, "ACCOUNT_LOCKED")
        assert answer.headers["retry-after"] == str(minutes * 60)
        house.clock.now += minutes * MINUTE
        refused(await bola.login(WRONG), 401, "INVALID_CREDENTIALS")
    house.clock.now += HOUR
    assert (await bola.login()).status_code == 200
    # And with the right one all is forgotten.
    for _ in range(5):
        refused(await bola.login(WRONG), 401, "INVALID_CREDENTIALS")


async def test_of_sixty_wrong_logins_at_once_exactly_five_are_looked_at(house: House, bola: Person) -> None:
    for person in (bola, house.stranger()):
        body = {"email": person.email, "password": WRONG}
        answers = await asyncio.gather(*(house.client.post(LOGIN, json=body) for _ in range(60)))
        assert sorted(answer.status_code for answer in answers) == [401] * 5 + [423] * 55


async def test_what_is_guessed_while_logged_in_counts_too(bola: Person) -> None:
    """Otherwise whoever has a token tries passwords without end."""
    for path in ("logout-all", "totp", "password/change", "logout-all", "totp", "totp"):
        said = {"password": WRONG} | ({"new_password": FRESH} if "change" in path else {})
        answer = await bola.post(f"/v1/auth/{path}", said)
        if answer.status_code == 423:
            break
        refused(answer, 401, "INVALID_CREDENTIALS")
    refused(await bola.post("/v1/auth/logout-all", {"password": PASSWORD}), 423, "ACCOUNT_LOCKED")
    assert await bola.trail() == [("sessions.logout-all", "refused", "ACCOUNT_LOCKED")]
    sessions = (await bola.get("/v1/sessions"))["items"]
    refused(
        await bola.ask("DELETE", f"/v1/sessions/{sessions[0]['id']}", {"password": PASSWORD}), 423, "ACCOUNT_LOCKED"
    )
    assert await bola.trail() == [("sessions.revoke", "refused", "ACCOUNT_LOCKED")]
    assert await bola.alive()


async def test_a_right_password_is_no_guess_whatever_becomes_of_it(bola: Person) -> None:
    """There is no such session, no second factor to remove: she knows her password all the same."""
    for _ in range(6):
        refused(await bola.ask("DELETE", "/v1/sessions/nothing", {"password": PASSWORD}), 404, "NOT_FOUND")
    said = {"password": PASSWORD, "otp": "123456"}
    for _ in range(6):
        refused(await bola.ask("DELETE", "/v1/auth/totp", said), 409, "WRONG_STATE")
    assert (await bola.login()).status_code == 200


async def test_a_lock_keeps_no_one_out_who_is_in_already(bola: Person) -> None:
    """Or anyone could lock a whole practice out of its records."""
    for _ in range(6):
        await bola.login(WRONG)
    assert await bola.alive()
    assert (await bola.refresh()).status_code == 200


async def test_who_guesses_at_many_accounts_from_one_address_waits_too(bola: Person, another: NewHouse) -> None:
    ward = await another(address="203.0.113.7", login_tries_per_address=4)
    people = [ward.stranger() for _ in range(4)]
    for person in people:
        refused(await person.login(WRONG), 401, "INVALID_CREDENTIALS")
    body = {"email": bola.email, "password": PASSWORD}
    refused(await bola.ask("POST", LOGIN, body, at=ward), 423, "ACCOUNT_LOCKED")
    assert (await bola.login()).status_code == 200  # from elsewhere


async def test_colleagues_who_log_in_rightly_from_one_address_do_not_lock_it(another: NewHouse) -> None:
    ward = await another(address="203.0.113.8", login_tries_per_address=4)
    people = [await ward.person(name) for name in ("Ada", "Ben", "Cy")]
    for person in people * 4:
        assert (await person.login()).status_code == 200


async def test_what_stands_in_a_header_is_no_address_where_no_proxy_is_ours(another: NewHouse) -> None:
    ward = await another(address="203.0.113.9", login_tries_per_address=3)
    codes = []
    for number in range(5):
        body = {"email": ward.stranger().email, "password": WRONG}
        headers = {"X-Forwarded-For": f"198.51.100.{number}"}
        codes.append((await ward.client.post(LOGIN, json=body, headers=headers)).status_code)
    assert codes == [401] * 3 + [423] * 2
    proxied = await another(address="203.0.113.9", login_tries_per_address=3, proxies=1)
    body = {"email": ward.stranger().email, "password": WRONG}
    answer = await proxied.client.post(LOGIN, json=body, headers={"X-Forwarded-For": "10.0.0.1, 198.51.100.77"})
    refused(answer, 401, "INVALID_CREDENTIALS")


async def test_accepting_an_invitation_is_no_way_round_the_lock(house: House, bola: Person) -> None:
    dayo = await house.person("Dayo")
    await dayo.invites(bola, Role.ASSISTANT)
    code = bola.code
    for _ in range(5):
        refused(await bola.accepts(code, password=WRONG), 401, "INVALID_CREDENTIALS")
        assert await bola.trail() == [("accounts.accept", "refused", "INVALID_CREDENTIALS")]
    refused(await bola.accepts(code), 423, "ACCOUNT_LOCKED")
