"""Alice registers, logs in, and asks who she is; nobody else passes for her."""

import asyncio
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import ANY

import httpx
import jwt
import pytest

from heallog import bootstrap
from heallog.adapters.security import Argon2Passwords
from heallog.adapters.tokens import signing_key
from heallog.domain.access import Role

from .clinic import PASSWORD, Clinic, NewClinic, fields_of, refused
from .people import House, NewHouse

SOMEONE_ELSES_KEY = b"a key of somebody else, as long as ours is"


def registration(container: bootstrap.Container, **fields: Any) -> dict[str, Any]:
    email = f"bob-{container.ids()()}@example.org"
    return {"email": email, "password": PASSWORD, "name": "Bob", "practice_name": "Lakeside", **fields}


async def registered(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    return await client.post("/v1/auth/register", json=body)


async def login(client: httpx.AsyncClient, email: str, password: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"email": email, "password": password, **more})


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


# -- registering --------------------------------------------------------------------------------------------------


async def test_bob_registers_and_is_logged_in_at_once(
    client: httpx.AsyncClient, container: bootstrap.Container
) -> None:
    body = registration(container)
    answer = await registered(client, body)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/me"
    bob = answer.json()
    assert bob["account"]["email"] == body["email"]
    assert bob["account"]["name"] == "Bob"
    assert bob["practice"]["name"] == "Lakeside"
    assert bob["practice"]["role"] == "owner"
    assert bob["tokens"]["token_type"] == "Bearer"
    assert bob["tokens"]["expires_in"] == 900

    me = await client.get("/v1/me", headers={"Authorization": f"Bearer {bob['tokens']['access_token']}"})
    assert me.status_code == 200
    practices = [{"id": bob["practice"]["id"], "name": "Lakeside", "role": "owner"}]
    assert me.json() == {"account": bob["account"], "practice": bob["practice"], "practices": practices}


async def test_no_answer_holds_the_password_or_its_hash(
    client: httpx.AsyncClient, container: bootstrap.Container
) -> None:
    body = registration(container)
    answers = [await registered(client, body), await login(client, body["email"], PASSWORD)]
    for answer in answers:
        assert PASSWORD not in answer.text
        assert "argon2" not in answer.text


async def test_what_is_kept_of_a_password_is_its_argon2id_hash(
    client: httpx.AsyncClient, container: bootstrap.Container
) -> None:
    body = registration(container)
    quick = container.accounts()._passwords
    container.accounts()._passwords = Argon2Passwords()
    try:
        assert (await registered(client, body)).status_code == 201
    finally:
        container.accounts()._passwords = quick
    kept = await container.database().pool.fetchval(
        "SELECT password_hash FROM accounts WHERE email = $1", body["email"]
    )
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PASSWORD not in kept


async def test_an_address_can_register_once_in_whatever_case(
    client: httpx.AsyncClient, container: bootstrap.Container
) -> None:
    body = registration(container)
    assert (await registered(client, body)).status_code == 201
    again = await registered(client, {**body, "email": body["email"].upper(), "password": "another good password"})
    refused(again, 409, "EMAIL_TAKEN")
    assert (await login(client, body["email"], PASSWORD)).status_code == 200
    refused(await login(client, body["email"], "another good password"), 401, "INVALID_CREDENTIALS")


