"""The document tells the truth, its examples work, and the page to try them needs no internet."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from heallog.entrypoints.http.errors import STATUS
from heallog.entrypoints.http.openapi import STATIC

from .clinic import Clinic, refused
from .operations import OPERATIONS, PUBLIC, example_of, listed, may
from .trespass import prepared

ALL = [*PUBLIC, *OPERATIONS]


@pytest.fixture
def described(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return listed(document)


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def keys_of(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths in a value that its schema knows nothing of or that are of another type."""
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(value is None if name == "null" else isinstance(value, types[name]) for name in wanted):
        yield f"{path}: {value!r} is not {wanted}"
    if isinstance(value, dict) and "properties" in schema:
        yield from (f"{path}{name}" for name in value.keys() - schema["properties"].keys())
        yield from (f"{path}{name} is missing" for name in set(schema.get("required", ())) - value.keys())
        for name in value.keys() & schema["properties"].keys():
            yield from keys_of(value[name], schema["properties"][name], f"{path}{name}.")
    if isinstance(value, list) and "items" in schema:
        for inner in value:
            yield from keys_of(inner, schema["items"], f"{path}[].")


# -- the document -------------------------------------------------------------------------------------------------


async def test_the_document_is_openapi_3_1_as_json(client: httpx.AsyncClient) -> None:
    answer = await client.get("/schema/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] in {"application/json", "application/vnd.oai.openapi+json"}
    document = answer.json()
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "HealLog"
    assert document["info"]["version"]
    used = {operation["tags"][0] for operation in listed(document).values()}
    assert {tag["name"] for tag in document["tags"]} == used
    assert document["components"]["securitySchemes"]["token"] == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
    }


def test_no_two_operations_share_an_id(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids)) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_an_operation_says_what_it_is_and_what_it_answers(described: dict[str, Any], name: str) -> None:
    operation = described[name]
    assert operation["summary"]
    assert len(operation["tags"]) == 1
    answers = operation["responses"]
    (good,) = (status for status in answers if status.startswith("2"))
    if good == "204":
        assert "content" not in answers[good]
    else:
        assert answers[good]["content"]["application/json"]["schema"]["type"] == "object"
    assert {"500", "503"} <= answers.keys()
    if name not in PUBLIC:
        assert {"401", "403"} <= answers.keys()
    if "requestBody" in operation:
        assert {"400", "413", "415", "422"} <= answers.keys()
    if "{" in operation["path"]:
        assert {"404", "422"} <= answers.keys()
    for status, answer in answers.items():
        assert answer["description"]
        if not status.startswith("2"):
            assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
            assert {str(STATUS[code]) for code in answer["description"].split(" or ")} == {status}


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_described(described: dict[str, Any], name: str) -> None:
    operation = described[name]
    parameters = {(parameter["in"], parameter["name"]): parameter for parameter in operation.get("parameters", [])}
    places = set(re.findall(r"{(\w+)}", operation["path"]))
    assert {name for where, name in parameters if where == "path"} == places
    assert all(parameters["path", place]["required"] for place in places)
    assert all(parameter["schema"] for parameter in parameters.values())
    versioned = operation["path"].startswith(("/v1/patients/", "/v1/records/"))
    changes = operation["method"] in {"PATCH", "DELETE"} or operation["path"].endswith(("/sign", "/amend", "/revert"))
    if versioned and changes:
        assert ("header", "If-Match") in parameters


