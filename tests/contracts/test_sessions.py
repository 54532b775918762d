"""What every place where sessions are kept promises, and every place that is asked who their holders are."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.sessions import PostgresTokenBlacklist
from heallog.domain.access import Plan, Role
from heallog.domain.codes import OneTimeCode, Purpose
from heallog.domain.errors import DomainError
from heallog.domain.practices import Emergency, Membership, Practice
from heallog.domain.sessions import Bearer, Ending, Session, Standing
from heallog.domain.tries import Tries

from .clinic import MINUTE, MONDAY, Backend, Clinic, in_turn

DAY = timedelta(days=1)


def _session(clinic: Clinic, id: str, at: datetime = MONDAY, **fields: Any) -> Session:
    account_id, end = clinic.dr_okafor.account_id, at + 30 * DAY
    made = Session(clinic.id, id, account_id, "tablet-1", at, end, at, 1, b"\x00hash\xff", b"\x00family\xff")
    return replace(made, **fields)


@pytest.fixture
def session(clinic: Clinic) -> Session:
    return _session(clinic, "s-1")


async def _add(backend: Backend, *sessions: Session) -> None:
    async with backend.uow() as uow:
        for session in sessions:
            await uow.sessions.add(session)
        await uow.commit()


async def _put(backend: Backend, session: Session) -> None:
    async with backend.uow() as uow:
        await uow.sessions.put(session)
        await uow.commit()


async def _kept(backend: Backend, session: Session) -> Session | None:
    async with backend.uow() as uow:
        return await uow.sessions.lock(session.practice_id, session.id)


async def _refused(backend: Backend, session: Session) -> Exception:
    async with backend.uow() as uow:
        with pytest.raises(Exception) as refused:
            await uow.sessions.add(session)
    return refused.value


async def test_a_session_is_kept_whole(backend: Backend, clinic: Clinic, session: Session) -> None:
    over = _session(clinic, "s-2", generation=999_999_999, ended_at=MONDAY + MINUTE, ending=Ending.REPLAYED)
    await _add(backend, session, over)
    assert await _kept(backend, session) == session
    found = await _kept(backend, over)
    assert found == over
    assert found.ending is Ending.REPLAYED
    assert not isinstance(await _refused(backend, session), DomainError)


async def test_a_session_that_was_not_committed_is_not_kept(backend: Backend, session: Session) -> None:
    for _ in range(2):
        async with backend.uow() as uow:
            await uow.sessions.add(session)
            assert await uow.sessions.lock(session.practice_id, session.id) == session
    assert await _kept(backend, session) is None


async def test_the_same_id_in_another_practice_is_another_session(
    backend: Backend, session: Session, elsewhere: Clinic
) -> None:
    assert await _kept(backend, session) is None
    there = _session(elsewhere, session.id)
    await _add(backend, session, there)
    await _put(backend, session.ended(Ending.LOGOUT, MONDAY))
    assert await _kept(backend, there) == there


async def test_a_session_needs_a_member(backend: Backend, session: Session, elsewhere: Clinic) -> None:
    for impossible in (
        replace(session, account_id="nobody"),
        replace(session, practice_id="nowhere"),
        replace(session, practice_id=elsewhere.id),
    ):
        assert not isinstance(await _refused(backend, impossible), DomainError)


async def test_what_may_change_of_a_session_changes_and_the_rest_stays(
    backend: Backend, clinic: Clinic, session: Session
) -> None:
    other = _session(clinic, "s-2")
    await _add(backend, session, other)
    await clinic.hire("thief")
    refreshed = replace(
        session,
        expires_at=MONDAY + 60 * DAY,
        refreshed_at=MONDAY + MINUTE,
        generation=2,
        token_hash=b"next",
        ended_at=MONDAY + 2 * MINUTE,
        ending=Ending.PASSWORD,
    )
    fixed = {"account_id": clinic.account("thief").id, "device_id": "other", "created_at": MONDAY - DAY, "family": b""}
    await _put(backend, replace(refreshed, **fixed))
    assert await _kept(backend, session) == refreshed
    assert await _kept(backend, other) == other


async def test_writing_makes_no_session_and_without_a_commit_changes_none(
    backend: Backend, clinic: Clinic, session: Session
) -> None:
    await _add(backend, session)
    await _put(backend, _session(clinic, "s-2"))
    assert await _kept(backend, _session(clinic, "s-2")) is None
    async with backend.uow() as uow:
        await uow.sessions.put(session.ended(Ending.LOGOUT, MONDAY))
    assert await _kept(backend, session) == session


async def test_of_two_who_refresh_a_session_the_second_sees_what_the_first_made_of_it(
    backend: Backend, session: Session
) -> None:
    await _add(backend, session)
    used = replace(session, generation=2, token_hash=b"next")
    seen = await in_turn(
        backend, lambda uow: uow.sessions.lock(session.practice_id, "s-1"), lambda uow: uow.sessions.put(used)
    )
    assert seen == used


# -- an account's sessions ----------------------------------------------------------------------------------------


async def _of(
    backend: Backend, clinic: Clinic, practice_id: str | None = None, *, now: datetime = MONDAY
) -> list[tuple[str, str]]:
    async with backend.uow() as uow:
        found = await uow.sessions.of_account(clinic.dr_okafor.account_id, now, practice_id)
        return [(session.practice_id, session.id) for session in found]


async def test_an_accounts_live_sessions_come_newest_first(backend: Backend, clinic: Clinic) -> None:
    made = {"s-1": 2, "s-b": 1, "s-B": 1, "s-a": 1, "s-9": 0}
    sessions = {name: _session(clinic, name, MONDAY + minutes * MINUTE) for name, minutes in made.items()}
    await _add(backend, *sessions.values())
    async with backend.uow() as uow:
        found = await uow.sessions.of_account(clinic.dr_okafor.account_id, MONDAY)
        assert list(found) == [sessions[name] for name in ("s-1", "s-b", "s-a", "s-B", "s-9")]
        assert list(await uow.sessions.of_account("nobody", MONDAY)) == []


async def test_what_has_ended_or_expired_and_what_is_anothers_is_left_out(backend: Backend, clinic: Clinic) -> None:
    bola = await clinic.hire("bola")
    await _add(
        backend,
        _session(clinic, "live"),
        _session(clinic, "ended", ended_at=MONDAY, ending=Ending.LOGOUT),
        _session(clinic, "expiring", expires_at=MONDAY + MINUTE),
        _session(clinic, "bolas", account_id=bola.account_id),
    )
    assert await _of(backend, clinic) == [(clinic.id, "live"), (clinic.id, "expiring")]
    assert await _of(backend, clinic, now=MONDAY + MINUTE) == [(clinic.id, "live")]
    assert await _of(backend, clinic, now=MONDAY + 30 * DAY) == []


async def test_sessions_of_one_practice_or_of_all(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    okafor = clinic.dr_okafor.account_id
    async with backend.uow() as uow:
        await uow.practices.join(Membership(elsewhere.id, okafor, Role.CLINICIAN, MONDAY))
        await uow.commit()
    there = _session(elsewhere, "s-1", MONDAY + MINUTE, account_id=okafor)
    await _add(backend, _session(clinic, "s-1"), there, _session(elsewhere, "not hers"))
    assert await _of(backend, clinic) == [(elsewhere.id, "s-1"), (clinic.id, "s-1")]
    assert await _of(backend, clinic, clinic.id) == [(clinic.id, "s-1")]
    assert await _of(backend, clinic, elsewhere.id) == [(elsewhere.id, "s-1")]
    assert await _of(backend, clinic, "nowhere") == []


async def test_everybodys_live_sessions(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    bola = await clinic.hire("bola")
    live = [_session(clinic, "s-2", MONDAY + MINUTE), _session(clinic, "s-1", account_id=bola.account_id)]
    there = _session(elsewhere, "s-1", MONDAY - MINUTE, expires_at=MONDAY + MINUTE)
    await _add(backend, *live, there, _session(clinic, "ended", ended_at=MONDAY, ending=Ending.LOGOUT))

    async def ours(now: datetime) -> list[Session]:
        async with backend.uow() as uow:
            return [one for one in await uow.sessions.live(now) if one.practice_id in (clinic.id, elsewhere.id)]

    assert await ours(MONDAY) == [*live, there]
    assert await ours(MONDAY + MINUTE) == live


async def test_who_ends_everybodys_sessions_waits_for_who_has_one_locked(backend: Backend, session: Session) -> None:
    await _add(backend, session)
    ended = session.ended(Ending.REVOKED, MONDAY)
    seen = await in_turn(backend, lambda uow: uow.sessions.live(MONDAY), lambda uow: uow.sessions.put(ended))
    assert session.practice_id not in [one.practice_id for one in seen]


async def test_who_ends_all_sessions_waits_for_who_has_one_locked(backend: Backend, session: Session) -> None:
    """A session that ended meanwhile is no live one any more."""
    await _add(backend, session)

    ended = session.ended(Ending.LOGOUT, MONDAY)
    seen = await in_turn(
        backend,
        lambda uow: uow.sessions.of_account(session.account_id, MONDAY),
        lambda uow: uow.sessions.put(ended),
    )
    assert list(seen) == []


async def test_who_refreshes_waits_for_who_ends_all_sessions(backend: Backend, session: Session) -> None:
    await _add(backend, session)
    async with backend.uow() as uow:
        [found] = await uow.sessions.of_account(session.account_id, MONDAY)
        task = asyncio.create_task(_kept(backend, session))
        await backend.until_waiting(task)
        assert not task.done()
        ended = found.ended(Ending.PASSWORD, MONDAY)
        await uow.sessions.put(ended)
        await uow.commit()
    assert await task == ended


# -- the broom ----------------------------------------------------------------------------------------------------

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
"""Before everything that other tests leave behind: so what is swept is this test's."""


