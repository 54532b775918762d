"""Bola logs in on her devices, stays logged in, and logs out; whoever copies a token of hers gets nowhere with it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from heallog.domain.access import Role
from heallog.domain.sessions import RefreshToken, parse

from .clinic import PASSWORD, refused
from .people import DAY, MINUTE, SECOND, House, NewHouse, Person

AGAIN = {"password": PASSWORD}


@pytest.fixture
async def bola(house: House) -> Person:
    return await house.person("Bola")


async def sessions_of(person: Person) -> list[dict[str, Any]]:
    return (await person.get("/v1/sessions"))["items"]


# -- staying logged in --------------------------------------------------------------------------------------------


async def test_bola_stays_logged_in_by_asking_for_the_next_tokens(house: House, bola: Person) -> None:
    first = dict(bola.tokens)
    house.clock.now += 14 * MINUTE
    answer = await bola.refresh()
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    bola.tokens = answer.json()
    assert bola.tokens["access_token"] != first["access_token"]
    assert bola.tokens["refresh_token"] != first["refresh_token"]
    house.clock.now += 10 * MINUTE
    refused(await bola.ask("GET", "/v1/me", token=first["access_token"]), 401, "TOKEN_EXPIRED")
    assert await bola.alive()


async def test_an_answer_that_was_lost_on_the_way_is_given_again_to_the_byte(
    house: House, bola: Person, another: NewHouse
) -> None:
    """Within ten seconds, also by another server."""
    first = await bola.refresh()
    house.clock.now += 10 * SECOND
    elsewhere = await another()
    elsewhere.clock.now = house.clock.now
    body = {"refresh_token": bola.tokens["refresh_token"]}
    answers = [await bola.refresh(), await bola.ask("POST", "/v1/auth/refresh", body, at=elsewhere)]
    assert [answer.content for answer in answers] == [first.content] * 2
    assert first.status_code == 200
    bola.tokens = first.json()
    assert await bola.alive()
    assert (await bola.refresh()).status_code == 200


async def test_a_token_that_comes_again_later_was_copied_and_ends_the_session_for_both(
    house: House, bola: Person, log: Callable[[], list[dict[str, Any]]]
) -> None:
    """Whoever copied it has used it; then Bola's app comes with it."""
    thief = (await bola.refresh()).json()
    house.clock.now += 10.001 * SECOND
    assert await bola.alive(thief["access_token"])
    refused(await bola.refresh(), 401, "SESSION_ENDED")
    (entry,) = await bola.entries()
    assert (entry["action"], entry["account_id"], entry["practice_id"]) == (
        "sessions.replay", bola.id, bola.practice_id,
    )  # fmt: skip
    for token in (thief["access_token"], bola.tokens["access_token"]):
        refused(await bola.ask("GET", "/v1/me", token=token), 401, "SESSION_ENDED")
    refused(await bola.refresh(thief["refresh_token"]), 401, "SESSION_ENDED")
    assert [line["session_id"] for line in log() if line["event"] == "SessionClosed"] == [entry["session_id"]]
    assert (await bola.login()).status_code == 200


async def test_a_token_that_was_just_given_is_given_again(house: House, bola: Person) -> None:
    """To the late half of a crowd of requests, which has the new token already."""
    new = await bola.refresh()
    bola.tokens = new.json()
    house.clock.now += 10 * SECOND
    assert (await bola.refresh()).content == new.content
    house.clock.now += SECOND
    assert (await bola.refresh()).json()["refresh_token"] != new.json()["refresh_token"]


async def test_a_token_from_before_the_last_one_is_never_a_retry(house: House, bola: Person) -> None:
    oldest = bola.tokens["refresh_token"]
    for _ in range(2):
        house.clock.now += 11 * SECOND
        bola.tokens = (await bola.refresh()).json()
    refused(await bola.refresh(oldest), 401, "SESSION_ENDED")
    assert not await bola.alive()


async def test_a_replay_ends_one_session_and_leaves_the_others(house: House, bola: Person) -> None:
    await bola.login(device_id="phone")
    phone = bola.tokens
    await bola.login(device_id="tablet")
    await bola.refresh()
    house.clock.now += MINUTE
    refused(await bola.refresh(), 401, "SESSION_ENDED")
    assert await bola.alive(phone["access_token"])
    assert (await bola.refresh(phone["refresh_token"])).status_code == 200