def test_lists_and_diffs_name_their_parameters_as_they_are_sent(described: dict[str, Any]) -> None:
    def query(name: str) -> set[str]:
        return {parameter["name"] for parameter in described[name]["parameters"] if parameter["in"] == "query"}

    assert query("listPatients") == {"q", "tag", "updated_since", "limit", "cursor"}
    assert query("listRecords") == {"kind", "status", "from", "to", "code", "limit", "cursor"}
    assert query("patientDiff") == query("recordDiff") == {"from", "to"}
    assert query("patientHistory") == query("recordHistory") == query("policyHistory") == {"limit", "cursor"}
    assert query("listConflicts") == {"state", "patient_id", "limit", "cursor"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = {value["$ref"] for value in walk(document) if isinstance(value.get("$ref"), str)}
    assert references == {"#/components/schemas/Error"}
    for reference in references:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_every_schema_is_one_that_tools_can_read(document: dict[str, Any]) -> None:
    """Patterns compile, required names exist, enumerations are not empty."""
    for value in walk(document):
        if isinstance(value.get("pattern"), str):
            re.compile(value["pattern"])
        if isinstance(value.get("properties"), dict) and isinstance(value.get("required"), list):
            assert set(value["required"]) <= value["properties"].keys()
        if "enum" in value:
            assert value["enum"]


def test_what_a_caller_may_not_write_is_not_offered_to_be_sent(described: dict[str, Any]) -> None:
    for name in ("createRecord", "changeRecord", "amendRecord"):
        body = described[name]["requestBody"]["content"]["application/json"]["schema"]
        offered = [schema for schema in walk(body) if isinstance(schema.get("properties"), dict)]
        for schema in offered:
            for field in {"status", "signed_by", "signed_at"} & schema["properties"].keys():
                assert schema["properties"][field]["readOnly"], (name, field)


async def test_the_document_is_the_same_each_time(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    await client.get("/schema")
    again = (await client.get("/schema/openapi.json")).json()
    first = listed(document)
    for name, operation in listed(again).items():
        assert operation == first[name], name
    assert again == document


async def test_no_parameter_is_described_twice(client: httpx.AsyncClient) -> None:
    await client.get("/schema")
    for operation in listed((await client.get("/schema/openapi.json")).json()).values():
        parameters = [(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", [])]
        assert len(parameters) == len(set(parameters)), operation["operationId"]


# -- its examples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
async def test_the_example_of_a_request_is_accepted_and_answered_as_described(
    clinic: Clinic, document: dict[str, Any], described: dict[str, Any], name: str
) -> None:
    said, role = described[name], may(OPERATIONS[name].permission)
    asked = await prepared(clinic, document, name, role)
    answer = await asked.by(await clinic.token_for(role))
    assert answer.is_success, answer.text
    described_answer = said["responses"][str(answer.status_code)]
    if answer.content:
        schema = described_answer["content"]["application/json"]["schema"]
        assert list(keys_of(answer.json(), schema)) == []
        assert answer.headers["content-type"] == "application/json"


async def test_the_examples_of_registering_and_logging_in_follow_each_other(
    client: httpx.AsyncClient, described: dict[str, Any]
) -> None:
    for name, status in (("register", 201), ("login", 200)):
        answer = await client.post(described[name]["path"], json=example_of(described[name]))
        assert answer.status_code == status, answer.text
        schema = described[name]["responses"][str(status)]["content"]["application/json"]["schema"]
        assert list(keys_of(answer.json(), schema)) == []


@pytest.mark.parametrize("name", ["live", "ready"])
async def test_health_answers_as_described(client: httpx.AsyncClient, described: dict[str, Any], name: str) -> None:
    answer = await client.get(described[name]["path"])
    schema = described[name]["responses"]["200"]["content"]["application/json"]["schema"]
    assert (answer.status_code, list(keys_of(answer.json(), schema))) == (200, [])


def test_every_request_that_needs_a_body_shows_one(described: dict[str, Any]) -> None:
    for name, operation in described.items():
        body = operation.get("requestBody")
        if body is not None and body["required"]:
            assert "example" in body["content"]["application/json"], name


async def test_a_refusal_is_as_described(clinic: Clinic, document: dict[str, Any]) -> None:
    answer = await clinic.call("POST", "/v1/patients", {"shoe_size": 38})
    refused(answer, 422, "INVALID_FIELDS", "shoe_size")
    assert list(keys_of(answer.json(), document["components"]["schemas"]["Error"])) == []


# -- the page -----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page makes a browser fetch, and its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.inline: dict[str, str] = {"script": "", "style": ""}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        names = {"src", "href", "action", "data", "poster", "srcset", "formaction", "content"}
        self.references += [value or "" for name, value in attrs if name in names and tag != "meta"]
        if tag == "meta":
            assert dict(attrs).get("http-equiv") is None

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.inline:
            self.inline[self._inside] += data


@pytest.fixture
async def page(client: httpx.AsyncClient) -> Page:
    answer = await client.get("/schema")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    return Page(answer.text)


async def test_the_page_fetches_nothing_from_elsewhere(page: Page) -> None:
    assert page.references
    for reference in page.references:
        assert reference.startswith(("/schema/static/", "data:")), reference
        assert not reference.startswith("//")
    assert "url(" not in page.inline["style"]
    assert "@import" not in page.inline["style"]


async def test_the_page_holds_the_document_itself(page: Page, document: dict[str, Any]) -> None:
    found = page.inline["script"]
    assert json.dumps(document["info"]["title"]) in found
    for name in ALL:
        assert f'"{name}"' in found
    assert not re.search(r"fetch\(|import\(|XMLHttpRequest|(?<!\$)\burl:", found)


async def test_every_file_of_the_page_is_served_as_what_it_is(client: httpx.AsyncClient, page: Page) -> None:
    files = [reference for reference in page.references if reference.startswith("/")]
    assert len(files) >= 2
    for file in files:
        answer = await client.get(file)
        assert answer.status_code == 200
        kind = "text/css" if file.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == (STATIC / file.rpartition("/")[2]).read_bytes()


def test_the_style_sheet_fetches_nothing_from_elsewhere() -> None:
    style = (STATIC / "swagger-ui.css").read_text()
    assert "@import" not in style
    for target in re.findall(r"url\(\s*[\"']?([^)\"']{0,40})", style):
        assert target.startswith(("data:", "#")), target


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "LICENSE", "README", "..%2Fapp.py", "%2Fetc%2Fpasswd", "swagger-ui.css%00.js", "a/b.js"],
)
async def test_the_page_has_no_other_files(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/schema/static/{name}")
    refused(answer, 404, "NOT_FOUND")
