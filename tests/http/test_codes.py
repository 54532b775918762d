"""Bola verifies her address, and finds back in when she has forgotten her password; nobody else does either."""

import asyncio
from typing import Any

import httpx
import pyotp
import pytest

from .clinic import PASSWORD, code_in, refused
from .people import FRESH, HOUR, MINUTE, SECOND, House, NewHouse, Person

VERIFY, SEND = "/v1/auth/verify-email", "/v1/auth/verify-email/send"
FORGOT, RESET = "/v1/auth/password/forgot", "/v1/auth/password/reset"


@pytest.fixture
async def bola(house: House) -> Person:
    return await house.person("Bola")


async def verified(person: Person) -> bool:
    return (await person.get("/v1/me"))["account"]["email_verified"]


def another_code(code: str) -> str:
    """One that was not sent."""
    digits = code.replace(" ", "")
    return f"{(int(digits) + 1) % 10**8:08}"


def as_answered(answer: httpx.Response) -> tuple[Any, ...]:
    """An answer apart from what is another one each time."""
    body = {**answer.json(), "request_id": ""} if answer.content else None
    return answer.status_code, body, {**answer.headers, "x-request-id": ""}


# -- verifying ----------------------------------------------------------------------------------------------------


async def test_bola_registers_gets_a_letter_and_types_its_code_as_it_is_printed(bola: Person) -> None:
    (letter,) = bola.letters
    assert letter.subject == "Your HealLog code"
    code = code_in(letter)
    assert len(code) == len("4711 0815")
    assert code.replace(" ", "").isdigit()
    assert not await verified(bola)
    await bola.did("POST", VERIFY, {"code": f" {code}  "})
    assert await bola.trail() == [("codes.verify", "done", None)]
    assert await verified(bola)
    # Again is fine, with whatever code, and tells nothing.
    for said in (code, "00000000"):
        await bola.did("POST", VERIFY, {"code": said})
        assert await bola.trail() == []


async def test_a_wrong_code_verifies_nothing_and_the_right_one_still_does(bola: Person) -> None:
    for said in (another_code(bola.code), "x", "١٢٣٤٥٦٧٨", "0" * 20):
        refused(await bola.post(VERIFY, {"code": said}), 422, "CODE_INVALID", "code")
        assert await bola.trail() == [("codes.verify", "refused", "CODE_INVALID")]
    assert not await verified(bola)
    await bola.did("POST", VERIFY, {"code": bola.code})


async def test_after_five_wrong_looks_the_right_code_is_worthless(bola: Person) -> None:
    wrong = another_code(bola.code)
    for _ in range(5):
        refused(await bola.post(VERIFY, {"code": wrong}), 422, "CODE_INVALID", "code")
    refused(await bola.post(VERIFY, {"code": bola.code}), 422, "CODE_INVALID", "code")
    await bola.did("POST", SEND)
    await bola.did("POST", VERIFY, {"code": bola.code})


