"""JSON as it is written and read: one byte form, whoever writes it."""

import json
import math
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.canon import canonical, decode, moment, reread, same
from heallog.domain.errors import MalformedJson

from .values import ANY_TEXT, JSON, NUMBERS, TIMES, WILD, json_values


def key_by_key_backwards(value: Any) -> Any:
    match value:
        case dict():
            return {key: key_by_key_backwards(value[key]) for key in reversed(value)}
        case list():
            return [key_by_key_backwards(item) for item in value]
        case _:
            return value


@given(JSON)
def test_what_was_written_is_what_is_read(value: Any) -> None:
    assert same(decode(canonical(value)), value)
    assert canonical(decode(canonical(value))) == canonical(value)


def standard(value: Any) -> bytes:
    """The canonical form, by the standard library alone: what every hash was taken over since the first version."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


MAGNITUDES = st.floats(-20, 20).map(lambda power: 10.0**power) | st.sampled_from(
    [1e-4, 9.999e-5, 1e16, 1e15, 0.0, -0.0]
)
EITHER_WAY = json_values(
    st.none() | st.booleans() | NUMBERS | MAGNITUDES | MAGNITUDES.map(lambda f: -f) | st.text(), st.text()
)


@given(EITHER_WAY)
def test_both_encoders_write_the_standard_form(value: Any) -> None:
    assert canonical(value) == standard(value)


def test_both_encoders_write_every_character_alike() -> None:
    every = [chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF]
    assert canonical({"every": "".join(every)}) == standard({"every": "".join(every)})
    assert canonical(dict.fromkeys(every[::257])) == standard(dict.fromkeys(every[::257]))


@given(WILD)
def test_what_has_no_standard_form_has_none_here(value: Any) -> None:
    try:
        expected = standard(value)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            canonical(value)
    else:
        assert canonical(value) == expected


@given(EITHER_WAY)
def test_what_was_kept_is_reread_as_it_is_read(value: Any) -> None:
    kept = canonical(value)
    assert same(reread(kept), decode(kept))
    assert canonical(reread(kept)) == kept


@given(JSON)
def test_the_order_of_keys_is_no_part_of_a_value(value: Any) -> None:
    assert canonical(key_by_key_backwards(value)) == canonical(value)


def test_the_canonical_form_is_sorted_dense_and_utf_8() -> None:
    value = {"b": [1, 2.5, True, None], "a": {"ü": "Zoë\n"}}
    assert canonical(value) == '{"a":{"ü":"Zoë\\n"},"b":[1,2.5,true,null]}'.encode()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_canonical_form_for_what_is_not_json(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical([number])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1, True),
        (1, True, False),
        (0, False, False),
        (1, 1.0, False),
        ([1], [True], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
        ("e\u0301", "\u00e9", False),
    ],
)
def test_which_values_are_the_same(one: object, other: object, alike: bool) -> None:
    assert same(one, other) is alike
    assert same(other, one) is alike


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "line 1 column 2"),
        (b"{} {}", "Extra data"),
        (b"\xef\xbb\xbf{}", "Expecting value"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'"\x01"', "control character"),
        (b"01", "Extra data"),
        (b'{"a":1,"a":1}', "'a' appears twice"),
        (b'{"a":1,"\\u0061":2}', "'a' appears twice"),
        (b'[{"x":{"deep":1,"y":2,"deep":3}}]', "'deep' appears twice"),
        (b'{"\\ud800":1,"\\ud800":2}', r"'\ud800' appears twice"),
        (b'{"' + b"k" * 200 + b'":1,"' + b"k" * 200 + b'":2}', "kkk... appears twice"),
        (b"NaN", "NaN is not JSON"),
        (b'{"a":[-Infinity]}', "-Infinity is not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"9" * 5_000, "too many digits"),
        (b"[-" + b"9" * 5_000 + b"]", "too many digits"),
    ],
)
def test_what_is_not_one_json_value_is_malformed(raw: bytes, says: str) -> None:
    with pytest.raises(MalformedJson) as refusal:
        decode(raw)
    assert says in refusal.value.message
    assert len(refusal.value.message) < 120
    refusal.value.message.encode()


BRACKETS = st.lists(
    st.sampled_from(["{", "}", "[", "]", '"', '"a"', ":", ",", "1", "-", "1e999", "NaN", "\\u", "\\ud800", "9" * 4400]),
    max_size=12,
).map("".join)


@given(st.binary() | ANY_TEXT | BRACKETS | st.builds(lambda value, cut: canonical(value)[:cut], JSON, st.integers()))
def test_nothing_but_malformed_comes_of_reading_anything(raw: bytes | str) -> None:
    with suppress(MalformedJson):
        decode(raw)


@given(st.dictionaries(st.text(), JSON, min_size=1), st.data())
def test_a_key_never_counts_twice_however_deep(value: dict[str, Any], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(sorted(value)))
    repeated = canonical(value)[:-1] + b"," + canonical({again: None})[1:]
    with pytest.raises(MalformedJson, match="appears twice"):
        decode(b'{"outer":[' + repeated + b"]}")


def test_text_is_read_as_bytes_are() -> None:
    assert decode('{"name":"Zoë"}') == decode('{"name":"Zoë"}'.encode()) == {"name": "Zoë"}


@given(TIMES, TIMES)
def test_moments_sort_as_the_times_they_write(one: datetime, other: datetime) -> None:
    cut = one.replace(microsecond=one.microsecond // 1000 * 1000)
    assert datetime.fromisoformat(moment(one)) == cut
    assert (moment(one) <= moment(other)) == (cut <= other)


def test_a_moment_looks_like_this() -> None:
    berlin = timezone(timedelta(hours=2))
    assert moment(datetime(2026, 3, 1, 11, 30, 0, 123_999, berlin)) == "2026-03-01T09:30:00.123Z"
