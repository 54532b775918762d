"""The use cases of policies: what a practice wants to decide about itself."""

from collections.abc import Mapping
from typing import Any

import pytest

from heallog.application.policies import DECLARED
from heallog.application.versions import Why
from heallog.domain import patients, records
from heallog.domain.conflicts import Severity
from heallog.domain.errors import Forbidden, InvalidFields, VersionConflict
from heallog.domain.policies import Policy, Setting
from heallog.domain.versions import Collection, Seen

from .story import Story, asked, held_back
from .world import MINUTE, NOON, World

PHONES: Mapping[str, Mapping[str, str]] = {"patients": {"phone": "manual"}}


async def in_force(world: World, collection: Collection, field: str) -> Policy:
    _, fields = await world.policies.get(world.ines)
    return fields[collection][field]


# -- reading ------------------------------------------------------------------------------------------------------


async def test_every_field_of_every_type_has_its_policy(world: World) -> None:
    number, fields = await world.policies.get(world.ines)
    assert number == 0
    assert set(fields) == set(Collection)
    assert set(fields[Collection.PATIENTS]) == set(patients.FIELDS)
    assert set(fields[Collection.RECORDS]) == {name for kind in records.FIELDS.values() for name in kind}
    assert fields[Collection.PATIENTS]["phone"] is Policy.LWW
    assert fields[Collection.PATIENTS]["birth_date"] is Policy.MANUAL
    assert fields[Collection.RECORDS]["dose"] is Policy.GROUP
    assert fields[Collection.RECORDS]["remaining"] is Policy.COUNTER


async def test_what_was_set_is_in_force_and_the_rest_as_declared(world: World) -> None:
    await world.policies.set(world.grace, 0, PHONES, "Numbers were lost.")
    number, fields = await world.policies.get(world.ines)
    assert number == 1
    changed = [
        (collection, name)
        for collection, declared in DECLARED.items()
        for name, rule in declared.items()
        if fields[collection][name] is not rule.policy
    ]
    assert changed == [(Collection.PATIENTS, "phone")]
    assert fields[Collection.PATIENTS]["phone"] is Policy.MANUAL


async def test_another_practice_goes_its_own_way(world: World) -> None:
    await world.policies.set(world.grace, 0, PHONES, "Numbers were lost.")
    number, fields = await world.policies.get(world.dr_stern)
    assert (number, fields[Collection.PATIENTS]["phone"]) == (0, Policy.LWW)
    assert await world.policies.history(world.dr_stern, None, 9) == []
    there = await world.policies.set(world.dr_stern, 0, {}, "Nothing.")
    assert there.number == 1


# -- setting ------------------------------------------------------------------------------------------------------


async def test_a_setting_says_who_when_why_and_leaves_an_entry(world: World) -> None:
    world.clock.now += MINUTE
    fields = {"patients": {"phone": "manual", "email": "manual"}, "records": {"text": "manual"}}
    setting = await world.policies.set(world.grace, 0, fields, "Numbers were lost.")
    assert setting == Setting("northside", 1, NOON + MINUTE, "grace", "Numbers were lost.", fields)
    [entry] = world.entries
    assert (entry.action, entry.outcome, entry.account_id, entry.version) == ("policies.set", "done", "grace", 1)
    assert (entry.reason, entry.at) == ("Numbers were lost.", NOON + MINUTE)
    assert entry.fields == ("patients.email", "patients.phone", "records.text")


async def test_a_field_that_is_left_out_is_as_declared_again(world: World) -> None:
    await world.policies.set(world.grace, 0, PHONES, "Numbers were lost.")
    await world.policies.set(world.grace, 1, {"patients": {"email": "manual"}}, "Only the addresses.")
    assert await in_force(world, Collection.PATIENTS, "phone") is Policy.LWW
    assert await in_force(world, Collection.PATIENTS, "email") is Policy.MANUAL
    await world.policies.set(world.grace, 2, {}, "Back to normal.")
    assert await in_force(world, Collection.PATIENTS, "email") is Policy.LWW


