"""Narrative: what two edits of one text become by lines and by words, where they overlap, and what it may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain import narrative
from heallog.domain.narrative import WORK, Weave, Work, Woven, weave

LINES, WORDS, OVERLAP = Woven.LINES, Woven.WORDS, Woven.OVERLAP


def both_ways(base: str, theirs: str, mine: str) -> Weave:
    woven = weave(base, theirs, mine)
    assert weave(base, mine, theirs) == woven
    return woven


# -- what becomes of two edits ------------------------------------------------------------------------------------

VISIT = "Slept well.\nAte little.\nNo pain."


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "merged"),
    [
        (VISIT, "Slept badly.\nAte little.\nNo pain.", "Slept well.\nAte little.\nSome pain.",
         "Slept badly.\nAte little.\nSome pain."),
        (VISIT, VISIT + "\nWalked.", "Slept badly.\nAte little.\nNo pain.",
         "Slept badly.\nAte little.\nNo pain.\nWalked."),
        (VISIT, "Seen at 8.\n" + VISIT, VISIT + "\nWalked.", "Seen at 8.\n" + VISIT + "\nWalked."),
        (VISIT, "Ate little.\nNo pain.", "Slept well.\nAte little.", "Ate little."),
        (VISIT, "Slept badly.\nAte little.\nNo pain.", "Slept badly.\nAte little.", "Slept badly.\nAte little."),
        (VISIT, VISIT + "\n", "Seen.\n" + VISIT, "Seen.\n" + VISIT + "\n"),
        ("One.\n\nTwo.\n\nThree.", "1.\n\nTwo.\n\nThree.", "One.\n\nTwo.\n\n3.", "1.\n\nTwo.\n\n3."),
        ("", "Seen.", "Seen.", "Seen."),
        ("Seen.", "", "", ""),
    ],
)  # fmt: skip
def test_each_changed_lines_of_its_own(base: str, theirs: str, mine: str, merged: str) -> None:
    assert both_ways(base, theirs, mine) == Weave(merged, LINES)


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "merged"),
    [
        ("The patient slept well and ate a full breakfast.", "The patient slept badly and ate a full breakfast.",
         "The patient slept well and ate a full dinner.", "The patient slept badly and ate a full dinner."),
        ("Slept well.\nAte little.", "Slept badly.\nAte little.", "Slept well.\nAte nothing.",
         "Slept badly.\nAte nothing."),
        ("Pain in the left knee since May", "Pain in the left knee since May, worse at night",
         "Strong pain in the left knee since May", None),
        ("a b c d e f", "A b c d e f", "a b c d e f g", "A b c d e f g"),
        ("a b c d e f g h", "A b C d e f g h", "a b c d e f g H", "A b C d e f g H"),
        ("a b c d e", "a c d e", "a b c d e f", "a c d e f"),
    ],
)  # fmt: skip
def test_both_changed_a_line_each_its_own_words(base: str, theirs: str, mine: str, merged: str | None) -> None:
    if merged is None:
        merged = "Strong pain in the left knee since May, worse at night"
    assert both_ways(base, theirs, mine) == Weave(merged, WORDS)


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "passages"),
    [
        ("Pain: 3", "Pain: 4", "Pain: 5", "Pain: 4 Pain: 5"),
        (VISIT, "Slept badly.\nAte little.\nNo pain.", "Slept.\nAte little.\nNo pain.",
         "Slept badly.\nSlept.\nAte little.\nNo pain."),
        # Both went on at the same place.
        (VISIT, VISIT + "\nWalked.", VISIT + "\nTired.", VISIT + "\nTired.\nWalked."),
        ("Seen.\n", "Seen.\nWalked.\n", "Seen.\nTired.\n", "Seen.\nTired.\nWalked.\n"),
        # One took away what the other changed.
        (VISIT, "Slept well.\nNo pain.", "Slept well.\nAte nothing.\nNo pain.", "Slept well.\nAte nothing.\nNo pain."),
        (VISIT, "", VISIT + "\nWalked.", VISIT + "\nWalked."),
        # There was nothing that both began with.
        ("", "Walked.", "Tired.", "Tired. Walked."),
        ("", "\nWalked.", "Tired.\n", "\nWalked.\nTired.\n"),
        # Too near to each other to be about different things.
        ("Give metoprolol 50 mg daily", "Give bisoprolol 50 mg daily", "Give metoprolol 100 mg daily",
         "Give bisoprolol 50 mg daily Give metoprolol 100 mg daily"),
        ("Give metoprolol 50 mg daily", "Give bisoprolol 50 mg daily", "Give metoprolol 50 mg twice",
         "Give bisoprolol 50 mg daily Give metoprolol 50 mg twice"),
        # What can be merged is, in the proposal too.
        ("Pain: 3\nb\na c d e f", "Pain: 4\nb\nA c d e f", "Pain: 5\nb\na c d e F",
         "Pain: 4\nPain: 5\nb\nA c d e F"),
        ("a\nb\nc\nPain: 3", "A\nb\nc\nPain: 4", "a\nb\nc\nPain: 5", "A\nb\nc\nPain: 4\nPain: 5"),
    ],
)  # fmt: skip
def test_both_changed_the_same_place(base: str, theirs: str, mine: str, passages: str) -> None:
    assert both_ways(base, theirs, mine) == Weave(passages, OVERLAP)


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "merged"),
    [
        ("a\nb\nc", "A\r\nb\r\nc", "a\nb\nC", "A\nb\nC"),
        ("a\r\nb\r\nc", "A\r\nb\r\nc", "a\r\nb\r\nC", "A\r\nb\r\nC"),
        ("a\nb\nc", "A\r\nb\r\nc", "a\r\nb\r\nC", "A\r\nb\r\nC"),
        ("a\r\nb\r\nc\r\n", "A\nb\nc\n", "a\r\nb\r\nC\r\n", "A\nb\nC\n"),
    ],
)
def test_how_a_line_ends_is_no_edit(base: str, theirs: str, mine: str, merged: str) -> None:
    assert both_ways(base, theirs, mine) == Weave(merged, LINES)


@pytest.mark.parametrize("apart", range(6))
def test_words_of_one_line_merge_from_three_words_apart(apart: int) -> None:
    between = "".join(f" w{number}" for number in range(apart))
    woven = both_ways(f"a{between} z", f"A{between} z", f"a{between} Z")
    assert woven.how is (WORDS if apart >= 3 else OVERLAP)
    assert (woven.text == f"A{between} Z") is (apart >= 3)


# -- whatever the texts are ---------------------------------------------------------------------------------------

TOKENS = st.sampled_from(["a", "b", "c", "d", " ", " ", "\n", "\n", "\r\n", "\t"])
TEXTS = st.lists(TOKENS, max_size=14).map("".join)


@given(TEXTS, TEXTS, TEXTS)
def test_any_texts_come_together_the_same_from_both_ends(base: str, theirs: str, mine: str) -> None:
    woven = both_ways(base, theirs, mine)
    assert set(woven.text.split()) <= set((base + " " + theirs + " " + mine).split())


@given(TEXTS, TEXTS)
def test_the_same_edit_twice_is_one(base: str, edit: str) -> None:
    assert weave(base, edit, edit).how is LINES
    assert weave(base, edit, edit).text.splitlines() == edit.splitlines()


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8), st.data())
def test_lines_that_one_side_added_are_there_in_the_end(lines: list[str], data: st.DataObject) -> None:
    at, other = data.draw(st.integers(0, len(lines))), data.draw(st.integers(0, len(lines)))
    theirs, mine = [*lines[:at], "THEIRS", *lines[at:]], [*lines[:other], "MINE", *lines[other:]]
    woven = both_ways(*("\n".join(side) for side in (lines, theirs, mine)))
    assert {"THEIRS", "MINE"} <= set(woven.text.split("\n"))
    assert [line for line in woven.text.split("\n") if line.islower()] == lines
    assert (woven.how is OVERLAP) == (at == other)


# -- what it costs ------------------------------------------------------------------------------------------------

LONG = 100_000
HOSTILE = {
    "line breaks": lambda mark: mark + "\n" * (LONG // 2) + mark + "\n" * (LONG // 2),
    "one word": lambda mark: f"{mark} " + "a " * (LONG // 4) + mark + " a" * (LONG // 4),
    "two words": lambda mark: f"{mark} " + "a b " * (LONG // 8) + mark + " b a" * (LONG // 8),
    "every other line": lambda mark: "\n".join(f"{line}\n{mark}{line}" for line in range(LONG // 12)),
    "every other word": lambda mark: " ".join(f"{word} {mark}{word}" for word in range(LONG // 12)),
    "every third line": lambda mark: "\n".join(f"{line}\n{mark}\n{line}" for line in range(LONG // 12)),
    "shuffled": lambda mark: mark + "\n".join(str(line * 7_919 % 16_001) for line in range(ord(mark), LONG // 6)),
    "short lines": lambda mark: f"{mark} a\nb\nc\na b\n" * (LONG // 14) + mark,
}


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many comparisons each search was allowed, in the order they were made."""
    made: list[int] = []
    search = narrative.SequenceMatcher.find_longest_match

    def counted(self: narrative._Matcher, alo: int, ahi: int, blo: int, bhi: int) -> object:
        made.append(sum(1 + len(self.b2j.get(self.a[at], ())) for at in range(alo, ahi)))
        return search(self, alo, ahi, blo, bhi)

    monkeypatch.setattr(narrative.SequenceMatcher, "find_longest_match", counted)
    return made


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_costs_more_than_it_is_worth(text: str, comparisons: list[int]) -> None:
    assert weave(*(HOSTILE[text](mark) for mark in "xyz")).how is OVERLAP
    assert sum(comparisons) <= WORK


