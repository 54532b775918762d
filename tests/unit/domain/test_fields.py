"""The shapes of fields: what they take, what they refuse, and what they promise."""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heallog.domain import patients, records
from heallog.domain.accounts import REGISTRATION
from heallog.domain.canon import canonical, decode, same
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import (
    ID,
    MAX_SAFE_INTEGER,
    AnyOf,
    Boolean,
    Choice,
    Day,
    Errors,
    Field,
    Fields,
    Group,
    ListOf,
    Moment,
    Named,
    Number,
    Pattern,
    Shape,
    Text,
    check_fields,
    object_schema,
    read,
)
from heallog.domain.passwords import Password
from heallog.domain.sessions import LOGIN

from .values import ANY_TEXT, TIMES, WILD

# -- shapes: what they take and refuse ----------------------------------------------------------------------------

ADDRESS = Group({"city": Field(Text(20), required=True), "lines": Field(ListOf(Text(10), most=2))})


def checked(shape: Shape, value: Any) -> tuple[Any, list[tuple[str, str]]]:
    errors: Errors = []
    found = shape.check(value, "field", errors)
    return found, [(error.field, error.code) for error in errors]


@pytest.mark.parametrize(
    ("shape", "value", "kept"),
    [
        (Text(5), "", ""),
        (Text(5), "Zoë 🩺", "Zoë 🩺"),
        (Text(5, shortest=2), " ab ", " ab "),
        (Text(20, lines=True), "one\ttwo\r\nthree", "one\ttwo\r\nthree"),
        (ID, "0198c0de-7000.A", "0198c0de-7000.A"),
        (ID, "x" * 64, "x" * 64),
        (Choice(("low", "high")), "high", "high"),
        (Boolean(), False, False),
        (Number(), MAX_SAFE_INTEGER, MAX_SAFE_INTEGER),
        (Number(), -MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER),
        (Number(), 36.6, 36.6),
        (Number(), 5e-324, 5e-324),
        (Number(), 120.0, 120),
        (Number(), -0.0, 0),
        (Number(least=0, whole=True), 3.0, 3),
        (Number(least=0.5), 0.5, 0.5),
        (Number(most=10), 10, 10),
        (Day(), "1980", "1980"),
        (Day(), "1980-02", "1980-02"),
        (Day(), "2024-02-29", "2024-02-29"),
        (Moment(), "2015", "2015"),
        (Moment(), "2015-02-08", "2015-02-08"),
        (Moment(), "2015-02-08T10:20:30Z", "2015-02-08T10:20:30.000Z"),
        (Moment(), "2015-02-08t10:20:30.123456789z", "2015-02-08T10:20:30.123Z"),
        (Moment(), "2015-02-08 10:20+02:00", "2015-02-08T08:20:00.000Z"),
        (Moment(exact=True), "2015-01-01T00:30:00+01:00", "2014-12-31T23:30:00.000Z"),
        (Moment(exact=True), "2015-02-08T10:20:30-00:00", "2015-02-08T10:20:30.000Z"),
        (ListOf(Text(5), most=2), ["a", "a"], ["a", "a"]),
        (ListOf(Text(5), unique=True), ["b", "a", "b"], ["b", "a"]),
        (ListOf(Text(5)), [], []),
        (ADDRESS, {"city": "Jos", "lines": None}, {"city": "Jos"}),
        (Named(Number()), {"systolic": 120.0, "a_b-1": 1.5}, {"systolic": 120, "a_b-1": 1.5}),
        (AnyOf(Text(5)), "mild", "mild"),
        (AnyOf(Text(5)), 37.0, 37),
        (AnyOf(Text(5)), True, True),
    ],
)
def test_what_a_shape_takes_and_how_it_keeps_it(shape: Shape, value: Any, kept: Any) -> None:
    found, errors = checked(shape, value)
    assert errors == []
    assert same(found, kept)


