"""Every decision says what holds it, and the page about the hash chain lists exactly what is hashed."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from heallog.domain import versions
from heallog.domain.versions import GENESIS, Change, Collection, Version

from .pages import ROOT

ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PARTS = ("**Why.**", "**Decision.**", "**What it costs.**", "**Held by.**")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("adr", ADRS, ids=lambda adr: adr.stem)
def test_a_decision_says_why_what_at_which_cost_and_what_holds_it(adr: Any) -> None:
    text = adr.read_text(encoding="utf-8")
    places = [text.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert re.search(r"`[\w/.]+\.py(:\w|`)", text[places[-1] :]), "it names no code"


def test_decisions_are_numbered_without_a_gap() -> None:
    for number, adr in enumerate(ADRS, start=1):
        assert adr.name.startswith(f"{number:04}-")
        assert adr.read_text(encoding="utf-8").startswith(f"# {number}. ")


def test_the_chain_hashes_what_its_page_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "adr" / "0003-versions.md").read_text(encoding="utf-8")
    described = page.partition("`metadata` is")[2].partition("The three parts")[0]
    listed = [
        name for line in re.findall(r"^- (.*)$", described, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    ]
    hashed: list[str] = []
    told = versions._metadata
    monkeypatch.setattr(versions, "_metadata", lambda version: hashed.append(told(version)) or hashed[-1])
    version = Version(
        *(
            "hillside",
            Collection.RECORDS,
            "bp-1",
            "alice",
            1,
            None,
            (),
            Change.CREATION,
            b"{}",
            "dr_okafor",
            "phone",
            NOON,
        ),
        *(None, None, "c-1", None, None, b""),
    )
    versions.chain(GENESIS, version)
    assert sorted(listed) == sorted(json.loads(hashed[0]))


def test_the_source_counts_by_its_digest() -> None:
    version = Version(
        *(
            "hillside",
            Collection.RECORDS,
            "bp-1",
            "alice",
            1,
            None,
            (),
            Change.IMPORT,
            b"{}",
            "dr_okafor",
            "phone",
            NOON,
        ),
        *(None, None, "c-1", b"{}", bytes(32), b""),
    )
    assert versions.chain(GENESIS, version) != versions.chain(GENESIS, replace(version, source_digest=bytes([1] * 32)))
