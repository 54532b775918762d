"""Conflicts: what cannot be merged silently, from the late edit that makes one to the decision that ends it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heallog.domain import conflicts, patients, records
from heallog.domain.access import Actor, Role
from heallog.domain.canon import canonical, moment
from heallog.domain.conflicts import (
    DELETED,
    Conflict,
    Dispute,
    Edit,
    Kind,
    Origin,
    Reconciled,
    Resolution,
    Severity,
    State,
    document,
    followed,
    joined,
    opened,
    reconcile,
    touched,
)
from heallog.domain.decisions import as_changes, decided
from heallog.domain.errors import HeldBack, InvalidFields, VersionConflict
from heallog.domain.policies import tightened
from heallog.domain.versions import Change, Collection, Contribution, Head, advance, branch, unborn

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

LEE = Origin(3, "dr_lee", "laptop-2", NOON)
AMARA = Origin(4, "amara", "phone-4", NOON + MINUTE)
OKAFOR = Origin(2, "dr_okafor", "", NOON)
"""Of a head, so no device is known."""

IBUPROFEN = {"kind": "medication", "status": "draft", "title": "Ibuprofen", "dose": 10, "dose_unit": "mg"}
VISIT = {"kind": "encounter", "status": "draft", "title": "Visit", "occurred_at": "2026-03", "ended_at": "2026-06"}


def pressure(systolic: int | None, diastolic: int | None, **more: Any) -> dict[str, Any]:
    both = {"systolic": systolic, "diastolic": diastolic}
    values = {name: {"value": value, "unit": "mmHg"} for name, value in both.items() if value is not None}
    return {"kind": "observation", "status": "draft", "values": {**values, **more}}


def change(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


def late(
    base: dict[str, Any], theirs: dict[str, Any], mine: dict[str, Any], by: Origin = LEE, **how: Any
) -> Reconciled:
    policies = records.mergeable(base["kind"]) if "kind" in base else patients.MERGEABLE
    return reconcile(theirs, Edit(base, base, mine, **how), policies, by, OKAFOR)


def head_with(content: dict[str, Any] | None, version: int = 2) -> Head:
    raw = None if content is None else canonical(content)
    head = unborn("northside", Collection.RECORDS, "it", "alice", NOON)
    return replace(head, version=version, last=version, content=raw)


def about(head: dict[str, Any] | None, *disputes: Dispute, base_version: int = 1) -> Conflict:
    """An open conflict about a thing whose head says this."""
    return opened("conflict-1", head_with(head), base_version, disputes, NOON)


def told(disputes: Any) -> list[tuple[str, Any, Any, Any]]:
    return [(dispute.field, dispute.base, dispute.theirs, dispute.mine) for dispute in disputes]


# -- an edit that comes late --------------------------------------------------------------------------------------


def test_two_doses_are_one_conflict_about_the_dosage() -> None:
    found = late(IBUPROFEN, change(IBUPROFEN, dose=20), change(IBUPROFEN, dose=15, tags=["new"]))
    assert found.content == change(IBUPROFEN, dose=20, tags=["new"])
    assert found.took == ("tags",)
    dose, *companions = found.disputes
    assert dose == Dispute(
        field="dose",
        kind=Kind.GROUP,
        severity=Severity.SAFETY,
        policy="atomic_group",
        group="dosage",
        base=10,
        theirs=20,
        mine=15,
        proposal=None,
        branch=3,
        author_id="dr_lee",
        device_id="laptop-2",
        at=NOON,
    )
    nothing = {"base": None, "theirs": None, "mine": None}
    assert companions == [
        replace(dose, field="as_needed", **nothing),
        replace(dose, field="dose_unit", base="mg", theirs="mg", mine="mg"),
        replace(dose, field="frequency", **nothing),
        replace(dose, field="route", **nothing),
    ]
    assert [one.settled for one in found.disputes] == [False, True, True, True, True]


BEFORE = {"birth_date": "1960-01-01", "family_name": "Smith", "phone": "1", "marital_status": "single"}
CLASHES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], Kind, Severity, list[tuple[Any, ...]]]] = {
    "a field": (
        IBUPROFEN,
        {"title": "Advil"},
        {"title": "Nurofen"},
        Kind.FIELD,
        Severity.HARD,
        [("title", "Ibuprofen", "Advil", "Nurofen")],
    ),
    "a field in which a wrong value could hurt": (
        IBUPROFEN,
        {"instructions": "With food"},
        {"instructions": "At night"},
        Kind.FIELD,
        Severity.SAFETY,
        [("instructions", None, "With food", "At night")],
    ),
    "a patient's birth date": (
        BEFORE,
        {"birth_date": "1961-01-01"},
        {"birth_date": None},
        Kind.FIELD,
        Severity.SAFETY,
        [("birth_date", "1960-01-01", "1961-01-01", None)],
    ),
    "the dose against its unit": (
        IBUPROFEN,
        {"dose": 20},
        {"dose_unit": "g"},
        Kind.GROUP,
        Severity.SAFETY,
        [("dose", 10, 20, 10), ("dose_unit", "mg", "mg", "g")],
    ),
    "a death": (
        BEFORE,
        {"deceased": True},
        {"deceased": False},
        Kind.GROUP,
        Severity.SAFETY,
        [("deceased", None, True, False)],
    ),
    "a code": (
        IBUPROFEN,
        {"code": {"code": "1"}},
        {"code": {"code": "2"}},
        Kind.GROUP,
        Severity.HARD,
        [("code", None, {"code": "1"}, {"code": "2"})],
    ),
    "an end before its start": (
        VISIT,
        {"occurred_at": "2026-05"},
        {"ended_at": "2026-04"},
        Kind.INVARIANT,
        Severity.HARD,
        [("ended_at", "2026-06", "2026-06", "2026-04"), ("occurred_at", "2026-03", "2026-05", "2026-03")],
    ),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_the_head_keeps_what_came_first_and_the_other_is_kept_beside_it(clash: str) -> None:
    base, theirs, mine, kind, severity, expected = CLASHES[clash]
    head = change(base, **theirs)
    found = late(base, head, change(base, **mine))
    assert (found.content, found.took) == (head, ())
    assert told(about(head, *found.disputes).disputed) == expected
    assert {(dispute.kind, dispute.severity) for dispute in found.disputes} == {(kind, severity)}
    assert {(dispute.branch, dispute.author_id, dispute.device_id) for dispute in found.disputes} == {
        (3, "dr_lee", "laptop-2")
    }
    conflict = about(head, *found.disputes)
    assert (conflict.kind, conflict.severity, conflict.held) == (kind, severity, conflict.disputed)


def test_a_blood_pressure_is_one_value() -> None:
    base = pressure(120, 80, pulse={"value": 60})
    theirs = pressure(130, 80, pulse={"value": 60})
    found = late(base, theirs, pressure(120, 85, pulse={"value": 64}))
    assert found.content == pressure(130, 80, pulse={"value": 64})
    assert found.took == ("values.pulse",)
    assert [(one.field, one.group, one.kind, one.severity) for one in found.disputes] == [
        (f"values.{name}", "blood_pressure", Kind.GROUP, Severity.SAFETY) for name in ("diastolic", "systolic")
    ]


DOSAGE = {"as_needed", "dose", "dose_unit", "frequency", "route"}


def test_a_companion_of_a_group_never_belongs_to_another_one() -> None:
    """Neither a second group's fields nor what merges alone come along."""
    base = change(IBUPROFEN, code={"code": "1"}, remaining=9)
    theirs, mine = change(base, dose=20), change(base, dose=15)
    assert {one.field for one in late(base, theirs, mine).disputes} == DOSAGE
    theirs, mine = change(base, code={"code": "2"}), change(base, code={"code": "3"})
    assert [one.field for one in late(base, theirs, mine).disputes] == ["code"]