async def _sweep(backend: Backend, before: datetime = LONG_AGO, left: datetime = LONG_AGO) -> int:
    async with backend.uow() as uow:
        swept = await uow.sessions.sweep(before, left)
        await uow.commit()
    return swept


async def test_ended_sessions_are_swept_by_their_end_and_others_by_their_expiry(
    backend: Backend, clinic: Clinic
) -> None:
    earlier, later = LONG_AGO - MINUTE, LONG_AGO + MINUTE
    over = {"ending": Ending.LOGOUT}
    gone = [
        _session(clinic, "expired", expires_at=earlier),
        _session(clinic, "ended", ended_at=earlier, expires_at=later, **over),
        _session(clinic, "both", ended_at=earlier, expires_at=earlier, **over),
    ]
    left = [
        _session(clinic, "expires then", expires_at=LONG_AGO),
        _session(clinic, "ended then", ended_at=LONG_AGO, expires_at=earlier, **over),
        _session(clinic, "ended later", ended_at=later, expires_at=earlier, **over),
        _session(clinic, "live"),
    ]
    await _add(backend, *gone, *left)
    assert await _sweep(backend) == 3
    assert [await _kept(backend, session) for session in gone] == [None] * 3
    assert [await _kept(backend, session) for session in left] == left
    assert await _sweep(backend) == 0
    assert await _sweep(backend, LONG_AGO + DAY) == 3


