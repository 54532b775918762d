"""What every audit trail promises: entries that stay, found again by whom they are about, sealed and provable."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.trail import PostgresTrail
from heallog.application.audit import Proof, verify
from heallog.application.ports.audit import Kept
from heallog.domain.audit import AuditEntry, Chosen, Seal, Witnessed, digest, noted, sealed
from heallog.domain.errors import Unavailable
from heallog.domain.versions import GENESIS

from .clinic import MONDAY, Backend, Clinic

EVERYTHING = Chosen()
ODD = ('quote " and \\', "line\nbreak\ttab\r", "ünïcødé ✓ 😀", "\x01\x1e\x7f", "", "null", "[1,2]")
"""What text can hold; JSON writes some of it in another way."""


def read(clinic: Clinic, id: str, minute: int = 0, **told: Any) -> AuditEntry:
    return noted(id, MONDAY + timedelta(minutes=minute), clinic.dr_okafor, "records.read", **told)


async def page(clinic: Clinic, chosen: Chosen = EVERYTHING, *, after: str | None = None, limit: int = 100) -> list[str]:
    lines = await clinic.backend.audit.reads.page(clinic.id, chosen, after=after, limit=limit)
    return [line.entry.id for line in lines]


async def seal(clinic: Clinic, largest: int = 20_000) -> list[Witnessed]:
    """Seal everything; this practice's seals. Other tests' entries lie in the same database."""
    sealing, made, more = clinic.backend.audit.sealing(largest), [], True
    while more:
        seals, more = await sealing.round(clinic.now)
        made += seals
    return [seal for seal in made if seal.practice_id == clinic.id]


async def seals(clinic: Clinic, *, by_cluster: bool = False) -> list[Seal]:
    async with clinic.backend.audit.evidence() as evidence:
        return [seal async for seal in evidence.proofs.seals(clinic.id, by_cluster=by_cluster)]


async def kept(clinic: Clinic) -> list[Kept]:
    async with clinic.backend.audit.evidence() as evidence:
        return [entry async for entry in evidence.proofs.entries(clinic.id)]


async def prove(clinic: Clinic, told: Sequence[Witnessed] = ()) -> Proof:
    async with clinic.backend.audit.evidence() as evidence:
        return await verify(evidence, told, clinic.id)


# -- the trail ----------------------------------------------------------------------------------------------------


async def test_an_entry_is_there_once_it_is_recorded(backend: Backend, clinic: Clinic) -> None:
    entry = read(clinic, "e-1", collection="records", thing_id="r-1", patient_id="alice", version=3, reason=ODD[2])
    await backend.audit.trail.record(entry)
    [line] = await backend.audit.reads.page(clinic.id, EVERYTHING, after=None, limit=9)
    assert (line.entry, line.account_name) == (entry, "okafor")


async def test_entries_of_many_at_once_are_all_there(backend: Backend, clinic: Clinic) -> None:
    entries = [read(clinic, f"e-{number:04}", subjects=(ODD[2], f"p-{number}")) for number in range(1_500)]
    await asyncio.gather(*map(backend.audit.trail.record, entries))
    lines = await backend.audit.reads.page(clinic.id, EVERYTHING, after=None, limit=5_000)
    assert sorted((line.entry for line in lines), key=lambda entry: entry.id) == entries


async def test_an_entry_that_cannot_be_kept_costs_the_others_nothing(backend: Backend, clinic: Clinic) -> None:
    await backend.audit.trail.record(read(clinic, "e-1"))
    entries = [read(clinic, "e-0"), read(clinic, "e-1"), read(clinic, "e-2")]
    results = await asyncio.gather(*map(backend.audit.trail.record, entries), return_exceptions=True)
    assert [result is None for result in results] == [True, False, True]
    assert sorted(await page(clinic)) == ["e-0", "e-1", "e-2"]


async def test_who_is_cancelled_takes_nobody_along(backend: Backend, clinic: Clinic) -> None:
    tasks = [asyncio.create_task(backend.audit.trail.record(read(clinic, f"e-{number}"))) for number in range(9)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if result is not None and not isinstance(result, asyncio.CancelledError)] == []
    assert set(await page(clinic)) >= {f"e-{number}" for number in range(9) if number != 4}


# -- reading ------------------------------------------------------------------------------------------------------


async def test_the_newest_come_first_and_cursors_lead_on(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    for name, minute in (("b", 1), ("a", 1), ("c", 0), ("d", 2), ("B", 1)):
        await backend.audit.trail.record(read(clinic, name, minute))
    await backend.audit.trail.record(read(elsewhere, "x", 1))
    assert await page(clinic) == ["d", "b", "a", "B", "c"]
    assert await page(clinic, limit=2) == ["d", "b"]
    assert await page(clinic, after="b", limit=2) == ["a", "B"]
    assert await page(clinic, after="c") == await page(clinic, after="nothing") == await page(clinic, after="x") == []


async def test_a_patients_entries_are_those_about_them_and_lists_that_showed_them(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    for place in (elsewhere, clinic):
        await backend.audit.trail.record(read(place, "own", 1, patient_id="alice"))
        await backend.audit.trail.record(read(place, "list", 2, subjects=("bruno", "alice")))
        await backend.audit.trail.record(read(place, "both", 3, patient_id="alice", subjects=("alice",)))
        await backend.audit.trail.record(read(place, "other", 4, patient_id="bruno"))
        await backend.audit.trail.record(read(place, "nobody", 5))
    assert await page(clinic, Chosen("alice")) == ["both", "list", "own"]
    assert await page(clinic, Chosen("alice"), limit=2) == ["both", "list"]
    assert await page(clinic, Chosen("alice"), after="list") == ["own"]
    assert await page(clinic, Chosen("bruno")) == ["other", "list"]
    assert await page(clinic, Chosen("clara")) == []


async def test_entries_are_chosen_by_account_and_time(backend: Backend, clinic: Clinic) -> None:
    for minute in range(4):
        entry = read(clinic, f"e-{minute}", minute, patient_id="alice")
        await backend.audit.trail.record(entry if minute % 2 else replace(entry, account_id=f"{clinic.id}-nobody"))
    mine = clinic.dr_okafor.account_id
    since, until = (MONDAY + timedelta(minutes=minute) for minute in (1, 3))
    assert await page(clinic, Chosen(account_id=mine)) == ["e-3", "e-1"]
    assert await page(clinic, Chosen(since=since, until=until)) == ["e-2", "e-1"]
    assert await page(clinic, Chosen("alice", mine, since, until)) == ["e-1"]
    assert await page(clinic, Chosen("alice", f"{clinic.id}-nobody"), after="e-2") == ["e-0"]
    [line, *_] = await backend.audit.reads.page(
        clinic.id, Chosen(account_id=f"{clinic.id}-nobody"), after=None, limit=1
    )
    assert line.account_name is None


async def test_a_changes_entry_is_read_like_any_other(backend: Backend, clinic: Clinic) -> None:
    written = clinic.patient("alice", family_name="Smith")
    await clinic.write(written)
    lines = await backend.audit.reads.page(clinic.id, Chosen("alice"), after=None, limit=9)
    assert [line.entry for line in lines] == [written.entry]


# -- sealing ------------------------------------------------------------------------------------------------------


async def test_a_seal_is_made_of_what_the_entries_are(backend: Backend, clinic: Clinic) -> None:
    """The database computes it; the domain says what it must be."""
    told = [
        {"thing_id": text, "reason": text, "patient_id": None, "subjects": tuple(ODD[: number + 1])}
        for number, text in enumerate(ODD)
    ]
    entries = {
        entry.id: entry
        for entry in [
            *(read(clinic, f"odd-{number}", number, **fields) for number, fields in enumerate(told)),
            replace(read(clinic, "bare"), at=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
            replace(read(clinic, "full"), version=2**31 - 1, hash=bytes(range(32)), fields=ODD, reason=""),
        ]
    }
    for entry in entries.values():
        await backend.audit.trail.record(entry)
    places = {entry.id: entry for entry in await kept(clinic)}
    for name, entry in entries.items():
        assert digest(entry, places[name].cluster, places[name].transaction) == places[name].digest, name
    assert places.keys() == entries.keys()

    [witnessed] = await seal(clinic)
    [made] = await seals(clinic)
    assert made.entries == tuple(place.id for place in await kept(clinic))
    assert made.digests == b"".join(place.digest for place in await kept(clinic))
    assert made.hash == sealed(GENESIS, made)
    assert witnessed == Witnessed(clinic.id, 1, clinic.now, made.entries[0], len(entries), made.hash)


async def test_seals_follow_from_each_other(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    for number in range(3):
        await backend.audit.trail.record(read(clinic, f"e-{number}"))
        if number == 1:
            await backend.audit.trail.record(read(elsewhere, "e-1"))
        await seal(clinic)
        assert await seal(clinic) == []
    made = await seals(clinic)
    assert [seal.number for seal in made] == [1, 2, 3]
    assert [seal.entries for seal in made] == [("e-0",), ("e-1",), ("e-2",)]
    assert [seal.low for seal in made] == [0, made[0].high, made[1].high]
    assert [seal.hash for seal in made] == [
        sealed(previous, seal) for previous, seal in zip((GENESIS, *(s.hash for s in made)), made, strict=False)
    ]
    assert await seals(clinic, by_cluster=True) == made
    assert [seal.number for seal in await seals(elsewhere)] == [1]


async def test_rounds_are_bounded_and_leave_nothing(backend: Backend, clinic: Clinic) -> None:
    await seal(clinic)
    for number in range(10):
        await backend.audit.trail.record(read(clinic, f"e-{number}"))
    made, more = await backend.audit.sealing(4).round(clinic.now)
    assert (sum(seal.count for seal in made), more) == (4, True)
    await seal(clinic, 4)
    assert [len(seal.entries) for seal in await seals(clinic)] == [4, 4, 2]
    proof = await prove(clinic)
    assert (proof.flaw, proof.entries, proof.seals, proof.unsealed) == (None, 10, 3, 0)


async def test_what_is_too_new_for_a_seal_is_counted(backend: Backend, clinic: Clinic) -> None:
    await backend.audit.trail.record(read(clinic, "e-1"))
    told = await seal(clinic)
    await backend.audit.trail.record(read(clinic, "e-2"))
    proof = await prove(clinic, told)
    assert proof == Proof(entries=2, seals=1, witnessed=1, unsealed=1)


# -- proving ------------------------------------------------------------------------------------------------------


async def test_a_day_of_work_proves_itself(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice")
    note = await clinic.file("note", "alice")
    told = await seal(clinic)
    await clinic.change(alice, family_name="Jones")
    await clinic.delete(note)
    await backend.audit.trail.record(read(clinic, "e-1", collection="records", thing_id="note", version=2))
    told += await seal(clinic)
    proof = await prove(clinic, told)
    assert proof == Proof(entries=5, seals=2, witnessed=2, versions=4)


async def test_a_seal_that_was_told_and_is_not_here_is_missed(backend: Backend, clinic: Clinic) -> None:
    await backend.audit.trail.record(read(clinic, "e-1"))
    [first] = await seal(clinic)
    later = replace(first, number=2, first="e-2")
    other = replace(first, hash=bytes(32))
    for lost in (later, other):
        flaw = (await prove(clinic, [first, lost])).flaw
        assert flaw is not None
        assert (flaw.seal, flaw.entry_id) == (lost.number, lost.first)
    foreign = replace(later, practice_id="elsewhere")
    assert (await prove(clinic, [first, foreign])).flaw is None


async def test_an_entry_without_its_version_is_named(backend: Backend, clinic: Clinic) -> None:
    await clinic.admit("alice")
    for name, told in (("e-1", {"version": 2}), ("e-2", {"version": 1, "hash": bytes(32)})):
        entry = read(clinic, name, collection="patients", thing_id="alice", version=1)
        async with backend.uow() as uow:
            await uow.audit([replace(entry, **told)])
            await uow.commit()
        flaw = (await prove(clinic)).flaw
        assert flaw is not None
        assert (flaw.entry_id, flaw.thing_id) == ("e-1", "alice")


async def test_a_version_that_nobody_declared_is_named(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice")
    forged = clinic.next(alice, {"family_name": "Jones"})
    silent = replace(forged, entry=replace(forged.entry, hash=None))
    await clinic.write(replace(silent, entry=replace(silent.entry, thing_id="alice", version=2)))
    await backend.audit.trail.record(read(clinic, "e-9", collection="patients", thing_id="alice", version=2))
    flaw = (await prove(clinic)).flaw
    # PostgreSQL writes the version's own hash into its entry: there a change cannot be silent.
    assert (flaw is None) == (backend.name == "postgres")


# -- what only PostgreSQL can do: several at once -----------------------------------------------------------------

ON_POSTGRES = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


@ON_POSTGRES
async def test_what_is_not_committed_yet_holds_the_seal_back(backend: Backend, clinic: Clinic) -> None:
    """Its entries come later, into the middle of the order: the seal ends before them."""
    await seal(clinic)
    async with backend.uow() as slow:
        await slow.audit([read(clinic, "slow")])
        await backend.audit.trail.record(read(clinic, "quick"))
        assert await seal(clinic) == []
        assert (await prove(clinic)).unsealed == 1
        await slow.commit()
    [made] = await seal(clinic)
    assert made.count == 2
    assert [entry.id for entry in await kept(clinic)] == ["slow", "quick"]
    assert (await prove(clinic, [made])).flaw is None


@ON_POSTGRES
async def test_two_sealers_do_not_seal_twice(backend: Backend, clinic: Clinic) -> None:
    for turn in range(5):
        await backend.audit.trail.record(read(clinic, f"e-{turn}"))
        await asyncio.gather(*(seal(clinic) for _ in range(4)))
    await seal(clinic)
    proof = await prove(clinic)
    assert (proof.flaw, proof.entries, proof.unsealed) == (None, 5, 0)


@ON_POSTGRES
async def test_writers_while_it_is_being_sealed(backend: Backend, clinic: Clinic) -> None:
    told: list[Witnessed] = []
    over = asyncio.Event()

    async def sealing() -> None:
        while not over.is_set():
            told.extend(await seal(clinic, 50))

    async def changing(patient: str) -> None:
        head = await clinic.admit(patient)
        for number in range(10):
            await backend.audit.trail.record(read(clinic, f"{patient}-{number}"))
            head = await clinic.change(head, family_name=f"Name {number}")

    task = asyncio.create_task(sealing())
    await asyncio.gather(*(changing(f"p-{number}") for number in range(5)))
    over.set()
    await task
    told += await seal(clinic)
    proof = await prove(clinic, told)
    assert (proof.flaw, proof.entries, proof.unsealed) == (None, 5 * 21, 0)
    assert proof.seals == proof.witnessed == len(told) > 1


@ON_POSTGRES
async def test_another_servers_entries_are_sealed_first(backend: Backend, clinic: Clinic, database: Database) -> None:
    """As they come out of a dump: the numbers of its transactions say nothing here."""
    await seal(clinic)
    for name, cluster, transaction in (("old-2", 7, 2**40), ("old-1", 7, 5), ("oldest", 0, 0)):
        await database.pool.execute(
            "INSERT INTO audit_entries (practice_id, id, at, account_id, role, session_id, device_id, request_id,"
            " action, outcome, fields, cluster, transaction)"
            " VALUES ($1, $2, now(), '', '', '', '', '', 'x', 'done', '{}', $3, $4)",
            clinic.id, name, cluster, transaction,
        )  # fmt: skip
    await backend.audit.trail.record(read(clinic, "new"))
    told = await seal(clinic)
    made = await seals(clinic)
    assert [seal.entries for seal in made] == [("oldest",), ("old-1", "old-2"), ("new",)]
    assert [seal.cluster for seal in made][:2] == [0, 7]
    assert [seal.low for seal in made] == [0, 0, 0]
    assert len(told) == 3
    proof = await prove(clinic, told)
    assert (proof.flaw, proof.entries, proof.unsealed) == (None, 4, 0)


@ON_POSTGRES
async def test_what_comes_after_its_time_was_sealed_is_named(
    backend: Backend, clinic: Clinic, elsewhere: Clinic, database: Database
) -> None:
    """Also where the practice has no seal, or none that is that late: a round seals all practices up to one edge."""
    await backend.audit.trail.record(read(elsewhere, "e-1"))
    await seal(elsewhere)
    [place] = await kept(elsewhere)
    await database.pool.execute(
        "INSERT INTO audit_entries (practice_id, id, at, account_id, role, session_id, device_id, request_id, action,"
        " outcome, fields, cluster, transaction) SELECT $1, 'late', at, account_id, role, session_id, device_id,"
        " request_id, action, outcome, fields, $2, $3 FROM audit_entries WHERE practice_id = $4",
        clinic.id,
        place.cluster,
        place.transaction,
        elsewhere.id,
    )
    await seal(clinic)
    flaw = (await prove(clinic)).flaw
    assert flaw is not None
    assert (flaw.entry_id, flaw.seal) == ("late", None)


@ON_POSTGRES
async def test_batches_are_bounded_and_one_is_on_its_way_at_a_time(clinic: Clinic, database: Database) -> None:
    batches: list[int] = []

    class Counting:
        async def fetch(self, statement: Any, **parameters: Any) -> Any:
            batches.append(len(parameters["id"]))
            return await database.fetch(statement, **parameters)

        row = database.row

    trail = PostgresTrail(Counting(), largest=10)
    await asyncio.gather(*(trail.record(read(clinic, f"e-{number}")) for number in range(25)))
    assert batches == [10, 10, 5]
    await trail.close()


@ON_POSTGRES
async def test_closing_keeps_what_was_taken_and_takes_no_more(clinic: Clinic, database: Database) -> None:
    trail = PostgresTrail(database, largest=3)
    tasks = [asyncio.create_task(trail.record(read(clinic, f"e-{number}"))) for number in range(10)]
    await asyncio.sleep(0)
    await trail.close()
    assert await asyncio.gather(*tasks) == [None] * 10
    assert len(await page(clinic)) == 10
    with pytest.raises(Unavailable):
        await trail.record(read(clinic, "late"))


@ON_POSTGRES
async def test_without_the_database_nothing_is_promised(clinic: Clinic, database_url: str) -> None:
    gone = Database(database_url, connections=1)
    trail = PostgresTrail(gone)
    results = await asyncio.gather(
        *(trail.record(read(clinic, f"e-{number}")) for number in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [Unavailable] * 3
    await gone.open()
    await trail.record(read(clinic, "later"))
    assert await page(clinic) == ["later"]
    await gone.close()


@ON_POSTGRES
async def test_a_trail_that_hangs_is_called_off_in_the_end(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heallog.adapters.postgres.trail.CLOSING", 0.05)

    class Hanging:
        async def fetch(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        row = fetch

    trail = PostgresTrail(Hanging(), largest=1)
    tasks = [asyncio.create_task(trail.record(read(clinic, f"e-{number}"))) for number in range(3)]
    await asyncio.sleep(0)
    await trail.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
