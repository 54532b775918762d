"""Devices that sync, as the tests tell of them: one that speaks the native protocol, and a model of WatermelonDB.

The model does what the client does (`synchronize`, `applyRemote`, `markAsSynced` of 0.28), no more: it pulls, lets its
changed columns win, pushes with the fresh timestamp. `tests/clients` runs the real one.
"""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from heallog.domain.watermelon import TABLES, VERSION

from .clinic import Clinic

NGOZI = {"op": "create", "collection": "patients", "id": "ngozi", "fields": {"family_name": "Obi"}}
METFORMIN = {
    "op": "create",
    "collection": "records",
    "id": "metformin",
    "patient_id": "ngozi",
    "fields": {"kind": "medication", "title": "Metformin", "dose": 10, "dose_unit": "mg"},
}


def update(collection: str, id: str, base: int, **fields: Any) -> dict[str, Any]:
    return {"op": "update", "collection": collection, "id": id, "base_version": base, "fields": fields}


def delete(collection: str, id: str, base: int) -> dict[str, Any]:
    return {"op": "delete", "collection": collection, "id": id, "base_version": base}


class Device:
    """An installation of the app: what it pulled, and what it pushes."""

    def __init__(self, clinic: Clinic, token: str) -> None:
        self.clinic, self.token = clinic, token
        self.cursor: str | None = None
        self.has: dict[tuple[str, str], dict[str, Any]] = {}
        self.pushes = 0

    async def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.clinic.call(method, path, body, token=self.token)

    async def page(self, limit: int = 500) -> dict[str, Any]:
        cursor = f"&cursor={self.cursor}" if self.cursor else ""
        answer = await self.call("GET", f"/v1/sync/pull?limit={limit}{cursor}")
        assert answer.status_code == 200, answer.text
        pulled = answer.json()
        self.cursor = pulled["cursor"]
        for change in pulled["changes"]:
            self.has[change["collection"], change["id"]] = change
        return pulled

    async def pull(self, limit: int = 500) -> list[tuple[str, str]]:
        """Everything that is new; what came, in its order."""
        came: list[tuple[str, str]] = []
        while True:
            pulled = await self.page(limit)
            came += [(change["collection"], change["id"]) for change in pulled["changes"]]
            if not pulled["has_more"]:
                assert len(came) == len(set(came))
                return came

    async def sends(self, *contributions: list[Any], push_id: str | None = None, **more: Any) -> httpx.Response:
        self.pushes += 1
        push_id = push_id or f"push-{self.pushes}"
        groups = [{"operations": operations} for operations in contributions]
        return await self.call("POST", "/v1/sync/push", {"push_id": push_id, "contributions": groups, **more})

    async def push(self, *operations: Any, push_id: str | None = None) -> list[dict[str, Any]]:
        """Each operation by itself; what became of each."""
        answer = await self.sends(*([operation] for operation in operations), push_id=push_id)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def data(self, collection: str, id: str) -> dict[str, Any]:
        return self.has[collection, id]["data"]


def statuses(results: list[dict[str, Any]]) -> list[str]:
    return [one["status"] for one in results]


# -- WatermelonDB -------------------------------------------------------------------------------------------------

ADDRESS = "/v1/sync/watermelon"
Row = dict[str, Any]


