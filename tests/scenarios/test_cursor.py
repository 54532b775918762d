"""Scenarios of pulls, by the names of the design: nothing is missed or comes twice (large ones: `test_large.py`)."""

import asyncio
import json
import os
import random
import time
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from tests.http.clinic import Clinic, NewClinic, refused
from tests.http.conftest import NewHouse
from tests.http.devices import ADDRESS, METFORMIN, NGOZI, App, Device, statuses, update

from heallog.application.sync.pull import Pulled, Sync
from heallog.domain.access import Actor, Role
from heallog.domain.sync import Stream
from heallog.domain.versions import Seen

PAGE = 50
"""The least that may be asked for."""
WRITERS = 16
SECONDS = float(os.environ.get("HEALLOG_SOAK_SECONDS", "3"))
"""The soak profile writes for a minute."""


@pytest.fixture
async def tablet(clinic: Clinic) -> Device:
    return Device(clinic, await clinic.token_for(device="tablet"))


@pytest.fixture
async def melon(clinic: Clinic) -> App:
    return App(clinic, await clinic.token_for(device="melon"))


def people(number: int, prefix: str = "p") -> list[dict[str, Any]]:
    return [{**NGOZI, "id": f"{prefix}-{at:03}"} for at in range(number)]


async def filled(clinic: Clinic, number: int) -> Device:
    """Patients that another device has entered."""
    desk = Device(clinic, await clinic.token_for(device="desk"))
    assert set(statuses(await desk.push(*people(number)))) == {"created"}
    return desk


def ids(pulled: dict[str, Any]) -> list[str]:
    return [change["id"] for change in pulled["changes"]]


async def until_one_waits(clinic: Clinic) -> None:
    while not await clinic.container.database().pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        pass


async def test_commit_out_of_allocation_order(clinic: Clinic, tablet: Device, melon: App) -> None:
    """Whoever began first, with a time and ids of their own, commits last: and still comes after what was pulled."""
    desk = await filled(clinic, 1)
    pool = clinic.container.database().pool
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT 1 FROM patients WHERE practice_id = $1 AND id = 'p-000' FOR UPDATE", clinic.practice_id
        )
        slow = asyncio.create_task(desk.push(update("patients", "p-000", 1, phone="0199"), {**NGOZI, "id": "slow"}))
        await until_one_waits(clinic)
        await clinic.patient(id="quick")
        assert await tablet.pull() == [("patients", "p-000"), ("patients", "quick")]
        await melon.pull()
        assert melon.tables["patients"].keys() == {"p-000", "quick"}
    assert statuses(await slow) == ["updated", "created"]
    quick, late = await clinic.get("/v1/patients/quick"), await clinic.get("/v1/patients/slow")
    assert late["updated_at"] < quick["updated_at"], "a cursor made of times would have missed it"
    assert await tablet.pull() == [("patients", "p-000"), ("patients", "slow")]
    await melon.pull()
    assert (melon.row("patients", "p-000")["version"], melon.row("patients", "slow")["version"]) == (2, 1)


class Follower:
    """Pulls by the use case, and remembers what it was told."""

    def __init__(self, sync: Sync, actor: Actor, limit: int) -> None:
        self._sync, self._actor, self._limit = sync, actor, limit
        self._cursor: str | None = None
        self.has: dict[tuple[str, str], int] = {}
        self.heads: list[int] = []

    async def page(self) -> tuple[Pulled, list[tuple[str, str]]]:
        pulled = await self._sync.pull(self._actor, self._cursor, tuple(Stream), self._limit)
        changes = json.loads(b"[%s]" % b",".join(pulled.changes))
        for change in changes:
            key = change["collection"], change["id"]
            assert change["version"] > self.has.get(key, 0), "what came is older than what the device has"
            self.has[key] = change["version"]
        self._cursor = pulled.cursor
        self.heads.append(pulled.head)
        return pulled, [(change["collection"], change["id"]) for change in changes]

    async def pull(self) -> None:
        told: list[tuple[str, str]] = []
        more = True
        while more:
            pulled, keys = await self.page()
            told, more = told + keys, pulled.more
        assert len(told) == len(set(told)), "an id came twice in one pull"


