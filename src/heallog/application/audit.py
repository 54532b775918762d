"""Use cases of the audit trail: read it, seal it, prove it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice

from heallog.application import ledger
from heallog.application.ports.audit import AuditReads, Evidence, Kept, Sealing, Witness
from heallog.application.ports.patients import PatientReads
from heallog.application.ports.world import Clock
from heallog.application.trail import Books, audited
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import DIGEST_SIZE, Chosen, Line, Seal, Witnessed, sealed
from heallog.domain.canon import moment
from heallog.domain.errors import NotFound
from heallog.domain.versions import GENESIS

BATCH = 1_000
"""Witnessed seals that are looked up at once."""

EvidenceFactory = Callable[[], AbstractAsyncContextManager[Evidence]]
Watch = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Flaw:
    """The first thing found that cannot be true, as exactly as it can be named."""

    practice_id: str
    what: str
    entry_id: str | None = None
    seal: int | None = None
    collection: str | None = None
    thing_id: str | None = None
    version: int | None = None


@dataclass(slots=True)
class Proof:
    """How much was checked, and the first flaw, if there is one. `unsealed` entries are too new for a seal."""

    entries: int = 0
    seals: int = 0
    witnessed: int = 0
    unsealed: int = 0
    versions: int = 0
    flaw: Flaw | None = None


class Audit:
    """Who may look, and at what. Looking leaves an entry too."""

    def __init__(
        self, reads: AuditReads, patients: PatientReads, evidence: EvidenceFactory, witness: Witness, books: Books
    ) -> None:
        self.books = books
        self._reads = reads
        self._patients = patients
        self._evidence = evidence
        self._witness = witness
        self._alone = asyncio.Lock()

    @audited("audit.read")
    async def page(self, actor: Actor, chosen: Chosen, *, after: str | None, limit: int) -> Sequence[Line]:
        """The practice's entries, newest first."""
        authorise(actor, Permission.READ_AUDIT)
        lines = await self._reads.page(actor.practice_id, chosen, after=after, limit=limit)
        await self.books.listed(actor, "audit.read", patient_id=chosen.patient_id)
        return lines

    @audited("patients.access-log")
    async def access_log(self, actor: Actor, patient_id: str, *, after: str | None, limit: int) -> Sequence[Line]:
        """Who read or changed a patient's record, newest first; of a deleted patient, too. Raises `NotFound`."""
        authorise(actor, Permission.READ_ACCESS_LOG)
        if await self._patients.get(actor.practice_id, patient_id) is None:
            raise NotFound("there is no such patient")
        lines = await self._reads.page(actor.practice_id, Chosen(patient_id), after=after, limit=limit)
        await self.books.listed(actor, "patients.access-log", patient_id=patient_id)
        return lines

    @audited("audit.verify")
    async def verify(self, actor: Actor) -> Proof:
        """Prove the practice's trail and versions. One proof at a time: it reads everything."""
        authorise(actor, Permission.VERIFY_AUDIT)
        await self.books.started(actor, "audit.verify")
        async with self._alone:
            # Before the moment that the evidence is of: a seal that is told later may be too new for it.
            told = self._witness.told()
            async with self._evidence() as evidence:
                return await verify(evidence, told, actor.practice_id)


class Sealer:
    """Seals whatever no transaction can add to any more, and tells it outside the database."""

    def __init__(self, sealing: Sealing, witness: Witness, clock: Clock) -> None:
        self._sealing = sealing
        self._witness = witness
        self._clock = clock

    async def seal(self) -> int:
        """Round after round until nothing is left. How many entries were sealed."""
        entries, more = 0, True
        while more:
            made, more = await self._sealing.round(self._clock())
            if made:
                await asyncio.to_thread(self._witness.tell, made)
            entries += sum(seal.count for seal in made)
        return entries


# -- proving ------------------------------------------------------------------------------------------------------


async def verify(
    evidence: Evidence, told: Iterable[Witnessed] = (), practice_id: str | None = None, watch: Watch | None = None
) -> Proof:
    """Read everything once, in order, in bounded memory; of one practice or of all.

    Seals against each other, entries against seals, seals against what was told outside, entries against versions,
    versions against each other. `watch` hears how much of how much is behind.
    """
    proof = Proof()
    proofs = evidence.proofs
    total = await proofs.size(practice_id) + await evidence.ledger.size(practice_id)

    def behind(versions: int) -> None:
        if watch is not None:
            watch(proof.entries + versions, total)

    proof.flaw = (
        await _chained(proofs.seals(practice_id), proof)
        or await _covered(evidence, practice_id, proof, lambda: behind(0))
        or await _witnessed(evidence, told, practice_id, proof)
        or await _declared(evidence, practice_id)
    )
    if proof.flaw is None:
        books = await ledger.verify(evidence.ledger, lambda versions, _: behind(versions), practice_id)
        proof.versions = books.versions
        if books.flaw is not None:
            flaw = books.flaw
            proof.flaw = Flaw(
                flaw.practice_id,
                flaw.what,
                collection=flaw.collection,
                thing_id=flaw.thing_id,
                version=flaw.version,
            )
    return proof


