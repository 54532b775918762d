"""Two people, two devices and one thing that both of them change: what the tests of late edits are told with."""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from heallog.application.versions import Why
from heallog.domain.access import Actor
from heallog.domain.canon import decode
from heallog.domain.conflicts import Conflict
from heallog.domain.errors import HeldBack
from heallog.domain.versions import GENESIS, Collection, Head, Seen, Version, proves

from .world import MINUTE, World

SO = Why("Asked the patient.")
IBUPROFEN = {"kind": "medication", "title": "Ibuprofen", "dose": 10, "dose_unit": "mg"}
VISIT = {"kind": "encounter", "title": "Visit", "occurred_at": "2026-03", "ended_at": "2026-06"}


class Story:
    """One thing called `it`, a record of alice's or a patient, that dr_okafor and dr_lee change from two devices."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dr_okafor, self.dr_lee, self.grace = world.dr_okafor, world.dr_lee, world.grace
        self.amara = replace(world.amara, device_id="phone-4")
        self.collection = Collection.RECORDS

    @property
    def cases(self) -> Any:
        return self.world.records if self.collection is Collection.RECORDS else self.world.patients

    async def begin(self, body: Mapping[str, Any] = IBUPROFEN) -> Head:
        if "kind" in body:
            await self.world.admit("alice")
        else:
            self.collection = Collection.PATIENTS
        head = await self.create(self.dr_okafor, body)
        self.world.told.clear()
        self.world.store.audit_entries.clear()
        self.world.clock.now += MINUTE
        return head

    async def create(self, actor: Actor, body: Mapping[str, Any]) -> Head:
        if self.collection is Collection.PATIENTS:
            return await self.world.patients.create(actor, body, "it")
        return await self.world.records.create(actor, "alice", body, "it")

    async def change(self, actor: Actor, seen: int, **changes: Any) -> Head:
        head: Head = await self.cases.change(actor, "it", changes, Seen(seen))
        return head

    async def amend(self, actor: Actor, seen: int, **changes: Any) -> Head:
        return await self.world.records.amend(actor, "it", changes, Seen(seen), SO)

    async def delete(self, actor: Actor, seen: int) -> Head:
        head: Head = await self.cases.delete(actor, "it", Seen(seen))
        return head

    async def sign(self, actor: Actor, seen: int) -> Head:
        return await self.world.records.sign(actor, "it", Seen(seen))

    async def retract(self, actor: Actor, seen: int) -> Head:
        return await self.world.records.retract(actor, "it", Seen(seen), SO)

    async def resolve(self, actor: Actor, head_version: int, why: Why = SO, **choices: Any) -> tuple[Conflict, Head]:
        conflict = await self.conflict()
        return await self.world.conflicts.resolve(actor, conflict.id, head_version, choices, why)

    async def head(self) -> Head:
        async with self.world.uow() as uow:
            things = uow.records if self.collection is Collection.RECORDS else uow.patients
            return (await things.lock("northside", ["it"]))["it"]

    async def versions(self) -> list[Version]:
        found = await self.cases.history(self.dr_okafor, "it", None, 99)
        return list(reversed(found))

    async def contents(self) -> list[dict[str, Any]]:
        """The content of each version, by its number; of a deletion nothing."""
        return [{}, *(decode(version.content) if version.content else {} for version in await self.versions())]

    async def conflicts(self) -> list[Conflict]:
        return list(await self.world.conflicts.page(self.world.ines, state=None, patient_id=None, after=None, limit=99))

    async def conflict(self) -> Conflict:
        [conflict] = await self.conflicts()
        return conflict

    async def proves_itself(self) -> None:
        """Every version follows from the one before, and the head is where the last of the trunk is."""
        versions, head, previous = await self.versions(), await self.head(), GENESIS
        for number, version in enumerate(versions, 1):
            assert version.number == number
            assert proves(previous, version)
            previous = version.hash
        trunk = [version for version in versions if not version.branch]
        assert (head.last, head.hash) == (len(versions), previous)
        assert (head.version, head.content) == (trunk[-1].number, trunk[-1].content)


def change(content: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


async def held_back(edit: Awaitable[object]) -> dict[str, Any]:
    """What whoever made this edit is told about it."""
    with pytest.raises(HeldBack) as refused:
        await edit
    return refused.value.context


def asked(conflict: Conflict) -> list[tuple[str, Any, Any, Any]]:
    return [(one.field, one.base, one.theirs, one.mine) for one in conflict.disputed]


# -- how many a story begins --------------------------------------------------------------------------------------


async def two_doses(story: Story) -> Conflict:
    """dr_okafor made the dose 20, dr_lee 15: versions 2 and, beside it, 3."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.change(story.dr_lee, 1, dose=15))
    return await story.conflict()


async def a_deletion_too_late(story: Story) -> Conflict:
    """dr_okafor made the dose 20 while dr_lee deleted it: versions 2 and, beside it, 3."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await held_back(story.delete(story.dr_lee, 1))
    return await story.conflict()


async def two_phones(story: Story) -> Conflict:
    """dr_lee's number, 3, stands in version 4 and dr_okafor's, 2, is for review."""
    await story.begin({"family_name": "Smith", "phone": "1"})
    await story.change(story.dr_okafor, 1, phone="2")
    await story.change(story.dr_lee, 1, phone="3")
    return await story.conflict()


async def twins(story: Story) -> Conflict:
    """Two prescriptions under one id: dr_okafor's 10 mg, and beside it dr_lee's 15 mg with a tag."""
    await story.begin()
    await held_back(story.create(story.dr_lee, change(IBUPROFEN, dose=15, tags=["new"])))
    return await story.conflict()
