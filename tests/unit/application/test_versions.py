"""What patients and records share: changing, deleting, restoring, reverting, and looking back."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from heallog.application.patients import Patients
from heallog.application.records import Records
from heallog.application.versions import Why
from heallog.domain.access import Actor
from heallog.domain.errors import (
    Deleted,
    HeldBack,
    InvalidFields,
    NotFound,
    StaleVersion,
    VersionConflict,
    VersionRequired,
    WrongState,
)
from heallog.domain.events import ContributionCommitted
from heallog.domain.versions import GENESIS, Change, Difference, Head, Seen, proves

from .world import MINUTE, NOON, World, saw


class Chapter:
    """One thing of one kind, called `it`, with a text field to change."""

    def __init__(self, world: World, kind: str) -> None:
        self.world, self.kind = world, kind
        self.cases: Patients | Records = world.patients if kind == "patients" else world.records
        self.text = "notes" if kind == "patients" else "text"
        self.dr_okafor, self.dr_lee = world.dr_okafor, world.dr_lee

    async def begin(self) -> Head:
        create: Callable[..., Awaitable[Head]] = self.world.admit
        if self.kind == "records":
            await self.world.admit("alice")
            create = self.world.note
        head = await create("it", **{self.text: "one"})
        self.world.told.clear()
        self.world.store.audit_entries.clear()
        self.world.clock.now += MINUTE
        return head

    async def write(self, head: Head, text: str | None, why: Why | None = None, by: Actor | None = None) -> Head:
        return await self.cases.change(by or self.dr_okafor, "it", {self.text: text}, saw(head), why or Why())

    async def now(self) -> Any:
        return (await self.cases.get(self.dr_okafor, "it")).fields()[self.text]


@pytest.fixture(params=["patients", "records"])
def it(world: World, request: pytest.FixtureRequest) -> Chapter:
    return Chapter(world, request.param)


# -- change -------------------------------------------------------------------------------------------------------


async def test_a_change_appends_a_version_tells_of_it_and_declares_it(it: Chapter) -> None:
    first = await it.begin()
    head = await it.write(first, "two", Why("She called.", NOON - MINUTE))
    version = await it.cases.version(it.dr_okafor, "it", 2)
    assert await it.cases.get(it.dr_okafor, "it") == head
    assert (head.version, head.created_at, head.updated_at) == (2, NOON, NOON + MINUTE)
    assert (version.parent, version.change, version.content) == (1, Change.MODIFICATION, head.content)
    assert (version.author_id, version.device_id) == ("dr_okafor", "tablet-1")
    assert (version.reason, version.client_time, version.received_at) == ("She called.", NOON - MINUTE, NOON + MINUTE)
    assert proves(first.hash, version)
    action = f"{it.kind}.change"
    assert it.world.told == [
        ContributionCommitted("northside", version.contribution_id, "dr_okafor", "request-1", action, 1)
    ]
    [entry] = it.world.trail
    assert (entry.action, entry.outcome, entry.thing_id, entry.version) == (action, "done", "it", 2)
    assert (entry.account_id, entry.session_id, entry.device_id, entry.request_id) == (
        *("dr_okafor", "session-of-dr_okafor"),
        *("tablet-1", "request-1"),
    )
    assert (entry.reason, entry.fields, entry.patient_id) == ("She called.", (it.text,), head.patient_id)


async def test_the_audit_entry_names_fields_and_holds_no_value(it: Chapter) -> None:
    head = await it.begin()
    await it.cases.change(it.dr_okafor, "it", {it.text: "CANARY", "tags": ["CANARY"]}, saw(head))
    [entry] = it.world.trail
    assert set(entry.fields) == {it.text, "tags"}
    assert "CANARY" not in repr(entry) + repr(it.world.told)


async def test_null_takes_a_field_away(it: Chapter) -> None:
    head = await it.begin()
    head = await it.cases.change(it.dr_okafor, "it", {"tags": ["new"]}, saw(head))
    head = await it.cases.change(it.dr_okafor, "it", {"tags": None}, saw(head))
    assert "tags" not in head.fields()


async def test_the_same_content_again_is_no_new_version(it: Chapter) -> None:
    head = await it.begin()
    assert await it.write(head, "one") == head
    assert await it.cases.change(it.dr_okafor, "it", {}, saw(head)) == head
    assert (it.world.told, it.world.trail) == ([], [])


async def test_a_change_names_the_version_that_it_saw(it: Chapter) -> None:
    await it.begin()
    with pytest.raises(VersionRequired):
        await it.cases.change(it.dr_okafor, "it", {it.text: "two"}, Seen(None))
    assert await it.now() == "one"


async def test_a_stale_change_that_clashes_is_a_conflict_that_carries_both_sides(it: Chapter) -> None:
    first = await it.begin()
    second = await it.write(first, "two")
    with pytest.raises(HeldBack) as refused:
        await it.write(first, "mine", by=it.dr_lee)
    context = dict(refused.value.context)
    [field] = context.pop("conflict")["fields"]
    assert context == {
        "version": 2,
        "base_version": 1,
        "head": second.fields(),
        "changes": {it.text: "mine"},
    }
    assert (field["field"], field["base"], field["theirs"], field["mine"]) == (it.text, "one", "two", "mine")
    assert await it.now() == "two"


async def test_a_stale_change_beside_another_is_merged(it: Chapter) -> None:
    first = await it.begin()
    await it.write(first, "two")
    head = await it.cases.change(it.dr_lee, "it", {"tags": ["new"]}, saw(first))
    assert (head.version, head.merged_from, head.conflict_id) == (4, (2, 3), None)
    assert (head.fields()[it.text], head.fields()["tags"]) == ("two", ["new"])


async def test_a_devices_stale_change_goes_on_from_its_own_last_one(it: Chapter) -> None:
    """Only the answer was lost: nobody else was here."""
    first = await it.begin()
    await it.write(first, "two")
    head = await it.write(first, "three")
    assert (head.version, head.last, head.fields()[it.text]) == (3, 3, "three")
    version = await it.cases.version(it.dr_okafor, "it", 3)
    assert (version.parent, version.change, version.branch) == (2, Change.MODIFICATION, False)


async def test_a_version_that_never_was_is_nothing_to_start_from(it: Chapter) -> None:
    head = await it.begin()
    for number in (0, -1):
        with pytest.raises(VersionConflict) as refused:
            await it.cases.change(it.dr_okafor, "it", {it.text: "mine"}, Seen(number))
        assert (type(refused.value), refused.value.context["version"]) == (VersionConflict, 1)
    assert await it.cases.get(it.dr_okafor, "it") == head
    assert it.world.trail == []


async def test_a_deletion_is_nothing_to_start_from(it: Chapter) -> None:
    gone = await it.cases.delete(it.dr_okafor, "it", saw(await it.begin()))
    back = await it.cases.restore(it.dr_okafor, "it", saw(gone))
    for attempt in (it.write(gone, "mine", by=it.dr_lee), it.cases.delete(it.dr_lee, "it", saw(gone))):
        with pytest.raises(VersionConflict) as refused:
            await attempt
        assert refused.value.context == {"version": 3, "base_version": 2, "head": back.fields()}
    assert await it.cases.get(it.dr_okafor, "it") == back


async def test_if_match_asks_for_exactly_this_head(it: Chapter) -> None:
    first = await it.begin()
    await it.write(first, "two")
    with pytest.raises(StaleVersion) as refused:
        await it.cases.change(it.dr_okafor, "it", {it.text: "mine"}, Seen(1, strict=True))
    assert refused.value.context == {"version": 2}


async def test_a_version_from_the_future_is_a_conflict(it: Chapter) -> None:
    await it.begin()
    with pytest.raises(VersionConflict) as refused:
        await it.cases.change(it.dr_okafor, "it", {it.text: "mine"}, Seen(7))
    assert (type(refused.value), refused.value.context) == (VersionConflict, {"version": 1})


async def test_a_change_that_breaks_a_rule_changes_nothing(it: Chapter) -> None:
    head = await it.begin()
    with pytest.raises(InvalidFields):
        await it.cases.change(it.dr_okafor, "it", {it.text: "two", "no_such_field": 1}, saw(head))
    assert await it.now() == "one"
    assert (it.world.told, it.world.trail) == ([], [])


# -- missing, foreign, deleted ------------------------------------------------------------------------------------

STEPS: list[Any] = [
    pytest.param(lambda cases, actor: cases.get(actor, "it"), id="get"),
    pytest.param(lambda cases, actor: cases.change(actor, "it", {}, Seen(1)), id="change"),
    pytest.param(lambda cases, actor: cases.delete(actor, "it", Seen(1)), id="delete"),
    pytest.param(lambda cases, actor: cases.restore(actor, "it", Seen(1)), id="restore"),
    pytest.param(lambda cases, actor: cases.revert(actor, "it", Seen(1), 1, Why()), id="revert"),
    pytest.param(lambda cases, actor: cases.history(actor, "it", None, 10), id="history"),
    pytest.param(lambda cases, actor: cases.version(actor, "it", 1), id="version"),
    pytest.param(lambda cases, actor: cases.differences(actor, "it", 1, 1), id="differences"),
]


@pytest.mark.parametrize("step", STEPS)
async def test_a_foreign_thing_answers_exactly_as_a_missing_one(it: Chapter, step: Any) -> None:
    with pytest.raises(NotFound) as missing:
        await step(it.cases, it.world.dr_stern)
    await it.begin()
    with pytest.raises(NotFound) as foreign:
        await step(it.cases, it.world.dr_stern)
    assert (foreign.value.message, foreign.value.field, foreign.value.context) == (
        *(missing.value.message, missing.value.field),
        missing.value.context,
    )
    assert it.kind[:-1] in missing.value.message


async def test_what_is_deleted_can_be_neither_read_nor_changed_nor_reverted(it: Chapter) -> None:
    gone = await it.cases.delete(it.dr_okafor, "it", saw(await it.begin()))
    for attempt in (
        it.cases.get(it.dr_okafor, "it"),
        it.cases.change(it.dr_okafor, "it", {it.text: "two"}, saw(gone)),
        it.cases.revert(it.dr_okafor, "it", saw(gone), 1, Why()),
    ):
        with pytest.raises(Deleted) as refused:
            await attempt
        assert refused.value.context == {"version": 2}


# -- delete and restore -------------------------------------------------------------------------------------------


async def test_deleting_appends_a_version_without_content(it: Chapter) -> None:
    head = await it.cases.delete(it.dr_okafor, "it", saw(await it.begin()), Why("Entered twice."))
    version = await it.cases.version(it.dr_okafor, "it", 2)
    assert head.deleted
    assert (version.change, version.content, version.reason) == (Change.DELETION, None, "Entered twice.")
    [entry] = it.world.trail
    assert entry.action == f"{it.kind}.delete"
    assert it.text in entry.fields


async def test_deleting_what_is_deleted_changes_nothing(it: Chapter) -> None:
    first = await it.begin()
    gone = await it.cases.delete(it.dr_okafor, "it", saw(first))
    assert await it.cases.delete(it.dr_okafor, "it", saw(first)) == gone
    assert len(it.world.trail) == len(it.world.told) == 1


async def test_deleting_what_someone_changed_meanwhile_is_a_conflict(it: Chapter) -> None:
    first = await it.begin()
    await it.write(first, "two")
    with pytest.raises(HeldBack):
        await it.cases.delete(it.dr_lee, "it", saw(first))
    assert await it.now() == "two"


async def test_deleting_what_only_this_device_changed_meanwhile_deletes_it(it: Chapter) -> None:
    first = await it.begin()
    await it.write(first, "two")
    gone = await it.cases.delete(it.dr_okafor, "it", saw(first))
    assert (gone.version, gone.deleted) == (3, True)


async def test_restoring_brings_back_what_the_deletion_took(it: Chapter) -> None:
    head = await it.write(await it.begin(), "two")
    gone = await it.cases.delete(it.dr_okafor, "it", saw(head))
    back = await it.cases.restore(it.dr_okafor, "it", saw(gone), Why("By mistake."))
    assert (back.version, back.content) == (4, head.content)
    version = await it.cases.version(it.dr_okafor, "it", 4)
    assert (version.change, version.reason) == (Change.RESTORATION, "By mistake.")
    assert it.world.actions[-1] == f"{it.kind}.restore"


async def test_only_what_is_deleted_is_restored(it: Chapter) -> None:
    head = await it.begin()
    with pytest.raises(WrongState) as refused:
        await it.cases.restore(it.dr_okafor, "it", saw(head))
    assert refused.value.context == {"version": 1}


async def test_restoring_names_the_deletion_that_it_saw(it: Chapter) -> None:
    first = await it.begin()
    await it.cases.delete(it.dr_okafor, "it", saw(first))
    with pytest.raises(VersionConflict):
        await it.cases.restore(it.dr_okafor, "it", saw(first))
    with pytest.raises(VersionRequired):
        await it.cases.restore(it.dr_okafor, "it", Seen(None))


# -- revert -------------------------------------------------------------------------------------------------------


async def test_reverting_appends_an_earlier_content(it: Chapter) -> None:
    first = await it.begin()
    head = await it.write(await it.write(first, "two"), "three")
    back = await it.cases.revert(it.dr_okafor, "it", saw(head), 1, Why("Wrong patient's words."))
    assert (back.version, back.content) == (4, first.content)
    version = await it.cases.version(it.dr_okafor, "it", 4)
    assert (version.change, version.parent, version.reason) == (Change.REVERSION, 3, "Wrong patient's words.")
    assert it.world.actions[-1] == f"{it.kind}.revert"
    assert it.world.trail[-1].fields == (it.text,)


async def test_reverting_needs_a_version_that_there_is_and_that_has_content(it: Chapter) -> None:
    head = await it.begin()
    with pytest.raises(NotFound) as missing:
        await it.cases.revert(it.dr_okafor, "it", saw(head), 9, Why())
    assert missing.value.field == "to"
    gone = await it.cases.delete(it.dr_okafor, "it", saw(head))
    back = await it.cases.restore(it.dr_okafor, "it", saw(gone))
    with pytest.raises(WrongState) as void:
        await it.cases.revert(it.dr_okafor, "it", saw(back), 2, Why())
    assert void.value.field == "to"


async def test_reverting_names_the_version_that_it_saw(it: Chapter) -> None:
    first = await it.begin()
    await it.write(first, "two")
    with pytest.raises(VersionConflict):
        await it.cases.revert(it.dr_okafor, "it", saw(first), 1, Why())


# -- looking back -------------------------------------------------------------------------------------------------


async def test_history_comes_newest_first_and_proves_itself(it: Chapter) -> None:
    head = await it.begin()
    for text in ("two", "three"):
        head = await it.write(head, text)
    gone = await it.cases.delete(it.dr_okafor, "it", saw(head))
    history = list(await it.cases.history(it.dr_okafor, "it", None, 10))
    assert [version.number for version in history] == [4, 3, 2, 1]
    previous = GENESIS
    for version in reversed(history):
        assert proves(previous, version)
        previous = version.hash
    assert previous == gone.hash
    page = await it.cases.history(it.dr_okafor, "it", 4, 2)
    assert [version.number for version in page] == [3, 2]
    assert list(await it.cases.history(it.dr_okafor, "it", 1, 2)) == []


async def test_any_version_is_read(it: Chapter) -> None:
    first = await it.begin()
    await it.write(first, "two")
    assert (await it.cases.version(it.dr_okafor, "it", 1)).content == first.content
    with pytest.raises(NotFound):
        await it.cases.version(it.dr_okafor, "it", 3)


async def test_differences_between_any_two_versions(it: Chapter) -> None:
    head = await it.write(await it.begin(), "two")
    head = await it.cases.change(it.dr_okafor, "it", {"tags": ["new"]}, saw(head))
    assert await it.cases.differences(it.dr_okafor, "it", 1, 3) == sorted(
        [Difference("tags", None, ["new"]), Difference(it.text, "one", "two")], key=lambda found: found.field
    )
    assert await it.cases.differences(it.dr_okafor, "it", 2, 1) == [Difference(it.text, "two", "one")]
    assert await it.cases.differences(it.dr_okafor, "it", 2, 2) == []
    for one, other in ((1, 9), (9, 1)):
        with pytest.raises(NotFound):
            await it.cases.differences(it.dr_okafor, "it", one, other)


async def test_a_deletion_has_no_fields_to_differ(it: Chapter) -> None:
    first = await it.begin()
    await it.cases.delete(it.dr_okafor, "it", saw(first))
    taken = await it.cases.differences(it.dr_okafor, "it", 1, 2)
    given = await it.cases.differences(it.dr_okafor, "it", 2, 1)
    assert {found.field: found.before for found in taken} == first.fields()
    assert {found.field: found.after for found in given} == first.fields()
    assert {found.after for found in taken} == {found.before for found in given} == {None}
