"""What `@nozbe/watermelondb` 0.28 does on a device, as far as a server can tell: its rows, and `synchronize()`.

`tests/clients/cases.json` holds it to the real client: both run these cases and must end with the same rows, having
pushed the same bodies.
"""

import copy
import itertools
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Changes = dict[str, dict[str, list[Any]]]
Rejected = Mapping[str, Sequence[str]]


class Refused(Exception):
    """The client throws, and the sync is over. Nothing is written of what it was about to write."""


def equal(one: Any, other: Any) -> bool:
    """`===`, where Python would take True for 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def equal_rows(one: Row, other: Row) -> bool:
    return one.keys() == other.keys() and all(equal(value, other[name]) for name, value in one.items())


def sanitised(value: Any, column: Mapping[str, Any]) -> Any:
    """The value as the client stores it in a column: what does not fit is null, or empty where null does not fit."""
    kind, empty = column["type"], column.get("isOptional", False)
    if kind == "string":
        return value if isinstance(value, str) else None if empty else ""
    if kind == "boolean":
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
        return None if empty else False
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return (value or 0) if number else None if empty else 0


@dataclass
class Client:
    """The local database of an app, with the tables of `schema` (as `appSchema` takes them)."""

    schema: Sequence[Mapping[str, Any]]
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    last_pulled_at: int | None = None
    resets: int = 0
    nonces: Iterable[Any] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.columns = {table["name"]: {one["name"]: one for one in table["columns"]} for table in self.schema}
        self.rows = self.rows or {name: {} for name in self.columns}
        self._nonces = iter(self.nonces)

    # -- what an app does -----------------------------------------------------------------------------------------

    def create(self, table: str, id: str, values: Mapping[str, Any]) -> None:
        row = self._raw(table, {"id": id, "_status": "created", "_changed": ""})
        row |= {name: sanitised(value, self.columns[table][name]) for name, value in values.items()}
        self.rows[table][id] = row

    def edit(self, table: str, id: str, values: Mapping[str, Any], *, token: bool) -> None:
        """`record.update(…)`; with `token` the lines of `base.js` before it."""
        row = self.rows[table][id]
        if row["_status"] == "deleted":
            raise Refused("a deleted record is not changed")
        if token and row["_status"] != "created" and "base_token" not in row["_changed"].split(","):
            base = row["base_token"].split(":")[0] if row["base_token"] else row["version"] or 0
            values = {"base_token": f"{base}:{next(self._nonces)}", **values}
        for name, value in values.items():
            fitting = sanitised(value, self.columns[table][name])
            if not equal(row[name], fitting):
                row[name] = fitting
                names = [*filter(None, row["_changed"].split(",")), name]
                row["_changed"] = ",".join(dict.fromkeys(names))
                if row["_status"] != "created":
                    row["_status"] = "updated"

    def delete(self, table: str, id: str) -> None:
        """`markAsDeleted()`"""
        self.rows[table][id]["_status"] = "deleted"

    def reset(self) -> None:
        """`unsafeResetDatabase()`"""
        self.rows = {name: {} for name in self.columns}
        self.last_pulled_at = None
        self.resets += 1

    def kept(self) -> tuple[dict[str, dict[str, Row]], int | None]:
        """What a backup of the device holds."""
        return copy.deepcopy(self.rows), self.last_pulled_at

    def restored(self, rows: dict[str, dict[str, Row]], last_pulled_at: int | None) -> None:
        self.reset()
        self.rows, self.last_pulled_at = copy.deepcopy(rows), last_pulled_at

    def visible(self, table: str) -> list[Row]:
        """What a query finds."""
        return [row for row in self.rows[table].values() if row["_status"] != "deleted"]

    @property
    def dirty(self) -> bool:
        """`hasUnsyncedChanges()`"""
        return any(row["_status"] != "synced" for rows in self.rows.values() for row in rows.values())

    # -- synchronize() --------------------------------------------------------------------------------------------

    async def synchronize(
        self,
        pull: Callable[[int | None], Awaitable[Mapping[str, Any]]],
        push: Callable[[Changes, int], Awaitable[Rejected | None]],
    ) -> None:
        """With `sendCreatedAsUpdated`. What `pull` and `push` raise ends it, as any error does."""
        resets, known = self.resets, self.last_pulled_at
        pulled = await pull(known)
        self._same_database(resets)
        if self.last_pulled_at != known:
            raise Refused("another synchronize() ran meanwhile")
        timestamp = pulled["timestamp"]
        if isinstance(timestamp, bool) or not isinstance(timestamp, (int, float)) or timestamp <= 0:
            raise Refused("no timestamp")
        self.apply(pulled["changes"])
        self.last_pulled_at = int(timestamp)
        changes = self.changes()
        self._same_database(resets)
        if any(rows for lists in changes.values() for rows in lists.values()):
            rejected = await push(copy.deepcopy(changes), self.last_pulled_at)
            self._same_database(resets)
            self.mark(changes, rejected or {})

    def _same_database(self, resets: int) -> None:
        if self.resets != resets:
            raise Refused("the database was reset meanwhile")

    def apply(self, changes: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """`applyRemoteChanges()`: all or, where a row cannot be taken, nothing."""
        written: dict[tuple[str, str], Row | None] = {}
        for table in changes.keys() & self.columns.keys():
            for place in ("created", "updated"):
                for remote in changes[table][place]:
                    if not isinstance(remote, dict) or "id" not in remote or remote.keys() & {"_status", "_changed"}:
                        raise Refused("no row of a server")
                    if (table, remote["id"]) in written:
                        raise Refused("one row twice")
                    written[table, remote["id"]] = self._applied(table, remote, created=place == "created")
            written |= {(table, gone): None for gone in changes[table]["deleted"]}
        for (table, thing_id), row in written.items():
            if row is None:
                self.rows[table].pop(thing_id, None)
            else:
                self.rows[table][thing_id] = row

    def _applied(self, table: str, remote: Mapping[str, Any], *, created: bool) -> Row:
        """A row from the server; a deletion that was not pushed yet stays one."""
        local = self.rows[table].get(remote["id"])
        if local is None or (local["_status"] == "deleted" and created):
            return self._raw(table, {**remote, "_status": "synced", "_changed": ""})
        return local if local["_status"] == "deleted" else self._raw(table, self._merged(local, remote))

    def _merged(self, local: Row, remote: Mapping[str, Any]) -> Row:
        """`resolveConflict()`: the server's row, with the columns that were changed here."""
        ours = {name: local[name] for name in local["_changed"].split(",") if name in local}
        return {**local, **remote, **{name: local[name] for name in ("id", "_status", "_changed")}, **ours}

    def _raw(self, table: str, dirty: Mapping[str, Any]) -> Row:
        """`sanitizedRaw()`: every column of the table, and none else."""
        columns = self.columns[table].items()
        own = {name: dirty[name] for name in ("id", "_status", "_changed")}
        return own | {name: sanitised(dirty.get(name), column) for name, column in columns}

    def changes(self) -> Changes:
        """`fetchLocalChanges()`"""

        def of(table: str, status: str) -> list[Row]:
            return [dict(row) for row in self.rows[table].values() if row["_status"] == status]

        return {
            table: {
                "created": of(table, "created"),
                "updated": of(table, "updated"),
                "deleted": [row["id"] for row in of(table, "deleted")],
            }
            for table in self.columns
        }

    def mark(self, pushed: Changes, rejected: Rejected) -> None:
        """`markLocalChangesAsSynced()`: what is still as it was pushed."""
        for table, lists in pushed.items():
            left = set(rejected.get(table, ()))
            for raw in (*lists["created"], *lists["updated"]):
                row = self.rows[table].get(raw["id"])
                if row is not None and raw["id"] not in left and equal_rows(row, raw):
                    row |= {"_status": "synced", "_changed": ""}
            for gone in set(lists["deleted"]) - left:
                self.rows[table].pop(gone, None)
