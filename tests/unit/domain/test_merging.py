"""Merging: what each policy makes of two edits, what a person must decide, and what keeps rules over several fields."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from heallog.domain import patients, records
from heallog.domain.canon import canonical, same
from heallog.domain.errors import FieldError
from heallog.domain.fields import Field, Fields, ListOf, Named, Number, Text
from heallog.domain.merging import (
    Broken,
    Clash,
    Conflicted,
    Invariant,
    Mergeable,
    Merged,
    breaks,
    flat,
    rule_of,
    three_way_merge,
)
from heallog.domain.policies import (
    COUNTER,
    DERIVED,
    IMMUTABLE,
    LWW,
    MANUAL,
    SET,
    TEXT,
    Policy,
    each,
    group,
    monotone,
    tightened,
)
from heallog.domain.records import AMENDED, DRAFT, ENTERED_IN_ERROR, SIGNED

Content = dict[str, Any]

STATUSES = ("draft", "signed", "amended")
FIELDS: Fields = {
    "name": Field(Text(20), MANUAL),
    "seen_on": Field(Text(20), IMMUTABLE),
    "phone": Field(Text(20), LWW),
    "tags": Field(ListOf(Text(20), most=4, unique=True), SET),
    "notes": Field(Text(40, lines=True), TEXT),
    "left": Field(Number(least=0), COUNTER),
    "status": Field(Text(20), monotone(*STATUSES)),
    "dose": Field(Number(), group("dosage")),
    "unit": Field(Text(20), group("dosage")),
    "values": Field(Named(Number(), most=4), each(IMMUTABLE, pressure=("high", "low"))),
    "first": Field(Number(), MANUAL),
    "last": Field(Number(), MANUAL),
    "span": Field(Number(), DERIVED, settable=False),
}
ORDER = Invariant(
    ("first", "last"),
    FieldError("last", "order", "must not lie before first"),
    lambda content: content.get("first", 0) <= content.get("last", 9),
)
NAMED = Invariant(
    ("name", "values", "notes"),
    FieldError("name", "required", "needs a name, values or notes"),
    lambda content: any(content.get(name) for name in ("name", "values", "notes")),
)


def spanned(content: Mapping[str, Any]) -> Content:
    rest = {name: value for name, value in content.items() if name != "span"}
    return {**rest, "span": rest["last"] - rest["first"]} if {"first", "last"} <= rest.keys() else rest


THING = Mergeable.of(FIELDS, spanned, (ORDER, NAMED))
BASIS: Content = {"name": "it"}


def merge(base: Content, theirs: Content, mine: Content, policies: Mergeable = THING) -> Merged | Conflicted:
    before = canonical([base, theirs, mine])
    result = three_way_merge(base, theirs, mine, policies)
    assert canonical([base, theirs, mine]) == before
    return result


def merged(base: Content, theirs: Content, mine: Content) -> Merged:
    result = merge(base, theirs, mine)
    assert isinstance(result, Merged), result
    return result


def clashes(result: Merged | Conflicted) -> list[tuple[str, Any, Any, Any]]:
    """The fields that a person must decide about, with the three values of each."""
    assert isinstance(result, Conflicted), result
    return [(clash.field, clash.base, clash.theirs, clash.mine) for clash in result.clashes]


def of(name: str, *values: Any) -> list[Content]:
    """Contents with these values of one field, None for absence."""
    return [BASIS | ({} if value is None else {name: value}) for value in values]


# -- every policy, whoever changed it -----------------------------------------------------------------------------

FIRST, THEIRS, MINE = "base", "theirs", "mine"
SIDES: Mapping[str, tuple[Any, Any, Any]] = {
    "seen_on": ("2020", "2021", "2022"),
    "phone": ("1", "2", "3"),
    "tags": (["a", "b"], ["b", "c"], ["a", "b", "d"]),
    "notes": ("one\ntwo\nthree", "ONE\ntwo\nthree", "one\ntwo\nTHREE"),
    "left": (10, 7, 9.5),
    "status": ("draft", "signed", "amended"),
    "dose": (1, 2, 3),
    "unit": ("mg", "g", "ug"),
    "values.pulse": (60, 61, 62),
    "values.high": (120, 130, 140),
}
BOTH_CHANGED: Mapping[str, Any] = {
    "phone": "3",
    "tags": ["b", "c", "d"],
    "notes": "ONE\ntwo\nTHREE",
    "left": 6.5,
    "status": "amended",
}
"""What two different changes become, where no one needs to be asked."""


def placed(path: str, value: Any) -> Content:
    """A content with a value at a path; None for absence."""
    name, dot, entry = path.partition(".")
    if not dot:
        return of(name, value)[0]
    return BASIS | {"values": {"other": 1} | ({} if value is None else {entry: value})}


@pytest.mark.parametrize("path", SIDES)
def test_what_one_side_changed_is_so(path: str) -> None:
    base, theirs, mine = (placed(path, value) for value in SIDES[path])
    absent = placed(path, None)
    for before, after in ((base, mine), (absent, mine)):
        assert merged(before, after, before) == Merged(after, (), ())
        assert merged(before, before, after) == Merged(after, (path,), ())
        assert merged(before, after, after) == Merged(after, (), ())
    assert merged(base, theirs, base).content == theirs


@pytest.mark.parametrize("path", [path for path in SIDES if path != "status"])
def test_what_one_side_took_away_is_gone(path: str) -> None:
    base, absent = placed(path, SIDES[path][0]), placed(path, None)
    assert merged(base, absent, base) == Merged(absent, (), ())
    assert merged(base, base, absent) == Merged(absent, (path,), ())
    assert merged(base, absent, absent) == Merged(absent, (), ())


@pytest.mark.parametrize("path", BOTH_CHANGED)
def test_what_both_changed_and_no_one_needs_to_be_asked(path: str) -> None:
    base, theirs, mine = (placed(path, value) for value in SIDES[path])
    result = merged(base, theirs, mine)
    assert same(result.content, placed(path, BOTH_CHANGED[path]))
    assert result.took == (path,)
    if path != "phone":
        assert merged(base, mine, theirs).content == result.content
        assert result.reviews == ()


@pytest.mark.parametrize("path", [path for path in SIDES if path not in BOTH_CHANGED])
def test_what_both_changed_and_a_person_must_decide(path: str) -> None:
    sides = SIDES[path]
    rule = rule_of(path, THING.rules)
    for base, theirs, mine in (sides, (None, *sides[1:]), (*sides[:2], None), (sides[0], None, sides[2])):
        result = merge(placed(path, base), placed(path, theirs), placed(path, mine))
        clash = Clash(path, rule.policy, rule.group, base, theirs, mine, proposal=None)
        assert result == Conflicted(placed(path, theirs), (), (), (clash,), ())


def test_a_field_that_nobody_declared_is_nobodys_to_merge() -> None:
    assert clashes(merge(*of("hat", "old", "red", "blue"))) == [("hat", "old", "red", "blue")]
    assert merge(*of("hat", "old", "old", "blue")).content == BASIS | {"hat": "blue"}


def test_different_fields_do_not_disturb_each_other() -> None:
    base = BASIS | {"phone": "1", "dose": 1, "unit": "mg", "tags": ["a"], "seen_on": "2020"}
    theirs, mine = base | {"dose": 2, "tags": ["a", "b"]}, base | {"phone": "2", "seen_on": "2021", "tags": []}
    result = merged(base, theirs, mine)
    assert result.content == base | {"dose": 2, "phone": "2", "seen_on": "2021", "tags": ["b"]}
    assert result.took == ("phone", "seen_on", "tags")
    assert result.reviews == ()


# -- the later arrival --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "theirs", "mine"), [("1", "2", "3"), (None, "2", "3"), ("1", None, "3"), ("1", "2", None)]
)
def test_the_later_arrival_stands_and_the_other_is_shown(base: Any, theirs: Any, mine: Any) -> None:
    result = merged(*of("phone", base, theirs, mine))
    assert result.content == of("phone", mine)[0]
    assert result.reviews == (Clash("phone", Policy.LWW, "", base, theirs, mine, proposal=mine),)


# -- sets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "union"),
    [
        (["a"], ["a", "b"], ["a", "c"], ["a", "b", "c"]),
        (["a"], ["a", "z"], ["a", "y"], ["a", "y", "z"]),
        (["z", "a"], ["z", "a", "m"], ["a", "z", "n"], ["z", "a", "m", "n"]),
        (["a", "b"], ["a"], ["b"], []),
        (["a", "b"], ["b"], ["a", "b", "c"], ["b", "c"]),
        # Whoever adds what the other takes away has seen that it is there no more.
        (["a"], [], ["a", "b"], ["b"]),
        (["a", "b"], ["a"], ["a", "c"], ["a", "c"]),
        (None, ["b"], ["a"], ["a", "b"]),
        (["a"], None, ["a", "b"], ["b"]),
        (["a"], None, [], None),
        (["a", "b"], None, ["b"], None),
        (["a", "b"], ["a"], [], []),
        (["é", "a"], ["é", "a", "ü"], ["é", "a", "z"], ["é", "a", "z", "ü"]),
    ],
)
def test_a_union_in_one_order_and_removals_of_what_was_seen(base: Any, theirs: Any, mine: Any, union: Any) -> None:
    first, one, other = of("tags", base, theirs, mine)
    for result in (merged(first, one, other), merged(first, other, one)):
        assert same(result.content.get("tags"), union)
        assert result.reviews == ()


def test_whole_objects_are_elements_and_none_is_dropped() -> None:
    bob, ben, eve = {"name": "Bob", "phone": "1"}, {"name": "Bob", "phone": "2"}, {"phone": "3", "name": "Eve"}
    base = {"given_name": "Alice", "contacts": [bob]}
    theirs, mine = base | {"contacts": [ben]}, base | {"contacts": [bob, eve]}
    result = three_way_merge(base, theirs, mine, patients.MERGEABLE)
    assert result == Merged(base | {"contacts": [ben, eve]}, ("contacts",), ())


def test_three_edits_come_to_the_same_union_in_any_order() -> None:
    base, *edits = of("tags", ["p", "q"], ["p", "q", "c"], ["q", "a"], ["p", "b"])
    unions = set()
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        head = base
        for edit in order:
            head = merged(base, head, edits[edit]).content
        unions.add(canonical(head["tags"]))
    assert unions == {b'["a","b","c"]'}


# -- counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "count"),
    [
        (10, 9, 8, 7),
        (10, 12, 9, 11),
        (10, 9, 0, None),
        (None, 5, 3, 8),
        (0.3, 0.2, 0.1, 0),
        (0.1, 0.2, 0.3, 0.4),
        (0, 0.1, 0.2, 0.3),
        (1, 0.9, 1.2, 1.1),
        (1e-7, 3e-7, 2e-7, 4e-7),
        (0, 2**53 - 2, 1, 2**53 - 1),
        (0, 2**53 - 1, 1, None),
        (10, None, 9, None),
    ],
)
def test_what_was_counted_adds_up_to_the_last_decimal(base: Any, theirs: Any, mine: Any, count: Any) -> None:
    for one, other in ((theirs, mine), (mine, theirs)):
        first, second, third = of("left", base, one, other)
        result = merge(first, second, third)
        if count is None:
            assert clashes(result) == [("left", base, one, other)]
            assert result.content == second
        else:
            assert result == Merged(BASIS | {"left": count}, ("left",), ())
            assert same(result.content["left"], count)


def test_the_same_count_on_both_sides_is_one_count() -> None:
    assert merged(*of("left", 10, 9, 9)).content["left"] == 9


def test_a_count_stays_in_its_normal_form_where_numbers_grow_coarse() -> None:
    """What no double can hold is rounded to what one can."""
    assert same(merged(*of("left", 0, 2**52, 0.1)).content["left"], 2**52)


def test_a_count_below_zero_is_held_back_with_its_reason() -> None:
    result = merge(*of("left", 10, 3, 2))
    assert isinstance(result, Conflicted)
    assert result.broken == (FieldError("left", "range", "must be at least 0"),)
    assert result.clashes == (Clash("left", Policy.COUNTER, "", 10, 3, 2, proposal=None),)


# -- status -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "status"),
    [
        ("draft", "signed", "amended", "amended"),
        ("draft", "amended", "signed", "amended"),
        ("draft", "draft", "signed", "signed"),
        ("signed", "amended", "signed", "amended"),
        (None, "signed", "draft", "signed"),
        (None, None, "signed", "signed"),
        ("signed", "draft", "draft", "draft"),
        ("signed", "draft", "signed", None),
        ("signed", "signed", "draft", None),
        ("signed", "draft", "amended", None),
        ("signed", "amended", "draft", None),
        ("signed", "signed", None, None),
        ("draft", "signed", "lost", None),
        (None, "signed", "lost", None),
        (None, "draft", "lost", None),
    ],
)
def test_a_status_only_moves_on(base: Any, theirs: Any, mine: Any, status: Any) -> None:
    first, one, other = of("status", base, theirs, mine)
    result = merge(first, one, other)
    if status is None:
        assert clashes(result) == [("status", base, theirs, mine)]
        assert result.content == one
    else:
        assert isinstance(result, Merged)
        assert result.content["status"] == status


# -- one value of several fields ----------------------------------------------------------------------------------


def dosage(dose: Any, unit: Any) -> Content:
    return BASIS | {name: value for name, value in (("dose", dose), ("unit", unit)) if value is not None}


@pytest.mark.parametrize(
    ("theirs", "mine", "told"),
    [
        ((2, "mg"), (1, "g"), [("dose", 1, 2, 1), ("unit", "mg", "mg", "g")]),
        ((2, "mg"), (3, "mg"), [("dose", 1, 2, 3)]),
        ((2, "g"), (2, "mg"), [("unit", "mg", "g", "mg")]),
        ((2, "g"), (3, "ug"), [("dose", 1, 2, 3), ("unit", "mg", "g", "ug")]),
        ((None, None), (1, "g"), [("dose", 1, None, 1), ("unit", "mg", None, "g")]),
    ],
)
def test_a_dose_never_meets_the_others_unit(theirs: Any, mine: Any, told: list[Any]) -> None:
    result = merge(dosage(1, "mg"), dosage(*theirs), dosage(*mine))
    assert clashes(result) == told
    assert result.content == dosage(*theirs)
    assert isinstance(result, Conflicted)
    assert {(clash.policy, clash.group) for clash in result.clashes} == {(Policy.GROUP, "dosage")}


def test_one_side_may_change_all_of_a_group() -> None:
    assert merged(dosage(1, "mg"), dosage(1, "mg"), dosage(2, None)) == Merged(dosage(2, None), ("dose", "unit"), ())
    assert merged(dosage(1, "mg"), dosage(2, "g"), dosage(2, "g")).content == dosage(2, "g")


def test_groups_of_one_name_in_two_places_are_two() -> None:
    fields = {
        "dose": Field(Number(), group("dosage")),
        "values": Field(Named(Number()), each(MANUAL, dosage=("dose",))),
    }
    policies = Mergeable.of(fields, dict, ())
    base = {"dose": 1, "values": {"dose": 1}}
    result = merge(base, {**base, "dose": 2}, {**base, "values": {"dose": 3}}, policies)
    assert result == Merged({"dose": 2, "values": {"dose": 3}}, ("values.dose",), ())


# -- values by their names ----------------------------------------------------------------------------------------


def test_values_merge_one_by_one_and_a_pair_as_one() -> None:
    base = BASIS | {"values": {"high": 120, "low": 80, "pulse": 60}}
    theirs = BASIS | {"values": {"high": 130, "low": 80, "pulse": 60, "weight": 70}}
    mine = BASIS | {"values": {"high": 120, "low": 90, "pulse": 65}}
    result = merge(base, theirs, mine)
    assert clashes(result) == [("values.high", 120, 130, 120), ("values.low", 80, 80, 90)]
    assert result.content == BASIS | {"values": {"high": 130, "low": 80, "pulse": 65, "weight": 70}}
    assert result.took == ("values.pulse",)
    assert isinstance(result, Conflicted)
    assert {(clash.policy, clash.group) for clash in result.clashes} == {(Policy.GROUP, "pressure")}


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "values", "took"),
    [
        (None, None, {}, {}, ("values",)),
        ({}, {}, None, None, ("values",)),
        ({}, {"a": 1}, None, {"a": 1}, ()),
        ({}, None, {}, None, ()),
        ({"a": 1}, {"a": 1}, {}, {}, ("values.a",)),
        ({"a": 1}, {"a": 1}, None, None, ("values.a",)),
        ({"a": 1}, {}, {"a": 1}, {}, ()),
        ({"a": 1}, {}, None, None, ("values",)),
        ({"a": 1}, None, {}, None, ()),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": 2}, {}, ("values.a",)),
        ({"a": 1}, None, {"a": 1, "b": 2}, {"b": 2}, ("values.b",)),
        ({}, None, {"b": 2}, {"b": 2}, ("values.b",)),
        (None, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}, ("values.b",)),
        (None, {}, {"b": 2}, {"b": 2}, ("values.b",)),
    ],
)
def test_no_values_and_none_at_all(base: Any, theirs: Any, mine: Any, values: Any, took: tuple[str, ...]) -> None:
    first, one, other = of("values", base, theirs, mine)
    result = merged(first, one, other)
    assert (result.content, result.took) == (of("values", values)[0], took)
    assert merged(first, other, one).content == result.content


def test_values_taken_away_while_one_was_corrected() -> None:
    base, theirs, mine = of("values", {"pulse": 60, "weight": 70}, None, {"pulse": 61, "weight": 70})
    result = merge(base, theirs, mine)
    assert clashes(result) == [("values.pulse", 60, None, 61)]
    assert result.content == BASIS
    result = merge(base, mine, theirs)
    assert clashes(result) == [("values.pulse", 60, 61, None)]
    assert result.content == BASIS | {"values": {"pulse": 61}}


# -- narrative ----------------------------------------------------------------------------------------------------


def test_a_merge_by_words_is_marked_for_review() -> None:
    base, theirs, mine = of("notes", "a b c d e", "A b c d e", "a b c d E")
    result = merged(base, theirs, mine)
    assert result.content["notes"] == "A b c d E"
    assert result.reviews == (Clash("notes", Policy.TEXT, "", "a b c d e", "A b c d e", "a b c d E", "A b c d E"),)


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "proposal"),
    [
        ("a", "b", "c", "b c"),
        ("x\na", "x\nb", "x\nc", "x\nb\nc"),
        (None, "b", "c", "b c"),
        ("a", None, "c", "c"),
        ("a", "", "a\nb", "a\nb"),
        ("a", "b" * 30, "c" * 30, None),
    ],
)
def test_an_overlap_proposes_both_passages_where_there_is_room(
    base: Any, theirs: Any, mine: Any, proposal: Any
) -> None:
    for one, other in ((theirs, mine), (mine, theirs)):
        first, second, third = of("notes", base, one, other)
        result = merge(first, second, third)
        assert isinstance(result, Conflicted)
        assert result.content == second
        assert result.clashes == (Clash("notes", Policy.TEXT, "", base, one, other, proposal),)


@pytest.mark.parametrize(("theirs", "mine", "left"), [("", None, None), (None, "", None)])
def test_a_text_that_both_emptied_is_gone(theirs: Any, mine: Any, left: Any) -> None:
    assert merged(*of("notes", "a", theirs, mine)).content.get("notes") == left


# -- rules over several fields ------------------------------------------------------------------------------------


def spans(*pairs: tuple[Any, Any]) -> list[Content]:
    return [spanned(BASIS | {"first": first, "last": last}) for first, last in pairs]


def test_what_follows_from_others_is_computed_after_the_merge() -> None:
    base, theirs, mine = spans((1, 5), (2, 5), (1, 8))
    assert merged(base, theirs, mine) == Merged(BASIS | {"first": 2, "last": 8, "span": 6}, ("last", "span"), ())


def test_two_changes_that_break_a_rule_together_are_a_conflict() -> None:
    base, theirs, mine = spans((1, 5), (1, 3), (4, 5))
    told = [("first", 1, 1, 4), ("last", 5, 3, 5)]
    result = merge(base, theirs, mine)
    assert clashes(result) == told
    assert isinstance(result, Conflicted)
    assert (result.content, result.took, result.broken) == (theirs, (), (ORDER.error,))
    turned = merge(base, mine, theirs)
    assert clashes(turned) == [("first", 1, 4, 1), ("last", 5, 5, 3)]
    assert turned.content == mine


def test_the_rest_is_merged_beside_a_broken_rule() -> None:
    base, theirs, mine = spans((1, 5), (1, 3), (4, 5))
    result = merge(base, theirs | {"tags": ["a"]}, mine | {"tags": ["b"], "phone": "1"})
    assert [clash[0] for clash in clashes(result)] == ["first", "last"]
    assert result.content == theirs | {"tags": ["a", "b"], "phone": "1"}
    assert result.took == ("phone", "tags")


def test_a_choice_that_would_break_a_rule_holds_back_what_it_would_break() -> None:
    """First is disputed; theirs fits the new last and mine would not: so last is disputed too, from either end."""
    base, theirs, mine = spans((1, 5), (2, 3), (4, 5))
    assert [clash[0] for clash in clashes(merge(base, theirs, mine))] == ["first", "last"]
    assert [clash[0] for clash in clashes(merge(base, mine, theirs))] == ["first", "last"]
    base, theirs, mine = spans((1, 5), (2, 6), (4, 5))
    assert [clash[0] for clash in clashes(merge(base, theirs, mine))] == ["first"]


def test_what_both_took_away_together_may_not_all_go() -> None:
    base = {"name": "it", "values": {"pulse": 60}, "tags": ["a"]}
    theirs, mine = {"values": {"pulse": 60}, "tags": ["a"]}, {"name": "it", "tags": []}
    result = merge(base, theirs, mine)
    assert clashes(result) == [("name", "it", None, "it"), ("values.pulse", 60, 60, None)]
    assert result.content == theirs | {"tags": []}
    assert isinstance(result, Conflicted)
    assert result.broken == (NAMED.error,)


def test_a_union_that_grows_too_long_is_held_back() -> None:
    base, theirs, mine = of("tags", ["a"], ["a", "b", "c"], ["a", "d", "e"])
    result = merge(base, theirs | {"phone": "1"}, mine | {"left": 1})
    assert clashes(result) == [("tags", ["a"], ["a", "b", "c"], ["a", "d", "e"])]
    assert result.content == theirs | {"phone": "1", "left": 1}
    assert isinstance(result, Conflicted)
    assert [(error.field, error.code) for error in result.broken] == [("tags", "too_many")]


def test_values_that_grow_too_many_are_held_back() -> None:
    base, theirs, mine = of("values", {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 5, "d": 4, "e": 5})
    result = merge(base, theirs, mine)
    assert [clash[0] for clash in clashes(result)] == ["values.a", "values.b", "values.c", "values.d", "values.e"]
    assert result.content == theirs


def test_a_text_that_grows_too_long_is_held_back_without_a_proposal() -> None:
    line, more = "x" * 10, "y" * 12
    base, theirs, mine = of("notes", f"{line}\n{line}", f"{more}\n{line}\n{line}", f"{line}\n{line}\n{more}")
    result = merge(base, theirs, mine)
    assert clashes(result) == [("notes", base["notes"], theirs["notes"], mine["notes"])]
    assert isinstance(result, Conflicted)
    assert result.clashes[0].proposal is None
    assert result.content == theirs


def test_what_a_group_is_part_of_is_held_back_with_the_whole_group() -> None:
    rule = Invariant(("dose", "first"), FieldError("dose", "range", "too much at first"), lambda content: not (
        content.get("dose", 0) > 5 and content.get("first") == 1
    ))  # fmt: skip
    policies = replace(THING, broken=breaks(FIELDS, (rule,)))
    base = dosage(1, "mg")
    theirs, mine = base | {"first": 1}, base | {"dose": 6, "unit": "g"}
    result = merge(base, theirs, mine, policies)
    assert clashes(result) == [("dose", 1, 1, 6), ("first", None, 1, None), ("unit", "mg", "mg", "g")]
    assert result.content == theirs


def test_where_the_named_fields_are_not_to_blame_all_of_mine_is_held_back() -> None:
    rule = Invariant(("name",), FieldError("name", "odd", "tags and a phone"), lambda content: not (
        content.get("tags") and content.get("phone")
    ))  # fmt: skip
    policies = replace(THING, broken=breaks(FIELDS, (rule,)))
    base, other, more = spans((1, 5), (1, 6), (1, 5))
    theirs, mine = other | {"tags": ["a"], "left": 1}, more | {"phone": "1", "seen_on": "2020"}
    result = merge(base, theirs, mine, policies)
    assert isinstance(result, Conflicted)
    assert [clash[0] for clash in clashes(result)] == ["last", "left", "phone", "seen_on", "tags"]
    assert (result.content, result.took, result.broken) == (theirs, (), (rule.error,))


def test_what_theirs_broke_before_is_not_held_against_mine() -> None:
    base, theirs = {"name": "x" * 30, "phone": "1"}, {"name": "x" * 30, "phone": "1", "first": 8, "last": 2}
    result = merge(base, theirs, base | {"phone": "2"})
    assert result.content == spanned(theirs | {"phone": "2"})
    assert isinstance(result, Merged)


def test_a_rule_is_asked_although_an_unrelated_shape_was_wrong_before() -> None:
    base, theirs, mine = ({**side, "name": "x" * 30} for side in spans((1, 5), (1, 3), (4, 5)))
    assert [clash[0] for clash in clashes(merge(base, theirs, mine))] == ["first", "last"]


def test_a_review_goes_where_its_field_is_held_back() -> None:
    rule = Invariant(("phone", "left"), FieldError("phone", "odd", "not 3 and 3"), lambda content: not (
        content.get("phone") == "3" and content.get("left") == 3
    ))  # fmt: skip
    policies = replace(THING, broken=breaks(FIELDS, (rule,)))
    base = BASIS | {"phone": "1", "left": 1}
    result = merge(base, base | {"phone": "2", "left": 3}, base | {"phone": "3"}, policies)
    assert clashes(result) == [("left", 1, 3, 1), ("phone", "1", "2", "3")]
    turned = merge(base, base | {"phone": "3"}, base | {"phone": "2", "left": 3}, policies)
    assert clashes(turned) == [("left", 1, 1, 3), ("phone", "1", "3", "2")]
    for one in (result, turned):
        assert isinstance(one, Conflicted)
        assert [clash.proposal for clash in one.clashes] == [None, None]
        assert one.reviews == ()
    assert result.content == base | {"phone": "2", "left": 3}


BROKEN: Sequence[tuple[Content, list[Broken]]] = [
    (BASIS, []),
    ({}, [Broken(("name", "values", "notes"), NAMED.error)]),
    ({"name": 5}, [Broken(("name",), FieldError("name", "type", "must be a string"))]),
    ({"name": "a", "values": {"pulse": "x"}}, [
        Broken(("values.pulse",), FieldError("values.pulse", "type", "must be a number")),
    ]),
    ({"name": "a", "values": []}, [Broken(("values",), FieldError("values", "type", "must be an object"))]),
    ({"name": "a", "tags": ["ok", 5]}, [Broken(("tags",), FieldError("tags.1", "type", "must be a string"))]),
    ({"name": "a", "hat": 1}, [Broken(("hat",), FieldError("hat", "unknown", "is not a field here"))]),
    ({"name": 5, "first": 3, "last": 1}, [
        Broken(("name",), FieldError("name", "type", "must be a string")), Broken(("first", "last"), ORDER.error),
    ]),
    ({"first": 3, "last": "x", "name": "a"}, [Broken(("last",), FieldError("last", "type", "must be a number"))]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "broken"), BROKEN)
def test_every_rule_that_a_content_breaks_and_the_fields_it_is_about(content: Content, broken: list[Broken]) -> None:
    assert list(THING.broken(content)) == broken


def test_what_a_caller_may_not_set_may_be_stored() -> None:
    assert THING.broken(spans((1, 2))[0]) == []
    assert [one.fields for one in THING.broken(BASIS | {"span": "x"})] == [("span",)]


# -- values by path -----------------------------------------------------------------------------------------------


def test_values_by_path() -> None:
    assert flat({"name": "a", "values": {"high": 1, "low": 2}}, THING.rules) == {
        "name": "a", "values.high": 1, "values.low": 2,
    }  # fmt: skip
    assert flat({"values": {}}, THING.rules) == {"values": {}}
    assert flat({"hat": {"size": 5}}, THING.rules) == {"hat": {"size": 5}}


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("name", MANUAL),
        ("values", THING.rules["values"]),
        ("values.high", group("pressure")),
        ("values.pulse", IMMUTABLE),
        ("hat", MANUAL),
        ("hat.size", MANUAL),
        ("name.first", MANUAL),
        ("phone.home", MANUAL),
    ],
)
def test_the_rule_of_a_path(path: str, rule: Any) -> None:
    assert rule_of(path, THING.rules) == rule


# -- records and patients -----------------------------------------------------------------------------------------

PILLS = records.new({"kind": "medication", "title": "Amoxicillin", "dose": 500, "dose_unit": "mg", "remaining": 20})


def of_record(base: Content, theirs: Content, mine: Content) -> Merged | Conflicted:
    return merge(base, records.changed(base, theirs), records.changed(base, mine), records.mergeable(base["kind"]))


def test_a_count_goes_on_beside_a_disputed_dose() -> None:
    result = of_record(PILLS, {"dose": 250, "remaining": 19}, {"dose": 1, "dose_unit": "g", "remaining": 17})
    assert clashes(result) == [("dose", 500, 250, 1), ("dose_unit", "mg", "mg", "g")]
    assert result.content == PILLS | {"dose": 250, "remaining": 16}


def test_instructions_are_never_put_together_from_two() -> None:
    base = records.changed(PILLS, {"instructions": "One in the morning and one at night for ten days"})
    result = of_record(
        base,
        {"instructions": "Two in the morning and one at night for ten days"},
        {"instructions": "One in the morning and one at night for five days"},
    )
    assert [clash[0] for clash in clashes(result)] == ["instructions"]


def test_a_body_mass_index_is_worked_out_from_what_was_merged() -> None:
    base = records.new({"kind": "observation", "values": {"weight": {"value": 70, "unit": "kg"}}})
    theirs = {"values": {**base["values"], "height": {"value": 175, "unit": "cm"}}}
    result = of_record(base, theirs, {"values": {"weight": {"value": 80, "unit": "kg"}}})
    assert isinstance(result, Merged)
    assert result.content["bmi"] == 26.1
    assert result.took == ("bmi", "values.weight")


def test_a_time_that_ends_before_it_begins_by_two_edits() -> None:
    base = records.new({"kind": "encounter", "title": "Stay", "occurred_at": "2026-03-01", "ended_at": "2026-03-09"})
    result = of_record(base, {"ended_at": "2026-03-03"}, {"occurred_at": "2026-03-05"})
    assert [clash[0] for clash in clashes(result)] == ["ended_at", "occurred_at"]
    assert isinstance(result, Conflicted)
    assert [(error.field, error.code) for error in result.broken] == [("ended_at", "order")]


def test_a_note_keeps_its_text() -> None:
    """It can be taken away from a note by no one: an edit without a text is refused before."""
    base = records.new({"kind": "observation", "text": "Warm.", "title": "Skin"})
    result = of_record(base, {"text": None}, {"title": None})
    assert [clash[0] for clash in clashes(result)] == ["text", "title"]
    assert result.content == records.changed(base, {"text": None})


@pytest.mark.parametrize(
    ("theirs", "mine", "status"),
    [
        (SIGNED, DRAFT, SIGNED),
        (SIGNED, ENTERED_IN_ERROR, ENTERED_IN_ERROR),
        (ENTERED_IN_ERROR, SIGNED, ENTERED_IN_ERROR),
        (AMENDED, SIGNED, AMENDED),
    ],
)
def test_the_status_of_a_record_only_moves_on(theirs: str, mine: str, status: str) -> None:
    sides = (PILLS | {"status": side} for side in (DRAFT, theirs, mine))
    result = merge(*sides, records.mergeable("medication"))
    assert isinstance(result, Merged)
    assert result.content["status"] == status


def test_two_signatures_are_a_matter_for_people() -> None:
    one, other = (PILLS | {"status": SIGNED, "signed_by": who, "signed_at": "2026-03-01T12:00:00.000Z"} for who in "ab")
    assert clashes(merge(PILLS, one, other, records.mergeable("medication"))) == [("signed_by", None, "a", "b")]


ALICE = {"family_name": "Ito", "given_name": "Alice", "phone": "1", "tags": ["a"]}


def test_a_patient_keeps_a_name() -> None:
    theirs, mine = {**ALICE}, {**ALICE}
    del theirs["family_name"], mine["given_name"]
    result = merge(ALICE, theirs, mine, patients.MERGEABLE)
    assert [clash[0] for clash in clashes(result)] == ["family_name", "given_name"]
    assert result.content == theirs


def test_a_practice_that_decides_itself_is_asked() -> None:
    stricter = replace(
        patients.MERGEABLE, rules=tightened(patients.MERGEABLE.rules, {"phone": "manual", "tags": "manual"})
    )
    theirs, mine = ALICE | {"phone": "2", "tags": ["b"]}, ALICE | {"phone": "3", "tags": ["a", "c"]}
    result = merge(ALICE, theirs, mine, stricter)
    assert clashes(result) == [("phone", "1", "2", "3"), ("tags", ["a"], ["b"], ["a", "c"])]
    assert result.content == theirs
    assert isinstance(merge(ALICE, theirs, mine, patients.MERGEABLE), Merged)