def test_what_one_side_alone_says_of_a_group_comes_along() -> None:
    theirs, mine = change(IBUPROFEN, dose=20, route="oral"), change(IBUPROFEN, dose=15, frequency="daily")
    found = late(IBUPROFEN, theirs, mine).disputes
    assert told(about(theirs, *found).disputed) == [
        ("dose", 10, 20, 15),
        ("frequency", None, None, "daily"),
        ("route", None, "oral", None),
    ]
    assert {one.field for one in found} == DOSAGE


def test_a_later_phone_stands_and_the_one_it_overwrote_is_shown_for_review() -> None:
    found = late(BEFORE, change(BEFORE, phone="2"), change(BEFORE, phone="3"))
    assert (found.content["phone"], found.took) == ("3", ("phone",))
    [review] = found.disputes
    assert (review.kind, review.severity, review.policy) == (Kind.FIELD, Severity.SOFT, "lww")
    assert (review.base, review.theirs, review.mine, review.proposal) == ("1", "3", "2", "3")
    assert (review.branch, review.author_id, review.device_id) == (2, "dr_okafor", "")
    conflict = about(found.content, review)
    assert (conflict.severity, conflict.held, conflict.branches) == (Severity.SOFT, (), (2,))


def test_words_merged_within_one_line_are_shown_for_review() -> None:
    base = change(VISIT, text="Alice feels well today and eats enough.")
    theirs = change(base, text="Alice feels ill today and eats enough.")
    mine = change(base, text="Alice feels well today and eats nothing.")
    found = late(base, theirs, mine)
    both = "Alice feels ill today and eats nothing."
    assert found.content["text"] == both
    [review] = found.disputes
    assert (review.severity, review.policy, review.branch) == (Severity.SOFT, "text", 3)
    assert (review.theirs, review.mine) == (both, mine["text"])


