"""Tries: how often a secret may be guessed, counted for whom it belongs to and for where the guesses come from.

A try is taken before the guess is looked at and given back when it was right: of any number of guesses at the same
time exactly the allowed ones are looked at.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many wrong tries are free. The last of them locks for `lock`, and each further one for twice as long.

    Whoever stays away for `forgotten` begins anew.
    """

    free: int
    lock: timedelta = timedelta(minutes=1)
    longest: timedelta = timedelta(hours=1)
    forgotten: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Tries:
    """Wrong tries of one key, those that are just being looked at included."""

    key: str
    count: int
    last_at: datetime
    locked_until: datetime | None = None


def key(kind: str, of: str) -> str:
    """What is counted under: 128 bits of a hash, for what people type in as their address may be anything."""
    return f"{kind}:{hashlib.sha256(of.encode()).hexdigest()[:32]}"


def locked(tries: Tries, now: datetime) -> timedelta | None:
    """How long to wait before the next try, where it has to be waited for."""
    until = tries.locked_until
    return until - now if until is not None and now < until else None


def taken(tries: Tries, allowance: Allowance, now: datetime) -> Tries:
    """After one more try, which was not `locked`."""
    count = 1 if now - tries.last_at >= allowance.forgotten else tries.count + 1
    until = None
    if count >= allowance.free:
        # Bounded before it is doubled: 2 ** 10_000 minutes is no timedelta.
        doubled = allowance.lock * 2 ** min(count - allowance.free, 30)
        until = now + min(doubled, allowance.longest)
    return Tries(tries.key, count, now, until)


def given_back(tries: Tries) -> Tries:
    """After a try that was right: it was no guess. What it locked by itself opens again."""
    return replace(tries, count=max(tries.count - 1, 0), locked_until=None)
