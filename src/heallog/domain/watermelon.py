"""What WatermelonDB apps see: tables of flat rows, made from the same declarations as everything else.

One field is one column, because a column is what the client merges and marks as changed: a number, a boolean or a
string stands as itself; what has parts (lists, groups, measured values) is JSON text in a string column whose name
ends in `_json`. An exact decimal would be a string. Times that HealLog sets are numbers of milliseconds, as the
client's `@date` reads them; times that people enter may be as vague as a year and stay strings.

Every column is optional but the two that the client wants otherwise: it turns what it does not expect in a column that
is not into `0`, `false` or an empty string without a word.
"""

import json
import re
from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from heallog.domain import patients, records
from heallog.domain.canon import canonical, decode, dense, reread
from heallog.domain.errors import FieldError, InvalidFields, MalformedJson
from heallog.domain.fields import (
    MAX_SAFE_INTEGER,
    Boolean,
    Choice,
    Day,
    Errors,
    Field,
    Fields,
    Moment,
    Number,
    Pattern,
    Shape,
    Text,
    check_fields,
)
from heallog.domain.policies import Policy
from heallog.domain.sync import Item, Stream

VERSION: Final = 1
"""Of the schema. It rises by one with every release that adds a table or a column; what was there once stays, under its
name and with its type. `Table.since` and `Column.since` say with which version something came."""

BASE_TOKEN: Final = "base_token"  # noqa: S105 - it is no secret
DELETED_AT: Final = "deleted_at"

_DEMANDED: Final = ("created_at", "updated_at")
"""The client takes these only as numbers that are not optional."""

