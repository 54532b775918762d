"""Who is in and who is out, told by real servers: two of them, one with two processes, that share a database.

Everything here happens with the embedded default and with Redis; what only one of them can suffer says so.
"""

import asyncio
import http.client
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import cycle
from uuid import uuid4

import httpx
import pytest

from .servers import PASSWORD, Calls, Server, Site, code, site, until

MANY = 200
WRONG = "an entirely different password"
WITH_REDIS = pytest.mark.parametrize("clinic", ["redis"], indirect=True)


@pytest.fixture(scope="module", params=["embedded", "redis"])
def clinic(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(request.getfixturevalue("redis_server") if request.param == "redis" else None) as made:
        yield made


@pytest.fixture
async def call() -> AsyncIterator[Calls]:
    async with httpx.AsyncClient(limits=httpx.Limits(), timeout=120) as client:
        yield Calls(client)


@pytest.fixture
def alice() -> str:
    """An address of the test's own."""
    return f"alice-{uuid4()}@example.org"


@pytest.fixture
def somewhere() -> dict[str, str]:
    """A place of the test's own to call from."""
    return {"X_Forwarded_For": f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"}


# -- logged out ---------------------------------------------------------------------------------------------------


async def test_who_logs_out_at_one_server_is_out_at_the_other_with_the_next_request(
    clinic: Site, call: Calls, alice: str
) -> None:
    await call.register(clinic.first, alice)
    for here, there in [(clinic.first, clinic.second), (clinic.second, clinic.first)] * 10:
        token = (await call.login(here, alice))["access_token"]
        assert (await call(there, "GET", "/v1/me", token=token)).status_code == 200
        assert (await call(here, "POST", "/v1/auth/logout", token=token)).status_code == 204
        assert code(await call(there, "GET", "/v1/me", token=token)) == "SESSION_ENDED"
        assert code(await call(here, "POST", "/v1/patients", {"family_name": "Obi"}, token)) == "SESSION_ENDED"


async def test_who_logs_out_at_one_process_of_a_server_is_out_at_its_other(
    clinic: Site, call: Calls, alice: str
) -> None:
    """One connection to each of the two, so that it is known who answers."""
    connections: dict[int, http.client.HTTPConnection] = {}
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", clinic.first.port, timeout=60)
        assert status(connection, "GET", "/health/live", "") == 200
        process = clinic.first.worker(connection.sock.getsockname()[1])
        assert process is not None
        if connections.setdefault(process, connection) is not connection:
            connection.close()
        if len(connections) == 2:
            break
    one, other = connections.values()
    await call.register(clinic.first, alice)
    for here, there in [(one, other), (other, one)] * 10:
        token = (await call.login(clinic.first, alice))["access_token"]
        assert status(there, "GET", "/v1/me", token) == 200
        assert status(here, "POST", "/v1/auth/logout", token) == 204
        assert status(there, "GET", "/v1/me", token) == 401
    for connection in connections.values():
        connection.close()


def status(connection: http.client.HTTPConnection, method: str, path: str, token: str) -> int:
    connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


async def test_who_logged_out_stays_out_when_everything_is_started_anew(clinic: Site, call: Calls, alice: str) -> None:
    """Twice: as an operator does it, and as a power cut does. Redis forgets everything either time."""
    phone = await call.register(clinic.first, alice)
    tablet = await call.login(clinic.second, alice)
    assert (await call(clinic.second, "GET", "/v1/me", token=phone["access_token"])).status_code == 200
    await call.good(clinic.first, "POST", "/v1/auth/logout", None, phone["access_token"])
    for anew in (clinic.restart, clinic.crash):
        anew()
        for server in clinic.both:
            assert code(await call(server, "GET", "/v1/me", token=phone["access_token"])) == "SESSION_ENDED"
            created = await call(server, "POST", "/v1/patients", {"family_name": "Obi"}, phone["access_token"])
            assert code(created) == "SESSION_ENDED"
            body = {"refresh_token": phone["refresh_token"]}
            assert code(await call(server, "POST", "/v1/auth/refresh", body)) == "SESSION_ENDED"
            await call.good(server, "GET", "/v1/me", None, tablet["access_token"])
            await call.good(server, "POST", "/v1/patients", {"family_name": "Obi"}, tablet["access_token"])
        tablet = await call.good(clinic.second, "POST", "/v1/auth/refresh", {"refresh_token": tablet["refresh_token"]})


# -- without the blacklist ----------------------------------------------------------------------------------------


@WITH_REDIS
async def test_while_redis_is_gone_one_can_read_and_write_nothing(clinic: Site, call: Calls, alice: str) -> None:
    assert clinic.redis is not None
    token = (await call.register(clinic.first, alice))["access_token"]
    over = (await call.login(clinic.first, alice))["access_token"]
    await call.good(clinic.first, "POST", "/v1/auth/logout", None, over)
    patient = await call.good(clinic.first, "POST", "/v1/patients", {"family_name": "Obi"}, token)
    here = f"/v1/patients/{patient['id']}"
    writes = [
        ("POST", "/v1/patients", {"family_name": "García"}),
        ("PATCH", here, {"family_name": "García"}),
        ("DELETE", here, None),
    ]
    before = await clinic.rows("SELECT * FROM versions ORDER BY thing_id, number")
    clinic.redis.kill()
    try:
        for server in clinic.both:
            for path in ("/v1/me", "/v1/patients", here, f"{here}/history"):
                await call.good(server, "GET", path, None, token)
                assert code(await call(server, "GET", path, token=over)) == "SESSION_ENDED"
            for method, path, body in writes:
                refused = await call(server, method, path, body, token, If_Match='"1"')
                assert (refused.status_code, code(refused)) == (503, "UNAVAILABLE")
                assert "blacklist does not answer" in refused.json()["error"]["message"]
                assert int(refused.headers["Retry-After"]) > 0
                assert not (await call(server, method, path, body, over, If_Match='"1"')).is_success
        assert await clinic.rows("SELECT * FROM versions ORDER BY thing_id, number") == before
        # Who needs no token asks no blacklist. What ends meanwhile is in no Redis, and has ended all the same.
        tablet = await call.login(clinic.second, alice)
        await replay(clinic, call, tablet)
    finally:
        clinic.redis.start()
    for server in clinic.both:
        await call.good(server, "POST", "/v1/patients", {"family_name": "García"}, token)
        for method in ("GET", "POST"):
            assert code(await call(server, method, "/v1/patients", token=over)) == "SESSION_ENDED"
            assert code(await call(server, method, "/v1/patients", token=tablet["access_token"])) == "SESSION_ENDED"
    await call.good(clinic.first, "PATCH", here, {"family_name": "García"}, token, If_Match='"1"')


@WITH_REDIS
async def test_a_redis_that_hangs_is_as_good_as_gone(clinic: Site, call: Calls, alice: str) -> None:
    """It takes connections and answers nothing: that must not hang whoever reads."""
    assert clinic.redis is not None
    token = (await call.register(clinic.first, alice))["access_token"]
    clinic.redis.pause()
    try:
        reads = [call(server, "GET", "/v1/me", token=token) for server in clinic.both for _ in range(50)]
        writes = [call(clinic.first, "POST", "/v1/patients", {"family_name": "Obi"}, token) for _ in range(10)]
        answers = await asyncio.wait_for(asyncio.gather(*reads, *writes), 30)
    finally:
        clinic.redis.resume()
    assert Counter(map(code, answers)) == {"200": 100, "UNAVAILABLE": 10}
    await call.good(clinic.first, "POST", "/v1/patients", {"family_name": "Obi"}, token)


async def replay(clinic: Site, call: Calls, tokens: dict[str, str]) -> None:
    """Somebody comes with a refresh token that was used before."""
    body = {"refresh_token": tokens["refresh_token"]}
    await call.good(clinic.first, "POST", "/v1/auth/refresh", body)
    await clinic.rows("UPDATE sessions SET refreshed_at = refreshed_at - interval '1 minute' WHERE generation = 2")
    assert code(await call(clinic.first, "POST", "/v1/auth/refresh", body)) == "SESSION_ENDED"


# -- locked out ---------------------------------------------------------------------------------------------------


async def test_of_many_wrong_passwords_at_once_exactly_the_free_ones_are_looked_at(
    clinic: Site, call: Calls, alice: str, somewhere: dict[str, str]
) -> None:
    await call.register(clinic.first, alice)
    nobody = f"nobody-{alice}"
    for email in (alice, nobody):
        answers = await guesses(clinic, call, [email] * MANY, somewhere)
        assert Counter(map(code, answers)) == {"INVALID_CREDENTIALS": 5, "ACCOUNT_LOCKED": MANY - 5}
        assert {answer.status_code for answer in answers} == {401, 423}
        waits = [int(answer.headers["Retry-After"]) for answer in answers if answer.status_code == 423]
        assert 0 < min(waits) <= max(waits) <= 60
    # Nobody learns more by the right password.
    locked = [await guess(call, server, alice, PASSWORD, somewhere) for server in clinic.both]
    assert [(one.status_code, code(one)) for one in locked] == [(423, "ACCOUNT_LOCKED")] * 2
    told = [reason for reason in await refusals(clinic, alice) if reason == "ACCOUNT_LOCKED"]
    assert len(told) == MANY - 5 + 2, "each of them left its entry"

    await let_time_pass(clinic, minutes=1)
    answers = await guesses(clinic, call, [alice] * MANY, somewhere)
    assert Counter(map(code, answers)) == {"INVALID_CREDENTIALS": 1, "ACCOUNT_LOCKED": MANY - 1}
    waits = [int(answer.headers["Retry-After"]) for answer in answers if answer.status_code == 423]
    assert 60 < min(waits) <= max(waits) <= 120
    await let_time_pass(clinic, minutes=2)
    for server in clinic.both:
        assert (await guess(call, server, alice, PASSWORD, somewhere)).status_code == 200
    answers = await guesses(clinic, call, [alice] * 20, somewhere)
    assert Counter(map(code, answers)) == {"INVALID_CREDENTIALS": 5, "ACCOUNT_LOCKED": 15}


async def test_a_reset_of_the_password_opens_a_locked_account(
    clinic: Site, call: Calls, alice: str, somewhere: dict[str, str]
) -> None:
    phone = await call.register(clinic.first, alice)
    await guesses(clinic, call, [alice] * 20, somewhere)
    assert (await guess(call, clinic.second, alice, PASSWORD, somewhere)).status_code == 423
    await call.good(clinic.first, "POST", "/v1/auth/password/forgot", {"email": alice})
    letter = re.compile(rf"To: {alice}\nSubject: [^\n]*\n\nType this code to choose a new password:\n\n +([0-9 ]+)\n")
    until(lambda: letter.search(clinic.first.said))
    found = letter.search(clinic.first.said)
    assert found is not None
    fresh = "ten herons and a brass kettle"
    await call.good(
        clinic.second, "POST", "/v1/auth/password/reset", {"email": alice, "code": found[1], "password": fresh}
    )
    assert code(await call(clinic.first, "GET", "/v1/me", token=phone["access_token"])) == "SESSION_ENDED"
    assert (await guess(call, clinic.first, alice, fresh, somewhere)).status_code == 200
    assert code(await guess(call, clinic.first, alice, PASSWORD, somewhere)) == "INVALID_CREDENTIALS"


async def test_of_many_guesses_from_one_address_exactly_the_free_ones_are_looked_at(
    clinic: Site, call: Calls, alice: str, somewhere: dict[str, str]
) -> None:
    """Whoever tries one password on every account is stopped by where they come from, and only they are."""
    await call.register(clinic.first, alice)
    answers = await guesses(clinic, call, [f"{number}-{alice}" for number in range(MANY)], somewhere)
    assert Counter(map(code, answers)) == {"INVALID_CREDENTIALS": 50, "ACCOUNT_LOCKED": MANY - 50}
    assert (await guess(call, clinic.second, alice, PASSWORD, somewhere)).status_code == 423
    assert (await call.login(clinic.second, alice))["access_token"]


async def guess(call: Calls, server: Server, email: str, password: str, somewhere: dict[str, str]) -> httpx.Response:
    return await call(server, "POST", "/v1/auth/login", {"email": email, "password": password}, **somewhere)


async def guesses(clinic: Site, call: Calls, emails: list[str], somewhere: dict[str, str]) -> list[httpx.Response]:
    """All at once, at both servers."""
    pairs = zip(cycle(clinic.both), emails, strict=False)
    return await asyncio.gather(*(guess(call, server, email, WRONG, somewhere) for server, email in pairs))


async def refusals(clinic: Site, email: str) -> list[str]:
    """Why logins of this account were refused, as the trail has it."""
    found = await clinic.rows(
        "SELECT reason FROM audit_entries JOIN accounts ON accounts.id = account_id "
        "WHERE email = $1 AND action = 'sessions.login' AND outcome = 'refused'",
        email,
    )
    return [row["reason"] for row in found]


async def let_time_pass(clinic: Site, minutes: int) -> None:
    passed = f"interval '{minutes} minutes'"
    await clinic.rows(f"UPDATE tries SET locked_until = locked_until - {passed}, last_at = last_at - {passed}")


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("config", "check"), ("serve",)])
@pytest.mark.parametrize(
    "wrong",
    [
        {"MAIL_URL": "http://post:hush-hush@mail.example", "REDIS_URL": "http://:hush-hush@redis.example"},
        {"MAIL_URL": "smtp://post:hush-hush@mail.example:many", "REDIS_URL": "redis://:hush-hush@redis.example:many"},
        {
            "MAIL_URL": "post:hush-hush@mail.example",
            "REDIS_URL": "redis.example:hush-hush",
            "MAIL_FROM": "nobody",
            "RATE_API": "a lot",
            "RATE_BULK": "0/minute",
            "RATE_SYNC": "-1/minute",
            "RATE_PUBLIC": "60",
            "RATE_LOGIN": "5/fortnight",
            "RATE_OTP": "three an hour",
        },
    ],
)
def test_every_setting_that_is_wrong_is_named_at_once_and_no_password_is(heallog, command, wrong) -> None:  # type: ignore[no-untyped-def]
    run = heallog(*command, **{f"HEALLOG_{name}": value for name, value in wrong.items()})
    assert run.returncode == 1
    for name in wrong:
        assert f"HEALLOG_{name}" in run.stderr
    assert "hush" not in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
