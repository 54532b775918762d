"""The use cases of sessions."""

import pytest

from heallog.application.accounts import Registered
from heallog.domain.access import Role
from heallog.domain.accounts import Account
from heallog.domain.errors import InvalidCredentials
from heallog.domain.events import LoggedIn
from heallog.domain.practices import Membership
from heallog.domain.sessions import SESSION_LIFE, Session

from .world import MINUTE, NOON, World

PASSWORD = "correct horse battery"


@pytest.fixture
async def okafor(world: World) -> Registered:
    registered = await world.accounts.register(
        {"email": "okafor@north.example", "password": PASSWORD, "name": "Okafor", "practice_name": "Okafor's"}
    )
    world.told.clear()
    world.store.audit_entries.clear()
    world.clock.now += MINUTE
    return registered


async def test_dr_okafor_logs_in(world: World, okafor: Registered) -> None:
    token = await world.sessions.login(" OKAFOR@north.example", PASSWORD, "tablet-1", "request-9")
    assert (token.expires_in, token.token_type) == (900, "Bearer")
    actor = world.tokens.issued[token.access_token]
    assert (actor.account_id, actor.practice_id, actor.role) == (okafor.account.id, okafor.practice.id, Role.OWNER)
    assert (actor.device_id, actor.request_id) == ("tablet-1", "request-9")
    now = NOON + MINUTE
    assert list(world.store.sessions.values()) == [
        Session(okafor.practice.id, actor.session_id, okafor.account.id, "tablet-1", now, now + SESSION_LIFE)
    ]
    assert world.told == [LoggedIn(okafor.practice.id, okafor.account.id, actor.session_id)]
    [entry] = world.trail
    assert (entry.action, entry.outcome, entry.session_id) == ("sessions.login", "done", actor.session_id)
    assert (entry.account_id, entry.role, entry.device_id) == (okafor.account.id, Role.OWNER, "tablet-1")
    assert (entry.request_id, entry.at) == ("request-9", now)


async def test_a_device_without_an_id_is_given_one(world: World, okafor: Registered) -> None:
    tokens = [await world.sessions.login("okafor@north.example", PASSWORD) for _ in range(2)]
    one, other = (world.tokens.issued[token.access_token] for token in tokens)
    assert one.device_id
    assert one.device_id != other.device_id
    assert one.session_id != other.session_id


async def test_a_wrong_password_is_refused_and_remembered(world: World, okafor: Registered) -> None:
    with pytest.raises(InvalidCredentials):
        await world.sessions.login("okafor@north.example", "wrong horse battery", "tablet-1", "request-9")
    assert (world.store.sessions, world.told, world.tokens.issued) == ({}, [], {})
    [entry] = world.trail
    assert (entry.action, entry.outcome, entry.session_id) == ("sessions.login", "refused", "")
    assert (entry.account_id, entry.device_id, entry.request_id) == (okafor.account.id, "tablet-1", "request-9")


async def test_unknown_homeless_and_wrong_answer_alike(world: World, okafor: Registered) -> None:
    async with world.uow() as uow:
        password_hash = await world.passwords.hash(PASSWORD)
        await uow.accounts.add(Account("h", "h@north.example", "h@north.example", "Homeless", password_hash, NOON))
        await uow.commit()
    answers = []
    for email, password in (
        ("nobody@north.example", PASSWORD),
        ("h@north.example", PASSWORD),
        ("okafor@north.example", "wrong horse battery"),
    ):
        with pytest.raises(InvalidCredentials) as refused:
            await world.sessions.login(email, password)
        answers.append((refused.value.message, refused.value.field, refused.value.context))
    assert len(set(map(repr, answers))) == 1
    assert world.store.sessions == {}


async def test_a_password_is_verified_for_nobody_too(world: World, okafor: Registered) -> None:
    """Else the time of the answer would tell who has an account."""
    with pytest.raises(InvalidCredentials):
        await world.sessions.login("nobody@north.example", PASSWORD)
    await world.sessions.login("okafor@north.example", PASSWORD)
    assert world.passwords.asked == [None, okafor.account.password_hash]


async def test_a_login_speaks_for_the_first_practice(world: World, okafor: Registered) -> None:
    async with world.uow() as uow:
        await uow.practices.join(Membership("southside", okafor.account.id, Role.AUDITOR, NOON - MINUTE))
        await uow.commit()
    token = await world.sessions.login("okafor@north.example", PASSWORD)
    actor = world.tokens.issued[token.access_token]
    assert (actor.practice_id, actor.role) == ("southside", Role.AUDITOR)