_INDEXED: Final = frozenset({"patient_id", "encounter_id", "kind", "status", "thing_id", "state"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `field` is what it is called in the API; `text`: it holds JSON as text; `time`: it holds milliseconds.

    What is not `settable` is HealLog's own: an edit of it means nothing and is left aside.
    """

    name: str
    type: str
    field: str
    text: bool = False
    time: bool = False
    settable: bool = True
    since: int = 1

    def schema(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "isOptional": self.name not in _DEMANDED,
            "isIndexed": self.name in _INDEXED,
        }


@dataclass(frozen=True, slots=True)
class Table:
    """One stream of the feed, as rows."""

    stream: Stream
    columns: tuple[Column, ...]
    since: int = 1

    @property
    def named(self) -> Mapping[str, Column]:
        return _NAMED[self.stream]

    def schema(self) -> dict[str, Any]:
        return {"name": str(self.stream), "columns": [column.schema() for column in self.columns]}


def _type(shape: Shape) -> str | None:
    """The column's type, or None for what only JSON can hold."""
    if isinstance(shape, Boolean):
        return "boolean"
    if isinstance(shape, Number):
        return "number"
    return "string" if isinstance(shape, (Text, Pattern, Choice, Day, Moment)) else None


def _of(fields: Fields) -> tuple[Column, ...]:
    """Columns of what people enter, and of what follows from it."""
    columns = []
    for name, known in fields.items():
        kind = _type(known.shape)
        derived = known.policy is not None and known.policy.policy is Policy.DERIVED
        columns.append(
            Column(name if kind else f"{name}_json", kind or "string", name, text=kind is None, settable=not derived)
        )
    return tuple(columns)


def _own(name: str, kind: str = "string", *, text: bool = False) -> Column:
    """A column of HealLog's own."""
    time = name.endswith("_at")
    return Column(f"{name}_json" if text else name, "number" if time else kind, name, text, time, settable=False)


_VERSIONED: Final = (
    _own("version", "number"),
    _own(BASE_TOKEN),
    _own("conflict_id"),
    _own("created_at"),
    _own("updated_at"),
    _own("updated_by"),
    _own(DELETED_AT),
)
RESOLUTION: Final = "resolution_json"

TABLES: Final[Mapping[Stream, Table]] = {
    table.stream: table
    for table in (
        Table(Stream.PATIENTS, (*_VERSIONED, *_of(patients.FIELDS))),
        Table(Stream.RECORDS, (*_VERSIONED, Column("patient_id", "string", "patient_id"), *_of(records.ANY))),
        Table(
            Stream.CONFLICTS,
            (
                # The client's models have a property `collection` of their own.
                replace(_own("collection"), name="thing_table"),
                *(_own(name) for name in ("thing_id", "patient_id", "kind", "severity", "state")),
                _own("base_version", "number"),
                _own("head_version", "number"),
                _own("branch_versions", text=True),
                _own("fields", text=True),
                _own("opened_at"),
                _own("updated_at"),
                Column(RESOLUTION, "string", "resolution", text=True),
            ),
        ),
    )
}
_FIELDS: Final = {stream: {column.field: column for column in table.columns} for stream, table in TABLES.items()}
_NAMED: Final = {stream: {column.name: column for column in table.columns} for stream, table in TABLES.items()}


def schema() -> dict[str, Any]:
    """Ready for the client's `appSchema`."""
    return {"version": VERSION, "tables": [table.schema() for table in TABLES.values()]}


_TOKEN: Final = re.compile(r"(0|[1-9][0-9]{0,9}):[^\n]{1,100}")


# -- rows ---------------------------------------------------------------------------------------------------------

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def row_of(item: Item) -> bytes:
    """An item of the feed as its row, ready to be sent.

    Every column is there, empty ones as null: the client keeps the value of a column that is left out. A tombstone
    empties what the thing held, and has no time of its making, which the client takes for 0. What has no column here is
    left out: content outlives the fields that it was written with.
    """
    data: dict[str, Any] = reread(item.wire)["data"]
    fields = _FIELDS[item.stream]
    made: dict[str, Any] = {"id": data.pop("id")}
    for name, value in data.items():
        column = fields.get(name)
        if column is not None and value is not None:
            if column.text:
                value = canonical(value).decode()  # noqa: PLW2901
            elif column.time:
                value = _milliseconds(value)  # noqa: PLW2901
            made[column.name] = value
    if DELETED_AT in made:
        made |= {"created_at": 0, "updated_at": made[DELETED_AT]}
    return dense(made)[:-1] + _empty(item.stream, frozenset(made)) + b"}"


@lru_cache(maxsize=1_024)
def _milliseconds(moment: str) -> int:
    """Since 1970. What changes together has one time."""
    return (datetime.fromisoformat(moment) - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=4_096)
def _empty(stream: Stream, filled: frozenset[str]) -> bytes:
    """The rest of a row. There are only so many sets of columns that are filled together."""
    names = (column.name for column in TABLES[stream].columns if column.name not in filled)
    return "".join(f',"{name}":null' for name in names).encode()


@dataclass(frozen=True, slots=True)
class Edit:
    """What is the client's of a row: fields as the API has them, and what could not be read of them."""

    fields: Mapping[str, Any]
    wrong: tuple[FieldError, ...] = ()


def changed(raw: Mapping[str, Any]) -> frozenset[str]:
    """The columns that a client changed in a row: the rest of the row is what it was sent."""
    names = raw.get("_changed")
    return frozenset(names.split(",")) - {""} if isinstance(names, str) else frozenset()


def edit(table: Table, raw: Mapping[str, Any], names: Names[str] | None = None) -> Edit:
    """The fields of a row that a client changed in the columns `names`; without names, all that it filled.

    A column that is no column here stays what it is: whoever checks the fields refuses it by its name.
    """
    wrong: Errors = []
    fields: dict[str, Any] = {}
    columns = _NAMED[table.stream]
    chosen = (name for name, value in raw.items() if value is not None) if names is None else sorted(names)
    for name in chosen:
        column = columns.get(name)
        if name in ("id", "_status", "_changed") or (column is not None and not column.settable):
            continue
        value = raw.get(name)
        if column is None:
            fields[name] = value
        elif column.text and value is not None:
            fields[column.field] = _read(name, value, wrong)
        else:
            fields[column.field] = value
    return Edit(fields, tuple(wrong))


def _read(name: str, text: Any, wrong: Errors) -> Any:
    if not isinstance(text, str):
        wrong.append(FieldError(name, "type", "must be JSON as text"))
        return None
    try:
        return decode(text)
    except MalformedJson as error:
        wrong.append(FieldError(name, "json", error.message))
        return None


def base(raw: Mapping[str, Any]) -> int | None:
    """The version that an edit started from, where the client says so: `<version>:<nonce>` in a column that it changed.

    The nonce makes each token another one, so that it always counts as a change, and no pull overwrites it. 0 is of
    what was made there, and had not been pulled when it was edited.
    """
    token = raw.get(BASE_TOKEN)
    if BASE_TOKEN not in changed(raw) or not isinstance(token, str):
        return None
    found = _TOKEN.fullmatch(token)
    return int(found[1]) if found and int(found[1]) < 2**31 else None


# -- resolutions --------------------------------------------------------------------------------------------------

_RESOLUTION: Final[Fields] = {
    "head_version": Field(Number(least=1, most=2**31 - 1, whole=True), required=True),
    "reason": Field(Text(2_000, lines=True, shortest=1), required=True),
}


def resolution(said: Any) -> tuple[int, Mapping[str, Any], str]:
    """What a person decided, as it was written into `resolution_json`: about which head, the choices, and why.

    Raises `InvalidFields`.
    """
    body = said if isinstance(said, dict) else {}
    wrong: Errors = []
    checked = check_fields(_RESOLUTION, {name: value for name, value in body.items() if name != "choices"}, wrong)
    choices = body.get("choices")
    if not isinstance(choices, dict):
        wrong.append(FieldError("choices", "type", "must be an object"))
    if wrong:
        raise InvalidFields([replace(error, field=f"resolution_json.{error.field}") for error in wrong])
    return checked["head_version"], choices or {}, checked["reason"]


# -- migrations ---------------------------------------------------------------------------------------------------


def migrated(text: str | None) -> frozenset[Stream]:
    """Which tables come anew because a client has only now learnt of them, or of columns of them.

    Raises `InvalidFields` for anything that is not in the schema.
    """
    if text is None or text == "null":
        return frozenset()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise _migration("must be JSON") from None
    if said is None:
        return frozenset()
    if not isinstance(said, dict) or not said.keys() <= {"from", "tables", "columns"}:
        raise _migration("must be an object with from, tables and columns")
    start, tables, columns = said.get("from"), said.get("tables", []), said.get("columns", [])
    if isinstance(start, bool) or not isinstance(start, int) or not 1 <= start <= MAX_SAFE_INTEGER:
        raise _migration("from must be a version of the schema")
    if not isinstance(tables, list) or not isinstance(columns, list):
        raise _migration("tables and columns must be lists")
    anew = {_table(name) for name in tables}
    for item in columns:
        if not isinstance(item, dict) or not isinstance(item.get("columns"), list):
            raise _migration("columns must be objects with table and columns")
        stream = _table(item.get("table"))
        if not all(isinstance(name, str) and name in _NAMED[stream] for name in item["columns"]):
            raise _migration("names a column that is none here")
        anew.add(stream)
    return frozenset(anew)


def _table(name: Any) -> Stream:
    if not isinstance(name, str) or name not in tuple(Stream):
        raise _migration("names a table that is none here")
    return Stream(name)


def _migration(message: str) -> InvalidFields:
    return InvalidFields([FieldError("migration", "migration", message)])
