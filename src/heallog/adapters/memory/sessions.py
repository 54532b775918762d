"""Sessions in memory, who their holders are now, and whose access tokens are worth nothing any more."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from heallog.adapters.memory.store import ConstraintViolated, Overlay, Store
from heallog.application.ports.world import Clock
from heallog.domain.sessions import Bearer, Ending, Session, Standing


class SessionRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def add(self, session: Session) -> None:
        tables = self._tables
        key = session.practice_id, session.id
        with tables.writing():
            if tables.sessions.get(key) is not None:
                raise ConstraintViolated("sessions: this id is taken")
            if (session.practice_id, session.account_id) not in tables.memberships:
                raise ConstraintViolated("sessions: this account is no member of the practice")
            tables.sessions[key] = replace(session)

    async def lock(self, practice_id: str, session_id: str) -> Session | None:
        session = self._tables.sessions.get((practice_id, session_id))
        return None if session is None else replace(session)

    async def put(self, session: Session) -> None:
        key = session.practice_id, session.id
        with self._tables.writing():
            known = self._tables.sessions.get(key)
            if known is not None:
                self._tables.sessions[key] = replace(
                    known,
                    expires_at=session.expires_at,
                    refreshed_at=session.refreshed_at,
                    generation=session.generation,
                    token_hash=session.token_hash,
                    ended_at=session.ended_at,
                    ending=session.ending,
                )

    async def of_account(self, account_id: str, now: datetime, practice_id: str | None = None) -> Sequence[Session]:
        found = await self.live(now)
        return [one for one in found if one.account_id == account_id and practice_id in (None, one.practice_id)]

    async def live(self, now: datetime) -> Sequence[Session]:
        found = [replace(one) for one in self._tables.sessions.values() if one is not None and one.live(now)]
        return sorted(found, key=lambda session: (session.created_at, session.id), reverse=True)

    async def sweep(self, before: datetime, left: datetime) -> int:
        tables = self._tables
        over_sessions = [
            key
            for key, one in tables.sessions.items()
            if one is not None
            and (one.ended_at or one.expires_at) < (left if one.ending is Ending.MEMBERSHIP else before)
        ]
        over_codes = [key for key, one in tables.codes.items() if one is not None and one.expires_at < before]
        over_tries = [key for key, one in tables.tries.items() if one is not None and one.last_at < before]
        with tables.writing():
            tables.sessions.update(dict.fromkeys(over_sessions))
            tables.codes.update(dict.fromkeys(over_codes))
            tables.tries.update(dict.fromkeys(over_tries))
        return len(over_sessions) + len(over_codes) + len(over_tries)


class SessionReads:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def standing(self, bearer: Bearer) -> Standing | None:
        store = self._store
        session = store.sessions.get((bearer.practice_id, bearer.session_id))
        if session is None or session.ended_at is not None:
            return None
        member = store.memberships.get((session.practice_id, session.account_id))
        if member is None or member.ended_at is not None:
            return None
        broken = [
            one.until
            for one in store.emergencies.values()
            if (one.practice_id, one.account_id) == (session.practice_id, session.account_id) and one.closed_at is None
        ]
        return Standing(
            session.account_id,
            session.device_id,
            session.expires_at,
            member.role,
            store.practices[session.practice_id].plan,
            store.accounts[session.account_id].verified_at is not None,
            max(broken, default=None),
        )

    async def left(self, bearer: Bearer) -> str | None:
        session = self._store.sessions.get((bearer.practice_id, bearer.session_id))
        if session is None or (session.ending, session.account_id) != (Ending.MEMBERSHIP, bearer.account_id):
            return None
        member = self._store.memberships.get((session.practice_id, session.account_id))
        return session.device_id if member is not None and member.ended_at is not None else None


class MemoryTokenBlacklist:
    """Goes with the process, as its sessions do."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], datetime] = {}

    async def revoke(self, sessions: Sequence[tuple[str, str]], until: datetime) -> None:
        now = self._clock()
        self._until = {key: end for key, end in self._until.items() if end > now}
        for key in sessions:
            self._until[key] = max(until, self._until.get(key, until))

    async def revoked(self, practice_id: str, session_id: str) -> bool:
        until = self._until.get((practice_id, session_id))
        return until is not None and self._clock() < until


if TYPE_CHECKING:
    from heallog.application.ports.sessions import TokenBlacklist

    _: type[TokenBlacklist] = MemoryTokenBlacklist
