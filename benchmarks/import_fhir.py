"""Import of FHIR R4: resources a second, memory, and the second time. By the command line, as an operator does it."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from heallog.adapters.embedded import EmbeddedPostgres

BAR_RATE = 3_000
BAR_MEMORY = 400
SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "fhir-r4" / "patients"


def measure(source: Path = SAMPLE) -> list[dict[str, Any]]:
    """The sample twice; then one file ten times as large as its largest, for memory. Empty without the sample."""
    if not source.is_dir():
        return []
    with tempfile.TemporaryDirectory(prefix="heallog-bench-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as embedded:
            environment = {**os.environ, "HEALLOG_DATABASE_URL": embedded.url, "HEALLOG_DATA_DIR": folder}
            _heallog(environment, "user", "create", "b@example.org", "--name", "B", "--new-practice", "B",
                     "--password-stdin", given="kettle violin harbour\n")  # fmt: skip
            rows = [
                _timed("first import", environment, source),
                _timed("second import", environment, source),
                _timed("one file, ten times the largest", environment, _tenfold(source, Path(folder))),
            ]
    return rows


def _timed(name: str, environment: dict[str, str], path: Path) -> dict[str, Any]:
    began = time.perf_counter()
    printed, peak = _heallog(environment, "import", "fhir", str(path), "--json")
    seconds = time.perf_counter() - began
    types = json.loads(printed)["types"]
    if path.is_dir():
        # Each file holds one type: what was read must be what is there.
        there = {file.name.split(".")[0]: _lines(file) for file in path.glob("*.ndjson.gz")}
        if there != {kind: tally["read"] for kind, tally in types.items()}:
            raise RuntimeError(f"the files hold {there}")
    totals = {
        name: sum(tally[name] for tally in types.values())
        for name in ("read", "created", "updated", "unchanged", "refused", "not_mapped")
    }
    return {
        "work": name,
        **totals,
        "seconds": round(seconds, 1),
        "resources_per_second": round(totals["read"] / seconds),
        "bar": BAR_RATE,
        "peak_memory_mib": round(peak),
        "memory_bar_mib": BAR_MEMORY,
    }


def _lines(path: Path) -> int:
    with gzip.open(path) as file:
        return sum(1 for _ in file)


def _heallog(environment: dict[str, str], *arguments: str, given: str = "") -> tuple[str, float]:
    """What a command printed, and the most memory that it had, in MiB."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as written:
        said.write(given)
        said.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "heallog", *arguments], env=environment, stdin=said, stdout=written
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            raise RuntimeError(f"heallog {arguments[0]} ended with {process.returncode}")
        written.seek(0)
        return written.read(), usage.ru_maxrss / 1024


def _tenfold(source: Path, folder: Path) -> Path:
    """The largest file ten times over, each time with other ids."""
    largest = max(source.glob("*.ndjson.gz"), key=lambda path: path.stat().st_size)
    target = folder / "tenfold.ndjson.gz"
    with gzip.open(target, "wb", compresslevel=1) as out:
        for turn in range(10):
            with gzip.open(largest) as lines:
                for line in lines:
                    out.write(line.replace(b'"id":"', f'"id":"{turn}-'.encode(), 1))
    return target
