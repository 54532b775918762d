"""A world per test, with two practices in it."""

import pytest

from .world import World


@pytest.fixture
async def world() -> World:
    return await World().open()