def test_a_long_text_with_few_edits_costs_little(comparisons: list[int]) -> None:
    lines = [f"Day {day}: {day * 7_919 % 1_000} ml, slept {day % 9} hours" for day in range(2_800)]
    theirs, mine = [*lines[:10], "Fever.", *lines[10:]], [*lines[:2_000], *lines[2_001:], "Home."]
    woven = both_ways(*("\n".join(side) for side in (lines, theirs, mine)))
    assert woven.how is LINES
    assert woven.text.split("\n") == [*theirs[:2_001], *theirs[2_002:], "Home."]
    assert sum(comparisons) < WORK / 10


def test_running_out_of_work_is_an_overlap_whoever_came_first() -> None:
    lines = [f"l{line} {line % 3} of {line % 5} and the rest" for line in range(12)]
    theirs = [line.replace("of", "OF") if at % 4 < 2 else line for at, line in enumerate(lines)]
    mine = [f"{line}!" if at % 4 in (1, 3) else line for at, line in enumerate(lines)]
    texts = ["\n".join(side) for side in (lines, theirs, mine)]
    enough = Work()
    assert weave(*texts, enough).how is WORDS
    needed = WORK - enough.left
    for left in range(0, needed, 11):
        woven = weave(*texts, Work(left))
        assert woven == weave(texts[0], texts[2], texts[1], Work(left))
        assert woven.how is OVERLAP
    assert weave(*texts, Work(needed - 1)).how is OVERLAP
    assert weave(*texts, Work(needed)).how is WORDS


