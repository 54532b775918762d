"""The HTTP application: routes, dependencies, errors, and the outermost layer."""

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from anyio import move_on_after
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from uuid_utils import uuid7

from heallog.application.sessions import Sessions
from heallog.application.sync.health import Health
from heallog.domain.sync import Pages
from heallog.entrypoints.http import (
    accounts,
    audit,
    auth,
    codes,
    conflicts,
    credentials,
    health,
    imports,
    limits,
    metrics,
    patients,
    policies,
    practices,
    records,
    sessions,
    sync,
    watching,
    watermelon,
)
from heallog.entrypoints.http.callers import locate
from heallog.entrypoints.http.errors import HANDLERS as ERROR_HANDLERS
from heallog.entrypoints.http.openapi import RANGES, configuration, static_file

MEBIBYTE = 1024 * 1024

MOST_UNREAD = 64 * 1024 * 1024
PATIENCE = 10
"""Bytes of a body, and seconds, that are still read after it was refused."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


class Body:
    """What is received of a request, and whether anything of it is left."""

    def __init__(self, scope: HTTPScope, receive: Receive) -> None:
        names = {name for name, value in scope["headers"] if value != b"0"}
        self._receive = receive
        # Who asks first whether to send it at all hears the refusal instead.
        self._left = bool(names & {b"content-length", b"transfer-encoding"}) and b"expect" not in names

    async def __call__(self) -> Any:
        message = await self._receive()
        self._left = message["type"] == "http.request" and bool(message.get("more_body"))
        return message

    async def finish(self) -> None:
        """Read what is left, and forget it: who is cut off while still sending never hears why."""
        unread = 0
        with move_on_after(PATIENCE):
            while self._left and unread < MOST_UNREAD:
                unread += len((await self()).get("body", b""))


class Envelope:
    """The outermost layer: where a request comes from, its id in and out, and headers that every answer carries."""

    def __init__(self, app: ASGIApp, proxies: int = 0) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid7()).encode()
        scope["heallog.request_id"] = request_id.decode()  # type: ignore[typeddict-unknown-key]
        locate(scope, self._proxies)

        asks = scope["method"] == "OPTIONS"
        if asks:
            # Litestar's own answer knows only the methods that came first at an address; its 405 knows them all.
            scope = cast("HTTPScope", {**scope, "method": "TRACE"})

        body = Body(scope, receive)

        async def sending(message: Message) -> None:
            nonlocal asks
            if message["type"] == "http.response.body" and asks:
                message["body"] = b""
            if message["type"] == "http.response.start":
                await body.finish()
                asks = asks and message["status"] == HTTPStatus.METHOD_NOT_ALLOWED
                if asks:
                    message["headers"] = [(name, value) for name, value in message["headers"] if name == b"allow"]
                    message["status"] = HTTPStatus.NO_CONTENT
                headers = [*message["headers"], (b"x-request-id", request_id), *_SECURITY, *limits.headers(scope)]
                if not any(name == b"cache-control" for name, _ in headers):
                    # Records are private: no cache on the way may keep them.
                    headers.append((b"cache-control", b"private, no-cache"))
                message["headers"] = headers
            await send(message)

        await self._app(scope, body, sending)


HANDLERS = [
    *accounts.HANDLERS,
    *sessions.HANDLERS,
    *codes.HANDLERS,
    *credentials.HANDLERS,
    *practices.HANDLERS,
    *patients.HANDLERS,
    *records.HANDLERS,
    *conflicts.HANDLERS,
    *policies.HANDLERS,
    *imports.HANDLERS,
    *sync.HANDLERS,
    *audit.HANDLERS,
    *health.HANDLERS,
    *metrics.HANDLERS,
]


PUSHES = [sync.push, *watermelon.HANDLERS]
"""They may have larger bodies. (What shares an address must share its layers.)"""


def _range(pages: Pages) -> dict[str, Any]:
    return {"type": "integer", "minimum": pages.least, "maximum": pages.most, "default": pages.usual}


def _calling(factory: Callable[[], Any]) -> Callable[[], Any]:
    """A plain function: Litestar reads signatures, and the container's providers have none."""

    def give() -> Any:
        return factory()

    return give


def create_app(
    dependencies: Mapping[str, Callable[[], Any]],
    *,
    door: Callable[[], Sessions],
    rate_limits: Callable[[], limits.Limits | None],
    pages: Pages,
    largest_body: int,
    largest_push: int,
    fares: Callable[[], Health],
    proxies: int = 0,
    on_startup: Sequence[Callable[[], Any]] = (),
    on_shutdown: Sequence[Callable[[], Any]] = (),
) -> Litestar:
    """The application. `dependencies` are the container's factories by the names that handlers ask for.

    `door` admits whoever brings a token; `rate_limits` count, where it gives any; `fares` hears of pulls and pushes;
    `proxies` of ours stand in front. Bodies may have `largest_body` MiB, and those that bring what a device did
    `largest_push`. Of `pages` the document tells what may be asked for.
    """
    pushes = Router("/", route_handlers=PUSHES, request_max_body_size=largest_push * MEBIBYTE)
    app = Litestar(
        route_handlers=[*HANDLERS, pushes, static_file],
        dependencies={name: Provide(_calling(factory), sync_to_thread=False) for name, factory in dependencies.items()},
        middleware=[
            DefineMiddleware(auth.authentication(door), exclude_from_auth_key="public", exclude=["^/schema(/|$)"]),
            limits.limiting(rate_limits),
            watching.watching(fares),
        ],
        exception_handlers=ERROR_HANDLERS,
        openapi_config=configuration(),
        state=State({RANGES: {"pull": {"limit": _range(pages)}}}),
        request_max_body_size=largest_body * MEBIBYTE,
        on_startup=list(on_startup),
        on_shutdown=list(on_shutdown),
        logging_config=None,
        debug=False,
    )
    app.asgi_handler = Envelope(app.asgi_handler, proxies)
    return app
