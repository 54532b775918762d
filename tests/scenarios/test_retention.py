"""Devices that were away for longer than the server remembers, and servers that know less than their devices."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from tests.http.clinic import PASSWORD, Clinic, refused

from heallog import bootstrap
from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations
from heallog.application.sync.retention import Retention

DAY = timedelta(days=1)


class Place:
    """A database of these tests' own, which can be copied and put back."""

    def __init__(self, server: EmbeddedPostgres, container: bootstrap.Container) -> None:
        self._server, self._container = server, container
        self._name = f"retention_{uuid4().hex}"
        self.url = server.url.replace("/heallog?", f"/{self._name}?")

    async def _run(self, *statements: str) -> None:
        connection = await asyncpg.connect(self._server.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def create(self) -> None:
        await self._run(f"CREATE DATABASE {self._name}")

    async def backup(self) -> None:
        await self._run(f"CREATE DATABASE {self._name}_backup TEMPLATE {self._name}")

    async def restore(self) -> None:
        await self._run(f"DROP DATABASE {self._name}", f"CREATE DATABASE {self._name} TEMPLATE {self._name}_backup")

    def heallog(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as the operator runs it."""
        settings = {"HEALLOG_DATABASE_URL": self.url, "HEALLOG_DATA_DIR": str(folder)}
        command = [sys.executable, "-m", "heallog", *arguments]
        return subprocess.run(
            command, env={**os.environ, **settings}, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[httpx.AsyncClient, bootstrap.Container]]:
        """A server on it; nobody is connected when it has ended."""
        wired = bootstrap.container(self._container.settings().model_copy(update={"database_url": self.url}))
        for name in ("passwords", "mail"):
            getattr(wired, name).override(getattr(self._container, name)())
        transport = httpx.ASGITransport(app=bootstrap.http_app(wired), raise_app_exceptions=False)
        await wired.database().open()
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://heallog.test") as client:
                yield client, wired
        finally:
            await wired.trail().close()
            await wired.database().close()


@pytest.fixture(scope="module")
def migrated(server: EmbeddedPostgres, container: bootstrap.Container) -> Place:
    place = Place(server, container)
    with asyncio.Runner() as runner:
        runner.run(place.create())
    migrations.upgrade(place.url)
    return place


async def registered(client: httpx.AsyncClient, wired: bootstrap.Container) -> Clinic:
    email = f"alice-{wired.ids()()}@example.org"
    fields = {"email": email, "password": PASSWORD, "name": "Alice", "practice_name": "Hillside"}
    said = (await client.post("/v1/auth/register", json=fields)).json()
    clinic = Clinic(client, wired, said["practice"]["id"], said["account"]["id"], email, said["tokens"]["access_token"])
    await clinic.patient(id="ngozi")
    for name in ("metformin", "aspirin"):
        await clinic.record("ngozi", id=name, kind="medication", title=name.capitalize(), dose=10, dose_unit="mg")
    return clinic


class Tablet:
    """Speaks the native protocol."""

    def __init__(self, token: str) -> None:
        self.token, self.cursor, self.has = token, "", dict[tuple[str, str], Any]()

    async def ask(self, clinic: Clinic, limit: int = 500) -> httpx.Response:
        cursor = f"&cursor={self.cursor}" if self.cursor else ""
        return await clinic.call("GET", f"/v1/sync/pull?limit={limit}{cursor}", token=self.token)

    async def page(self, clinic: Clinic, limit: int = 500) -> bool:
        answer = await self.ask(clinic, limit)
        assert answer.status_code == 200, answer.text
        pulled = answer.json()
        self.cursor = pulled["cursor"]
        self.has.update({(one["collection"], one["id"]): one for one in pulled["changes"]})
        return bool(pulled["has_more"])

    async def pull(self, clinic: Clinic) -> "Tablet":
        while await self.page(clinic):
            pass
        return self

    async def push(self, clinic: Clinic, push_id: str, *operations: dict[str, Any]) -> list[dict[str, Any]]:
        body = {"push_id": push_id, "contributions": [{"operations": [operation]} for operation in operations]}
        answer = await clinic.call("POST", "/v1/sync/push", body, token=self.token)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def gone(self) -> set[str]:
        return {thing_id for (_, thing_id), change in self.has.items() if change["op"] == "delete"}


class Phone:
    """Speaks WatermelonDB's protocol."""

    def __init__(self, token: str) -> None:
        self.token, self.at, self.has = token, 0, dict[tuple[str, str], Any]()

    async def ask(self, clinic: Clinic) -> httpx.Response:
        return await clinic.call("GET", f"/v1/sync/watermelon?last_pulled_at={self.at}", token=self.token)

    async def pull(self, clinic: Clinic) -> "Phone":
        answer = await self.ask(clinic)
        assert answer.status_code == 200, answer.text
        self.at = answer.json()["timestamp"]
        for table, lists in answer.json()["changes"].items():
            self.has.update({(table, row["id"]): row for row in lists["updated"]})
        return self

    async def push(self, clinic: Clinic, table: str, **columns: Any) -> dict[str, Any]:
        names = ",".join(columns.keys() - {"id"})
        row = {**self.has[table, columns["id"]], **columns, "_status": "updated", "_changed": names}
        address = f"/v1/sync/watermelon?last_pulled_at={self.at}"
        answer = await clinic.call("POST", address, {table: {"updated": [row]}}, token=self.token)
        assert answer.status_code == 200, answer.text
        [result] = answer.json()["results"]
        return result

    def gone(self) -> set[str]:
        return {thing_id for (_, thing_id), row in self.has.items() if row.get("deleted_at") is not None}


async def devices(clinic: Clinic) -> tuple[Tablet, Phone]:
    return Tablet(await clinic.token_for(device="tablet")), Phone(await clinic.token_for(device="phone"))


def sweeper(wired: bootstrap.Container, days: int) -> Retention:
    """The server's, so many days from now."""
    now = wired.clock()() + days * DAY
    return Retention(wired.uow, lambda: now, wired.ids(), tombstones=400 * DAY, answers=400 * DAY)


def update(record: str, base: int, **fields: Any) -> dict[str, Any]:
    return {"op": "update", "collection": "records", "id": record, "base_version": base, "fields": fields}


NOTE = {
    "op": "create",
    "collection": "records",
    "id": "note",
    "patient_id": "ngozi",
    "fields": {"kind": "note", "text": "Ill."},
}


async def test_cursor_below_the_tombstone_floor(migrated: Place) -> None:
    async with migrated.serving() as (client, wired):
        clinic = await registered(client, wired)
        tablet, phone = await devices(clinic)
        await tablet.pull(clinic)
        await phone.pull(clinic)
        await clinic.deleted("/v1/records/aspirin", 1)
        watch = await Tablet(await clinic.token_for(device="watch")).pull(clinic)
        await clinic.changed("/v1/records/metformin", 1, dose=15)

        # Not yet: for 399 days nothing is old, and after that a device that was seen holds it.
        assert await sweeper(wired, 399).sweep() == 0
        seen = (
            "INSERT INTO sync_devices (practice_id, device_id, account_id, position, seen_at)"
            " SELECT practice_id, 'tablet', '', hi, now() + '9 days' FROM pulls"
            " WHERE (practice_id, device_id) = ($1, 'phone')"
        )
        await wired.database().pool.execute(seen, clinic.practice_id)
        await sweeper(wired, 401).sweep()
        for device in (tablet, phone, watch):
            assert (await device.ask(clinic)).status_code == 200
        assert (await Tablet(tablet.token).pull(clinic)).gone() == {"aspirin"}

        # And then it is gone, and who does not know of it is told to begin anew.
        assert await sweeper(wired, 500).sweep() > 0
        for device in (tablet, phone):
            for _ in range(2):
                refused(await device.ask(clinic), 410, "RESYNC_REQUIRED")
        fresh = await Tablet(tablet.token).pull(clinic)
        assert (fresh.gone(), len(fresh.has)) == (set(), 2)
        assert len((await Phone(phone.token).pull(clinic)).has) == 2
        history = await clinic.get("/v1/records/aspirin/history")
        assert [version["version"] for version in history["items"]] == [2, 1]

        # What they did meanwhile is taken as ever. What it is about may have changed since they saw it.
        results = await tablet.push(clinic, "p-1", NOTE, update("metformin", 1, dose=20), update("aspirin", 1, dose=5))
        assert [one["status"] for one in results] == ["created", "conflict", "merged"]
        assert (await phone.push(clinic, "records", id="metformin", dose=30))["status"] == "conflict"

        # What comes back comes back to everyone, and goes as everything goes.
        [restored] = [one for key, one in (await fresh.pull(clinic)).has.items() if key == ("records", "aspirin")]
        assert (restored["op"], restored["version"]) == ("put", 4)
        await clinic.deleted("/v1/records/aspirin", 4)
        assert (await fresh.pull(clinic)).gone() == {"aspirin"}


async def test_a_first_pull_in_pages_goes_on_while_the_floor_rises_and_a_later_one_does_not(migrated: Place) -> None:
    async with migrated.serving() as (client, wired):
        clinic = await registered(client, wired)
        late, _ = await devices(clinic)
        await late.pull(clinic)
        for name in ("aspirin", "metformin"):
            await clinic.deleted(f"/v1/records/{name}", 1)
        assert await late.page(clinic, limit=1)
        first = Tablet(await clinic.token_for(device="watch"))
        assert await first.page(clinic, limit=1)
        await clinic.deleted("/v1/patients/ngozi", 1)
        await sweeper(wired, 401).sweep()

        refused(await late.ask(clinic), 410, "RESYNC_REQUIRED")
        assert not await first.page(clinic, limit=1)
        assert first.has.keys() == {("patients", "ngozi")}
        # Ngozi left after the moment that this pull is of; whoever asks for that so late has to begin anew.
        refused(await first.ask(clinic), 410, "RESYNC_REQUIRED")
        assert (await Tablet(first.token).pull(clinic)).has == {}


async def test_a_push_that_comes_again_when_its_answer_is_forgotten_does_nothing_twice(migrated: Place) -> None:
    """Ids and versions are the device's own; a count goes on from what this device said last."""
    async with migrated.serving() as (client, wired):
        clinic = await registered(client, wired)
        tablet, phone = await devices(clinic)
        await phone.pull(clinic)
        await clinic.changed("/v1/records/metformin", 1, remaining=30)
        queue = (
            NOTE,
            update("metformin", 2, remaining=29),
            update("aspirin", 1, dose=20),
            {"op": "delete", "collection": "records", "id": "note", "base_version": 1},
            {**NOTE, "id": "odd", "fields": {"shoe_size": 38}},
        )
        first = await tablet.push(clinic, "p-1", *queue)
        assert [one["status"] for one in first] == ["created", "updated", "updated", "updated", "quarantined"]
        assert (await phone.push(clinic, "records", id="aspirin", title="ASS"))["status"] == "merged"
        assert await tablet.push(clinic, "p-1", *queue) == first
        for answers in (401, 402):
            await sweeper(wired, answers).sweep()
            again = await tablet.push(clinic, "p-1", *queue)
            assert [one["status"] for one in again[1:3]] == ["unchanged", "unchanged"]
            assert again[4]["status"] == "quarantined"
        heads = await Tablet(tablet.token).pull(clinic)
        data = {key[1]: change["data"] for key, change in heads.has.items()}
        assert data["metformin"]["remaining"] == 29
        assert (data["aspirin"]["dose"], data["aspirin"]["title"], data["aspirin"]["version"]) == (20, "ASS", 4)
        assert {one["operation"]["id"] for one in (await clinic.get("/v1/sync/quarantine"))["items"]} == {"odd"}


async def test_restored_database(migrated: Place, tmp_path: Path) -> None:
    """Devices know more than the server; and it goes on, beyond where they were, with other changes."""
    async with migrated.serving() as (client, wired):
        clinic = await registered(client, wired)
        tablet, phone = await devices(clinic)
        early = await Phone(await clinic.token_for(device="early")).pull(clinic)
        await clinic.changed("/v1/patients/ngozi", 1, phone="1")
    await migrated.backup()

    # What is lost. Both devices have seen it, and go on from there without a network.
    async with migrated.serving() as (clinic.client, clinic.container):
        for name in ("metformin", "aspirin"):
            await clinic.changed(f"/v1/records/{name}", 1, dose=15)
        await tablet.pull(clinic)
        await phone.pull(clinic)
        await tablet.push(clinic, "p-1", {**NOTE, "id": "lost"})

    await migrated.restore()
    said = migrated.heallog(tmp_path, "db", "restored", "--json")
    assert said.returncode == 0, said.stderr
    assert clinic.practice_id in json.loads(said.stdout)["practices"]

    async with migrated.serving() as (clinic.client, clinic.container):
        # Nobody has written yet: cursors are beyond the head. Then they are not.
        for change in (None, 12):
            if change is not None:
                await clinic.changed("/v1/records/metformin", 1, dose=change)
            for device in (tablet, phone, early):
                refused(await device.ask(clinic), 410, "RESYNC_REQUIRED")

        # The queues. A push whose answer stood in what is lost is done; an edit of a version that nobody has is kept.
        [again] = await tablet.push(clinic, "p-1", {**NOTE, "id": "lost"})
        results = await tablet.push(clinic, "p-2", NOTE, update("aspirin", 2, dose=20))
        assert [one["status"] for one in (again, *results)] == ["created", "created", "quarantined"]
        [kept] = (await clinic.get("/v1/sync/quarantine"))["items"]
        assert kept["operation"] == update("aspirin", 2, dose=20)
        # The phone saw a version 2 with 15. The version 2 that is there now says 12, and it has not seen that.
        edited = await phone.push(clinic, "records", id="metformin", dose=30, base_token="2:a")
        assert edited["status"] == "conflict"
        named = await phone.push(clinic, "patients", id="ngozi", given_name="Ngo", base_token="2:b")
        assert named["status"] == "updated"

        # Everything anew.
        both = [await Tablet(tablet.token).pull(clinic), await Phone(phone.token).pull(clinic)]
        server = await Tablet(await clinic.token_for(device="watch")).pull(clinic)
        assert both[0].has == server.has
        assert both[1].has.keys() == server.has.keys()
        assert server.has["records", "metformin"]["data"]["dose"] == 12
        [conflict] = [one["data"] for key, one in server.has.items() if key[0] == "conflicts"]
        assert [(one["theirs"], one["mine"]) for one in conflict["fields"]] == [(12, 30)]
        await clinic.changed("/v1/records/note", 1, text="Well.")
        for device in both:
            await device.pull(clinic)
            assert (await device.ask(clinic)).status_code == 200
        assert both[0].has["records", "note"]["version"] == both[1].has["records", "note"]["version"] == 2
        entries = (await clinic.get("/v1/audit?limit=200"))["items"]
        assert [one["role"] for one in entries if one["action"] == "sync.restored"] == ["operator"]
