"""One app, by whatever door: what a person does in it without a network, and what it then says to the server.

Fields are named as the API names them. A story that is told with it holds for every door.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import httpx
from tests.http import devices
from tests.http.clinic import Clinic

from heallog.domain.watermelon import TABLES

Key = tuple[str, str]


class App(Protocol):
    """An installation that keeps what it pulled, and what it has still to push."""

    clinic: Clinic
    token: str

    def __init__(self, clinic: Clinic, token: str) -> None: ...

    # -- what a person does

    def create(self, collection: str, id: str, patient_id: str | None = None, **fields: Any) -> None: ...
    def edit(self, collection: str, id: str, **fields: Any) -> None: ...
    def delete(self, collection: str, id: str) -> None: ...
    async def decide(self, conflict: Mapping[str, Any], **choices: Any) -> str:
        """Say so about a conflict as it was pulled last. `updated`, or how it was refused."""

    # -- what the app does

    async def pull(self) -> None: ...
    async def push(self) -> httpx.Response:
        """What is to be said; the app does not learn what became of it. Again, it says the very same."""

    async def sync(self) -> dict[str, str]:
        """Pull and push. What became of each thing that was pushed."""

    # -- what it shows

    def show(self, collection: str, id: str) -> dict[str, Any] | None:
        """A thing as it was pulled last; None where it is deleted or was never there."""

    def conflicts(self) -> list[dict[str, Any]]:
        """Those that are open."""


Pair = tuple[App, App]


def disputes(app: App) -> dict[str, tuple[Any, Any, Any]]:
    """What is open, by field: base, theirs, mine."""
    return {
        field["field"]: (field["base"], field["theirs"], field["mine"])
        for conflict in app.conflicts()
        for field in conflict["fields"]
    }


def shows(app: App, collection: str, id: str, **fields: Any) -> bool:
    shown = app.show(collection, id)
    return shown is not None and {name: shown.get(name) for name in fields} == fields


EFFECT = (
    " UNION ALL ".join(
        f"SELECT '{what}' AS what, count(*) AS number FROM {table} WHERE practice_id = $1 {which}"
        for what, table, which in (
            ("versions", "versions", ""),
            ("conflicts", "conflicts", ""),
            ("quarantined", "quarantine", ""),
            ("entries", "audit_entries", "AND (version IS NOT NULL OR action = 'sync.push')"),
            ("told", "change_feed", ""),
            ("contributions", "contributions", ""),
            ("pushes", "pushes", ""),
        )
    )
    + " UNION ALL SELECT 'head', seq FROM sync_heads WHERE practice_id = $1"
)


async def effect(clinic: Clinic) -> dict[str, int]:
    """All that pushes leave behind them, counted."""
    rows = await clinic.container.database().pool.fetch(EFFECT, clinic.practice_id)
    return {row["what"]: row["number"] for row in rows}


async def settled(*apps: App) -> None:
    """Everybody syncs until nobody has anything left to say; then all show the same, and what the server does."""
    for app in apps:
        await app.sync()
    for app in apps:
        assert await app.sync() == {}
        for collection, thing_id in (("patients", "ngozi"), ("records", "metformin")):
            shown = app.show(collection, thing_id)
            assert shown == apps[0].show(collection, thing_id)
            there = await app.clinic.call("GET", f"/v1/{collection}/{thing_id}")
            assert there.status_code == (404 if shown is None else 200)
            if shown is not None:
                assert shown.items() <= there.json().items()
        assert app.conflicts() == apps[0].conflicts()


class Native(devices.Device):
    """Keeps what a person did by thing, each with the version that they had before them."""

    def __init__(self, clinic: Clinic, token: str) -> None:
        super().__init__(clinic, token)
        self._waiting: dict[Key, dict[str, Any]] = {}
        self._said: list[dict[str, Any]] = []
        self._number = 0
        self.names = "said"
        """What its pushes are named with: another process of the same device names its own."""

    def create(self, collection: str, id: str, patient_id: str | None = None, **fields: Any) -> None:
        operation = {"op": "create", "collection": collection, "id": id, "fields": fields}
        self._waiting[collection, id] = operation | ({"patient_id": patient_id} if patient_id else {})

    def edit(self, collection: str, id: str, **fields: Any) -> None:
        waiting = self._waiting.get((collection, id)) or devices.update(collection, id, self._version(collection, id))
        self._waiting[collection, id] = {**waiting, "fields": {**waiting["fields"], **fields}}

    def delete(self, collection: str, id: str) -> None:
        self._waiting[collection, id] = devices.delete(collection, id, self._version(collection, id))

    def _version(self, collection: str, id: str) -> int:
        return int(self.has[collection, id]["version"])

    async def decide(self, conflict: Mapping[str, Any], **choices: Any) -> str:
        body = {"head_version": conflict["head_version"], "choices": choices, "reason": "asked the pharmacy"}
        answer = await self.call("POST", f"/v1/conflicts/{conflict['id']}/resolve", body)
        return "updated" if answer.is_success else str(answer.json()["error"]["code"])

    async def pull(self) -> None:  # type: ignore[override]
        await super().pull()

    async def push(self) -> httpx.Response:  # type: ignore[override]
        said = list(self._waiting.values())
        if said != self._said:
            self._said, self._number = said, self._number + 1
        return await self.sends(*([operation] for operation in said), push_id=f"{self.names}-{self._number}")

    async def sync(self) -> dict[str, str]:
        await self.pull()
        if not self._waiting:
            return {}
        answer = await self.push()
        assert answer.status_code == 200, answer.text
        self._waiting = {}
        return {result["id"]: result["status"] for result in answer.json()["results"]}

    def show(self, collection: str, id: str) -> dict[str, Any] | None:
        change = self.has.get((collection, id))
        return None if change is None or change["op"] == "delete" else change["data"]

    def conflicts(self) -> list[dict[str, Any]]:
        there = (change["data"] for (collection, _), change in sorted(self.has.items()) if collection == "conflicts")
        return [conflict for conflict in there if conflict["state"] == "open"]


class Watermelon(devices.App):
    """WatermelonDB's client, with fields for columns."""

    tokens = True

    def __init__(self, clinic: Clinic, token: str) -> None:
        super().__init__(clinic, token, tokens=type(self).tokens)

    def create(self, collection: str, id: str, patient_id: str | None = None, **fields: Any) -> None:  # type: ignore[override]
        owner = {"patient_id": patient_id} if patient_id else {}
        super().create(collection, id, **_columns(collection, fields), **owner)

    def edit(self, collection: str, id: str, **fields: Any) -> None:
        super().edit(collection, id, **_columns(collection, fields))

    def delete(self, collection: str, id: str) -> None:
        """As the page tells: so that it says what it is a deletion of."""
        if self.row(collection, id)["_status"] == "created" or not self.tokens:
            super().delete(collection, id)
        else:
            super().edit(collection, id, deleted_at=1)

    async def decide(self, conflict: Mapping[str, Any], **choices: Any) -> str:
        self.resolve(self.row("conflicts", conflict["id"]), **choices)
        return (await self.sync())[conflict["id"]]

    def show(self, collection: str, id: str) -> dict[str, Any] | None:
        row = self.tables[collection].get(id)
        if row is None or row["deleted_at"] is not None:
            return None
        shown = {
            column.field: json.loads(row[column.name]) if column.text else row[column.name]
            for column in TABLES[collection].columns  # type: ignore[index]
            if row[column.name] is not None and not column.time and column.name != "base_token"
        }
        return {"id": id, **shown}

    def conflicts(self) -> list[dict[str, Any]]:
        rows = sorted(self.open_conflicts(), key=lambda row: row["id"])
        return [{**row, "fields": json.loads(row["fields_json"])} for row in rows]


class Untouched(Watermelon):
    """A client that sets no base tokens."""

    tokens = False


def _columns(collection: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    texts = {column.field for column in TABLES[collection].columns if column.text}  # type: ignore[index]
    return {
        f"{name}_json" if name in texts else name: None
        if value is None
        else json.dumps(value)
        if name in texts
        else value
        for name, value in fields.items()
    }


DOORS: dict[str, type[App]] = {"native": Native, "watermelon": Watermelon, "untouched": Untouched}  # type: ignore[dict-item]
