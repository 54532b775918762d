"""Edits that come late, twice, or out of order: what one device did is never taken for somebody else's."""

from dataclasses import replace

import pytest

from heallog.domain.canon import decode
from heallog.domain.conflicts import Kind, Severity, State, document
from heallog.domain.errors import (
    AlreadyExists,
    DomainError,
    InvalidFields,
    RecordSigned,
    StaleVersion,
    VersionConflict,
    WrongState,
)
from heallog.domain.versions import Change, Seen

from .story import (
    IBUPROFEN,
    SO,
    VISIT,
    Story,
    a_deletion_too_late,
    asked,
    change,
    held_back,
    twins,
    two_doses,
    two_phones,
)
from .world import saw

MODIFICATION, MERGE, AMENDMENT = Change.MODIFICATION, Change.MERGE, Change.AMENDMENT


# -- while a conflict is open -------------------------------------------------------------------------------------


async def test_a_third_device_joins_the_conflict(story: Story) -> None:
    conflict = await two_doses(story)
    context = await held_back(story.change(story.amara, 1, dose=12, tags=["new"]))
    both = await story.conflict()
    assert (both.id, both.branches, both.head_version) == (conflict.id, (3, 4), 5)
    assert [(one.mine, one.branch, one.author_id) for one in both.disputed] == [(15, 3, "dr_lee"), (12, 4, "amara")]
    assert context["conflict"] == document(both)
    with pytest.raises(InvalidFields) as refused:
        await story.resolve(story.grace, 5, dose={"take": "mine"})
    assert [error.field for error in refused.value.errors] == ["choices.dose.branch_version"]
    _, head = await story.resolve(story.grace, 5, dose={"take": "mine", "branch_version": 4})
    assert head.merged_from == (3, 4, 5)
    assert (head.fields()["dose"], head.fields()["tags"]) == (12, ["new"])


async def test_a_fresh_edit_goes_on_under_an_open_conflict(story: Story) -> None:
    """Whoever saw the head changes it; what is disputed is disputed with the new head."""
    conflict = await two_doses(story)
    head = await story.change(story.amara, 2, dose=25)
    assert (head.version, head.conflict_id) == (4, conflict.id)
    followed = await story.conflict()
    assert asked(followed) == [("dose", 10, 25, 15)]
    assert (followed.head_version, followed.updated_at) == (4, story.world.clock.now)


async def test_a_late_edit_of_something_else_is_merged_under_an_open_conflict(story: Story) -> None:
    conflict = await two_doses(story)
    head = await story.change(story.amara, 1, title="Advil")
    assert (head.version, head.merged_from, head.conflict_id) == (5, (2, 4), conflict.id)
    assert head.fields() == change(IBUPROFEN, title="Advil", dose=20, status="draft")
    followed = await story.conflict()
    assert (asked(followed), followed.branches, followed.head_version) == (asked(conflict), (3,), 5)


async def test_a_unit_that_moves_on_makes_the_held_back_dose_a_dispute_about_both(story: Story) -> None:
    await two_doses(story)
    await story.change(story.amara, 2, dose_unit="g")
    assert asked(await story.conflict()) == [("dose", 10, 20, 15), ("dose_unit", "mg", "g", "mg")]
    with pytest.raises(InvalidFields):
        await story.resolve(story.grace, 4, dose={"take": "mine"}, dose_unit={"take": "theirs"})
    _, head = await story.resolve(story.grace, 4, dose={"take": "mine"}, dose_unit={"take": "mine"})
    assert (head.fields()["dose"], head.fields()["dose_unit"]) == (15, "mg")


async def test_where_the_head_comes_to_agree_nothing_is_left_to_decide(story: Story) -> None:
    await two_doses(story)
    head = await story.change(story.amara, 2, dose=15)
    conflict = await story.conflict()
    assert (conflict.state, conflict.resolution, head.conflict_id) == (State.SUPERSEDED, None, None)
    with pytest.raises(VersionConflict, match="superseded already"):
        await story.resolve(story.grace, 4, dose={"take": "mine"})
    signed = await story.sign(story.dr_okafor, 4)
    assert signed.fields()["dose"] == 15