def test_what_one_side_spent_is_spent_for_both() -> None:
    """By lines theirs costs much and mine little; by words, most of them too common to look for, both cost little."""
    lines = [line for part in range(5) for line in [*["normal"] * 30, f"part {part}"]]
    theirs, mine = ["low", *lines[1:-1], "high"], [*lines[:70], "seen", *lines[70:]]
    texts = ["\n".join(side) for side in (lines, theirs, mine)]
    for left in range(0, 5_000, 7):
        assert weave(*texts, Work(left)) == weave(texts[0], texts[2], texts[1], Work(left))


def test_many_small_overlaps_cost_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that both changed, between lines that nobody did: more of these the nearer to the middle of something."""
    begun: list[int] = []
    begin = narrative.SequenceMatcher.__init__
    monkeypatch.setattr(
        narrative.SequenceMatcher, "__init__", lambda self, *args: begun.append(1) or begin(self, *args)
    )
    places = 1_200
    texts = (
        "\n".join(f"{place}\n" * (1 + (place & -place).bit_length()) + mark for place in range(1, places))
        for mark in ("one a b c d", "two a b c d", "one a b c e")
    )
    assert weave(*texts).how is OVERLAP
    assert len(begun) < 2 * places


def test_a_text_that_repeats_itself_merges_by_how_it_begins_and_ends(comparisons: list[int]) -> None:
    lines = ["normal"] * 10_000
    theirs, mine = [*lines[:2_000], "low", *lines[2_000:]], [*lines[:8_000], "high", *lines[8_000:]]
    woven = both_ways(*("\n".join(side) for side in (lines, theirs, mine)))
    assert woven.how is LINES
    assert woven.text.split("\n") == [*theirs[:8_001], "high", *theirs[8_001:]]
    assert sum(comparisons) < 100
