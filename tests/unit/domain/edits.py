"""Edits as people make them: real patients and records of every kind, and two changes of one of them.

Values come from small pools, so that two edits often touch the same field, and now and then say the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from heallog.domain import patients, records
from heallog.domain.canon import same
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import (
    AnyOf,
    Boolean,
    Choice,
    Day,
    Fields,
    Group,
    ListOf,
    Moment,
    Named,
    Number,
    Pattern,
    Shape,
    Text,
)
from heallog.domain.merging import Mergeable
from heallog.domain.records import DRAFT

Content = dict[str, Any]
Step = Callable[[Content, Content], Content]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = ("cough", "since", "Monday,", "no", "fever", "at", "night")
MEASURED: Mapping[str, tuple[Content, ...]] = {
    "systolic": ({"value": 120, "unit": "mm[Hg]"}, {"value": 135, "unit": "mm[Hg]"}, {"absent": "cuff broken"}),
    "diastolic": ({"value": 80, "unit": "mm[Hg]"}, {"value": 95, "unit": "mm[Hg]"}),
    "weight": ({"value": 70, "unit": "kg"}, {"value": 71_500.0, "unit": "g"}, {"value": 155, "unit": "[lb_av]"}),
    "height": ({"value": 175, "unit": "cm"}, {"value": 1.8, "unit": "m"}, {"value": 70, "unit": "[in_i]"}),
    "pulse": ({"value": 60}, {"value": 100, "comparator": ">"}, {"value": True}, {"value": "1"}),
}


@dataclass(frozen=True)
class Edits:
    """What both began with and what each made of it."""

    policies: Mergeable = field(repr=False)
    base: Content
    theirs: Content
    mine: Content


# -- values -------------------------------------------------------------------------------------------------------


PLAIN: Mapping[type[Shape], list[Any]] = {
    Boolean: [True, False],
    Pattern: ["a-1", "b.2"],
    Day: ["1980", "1980-05-17"],
    Moment: ["2026-03-01T12:00:00.000Z", "2026", "2026-03-05", "2026-02"],
    AnyOf: [1, True, "1"],
}


def pool(shape: Shape) -> list[Any]:
    """A few values of a shape, most different, some alike to the eye."""
    match shape:
        case Text():
            return ["cough", "Cough", "no fever", *([] if shape.shortest else [""])]
        case Number():
            return [0, 3, 8, *([] if shape.whole else [0.1, 0.2, 0.7])]
        case Choice():
            return list(shape.of[:3])
        case ListOf():
            return [pool(shape.item)[:1], pool(shape.item)[:2]]
        case Group():
            return [{name: pool(known.shape)[at] for name, known in shape.fields.items()} for at in (0, 1)]
        case _:
            return PLAIN[type(shape)]


def lists(shape: ListOf, now: list[Any] | None) -> st.SearchStrategy[Any]:
    """Something added, something taken away, or another list altogether."""
    item = st.sampled_from(pool(shape.item))
    anew = st.lists(item, max_size=3, unique_by=repr)
    if not now:
        return anew
    added = st.lists(item, min_size=1, max_size=2).map(lambda more: [*now, *(it for it in more if it not in now)])
    removed = st.integers(0, len(now) - 1).map(lambda at: [*now[:at], *now[at + 1 :]])
    return added | removed | anew


def texts(shape: Text, now: str | None) -> st.SearchStrategy[str]:
    """Lines or words put in, changed or taken away, or another text altogether."""
    gap = "\n" if shape.lines else " "
    anew = st.lists(st.sampled_from(WORDS), max_size=4).map(gap.join)
    if not now:
        return anew
    return st.builds(_edited, st.just(now), st.integers(0, 9), st.integers(0, 2), st.sampled_from(WORDS)) | anew


def _edited(text: str, at: int, cut: int, word: str) -> str:
    gaps = [0, *(place for place, letter in enumerate(text) if letter in " \n"), len(text)]
    start = gaps[at % len(gaps)]
    ends = [place for place in gaps if place >= start][: cut + 1]
    return f"{text[:start]} {word}{text[ends[-1] :]}"


def values(now: Mapping[str, Any] | None) -> st.SearchStrategy[Any]:
    """Measured values, some corrected or added, some taken away."""
    names = st.lists(st.sampled_from([*MEASURED, "weight", "height"]), min_size=1, max_size=3, unique=True)
    anew = names.flatmap(lambda some: st.fixed_dictionaries({name: st.sampled_from(MEASURED[name]) for name in some}))
    fewer = names.map(lambda some: {name: it for name, it in (now or {}).items() if name not in some})
    more = anew.map(lambda some: {**(now or {}), **some})
    return st.one_of(more, more, fewer)


def value(shape: Shape, now: Any) -> st.SearchStrategy[Any]:
    """What a field may be changed to; None takes it away."""
    match shape:
        case ListOf():
            return lists(shape, now)
        case Named():
            return values(now)
        case Text() if shape.longest >= 1_000:
            return texts(shape, now)
        case _:
            return st.sampled_from(pool(shape))


# -- edits --------------------------------------------------------------------------------------------------------


@st.composite
def changes(draw: st.DrawFn, fields: Fields, names: list[str], content: Content) -> Content:
    """Something else in each of the named fields, now and then nothing, or the same as it was."""
    change = {}
    for name in names:
        now = content.get(name)
        how = draw(st.sampled_from(["set", "set", "set", "set", "keep", "take away"]))
        change[name] = draw(value(fields[name].shape, now)) if how == "set" else now if how == "keep" else None
    return change


def made(step: Step, content: Content, change: Content) -> Content:
    """The content after a change, as far as it is allowed."""
    real = {name: it for name, it in change.items() if not same(it, content.get(name))}
    while real:
        try:
            return step(content, real)
        except InvalidFields:
            real.popitem()
    return content


def some(names: list[str], least: int, most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=least, max_size=most, unique=True)


def settable(fields: Fields) -> list[str]:
    return [name for name, known in fields.items() if known.settable and name != "kind"]


OFTEN = ("title", "text", "notes", "values", "occurred_at", "ended_at", "tags", "dose", "dose_unit", "remaining")
"""Fields that matter to rules over several, or that merge in ways of their own."""


@st.composite
def three(draw: st.DrawFn, fields: Fields, basis: Content, step: Step) -> tuple[Content, Content, Content]:
    """A content and what two people make of it: both at some fields, each at others too."""
    names = settable(fields)
    names += [name for name in OFTEN if name in fields for _ in range(2)]
    shared = draw(some(names, 2, 6))
    before = draw(changes(fields, [*shared, *draw(some(names, 0, 3))], basis))
    base = made(step, basis, before)
    one, other = ([*shared, *draw(some(names, 0, 2))] for _ in range(2))
    return base, *(made(step, base, draw(changes(fields, mine, base))) for mine in (one, other))


KINDS = (*records.KINDS, *("observation", "medication") * 4)
"""All, and those most often that have most to go wrong."""
NARRATIVE = ("cough since Monday,\nno fever\nno fever at night", "no cough since Monday, no fever at night")
STEPS = ("", "", "", "", "", "ada", "bob", "retract")


@st.composite
def of_records(draw: st.DrawFn, kinds: Sequence[str] = KINDS) -> Edits:
    """Two edits of a record: of a draft, or by amendments; signed meanwhile, or marked as entered in error."""
    kind = draw(st.sampled_from(kinds))
    said = {"text": draw(st.sampled_from(NARRATIVE))} if kind == "note" or draw(st.booleans()) else {"title": "Cough"}
    basis, step = records.new({"kind": kind, **said}), records.changed
    if draw(st.integers(0, 4)) == 4:
        basis, step = records.signed(basis, "ada", NOON), records.amended
    base, theirs, mine = draw(three(records.FIELDS[kind], basis, step))
    steps = draw(st.sampled_from(STEPS)), draw(st.sampled_from(STEPS))
    return Edits(records.mergeable(kind), base, _stepped(theirs, steps[0]), _stepped(mine, steps[1]))


def _stepped(content: Content, step: str) -> Content:
    if step == "retract":
        return records.retracted(content)
    return records.signed(content, step, NOON) if step and content["status"] == DRAFT else content


@st.composite
def of_patients(draw: st.DrawFn) -> Edits:
    """Two edits of a patient."""
    names = draw(st.sampled_from([{"family_name": "Ito"}, {"given_name": "Alice"}]))
    base, theirs, mine = draw(three(patients.FIELDS, patients.new(names), patients.changed))
    return Edits(patients.MERGEABLE, base, theirs, mine)


EDITS = st.one_of(of_records(), of_records(), of_patients())
