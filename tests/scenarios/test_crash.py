"""`kill -9` around the commit of a push: whoever got no answer sends the same again, and all of it has one effect."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.clinic import Clinic, NewClinic
from tests.http.devices import ADDRESS, METFORMIN, NGOZI, update
from tests.integration.servers import CHEAP, Calls, Server, rows

from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations

from .apps import effect

NATIVE, WATERMELON = "/v1/sync/push", f"{ADDRESS}?last_pulled_at=1"
DOORS = pytest.mark.parametrize("door", ["native", "watermelon"])
NOTES = 40
PAGE = 50


def said(path: str, notes: int = NOTES) -> dict[str, Any]:
    """A push: a disputed dose, an odd one out, and many notes of Ngozi's."""
    made = [{**METFORMIN, "id": f"n-{n}", "fields": {"kind": "note", "text": "Well."}} for n in range(notes)]
    wrong = {**METFORMIN, "id": "wrong", "fields": {"kind": "shoe"}}
    operations = [update("records", "metformin", 1, dose=15), wrong, *made]
    if path == NATIVE:
        return {"push_id": "p-1", "contributions": [{"operations": [operation]} for operation in operations]}
    changed = {"id": "metformin", "_status": "updated", "_changed": "dose,base_token", "dose": 15, "base_token": "1:x"}
    created = [
        {"id": one["id"], "_status": "created", "_changed": "", "patient_id": "ngozi", **one["fields"]}
        for one in (wrong, *made)
    ]
    return {"records": {"created": created, "updated": [changed], "deleted": []}}


