"""Where letters go."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to one person, in plain text. It may hold a code: neither is ever logged."""

    to: str
    subject: str
    text: str = field(repr=False)


class Mail(Protocol):
    """Takes letters to the post."""

    def post(self, letter: Letter) -> None:
        """Returns at once, before anything is sent, and never raises: what an answer tells must not depend on it."""
