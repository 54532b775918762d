"""Deny by default: every operation of the document, asked for by everyone who should not get it."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from heallog import bootstrap
from heallog.domain.access import PERMISSIONS, Permission, Role

from .clinic import Clinic, NewClinic, refused
from .operations import OPERATIONS, PUBLIC, Operation, example_of, listed

EACH = pytest.mark.parametrize("name", OPERATIONS)
ON_ONE_THING = [name for name, operation in OPERATIONS.items() if "{" in operation.path]


class Asked:
    """One operation, ready to be asked for."""

    def __init__(self, clinic: Clinic, operation: Operation, thing: str, body: Any) -> None:
        self.clinic = clinic
        self.operation = operation
        self.thing = thing
        self.body = body

    async def by(self, token: str | None = None, *, thing: str | None = None) -> httpx.Response:
        address = self.operation.address(thing or self.thing)
        return await self.clinic.call(self.operation.method, address, self.body, token=token)


@pytest.fixture
def asked(clinic: Clinic, document: dict[str, Any]) -> Any:
    async def prepare(name: str) -> Asked:
        operation = OPERATIONS[name]
        thing = await operation.prepare(clinic) if operation.prepare else "none"
        return Asked(clinic, operation, thing, example_of(listed(document)[name]))

    return prepare


# -- nothing is forgotten -----------------------------------------------------------------------------------------


def test_every_operation_of_the_document_is_in_the_table(document: dict[str, Any]) -> None:
    """A new route: add it to `operations.py`, with the permission that it takes."""
    found = {name: (operation["method"], operation["path"]) for name, operation in listed(document).items()}
    known = {name: (operation.method, operation.path) for name, operation in OPERATIONS.items()}
    assert found == known | PUBLIC


def test_every_route_is_in_the_document_or_is_known_not_to_be(container: bootstrap.Container) -> None:
    """Whatever the application answers to: the document, the page and its files are the only others.

    Litestar brings `oauth2-redirect.html`, a script without data, and `/schema/{path}`, its 404.
    """
    app = bootstrap.http_app(container)
    documented = {operation.path for operation in OPERATIONS.values()} | {path for _, path in PUBLIC.values()}
    routes = {route.path_format for route in app.routes}
    of_the_page = {"/schema", "/schema/openapi.json", "/schema/static/{name}", "/schema/oauth2-redirect.html"}
    assert routes - documented == of_the_page | {"/schema/{path}"}


def test_public_is_what_says_so_and_nothing_else(document: dict[str, Any]) -> None:
    assert document["security"] == [{"token": []}]
    public = {name for name, operation in listed(document).items() if operation.get("security") == []}
    assert public == set(PUBLIC)
    assert all("security" not in operation for name, operation in listed(document).items() if name not in public)


def test_every_permission_is_asked_for_by_some_operation() -> None:
    assert {operation.permission for operation in OPERATIONS.values()} - {None} == set(Permission)


# -- who is nobody ------------------------------------------------------------------------------------------------


@EACH
async def test_nobody_gets_in_without_a_good_token(asked: Any, clinic: Clinic, name: str) -> None:
    ready = await asked(name)
    written = await clinic.rows()
    method, address = ready.operation.method, ready.operation.address(ready.thing)
    for headers, code in (
        ({}, "NOT_AUTHENTICATED"),
        ({"Authorization": "Bearer garbage"}, "NOT_AUTHENTICATED"),
        ({"Authorization": f"Basic {clinic.token}"}, "NOT_AUTHENTICATED"),
        ({"Authorization": f"Bearer {clinic.token_for(Role.OWNER, ago=timedelta(hours=1))}"}, "TOKEN_EXPIRED"),
    ):
        answer = await clinic.client.request(method, address, json=ready.body, headers=headers)
        refused(answer, 401, code)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert await clinic.rows() == written


@pytest.mark.parametrize("name", ON_ONE_THING)
async def test_a_stranger_learns_nothing_not_even_whether_it_is_there(asked: Any, clinic: Clinic, name: str) -> None:
    """Asked about what is there and about what is not, without a token."""
    ready = await asked(name)
    answers = [
        await clinic.client.request(ready.operation.method, ready.operation.address(thing), json=ready.body)
        for thing in (ready.thing, "nothing")
    ]
    there, not_there = ({**answer.json(), "request_id": ""} for answer in answers)
    assert there == not_there


@pytest.mark.parametrize("name", PUBLIC)
async def test_what_is_public_asks_for_no_token_and_minds_no_bad_one(client: httpx.AsyncClient, name: str) -> None:
    method, path = PUBLIC[name]
    for headers in ({}, {"Authorization": "Bearer garbage"}):
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == (200 if method == "GET" else 422)


@pytest.mark.parametrize("path", ["/schema", "/schema/openapi.json", "/schema/static/swagger-ui.css"])
async def test_the_document_asks_for_no_token(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/schemas", "/schema-x", "/v1/schema", "/Schema", "/v1/me/schema"])
async def test_nothing_hides_behind_the_documents_name(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code in {401, 404}


# -- roles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
@EACH
async def test_a_role_may_do_what_the_table_says_and_nothing_else(
    asked: Any, clinic: Clinic, document: dict[str, Any], name: str, role: Role
) -> None:
    ready = await asked(name)
    written = await clinic.rows()
    answer = await ready.by(clinic.token_for(role))
    assert str(answer.status_code) in listed(document)[name]["responses"]
    permission = ready.operation.permission
    if permission is None or permission in PERMISSIONS[role]:
        assert answer.is_success, answer.text
        assert ready.operation.method == "GET" or await clinic.rows() > written
    else:
        error = refused(answer, 403, "FORBIDDEN")
        assert error["context"] == {"permission": str(permission)}
        assert await clinic.rows() == written


@pytest.mark.parametrize("name", ON_ONE_THING)
async def test_who_may_not_do_it_is_not_told_whether_it_is_there(asked: Any, clinic: Clinic, name: str) -> None:
    ready = await asked(name)
    for role in Role:
        if ready.operation.permission in PERMISSIONS[role]:
            continue
        answers = [await ready.by(clinic.token_for(role), thing=thing) for thing in (ready.thing, "nothing")]
        there, not_there = ({**answer.json(), "request_id": ""} for answer in answers)
        assert there == not_there


# -- other practices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_ONE_THING)
async def test_what_is_anothers_answers_exactly_as_what_is_not_there(
    asked: Any, clinic: Clinic, new_clinic: NewClinic, document: dict[str, Any], name: str
) -> None:
    ready = await asked(name)
    elsewhere = await new_clinic()
    before = await clinic.rows(), await elsewhere.rows()
    for role in Role:
        if ready.operation.permission not in PERMISSIONS[role]:
            continue
        token = elsewhere.token_for(role)
        foreign, missing = await ready.by(token), await ready.by(token, thing="nothing")
        refused(foreign, 404, "NOT_FOUND")
        assert "404" in listed(document)[name]["responses"]
        assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
        assert {**foreign.headers, "x-request-id": ""} == {**missing.headers, "x-request-id": ""}
    assert (await clinic.rows(), await elsewhere.rows()) == before


async def test_a_list_shows_ones_own_patients_only(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    theirs = await elsewhere.patient(tags=["diabetes"], phone="0199555")
    for query in ("", "?q=obi", "?q=0199555", "?tag=diabetes", "?updated_since=2020", f"?cursor={theirs['id']}"):
        assert (await clinic.get(f"/v1/patients{query}"))["items"] == []


async def test_a_cursor_of_another_practice_shows_nothing_of_it(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    theirs = await elsewhere.record((await elsewhere.patient())["id"])
    mine = await clinic.patient()
    await clinic.record(mine["id"])
    foreign = await clinic.get(f"/v1/patients/{mine['id']}/records?cursor={theirs['id']}")
    unknown = await clinic.get(f"/v1/patients/{mine['id']}/records?cursor=nothing")
    assert foreign == unknown


async def test_an_id_that_another_practice_uses_is_free_here(clinic: Clinic, new_clinic: NewClinic) -> None:
    """Otherwise a creation would tell what is there."""
    elsewhere = await new_clinic()
    await elsewhere.record((await elsewhere.patient(id="p-1"))["id"], id="r-1")
    await clinic.record((await clinic.patient(id="p-1", family_name="Okafor"))["id"], id="r-1", title="Pulse")
    assert (await elsewhere.get("/v1/records/r-1"))["title"] == "Blood pressure"
    assert (await clinic.get("/v1/records/r-1"))["title"] == "Pulse"


async def test_a_record_cannot_be_filed_under_another_practices_patient(clinic: Clinic, new_clinic: NewClinic) -> None:
    theirs = await (await new_clinic()).patient()
    answer = await clinic.call("POST", f"/v1/patients/{theirs['id']}/records", {"kind": "note", "text": "Well."})
    refused(answer, 404, "NOT_FOUND")