def test_what_overlaps_in_a_text_is_held_back_with_both_passages_to_choose_from() -> None:
    base, theirs, mine = (change(VISIT, text=text) for text in ("well", "very ill", "quite tired"))
    [dispute] = late(base, theirs, mine).disputes
    assert (dispute.kind, dispute.severity, dispute.theirs, dispute.mine) == (
        *(Kind.FIELD, Severity.HARD),
        *("very ill", "quite tired"),
    )
    assert "very ill" in dispute.proposal
    assert "quite tired" in dispute.proposal


def test_an_edit_of_what_was_signed_meanwhile_is_proposed_field_by_field() -> None:
    signed = change(IBUPROFEN, status="signed", signed_by="dr_okafor", title="Ibuprofen 10")
    mine = change(IBUPROFEN, dose=15, title="Ibuprofen 10", tags=["new"], dose_unit=None)
    found = late(IBUPROFEN, signed, mine, locked=True)
    assert (found.content, found.took) == (signed, ())
    assert told(about(signed, *found.disputes).disputed) == [
        ("dose", 10, 10, 15),
        ("dose_unit", "mg", "mg", None),
        ("tags", None, None, ["new"]),
    ]
    assert {(one.kind, one.policy) for one in found.disputes} == {(Kind.SIGNED, "immutable")}
    assert {one.field: (one.severity, one.proposal) for one in found.disputes if not one.settled} == {
        "dose": (Severity.SAFETY, 15),
        "dose_unit": (Severity.SAFETY, None),
        "tags": (Severity.HARD, ["new"]),
    }


def test_a_held_back_deletion_is_about_whether_it_is_deleted() -> None:
    dispute = conflicts.deletion(LEE)
    assert (dispute.field, dispute.base, dispute.theirs, dispute.mine) == (DELETED, False, False, True)
    assert (dispute.kind, dispute.severity, dispute.branch) == (Kind.DELETE_EDIT, Severity.HARD, 3)


def test_two_creations_are_compared_field_by_field_and_nothing_of_either_is_left_out() -> None:
    one = change(pressure(120, 80), title="Morning")
    other = change(pressure(120, 85, pulse={"value": 60}), tags=["home"])
    found = conflicts.twins(one, other, records.mergeable("observation").rules, LEE)
    assert told(about(one, *found).disputed) == [
        ("tags", None, None, ["home"]),
        ("title", None, "Morning", None),
        *((f"values.{name}", None, one["values"].get(name), other["values"][name]) for name in ("diastolic", "pulse")),
    ]
    assert {(dispute.kind, dispute.branch) for dispute in found} == {(Kind.CREATE_CREATE, 3)}
    graver = {dispute.field for dispute in found if dispute.severity is Severity.SAFETY and not dispute.settled}
    assert graver == {"values.diastolic", "values.pulse"}


def test_an_origin_is_a_version_with_its_device_or_a_head_without() -> None:
    at = NOON + MINUTE
    actor = Actor("dr_lee", "northside", Role.CLINICIAN, "session-1", "laptop-2")
    head = unborn("northside", Collection.RECORDS, "it", "alice", NOON)
    head, version = advance(head, IBUPROFEN, Change.CREATION, Contribution("c-1", actor, at))
    assert Origin.of(version) == Origin(1, "dr_lee", "laptop-2", at)
    assert Origin.of(head) == Origin(1, "dr_lee", "", at)
    beside, kept = branch(
        head, 1, IBUPROFEN, Change.MODIFICATION, Contribution("c-2", replace(actor, device_id="x"), at)
    )
    assert Origin.of(kept) == Origin(2, "dr_lee", "x", at)
    assert Origin.of(beside).number == 1


