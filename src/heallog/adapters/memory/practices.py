"""Practices and memberships in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.errors import NotFound
from heallog.domain.practices import Membership, Practice


class PracticeRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def add(self, practice: Practice) -> None:
        with self._tables.writing():
            if practice.id in self._tables.practices:
                raise ConstraintViolated("practices: this id is taken")
            self._tables.practices[practice.id] = replace(practice)

    async def join(self, membership: Membership) -> None:
        tables = self._tables
        key = membership.practice_id, membership.account_id
        with tables.writing():
            if key in tables.memberships:
                raise ConstraintViolated("memberships: this account is a member already")
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

    async def members(self, practice_id: str) -> Sequence[Membership]:
        return self._chosen(lambda membership: membership.practice_id == practice_id)

    def _chosen(self, wanted: Callable[[Membership], bool]) -> list[Membership]:
        chosen = [replace(membership) for membership in self._tables.memberships.values() if wanted(membership)]
        return sorted(chosen, key=lambda member: (member.created_at, member.practice_id, member.account_id))
