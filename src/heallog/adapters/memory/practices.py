"""Practices, members, invitations and broken glass in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.access import Role
from heallog.domain.errors import AlreadyExists, NotFound
from heallog.domain.practices import Emergency, Invitation, Member, Membership, Practice, Presence


class PracticeRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def add(self, practice: Practice) -> None:
        with self._tables.writing():
            if practice.id in self._tables.practices:
                raise ConstraintViolated("practices: this id is taken")
            self._tables.practices[practice.id] = replace(practice)
            self._tables.sync_heads[practice.id] = 0, str(uuid4()), 0

    async def put(self, practice: Practice) -> None:
        with self._tables.writing():
            known = self._tables.practices.get(practice.id)
            if known is not None:
                self._tables.practices[practice.id] = replace(known, name=practice.name, plan=practice.plan)

    async def join(self, membership: Membership) -> None:
        tables = self._tables
        key = membership.practice_id, membership.account_id
        known = tables.memberships.get(key)
        if known is not None and known.ended_at is None:
            raise AlreadyExists("this account is a member already")
        with tables.writing():
            if membership.account_id not in tables.accounts:
                raise ConstraintViolated("memberships: no such account")
            if membership.practice_id not in tables.practices:
                raise NotFound("there is no such practice")
            tables.memberships[key] = replace(membership)

    async def get(self, practice_id: str) -> Practice | None:
        practice = self._tables.practices.get(practice_id)
        return None if practice is None else replace(practice)

    async def all(self) -> Sequence[Practice]:
        oldest_first = sorted(self._tables.practices.values(), key=lambda practice: (practice.created_at, practice.id))
        return [replace(practice) for practice in oldest_first]

    async def memberships(self, account_id: str) -> Sequence[Membership]:
        return self._chosen(lambda membership: membership.account_id == account_id)

    async def belonging(self, account_id: str) -> Sequence[tuple[Practice, Role]]:
        found = await self.memberships(account_id)
        return [(replace(self._tables.practices[one.practice_id]), one.role) for one in found]

    async def members(self, practice_id: str) -> Sequence[Membership]:
        return self._chosen(lambda membership: membership.practice_id == practice_id)

    def _chosen(self, wanted: Callable[[Membership], bool]) -> list[Membership]:
        chosen = [
            replace(membership)
            for membership in self._tables.memberships.values()
            if wanted(membership) and membership.ended_at is None
        ]
        return sorted(chosen, key=lambda member: (member.created_at, member.practice_id, member.account_id))

    async def put_member(self, membership: Membership) -> None:
        key = membership.practice_id, membership.account_id
        with self._tables.writing():
            known = self._tables.memberships.get(key)
            if known is not None:
                self._tables.memberships[key] = replace(known, role=membership.role, ended_at=membership.ended_at)

    async def present(self, practice_id: str, now: datetime) -> Sequence[Member]:
        tables = self._tables
        members = [
            Member(one.account_id, Presence.ACTIVE, account.email, account.name, one.role, one.created_at)
            for one in await self.members(practice_id)
            for account in [tables.accounts[one.account_id]]
        ]
        invited = [
            Member(one.id, Presence.INVITED, one.email, one.name, one.role, one.created_at, one.expires_at)
            for one in tables.invitations.values()
            if one.practice_id == practice_id and one.open(now)
        ]
        return members + sorted(invited, key=lambda one: (one.since, one.id))

    # -- invitations --------------------------------------------------------------------------------------------

    async def invite(self, invitation: Invitation) -> None:
        tables = self._tables
        with tables.writing():
            if invitation.practice_id not in tables.practices:
                raise ConstraintViolated("invitations: no such practice")
            if (invitation.practice_id, invitation.id) in tables.invitations:
                raise ConstraintViolated("invitations: this id is taken")
            for key, one in list(tables.invitations.items()):
                same = (one.practice_id, one.email_key) == (invitation.practice_id, invitation.email_key)
                if same and one.closed_at is None:
                    tables.invitations[key] = replace(one, closed_at=invitation.created_at)
            tables.invitations[invitation.practice_id, invitation.id] = replace(invitation)

    async def invitation(self, practice_id: str, invitation_id: str) -> Invitation | None:
        found = self._tables.invitations.get((practice_id, invitation_id))
        return None if found is None else replace(found)

    async def invited(self, email_key: str, digest: bytes) -> Invitation | None:
        found = (
            replace(one)
            for one in self._tables.invitations.values()
            if (one.email_key, one.digest) == (email_key, digest)
        )
        return next(found, None)

    async def put_invitation(self, invitation: Invitation) -> None:
        key = invitation.practice_id, invitation.id
        with self._tables.writing():
            known = self._tables.invitations.get(key)
            if known is not None:
                self._tables.invitations[key] = replace(known, role=invitation.role, closed_at=invitation.closed_at)

    async def invitations_since(self, practice_id: str, since: datetime) -> int:
        made = self._tables.invitations.values()
        return sum(one.practice_id == practice_id and one.created_at > since for one in made)

    # -- broken glass -------------------------------------------------------------------------------------------

    async def declare(self, emergency: Emergency) -> None:
        with self._tables.writing():
            if (emergency.practice_id, emergency.account_id) not in self._tables.memberships:
                raise ConstraintViolated("emergencies: this account is no member of the practice")
            if (emergency.practice_id, emergency.id) in self._tables.emergencies:
                raise ConstraintViolated("emergencies: this id is taken")
            self._tables.emergencies[emergency.practice_id, emergency.id] = replace(emergency)

    async def emergency(self, practice_id: str, emergency_id: str) -> Emergency | None:
        found = self._tables.emergencies.get((practice_id, emergency_id))
        return None if found is None else replace(found)

    async def put_emergency(self, emergency: Emergency) -> None:
        key = emergency.practice_id, emergency.id
        with self._tables.writing():
            known = self._tables.emergencies.get(key)
            if known is not None:
                self._tables.emergencies[key] = replace(known, closed_at=emergency.closed_at)

    async def emergency_of(self, practice_id: str, account_id: str, now: datetime) -> Emergency | None:
        found = (
            replace(one)
            for one in self._tables.emergencies.values()
            if (one.practice_id, one.account_id) == (practice_id, account_id) and one.open(now)
        )
        return next(found, None)

    async def emergencies(self, practice_id: str, after: str | None, limit: int) -> Sequence[tuple[Emergency, str]]:
        found = [
            one
            for one in self._tables.emergencies.values()
            if one.practice_id == practice_id and (after is None or one.id < after)
        ]
        newest = sorted(found, key=lambda one: one.id, reverse=True)[:limit]
        return [(replace(one), self._tables.accounts[one.account_id].name) for one in newest]