# -- a conflict's life --------------------------------------------------------------------------------------------


def dosage(theirs: dict[str, Any], mine: dict[str, Any], by: Origin = LEE) -> tuple[Dispute, ...]:
    return late(IBUPROFEN, change(IBUPROFEN, **theirs), change(IBUPROFEN, **mine), by).disputes


TWENTY = change(IBUPROFEN, dose=20)


def test_a_conflict_opens_with_everything_that_a_person_needs() -> None:
    disputes = (*dosage({"dose": 20}, {"dose": 15}, AMARA), conflicts.deletion(LEE))
    conflict = opened("conflict-1", head_with(TWENTY, 2), 1, disputes, NOON)
    assert conflict == Conflict(
        practice_id="northside",
        id="conflict-1",
        collection=Collection.RECORDS,
        thing_id="it",
        patient_id="alice",
        state=State.OPEN,
        base_version=1,
        head_version=2,
        branches=(3, 4),
        disputes=disputes,
        opened_at=NOON,
        updated_at=NOON,
    )
    assert [dispute.field for dispute in conflict.disputed] == ["dose", DELETED]


def test_the_gravest_dispute_names_the_conflict() -> None:
    title = late(IBUPROFEN, change(IBUPROFEN, title="a"), change(IBUPROFEN, title="b")).disputes[0]
    by_gravity = [
        title,
        *dosage({"dose": 20}, {"dose": 15})[:1],
        replace(title, kind=Kind.INVARIANT),
        replace(title, kind=Kind.CREATE_CREATE),
        conflicts.deletion(LEE),
        replace(title, kind=Kind.SIGNED),
    ]
    assert [dispute.kind for dispute in by_gravity] == list(Kind)
    for number in range(len(by_gravity)):
        found = about(TWENTY, *reversed(by_gravity[: number + 1]))
        assert found.kind is by_gravity[number].kind
    soft = replace(title, severity=Severity.SOFT)
    assert [about(TWENTY, *these).severity for these in ((soft,), (soft, title), (by_gravity[1], title, soft))] == [
        *(Severity.SOFT, Severity.HARD, Severity.SAFETY)
    ]
    assert about(TWENTY, soft, title).held == (title,)


def test_what_is_settled_is_neither_shown_nor_named() -> None:
    """The unit is kept because it is one value with the dose; it is not asked for."""
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}))
    assert {dispute.field for dispute in conflict.disputes} == DOSAGE
    assert [dispute.field for dispute in conflict.disputed] == ["dose"]
    assert [shown["field"] for shown in document(conflict)["fields"]] == ["dose"]


def test_another_device_joins_and_takes_nothing_away() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}), base_version=2)
    both = joined(conflict, 1, dosage({"dose": 20}, {"dose": 12}, AMARA), "phone-4", ("dose",))
    assert [(one.field, one.mine, one.branch) for one in both.disputed] == [("dose", 15, 3), ("dose", 12, 4)]
    assert (both.base_version, both.branches, both.state) == (1, (3, 4), State.OPEN)
    assert joined(both, 5, (), "tablet-9", ("dose",)) == both


def test_a_devices_newer_value_takes_the_place_of_its_older_one() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}), *dosage({"dose": 20}, {"dose": 12}, AMARA))
    found = dosage({"dose": 20}, {"dose": 16, "route": "oral"}, replace(LEE, number=5))
    newer = joined(conflict, 1, found, "laptop-2", ("dose", "route"))
    assert [(one.field, one.mine, one.branch) for one in newer.disputed] == [
        *(("dose", 12, 4), ("dose", 16, 5), ("route", "oral", 5))
    ]
    assert newer.branches == (3, 4, 5)  # the older one is still what the resolution is made from


def test_a_device_that_says_something_else_keeps_what_it_said_before() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}))
    title = late(IBUPROFEN, change(IBUPROFEN, title="a"), change(IBUPROFEN, title="b"), replace(LEE, number=5))
    both = joined(conflict, 1, title.disputes, "laptop-2", ("title",))
    assert [one.field for one in both.disputed] == ["dose", "title"]
    assert joined(conflict, 1, (), "laptop-2", ("tags", "title")).disputes == conflict.disputes


