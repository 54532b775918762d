"""What every place where sessions are kept promises.

There is no reading them yet; but what is kept cannot be added twice.
"""

from dataclasses import replace

import pytest

from heallog.domain.errors import DomainError
from heallog.domain.sessions import Session

from .clinic import MINUTE, MONDAY, Backend, Clinic


@pytest.fixture
def session(clinic: Clinic) -> Session:
    return Session(clinic.id, "s-1", clinic.dr_okafor.account_id, "tablet-1", MONDAY, MONDAY + MINUTE)


async def _refused(backend: Backend, session: Session) -> Exception:
    async with backend.uow() as uow:
        with pytest.raises(Exception) as refused:
            await uow.sessions.add(session)
    return refused.value


async def test_a_session_is_kept(backend: Backend, session: Session) -> None:
    async with backend.uow() as uow:
        await uow.sessions.add(session)
        await uow.commit()
    assert not isinstance(await _refused(backend, session), DomainError)


async def test_a_session_that_was_not_committed_is_not_kept(backend: Backend, session: Session) -> None:
    for _ in range(2):
        async with backend.uow() as uow:
            await uow.sessions.add(session)


async def test_the_same_id_in_another_practice_is_another_session(
    backend: Backend, session: Session, elsewhere: Clinic
) -> None:
    async with backend.uow() as uow:
        await uow.sessions.add(session)
        await uow.sessions.add(replace(session, practice_id=elsewhere.id, account_id=elsewhere.dr_okafor.account_id))
        await uow.commit()


async def test_a_session_needs_a_member(backend: Backend, session: Session, elsewhere: Clinic) -> None:
    for impossible in (
        replace(session, account_id="nobody"),
        replace(session, practice_id="nowhere"),
        replace(session, practice_id=elsewhere.id),
    ):
        assert not isinstance(await _refused(backend, impossible), DomainError)
