"""How often a route may be asked: the one table of classes of routes, and the layer that counts.

A route says its class as `rate=Rate.…`; without a word it is `PUBLIC` where it needs no token, and `API` where it does.
What a request was told is kept in its scope: the outermost layer writes the headers, so that refusals have them too.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final, Protocol, cast

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from heallog.domain.access import Caller
from heallog.domain.accounts import email_key
from heallog.domain.errors import RateLimited
from heallog.entrypoints.http.callers import caller


class Rate(StrEnum):
    """A class of routes, and by what its requests are counted."""

    API = "api"
    """Routes with a token, by account."""
    BULK = "bulk"
    """Imports and what else takes long, by account."""
    SYNC = "sync"
    """By account."""
    PUBLIC = "public"
    """Routes without a token, by source address."""
    LOGIN = "login"
    """By source address and e-mail address; the handler counts."""
    OTP = "otp"
    """Mails with codes, by e-mail address; the handler counts."""
    NONE = "none"
    """Health and the document: not counted."""


class Allowed(Protocol):
    """What became of one request; seconds until there is room for one more."""

    @property
    def allowed(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_after(self) -> int: ...


class Limits(Protocol):
    """Who counts."""

    def hit(self, name: str, key: str) -> Awaitable[Allowed]: ...

    def forget(self, name: str, key: str) -> Awaitable[None]: ...


_LIMITS: Final = "heallog.limits"
_TOLD: Final = "heallog.limit"


def limiting(limits: Callable[[], Limits | None]) -> Callable[[ASGIApp], ASGIApp]:
    """The layer, counting with what the container gives; it stands behind authentication.

    Where the container gives None, nothing is counted and no header is written. `limited` counts with the same.
    """

    def layer(app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == ScopeType.HTTP:
                _noted(scope)[_LIMITS] = limits()
                rate = _rate(scope)
                if rate is not Rate.NONE:
                    await _hit(scope, rate, _who(scope))
            await app(scope, receive, send)

        return counted

    return layer


def guesses_of(who: Caller, email: str) -> str:
    """What logins are counted by: an address, and whose account it tries."""
    return f"{who.address} {email_key(email)}"


async def limited(request: Request[Any, Any, Any], rate: Rate, key: str) -> None:
    """Count a request by what its handler found in it. Of several limits the answer shows the tightest."""
    await _hit(request.scope, rate, key)


async def forgiven(request: Request[Any, Any, Any], rate: Rate, key: str) -> None:
    """What was counted by `limited` was right: it was no guess, and counts no more."""
    limits: Limits | None = _noted(request.scope).get(_LIMITS)
    if limits is not None:
        await limits.forget(rate, key)


def headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What the answer says about its limit; nothing where none was counted."""
    told: Allowed | None = _noted(scope).get(_TOLD)
    if told is None:
        return []
    return [
        (b"ratelimit-limit", b"%d" % told.limit),
        (b"ratelimit-remaining", b"%d" % told.remaining),
        (b"ratelimit-reset", b"%d" % told.reset_after),
    ]


async def _hit(scope: Scope, rate: Rate, key: str) -> None:
    noted = _noted(scope)
    limits: Limits | None = noted.get(_LIMITS)
    if limits is None:
        return
    now = await limits.hit(rate, key)
    noted[_TOLD] = min(noted.get(_TOLD, now), now, key=_room)
    if not now.allowed:
        seconds = max(now.reset_after, 1)
        raise RateLimited(f"too many requests; wait {seconds} seconds", context={"retry_after": seconds})


def _room(told: Allowed) -> tuple[bool, int, int]:
    return told.allowed, told.remaining, -told.reset_after


def _rate(scope: Scope) -> Rate:
    said = scope["route_handler"].opt
    return Rate(said.get("rate") or (Rate.PUBLIC if said.get("public") else Rate.API))


def _who(scope: Scope) -> str:
    """The account, or the address of whoever needs none. What an account is called no address can be."""
    user = scope.get("user")
    if user is None:
        return f"address {caller(scope).address}"
    # Who was a member somewhere takes nothing of what the account may ask elsewhere.
    return f"account {user.account_id}" if user.role else f"former {user.practice_id} {user.account_id}"


def _noted(scope: Scope) -> dict[str, Any]:
    """The scope, as the mapping that we may note things in."""
    return cast("dict[str, Any]", scope)