async def test_of_two_who_register_one_address_at_the_same_time_one_wins(
    client: httpx.AsyncClient, container: bootstrap.Container
) -> None:
    body = registration(container)
    answers = await asyncio.gather(*(registered(client, body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_every_wrong_field_of_a_registration_is_named_at_once(client: httpx.AsyncClient) -> None:
    body = {"email": 7, "password": "short", "name": "", "plan": "pro"}
    error = refused(await registered(client, body), 422, "INVALID_FIELDS", "email")
    assert set(fields_of(error)) == {"email", "password", "name", "plan", "practice_name"}


async def test_an_address_that_is_none_is_named_together_with_the_other_mistakes(client: httpx.AsyncClient) -> None:
    body = {"email": "alice at example.org", "password": "short", "name": "Alice", "practice_name": "Hillside"}
    error = refused(await registered(client, body), 422, "INVALID_FIELDS", ANY)
    assert set(fields_of(error)) == {"email", "password"}


@pytest.mark.parametrize(
    "email", ["alice", "alice@", "@example.org", "alice@example", "a b@example.org", "alice@example..org"]
)
async def test_an_address_that_no_mail_reaches_is_refused(
    client: httpx.AsyncClient, container: bootstrap.Container, email: str
) -> None:
    refused(await registered(client, registration(container, email=email)), 422, "INVALID_FIELDS", "email")


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("elevenchars", "too_short"),
        ("x" * 129, "too_long"),
        ("xyz" * 5, "repeats"),
        ("qwertyuiopas", "sequence"),
        ("P@ssw0rd2024!", "common"),
        ("{email}", "guessable"),
        ("bob@lakeside 1984", "guessable"),
        ("HealLog-2024-x", "guessable"),
        ("monkeydragon", "weak"),
    ],
)
async def test_a_password_that_is_easily_guessed_is_refused_with_the_other_mistakes(
    client: httpx.AsyncClient, container: bootstrap.Container, password: str, code: str
) -> None:
    body = registration(container, plan="pro")
    body["password"] = password.replace("{email}", body["email"].upper())
    error = refused(await registered(client, body), 422, "INVALID_FIELDS", ANY)
    found = {(wrong["field"], wrong["code"]) for wrong in error["context"]["errors"]}
    assert found == {("plan", "unknown"), ("password", code)}
    assert body["password"] not in str(error)


async def test_any_unguessable_password_is_taken_and_logs_in_from_another_keyboard(
    client: httpx.AsyncClient, container: bootstrap.Container
) -> None:
    for password in (
        "Sept hérons très discrets",
        "静かな七羽の鷺が川辺に立つ",
        "seven quiet herons " * 6 + "and a barge!!",
    ):
        body = registration(container, password=password)
        assert (await registered(client, body)).status_code == 201
        other = unicodedata.normalize("NFD", password).replace(" ", "\u00a0")
        assert (await login(client, body["email"], other)).status_code == 200
        refused(await login(client, body["email"], password + "."), 401, "INVALID_CREDENTIALS")


# -- logging in ---------------------------------------------------------------------------------------------------


async def test_alice_logs_in_with_her_address_in_any_case(clinic: Clinic) -> None:
    answer = await login(clinic.client, f" {clinic.email.upper()} ", PASSWORD)
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    me = await clinic.call("GET", "/v1/me", token=answer.json()["access_token"])
    assert me.json()["account"]["id"] == clinic.account_id


async def test_each_login_is_a_session_of_its_own_on_the_device_that_asked(clinic: Clinic) -> None:
    logins = [await login(clinic.client, clinic.email, PASSWORD, device_id="tablet-7") for _ in range(2)]
    first, second = (claims_of(answer.json()["access_token"]) for answer in logins)
    assert first["dev"] == second["dev"] == "tablet-7"
    assert first["sid"] != second["sid"]
    assert first["jti"] != second["jti"]


async def test_an_unknown_address_and_a_wrong_password_get_the_same_answer(clinic: Clinic) -> None:
    unknown = await login(clinic.client, f"not-{clinic.email}", PASSWORD)
    wrong = await login(clinic.client, clinic.email, f"not {PASSWORD}")
    answers = []
    for answer in (unknown, wrong):
        refused(answer, 401, "INVALID_CREDENTIALS")
        assert answer.headers["www-authenticate"] == "Bearer"
        answers.append((answer.json() | {"request_id": ""}, dict(answer.headers) | {"x-request-id": ""}))
    assert answers[0] == answers[1]


async def test_a_wrong_password_opens_no_session_and_is_on_the_record(clinic: Clinic) -> None:
    pool = clinic.container.database().pool
    sessions = "SELECT count(*) FROM sessions WHERE practice_id = $1"
    before = await pool.fetchval(sessions, clinic.practice_id)
    refused(await login(clinic.client, clinic.email, "not the password"), 401, "INVALID_CREDENTIALS")
    assert await pool.fetchval(sessions, clinic.practice_id) == before
    outcomes = await pool.fetch(
        "SELECT outcome FROM audit_entries WHERE practice_id = $1 AND action = 'sessions.login' ORDER BY at, id",
        clinic.practice_id,
    )
    assert [row["outcome"] for row in outcomes] == ["done", "refused"]


async def test_every_wrong_field_of_a_login_is_named_at_once(client: httpx.AsyncClient) -> None:
    body = {"email": "x" * 255, "device_id": "not an id", "otp": 123456}
    error = refused(await client.post("/v1/auth/login", json=body), 422, "INVALID_FIELDS", "email")
    assert set(fields_of(error)) == {"email", "password", "device_id", "otp"}


# -- tokens -------------------------------------------------------------------------------------------------------


async def test_who_sends_no_token_is_told_what_to_send(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/me")
    error = refused(answer, 401, "NOT_AUTHENTICATED")
    assert "Bearer" in error["message"]
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_scheme_is_read_in_any_case(clinic: Clinic) -> None:
    answer = await clinic.call("GET", "/v1/me", headers={"Authorization": f"bEARER {clinic.token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6c2VjcmV0",
        "Token {token}",
        "{token}",
        "Bearer a.b.c",
        "Bearer {token}x",
        "Bearer {token} {token}",
        "Bearer \x80\xff",
        "Bearer null",
        pytest.param("Bearer " + "x" * 60_000, id="endless"),
    ],
)
async def test_a_header_that_holds_no_good_token_proves_nothing(clinic: Clinic, header: str) -> None:
    sent = header.replace("{token}", clinic.token).encode("latin-1")
    answer = await clinic.client.get("/v1/me", headers=[(b"authorization", sent)])
    refused(answer, 401, "NOT_AUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


def header_of(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


FORGERIES: dict[str, Callable[[str, bytes], str]] = {
    "unsigned": lambda token, _: jwt.encode(claims_of(token), None, "none", header_of(token) | {"alg": "none"}),
    "signed by someone else": lambda token, _: jwt.encode(
        claims_of(token), SOMEONE_ELSES_KEY, headers=header_of(token)
    ),
    "signed by another algorithm": lambda token, key: jwt.encode(
        claims_of(token), key + key, "HS512", header_of(token) | {"alg": "HS512"}
    ),
    "without a key's name": lambda token, key: jwt.encode(claims_of(token), key, headers={"typ": "at+jwt"}),
    "a refresh token": lambda token, key: jwt.encode(
        claims_of(token), key, headers=header_of(token) | {"typ": "rt+jwt"}
    ),
    "for another service": lambda token, key: jwt.encode(
        claims_of(token) | {"aud": "billing"}, key, headers=header_of(token)
    ),
    "of nobody": lambda token, key: jwt.encode(claims_of(token) | {"sub": ""}, key, headers=header_of(token)),
    "of half a letter": lambda token, _: token[:-1] + "\xe9",
}
"""A few; all of them are in `tests/unit/adapters/test_tokens.py`."""


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_token_proves_nothing(clinic: Clinic, forge: Callable[[str, bytes], str]) -> None:
    forged = forge(clinic.token, signing_key(clinic.container.settings().keys()[0]))
    header = (b"authorization", b"Bearer " + forged.encode("latin-1"))
    answer = await clinic.client.get("/v1/me", headers=[header])
    refused(answer, 401, "NOT_AUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_made_like_ours_is_good_so_the_forgeries_fail_for_what_they_change(clinic: Clinic) -> None:
    key = signing_key(clinic.container.settings().keys()[0])
    token = jwt.encode(claims_of(clinic.token), key, headers=header_of(clinic.token))
    assert (await clinic.call("GET", "/v1/me", token=token)).status_code == 200


OLD_KEY = "the key of last year, at least thirty-two"
NEW_KEY = "the key of this year, at least thirty-two"


async def test_a_key_is_changed_without_logging_anyone_out_and_then_the_old_one_is_worthless(
    clinic: Clinic, another: NewHouse
) -> None:
    """The server is restarted with the new key and the old one beside it, and later without that."""
    before = await another(secret_key=OLD_KEY)
    during = await another(secret_key=NEW_KEY, old_secret_key=OLD_KEY)
    after = await another(secret_key=NEW_KEY)
    old, new, newest = [await house.clinic(clinic).token_for() for house in (before, during, after)]

    async def statuses(house: House, *tokens: str) -> list[int]:
        return [(await house.clinic(clinic).call("GET", "/v1/me", token=token)).status_code for token in tokens]

    assert await statuses(before, old, new) == [200, 401]
    assert await statuses(during, old, new, newest, clinic.token) == [200, 200, 200, 401]
    assert await statuses(after, old, new, newest) == [401, 200, 200]


async def test_a_token_whose_claims_were_edited_proves_nothing(clinic: Clinic, new_clinic: NewClinic) -> None:
    head, _, signature = clinic.token.split(".")
    _, claims, _ = (await new_clinic()).token.split(".")
    refused(await clinic.call("GET", "/v1/me", token=f"{head}.{claims}.{signature}"), 401, "NOT_AUTHENTICATED")


async def test_a_token_ends_after_fifteen_minutes(clinic: Clinic) -> None:
    nearly = await clinic.token_for(Role.OWNER, ago=timedelta(minutes=14))
    assert (await clinic.call("GET", "/v1/me", token=nearly)).status_code == 200
    over = await clinic.token_for(Role.OWNER, ago=timedelta(minutes=16))
    answer = await clinic.call("GET", "/v1/me", token=over)
    refused(answer, 401, "TOKEN_EXPIRED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_of_a_session_that_is_not_there_or_anothers_opens_nothing(clinic: Clinic) -> None:
    """Both are signed by us: what a token says must be so, too."""
    container, now = clinic.container, clinic.container.clock()()
    session, token = await clinic.session_for(Role.ASSISTANT)
    assert (await clinic.call("GET", "/v1/me", token=token)).status_code == 200
    for untrue in (
        replace(session, id="never-opened"),
        replace(session, account_id=clinic.account_id),
        replace(session, practice_id="elsewhere"),
    ):
        forged = container.tokens().issue(untrue, now)[0]
        refused(await clinic.call("GET", "/v1/me", token=forged), 401, "SESSION_ENDED")


async def test_me_tells_the_role_that_the_token_speaks_for(clinic: Clinic) -> None:
    for role in Role:
        me = await clinic.call("GET", "/v1/me", token=await clinic.token_for(role))
        assert me.json()["practice"]["role"] == role
        assert me.json()["practice"]["id"] == clinic.practice_id
