"""Seeded stories of several devices, told to their end: nothing is lost, nothing overwritten, and all hold the same."""

import pytest

from .conftest import happened, seeds
from .house import House
from .story import Story


@pytest.mark.parametrize("seed", seeds(0, 2))
async def test_everything_converges(seed: int, house: House, canary: bytes) -> None:
    story = Story(seed, house, canary)
    await story.run()
    happened.update(story.happened)
