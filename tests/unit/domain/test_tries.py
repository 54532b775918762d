"""Tries: of any number of guesses exactly the allowed ones are looked at, and whoever is right loses nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.tries import Allowance, Tries, given_back, key, locked, taken

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
FIVE = Allowance(5)
ALLOWANCES = st.builds(Allowance, st.integers(1, 100))


def none_yet(at: datetime = NOON) -> Tries:
    return Tries("account:alice", 0, at)


def guessed(tries: Tries, allowance: Allowance, times: int, now: datetime) -> tuple[Tries, int]:
    """So many guesses, all wrong; and how many of them were looked at."""
    looked_at = 0
    for _ in range(times):
        if locked(tries, now) is None:
            tries, looked_at = taken(tries, allowance, now), looked_at + 1
    return tries, looked_at


@given(ALLOWANCES, st.integers(0, 300))
def test_of_any_number_of_guesses_the_free_ones_are_looked_at(allowance: Allowance, guesses: int) -> None:
    tries, looked_at = guessed(none_yet(), allowance, guesses, NOON)
    assert looked_at == tries.count == min(guesses, allowance.free)
    assert locked(tries, NOON) == (MINUTE if guesses >= allowance.free else None)


def test_each_further_guess_locks_for_twice_as_long_and_never_longer_than_an_hour() -> None:
    tries, now = none_yet(), NOON
    waits = []
    for _ in range(100):
        while locked(tries, now) is None:
            tries = taken(tries, FIVE, now)
        wait = locked(tries, now)
        assert wait is not None
        waits.append(wait // MINUTE)
        now += wait
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(waits[8:]) == {60}


def test_a_lock_opens_at_its_end_and_not_before() -> None:
    tries, _ = guessed(none_yet(), FIVE, 5, NOON)
    assert locked(tries, NOON + MINUTE - SECOND) == SECOND
    assert locked(tries, NOON + MINUTE) is None


def test_even_ten_thousand_guesses_are_counted() -> None:
    tries = taken(Tries("account:alice", 10_000, NOON), FIVE, NOON)
    assert (tries.count, tries.locked_until) == (10_001, NOON + HOUR)


def test_whoever_stays_away_for_a_day_begins_anew() -> None:
    tries, _ = guessed(none_yet(), FIVE, 4, NOON)
    day = timedelta(hours=24)
    assert taken(tries, FIVE, NOON + day - SECOND).locked_until is not None
    assert taken(tries, FIVE, NOON + day) == Tries("account:alice", 1, NOON + day)


def test_a_clock_that_goes_back_forgets_nothing() -> None:
    tries, _ = guessed(none_yet(), FIVE, 4, NOON)
    assert taken(tries, FIVE, NOON - HOUR).locked_until == NOON - HOUR + MINUTE


GUESSES = st.lists(st.tuples(st.sampled_from(["wrong", "begun", "right"]), st.integers(0, 7_200)), max_size=80)


@given(st.integers(1, 8).map(Allowance), GUESSES)
def test_a_right_try_gives_back_what_it_took_and_never_more(allowance: Allowance, story: list[tuple[str, int]]) -> None:
    """However right ones and wrong ones overlap: the count is that of the wrong ones and of those looked at now."""
    tries, now, begun, wrong = none_yet(), NOON, 0, 0
    for what, seconds in story:
        now += timedelta(seconds=seconds)
        if what == "right":
            if begun:
                tries, begun = given_back(tries), begun - 1
        elif locked(tries, now) is None:
            if now - tries.last_at >= allowance.forgotten:
                return
            tries = taken(tries, allowance, now)
            begun, wrong = (begun + 1, wrong) if what == "begun" else (begun, wrong + 1)
        assert tries.count == wrong + begun
    assert tries.key == "account:alice"


@given(st.integers(1, 8).map(Allowance), st.lists(st.booleans(), max_size=80))
def test_at_one_moment_no_more_wrong_guesses_are_looked_at_than_are_free(
    allowance: Allowance, story: list[bool]
) -> None:
    """Not even where someone's own, right logins are given back between them."""
    tries, wrong, begun = none_yet(), 0, 0
    for right in story:
        if right and begun:
            tries, begun = given_back(tries), begun - 1
        elif locked(tries, NOON) is None:
            tries = taken(tries, allowance, NOON)
            begun, wrong = (begun + 1, wrong) if right else (begun, wrong + 1)
    assert wrong <= allowance.free


@given(ALLOWANCES, st.integers(0, 200), st.integers(0, 86_399))
def test_another_wrong_guess_never_makes_the_wait_shorter(allowance: Allowance, count: int, seconds: int) -> None:
    now = NOON + timedelta(seconds=seconds)
    once = taken(Tries("account:alice", count, NOON), allowance, now)
    twice = taken(once, allowance, now)
    assert twice.count == once.count + 1 == count + 2
    assert (locked(once, now) or timedelta()) <= (locked(twice, now) or timedelta()) <= allowance.longest


def test_what_was_right_opens_what_it_locked_by_itself() -> None:
    tries, _ = guessed(none_yet(), FIVE, 5, NOON)
    assert given_back(tries) == Tries("account:alice", 4, NOON)


def test_giving_back_what_was_forgotten_meanwhile_gives_nothing() -> None:
    assert given_back(none_yet()) == none_yet()


# -- what is counted under ----------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_is_typed_in_has_a_key_that_fits_and_does_not_show_it(of: str) -> None:
    made = key("account", of)
    kind, _, digest = made.partition(":")
    assert (kind, len(digest)) == ("account", 32)
    assert made == key("account", of) != key("address", of)
    assert len(of) < 5 or of not in digest


def test_no_two_share_a_key() -> None:
    keys = {key(kind, of) for kind in ("account", "address") for of in ("", "a", "b", "a ", "192.0.2.1")}
    assert len(keys) == 10


@pytest.mark.parametrize("count", [0, 4])
def test_nobody_waits_without_a_lock(count: int) -> None:
    assert locked(Tries("account:alice", count, NOON), NOON) is None
