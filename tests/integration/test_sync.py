"""Pulls beside writers on the real database: nothing is missed, nothing comes twice."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from dependency_injector import providers

from heallog import bootstrap, config
from heallog.adapters.mail import MemoryMail
from heallog.adapters.postgres.refeed import refeed
from heallog.application.sync.pull import Pulled, Sync
from heallog.domain.access import Actor, Role
from heallog.domain.errors import HeldBack, InvalidCursor, ResyncRequired
from heallog.domain.sync import Stream
from heallog.domain.versions import Seen

WRITERS = 16
SECONDS = float(os.environ.get("HEALLOG_SOAK_SECONDS", "3"))
"""The soak profile writes for a minute."""


@pytest.fixture
async def house(database_url: str, tmp_path) -> AsyncIterator[tuple[bootstrap.Container, Actor]]:
    settings = config.Settings(
        database_url=database_url,
        data_dir=tmp_path,
        database_connections=20,
        rate_limits=False,
        min_sync_batch_size=1,
        _env_file=None,
    )
    wired = bootstrap.container(settings)
    wired.mail.override(providers.Object(MemoryMail()))
    await wired.database().open()
    fields = {
        "email": f"alice-{wired.ids()()}@example.org",
        "password": "correct horse battery",
        "name": "Alice",
        "practice_name": "Hillside",
    }
    registered = await wired.accounts().register(fields)
    yield wired, Actor(registered.account.id, registered.practice.id, Role.OWNER, "session", "desk")
    await wired.trail().close()
    await wired.database().close()


class Device:
    """Pulls, and remembers what it was told."""

    def __init__(self, sync: Sync, actor: Actor, limit: int) -> None:
        self._sync, self._actor, self._limit = sync, actor, limit
        self._cursor: str | None = None
        self.has: dict[tuple[str, str], int] = {}
        self.heads: list[int] = []

    async def page(self) -> tuple[Pulled, list[tuple[str, str]]]:
        pulled = await self._sync.pull(self._actor, self._cursor, tuple(Stream), self._limit)
        changes = json.loads(b"[" + pulled.changes + b"]")
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


async def test_of_sixteen_writers_no_change_is_missed_and_none_comes_twice(house) -> None:
    wired, alice = house
    patients, committed = wired.patients(), {}
    until = time.monotonic() + SECONDS

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

    devices = [Device(wired.sync(), alice, limit) for limit in (7, 50, 5_000)]
    writing = [asyncio.create_task(write(number)) for number in range(WRITERS)]

    async def follow(device: Device) -> None:
        while not all(task.done() for task in writing):
            await device.pull()
        await device.pull()

    await asyncio.gather(*writing, *(follow(device) for device in devices))
    assert len(committed) > WRITERS
    for device in devices:
        assert device.has == committed
        assert device.heads == sorted(device.heads)


async def test_what_changes_between_two_pages_comes_in_the_next_pull(house) -> None:
    wired, alice = house
    patients = wired.patients()
    heads = [await patients.create(alice, {"family_name": "Obi"}, f"p-{number}") for number in range(6)]
    device = Device(wired.sync(), alice, 2)
    assert (await device.page())[1] == [("patients", "p-0"), ("patients", "p-1")]
    await patients.change(alice, "p-0", {"phone": "0199"}, Seen(heads[0].version))
    await patients.change(alice, "p-3", {"phone": "0199"}, Seen(heads[3].version))
    assert [(await device.page())[1] for _ in range(2)] == [
        [("patients", "p-2"), ("patients", "p-4")],
        [("patients", "p-5")],
    ]
    assert (await device.page())[1] == [("patients", "p-0"), ("patients", "p-3")]


async def test_what_is_created_and_deleted_between_two_pulls_comes_once(house) -> None:
    wired, alice = house
    device = Device(wired.sync(), alice, 500)
    await device.pull()
    head = await wired.patients().create(alice, {"family_name": "Obi"}, "p-1")
    await wired.patients().delete(alice, "p-1", Seen(head.version))
    pulled, keys = await device.page()
    assert keys == [("patients", "p-1")]
    assert json.loads(pulled.changes)["op"] == "delete"


async def test_a_transaction_that_stays_open_elsewhere_holds_up_no_pull_and_hides_nothing(house) -> None:
    """Its changes come when it has committed, after those that others committed meanwhile."""
    wired, alice = house
    device = Device(wired.sync(), alice, 500)
    patients = wired.patients()
    head = await patients.create(alice, {"family_name": "Obi"}, "slow")
    async with wired.uow() as uow:
        locked = await uow.patients.lock(alice.practice_id, ["slow"])
        assert locked["slow"].version == 1
        await patients.create(alice, {"family_name": "Obi"}, "quick")
        await device.pull()
        assert device.has == {("patients", "slow"): 1, ("patients", "quick"): 1}
    await patients.change(alice, "slow", {"phone": "0199"}, Seen(head.version))
    await device.pull()
    assert device.has["patients", "slow"] == 2


@pytest.mark.parametrize("hours", [-1, 24 * 3650])
async def test_numbers_rise_whatever_the_servers_clock_does(house, hours: int) -> None:
    """The head is put where a clock that was wrong has left it."""
    wired, alice = house
    device = Device(wired.sync(), alice, 500)
    await wired.patients().create(alice, {"family_name": "Obi"}, "p-1")
    await device.pull()
    await wired.database().pool.execute(
        "UPDATE sync_heads SET seq = seq + $2 WHERE practice_id = $1",
        alice.practice_id,
        max(0, int(timedelta(hours=hours).total_seconds() * 1000)),
    )
    await wired.patients().create(alice, {"family_name": "Obi"}, "p-2")
    await device.pull()
    assert set(device.has) == {("patients", "p-1"), ("patients", "p-2")}
    assert device.heads == sorted(device.heads)
    assert device.heads[-1] < 2**53


async def test_a_pull_goes_on_at_another_process_and_after_a_restart(house, database_url: str) -> None:
    wired, alice = house
    for number in range(4):
        await wired.patients().create(alice, {"family_name": "Obi"}, f"p-{number}")
    first = await wired.sync().pull(alice, None, tuple(Stream), 3)
    other = bootstrap.container(wired.settings().model_copy())
    await other.database().open()
    rest = await other.sync().pull(alice, first.cursor, tuple(Stream), 3)
    await other.trail().close()
    await other.database().close()
    assert (json.loads(rest.changes)["id"], rest.more) == ("p-3", False)


async def test_nobody_goes_on_with_the_pull_of_another_practice(house) -> None:
    wired, alice = house
    await wired.patients().create(alice, {"family_name": "Obi"}, "p-1")
    cursor = (await wired.sync().pull(alice, None, tuple(Stream), 500)).cursor
    stranger = Actor("ben", "elsewhere", Role.OWNER, "session", "desk")
    with pytest.raises(InvalidCursor):
        await wired.sync().pull(stranger, cursor, tuple(Stream), 500)
    refusals = await wired.database().pool.fetch(
        "SELECT action, reason FROM audit_entries WHERE practice_id = 'elsewhere' AND account_id = 'ben'"
    )
    assert ("sync.pull", "INVALID_CURSOR") in {tuple(row) for row in refusals}


async def test_a_device_that_knows_more_than_the_database_is_told_to_push_and_to_begin_anew(house) -> None:
    """As after a restore from yesterday's backup."""
    wired, alice = house
    await wired.patients().create(alice, {"family_name": "Obi"}, "p-1")
    cursor = (await wired.sync().pull(alice, None, tuple(Stream), 500)).cursor
    await wired.database().pool.execute(
        "UPDATE sync_heads SET seq = seq - 10 WHERE practice_id = $1", alice.practice_id
    )
    with pytest.raises(ResyncRequired):
        await wired.sync().pull(alice, cursor, tuple(Stream), 500)


