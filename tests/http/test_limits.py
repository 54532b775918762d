"""How often one may ask: each class of routes by what it counts, told in headers, refused in the one envelope."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from heallog.adapters.limits import RateLimits
from heallog.domain.access import Role

from .clinic import PASSWORD, Clinic, NewClinic, refused
from .operations import listed
from .people import House, NewHouse

RATES = {
    "api": "5/minute",
    "bulk": "2/minute",
    "sync": "9/minute",
    "public": "8/minute",
    "login": "3/15 minutes",
    "otp": "2/hour",
}
BUNDLE = {"resourceType": "Patient", "id": "p-1", "name": [{"family": "Obi"}]}


class Seconds:
    """Time as the limits see it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


Busy = Callable[..., Awaitable[House]]


@pytest.fixture
def busy(another: NewHouse, seconds: Seconds) -> Busy:
    """Makes servers that count together, each asked from another address."""
    limits = RateLimits(RATES, now=seconds)

    async def make(address: str = "203.0.113.1") -> House:
        return await another(address=address, parts={"rate_limits": limits})

    return make


@pytest.fixture
async def alice(clinic: Clinic, busy: Busy) -> Clinic:
    """Alice's practice, asked for where it is counted."""
    return (await busy()).clinic(clinic)


def told(answer: httpx.Response) -> tuple[int, int, int] | None:
    """Limit, what is left of it, and in how many seconds there is room for one more."""
    names = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
    found = [answer.headers[name] for name in names if name in answer.headers]
    assert len(found) in (0, 3)
    return (int(found[0]), int(found[1]), int(found[2])) if found else None


async def login(house: House, email: str, password: str = PASSWORD) -> httpx.Response:
    return await house.client.post("/v1/auth/login", json={"email": email, "password": password})


# -- what one is told ---------------------------------------------------------------------------------------------


async def test_answers_and_refusals_tell_what_is_left(alice: Clinic, seconds: Seconds) -> None:
    answers = [
        await alice.call("GET", "/v1/me"),
        await alice.call("GET", "/v1/patients/nobody"),
        await alice.call("POST", "/v1/patients", {"shoe_size": 38}),
    ]
    seconds.now += 20
    answers.append(await alice.call("DELETE", "/v1/practice/members/nobody"))
    assert [answer.status_code for answer in answers] == [200, 404, 422, 404]
    assert [told(answer) for answer in answers] == [(5, 4, 60), (5, 3, 60), (5, 2, 60), (5, 1, 40)]
    for answer in answers:
        assert "retry-after" not in answer.headers


async def test_who_asks_too_often_waits_as_long_as_they_are_told_and_no_longer(alice: Clinic, seconds: Seconds) -> None:
    for _ in range(5):
        await alice.get("/v1/me")
    seconds.now += 18
    answer = await alice.call("POST", "/v1/patients", {"family_name": "Obi"})
    error = refused(answer, 429, "RATE_LIMITED")
    assert error["context"] == {"retry_after": 42}
    assert answer.headers["retry-after"] == "42"
    assert told(answer) == (5, 0, 42)
    assert answer.headers["x-content-type-options"] == "nosniff"
    seconds.now += 41
    refused(await alice.call("GET", "/v1/patients"), 429, "RATE_LIMITED")
    seconds.now += 1
    assert (await alice.get("/v1/patients"))["items"] == []  # nothing was done


