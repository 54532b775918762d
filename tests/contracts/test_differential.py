"""Whatever is done, in whatever order: memory and PostgreSQL answer alike."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heallog.adapters.memory.store import ConstraintViolated
from heallog.adapters.postgres.database import Database
from heallog.application.ports.records import RecordFilter
from heallog.domain.audit import Written
from heallog.domain.conflicts import Conflict, Dispute, Kind, Severity, State
from heallog.domain.errors import DomainError
from heallog.domain.versions import Collection, Contribution, Head, unborn

from .clinic import MINUTE, MONDAY, Clinic, memory, postgres, things

Step = Callable[[Clinic], Awaitable[object]]
"""Does or asks one thing and gives what came of it."""

PEOPLE = ("a", "A", "b-1", "b.1", "nobody")
NOTES = ("n1", "n2", "N2", "a", "nothing")
NAMES = ("García", "Garcia", "GARICA", "Smith", "Smithson", "Ångström", "O'Brien", "王", "\ufa0e", "\U00020bb7", "")
DEVICES = ("tablet-1", "laptop-2")
CONFLICTS = (
    *(("one", Collection.RECORDS, "n1", "a"), ("two", Collection.RECORDS, "n1", "a")),
    *(("Three", Collection.PATIENTS, "n1", "b-1"), ("four", Collection.PATIENTS, "a", "a")),
)
"""Their ids, and what they are about: two of them about one thing."""
CODES = ("29463-7", "8302-2")
NUMBERS = ("555 010 0199", "MRN-0042", "0100100")
TYPED = (*NAMES[:-1], "garcia s", "smi", "o", "5550100199", "010", "99", "garica 0042", "smiht 010010", "mrn-0024")
MOMENTS = ("2026-03-02T08:03:00.000Z", "2026-03-02T08:03:00.001Z", "2026-03", "2025", "2026-03-02")

owners = st.sampled_from(("a", "a", "a", *PEOPLE))
people, notes = st.sampled_from(PEOPLE), st.sampled_from(NOTES)
collections = st.sampled_from(Collection)
devices = st.sampled_from(DEVICES)
states = st.sampled_from(State)
limits = st.integers(0, 4)
instants = st.none() | st.integers(0, 20).map(lambda minutes: MONDAY + minutes * MINUTE)
tags = st.sampled_from(("asthma", "diabetes"))

patient_contents = st.fixed_dictionaries(
    {"family_name": st.sampled_from(NAMES)},
    optional={
        "given_name": st.sampled_from(NAMES),
        "phone": st.sampled_from(NUMBERS),
        "identifiers": st.lists(st.sampled_from(NUMBERS).map(lambda value: {"value": value}), max_size=2),
        "tags": st.lists(tags, unique=True),
    },
)
record_contents = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(("note", "observation")),
        "status": st.sampled_from(("draft", "signed")),
        "text": st.text(st.characters(codec="utf-8"), max_size=5),
    },
    optional={
        "occurred_at": st.sampled_from(MOMENTS),
        "code": st.sampled_from(CODES).map(lambda code: {"code": code}),
    },
)


# -- writing ------------------------------------------------------------------------------------------------------


@st.composite
def writes(draw: st.DrawFn) -> Step:
    """One unit of work with up to three appends, each of up to three things, mostly as a use case would do it."""
    batches = st.lists(_changes(), max_size=3, unique_by=lambda change: change[0])
    parts = draw(
        st.lists(
            st.tuples(collections, batches),
            min_size=1,
            max_size=3,
        )
    )
    committed = draw(st.sampled_from((True, True, True, False)))

    device = draw(devices)

    async def step(clinic: Clinic) -> object:
        contribution = clinic.contribution(device)
        done: list[object] = []
        async with clinic.backend.uow() as uow:
            for collection, changes in parts:
                heads = await things(uow, collection).lock(clinic.id, [name for name, *_ in changes])
                done.append(heads)
                written = []
                for name, patient, content, skew, source, late in changes:
                    of = name if collection is Collection.PATIENTS else patient
                    head = heads.get(name) or unborn(clinic.id, collection, name, of, contribution.at)
                    head = replace(head, last=max(0, head.last + skew))
                    mine = content[collection]
                    if late is None or not head.version:
                        written.append(clinic.next(head, mine, contribution=contribution, source=source))
                    else:
                        written.append(late(clinic, head, mine, contribution))
                await things(uow, collection).append(written)
                done.append(await uow.patients.present(clinic.id, PEOPLE))
                done += [await uow.versions.history(clinic.id, collection, name, None, 99) for name, *_ in changes]
            if committed:
                await uow.commit()
        return done

    return step


Late = Callable[[Clinic, Head, dict[str, Any] | None, Contribution], Written]


def _beside(back: int, conflict_id: str | None) -> Late:
    """Kept beside the trunk, from a version some way back (or from none)."""

    def late(clinic: Clinic, head: Head, mine: dict[str, Any] | None, contribution: Contribution) -> Written:
        written = clinic.beside(head, max(0, head.version - back), mine, contribution=contribution)
        return replace(written, head=replace(written.head, conflict_id=conflict_id))

    return late


def _merged(back: int) -> Late:
    """Kept beside the trunk and merged in the same step: the merge is what it says where it says something."""

    def late(clinic: Clinic, head: Head, mine: dict[str, Any] | None, contribution: Contribution) -> Written:
        both = mine or {"kind": "note", "status": "draft", "family_name": "García"}
        return clinic.merged(head, max(0, head.version - back), mine, both, contribution=contribution)

    return late


def _changes() -> st.SearchStrategy[tuple[str, str, dict[Collection, Any], int, bytes | None, Late | None]]:
    """What, of whom, its content (or its deletion), how far beside the right number, from which source, how late."""
    contents = st.fixed_dictionaries(
        {Collection.PATIENTS: st.none() | patient_contents, Collection.RECORDS: st.none() | record_contents}
    )
    skews = st.sampled_from((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 1))
    sources = st.sampled_from((None, None, b'{"a": 1.0, "a":"\\u0000"}'))
    back = st.integers(0, 3)
    late = st.one_of(
        st.none(), st.none(), st.builds(_beside, back, st.sampled_from((None, "conflict-1"))), st.builds(_merged, back)
    )
    return st.tuples(st.sampled_from(PEOPLE[:-1] + NOTES[:-1]), owners, contents, skews, sources, late)


@st.composite
def disputes(draw: st.DrawFn) -> Step:
    """Up to three conflicts, put where they may be, or where one is open already."""
    put = draw(st.lists(st.tuples(st.sampled_from(CONFLICTS), states), max_size=3, unique_by=lambda one: one[0][0]))
    held = draw(st.lists(st.sampled_from(("dose", "title")), min_size=1, max_size=2))

    async def step(clinic: Clinic) -> object:
        disputed = tuple(
            Dispute(name, Kind.FIELD, Severity.HARD, "manual", "", None, [1], {"a": None}, 0.5, 3, "b", "c", MONDAY)
            for name in held
        )
        made = [
            Conflict(clinic.id, f"{clinic.id}-{id_}", *about, state, 1, 2, (2, 3), disputed, MONDAY, clinic.now)
            for (id_, *about), state in put
        ]
        async with clinic.backend.uow() as uow:
            await uow.conflicts.put(made)
            these = await uow.conflicts.these(clinic.id, [conflict.id for conflict in made])
            await uow.commit()
        return these

    return step


# -- asking -------------------------------------------------------------------------------------------------------


def asks() -> st.SearchStrategy[Step]:
    chosen = st.builds(
        RecordFilter,
        st.sampled_from((None, "note")),
        st.sampled_from((None, "signed")),
        instants,
        instants,
        st.sampled_from((None, *CODES)),
    )
    return st.one_of(
        st.builds(_page, st.none() | people, limits, st.none() | tags, instants),
        st.builds(_search, st.sampled_from(TYPED), limits.map(lambda limit: limit + 1), st.none() | tags, instants),
        st.builds(_records_of, people, chosen, st.none() | notes, limits),
        st.builds(_history, collections, people | notes, st.none() | st.integers(-1, 6), limits),
        st.builds(_numbered, collections, people | notes, st.lists(st.integers(-1, 6), max_size=4)),
        st.builds(_lineage, collections, people | notes, st.integers(-1, 6), devices),
        st.builds(_conflicts, st.none() | states, st.none() | owners, limits),
        st.builds(_get, people, notes),
    )


def _page(after: str | None, limit: int, tag: str | None, since: Any) -> Step:
    return lambda clinic: clinic.page(after=after, limit=limit, tag=tag, since=since)


def _search(text: str, limit: int, tag: str | None, since: Any) -> Step:
    return lambda clinic: clinic.search(text, limit=limit, tag=tag, since=since)


def _records_of(patient: str, chosen: RecordFilter, after: str | None, limit: int) -> Step:
    return lambda clinic: clinic.records_of(patient, chosen, after=after, limit=limit)


def _history(collection: Collection, name: str, before: int | None, limit: int) -> Step:
    return lambda clinic: clinic.backend.versions.history(clinic.id, collection, name, before, limit)


def _numbered(collection: Collection, name: str, numbers: list[int]) -> Step:
    return lambda clinic: clinic.backend.versions.numbered(clinic.id, collection, name, numbers)


def _lineage(collection: Collection, name: str, base: int, device: str) -> Step:
    return lambda clinic: clinic.backend.versions.lineage(clinic.id, collection, name, base, device)


def _conflicts(state: State | None, patient: str | None, limit: int) -> Step:
    return lambda clinic: clinic.backend.conflicts.page(
        clinic.id, state=state, patient_id=patient, after=None, limit=limit
    )


def _get(patient: str, note: str) -> Step:
    async def step(clinic: Clinic) -> object:
        return (
            await clinic.backend.patients.get(clinic.id, patient),
            await clinic.backend.records.get(clinic.id, note),
        )

    return step


# -- comparing ----------------------------------------------------------------------------------------------------


async def _came_of(step: Step, clinic: Clinic) -> object:
    """A refusal is an outcome too. Where it is no domain error, each place has its own."""
    try:
        return await step(clinic)
    except DomainError as refused:
        return type(refused)
    except (ConstraintViolated, asyncpg.PostgresError, RuntimeError):
        return "what no use case may do"


async def _everything(clinic: Clinic) -> list[object]:
    """What is kept, asked for from every side."""
    minutes = [MONDAY + number * MINUTE for number in range(12)]
    kept = [(collection, name) for collection in Collection for name in (*PEOPLE, *NOTES)]
    return [
        [await clinic.page(after=after) for after in (None, *PEOPLE)],
        [await clinic.page(since=since) for since in minutes],
        [await clinic.search(text) for text in TYPED],
        [await clinic.records_of(patient, after=after) for patient in PEOPLE for after in (None, *NOTES)],
        [await clinic.records_of("a", RecordFilter(since=since)) for since in minutes],
        [await clinic.records_of("a", RecordFilter(until=until)) for until in minutes],
        [await clinic.backend.versions.numbered(clinic.id, *thing, range(12)) for thing in kept],
        [
            await clinic.backend.versions.lineage(clinic.id, *thing, base, device)
            for thing in kept
            for base in range(4)
            for device in DEVICES
        ],
        await _conflicts(None, None, 99)(clinic),
    ]


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(writes() | disputes() | asks(), min_size=5, max_size=20))
async def test_memory_and_postgres_answer_alike(database: Database, steps: list[Step]) -> None:
    one = await Clinic(memory()).open()
    other = await Clinic(postgres(database), id=one.id).open()
    for clinic in (one, other):
        await clinic.admit("a", family_name="García", phone="555 010 0199", tags=["asthma"])
        await clinic.admit("b-1", family_name="Smith")
        await clinic.file("n1", of="a", occurred_at="2026-03")
        await clinic.file("n2", of="a")
    for number, step in enumerate(steps):
        assert await _came_of(step, one) == await _came_of(step, other), f"step {number}"
    assert await _everything(one) == await _everything(other)
