"""The layer that counts: which route is counted by what, and what the answer says about it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, Router, get, post
from litestar.middleware import DefineMiddleware
from litestar.response import Response

from heallog import config
from heallog.domain.access import Actor, Role
from heallog.domain.errors import NotAuthenticated, NotFound, RateLimited
from heallog.entrypoints.http import callers, errors
from heallog.entrypoints.http.limits import Limits, Rate, headers, limited, limiting

RATE_HEADERS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


@dataclass(frozen=True)
class Told:
    allowed: bool
    limit: int
    remaining: int
    reset_after: int


@dataclass
class Counter:
    """Lets so many pass for ever, and remembers whom it counted."""

    limits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Rate, 3))
    counted: list[tuple[str, str]] = field(default_factory=list)

    async def hit(self, name: str, key: str) -> Told:
        self.counted.append((name, key))
        left = self.limits[name] - self.counted.count((name, key))
        return Told(left >= 0, self.limits[name], max(left, 0), 40 + len(name))


@get("/api")
async def api() -> dict[str, str]:
    return {}


@get("/missing")
async def missing() -> dict[str, str]:
    raise NotFound("there is no such thing")


@get("/broken")
async def broken() -> dict[str, str]:
    raise ZeroDivisionError


@post("/bulk", rate=Rate.BULK, status_code=200)
async def bulk() -> dict[str, str]:
    return {}


@get("/sync", rate="sync")
async def sync() -> dict[str, str]:
    return {}


@get("/public", public=True)
async def public() -> dict[str, str]:
    return {}


@post("/login", public=True, status_code=200)
async def login(request: Request[Any, Any, Any]) -> dict[str, str]:
    await limited(request, Rate.LOGIN, f"{callers.caller(request).address} {(await request.json())['email']}")
    return {}


@get("/health", public=True, rate=Rate.NONE)
async def health() -> dict[str, str]:
    return {}


@get("/inner", include_in_schema=False)
async def inner() -> dict[str, str]:
    return {}


def authentication(app: Any) -> Any:
    """Whoever names themselves is that."""

    async def authenticated(scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope["headers"]).get(b"authorization", b"").decode()
        if not scope["route_handler"].opt.get("public") and "/document" not in scope["path"]:
            if not name:
                raise NotAuthenticated("who are you?")
            scope["user"] = Actor(name, "hillside", Role.OWNER, "session-1", "tablet-1")
        await app(scope, receive, send)

    return authenticated


class Envelope:
    """As the real one does it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        callers.locate(scope, 1)

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers(scope)]
            await send(message)

        await self._app(scope, receive, sending)


def on_limited(request: Request[Any, Any, Any], error: RateLimited) -> Response[Any]:
    """As the map of statuses will have it."""
    seconds = error.context["retry_after"]
    body = errors.envelope(error.code, error.message, request.scope, context=error.context)
    return Response(body, status_code=429, headers={"Retry-After": str(seconds)}, media_type="application/json")


@asynccontextmanager
async def app(limits: Limits | None) -> AsyncIterator[httpx.AsyncClient]:
    document = Router("/document", route_handlers=[inner], opt={"rate": Rate.NONE})
    litestar = Litestar(
        [api, missing, broken, bulk, sync, public, login, health, document],
        middleware=[DefineMiddleware(authentication), limiting(lambda: limits)],
        exception_handlers={**errors.HANDLERS, RateLimited: on_limited},
        openapi_config=None,
        logging_config=None,
    )
    litestar.asgi_handler = Envelope(litestar.asgi_handler)  # type: ignore[assignment]
    transport = httpx.ASGITransport(app=litestar, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://heallog.test") as client:
        yield client


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
async def client(counter: Counter) -> AsyncIterator[httpx.AsyncClient]:
    async with app(counter) as opened:
        yield opened


def shown(answer: httpx.Response) -> tuple[int, ...]:
    """What the answer says about its limit; each header once."""
    assert all(len(answer.headers.get_list(name)) <= 1 for name in RATE_HEADERS)
    return tuple(int(answer.headers[name]) for name in RATE_HEADERS if name in answer.headers)


AMARA, JONAS = {"Authorization": "amara"}, {"Authorization": "jonas"}
WARD, HOME = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "2001:db8:1:2::77"}

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def test_every_class_that_is_counted_has_a_rate() -> None:
    assert set(config.Settings(_env_file=None).rates or ()) == set(Rate) - {Rate.NONE}


