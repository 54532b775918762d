"""Sync by WatermelonDB's protocol, told with a model of its client (`devices.py`)."""

import asyncio
import json
import random
from collections.abc import Mapping
from itertools import product
from typing import Any
from unittest.mock import ANY

import pytest

from heallog.application.sync import watermelon as use_cases
from heallog.domain.access import Role
from heallog.domain.watermelon import TABLES, VERSION

from .clinic import Clinic, NewClinic, refused
from .devices import ADDRESS, App, Device, Row, quiet
from .people import NewHouse


@pytest.fixture
async def tablet(clinic: Clinic) -> App:
    app = App(clinic, await clinic.token_for(device="tablet"))
    app.create("patients", "ngozi", family_name="Obi", given_name="Ngozi")
    app.create(
        "records",
        "metformin",
        patient_id="ngozi",
        kind="medication",
        title="Metformin",
        dose=10,
        dose_unit="mg",
        status="draft",
    )
    assert await app.sync() == {"ngozi": "created", "metformin": "created"}
    await app.sync()
    return app


@pytest.fixture
async def phone(clinic: Clinic, tablet: App) -> App:
    app = App(clinic, await clinic.token_for(device="phone"))
    await app.sync()
    return app


@pytest.fixture(params=[True, False], ids=["tokens", "untouched"])
def both(request: pytest.FixtureRequest, tablet: App, phone: App) -> tuple[App, App]:
    """Two devices, with base tokens and without."""
    tablet.tokens = phone.tokens = request.param
    return tablet, phone


# -- pulling ------------------------------------------------------------------------------------------------------


async def test_the_first_pull_of_an_empty_practice_has_a_timestamp(clinic: Clinic) -> None:
    app = App(clinic, clinic.token)
    pulled = await app.pull()
    assert pulled["timestamp"] == 1
    assert await app.pull() == pulled
    await clinic.patient(id="ngozi")
    await app.pull()
    assert app.row("patients", "ngozi")["family_name"] == "Obi"


async def test_what_is_written_without_sync_is_pulled_too(clinic: Clinic, tablet: App) -> None:
    await clinic.changed("/v1/patients/ngozi", 1, phone="1", tags=["a"])
    await clinic.deleted("/v1/records/metformin", 1)
    await tablet.pull()
    patient, record = tablet.row("patients", "ngozi"), tablet.row("records", "metformin")
    assert (patient["version"], patient["phone"], patient["tags_json"]) == (2, "1", '["a"]')
    assert (record["version"], record["title"], record["patient_id"]) == (2, None, "ngozi")
    assert record["deleted_at"] == record["updated_at"] > patient["created_at"] > 1_600_000_000_000


async def test_what_is_restored_comes_back_whole(clinic: Clinic, tablet: App, phone: App) -> None:
    await clinic.deleted("/v1/records/metformin", 1)
    await tablet.pull()
    await clinic.call("POST", "/v1/records/metformin/restore", {"base_version": 2})
    await quiet(tablet, phone)
    record = tablet.row("records", "metformin")
    assert (record["dose"], record["deleted_at"]) == (10, None)


@pytest.mark.parametrize("page", [1, 2, 1_000])
async def test_a_long_pull_is_one_answer(
    clinic: Clinic, tablet: App, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases, "PAGE", page)
    for number in range(5):
        await clinic.patient(id=f"p-{number}")
        await clinic.record(f"p-{number}", id=f"r-{number}")
    tablet.last_pulled_at = 0
    pulled = await tablet.pull()
    assert {table: len(lists["updated"]) for table, lists in pulled["changes"].items()} == {
        "patients": 6,
        "records": 6,
        "conflicts": 0,
    }
    assert await tablet.pull() == {
        "changes": {table: _nothing() for table in TABLES},
        "timestamp": tablet.last_pulled_at,
    }


def _nothing() -> dict[str, list[Any]]:
    return {"created": [], "updated": [], "deleted": []}


