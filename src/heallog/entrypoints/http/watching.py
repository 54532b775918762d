"""The layer that notes what every pull and push came to, also of those that were refused or never got to their end."""

from collections.abc import Callable
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final, cast

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from heallog.application.sync.health import Health
from heallog.domain.health import ABORTED, Door, Mode, Tally, outcome_of

_TALLY: Final = "heallog.tally"


def tally(request: Request[Any, Any, Any]) -> Tally:
    """Where the use case writes down what it came to."""
    return cast("Tally", cast("dict[str, Any]", request.scope)[_TALLY])


def watching(health: Callable[[], Health]) -> Callable[[ASGIApp], ASGIApp]:
    """The layer, over routes that say `sync=(door, mode)`. It stands behind rates: what they stop is no pull yet."""

    def layer(app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            kind = scope["route_handler"].opt.get("sync") if scope["type"] == ScopeType.HTTP else None
            if kind is None:
                await app(scope, receive, send)
            else:
                await _Watch(health(), *kind).over(app, scope, receive, send)

        return watched

    return layer


class _Watch:
    """One request."""

    def __init__(self, health: Health, door: Door, mode: Mode) -> None:
        self._health = health
        self._kind = door, mode
        self._tally = Tally()
        self._received = 0
        self._sent = 0
        self._status: int | None = None
        self._whole = False

    async def over(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def receiving() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                self._received += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            elif message["type"] == "http.response.body":
                self._sent += len(message.get("body", b""))
                self._whole = not message.get("more_body", False)
            await send(message)

        cast("dict[str, Any]", scope)[_TALLY] = self._tally
        at, started = self._health.now(), perf_counter()
        try:
            await app(scope, receiving, sending)
        except Exception:
            self._whole = False
            raise
        finally:
            duration_ms = (perf_counter() - started) * 1000
            status = self._status if self._whole else None
            door, mode = self._kind
            self._health.note(
                scope["user"],
                door,
                mode,
                at,
                self._tally,
                outcome=outcome_of(status),
                code=_code(scope, status),
                duration_ms=duration_ms,
                bytes=self._received if mode is Mode.PUSH else self._sent,
            )


def _code(scope: Scope, status: int | None) -> str | None:
    if status is None:
        return ABORTED
    return cast("dict[str, Any]", scope).get("heallog.code") if status >= HTTPStatus.BAD_REQUEST else None
