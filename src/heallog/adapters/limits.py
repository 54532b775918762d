"""How often someone may ask: moving windows of the library `limits`, in memory or, for several processes, in Redis.

The limits protect from load and guard no one. Where Redis does not answer, requests pass.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import Final

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PATIENCE = 0.5
"""Seconds that a request waits for Redis in all, before it passes uncounted."""
PAUSE = 1.0
"""Seconds after that in which nobody asks Redis: while it is silent, not every request has to wait for it."""
SILENCE = 60.0
"""Seconds between two lines in the log that say so."""
MOST_KEYS = 100_000
"""Windows that are kept in memory; beyond that whoever asked longest ago is forgotten."""
SWEEP = 60.0
"""Seconds between two looks through the windows in memory for those that are over."""

_RATE: Final = re.compile(
    r"\s*[1-9][0-9]{0,5}\s*/\s*([1-9][0-9]{0,3}\s*)?(second|minute|hour|day)s?\s*", re.IGNORECASE | re.ASCII
)
_UNREACHED = (RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What became of one request. `reset_after` are the seconds until there is room for one more than now."""

    allowed: bool
    limit: int
    remaining: int
    reset_after: int


def check(text: str) -> RateLimitItem:
    """The rate that is written like that. Raises `ValueError`."""
    if not _RATE.fullmatch(text):
        raise ValueError(f"{text!r} is no rate; write it like 100/minute, 5/15 minutes or 3/hour")
    return parse(text)


class RateLimits:
    """`rates` are rates by name. Keys may be addresses of people: they are hashed before they go anywhere."""

    def __init__(
        self,
        rates: Mapping[str, str],
        redis_url: str | None = None,
        *,
        now: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self._rates = {str(name): check(text) for name, text in rates.items()}
        self._now = now
        self._patience = patience
        self._pool = None if redis_url is None else _pool(redis_url, patience)
        self._limiter = MovingWindowRateLimiter(Windows(now) if self._pool is None else _stored(self._pool))
        self._resumes = self._logs = float("-inf")
        self._log = structlog.get_logger("heallog.limits")

    async def hit(self, name: str, key: str) -> Allowed:
        """Count one request and say what became of it."""
        rate = self._rates[name]
        if self._now() < self._resumes:
            return _passed(rate)
        whose = self._whose(name, key)
        try:
            async with asyncio.timeout(self._patience):
                allowed = await self._limiter.hit(rate, *whose)
                reset, remaining = await self._limiter.get_window_stats(rate, *whose)
        except _UNREACHED as error:
            self._unreached(error)
            return _passed(rate)
        if allowed:
            return Allowed(True, rate.amount, max(remaining, 0), max(ceil(reset - self._now()), 0))
        # Redis is asked twice. Room that came up between the two was not there for this request, but is now.
        wait = 1 if remaining > 0 else max(ceil(reset - self._now()), 1)
        return Allowed(False, rate.amount, 0, wait)

    async def forget(self, name: str, key: str) -> None:
        """Begin anew with what this key has asked for."""
        rate = self._rates[name]
        try:
            async with asyncio.timeout(self._patience):
                await self._limiter.clear(rate, *self._whose(name, key))
        except _UNREACHED as error:
            self._unreached(error)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    def _whose(self, name: str, key: str) -> tuple[str, str]:
        # A key may be what someone sent: half a surrogate must not stop it.
        return name, sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _unreached(self, error: Exception) -> None:
        now = self._now()
        self._resumes = now + PAUSE
        if now >= self._logs:
            self._logs = now + SILENCE
            # The type only: a text may hold the address.
            self._log.warning("rate_limits_unavailable", type=f"{type(error).__module__}.{type(error).__qualname__}")


def _passed(rate: RateLimitItem) -> Allowed:
    return Allowed(True, rate.amount, rate.amount, 0)


# -- in memory ----------------------------------------------------------------------------------------------------


class Windows(MemoryStorage):
    """The library's windows, kept in another way.

    The library looks through the windows of everybody with every hit, each in a thread: it forgets, but a thousand
    addresses would be a thousand threads' work for each request. Here a hit tidies its own window, and once in a while
    all of them.
    """

    def __init__(self, now: Callable[[], float], *, most: int = MOST_KEYS) -> None:
        super().__init__()
        self._now = now
        self._most = most
        self._sweeps = now() + SWEEP
        self._ends: OrderedDict[str, list[float]] = OrderedDict()
        """When each hit leaves its window, oldest first; who asked longest ago comes first."""

    def __len__(self) -> int:
        return len(self._ends)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = self._now()
        ends = self._live(key, now)
        allowed = len(ends) + amount <= limit
        if allowed:
            ends += [now + expiry] * amount
        if ends:
            self._ends[key] = ends
            self._ends.move_to_end(key)
        if len(self._ends) > self._most:
            self._ends.popitem(last=False)
        if now >= self._sweeps:
            self._sweeps = now + SWEEP
            for over in [key for key, ends in self._ends.items() if ends[-1] <= now]:
                del self._ends[over]
        return allowed

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        now = self._now()
        ends = self._live(key, now)
        return (ends[0] - expiry, len(ends)) if ends else (now, 0)

    async def clear(self, key: str) -> None:
        self._ends.pop(key, None)

    def _live(self, key: str, now: float) -> list[float]:
        return [end for end in self._ends.get(key, ()) if end > now]


# -- in Redis -----------------------------------------------------------------------------------------------------


def _pool(url: str, patience: float) -> BlockingConnectionPool:
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=20,
            timeout=patience,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )
        # It reaches for nothing yet, and refuses options that there are not.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        # Its own text may quote a part of the password.
        raise ValueError("the address of Redis cannot be read; write it like redis://:password@host:6379/0") from None
    return pool


def _stored(pool: BlockingConnectionPool) -> Storage:
    # The pool knows the address; the one given here is not used.
    return RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix="heallog:limits",
        connection_pool=pool,  # type: ignore[arg-type]  # as its documentation says
    )