@pytest.mark.parametrize(
    ("shape", "value", "code"),
    [
        (Text(), 5, "type"),
        (Text(), None, "type"),
        (Text(), ["a"], "type"),
        (Text(5), "sixsix", "too_long"),
        (Text(5, shortest=1), "", "too_short"),
        (Text(5, shortest=1), " \u00a0\u2003", "too_short"),
        (Text(9, shortest=3), " ab ", "too_short"),
        (Text(), "nul\x00", "character"),
        (Text(), "line\nbreak", "character"),
        (Text(), "escape\x1b[31m", "character"),
        (Text(lines=True), "del\x7f", "character"),
        (Text(lines=True), "form\x0cfeed", "character"),
        (Text(lines=True), "half \ud800", "character"),
        (Text(), "half \udfff", "character"),
        (ID, "", "pattern"),
        (ID, "x" * 65, "pattern"),
        (ID, "with space", "pattern"),
        (ID, "trailing\n", "pattern"),
        (ID, "../../etc", "pattern"),
        (ID, "idé", "pattern"),
        (ID, "under_score", "pattern"),
        (ID, 5, "type"),
        (Choice(("low", "high")), "HIGH", "choice"),
        (Choice(("low", "high")), ["low"], "choice"),
        (Choice(("low", "high")), None, "choice"),
        (Boolean(), 1, "type"),
        (Boolean(), "true", "type"),
        (Number(), "1", "type"),
        (Number(), True, "type"),
        (Number(), None, "type"),
        (Number(), MAX_SAFE_INTEGER + 1, "range"),
        (Number(), -MAX_SAFE_INTEGER - 1, "range"),
        (Number(), 2.0**53, "range"),
        (Number(), 10**4000, "range"),
        (Number(), math.nan, "range"),
        (Number(), math.inf, "range"),
        (Number(), decode("-1e999"), "range"),
        (Number(least=0), -1, "range"),
        (Number(least=0), -0.1, "range"),
        (Number(most=10), 10.5, "range"),
        (Number(whole=True), 1.5, "type"),
        (Day(), 1980, "type"),
        (Day(), "", "date"),
        (Day(), "80", "date"),
        (Day(), "0000", "date"),
        (Day(), "1980-13", "date"),
        (Day(), "1980-00", "date"),
        (Day(), "2023-02-30", "date"),
        (Day(), "2023-02-29", "date"),
        (Day(), "2023-2-3", "date"),
        (Day(), "20230203", "date"),
        (Day(), "1980\n", "date"),
        (Day(), "١٩٨٠", "date"),
        (Day(), "2023-02-03T10:00:00Z", "date"),
        (Moment(), 20150208, "type"),
        (Moment(), "2015-02-30", "datetime"),
        (Moment(), "yesterday", "datetime"),
        (Moment(), "2015-02-30T10:00:00Z", "datetime"),
        (Moment(), "2015-02-08T25:00:00Z", "datetime"),
        (Moment(), "2015-02-08T10:00:00", "datetime"),
        (Moment(), "2015-02-08T10:00:00+99:00", "datetime"),
        (Moment(), "2015-02-08T10:00:00.0000000001Z", "datetime"),
        (Moment(), "0001-01-01T00:00:00+14:00", "datetime"),
        (Moment(), "9999-12-31T23:59:59-14:00", "datetime"),
        (Moment(), "٢٠١٥-02-08T10:00:00Z", "datetime"),
        (Moment(exact=True), "2015-02-08", "datetime"),
        (ListOf(Text()), "abc", "type"),
        (ListOf(Text()), {"0": "a"}, "type"),
        (ListOf(Text(), most=2), ["a", "b", "c"], "too_many"),
        (ADDRESS, ["Jos"], "type"),
        (Named(Number()), [1], "type"),
        (Named(Number(), most=1), {"a": 1, "b": 2}, "too_many"),
        (AnyOf(Text(5)), None, "type"),
        (AnyOf(Text(5)), [1], "type"),
        (AnyOf(Text(5)), "sixsix", "too_long"),
        (AnyOf(Text(5)), 2**53, "range"),
    ],
)
def test_what_a_shape_refuses(shape: Shape, value: Any, code: str) -> None:
    assert checked(shape, value)[1] == [("field", code)]