async def test_of_forty_guesses_at_once_five_are_looked_at(bola: Person) -> None:
    wrong, right = another_code(bola.code), bola.code
    answers = await asyncio.gather(*(bola.post(VERIFY, {"code": wrong}) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {422}
    pool = bola.house.container.database().pool
    looks = await pool.fetchval("SELECT looks FROM one_time_codes WHERE email_key = $1", bola.email)
    assert looks >= 5
    refused(await bola.post(VERIFY, {"code": right}), 422, "CODE_INVALID", "code")


async def test_a_code_is_good_for_ten_minutes(house: House, bola: Person) -> None:
    dayo = await house.person("Dayo")
    house.clock.now += 10 * MINUTE - SECOND
    await bola.did("POST", VERIFY, {"code": bola.code})
    house.clock.now += SECOND
    refused(await dayo.post(VERIFY, {"code": dayo.code}), 422, "CODE_INVALID", "code")


async def test_only_the_last_code_is_good(bola: Person) -> None:
    first = bola.code
    await bola.did("POST", SEND)
    assert bola.code != first
    refused(await bola.post(VERIFY, {"code": first}), 422, "CODE_INVALID", "code")
    await bola.did("POST", VERIFY, {"code": bola.code})


async def test_anothers_code_is_not_ones_own(house: House, bola: Person) -> None:
    dayo = await house.person("Dayo")
    refused(await bola.post(VERIFY, {"code": dayo.code}), 422, "CODE_INVALID", "code")
    assert not await verified(bola)


async def test_three_codes_are_sent_within_an_hour(house: House, bola: Person) -> None:
    """The first came with the registration."""
    for _ in range(2):
        house.clock.now += MINUTE
        await bola.did("POST", SEND)
    house.clock.now += MINUTE
    answer = await bola.post(SEND)
    error = refused(answer, 429, "RATE_LIMITED")
    assert answer.headers["retry-after"] == str(57 * 60) == str(error["context"]["retry_after"])
    assert len(bola.letters) == 3
    house.clock.now += 57 * MINUTE - SECOND
    await bola.login()
    refused(await bola.post(SEND), 429, "RATE_LIMITED")
    house.clock.now += SECOND
    await bola.did("POST", SEND)
    assert len(bola.letters) == 4


async def test_of_ten_who_ask_for_a_code_at_once_two_get_one(bola: Person) -> None:
    answers = await asyncio.gather(*(bola.post(SEND) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [204] * 2 + [429] * 8
    assert len(bola.letters) == 3


async def test_who_is_verified_needs_no_further_code(bola: Person) -> None:
    await bola.did("POST", VERIFY, {"code": bola.code})
    refused(await bola.post(SEND), 409, "WRONG_STATE")
    assert len(bola.letters) == 1


# -- a forgotten password -----------------------------------------------------------------------------------------


async def forgot(person: Person) -> httpx.Response:
    return await person.post(FORGOT, {"email": person.email})


async def reset(person: Person, code: str | None = None, password: str = FRESH) -> httpx.Response:
    return await person.post(RESET, {"email": person.email, "code": code or person.code, "password": password})


async def test_bola_forgot_her_password_and_chooses_another_one(bola: Person) -> None:
    await bola.login(device_id="phone")
    phone = dict(bola.tokens)
    assert (await forgot(bola)).status_code == 204
    assert await bola.trail() == [("codes.forgot", "done", None)]
    assert (await reset(bola)).status_code == 204
    (entry,) = await bola.entries()
    assert (entry["action"], entry["outcome"], entry["account_id"]) == ("codes.reset", "done", bola.id)
    # Every session is over, and she is told.
    refused(await bola.ask("GET", "/v1/me"), 401, "SESSION_ENDED")
    refused(await bola.refresh(phone["refresh_token"]), 401, "SESSION_ENDED")
    assert bola.letters[-1].subject == "Your HealLog password was changed"
    refused(await bola.login(PASSWORD), 401, "INVALID_CREDENTIALS")
    assert (await bola.login(FRESH)).status_code == 200
    # Who reads the mail of an address has verified it.
    assert await verified(bola)


async def test_whether_an_address_is_known_shows_in_nothing(house: House, bola: Person) -> None:
    house.clock.now += HOUR
    nobody = house.stranger()
    known, unknown = await forgot(bola), await forgot(nobody)
    assert as_answered(known) == as_answered(unknown)
    assert nobody.letters == []
    (entry,) = await nobody.entries()
    assert (entry["action"], entry["practice_id"], entry["account_id"]) == ("codes.forgot", "", "")
    wrong = [await reset(person, "12345678") for person in (bola, nobody)]
    assert as_answered(wrong[0]) == as_answered(wrong[1])
    refused(wrong[0], 422, "CODE_INVALID", "code")
    for person in (bola, nobody):
        for _ in range(2):
            assert (await forgot(person)).status_code == 204
    fourth = [await forgot(person) for person in (bola, nobody)]
    refused(fourth[0], 429, "RATE_LIMITED")
    assert as_answered(fourth[0]) == as_answered(fourth[1])
    assert fourth[0].headers["retry-after"] == "3600"


async def test_a_code_resets_once(bola: Person) -> None:
    await forgot(bola)
    code = bola.code
    assert (await reset(bola, code)).status_code == 204
    refused(await reset(bola, code, PASSWORD), 422, "CODE_INVALID", "code")
    assert (await bola.login(FRESH)).status_code == 200


async def test_of_ten_who_use_a_code_at_once_one_chooses_the_password(bola: Person) -> None:
    await forgot(bola)
    code, passwords = bola.code, [f"{word} herons and a brass kettle" for word in ("one", "two", "six", "ten")]
    answers = await asyncio.gather(*(reset(bola, code, password) for password in passwords))
    assert sorted(answer.status_code for answer in answers) == [204, 422, 422, 422]
    (won,) = [password for password, answer in zip(passwords, answers, strict=True) if answer.status_code == 204]
    assert (await bola.login(won)).status_code == 200


async def test_after_five_wrong_looks_a_reset_needs_another_code(bola: Person) -> None:
    await forgot(bola)
    code = bola.code
    for _ in range(5):
        refused(await reset(bola, another_code(code)), 422, "CODE_INVALID", "code")
        assert await bola.trail() == [("codes.reset", "refused", "CODE_INVALID")]
    refused(await reset(bola, code), 422, "CODE_INVALID", "code")
    assert (await bola.login(PASSWORD)).status_code == 200


async def test_a_password_that_is_no_good_one_leaves_the_code_as_it_was(bola: Person) -> None:
    await forgot(bola)
    for password in ("short", "password1234", bola.email, "bola bola bola"):
        refused(await reset(bola, password=password), 422, "INVALID_FIELDS", "password")
    assert (await reset(bola)).status_code == 204


async def test_a_code_that_verifies_does_not_reset_and_the_other_way_round(bola: Person) -> None:
    refused(await reset(bola), 422, "CODE_INVALID", "code")
    await forgot(bola)
    refused(await bola.post(VERIFY, {"code": bola.code}), 422, "CODE_INVALID", "code")


async def test_an_address_is_read_in_any_case(bola: Person) -> None:
    assert (await bola.post(FORGOT, {"email": f" {bola.email.upper()} "})).status_code == 204
    said = {"email": bola.email.title(), "code": bola.code, "password": FRESH}
    assert (await bola.post(RESET, said)).status_code == 204


async def test_a_locked_account_is_open_again_after_a_reset(bola: Person) -> None:
    for _ in range(5):
        await bola.login("not her password")
    refused(await bola.login(), 423, "ACCOUNT_LOCKED")
    await forgot(bola)
    assert (await reset(bola)).status_code == 204
    assert (await bola.login(FRESH)).status_code == 200


async def test_a_reset_lets_bola_in_with_the_limits_that_come_with_heallog(another: NewHouse) -> None:
    bola = await (await another(rate_limits=True)).person()
    for _ in range(5):
        refused(await bola.login("not her password"), 401, "INVALID_CREDENTIALS")
    await forgot(bola)
    assert (await reset(bola)).status_code == 204
    assert (await bola.login(FRESH)).status_code == 200


async def test_who_has_no_account_can_register_after_asking_for_codes(house: House) -> None:
    """Chidi thought that he had one; or somebody else asks for codes in his name, to keep him out."""
    chidi = house.stranger("Chidi")
    for _ in range(3):
        assert (await forgot(chidi)).status_code == 204
    body = {"email": chidi.email, "password": PASSWORD, "name": "Chidi", "practice_name": "Riverside"}
    assert (await chidi.post("/v1/auth/register", body)).status_code == 201


async def test_the_second_factor_is_still_asked_for_after_a_reset(house: House, bola: Person) -> None:
    """Whoever reads her mail has one half only."""
    await bola.did("POST", VERIFY, {"code": bola.code})
    secret = (await bola.did("POST", "/v1/auth/totp", {"password": PASSWORD}))["secret"]
    await bola.did("POST", "/v1/auth/totp/confirm", {"otp": pyotp.TOTP(secret).at(house.clock.now)})
    await forgot(bola)
    assert (await reset(bola, code_in(bola.letters[-1]))).status_code == 204
    refused(await bola.login(FRESH), 401, "OTP_REQUIRED")
    house.clock.now += 30 * SECOND
    assert (await bola.login(FRESH, otp=pyotp.TOTP(secret).at(house.clock.now))).status_code == 200


async def test_who_registered_with_an_address_that_is_not_theirs_loses_it_to_whoever_reads_its_mail(
    house: House, bola: Person
) -> None:
    """Mallory did, before Bola came, with an app of his own; he never verified it."""
    secret = (await bola.did("POST", "/v1/auth/totp", {"password": PASSWORD}))["secret"]
    await bola.did("POST", "/v1/auth/totp/confirm", {"otp": pyotp.TOTP(secret).at(house.clock.now)})
    mallory = dict(bola.tokens)
    await forgot(bola)
    assert (await reset(bola, code_in(bola.letters[-1]))).status_code == 204
    assert (await bola.login(FRESH)).status_code == 200
    refused(await bola.refresh(mallory["refresh_token"]), 401, "SESSION_ENDED")
    assert not await bola.alive(mallory["access_token"])


# -- what is kept -------------------------------------------------------------------------------------------------


async def test_a_code_is_kept_only_as_what_nobody_can_read(bola: Person) -> None:
    rows = await bola.house.container.database().pool.fetch(
        "SELECT one_time_codes::text AS row, digest FROM one_time_codes WHERE email_key = $1", bola.email
    )
    ((row, digest),) = rows
    assert bola.code.replace(" ", "") not in row
    assert len(digest) == 32