async def test_of_forty_who_ask_at_once_five_are_let_through(alice: Clinic) -> None:
    answers = await asyncio.gather(*(alice.call("GET", "/v1/patients") for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 35


# -- by what it is counted ----------------------------------------------------------------------------------------


async def test_each_account_has_its_own_wherever_it_asks_from(alice: Clinic, busy: Busy, new_clinic: NewClinic) -> None:
    """Two people on one ward do not share; one person on two devices does."""
    dayo = (await busy()).clinic(await new_clinic())
    at_home = (await busy("203.0.113.2")).clinic(alice)
    tablet = await alice.token_for(device="tablet")
    for _ in range(3):
        await alice.get("/v1/me")
    assert told(await alice.call("GET", "/v1/me", token=tablet)) == (5, 1, 60)
    assert told(await at_home.call("GET", "/v1/me")) == (5, 0, 60)
    refused(await alice.call("GET", "/v1/me", token=tablet), 429, "RATE_LIMITED")
    assert told(await dayo.call("GET", "/v1/me")) == (5, 4, 60)


async def test_what_someone_hands_in_who_has_left_takes_nothing_of_what_they_may_ask_elsewhere(
    alice: Clinic, new_clinic: NewClinic, busy: Busy
) -> None:
    ben, elsewhere = f"ben-{alice.practice_id}", (await busy()).clinic(await new_clinic())
    left = await alice.token_for(Role.CLINICIAN, account=ben)
    there = await elsewhere.token_for(Role.CLINICIAN, account=ben)
    await alice.left(ben, sessions=True)
    push = {"push_id": "p-1", "contributions": []}
    counted = [
        told(await clinic.call("POST", "/v1/sync/push", push, token=token))
        for token, clinic in ((left, alice), (left, alice), (there, elsewhere))
    ]
    assert counted == [(9, 8, 60), (9, 7, 60), (9, 8, 60)]


async def test_imports_are_counted_by_themselves(alice: Clinic) -> None:
    assert [told(await alice.call("POST", "/v1/import/fhir", BUNDLE)) for _ in range(2)] == [(2, 1, 60), (2, 0, 60)]
    refused(await alice.call("POST", "/v1/import/fhir", BUNDLE), 429, "RATE_LIMITED")
    assert told(await alice.call("GET", "/v1/me")) == (5, 4, 60)


async def test_what_needs_no_token_is_counted_by_address(busy: Busy) -> None:
    here, there = await busy(), await busy("203.0.113.2")
    for left in reversed(range(8)):
        answer = await here.client.post("/v1/auth/refresh", json={"refresh_token": "nothing"})
        refused(answer, 401, "SESSION_ENDED")
        assert told(answer) == (8, left, 60)
    refused(await here.client.post("/v1/auth/register", json={}), 429, "RATE_LIMITED")
    refused(await there.client.post("/v1/auth/register", json={}), 422, "INVALID_FIELDS", "email")


async def test_wrong_logins_are_counted_by_address_and_mail_together(
    clinic: Clinic, busy: Busy, seconds: Seconds
) -> None:
    here, there = await busy(), await busy("203.0.113.2")
    for email, left in ((clinic.email, 2), (clinic.email.upper(), 1), (f" {clinic.email}", 0)):
        answer = await login(here, email, "not her password")
        refused(answer, 401, "INVALID_CREDENTIALS")
        assert told(answer) == (3, left, 900)
    answer = await login(here, clinic.email)
    refused(answer, 429, "RATE_LIMITED")
    assert answer.headers["retry-after"] == "900"
    assert told(answer) == (3, 0, 900)
    assert (await login(there, clinic.email)).status_code == 200
    refused(await login(here, f"not-{clinic.email}"), 401, "INVALID_CREDENTIALS")
    seconds.now += 900
    assert (await login(here, clinic.email)).status_code == 200


async def test_who_logs_in_rightly_may_do_so_as_often_as_they_like(clinic: Clinic, busy: Busy) -> None:
    """And the guesses before it are forgotten."""
    here = await busy()
    for password, status in ((f"not {PASSWORD}", 401), (f"not {PASSWORD}", 401), *[(PASSWORD, 200)] * 5):
        assert (await login(here, clinic.email, password)).status_code == status
    assert told(await login(here, f"not-{clinic.email}")) == (8, 0, 60)


async def test_an_invitation_is_guessed_as_often_as_a_password(clinic: Clinic, busy: Busy) -> None:
    here = await busy()
    said = {"email": clinic.email, "code": "a guess", "password": PASSWORD}
    for _ in range(3):
        refused(await here.client.post("/v1/auth/accept-invitation", json=said), 422, "CODE_INVALID", "code")
    refused(await here.client.post("/v1/auth/accept-invitation", json=said), 429, "RATE_LIMITED")
    refused(await login(here, clinic.email), 429, "RATE_LIMITED")


async def test_codes_for_a_new_password_are_counted_by_mail_whether_it_is_known_or_not(
    clinic: Clinic, busy: Busy
) -> None:
    for email in (clinic.email, f"not-{clinic.email}"):
        answers = []
        for number in range(3):
            house = await busy(f"203.0.113.{number}")
            answers.append(await house.client.post("/v1/auth/password/forgot", json={"email": email}))
        assert [answer.status_code for answer in answers] == [204, 204, 429]
        assert [told(answer) for answer in answers] == [(2, 1, 3600), (2, 0, 3600), (2, 0, 3600)]


async def test_the_tightest_of_two_limits_is_told(clinic: Clinic, busy: Busy) -> None:
    here = await busy()
    for _ in range(7):
        await here.client.post("/v1/auth/refresh", json={"refresh_token": "nothing"})
    assert told(await login(here, clinic.email)) == (8, 0, 60)


async def test_a_body_that_is_none_counts_for_the_address_only(clinic: Clinic, busy: Busy) -> None:
    here = await busy()
    for _ in range(4):
        answer = await here.client.post("/v1/auth/login", json={"email": clinic.email})
        refused(answer, 422, "INVALID_FIELDS", "password")
    assert told(await login(here, clinic.email)) == (3, 2, 900)


# -- what is never counted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/schema", "/schema/openapi.json", "/schema/static/swagger-ui.css"]
)
async def test_health_and_the_document_are_never_counted(busy: Busy, path: str) -> None:
    house = await busy()
    for _ in range(12):
        answer = await house.client.get(path)
        assert (answer.status_code, told(answer)) == (200, None)


async def test_one_setting_switches_it_off(clinic: Clinic, another: NewHouse) -> None:
    assert (await another(rate_limits=True, rate_api="1/hour")).container.settings().rates is not None
    off = (await another(rate_limits=False, rate_api="1/hour")).clinic(clinic)
    for _ in range(3):
        answer = await off.call("GET", "/v1/me")
        assert (answer.status_code, told(answer)) == (200, None)


# -- settings and the document ------------------------------------------------------------------------------------


async def test_the_settings_say_how_often(clinic: Clinic, another: NewHouse) -> None:
    asked = (await another(rate_limits=True, rate_api="2/hour")).clinic(clinic)
    statuses = [(await asked.call("GET", "/v1/me")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_by_default_there_is_room_for_a_hundred_a_minute(clinic: Clinic, another: NewHouse) -> None:
    asked = (await another(rate_limits=True)).clinic(clinic)
    assert told(await asked.call("GET", "/v1/me")) == (100, 99, 60)
    assert told(await asked.call("POST", "/v1/import/fhir", BUNDLE)) == (10, 9, 60)


def test_the_document_names_429_where_it_is_counted_and_nowhere_else(document: dict[str, Any]) -> None:
    never = {name for name, operation in listed(document).items() if "429" not in operation["responses"]}
    assert never == {"live", "ready"}


async def test_every_operation_that_says_so_is_counted(
    clinic: Clinic, another: NewHouse, document: dict[str, Any]
) -> None:
    """Whatever the answer is. The one that ends Alice's session comes last."""
    roomy = RateLimits(dict.fromkeys(RATES, "500/minute"))
    asked = (await another(parts={"rate_limits": roomy})).clinic(clinic)
    operations = listed(document)
    for name in sorted(operations, key=lambda name: name == "logout"):
        operation = operations[name]
        address = operation["path"].replace("{number}", "1").replace("{", "").replace("}", "")
        answer = await asked.call(operation["method"], address, {} if "requestBody" in operation else None)
        assert (told(answer) is not None) == ("429" in operation["responses"]), name
