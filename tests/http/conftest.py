"""The application in process, on the real database; a clinic of its own for each test."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from dependency_injector import providers
from litestar import Litestar

from heallog import bootstrap, config
from heallog.adapters import logs
from heallog.adapters.mail import MemoryMail
from heallog.adapters.security import Argon2Passwords
from heallog.adapters.world import clock

from .clinic import PASSWORD, Clinic, NewClinic
from .operations import listed
from .people import Clock, House, NewHouse


class QuickPasswords(Argon2Passwords):
    """argon2id as it is, but at a cost that hundreds of clinics can pay."""

    def __init__(self) -> None:
        super().__init__(passes=1, mebibytes=8, lanes=1)


@pytest.fixture(scope="session")
def container(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bootstrap.Container]:
    """The real container over the test database; only hashing passwords is cheaper."""
    folder: Path = tmp_path_factory.mktemp("data")
    settings = config.Settings(
        database_url=database_url,
        data_dir=folder,
        seal_every=3600,
        sync_events_every=3600,
        rate_limits=False,
        # Every test comes from the same address.
        login_tries_per_address=1_000_000,
        # Pages of one or two are enough to turn.
        min_sync_batch_size=1,
        _env_file=None,
    )
    wired = bootstrap.container(settings)
    with (
        wired.passwords.override(providers.Singleton(QuickPasswords)),
        wired.mail.override(providers.Singleton(MemoryMail)),
    ):
        yield wired


@asynccontextmanager
async def living(app: Litestar) -> AsyncIterator[None]:
    """The application's lifespan in a task of its own: it must end in the task in which it began."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            begun.set()
            await over.wait()

    life = asyncio.create_task(live())
    await asyncio.wait([life, asyncio.create_task(begun.wait())], return_when=asyncio.FIRST_COMPLETED)
    yield
    over.set()
    await life


@pytest.fixture(scope="session")
async def client(container: bootstrap.Container) -> AsyncIterator[httpx.AsyncClient]:
    """Requests straight into the application, on the tests' own event loop: tests may look into its database."""
    app = bootstrap.http_app(container)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with living(app), httpx.AsyncClient(transport=transport, base_url="http://heallog.test") as opened:
        yield opened


@pytest.fixture(scope="session")
def new_clinic(client: httpx.AsyncClient, container: bootstrap.Container) -> NewClinic:
    async def make() -> Clinic:
        email = f"alice-{container.ids()()}@example.org"
        fields = {"email": email, "password": PASSWORD, "name": "Alice", "practice_name": "Hillside"}
        answer = await client.post("/v1/auth/register", json=fields)
        assert answer.status_code == 201, answer.text
        registered = answer.json()
        return Clinic(
            client,
            container,
            registered["practice"]["id"],
            registered["account"]["id"],
            email,
            registered["tokens"]["access_token"],
            registered["tokens"]["refresh_token"],
        )

    return make


@pytest.fixture
async def clinic(new_clinic: NewClinic) -> Clinic:
    return await new_clinic()


@pytest.fixture(scope="session")
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """The OpenAPI document as a client gets it."""
    return (await client.get("/schema/openapi.json")).json()


# -- other servers ------------------------------------------------------------------------------------------------


def beside(container: bootstrap.Container, settings: dict[str, Any], **parts: Any) -> tuple[bootstrap.Container, Clock]:
    """A second house over the same database and post, with a clock, settings and perhaps other parts of its own."""
    wired, still = bootstrap.container(container.settings().model_copy(update=settings)), Clock(clock())
    wired.clock.override(providers.Object(still))
    shared = {name: getattr(container, name)() for name in ("database", "passwords", "mail")}
    for name, part in (shared | parts).items():
        getattr(wired, name).override(providers.Object(part))
    return wired, still


def documented(document: dict[str, Any]) -> Callable[[httpx.Response], Awaitable[None]]:
    """Sees to it that every answer has a status that the document knows for what was asked."""
    known = [
        (said["method"], re.compile(re.sub(r"{\w+}", "[^/]+", said["path"])), said["responses"])
        for said in sorted(listed(document).values(), key=lambda said: said["path"].count("{"))
    ]

    async def check(answer: httpx.Response) -> None:
        method, path = answer.request.method, answer.request.url.path
        for known_method, pattern, responses in known:
            if known_method == method and pattern.fullmatch(path):
                assert str(answer.status_code) in responses, (method, path, answer.status_code)
                return

    return check


@asynccontextmanager
async def served(
    document: dict[str, Any], container: bootstrap.Container, still: Clock, address: str = "127.0.0.1"
) -> AsyncIterator[House]:
    """Requests from an address into an application whose database is open already."""
    app = bootstrap.http_app(container)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 1))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://heallog.test", event_hooks={"response": [documented(document)]}
    ) as opened:
        yield House(opened, container, still, app)


@pytest.fixture
async def another(document: dict[str, Any], container: bootstrap.Container) -> AsyncIterator[NewHouse]:
    """Makes further servers over the same database, each with its own clock and settings."""
    async with AsyncExitStack() as stack:

        async def make(*, address: str = "127.0.0.1", parts: Mapping[str, Any] | None = None, **settings: Any) -> House:
            return await stack.enter_async_context(
                served(document, *beside(container, settings, **(parts or {})), address)
            )

        yield make


@pytest.fixture(scope="session")
async def only_house(document: dict[str, Any], container: bootstrap.Container) -> AsyncIterator[House]:
    async with served(document, *beside(container, {})) as house:
        yield house


@pytest.fixture
def house(only_house: House) -> House:
    """A second server over the same database, whose clock stands still at the time that it is."""
    only_house.clock.now = clock()
    return only_house


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What would have been logged so far, by the real configuration, line by line."""
    before, lines = structlog.get_config(), io.StringIO()
    logs.configure("debug")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(lines), cache_logger_on_first_use=False)
    yield lambda: [json.loads(line) for line in lines.getvalue().splitlines()]
    structlog.configure(**before)
