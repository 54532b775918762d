"""What a page of a pull costs in a small practice and in a large one. 500 changes over HTTP, 10,000 and 1,000,000 in
all, two practices in one database.

The two are asked in turn, at the beginning, in the middle and at the end of their feeds. `first time` is a connection
that has not run the statement yet, inside the process: what planning costs comes on top. Pages are in the database's
memory, or the operating system's, in both.
"""

import asyncio
import statistics
import time
from typing import Any

from benchmarks.feeds import Feed
from benchmarks.load import device, owner
from benchmarks.servers import OURS, House, empty_house, served
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.feed import FeedReads
from heallog.domain.sync import Stream

SIZES = (10_000, 1_000_000)
LIMIT = 500
ASKED = 60
FRESH = 15
BAR = 1.1


def measure() -> list[dict[str, Any]]:
    """One row for each place, and one for the first time."""
    with empty_house() as ours, served(OURS, 1, ours.environment) as (port, _):
        feeds = []
        for size in SIZES:
            who = owner(port, f"owner-of-{size}")
            feed = Feed(ours.url, who, device(port, who, "device"), size // 50, size - size // 50)
            feeds.append(asyncio.run(feed.fill()))
        for feed in feeds:
            feed.client.reconnect()
        rows = [_at(place, feeds) for place in ("beginning", "middle", "end")]
        rows.append(asyncio.run(_fresh(ours, feeds)))
    return rows


def _depth(place: str, feed: Feed) -> int:
    return {"beginning": 0, "middle": feed.size // 2, "end": feed.size - LIMIT}[place]


def _at(place: str, feeds: list[Feed]) -> dict[str, Any]:
    paths = [f"/v1/sync/pull?limit={LIMIT}&cursor={feed.cursor(_depth(place, feed))}" for feed in feeds]
    seen: list[list[float]] = [[], []]
    for turn in range(ASKED * 2):
        one = (turn + turn // 2) % 2
        seconds, answer = feeds[one].client.timed("GET", paths[one])
        if answer.count(b'{"collection":') != LIMIT:
            raise RuntimeError(f"a page of {answer.count(b'collection')} is none of {LIMIT}")
        seen[one].append(seconds)
    return _row(place, [times[ASKED // 6 :] for times in seen])


async def _fresh(ours: House, feeds: list[Feed]) -> dict[str, Any]:
    """The first page that a connection reads, from the middle."""
    seen: list[list[float]] = [[], []]
    for turn in range(FRESH * 2):
        one = (turn + turn // 2) % 2
        feed = feeds[one]
        database = Database(ours.url, connections=1)
        await database.open()
        began = time.perf_counter()
        page = await FeedReads(database).page(
            feed.who.practice_id, tuple(Stream), feed.place(_depth("middle", feed)), None, LIMIT
        )
        seen[one].append(time.perf_counter() - began)
        await database.close()
        if page.count != LIMIT:
            raise RuntimeError(f"a page of {page.count}")
    return _row("middle, first time", seen)


def _row(place: str, seen: list[list[float]]) -> dict[str, Any]:
    small, large = (statistics.median(times) * 1000 for times in seen)
    pairs = [many / few for few, many in zip(*seen, strict=True)]
    return {
        "place": place,
        "changes": LIMIT,
        f"of_{SIZES[0]:,}_ms": round(small, 2),
        f"of_{SIZES[1]:,}_ms": round(large, 2),
        "ratio": round(statistics.median(pairs), 3),
        "ratios": [round(ratio, 2) for ratio in pairs],
        "bar": BAR,
    }
