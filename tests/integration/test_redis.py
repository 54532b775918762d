"""What is shared in Redis, on a real one: what it keeps for how long, and what becomes of requests when it goes."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Protocol
from uuid import uuid4

import pytest
import structlog
from limits.aio.storage.redis import redispy
from redis.asyncio import Redis

from heallog.adapters.limits import Allowed, RateLimits
from heallog.adapters.redis.sessions import RedisTokenBlacklist, close, connect
from heallog.adapters.world import clock
from heallog.domain.errors import Unavailable

HOUR = timedelta(hours=1)
PATIENT = 60.0
PATIENTLY = f"?timeout={PATIENT}&socket_timeout={PATIENT}&socket_connect_timeout={PATIENT}"
"""A busy machine is no reason to let a request pass, or to refuse one."""


SILENCE = "^the token blacklist does not answer$"


class Server(Protocol):
    """The real one (tests/conftest.py)."""

    url: str

    @property
    def tcp_url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


@pytest.fixture
async def redis(redis_server: Server) -> AsyncIterator[Redis]:
    opened = connect(redis_server.url + PATIENTLY)
    yield opened
    await close(opened)


@pytest.fixture
def blacklist(redis: Redis) -> RedisTokenBlacklist:
    return RedisTokenBlacklist(redis, clock, patience=PATIENT)


@pytest.fixture
def practice() -> str:
    return f"clinic-{uuid4()}"


@pytest.fixture
def killed(redis_server: Server) -> Iterator[Server]:
    """A server that the test may end; it is there again for the next one."""
    yield redis_server
    redis_server.kill()
    redis_server.start()


@pytest.fixture
def paused(redis_server: Server) -> Iterator[Server]:
    """A server that the test may pause: it takes connections then, and answers nothing."""
    yield redis_server
    redis_server.resume()


# -- the blacklist ------------------------------------------------------------------------------------------------


async def test_an_entry_lives_in_redis_as_long_as_the_last_token(redis: Redis, practice: str) -> None:
    now = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    blacklist = RedisTokenBlacklist(redis, lambda: now, patience=PATIENT)
    await blacklist.revoke([(practice, "s-1")], now + timedelta(minutes=15))
    key = f"heallog:revoked:{practice}:s-1"
    assert await redis.get(key) == b""
    left = timedelta(milliseconds=await redis.pttl(key))
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)


async def test_what_is_over_already_is_not_written(redis: Redis, practice: str) -> None:
    now = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    blacklist = RedisTokenBlacklist(redis, lambda: now, patience=PATIENT)
    await blacklist.revoke([(practice, "s-1")], now)
    await blacklist.revoke([(practice, "s-2")], now - HOUR)
    assert [key async for key in redis.scan_iter(f"*{practice}*")] == []


async def test_half_a_millisecond_is_a_whole_one(redis: Redis, practice: str) -> None:
    """Too short to be seen, but it was told: an end is never early."""
    now = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    blacklist = RedisTokenBlacklist(redis, lambda: now, patience=PATIENT)
    await blacklist.revoke([(practice, "s-1")], now + HOUR)  # the script is there now
    before = await calls(redis)
    await blacklist.revoke([(practice, "s-2")], now + timedelta(microseconds=500))
    after = await calls(redis)
    assert after["evalsha"] - before["evalsha"] == 1


async def test_many_sessions_go_in_one_round_trip_and_so_do_many_questions(redis: Redis, practice: str) -> None:
    blacklist = RedisTokenBlacklist(redis, clock, patience=PATIENT)
    sessions = [(practice, f"s-{number}") for number in range(300)]
    await blacklist.revoke(sessions[:1], clock() + HOUR)  # the script is there now
    before = await calls(redis)
    await blacklist.revoke(sessions, clock() + HOUR)
    assert all(await asyncio.gather(*(blacklist.revoked(*one) for one in sessions)))
    after = await calls(redis)
    assert after["evalsha"] - before["evalsha"] == 1
    assert after["mget"] - before.get("mget", 0) == 1


async def calls(redis: Redis) -> dict[str, int]:
    """How often each command was given so far."""
    stats = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}


async def test_a_killed_server_is_unavailable_and_one_that_comes_back_is_found(
    blacklist: RedisTokenBlacklist, practice: str, killed: Server
) -> None:
    await blacklist.revoke([(practice, "s-1")], clock() + HOUR)
    killed.kill()
    with pytest.raises(Unavailable, match=SILENCE):
        await blacklist.revoked(practice, "s-1")
    with pytest.raises(Unavailable, match=SILENCE):
        await blacklist.revoke([(practice, "s-1")], clock() + HOUR)
    await blacklist.revoke([], clock() + HOUR)  # nobody has to be told of nothing
    killed.start()
    # It kept nothing; but it can be asked, and told, by the next question.
    assert not await blacklist.revoked(practice, "s-1")
    await blacklist.revoke([(practice, "s-1")], clock() + HOUR)
    assert await blacklist.revoked(practice, "s-1")


async def test_a_server_that_came_back_between_two_questions_was_never_missed(
    blacklist: RedisTokenBlacklist, practice: str, killed: Server
) -> None:
    """The connections in the pool are dead, and nobody has noticed yet."""
    await asyncio.gather(*(blacklist.revoked(practice, f"s-{number}") for number in range(50)))
    killed.stop()
    killed.start()
    assert not await blacklist.revoked(practice, "s-1")
    killed.kill()
    killed.start()
    await blacklist.revoke([(practice, "s-1")], clock() + HOUR)
    assert await blacklist.revoked(practice, "s-1")


async def test_when_it_goes_everyone_who_waits_is_told(
    blacklist: RedisTokenBlacklist, practice: str, killed: Server
) -> None:
    await blacklist.revoked(practice, "s-1")
    killed.kill()
    told = await asyncio.gather(*(blacklist.revoked(practice, f"s-{n}") for n in range(1_200)), return_exceptions=True)
    assert {type(one) for one in told} == {Unavailable}


async def test_a_server_that_does_not_answer_is_unavailable(
    redis: Redis, blacklist: RedisTokenBlacklist, practice: str, paused: Server
) -> None:
    await blacklist.revoke([(practice, "s-1")], clock() + HOUR)
    impatient = RedisTokenBlacklist(redis, clock, patience=0.05)
    paused.pause()
    with pytest.raises(Unavailable, match=SILENCE):
        await impatient.revoked(practice, "s-1")
    with pytest.raises(Unavailable, match=SILENCE):
        await impatient.revoke([(practice, "s-1")], clock() + HOUR)
    paused.resume()
    # An answer that comes too late is no answer to the next question.
    assert not await blacklist.revoked(practice, "s-2")
    assert await blacklist.revoked(practice, "s-1")


async def test_by_itself_it_waits_for_a_second_and_not_for_ever(practice: str, paused: Server) -> None:
    redis = connect(paused.url)
    paused.pause()
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match=SILENCE):
            await RedisTokenBlacklist(redis, clock).revoked(practice, "s-1")
    await close(redis)


async def test_a_wrong_password_is_unavailable_and_is_told_to_nobody(redis_server: Server, practice: str) -> None:
    for url in (
        redis_server.url.replace("unix://", "unix://:hush-hush@"),
        redis_server.tcp_url.replace("redis://", "redis://:hush-hush@"),
        "redis://:hush-hush@127.0.0.1:1/0",
    ):
        locked = connect(url)
        with structlog.testing.capture_logs() as lines, pytest.raises(Unavailable) as refused:
            await RedisTokenBlacklist(locked, clock).revoked(practice, "s-1")
        assert "hush" not in f"{refused.value!r} {refused.value.context} {lines} {locked!r}"
        assert refused.value.__suppress_context__
        await close(locked)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://:hush-hush@cache/0",
        "redis://:hush/hush@cache:6379/0",
        "redis://cache:hush/0",
        "redis://cache/0?hush=hush",
        "redis://cache/0?socket_timeout=hush",
        "redis://cache/0?protocol=9&password=hush",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_its_words(url: str) -> None:
    with pytest.raises(ValueError, match="the address of Redis cannot be read") as refused:
        connect(url)
    assert "hush" not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_a_port_of_the_loopback_does_as_well(redis_server: Server, practice: str) -> None:
    redis = connect(redis_server.tcp_url + PATIENTLY)
    blacklist = RedisTokenBlacklist(redis, clock, patience=PATIENT)
    await blacklist.revoke([(practice, "s-1")], clock() + HOUR)
    assert await blacklist.revoked(practice, "s-1")
    await close(redis)


async def test_what_is_closed_is_closed_even_when_the_server_has_gone(killed: Server, practice: str) -> None:
    redis = connect(killed.url + PATIENTLY)
    await RedisTokenBlacklist(redis, clock, patience=PATIENT).revoked(practice, "s-1")
    killed.kill()
    await close(redis)
    await close(redis)


# -- limits -------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Stands still, but for whoever moves it."""

    now: float = 1_772_452_800.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """The time as the library's storage sees it too; its keys in Redis live longer than any test."""
    stands = Watch()
    monkeypatch.setattr(redispy, "time", SimpleNamespace(time=stands))
    return stands