@pytest.mark.parametrize(
    ("shape", "value", "errors"),
    [
        (ListOf(Text(2)), ["a", 5, "abc"], [("field.1", "type"), ("field.2", "too_long")]),
        (ADDRESS, {"town": "Jos"}, [("field.town", "unknown"), ("field.city", "required")]),
        (ADDRESS, {"city": "Jos", "lines": ["x", "\x00"]}, [("field.lines.1", "character")]),
        (Named(ADDRESS), {"home": {"city": 5}}, [("field.home.city", "type")]),
        (Named(Number()), {"": 1, "a b": "x"}, [("field.", "name"), ("field.a b", "name"), ("field.a b", "type")]),
        (Named(Number()), {"k" * 65: 1}, [("field." + "k" * 64, "name")]),
    ],
)
def test_every_error_says_where_it_is(shape: Shape, value: Any, errors: list[tuple[str, str]]) -> None:
    assert checked(shape, value)[1] == errors


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ab\x00", "contains a control character (U+0000) at position 2"),
        ("\udead", "contains half of a surrogate pair (U+DEAD) at position 0"),
    ],
)
def test_a_bad_character_is_named_not_repeated(text: str, says: str) -> None:
    errors: Errors = []
    Text().check(text, "name", errors)
    assert errors[0].message == says


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200))
def test_a_line_holds_every_other_character(text: str) -> None:
    assert checked(Text(200), text) == (text, [])


@given(st.integers(-(10**25), 10**25) | st.floats())
def test_a_number_that_passes_is_read_back_exactly_by_every_client(number: float) -> None:
    found, errors = checked(Number(), number)
    assert (errors == []) == (math.isfinite(number) and abs(number) <= MAX_SAFE_INTEGER)
    if not errors:
        assert float(found) == number
        assert decode(canonical(found)) == found


# -- shapes: laws -------------------------------------------------------------------------------------------------


def valid(shape: Shape) -> st.SearchStrategy[Any]:  # noqa: C901 - one line per shape
    """Values that a shape takes, read from its declaration."""
    match shape:
        case Text():
            kept = "\n\t\r" if shape.lines else ""
            letters = st.characters(exclude_categories=["Cc", "Cs"], include_characters=kept)
            short = min(shape.longest, 12)
            return st.text(letters, max_size=short).filter(lambda text: len(text.strip()) >= shape.shortest)
        case Password():
            # Composed already, so that what is counted is what is written.
            letters = st.characters(exclude_categories=["Cc", "Cs", "Mn"], max_codepoint=0x2FF)
            return st.text(letters, min_size=shape.shortest, max_size=shape.shortest + 12)
        case Pattern():
            return st.from_regex(shape.pattern, fullmatch=True)
        case Choice():
            return st.sampled_from(shape.of)
        case Boolean():
            return st.booleans()
        case Number():
            least = -MAX_SAFE_INTEGER if shape.least is None else shape.least
            whole = st.integers(math.ceil(least), math.floor(shape.most))
            return whole if shape.whole else whole | st.floats(least, shape.most)
        case Day():
            return st.dates().flatmap(lambda day: st.sampled_from([str(day), str(day)[:7], str(day)[:4]]))
        case Moment():
            exact = TIMES.map(lambda time: time.isoformat())
            return exact if shape.exact else exact | valid(Day())
        case ListOf():
            return st.lists(valid(shape.item), max_size=min(shape.most, 3))
        case Group():
            return valid_body(shape.fields)
        case Named():
            names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
            return st.dictionaries(names, valid(shape.item), max_size=2)
        case AnyOf():
            return valid(shape.text) | valid(shape.number) | st.booleans()
        case _:
            raise AssertionError(f"tell the tests what {shape} takes")


