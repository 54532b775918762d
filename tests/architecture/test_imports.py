"""Who may import whom: the tree keeps every contract of `.importlinter`, and each contract catches who breaks it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from importlinter.api import read_configuration

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / ".importlinter"
SOURCE = ROOT / "src"
CONTRACTS: Mapping[str, str] = {
    contract["id"]: contract["name"] for contract in read_configuration(str(CONFIG))["contracts_options"]
}


def broken(source: Path) -> tuple[set[str], str]:
    """The names of the contracts that a tree breaks, and what the linter has to say."""
    script = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [script, "--no-logo", "--no-cache", "--config", CONFIG],
        cwd=source.parent,
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = set(re.findall(r"^(.+) BROKEN", ran.stdout, re.MULTILINE))
    assert (ran.returncode != 0) == bool(found), ran.stdout + ran.stderr
    return found, ran.stdout


def test_the_tree_keeps_every_contract() -> None:
    found, report = broken(SOURCE)
    assert not found, report
    assert f"{len(CONTRACTS)} kept, 0 broken" in report


BREACHES = [
    ("layers", "domain/patients.py", "from heallog.application import patients"),
    ("layers", "domain/records.py", "import heallog.adapters.postgres.records"),
    ("layers", "application/records.py", "from heallog.entrypoints.http import records"),
    ("layers", "application/ports/records.py", "from heallog.adapters.postgres import records"),
    ("layers", "application/accounts.py", "def read():\n    from heallog import config"),
    ("layers", "adapters/security.py", "from heallog import config"),
    ("layers", "adapters/postgres/database.py", "import heallog.bootstrap"),
    ("layers", "entrypoints/http/app.py", "import heallog.adapters.postgres.database"),
    (
        "layers",
        "entrypoints/cli.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import heallog.bootstrap",
    ),
    ("layers", "bootstrap.py", "import heallog.__main__"),
    ("layers", "utils.py", "import os"),
    ("layers", "common/__init__.py", ""),
    ("capabilities", "application/records.py", "from heallog.application.patients import Patients"),
    ("capabilities", "application/patients.py", "from heallog.application import imports"),
    ("capabilities", "application/versions.py", "from heallog.application.records import Records"),
    ("capabilities", "application/ports/records.py", "from heallog.application.versions import Why"),
    ("capabilities", "application/helpers.py", ""),
    ("versions", "application/accounts.py", "from heallog.application.versions import Why"),
    ("versions", "adapters/memory/versions.py", "import heallog.application.versions"),
    ("pure", "domain/fields.py", "import msgspec"),
    ("pure", "domain/merging.py", "import msgspec"),
    ("pure", "domain/patients.py", "import a_library_that_nobody_has_heard_of"),
    ("pure", "domain/versions.py", "from time import time"),
    ("pure", "domain/access.py", "import secrets"),
    ("pure", "domain/events.py", "import asyncio"),
    ("pure", "application/patients.py", "import structlog"),
    ("pure", "application/sessions.py", "from os import environ"),
    ("pure", "application/ports/unit_of_work.py", "from sqlalchemy.ext.asyncio import AsyncConnection"),
    ("container", "entrypoints/http/app.py", "from dependency_injector.wiring import inject"),
    ("container", "application/records.py", "import dependency_injector"),
    ("container", "__main__.py", "from dependency_injector import providers"),
    ("adapters", "adapters/memory/patients.py", "from heallog.adapters.postgres import patients"),
    ("adapters", "adapters/postgres/patients.py", "import heallog.adapters.world"),
    ("adapters", "adapters/embedded.py", "from heallog.adapters.security import Argon2Passwords"),
]


def test_every_contract_has_its_breach() -> None:
    assert {contract for contract, _, _ in BREACHES} == set(CONTRACTS)


@pytest.mark.parametrize(("contract", "module", "line"), BREACHES)
def test_a_breach_is_caught_by_name(contract: str, module: str, line: str, tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(SOURCE / "heallog", source / "heallog", ignore=shutil.ignore_patterns("__pycache__", "static"))
    planted = source / "heallog" / module
    planted.parent.mkdir(exist_ok=True)
    with planted.open("a", encoding="utf-8") as text:
        text.write(f"\n\n{line}\n")
    found, report = broken(source)
    assert CONTRACTS[contract] in found, report
