"""A first sync. 100,000 records of 2,000 patients over HTTP, against `COPY (SELECT row_to_json …) TO STDOUT`.

Twenty records together are of one patient, as an encounter's are. Each page names its patients in the audit trail: what
that costs grows with how many they are, here 250 of 5,000 changes.

Native: pages of `max_sync_records`; WatermelonDB: one streamed answer. `COPY` writes the same patients and records, for
WatermelonDB as flat rows with a column for each field, as its own rows are. The two are measured in turn, in one server
process that had answered nothing of the kind before; `memory growth` is over all rounds.
"""

import asyncio
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from benchmarks.feeds import Feed
from benchmarks.load import Client, device, owner
from benchmarks.servers import OURS, Watch, empty_house, memory, served
from heallog.domain.sync import Stream
from heallog.domain.watermelon import TABLES, Table

PATIENTS, RECORDS = 2_000, 100_000
LIMIT = 5_000
ROUNDS = 5
BAR, MEMORY_BAR = 1.5, 64
_CURSOR = re.compile(rb'"cursor":"([^"]+)","has_more":(true|false)')

Ways = dict[str, Callable[[], int]]
"""Each gives the bytes that came."""


def measure() -> list[dict[str, Any]]:
    """One row for each door."""
    with empty_house() as ours, served(OURS, 1, ours.environment) as (port, pid):
        who = owner(port)
        client = device(port, who, "bench")
        feed = asyncio.run(Feed(ours.url, who, client, PATIENTS, RECORDS).fill(heads=True))
        ways: Ways = {
            "native": lambda: _native(client, feed),
            "WatermelonDB": lambda: client.drained("/v1/sync/watermelon?last_pulled_at=0")[0],
        }
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(ours.url))
            copies: Ways = {
                "native": lambda: runner.run(
                    _copied(connection, [_nested(stream, who.practice_id) for stream in _SENT])
                ),
                "WatermelonDB": lambda: runner.run(
                    _copied(connection, [_flat(TABLES[stream], who.practice_id) for stream in _SENT])
                ),
            }
            before = memory(pid)
            with Watch(pid) as watch:
                rows = [_compared(door, ways[door], copies[door]) for door in ways]
            runner.run(connection.close())
        growth = {"memory_growth_mib": round(watch.most - before), "memory_bar_mib": MEMORY_BAR}
    return [row | growth for row in rows]


_SENT = (Stream.PATIENTS, Stream.RECORDS)


def _compared(door: str, way: Callable[[], int], copy: Callable[[], int]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"way": [], "copy": []}
    size = {"way": 0, "copy": 0}
    copy()
    for turn in range(ROUNDS * 2):
        name = ("way", "copy")[(turn + turn // 2) % 2]
        began = time.perf_counter()
        size[name] = way() if name == "way" else copy()
        seconds[name].append(time.perf_counter() - began)
    pairs = [ours / theirs for ours, theirs in zip(seconds["way"], seconds["copy"], strict=True)]
    return {
        "door": door,
        "records": RECORDS,
        "seconds": round(statistics.median(seconds["way"]), 2),
        "copy_seconds": round(statistics.median(seconds["copy"]), 2),
        "ratio": round(statistics.median(pairs), 2),
        "ratios": [round(ratio, 3) for ratio in pairs],
        "bar": BAR,
        "mib": round(size["way"] / 2**20),
        "copy_mib": round(size["copy"] / 2**20),
    }


def _native(client: Client, feed: Feed) -> int:
    """A pull without a cursor, page after page to its end."""
    size, path = 0, f"/v1/sync/pull?limit={LIMIT}"
    while path:
        came, tail = client.drained(path)
        size += came
        found = _CURSOR.search(tail)
        if found is None:
            raise RuntimeError(f"no cursor at the end of {path}")
        path = f"/v1/sync/pull?limit={LIMIT}&cursor={found[1].decode()}" if found[2] == b"true" else ""
    if size < feed.size * 300:
        raise RuntimeError(f"{size} bytes are too few for {feed.size} items")
    return size


async def _copied(connection: asyncpg.Connection, queries: list[str]) -> int:
    size = 0

    async def count(data: bytes) -> None:
        nonlocal size
        size += len(data)

    for query in queries:
        await connection.copy_from_query(query, output=count)
    return size


def _nested(stream: Stream, practice_id: str) -> str:
    """Heads as whoever exports them would write them: what identifies one, and its content."""
    owner = "patient_id, " if stream is Stream.RECORDS else ""
    return (
        f"SELECT row_to_json(one) FROM (SELECT id, {owner}version, created_at, updated_at, updated_by, content"
        f" FROM {stream} WHERE practice_id = '{practice_id}') one"
    )


_TYPES = {"string": "text", "number": "double precision", "boolean": "boolean"}


def _flat(table: Table, practice_id: str) -> str:
    """The same, with a column for each field."""
    own = {
        "id": "t.id",
        "patient_id": "t.patient_id",
        "version": "t.version",
        "base_token": "NULL::text",
        "conflict_id": "t.conflict_id",
        "created_at": "(extract(epoch FROM t.created_at) * 1000)::bigint",
        "updated_at": "(extract(epoch FROM t.updated_at) * 1000)::bigint",
        "updated_by": "t.updated_by",
        "deleted_at": "NULL::bigint",
    }
    entered = {column.name: f'"{column.field}"' for column in table.columns if column.name not in own}
    values = own | {name: f"c.{field}" for name, field in entered.items()}
    names = ["t.id", *(f"{values[column.name]} AS {column.name}" for column in table.columns)]
    types = [
        f"{entered[column.name]} {'json' if column.text else _TYPES[column.type]}"
        for column in table.columns
        if column.name in entered
    ]
    return (
        f"SELECT row_to_json(one) FROM (SELECT {', '.join(names)} FROM {table.stream} t,"
        f" json_to_record(t.content) AS c({', '.join(types)}) WHERE t.practice_id = '{practice_id}') one"
    )