@dataclass
class Ward:
    """A practice where someone made the dose 20 meanwhile, and what a phone then says; `left` is what a crash left."""

    clinic: Clinic
    token: str
    path: str
    body: dict[str, Any]
    before: dict[str, int]
    left: dict[str, int] = field(default_factory=dict)

    async def send(self, server: Server) -> httpx.Response:
        """Said and heard."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.post(server.url + self.path, content=json.dumps(self.body).encode(), headers=headers)

    @asynccontextmanager
    async def unheard(self, server: Server) -> AsyncIterator[None]:
        """Said by someone who then listens to nothing."""
        content = json.dumps(self.body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: heallog\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head.encode() + content)
        await writer.drain()
        try:
            yield
        finally:
            writer.transport.abort()

    async def grown(self) -> dict[str, int]:
        """What came to it since it was made."""
        after = await effect(self.clinic)
        return {what: number - self.before[what] for what, number in after.items() if what != "head"}


async def shown(clinic: Clinic, sql: str, *arguments: Any) -> None:
    """Until the database shows it."""
    pool = clinic.container.database().pool
    async with asyncio.timeout(60):
        while not await pool.fetchval(sql, *arguments):
            pass


PUSHED = "SELECT count(*) FROM pushes WHERE practice_id = $1"
WAITING = "SELECT count(*) >= $1 FROM pg_locks WHERE NOT granted"


@pytest.fixture(scope="module")
async def pull(served: Server, new_clinic: NewClinic) -> tuple[Clinic, dict[str, Any]]:
    """A pull of three pages that was begun before the crash: its practice, and the first page."""
    clinic = await new_clinic()
    notes = [{**METFORMIN, "id": f"n-{n:03}", "fields": {"kind": "note", "text": "Well."}} for n in range(3 * PAGE - 1)]
    body = {"push_id": "p-1", "contributions": [{"operations": [NGOZI, *notes]}]}
    assert (await clinic.call("POST", NATIVE, body)).status_code == 200
    return clinic, await page(served, clinic)


async def page(server: Server, clinic: Clinic, cursor: str = "") -> dict[str, Any]:
    path = f"/v1/sync/pull?limit={PAGE}{cursor and f'&cursor={cursor}'}"
    async with httpx.AsyncClient(timeout=60) as client:
        return await Calls(client).good(server, "GET", path, None, clinic.token)


@pytest.fixture(scope="module")
async def crash(served: Server, new_clinic: NewClinic, pull: object) -> dict[str, Ward]:
    """Five pushes at once, each at its moment; then `kill -9` of the server, and another start.

    Two are committed and their answers unheard. Two have written everything and wait for the last lock before the
    commit. One is between its two parts.
    """

    async def ward(path: str, notes: int = NOTES) -> Ward:
        clinic = await new_clinic()
        await clinic.patient(id="ngozi")
        await clinic.record("ngozi", id="metformin", **METFORMIN["fields"])
        await clinic.changed("/v1/records/metformin", 1, dose=20)
        token = await clinic.token_for(device="phone")
        return Ward(clinic, token, path, said(path, notes), await effect(clinic))

    committed = [await ward(NATIVE), await ward(WATERMELON)]
    uncommitted = [await ward(NATIVE), await ward(WATERMELON)]
    parts = await ward(WATERMELON, 700)
    wards = [*committed, *uncommitted, parts]
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(parts.clinic.container.database().pool.acquire())
        await stack.enter_async_context(connection.transaction())
        for one in uncommitted:
            await connection.execute(
                "SELECT 1 FROM sync_heads WHERE practice_id = $1 FOR UPDATE", one.clinic.practice_id
            )
        # The changed row is in the second part, after the created ones.
        await connection.execute(
            "SELECT 1 FROM records WHERE practice_id = $1 AND id = 'metformin' FOR UPDATE", parts.clinic.practice_id
        )
        for one in wards:
            await stack.enter_async_context(one.unheard(served))
        for one in (*committed, parts):
            await shown(one.clinic, PUSHED, one.clinic.practice_id)
        await shown(parts.clinic, WAITING, len(uncommitted) + 1)
        served.kill()
    for one in wards:
        one.left = await one.grown()
    served.start()
    names = ("native committed", "watermelon committed", "native uncommitted", "watermelon uncommitted", "parts")
    return dict(zip(names, wards, strict=True))


def results(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {result["id"]: result["status"] for result in answer.json()["results"]}


DONE = {"metformin": "conflict", "wrong": "quarantined"} | {f"n-{number}": "created" for number in range(NOTES)}
ONE_EFFECT = {
    "versions": NOTES + 1,  # the dose that is held back is one
    "conflicts": 1,
    "quarantined": 1,
    "entries": NOTES + 2,
    "told": NOTES + 1,
    "contributions": 1,
    "pushes": 1,
}


@DOORS
async def test_commit_and_lost_answer_by_kill_9(served: Server, crash: dict[str, Ward], door: str) -> None:
    ward = crash[f"{door} committed"]
    assert ward.left == ONE_EFFECT
    first, second = await ward.send(served), await ward.send(served)
    assert results(first) == DONE
    assert first.content == second.content
    assert await ward.grown() == ONE_EFFECT
    pool = ward.clinic.container.database().pool
    stored = await pool.fetchval("SELECT answer FROM pushes WHERE practice_id = $1", ward.clinic.practice_id)
    assert {one["id"]: one["status"] for one in json.loads(stored)["results"]} == DONE


@DOORS
async def test_crash_before_commit(served: Server, crash: dict[str, Ward], door: str) -> None:
    ward = crash[f"{door} uncommitted"]
    assert set(ward.left.values()) == {0}
    first, second = await ward.send(served), await ward.send(served)
    assert results(first) == DONE
    assert first.content == second.content
    assert await ward.grown() == ONE_EFFECT


async def test_crash_between_two_parts(served: Server, crash: dict[str, Ward]) -> None:
    """A WatermelonDB pushes all it has at once, which is done in parts: what was done stays, the rest follows."""
    ward = crash["parts"]
    assert (ward.left["pushes"], ward.left["versions"], ward.left["conflicts"]) == (1, 499, 0)
    first, second = await ward.send(served), await ward.send(served)
    told = results(first)
    assert (told["metformin"], told["wrong"], sum(status == "created" for status in told.values())) == (
        "conflict",
        "quarantined",
        700,
    )
    assert first.content == second.content
    assert await ward.grown() == {
        "versions": 701,
        "conflicts": 1,
        "quarantined": 1,
        "entries": 703,
        "told": 701,
        "contributions": 2,
        "pushes": 2,
    }


async def test_token_after_restart(served: Server, crash: dict[str, Ward], pull: tuple[Clinic, dict[str, Any]]) -> None:
    """A pull goes on after a restart of the process that began it, and in another process too."""
    clinic, first = pull
    second = await page(served, clinic, first["cursor"])
    third = await clinic.get(f"/v1/sync/pull?limit={PAGE}&cursor={second['cursor']}")
    told = [change["id"] for one in (first, second, third) for change in one["changes"]]
    assert told == ["ngozi", *(f"n-{n:03}" for n in range(3 * PAGE - 1))]
    assert [one["has_more"] for one in (first, second, third)] == [True, True, False]
    assert crash


# -- the database -------------------------------------------------------------------------------------------------

DEVICES, PUSHES, EACH = 6, 12, 20
BACKEND = (
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
    " AND pid <> pg_backend_pid() LIMIT 1"
)


@pytest.fixture
def alone() -> Iterator[tuple[Server, str]]:
    """A server on a PostgreSQL of its own, and where that is."""
    with tempfile.TemporaryDirectory(prefix="heallog-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        postgres.start()
        migrations.upgrade(postgres.url)
        data = {"HEALLOG_DATA_DIR": f"{folder}/data", "HEALLOG_RATE_LIMITS": "off", **CHEAP}
        server = Server(Path(folder) / "server", HEALLOG_DATABASE_URL=postgres.url, **data)
        try:
            server.start()
            yield server, postgres.url
        finally:
            server.kill()
            postgres.stop()


async def test_kill_9_of_postgresql_in_the_midst_of_pushes(alone: tuple[Server, str]) -> None:
    """PostgreSQL ends every connection and recovers; the server stays, says 503, and everybody asks again."""
    server, url = alone
    async with httpx.AsyncClient(timeout=60) as client:
        call, answered, unheard = Calls(client), count(1), 0
        await call.register(server, "alice@example.org")
        tokens = [await call.login(server, "alice@example.org", device_id=f"device-{n}") for n in range(DEVICES)]
        first = {"push_id": "first", "contributions": [{"operations": [NGOZI]}]}
        await call.good(server, "POST", NATIVE, first, tokens[0]["access_token"])
        begun = asyncio.Event()

        async def work(device: int) -> None:
            nonlocal unheard
            for number in range(PUSHES):
                notes = [
                    {**METFORMIN, "id": f"n-{device}-{number}-{n}", "fields": {"kind": "note", "text": "Well."}}
                    for n in range(EACH)
                ]
                body = {"push_id": f"p-{number}", "contributions": [{"operations": notes}]}
                while True:
                    answer = await call(server, "POST", NATIVE, body, tokens[device]["access_token"])
                    if answer.status_code == 200:
                        break
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
                    unheard += 1
                assert {one["status"] for one in answer.json()["results"]} == {"created"}
                if next(answered) == DEVICES * 2:
                    begun.set()

        async def break_down() -> None:
            await begun.wait()
            # Before the last push is answered there is always someone at work.
            while not (found := await rows(url, BACKEND)):
                pass
            os.kill(found[0]["pid"], signal.SIGKILL)

        async with asyncio.timeout(60):
            await asyncio.gather(break_down(), *(work(device) for device in range(DEVICES)))
        assert unheard >= 1
    counted = (
        "SELECT (SELECT count(*) FROM pushes) AS pushes, (SELECT count(*) FROM records) AS records,"
        " (SELECT count(*) FROM versions WHERE collection = 'records') AS versions,"
        " (SELECT count(*) FROM change_feed WHERE rank = 1) AS told,"
        " (SELECT count(*) FROM audit_entries WHERE action = 'sync.push') AS entries"
    )
    done, notes = DEVICES * PUSHES + 1, DEVICES * PUSHES * EACH
    assert tuple((await rows(url, counted))[0]) == (done, notes, notes, notes, done)
