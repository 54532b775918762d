"""The simulation's model of the WatermelonDB client against what the real one did: `tests/clients/cases.json`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from .client import Client, Refused

KNOWN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "clients" / "cases.json").read_text())


class _Lost(Exception):
    pass


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value["$"]) if isinstance(value, dict) else value for name, value in row.items()}


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    token = row.get("base_token")
    return {**row, "base_token": re.sub(":.*", ":…", token)} if isinstance(token, str) else dict(row)


def _sorted(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return sorted(map(_told, rows), key=lambda row: str(row["id"]))


class Play:
    """The steps of a case, as `tests/clients/cases.js` takes them."""

    def __init__(self) -> None:
        self.client = Client(KNOWN["schema"]["tables"])
        self.pushed: list[dict[str, Any]] = []
        self.refused = 0

    async def steps(self, steps: Sequence[Mapping[str, Any]]) -> None:
        for step in steps:
            match step:
                case {"do": "create", "table": table, "id": id, "values": values}:
                    self.client.create(table, id, _values(values))
                case {"do": "edit", "table": table, "id": id, "values": values, "token": token}:
                    self.client.edit(table, id, _values(values), token=token)
                case {"do": "delete", "table": table, "id": id}:
                    self.client.delete(table, id)
                case {"do": "sync", "pull": pull}:
                    await self.sync(pull, step.get("push", {}))

    async def sync(self, said: Mapping[str, Any], heard: Mapping[str, Any]) -> None:
        async def pull(since: int | None) -> dict[str, Any]:
            await self.steps(said.get("meanwhile", ()))
            if said.get("lost"):
                raise _Lost
            self.pushed.append({"pulled_since": since})
            changes = {
                table: {
                    "created": [_values(row) for row in lists.get("created", ())],
                    "updated": [_values(row) for row in lists.get("updated", ())],
                    "deleted": lists.get("deleted", []),
                }
                for table, lists in said["changes"].items()
            }
            return {"changes": changes, "timestamp": said["timestamp"]}

        async def push(changes: dict[str, dict[str, list[Any]]], at: int) -> dict[str, list[str]]:
            sent = {
                table: {
                    "created": _sorted(lists["created"]),
                    "updated": _sorted(lists["updated"]),
                    "deleted": sorted(lists["deleted"]),
                }
                for table, lists in changes.items()
                if any(lists.values())
            }
            self.pushed.append({"pushed_at": at, "changes": sent})
            await self.steps(heard.get("meanwhile", ()))
            if heard.get("lost"):
                raise _Lost
            rejected: dict[str, list[str]] = heard.get("rejected", {})
            return rejected

        try:
            await self.client.synchronize(pull, push)
        except (_Lost, Refused):
            self.refused += 1

    def left(self) -> dict[str, Any]:
        rows = {table: _sorted([*of.values()]) for table, of in self.client.rows.items() if of}
        return {"rows": rows, "pushed": self.pushed, "refused": self.refused}


@pytest.mark.parametrize("case", KNOWN["cases"], ids=lambda case: case["name"])
async def test_the_model_does_what_the_client_does(case: dict[str, Any]) -> None:
    play = Play()
    await play.steps(case["steps"])
    # As text, for Python takes True for 1.
    assert json.dumps(play.left(), sort_keys=True, indent=1) == json.dumps(case["expect"], sort_keys=True, indent=1)