async def test_16_writers_and_continuous_pulls(clinic: Clinic, melon: App) -> None:
    """Nothing is missed, no id comes twice, by three readers of one door and one of the other."""
    wired, committed = clinic.container, {}
    alice = Actor(clinic.account_id, clinic.practice_id, Role.OWNER, "session", "desk")
    patients, until = wired.patients(), time.monotonic() + SECONDS

    async def write(number: int) -> None:
        chance, made = random.Random(number), []
        actor = Actor(alice.account_id, alice.practice_id, Role.OWNER, "session", f"desk-{number}")
        while time.monotonic() < until:
            if not made or chance.random() < 0.4:
                head = await patients.create(actor, {"family_name": "Obi"}, f"p-{number}-{len(made)}")
                made.append(head)
            else:
                at = chance.randrange(len(made))
                head = await patients.change(
                    actor, made[at].id, {"phone": str(chance.random())}, Seen(made[at].version)
                )
                made[at] = head
            committed["patients", head.id] = head.version

    devices = [Follower(wired.sync(), alice, limit) for limit in (PAGE, 500, 5_000)]
    writing = [asyncio.create_task(write(number)) for number in range(WRITERS)]

    async def follow(device: Follower | App) -> None:
        while not all(task.done() for task in writing):
            await device.pull()
        await device.pull()

    await asyncio.gather(*writing, *(follow(device) for device in (*devices, melon)))
    assert len(committed) > WRITERS
    for device in devices:
        assert device.has == committed
        assert device.heads == sorted(device.heads)
    assert {("patients", row["id"]): row["version"] for row in melon.tables["patients"].values()} == committed


async def test_write_transaction_open_elsewhere_does_not_stall_pulls(
    clinic: Clinic, tablet: Device, melon: App
) -> None:
    """Even one that has its number in the feed already, and has not committed: it is not seen, and not waited for."""
    await filled(clinic, 2)
    pool = clinic.container.database().pool
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE sync_heads SET seq = seq + 1 WHERE practice_id = $1", clinic.practice_id)
        await connection.execute("SELECT 1 FROM patients WHERE practice_id = $1 FOR UPDATE", clinic.practice_id)
        async with asyncio.timeout(20):
            assert await tablet.pull() == [("patients", "p-000"), ("patients", "p-001")]
            await melon.pull()
        assert melon.tables["patients"].keys() == {"p-000", "p-001"}
        await transaction.rollback()
    await clinic.patient(id="after")
    assert await tablet.pull() == [("patients", "after")]


@pytest.mark.parametrize("off", [timedelta(hours=-1), timedelta(days=3653)], ids=["minus_1_hour", "plus_10_years"])
async def test_clock_minus_1_h_and_plus_10_years(
    clinic: Clinic, tablet: Device, melon: App, another: NewHouse, off: timedelta
) -> None:
    """The clocks of server and database are wrong for a while: the numbers rise, and stay numbers for JavaScript."""
    heads = []

    async def pulled(new: str) -> None:
        page = await tablet.page()
        heads.append(page["head"])
        assert ids(page) == [new]
        await melon.pull()
        assert new in melon.tables["patients"]

    await clinic.patient(id="before")
    await pulled("before")
    house = await another()
    house.clock.now += off
    there = house.clinic(clinic)
    there.token = await there.token_for(device="desk")
    # What a database does whose clock was ahead: where it was behind, as it was ahead of what it is now.
    ahead = abs(int(off.total_seconds() * 1000))
    await clinic.container.database().pool.execute(
        "UPDATE sync_heads SET seq = seq + $2 WHERE practice_id = $1", clinic.practice_id, ahead
    )
    await there.patient(id="meanwhile")
    await pulled("meanwhile")
    await clinic.patient(id="after")
    await pulled("after")
    assert heads == sorted(heads)
    assert heads[1] >= heads[0] + ahead
    assert heads[-1] < 2**53


