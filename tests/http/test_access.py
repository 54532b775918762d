"""Deny by default: every operation of the document, asked for by everyone who should not get it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import get, put

from heallog import bootstrap
from heallog.adapters.world import clock
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.domain.access import PERMISSIONS, Permission, Role
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.openapi import describes

from . import trespass
from .clinic import Clinic, NewClinic, refused
from .conftest import beside, served
from .operations import OPERATIONS, PUBLIC, Operation
from .people import House, NewHouse
from .trespass import prepared

EACH = pytest.mark.parametrize("name", OPERATIONS)
ON_ONE_THING = [name for name, operation in OPERATIONS.items() if operation.of_one_thing]


# -- nothing is forgotten -----------------------------------------------------------------------------------------


def test_every_operation_of_the_document_is_in_the_table(document: dict[str, Any]) -> None:
    """A new route: add it to `operations.py`, with the permission that it takes."""
    assert trespass.forgotten(document) == []


def test_every_route_is_in_the_document_or_is_known_not_to_be(
    container: bootstrap.Container, document: dict[str, Any]
) -> None:
    assert trespass.hidden(bootstrap.http_app(container), document) == []


def test_public_is_what_says_so_and_nothing_else(document: dict[str, Any]) -> None:
    assert trespass.ajar(document) == []


def test_every_permission_is_asked_for_by_some_operation() -> None:
    assert {operation.permission for operation in OPERATIONS.values()} - {None} == set(Permission)


# -- who is nobody ------------------------------------------------------------------------------------------------


@EACH
async def test_nobody_gets_in_without_a_good_token(clinic: Clinic, document: dict[str, Any], name: str) -> None:
    assert await trespass.intrusions(await prepared(clinic, document, name)) == []


@pytest.mark.parametrize("name", ON_ONE_THING)
async def test_a_stranger_learns_nothing_not_even_whether_it_is_there(
    clinic: Clinic, document: dict[str, Any], name: str
) -> None:
    """Asked about what is there and about what is not, without a token."""
    asked = await prepared(clinic, document, name)
    answers = [await asked.by(None, thing=thing) for thing in (asked.thing, "nothing")]
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
    clinic: Clinic, document: dict[str, Any], name: str, role: Role
) -> None:
    assert await trespass.trespasses(await prepared(clinic, document, name, role), role) == []


@pytest.mark.parametrize("name", [name for name in ON_ONE_THING if OPERATIONS[name].permission])
async def test_who_may_not_do_it_is_not_told_whether_it_is_there(
    clinic: Clinic, document: dict[str, Any], name: str
) -> None:
    asked = await prepared(clinic, document, name)
    for role in Role:
        if asked.operation.permission in PERMISSIONS[role]:
            continue
        token = await clinic.token_for(role)
        answers = [await asked.by(token, thing=thing) for thing in (asked.thing, "nothing")]
        there, not_there = ({**answer.json(), "request_id": ""} for answer in answers)
        assert there == not_there


# -- who has not verified their address ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
async def mailing_house(document: dict[str, Any], container: bootstrap.Container) -> AsyncIterator[House]:
    async with served(document, *beside(container, {"require_verified_email": True})) as house:
        yield house


@pytest.fixture
def strict(mailing_house: House) -> House:
    """A server on which addresses have to be verified."""
    mailing_house.clock.now = clock()
    return mailing_house


@EACH
async def test_who_has_not_verified_their_address_has_their_own_account_and_nothing_else(
    clinic: Clinic, strict: House, document: dict[str, Any], name: str
) -> None:
    asked = await prepared(clinic, document, name)
    asked.clinic = strict.clinic(clinic)
    assert await trespass.unverified(asked) == []


async def test_bola_verifies_her_address_and_goes_on_with_the_same_token(strict: House) -> None:
    bola = await strict.person()
    refused(await bola.post("/v1/patients", {"family_name": "Obi"}), 403, "EMAIL_NOT_VERIFIED")
    await bola.did("POST", "/v1/auth/verify-email", {"code": bola.code})
    await bola.did("POST", "/v1/patients", {"family_name": "Obi"})


# -- holes that are planted ---------------------------------------------------------------------------------------


class Careless:
    """A use case that forgets to authorise."""

    def __init__(self, uow: UnitOfWorkFactory) -> None:
        self._uow = uow

    async def addresses(self, practice_id: str) -> list[str]:
        async with self._uow() as uow:
            return [member.email for member in await uow.practices.present(practice_id, clock())]


async def document_of(house: House) -> dict[str, Any]:
    return (await house.client.get("/schema/openapi.json")).json()


LIST = describes(answer={"type": "object"})
AS_IF_IT_ASKED = {"addresses": Operation("GET", "/v1/addresses", Permission.READ_AUDIT)}


async def test_a_route_whose_use_case_forgets_to_authorise_is_caught(clinic: Clinic, another: NewHouse) -> None:
    house = await another()
    careless = Careless(house.container.uow)

    @get("/v1/addresses", operation_id="addresses", **LIST)
    async def addresses(request: ApiRequest) -> dict[str, Any]:
        return {"items": await careless.addresses(request.user.practice_id)}

    house.app.register(addresses)
    document = await document_of(house)
    assert trespass.forgotten(document) == ["not in the table: addresses GET /v1/addresses"]
    # Whoever puts it into the table, with the permission that it should take, is told that it does not.
    table = {**OPERATIONS, **AS_IF_IT_ASKED}
    assert trespass.forgotten(document, table) == []
    asked = await prepared(house.clinic(clinic), document, "addresses", table=table)
    assert await trespass.intrusions(asked) == []
    caught = {role: await trespass.trespasses(asked, role) for role in Role}
    assert caught[Role.OWNER] == caught[Role.AUDITOR] == []
    for role in (Role.CLINICIAN, Role.ASSISTANT):
        (complaint,) = caught[role]
        assert complaint.startswith(f"{role} is answered 200")
    strict = await another(require_verified_email=True)
    strict.app.register(addresses)
    asked.clinic = strict.clinic(clinic)
    caught_too = await trespass.unverified(asked)
    assert [complaint.partition(";")[0] for complaint in caught_too] == [f"{role} is answered 200" for role in Role]


async def test_a_route_that_is_public_and_should_not_be_is_caught(clinic: Clinic, another: NewHouse) -> None:
    house = await another()
    careless = Careless(house.container.uow)

    @get("/v1/addresses", operation_id="addresses", public=True, **LIST)
    async def addresses(request: ApiRequest) -> dict[str, Any]:
        return {"items": await careless.addresses(clinic.practice_id)}

    house.app.register(addresses)
    document, table = await document_of(house), {**OPERATIONS, **AS_IF_IT_ASKED}
    assert trespass.ajar(document) == ["public: addresses"]
    asked = await prepared(house.clinic(clinic), document, "addresses", table=table)
    caught = await trespass.intrusions(asked)
    assert len(caught) == len(await trespass.worthless(clinic)) + len(await trespass.former(clinic))
    assert "who shows nothing is answered 200" in caught[0]


async def test_routes_that_hide_from_the_document_are_caught(another: NewHouse) -> None:
    house = await another()

    @get("/schema/addresses", operation_id="underTheDocument", include_in_schema=False)
    async def under_the_document() -> dict[str, Any]:
        return {}

    @put("/v1/me", operation_id="anotherMethod", include_in_schema=False)
    async def another_method(request: ApiRequest) -> dict[str, Any]:
        return {}

    house.app.register(under_the_document)
    house.app.register(another_method)
    assert (await house.client.get("/schema/addresses")).status_code == 200
    document = await document_of(house)
    assert trespass.forgotten(document) == []
    assert trespass.hidden(house.app, document) == [
        "not in the document: GET /schema/addresses", "not in the document: PUT /v1/me",
    ]  # fmt: skip


# -- other practices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_ONE_THING)
async def test_what_is_anothers_answers_exactly_as_what_is_not_there(
    clinic: Clinic, new_clinic: NewClinic, document: dict[str, Any], name: str
) -> None:
    asked = await prepared(clinic, document, name)
    elsewhere = await new_clinic()
    permission = asked.operation.permission
    tokens = [await elsewhere.token_for(role) for role in Role if permission is None or permission in PERMISSIONS[role]]
    before = await clinic.written(), await elsewhere.written()
    for token in tokens:
        foreign, missing = await asked.by(token), await asked.by(token, thing="nothing")
        refused(foreign, 404, "NOT_FOUND")
        assert "404" in asked.responses
        assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
        assert {**foreign.headers, "x-request-id": ""} == {**missing.headers, "x-request-id": ""}
    assert (await clinic.written(), await elsewhere.written()) == before


async def test_a_colleagues_session_and_a_practice_one_is_not_in_are_as_if_they_were_not_there(
    clinic: Clinic, new_clinic: NewClinic, document: dict[str, Any]
) -> None:
    session = await prepared(clinic, document, "revokeSession", Role.ASSISTANT)
    switch = await prepared(await new_clinic(), document, "switch")
    for asked, missing in ((session, {"thing": "nothing"}), (switch, {})):
        foreign = await asked.by(clinic.token)
        asked.body = asked.operation.body(asked.body, "nothing")
        refused(foreign, 404, "NOT_FOUND")
        not_there = await asked.by(clinic.token, **missing)
        assert {**foreign.json(), "request_id": ""} == {**not_there.json(), "request_id": ""}


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
