"""What the pages point to is there: links, their headings, files, and the names in files (`domain/access.py:Actor`)."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .pages import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = (ROOT, ROOT / "src" / "heallog")

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"([\w./-]*\.(?:py|md|toml|ini|template|importlinter))(?::([\w.]+))?")
_FOLDER = re.compile(r"(?:src|tests|benchmarks|docs|domain|application|adapters|entrypoints)(?:/[\w-]+)*/?")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}


def found(path: str) -> list[Path]:
    """The files or folders that a page may mean by a path; a bare name is that of any file in the project's sources."""
    here = [room / path for room in ROOMS if (room / path).exists()]
    return here or (list((ROOT / "src").rglob(path)) if "/" not in path else [])


@cache
def names(file: Path) -> set[str]:
    """Everything that a module defines: `Actor`, `STATUS`, `Records.change`, `Version.hash`."""
    return set(_defined(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + statement.name
        if isinstance(statement, ast.ClassDef):
            yield from _defined(statement.body, f"{prefix}{statement.name}.")
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_name_that_is_mentioned_exists(page: Path) -> None:
    for span in _SPAN.findall(prose(page)):
        if file := _FILE.fullmatch(span):
            candidates = found(file[1])
            assert candidates, span
            assert not file[2] or any(file[2] in names(candidate) for candidate in candidates), span
        elif _FOLDER.fullmatch(span) and "/" in span:
            assert found(span), span


def test_what_is_not_there_is_noticed() -> None:
    assert not found("domain/nothing.py")
    assert not found("nothing.py")
    assert {"Head", "Head.fields", "Head.hash", "GENESIS", "chain"} <= names(found("domain/versions.py")[0])
    assert "Head.nothing" not in names(found("domain/versions.py")[0])
    assert "look-back" in anchors(ROOT / "docs" / "howto" / "records.md")
