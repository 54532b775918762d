"""Import of FHIR R4: resources a second, memory, and the second time. By the command line, as an operator does it."""

import gzip
import json
import os
import resource
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
                     "--password-stdin", given="bench bench bench\n")  # fmt: skip
            rows = [
                _timed("first import", environment, source),
                _timed("second import", environment, source),
                _timed("one file, ten times the largest", environment, _tenfold(source, Path(folder))),
            ]
    return rows


def _timed(name: str, environment: dict[str, str], path: Path) -> dict[str, Any]:
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    report = json.loads(_heallog(environment, "import", "fhir", str(path), "--json"))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    totals = {
        name: sum(tally[name] for tally in report["types"].values())
        for name in ("read", "created", "updated", "unchanged", "refused", "not_mapped")
    }
    return {
        "work": name,
        **totals,
        "seconds": round(seconds, 1),
        "resources_per_second": round(totals["read"] / seconds),
        "bar": BAR_RATE,
        # The largest child so far: where it did not grow, this run stayed below it.
        "peak_memory_mib": round(peak),
        "peak_memory_before_mib": round(before / 1024),
        "memory_bar_mib": BAR_MEMORY,
    }


def _heallog(environment: dict[str, str], *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "heallog", *arguments],
        env=environment, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr)
    return done.stdout


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
