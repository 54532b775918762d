"""What was there before sync was."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from dependency_injector import providers

from heallog import bootstrap, config
from heallog.adapters.mail import MemoryMail
from heallog.adapters.postgres.refeed import refeed
from heallog.domain.access import Actor, Role
from heallog.domain.errors import HeldBack
from heallog.domain.sync import Stream
from heallog.domain.versions import Seen


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
        changes = json.loads(b"[%s]" % b",".join(pulled.changes))
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