def valid_body(fields: Fields) -> st.SearchStrategy[dict[str, Any]]:
    written = {name: known for name, known in fields.items() if known.settable}
    required = {name: valid(known.shape) for name, known in written.items() if known.required}
    others = {name: st.none() | valid(known.shape) for name, known in written.items() if not known.required}
    some = st.lists(st.sampled_from(sorted(others)), max_size=5, unique=True) if others else st.just([])
    return some.flatmap(
        lambda names: st.fixed_dictionaries({**required, **{name: others[name] for name in sorted(names)}})
    )


JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def satisfies(value: Any, schema: Mapping[str, Any]) -> bool:
    """The part of JSON Schema that shapes speak."""
    if "anyOf" in schema:
        return any(satisfies(value, option) for option in schema["anyOf"])
    if "const" in schema:
        return bool(value == schema["const"])
    if not isinstance(value, JSON_TYPES[schema["type"]]) or (isinstance(value, bool) != (schema["type"] == "boolean")):
        return False
    match value:
        case str():
            return (
                schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
                and re.search(schema.get("pattern", ""), value) is not None
                and value in schema.get("enum", [value])
                and (schema.get("format") != "date-time" or datetime.fromisoformat(value).tzinfo is not None)
            )
        case int() | float():
            return not isinstance(value, bool) or schema["type"] == "boolean"
        case list():
            return len(value) <= schema["maxItems"] and all(satisfies(item, schema["items"]) for item in value)
        case dict():
            known = schema.get("properties", {})
            rest = schema["additionalProperties"]
            return (
                set(schema.get("required", ())) <= value.keys()
                and len(value) <= schema.get("maxProperties", math.inf)
                and all(re.search(schema.get("propertyNames", {}).get("pattern", ""), name) for name in value)
                and all(name in known or rest for name in value)
                and all(satisfies(item, known.get(name, rest)) for name, item in value.items())
            )
    return True


SHAPES: dict[str, Shape] = {
    "one line": Text(12),
    "lines": Text(12, lines=True),
    "not empty": Text(12, shortest=1),
    "id": ID,
    "choice": Choice(("draft", "signed")),
    "boolean": Boolean(),
    "number": Number(),
    "amount": Number(least=0),
    "count": Number(least=0, most=10, whole=True),
    "day": Day(),
    "moment": Moment(),
    "instant": Moment(exact=True),
    "list": ListOf(Number(), most=3),
    "tags": ListOf(Text(12, shortest=1), most=3, unique=True),
    "any": AnyOf(Text(12)),
    "address": ADDRESS,
    "measurements": Named(records.MEASUREMENT, most=3),
    "patient": Group(patients.FIELDS),
    "registration": Group(REGISTRATION),
    "login": Group(LOGIN),
    "medication": Group(records.FIELDS["medication"]),
}


def assert_kept(shape: Shape, found: Any) -> None:
    """What passed is what the schema promises, and passes again unchanged."""
    assert satisfies(found, shape.schema())
    again, errors = checked(shape, found)
    assert errors == []
    assert same(again, found)


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_a_shape_takes_what_it_declares(name: str, data: st.DataObject) -> None:
    shape = SHAPES[name]
    found, errors = checked(shape, data.draw(valid(shape)))
    assert errors == []
    assert_kept(shape, found)


@given(st.sampled_from(records.KINDS), st.data())
def test_every_kind_of_record_takes_what_it_declares(kind: str, data: st.DataObject) -> None:
    shape = Group(records.FIELDS[kind])
    found, errors = checked(shape, data.draw(valid(shape)))
    assert errors == []
    assert_kept(shape, found)


@given(WILD | st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "kind", "values", "tags"), WILD)))
def test_shapes_answer_anything_at_all_with_a_value_or_with_errors(value: Any) -> None:
    for shape in SHAPES.values():
        errors: Errors = []
        found = shape.check(value, "field", errors)
        for error in errors:
            assert error.field == "field" or error.field.startswith("field.")
            assert error.field.isprintable()
            assert error.message.isprintable()
        if not errors:
            assert_kept(shape, found)


