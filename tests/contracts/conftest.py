"""One suite for every port, told twice: in memory and in PostgreSQL."""

import pytest

from .clinic import Backend, Clinic, memory, postgres


@pytest.fixture(params=["memory", "postgres"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return memory() if request.param == "memory" else postgres(request.getfixturevalue("database"))


@pytest.fixture
async def clinic(backend: Backend) -> Clinic:
    """A practice of this test's own: its fence."""
    return await Clinic(backend).open()


@pytest.fixture
async def elsewhere(backend: Backend) -> Clinic:
    """Another practice, which must see nothing."""
    return await Clinic(backend).open()
