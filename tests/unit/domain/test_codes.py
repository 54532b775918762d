"""One-time codes: eight digits, for one purpose and one address, once, for a while, after few looks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.codes import LIFE, LOOKS, OneTimeCode, Purpose, digest, digits, good, wait

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
KEY, OLD, OTHER = b"the key in use", b"the key before", b"a stranger's key"
ADA = "ada@north.example"


def sent(
    code: str = "01234567", key: bytes = KEY, at: datetime = NOON, purpose: Purpose = Purpose.RESET
) -> OneTimeCode:
    return OneTimeCode("code-1", ADA, purpose, "ada", digest(key, purpose, ADA, code), at, at + LIFE)


# -- what a code is -----------------------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=16))
def test_a_code_is_eight_digits_of_chance(chance: bytes) -> None:
    code = digits(chance)
    assert len(code) == 8
    assert int(code) == int.from_bytes(chance) % 10**8


def test_small_numbers_have_eight_digits_too() -> None:
    assert digits(bytes(15) + b"\x07") == "00000007"
    assert digits(bytes(16)) == "00000000"


# -- whether it is the code ---------------------------------------------------------------------------------------


def test_the_code_is_good() -> None:
    assert good(sent(), "01234567", [KEY], NOON)


@given(st.text(max_size=12))
def test_nothing_else_is_the_code(said: str) -> None:
    if said != "01234567" and not any("\ud800" <= char <= "\udfff" for char in said):
        assert not good(sent(), said, [KEY], NOON)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"used_at": NOON},
        {"looks": LOOKS},
        {"looks": LOOKS + 1},
        {"expires_at": NOON},
        {"account_id": None},
        {"purpose": Purpose.VERIFY},
        {"email_key": "ben@north.example"},
        {"digest": bytes(32)},
    ],
    ids=lambda spoilt: next(iter(spoilt)),
)
def test_the_right_digits_open_nothing_once_anything_is_amiss(spoilt: dict[str, object]) -> None:
    assert not good(replace(sent(), **spoilt), "01234567", [KEY], NOON)


def test_a_code_may_be_looked_at_five_times_and_for_ten_minutes() -> None:
    assert LOOKS == 5
    assert good(replace(sent(), looks=4), "01234567", [KEY], NOON + 10 * MINUTE - SECOND)
    assert not good(sent(), "01234567", [KEY], NOON + 10 * MINUTE)


def test_a_code_outlives_a_change_of_the_servers_key_while_both_are_known() -> None:
    before = sent(key=OLD)
    assert good(before, "01234567", [KEY, OLD], NOON)
    assert good(before, "01234567", [OLD, KEY], NOON)
    assert not good(before, "01234567", [KEY], NOON)
    assert not good(before, "01234567", [OTHER], NOON)


def test_a_code_is_kept_so_that_the_database_alone_does_not_tell_it() -> None:
    kept = {digest(key, purpose, email, "01234567") for key in (KEY, OLD) for purpose in Purpose for email in (ADA, "")}
    assert len(kept) == 8
    assert all(len(one) == 32 for one in kept)
    assert "01234567" not in repr(sent())


# -- how many are sent --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-10, 7_300), max_size=8))
def test_of_any_codes_no_more_than_three_are_sent_within_an_hour(ages: list[int]) -> None:
    """`ages` in seconds; a little below nothing where another server's clock is ahead."""
    before = [sent(at=NOON - timedelta(seconds=age)) for age in ages]
    recent = sorted(age for age in ages if age < 3600)
    pause = wait(before, NOON)
    if len(recent) < 3:
        assert pause is None
        return
    assert pause == HOUR - timedelta(seconds=recent[2])
    assert pause > timedelta()
    # At its end, and not before, there are only two that count.
    assert wait(before, NOON + pause - SECOND / 1000) is not None
    assert wait(before, NOON + pause) is None
