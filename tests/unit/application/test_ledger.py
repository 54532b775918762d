"""Proving chains of versions with branches in them, and heads in every column that versions make."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heallog.application.ledger import Proof, verify
from heallog.domain.access import Actor, Role
from heallog.domain.versions import Change, Collection, Contribution, Head, Version, advance, branch, unborn

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DR_OKAFOR = Actor("ada", "northside", Role.CLINICIAN, "session-1", "tablet-1", "request-1")


class Books:
    """A ledger of one patient."""

    def __init__(self, head: Head, versions: list[Version]) -> None:
        self.head = head
        self.kept = versions

    async def versions(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Version]:
        for version in self.kept:
            if version.collection == collection and practice_id in (None, version.practice_id):
                yield version

    async def heads(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Head]:
        if collection is self.head.collection and practice_id in (None, self.head.practice_id):
            yield self.head

    async def size(self, practice_id: str | None = None) -> int:
        return len(self.kept)


@pytest.fixture
def books() -> Books:
    """Imported, changed, and changed on another device that had not seen that."""
    head = unborn("northside", Collection.PATIENTS, "alice", "alice", NOON)
    versions = []
    for minute, told in enumerate(({"source": b"{}"}, {})):
        at = Contribution(f"c-{minute}", DR_OKAFOR, NOON + timedelta(minutes=minute))
        head, version = advance(head, {"family_name": f"Smith {minute}"}, Change.IMPORT, at, **told)
        versions.append(version)
    late = Contribution("c-9", replace(DR_OKAFOR, account_id="ben"), NOON + timedelta(minutes=9))
    head, version = branch(head, 1, {"family_name": "Jones"}, Change.MODIFICATION, late)
    return Books(head, [*versions, version])


async def test_a_branch_is_in_the_chain_and_the_head_is_the_trunks(books: Books) -> None:
    assert (books.head.version, books.head.last, books.head.updated_by) == (2, 3, "ada")
    assert await verify(books) == Proof(3, 1, None)
    assert await verify(books, None, "northside") == Proof(3, 1, None)
    assert await verify(books, None, "southside") == Proof(0, 0, None)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": 1},
        {"last": 2},
        {"hash": bytes(32)},
        {"content": b"{}"},
        {"content": None},
        {"patient_id": "bruno"},
        {"created_at": NOON - timedelta(days=1)},
        {"updated_at": NOON + timedelta(minutes=9)},
        {"updated_by": "ben"},
        {"source_digest": None},
        {"source_digest": bytes(32)},
        {"source_version": 2},
    ],
    ids=str,
)
async def test_whatever_of_a_head_its_versions_do_not_say_is_found(books: Books, change: dict[str, Any]) -> None:
    books.head = replace(books.head, **change)
    flaw = (await verify(books)).flaw
    assert flaw is not None
    assert flaw.thing_id == "alice"


@pytest.mark.parametrize("place", range(3))
async def test_a_version_that_is_gone_or_passed_off_as_the_other_sort_is_found(books: Books, place: int) -> None:
    whole = list(books.kept)
    del books.kept[place]
    assert (await verify(books)).flaw is not None
    books.kept = [replace(v, branch=not v.branch) if at == place else v for at, v in enumerate(whole)]
    assert (await verify(books)).flaw is not None


async def test_a_source_that_was_taken_away_is_found(books: Books) -> None:
    books.kept[0] = replace(books.kept[0], source=None)
    flaw = (await verify(books)).flaw
    assert flaw is not None
    assert flaw.version == 1


async def test_a_trunk_without_a_version_is_found(books: Books) -> None:
    books.kept = [replace(books.kept[0], branch=True)]
    assert (await verify(books)).flaw is not None
