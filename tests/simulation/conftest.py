"""The house that the stories are told in, and a practice beside it that must never be seen."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from heallog import config

from .house import House, Practice, opened_house

SEEDS = os.environ.get("HEALLOG_SEEDS", "")
"""Just these, with commas."""
COUNT = int(os.environ.get("HEALLOG_SIMULATION_SEEDS", "50"))
CANARY = "Canary-7f3a"


def seeds(part: int, parts: int) -> list[int]:
    """Of all seeds every `parts`th."""
    chosen = [int(seed) for seed in SEEDS.split(",")] if SEEDS else list(range(COUNT))
    return [seed for seed in chosen if seed % parts == part]


happened: Counter[str] = Counter()
"""What the stories of this run had in them; `HEALLOG_SIMULATION_COUNTS` names a file for it."""


@pytest.fixture(scope="session", autouse=True)
def counts() -> Iterator[None]:
    yield
    if path := os.environ.get("HEALLOG_SIMULATION_COUNTS"):
        Path(path).write_text("".join(f"{times:8} {what}\n" for what, times in sorted(happened.items())))


@pytest.fixture(scope="session")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder: Path = tmp_path_factory.mktemp("data")
    settings = config.Settings(
        database_url=database_url,
        data_dir=folder,
        database_connections=8,
        seal_every=3600,
        rate_limits=False,
        min_sync_batch_size=1,
        _env_file=None,
    )
    async with opened_house(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
async def canary(house: House) -> bytes:
    """What another practice has, under ids that the stories use too."""
    practice = await Practice.of(house)
    token = await practice.login(practice.owner, "device-0")
    for number in (1, 2):
        body = {"id": f"twin{number}", "family_name": CANARY}
        assert (await house.ask("POST", "/v1/patients", token, body)).status_code == 201
        record = {"id": f"twin{number}", "kind": "note", "text": CANARY}
        assert (await house.ask("POST", f"/v1/patients/twin{number}/records", token, record)).status_code == 201
    return CANARY.encode()