@pytest.fixture
async def two(redis_server: Server, watch: Watch) -> AsyncIterator[tuple[RateLimits, RateLimits]]:
    """Two servers' limits on one Redis."""
    rates = {"api": "30/minute", "login": "3/minute"}
    pair = tuple(RateLimits(rates, redis_server.url, now=watch, patience=PATIENT) for _ in range(2))
    yield pair[0], pair[1]
    for one in pair:
        await one.close()


async def test_of_many_at_once_on_two_servers_exactly_so_many_pass(
    two: tuple[RateLimits, RateLimits], practice: str
) -> None:
    told = await asyncio.gather(*(two[number % 2].hit("api", practice) for number in range(200)))
    assert sum(one.allowed for one in told) == 30
    assert {one.limit for one in told} == {30}
    assert min(one.remaining for one in told) == 0


async def test_two_servers_count_as_one_does(two: tuple[RateLimits, RateLimits], watch: Watch, practice: str) -> None:
    here, there = two
    assert await here.hit("login", practice) == Allowed(True, 3, 2, 60)
    watch.now += 10
    assert await there.hit("login", practice) == Allowed(True, 3, 1, 50)
    watch.now += 10.5
    assert await here.hit("login", practice) == Allowed(True, 3, 0, 40)
    assert await there.hit("login", practice) == Allowed(False, 3, 0, 40)
    assert (await there.hit("login", f"{practice}-2")).allowed
    watch.now += 39.6
    assert await here.hit("login", practice) == Allowed(True, 3, 0, 10)