def made_up(token: RefreshToken, other: RefreshToken) -> dict[str, str]:
    practice, session, generation = token.practice_id, token.session_id, token.generation
    bits = bytes([token.secret[0] ^ 1]) + token.secret[1:]
    return {
        "another secret": str(RefreshToken(practice, session, generation, token.tag, bits)),
        "a generation that was": str(RefreshToken(practice, session, 1, token.tag, token.secret)),
        "a generation to come": str(RefreshToken(practice, session, generation + 1, token.tag, token.secret)),
        "the last generation with another secret": str(RefreshToken(practice, session, 2, bytes(16), token.secret)),
        "another session's tag and secret": str(RefreshToken(practice, session, 1, other.tag, other.secret)),
        "another session": str(RefreshToken(practice, other.session_id, generation, token.tag, token.secret)),
        "another practice": str(RefreshToken(other.practice_id, session, generation, token.tag, token.secret)),
        "a session that is not there": str(RefreshToken(practice, "nothing", generation, token.tag, token.secret)),
        "cut off": str(token)[:-1],
        "an access token": "eyJ.eyJ.x",
        "empty": "",
        "a word": "refresh",
        "a surrogate": "\ud800",
    }


async def test_tokens_that_are_made_up_end_nobodys_session(house: House, bola: Person) -> None:
    other = parse((await house.person("Dayo")).tokens["refresh_token"])
    for _ in range(2):
        house.clock.now += 11 * SECOND
        bola.tokens = (await bola.refresh()).json()
    house.clock.now += MINUTE
    token = parse(bola.tokens["refresh_token"])
    assert token is not None
    assert other is not None
    assert token.generation == 3
    for what, text in made_up(token, other).items():
        # JSON by hand: half a letter is nothing that httpx would send.
        body, form = json.dumps({"refresh_token": text}), {"Content-Type": "application/json"}
        answer = await house.client.post("/v1/auth/refresh", content=body, headers=form)
        assert answer.status_code in (400, 401, 422), (what, answer.text)
        assert await bola.trail() == []
    assert await bola.alive()
    assert (await bola.refresh()).status_code == 200


async def test_every_refusal_of_a_refresh_is_the_same(house: House, bola: Person) -> None:
    """Whether there was such a session is nobody's business."""
    texts = [bola.tokens["refresh_token"], f"{bola.tokens['refresh_token'][:-1]}_", "nothing", "hlr_a_b_1_" + "a" * 64]
    await bola.did("POST", "/v1/auth/logout")
    answers = [await bola.refresh(text) for text in texts]
    first, *others = ({**answer.json(), "request_id": ""} for answer in answers)
    refused(answers[0], 401, "SESSION_ENDED")
    assert others == [first] * 3