async def test_what_is_from_before_there_was_a_feed_is_told_after_the_upgrade(house) -> None:
    wired, alice = house
    await wired.patients().create(alice, {"family_name": "Obi"}, "ngozi")
    gone = await wired.patients().create(alice, {"family_name": "Ito"}, "ben")
    await wired.patients().delete(alice, "ben", Seen(gone.version))
    metformin = {"kind": "medication", "title": "Metformin", "dose": 10}
    await wired.records().create(alice, "ngozi", metformin, "r-1")
    await wired.records().change(alice, "r-1", {"dose": 20}, Seen(1))
    with pytest.raises(HeldBack):
        await wired.records().change(replace(alice, device_id="phone"), "r-1", {"dose": 15}, Seen(1))

    async def told() -> dict[tuple[str, str], object]:
        pulled = await wired.sync().pull(alice, None, tuple(Stream), 500)
        changes = json.loads(b"[" + pulled.changes + b"]")
        return {(change["collection"], change["id"]): change for change in changes}

    before, pool = await told(), wired.database().pool
    assert len(before) == 4
    await pool.execute("DELETE FROM change_feed WHERE practice_id = $1", alice.practice_id)
    await pool.execute("UPDATE sync_heads SET seq = 0 WHERE practice_id = $1", alice.practice_id)
    assert await refeed(wired.database()) >= 1
    assert await told() == before
    head = (await wired.sync().pull(alice, None, tuple(Stream), 500)).head
    await refeed(wired.database())
    assert (await wired.sync().pull(alice, None, tuple(Stream), 500)).head == head