@given(ANY_TEXT)
def test_an_unknown_key_is_told_in_print_and_cut_short(key: str) -> None:
    assume(key not in ADDRESS.fields)
    errors: Errors = []
    check_fields(ADDRESS.fields, {"city": "Jos", key: 1}, errors, "address.")
    (error,) = errors
    assert error.code == "unknown"
    assert error.field.isprintable()
    assert len(error.field) <= len("address.") + 64


# -- bodies -------------------------------------------------------------------------------------------------------

BODY: Fields = {
    "name": Field(Text(10), required=True, says="As written."),
    "born": Field(Day()),
    "address": Field(ADDRESS),
    "readings": Field(Named(ListOf(Number(least=0)))),
    "signed_by": Field(ID, settable=False),
}


def test_everything_wrong_with_a_body_is_told_at_once_and_by_path() -> None:
    body = {
        "born": "2023-02-30",
        "address": {"lines": ["ok", "far too long a line"], "planet": "Mars"},
        "readings": {"pulse": [60, -1, "x"], "not a name": []},
        "signed_by": "alice",
        "shoe_size": 43,
    }
    with pytest.raises(InvalidFields) as refusal:
        read(BODY, body)
    assert [(error.field, error.code) for error in refusal.value.errors] == [
        ("born", "date"),
        ("address.lines.1", "too_long"),
        ("address.planet", "unknown"),
        ("address.city", "required"),
        ("readings.pulse.1", "range"),
        ("readings.pulse.2", "type"),
        ("readings.not a name", "name"),
        ("signed_by", "read_only"),
        ("shoe_size", "unknown"),
        ("name", "required"),
    ]
    assert refusal.value.field == "born"


def test_a_body_that_is_right_comes_back_in_its_normal_form() -> None:
    body = {"name": "Alice", "born": None, "readings": {"pulse": [60.0]}}
    assert read(BODY, body) == {"name": "Alice", "readings": {"pulse": [60]}}


def test_what_is_stored_has_the_fields_too_that_no_caller_may_set() -> None:
    errors: Errors = []
    assert check_fields(BODY, {"name": "Alice", "signed_by": "ada"}, errors, stored=True) == {
        "name": "Alice", "signed_by": "ada",
    }  # fmt: skip
    assert errors == []
    check_fields(BODY, {"name": "Alice", "signed_by": "../up", "shoe_size": 43}, errors, stored=True)
    assert [(error.field, error.code) for error in errors] == [("signed_by", "pattern"), ("shoe_size", "unknown")]


def test_null_where_something_is_required_is_missing() -> None:
    with pytest.raises(InvalidFields) as refusal:
        read(BODY, {"name": None})
    assert refusal.value.errors == (FieldError("name", "required", "is required"),)


@pytest.mark.parametrize("body", [None, [], "name", 5])
def test_a_body_is_an_object(body: object) -> None:
    with pytest.raises(InvalidFields, match="must be an object"):
        read(BODY, body)


def test_checking_leaves_the_body_as_it_was() -> None:
    body = {"name": "Alice", "readings": {"pulse": [60.0]}, "address": {"city": "Jos", "lines": None}}
    before = canonical(body)
    read(BODY, body)
    assert canonical(body) == before


def test_a_schema_tells_readers_more_than_writers() -> None:
    shown = object_schema(BODY)
    assert shown["required"] == ["name"]
    assert shown["additionalProperties"] is False
    assert shown["properties"]["name"] == {"type": "string", "maxLength": 10, "description": "As written."}
    assert shown["properties"]["signed_by"]["readOnly"] is True
    assert "signed_by" not in object_schema(BODY, writing=True)["properties"]
    assert "required" not in object_schema({"born": Field(Day())})


def test_a_group_without_a_path_speaks_of_its_fields_plainly() -> None:
    errors: Errors = []
    ADDRESS.check({"city": 5}, "", errors)
    assert [error.field for error in errors] == ["city"]