def test_a_device_takes_back_what_it_said_of_a_field_or_of_a_group() -> None:
    """It says the head's value now: nothing new is disputed, and the old is no dispute any more."""
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}), *dosage({"dose": 20}, {"dose": 12}, AMARA))
    left = joined(conflict, 1, (), "laptop-2", ("dose",))
    assert [(one.mine, one.branch) for one in left.disputed] == [(12, 4)]
    assert (left.state, left.branches) == (State.OPEN, (3, 4))
    assert joined(conflict, 1, (), "laptop-2", ("route",)).disputes == left.disputes  # of one value with the dose
    over = joined(left, 1, (), "phone-4", ("dose",))
    assert (over.state, over.disputes) == (State.SUPERSEDED, left.disputes)
    assert followed(over, head_with(TWENTY, 4), NOON + MINUTE) == replace(
        over, head_version=4, updated_at=NOON + MINUTE
    )


def test_a_device_takes_a_measured_value_back() -> None:
    head = pressure(130, 80)
    conflict = about(head, *late(pressure(120, 80), head, pressure(125, 80)).disputes)
    said = touched(conflict, pressure(125, 80), pressure(130, 80))
    assert joined(conflict, 1, (), "laptop-2", said).state is State.SUPERSEDED


def test_a_device_that_says_another_measured_value_keeps_what_it_said_before() -> None:
    before, head, pulse = pressure(120, 80), pressure(130, 80), {"pulse": {"value": 72}}
    conflict = about(head, *late(before, head, pressure(125, 80)).disputes)
    said = touched(conflict, pressure(125, 80), pressure(125, 80, **pulse))
    assert said == frozenset()
    assert joined(conflict, 1, (), "laptop-2", said).disputes == conflict.disputes


def test_a_devices_newer_creation_takes_the_place_of_its_older_one() -> None:
    rules = records.mergeable("medication").rules
    older = conflicts.twins(IBUPROFEN, change(IBUPROFEN, dose=15, tags=["new"]), rules, LEE)
    conflict = joined(about(IBUPROFEN, *older), 0, conflicts.twins(IBUPROFEN, change(IBUPROFEN, dose=12), rules, AMARA))
    newer_one = change(IBUPROFEN, dose=16)
    newer = conflicts.twins(IBUPROFEN, newer_one, rules, replace(LEE, number=5))
    found = joined(conflict, 0, newer, "laptop-2", tuple(newer_one))
    assert [(one.field, one.mine, one.branch) for one in found.disputed] == [("dose", 12, 4), ("dose", 16, 5)]


def test_an_overwritten_phone_is_nobodys_to_take_back() -> None:
    """Of a head no device is known: nobody's value takes the place of another's."""
    one = late(BEFORE, change(BEFORE, phone="2"), change(BEFORE, phone="3"))
    other = reconcile(
        one.content,
        Edit(BEFORE, BEFORE, change(BEFORE, phone="4")),
        patients.MERGEABLE,
        AMARA,
        replace(OKAFOR, number=4),
    )
    conflict = joined(about(one.content, *one.disputes), 1, other.disputes, "phone-4", ("phone",))
    conflict = followed(conflict, head_with(dict(other.content), 6), NOON)
    assert [(dispute.theirs, dispute.mine, dispute.branch) for dispute in conflict.disputed] == [
        ("4", "2", 2),
        ("4", "3", 4),
    ]


def test_a_conflict_follows_its_head() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}))
    moved = followed(conflict, head_with(change(IBUPROFEN, dose=25), 4), NOON + MINUTE)
    assert told(moved.disputed) == [("dose", 10, 25, 15)]
    assert (moved.head_version, moved.updated_at, moved.opened_at, moved.state) == (4, NOON + MINUTE, NOON, State.OPEN)
    gone = followed(conflict, head_with(change(IBUPROFEN, dose=None), 4), NOON)
    assert told(gone.disputed) == [("dose", 10, None, 15)]


def test_a_held_back_dose_that_meets_another_unit_is_a_dispute_about_both() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}))
    moved = followed(conflict, head_with(change(TWENTY, dose_unit="g"), 4), NOON)
    assert told(moved.disputed) == [("dose", 10, 20, 15), ("dose_unit", "mg", "g", "mg")]
    assert decided(moved, {"dose": {"take": "mine"}, "dose_unit": {"take": "mine"}}) == {"dose": 15, "dose_unit": "mg"}
    back = followed(moved, head_with(change(IBUPROFEN, dose=15, dose_unit="g"), 5), NOON)
    assert told(back.disputed) == [("dose_unit", "mg", "g", "mg")]  # 15 g is not what anybody prescribed


