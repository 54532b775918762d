"""Time, names and ears: what a pure core has to ask for."""

from datetime import datetime
from typing import Protocol

from heallog.domain.events import Event


class Clock(Protocol):
    def __call__(self) -> datetime:
        """Now, in UTC, to the millisecond: what is stored is what is shown and hashed."""


class Ids(Protocol):
    def __call__(self) -> str:
        """A new id, ordered by time (UUIDv7)."""


class Chance(Protocol):
    def __call__(self, size: int) -> bytes:
        """Random bytes that nobody can foretell."""


class Ears(Protocol):
    """Whoever wants to know what was committed. They must not raise: it is kept already."""

    def __call__(self, event: Event) -> None: ...
