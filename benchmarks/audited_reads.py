"""What an audit entry costs a read. `GET` of a record: minimal handler, HealLog with its durable entry, and without.

The three are measured in turn. `ratio` is HealLog's rate over the minimal handler's; the last column is how much later
the slowest hundredth is answered because of the entry.
"""

import asyncio
import statistics
from typing import Any

from benchmarks import architecture_tax, load
from benchmarks.servers import OURS, empty_house, served
from heallog import bootstrap, config
from heallog.domain.audit import AuditEntry

CONNECTIONS = (16, 64)
SECONDS = 3.0
ROUNDS = 5
BAR = 0.60
LATER = 15.0
HOUSES = {
    "minimal": "benchmarks.minimal:app",
    "audited": OURS,
    "unaudited": "benchmarks.audited_reads:unaudited",
}


class Nowhere:
    """A trail that keeps nothing."""

    async def record(self, entry: AuditEntry) -> None: ...

    async def close(self) -> None: ...


def unaudited() -> Any:
    """HealLog as it would be without a trail."""
    wired = bootstrap.container(config.read())
    wired.trail.override(Nowhere())
    return bootstrap.http_app(wired)


def measure() -> list[dict[str, Any]]:
    """One row for each number of connections."""
    rows: list[dict[str, Any]] = []
    with empty_house() as ours:
        token, ids = asyncio.run(architecture_tax.prepared(ours.settings))
        with (
            served(HOUSES["minimal"], 1, ours.environment) as (minimal, _),
            served(HOUSES["audited"], 1, ours.environment) as (audited, _),
            served(HOUSES["unaudited"], 1, ours.environment) as (without, _),
        ):
            ports = {"minimal": minimal, "audited": audited, "unaudited": without}
            rows = [_compared(connections, ports, token, ids) for connections in CONNECTIONS]
    return rows


def _compared(connections: int, ports: dict[str, int], token: str, ids: list[str]) -> dict[str, Any]:
    requests = architecture_tax.reads(token, [ids[number % len(ids)] for number in range(connections)])
    rates: dict[str, list[float]] = {house: [] for house in HOUSES}
    slow: dict[str, list[float]] = {house: [] for house in HOUSES}
    for house in HOUSES:
        load.run(ports[house], connections, 1.0, requests)
    for turn in range(ROUNDS):
        order = list(HOUSES)
        for house in order[turn % 3 :] + order[: turn % 3]:
            seen = load.run(ports[house], connections, SECONDS, requests)
            if seen.failures:
                raise RuntimeError(f"{seen.failures} answers of {house} were no success")
            rates[house].append(seen.rate)
            slow[house].append(seen.percentile(0.99))
    pairs = [ours / theirs for ours, theirs in zip(rates["audited"], rates["minimal"], strict=True)]
    return {
        "connections": connections,
        **{f"{house}_per_second": round(statistics.median(rates[house])) for house in HOUSES},
        "ratio": round(statistics.median(pairs), 3),
        "ratios": [round(ratio, 3) for ratio in pairs],
        "bar": BAR,
        **{f"{house}_p99_ms": round(statistics.median(slow[house]), 1) for house in HOUSES},
        "p99_added_ms": round(
            statistics.median(ours - theirs for ours, theirs in zip(slow["audited"], slow["unaudited"], strict=True)),
            1,
        ),
        "most_added_ms": LATER,
    }
