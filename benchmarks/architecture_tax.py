"""`GET` and `PATCH` of a record against the minimal handler, in turn, with 1 and 2 server processes."""

import asyncio
import json
import statistics
from typing import Any

from benchmarks import load
from benchmarks.servers import OURS, empty_house, memory, served
from heallog import bootstrap, config
from heallog.adapters import logs
from heallog.domain.access import Actor, Role

CONNECTIONS = 16
SECONDS = 4.0
ROUNDS = 5
BARS = {"read": 0.70, "change": 0.60}
HOUSES = {"minimal": "benchmarks.minimal:app", "heallog": OURS}

OBSERVATION = {
    "kind": "observation",
    "title": "Blood pressure",
    "code": {"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"},
    "occurred_at": "2026-03-01T09:30:00Z",
    "values": {"systolic": {"value": 128, "unit": "mm[Hg]"}, "diastolic": {"value": 82, "unit": "mm[Hg]"}},
}


async def prepared(settings: config.Settings) -> tuple[str, list[str]]:
    """A practice with a record for every connection of every round; a token for it."""
    logs.configure("warning")
    wired = bootstrap.container(settings)
    await wired.database().open()
    fields = {"email": "bench@example.org", "password": "kettle violin harbour", "name": "B", "practice_name": "B"}
    registered = await wired.accounts().register(fields)
    actor = Actor(registered.account.id, registered.practice.id, Role.OWNER, "session", "device")
    patient = await wired.patients().create(actor, {"family_name": "Obi"})
    ids = [(await wired.records().create(actor, patient.id, OBSERVATION)).id for _ in range(CONNECTIONS)]
    await wired.database().close()
    if registered.tokens is None:
        raise RuntimeError("whoever registers is logged in")
    return registered.tokens.access_token, ids


def reads(token: str, ids: list[str]) -> load.Requests:
    prepared = [
        f"GET /v1/records/{record} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for record in ids
    ]
    return lambda connection, _: prepared[connection]


def _changes(token: str, ids: list[str], versions: dict[str, int]) -> load.Requests:
    """Each connection changes its own record, naming the version that its last change made."""

    def request(connection: int, _: int) -> bytes:
        record = ids[connection]
        version = versions[record]
        versions[record] = version + 1
        body = json.dumps({"base_version": version, "title": f"Blood pressure {version}"}).encode()
        return (
            f"PATCH /v1/records/{record} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    return request


def measure() -> list[dict[str, Any]]:
    """One row for each kind of work and number of processes."""
    rows: list[dict[str, Any]] = []
    with empty_house() as ours:
        token, ids = asyncio.run(prepared(ours.settings))
        versions = dict.fromkeys(ids, 1)
        for workers in (1, 2):
            rows += _compared(workers, ours.environment, token, ids, versions)
    return rows


def _compared(
    workers: int, environment: dict[str, str], token: str, ids: list[str], versions: dict[str, int]
) -> list[dict[str, Any]]:
    rows = []
    with (
        served(HOUSES["minimal"], workers, environment) as (minimal, _),
        served(HOUSES["heallog"], workers, environment) as (ours, pid),
    ):
        ports = {"minimal": minimal, "heallog": ours}
        for work, requests in (("read", reads(token, ids)), ("change", _changes(token, ids, versions))):
            rates: dict[str, list[float]] = {"minimal": [], "heallog": []}
            slow: dict[str, list[float]] = {"minimal": [], "heallog": []}
            failures = 0
            for house in ("minimal", "heallog"):
                load.run(ports[house], CONNECTIONS, 1.0, requests)
                _settle(token, ids, versions, ours)
            for turn in range(ROUNDS * 2):
                house = ("minimal", "heallog")[(turn + turn // 2) % 2]
                seen = load.run(ports[house], CONNECTIONS, SECONDS, requests)
                rates[house].append(seen.rate)
                slow[house].append(seen.percentile(0.99))
                failures += seen.failures
                _settle(token, ids, versions, ours)
            if failures:
                raise RuntimeError(f"{failures} answers to {work} were no success")
            pairs = [ours / theirs for ours, theirs in zip(rates["heallog"], rates["minimal"], strict=True)]
            rows.append(
                {
                    "work": work,
                    "processes": workers,
                    "connections": CONNECTIONS,
                    "minimal_per_second": round(statistics.median(rates["minimal"])),
                    "heallog_per_second": round(statistics.median(rates["heallog"])),
                    "ratio": round(statistics.median(pairs), 3),
                    "ratios": [round(ratio, 3) for ratio in pairs],
                    "bar": BARS[work],
                    "p99_ms": round(statistics.median(slow["heallog"]), 1),
                    "memory_mib": round(memory(pid)),
                }
            )
    return rows


def _settle(token: str, ids: list[str], versions: dict[str, int], port: int) -> None:
    """Ask where each record stands: a request that was cut off at the end may or may not have counted."""
    import urllib.request

    for record in ids:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/records/{record}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request) as answer:
            versions[record] = int(answer.headers["ETag"].strip('"'))