async def test_after_the_end_of_one_the_next_conflict_is_another_one(story: Story) -> None:
    first = await two_doses(story)
    _, head = await story.resolve(story.grace, 2, dose={"take": "mine"})
    await story.change(story.dr_okafor, head.version, title="Advil")
    await held_back(story.change(story.amara, head.version, title="Nurofen"))
    states = {conflict.id: conflict.state for conflict in await story.conflicts()}
    assert len(states) == 2
    assert states.pop(first.id) is State.RESOLVED
    assert list(states.values()) == [State.OPEN]


async def test_what_is_held_back_is_decided_before_it_is_signed_or_deleted(story: Story) -> None:
    conflict = await two_doses(story)
    head = await story.head()
    for attempt in (story.sign(story.dr_okafor, 2), story.delete(story.dr_okafor, 2)):
        with pytest.raises(WrongState) as refused:
            await attempt
        assert refused.value.context == {"version": 2, "conflict_id": conflict.id}
    assert await story.head() == head
    _, head = await story.resolve(story.grace, 2, dose={"take": "mine"})
    assert (await story.sign(story.dr_okafor, head.version)).fields()["dose"] == 15


async def test_a_deletion_that_is_held_back_forbids_neither(story: Story) -> None:
    """To delete it after all is to agree."""
    await a_deletion_too_late(story)
    signed = await story.sign(story.dr_okafor, 2)
    assert (await story.conflict()).state is State.OPEN
    gone = await story.delete(story.dr_okafor, signed.version)
    assert (gone.deleted, gone.conflict_id, (await story.conflict()).state) == (True, None, State.SUPERSEDED)


async def test_what_is_only_for_review_forbids_neither(story: Story) -> None:
    await two_phones(story)
    gone = await story.delete(story.dr_okafor, 4)
    assert (gone.deleted, gone.conflict_id, (await story.conflict()).state) == (True, None, State.SUPERSEDED)
    back = await story.world.patients.restore(story.dr_okafor, "it", saw(gone))
    assert (back.fields()["phone"], back.conflict_id) == ("3", None)


async def test_a_strict_caller_gets_the_head_or_nothing(story: Story) -> None:
    conflict = await two_doses(story)
    with pytest.raises(StaleVersion) as refused:
        await story.world.records.change(story.amara, "it", {"tags": ["new"]}, Seen(1, strict=True))
    assert refused.value.context == {"version": 2}
    assert (await story.conflict(), len(await story.versions())) == (conflict, 3)


async def test_what_cannot_be_merged_has_seen_the_head(story: Story) -> None:
    """Signing, marking as an error and reverting are about one state of things."""
    await story.begin()
    head = await story.change(story.dr_okafor, 1, dose=20)
    for attempt in (
        story.sign(story.dr_lee, 1),
        story.retract(story.dr_lee, 1),
        story.world.records.revert(story.dr_lee, "it", Seen(1), 1, SO),
    ):
        with pytest.raises(VersionConflict) as refused:
            await attempt
        assert type(refused.value) is VersionConflict
    assert (await story.head(), await story.conflicts()) == (head, [])


# -- one device, many edits ---------------------------------------------------------------------------------------


async def test_a_lost_answer_and_the_same_request_again(story: Story) -> None:
    """It had been merged: the repeat finds itself in the head and answers with it."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    merged = await story.change(story.dr_lee, 1, tags=["new"])
    again = await story.change(story.dr_lee, 1, tags=["new"])
    assert again == merged
    assert len(await story.versions()) == 4


async def test_a_repeat_after_someone_else_went_on_takes_nothing_back(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_lee, 1, tags=["new"])
    head = await story.change(story.dr_okafor, 2, tags=[])
    assert await story.change(story.dr_lee, 1, tags=["new"]) == head
    assert (await story.conflicts(), len(await story.versions())) == ([], 3)


async def test_a_second_edit_before_the_first_answer(story: Story) -> None:
    """Both name the version that the device knew: the second goes on from the first, on the branch or in the head."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await story.change(story.dr_lee, 1, title="Advil")
    head = await story.change(story.dr_lee, 1, title="Nurofen", tags=["new"])
    assert head.fields() == change(IBUPROFEN, dose=20, title="Nurofen", tags=["new"], status="draft")
    assert await story.conflicts() == []
    last, branch_ = (await story.versions())[:3:-1]
    assert (branch_.number, branch_.parent, branch_.branch) == (5, 1, True)
    assert (last.number, last.inputs) == (6, (4, 5))
    await story.proves_itself()


