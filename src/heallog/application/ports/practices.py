"""Where practices and their members are kept."""

from collections.abc import Sequence
from typing import Protocol

from heallog.domain.practices import Membership, Practice


class PracticeRepository(Protocol):
    async def add(self, practice: Practice) -> None: ...

    async def join(self, membership: Membership) -> None: ...

    async def get(self, practice_id: str) -> Practice | None: ...

    async def all(self) -> Sequence[Practice]:
        """Every practice of this installation, oldest first (for the operator's command line, never for a request)."""

    async def memberships(self, account_id: str) -> Sequence[Membership]:
        """An account's memberships, oldest first."""

    async def members(self, practice_id: str) -> Sequence[Membership]:
        """A practice's members, oldest first."""
