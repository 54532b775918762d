"""The application in process, as the tests of HTTP have it; one served beside it; and devices, by every door."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.clinic import Clinic
from tests.http.conftest import another, client, clinic, container, document, new_clinic
from tests.integration.servers import CHEAP, Server

from heallog import bootstrap

from .apps import DOORS, App, Pair

__all__ = ["another", "client", "clinic", "container", "document", "new_clinic"]


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> type[App]:
    """The native protocol; WatermelonDB's, with base tokens; the same from a client that sets none."""
    return DOORS[request.param]


@pytest.fixture
async def tablet(clinic: Clinic, door: type[App]) -> App:
    """Alice's, who has entered Ngozi and what she takes."""
    app = door(clinic, await clinic.token_for(device="tablet"))
    app.create("patients", "ngozi", family_name="Obi", given_name="Ngozi")
    app.create("records", "metformin", "ngozi", kind="medication", title="Metformin", dose=10, dose_unit="mg")
    assert await app.sync() == {"ngozi": "created", "metformin": "created"}
    await app.pull()
    return app


@pytest.fixture
async def phone(clinic: Clinic, door: type[App], tablet: App) -> App:
    """Another person's, with the same on it."""
    app = door(clinic, await clinic.token_for(device="phone", account=f"ben-{clinic.practice_id}"))
    await app.pull()
    return app


@pytest.fixture
async def both(tablet: App, phone: App) -> Pair:
    return tablet, phone


def serving(container: bootstrap.Container, folder: Path) -> Server:
    """A `heallog serve` for the same database and with the same key: tokens made in process are good there."""
    settings = container.settings()
    return Server(
        folder,
        HEALLOG_DATABASE_URL=settings.database_url or "",
        HEALLOG_DATA_DIR=str(settings.data_dir),
        HEALLOG_SEAL_EVERY="3600",
        HEALLOG_RATE_LIMITS="off",
        **CHEAP,
    )


@pytest.fixture(scope="session")
def served(container: bootstrap.Container) -> Iterator[Server]:
    """Whoever kills it starts it again."""
    with tempfile.TemporaryDirectory(prefix="heallog-") as folder:
        server = serving(container, Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()