async def test_sessions_that_ended_with_a_membership_are_swept_by_a_time_of_their_own(
    backend: Backend, clinic: Clinic
) -> None:
    earlier, later = LONG_AGO - MINUTE, LONG_AGO + MINUTE
    left = [
        _session(clinic, f"{ending}", ended_at=earlier, expires_at=later, ending=ending)
        for ending in (Ending.MEMBERSHIP, Ending.REVOKED)
    ]
    await _add(backend, *left)
    assert await _sweep(backend, LONG_AGO, LONG_AGO - DAY) == 1
    assert [await _kept(backend, session) for session in left] == [left[0], None]
    assert await _sweep(backend, LONG_AGO - DAY, LONG_AGO) == 1


async def test_old_codes_and_old_tries_are_swept(backend: Backend, clinic: Clinic) -> None:
    address, keys = clinic.account("okafor").email_key, [f"account:{clinic.id}-{number}" for number in range(3)]
    ends = [LONG_AGO - MINUTE, LONG_AGO, LONG_AGO + MINUTE]
    codes = [
        OneTimeCode(f"c-{number}", address, Purpose.RESET, None, b"digest", end - 10 * MINUTE, end)
        for number, end in enumerate(ends)
    ]
    tries = [Tries(key, 3, end, LONG_AGO + MINUTE) for key, end in zip(keys, ends, strict=True)]
    async with backend.uow() as uow:
        for code in codes:
            await uow.codes.add(code)
        await uow.tries.lock(keys, MONDAY)
        await uow.tries.put(tries)
        await uow.commit()
    assert await _sweep(backend) == 2
    async with backend.uow() as uow:
        assert list(await uow.codes.lock(address, LONG_AGO - DAY)) == codes[:0:-1]
        assert list(await uow.tries.lock(keys, MONDAY)) == [Tries(keys[0], 0, MONDAY), *tries[1:]]
    assert await _sweep(backend, LONG_AGO + DAY) == 4


