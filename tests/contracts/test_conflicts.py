"""What every place where conflicts are kept promises."""

from dataclasses import replace
from typing import Any

import pytest

from heallog.domain.canon import canonical
from heallog.domain.conflicts import Conflict, Dispute, Kind, Resolution, Severity, State
from heallog.domain.errors import DomainError
from heallog.domain.versions import Collection

from .clinic import MINUTE, MONDAY, Backend, Clinic

DOSE = Dispute(
    field="dose",
    kind=Kind.GROUP,
    severity=Severity.SAFETY,
    policy="atomic_group",
    group="dosage",
    base=10,
    theirs=20,
    mine=None,
    proposal=None,
    branch=3,
    author_id="dr_lee",
    device_id="laptop-2",
    at=MONDAY + MINUTE / 1000 * 7,
)
VALUES: tuple[Any, ...] = (
    *(None, True, 1, 0.1, 2**53 - 1, 1e-7, "", "Ångström \u2028 \U00020bb7"),
    *([], ["a", None, {"b": [1]}], {}, {"value": 120, "unit": 'mm"Hg"'}),
)


def about(clinic: Clinic, thing: str, *disputes: Dispute, **told: Any) -> Conflict:
    return Conflict(
        **{
            "practice_id": clinic.id,
            "id": clinic.new_id(),
            "collection": Collection.RECORDS,
            "thing_id": thing,
            "patient_id": "alice",
            "state": State.OPEN,
            "base_version": 1,
            "head_version": 2,
            "branches": (3,),
            "disputes": disputes or (DOSE,),
            "opened_at": MONDAY,
            "updated_at": MONDAY + MINUTE,
        }
        | told
    )


async def put(clinic: Clinic, *conflicts: Conflict) -> None:
    async with clinic.backend.uow() as uow:
        await uow.conflicts.put(conflicts)
        await uow.commit()


async def get(clinic: Clinic, conflict: Conflict) -> Conflict | None:
    return await clinic.backend.conflicts.get(clinic.id, conflict.id)


async def listed(clinic: Clinic, **chosen: Any) -> list[str]:
    everything: dict[str, Any] = {"state": None, "patient_id": None, "after": None, "limit": 100}
    return [conflict.id for conflict in await clinic.backend.conflicts.page(clinic.id, **everything | chosen)]


def over(conflict: Conflict, state: State = State.RESOLVED) -> Conflict:
    return replace(conflict, state=state, updated_at=conflict.updated_at + MINUTE)


# -- keeping ------------------------------------------------------------------------------------------------------


async def test_a_conflict_is_read_back_whole(clinic: Clinic) -> None:
    disputes = (
        DOSE,
        replace(DOSE, field="dose_unit", base="mg", theirs="mg", mine="mg"),
        *(
            replace(DOSE, field=f"values.v{number}", group="", device_id="", base=one, theirs=other, mine=one)
            for number, (one, other) in enumerate(zip(VALUES, VALUES[::-1], strict=True))
        ),
        *(replace(DOSE, kind=kind, proposal=VALUES[number]) for number, kind in enumerate(Kind)),
        *(replace(DOSE, severity=severity) for severity in Severity),
    )
    conflict = about(clinic, "it", *disputes, branches=(3, 7, 12), base_version=0, head_version=11)
    await put(clinic, conflict)
    found = await get(clinic, conflict)
    assert found == conflict
    assert found is not None
    assert [(type(one.kind), type(one.severity)) for one in found.disputes] == [(Kind, Severity)] * len(disputes)
    # 1 is not true, nor 1.0.
    assert [canonical(one.base) for one in found.disputes] == [canonical(one.base) for one in disputes]
    assert (type(found.state), type(found.collection)) == (State, Collection)


async def test_a_decision_is_read_back_whole(clinic: Clinic) -> None:
    choices = {"dose": {"take": "mine", "branch_version": 3}, "text": {"value": 'Ä "b"\n'}, "values.v": {"value": None}}
    resolution = Resolution("okafor", MONDAY + MINUTE / 1000, "Asked him.", 4, choices)
    conflict = about(clinic, "it", state=State.RESOLVED, resolution=resolution)
    await put(clinic, conflict)
    assert await get(clinic, conflict) == conflict


async def test_a_conflict_without_branches_has_none(clinic: Clinic) -> None:
    conflict = about(clinic, "it", branches=())
    await put(clinic, conflict)
    assert await get(clinic, conflict) == conflict


async def test_putting_it_again_is_its_next_state(clinic: Clinic) -> None:
    conflict = about(clinic, "it")
    await put(clinic, conflict)
    joined = replace(
        conflict,
        base_version=0,
        head_version=5,
        branches=(3, 5),
        disputes=(DOSE, replace(DOSE, field="title", group="", kind=Kind.FIELD, severity=Severity.HARD)),
        updated_at=MONDAY + 9 * MINUTE,
    )
    await put(clinic, joined)
    assert await get(clinic, conflict) == joined
    resolved = replace(over(joined), resolution=Resolution("okafor", MONDAY, "So.", 6, {}))
    await put(clinic, resolved)
    assert await get(clinic, conflict) == resolved
    assert await listed(clinic) == [conflict.id]


async def test_what_it_is_about_and_when_it_began_never_change(clinic: Clinic) -> None:
    conflict = about(clinic, "it")
    await put(clinic, conflict)
    moved = replace(
        conflict, collection=Collection.PATIENTS, thing_id="other", patient_id="bruno", opened_at=MONDAY - MINUTE
    )
    await put(clinic, replace(moved, head_version=9))
    assert await get(clinic, conflict) == replace(conflict, head_version=9)


async def test_putting_nothing_is_nothing(clinic: Clinic) -> None:
    await put(clinic)
    assert await listed(clinic) == []


