"""Many devices that edit the same records at once, each from what it saw last: nothing is lost, all can be replayed."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from heallog import bootstrap, config
from heallog.domain import records
from heallog.domain.access import Actor, Role
from heallog.domain.canon import decode, same
from heallog.domain.conflicts import State
from heallog.domain.errors import HeldBack
from heallog.domain.merging import three_way_merge
from heallog.domain.versions import GENESIS, Change, Head, Seen, Version, proves

CLIENTS = 8
EDITS = 2_000
RECORDS = 20

LINES = [f"Line {place} of the plan.\n" for place in range(12)]
PRESCRIPTION = {
    "kind": "medication",
    "title": "Metformin",
    "dose": 500,
    "dose_unit": "mg",
    "frequency": "twice a day",
    "remaining": 10_000,
    "text": "".join(LINES),
    "tags": ["diabetes"],
}


@pytest.fixture
async def house(database_url, tmp_path):
    wired = bootstrap.container(config.Settings(database_url=database_url, data_dir=tmp_path, _env_file=None))
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
    """One client: what it saw last of each record, and everything that it ever submitted."""

    def __init__(self, wired: bootstrap.Container, actor: Actor, number: int, ids: list[str]) -> None:
        self.actor = replace(actor, device_id=f"device-{number}", session_id=f"session-{number}")
        self.submitted: list[tuple[str, dict[str, Any]]] = []
        self.held: list[tuple[str, HeldBack]] = []
        self._records = wired.records()
        self._random = random.Random(number)
        self._seen: dict[str, Head] = {}
        self._ids = ids
        self._name = number

    async def edit(self, number: int) -> None:
        """Edit some record from what was seen last: sometimes fresh, sometimes old; sometimes the answer is lost."""
        record_id = self._random.choice(self._ids)
        if record_id not in self._seen or self._random.random() < 0.5:
            self._seen[record_id] = await self._records.get(self.actor, record_id)
        seen = self._seen[record_id]
        changes = self._changes(decode(seen.content or b"{}"), number)
        self.submitted.append((record_id, changes))
        try:
            head = await self._records.change(self.actor, record_id, changes, Seen(seen.version))
        except HeldBack as refused:
            self.held.append((record_id, refused))
            return
        if self._random.random() < 0.8:
            self._seen[record_id] = head

    def _changes(self, content: dict[str, Any], number: int) -> dict[str, Any]:
        mark = f"{self._name}-{number}"
        lines = content.get("text", "").splitlines(keepends=True)
        lines[self._random.randrange(len(lines))] = f"Said by {mark}.\n"
        possible = {
            "dose": self._name * 100_000 + number,
            "frequency": f"as {mark} says",
            "clinical_status": f"active, says {mark}",
            "tags": [*content.get("tags", [])[-40:], mark],
            "remaining": content.get("remaining", 0) - self._random.randrange(1, 4),
            "text": "".join(lines),
            "indication": f"for {mark}",
        }
        return {name: possible[name] for name in self._random.sample(sorted(possible), self._random.randrange(1, 4))}


async def _history(wired: bootstrap.Container, practice_id: str, record_id: str, last: int) -> list[Version]:
    found = await wired.version_reads().numbered(practice_id, "records", record_id, list(range(1, last + 2)))
    return [found[number] for number in sorted(found)]


def _replayed(history: list[Version]) -> tuple[int, dict[str, Any]]:
    """The head, worked out anew from nothing but what the devices submitted, in the order of their arrival."""
    contents = {version.number: decode(version.content or b"{}") for version in history}
    head, content = 1, contents[1]
    waiting: tuple[int, dict[str, Any]] | None = None
    for version in history[1:]:
        if version.change is Change.MERGE:
            assert waiting is not None
            assert (version.inputs, version.parent) == ((head, waiting[0]), head)
            head, content, waiting = version.number, waiting[1], None
            assert same(content, contents[version.number])
        elif version.branch:
            assert waiting is None, "a merge is missing"
            own = [
                one.number
                for one in history
                if one.device_id == version.device_id
                and one.change is not Change.MERGE
                and one.number < version.number
                and (one.parent or 0) >= (version.parent or 0)
                and one.number > (version.parent or 0)
            ]
            base, mine = contents[max(own, default=version.parent or 0)], contents[version.number]
            merged = three_way_merge(base, content, mine, records.mergeable("medication"))
            waiting = (version.number, merged.content) if merged.took else None
        else:
            assert waiting is None, "a merge is missing"
            assert version.parent == head
            head, content = version.number, contents[version.number]
    assert waiting is None, "a merge is missing"
    return head, content


async def test_two_thousand_edits_by_eight_devices_lose_nothing(house):
    wired, alice = house
    patient = await wired.patients().create(alice, {"family_name": "Obi"})
    ids = [(await wired.records().create(alice, patient.id, PRESCRIPTION)).id for _ in range(RECORDS)]
    devices = [Device(wired, alice, number, ids) for number in range(1, CLIENTS + 1)]

    async def work(device: Device) -> None:
        for number in range(EDITS // CLIENTS):
            await device.edit(number)

    await asyncio.gather(*map(work, devices))

    submitted = [(record_id, device, changes) for device in devices for record_id, changes in device.submitted]
    assert len(submitted) == EDITS
    kinds: Counter[Change] = Counter()
    found = await wired.conflict_reads().page(
        alice.practice_id, state=None, patient_id=patient.id, after=None, limit=1000
    )
    for record_id in ids:
        head = await wired.record_reads().get(alice.practice_id, record_id)
        history = await _history(wired, alice.practice_id, record_id, head.last)
        kinds.update(version.change for version in history)
        assert [version.number for version in history] == list(range(1, head.last + 1))
        assert all(
            proves(before.hash if before else GENESIS, version)
            for before, version in zip([None, *history], history, strict=False)
        )
        number, content = _replayed(history)
        assert (head.version, True) == (number, same(decode(head.content), content))

        own = [
            (version.device_id, decode(version.content)) for version in history if version.change is not Change.MERGE
        ]
        for where, device, changes in submitted:
            if where == record_id:
                kept = any(
                    device_id == device.actor.device_id
                    and all(same(entered.get(name), value) for name, value in changes.items())
                    for device_id, entered in own
                )
                assert kept, (device.actor.device_id, changes)

        conflict = None
        if head.conflict_id is not None:
            conflict = await wired.conflict_reads().get(alice.practice_id, head.conflict_id)
            assert (conflict.state, conflict.head_version) == (State.OPEN, head.version)
            flat = {**content, "deleted": False}
            assert all(same(dispute.theirs, flat.get(dispute.field)) for dispute in conflict.disputes)
        branches = {version.number for version in history if version.branch}
        for device in devices:
            for where, refused in device.held:
                if where == record_id:
                    told = refused.context["conflict"]
                    assert set(told["branch_versions"]) <= branches
                    assert any(
                        set(told["branch_versions"]) <= set(one.branches) for one in found if one.thing_id == where
                    )
    # It was a storm and no breeze.
    assert kinds[Change.MERGE] > EDITS / 20
    assert sum(len(device.held) for device in devices) > EDITS / 20