async def test_parent_and_child_never_arrive_apart(
    clinic: Clinic, tablet: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written while a long answer is on its way is in the next one."""
    monkeypatch.setattr(use_cases, "PAGE", 1)
    stopped = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            await clinic.patient(id=f"w-{number}")
            await clinic.record(f"w-{number}")

    writing = asyncio.create_task(write())
    for _ in range(10):
        tablet.last_pulled_at = 0
        tablet.tables = {str(stream): {} for stream in TABLES}
        await tablet.pull()
        owners = {row["patient_id"] for row in tablet.tables["records"].values()}
        assert owners <= tablet.tables["patients"].keys()
    stopped.set()
    await writing


@pytest.mark.parametrize("query", ["schema_version=0", "schema_version=x", "migration=%7B", "device_id=phone"])
async def test_malformed_questions(tablet: App, query: str) -> None:
    refused(await tablet.call("GET", f"?{query}"), 422, "INVALID_FIELDS", query.partition("=")[0])


async def test_a_device_may_name_itself(tablet: App) -> None:
    assert (await tablet.call("GET", f"?last_pulled_at={tablet.last_pulled_at}&device_id=tablet")).status_code == 200


async def test_a_migration_brings_its_tables_again(tablet: App) -> None:
    migration = json.dumps({"from": 1, "tables": [], "columns": [{"table": "records", "columns": ["dose"]}]})
    answer = await tablet.call("GET", f"?last_pulled_at={tablet.last_pulled_at}&migration={migration}")
    changes = answer.json()["changes"]
    assert [row["id"] for row in changes["records"]["updated"]] == ["metformin"]
    assert changes["patients"]["updated"] == []
    refused(await tablet.call("GET", '?migration={"from":1,"tables":["versions"]}'), 422, "INVALID_FIELDS", "migration")


async def test_the_schema_is_ready_for_the_client(clinic: Clinic) -> None:
    schema = await clinic.get(f"{ADDRESS}/schema")
    assert schema["version"] == VERSION
    assert [table["name"] for table in schema["tables"]] == ["patients", "records", "conflicts"]
    assert {"name": "dose", "type": "number", "isOptional": True, "isIndexed": False} in schema["tables"][1]["columns"]


# -- two devices --------------------------------------------------------------------------------------------------


async def test_what_a_device_has_seen_it_may_change(both: tuple[App, App]) -> None:
    tablet, phone = both
    phone.edit("records", "metformin", dose=15)
    await phone.sync()
    await tablet.sync()
    tablet.edit("records", "metformin", dose=20)
    assert await tablet.sync() == {"metformin": "updated"}
    await quiet(tablet, phone)


async def test_what_came_with_a_pull_beside_ones_own_value_was_not_seen(both: tuple[App, App]) -> None:
    """The row says the other's version after a push, and shows one's own dose: nobody here has seen the other's."""
    tablet, phone = both
    tablet.edit("records", "metformin", dose=20)
    phone.edit("records", "metformin", dose=15)
    await phone.sync()
    assert await tablet.sync() == {"metformin": "conflict"}
    tablet.edit("records", "metformin", dose=25)
    assert await tablet.sync() == {"metformin": "conflict"}
    await quiet(tablet, phone)
    assert tablet.row("records", "metformin")["dose"] == 15
    (conflict,) = tablet.open_conflicts()
    (dispute,) = json.loads(conflict["fields_json"])
    assert [dispute[name] for name in ("field", "base", "theirs", "mine")] == ["dose", 10, 15, 25]


@pytest.mark.parametrize("lost", [False, True])
async def test_that_holds_where_a_push_is_lost_and_for_the_parts_of_a_column(
    tablet: App, phone: App, *, lost: bool
) -> None:
    """With base tokens only."""
    tablet.edit("patients", "ngozi", tags_json='["a"]')
    phone.edit("patients", "ngozi", tags_json='["b"]')
    await phone.sync()
    assert await tablet.sync() == {"ngozi": "merged"}
    tablet.edit("patients", "ngozi", tags_json='["a","c"]')
    if lost:
        await tablet.pull()
    await quiet(tablet, phone)
    assert json.loads(phone.row("patients", "ngozi")["tags_json"]) == ["a", "b", "c"]


async def test_what_a_device_made_and_never_pulled_keeps_its_base_where_a_push_is_lost(
    clinic: Clinic, tablet: App, phone: App
) -> None:
    tablet.create("records", "ramipril", patient_id="ngozi", kind="medication", title="Ramipril", dose=5)
    await tablet.sync()
    await clinic.changed("/v1/records/ramipril", 1, dose=10)
    tablet.edit("records", "ramipril", dose=2.5)
    await tablet.pull()  # and the push is lost
    assert await tablet.sync() == {"ramipril": "conflict"}
    await quiet(tablet, phone)
    assert phone.row("records", "ramipril")["dose"] == 10


async def test_a_thing_that_a_device_made_and_another_changed(both: tuple[App, App]) -> None:
    """The device has not pulled what it pushed itself, when it edits it again."""
    tablet, phone = both
    tablet.create("records", "ramipril", patient_id="ngozi", kind="medication", title="Ramipril", dose=5)
    await tablet.sync()
    await phone.sync()
    phone.edit("records", "ramipril", dose=10)
    tablet.edit("records", "ramipril", dose=2.5)
    await phone.sync()
    assert await tablet.sync() == {"ramipril": "conflict"}
    await quiet(tablet, phone)
    assert tablet.row("records", "ramipril")["dose"] == 10


async def test_a_deletion_that_knows_its_base(tablet: App, phone: App) -> None:
    phone.edit("records", "metformin", dose=15)
    tablet.edit("records", "metformin", title="Metformin 500", deleted_at=5)
    await phone.sync()
    assert await tablet.sync() == {"metformin": "conflict"}
    await quiet(tablet, phone)
    assert tablet.row("records", "metformin")["title"] == "Metformin 500"
    tablet.edit("patients", "ngozi", deleted_at=5)
    assert await tablet.sync() == {"ngozi": "updated"}
    await quiet(tablet, phone)
    assert tablet.row("patients", "ngozi")["deleted_at"] > 5


async def test_a_device_clock_years_ahead_changes_nothing(both: tuple[App, App]) -> None:
    tablet, phone = both
    tablet.edit("records", "metformin", dose=20, updated_at=4_000_000_000_000, created_at=4_000_000_000_000)
    phone.edit("patients", "ngozi", updated_at=1)
    assert await tablet.sync() == {"metformin": "updated"}
    assert await phone.sync() == {"ngozi": "unchanged"}
    await quiet(tablet, phone)
    assert tablet.row("records", "metformin")["updated_at"] < 4_000_000_000_000


# -- pushing ------------------------------------------------------------------------------------------------------


async def test_what_was_created_and_not_heard_of_is_edited_and_sent_again(tablet: App, phone: App) -> None:
    tablet.create("records", "cough", patient_id="ngozi", kind="note", text="one", tags_json='["a"]')
    tablet.edit("records", "metformin", dose=20)
    first = await tablet.push()
    assert (await tablet.push()).content == first.content
    assert [one["status"] for one in first.json()["results"]] == ["created", "updated"]
    # The client never heard it: it pulls, and pushes all of it with what came to it since.
    tablet.edit("records", "metformin", dose=25)
    tablet.edit("records", "cough", text="two", tags_json=None)
    assert await tablet.sync() == {"cough": "updated", "metformin": "updated"}
    await quiet(tablet, phone)
    assert (phone.row("records", "metformin")["dose"], phone.row("records", "metformin")["version"]) == (25, 3)
    assert (phone.row("records", "cough")["text"], phone.row("records", "cough")["tags_json"]) == ("two", None)
    assert phone.open_conflicts() == []


async def test_a_retried_creation_keeps_what_others_added(clinic: Clinic, tablet: App, phone: App) -> None:
    tablet.create("records", "cough", patient_id="ngozi", kind="note", text="one")
    await tablet.push()
    await phone.sync()
    phone.edit("records", "cough", title="Cough")
    await phone.sync()
    # Without a pull in between: the row has no title to send.
    results = (
        await tablet.push({"records": {"updated": [], **tablet.changes()["records"], "deleted": ["nix"]}})
    ).json()
    assert [one["status"] for one in results["results"]] == ["unchanged", "unchanged"]
    await quiet(tablet, phone)
    assert tablet.row("records", "cough")["title"] == "Cough"


async def test_update_of_unknown_creates_and_says_so(tablet: App, phone: App) -> None:
    tablet.tables["patients"]["chidi"] = {**tablet.row("patients", "ngozi"), "id": "chidi", "version": None}
    tablet.edit("patients", "chidi", given_name="Chidi")
    await tablet.pull()
    (result,) = (await tablet.push()).json()["results"]
    assert result == {"table": "patients", "id": "chidi", "status": "created", "version": 1, "flag": "unknown_id"}
    await tablet.sync()
    await quiet(tablet, phone)
    assert (phone.row("patients", "chidi")["family_name"], phone.row("patients", "chidi")["given_name"]) == (
        "Obi",
        "Chidi",
    )


async def test_id_of_another_practice(new_clinic: NewClinic, tablet: App) -> None:
    other = App(await new_clinic(), (clinic := await new_clinic()).token)
    other.clinic = clinic
    other.tables["patients"]["ngozi"] = dict(tablet.row("patients", "ngozi"))
    other.edit("patients", "ngozi", phone="1")
    other.delete("patients", "ngozi")
    assert (await other.sync()) == {"ngozi": "unchanged"}
    await tablet.pull()
    assert tablet.row("patients", "ngozi")["phone"] is None


async def test_one_invalid_in_many(tablet: App, phone: App) -> None:
    for number in range(30):
        tablet.create("records", f"n-{number}", patient_id="ngozi", kind="note", text="x")
    tablet.edit("records", "n-7", kind="shoe")
    tablet.edit("records", "metformin", dose=-1)
    results = await tablet.sync()
    assert {one for one, status in results.items() if status != "created"} == {"n-7", "metformin"}
    assert results["n-7"] == results["metformin"] == "quarantined"
    await tablet.pull()
    # What stands on the server is back; what was never created stays, for a person to mend.
    assert tablet.row("records", "metformin")["dose"] == 10
    tablet.edit("records", "n-7", kind="note")
    assert await tablet.sync() == {"n-7": "created"}
    await quiet(tablet, phone)


async def test_what_the_client_does_not_know_is_left_alone(clinic: Clinic, tablet: App) -> None:
    """An older schema has fewer columns: its rows do not empty the others."""
    await clinic.changed("/v1/patients/ngozi", 1, email="n@example.org")
    row = {"id": "ngozi", "_status": "updated", "_changed": "phone", "phone": "1"}
    (result,) = (await tablet.push({"patients": {"updated": [row]}})).json()["results"]
    assert result["status"] in ("updated", "merged")
    patient = await clinic.get("/v1/patients/ngozi")
    assert (patient["phone"], patient["email"]) == ("1", "n@example.org")


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [
        ("dose", "20", "dose"),
        ("status", "signed", "status"),
        ("shoe", 44, "shoe"),
        ("patient_id", "chidi", "patient_id"),
        ("tags_json", "[", "tags_json"),
        ("tags_json", ["a"], "tags_json"),
        ("values_json", '{"a":{"value":1e999}}', "values"),
        ("title", "\ud800", "title"),
        ("title", "\x00", "title"),
    ],
)
async def test_what_can_never_be_done_is_quarantined_as_it_came(
    clinic: Clinic, tablet: App, column: str, value: Any, field: str
) -> None:
    row = {
        "id": "metformin",
        "_status": "updated",
        "_changed": f"{column},base_token",
        "base_token": "1:x",
        column: value,
    }
    answer = await tablet.push({"records": {"updated": [row]}})
    (result,) = answer.json()["results"]
    assert (result["table"], result["id"], result["status"]) == ("records", "metformin", "quarantined")
    assert [error["field"].partition(".")[0] for error in result["errors"]] == [field]
    async with clinic.container.uow() as uow:
        (kept,) = await uow.sync.quarantined(clinic.practice_id, None, 10)
    assert (kept.id, kept.operation) == (
        result["quarantine_id"],
        {"table": "records", "list": "updated", "row": row}
        | {"last_pulled_at": tablet.last_pulled_at, "pulled_since": ANY},
    )


