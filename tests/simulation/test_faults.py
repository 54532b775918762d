"""The stories find what they are for: with a fault planted in the product, one of fifty of them fails.

For each fault the first seed is one that found it, so that this costs a story for each. `HEALLOG_FAULTS=1` counts
instead how many of the fifty seeds from 0 on find it.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from heallog.adapters.postgres import feed
from heallog.adapters.postgres.sync import SyncRepository
from heallog.application.sync import rows
from heallog.domain import conflicts
from heallog.domain.sync import Feed

from .house import House, Wrong, planted
from .story import Story

Fault = Callable[[House], AbstractContextManager[None]]


def _numbers_before_the_commit(house: House) -> AbstractContextManager[None]:
    """A change gets its number when it is made, and is there to be seen a while later."""
    write = feed.write

    async def early(executor: Any, told: Feed) -> None:
        taken = {}
        for practice_id, _ in told.told():
            taken[practice_id] = await house.container.database().pool.fetchval(
                "UPDATE sync_heads SET seq = seq + 1 WHERE practice_id = $1 RETURNING seq", practice_id
            )
        await asyncio.sleep(0.03)  # the fault itself
        await write(executor, told)
        for practice_id, seq in taken.items():
            of = f"practice_id = '{practice_id}'"
            moved = f"UPDATE change_feed SET seq = {seq} WHERE {of} AND seq = (SELECT seq FROM sync_heads WHERE {of})"
            await executor.connection.execute(moved)

    return planted(feed, "write", early)


def _merges_are_not_told(_: House) -> AbstractContextManager[None]:
    wrote = Feed.wrote
    return planted(
        Feed, "wrote", lambda self, written: wrote(self, [one for one in written if not one.head.merged_from])
    )


def _deletions_are_not_told(_: House) -> AbstractContextManager[None]:
    wrote = Feed.wrote
    return planted(Feed, "wrote", lambda self, written: wrote(self, [one for one in written if not one.head.deleted]))


def _what_was_pushed_does_not_come_again(_: House) -> AbstractContextManager[None]:
    return planted(Feed, "again", lambda *_: None)


def _disputes_are_dropped(_: House) -> AbstractContextManager[None]:
    reconcile = conflicts.reconcile
    return planted(conflicts, "reconcile", lambda *given: replace(reconcile(*given), disputes=()))


def _answers_are_not_kept(_: House) -> AbstractContextManager[None]:
    async def forgotten(*_: Any) -> None:
        return None

    return planted(SyncRepository, "keep", forgotten)


def _the_base_is_the_fresh_timestamp(_: House) -> AbstractContextManager[None]:
    return planted(rows, "_base", lambda standing, _: standing.after or 1)


def _a_pushed_row_counts_as_seen(_: House) -> AbstractContextManager[None]:
    """The base of a client without tokens, as it was taken before this simulation was written."""
    base = rows._base
    return planted(rows, "_base", lambda standing, named: base(replace(standing, since=None), named))


def _another_value_takes_a_dispute_away(_: House) -> AbstractContextManager[None]:
    """The conflict after another measured value, as it was before this simulation was written."""
    touched = conflicts.touched

    def coarse(conflict: conflicts.Conflict, before: Any, after: Any) -> frozenset[str]:
        names = {name.partition(".")[0] for name in touched(conflict, before, after)}
        names |= {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        return frozenset(one.field for one in conflict.disputes if one.field.partition(".")[0] in names)

    return planted(conflicts, "touched", coarse)


FAULTS: dict[Fault, int] = {
    _merges_are_not_told: 0,
    _deletions_are_not_told: 2,
    _what_was_pushed_does_not_come_again: 6,
    _disputes_are_dropped: 4,
    _answers_are_not_kept: 7,
    _the_base_is_the_fresh_timestamp: 13,
    _a_pushed_row_counts_as_seen: 48,
    _another_value_takes_a_dispute_away: 4,
}
"""With the first seed that is tried."""

BY_CHANCE: dict[Fault, int] = {_numbers_before_the_commit: 0}
"""Found by who happens to meet whom: it may take many stories. `tests/scenarios` finds it for certain."""


async def _finds(seed: int, house: House, canary: bytes) -> bool:
    try:
        await Story(seed, house, canary).run()
    except Wrong:
        return True
    return False


@pytest.mark.parametrize(
    "fault",
    FAULTS | (BY_CHANCE if os.environ.get("HEALLOG_FAULTS") else {}),
    ids=lambda fault: fault.__name__.strip("_"),
)
async def test_a_planted_fault_is_found(fault: Fault, house: House, canary: bytes) -> None:
    with fault(house):
        if os.environ.get("HEALLOG_FAULTS"):
            found = [seed for seed in range(50) if await _finds(seed, house, canary)]
            print(f"\n{fault.__name__}: {len(found)} of 50: {found}")
            assert found
            return
        for seed in range(FAULTS[fault], FAULTS[fault] + 50):
            if await _finds(seed, house, canary):
                print(f"{fault.__name__} is found by seed {seed}")
                return
    pytest.fail("fifty stories did not find it")
