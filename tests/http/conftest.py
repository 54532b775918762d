"""The application in process, on the real database; a clinic of its own for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from heallog import bootstrap, config
from heallog.domain.access import Actor, Role

PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def container(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> bootstrap.Container:
    """The real container over the test database."""
    folder: Path = tmp_path_factory.mktemp("data")
    return bootstrap.container(config.Settings(database_url=database_url, data_dir=folder, _env_file=None))


@pytest.fixture(scope="session")
async def client(container: bootstrap.Container) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(bootstrap.http_app(container), raise_server_exceptions=False) as opened:
        yield opened


@dataclass
class Clinic:
    """A practice, its owner Alice, and calls in her name."""

    client: AsyncTestClient[Litestar]
    container: bootstrap.Container
    practice_id: str
    account_id: str
    email: str
    token: str
    ids: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, token: str | None = None
    ) -> httpx.Response:
        """A request as Alice, or with another token; `body` is sent as JSON."""
        sent = {"Authorization": f"Bearer {token or self.token}", **(headers or {})}
        if body is None:
            return await self.client.request(method, path, headers=sent)
        return await self.client.request(method, path, json=body, headers=sent)

    async def patient(self, **fields: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/v1/patients", {"family_name": "Obi", "given_name": "Ngozi", **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def record(self, patient_id: str, **fields: Any) -> dict[str, Any]:
        body = {"kind": "observation", "title": "Blood pressure", **fields}
        answer = await self.call("POST", f"/v1/patients/{patient_id}/records", body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def token_for(self, role: Role) -> str:
        """A token of a member of this practice with another role."""
        actor = Actor(self.account_id, self.practice_id, role, "session", "device")
        return self.container.tokens().issue(actor, self.container.clock()()).access_token


NewClinic = Callable[[], Awaitable[Clinic]]


@pytest.fixture
def new_clinic(client: AsyncTestClient[Litestar], container: bootstrap.Container) -> NewClinic:
    async def make() -> Clinic:
        email = f"alice-{container.ids()()}@example.org"
        fields = {"email": email, "password": PASSWORD, "name": "Alice", "practice_name": "Hillside"}
        registered = (await client.post("/v1/auth/register", json=fields)).json()
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