@pytest.mark.parametrize(
    ("ask", "counted"),
    [
        (lambda client: client.get("/api", headers=AMARA), ("api", "account amara")),
        (lambda client: client.get("/api", headers=AMARA | WARD), ("api", "account amara")),
        (lambda client: client.post("/bulk", headers=AMARA), ("bulk", "account amara")),
        (lambda client: client.get("/sync", headers=AMARA), ("sync", "account amara")),
        (lambda client: client.get("/public", headers=WARD), ("public", "address 203.0.113.7")),
        (lambda client: client.get("/public", headers=AMARA | HOME), ("public", "address 2001:db8:1:2::/64")),
        (lambda client: client.get("/public"), ("public", "address 127.0.0.1")),
    ],
)
async def test_a_route_is_counted_by_its_class(
    client: httpx.AsyncClient, counter: Counter, ask: Ask, counted: tuple[str, str]
) -> None:
    answer = await ask(client)
    assert answer.status_code == 200
    assert counter.counted == [counted]
    assert shown(answer) == (3, 2, 40 + len(counted[0]))


@pytest.mark.parametrize("path", ["/health", "/document/inner"])
async def test_health_and_document_are_not_counted(client: httpx.AsyncClient, counter: Counter, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert counter.counted == []
    assert shown(answer) == ()


async def test_whoever_asks_too_often_is_told_when_to_come_back(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/api", headers=AMARA) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [shown(answer)[1] for answer in answers] == [2, 1, 0, 0, 0]
    refused = answers[-1]
    assert refused.json()["error"] == {
        "code": "RATE_LIMITED",
        "message": "too many requests; wait 43 seconds",
        "field": None,
        "context": {"retry_after": 43},
    }
    assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"] == "43"
    assert (await client.get("/api", headers=JONAS)).status_code == 200


async def test_a_refused_request_does_not_reach_its_handler(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/broken", headers=AMARA) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 500, 500, 429]


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/broken", 500)])
async def test_refusals_and_accidents_say_it_too(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path, headers=AMARA)
    assert answer.status_code == status
    assert shown(answer) == (3, 2, 43)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/api", 401), ("GET", "/no", 404), ("PUT", "/api", 405)]
)
async def test_whoever_does_not_get_that_far_is_not_counted(
    client: httpx.AsyncClient, counter: Counter, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert counter.counted == []
    assert shown(answer) == ()


async def test_an_address_cannot_use_up_an_account(client: httpx.AsyncClient, counter: Counter) -> None:
    for _ in range(4):
        await client.get("/public", headers={"X-Forwarded-For": "account amara"})
    assert (await client.get("/api", headers=AMARA)).status_code == 200
    assert len(set(counter.counted)) == 2


# -- limits by what is in the body --------------------------------------------------------------------------------


async def test_a_handler_counts_by_what_it_found(client: httpx.AsyncClient, counter: Counter) -> None:
    counter.limits = {"public": 60, "login": 2}
    answers = [await client.post("/login", json={"email": "ada@example.org"}, headers=WARD) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [shown(answer) for answer in answers] == [(2, 1, 45), (2, 0, 45), (2, 0, 45)]
    assert answers[-1].headers["retry-after"] == "45"
    assert counter.counted[:2] == [("public", "address 203.0.113.7"), ("login", "203.0.113.7 ada@example.org")]
    other = await client.post("/login", json={"email": "jonas@example.org"}, headers=WARD)
    assert other.status_code == 200


async def test_of_two_limits_the_tighter_is_shown(client: httpx.AsyncClient, counter: Counter) -> None:
    counter.limits = {"public": 2, "login": 50}
    answers = [await client.post("/login", json={"email": "ada@example.org"}) for _ in range(3)]
    assert [shown(answer) for answer in answers] == [(2, 1, 46), (2, 0, 46), (2, 0, 46)]
    assert counter.counted.count(("login", "127.0.0.1 ada@example.org")) == 2


async def test_of_two_that_have_as_much_left_the_one_that_lasts_longer_is_shown(
    client: httpx.AsyncClient, counter: Counter
) -> None:
    counter.limits = {"public": 3, "login": 3}
    answer = await client.post("/login", json={"email": "ada@example.org"})
    assert shown(answer) == (3, 2, 46)


async def test_a_limit_that_refuses_is_shown_before_one_that_is_used_up(
    client: httpx.AsyncClient, counter: Counter
) -> None:
    """Both have nothing left, and that of the address lasts longer; but it is not the one that refused."""
    counter.limits = {"public": 2, "login": 1}
    await client.post("/login", json={"email": "ada@example.org"})
    refused = await client.post("/login", json={"email": "ada@example.org"})
    assert refused.status_code == 429
    assert shown(refused) == (1, 0, 45)
    assert refused.headers["retry-after"] == "45"


# -- switched off -------------------------------------------------------------------------------------------------


async def test_where_limits_are_switched_off_nothing_of_this_happens() -> None:
    async with app(None) as client:
        for _ in range(500):
            answer = await client.get("/api", headers=AMARA)
            assert answer.status_code == 200
        assert shown(answer) == ()
        answer = await client.post("/login", json={"email": "ada@example.org"})
        assert answer.status_code == 200
        assert shown(answer) == ()
