"""Doing a unit of work again that the database ended because two of them stood in each other's way.

Nothing of it was kept, and it is nobody's fault: whoever asked should not have to ask again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from heallog.application.ports.world import Chance
from heallog.domain.errors import Contended
from heallog.domain.health import Tally

TRIES = 5
FIRST, LONGEST = 0.02, 0.5
"""Seconds between two tries: each pause is twice as long as the one before, and between a half and the whole of it."""

Self = TypeVar("Self", bound="Patient")
P = ParamSpec("P")
R = TypeVar("R")
UseCase = Callable[Concatenate[Self, P], Coroutine[Any, Any, R]]


def _nobody(action: str) -> None:
    """Counts nothing."""


class Patience:
    """How often something is tried. `retried` hears the action of each further try."""

    def __init__(
        self, chance: Chance, *, tries: int = TRIES, first: float = FIRST, retried: Callable[[str], None] = _nobody
    ) -> None:
        self._chance = chance
        self._tries = tries
        self._first = first
        self._retried = retried

    async def through(self, action: str, work: Callable[[], Awaitable[R]], tally: Tally | None = None) -> R:
        """The work, done until nobody stands in its way. Raises `Contended` when the tries are used up.

        Where there is a `tally`, that counts further tries too.
        """
        for number in range(1, self._tries):
            try:
                return await work()
            except Contended:
                self._retried(action)
                if tally is not None:
                    tally.retries += 1
                # Of two that met, one comes back before the other.
                part = 0.5 + self._chance(1)[0] / 512
                await asyncio.sleep(min(self._first * 2 ** (number - 1), LONGEST) * part)
        return await work()


def _none(size: int) -> bytes:
    return bytes(size)


ONCE = Patience(_none, tries=1)
"""For use cases within a unit of work that is someone else's: whoever began it does all of it again, or nothing."""


class Patient(Protocol):
    """A class of use cases that do their units of work again."""

    @property
    def patience(self) -> Patience: ...


def retried(action: str) -> Callable[[UseCase[Self, P, R]], UseCase[Self, P, R]]:
    """A method that is done again, from its beginning, as long as `patience` has it. Its `tally` counts how often.

    Until its unit of work commits it must do nothing that stays.
    """

    def wrap(method: UseCase[Self, P, R]) -> UseCase[Self, P, R]:
        @wraps(method)
        async def use_case(self: Self, /, *args: P.args, **named: P.kwargs) -> R:
            if self.patience is ONCE:
                return await method(self, *args, **named)
            tally = named.get("tally")
            return await self.patience.through(
                action, lambda: method(self, *args, **named), tally if isinstance(tally, Tally) else None
            )

        return use_case

    return wrap
