"""Sessions in memory."""

from dataclasses import replace

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.sessions import Session


class SessionRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def add(self, session: Session) -> None:
        tables = self._tables
        key = session.practice_id, session.id
        with tables.writing():
            if key in tables.sessions:
                raise ConstraintViolated("sessions: this id is taken")
            if (session.practice_id, session.account_id) not in tables.memberships:
                raise ConstraintViolated("sessions: this account is no member of the practice")
            tables.sessions[key] = replace(session)