class App:
    """An installation with the client's local database; `tokens`: whether it sets base tokens."""

    def __init__(self, clinic: Clinic, token: str, *, tokens: bool = True) -> None:
        self.clinic, self.token, self.tokens = clinic, token, tokens
        self.tables: dict[str, dict[str, Row]] = {str(stream): {} for stream in TABLES}
        self.last_pulled_at = 0
        self.nonce = 0
        self.entered: set[str] = set()
        """Every value that was pushed, as JSON."""

    async def call(self, method: str, query: str, body: Any = None, *, raw: bytes | None = None) -> httpx.Response:
        return await self.clinic.call(method, f"{ADDRESS}{query}", body, raw=raw, token=self.token)

    # -- what a person does

    def create(self, table: str, id: str, **columns: Any) -> None:
        empty = {column.name: None for column in TABLES[table].columns}  # type: ignore[index]
        self.tables[table][id] = {"id": id, "_status": "created", "_changed": "", **empty, **columns}

    def edit(self, table: str, id: str, **columns: Any) -> None:
        row = self.tables[table][id]
        names = set(filter(None, row["_changed"].split(",")))
        if self.tokens and table != "conflicts" and row["_status"] != "created" and "base_token" not in names:
            self.nonce += 1
            # What was pushed and not pulled since has its token still.
            version = (row["base_token"] or str(row["version"] or 0)).split(":")[0]
            columns = {**columns, "base_token": f"{version}:{self.nonce}"}
        names |= {name for name, value in columns.items() if row[name] != value}
        status = row["_status"] if row["_status"] == "created" else "updated"
        row |= columns | {"_changed": ",".join(sorted(names)), "_status": status}

    def delete(self, table: str, id: str) -> None:
        self.tables[table][id]["_status"] = "deleted"

    # -- synchronize()

    async def pull(self) -> dict[str, Any]:
        answer = await self.call("GET", f"?last_pulled_at={self.last_pulled_at}&schema_version={VERSION}")
        assert answer.status_code == 200, answer.text
        pulled: dict[str, Any] = answer.json()
        assert pulled["timestamp"] >= 1
        for table, lists in pulled["changes"].items():
            assert lists["created"] == lists["deleted"] == []
            ids = [row["id"] for row in lists["updated"]]
            assert len(ids) == len(set(ids))
            for row in lists["updated"]:
                self._apply(table, row)
        self.last_pulled_at = pulled["timestamp"]
        return pulled

    def _apply(self, table: str, remote: Row) -> None:
        assert not remote.keys() & {"_status", "_changed"}
        local = self.tables[table].get(remote["id"])
        if local is None:
            self.tables[table][remote["id"]] = {**remote, "_status": "synced", "_changed": ""}
        elif local["_status"] != "deleted":
            kept = {name: local[name] for name in local["_changed"].split(",") if name}
            local |= remote | kept

    def changes(self) -> dict[str, dict[str, list[Any]]]:
        def of(table: str, status: str) -> list[Row]:
            return [dict(row) for row in self.tables[table].values() if row["_status"] == status]

        return {
            table: {
                "created": of(table, "created"),
                "updated": of(table, "updated"),
                "deleted": [row["id"] for row in of(table, "deleted")],
            }
            for table in self.tables
        }

    async def push(self, changes: Mapping[str, Any] | None = None) -> httpx.Response:
        for row in self._dirty("updated"):
            names = set(row["_changed"].split(",")) & {"dose", "title", "phone", "family_name"}
            self.entered |= {json.dumps(row[name]) for name in names if row[name] is not None}
        return await self.call("POST", f"?last_pulled_at={self.last_pulled_at}", changes or self.changes())

    def _dirty(self, status: str) -> list[Row]:
        return [row for rows in self.tables.values() for row in rows.values() if row["_status"] == status]

    async def sync(self) -> dict[str, str]:
        """Pull and push. What became of each row that was pushed."""
        await self.pull()
        changes = self.changes()
        if not any(rows for lists in changes.values() for rows in lists.values()):
            return {}
        answer = await self.push(changes)
        assert answer.status_code == 200, answer.text
        assert answer.json()["experimentalRejectedIds"] == {}
        for table, lists in changes.items():
            for row in (*lists["created"], *lists["updated"]):
                if self.tables[table][row["id"]] == row:
                    self.tables[table][row["id"]] |= {"_status": "synced", "_changed": ""}
            for thing_id in lists["deleted"]:
                del self.tables[table][thing_id]
        return {result["id"]: result["status"] for result in answer.json()["results"]}

    def row(self, table: str, id: str) -> Row:
        return self.tables[table][id]

    def open_conflicts(self) -> list[Row]:
        return [row for row in self.tables["conflicts"].values() if row["state"] == "open"]

    def resolve(self, conflict: Row, reason: str = "asked the pharmacy", **choices: Any) -> None:
        said = {"head_version": conflict["head_version"], "choices": choices, "reason": reason}
        self.edit("conflicts", conflict["id"], resolution_json=json.dumps(said))


async def quiet(*apps: App) -> None:
    """Until nothing is left to say; then all of them hold the same."""
    for app in apps:
        await app.sync()
    for app in apps:
        assert await app.sync() == {}
        assert app.tables == apps[0].tables
