"""Records: what each kind needs, which step leads where, and how dates of unequal precision follow each other."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain import records
from heallog.domain.canon import same
from heallog.domain.errors import DomainError, InvalidFields, RecordSigned, WrongState
from heallog.domain.records import AMENDED, DRAFT, ENTERED_IN_ERROR, KINDS, SIGNED, STATUSES

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTE = {"kind": "note", "text": "Alice slept well."}
AMOXICILLIN = {"kind": "medication", "title": "Amoxicillin", "dose": 500, "dose_unit": "mg", "frequency": "8-hourly"}

Content = dict[str, Any]


def refused(step: Callable[[], object]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refusal:
        step()
    return [(error.field, error.code) for error in refusal.value.errors]


# -- beginning ----------------------------------------------------------------------------------------------------


def test_a_new_record_is_a_draft_of_what_was_written() -> None:
    assert records.new(AMOXICILLIN) == {**AMOXICILLIN, "status": DRAFT}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_begins_with_a_text_alone(kind: str) -> None:
    assert records.new({"kind": kind, "text": "Seen today."})["kind"] == kind


@pytest.mark.parametrize(
    "something",
    [
        {"title": "Fever"},
        {"code": {"system": "http://snomed.info/sct", "code": "386661006"}},
        {"values": {"temperature": {"value": 39.2, "unit": "Cel"}}},
    ],
)
def test_a_record_says_something(something: Content) -> None:
    assert records.new({"kind": "observation", **something}) == {"kind": "observation", **something, "status": DRAFT}
    assert refused(lambda: records.new({"kind": "observation"})) == [("title", "required")]


def test_an_allergy_says_what_it_is_to() -> None:
    assert records.new({"kind": "allergy", "substance": "Penicillin"})["substance"] == "Penicillin"


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("kind", "required")]),
        ({"kind": None}, [("kind", "required")]),
        ({"kind": "spell"}, [("kind", "choice")]),
        ({"kind": ["note"]}, [("kind", "choice")]),
        ({"kind": "spell", "text": 5, "dose": -1, "wand": 1}, [
            ("kind", "choice"), ("text", "type"), ("dose", "range"), ("wand", "unknown"),
        ]),
        ({"kind": "note", "title": "Empty"}, [("text", "required")]),
        ({"kind": "note"}, [("title", "required"), ("text", "required")]),
        ({"kind": "note", "text": "x", "dose": 5}, [("dose", "unknown")]),
        ({"kind": "note", "text": "x", "status": "signed", "signed_by": "ada", "signed_at": "2026"}, [
            ("status", "read_only"), ("signed_by", "read_only"), ("signed_at", "read_only"),
        ]),
        ({"kind": "medication", "title": "x", "dose": "500"}, [("dose", "type")]),
        ({"kind": "medication", "title": "x", "remaining": -1}, [("remaining", "range")]),
        ({"kind": "note", "text": "x", "remaining": 1}, [("remaining", "unknown")]),
        ({"kind": "observation", "title": "x", "bmi": 22}, [("bmi", "read_only")]),
        ({"kind": "note", "text": "x", "bmi": 22}, [("bmi", "unknown")]),
        ({"kind": "imaging", "title": "x", "instances": 1.5}, [("instances", "type")]),
        ({"kind": "report", "title": "x", "results": ["ok", "../up"]}, [("results.1", "pattern")]),
        ({"kind": "observation", "values": {"pulse": {"value": [1]}}}, [("values.pulse.value", "type")]),
        ({"kind": "observation", "code": {"system": "x"}}, [("code.code", "required")]),
    ],
)  # fmt: skip
def test_what_a_new_record_refuses(body: Content, errors: list[tuple[str, str]]) -> None:
    assert refused(lambda: records.new(body)) == errors


@pytest.mark.parametrize("body", [{"kind": "note", "text": " \n"}, {"kind": "condition", "title": " "}])
def test_spaces_say_nothing(body: Content) -> None:
    refused(lambda: records.new(body))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"kind": "goal"}, [("title", "code", "text", "values", "substance")]),
        ({"kind": "note", "title": "Empty"}, [("text",)]),
        ({"kind": "goal", "title": "x", "occurred_at": "2026", "ended_at": "2025"}, [("occurred_at", "ended_at")]),
        ({"kind": "goal", "title": "x", "occurred_at": "2026", "ended_at": "soon"}, [("ended_at",)]),
        ({"kind": "goal", "title": "x", "values": {"pulse": {"value": 60, "mood": "good"}}}, [("values.pulse",)]),
        ({"kind": "goal", "title": "x"}, []),
    ],
)
def test_a_broken_rule_names_the_fields_that_it_is_about(body: Content, fields: list[tuple[str, ...]]) -> None:
    found = records.mergeable(body["kind"]).broken({**body, "status": DRAFT})
    assert [broken.fields for broken in found] == fields


@pytest.mark.parametrize("status", STATUSES)
def test_what_is_imported_brings_its_status(status: str) -> None:
    assert records.imported(AMOXICILLIN, status) == {**AMOXICILLIN, "status": status}


def test_an_import_is_checked_like_anything_new_and_its_status_too() -> None:
    assert refused(lambda: records.imported({"kind": "note"}, SIGNED)) == [("title", "required"), ("text", "required")]
    assert refused(lambda: records.imported({**NOTE, "status": SIGNED}, SIGNED)) == [("status", "read_only")]
    for unknown in ("", "final", "Signed"):
        assert refused(lambda: records.imported(NOTE, unknown)) == [("status", "choice")]  # noqa: B023 - called at once


# -- which step leads where ---------------------------------------------------------------------------------------

STEPS: Mapping[str, Callable[[Content], Content]] = {
    "change": lambda content: records.changed(content, {"title": "Changed"}),
    "sign": lambda content: records.signed(content, "ada", NOON),
    "amend": lambda content: records.amended(content, {"title": "Amended"}),
    "retract": records.retracted,
    "revert": lambda content: records.reverted(content, {**NOTE, "status": DRAFT, "title": "Earlier"}),
}

LEADS: Mapping[str, Mapping[str, str | type[DomainError]]] = {
    DRAFT: {"change": DRAFT, "sign": SIGNED, "amend": WrongState, "retract": ENTERED_IN_ERROR, "revert": DRAFT},
    SIGNED: {
        "change": RecordSigned,
        "sign": WrongState,
        "amend": AMENDED,
        "retract": ENTERED_IN_ERROR,
        "revert": RecordSigned,
    },
    AMENDED: {
        "change": RecordSigned,
        "sign": WrongState,
        "amend": AMENDED,
        "retract": ENTERED_IN_ERROR,
        "revert": RecordSigned,
    },
    ENTERED_IN_ERROR: dict.fromkeys(STEPS, WrongState),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("status", STATUSES)
def test_every_step_from_every_status(status: str, step: str) -> None:
    before = records.imported(NOTE, status)
    match LEADS[status][step]:
        case str() as after:
            assert STEPS[step](before)["status"] == after
        case refusal:
            with pytest.raises(refusal):
                STEPS[step](before)
    assert before == {**NOTE, "status": status}


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=8))
def test_a_life_only_moves_forward_and_what_was_signed_stays_signed(steps: list[str]) -> None:
    content = records.new(NOTE)
    for step in steps:
        before = dict(content)
        try:
            content = STEPS[step](content)
        except DomainError:
            assert content == before
            continue
        assert STATUSES.index(content["status"]) >= STATUSES.index(before["status"])
        assert content["kind"] == "note"
        if "signed_by" in before:
            assert (content["signed_by"], content["signed_at"]) == ("ada", "2026-03-01T12:00:00.000Z")
        if before["status"] != DRAFT and step != "amend":
            assert content == {**before, "status": content["status"]}


def test_signing_adds_who_and_when_and_nothing_else() -> None:
    draft = records.new(AMOXICILLIN)
    assert records.signed(draft, "ada", NOON) == {
        **draft,
        "status": SIGNED,
        "signed_by": "ada",
        "signed_at": "2026-03-01T12:00:00.000Z",
    }


def test_a_change_sets_some_fields_takes_away_others_and_leaves_the_rest() -> None:
    draft = records.new(AMOXICILLIN)
    assert records.changed(draft, {"dose": 250.0, "frequency": None, "route": "oral", "kind": "medication"}) == {
        "kind": "medication",
        "title": "Amoxicillin",
        "dose": 250,
        "dose_unit": "mg",
        "route": "oral",
        "status": DRAFT,
    }


def test_no_change_is_no_change() -> None:
    draft = records.new(AMOXICILLIN)
    assert records.changed(draft, {}) == draft


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"kind": "note", "dose": -1}, [("kind", "immutable"), ("dose", "range")]),
        ({"kind": None}, [("kind", "immutable")]),
        ({"status": None}, [("status", "read_only")]),
        ({"signed_by": "mallory"}, [("signed_by", "read_only")]),
        ({"lot_number": "7"}, [("lot_number", "unknown")]),
        ({"title": None}, [("title", "required")]),
    ],
)
def test_what_a_change_refuses(changes: Content, errors: list[tuple[str, str]]) -> None:
    draft = records.new(AMOXICILLIN)
    assert refused(lambda: records.changed(draft, changes)) == errors
    assert refused(lambda: records.amended({**draft, "status": SIGNED}, changes)) == errors


def test_an_amendment_keeps_the_signature() -> None:
    signed = records.signed(records.new(AMOXICILLIN), "ada", NOON)
    assert records.amended(signed, {"dose": 250}) == {**signed, "dose": 250, "status": AMENDED}


def test_reverting_a_draft_takes_the_earlier_fields_whole() -> None:
    draft = records.new({**NOTE, "tags": ["sleep"]})
    assert records.reverted(draft, records.new(NOTE)) == {**NOTE, "status": DRAFT}


# -- what follows from other fields -----------------------------------------------------------------------------------


def measured(**values: tuple[Any, str]) -> Content:
    return {"values": {name: {"value": value, "unit": unit} for name, (value, unit) in values.items()}}


def index(weight: Any, height: Any) -> Any:
    body = {"kind": "observation", "title": "Body", "values": {"weight": weight, "height": height}}
    return records.new(body).get("bmi")


KG_70, CM_175 = {"value": 70, "unit": "kg"}, {"value": 175, "unit": "cm"}


@pytest.mark.parametrize(
    ("weight", "height", "bmi"),
    [
        ((70, "kg"), (175, "cm"), 22.9),
        ((70, "kg"), (1.75, "m"), 22.9),
        ((70_000, "g"), (1.75, "m"), 22.9),
        ((154, "[lb_av]"), (69, "[in_i]"), 22.7),
        ((100, "kg"), (2, "m"), 25),
        ((3_400, "g"), (50, "cm"), 13.6),
        # Exactly between two: upwards, whatever a double would make of it.
        ((56.2, "kg"), (2, "m"), 14.1),
        ((57.8, "kg"), (2, "m"), 14.5),
        ((5, "kg"), (1, "m"), 5),
        ((4.999, "kg"), (1, "m"), None),
        ((300, "kg"), (1, "m"), 300),
        ((300.001, "kg"), (1, "m"), None),
        ((70, "kg"), (175, "m"), None),
        ((70, "g"), (175, "cm"), None),
        ((70, "kg"), (5e-324, "m"), None),
        ((5e-324, "kg"), (175, "cm"), None),
        ((0, "kg"), (175, "cm"), None),
        ((-70, "kg"), (175, "cm"), None),
        ((70, "kg"), (0, "cm"), None),
        ((70, "kg"), (-175, "cm"), None),
        ((70, "lb"), (175, "cm"), None),
        ((70, "kg"), (175, "inch"), None),
        (("70", "kg"), (175, "cm"), None),
        ((True, "kg"), (1, "m"), None),
    ],
)
def test_a_body_mass_index_comes_from_weight_and_height(weight: Any, height: Any, bmi: Any) -> None:
    content = records.new({"kind": "observation", **measured(weight=weight, height=height)})
    assert same(content.get("bmi"), bmi)
    assert "bmi" not in content or records.mergeable("observation").broken(content) == []


@pytest.mark.parametrize(
    "weight",
    [
        {"value": 70},
        {"unit": "kg"},
        {},
        {**KG_70, "comparator": ">"},
        {"unit": "kg", "absent": "scales broken"},
        {**KG_70, "absent": "estimated"},
    ],
)
def test_no_index_where_the_weight_is_no_plain_amount(weight: Content) -> None:
    assert index(KG_70, CM_175) == 22.9
    assert index(weight, CM_175) is None


def test_no_index_without_both_and_for_no_other_kind() -> None:
    for one in ({"weight": KG_70}, {"height": CM_175}, {"Weight": KG_70, "height": CM_175}, {}):
        assert "bmi" not in records.new({"kind": "observation", "title": "Body", "values": one})
    assert "bmi" not in records.new({"kind": "report", "title": "Body", **measured(weight=(70, "kg"), height=(1, "m"))})


def test_the_index_follows_its_values_through_a_records_life() -> None:
    first = records.new({"kind": "observation", **measured(weight=(70, "kg"), height=(175, "cm"))})
    heavier = records.changed(first, measured(weight=(80, "kg"), height=(175, "cm")))
    assert heavier["bmi"] == 26.1
    assert records.changed(heavier, {"title": "Body"})["bmi"] == 26.1
    assert "bmi" not in records.changed(heavier, measured(weight=(80, "kg")))
    assert "bmi" not in records.changed(records.changed(heavier, {"title": "Body"}), {"values": None})
    assert records.reverted(heavier, first) == first
    assert records.imported({"kind": "observation", **measured(weight=(70, "kg"), height=(175, "cm"))}, SIGNED) == {
        **first, "status": SIGNED,
    }  # fmt: skip
    signed = records.signed(heavier, "ada", NOON)
    assert signed["bmi"] == records.retracted(signed)["bmi"] == 26.1
    assert records.amended(signed, measured(weight=(70, "kg"), height=(175, "cm")))["bmi"] == 22.9


def test_what_was_written_before_there_was_an_index_gets_it_with_its_next_change() -> None:
    old = {"kind": "observation", "status": DRAFT, **measured(weight=(70, "kg"), height=(175, "cm"))}
    assert records.signed(old, "ada", NOON).get("bmi") is None
    assert records.changed(old, {"title": "Body"})["bmi"] == 22.9
    assert records.reverted({**old, "title": "Body"}, old)["bmi"] == 22.9


def test_nobody_writes_the_index() -> None:
    draft = records.new({"kind": "observation", **measured(weight=(70, "kg"), height=(175, "cm"))})
    assert refused(lambda: records.changed(draft, {"bmi": 20})) == [("bmi", "read_only")]
    assert refused(lambda: records.changed(draft, {"bmi": None})) == [("bmi", "read_only")]


def test_what_is_left_is_counted_in_parts_too() -> None:
    assert records.changed(records.new(AMOXICILLIN), {"remaining": 9.5})["remaining"] == 9.5


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("occurred_at", "ended_at", "possible"),
    [
        ("2020", "2020", True),
        ("2020-06", "2020", True),
        ("2020", "2020-01-01", True),
        ("2020-06-15", "2020-06", True),
        ("2020-06", "2020-06-01", True),
        ("2020-06-15", "2020-06-15", True),
        ("2020-06-15T10:00:00Z", "2020-06-15", True),
        ("2020-06-15T10:00:00Z", "2020-06-15T10:00:00Z", True),
        ("2020-06-15T10:00:00+02:00", "2020-06-15T08:00:00Z", True),
        ("2020-12-31T23:00:00Z", "2020-12", True),
        ("2020-02-29", "2020-02", True),
        ("2020", "2019", False),
        ("2020-06", "2019", False),
        ("2020-06", "2020-05", False),
        ("2020-06-15", "2020-06-14", False),
        ("2020-03-01", "2020-02", False),
        ("2020-06-15T10:00:00Z", "2020-06-15T09:59:59Z", False),
        ("2020-06-15T10:00:00+02:00", "2020-06-15T07:59:59Z", False),
        ("2020-06-15T10:00:00Z", "2020-06-13", False),
    ],
)
def test_an_end_may_not_lie_before_its_beginning(occurred_at: str, ended_at: str, possible: bool) -> None:
    times = {"occurred_at": occurred_at, "ended_at": ended_at}
    if possible:
        assert records.new({**NOTE, **times})["status"] == DRAFT
    else:
        assert refused(lambda: records.new({**NOTE, **times})) == [("ended_at", "order")]
        draft = records.new({**NOTE, "occurred_at": occurred_at})
        assert refused(lambda: records.changed(draft, {"ended_at": ended_at})) == [("ended_at", "order")]


@pytest.mark.parametrize("ended_at", ["2020-12-31", "2020-12", "2020"])
def test_the_last_minute_of_a_day_belongs_to_it(ended_at: str) -> None:
    records.new({**NOTE, "occurred_at": "2020-12-31T23:59:30Z", "ended_at": ended_at})


def test_an_evening_west_of_greenwich_may_end_on_its_own_date() -> None:
    records.new({**NOTE, "occurred_at": "2020-06-15T20:30:00-05:00", "ended_at": "2020-06-15"})


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("2015", datetime(2015, 1, 1, tzinfo=UTC), datetime(2015, 12, 31, tzinfo=UTC)),
        ("2015-02", datetime(2015, 2, 1, tzinfo=UTC), datetime(2015, 2, 28, tzinfo=UTC)),
        ("2016-02", datetime(2016, 2, 1, tzinfo=UTC), datetime(2016, 2, 29, tzinfo=UTC)),
        ("2015-12", datetime(2015, 12, 1, tzinfo=UTC), datetime(2015, 12, 31, tzinfo=UTC)),
        ("2015-02-08", datetime(2015, 2, 8, tzinfo=UTC), datetime(2015, 2, 8, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
        ("9999", datetime(9999, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_the_first_instant_and_the_last_day_that_a_date_may_mean(value: str, first: datetime, last: datetime) -> None:
    assert records.started_at(value) == first
    assert records.started_at(value, latest=True).date() == last.date()


def test_an_exact_time_means_itself() -> None:
    exact = "2015-02-08T10:20:30.400Z"
    assert records.started_at(exact) == records.started_at(exact, latest=True) == datetime.fromisoformat(exact)


@given(st.dates(), st.sampled_from([4, 7, 10]))
def test_a_date_spans_what_it_leaves_open(day: Any, precision: int) -> None:
    value = str(day)[:precision]
    first, last = records.started_at(value), records.started_at(value, latest=True)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    assert first <= noon <= last
    assert last - first < timedelta(days={4: 366, 7: 31, 10: 1}[precision])
    assert first.isoformat()[:precision] == last.isoformat()[:precision] == value


# -- telling the API's reader -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_describes_itself(kind: str) -> None:
    shown, written = records.schema(kind), records.schema(kind, writing=True)
    assert shown["properties"]["kind"] == {"const": kind}
    assert shown["required"] == ["kind"]
    ours = {"status", "signed_by", "signed_at"} | ({"bmi"} if kind == "observation" else set())
    assert set(shown["properties"]) - set(written["properties"]) == ours
    assert set(shown["properties"]) == set(records.FIELDS[kind])
    assert set(records.FIELDS[kind]) <= set(records.ANY)