async def test_record_updated_between_pages(clinic: Clinic, tablet: Device) -> None:
    """It comes once, as it is then, in this pull or (if it moved) in the next."""
    desk = await filled(clinic, 3 * PAGE)
    first = await tablet.page(PAGE)
    assert ids(first) == [f"p-{at:03}" for at in range(PAGE)]
    await desk.push(update("patients", "p-000", 1, phone="0199"), update("patients", "p-070", 1, phone="0199"))
    second, third = await tablet.page(PAGE), await tablet.page(PAGE)
    assert ids(second) + ids(third) == [f"p-{at:03}" for at in range(PAGE, 3 * PAGE) if at != 70]
    assert (second["has_more"], third["has_more"]) == (True, False)
    assert {one["version"] for one in second["changes"] + third["changes"]} == {1}
    assert [(one["id"], one["version"]) for one in (await tablet.page(PAGE))["changes"]] == [("p-000", 2), ("p-070", 2)]


async def test_created_and_deleted_in_one_window(clinic: Clinic, tablet: Device, melon: App) -> None:
    await tablet.pull()
    await melon.pull()
    await clinic.patient(id="chidi")
    await clinic.deleted("/v1/patients/chidi", 1)
    page = await tablet.page()
    assert [(one["id"], one["op"], one["version"]) for one in page["changes"]] == [("chidi", "delete", 2)]
    rows = (await melon.pull())["changes"]["patients"]["updated"]
    assert [(row["id"], row["version"], row["family_name"]) for row in rows] == [("chidi", 2, None)]
    assert rows[0]["deleted_at"] > 0


async def test_connection_dies_at_page_7_of_20(clinic: Clinic, tablet: Device) -> None:
    """The device asks for it again, and gets the same page however much was written meanwhile; then it goes on."""
    desk, told = await filled(clinic, 20 * PAGE), []
    for _ in range(6):
        told += ids(await tablet.page(PAGE))
    lost = await tablet.call("GET", f"/v1/sync/pull?limit={PAGE}&cursor={tablet.cursor}")
    await desk.push(*people(30, "new"), update("patients", "p-999", 1, phone="0199"))
    again = await tablet.call("GET", f"/v1/sync/pull?limit={PAGE}&cursor={tablet.cursor}")
    assert again.json()["changes"] == lost.json()["changes"]
    pages, more = count(7), True
    while more:
        page = await tablet.page(PAGE)
        told, more, last = told + ids(page), page["has_more"], next(pages)
    assert last == 20
    assert told == [f"p-{at:03}" for at in range(999)]
    assert [key for _, key in await tablet.pull()] == [*(f"new-{at:03}" for at in range(30)), "p-999"]


async def test_token_tampered(clinic: Clinic, tablet: Device) -> None:
    await filled(clinic, 2 * PAGE)
    cursor = (await tablet.page(PAGE))["cursor"]
    for at in (4, 30, len(cursor) // 2, len(cursor) - 30, len(cursor) - 2):
        changed = cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]
        answer = await tablet.call("GET", f"/v1/sync/pull?cursor={changed}")
        refused(answer, 400, "INVALID_CURSOR")
        assert "p-0" not in answer.text
    assert await told_of_refusals(clinic) == 5