async def test_a_second_edit_of_what_was_held_back_replaces_it(story: Story) -> None:
    conflict = await two_doses(story)
    await held_back(story.change(story.dr_lee, 1, dose=16))
    newer = await story.conflict()
    assert [(one.theirs, one.mine, one.branch) for one in newer.disputed] == [(20, 16, 4)]
    assert (newer.id, newer.branches) == (conflict.id, (3, 4))
    _, head = await story.resolve(story.grace, 2, dose={"take": "mine"})
    assert (head.fields()["dose"], head.merged_from) == (16, (2, 3, 4))


async def test_a_device_that_comes_to_agree_with_the_head_has_nothing_held_back_any_more(story: Story) -> None:
    await two_doses(story)
    head = await story.change(story.dr_lee, 1, dose=20)
    assert (head.fields()["dose"], head.conflict_id) == (20, None)
    assert (await story.conflict()).state is State.SUPERSEDED


async def test_a_second_edit_beside_what_was_held_back_is_merged(story: Story) -> None:
    """The held back dose is the device's own: it neither clashes again nor slips into the head."""
    conflict = await two_doses(story)
    head = await story.change(story.dr_lee, 1, tags=["new"])
    assert head.fields() == change(IBUPROFEN, dose=20, tags=["new"], status="draft")
    assert (head.merged_from, head.conflict_id) == ((2, 4), conflict.id)
    assert asked(await story.conflict()) == [("dose", 10, 20, 15)]


