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
    """Everything there is, for proving it."""

    def versions(self, collection: Collection) -> AsyncIterator[Version]:
        """Every version in a collection with its source, by practice, thing and number (ids in byte order)."""

    def heads(self, collection: Collection) -> AsyncIterator[Head]:
        """Every head of a collection, by practice and id, in byte order."""

    async def size(self) -> int:
        """How many versions there are."""
