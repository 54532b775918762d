"""A world per test, with two practices in it."""

import pytest

from .story import Story
from .world import World


@pytest.fixture
async def world() -> World:
    return await World().open()


@pytest.fixture
def story(world: World) -> Story:
    return Story(world)