async def test_token_foreign(clinic: Clinic, tablet: Device, new_clinic: NewClinic) -> None:
    """Of another practice, account or device: nobody goes on in the midst of someone else's pull."""
    await filled(clinic, 2 * PAGE)
    cursor = (await tablet.page(PAGE))["cursor"]
    elsewhere = await new_clinic()
    ben = f"ben-{clinic.practice_id}"
    for place, token in (
        (elsewhere, elsewhere.token),
        (clinic, await clinic.token_for(device="phone")),
        (clinic, await clinic.token_for(Role.CLINICIAN, device="tablet", account=ben)),
    ):
        before = await told_of_refusals(place)
        answer = await place.call("GET", f"/v1/sync/pull?cursor={cursor}", token=token)
        error = refused(answer, 400, "INVALID_CURSOR")
        assert clinic.practice_id not in json.dumps(error)
        assert "p-0" not in answer.text
        assert await told_of_refusals(place) == before + 1
    # Between two pulls it belongs to the practice: a device that was restored from another's backup has it.
    await tablet.page(PAGE)
    last = f"/v1/sync/pull?cursor={tablet.cursor}"
    assert (await clinic.call("GET", last)).json()["changes"] == []
    refused(await elsewhere.call("GET", last), 400, "INVALID_CURSOR")


async def told_of_refusals(clinic: Clinic) -> int:
    entries = (await clinic.get("/v1/audit?limit=500"))["items"]
    return sum((entry["action"], entry["reason"]) == ("sync.pull", "INVALID_CURSOR") for entry in entries)


@pytest.mark.parametrize(
    "cursor",
    ["-1", "1.5", str(2**60), "null", "NaN", "1e400", "٣", "0x1", "1%20OR%201=1", "hls_a.b", "%00", "x" * 5_000],
)
async def test_malformed_cursors(tablet: Device, melon: App, cursor: str) -> None:
    answer = await tablet.call("GET", f"/v1/sync/pull?cursor={cursor}")
    assert (answer.status_code, answer.json()["error"]["code"]) in {(400, "INVALID_CURSOR"), (422, "INVALID_FIELDS")}
    for method in ("GET", "POST"):
        answer = await melon.call(method, f"?last_pulled_at={cursor}", {} if method == "POST" else None)
        refused(answer, 422, "INVALID_FIELDS", "last_pulled_at")


async def test_cursor_above_head(clinic: Clinic, tablet: Device, melon: App) -> None:
    """As after a restore from yesterday's backup: never an empty success. What was not pushed is still taken."""
    await clinic.patient(id="ngozi")
    await tablet.pull()
    await melon.pull()
    await clinic.container.database().pool.execute(
        "UPDATE sync_heads SET seq = seq - 10 WHERE practice_id = $1", clinic.practice_id
    )
    refused(await tablet.call("GET", f"/v1/sync/pull?cursor={tablet.cursor}"), 410, "RESYNC_REQUIRED")
    refused(await tablet.call("GET", f"{ADDRESS}?last_pulled_at={melon.last_pulled_at}"), 410, "RESYNC_REQUIRED")
    assert statuses(await tablet.push(METFORMIN)) == ["created"]
    melon.edit("patients", "ngozi", phone="0199")
    assert statuses((await melon.push()).json()["results"]) == ["updated"]
    for device in (tablet, melon):
        device.cursor, device.last_pulled_at = None, 0  # type: ignore[union-attr]
        await device.pull()
    assert tablet.data("patients", "ngozi")["phone"] == melon.row("patients", "ngozi")["phone"] == "0199"
    assert melon.row("records", "metformin")["dose"] == 10


async def test_writes_during_a_first_sync(clinic: Clinic, tablet: Device) -> None:
    """All that was there comes once, in one moment; all that is written meanwhile, in the next pull."""
    desk = await filled(clinic, 10 * PAGE)
    told: list[str] = []
    for number in range(10):
        page = await tablet.page(PAGE)
        told += ids(page)
        assert page["has_more"] is (number < 9)
        new = {**NGOZI, "id": f"new-{number}"}
        await desk.push(new, {**METFORMIN, "id": f"m-{number}", "patient_id": f"new-{number}"})
    assert told == [f"p-{at:03}" for at in range(10 * PAGE)]
    then = await tablet.pull(PAGE)
    assert len(then) == 20
    assert {key for _, key in then} == {f"{what}-{number}" for what in ("new", "m") for number in range(10)}
    assert all(then.index(("patients", f"new-{n}")) < then.index(("records", f"m-{n}")) for n in range(10))
