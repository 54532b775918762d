"""One envelope for everything that goes wrong, an id for every request, and no patient's name where none belongs."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from dependency_injector import providers

from heallog import bootstrap, config
from heallog.adapters import logs
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.trail import PostgresTrail
from heallog.application.patients import Patients
from heallog.domain.access import Actor, Role

from .clinic import PASSWORD, Clinic, refused
from .conftest import living
from .people import NewHouse

SECURITY = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
CANARY = "Canary Quillfeather"
"""A patient's name that must never be where it does not belong."""


# -- refusals of the framework ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v2/patients", "/v1/patients/a/nothing", "/favicon.ico"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"])
async def test_an_unknown_address_is_not_found(client: httpx.AsyncClient, method: str, path: str) -> None:
    refused(await client.request(method, path), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/schema/nothing", "/schema/openapi.yaml", "/schema/nothing.json"])
async def test_there_is_no_more_to_the_document_than_there_is(client: httpx.AsyncClient, path: str) -> None:
    refused(await client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/patients", {"GET", "POST", "OPTIONS"}),
        ("DELETE", "/v1/patients", {"GET", "POST", "OPTIONS"}),
        ("POST", "/v1/patients/ngozi", {"GET", "PATCH", "DELETE", "OPTIONS"}),
        ("PUT", "/v1/records/r-1", {"GET", "PATCH", "DELETE", "OPTIONS"}),
        ("GET", "/v1/records/r-1/sign", {"POST", "OPTIONS"}),
        ("GET", "/v1/auth/login", {"POST", "OPTIONS"}),
        ("POST", "/health/ready", {"GET", "OPTIONS"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(clinic: Clinic, method: str, path: str, allowed: set[str]) -> None:
    answer = await clinic.call(method, path)
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == allowed


async def test_options_are_told_without_a_token(client: httpx.AsyncClient) -> None:
    answer = await client.options("/v1/patients")
    assert (answer.status_code, answer.content) == (204, b"")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST", "OPTIONS"}


async def every_refusal(clinic: Clinic) -> dict[str, Any]:
    """One request for each way to be refused, by its status and code."""
    form = {"Content-Type": "text/plain"}
    big = b'{"family_name": "' + b"a" * (10 * 1024 * 1024) + b'"}'
    assistant = await clinic.token_for(Role.ASSISTANT)
    return {
        "400 MALFORMED_JSON": clinic.call("POST", "/v1/patients", raw=b"{"),
        "401 NOT_AUTHENTICATED": clinic.client.get("/v1/me"),
        "401 INVALID_CREDENTIALS": clinic.client.post(
            "/v1/auth/login", json={"email": clinic.email, "password": "wrong"}
        ),
        "403 FORBIDDEN": clinic.call("DELETE", "/v1/patients/ngozi", token=assistant),
        "404 NOT_FOUND": clinic.call("GET", "/v1/patients/nobody"),
        "405 METHOD_NOT_ALLOWED": clinic.call("PUT", "/v1/patients"),
        "409 EMAIL_TAKEN": clinic.client.post(
            "/v1/auth/register",
            json={"email": clinic.email, "password": PASSWORD, "name": "Alice", "practice_name": "Hillside"},
        ),
        "409 VERSION_CONFLICT": clinic.call("PATCH", "/v1/patients/ngozi", {"base_version": 9}),
        "412 STALE_VERSION": clinic.call("PATCH", "/v1/patients/ngozi", headers={"If-Match": '"1"'}),
        "413 TOO_LARGE": clinic.call("POST", "/v1/patients", raw=big),
        "415 UNSUPPORTED_MEDIA_TYPE": clinic.call("POST", "/v1/patients", raw=b"{}", headers=form),
        "422 INVALID_FIELDS": clinic.call("POST", "/v1/patients", {"shoe_size": 38}),
        "428 VERSION_REQUIRED": clinic.call("PATCH", "/v1/patients/ngozi", {}),
    }


async def test_every_refusal_wears_the_envelope_and_the_headers_of_an_answer(clinic: Clinic) -> None:
    await clinic.patient(id="ngozi")
    await clinic.changed("/v1/patients/ngozi", 1, phone="0199")
    for said, asking in (await every_refusal(clinic)).items():
        answer = await asking
        status, code = said.split()
        refused(answer, int(status), code, "shoe_size" if status == "422" else None)
        assert answer.headers.items() >= {**SECURITY, "cache-control": "private, no-cache"}.items(), said


# -- ids of requests ----------------------------------------------------------------------------------------------


async def test_a_request_keeps_the_id_that_it_came_with(clinic: Clinic) -> None:
    for name in ("a", "req-1.2_X", "x" * 64):
        for path, status in (("/v1/me", 200), ("/v1/patients/nobody", 404), ("/nothing", 404)):
            answer = await clinic.call("GET", path, headers={"X-Request-ID": name})
            assert answer.status_code == status
            assert answer.headers.get_list("x-request-id") == [name]
            if status == 404:
                assert answer.json()["request_id"] == name


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "x" * 65, "a\u00e9", "<script>", "a\tb", "a/b", "a,b", '"a"', "%0d%0a"]
)
async def test_an_id_that_could_do_harm_is_replaced(client: httpx.AsyncClient, bad: str) -> None:
    answer = await client.get("/v1/me", headers=[(b"x-request-id", bad.encode("latin-1"))])
    (given,) = answer.headers.get_list("x-request-id")
    assert given != bad
    assert len(given) == 36
    assert answer.json()["request_id"] == given


async def test_each_request_gets_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/health/live")).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


async def test_the_id_of_a_request_is_in_the_audit_and_in_the_log(
    clinic: Clinic, log: Callable[[], list[dict[str, Any]]]
) -> None:
    headers = {"X-Request-ID": "from-tablet-7"}
    await clinic.call("POST", "/v1/patients", {"family_name": "Obi"}, headers=headers)
    entries = "SELECT count(*) FROM audit_entries WHERE practice_id = $1 AND request_id = 'from-tablet-7'"
    assert await clinic.container.database().pool.fetchval(entries, clinic.practice_id) == 1
    (line,) = log()
    assert (line["event"], line["request_id"]) == ("ContributionCommitted", "from-tablet-7")


# -- headers ------------------------------------------------------------------------------------------------------


async def test_every_answer_says_how_to_treat_it(clinic: Clinic) -> None:
    patient = await clinic.patient()
    path = f"/v1/patients/{patient['id']}"
    for address in (
        path,
        f"{path}/history",
        "/v1/patients",
        "/v1/me",
        "/health/live",
        "/schema",
        "/schema/openapi.json",
    ):
        answer = await clinic.call("GET", address)
        assert answer.status_code == 200
        assert answer.headers.items() >= SECURITY.items(), address
        assert answer.headers.get_list("cache-control") == ["private, no-cache"], address


async def test_what_never_changes_may_be_kept_by_who_may_see_it(clinic: Clinic) -> None:
    patient = await clinic.patient()
    answer = await clinic.call("GET", f"/v1/patients/{patient['id']}/versions/1")
    assert answer.headers.get_list("cache-control") == ["private, immutable, max-age=31536000"]
    missing = await clinic.call("GET", f"/v1/patients/{patient['id']}/versions/2")
    assert missing.headers.get_list("cache-control") == ["private, no-cache"]
    file = await clinic.client.get("/schema/static/swagger-ui.css")
    assert file.headers.get_list("cache-control") == ["public, max-age=86400"]


async def test_not_modified_may_not_be_kept_by_others_either(clinic: Clinic) -> None:
    patient = await clinic.patient()
    answer = await clinic.call("GET", f"/v1/patients/{patient['id']}", headers={"If-None-Match": '"1"'})
    assert answer.status_code == 304
    assert answer.headers.get_list("cache-control") == ["private, no-cache"]
    assert answer.headers.items() >= SECURITY.items()


# -- accidents ----------------------------------------------------------------------------------------------------


class Broken(Patients):
    """Use cases that fail as nobody foresaw, and quote a patient while they do."""

    def __init__(self) -> None:
        async def fail(*_: object, **__: object) -> None:
            raise RuntimeError(f"cannot handle {CANARY}")

        self.create = self.get = self.page = self.search = self.change = fail  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/patients/ngozi", None),
        ("GET", f"/v1/patients?q={CANARY}", None),
        ("POST", "/v1/patients", {"family_name": CANARY}),
        ("PATCH", "/v1/patients/ngozi", {"base_version": 1, "family_name": CANARY}),
    ],
)
async def test_an_accident_is_an_id_and_nothing_else(
    clinic: Clinic,
    log: Callable[[], list[dict[str, Any]]],
    capfd: pytest.CaptureFixture[str],
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    with clinic.container.patients.override(providers.Object(Broken())):
        answer = await clinic.call(method, path, body, headers={"X-Request-ID": "r-500"})
    error = refused(answer, 500, "INTERNAL")
    assert error["context"].keys() == {"error_id"}
    assert answer.headers.items() >= {**SECURITY, "cache-control": "private, no-cache"}.items()
    for secret in (CANARY, "RuntimeError", "Traceback", "test_envelope"):
        assert secret not in answer.text

    (line,) = log()
    assert (line["event"], line["level"], line["request_id"]) == ("unexpected_error", "error", "r-500")
    assert line["error_id"] == error["context"]["error_id"]
    assert line["type"] == "builtins.RuntimeError"
    assert "test_envelope.py" in line["where"][-1]
    assert CANARY not in json.dumps(line)
    assert CANARY not in "".join(capfd.readouterr())


async def test_two_accidents_have_two_ids(clinic: Clinic) -> None:
    with clinic.container.patients.override(providers.Object(Broken())):
        answers = [await clinic.call("GET", "/v1/patients/ngozi") for _ in range(2)]
    first, second = (refused(answer, 500, "INTERNAL")["context"]["error_id"] for answer in answers)
    assert first != second


async def test_an_accident_with_the_token_is_an_accident_too(
    clinic: Clinic, log: Callable[[], list[dict[str, Any]]]
) -> None:
    class BrokenTokens:
        async def admit(self, token: str, request_id: str, *, unsafe: bool) -> Actor:
            raise RuntimeError(f"cannot read {token}")

    with clinic.container.sessions.override(providers.Object(BrokenTokens())):
        answer = await clinic.call("GET", "/v1/me")
    refused(answer, 500, "INTERNAL")
    assert clinic.token not in answer.text + json.dumps(log())


async def test_a_dependency_that_cannot_be_made_is_an_accident(clinic: Clinic) -> None:
    def unmakeable() -> None:
        raise RuntimeError(CANARY)

    with clinic.container.patients.override(providers.Callable(unmakeable)):
        answer = await clinic.call("GET", "/v1/patients/ngozi")
    refused(answer, 500, "INTERNAL")
    assert CANARY not in answer.text


async def test_a_refusal_is_no_accident_and_not_in_the_log(
    clinic: Clinic, log: Callable[[], list[dict[str, Any]]]
) -> None:
    refused(await clinic.call("GET", "/v1/patients/nobody"), 404, "NOT_FOUND")
    refused(await clinic.call("POST", "/v1/patients", {"family_name": 7}), 422, "INVALID_FIELDS", "family_name")
    refused(await clinic.call("GET", "/nothing"), 404, "NOT_FOUND")
    assert log() == []


# -- discretion ---------------------------------------------------------------------------------------------------


async def disputed(clinic: Clinic) -> None:
    """Late edits, a conflict that is read, badly decided and decided, a second creation of an id, and policies."""
    patient = await clinic.patient(id="disputed")
    await clinic.record(patient["id"], id="r-1")
    await clinic.changed("/v1/records/r-1", 1, title=CANARY, text=CANARY)
    for device, method, path, body in (
        ("tablet", "PATCH", "/v1/records/r-1", {"base_version": 1, "title": f"{CANARY} II", "text": f"{CANARY} II"}),
        ("phone", "PATCH", "/v1/records/r-1", {"base_version": 1, "tags": [CANARY]}),
        ("phone", "POST", "/v1/patients/disputed/records", {"id": "r-1", "kind": "observation", "title": CANARY}),
        ("phone", "DELETE", "/v1/patients/disputed", {"base_version": 9, "reason": "twice"}),
        ("phone", "PUT", "/v1/practice/policies", {"base_version": 0, "reason": "why", "patients": {CANARY: "manual"}}),
    ):
        answer = await clinic.call(method, path, body, token=await clinic.token_for(device=device))
        assert answer.status_code < 500, answer.text
    (conflict,) = (await clinic.get("/v1/conflicts"))["items"]
    address = f"/v1/conflicts/{conflict['id']}"
    assert CANARY in (await clinic.call("GET", address)).text
    theirs = {disputed["field"]: {"take": "theirs"} for disputed in conflict["fields"]}
    for choice, status in ((CANARY, 422), ({"value": [CANARY]}, 422), ({"value": f"{CANARY} III"}, 200)):
        choices = {**theirs, "title": choice}
        body = {"head_version": conflict["head_version"], "choices": choices, "reason": "asked"}
        answer = await clinic.call("POST", f"{address}/resolve", body)
        assert answer.status_code == status, answer.text


async def test_no_clinical_value_reaches_the_log_or_the_audit(
    clinic: Clinic, log: Callable[[], list[dict[str, Any]]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Through every step that writes, and through refusals."""
    said = {"family_name": CANARY, "notes": CANARY, "phone": CANARY, "tags": [CANARY], "address": {"city": CANARY}}
    patient = await clinic.patient(**said, identifiers=[{"value": CANARY}], contacts=[{"name": CANARY}])
    path = f"/v1/patients/{patient['id']}"
    note = {
        "kind": "note",
        "title": CANARY,
        "text": CANARY,
        "values": {"x": {"value": CANARY}},
        "code": {"code": CANARY},
    }
    record = f"/v1/records/{(await clinic.record(patient['id'], **note))['id']}"
    for method, address, body in (
        ("PATCH", path, {"base_version": 1, "given_name": CANARY}),
        ("PATCH", path, {"base_version": 1, "given_name": CANARY}),
        ("PATCH", path, {"base_version": 2, CANARY: CANARY, "birth_date": CANARY}),
        ("POST", f"{path}/revert", {"base_version": 2, "to": 1}),
        ("DELETE", path, {"base_version": 3}),
        ("POST", f"{path}/restore", {"base_version": 4}),
        ("PATCH", record, {"base_version": 1, "text": f"{CANARY} again"}),
        ("POST", f"{record}/sign", {"base_version": 2}),
        ("POST", f"{record}/amend", {"base_version": 3, "changes": {"title": f"{CANARY} II"}, "reason": "typo"}),
        ("POST", f"{record}/amend", {"base_version": 1, "changes": {"title": f"{CANARY} II"}, "reason": "typo"}),
        ("POST", f"{record}/entered-in-error", {"base_version": 4, "reason": "wrong patient"}),
        ("GET", f"/v1/patients?q={CANARY}", None),
        ("GET", f"/v1/patients?tag={CANARY}", None),
        ("GET", f"{path}/records?code={CANARY}", None),
        ("GET", f"{path}/{CANARY}", None),
        ("POST", "/v1/import/fhir", {"resourceType": "Patient", "id": "c", "name": [{"family": CANARY}]}),
        ("POST", "/v1/import/fhir", {"resourceType": "Patient", "id": CANARY, "name": [{"family": CANARY}]}),
        ("POST", "/v1/auth/login", {"email": clinic.email, "password": CANARY}),
        ("POST", "/v1/auth/login", {"email": f"{CANARY}@example.org", "password": CANARY}),
    ):
        answer = await clinic.call(method, address, body)
        assert answer.status_code < 500, answer.text
    await disputed(clinic)

    lines = log()
    assert len(lines) >= 10
    assert set().union(*lines) <= logs.ALLOWED
    entries = await clinic.container.database().pool.fetch(
        "SELECT audit_entries::text AS entry FROM audit_entries WHERE practice_id = $1", clinic.practice_id
    )
    assert len(entries) >= 10
    written = json.dumps(lines) + "".join(capfd.readouterr()) + "".join(row["entry"] for row in entries)
    for part in ("canary", "quillfeather", PASSWORD, clinic.token):
        assert part not in written.casefold()


# -- no database --------------------------------------------------------------------------------------------------


class Unplugged(Database):
    """A pool that is open, to a server that is not there."""

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self._url, min_size=0, max_size=2)


@pytest.fixture
async def unplugged(clinic: Clinic, tmp_path: Path) -> AsyncIterator[Clinic]:
    """The application with Alice's token good and its database out of reach."""
    nowhere = f"postgresql://postgres@/heallog?host={tmp_path}"
    settings = config.Settings(
        database_url=nowhere, data_dir=tmp_path, secret_key=clinic.container.settings().keys()[0], _env_file=None
    )
    wired = bootstrap.container(settings)
    wired.database.override(providers.Singleton(Unplugged, nowhere))
    app = bootstrap.http_app(wired)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with living(app), httpx.AsyncClient(transport=transport, base_url="http://heallog.test") as opened:
        yield Clinic(opened, wired, clinic.practice_id, clinic.account_id, clinic.email, clinic.token)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/me", None),
        ("GET", "/v1/patients", None),
        ("GET", "/v1/patients?q=obi", None),
        ("GET", "/v1/patients/ngozi", None),
        ("POST", "/v1/patients", {"family_name": "Obi"}),
        ("PATCH", "/v1/records/r-1", {"base_version": 1}),
        ("GET", "/v1/records/r-1/history", None),
        ("GET", "/v1/records/r-1/diff?from=1&to=2", None),
        ("POST", "/v1/auth/login", {"email": "alice@example.org", "password": PASSWORD}),
        ("POST", "/v1/import/fhir", {"resourceType": "Patient", "id": "p", "name": [{"family": "Obi"}]}),
        ("GET", "/health/ready", None),
    ],
)
async def test_without_its_database_it_says_so_and_when_to_ask_again(
    unplugged: Clinic, log: Callable[[], list[dict[str, Any]]], method: str, path: str, body: Any
) -> None:
    answer = await unplugged.call(method, path, body)
    refused(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers.items() >= {**SECURITY, "cache-control": "private, no-cache"}.items()
    assert not [line for line in log() if line["event"] == "unexpected_error"]


async def test_without_its_database_it_still_lives_and_refuses_whom_it_must(unplugged: Clinic) -> None:
    assert (await unplugged.client.get("/health/live")).json() == {"status": "live"}
    refused(await unplugged.client.get("/v1/patients"), 401, "NOT_AUTHENTICATED")
    refused(await unplugged.call("GET", "/v1/patients", token="garbage"), 401, "NOT_AUTHENTICATED")
    refused(await unplugged.client.post("/v1/auth/login", json={}), 422, "INVALID_FIELDS", "email")


async def test_a_refusal_that_cannot_be_noted_is_no_answer_and_lets_nobody_in(
    clinic: Clinic, another: NewHouse, tmp_path: Path
) -> None:
    """Everything is there but the trail: its database is out of reach."""
    nowhere = Unplugged(f"postgresql://postgres@/heallog?host={tmp_path}")
    await nowhere.open()
    house = await another(parts={"trail": PostgresTrail(nowhere)})
    ngozi = await clinic.patient()
    assistant = await clinic.token_for(Role.ASSISTANT)
    asked = house.clinic(clinic)
    body = {"base_version": 1}
    refused(await asked.call("DELETE", f"/v1/patients/{ngozi['id']}", body, token=assistant), 503, "UNAVAILABLE")
    refused(await asked.call("GET", f"/v1/patients/{ngozi['id']}"), 503, "UNAVAILABLE")
    wrong = {"email": clinic.email, "password": "not the password"}
    refused(await asked.client.post("/v1/auth/login", json=wrong), 503, "UNAVAILABLE")
    assert (await clinic.get(f"/v1/patients/{ngozi['id']}"))["version"] == 1


async def test_with_its_database_it_is_ready(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


WAITING = """
SELECT pid FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND application_name = 'heallog'
  AND query LIKE '%FOR UPDATE%' AND query LIKE '%patients%'
"""


async def test_a_change_whose_connection_is_cut_was_not_made_and_says_so(
    clinic: Clinic, database: Database, database_url: str
) -> None:
    """It waits for Ngozi, whom somebody else holds; then the server's administrator ends its connection."""
    ngozi = await clinic.patient()
    path = f"/v1/patients/{ngozi['id']}"
    administrator = await asyncpg.connect(database_url)
    async with database.pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT 1 FROM patients WHERE id = $1 FOR UPDATE", ngozi["id"])
        change = asyncio.create_task(clinic.call("PATCH", path, {"base_version": 1, "phone": "0199"}))
        while (pid := await administrator.fetchval(WAITING)) is None:
            assert not change.done()
        await administrator.execute("SELECT pg_terminate_backend($1)", pid)
        answer = await change
        await transaction.rollback()
    await administrator.close()
    refused(answer, 503, "UNAVAILABLE")
    assert (await clinic.get(path))["version"] == 1
    assert (await clinic.changed(path, 1, phone="0199"))["version"] == 2
