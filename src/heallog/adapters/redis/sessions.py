"""The blacklist of access tokens in Redis: a key for each ended session, which Redis forgets with the last token."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError

from heallog.adapters.gathering import Gathered
from heallog.application.ports.world import Clock
from heallog.domain.errors import Unavailable

PATIENCE = 1.0
"""Seconds to wait for an answer, with all that it takes. Every request asks: rather a quick refusal than a queue."""

_REVOKE = """
for _, key in ipairs(KEYS) do
    if redis.call('PTTL', key) < tonumber(ARGV[1]) then
        redis.call('SET', key, '', 'PX', ARGV[1])
    end
end
"""
"""The later end counts. A script, for `PEXPIRE … GT` came with Redis 7 only, and `SET` alone would shorten."""

_UNREACHED = (RedisError, OSError, TimeoutError)
_MILLISECOND = timedelta(milliseconds=1)


def connect(url: str) -> Redis:
    """A client for a redis://, rediss:// or unix:// address; it connects when it is first asked something.

    A connection that was lost is made once more at once, and again with the next question: Redis that comes back is
    found without anybody's doing. Raises `ValueError` without a word of the address, which may hold a password.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=20,
            timeout=PATIENCE,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            health_check_interval=15,
            protocol=2,
            # What timed out is not asked again: whoever waits has waited long enough.
            retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionLost,)),
        )
        # It reaches for nothing yet, and refuses options that there are not.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        raise ValueError(
            "the address of Redis cannot be read; write it like redis://:password@host:6379/0, rediss://… or unix://…"
        ) from None
    return Redis.from_pool(pool)


async def close(redis: Redis) -> None:
    """Let go of the connections. What goes wrong with one that is to be dropped is nobody's concern."""
    try:
        await redis.aclose()
    except _UNREACHED:
        return


class RedisTokenBlacklist:
    """Concurrent questions go in one `MGET`. Nothing is answered from memory: a revocation counts at once."""

    def __init__(self, redis: Redis, clock: Clock, *, patience: float = PATIENCE) -> None:
        self._redis = redis
        self._clock = clock
        self._patience = patience
        self._revoke = redis.register_script(_REVOKE)
        self._gathered: Gathered[str, bool] = Gathered(self._ask)

    async def revoke(self, sessions: Sequence[tuple[str, str]], until: datetime) -> None:
        # Up to the next millisecond: an end is never early.
        left = -((self._clock() - until) // _MILLISECOND)
        if left <= 0 or not sessions:
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._revoke(keys=[_key(*session) for session in sessions], args=[left])
        except _UNREACHED:
            raise _unavailable() from None

    def revoked(self, practice_id: str, session_id: str) -> Awaitable[bool]:
        return self._gathered(_key(practice_id, session_id), bool)

    async def _ask(self, keys: Sequence[str]) -> Sequence[bool]:
        try:
            async with asyncio.timeout(self._patience):
                found = await self._redis.mget(keys)
        except _UNREACHED:
            raise _unavailable() from None
        return [value is not None for value in found]


def _key(practice_id: str, session_id: str) -> str:
    return f"heallog:revoked:{practice_id}:{session_id}"


def _unavailable() -> Unavailable:
    return Unavailable("the token blacklist does not answer")


if TYPE_CHECKING:
    from heallog.application.ports.sessions import TokenBlacklist

    _: type[TokenBlacklist] = RedisTokenBlacklist
