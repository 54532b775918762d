"""The laws of merging, over real patients and records of every kind; and that each law notices who breaks it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from heallog.domain import merging, records
from heallog.domain.canon import canonical, same
from heallog.domain.merging import Clash, Conflicted, Merged, flat, rule_of, three_way_merge
from heallog.domain.narrative import Weave, Woven
from heallog.domain.policies import Policy
from heallog.domain.records import STATUSES

from .edits import EDITS, Edits, of_records

LONG = settings(max_examples=max(500, settings.default.max_examples if settings.default else 0))


def merge(edits: Edits) -> Merged | Conflicted:
    return three_way_merge(edits.base, edits.theirs, edits.mine, edits.policies)


def turned(edits: Edits) -> Edits:
    return replace(edits, theirs=edits.mine, mine=edits.theirs)


def told(result: Merged | Conflicted) -> Mapping[str, Clash]:
    """Every field that is shown to a person."""
    return {clash.field: clash for clash in (*result.reviews, *held(result).values())}


def held(result: Merged | Conflicted) -> Mapping[str, Clash]:
    return {clash.field: clash for clash in (result.clashes if isinstance(result, Conflicted) else ())}


def fields(edits: Edits, result: Merged | Conflicted) -> Iterator[tuple[str, Policy, Any, Any, Any, Any]]:
    """Each path with its policy, its value in base, theirs and mine, and what it became."""
    rules = edits.policies.rules
    sides = [flat(content, rules) for content in (edits.base, edits.theirs, edits.mine, result.content)]
    for path in sorted(set().union(*sides)):
        # An object with entries is told by them.
        if path != "values" or not any(one.startswith("values.") for side in sides for one in side):
            base, theirs, mine, now = (side.get(path) for side in sides)
            yield path, rule_of(path, rules).policy, base, theirs, mine, now


def keys(items: list[Any] | None) -> set[bytes]:
    return {canonical(item) for item in items or ()}


def _agree(base: Any, theirs: Any, mine: Any) -> bool:
    """Whether at most one side changed it, or both alike."""
    return same(theirs, base) or same(mine, base) or same(theirs, mine)


# -- the laws -----------------------------------------------------------------------------------------------------


def one_side_alone_is_taken_as_it_is(edits: Edits) -> None:
    for side in (edits.theirs, edits.mine):
        alone = replace(edits, theirs=side, mine=edits.base)
        assert merge(alone) == Merged(side, (), ())
        result = merge(turned(alone))
        assert same(result.content, side)
        assert isinstance(result, Merged)
        assert not result.reviews


def the_same_twice_is_one(edits: Edits) -> None:
    for side in (edits.base, edits.theirs, edits.mine):
        result = merge(replace(edits, theirs=side, mine=side))
        assert same(result.content, side)
        assert result == Merged(result.content, (), ())


def whoever_came_first_the_same_is_merged_and_the_same_is_told(edits: Edits) -> None:
    there, back = merge(edits), merge(turned(edits))
    assert held(there).keys() == held(back).keys()
    assert told(there).keys() == told(back).keys()
    assert getattr(there, "broken", ()) == getattr(back, "broken", ())
    for path, clash in told(there).items():
        other = told(back)[path]
        assert same([clash.base, clash.theirs, clash.mine], [other.base, other.mine, other.theirs])
    one, other = flat(there.content, edits.policies.rules), flat(back.content, edits.policies.rules)
    for path in one.keys() | other.keys():
        disputed = path in held(there) or rule_of(path, edits.policies.rules).policy in (Policy.LWW, Policy.DERIVED)
        assert disputed or path == "values" or same(one.get(path), other.get(path)), path


def no_value_appears_that_nobody_entered(edits: Edits) -> None:
    result = merge(edits)
    for path, policy, base, theirs, mine, now in fields(edits, result):
        match policy:
            case Policy.SET:
                assert keys(now) <= keys(theirs) | keys(mine), path
                assert len(keys(now)) == len(now or ()) or now in (theirs, mine), path
            case Policy.TEXT:
                assert not Counter((now or "").split()) - Counter(f"{theirs or ''} {mine or ''}".split()), path
            case Policy.COUNTER if path not in held(result) and not _agree(base, theirs, mine):
                count = sum(Fraction(str(side)) for side in (theirs, mine)) - Fraction(str(base or 0))
                assert Fraction(str(now)) == count, path
            case Policy.DERIVED:
                pass
            case _:
                assert any(same(now, side) for side in (theirs, mine)), path


def nothing_entered_vanishes(edits: Edits) -> None:
    result = merge(edits)
    shown = told(result)
    for path, policy, base, theirs, mine, now in fields(edits, result):
        if path in shown:
            assert same([shown[path].base, shown[path].theirs, shown[path].mine], [base, theirs, mine]), path
            continue
        for entered, other in ((mine, theirs), (theirs, mine)):
            if same(entered, base) or same(entered, now):
                continue
            match policy:
                case Policy.SET:
                    assert keys(entered) - keys(base) <= keys(now), path
                    assert not (keys(base) - keys(entered)) & keys(now), path
                case Policy.TEXT:
                    added = Counter((entered or "").split()) - Counter((base or "").split())
                    assert not added - Counter((now or "").split()), path
                case Policy.COUNTER:
                    assert not same(other, base), path
                case Policy.MONOTONE:
                    order = edits.policies.rules[path].order
                    assert order.index(now) > order.index(entered), path
                case Policy.DERIVED:
                    pass
                case _:
                    raise AssertionError((path, base, theirs, mine, now))


def what_is_held_back_stays_as_theirs_has_it(edits: Edits) -> None:
    result = merge(edits)
    content, theirs = flat(result.content, edits.policies.rules), flat(edits.theirs, edits.policies.rules)
    for path, clash in held(result).items():
        assert same(content.get(path), theirs.get(path)), path
        assert not same(clash.theirs, clash.mine), path


def a_group_is_wholly_of_one_side(edits: Edits) -> None:
    rules = edits.policies.rules
    sides = [flat(content, rules) for content in (merge(edits).content, edits.theirs, edits.mine)]
    groups: dict[tuple[str, str], list[str]] = {}
    for path in set().union(*sides):
        if group := rule_of(path, rules).group:
            groups.setdefault((path.partition(".")[0] if "." in path else "", group), []).append(path)
    for paths in groups.values():
        now, theirs, mine = ([side.get(path) for path in paths] for side in sides)
        assert same(now, theirs) or same(now, mine), paths


def it_says_what_it_took(edits: Edits) -> None:
    result = merge(edits)
    content, theirs = flat(result.content, edits.policies.rules), flat(edits.theirs, edits.policies.rules)
    differing = {path for path in content.keys() | theirs.keys() if not same(content.get(path), theirs.get(path))}
    if any(path.startswith("values.") for path in differing):
        differing -= {"values"}
    assert result.took == tuple(sorted(differing))


def what_comes_out_is_whole_and_in_its_normal_form(edits: Edits) -> None:
    result = merge(edits)
    assert edits.policies.broken(result.content) == []
    assert same(edits.policies.derive(result.content), result.content)
    assert same(merge(replace(edits, base={}, theirs=result.content, mine=result.content)).content, result.content)
    assert None not in result.content.values()
    for number in (value for value in result.content.values() if isinstance(value, float)):
        assert not number.is_integer()


def what_was_merged_is_settled(edits: Edits) -> None:
    """The next edit on the result alone is taken as it is, and the same edit coming again brings nothing new."""
    result = merge(edits)
    again = merge(replace(edits, base=edits.mine, theirs=result.content))
    assert same(again.content, result.content)


def edits_that_pass_by_each_other_are_merged_as_those_that_met(edits: Edits) -> None:
    """The short way and the long one come to the same, down to the types."""
    sides = edits.base, edits.theirs, edits.mine, edits.policies
    short = merging.passed_by(*sides)
    if short is not None:
        long = merging.met(*sides)
        assert isinstance(long, Merged)
        assert same(short.content, long.content)
        assert (short.took, short.reviews) == (long.took, long.reviews)


Law = Callable[[Edits], None]
LAWS: Mapping[str, Law] = {
    law.__name__: law
    for law in (
        one_side_alone_is_taken_as_it_is,
        the_same_twice_is_one,
        whoever_came_first_the_same_is_merged_and_the_same_is_told,
        no_value_appears_that_nobody_entered,
        nothing_entered_vanishes,
        what_is_held_back_stays_as_theirs_has_it,
        a_group_is_wholly_of_one_side,
        it_says_what_it_took,
        what_comes_out_is_whole_and_in_its_normal_form,
        what_was_merged_is_settled,
        edits_that_pass_by_each_other_are_merged_as_those_that_met,
    )
}


@LONG
@given(EDITS)
def test_every_law_holds(edits: Edits) -> None:
    before = canonical([edits.base, edits.theirs, edits.mine])
    for law in LAWS.values():
        law(edits)
    assert canonical([edits.base, edits.theirs, edits.mine]) == before


# -- that each law notices ----------------------------------------------------------------------------------------

Found, _union = merging._Found, merging._union


def apart(policy: Policy, found: Callable[[Clash], Found]) -> tuple[str, Any]:
    """A policy that makes something else of what both sides changed."""
    real = merging._apart
    return "_apart", lambda sides, rule: found(sides) if rule.policy is policy else real(sides, rule)


def plain(sides: Clash, value: Any) -> Found:
    return Found(sides, value, value)


def in_order_of_arrival(base: Any, theirs: Any, mine: Any) -> Any:
    return [item for item in base or () if item in (theirs or ()) and item in (mine or ())] + [
        item for items in (theirs, mine) for item in items or () if item not in (base or ())
    ]


BREAKERS: Mapping[str, tuple[tuple[str, Any], Law]] = {
    "a late arrival that is dropped": (
        apart(Policy.LWW, lambda sides: plain(sides, sides.theirs)),
        nothing_entered_vanishes,
    ),
    "a late arrival that nobody hears of": (
        apart(Policy.LWW, lambda sides: plain(sides, sides.mine)),
        nothing_entered_vanishes,
    ),
    "a set in which removals win": (
        ("_union", lambda base, theirs, mine: [item for item in theirs or () if item in (mine or ())]),
        nothing_entered_vanishes,
    ),
    "a set from which nothing can be removed": (
        ("_union", lambda base, theirs, mine: _union(None, (base or []) + (theirs or []), mine)),
        nothing_entered_vanishes,
    ),
    "a set in order of arrival": (
        ("_union", in_order_of_arrival),
        whoever_came_first_the_same_is_merged_and_the_same_is_told,
    ),
    "a manual that takes mine": (
        ("_held", lambda sides: Found(sides, sides.mine, sides.theirs, merging._Mark.HELD)),
        what_is_held_back_stays_as_theirs_has_it,
    ),
    "a manual that asks nobody": (
        apart(Policy.MANUAL, lambda sides: plain(sides, sides.mine)),
        nothing_entered_vanishes,
    ),
    "a correction that asks nobody": (
        apart(Policy.IMMUTABLE, lambda sides: plain(sides, sides.mine)),
        nothing_entered_vanishes,
    ),
    "a group that is taken apart": (("_unit", lambda path, group: path), a_group_is_wholly_of_one_side),
    "a group of which the later field stands": (
        apart(Policy.GROUP, lambda sides: plain(sides, sides.mine)),
        nothing_entered_vanishes,
    ),
    "a text of which one half is lost": (
        ("weave", lambda base, theirs, mine: Weave(max(theirs, mine), Woven.LINES)),
        nothing_entered_vanishes,
    ),
    "a text with markers": (
        ("weave", lambda base, theirs, mine: Weave(f"<<<<<<< {min(theirs, mine)}{max(theirs, mine)}", Woven.LINES)),
        no_value_appears_that_nobody_entered,
    ),
    "a text that depends on who came first": (
        ("weave", lambda base, theirs, mine: Weave(f"{theirs}\n{mine}", Woven.LINES)),
        whoever_came_first_the_same_is_merged_and_the_same_is_told,
    ),
    "a counter that keeps the larger": (
        ("_counted", lambda base, theirs, mine: max(theirs, mine)),
        no_value_appears_that_nobody_entered,
    ),
    "a counter with dust": (
        ("_counted", lambda base, theirs, mine: theirs + mine - base),
        no_value_appears_that_nobody_entered,
    ),
    "a counter out of its normal form": (
        ("_counted", lambda base, theirs, mine: float(theirs + mine - base)),
        what_comes_out_is_whole_and_in_its_normal_form,
    ),
    "a status that goes back": (
        apart(Policy.MONOTONE, lambda sides: plain(sides, min(sides.theirs, sides.mine, key=STATUSES.index))),
        nothing_entered_vanishes,
    ),
    "the same twice as a conflict": (
        ("_together", lambda unit: ((sides.field, merging._held(sides)) for sides, _ in unit)),
        the_same_twice_is_one,
    ),
    "theirs as what was there": (
        ("_together", lambda unit: ((sides.field, plain(sides, sides.mine)) for sides, _ in unit)),
        one_side_alone_is_taken_as_it_is,
    ),
    "a rule that nobody asks for": (("_settle", lambda *_: ()), what_comes_out_is_whole_and_in_its_normal_form),
    "a rule that is asked from one end": (
        ("_content", lambda found, policies, turned=False, real=merging._content: real(found, policies)),
        whoever_came_first_the_same_is_merged_and_the_same_is_told,
    ),
    "what follows from others, left as it was": (
        ("_content", lambda found, policies, turned=False, real=merging._content: real(
            found, replace(policies, derive=dict), turned=turned
        )),
        what_comes_out_is_whole_and_in_its_normal_form,
    ),
    "an account that is empty": (("_told", lambda *_: ()), it_says_what_it_took),
    "a short way past a rule over several fields": (
        ("passed_by", lambda base, theirs, mine, policies, real=merging.passed_by: real(
            base, theirs, mine, replace(policies, broken=lambda _: ())
        )),
        edits_that_pass_by_each_other_are_merged_as_those_that_met,
    ),
    "a short way past a group": (
        ("passed_by", lambda base, theirs, mine, policies, real=merging.passed_by: real(
            base,
            theirs,
            mine,
            replace(policies, rules={name: replace(rule, group="") for name, rule in policies.rules.items()}),
        )),
        edits_that_pass_by_each_other_are_merged_as_those_that_met,
    ),
    "a short way past what follows": (
        ("passed_by", lambda base, theirs, mine, policies, real=merging.passed_by: real(
            base, theirs, mine, replace(policies, derive=dict)
        )),
        edits_that_pass_by_each_other_are_merged_as_those_that_met,
    ),
}  # fmt: skip

WHERE = {
    "a counter that keeps the larger": of_records(["medication"]),
    "a counter with dust": of_records(["medication"]),
    "a counter out of its normal form": of_records(["medication"]),
    "what follows from others, left as it was": of_records(["observation"]),
    "a short way past a rule over several fields": st.just(
        Edits(
            records.mergeable("procedure"),
            {"kind": "procedure", "title": "Suture", "status": "draft", "occurred_at": "2026-03-01"},
            {"kind": "procedure", "title": "Suture", "status": "draft", "occurred_at": "2026-03-04"},
            {
                "kind": "procedure",
                "title": "Suture",
                "status": "draft",
                "occurred_at": "2026-03-01",
                "ended_at": "2026-03-02",
            },
        )
    ),
    "a short way past a group": of_records(["medication"]),
    "a short way past what follows": of_records(["observation"]),
}
"""Where to look for what is rare elsewhere."""


@pytest.mark.parametrize("breaker", BREAKERS)
def test_a_law_notices(breaker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (name, planted), law = BREAKERS[breaker]
    if law is not edits_that_pass_by_each_other_are_merged_as_those_that_met:
        # Where nothing is decided, nothing decides wrongly: all of it goes the long way.
        monkeypatch.setattr(merging, "passed_by", lambda *_: None)
    monkeypatch.setattr(merging, name, planted)

    @settings(max_examples=3_000, phases=[Phase.generate], database=None, derandomize=True)
    @given(WHERE.get(breaker, EDITS))
    def look(edits: Edits) -> None:
        law(edits)

    with pytest.raises(AssertionError):
        look()
