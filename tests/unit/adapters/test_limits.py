"""Moving windows in memory: exact at their edges, apart from each other, forgotten when they are over."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from heallog.adapters import limits
from heallog.adapters.limits import Allowed, RateLimits, Windows, check

NOON = 1_772_452_800.0


@dataclass
class Watch:
    """Stands still, but for whoever moves it."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


# -- rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [
        ("100/minute", 100, 60),
        ("5/15 minutes", 5, 900),
        ("5/15minutes", 5, 900),
        (" 3 / hour ", 3, 3600),
        ("3/HOURS", 3, 3600),
        ("100/minute\n", 100, 60),
        ("1/second", 1, 1),
        ("999999/9999 days", 999_999, 9_999 * 86_400),
    ],
)
def test_a_rate_is_read(text: str, amount: int, seconds: int) -> None:
    rate = check(text)
    assert (rate.amount, rate.get_expiry()) == (amount, seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "/minute",
        "100/",
        "0/minute",
        "5/0 minutes",
        "-1/minute",
        "1.5/minute",
        "100 minute",
        "100/fortnight",
        "100/minute;5/second",
        "100/minute, 5/second",
        "1000000/minute",
        "\u0661/minute",
        "1/minute\u017f",
    ],
)
def test_what_is_no_rate_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no rate; write it like 100/minute, 5/15 minutes or 3/hour") as refused:
        check(text)
    assert repr(text) in str(refused.value)


@given(st.text())
def test_any_text_is_a_rate_or_refused_in_our_words(text: str) -> None:
    try:
        rate = check(text)
    except ValueError as error:
        assert "is no rate; write it like" in str(error)  # noqa: PT017 - either will do
    else:
        assert rate.amount > 0
        assert rate == parse(text)


def test_a_bad_rate_is_refused_before_anything_is_counted() -> None:
    with pytest.raises(ValueError, match="'often' is no rate"):
        RateLimits({"api": "100/minute", "login": "often"})


# -- windows ------------------------------------------------------------------------------------------------------


async def test_so_many_pass_and_the_next_does_not(watch: Watch) -> None:
    rates = RateLimits({"login": "3/minute"}, now=watch)
    assert await rates.hit("login", "a") == Allowed(True, 3, 2, 60)
    watch.now += 10
    assert await rates.hit("login", "a") == Allowed(True, 3, 1, 50)
    watch.now += 10.5
    assert await rates.hit("login", "a") == Allowed(True, 3, 0, 40)
    assert await rates.hit("login", "a") == Allowed(False, 3, 0, 40)


async def test_room_comes_up_when_it_was_told_to_and_not_before(watch: Watch) -> None:
    rates = RateLimits({"login": "2/minute"}, now=watch)
    await rates.hit("login", "a")
    watch.now += 20
    await rates.hit("login", "a")
    refused = await rates.hit("login", "a")
    assert refused == Allowed(False, 2, 0, 40)
    watch.now += refused.reset_after - 0.001
    assert await rates.hit("login", "a") == Allowed(False, 2, 0, 1)
    watch.now += 0.001
    assert await rates.hit("login", "a") == Allowed(True, 2, 0, 20)
    assert not (await rates.hit("login", "a")).allowed


async def test_no_window_ever_holds_more_than_the_limit(watch: Watch) -> None:
    """Also not across what a fixed window would call its edge."""
    rates, passed = RateLimits({"api": "4/minute"}, now=watch), []
    for step in range(600):
        watch.now = NOON + step * 0.7
        if (await rates.hit("api", "a")).allowed:
            passed.append(watch.now)
    assert passed
    assert all(later - earlier >= 60 for earlier, later in zip(passed, passed[4:], strict=False))
    assert len(passed) == 4 * 7


async def test_refused_requests_do_not_count(watch: Watch) -> None:
    rates = RateLimits({"api": "1/minute"}, now=watch)
    await rates.hit("api", "a")
    for _ in range(59):
        watch.now += 1
        assert not (await rates.hit("api", "a")).allowed
    watch.now += 1
    assert (await rates.hit("api", "a")).allowed


async def test_keys_and_names_are_counted_apart(watch: Watch) -> None:
    rates = RateLimits({"api": "1/minute", "bulk": "1/minute"}, now=watch)
    for name, key in [("api", "a"), ("api", "b"), ("bulk", "a"), ("api", ""), ("api", "A"), ("api", "\ud800")]:
        assert (await rates.hit(name, key)).allowed
        assert not (await rates.hit(name, key)).allowed


