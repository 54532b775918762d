"""What is known about passwords that people choose: a list of common ones, and zxcvbn's estimate of strength."""

from functools import cached_property
from importlib import resources

from heallog.domain.passwords import folded, skeletons

LONGEST = 72
"""Characters that zxcvbn is given at most: its time grows faster than its input."""
ONE_SIGN = str.maketrans("{[<|@$+", "(((!457")
"""Of the signs that stand for one letter, one is left: zxcvbn tries every combination, thousands for some texts."""


class KnownGuesses:
    """The list and zxcvbn's dictionaries are read when they are first needed, not when a server starts."""

    @cached_property
    def listed(self) -> tuple[str, ...]:
        """Common passwords, the most frequent first."""
        data = resources.files("heallog.adapters").joinpath("data/common-passwords.txt")
        return tuple(data.read_text(encoding="utf-8").split())

    @cached_property
    def _skeletons(self) -> frozenset[str]:
        return frozenset(spelling for word in self.listed for spelling in skeletons(folded(word)))

    def common(self, skeleton: str) -> bool:
        return skeleton in self._skeletons

    def strength(self, text: str) -> int:
        """That of the stronger end, where a text is longer than zxcvbn is given: the whole is no weaker."""
        # zxcvbn keeps the words of a person in a global: it is given none here, and threads do not meet in it.
        from zxcvbn import zxcvbn

        text = text.translate(ONE_SIGN)
        ends = {text[:LONGEST], text[-LONGEST:]}
        return max(int(zxcvbn(end)["score"]) for end in ends) if text else 0