@pytest.mark.parametrize(
    "row",
    [
        None,
        5,
        "x",
        [],
        {},
        {"id": None},
        {"id": "a b"},
        {"id": "x" * 65},
        {"id": "metformin"},
        {"id": "metformin", "_changed": 5},
    ],
)
@pytest.mark.parametrize("place", ["created", "updated"])
async def test_rows_that_are_none(tablet: App, place: str, row: Any) -> None:
    (result,) = (await tablet.push({"records": {place: [row]}})).json()["results"]
    assert (result["status"], result["table"]) == ("quarantined", "records")


@pytest.mark.parametrize("id", [None, 5, [], "a b", "x" * 65])
async def test_deleted_ids_that_are_none(tablet: App, id: Any) -> None:
    (result,) = (await tablet.push({"records": {"deleted": [id]}})).json()["results"]
    assert result["status"] == "quarantined"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"versions": {"created": []}}', "versions"),
        (b'{"patients": []}', "patients"),
        (b'{"patients": {"created": {}}}', "patients"),
        (b'{"patients": {"made": []}}', "patients"),
        (b"[]", None),
        (b'{"patients": {"deleted": [' + b",".join([b'"x"'] * 50_001) + b"]}}", None),
    ],
    ids=range(6),
)
async def test_bodies_that_are_no_changes(tablet: App, body: bytes, field: str | None) -> None:
    refused(await tablet.call("POST", "", raw=body), 422, "INVALID_FIELDS", field)