def test_what_is_agreed_on_is_superseded_and_still_says_what_it_was_about() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}))
    agreed = followed(conflict, head_with(change(IBUPROFEN, dose=15), 4), NOON + MINUTE)
    assert (agreed.state, agreed.head_version, agreed.updated_at) == (State.SUPERSEDED, 4, NOON + MINUTE)
    assert (agreed.disputes, agreed.kind, agreed.resolution) == (conflict.disputes, Kind.GROUP, None)


def test_agreeing_with_one_of_two_leaves_the_other() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}), *dosage({"dose": 20}, {"dose": 12}, AMARA))
    left = followed(conflict, head_with(change(IBUPROFEN, dose=15), 5), NOON)
    assert [(one.theirs, one.mine, one.branch) for one in left.disputed] == [(15, 12, 4)]
    assert (left.state, left.branches) == (State.OPEN, (3, 4))


def test_a_measured_value_is_followed_by_its_path() -> None:
    head = pressure(130, 80)
    conflict = about(head, *late(pressure(120, 80), head, pressure(125, 80)).disputes)
    moved = followed(conflict, head_with(pressure(None, None), 4), NOON)
    assert [(one.field, one.theirs) for one in moved.disputed] == [
        ("values.systolic", None),
        ("values.diastolic", None),
    ]
    assert followed(conflict, head_with(pressure(125, 80), 4), NOON).state is State.SUPERSEDED


def test_a_deletion_that_was_held_back_is_settled_once_the_thing_is_deleted() -> None:
    conflict = about(TWENTY, conflicts.deletion(LEE))
    assert followed(conflict, head_with(change(TWENTY, title="a"), 4), NOON).disputed == conflict.disputes
    assert followed(conflict, head_with(None, 4), NOON).state is State.SUPERSEDED


def test_what_was_only_for_review_goes_with_what_is_deleted() -> None:
    found = late(BEFORE, change(BEFORE, phone="2"), change(BEFORE, phone="3"))
    assert followed(about(found.content, *found.disputes), head_with(None, 5), NOON).state is State.SUPERSEDED


# -- deciding -----------------------------------------------------------------------------------------------------


def refused(conflict: Conflict, choices: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as found:
        decided(conflict, choices)
    return [(error.field, error.code) for error in found.value.errors]


TITLES = about(
    change(IBUPROFEN, title="a"), *late(IBUPROFEN, change(IBUPROFEN, title="a"), change(IBUPROFEN, title="b")).disputes
)


@pytest.mark.parametrize(
    ("choice", "value"),
    [
        ({"take": "mine"}, "b"),
        ({"take": "mine", "branch_version": 3}, "b"),
        ({"take": "mine", "branch_version": None}, "b"),
        ({"take": "theirs"}, "a"),
        ({"take": "base"}, "Ibuprofen"),
        ({"value": "c"}, "c"),
        ({"value": None}, None),
        ({"value": {"take": "mine"}}, {"take": "mine"}),
    ],
)
def test_a_person_takes_one_of_the_values_or_gives_another(choice: dict[str, Any], value: Any) -> None:
    assert decided(TITLES, {"title": choice}) == {"title": value}


@pytest.mark.parametrize(
    ("choices", "error"),
    [
        ({}, ("choices.title", "required")),
        ({"title": "mine"}, ("choices.title", "choice")),
        ({"title": None}, ("choices.title", "choice")),
        ({"title": {}}, ("choices.title", "choice")),
        ({"title": {"branch_version": 3}}, ("choices.title", "choice")),
        ({"title": {"take": "ours"}}, ("choices.title.take", "choice")),
        ({"title": {"take": ["mine"]}}, ("choices.title.take", "choice")),
        ({"title": {"take": "mine", "value": "c"}}, ("choices.title", "choice")),
        ({"title": {"value": "c", "because": "so"}}, ("choices.title", "choice")),
        ({"title": {"take": "theirs", "branch_version": 3}}, ("choices.title", "choice")),
        ({"title": {"take": "mine", "branch_version": 9}}, ("choices.title.branch_version", "choice")),
    ],
)
def test_a_choice_that_means_nothing_is_named(choices: dict[str, Any], error: tuple[str, str]) -> None:
    assert refused(TITLES, choices) == [error]


def test_every_wrong_choice_is_named_at_once() -> None:
    conflict = joined(TITLES, 1, (*dosage({"dose": 20}, {"dose": 15}), conflicts.deletion(AMARA)))
    assert refused(conflict, {"dose_unit": {"take": "mine"}, "text": {"value": ""}, DELETED: 1}) == [
        ("choices.dose_unit", "unknown"),  # both agree on it
        ("choices.text", "unknown"),
        ("choices.title", "required"),
        ("choices.dose", "required"),
        (f"choices.{DELETED}", "choice"),
    ]


def test_where_several_were_held_back_mine_says_which() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}), *dosage({"dose": 20}, {"dose": 12}, AMARA))
    assert refused(conflict, {"dose": {"take": "mine"}}) == [("choices.dose.branch_version", "required")]
    assert decided(conflict, {"dose": {"take": "mine", "branch_version": 3}}) == {"dose": 15}
    assert decided(conflict, {"dose": {"take": "mine", "branch_version": 4}}) == {"dose": 12}
    assert decided(conflict, {"dose": {"take": "theirs"}}) == {"dose": 20}


