"""Reading versions."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from heallog.domain.versions import Collection, Head, Version


class VersionReads(Protocol):
    """Any version of anything, within one practice."""

    async def history(
        self, practice_id: str, collection: Collection, thing_id: str, before: int | None, limit: int
    ) -> Sequence[Version]:
        """Newest first, below number `before`, without sources. Empty where the thing is missing."""

    async def numbered(
        self, practice_id: str, collection: Collection, thing_id: str, numbers: Sequence[int]
    ) -> dict[int, Version]:
        """Those of the asked versions that exist, with their sources."""


class Ledger(Protocol):
    """Everything, for proving it."""

    def chains(self) -> AsyncIterator[tuple[Head | None, list[Version]]]:
        """Every thing's head with all its versions, oldest first; heads without versions and versions without a head too."""

    async def size(self) -> int:
        """How many versions there are, about."""
