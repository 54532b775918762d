"""Scenarios of pulls that are large: everything arrives, and the server holds a little of it at a time."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import psutil
import pytest
from tests.http.clinic import Clinic, NewClinic
from tests.http.devices import ADDRESS
from tests.integration.servers import Server

from heallog.domain.access import Actor, Role
from heallog.domain.audit import Written, done
from heallog.domain.versions import Change, Collection, Contribution, advance, unborn

SOAK = "HEALLOG_SOAK_SECONDS" in os.environ
"""The soak profile has the scenarios' own sizes, everything else a tenth."""
PATIENTS, RECORDS, PAGE = (5_000, 45_000, 5_000) if SOAK else (500, 4_500, 500)
ROWS, BYTES = (500_000, 200_000_000) if SOAK else (50_000, 100_000_000)
LITTLE = 64 * 2**20


async def test_50_000_rows_in_one_contribution(clinic: Clinic) -> None:
    """All of them under one number: the pages still end and go on in the midst of it."""
    wired = clinic.container
    actor = Actor(clinic.account_id, clinic.practice_id, Role.OWNER, "session", "desk")
    contribution = Contribution(wired.ids()(), actor, wired.clock()())

    def made(collection: Collection, id: str, patient_id: str, content: dict[str, str]) -> Written:
        head = unborn(clinic.practice_id, collection, id, patient_id, contribution.at)
        moved, version = advance(head, content, Change.CREATION, contribution)
        return done(wired.ids()(), f"{collection}.create", actor, moved, (version,), tuple(content))

    note = {"kind": "note", "status": "draft", "text": "Well."}
    async with wired.uow() as uow:
        await uow.patients.append(
            [made(Collection.PATIENTS, f"p-{n}", f"p-{n}", {"family_name": "Obi"}) for n in range(PATIENTS)]
        )
        for start in range(0, RECORDS, 4_500):
            await uow.records.append(
                [made(Collection.RECORDS, f"r-{n}", f"p-{n % PATIENTS}", note) for n in range(start, start + 4_500)]
            )
        await uow.commit()

    told: list[tuple[str, str]] = []
    there: set[str] = set()
    cursor, more = "", True
    while more:
        page = await clinic.get(f"/v1/sync/pull?limit={PAGE}{cursor}")
        for change in page["changes"]:
            if change["collection"] == "patients":
                there.add(change["id"])
            else:
                assert change["data"]["patient_id"] in there, "a child came before its parent"
            told.append((change["collection"], change["id"]))
        cursor, more = f"&cursor={page['cursor']}", page["has_more"]
    assert len(told) == len(set(told)) == PATIENTS + RECORDS
    numbers = await wired.database().pool.fetch(
        "SELECT DISTINCT seq FROM change_feed WHERE practice_id = $1", clinic.practice_id
    )
    assert len(numbers) == 1
    changes = (await clinic.get(ADDRESS))["changes"]
    rows = [("patients", row["id"]) for row in changes["patients"]["updated"]]
    rows += [("records", row["id"]) for row in changes["records"]["updated"]]
    assert sorted(rows) == sorted(told)


FILL = """
INSERT INTO change_feed (practice_id, seq, rank, id, patient_id, version, wire, row)
SELECT $1, 1 + number / 1000, 0, 'p-' || number, 'p-' || number, 1, bytes, bytes
FROM generate_series(1, $2::int) AS number,
LATERAL (SELECT convert_to('{"id":"p-' || number || '","notes":"' || repeat('x', $3) || '"}', 'UTF8') AS bytes) AS made
"""


@pytest.fixture(scope="module")
async def large(new_clinic: NewClinic) -> AsyncIterator[Clinic]:
    """A practice whose first sync is larger than what the server may hold of it; in the database it is small."""
    clinic = await new_clinic()
    pool = clinic.container.database().pool
    await pool.execute(FILL, clinic.practice_id, ROWS, BYTES // ROWS)
    await pool.execute("UPDATE sync_heads SET seq = 1 + $2 / 1000 WHERE practice_id = $1", clinic.practice_id, ROWS)
    yield clinic
    await pool.execute("DELETE FROM change_feed WHERE practice_id = $1", clinic.practice_id)


@dataclass
class Heard:
    """What came over the wire, counted as it came; `most` is what the server held meanwhile."""

    server: Server
    rows: int = 0
    bytes: int = 0
    most: int = 0
    tail: bytes = b""
    _processes: list[psutil.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._processes = self.server.processes()
        self.begun = self._held()

    def _held(self) -> int:
        return sum(process.memory_info().rss for process in self._processes)

    def listen(self, part: bytes) -> None:
        seam = self.tail + part
        self.rows += seam.count(b'"id":"p-')
        self.bytes += len(part)
        # Less than what is counted: nothing of it is counted twice.
        self.tail = seam[-7:]
        self.most = max(self.most, self._held() - self.begun)


@contextlib.asynccontextmanager
async def asking(clinic: Clinic, address: str) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(timeout=120) as client,
        client.stream("GET", address, headers={"Authorization": f"Bearer {clinic.token}"}) as answer,
    ):
        assert answer.status_code == 200
        yield answer


async def test_first_sync_of_500_000_rows_in_bounded_memory(served: Server, large: Clinic, clinic: Clinic) -> None:
    """50,000 rows in `make test`, as many bytes as half a million small ones; all of them in `make soak`."""
    # What a first pull costs whoever starts: it is loaded then.
    async with asking(clinic, f"{served.url}{ADDRESS}") as answer:
        await answer.aread()
    heard = Heard(served)
    async with asking(large, f"{served.url}{ADDRESS}") as answer:
        async for part in answer.aiter_raw():
            heard.listen(part)
    assert heard.rows == ROWS
    assert heard.bytes > BYTES
    assert heard.tail.endswith(b"}")
    assert heard.most < LITTLE, f"{heard.most / 2**20:.0f} MiB"


async def test_connection_dies_in_the_midst_of_a_stream(served: Server, large: Clinic) -> None:
    """A WatermelonDB begins again, as it has no cursor yet; the server lets go of what it read for the lost one."""
    async with asking(large, f"{served.url}{ADDRESS}") as answer:
        async for _ in answer.aiter_raw():
            break
    reading = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in trans%' AND query LIKE '%change_feed%'"
    async with asyncio.timeout(30):
        while await large.container.database().pool.fetchval(reading):
            pass
    heard = Heard(served)
    async with asking(large, f"{served.url}{ADDRESS}") as answer:
        async for part in answer.aiter_raw():
            heard.listen(part)
    assert heard.rows == ROWS