async def test_a_sweep_that_was_not_committed_swept_nothing(backend: Backend, clinic: Clinic) -> None:
    old = _session(clinic, "old", expires_at=LONG_AGO - MINUTE)
    await _add(backend, old)
    async with backend.uow() as uow:
        assert await uow.sessions.sweep(LONG_AGO, LONG_AGO) == 1
        assert await uow.sessions.lock(clinic.id, "old") is None
        assert await uow.sessions.sweep(LONG_AGO, LONG_AGO) == 0
    assert await _kept(backend, old) == old
    assert await _sweep(backend) == 1


async def test_the_id_of_a_session_that_was_swept_is_free(backend: Backend, clinic: Clinic) -> None:
    await _add(backend, _session(clinic, "s-1", expires_at=LONG_AGO - MINUTE))
    assert await _sweep(backend) == 1
    again = _session(clinic, "s-1")
    await _add(backend, again)
    assert await _kept(backend, again) == again
    assert await _of(backend, clinic) == [(clinic.id, "s-1")]


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_revoked_tokens_that_are_over_are_swept(backend: Backend, clinic: Clinic, database: Database) -> None:
    blacklist = PostgresTokenBlacklist(database, lambda: LONG_AGO - DAY)
    for name, until in {"over": LONG_AGO - MINUTE, "then": LONG_AGO, "later": LONG_AGO + MINUTE}.items():
        await blacklist.revoke([(clinic.id, name)], until)
    assert await _sweep(backend) == 1
    assert [await blacklist.revoked(clinic.id, name) for name in ("over", "then", "later")] == [False, True, True]
    assert await _sweep(backend, LONG_AGO + DAY) == 2


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_a_counter_that_is_used_while_the_broom_waits_for_it_stays(backend: Backend, clinic: Clinic) -> None:
    key = f"account:{clinic.id}"
    async with backend.uow() as uow:
        await uow.tries.lock([key], LONG_AGO - MINUTE)
        await uow.commit()
    async with backend.uow() as uow:
        await uow.tries.lock([key], MONDAY)
        task = asyncio.create_task(_sweep(backend))
        await backend.until_waiting(task)
        await uow.tries.put([Tries(key, 1, MONDAY)])
        await uow.commit()
    assert await task == 0
    async with backend.uow() as uow:
        assert list(await uow.tries.lock([key], MONDAY)) == [Tries(key, 1, MONDAY)]


# -- who someone is now -------------------------------------------------------------------------------------------


def _bearer(session: Session) -> Bearer:
    return Bearer(session.account_id, session.practice_id, session.id, session.device_id)


@pytest.fixture
async def bearer(backend: Backend, session: Session) -> Bearer:
    await _add(backend, session)
    return _bearer(session)


async def test_the_holder_of_a_session_stands_as_a_member(backend: Backend, session: Session, bearer: Bearer) -> None:
    plain = Standing(session.account_id, "tablet-1", session.expires_at, Role.OWNER, Plan.FREE, False, None)
    found = await backend.sessions.standing(bearer)
    assert found == plain
    assert (type(found.role), type(found.plan)) == (Role, Plan)
    # The row says who it is, whatever the token does.
    assert await backend.sessions.standing(replace(bearer, account_id="thief", device_id="other")) == plain


async def test_nobody_stands_without_a_session(
    backend: Backend, clinic: Clinic, elsewhere: Clinic, bearer: Bearer
) -> None:
    for unknown in (replace(bearer, session_id="s-2"), replace(bearer, practice_id=elsewhere.id)):
        assert await backend.sessions.standing(unknown) is None
    async with backend.uow() as uow:
        not_yet = _session(clinic, "s-2")
        await uow.sessions.add(not_yet)
        assert await backend.sessions.standing(_bearer(not_yet)) is None


