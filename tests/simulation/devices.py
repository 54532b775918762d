"""Devices: what people do on them, what they show, and how they sync. Whatever is entered is written down."""

import asyncio
import copy
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from heallog.domain import watermelon
from heallog.domain.canon import canonical
from heallog.domain.watermelon import TABLES

from .client import Changes, Client, Refused, Row
from .house import Lost, Network, Person, Wrong

Thing = tuple[str, str]
"""Collection and id."""
Fields = dict[str, Any]

ADDRESS = "/v1/sync/watermelon"
ROWS = 3
"""In one push of a WatermelonDB app: `sync.js` takes 500."""


def paths(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by the path under which they are merged."""
    for name, value in fields.items():
        if name == "values":
            yield from ((f"values.{entry}", inner) for entry, inner in (value or {}).items())
        else:
            yield name, value


def text(value: Any) -> str:
    return canonical(value).decode()


@dataclass
class Entry:
    """A value that a person entered; `token` is what is in nothing else. `knew`: the values that they had seen there.

    `excused`: the client could not say what it was based on (ADR 19).
    """

    number: int
    device: str
    thing: Thing
    path: str
    value: Any
    token: Any
    knew: set[str]
    sent: bool = False
    acknowledged: bool = False
    excused: bool = False
    lost: bool = False
    late: bool = False
    """Entered when its person had left the practice."""

    def is_in(self, value: Any) -> bool:
        if isinstance(self.token, str):
            return (
                isinstance(value, str) and self.token in value if isinstance(value, str) else self.token in text(value)
            )
        return text(value) == text(self.value)


@dataclass
class Diary:
    """What everybody entered, in the order in which they did."""

    entries: list[Entry] = field(default_factory=list)
    acts: Counter[tuple[str, Thing]] = field(default_factory=Counter)
    """How often a device did something to a thing."""
    values: int = 0

    def number(self) -> int:
        self.values += 1
        return self.values


class Device:
    """What all of them have in common. `trouble` is how bad the network is, of 1."""

    def __init__(
        self, name: str, person: Person, token: str, network: Network, diary: Diary, chance: random.Random
    ) -> None:
        self.name, self.person, self.token = name, person, token
        self.network, self.diary, self.chance = network, diary, chance
        self.trouble = 0.0
        self.skew = timedelta()
        self.seen: dict[tuple[Thing, str], set[str]] = defaultdict(set)
        self.out = False
        """Whether the person has left the practice."""
        self.holds: str | None = None
        self.held, self.go = asyncio.Event(), asyncio.Event()

    # -- what kinds of device do in their own ways ----------------------------------------------------------------

    def things(self) -> dict[Thing, Fields]:
        """What there is and is not deleted, as it is shown."""
        raise NotImplementedError

    def conflicts(self) -> list[dict[str, Any]]:
        """Those that are open and not decided here yet, as the API has them."""
        raise NotImplementedError

    async def _sync(self) -> None:
        raise NotImplementedError

    @property
    def dirty(self) -> bool:
        raise NotImplementedError

    # -- what people do -------------------------------------------------------------------------------------------

    def entered(self, thing: Thing, fields: Mapping[str, Any], tokens: Mapping[str, Any]) -> None:
        """Write down what was entered, and what they had seen before they did."""
        for path, value in paths(fields):
            if path != "kind":
                knew = set(self.seen[thing, path]) or {"null"}
                self.seen[thing, path] |= knew
                entry = Entry(len(self.diary.entries), self.name, thing, path, value, tokens.get(path, value), knew)
                entry.late = self.out
                self.diary.entries.append(entry)
        self.diary.acts[self.name, thing] += 1

    def look(self) -> None:
        """They see what is shown now."""
        for thing, fields in self.things().items():
            for path, value in paths(fields):
                self.seen[thing, path].add(text(value))

    @property
    def clock(self) -> datetime:
        return datetime.now(UTC) + self.skew

    # -- syncing --------------------------------------------------------------------------------------------------

    async def sync(self) -> str:
        """How it went."""
        try:
            await self._sync()
        except (Lost, Refused) as error:
            return f"{type(error).__name__.lower()} ({error})"
        finally:
            self.look()
        return "done"

    async def pause(self, point: str) -> None:
        """Where someone wanted to stop the sync here, wait until they let it go on."""
        if self.holds == point:
            self.holds = None
            self.held.set()
            await self.go.wait()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises `Lost`; and `Refused`, where the person has left."""
        answer = await self.network.send(self.chance, self.trouble, method, path, self.token, body)
        if answer.status_code == 200:
            return answer.json()
        if self.out and answer.status_code in (401, 403):
            raise Refused(f"{answer.status_code}")
        raise Wrong(f"{self.name}: {method} {path.partition('?')[0]}: {answer.status_code} {answer.text[:800]}")

    def own(self, thing: Thing) -> Iterator[Entry]:
        return (one for one in self.diary.entries if one.device == self.name and one.thing == thing and not one.lost)

    def sends(self, thing: Thing, fields: Mapping[str, Any]) -> list[Entry]:
        """The entries that a request carries."""
        said = dict(paths(fields))
        carried = [one for one in self.own(thing) if one.path in said and one.is_in(said[one.path])]
        for one in carried:
            one.sent = True
        return carried

    def forgets(self) -> None:
        """What was entered and never left the device is gone with it."""
        for one in self.diary.entries:
            if one.device == self.name and not one.acknowledged:
                one.lost = True


class Watermelon(Device):
    """An app on WatermelonDB, with the code of docs/howto/watermelondb.md; or (`tokens` false) without base tokens."""

    def __init__(self, *given: Any, tokens: bool) -> None:
        super().__init__(*given)
        self.tokens = tokens
        self.client = Client(watermelon.schema()["tables"], nonces=iter(lambda: f"{self.chance.random():.17f}", None))
        self.reset = False

    @property
    def dirty(self) -> bool:
        return self.client.dirty

    def _fields(self, table: str, row: Row, names: Any = None) -> Fields:
        """A row's fields as the API has them."""
        fields: Fields = {}
        for column in TABLES[table].columns:  # type: ignore[index]
            if column.settable and (names is None or column.name in names):
                value = row[column.name]
                try:
                    fields[column.field] = json.loads(value) if column.text and value is not None else value
                except ValueError:
                    fields[column.field] = value
        return fields

    def _columns(self, table: str, fields: Mapping[str, Any]) -> Row:
        named = {column.field: column for column in TABLES[table].columns}  # type: ignore[index]
        return {
            named[name].name: text(value) if named[name].text and value is not None else value
            for name, value in fields.items()
        }

    def things(self) -> dict[Thing, Fields]:
        return {
            (table, row["id"]): self._fields(table, row) | {"status": row.get("status")}
            for table in ("patients", "records")
            for row in self.client.visible(table)
            if row["deleted_at"] is None
        }

    def conflicts(self) -> list[dict[str, Any]]:
        return [
            {
                "id": row["id"],
                "head_version": row["head_version"],
                "collection": row["thing_table"],
                "thing_id": row["thing_id"],
                "fields": json.loads(row["fields_json"]),
            }
            for row in self.client.visible("conflicts")
            if row["state"] == "open" and row["resolution_json"] is None
        ]

    def create(self, thing: Thing, patient_id: str | None, fields: Fields) -> None:
        more = {} if patient_id is None else {"patient_id": patient_id}
        self.client.create(*thing, self._columns(thing[0], fields | more))

    def edit(self, thing: Thing, fields: Fields) -> None:
        self.client.edit(*thing, self._columns(thing[0], fields), token=self.tokens)

    def delete(self, thing: Thing) -> None:
        """As the page says; an app that knows nothing of it calls `markAsDeleted()`."""
        if self.tokens:
            self.client.edit(*thing, {"deleted_at": int(self.clock.timestamp() * 1000)}, token=True)
        else:
            self.client.delete(*thing)

    def resolve(self, conflict: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        said = {"resolution_json": json.dumps({"head_version": conflict["head_version"], **decision})}
        self.client.edit("conflicts", conflict["id"], said, token=False)

    # -- synchronize() --------------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        before = self._pending()
        pulled = False

        async def push(changes: Changes, at: int) -> None:
            nonlocal pulled
            pulled = True
            await self._push(changes, at)

        try:
            await self.client.synchronize(self._pull, push)
        except Lost:
            if pulled and not self.tokens:
                # ADR 19: from now on nobody can say how old these are.
                for one in before:
                    one.excused = True
            raise

    def _pending(self) -> list[Entry]:
        return [one for one in self.diary.entries if one.device == self.name and not one.acknowledged and not one.lost]

    async def _pull(self, since: int | None) -> Mapping[str, Any]:
        try:
            answer: dict[str, Any] = await self.call(
                "GET", f"{ADDRESS}?last_pulled_at={since or 0}&schema_version={watermelon.VERSION}"
            )
        except Refused:
            # `handIn` of the page.
            return {"changes": {}, "timestamp": since or 1}
        for table, lists in answer["changes"].items():
            ids = [row["id"] for row in lists["updated"]]
            if len(ids) != len(set(ids)) or lists["created"] or lists["deleted"]:
                raise Wrong(f"{self.name}: {table} is no pull for this client: {ids}")
        await self.pause("pulled")
        return answer

    async def _push(self, changes: Changes, at: int) -> None:
        """In pieces, as `sync.js` has it."""
        for piece in _pieces(changes):
            carried = [entry for thing, fields in self._carried(piece) for entry in self.sends(thing, fields)]
            answer = await self.call("POST", f"{ADDRESS}?last_pulled_at={at}", piece)
            if answer["experimentalRejectedIds"] or len(answer["results"]) != sum(map(_rows, piece.values())):
                raise Wrong(f"{self.name}: {answer}")
            for entry in carried:
                entry.acknowledged = True
        await self.pause("pushed")

    def _carried(self, piece: Changes) -> Iterator[tuple[Thing, Fields]]:
        for table, lists in piece.items():
            for row in lists.get("created", ()):
                yield (table, row["id"]), self._fields(table, row)
            for row in lists.get("updated", ()):
                yield (table, row["id"]), self._fields(table, row, row["_changed"].split(","))

    # -- accidents ------------------------------------------------------------------------------------------------

    def wipe(self) -> None:
        self.client.reset()
        self.forgets()
        self.seen.clear()

    def backup(self) -> Any:
        return (
            *self.client.kept(),
            copy.deepcopy(self.seen),
            self.things_dirty(),
            [one.number for one in self._pending()],
        )

    def things_dirty(self) -> list[Thing]:
        return [
            (table, row["id"])
            for table, rows in self.client.rows.items()
            for row in rows.values()
            if row["_status"] != "synced"
        ]

    def restore(self, backup: Any) -> None:
        rows, last_pulled_at, seen, dirty, pending = backup
        self.forgets()
        self.client.restored(rows, last_pulled_at)
        self.seen = copy.deepcopy(seen)
        self._said_again(dirty * 2, pending)

    def _said_again(self, dirty: list[Thing], pending: list[int]) -> None:
        """What a backup had not pushed is pushed from it, once more; the device knows its own values."""
        self.diary.acts.update((self.name, thing) for thing in dirty)
        for number in pending:
            entry = self.diary.entries[number]
            entry.lost = False
            entry.knew |= {text(one.value) for one in self.own(entry.thing) if one.path == entry.path}


def _rows(lists: Mapping[str, Any]) -> int:
    return sum(map(len, lists.values()))


def _pieces(changes: Changes) -> Iterator[Changes]:
    tables = ("patients", "records", "conflicts")
    order = [(table, place) for place in ("created", "updated") for table in tables]
    for table, place in [*order, ("records", "deleted"), ("patients", "deleted")]:
        rows = changes[table][place]
        for at in range(0, len(rows), ROWS):
            yield {table: {place: rows[at : at + ROWS]}}


@dataclass
class Pushing:
    """A push that was sent and not answered: it is sent again as it is."""

    body: dict[str, Any]
    operations: list[dict[str, Any]]


class Native(Device):
    """An app of the native protocol: what it pulled, and a log of what was done since, which it pushes."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.cursor: str | None = None
        self.has: dict[Thing, dict[str, Any]] = {}
        self.log: list[dict[str, Any]] = []
        self.pushing: Pushing | None = None
        self.done: list[dict[str, Any]] = []
        """Acknowledged, and not pulled yet: still shown."""

    @property
    def dirty(self) -> bool:
        return bool(self.log or self.pushing)

    def _waiting(self) -> list[dict[str, Any]]:
        return [*self.done, *(self.pushing.operations if self.pushing else ()), *self.log]

    def things(self) -> dict[Thing, Fields]:
        shown: dict[Thing, Fields] = {
            key: dict(change["data"])
            for key, change in self.has.items()
            if key[0] != "conflicts" and change["op"] == "put"
        }
        for operation in self._waiting():
            thing = operation["collection"], operation["id"]
            if operation["op"] == "delete":
                shown.pop(thing, None)
            elif thing in shown or operation["op"] == "create":
                shown[thing] = shown.get(thing, {}) | operation["fields"]
        return shown

    def conflicts(self) -> list[dict[str, Any]]:
        conflicts = (change["data"] for (collection, _), change in self.has.items() if collection == "conflicts")
        return [conflict for conflict in conflicts if conflict["state"] == "open"]

    def _operation(self, op: str, thing: Thing, fields: Fields | None = None, **more: Any) -> None:
        said = {"op": op, "collection": thing[0], "id": thing[1], "client_time": self.clock.isoformat(), **more}
        self.log.append(said | ({} if fields is None else {"fields": fields}))

    def _base(self, thing: Thing) -> int:
        """What the first operation that is not pulled yet was made on; else what was pulled."""
        for operation in self._waiting():
            if (operation["collection"], operation["id"]) == thing:
                return operation.get("base_version", 1)
        return int(self.has[thing]["version"])

    def create(self, thing: Thing, patient_id: str | None, fields: Fields) -> None:
        self._operation("create", thing, fields, **({} if patient_id is None else {"patient_id": patient_id}))

    def edit(self, thing: Thing, fields: Fields) -> None:
        self._operation("update", thing, fields, base_version=self._base(thing))

    def delete(self, thing: Thing) -> None:
        self._operation("delete", thing, base_version=self._base(thing))

    async def resolve(self, conflict: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
        """With a network only."""
        path, body = f"/v1/conflicts/{conflict['id']}/resolve", {"head_version": conflict["head_version"], **decision}
        try:
            answer = await self.network.send(self.chance, self.trouble, "POST", path, self.token, body)
        except Lost as error:
            return f"lost ({error})"
        return str(answer.status_code)

    # -- sync -----------------------------------------------------------------------------------------------------

    async def _sync(self) -> None:
        if self.chance.random() < 0.5:
            await self._pull()
        await self._push()
        await self._pull()

    async def _push(self) -> None:
        while self.log or self.pushing:
            if self.pushing is None:
                size = self.chance.randint(1, 6)
                operations, self.log = self.log[:size], self.log[size:]
                groups = _grouped(operations, self.chance)
                body = {
                    "push_id": f"push-{self.chance.random():.17f}",
                    "contributions": [{"operations": group} for group in groups],
                }
                self.pushing = Pushing(body, operations)
            pushing = self.pushing
            carried = [
                entry
                for one in pushing.operations
                for entry in self.sends((one["collection"], one["id"]), one.get("fields", {}))
            ]
            answer = await self.call("POST", "/v1/sync/push", pushing.body)
            await self.pause("pushed")
            if len(answer["results"]) != len(pushing.operations):
                raise Wrong(f"{self.name}: {answer}")
            for entry in carried:
                entry.acknowledged = True
            # Someone may have wiped the device meanwhile.
            if self.pushing is pushing:
                refused = {one["index"] for one in answer["results"] if one["status"] == "quarantined"}
                self.done += [one for number, one in enumerate(pushing.operations) if number not in refused]
                self.pushing = None

    async def _pull(self) -> None:
        """Written together when all of it is here."""
        begun, cursor, changes = self.cursor, self.cursor, list[dict[str, Any]]()
        # What was acknowledged before the pull began is in it.
        known = len(self.done)
        limit = self.chance.choice((1, 2, 3, 5, 500))
        while True:
            query = f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            answer = await self.call("GET", f"/v1/sync/pull{query}")
            changes += answer["changes"]
            cursor = answer["cursor"]
            if not answer["has_more"]:
                break
        await self.pause("pulled")
        if self.cursor != begun:
            raise Refused("another pull came first")
        keys = [(change["collection"], change["id"]) for change in changes]
        if len(keys) != len(set(keys)):
            raise Wrong(f"{self.name}: an id came twice in one pull: {keys}")
        self.has |= dict(zip(keys, changes, strict=True))
        self.cursor = cursor
        self.done = self.done[known:]

    # -- accidents ------------------------------------------------------------------------------------------------

    def wipe(self) -> None:
        self.cursor, self.has, self.log, self.pushing, self.done = None, {}, [], None, []
        self.forgets()
        self.seen.clear()

    def backup(self) -> Any:
        mine = [one.number for one in self.diary.entries if one.device == self.name and not one.acknowledged]
        kept = self.cursor, self.has, self.log, self.pushing, self.done, self.seen, mine
        return copy.deepcopy(kept)

    def restore(self, backup: Any) -> None:
        self.forgets()
        *kept, pending = copy.deepcopy(backup)
        self.cursor, self.has, self.log, self.pushing, self.done, self.seen = kept
        waiting = self._waiting()
        self.diary.acts.update((self.name, (one["collection"], one["id"])) for one in waiting)
        for number in pending:
            entry = self.diary.entries[number]
            entry.lost = False
            entry.knew |= {text(one.value) for one in self.own(entry.thing) if one.path == entry.path}


def _grouped(operations: list[dict[str, Any]], chance: random.Random) -> list[list[dict[str, Any]]]:
    """What is done together is done whole or not: now and then two, in their order."""
    groups: list[list[dict[str, Any]]] = []
    for operation in operations:
        if groups and len(groups[-1]) == 1 and chance.random() < 0.2:
            groups[-1].append(operation)
        else:
            groups.append([operation])
    return groups
