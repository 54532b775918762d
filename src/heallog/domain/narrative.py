"""Narrative: two edits of one text, woven together by lines and then by words, or told apart where they overlap."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from enum import Enum, auto
from itertools import accumulate, chain, takewhile
from typing import Final

WORK: Final = 500_000
"""How many comparisons of lines and words one text is worth, about 0.1 s. What needs more counts as an overlap."""
NEAR: Final = 3
"""Within one line, edits by two people with fewer words between them overlap: they may be about one thing."""

_SET_UP: Final = 100
_WORDS = re.compile(r"[^\S\n]*(?:\n|\S+)")
"""A word comes with the blanks before it, so that to go on after the last one changes none."""


class Woven(Enum):
    """How two edits of a text came together."""

    LINES = auto()
    """Each changed lines of its own."""
    WORDS = auto()
    """Both changed the same lines, each its own words: someone should read it."""
    OVERLAP = auto()
    """Both changed the same place."""


@dataclass(frozen=True, slots=True)
class Weave:
    """The text of both edits. Where they overlap it has both passages, one after the other, in no one's favour."""

    text: str
    how: Woven


def weave(base: str, theirs: str, mine: str, work: "Work | None" = None) -> Weave:
    """Two edits of `base` as one text, the same whichever of them came first."""
    work = work or Work()
    breaks = "\r\n" if "\r\n" in theirs and "\r\n" in mine else "\n"
    texts = [text.replace("\r\n", "\n").split("\n") if text else [] for text in (base, theirs, mine)]
    woven: list[str] = []
    how = Woven.LINES
    for what, *sides in _groups(work, *texts):
        if what != "conflict":
            woven += sides[0]
        elif (merged := _by_words(work, *sides)) is not None:
            woven += merged
            how = how if how is Woven.OVERLAP else Woven.WORDS
        else:
            woven += chain.from_iterable(sorted(sides[1:]))
            how = Woven.OVERLAP
    one_line = all(len(lines) <= 1 for lines in texts)
    return Weave((" " if one_line else breaks).join(woven), how)


def _by_words(work: "Work", base: list[str], theirs: list[str], mine: list[str]) -> list[str] | None:
    """The lines of a passage that both changed, each its own words; None where they overlap."""
    passages = ("".join(f"{line}\n" for line in lines) for lines in (base, theirs, mine))
    woven: list[str] = []
    author, distance = "", NEAR
    for what, *sides in _groups(work, *(_WORDS.findall(passage) for passage in passages)):
        if what == "conflict" or (what in ("a", "b") and author not in ("", what) and distance < NEAR):
            return None
        if what in ("a", "b"):
            author, distance = what, 0
        else:
            distance += sum(NEAR if word.endswith("\n") else 1 for word in sides[0])
        woven += sides[0]
    return "".join(woven).split("\n")[:-1]


Group = tuple[str, *tuple[list[str], ...]]
"""What became of a passage, and its lines or words: one list of them, or base's, theirs' and mine in conflict."""


def _groups(work: "Work", base: list[str], theirs: list[str], mine: list[str]) -> list[Group]:
    """What is unchanged, changed by one (`a` theirs, `b` mine), by both alike, or in conflict (Smith's diff3).

    All of it is in conflict where it costs too much to find out.
    """
    try:
        common = list(_common(*(_Matcher(work, base, side).get_matching_blocks() for side in (theirs, mine))))
    except _TooMuch:
        return [("conflict", base, theirs, mine)]
    groups: list[Group] = []
    at = (0, 0, 0)
    for start, one, other, size in [*common, (len(base), len(theirs), len(mine), 0)]:
        groups += _between(base[at[0] : start], theirs[at[1] : one], mine[at[2] : other])
        if size:
            groups.append(("unchanged", base[start : start + size]))
        at = (start + size, one + size, other + size)
    return groups


def _common(with_theirs: Sequence[Match], with_mine: Sequence[Match]) -> Iterator[tuple[int, int, int, int]]:
    """What all three have in common: where it begins in base, theirs and mine, and how long it is."""
    one, other = 0, 0
    while one < len(with_theirs) and other < len(with_mine):
        here, there = with_theirs[one], with_mine[other]
        start = max(here.a, there.a)
        end = min(here.a + here.size, there.a + there.size)
        if start < end:
            yield start, here.b + start - here.a, there.b + start - there.a, end - start
        if here.a + here.size < there.a + there.size:
            one += 1
        else:
            other += 1


def _between(base: list[str], theirs: list[str], mine: list[str]) -> list[Group]:
    """What stands between two common passages."""
    if theirs == mine:
        return [("same", theirs)] if base or theirs else []
    if theirs == base:
        return [("b", mine)]
    if mine == base:
        return [("a", theirs)]
    return [("conflict", base, theirs, mine)]


class _TooMuch(Exception):
    pass


class Work:
    """What one merge may still cost. Once it is spent it stays so, whichever side spent it."""

    def __init__(self, left: int = WORK) -> None:
        self.left = left

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooMuch


class _Matcher(SequenceMatcher[str]):
    """What two texts have in common; first of all, how they begin and end. A search is paid for before it is made."""

    b2j: dict[str, list[int]]

    def __init__(self, work: Work, before: Sequence[str], after: Sequence[str]) -> None:
        work.spend(_SET_UP + len(before) + len(after))
        self._work = work
        self._ends = len(before), len(after)
        self._head = _alike(before, after)
        before, after = before[self._head :], after[self._head :]
        self._tail = _alike(before[::-1], after[::-1])
        before, after = before[: len(before) - self._tail], after[: len(after) - self._tail]
        super().__init__(None, before, after)
        self._costs = [0, *accumulate(1 + len(self.b2j.get(token, ())) for token in before)]

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        self._work.spend(self._costs[-1 if ahi is None else ahi] - self._costs[alo])
        return super().find_longest_match(alo, ahi, blo, bhi)

    def get_matching_blocks(self) -> list[Match]:
        head, tail, (before, after) = self._head, self._tail, self._ends
        inner = [Match(match.a + head, match.b + head, match.size) for match in super().get_matching_blocks()[:-1]]
        ends = Match(0, 0, head), Match(before - tail, after - tail, tail)
        return [ends[0], *inner, ends[1], Match(before, after, 0)]


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How far two sequences begin alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
