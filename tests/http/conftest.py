"""The application in process, on the real database; a clinic of its own for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from dependency_injector import providers
from litestar import Litestar

from heallog import bootstrap, config
from heallog.adapters.security import Argon2Passwords

from .clinic import PASSWORD, Clinic, NewClinic


class QuickPasswords(Argon2Passwords):
    """argon2id as it is, but at a cost that hundreds of clinics can pay."""

    def __init__(self) -> None:
        super().__init__()
        self._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self._nobody = self._hasher.hash("nobody")


@pytest.fixture(scope="session")
def container(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bootstrap.Container]:
    """The real container over the test database; only hashing passwords is cheaper."""
    folder: Path = tmp_path_factory.mktemp("data")
    settings = config.Settings(database_url=database_url, data_dir=folder, seal_every=3600, _env_file=None)
    wired = bootstrap.container(settings)
    with wired.passwords.override(providers.Singleton(QuickPasswords)):
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
        )

    return make


@pytest.fixture
async def clinic(new_clinic: NewClinic) -> Clinic:
    return await new_clinic()


@pytest.fixture(scope="session")
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """The OpenAPI document as a client gets it."""
    return (await client.get("/schema/openapi.json")).json()
