"""The blacklist of access tokens, told three times: in memory, in PostgreSQL and in Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from heallog.adapters.memory.sessions import MemoryTokenBlacklist
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.sessions import PostgresTokenBlacklist
from heallog.adapters.redis.sessions import RedisTokenBlacklist, close, connect
from heallog.adapters.world import clock
from heallog.application.ports.sessions import TokenBlacklist

from .clinic import MONDAY

HOUR = timedelta(hours=1)
SOON = timedelta(milliseconds=20)


@dataclass
class Side:
    """One implementation. `another` is a new object on the same store; `elapse` returns when so much time has gone."""

    another: Callable[[], TokenBlacklist]
    now: Callable[[], datetime]
    elapse: Callable[[timedelta], Awaitable[None]]


def told(another: Callable[[Callable[[], datetime]], TokenBlacklist]) -> Side:
    """A side whose time only goes on when it is told to."""
    time = MONDAY

    def now() -> datetime:
        return time

    async def elapse(span: timedelta) -> None:
        nonlocal time
        time += span

    return Side(lambda: another(now), now, elapse)


@pytest.fixture
def memory() -> Side:
    return told(MemoryTokenBlacklist)


@pytest.fixture
def postgres(database: Database) -> Side:
    return told(lambda now: PostgresTokenBlacklist(database, now))


class Server(Protocol):
    url: str


@pytest.fixture
async def redis(redis_server: Server) -> AsyncIterator[Side]:
    """Redis forgets by its own clock, which goes on by itself; one looks at it until it has."""
    # A busy machine is no reason to refuse an answer.
    client = connect(f"{redis_server.url}?timeout=60&socket_timeout=60&socket_connect_timeout=60")

    async def elapse(span: timedelta) -> None:
        span += timedelta(milliseconds=2)  # of which it counts the whole ones that are over
        seconds, micros = await client.time()
        over = seconds * 1_000_000 + micros + span // timedelta(microseconds=1)
        while seconds * 1_000_000 + micros <= over:
            seconds, micros = await client.time()

    yield Side(lambda: RedisTokenBlacklist(client, clock, patience=60), clock, elapse)
    await close(client)


@pytest.fixture(params=["memory", "postgres", "redis"])
def side(request: pytest.FixtureRequest) -> Side:
    chosen: Side = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def blacklist(side: Side) -> TokenBlacklist:
    return side.another()


@pytest.fixture
def practice() -> str:
    return f"clinic-{uuid4()}"


async def test_who_was_never_revoked_is_not(blacklist: TokenBlacklist, practice: str) -> None:
    assert await blacklist.revoked(practice, "s-1") is False


async def test_what_was_revoked_is(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, "s-1")], side.now() + HOUR)
    assert await blacklist.revoked(practice, "s-1") is True
    assert await blacklist.revoked(practice, "s-1") is True


async def test_other_sessions_and_other_practices_are_not(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, "s-1"), (f"{practice}-2", "s-2")], side.now() + HOUR)
    assert await blacklist.revoked(f"{practice}-2", "s-2")
    for elsewhere in [(practice, "s-2"), (f"{practice}-2", "s-1"), (practice, "s-11"), (practice, "s"), (practice, "")]:
        assert not await blacklist.revoked(*elsewhere)


async def test_several_are_revoked_at_once(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, f"s-{number}") for number in range(100)], side.now() + HOUR)
    assert all([await blacklist.revoked(practice, f"s-{number}") for number in range(100)])
    assert not await blacklist.revoked(practice, "s-100")


async def test_the_same_one_twice_in_one_breath_is_no_harm(
    side: Side, blacklist: TokenBlacklist, practice: str
) -> None:
    await blacklist.revoke([(practice, "s-1"), (practice, "s-1")], side.now() + HOUR)
    assert await blacklist.revoked(practice, "s-1")


async def test_to_revoke_nothing_is_nothing(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([], side.now() + HOUR)
    assert not await blacklist.revoked(practice, "s-1")


async def test_it_is_over_when_it_was_said_to_be(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, "short")], side.now() + SOON)
    await blacklist.revoke([(practice, "long")], side.now() + HOUR)
    await side.elapse(SOON)
    assert not await blacklist.revoked(practice, "short")
    assert await blacklist.revoked(practice, "long")


async def test_what_is_over_already_revokes_nothing(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, "s-1")], side.now())
    await blacklist.revoke([(practice, "s-2")], side.now() - HOUR)
    assert not await blacklist.revoked(practice, "s-1")
    assert not await blacklist.revoked(practice, "s-2")


@pytest.mark.parametrize("spans", [(HOUR, SOON), (SOON, HOUR), (HOUR, HOUR), (HOUR, -HOUR)])
async def test_of_two_ends_the_later_counts(
    side: Side, blacklist: TokenBlacklist, practice: str, spans: tuple[timedelta, timedelta]
) -> None:
    now = side.now()
    for span in spans:
        await blacklist.revoke([(practice, "s-1")], now + span)
    await side.elapse(SOON)
    assert await blacklist.revoked(practice, "s-1")


async def test_what_was_over_can_be_revoked_again(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, "s-1")], side.now() + SOON)
    await side.elapse(SOON)
    await blacklist.revoke([(practice, "s-1")], side.now() + HOUR)
    assert await blacklist.revoked(practice, "s-1")


@pytest.mark.parametrize("side", ["postgres", "redis"], indirect=True)
async def test_another_process_sees_it(side: Side, practice: str) -> None:
    await side.another().revoke([(practice, "s-1")], side.now() + HOUR)
    assert await side.another().revoked(practice, "s-1")


async def test_many_who_ask_at_once_get_each_their_own_answer(
    side: Side, blacklist: TokenBlacklist, practice: str
) -> None:
    await blacklist.revoke([(practice, f"s-{number}") for number in range(0, 300, 3)], side.now() + HOUR)
    answers = await asyncio.gather(*(blacklist.revoked(practice, f"s-{number}") for number in range(300)))
    assert answers == [number % 3 == 0 for number in range(300)]


async def test_many_who_ask_the_same_get_the_same(side: Side, blacklist: TokenBlacklist, practice: str) -> None:
    await blacklist.revoke([(practice, "s-1")], side.now() + HOUR)
    answers = await asyncio.gather(*(blacklist.revoked(practice, f"s-{number % 2}") for number in range(300)))
    assert answers == [False, True] * 150


async def test_once_it_is_revoked_no_later_question_misses_it(
    side: Side, blacklist: TokenBlacklist, practice: str
) -> None:
    """However many ask the same all the while: nobody is given an answer to an earlier question."""
    sessions = [f"s-{number}" for number in range(20)]
    over = asyncio.Event()

    async def asking() -> None:
        while not over.is_set():
            await asyncio.gather(*(blacklist.revoked(practice, session) for session in sessions))
            await asyncio.sleep(0)

    others = [asyncio.create_task(asking()) for _ in range(10)]
    for session in sessions:
        out = asyncio.ensure_future(blacklist.revoked(practice, session))
        await asyncio.sleep(0)
        await blacklist.revoke([(practice, session)], side.now() + HOUR)
        assert await blacklist.revoked(practice, session)
        await out  # it may be told either
    over.set()
    await asyncio.gather(*others)


async def test_whoever_stops_waiting_spoils_nobodys_answer(
    side: Side, blacklist: TokenBlacklist, practice: str
) -> None:
    await blacklist.revoke([(practice, "s-1")], side.now() + HOUR)

    async def asking(session: str) -> bool:
        return await blacklist.revoked(practice, session)

    tasks = [asyncio.create_task(asking(f"s-{number % 2}")) for number in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::4]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for number, answer in enumerate(answers):
        assert isinstance(answer, asyncio.CancelledError) or answer is (number % 2 == 1)
    assert sum(isinstance(answer, bool) for answer in answers) >= 30