async def test_sixty_tabs_that_refresh_together_get_one_and_the_same_answer(bola: Person) -> None:
    before = parse(bola.tokens["refresh_token"])
    answers = await asyncio.gather(*(bola.refresh() for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    bola.tokens = answers[0].json()
    after = parse(bola.tokens["refresh_token"])
    assert before is not None
    assert after is not None
    assert (after.session_id, after.generation) == (before.session_id, 2)
    assert await bola.alive()
    assert len(await sessions_of(bola)) == 1


async def test_sixty_replays_together_end_the_session_once(house: House, bola: Person) -> None:
    await bola.refresh()
    house.clock.now += MINUTE
    answers = await asyncio.gather(*(bola.refresh() for _ in range(60)))
    for answer in answers:
        refused(answer, 401, "SESSION_ENDED")
    entries = await house.container.database().pool.fetchval(
        "SELECT count(*) FROM audit_entries WHERE practice_id = $1 AND action = 'sessions.replay'", bola.practice_id
    )
    assert entries == 1


async def test_a_device_that_stays_away_for_thirty_days_logs_in_again(house: House, bola: Person) -> None:
    house.clock.now += 30 * DAY - SECOND
    bola.tokens = (await bola.refresh()).json()
    assert await bola.alive()
    house.clock.now += 30 * DAY
    refused(await bola.refresh(), 401, "SESSION_ENDED")


async def test_a_device_that_is_used_every_day_logs_in_again_after_ninety(house: House, bola: Person) -> None:
    for _ in range(3):
        house.clock.now += 29 * DAY
        bola.tokens = (await bola.refresh()).json()
    house.clock.now += 3 * DAY - MINUTE
    last = (await bola.refresh()).json()
    assert last["expires_in"] == 60
    house.clock.now += 2 * MINUTE
    refused(await bola.refresh(last["refresh_token"]), 401, "SESSION_ENDED")


# -- logging out --------------------------------------------------------------------------------------------------


async def test_who_logs_out_is_out_at_once_on_every_server(bola: Person, another: NewHouse) -> None:
    """One that was there all the time, and one that starts afterwards."""
    running = await another()
    await bola.login()
    assert (await bola.ask("GET", "/v1/me", at=running)).status_code == 200
    await bola.did("POST", "/v1/auth/logout")
    assert await bola.trail() == [("sessions.logout", "done", None)]
    for server in (bola.house, running, await another()):
        for method, path in (("GET", "/v1/me"), ("POST", "/v1/patients"), ("POST", "/v1/auth/logout")):
            refused(await bola.ask(method, path, at=server), 401, "SESSION_ENDED")
        body = {"refresh_token": bola.tokens["refresh_token"]}
        refused(await bola.ask("POST", "/v1/auth/refresh", body, at=server), 401, "SESSION_ENDED")


async def test_each_of_the_row_and_the_blacklist_keeps_a_dead_token_out_alone(house: House, bola: Person) -> None:
    pool = house.container.database().pool
    await bola.login()
    session = parse(bola.tokens["refresh_token"])
    assert session is not None
    await bola.did("POST", "/v1/auth/logout")
    await pool.execute("DELETE FROM revoked_tokens WHERE session_id = $1", session.session_id)
    assert not await bola.alive()
    await bola.login()
    session = parse(bola.tokens["refresh_token"])
    assert session is not None
    await bola.did("POST", "/v1/auth/logout")
    await pool.execute("UPDATE sessions SET ended_at = NULL, ending = NULL WHERE id = $1", session.session_id)
    assert not await bola.alive()


async def test_logging_out_leaves_the_other_devices_logged_in(bola: Person) -> None:
    tablet = bola.tokens
    await bola.login(device_id="phone")
    await bola.did("POST", "/v1/auth/logout")
    assert not await bola.alive()
    assert await bola.alive(tablet["access_token"])


async def test_logging_out_everywhere_takes_the_password(bola: Person) -> None:
    tablet = bola.tokens["access_token"]
    await bola.login(device_id="phone")
    refused(await bola.post("/v1/auth/logout-all", {"password": "not hers"}), 401, "INVALID_CREDENTIALS")
    assert await bola.trail() == [("sessions.logout-all", "refused", "INVALID_CREDENTIALS")]
    refused(await bola.post("/v1/auth/logout-all", {}), 422, "INVALID_FIELDS", "password")
    assert await bola.alive(tablet)
    await bola.did("POST", "/v1/auth/logout-all", AGAIN)
    assert await bola.trail() == [("sessions.logout-all", "done", None)]
    assert not await bola.alive()
    assert not await bola.alive(tablet)
    assert (await bola.login()).status_code == 200


async def test_bola_sees_where_she_is_logged_in(house: House, bola: Person) -> None:
    await bola.login(device_id="phone")
    house.clock.now += MINUTE
    await bola.login(device_id="tablet")
    tablet, phone, first = await sessions_of(bola)
    assert [tablet["device_id"], phone["device_id"]] == ["tablet", "phone"]
    assert [one["current"] for one in (tablet, phone, first)] == [True, False, False]
    assert tablet == tablet | {"practice_id": bola.practice_id, "created_at": tablet["refreshed_at"]}
    assert tablet.keys() == {
        "id", "practice_id", "device_id", "created_at", "refreshed_at", "expires_at", "current",
    }  # fmt: skip
    house.clock.now += MINUTE
    await bola.refresh()
    now = (await sessions_of(bola))[0]
    assert now["created_at"] < now["refreshed_at"]
    assert now["expires_at"] > tablet["expires_at"]


async def test_what_is_over_is_not_in_the_list(house: House, bola: Person) -> None:
    await bola.login(device_id="phone")
    await bola.did("POST", "/v1/auth/logout")
    house.clock.now += 30 * DAY
    await bola.login(device_id="tablet")
    assert [one["device_id"] for one in await sessions_of(bola)] == ["tablet"]


async def test_bola_lost_her_phone_and_logs_it_out(bola: Person) -> None:
    await bola.login(device_id="phone")
    phone = bola.tokens
    await bola.login(device_id="tablet")
    (lost,) = [one["id"] for one in await sessions_of(bola) if one["device_id"] == "phone"]
    refused(await bola.ask("DELETE", f"/v1/sessions/{lost}", {"password": "no"}), 401, "INVALID_CREDENTIALS")
    assert await bola.trail() == [("sessions.revoke", "refused", "INVALID_CREDENTIALS")]
    assert await bola.alive(phone["access_token"])
    await bola.did("DELETE", f"/v1/sessions/{lost}", AGAIN)
    assert [(entry["action"], entry["thing_id"]) for entry in await bola.entries()] == [("sessions.revoke", lost)]
    assert not await bola.alive(phone["access_token"])
    refused(await bola.refresh(phone["refresh_token"]), 401, "SESSION_ENDED")
    assert await bola.alive()
    refused(await bola.ask("DELETE", f"/v1/sessions/{lost}", AGAIN), 404, "NOT_FOUND")
    assert await bola.trail() == [("sessions.revoke", "refused", "NOT_FOUND")]


async def test_a_session_can_end_itself_by_its_id(bola: Person) -> None:
    (own,) = await sessions_of(bola)
    await bola.did("DELETE", f"/v1/sessions/{own['id']}", AGAIN)
    assert not await bola.alive()


# -- two practices ------------------------------------------------------------------------------------------------


async def test_bola_works_in_two_practices_and_each_token_speaks_for_one(house: House, bola: Person) -> None:
    dayo = await house.person("Dayo", practice="Riverside")
    await bola.did("POST", "/v1/patients", {"id": "ngozi", "family_name": "Obi"})
    lakeside, home = bola.tokens, bola.practice_id
    await dayo.invites(bola, Role.ASSISTANT)
    assert (await bola.accepts()).status_code == 201
    assert (bola.practice_id, bola.tokens["token_type"]) == (dayo.practice_id, "Bearer")
    riverside = bola.tokens["access_token"]
    practices = (await bola.get("/v1/me"))["practices"]
    assert [(one["id"], one["name"], one["role"]) for one in practices] == [
        (home, "Lakeside", "owner"), (dayo.practice_id, "Riverside", "assistant"),
    ]  # fmt: skip
    refused(await bola.ask("GET", "/v1/patients/ngozi"), 404, "NOT_FOUND")

    bola.tokens = await bola.did("POST", "/v1/auth/switch", {"practice_id": home})
    (entry,) = await bola.entries()
    assert (entry["action"], entry["practice_id"], entry["role"]) == ("sessions.switch", home, "owner")
    assert (await bola.get("/v1/me"))["practice"]["role"] == "owner"
    assert (await bola.get("/v1/patients/ngozi"))["family_name"] == "Obi"
    # Those at hand before stay good, each for its own.
    for token, role in ((lakeside["access_token"], "owner"), (riverside, "assistant")):
        me = await bola.ask("GET", "/v1/me", token=token)
        assert me.json()["practice"]["role"] == role
    assert {one["practice_id"] for one in await sessions_of(bola)} == {home, dayo.practice_id}

    refused(await bola.post("/v1/auth/switch", {"practice_id": home}), 409, "WRONG_STATE")
    refused(await bola.post("/v1/auth/switch", {"practice_id": "nowhere"}), 404, "NOT_FOUND")
    assert await bola.trail() == [("sessions.switch", "refused", "NOT_FOUND")]
    await bola.did("POST", "/v1/auth/logout-all", AGAIN)
    assert not await bola.alive(riverside)


async def test_a_login_is_for_the_first_practice_that_one_still_belongs_to(house: House, bola: Person) -> None:
    dayo = await house.person("Dayo", practice="Riverside")
    house.clock.now += MINUTE
    await dayo.invites(bola, Role.ASSISTANT)
    await bola.accepts()
    riverside, home = bola.practice_id, bola.tokens
    await bola.login()
    assert (await bola.get("/v1/me"))["practice"]["name"] == "Lakeside"
    # Bola sells Lakeside.
    eve = await bola.hires(Role.OWNER, "Eve")
    await eve.did("DELETE", f"/v1/practice/members/{bola.id}")
    assert not await bola.alive()
    assert await bola.alive(home["access_token"])
    await bola.login()
    assert (await bola.get("/v1/me"))["practice"]["id"] == riverside
    await dayo.did("DELETE", f"/v1/practice/members/{bola.id}")
    refused(await bola.login(), 403, "FORBIDDEN")
    assert await bola.trail() == [("sessions.login", "refused", "FORBIDDEN")]
