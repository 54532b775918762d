"""The page on security: every requirement has its line, and every test that it names is there."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from heallog.domain.passwords import ALWAYS_KNOWN, LONGEST, SHORTEST
from heallog.domain.sessions import ACCESS_TOKEN_LIFE, IDLE_LIFE, MOST_SESSIONS, SESSION_LIFE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| (.+?) \| (.+?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)

REQUIRED = {
    6: {1: 3, 2: 12, 3: 4, 4: 4, 5: 5, 6: 3, 8: 4},
    7: {1: 3, 2: 4, 3: 2, 4: 5, 5: 2, 6: 2},
    9: {1: 3, 2: 4},
}
"""How many requirements of levels 1 and 2 each section of the chapters has (ASVS 5.0.0); they are numbered from 1."""


def test_every_requirement_has_its_line() -> None:
    numbers = [
        f"{chapter}.{section}.{number}"
        for chapter, sections in REQUIRED.items()
        for section, count in sections.items()
        for number in range(1, count + 1)
    ]
    assert [number for number, *_ in LINES] == numbers
    assert Counter(level for _, level, *_ in LINES) == {"1": 23, "2": 37}


@pytest.mark.parametrize(("number", "verdict", "how", "test"), [(line[0], *line[3:]) for line in LINES])
def test_a_line_that_is_met_or_departs_names_a_test_that_is_there(
    number: str, verdict: str, how: str, test: str
) -> None:
    assert verdict in ("met", "departs", "does not apply"), number
    if verdict != "met":
        assert how, "why?"
    if verdict == "does not apply":
        assert not test
        return
    found = re.fullmatch(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", test)
    assert found, test
    assert re.search(rf"^(async )?def {found[1]}\(", (ROOT / found[2]).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_names_the_words_that_passwords_may_not_lean_on() -> None:
    assert all(f"`{word}`" in PAGE for word in ALWAYS_KNOWN)
    assert f"{SHORTEST} to {LONGEST} characters" in PAGE


def test_the_page_names_the_lives_of_sessions() -> None:
    assert f"Access tokens live {ACCESS_TOKEN_LIFE.seconds // 60} minutes" in PAGE
    assert f"after {IDLE_LIFE.days} days without a refresh, and after {SESSION_LIFE.days} days in all" in PAGE
    assert f"at most {MOST_SESSIONS};" in PAGE


def test_every_public_route_is_a_way_in_that_is_named() -> None:
    from tests.http.operations import PUBLIC

    assert all(f"`{method} {path}`" in PAGE for method, path in PUBLIC.values())


def test_production_does_not_start_with_the_demos_people(own_database: str, folder: Path) -> None:
    shared = {"HEALLOG_DATABASE_URL": own_database, "HEALLOG_DATA_DIR": str(folder / "data"), "PATH": ""}
    demo = [sys.executable, "-m", "heallog", "demo"]
    assert subprocess.run(demo, env=shared, cwd=folder, check=False, capture_output=True).returncode == 0
    production = {
        **shared,
        "HEALLOG_ENVIRONMENT": "production",
        "HEALLOG_SECRET_KEY": "Q7xVb2mZ9rLk4TtYw8NcHs1EdUf6GjPa",
        "HEALLOG_MAIL_URL": "console",
    }
    serve = [sys.executable, "-m", "heallog", "serve"]
    run = subprocess.run(serve, env=production, cwd=folder, check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "of the demo is in this database" in run.stderr