REFUSED: list[tuple[dict[str, dict[str, str]], list[tuple[str, str]]]] = [
    ({"patients": {"birth_date": "lww"}}, [("patients.birth_date", "choice")]),
    ({"patients": {"phone": "lww"}}, [("patients.phone", "choice")]),
    ({"patients": {"phone": "immutable"}}, [("patients.phone", "choice")]),
    ({"patients": {"phone": ""}}, [("patients.phone", "choice")]),
    ({"patients": {"shoe_size": "manual"}}, [("patients.shoe_size", "unknown")]),
    ({"records": {"phone": "manual"}}, [("records.phone", "unknown")]),
    ({"records": {"dose": "manual"}}, [("records.dose", "policy")]),
    ({"records": {"route": "manual"}}, [("records.route", "policy")]),
    ({"records": {"status": "manual"}}, [("records.status", "policy")]),
    ({"records": {"bmi": "manual"}}, [("records.bmi", "policy")]),
    ({"records": {"values": "manual"}}, [("records.values", "policy")]),
    (
        {"patients": {"phone": "manual", "sex": "lww"}, "records": {"dose": "manual", "text": "manual"}},
        [("patients.sex", "choice"), ("records.dose", "policy")],
    ),
]


@pytest.mark.parametrize(("fields", "errors"), REFUSED)
async def test_nothing_is_loosened(
    world: World, fields: dict[str, dict[str, str]], errors: list[tuple[str, str]]
) -> None:
    with pytest.raises(InvalidFields) as refused:
        await world.policies.set(world.grace, 0, fields, "Why not.")
    assert [(error.field, error.code) for error in refused.value.errors] == errors
    assert await world.policies.history(world.ines, None, 9) == []


async def test_what_is_manual_already_may_be_named(world: World) -> None:
    await world.policies.set(world.grace, 0, {"patients": {"birth_date": "manual"}}, "To be sure.")
    assert await in_force(world, Collection.PATIENTS, "birth_date") is Policy.MANUAL


@pytest.mark.parametrize("base", [0, 2, -1])
async def test_a_setting_names_the_one_that_it_replaces(world: World, base: int) -> None:
    await world.policies.set(world.grace, 0, PHONES, "Numbers were lost.")
    with pytest.raises(VersionConflict) as refused:
        await world.policies.set(world.grace, base, {}, "Back to normal.")
    assert refused.value.context == {"version": 1}
    assert await in_force(world, Collection.PATIENTS, "phone") is Policy.MANUAL


@pytest.mark.parametrize("who", ["dr_okafor", "amara", "ines"])
async def test_only_an_owner_sets_policies_and_everybody_sees_them(world: World, who: str) -> None:
    actor = getattr(world, who)
    with pytest.raises(Forbidden) as refused:
        await world.policies.set(actor, 0, PHONES, "Numbers were lost.")
    assert refused.value.context == {"permission": "policies.set"}
    [entry] = world.entries
    assert (entry.action, entry.outcome, entry.reason, entry.account_id) == (
        "policies.set",
        "refused",
        "FORBIDDEN",
        who,
    )
    assert await world.policies.get(actor) == await world.policies.get(world.grace)
    assert await world.policies.history(actor, None, 9) == []


async def test_history_comes_newest_first(world: World) -> None:
    settings = []
    for number, fields in enumerate(({}, PHONES, {"records": {"text": "manual"}})):
        world.clock.now += MINUTE
        settings.append(await world.policies.set(world.grace, number, fields, f"Reason {number}."))
    assert list(await world.policies.history(world.ines, None, 9)) == settings[::-1]
    assert list(await world.policies.history(world.ines, None, 2)) == settings[:0:-1]
    assert list(await world.policies.history(world.ines, 3, 1)) == settings[1:2]
    assert await world.policies.history(world.ines, 1, 9) == []


# -- what it changes ----------------------------------------------------------------------------------------------

TIGHTENED: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "phone": ({"family_name": "Smith", "phone": "1"}, "2", "3"),
    "tags": ({"family_name": "Smith", "tags": ["a"]}, ["a", "b"], ["a", "c"]),
    "notes": ({"family_name": "Smith", "notes": "One.\nTwo.\n"}, "One!\nTwo.\n", "One.\nTwo!\n"),
    "remaining": ({"kind": "medication", "title": "Ibuprofen", "remaining": 30}, 29, 28),
    "indication": (
        {"kind": "procedure", "title": "X-ray", "indication": "Pain in the left foot since June"},
        "Ache in the left foot since June",
        "Pain in the left foot since July",
    ),
}