async def _chained(seals: AsyncIterator[Seal], proof: Proof) -> Flaw | None:
    """Each seal follows from the one before, and begins where that one ended."""
    practice_id, number, previous = "", 0, GENESIS
    edges: dict[int, int] = {}
    async for seal in seals:
        if seal.practice_id != practice_id:
            practice_id, number, previous = seal.practice_id, 0, GENESIS
            edges = {}
        number += 1
        first = seal.entries[0] if seal.entries else None
        if seal.number != number:
            return Flaw(practice_id, f"seal {number} is missing", first, number)
        whole = len(seal.digests) == DIGEST_SIZE * len(seal.entries) > 0 and seal.low < seal.high
        if not whole or seal.low != edges.get(seal.cluster, 0) or seal.hash != sealed(previous, seal):
            return Flaw(practice_id, "the seal is not what was written", first, number)
        edges[seal.cluster] = seal.high
        previous = seal.hash
        proof.seals += 1
    return None


async def _covered(evidence: Evidence, practice_id: str | None, proof: Proof, watch: Callable[[], None]) -> Flaw | None:
    """Every entry is what its seal says, and every entry of a seal is there. What no seal covers must be new."""
    proofs = evidence.proofs
    edges = await proofs.edges()
    entries = _Entries(proofs.entries(practice_id), proof, watch)
    async for seal in proofs.seals(practice_id, by_cluster=True):
        group = seal.practice_id, seal.cluster
        flaw = await _new(entries.before((*group, seal.low)), edges, proof)
        if flaw is None:
            flaw = _difference(seal, [entry async for entry in entries.before((*group, seal.high))])
        if flaw is not None:
            return flaw
    return await _new(entries.before(None), edges, proof)


class _Entries:
    """Entries one after the other, counted, with a look at the next."""

    def __init__(self, entries: AsyncIterator[Kept], proof: Proof, watch: Callable[[], None]) -> None:
        self._entries = entries
        self._next: Kept | None = None
        self._proof = proof
        self._watch = watch

    async def before(self, end: tuple[str, int, int] | None) -> AsyncIterator[Kept]:
        """Up to a place, or to the end."""
        while True:
            entry = self._next or await anext(self._entries, None)
            self._next = entry
            if entry is None or not (end is None or (entry.practice_id, entry.cluster, entry.transaction) < end):
                return
            self._next = None
            self._proof.entries += 1
            if self._proof.entries % 1_000 == 0:
                self._watch()
            yield entry


async def _new(entries: AsyncIterator[Kept], edges: Mapping[int, int], proof: Proof) -> Flaw | None:
    """Entries under no seal. Each round seals all practices up to one edge: behind it nothing can be new."""
    async for entry in entries:
        if entry.transaction < edges.get(entry.cluster, 0):
            return Flaw(entry.practice_id, "the entry is in no seal, and too old to be new", entry.id)
        proof.unsealed += 1
    return None


def _difference(seal: Seal, found: Sequence[Kept]) -> Flaw | None:
    """The first place at which the entries are not those of the seal."""
    there = [entry.id for entry in found]
    for place in range(max(len(seal.entries), len(there))):
        expected = seal.entries[place] if place < len(seal.entries) else ""
        actual = there[place] if place < len(there) else ""
        if actual != expected:
            if expected and expected not in there:
                return Flaw(seal.practice_id, "the entry was removed", expected, seal.number)
            if actual and actual not in seal.entries:
                return Flaw(seal.practice_id, "the entry was added later", actual, seal.number)
            return Flaw(seal.practice_id, "the entry is out of its order", expected or actual, seal.number)
        if found[place].digest != seal.digests[place * DIGEST_SIZE : (place + 1) * DIGEST_SIZE]:
            return Flaw(seal.practice_id, "the entry is not what was written", expected, seal.number)
    return None


async def _witnessed(
    evidence: Evidence, told: Iterable[Witnessed], practice_id: str | None, proof: Proof
) -> Flaw | None:
    """Every seal that was told outside is here, and is that one."""
    mine = (seal for seal in told if practice_id in (None, seal.practice_id))
    while batch := list(islice(mine, BATCH)):
        unknown = await evidence.proofs.unknown(batch)
        if unknown is not None:
            what = f"the seal is not the one that was told on {moment(unknown.at)}: the trail was cut or rewritten"
            return Flaw(unknown.practice_id, what, unknown.first, unknown.number)
        proof.witnessed += len(batch)
    return None


async def _declared(evidence: Evidence, practice_id: str | None) -> Flaw | None:
    """Every version that an entry names is there, and every head's last version is named by an entry."""
    lone = await evidence.proofs.undeclared(practice_id)
    if lone is None:
        return None
    what = "no entry tells of the version" if lone.entry_id is None else "the version of the entry is not there"
    return Flaw(
        lone.practice_id,
        what,
        lone.entry_id,
        collection=lone.collection,
        thing_id=lone.thing_id,
        version=lone.version,
    )
