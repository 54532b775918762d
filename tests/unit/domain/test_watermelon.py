"""Tables and rows for WatermelonDB: every field has its column, and what goes through one comes back as it was."""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain import patients, records
from heallog.domain.canon import canonical
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import MAX_SAFE_INTEGER
from heallog.domain.sync import Item, Stream, of_head
from heallog.domain.versions import Collection, Head
from heallog.domain.watermelon import (
    TABLES,
    VERSION,
    Table,
    base,
    changed,
    edit,
    migrated,
    resolution,
    row_of,
    schema,
)

from .edits import EDITS, Edits

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, UTC)
MILLISECONDS = 1_772_366_400_123
PATIENTS, RECORDS, CONFLICTS = (TABLES[stream] for stream in Stream)


def item(content: Mapping[str, Any] | None, collection: Collection = Collection.RECORDS, **more: Any) -> Item:
    written = None if content is None else canonical(content)
    patient_id = "x-1" if collection is Collection.PATIENTS else "p-1"
    given = {"conflict_id": None, **more}
    return of_head(Head("hillside", collection, "x-1", patient_id, 3, 3, b"", written, NOON, NOON, "alice", **given))


def row(content: Mapping[str, Any] | None, collection: Collection = Collection.RECORDS, **more: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(row_of(item(content, collection, **more)))
    return read


# -- the schema ---------------------------------------------------------------------------------------------------

PINNED = {1: "c1bf1262a783474d"}
"""What each version of the schema was. A change of tables or columns is a new version; what was stays."""


def test_the_schema_of_a_version_never_changes() -> None:
    digest = hashlib.sha256(canonical(schema())).hexdigest()
    assert PINNED.keys() == set(range(1, VERSION + 1))
    assert digest.startswith(PINNED[VERSION]), f"the schema differs: raise VERSION and pin {digest[:16]}"


def test_what_came_with_a_version_says_so() -> None:
    assert max(one.since for table in TABLES.values() for one in (table, *table.columns)) == VERSION


@pytest.mark.parametrize("table", TABLES.values())
def test_columns_are_such_as_the_client_takes(table: Table) -> None:
    names = [column["name"] for column in table.schema()["columns"]]
    assert len(names) == len(set(names))
    # Its own columns, and properties of its models.
    taken = {"id", "_status", "_changed", "local_storage", "last_modified", "table", "collection", "collections"}
    taken |= {"database", "db", "batch", "update", "observe", "syncStatus", "constructor", "asModel", "associations"}
    assert not taken & set(names)
    for column in table.schema()["columns"]:
        assert column["type"] in ("string", "number", "boolean")
        assert column["isOptional"] is (column["name"] not in ("created_at", "updated_at")), column


def test_every_field_is_one_column() -> None:
    for table, fields in ((PATIENTS, patients.FIELDS), (RECORDS, records.ANY)):
        assert fields.keys() <= {column.field for column in table.columns}
        assert len({column.field for column in table.columns}) == len(table.columns)


# -- rows ---------------------------------------------------------------------------------------------------------


def kept(value: Any, kind: str) -> Any:
    """A value after the client has put it into an optional column (`_setRaw` in its `RawRecord`)."""
    if kind == "string":
        return value if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


@given(EDITS, st.sampled_from(["base", "theirs", "mine"]))
def test_what_goes_through_a_row_comes_back_as_it_was(edits: Edits, side: str) -> None:
    content: Mapping[str, Any] = getattr(edits, side)
    collection = Collection.RECORDS if "kind" in content else Collection.PATIENTS
    table = TABLES[Stream(str(collection))]
    sent = row(content, collection)
    assert sent.keys() == {"id", *(column.name for column in table.columns)}
    held = {name: kept(value, table.named[name].type) for name, value in sent.items() if name != "id"}
    assert held == {name: value for name, value in sent.items() if name != "id"}
    back = edit(table, held)
    owner = {"patient_id": "p-1"} if collection is Collection.RECORDS else {}
    # What follows from the rest is nobody's edit.
    assert not back.wrong
    assert back.fields == {**{name: value for name, value in content.items() if name != "bmi"}, **owner}
    assert edit(table, held, [name for name in held if name != "patient_id"]).fields.keys() >= content.keys() - {"bmi"}


@pytest.mark.parametrize("number", [0, 0.1, 0.30000000000000004, 1e-7, MAX_SAFE_INTEGER, 5e-324])
def test_numbers_keep_their_last_digit(number: float) -> None:
    assert row({"kind": "medication", "dose": number})["dose"] == number


def test_a_row_says_what_identifies_a_thing() -> None:
    made = row({"family_name": "Obi"}, Collection.PATIENTS, conflict_id="c-1")
    assert {name: value for name, value in made.items() if value is not None} == {
        "id": "x-1",
        "version": 3,
        "conflict_id": "c-1",
        "created_at": MILLISECONDS,
        "updated_at": MILLISECONDS,
        "updated_by": "alice",
        "family_name": "Obi",
    }


def test_a_deleted_thing_is_an_empty_row_that_says_so() -> None:
    made = row(None)
    assert {name: value for name, value in made.items() if value is not None} == {
        "id": "x-1",
        "patient_id": "p-1",
        "version": 3,
        "created_at": 0,
        "updated_at": MILLISECONDS,
        "deleted_at": MILLISECONDS,
        "updated_by": "alice",
    }


def test_content_that_has_no_column_any_more_is_left_out() -> None:
    assert "shoe" not in row({"kind": "note", "shoe": 44})


# -- what a client changed ----------------------------------------------------------------------------------------


def test_only_what_is_named_is_the_clients() -> None:
    raw = {"id": "m", "_status": "updated", "_changed": "dose,base_token,updated_at", "dose": 20, "title": "Metformin"}
    assert changed(raw) == {"dose", "base_token", "updated_at"}
    assert edit(RECORDS, raw, changed(raw)).fields == {"dose": 20}


def test_an_emptied_column_takes_the_field_away() -> None:
    assert edit(RECORDS, {"dose": None, "values_json": None}, ["dose", "values_json", "text"]).fields == {
        "dose": None,
        "values": None,
        "text": None,
    }


def test_json_text_is_read_or_refused_by_its_column() -> None:
    raw = {"tags_json": '["a"]', "values_json": "{", "code_json": 5, "reactions_json": '{"a":1,"a":2}'}
    read = edit(RECORDS, raw)
    assert read.fields["tags"] == ["a"]
    assert {(error.field, error.code) for error in read.wrong} == {
        ("values_json", "json"),
        ("code_json", "type"),
        ("reactions_json", "json"),
    }


def test_an_unknown_column_stays_what_it_is() -> None:
    assert edit(RECORDS, {"shoe": 44}, ["shoe"]).fields == {"shoe": 44}


@pytest.mark.parametrize("names", [None, 5, ["dose"]])
def test_a_row_that_names_no_changes_has_none(names: Any) -> None:
    assert changed({"_changed": names}) == frozenset()


def test_a_token_names_the_version() -> None:
    assert base({"_changed": "dose,base_token", "base_token": "7:k2m"}) == 7
    assert base({"_changed": "dose,base_token", "base_token": "0:k2m"}) == 0


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "7",
        "7:",
        ":x",
        "00:x",
        "-1:x",
        "07:x",
        "7.5:x",
        "\u0667:x",
        "99999999999:x",
        "4294967296:x",
        7,
        ["7:x"],
    ],
)
def test_what_is_no_token_names_nothing(token: Any) -> None:
    assert base({"_changed": "base_token", "base_token": token}) is None


