"""Where practices and their members are kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from heallog.domain.access import Role
from heallog.domain.practices import Emergency, Invitation, Member, Membership, Practice


class PracticeRepository(Protocol):
    async def add(self, practice: Practice) -> None: ...

    async def put(self, practice: Practice) -> None:
        """Its name and plan."""

    async def join(self, membership: Membership) -> None:
        """Where the account was a member once, it is again. Raises `AlreadyExists` where it is now."""

    async def get(self, practice_id: str) -> Practice | None: ...

    async def all(self) -> Sequence[Practice]:
        """Every practice of this installation, oldest first (for the operator's command line, never for a request)."""

    async def memberships(self, account_id: str) -> Sequence[Membership]:
        """An account's memberships that have not ended, oldest first."""

    async def belonging(self, account_id: str) -> Sequence[tuple[Practice, Role]]:
        """The practices that an account is a member of, with its role in each, oldest membership first."""

    async def members(self, practice_id: str) -> Sequence[Membership]:
        """A practice's members now, oldest first."""

    async def put_member(self, membership: Membership) -> None:
        """The role of a membership, or its end. Whoever writes it holds the practice's members exclusively."""

    async def present(self, practice_id: str, now: datetime) -> Sequence[Member]:
        """Members and open invitations with names and addresses: members first, each oldest first."""

    # -- invitations --------------------------------------------------------------------------------------------

    async def invite(self, invitation: Invitation) -> None:
        """An open invitation of the same address is closed by it."""

    async def invitation(self, practice_id: str, invitation_id: str) -> Invitation | None: ...

    async def invited(self, email_key: str, digest: bytes) -> Invitation | None:
        """The invitation of this address with this code, in whatever practice; locked."""

    async def put_invitation(self, invitation: Invitation) -> None:
        """Its role, or its end."""

    async def invitations_since(self, practice_id: str, since: datetime) -> int:
        """How many were made since then."""

    # -- broken glass -------------------------------------------------------------------------------------------

    async def declare(self, emergency: Emergency) -> None: ...

    async def emergency(self, practice_id: str, emergency_id: str) -> Emergency | None: ...

    async def put_emergency(self, emergency: Emergency) -> None:
        """Its end."""

    async def emergency_of(self, practice_id: str, account_id: str, now: datetime) -> Emergency | None:
        """The account's open one."""

    async def emergencies(self, practice_id: str, after: str | None, limit: int) -> Sequence[tuple[Emergency, str]]:
        """The newest first, after the one with this id; each with the name of who broke the glass."""