@pytest.mark.parametrize("ending", list(Ending))
async def test_nobody_stands_once_the_session_has_ended(
    backend: Backend, session: Session, bearer: Bearer, ending: Ending
) -> None:
    async with backend.uow() as uow:
        await uow.sessions.put(session.ended(ending, MONDAY))
        assert await backend.sessions.standing(bearer) is not None
        await uow.commit()
    assert await backend.sessions.standing(bearer) is None


async def test_a_session_that_is_only_too_old_says_when_it_expired(
    backend: Backend, session: Session, bearer: Bearer
) -> None:
    """Whoever asks has the clock."""
    await _put(backend, replace(session, expires_at=LONG_AGO))
    found = await backend.sessions.standing(bearer)
    assert found is not None
    assert found.expires_at == LONG_AGO
    await _put(backend, session)


# -- who has left -------------------------------------------------------------------------------------------------


async def _members(backend: Backend, session: Session, ended_at: datetime | None) -> None:
    async with backend.uow() as uow:
        found = next(
            one for one in await uow.practices.members(session.practice_id) if one.account_id == session.account_id
        )
        await uow.practices.put_member(replace(found, ended_at=ended_at))
        await uow.commit()


async def test_whose_session_ended_with_the_membership_has_left(
    backend: Backend, elsewhere: Clinic, session: Session, bearer: Bearer
) -> None:
    await _put(backend, session.ended(Ending.MEMBERSHIP, MONDAY))
    # Still, or again, a member: they log in.
    assert await backend.sessions.left(bearer) is None
    await _members(backend, session, MONDAY)
    assert await backend.sessions.left(replace(bearer, device_id="other")) == "tablet-1"
    for unknown in (
        replace(bearer, session_id="s-2"),
        replace(bearer, practice_id=elsewhere.id),
        replace(bearer, account_id="thief"),
    ):
        assert await backend.sessions.left(unknown) is None


@pytest.mark.parametrize("ending", [None, *(one for one in Ending if one is not Ending.MEMBERSHIP)])
async def test_whose_session_did_not_end_with_the_membership_has_nothing_to_hand_in(
    backend: Backend, session: Session, bearer: Bearer, ending: Ending | None
) -> None:
    if ending is not None:
        await _put(backend, session.ended(ending, MONDAY))
    await _members(backend, session, MONDAY)
    assert await backend.sessions.left(bearer) is None


async def test_a_session_that_was_swept_is_none(backend: Backend, session: Session, bearer: Bearer) -> None:
    await _put(backend, replace(session, expires_at=LONG_AGO - MINUTE))
    assert await _sweep(backend) == 1
    assert await backend.sessions.standing(bearer) is None


async def test_nobody_stands_whose_membership_has_ended_until_they_join_again(
    backend: Backend, clinic: Clinic, elsewhere: Clinic, bearer: Bearer
) -> None:
    member = Membership(clinic.id, bearer.account_id, Role.OWNER, MONDAY, MONDAY + MINUTE)
    async with backend.uow() as uow:
        # A member elsewhere is none here.
        await uow.practices.join(Membership(elsewhere.id, bearer.account_id, Role.OWNER, MONDAY))
        await uow.practices.put_member(member)
        assert await backend.sessions.standing(bearer) is not None
        await uow.commit()
    assert await backend.sessions.standing(bearer) is None
    async with backend.uow() as uow:
        await uow.practices.join(replace(member, role=Role.AUDITOR, ended_at=None))
        await uow.commit()
    found = await backend.sessions.standing(bearer)
    assert found is not None
    assert found.role is Role.AUDITOR