@pytest.mark.parametrize("depth", [100, 500, 800, 850, 900, 950, 1_000, 100_000])
async def test_endless_nesting(tablet: App, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    raw = b'{"records": {"updated": [{"id": "metformin", "_changed": "dose", "dose": %s}]}}' % nested
    answer = await tablet.call("POST", "", raw=raw)
    if answer.status_code == 200:
        assert answer.json()["results"][0]["status"] == "quarantined"
    else:
        refused(answer, 400, "MALFORMED_JSON")


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 400])
async def test_numbers_that_are_none(tablet: App, number: bytes) -> None:
    raw = b'{"records": {"updated": [{"id": "metformin", "_changed": "dose", "dose": %s}]}}' % number
    answer = await tablet.call("POST", "", raw=raw)
    assert [error["field"] for error in answer.json()["results"][0]["errors"]] == ["dose"]


async def test_more_than_one_part(clinic: Clinic, phone: App, another: NewHouse) -> None:
    thrifty = (await another(sync_batch_size=3)).clinic(clinic)
    tablet = App(thrifty, await clinic.token_for(device="tablet"))
    await tablet.pull()
    for number in range(10):
        tablet.create("patients", f"p-{number}", family_name="Obi")
        tablet.create("records", f"r-{number}", patient_id=f"p-{number}", kind="note", text="x")
    first = await tablet.push()
    assert {one["status"] for one in first.json()["results"]} == {"created"}
    assert (await tablet.push()).content == first.content
    count = "SELECT count(*) FROM pushes WHERE practice_id = $1"
    # One was pushed before.
    assert await clinic.container.database().pool.fetchval(count, clinic.practice_id) == 1 + 7
    await quiet(tablet, phone)


