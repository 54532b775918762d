"""How long a refused login takes. Wrong password of a known account, an unknown address, a known account that is locked
and an unknown address that is: 200 tries each, in turn, one at a time, over HTTP with the argon2id of the defaults.

`p value` is how often a random division of the same tries into two shows as large a difference of medians as known and
unknown do (10,000 divisions): below 0.01 an attacker could tell them apart.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.servers import served
from heallog import bootstrap, config
from heallog.adapters import logs
from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations

TRIES = 200
FREE = 4
"""Tries of one address before it locks; the setting allows five."""
DIVISIONS = 10_000
PASSWORD = "kettle violin harbour"
LEAST_P = 0.01

KNOWN, UNKNOWN = "known-{}@example.org", "unknown-{}@example.org"


def measure() -> list[dict[str, Any]]:
    """One row for wrong passwords, one for locked addresses."""
    with tempfile.TemporaryDirectory(prefix="heallog-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as embedded:
            migrations.upgrade(embedded.url)
            key = "k" * 48
            asyncio.run(_people(config.Settings(database_url=embedded.url, secret_key=key, data_dir=Path(folder))))
            environment = {
                "HEALLOG_DATABASE_URL": embedded.url,
                "HEALLOG_SECRET_KEY": key,
                "HEALLOG_DATA_DIR": folder,
                "HEALLOG_LOGIN_TRIES_PER_ADDRESS": "1000000",
            }
            with served("heallog.bootstrap:app", 1, environment) as (port, _):
                for kind in (KNOWN, UNKNOWN):
                    _login(port, kind.format("warm"), 401)
                wrong = _measured(port, 401, [number // FREE for number in range(TRIES)])
                # The fifth try of each locks it.
                for kind in (KNOWN, UNKNOWN):
                    for number in range(TRIES // FREE):
                        _login(port, kind.format(number), 401)
                locked = _measured(port, 423, [number % (TRIES // FREE) for number in range(TRIES)])
    return [_row("wrong password", wrong), _row("locked", locked)]


async def _people(settings: config.Settings) -> None:
    """An account for each address that is known."""
    logs.configure("warning")
    wired = bootstrap.container(settings)
    await wired.database().open()
    fields = {"password": PASSWORD, "name": "B", "practice_name": "B"}
    owner = await wired.accounts().found({**fields, "email": KNOWN.format("warm")})
    clinic = owner.practice.id
    role = owner.role
    for number in range(TRIES // FREE):
        await wired.accounts().join(clinic, role, KNOWN.format(number), PASSWORD, "B")
    await wired.database().close()


def _measured(port: int, status: int, numbers: list[int]) -> dict[str, list[float]]:
    """Milliseconds of each try, known and unknown in turn, whichever first by chance."""
    chance = random.Random(20_260)
    seen: dict[str, list[float]] = {KNOWN: [], UNKNOWN: []}
    for number in numbers:
        for kind in chance.sample([KNOWN, UNKNOWN], 2):
            seen[kind].append(_login(port, kind.format(number), status))
    return seen


def _login(port: int, email: str, status: int) -> float:
    body = json.dumps({"email": email, "password": "not the password"}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/auth/login", data=body, headers={"Content-Type": "application/json"}
    )
    began = time.perf_counter()
    try:
        urllib.request.urlopen(request, timeout=30).close()
        answered = 200
    except urllib.error.HTTPError as refusal:
        refusal.read()
        answered = refusal.code
    took = time.perf_counter() - began
    if answered != status:
        raise RuntimeError(f"{email} was answered by {answered}, not {status}")
    return took * 1000


def _row(work: str, seen: dict[str, list[float]]) -> dict[str, Any]:
    known, unknown = seen[KNOWN], seen[UNKNOWN]
    difference = statistics.median(known) - statistics.median(unknown)
    return {
        "refused for": work,
        "tries each": len(known),
        "known median ms": round(statistics.median(known), 2),
        "unknown median ms": round(statistics.median(unknown), 2),
        "difference ms": round(difference, 3),
        "half of known within ms": round(_quartile(known, 3) - _quartile(known, 1), 2),
        "p value": round(_by_chance(known, unknown, abs(difference)), 4),
        "least p": LEAST_P,
    }


def _quartile(values: list[float], number: int) -> float:
    return statistics.quantiles(values, n=4)[number - 1]


def _by_chance(one: list[float], other: list[float], difference: float) -> float:
    """The permutation test of the difference of medians (Fisher)."""
    chance, both = random.Random(1), one + other
    larger = 0
    for _ in range(DIVISIONS):
        chance.shuffle(both)
        apart = statistics.median(both[: len(one)]) - statistics.median(both[len(one) :])
        larger += abs(apart) >= difference
    return (larger + 1) / (DIVISIONS + 1)