@pytest.mark.parametrize("name", TIGHTENED)
async def test_what_merged_alone_is_now_for_a_person_to_decide(story: Story, name: str) -> None:
    body, first, late = TIGHTENED[name]
    collection = "records" if "kind" in body else "patients"
    await story.begin(body)
    await story.world.policies.set(story.grace, 0, {collection: {name: "manual"}}, "We decide.")
    await story.change(story.dr_okafor, 1, **{name: first})
    context = await held_back(story.change(story.dr_lee, 1, **{name: late}))
    head, conflict = await story.head(), await story.conflict()
    assert (head.version, head.fields()[name]) == (2, first)
    assert asked(conflict) == [(name, body[name], first, late)]
    assert [(one.policy, one.severity) for one in conflict.disputed] == [("manual", Severity.HARD)]
    assert context["conflict"]["fields"][0]["policy"] == "manual"


@pytest.mark.parametrize("name", TIGHTENED)
async def test_what_is_not_tightened_merges_alone(story: Story, name: str) -> None:
    body, first, late = TIGHTENED[name]
    await story.begin(body)
    await story.world.policies.set(story.grace, 0, {}, "Nothing.")
    await story.change(story.dr_okafor, 1, **{name: first})
    head = await story.change(story.dr_lee, 1, **{name: late})
    assert head.version == 4
    assert all(conflict.severity is Severity.SOFT for conflict in await story.conflicts())


async def test_a_setting_counts_for_what_comes_after_it(story: Story) -> None:
    """What was merged for review stays so; the next clash waits."""
    await story.begin({"family_name": "Smith", "phone": "1"})
    await story.change(story.dr_okafor, 1, phone="2")
    await story.change(story.dr_lee, 1, phone="3")
    await story.world.policies.set(story.grace, 0, PHONES, "Numbers were lost.")
    await held_back(story.change(story.amara, 1, phone="4"))
    conflict = await story.conflict()
    assert (await story.head()).fields()["phone"] == "3"
    assert [(one.mine, one.severity) for one in conflict.disputed] == [("2", Severity.SOFT), ("4", Severity.HARD)]
    _, head = await story.resolve(story.grace, 4, phone={"take": "mine", "branch_version": 5})
    assert head.fields()["phone"] == "4"


async def test_another_practices_setting_changes_nothing_here(story: Story) -> None:
    await story.begin({"family_name": "Smith", "phone": "1"})
    await story.world.policies.set(story.world.dr_stern, 0, PHONES, "Numbers were lost.")
    await story.change(story.dr_okafor, 1, phone="2")
    assert (await story.change(story.dr_lee, 1, phone="3")).fields()["phone"] == "3"


async def test_a_setting_for_one_kind_of_record_leaves_the_others_alone(story: Story) -> None:
    """`remaining` is a medication's: an encounter merges as ever."""
    await story.begin({"kind": "encounter", "title": "Visit", "tags": ["a"]})
    await story.world.policies.set(story.grace, 0, {"records": {"remaining": "manual"}}, "We count.")
    await story.change(story.dr_okafor, 1, tags=["a", "b"])
    head = await story.world.records.change(story.dr_lee, "it", {"tags": ["a", "c"]}, Seen(1), Why())
    assert set(head.fields()["tags"]) == {"a", "b", "c"}


TIGHTENABLE = [
    (kind, name)
    for kind, fields in records.FIELDS.items()
    for name, known in fields.items()
    if DECLARED[Collection.RECORDS][name].policy in (Policy.LWW, Policy.SET, Policy.TEXT, Policy.COUNTER, Policy.MANUAL)
    and known.settable
]


@pytest.mark.parametrize(("kind", "name"), TIGHTENABLE)
async def test_no_setting_that_is_taken_stands_in_the_way_of_an_edit(story: Story, kind: str, name: str) -> None:
    """Two kinds may have a field of one name, each with its own policy: `route` is a word, or a part of a dosage."""
    await story.begin({"kind": kind, "title": "It", "text": "It is so."})
    await story.world.policies.set(story.grace, 0, {"records": {name: "manual"}}, "We decide.")
    await story.change(story.dr_okafor, 1, clinical_status="active")
    head = await story.change(story.dr_lee, 1, tags=["new"])
    assert head.version == 4
