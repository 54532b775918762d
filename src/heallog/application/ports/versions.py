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

    async def lineage(
        self, practice_id: str, collection: Collection, thing_id: str, base: int, device_id: str
    ) -> tuple[Version | None, Version | None]:
        """Version `base`, and what this device itself entered last on the grounds of it or of a later one.

        Entered is what came from a person: created, changed, amended, reverted, restored; on the trunk or beside it.
        Either is None where there is none. Without sources.
        """

    async def lineages(
        self, practice_id: str, asked: Sequence[tuple[Collection, str, int]], device_id: str
    ) -> dict[tuple[Collection, str, int], tuple[Version | None, Version | None]]:
        """The same for many things at once, each with the version that is named."""


class Ledger(Protocol):
    """Everything there is, for proving it; of one practice, or of all."""

    def versions(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Version]:
        """Every version in a collection with its source, by practice, thing and number (ids in byte order)."""

    def heads(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Head]:
        """Every head of a collection, by practice and id, in byte order."""

    async def size(self, practice_id: str | None = None) -> int:
        """How many versions there are."""