def test_where_several_say_the_same_nobody_has_to_say_which() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}), *dosage({"dose": 20}, {"dose": 15}, AMARA))
    assert decided(conflict, {"dose": {"take": "mine"}}) == {"dose": 15}
    deletions = about(TWENTY, conflicts.deletion(LEE), conflicts.deletion(AMARA))
    assert decided(deletions, {DELETED: {"take": "mine"}}) == {DELETED: True}


def test_a_group_is_taken_from_one_side_only() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15, "dose_unit": "g"}))
    mixed = [("choices.dose", "group"), ("choices.dose_unit", "group")]
    assert refused(conflict, {"dose": {"take": "mine"}, "dose_unit": {"take": "theirs"}}) == mixed
    assert refused(conflict, {"dose": {"value": 15}, "dose_unit": {"take": "mine"}}) == mixed
    for side, values in (("mine", (15, "g")), ("theirs", (20, "mg")), ("base", (10, "mg"))):
        choice = {"take": side}
        assert tuple(decided(conflict, {"dose": choice, "dose_unit": choice}).values()) == values
    given = {"dose": {"value": 1}, "dose_unit": {"value": "g"}}
    assert decided(conflict, given) == {"dose": 1, "dose_unit": "g"}


def test_a_group_is_taken_from_one_branch_only() -> None:
    conflict = about(
        TWENTY,
        *dosage({"dose": 20}, {"dose": 15, "dose_unit": "g"}),
        *dosage({"dose": 20}, {"dose": 12, "dose_unit": "ug"}, AMARA),
    )
    three, four = ({"take": "mine", "branch_version": number} for number in (3, 4))
    assert refused(conflict, {"dose": three, "dose_unit": four}) == [
        ("choices.dose", "group"),
        ("choices.dose_unit", "group"),
    ]
    assert decided(conflict, {"dose": four, "dose_unit": four}) == {"dose": 12, "dose_unit": "ug"}


def test_the_branch_of_a_unit_that_agrees_with_the_head_can_be_taken_with_its_dose() -> None:
    """One changed the dose alone, the other dose and unit: the first one's unit is the head's, and still its own."""
    conflict = about(
        TWENTY, *dosage({"dose": 20}, {"dose": 15}), *dosage({"dose": 20}, {"dose": 12, "dose_unit": "ug"}, AMARA)
    )
    three = {"take": "mine", "branch_version": 3}
    assert decided(conflict, {"dose": three, "dose_unit": three}) == {"dose": 15, "dose_unit": "mg"}


def test_a_branch_without_a_field_that_another_one_has_can_be_taken_whole() -> None:
    """One prescribed a route too, the other none: to take the other is to take no route."""
    conflict = about(
        TWENTY, *dosage({"dose": 20}, {"dose": 15, "route": "oral"}), *dosage({"dose": 20}, {"dose": 12}, AMARA)
    )
    three, four = ({"take": "mine", "branch_version": number} for number in (3, 4))
    assert decided(conflict, {"dose": three, "route": three}) == {"dose": 15, "route": "oral"}
    assert decided(conflict, {"dose": four, "route": four}) == {"dose": 12, "route": None}