def test_a_token_that_was_left_over_names_nothing() -> None:
    assert base({"_changed": "dose", "base_token": "7:k2m"}) is None


# -- decisions and migrations -------------------------------------------------------------------------------------


def test_a_resolution_is_read() -> None:
    said = {"head_version": 2, "choices": {"dose": {"take": "mine"}}, "reason": "asked"}
    assert resolution(said) == (2, {"dose": {"take": "mine"}}, "asked")


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        (5, {"head_version", "reason", "choices"}),
        ({"head_version": 0, "choices": {}, "reason": " "}, {"head_version", "reason"}),
        ({"head_version": 1, "choices": [], "reason": "x"}, {"choices"}),
        ({"head_version": 1, "choices": {}, "reason": "x", "by": "me"}, {"by"}),
    ],
)
def test_what_is_no_resolution_is_told_by_field(said: Any, fields: set[str]) -> None:
    with pytest.raises(InvalidFields) as told:
        resolution(said)
    assert {error.field for error in told.value.errors} == {f"resolution_json.{field}" for field in fields}


def test_a_migration_brings_tables_anew() -> None:
    assert migrated(None) == migrated("null") == frozenset()
    assert migrated('{"from":1,"tables":["patients"],"columns":[]}') == {Stream.PATIENTS}
    both = '{"from":1,"tables":["patients"],"columns":[{"table":"records","columns":["dose","values_json"]}]}'
    assert migrated(both) == {Stream.PATIENTS, Stream.RECORDS}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "[" * 100_000,
        '{"tables":[]}',
        '{"from":0}',
        '{"from":true}',
        '{"from":1.5}',
        '{"from":1,"to":2}',
        '{"from":1,"tables":"patients"}',
        '{"from":1,"tables":["versions"]}',
        '{"from":1,"tables":[["patients"]]}',
        '{"from":1,"columns":["dose"]}',
        '{"from":1,"columns":[{"table":"patients","columns":["dose"]}]}',
        '{"from":1,"columns":[{"table":"patients","columns":[{}]}]}',
        '{"from":1,"columns":[{"table":{},"columns":[]}]}',
    ],
)
def test_what_is_not_in_the_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidFields) as told:
        migrated(text)
    assert told.value.field == "migration"
