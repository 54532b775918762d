"""Two who lock the same things in opposite orders: the database ends one of them, and the server does it again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest
from tests.http.clinic import Clinic, refused
from tests.http.people import NewHouse

from heallog.adapters.postgres.database import Database
from heallog.adapters.world import chance
from heallog.application.patience import Patience

PATIENCE = 0.25
"""Seconds after which the server's connections look whether they wait in a circle. The rival's look much later."""

PATIENT = "SELECT 1 FROM patients WHERE practice_id = $1 AND id = $2 FOR UPDATE"
HEAD = "SELECT 1 FROM sync_heads WHERE practice_id = $1 AND epoch <> $2 FOR UPDATE"


@dataclass
class Rival:
    """Holds what the server locks last, and asks for what it locks first just when the server waits."""

    mine: asyncpg.Connection
    watch: asyncpg.Connection
    practice_id: str

    async def holds(self, last: str, what: str) -> None:
        await self.mine.execute("BEGIN")
        await self.mine.fetch(last, self.practice_id, what)
        await self.mine.execute("SAVEPOINT held")

    async def meets(self, going: asyncio.Task[httpx.Response]) -> None:
        """Closes the circle, and gives back what it got of it."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
        while not await self.watch.fetchval(waiting, self.mine.get_server_pid()):
            assert not going.done(), going.result().text
        await self.mine.fetch(PATIENT, self.practice_id, "a")
        await self.mine.execute("ROLLBACK TO held")

    async def goes(self) -> None:
        await self.mine.execute("ROLLBACK")


@pytest.fixture
async def rival(database_url: str, clinic: Clinic) -> AsyncIterator[Rival]:
    mine, watch = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await mine.execute("SET deadlock_timeout = '60s'")
    yield Rival(mine, watch, clinic.practice_id)
    await mine.close()
    await watch.close()


Server = Callable[[int], Coroutine[Any, Any, Clinic]]


@pytest.fixture
def heard() -> list[str]:
    """The action of each further try."""
    return []


@pytest.fixture
async def trying(another: NewHouse, clinic: Clinic, database_url: str, heard: list[str]) -> AsyncIterator[Server]:
    """The clinic at a server that tries so often. There are two patients in it."""
    for name in ("a", "b"):
        await clinic.patient(id=name)
    database = Database(f"{database_url}&deadlock_timeout={PATIENCE * 1000:.0f}", connections=2)
    await database.open()

    async def server(tries: int) -> Clinic:
        patience = Patience(chance, tries=tries, first=0.001, retried=heard.append)
        return (await another(parts={"database": database, "patience": patience})).clinic(clinic)

    yield server
    await database.close()


def push(clinic: Clinic) -> asyncio.Task[httpx.Response]:
    """Locks a, then b."""
    operations = [
        {"op": "update", "collection": "patients", "id": name, "base_version": 1, "fields": {"phone": "0199"}}
        for name in ("b", "a")
    ]
    body = {"push_id": "p-1", "contributions": [{"operations": [operation]} for operation in operations]}
    return asyncio.create_task(clinic.call("POST", "/v1/sync/push", body))


def change(clinic: Clinic) -> asyncio.Task[httpx.Response]:
    """Locks a, then the head of the practice's feed."""
    return asyncio.create_task(clinic.call("PATCH", "/v1/patients/a", {"base_version": 1, "phone": "0199"}))


@pytest.mark.parametrize(
    ("ask", "last", "action"), [(push, PATIENT, "sync.push"), (change, HEAD, "patients.change")], ids=["push", "change"]
)
async def test_deadlock(
    trying: Server, rival: Rival, heard: list[str], ask: Callable[[Clinic], asyncio.Task[httpx.Response]],
    last: str, action: str,
) -> None:  # fmt: skip
    clinic = await trying(2)
    await rival.holds(last, "b")
    asked = ask(clinic)
    await rival.meets(asked)
    await rival.goes()
    answer = await asked
    assert answer.status_code == 200, answer.text
    assert heard == [action]
    assert [one["version"] for one in (await clinic.get("/v1/patients/a/history"))["items"]] == [2, 1]


async def test_who_meets_others_too_often_gets_503_and_nothing_of_it_is_kept(
    trying: Server, rival: Rival, heard: list[str]
) -> None:
    clinic = await trying(2)
    before = await clinic.written()
    await rival.holds(PATIENT, "b")
    asked = push(clinic)
    for _ in range(2):
        await rival.meets(asked)
    answer = await asked
    await rival.goes()
    refused(answer, 503, "UNAVAILABLE")
    assert answer.headers["Retry-After"] == "1"
    assert heard == ["sync.push"]
    assert await clinic.written() == before
    again = await push(clinic)
    assert [one["status"] for one in again.json()["results"]] == ["updated", "updated"]
