"""The same offline edits in every order of arrival: one head for what merges, one set of conflicts for the rest."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from heallog.adapters.memory.conflicts import ConflictReads
from heallog.domain.canon import canonical, decode
from heallog.domain.errors import HeldBack
from heallog.domain.versions import Change, Seen

from .world import World

PRESCRIPTION = {
    "kind": "medication",
    "title": "Metformin",
    "code": {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "860975"},
    "dose": 10,
    "dose_unit": "mg",
    "remaining": 30,
    "occurred_at": "2026-03-01",
    "ended_at": "2026-12-31",
    "tags": ["morning", "diabetes"],
    "text": "Take with food.\nDrink enough.\nReview in May.\n",
}

MERGING = {
    "remaining": (28, 29, 24),
    "tags": (["morning", "diabetes", "fasting"], ["diabetes"], ["morning", "diabetes", "elderly"]),
    "text": (
        "Take with breakfast.\nDrink enough.\nReview in May.\n",
        "Take with food.\nDrink enough.\nReview in June.\n",
        "Take with food.\nDrink enough.\nReview in May.\nBring the box.\n",
    ),
}
"""What three devices make of fields that merge; the last two texts touch neighbouring lines and still go together."""

Edit = tuple[str, dict[str, Any]]

EDITS: tuple[Edit, ...] = (
    ("tablet", {"dose": 20, "remaining": 28, "tags": MERGING["tags"][0]}),
    ("phone", {"dose": 15, "text": MERGING["text"][0], "clinical_status": "active"}),
    ("laptop", {"dose_unit": "g", "remaining": 29, "tags": MERGING["tags"][1]}),
    ("ambulance", {"occurred_at": "2026-05-20", "text": MERGING["text"][1]}),
    ("home", {"ended_at": "2026-04-01", "tags": MERGING["tags"][2], "remaining": 24}),
)
"""Doses and a unit that clash; a start and an end that each are fine and together are not; and all that merges."""

Outcome = tuple[bytes, Any]


async def _delivered(edits: tuple[Edit, ...]) -> Outcome:
    """What a fresh clinic has after these edits: the merged fields of the head, and what is disputed."""
    world = await World().open()
    await world.admit("alice")
    await world.records.create(world.dr_okafor, "alice", PRESCRIPTION, "metformin")
    for device, changes in edits:
        actor = replace(world.dr_okafor, device_id=device)
        try:
            if changes:
                await world.records.change(actor, "metformin", changes, Seen(1))
            else:
                await world.records.delete(actor, "metformin", Seen(1))
        except HeldBack:
            pass
    head = await world.records.get(world.dr_okafor, "metformin")
    assert head.conflict_id is not None
    conflict = await ConflictReads(world.store).get("northside", head.conflict_id)
    assert conflict is not None
    content = decode(head.content or b"{}")
    disputed: dict[str, set[bytes]] = {}
    for dispute in conflict.disputed:
        named = dispute.group or dispute.field
        disputed.setdefault(named, set())
    groups = {"dosage": ("dose", "dose_unit")}
    versions = await world.records.history(world.dr_okafor, "metformin", None, 100)
    for named, values in disputed.items():
        fields = groups.get(named, (named,))
        for version in versions:
            if version.number > 1 and version.change is not Change.MERGE:
                entered = decode(version.content) if version.content else {"deleted": True}
                value = {field: entered.get(field) for field in fields}
                if value != {field: PRESCRIPTION.get(field) for field in fields}:
                    values.add(canonical(value))
    merged = {
        name: value for name, value in content.items() if name not in ("dose", "dose_unit", "occurred_at", "ended_at")
    }
    kinds = sorted({(dispute.group or dispute.field, dispute.kind, dispute.severity) for dispute in conflict.disputed})
    return canonical(merged), (kinds, sorted((name, sorted(values)) for name, values in disputed.items()))


async def test_every_order_gives_the_same_head_and_the_same_conflicts() -> None:
    outcomes = {repr(await _delivered(order)) for order in permutations(EDITS)}
    assert len(outcomes) == 1
    merged, (kinds, values) = await _delivered(EDITS)
    content = decode(merged)
    assert content["remaining"] == 30 - 2 - 1 - 6
    assert content["tags"] == ["diabetes", "elderly", "fasting"]
    assert content["text"] == "Take with breakfast.\nDrink enough.\nReview in June.\n"
    assert content["clinical_status"] == "active"
    assert [name for name, *_ in kinds] == ["dosage", "ended_at", "occurred_at"]
    assert dict(values)["dosage"] == [
        b'{"dose":10,"dose_unit":"g"}',
        b'{"dose":15,"dose_unit":"mg"}',
        b'{"dose":20,"dose_unit":"mg"}',
    ]


async def test_a_deletion_among_them_is_held_back_in_every_order() -> None:
    edits = (*EDITS[:3], ("archive", {}))
    outcomes = {repr(await _delivered(order)) for order in permutations(edits)}
    assert len(outcomes) == 1
    _, (kinds, _) = await _delivered(edits)
    assert [name for name, *_ in kinds] == ["deleted", "dosage"]


@pytest.mark.parametrize("field", MERGING)
async def test_each_merging_policy_alone(field: str) -> None:
    """Three devices, one field: no conflict to decide, the same bytes in every order."""
    heads = set()
    for order in permutations(enumerate(MERGING[field])):
        world = await World().open()
        await world.admit("alice")
        await world.records.create(world.dr_okafor, "alice", PRESCRIPTION, "metformin")
        for device, value in order:
            actor = replace(world.dr_okafor, device_id=f"device-{device}")
            await world.records.change(actor, "metformin", {field: value}, Seen(1))
        head = await world.records.get(world.dr_okafor, "metformin")
        heads.add(head.content)
    assert len(heads) == 1