async def test_several_are_kept_at_once(clinic: Clinic) -> None:
    known = about(clinic, "one")
    await put(clinic, known)
    conflicts = [over(known), about(clinic, "two", branches=(2, 3)), about(clinic, "three", branches=())]
    await put(clinic, *conflicts)
    for conflict in conflicts:
        assert await get(clinic, conflict) == conflict


async def test_a_thing_has_one_open_conflict_at_most(clinic: Clinic, elsewhere: Clinic) -> None:
    first = about(clinic, "it")
    await put(clinic, first)
    second = about(clinic, "it")
    with pytest.raises(Exception) as refused:
        await put(clinic, second)
    assert not isinstance(refused.value, DomainError)
    assert await get(clinic, second) is None
    # What is over, another thing's, another collection's or another practice's is no second one.
    others = [about(clinic, "that"), about(clinic, "it", collection=Collection.PATIENTS)]
    await put(clinic, *others, *(over(about(clinic, "it"), state) for state in (State.RESOLVED, State.SUPERSEDED)))
    await put(elsewhere, about(elsewhere, "it"))
    await put(clinic, over(first))
    await put(clinic, second)
    assert await get(clinic, second) == second
    with pytest.raises(Exception) as refused:
        await put(clinic, first)
    assert not isinstance(refused.value, DomainError)


async def test_two_in_one_unit_of_work_are_two_as_well(clinic: Clinic) -> None:
    with pytest.raises(Exception) as refused:
        await put(clinic, about(clinic, "it"), about(clinic, "it"))
    assert not isinstance(refused.value, DomainError)
    assert await listed(clinic) == []


async def test_a_conflict_needs_a_practice(clinic: Clinic) -> None:
    with pytest.raises(Exception) as refused:
        await put(clinic, about(clinic, "it", practice_id=f"{clinic.id}-nowhere"))
    assert not isinstance(refused.value, DomainError)


# -- inside a unit of work ----------------------------------------------------------------------------------------


async def test_it_is_kept_with_the_unit_of_work_or_not_at_all(backend: Backend, clinic: Clinic) -> None:
    conflict = about(clinic, "it")
    async with backend.uow() as uow:
        await uow.conflicts.put([conflict])
        assert await uow.conflicts.these(clinic.id, [conflict.id]) == {conflict.id: conflict}
        assert await get(clinic, conflict) is None
        assert await listed(clinic) == []
    assert await get(clinic, conflict) is None


async def test_these_are_those_that_exist(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    one, other, foreign = about(clinic, "one"), over(about(clinic, "other")), about(elsewhere, "one")
    await put(clinic, one, other)
    await put(elsewhere, foreign)
    async with backend.uow() as uow:
        wanted = [other.id, "nothing", one.id, one.id, foreign.id]
        assert await uow.conflicts.these(clinic.id, wanted) == {one.id: one, other.id: other}
        assert await uow.conflicts.these(clinic.id, []) == {}


# -- reading ------------------------------------------------------------------------------------------------------


async def test_another_practice_sees_nothing(clinic: Clinic, elsewhere: Clinic) -> None:
    conflict = about(clinic, "it")
    await put(clinic, conflict)
    assert await elsewhere.backend.conflicts.get(elsewhere.id, conflict.id) is None
    assert await listed(elsewhere) == []
    assert await clinic.backend.conflicts.get(clinic.id, "nothing") is None


async def test_the_same_id_in_two_practices_is_two_conflicts(clinic: Clinic, elsewhere: Clinic) -> None:
    here, there = about(clinic, "it", id="the-same"), about(elsewhere, "it", id="the-same", head_version=9)
    await put(clinic, here)
    await put(elsewhere, there)
    await put(elsewhere, over(there))
    assert (await get(clinic, here), await get(elsewhere, there)) == (here, over(there))


async def test_every_reader_gets_its_own_copy(clinic: Clinic) -> None:
    conflict = about(clinic, "it")
    await put(clinic, conflict)
    one, other = await get(clinic, conflict), await get(clinic, conflict)
    assert one == other
    assert one is not other
    assert one is not conflict


async def test_pages_come_newest_first(clinic: Clinic) -> None:
    ids = [f"{clinic.id}-{name}" for name in ("9", "b", "a-1", "10", "B", "a.1")]
    await put(clinic, *(about(clinic, name, id=name) for name in ids))
    ordered = [f"{clinic.id}-{name}" for name in ("b", "a.1", "a-1", "B", "9", "10")]
    assert await listed(clinic) == ordered
    assert await listed(clinic, limit=2) == ordered[:2]
    assert await listed(clinic, after=ordered[1], limit=2) == ordered[2:4]
    assert await listed(clinic, after=ordered[-1]) == []
    assert await listed(clinic, after=f"{clinic.id}-a.0") == ordered[2:]  # an id of none: what comes after its place
    assert await listed(clinic, limit=0) == []


async def test_pages_are_chosen_by_state_and_patient(clinic: Clinic) -> None:
    conflicts = {
        (state, patient): over(about(clinic, f"{state}-{patient}", patient_id=patient), state)
        for state in State
        for patient in ("alice", "bruno")
    }
    await put(clinic, *conflicts.values())
    newest_first = [conflict.id for conflict in reversed(conflicts.values())]
    assert await listed(clinic) == newest_first
    for (state, patient), conflict in conflicts.items():
        assert await listed(clinic, state=state, patient_id=patient) == [conflict.id]
        assert len(await listed(clinic, state=state)) == 2
        assert len(await listed(clinic, patient_id=patient)) == 3
    assert await listed(clinic, patient_id="nobody") == []
    assert await listed(clinic, state=State.OPEN, after=newest_first[-1]) == []