async def test_an_edit_and_its_own_reversal_leave_the_other_one_alone(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await story.change(story.dr_lee, 1, title="Advil")
    head = await story.change(story.dr_lee, 1, title="Ibuprofen")
    assert head.fields() == change(IBUPROFEN, dose=20, status="draft")
    assert await story.conflicts() == []


async def test_a_device_that_saw_the_head_and_insists_has_decided(story: Story) -> None:
    await two_doses(story)
    head = await story.change(story.dr_lee, 2, dose=15)
    assert (head.version, head.fields()["dose"], head.conflict_id) == (4, 15, None)
    assert (await story.conflict()).state is State.SUPERSEDED


async def test_two_devices_that_enter_the_same_agree(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    head = await story.change(story.dr_lee, 1, dose=20)
    assert (head.version, head.last, head.fields()["dose"]) == (2, 3, 20)
    assert await story.conflicts() == []
    kept = (await story.versions())[-1]
    assert (kept.branch, kept.author_id) == (True, "dr_lee")  # who entered it is not lost
    assert story.world.trail[-1].outcome == "done"


async def test_after_the_servers_merge_a_device_does_not_take_back_what_others_added(story: Story) -> None:
    """dr_lee's tablet never saw the merge: its list of tags lacks dr_okafor's, and still takes none away."""
    await story.begin({"family_name": "Smith", "tags": ["a"]})
    await story.change(story.dr_okafor, 1, tags=["a", "b"])
    merged = await story.change(story.dr_lee, 1, tags=["a", "c"])
    assert set(merged.fields()["tags"]) == {"a", "b", "c"}
    head = await story.change(story.dr_lee, 1, tags=["a", "c", "d"])
    assert set(head.fields()["tags"]) == {"a", "b", "c", "d"}
    less = await story.change(story.dr_lee, 1, tags=["c", "d"])
    assert set(less.fields()["tags"]) == {"b", "c", "d"}
    assert await story.conflicts() == []


async def test_a_counter_counts_what_each_took_and_each_of_it_once(story: Story) -> None:
    await story.begin(IBUPROFEN | {"remaining": 30})
    await story.change(story.dr_okafor, 1, remaining=28)
    assert (await story.change(story.dr_lee, 1, remaining=29)).fields()["remaining"] == 27
    assert (await story.change(story.dr_lee, 1, remaining=29)).fields()["remaining"] == 27
    assert (await story.change(story.dr_lee, 1, remaining=25)).fields()["remaining"] == 23


async def test_two_people_at_one_device_are_one_after_the_other(story: Story) -> None:
    """What a device sends comes in its order, whoever held it: the second saw what the first had done."""
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    head = await story.change(story.world.amara, 1, dose=15)
    assert (head.version, head.fields()["dose"], await story.conflicts()) == (3, 15, [])


async def test_an_edit_may_start_from_a_branch(story: Story) -> None:
    """Whoever read what was held back and goes on from there says so."""
    await two_doses(story)
    head = await story.change(story.amara, 3, tags=["new"])
    assert head.fields() == change(IBUPROFEN, dose=20, tags=["new"], status="draft")
    kept = (await story.versions())[3]
    assert (kept.parent, kept.branch, decode(kept.content or b"")["dose"]) == (3, True, 15)


async def test_a_late_edit_that_breaks_a_rule_of_its_own_is_refused_and_not_kept(story: Story) -> None:
    await story.begin(VISIT)
    await story.change(story.dr_okafor, 1, title="Round")
    with pytest.raises(InvalidFields):
        await story.change(story.dr_lee, 1, ended_at="2026-01")
    assert (await story.conflicts(), len(await story.versions())) == ([], 2)


async def test_a_late_change_of_what_was_signed_when_it_was_seen_is_no_proposal(story: Story) -> None:
    await story.begin()
    await story.sign(story.dr_okafor, 1)
    await story.amend(story.dr_okafor, 2, dose=20)
    with pytest.raises(RecordSigned):
        await story.change(story.dr_lee, 2, dose=15)
    with pytest.raises(WrongState):
        await story.amend(story.dr_lee, 1, dose=15)
    assert (await story.conflicts(), len(await story.versions())) == ([], 3)


async def test_a_late_edit_that_says_what_was_signed_is_no_proposal(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, title="Advil")
    signed = await story.sign(story.dr_okafor, 2)
    head = await story.change(story.dr_lee, 1, title="Advil")
    assert (head.version, head.content, head.last) == (3, signed.content, 4)
    assert (await story.conflicts(), story.world.trail[-1].outcome) == ([], "done")


async def test_amendments_that_do_not_clash_are_merged_and_stay_amended(story: Story) -> None:
    await story.begin()
    await story.sign(story.dr_okafor, 1)
    await story.amend(story.dr_okafor, 2, dose=20)
    head = await story.amend(story.dr_lee, 2, title="Advil")
    fields = head.fields()
    assert (fields["dose"], fields["title"], fields["status"], fields["signed_by"]) == (
        20,
        "Advil",
        "amended",
        "dr_okafor",
    )
    branch_, merged = (await story.versions())[-2:]
    assert (branch_.change, branch_.branch, merged.change, merged.inputs) == (AMENDMENT, True, MERGE, (3, 4))
    assert branch_.reason == merged.reason == "Asked the patient."


# -- deletions ----------------------------------------------------------------------------------------------------


async def test_an_edit_that_clashes_with_what_was_deleted_is_held_back_and_the_rest_survives(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_okafor, 1, dose=20)
    await story.delete(story.dr_okafor, 2)
    context = await held_back(story.change(story.dr_lee, 1, dose=15, tags=["new"]))
    head, conflict = await story.head(), await story.conflict()
    assert head.fields() == change(IBUPROFEN, dose=20, tags=["new"], status="draft")
    assert asked(conflict) == [("dose", 10, 20, 15), ("deleted", False, False, True)]
    assert (conflict.kind, conflict.severity, conflict.branches) == (Kind.DELETE_EDIT, Severity.SAFETY, (3, 4))
    assert context["conflict"] == document(conflict)
    _, gone = await story.resolve(story.grace, 5, dose={"take": "mine"}, deleted={"take": "mine"})
    assert (gone.deleted, gone.merged_from) == (True, (3, 4, 5))


async def test_a_deletion_that_was_decided_against_may_be_asked_for_anew(story: Story) -> None:
    await a_deletion_too_late(story)
    await story.resolve(story.grace, 2, deleted={"take": "theirs"})
    await held_back(story.delete(story.dr_lee, 1))
    states = [conflict.state for conflict in await story.conflicts()]
    assert sorted(states) == [State.OPEN, State.RESOLVED]
    assert (await story.delete(story.dr_lee, 4)).deleted


async def test_two_held_back_deletions_are_one_question(story: Story) -> None:
    await a_deletion_too_late(story)
    await held_back(story.delete(replace(story.grace, device_id="phone-9"), 1))
    conflict = await story.conflict()
    assert [(one.field, one.branch) for one in conflict.disputed] == [("deleted", 3), ("deleted", 4)]
    _, gone = await story.resolve(story.grace, 2, deleted={"take": "mine"})
    assert (gone.deleted, gone.merged_from) == (True, (2, 3, 4))


async def test_an_edit_of_what_was_deleted_and_restored_is_merged(story: Story) -> None:
    await story.begin()
    gone = await story.delete(story.dr_okafor, 1)
    await story.world.records.restore(story.dr_okafor, "it", saw(gone))
    head = await story.change(story.dr_lee, 1, tags=["new"])
    assert head.fields() == change(IBUPROFEN, tags=["new"], status="draft")
    assert await story.conflicts() == []


# -- creations ----------------------------------------------------------------------------------------------------


async def test_a_creation_retried_with_other_content_by_the_same_device_is_its_edit(story: Story) -> None:
    """The answer was lost, and the draft went on changing on the device."""
    await story.begin()
    head = await story.create(story.dr_okafor, change(IBUPROFEN, dose=20))
    assert (head.version, head.fields()) == (2, change(IBUPROFEN, dose=20, status="draft"))
    version = (await story.versions())[-1]
    assert (version.change, version.parent, version.branch) == (MODIFICATION, 1, False)
    assert await story.conflicts() == []


async def test_a_creation_retried_with_other_content_is_merged_with_what_others_did_since(story: Story) -> None:
    await story.begin()
    await story.change(story.dr_lee, 1, title="Advil", tags=["new"])
    head = await story.create(story.dr_okafor, change(IBUPROFEN, dose=20))
    assert head.fields() == change(IBUPROFEN, title="Advil", tags=["new"], dose=20, status="draft")
    assert (head.merged_from, await story.conflicts()) == ((2, 3), [])


async def test_a_creation_retried_with_other_content_after_the_signature_is_a_proposal(story: Story) -> None:
    await story.begin()
    signed = await story.sign(story.dr_okafor, 1)
    await held_back(story.create(story.dr_okafor, change(IBUPROFEN, dose=20)))
    assert (await story.head()).content == signed.content
    conflict = await story.conflict()
    assert (conflict.kind, asked(conflict)) == (Kind.SIGNED, [("dose", 10, 10, 20)])


@pytest.mark.parametrize("then", ["amended", "entered_in_error"])
async def test_a_creation_retried_with_other_content_never_opens_what_was_closed_here(story: Story, then: str) -> None:
    """The signature, the amendment and the mark as an error came from the very device that creates again."""
    await story.begin()
    if then == "amended":
        await story.sign(story.dr_okafor, 1)
        closed = await story.amend(story.dr_okafor, 2, title="Advil")
    else:
        closed = await story.retract(story.dr_okafor, 1)
    with pytest.raises(DomainError):
        await story.create(story.dr_okafor, change(IBUPROFEN, dose=20))
    head = await story.head()
    assert (head.version, head.content) == (closed.version, closed.content)


async def test_a_twin_with_other_content_replaces_the_first_twin(story: Story) -> None:
    await twins(story)
    await held_back(story.create(story.dr_lee, change(IBUPROFEN, dose=16, tags=["other"])))
    conflict = await story.conflict()
    assert [(one.field, one.mine, one.branch) for one in conflict.disputed] == [("dose", 16, 3), ("tags", ["other"], 3)]
    assert (conflict.branches, await story.head()) == ((2, 3), replace(await story.head(), version=1))


async def test_what_a_second_twin_leaves_out_is_not_asked_any_more(story: Story) -> None:
    await twins(story)
    await held_back(story.create(story.dr_lee, change(IBUPROFEN, dose=16)))
    assert asked(await story.conflict()) == [("dose", None, 10, 16)]


async def test_an_edit_of_a_twin_keeps_what_else_of_it_is_disputed(story: Story) -> None:
    """dr_lee read version 2, the twin, and changes its dose; its tag is still not decided about."""
    await twins(story)
    await held_back(story.change(story.dr_lee, 2, dose=16))
    assert [(one.field, one.mine) for one in (await story.conflict()).disputed] == [("tags", ["new"]), ("dose", 16)]


async def test_three_twins_are_all_kept(story: Story) -> None:
    await twins(story)
    await held_back(story.create(story.amara, change(IBUPROFEN, dose=12)))
    conflict = await story.conflict()
    assert [(one.mine, one.branch) for one in conflict.disputed if one.field == "dose"] == [(15, 2), (12, 3)]


async def test_a_twin_of_something_else_altogether_is_refused_and_not_kept(story: Story) -> None:
    await story.begin()
    with pytest.raises(AlreadyExists):
        await story.create(story.dr_lee, {"kind": "note", "text": "Feels well."})
    assert (await story.conflicts(), len(await story.versions())) == ([], 1)