async def test_role_plan_and_address_are_those_of_now(
    backend: Backend, clinic: Clinic, elsewhere: Clinic, bearer: Bearer
) -> None:
    before = await backend.sessions.standing(bearer)
    assert before is not None
    account = clinic.account("okafor")
    async with backend.uow() as uow:
        await uow.practices.join(Membership(elsewhere.id, bearer.account_id, Role.CLINICIAN, MONDAY))
        await uow.practices.put(Practice(elsewhere.id, "Elsewhere", MONDAY, Plan.PRO))
        await uow.commit()
    assert await backend.sessions.standing(bearer) == before
    async with backend.uow() as uow:
        await uow.practices.put_member(Membership(clinic.id, bearer.account_id, Role.ASSISTANT, MONDAY))
        await uow.practices.put(Practice(clinic.id, "Here", MONDAY, Plan.PRO))
        await uow.accounts.put(replace(account, verified_at=MONDAY))
        assert await backend.sessions.standing(bearer) == before
        await uow.commit()
    now = replace(before, role=Role.ASSISTANT, plan=Plan.PRO, verified=True)
    assert await backend.sessions.standing(bearer) == now


async def test_broken_glass_shows_until_it_is_closed(
    backend: Backend, clinic: Clinic, elsewhere: Clinic, bearer: Bearer
) -> None:
    async def until() -> datetime | None:
        found = await backend.sessions.standing(bearer)
        assert found is not None
        return found.emergency_until

    okafor, bola = bearer.account_id, (await clinic.hire("bola")).account_id
    short = Emergency(clinic.id, "e-1", okafor, "Fire.", MONDAY, MONDAY + 5 * MINUTE)
    long = Emergency(clinic.id, "e-2", okafor, "Flood.", MONDAY, MONDAY + 60 * MINUTE)
    async with backend.uow() as uow:
        await uow.practices.join(Membership(elsewhere.id, okafor, Role.ASSISTANT, MONDAY))
        await uow.practices.declare(replace(long, account_id=bola))
        await uow.practices.declare(replace(long, practice_id=elsewhere.id))
        await uow.commit()
    assert await until() is None
    async with backend.uow() as uow:
        await uow.practices.declare(replace(short, id="e-3"))
        await uow.practices.declare(replace(long, id="e-4"))
        await uow.commit()
    assert await until() == long.until
    async with backend.uow() as uow:
        await uow.practices.put_emergency(replace(long, id="e-4", closed_at=MONDAY + MINUTE))
        await uow.commit()
    assert await until() == short.until
    async with backend.uow() as uow:
        await uow.practices.put_emergency(replace(short, id="e-3", closed_at=MONDAY + MINUTE))
        await uow.commit()
    assert await until() is None


async def test_three_hundred_who_ask_at_once_get_each_their_own_answer(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    """Two practices have sessions of the same names; some have ended, some never were; and everyone asks twice."""
    over = {"ended_at": MONDAY, "ending": Ending.LOGOUT}
    sessions = [
        _session(place, f"s-{number}", device_id=f"{place.id}-{number}", **(over if number % 5 == 0 else {}))
        for number in range(150)
        for place in (clinic, elsewhere)
    ]
    await _add(backend, *(session for session in sessions if session.id[-1] != "7"))
    answers = await asyncio.gather(*(backend.sessions.standing(_bearer(session)) for session in sessions * 2))
    for session, found in zip(sessions * 2, answers, strict=True):
        if session.id[-1] == "7" or session.ended_at:
            assert found is None
        else:
            assert found == Standing(
                session.account_id, session.device_id, session.expires_at, Role.OWNER, Plan.FREE, False, None
            )


async def test_no_question_misses_what_was_committed_before_it(backend: Backend, clinic: Clinic) -> None:
    """However many ask the same all the while: nobody is given an answer to an earlier question."""
    sessions = [_session(clinic, f"s-{number}") for number in range(20)]
    await _add(backend, *sessions)
    over = asyncio.Event()

    async def asking() -> None:
        while not over.is_set():
            await asyncio.gather(*(backend.sessions.standing(_bearer(session)) for session in sessions))
            await asyncio.sleep(0)

    others = [asyncio.create_task(asking()) for _ in range(10)]
    for session in sessions:
        out = asyncio.ensure_future(backend.sessions.standing(_bearer(session)))
        await asyncio.sleep(0)
        await _put(backend, session.ended(Ending.LOGOUT, MONDAY))
        assert await backend.sessions.standing(_bearer(session)) is None
        await out  # it may be told either
    over.set()
    await asyncio.gather(*others)
