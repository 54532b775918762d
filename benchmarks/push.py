"""A push in which everything is merged. Each record was changed by another device meanwhile, in another field.

A tablet creates the records and changes their titles; a phone that knows the first versions pushes doses, in one
request: every change is kept on a branch and merged into the head. Each round has fresh records. A server that has
just started takes up to a third longer for its first dozen pushes, which are not timed. `server` and
`database` are the processor time of each, `statements` what the push asks the database, counted inside the process.
`others wait`: the slowest of the reads that another device asked for, one after the other, while a push went on; those
rounds are not timed. `pace`: the machine's, before each push.
"""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import psutil

from benchmarks.load import Client, Owner, device, owner
from benchmarks.pace import pace
from benchmarks.servers import OURS, House, cpu, empty_house, served
from heallog import bootstrap
from heallog.domain import pushes
from heallog.domain.access import Actor, Role

SIZES = {50: 10, 500: 20, 1_000: 5, 5_000: 2}
"""Records of a push, and rounds."""
WARM = 12
"""Rounds before the first that is timed."""
COUNTED = (50, 500, 1_000)
BAR = 5_000
PATIENT = "pat-1"
MEDICATION = {"kind": "medication", "title": "Metformin", "dose": 500, "dose_unit": "mg", "frequency": "twice a day"}


def measure() -> list[dict[str, Any]]:
    """One row for each number of records."""
    with empty_house() as ours, served(OURS, 1, ours.environment) as (port, pid):
        who = owner(port)
        tablet, phone, desk = (device(port, who, name) for name in ("tablet", "phone", "desk"))
        tablet.ask("POST", "/v1/patients", {"id": PATIENT, "family_name": "Obi"})
        for number in range(WARM):
            _merged(tablet, phone, f"warm-{number}", 500)
        rows = []
        for size, rounds in SIZES.items():
            seen = [_merged(tablet, phone, f"{size}-{number}", size, pid, ours) for number in range(rounds)]
            others = _beside(tablet, phone, desk, f"{size}-beside", size)
            rows.append(_row(size, seen, others))
        counts = asyncio.run(_counts(ours, who))
    for row in rows:
        row["statements"] = counts.get(row["records"], "not counted")
    return rows


def _row(size: int, seen: list[dict[str, float]], others: float) -> dict[str, Any]:
    middle = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
    return {
        "records": size,
        "rounds": len(seen),
        "records_per_second": round(size / middle["seconds"]),
        "bar": BAR if size == 500 else "none",
        "ms": round(middle["seconds"] * 1000, 1),
        "server_ms": round(middle["server"] * 1000),
        "database_ms": round(middle["database"] * 1000),
        "others_wait_ms": round(others * 1000),
        "pace_ms": round(middle["pace"], 1),
    }


def _prepared(tablet: Client, name: str, size: int) -> bytes:
    """Records as two devices have made them; what the second one pushes."""
    ids = [f"{name}-{number}" for number in range(size)]
    for push in _pushes(f"{name}-create", [_operation("create", one, patient_id=PATIENT, **MEDICATION) for one in ids]):
        tablet.ask("POST", "/v1/sync/push", push)
    changed = [_operation("update", one, base=1, title="Metformin XR", instructions="With breakfast.") for one in ids]
    for push in _pushes(f"{name}-change", changed):
        tablet.ask("POST", "/v1/sync/push", push)
    late = [_operation("update", one, base=1, dose=750, frequency="three times a day") for one in ids]
    return json.dumps(_push(f"{name}-late", late)).encode()


def _merged(
    tablet: Client, phone: Client, name: str, size: int, pid: int | None = None, ours: House | None = None
) -> dict[str, float]:
    """Seconds of the request, and of work."""
    body = _prepared(tablet, name, size)
    phone.reconnect()
    now = pace(1)
    watched = {"server": psutil.Process(pid), "database": ours.postgres} if pid and ours else {}
    before = {part: cpu(process) for part, process in watched.items()}
    seconds, answer = phone.timed("POST", "/v1/sync/push", body)
    worked = {part: cpu(process) - before[part] for part, process in watched.items()}
    if answer.count(b'"status":"merged"') != size:
        raise RuntimeError(f"not all of {name} was merged: {answer[:500]!r}")
    return {"seconds": seconds, "pace": now, **worked}


def _beside(tablet: Client, phone: Client, desk: Client, name: str, size: int) -> float:
    """The slowest read while a push goes on."""
    body, over, slowest = _prepared(tablet, name, size), threading.Event(), [0.0]

    def read() -> None:
        while not over.is_set():
            slowest[0] = max(slowest[0], desk.timed("GET", f"/v1/patients/{PATIENT}")[0])

    for waiting in (phone, desk):
        waiting.reconnect()
    reading = threading.Thread(target=read)
    reading.start()
    time.sleep(0.05)
    phone.timed("POST", "/v1/sync/push", body)
    over.set()
    reading.join()
    if not slowest[0]:
        raise RuntimeError("nothing was read meanwhile")
    return slowest[0]


async def _counts(ours: House, who: Owner) -> dict[int, int]:
    """The statements of a push of so many records."""
    wired = bootstrap.container(ours.settings)
    database = wired.database()
    await database.open()
    heard: list[str] = []
    async with AsyncExitStack() as stack:
        for _ in range(database.pool.get_max_size()):
            connection = await stack.enter_async_context(database.pool.acquire())
            connection.add_query_logger(lambda query: heard.append(query.query))
    actors = {name: Actor(who.account_id, who.practice_id, Role.OWNER, "session", name) for name in ("tablet", "phone")}
    counts = {}
    for size in COUNTED:
        ids = [f"counted-{size}-{number}" for number in range(size)]
        made = [_operation("create", one, patient_id=PATIENT, **MEDICATION) for one in ids]
        changed = [_operation("update", one, base=1, title="Metformin XR") for one in ids]
        late = [_operation("update", one, base=1, dose=750) for one in ids]
        for number, (name, operations) in enumerate((("tablet", made), ("tablet", changed), ("phone", late))):
            heard.clear()
            push = pushes.read(_push(f"counted-{size}-{number}", operations), size)
            await wired.pushes().push(actors[name], push)
        # asyncpg looks up each type once.
        counts[size] = sum("pg_catalog" not in statement for statement in heard)
    await wired.trail().close()
    await database.close()
    return counts


def _operation(op: str, id: str, *, base: int | None = None, patient_id: str = "", **fields: Any) -> dict[str, Any]:
    said = {"base_version": base} if base else {"patient_id": patient_id}
    return {"op": op, "collection": "records", "id": id, **said, "fields": fields}


def _push(push_id: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Each operation by itself: one that cannot be done stops no other."""
    return {"push_id": push_id, "contributions": [{"operations": [one]} for one in operations]}


def _pushes(name: str, operations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(operations), 500):
        yield _push(f"{name}-{start}", operations[start : start + 500])
