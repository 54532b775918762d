"""What depth costs. A page of 500 changes over HTTP by cursor, and by the old `skip`, at the beginning of a feed and
100,000 changes further on.

The two depths are asked in turn. A cursor says where in the index to begin; `skip` reads all that it leaves out.
"""

import asyncio
import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.feeds import Feed
from benchmarks.load import device, owner
from benchmarks.servers import OURS, empty_house, served

DEPTH = 100_000
LIMIT = 500
ASKED = 30
BAR = 1.1


def measure() -> list[dict[str, Any]]:
    """One row for each way of turning pages."""
    with empty_house() as ours, served(OURS, 1, ours.environment) as (port, _):
        who = owner(port)
        feed = asyncio.run(Feed(ours.url, who, device(port, who, "device"), 2_000, DEPTH).fill())
        return [
            _compared("cursor", feed, lambda depth: f"cursor={feed.cursor(depth)}", BAR),
            _compared("skip", feed, lambda depth: f"skip={depth}", None),
        ]


def _compared(way: str, feed: Feed, asked: Callable[[int], str], bar: float | None) -> dict[str, Any]:
    paths = [f"/v1/sync/pull?limit={LIMIT}&{asked(depth)}" for depth in (0, DEPTH)]
    seen: list[list[float]] = [[], []]
    for turn in range(ASKED * 2):
        deep = (turn + turn // 2) % 2
        seconds, answer = feed.client.timed("GET", paths[deep])
        if answer.count(b'{"collection":') != LIMIT:
            raise RuntimeError(f"a page of {answer.count(b'collection')} is none of {LIMIT}")
        seen[deep].append(seconds)
    first, last = ([seconds * 1000 for seconds in times[ASKED // 6 :]] for times in seen)
    pairs = [deep / shallow for shallow, deep in zip(first, last, strict=True)]
    return {
        "way": way,
        "at_the_beginning_ms": round(statistics.median(first), 2),
        f"after_{DEPTH:,}_ms": round(statistics.median(last), 2),
        "ratio": round(statistics.median(pairs), 3),
        "ratios": [round(ratio, 2) for ratio in pairs],
        "bar": bar if bar is not None else "none",
    }