async def test_of_many_at_once_exactly_so_many_pass(watch: Watch) -> None:
    rates = RateLimits({"api": "30/minute"}, now=watch)
    told = await asyncio.gather(*(rates.hit("api", "a") for _ in range(200)))
    assert sum(one.allowed for one in told) == 30


async def test_a_clock_that_goes_back_harms_nobody(watch: Watch) -> None:
    rates = RateLimits({"api": "2/minute"}, now=watch)
    await rates.hit("api", "a")
    watch.now -= 3600
    assert (await rates.hit("api", "a")).allowed
    refused = await rates.hit("api", "a")
    assert not refused.allowed
    assert refused.reset_after >= 1


# -- what is kept -------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Windows]:
    """The storage of the limits that were made last."""
    made: list[Windows] = []

    class Noted(Windows):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr(limits, "Windows", Noted)
    return lambda: made[-1]


async def test_no_key_is_kept_as_it_is(watch: Watch, kept: Callable[[], Windows]) -> None:
    rates = RateLimits({"login": "5/15 minutes"}, now=watch)
    await rates.hit("login", "203.0.113.7 ada@example.org")
    [key] = kept()._ends
    assert "ada" not in key
    assert "203" not in key
    name, digest = key.split("/")[1:3]
    assert name == "login"
    assert len(digest) == 32
    assert set(digest) <= set("0123456789abcdef")


async def test_windows_that_are_over_are_forgotten(watch: Watch, kept: Callable[[], Windows]) -> None:
    rates = RateLimits({"api": "2/minute", "otp": "3/hour"}, now=watch)
    for number in range(500):
        await rates.hit("api", f"address {number}")
    await rates.hit("otp", "ada@example.org")
    assert len(kept()) == 501
    watch.now += 61
    await rates.hit("api", "somebody")
    assert len(kept()) == 2
    for _ in range(3):
        await rates.hit("otp", "ada@example.org")
    assert not (await rates.hit("otp", "ada@example.org")).allowed


async def test_not_every_hit_looks_through_the_windows_of_everybody(watch: Watch, kept: Callable[[], Windows]) -> None:
    rates = RateLimits({"api": "2/second"}, now=watch)
    watch.now += 61
    await rates.hit("api", "a")
    watch.now += 2
    await rates.hit("api", "b")
    assert len(kept()) == 2
    watch.now += 60
    await rates.hit("api", "c")
    assert len(kept()) == 1


async def test_one_window_holds_no_more_hits_than_it_lets_pass(watch: Watch, kept: Callable[[], Windows]) -> None:
    rates = RateLimits({"api": "3/minute"}, now=watch)
    for _ in range(1_000):
        watch.now += 1
        await rates.hit("api", "a")
    assert max(map(len, kept()._ends.values())) <= 3


async def test_beyond_the_most_whoever_asked_longest_ago_is_forgotten(watch: Watch) -> None:
    windows = Windows(watch, most=3)
    for key in ["a", "b", "c", "a", "d"]:
        assert await windows.acquire_entry(key, 2, 60)
    assert list(windows._ends) == ["c", "a", "d"]
    assert not await windows.acquire_entry("a", 2, 60)


async def test_counting_leaves_no_task_behind(watch: Watch) -> None:
    before = asyncio.all_tasks()
    rates = RateLimits({"api": "3/minute"}, now=watch)
    await rates.hit("api", "a")
    assert asyncio.all_tasks() == before
    await rates.close()


# -- no Redis -----------------------------------------------------------------------------------------------------

NOWHERE = "unix://:hush-hush@/nowhere/redis.sock"


async def test_without_redis_requests_pass_and_the_log_says_so_once_a_minute(watch: Watch) -> None:
    rates = RateLimits({"login": "1/minute"}, NOWHERE, now=watch)
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            assert await rates.hit("login", "a") == Allowed(True, 1, 1, 0)
        assert [line["event"] for line in lines] == ["rate_limits_unavailable"]
        watch.now += 59.9
        await rates.hit("login", "a")
        assert len(lines) == 1
        watch.now += 1.1
        await rates.hit("login", "a")
        assert len(lines) == 2
    assert "hush" not in repr(lines)
    assert "nowhere" not in repr(lines)
    await rates.close()


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
        RateLimits({}, url)
    assert "hush" not in str(refused.value)
    assert refused.value.__suppress_context__