def test_choices_become_a_change_of_whole_fields() -> None:
    content = change(pressure(120, 80, pulse={"value": 60}), title="a")
    given = {
        "title": "b",
        "tags": ["new"],
        "text": None,
        "values.systolic": {"value": 130, "unit": "mmHg"},
        "values.diastolic": {"value": 80, "unit": "mmHg"},
        "values.pulse": None,
    }
    assert as_changes(content, given) == {
        "title": "b",
        "tags": ["new"],
        "values": {"systolic": {"value": 130, "unit": "mmHg"}, "diastolic": {"value": 80, "unit": "mmHg"}},
    }
    assert as_changes(content, {"title": "a", "values.pulse": {"value": 60}, "text": None}) == {}
    assert as_changes({"title": "a"}, {"values.pulse": {"value": 60}}) == {"values": {"pulse": {"value": 60}}}
    assert as_changes({"title": "a"}, {"title": None}) == {"title": None}
    assert content["values"]["pulse"] == {"value": 60}  # nothing was changed in place


# -- telling ------------------------------------------------------------------------------------------------------


def test_a_conflict_is_shown_with_every_value_and_who_gave_it() -> None:
    conflict = about(TWENTY, *dosage({"dose": 20}, {"dose": 15}))
    assert document(conflict) == {
        "id": "conflict-1",
        "collection": "records",
        "thing_id": "it",
        "patient_id": "alice",
        "kind": "group",
        "severity": "safety",
        "state": "open",
        "base_version": 1,
        "head_version": 2,
        "branch_versions": [3],
        "fields": [
            {
                "field": "dose",
                "kind": "group",
                "severity": "safety",
                "policy": "atomic_group",
                "group": "dosage",
                "base": 10,
                "theirs": 20,
                "mine": 15,
                "proposal": None,
                "branch_version": 3,
                "author_id": "dr_lee",
                "device_id": "laptop-2",
                "at": moment(NOON),
            }
        ],
        "opened_at": moment(NOON),
        "updated_at": moment(NOON),
        "resolution": None,
    }
    assert canonical(document(conflict))


def test_a_decision_is_shown_with_the_conflict() -> None:
    choices = {"title": {"take": "mine"}}
    resolution = Resolution("dr_okafor", NOON + MINUTE, "The other brand.", 4, choices)
    shown = document(replace(TITLES, state=State.RESOLVED, resolution=resolution))
    assert shown["state"] == "resolved"
    assert shown["resolution"] == {
        "account_id": "dr_okafor",
        "at": moment(NOON + MINUTE),
        "reason": "The other brand.",
        "version": 4,
        "choices": choices,
    }
    assert (shown["fields"][0]["group"], shown["fields"][0]["device_id"]) == (None, "laptop-2")


def test_an_unknown_device_is_shown_as_none() -> None:
    found = late(BEFORE, change(BEFORE, phone="2"), change(BEFORE, phone="3"))
    [shown] = document(about(found.content, *found.disputes))["fields"]
    assert shown["device_id"] is None


def test_a_refusal_brings_the_head_and_the_conflict() -> None:
    head = head_with(change(IBUPROFEN, title="a"))
    for refusal, more in (
        (conflicts.held_back(TITLES, head, "waits", base_version=1, changes={"title": "b"}), True),
        (conflicts.moved_on(TITLES, head, "moved on"), False),
    ):
        told_too = {"base_version": 1, "changes": {"title": "b"}} if more else {}
        assert type(refusal) is (HeldBack if more else VersionConflict)
        assert refusal.context == {
            "version": 2,
            "head": change(IBUPROFEN, title="a"),
            "conflict": document(TITLES),
            **told_too,
        }
    assert conflicts.moved_on(TITLES, head_with(None), "moved on").context["head"] is None


# -- tightened ----------------------------------------------------------------------------------------------------


def test_a_practice_that_decides_about_phones_gets_a_conflict_instead_of_a_review() -> None:
    policies = replace(patients.MERGEABLE, rules=tightened(patients.MERGEABLE.rules, {"phone": "manual"}))
    head = change(BEFORE, phone="2")
    found = reconcile(head, Edit(BEFORE, BEFORE, change(BEFORE, phone="3")), policies, LEE, OKAFOR)
    assert found.content == head
    [dispute] = found.disputes
    assert (dispute.policy, dispute.severity, dispute.theirs, dispute.mine) == ("manual", Severity.HARD, "2", "3")
