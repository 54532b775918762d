"""The other half of the seeds: files are what the test run is divided by."""

import pytest

from .conftest import happened, seeds
from .house import House
from .story import Story


@pytest.mark.parametrize("seed", seeds(1, 2))
async def test_everything_converges(seed: int, house: House, canary: bytes) -> None:
    story = Story(seed, house, canary)
    await story.run()
    happened.update(story.happened)
