"""Staying logged in, told by real servers: many tasks of one app, answers that get lost, and a copied token.

Everything here happens on two servers, one with two processes, that share a database: alone, and with Redis.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pyotp
import pytest

from heallog.adapters.tokens import JwtAccessTokens
from heallog.adapters.world import clock
from heallog.domain.sessions import Session

from .servers import CHEAP, KEY, PASSWORD, Calls, Server, Site, code, rows, site

MANY = 200
TASKS = 50
LOST = 15


@pytest.fixture(scope="module", params=["embedded", "redis"])
def clinic(request: pytest.FixtureRequest) -> Iterator[Site]:
    with site(request.getfixturevalue("redis_server") if request.param == "redis" else None) as made:
        yield made


@pytest.fixture
async def call() -> AsyncIterator[Calls]:
    async with httpx.AsyncClient(limits=httpx.Limits(), timeout=120) as client:
        yield Calls(client)


@pytest.fixture
async def tokens(clinic: Site, call: Calls) -> Any:
    """Of a new account."""
    return await call.register(clinic.first, f"alice-{uuid4()}@example.org")


# -- one token, used often ----------------------------------------------------------------------------------------


async def test_of_many_uses_of_one_token_at_once_all_get_the_same_next_one(
    clinic: Site, call: Calls, tokens: dict[str, Any]
) -> None:
    await everyone_is_awake(clinic, call, tokens, MANY)
    answers = await refreshes(clinic, call, tokens, MANY)
    assert Counter(map(code, answers)) == {"200": MANY}
    assert len({answer.content for answer in answers}) == 1
    assert [session["generation"] for session in await family(clinic, tokens)] == [2]
    following = answers[0].json()
    for server in clinic.both:
        await call.good(server, "GET", "/v1/me", None, following["access_token"])
        await call.good(server, "GET", "/v1/me", None, tokens["access_token"])  # its fifteen minutes are not over

    await let_time_pass(clinic, tokens, "11 seconds")
    last = await call.good(clinic.second, "POST", "/v1/auth/refresh", {"refresh_token": following["refresh_token"]})
    assert [session["generation"] for session in await family(clinic, tokens)] == [3]
    await call.good(clinic.first, "GET", "/v1/me", None, last["access_token"])

    # Later someone comes with the one before, at all servers at once: nobody knows who of the two is the thief.
    await let_time_pass(clinic, tokens, "1 minute")
    answers = await refreshes(clinic, call, following, MANY)
    assert Counter((answer.status_code, code(answer)) for answer in answers) == {(401, "SESSION_ENDED"): MANY}
    (session,) = await family(clinic, tokens)
    assert (session["generation"], session["ending"]) == (3, "replayed")
    for server in clinic.both:
        for one in (tokens, following, last):
            assert code(await call(server, "GET", "/v1/me", token=one["access_token"])) == "SESSION_ENDED"
            assert code(await refresh(call, server, one["refresh_token"])) == "SESSION_ENDED"
    told = await clinic.rows(
        "SELECT * FROM audit_entries WHERE practice_id = $1 AND action = 'sessions.replay'", session["practice_id"]
    )
    assert len(told) == 1


async def test_a_used_token_is_taken_for_a_retry_for_ten_seconds_and_no_longer(
    clinic: Site, call: Calls, tokens: dict[str, Any]
) -> None:
    following = (await refresh(call, clinic.first, tokens["refresh_token"])).json()
    await let_time_pass(clinic, tokens, "-5 seconds")  # however slow this machine is
    again = await refresh(call, clinic.second, tokens["refresh_token"])
    assert again.json()["refresh_token"] == following["refresh_token"]
    await let_time_pass(clinic, tokens, "15.001 seconds")
    assert code(await refresh(call, clinic.second, tokens["refresh_token"])) == "SESSION_ENDED"
    assert code(await refresh(call, clinic.first, following["refresh_token"])) == "SESSION_ENDED"


async def test_a_refresh_that_meets_the_logout_does_not_undo_it(clinic: Site, call: Calls) -> None:
    """Two tasks of an app, one of which logs out while the other still refreshes."""
    email = f"alice-{uuid4()}@example.org"
    await call.register(clinic.first, email)
    logins = [await call.login(server, email) for server in islice(cycle(clinic.both), 40)]
    await everyone_is_awake(clinic, call, logins[0], 2 * len(logins))
    token = [one["access_token"] for one in logins]
    out = [call.good(clinic.first, "POST", "/v1/auth/logout", None, one) for one in token]
    on = [refresh(call, clinic.second, one["refresh_token"]) for one in logins]
    met = await asyncio.gather(*(one for pair in zip(on, out, strict=True) for one in pair))
    fresh = [answer.json()["access_token"] for answer in met[::2] if answer.is_success]
    assert set(map(code, met[::2])) <= {"200", "SESSION_ENDED"}
    asked = await asyncio.gather(*(call(clinic.second, "GET", "/v1/me", token=one) for one in [*token, *fresh]))
    assert set(map(code, asked)) == {"SESSION_ENDED"}
    endings = [session["ending"] for session in await family(clinic, logins[0])]
    assert Counter(endings) == {None: 1, "logout": len(logins)}  # the one that registering opened goes on


async def refresh(call: Calls, server: Server, token: str) -> httpx.Response:
    return await call(server, "POST", "/v1/auth/refresh", {"refresh_token": token})


async def refreshes(clinic: Site, call: Calls, tokens: dict[str, Any], many: int) -> list[httpx.Response]:
    """All at once, at both servers."""
    servers = islice(cycle(clinic.both), many)
    return await asyncio.gather(*(refresh(call, server, tokens["refresh_token"]) for server in servers))


async def everyone_is_awake(clinic: Site, call: Calls, tokens: dict[str, Any], many: int) -> None:
    """Connections are open, to the servers and to the database: what comes now comes at once."""
    servers = islice(cycle(clinic.both), many)
    await asyncio.gather(*(call.good(one, "GET", "/v1/me", None, tokens["access_token"]) for one in servers))


def session_id(tokens: dict[str, Any]) -> str:
    return str(tokens["refresh_token"].split("_")[2])


async def family(clinic: Site, tokens: dict[str, Any]) -> list[Any]:
    """All sessions of the account that these tokens are of."""
    return await clinic.rows(
        "SELECT * FROM sessions WHERE account_id = (SELECT account_id FROM sessions WHERE id = $1)", session_id(tokens)
    )


async def let_time_pass(clinic: Site, tokens: dict[str, Any], time: str) -> None:
    await clinic.rows(
        f"UPDATE sessions SET refreshed_at = refreshed_at - interval '{time}' WHERE id = $1", session_id(tokens)
    )


# -- an app with many tasks ---------------------------------------------------------------------------------------


@dataclass
class App:
    """A client as anyone would write it: its tasks share one store of tokens, and none waits for another.

    Who is told that the access token has expired refreshes, keeps the answer, and asks again.
    """

    call: Calls
    tokens: dict[str, Any]
    refreshed: int = 0

    async def get(self, server: Server, path: str, together: asyncio.Barrier, *, loses: bool) -> httpx.Response:
        answer = await self.call(server, "GET", path, token=self.tokens["access_token"])
        if code(answer) != "TOKEN_EXPIRED":
            return answer
        mine = self.tokens["refresh_token"]
        await together.wait()
        if loses:
            await ask_and_leave(server, mine)
        fresh = await refresh(self.call, server, mine)
        if fresh.is_error:
            return fresh
        self.tokens, self.refreshed = fresh.json(), self.refreshed + 1
        return await self.call(server, "GET", path, token=self.tokens["access_token"])


async def ask_and_leave(server: Server, token: str) -> None:
    """A refresh whose answer is lost: the app has gone into a lift."""
    body = json.dumps({"refresh_token": token})
    head = ["POST /v1/auth/refresh HTTP/1.1", "Host: heallog", "Content-Type: application/json"]
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write("\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("lost", [0, LOST])
async def test_many_tasks_that_meet_an_expired_token_together_stay_logged_in_together(
    clinic: Site, call: Calls, tokens: dict[str, Any], lost: int
) -> None:
    """`lost` of them never see their first answer, and ask again."""
    (row,) = await family(clinic, tokens)
    session = Session(**row)
    # Signed by the servers' key, as they would have a quarter of an hour ago.
    expired, _ = JwtAccessTokens([KEY], clock).issue(session, clock() - timedelta(minutes=16))
    await everyone_is_awake(clinic, call, tokens, TASKS)
    app = App(call, {**tokens, "access_token": expired})
    together = asyncio.Barrier(TASKS)
    asking = (
        app.get(server, "/v1/me", together, loses=n < lost)
        for n, server in zip(range(TASKS), cycle(clinic.both), strict=False)
    )
    answers = await asyncio.gather(*asking)
    assert Counter(map(code, answers)) == {"200": TASKS}
    assert app.refreshed == TASKS, "each of them refreshed, with the same token"
    (row,) = await family(clinic, tokens)
    assert (row["generation"], row["ended_at"]) == (2, None)
    await call.good(clinic.second, "POST", "/v1/auth/refresh", {"refresh_token": app.tokens["refresh_token"]})


# -- the server dies ----------------------------------------------------------------------------------------------


class Between:
    """Stands between a server and its database. While it is `holding`, whoever commits hears nothing of it."""

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self.holding = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_unix_connection(self._behind)
        committed = False

        async def asked() -> None:
            nonlocal committed
            with suppress(OSError):
                while data := await reader.read(65536):
                    committed = committed or (self.holding and b"COMMIT\0" in data)
                    questions.write(data)
            questions.close()

        async def answered() -> None:
            with suppress(OSError):
                while data := await answers.read(65536):
                    if not committed:
                        writer.write(data)
            writer.close()

        await asyncio.gather(asked(), answered())


@asynccontextmanager
async def between(url: str) -> AsyncIterator[tuple[str, Between]]:
    """The address of a database with someone between."""
    parts = urlsplit(url)
    (folder,) = parse_qs(parts.query)["host"]
    with TemporaryDirectory(prefix="heallog-") as name:
        someone = Between(f"{folder}/.s.PGSQL.5432")
        async with await asyncio.start_unix_server(someone, Path(name) / ".s.PGSQL.5432"):
            yield url.replace(folder, name), someone


async def test_kill_9_between_the_commit_of_a_refresh_and_its_answer_logs_nobody_out(
    call: Calls, empty_url: str, tmp_path: Path
) -> None:
    settings = {"HEALLOG_DATA_DIR": str(tmp_path / "data"), "HEALLOG_SECRET_KEY": KEY, **CHEAP}
    async with between(empty_url) as (url, someone):
        server = Server(tmp_path, HEALLOG_DATABASE_URL=url, **settings)
        try:
            server.begin()
            await asyncio.to_thread(server.ready)
            tokens = await call.register(server, "alice@example.org")
            someone.holding = True
            asking = asyncio.create_task(refresh(call, server, tokens["refresh_token"]))
            while (await rows(empty_url, "SELECT generation FROM sessions"))[0][0] == 1:
                assert not asking.done()
            server.kill()
            with pytest.raises(httpx.TransportError):
                await asking
            someone.holding = False
            server.begin()
            await asyncio.to_thread(server.ready)
            # However slow this machine is, it was back within ten seconds.
            await rows(
                empty_url, "UPDATE sessions SET refreshed_at = greatest(refreshed_at, now() - interval '5 seconds')"
            )
            again = await call.good(server, "POST", "/v1/auth/refresh", {"refresh_token": tokens["refresh_token"]})
            await call.good(server, "GET", "/v1/me", None, again["access_token"])
            assert [row[0] for row in await rows(empty_url, "SELECT generation FROM sessions")] == [2]
            await rows(empty_url, "UPDATE sessions SET refreshed_at = refreshed_at - interval '11 seconds'")
            await call.good(server, "POST", "/v1/auth/refresh", {"refresh_token": again["refresh_token"]})
            assert [row[0] for row in await rows(empty_url, "SELECT generation FROM sessions")] == [3]
        finally:
            server.kill()


# -- another key --------------------------------------------------------------------------------------------------


async def test_the_key_is_changed_server_by_server_and_nobody_notices(
    call: Calls, empty_url: str, tmp_path: Path
) -> None:
    """As docs/howto/run.md has it. At each step one server is a step ahead of the other."""
    fresh = KEY[::-1]
    shared = {"HEALLOG_DATABASE_URL": empty_url, "HEALLOG_DATA_DIR": str(tmp_path / "data"), **CHEAP}
    shared |= {"HEALLOG_RATE_LIMITS": "off", "HEALLOG_SECRET_KEY": KEY}
    behind, ahead = Server(tmp_path / "behind", **shared), Server(tmp_path / "ahead", **shared)
    both = (behind, ahead)
    tokens: dict[str, str] = {}
    app = pyotp.TOTP(pyotp.random_base32())
    steps = [(KEY, ""), (KEY, fresh), (fresh, KEY), (fresh, "")]
    try:
        for (key, old), (next_key, next_old) in pairwise(steps):
            behind.begin(HEALLOG_SECRET_KEY=key, HEALLOG_OLD_SECRET_KEY=old)
            ahead.begin(HEALLOG_SECRET_KEY=next_key, HEALLOG_OLD_SECRET_KEY=next_old)
            behind.ready()
            ahead.ready()
            if not tokens:
                tokens = await call.register(behind, "alice@example.org")
                prove = {"password": PASSWORD}
                enrolled = await call.good(behind, "POST", "/v1/auth/totp", prove, tokens["access_token"])
                app = pyotp.TOTP(enrolled["secret"])
                await call.good(behind, "POST", "/v1/auth/totp/confirm", {"otp": app.now()}, tokens["access_token"])
            for here, there in [(behind, ahead), (ahead, behind)]:
                used = {"refresh_token": tokens["refresh_token"]}
                tokens = await call.good(here, "POST", "/v1/auth/refresh", used)
                # The answer was lost, and the other server is asked again.
                again = await call.good(there, "POST", "/v1/auth/refresh", used)
                assert again["refresh_token"] == tokens["refresh_token"]
                for server in both:
                    for one in (tokens, again):
                        await call.good(server, "GET", "/v1/me", None, one["access_token"])
            # The step without the old key takes what was sealed with it; its secrets have to be sealed anew before.
            for server in both if next_old else (behind,):
                await rows(empty_url, "UPDATE accounts SET totp_step = 0")  # as if half a minute had passed
                assert (await call.login(server, "alice@example.org", otp=app.now()))["access_token"]
            for server in both:
                server.kill()
    finally:
        for server in both:
            server.kill()
