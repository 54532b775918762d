"""A one-row read three ways. By hand over asyncpg; compiled once from SQLAlchemy Core, as HealLog does; and through an
`AsyncEngine` connection. Microseconds a read, one connection, measured in turn.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.practices import GET, practices

READS = 2_000
ROUNDS = 5

Read = Callable[[], Awaitable[Any]]


async def _microseconds(read: Read) -> float:
    began = time.perf_counter()
    for _ in range(READS):
        await read()
    return (time.perf_counter() - began) / READS * 1e6


async def _measured(url: str) -> list[dict[str, Any]]:
    database = Database(url, connections=1)
    await database.open()
    by_hand = await asyncpg.create_pool(url, min_size=1, max_size=1)
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"), pool_size=1)
    await by_hand.execute("INSERT INTO practices VALUES ('one', 'One', now())")
    statement = select(practices).where(practices.c.id == "one")

    async def hand() -> None:
        await by_hand.fetchrow("SELECT id, name, created_at FROM practices WHERE id = $1", "one")

    async def compiled() -> None:
        await database.row(GET, id="one")

    async def through_engine() -> None:
        async with engine.connect() as connection:
            (await connection.execute(statement)).one()

    ways: dict[str, Read] = {
        "by hand, asyncpg pool as it comes": hand,
        "compiled once, no reset at release (HealLog)": compiled,
        "AsyncEngine connection": through_engine,
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, read in ways.items():
            seen[name].append(await _microseconds(read))
    await database.close()
    await by_hand.close()
    await engine.dispose()
    base = statistics.median(seen["compiled once, no reset at release (HealLog)"])
    return [
        {
            "way": name,
            "microseconds": round(statistics.median(times)),
            "times_heallog": round(statistics.median(times) / base, 2),
        }
        for name, times in seen.items()
    ]


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="heallog-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as embedded:
            migrations.upgrade(embedded.url)
            return asyncio.run(_measured(embedded.url))
