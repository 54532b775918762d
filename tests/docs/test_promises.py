"""The page of sync's promises: every scenario has its line, every line a test that is there, every test a line."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sync-promises.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| (?!scenario|---)(.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
TESTS = [re.fullmatch(r"\[(test_\w+)\]\(\.\./(tests/scenarios/test_\w+\.py)\)", test) for _, _, test in LINES]


def there(path: str) -> set[str]:
    """The tests in a file."""
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(("scenario", "what", "test"), LINES)
def test_a_line_names_a_test_that_is_there(scenario: str, what: str, test: str) -> None:
    found = re.fullmatch(r"\[(test_\w+)\]\(\.\./(tests/scenarios/test_\w+\.py)\)", test)
    assert found, scenario
    assert what.endswith("."), scenario
    assert found[1] in there(found[2]), test


def test_every_test_of_a_scenario_has_its_line() -> None:
    told = [(found[2], found[1]) for found in TESTS if found]
    assert len(told) == len(set(told)) == len(LINES) >= 60
    files = sorted((ROOT / "tests" / "scenarios").glob("test_*.py"))
    assert files
    paths = [str(file.relative_to(ROOT)) for file in files]
    assert {(path, test) for path in paths for test in there(path)} <= set(told)