async def test_redis_learns_no_address_and_forgets_what_is_over(
    redis: Redis, two: tuple[RateLimits, RateLimits], practice: str
) -> None:
    before = {key async for key in redis.scan_iter("heallog:limits:*")}
    await two[0].hit("login", f"203.0.113.7 ada@{practice}.example")
    [key] = {key async for key in redis.scan_iter("heallog:limits:*")} - before
    assert re.fullmatch(rb"heallog:limits:LIMITER/login/[0-9a-f]{32}/3/1/minute", key)
    assert 0 < await redis.ttl(key) <= 60


async def test_while_redis_is_gone_requests_pass_and_when_it_is_back_they_are_counted(
    two: tuple[RateLimits, RateLimits], watch: Watch, practice: str, killed: Server
) -> None:
    here = two[0]
    await here.hit("login", practice)
    killed.kill()
    with structlog.testing.capture_logs() as lines:
        for _ in range(20):
            assert await here.hit("login", practice) == Allowed(True, 3, 3, 0)
            watch.now += 1.5
    assert [line["event"] for line in lines] == ["rate_limits_unavailable"]
    assert set(lines[0]) == {"event", "log_level", "type"}
    killed.start()
    assert [(await here.hit("login", practice)).allowed for _ in range(4)] == [True, True, True, False]


async def test_a_redis_that_does_not_answer_holds_up_one_request_and_no_more(
    watch: Watch, practice: str, paused: Server
) -> None:
    paused.pause()
    limits = RateLimits({"login": "1/minute"}, paused.url, now=watch, patience=0.05)
    with structlog.testing.capture_logs() as lines:
        assert (await limits.hit("login", practice)).allowed
        paused.resume()
        # It would answer now; but for a moment nobody asks.
        assert [(await limits.hit("login", practice)).allowed for _ in range(5)] == [True] * 5
    assert len(lines) == 1
    await limits.close()


async def test_a_wrong_password_lets_pass_and_is_told_to_nobody(redis_server: Server, watch: Watch) -> None:
    url = redis_server.url.replace("unix://", "unix://:hush-hush@")
    limits = RateLimits({"login": "1/minute"}, url, now=watch, patience=PATIENT)
    with structlog.testing.capture_logs() as lines:
        assert (await limits.hit("login", "a")).allowed
    assert len(lines) == 1
    assert "hush" not in repr(lines)
    await limits.close()