# -- conflicts ----------------------------------------------------------------------------------------------------


async def disputed(tablet: App, phone: App) -> Row:
    tablet.edit("records", "metformin", dose=20)
    phone.edit("records", "metformin", dose=15)
    await quiet(phone, tablet)
    (conflict,) = tablet.open_conflicts()
    return conflict


async def test_a_conflict_is_resolved_offline(clinic: Clinic, tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.resolve(conflict, dose={"value": 17.5})
    assert await tablet.sync() == {conflict["id"]: "updated"}
    await quiet(tablet, phone)
    record = phone.row("records", "metformin")
    assert (record["dose"], record["conflict_id"], phone.open_conflicts()) == (17.5, None, [])
    kept = json.loads(phone.row("conflicts", conflict["id"])["resolution_json"])
    assert (kept["reason"], kept["choices"], kept["account_id"]) == (
        "asked the pharmacy",
        {"dose": {"value": 17.5}},
        clinic.account_id,
    )


async def test_a_resolution_sent_twice_at_once_is_taken_once_and_not_set_aside(tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.resolve(conflict, dose={"take": "mine"})
    answers = await asyncio.gather(*(tablet.push() for _ in range(4)))
    assert {answer.json()["results"][0]["status"] for answer in answers} == {"updated"}
    await quiet(tablet, phone)


async def test_a_resolution_sent_twice_has_one_effect(tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.resolve(conflict, dose={"take": "mine"})
    first = await tablet.push()
    assert (await tablet.push()).content == first.content
    # After a lost answer the client's push is another one.
    assert await tablet.sync() == {conflict["id"]: "updated"}
    await quiet(tablet, phone)
    assert tablet.row("records", "metformin")["version"] == first.json()["results"][0]["version"]


async def test_two_resolvers(clinic: Clinic, tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.resolve(conflict, dose={"take": "mine"})
    phone.resolve(conflict, dose={"value": 12}, reason="as before")
    assert await tablet.sync() == {conflict["id"]: "updated"}
    assert await phone.sync() == {conflict["id"]: "quarantined"}
    await quiet(tablet, phone)
    assert phone.row("records", "metformin")["dose"] == 20
    async with clinic.container.uow() as uow:
        (kept,) = await uow.sync.quarantined(clinic.practice_id, None, 10)
    assert json.loads(kept.operation["row"]["resolution_json"])["choices"] == {"dose": {"value": 12}}


async def test_the_head_moves_while_a_conflict_is_open(clinic: Clinic, tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.resolve(conflict, dose={"take": "mine"})
    phone.edit("records", "metformin", title="Metformin 500")
    await phone.sync()
    first = (await tablet.push()).json()["results"]
    assert [one["status"] for one in first] == ["quarantined"]
    assert [error["code"] for error in first[0]["errors"]] == ["VERSION_CONFLICT"]
    # The very same again is not kept twice.
    assert (await tablet.push()).json()["results"] == first
    await quiet(tablet, phone)


async def test_the_conflict_of_a_stale_resolution_comes_again(tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.resolve(conflict, dose={"take": "nobody's"})
    assert await tablet.sync() == {conflict["id"]: "quarantined"}
    await quiet(tablet, phone)
    assert [(one["id"], one["resolution_json"]) for one in tablet.open_conflicts()] == [(conflict["id"], None)]


async def test_conflicts_are_made_and_removed_by_heallog_alone(tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    tablet.delete("conflicts", conflict["id"])
    tablet.create("conflicts", "mine", thing_id="metformin")
    tablet.edit("conflicts", "mine", state="open")
    assert await tablet.sync() == {conflict["id"]: "unchanged", "mine": "quarantined"}
    del tablet.tables["conflicts"]["mine"]
    await quiet(tablet, phone)
    assert conflict["id"] in tablet.tables["conflicts"]


# -- who may ------------------------------------------------------------------------------------------------------


async def test_an_assistant_does_not_delete(clinic: Clinic, tablet: App) -> None:
    assistant = App(clinic, await clinic.token_for(Role.ASSISTANT, device="desk"))
    await assistant.pull()
    assistant.delete("records", "metformin")
    assert await assistant.sync() == {"metformin": "quarantined"}
    await quiet(assistant)
    assert assistant.row("records", "metformin")["dose"] == 10


# -- quarantine, released as it was sent --------------------------------------------------------------------------


async def waiting(clinic: Clinic) -> list[dict[str, Any]]:
    """The oldest first."""
    return (await clinic.get("/v1/sync/quarantine"))["items"][::-1]


async def released(clinic: Clinic, item: dict[str, Any], body: Any = None) -> dict[str, Any]:
    answer = await clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/release", body or {})
    assert answer.status_code == 200, answer.text
    assert answer.json()["push_id"] == item["id"]
    (result,) = answer.json()["results"]
    assert await waiting(clinic) == [one for one in await waiting(clinic) if one["id"] != item["id"]]
    return result


@pytest.fixture
async def assistant(clinic: Clinic, tablet: App) -> App:
    app = App(clinic, await clinic.token_for(Role.ASSISTANT, device="desk"))
    await app.pull()
    return app


@pytest.mark.parametrize("tokens", [True, False])
async def test_a_deletion_is_released_with_the_base_that_it_had(
    clinic: Clinic, tablet: App, assistant: App, tokens: bool
) -> None:
    """The desk has long gone on when it is done: what others wrote before that it had not seen."""
    assistant.tokens = tokens
    if tokens:
        assistant.edit("records", "metformin", deleted_at=1)
    else:
        assistant.delete("records", "metformin")
    tablet.edit("records", "metformin", dose=15)
    await tablet.sync()
    assert await assistant.sync() == {"metformin": "quarantined"}
    await quiet(assistant, tablet)
    (item,) = await waiting(clinic)
    result = await released(clinic, item)
    assert (result["status"], result["severity"]) == ("conflict", "hard")
    await quiet(assistant, tablet)
    assert assistant.row("records", "metformin")["dose"] == 15


async def test_a_row_that_is_changed_and_deleted_is_kept_once_and_done_whole(
    clinic: Clinic, tablet: App, assistant: App
) -> None:
    assistant.edit("records", "metformin", dose=20, deleted_at=1)
    assert await assistant.sync() == {"metformin": "quarantined"}
    (item,) = await waiting(clinic)
    assert (await released(clinic, item))["status"] == "updated"
    await quiet(assistant, tablet)
    assert tablet.row("records", "metformin")["deleted_at"] is not None
    assert (await clinic.get("/v1/records/metformin/history"))["items"][1]["version"] == 2


async def test_what_a_row_still_cannot_do_waits_anew_and_can_be_put_right(clinic: Clinic, tablet: App) -> None:
    row = {"id": "metformin", "_status": "updated", "_changed": "dose,base_token", "base_token": "1:x", "dose": "20"}
    await tablet.push({"records": {"updated": [row]}})
    (item,) = await waiting(clinic)
    assert (await released(clinic, item))["status"] == "quarantined"
    (again,) = await waiting(clinic)
    assert {**again, "id": "", "push_id": ""} == {**item, "id": "", "push_id": ""}
    right = {"op": "update", "collection": "records", "id": "metformin", "base_version": 1, "fields": {"dose": 20}}
    assert (await released(clinic, again, {"operation": right}))["status"] == "updated"
    assert await waiting(clinic) == []


async def test_a_row_without_its_places_is_done_from_the_first_version(clinic: Clinic, tablet: App) -> None:
    """As it was kept before they were, and as anybody may write by the other door."""
    tablet.edit("records", "metformin", dose=15)
    await tablet.sync()
    row = {"id": "metformin", "_status": "updated", "_changed": "dose", "dose": 20}
    kept = {"table": "records", "list": "updated", "row": row}
    desk = Device(clinic, await clinic.token_for(device="desk"))
    for places in ({}, {"last_pulled_at": 10**30, "pulled_since": 10**30}, {"last_pulled_at": "x", "pulled_since": -1}):
        await desk.push({**kept, **places})
        (item,) = await waiting(clinic)
        assert (await released(clinic, item))["status"] == "conflict"
    for odd in ({**kept, "table": []}, {**kept, "list": "gone"}, {**kept, "row": 5}):
        await desk.push(odd)
        (item,) = await waiting(clinic)
        assert (await released(clinic, item))["status"] == "quarantined"
        (item,) = await waiting(clinic)
        await clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/discard", {"reason": "junk"})


async def test_a_deletion_of_what_is_not_there_has_nothing_to_do(clinic: Clinic, tablet: App) -> None:
    auditor = App(clinic, await clinic.token_for(Role.AUDITOR, device="ledger"))
    await auditor.push({"records": {"deleted": ["nowhere"]}})
    (item,) = await waiting(clinic)
    result = await released(clinic, item)
    assert result == {"index": 0, "status": "unchanged", "collection": "records", "id": "nowhere", "version": None}


async def test_a_decision_is_released_in_the_name_of_who_releases_it(clinic: Clinic, tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    desk = App(clinic, await clinic.token_for(Role.ASSISTANT, device="desk"))
    await desk.pull()
    desk.resolve(conflict, dose={"take": "mine"})
    assert await desk.sync() == {conflict["id"]: "quarantined"}
    (item,) = await waiting(clinic)
    result = await released(clinic, item)
    assert (result["status"], result["collection"], result["id"]) == ("updated", "conflicts", conflict["id"])
    shown = await clinic.get(f"/v1/conflicts/{conflict['id']}")
    assert (shown["state"], shown["resolution"]["account_id"]) == ("resolved", clinic.account_id)
    await quiet(tablet, phone, desk)


async def test_who_has_left_does_not_hear_of_what_they_decided(clinic: Clinic, tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    ben = App(clinic, await clinic.token_for(Role.CLINICIAN, device="desk", account=f"ben-{clinic.practice_id}"))
    await ben.pull()
    ben.resolve(conflict, dose={"take": "mine"})
    changes = ben.changes()
    assert await ben.sync() == {conflict["id"]: "updated"}
    await clinic.left(f"ben-{clinic.practice_id}", sessions=True)
    (result,) = (await ben.push(changes)).json()["results"]
    assert (result["status"], result["version"], result["errors"][0]["code"]) == ("quarantined", None, "FORBIDDEN")
    assert (await ben.push(changes)).json()["results"] == [result]
    assert [item["id"] for item in await waiting(clinic)] == [result["quarantine_id"]]


async def test_a_decision_about_an_old_head_waits_anew(clinic: Clinic, tablet: App, phone: App) -> None:
    conflict = await disputed(tablet, phone)
    auditor = App(clinic, await clinic.token_for(Role.AUDITOR, device="ledger"))
    await auditor.pull()
    auditor.resolve(conflict, dose={"take": "mine"})
    before = (await clinic.get(f"/v1/conflicts/{conflict['id']}"))["state"]
    assert await auditor.sync() == {conflict["id"]: "quarantined"}
    phone.edit("records", "metformin", title="Metformin 500")
    await phone.sync()
    (item,) = await waiting(clinic)
    assert [error["code"] for error in item["errors"]] == ["FORBIDDEN"]
    result = await released(clinic, item)
    assert (result["status"], [error["code"] for error in result["errors"]]) == ("quarantined", ["VERSION_CONFLICT"])
    (again,) = await waiting(clinic)
    assert (again["id"], again["operation"]) == (result["quarantine_id"], item["operation"])
    assert (await clinic.get(f"/v1/conflicts/{conflict['id']}"))["state"] == before == "open"


# -- many devices, at random --------------------------------------------------------------------------------------


async def wander(app: App, chance: random.Random, step: int) -> None:
    """One thing that a person or the network does."""
    present = [
        (table, row["id"])
        for table in ("patients", "records")
        for row in app.tables[table].values()
        if row["_status"] != "deleted" and row.get("deleted_at") is None
    ]
    what = chance.choice(["edit", "edit", "edit", "create", "delete", "resolve", "sync", "sync", "lost"])
    if what == "edit" and present:
        table, thing_id = chance.choice(present)
        if table == "patients":
            column = chance.choice(["phone", "family_name", "tags_json", "address_json"])
            value = {"tags_json": f'["t{step}"]', "address_json": f'{{"city":"c{step}"}}'}.get(column, f"x{step}")
        else:
            column, value = chance.choice(
                [("dose", 7_000 + step), ("title", f"x{step}"), ("text", f"a\nb{step}"), ("route", None)]
            )
        app.edit(table, thing_id, **{column: value})
    elif what == "create":
        owner = chance.choice(["ngozi", f"{app.nonce}-p"])
        app.create("records", f"r-{step}", patient_id=owner, kind="medication", title="x", dose=step)
    elif what == "delete" and present and chance.random() < 0.4:
        app.delete(*chance.choice(present))
    elif what == "resolve" and app.open_conflicts():
        conflict = chance.choice(app.open_conflicts())
        fields = [dispute["field"] for dispute in json.loads(conflict["fields_json"])]
        app.resolve(conflict, **{field: {"take": chance.choice(["mine", "theirs"])} for field in fields})
    elif what == "sync":
        await app.sync()
    elif what == "lost":
        await app.pull()
        if any(rows for lists in app.changes().values() for rows in lists.values()):
            assert (await app.push()).status_code == 200


@pytest.mark.parametrize("seed", range(12))
async def test_after_whatever_happened_quiet_devices_hold_the_same(
    clinic: Clinic, tablet: App, phone: App, seed: int
) -> None:
    chance = random.Random(seed)
    apps = [tablet, phone, App(clinic, await clinic.token_for(device="laptop"))]
    for app in apps:
        app.tokens = chance.random() < 0.7
        await app.sync()
    for step in range(60):
        await wander(chance.choice(apps), chance, step)
    for _ in range(2):
        for app in apps:
            await app.sync()
    for app in apps:
        assert await app.sync() == {}
    known = {table: tablet.tables[table].keys() & phone.tables[table].keys() for table in tablet.tables}
    for app, (table, ids) in product(apps, known.items()):
        assert {one: app.row(table, one) for one in ids} == {one: tablet.row(table, one) for one in ids}
        # What was never created on the server stays with whoever entered it.
        assert all(app.row(table, one)["version"] is None for one in app.tables[table].keys() - ids)
    await shows_the_same(clinic, tablet, known)
    kept = await everything(clinic)
    assert {value for app in apps for value in app.entered if value not in kept} == set()


async def everything(clinic: Clinic) -> str:
    """All that is kept: every version, and what was quarantined."""
    versions = await clinic.container.database().pool.fetch(
        "SELECT content::text FROM versions WHERE practice_id = $1 AND content IS NOT NULL"
        " UNION ALL SELECT operation::text FROM quarantine WHERE practice_id = $1",
        clinic.practice_id,
    )
    return "".join(row[0] for row in versions)


async def shows_the_same(clinic: Clinic, app: App, known: Mapping[str, set[str]]) -> None:
    """The server, and a device."""
    for table in ("patients", "records"):
        for one in known[table]:
            row, shown = app.row(table, one), await clinic.call("GET", f"/v1/{table}/{one}")
            assert (shown.status_code == 404) is (row["deleted_at"] is not None)
            if shown.status_code == 200:
                assert (shown.json()["version"], shown.json().get("dose")) == (row["version"], row.get("dose"))
