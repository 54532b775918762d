"""Databases of their own, the program as its own process, and resources to import."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from heallog.adapters.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty_url(server: EmbeddedPostgres) -> str:
    """A database without a schema."""
    name = f"test_{uuid4().hex}"

    async def create() -> None:
        connection = await asyncpg.connect(server.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    return server.url.replace("/heallog?", f"/{name}?")


def query(url: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows, by a connection of its own."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture
def ask() -> Callable[..., list[asyncpg.Record]]:
    return query


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


Heallog = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def heallog(tmp_path: Path) -> Heallog:
    """The command line, as an operator runs it, in an empty folder."""

    def run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "heallog", *arguments],
            env={**os.environ, "HEALLOG_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200", **environment},
            cwd=tmp_path,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def resources(patients: int, each: int) -> Iterator[dict[str, object]]:
    """Patients with observations, each with an id that says what it is."""
    for number in range(patients):
        patient = f"00000000-0000-4000-8000-{number:012d}"
        yield {
            "resourceType": "Patient",
            "id": patient,
            "name": [{"family": f"Family{number}", "given": ["Given"]}],
            "birthDate": "1980-05-17",
            "gender": "female",
        }
        for place in range(each):
            yield {
                "resourceType": "Observation",
                "id": f"00000000-0000-4000-9{place:03d}-{number:012d}",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2", "display": "Body height"}]},
                "subject": {"reference": f"Patient/{patient}"},
                "effectiveDateTime": "2024-02-29T10:00:00Z",
                "valueQuantity": {"value": 170 + place / 10, "unit": "cm"},
            }


@pytest.fixture
def sample() -> Callable[[int, int], list[dict[str, object]]]:
    return lambda patients, each: list(resources(patients, each))


@pytest.fixture
def ndjson(tmp_path: Path) -> Callable[[int, int], Path]:
    """A file of so many patients with so many observations each."""

    def write(patients: int, each: int) -> Path:
        path = tmp_path / "sample.ndjson"
        path.write_text("".join(json.dumps(item) + "\n" for item in resources(patients, each)))
        return path

    return write
