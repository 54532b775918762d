"""The use cases of the audit trail, and the entries that all others leave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from heallog.adapters.memory.audit import AuditReads, MemorySealing, MemoryWitness, evidence
from heallog.adapters.memory.patients import PatientReads
from heallog.application.audit import Audit, Proof, Sealer, verify
from heallog.application.trail import Books, audited
from heallog.domain.access import Actor
from heallog.domain.audit import AuditEntry, Chosen, Witnessed
from heallog.domain.errors import (
    Deleted,
    DomainError,
    Forbidden,
    InvalidFields,
    NotFound,
    Unavailable,
    VersionRequired,
)
from heallog.domain.versions import Seen

from .world import MINUTE, World, saw


@pytest.fixture
def witness() -> MemoryWitness:
    return MemoryWitness()


@pytest.fixture
def audit(world: World, witness: MemoryWitness) -> Audit:
    return Audit(
        AuditReads(world.store), PatientReads(world.store), lambda: evidence(world.store), witness, world.books
    )


@pytest.fixture
def sealer(world: World, witness: MemoryWitness) -> Sealer:
    return Sealer(MemorySealing(world.store, largest=3), witness, world.clock)


# -- what use cases leave -----------------------------------------------------------------------------------------


async def test_a_read_leaves_an_entry_of_what_it_showed(world: World) -> None:
    await world.admit("alice")
    note = await world.note("note-1")
    await world.records.get(world.ines, "note-1")
    entry = world.entries[-1]
    assert (entry.action, entry.outcome, entry.account_id, entry.role) == ("records.read", "done", "ines", "auditor")
    assert (entry.collection, entry.thing_id, entry.patient_id, entry.version) == ("records", "note-1", "alice", 1)
    assert (entry.request_id, entry.at, entry.hash) == ("request-1", world.clock.now, None)
    await world.records.history(world.ines, note.id, None, 9)
    await world.records.history(world.ines, note.id, 1, 9)
    assert [(entry.action, entry.patient_id) for entry in world.entries[-2:]] == [
        ("records.history", "alice"),
        ("records.history", None),
    ]


async def test_a_list_names_each_patient_once(world: World) -> None:
    for patient in ("alice", "bruno"):
        await world.admit(patient)
    await world.patients.page(world.ines, after=None, limit=9, tag=None, updated_since=None)
    await world.patients.search(world.ines, "!", limit=9, tag=None, updated_since=None)
    listed, searched = world.entries[-2:]
    assert (listed.action, listed.subjects) == ("patients.list", ("alice", "bruno"))
    assert (searched.action, searched.subjects) == ("patients.search", ())
    await world.books.listed(world.ines, "x.list", subjects=["a", "b", "a"])
    assert world.entries[-1].subjects == ("a", "b")


async def test_a_refusal_leaves_its_code_and_what_it_was_about(world: World) -> None:
    alice = await world.admit("alice")
    await world.patients.delete(world.dr_okafor, "alice", saw(alice))
    tries: list[tuple[Callable[[], Awaitable[object]], type[DomainError], str]] = [
        (lambda: world.patients.get(world.dr_stern, "alice"), NotFound, "patients.read"),
        (lambda: world.patients.get(world.ines, patient_id="alice"), Deleted, "patients.read"),
        (lambda: world.patients.change(world.ines, "alice", {}, Seen(2)), Forbidden, "patients.change"),
    ]
    for ask, kind, action in tries:
        with pytest.raises(kind):
            await ask()
        entry = world.entries[-1]
        assert (entry.outcome, entry.reason, entry.action) == ("refused", kind.code, action)
        assert (entry.collection, entry.thing_id, entry.patient_id, entry.version) == (
            "patients",
            "alice",
            "alice",
            None,
        )


async def test_what_was_no_request_yet_leaves_nothing(world: World) -> None:
    alice = await world.admit("alice")
    before = len(world.entries)
    with pytest.raises(InvalidFields):
        await world.patients.change(world.dr_okafor, "alice", {"colour": "white"}, saw(alice))
    with pytest.raises(VersionRequired):
        await world.patients.change(world.dr_okafor, "alice", {"phone": "0"}, Seen(None))
    assert len(world.entries) == before


class Broken:
    """A trail that keeps nothing, and says so."""

    async def record(self, entry: AuditEntry) -> None:
        raise Unavailable("the database does not answer")


async def test_no_read_and_no_refusal_without_its_entry(world: World) -> None:
    class Reads:
        books = Books(Broken(), world.clock, world.ids)

        @audited("things.read")
        async def read(self, actor: Actor, thing_id: str) -> str:
            if thing_id == "missing":
                raise NotFound("there is no such thing")
            await self.books.started(actor, "things.read")
            return "secret"

    for thing in ("there", "missing"):
        with pytest.raises(Unavailable):
            await Reads().read(world.ines, thing)


# -- reading it ---------------------------------------------------------------------------------------------------


async def test_an_auditor_reads_the_trail_and_that_is_in_it_too(world: World, audit: Audit) -> None:
    await world.admit("alice")
    lines = await audit.page(world.ines, Chosen("alice"), after=None, limit=9)
    assert [line.entry.action for line in lines] == ["patients.create"]
    assert (world.entries[-1].action, world.entries[-1].patient_id) == ("audit.read", "alice")
    with pytest.raises(Forbidden):
        await audit.page(world.dr_okafor, Chosen(), after=None, limit=9)
    assert (world.entries[-1].action, world.entries[-1].outcome) == ("audit.read", "refused")


async def test_who_read_my_record(world: World, audit: Audit) -> None:
    alice = await world.admit("alice")
    world.clock.now += MINUTE
    await world.patients.get(world.amara, "alice")
    world.clock.now += MINUTE
    await world.patients.delete(world.dr_okafor, "alice", saw(alice))
    lines = await audit.access_log(world.dr_okafor, "alice", after=None, limit=9)
    assert [(line.entry.action, line.entry.account_id) for line in lines] == [
        ("patients.delete", "dr_okafor"),
        ("patients.read", "amara"),
        ("patients.create", "dr_okafor"),
    ]
    for actor, patient, refusal in ((world.amara, "alice", Forbidden), (world.dr_stern, "alice", NotFound)):
        with pytest.raises(refusal):
            await audit.access_log(actor, patient, after=None, limit=9)
        assert (world.entries[-1].action, world.entries[-1].outcome) == ("patients.access-log", "refused")


# -- sealing and proving ------------------------------------------------------------------------------------------


async def test_everything_is_sealed_and_told_outside(
    world: World, audit: Audit, sealer: Sealer, witness: MemoryWitness
) -> None:
    for number in range(7):
        await world.admit(f"p-{number}")
    assert await sealer.seal() == 7
    assert await sealer.seal() == 0
    assert [(seal.number, seal.count) for seal in witness.told()] == [(1, 3), (2, 3), (3, 1)]
    proof = await audit.verify(world.ines)
    assert proof == Proof(entries=8, seals=3, witnessed=3, unsealed=1, versions=7)
    with pytest.raises(Forbidden):
        await audit.verify(world.amara)


async def prove(world: World, told: Sequence[Witnessed] = ()) -> Proof:
    async with evidence(world.store) as found:
        return await verify(found, told)


Change = Callable[[World], None]


def edit_entry(world: World) -> None:
    key = "northside", world.entries[1].id
    world.store.audit_entries[key] = replace(world.store.audit_entries[key], account_id="mallory")


def remove_entry(world: World) -> None:
    del world.store.audit_entries["northside", world.entries[1].id]


def add_entry(world: World) -> None:
    entry = world.entries[1]
    world.store.audit_entries["northside", "new"] = replace(entry, id="new")
    world.store.audit_places["northside", "new"] = world.store.audit_places["northside", entry.id]


def swap_entries(world: World) -> None:
    places = world.store.audit_places
    one, other = (("northside", world.entries[place].id) for place in (0, 2))
    places[one], places[other] = places[other], places[one]


def add_an_old_entry(world: World) -> None:
    world.store.audit_entries["southside", "old"] = replace(world.entries[1], practice_id="southside", id="old")
    world.store.audit_places["southside", "old"] = 1


def cut_the_tail(world: World) -> None:
    for id_ in world.store.audit_seals.pop().entries:
        del world.store.audit_entries["northside", id_]


def edit_seal(world: World) -> None:
    world.store.audit_seals[1] = replace(world.store.audit_seals[1], low=0)


def remove_seal(world: World) -> None:
    del world.store.audit_seals[0]


def empty_seal(world: World) -> None:
    world.store.audit_seals[0] = replace(world.store.audit_seals[0], entries=(), digests=b"")


def forge_version(world: World) -> None:
    thing = "northside", "patients", "p-0"
    [version] = world.store.versions[thing]
    world.store.versions[thing] = (replace(version, hash=bytes(32)),)


def edit_head(world: World) -> None:
    row = world.store.patients["northside", "p-0"]
    world.store.patients["northside", "p-0"] = replace(row, head=replace(row.head, updated_by="mallory"))


def declare_nothing(world: World) -> None:
    row = world.store.patients["northside", "p-0"]
    world.store.patients["northside", "p-0"] = replace(row, head=replace(row.head, last=2))


@pytest.mark.parametrize(
    ("change", "what", "entry", "seal"),
    [
        (edit_entry, "not what was written", 1, 1),
        (remove_entry, "removed", 1, 1),
        (add_entry, "added later", None, 1),
        (swap_entries, "out of its order", 0, 1),
        (add_an_old_entry, "too old", None, None),
        (cut_the_tail, "cut or rewritten", 3, 2),
        (edit_seal, "not what was written", 3, 2),
        (remove_seal, "seal 1 is missing", 3, 1),
        (empty_seal, "not what was written", None, 1),
        (forge_version, "version of the entry is not there", 0, None),
        (edit_head, "head is not", None, None),
        (declare_nothing, "no entry tells", None, None),
    ],
)
async def test_whatever_is_changed_is_found_and_named(
    world: World, sealer: Sealer, witness: MemoryWitness, change: Change, what: str, entry: int | None, seal: int | None
) -> None:
    for number in range(5):
        await world.admit(f"p-{number}")
    await sealer.seal()
    ids = [entry.id for entry in world.entries]
    assert (await prove(world, witness.told())).flaw is None
    change(world)
    flaw = (await prove(world, witness.told())).flaw
    assert flaw is not None
    assert what in flaw.what
    assert flaw.seal == seal
    assert flaw.entry_id == (ids[entry] if entry is not None else flaw.entry_id)


async def test_a_proof_tells_how_far_it_is(world: World) -> None:
    heard: list[tuple[int, int]] = []
    for number in range(1_001):
        await world.books.started(world.ines, f"x.{number}")
    async with evidence(world.store) as found:
        await verify(found, watch=lambda behind, total: heard.append((behind, total)))
    assert heard == [(1_000, 1_001)]


async def test_two_proofs_wait_for_each_other(world: World, audit: Audit) -> None:
    proofs = await asyncio.gather(audit.verify(world.ines), audit.verify(world.dr_stern))
    assert [proof.flaw for proof in proofs] == [None, None]
