"""Passwords: what is one, how it is spelled, and what makes it too easy to guess.

Nothing here stores or hashes. What only a list or a library knows is asked of `Guesses`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from heallog.domain.errors import FieldError
from heallog.domain.fields import Errors, Text

SHORTEST = 12
LONGEST = 128
STRONG = 3
"""The least strength, of 0 to 4: more than 10^8 guesses (zxcvbn's "safely unguessable", against a slow hash)."""
OWN = 6
"""Characters that must be left when runs, or names, are taken out. Fewer are no password of their own."""
DECORATION = 8
"""Digits and signs around a common password that do not make it another one: a date, `!!123456`."""

ALWAYS_KNOWN = ("heallog",)
"""Words that whoever guesses at this service tries."""


class Guesses(Protocol):
    """What whoever guesses passwords knows and tries. Slow: not to be asked on the event loop."""

    def common(self, skeleton: str) -> bool:
        """Whether a spelling is among the `skeletons` of a common password."""

    def strength(self, text: str) -> int:
        """0 (guessed at once) to 4 (hardly ever)."""


# -- spelling -----------------------------------------------------------------------------------------------------


def spelled(password: str) -> str:
    """The one form in which a password is counted and hashed: that of RFC 8265, section 4.2 (OpaqueString).

    NFC, and every kind of space is U+0020: two keyboards may differ in how they write `é` or a space.
    """
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    return unicodedata.normalize("NFC", spaced)


@dataclass(frozen=True, slots=True)
class Password:
    """A password as a field: any characters but control characters, counted as they are `spelled`."""

    shortest: int = 0

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        known = spelled(value) if isinstance(value, str) else value
        Text(LONGEST).check(known, path, errors)
        if isinstance(known, str) and len(known) < self.shortest:
            message = f"must have at least {self.shortest} characters, not {len(known)}; {ADVICE}"
            errors.append(FieldError(path, "too_short", message))
        return value

    def schema(self) -> dict[str, Any]:
        return Text(LONGEST).schema() | ({"minLength": self.shortest} if self.shortest else {})


# -- judging ------------------------------------------------------------------------------------------------------

ADVICE = "three or more unrelated words work well"

FLAWS = {
    "repeats": f"is one short piece over and over, or has too few different characters; {ADVICE}",
    "sequence": f"is mostly neighbouring letters, digits or keys; {ADVICE}",
    "common": "is one of the first that are tried, or is such a one with other letters, digits or signs; "
    f"choose another: {ADVICE}",
    "guessable": "leans on the e-mail address, the person's name, the practice's name or HealLog's; "
    f"leave these out: {ADVICE}",
    "weak": f"would be guessed too soon; add a word or two that do not belong together: {ADVICE}",
}
"""What can be wrong with a password that is long enough, and what to do about it."""


def flaw(password: str, about: Iterable[str], guesses: Guesses) -> str | None:
    """Why a password of a good length is refused: a key of `FLAWS`. `about` is what others know of the person."""
    text = folded(spelled(password))
    if _repeats(text):
        return "repeats"
    if _own_characters(text) < OWN:
        return "sequence"
    if _common(text, guesses):
        return "common"
    rest = _without(text, _words([*about, *ALWAYS_KNOWN]))
    if rest == text:
        return None if guesses.strength(text) >= STRONG else "weak"
    good = len(_bare(rest)) >= OWN and not _common(rest, guesses) and guesses.strength(rest) >= STRONG
    return None if good else "guessable"


def folded(text: str) -> str:
    """Without what makes no other word to whoever guesses: case, accents, full or half width."""
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", plain.casefold())


def skeletons(text: str) -> set[str]:
    """A folded text, and the same with digits and signs read as the letters that they stand for (`p@55w0rd`)."""
    return {text, *(text.translate(alphabet) for alphabet in _LEET)}


_LEET = tuple(str.maketrans("@4835$07+1!|", f"aabessott{one * 3}") for one in "il")


def _bare(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def _repeats(text: str) -> bool:
    """Whether a text is a piece again and again, whatever stands between, or is too poor in characters."""
    bare = _bare(text)
    texts = (text, bare) if 2 * len(bare) >= len(text) else (text,)
    return len(set(text)) ** len(text) < 10**8 or any(0 < _period(each) < SHORTEST for each in texts)


def _period(text: str) -> int:
    """The length of the piece that a text repeats at least once, the last time perhaps short of a character; or 0."""
    for length in range(1, (len(text) + 1) // 2 + 1):
        if text[length:] == text[: len(text) - length]:
            return length
    return 0


_LINES = (
    *("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"),
    *("qwertzuiopü", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn", "йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
    *("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik", "9ol", "0p"),
    *("2q", "3w", "4e", "5r", "6t", "7y", "8u", "9i", "0o"),
)
"""Keys that lie side by side, or below each other."""

_NEIGHBOURS = {pair for line in _LINES for text in (line, line[::-1]) for pair in pairwise(text)}


def _own_characters(text: str) -> int:
    """How many characters a text has when each run of three or more neighbours counts as one."""
    runs = [0]
    for last, char in pairwise(" " + text):
        if runs[-1] and (abs(ord(last) - ord(char)) <= 1 or (last, char) in _NEIGHBOURS):
            runs[-1] += 1
        else:
            runs.append(1)
    return sum(1 if run > 2 else run for run in runs)


def _common(text: str, guesses: Guesses) -> bool:
    """Whether a text is a common password, also backwards, spaced out, in other letters, or decorated."""
    cores = (core for whole in {text, _bare(text)} for core in _cores(whole))
    return any(guesses.common(spelling) for core in cores for way in (core, core[::-1]) for spelling in skeletons(way))


def _cores(text: str) -> Iterator[str]:
    """A text without some, or all, of the digits and signs around it."""
    before = next((at for at, char in enumerate(text) if char.isalpha()), len(text))
    after = next((at for at, char in enumerate(reversed(text)) if char.isalpha()), len(text))
    for left in range(min(before, DECORATION) + 1):
        for right in range(min(after, DECORATION - left) + 1):
            core = text[left : len(text) - right]
            # Of digits alone, four of a dozen say nothing about the others.
            if any(map(str.isalpha, core)) or left + right <= len(core):
                yield core


def _words(about: Iterable[str]) -> set[str]:
    """The words of names and addresses, long ones only: a match of two letters is chance."""
    words = {word for text in about for word in re.findall(r"[^\W_]+", folded(text))}
    return {word for word in words if len(word) > 2 or (len(word) == 2 and not word.isascii())}


def _without(text: str, words: Iterable[str]) -> str:
    """A folded text without those words, however they are spelled in it."""
    known: set[int] = set()
    for alphabet in ({}, *_LEET):
        spelling = text.translate(alphabet)
        for word in words:
            for found in re.finditer(re.escape(word.translate(alphabet)), spelling):
                known.update(range(*found.span()))
    return " ".join("".join(char for at, char in enumerate(text) if at not in known).split()) if known else text
