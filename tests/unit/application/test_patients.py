"""The use cases of patients."""

from typing import Any

import pytest

from heallog.application.versions import Why
from heallog.domain.errors import AlreadyExists, Forbidden, HeldBack, InvalidFields, NotFound
from heallog.domain.events import ContributionCommitted
from heallog.domain.versions import Change, Seen

from .world import MINUTE, NOON, World, saw

ALICE = {"family_name": "Smith", "given_name": "Alice", "tags": ["asthma"]}


# -- create -------------------------------------------------------------------------------------------------------


async def test_dr_okafor_admits_alice(world: World) -> None:
    alice = await world.patients.create(world.dr_okafor, ALICE, why=Why("First visit.", NOON - MINUTE))
    assert alice.fields() == ALICE
    assert (alice.version, alice.patient_id, alice.created_at, alice.updated_by) == (1, alice.id, NOON, "dr_okafor")
    assert await world.patients.get(world.dr_okafor, alice.id) == alice
    version = await world.patients.version(world.dr_okafor, alice.id, 1)
    assert (version.change, version.parent, version.reason) == (Change.CREATION, None, "First visit.")
    assert (version.client_time, version.received_at) == (NOON - MINUTE, NOON)
    assert world.told == [
        ContributionCommitted("northside", version.contribution_id, "dr_okafor", "request-1", "patients.create", 1)
    ]
    [entry] = world.trail
    assert (entry.action, entry.thing_id, entry.patient_id, entry.version) == ("patients.create", alice.id, alice.id, 1)
    assert entry.fields == ("family_name", "given_name", "tags")


async def test_two_patients_without_an_id_get_two(world: World) -> None:
    one, other = [await world.patients.create(world.dr_okafor, ALICE) for _ in range(2)]
    assert one.id != other.id


async def test_creating_again_under_the_callers_own_id_answers_as_the_first_time(world: World) -> None:
    first = await world.patients.create(world.dr_okafor, ALICE, "alice")
    world.clock.now += MINUTE
    again = await world.patients.create(world.dr_okafor, dict(reversed(ALICE.items())), "alice")
    assert again == first
    assert len(world.told) == len(world.trail) == 1


async def test_an_id_taken_by_other_content_stays_with_the_first(world: World) -> None:
    first = await world.patients.create(world.dr_okafor, ALICE, "alice")
    with pytest.raises(HeldBack):
        await world.patients.create(world.dr_lee, ALICE | {"given_name": "Alicia"}, "alice")
    assert (await world.patients.get(world.dr_okafor, "alice")).content == first.content


async def test_the_id_of_someone_deleted_is_not_taken_again(world: World) -> None:
    first = await world.patients.create(world.dr_okafor, ALICE, "alice")
    gone = await world.patients.delete(world.dr_okafor, "alice", saw(first))
    for actor in (world.dr_okafor, world.dr_lee):
        with pytest.raises(AlreadyExists):
            await world.patients.create(actor, ALICE | {"given_name": "Alicia"}, "alice")
        assert await world.patients.create(actor, ALICE, "alice") == gone


async def test_a_creation_that_comes_again_late_answers_with_what_became_of_it(world: World) -> None:
    first = await world.patients.create(world.dr_okafor, ALICE, "alice")
    changed = await world.patients.change(world.dr_okafor, "alice", {"notes": "Called."}, saw(first))
    assert await world.patients.create(world.dr_okafor, ALICE, "alice") == changed
    gone = await world.patients.delete(world.dr_okafor, "alice", saw(changed))
    assert await world.patients.create(world.dr_okafor, ALICE, "alice") == gone
    assert world.actions == ["patients.create", "patients.change", "patients.delete"]


async def test_what_it_became_since_is_not_what_was_created(world: World) -> None:
    """Another device's creation with just that content is no conflict with it, and is kept all the same."""
    first = await world.patients.create(world.dr_okafor, ALICE, "alice")
    changed = await world.patients.change(world.dr_okafor, "alice", {"notes": "Called."}, saw(first))
    head = await world.patients.create(world.dr_lee, changed.fields(), "alice")
    assert (head.version, head.last, head.content, head.conflict_id) == (2, 3, changed.content, None)
    kept = await world.patients.version(world.dr_okafor, "alice", 3)
    assert (kept.branch, kept.parent, kept.change, kept.content) == (True, None, Change.CREATION, changed.content)


async def test_another_practice_may_use_the_same_id(world: World) -> None:
    await world.patients.create(world.dr_okafor, ALICE, "alice")
    there = await world.patients.create(world.dr_stern, {"family_name": "Stern"}, "alice")
    assert (await world.patients.get(world.dr_stern, "alice")) == there


async def test_everything_wrong_is_named_and_nothing_is_written(world: World) -> None:
    with pytest.raises(InvalidFields) as refused:
        await world.patients.create(world.dr_okafor, {"sex": "F", "shoe_size": 38}, "alice")
    assert {error.field for error in refused.value.errors} == {"sex", "shoe_size"}
    with pytest.raises(NotFound):
        await world.patients.get(world.dr_okafor, "alice")


# -- reading ------------------------------------------------------------------------------------------------------


async def _ids(answer: Any) -> list[str]:
    return [head.id for head in await answer]


async def test_pages_come_by_name(world: World) -> None:
    for name in ("cleo", "alice", "bruno"):
        await world.admit(name, tags=["asthma"] if name != "bruno" else [])
        world.clock.now += MINUTE
    none: dict[str, Any] = {"tag": None, "updated_since": None}
    page, ines = world.patients.page, world.ines
    assert await _ids(page(ines, after=None, limit=2, **none)) == ["alice", "bruno"]
    assert await _ids(page(ines, after="bruno", limit=2, **none)) == ["cleo"]
    assert await _ids(page(ines, after=None, limit=9, tag="asthma", updated_since=None)) == ["alice", "cleo"]
    assert await _ids(page(ines, after=None, limit=9, tag=None, updated_since=NOON + MINUTE)) == ["alice", "bruno"]
    assert await _ids(page(world.dr_stern, after=None, limit=9, **none)) == []


async def test_search_finds_by_name_number_and_typo(world: World) -> None:
    await world.admit("maria", family_name="García", phone="555 0100", tags=["asthma"])
    await world.admit("john", family_name="Smith")

    async def search(text: str, tag: str | None = None) -> list[str]:
        return await _ids(world.patients.search(world.ines, text, limit=9, tag=tag, updated_since=None))

    assert await search("garcia") == await search("Garica") == await search("5550100") == ["maria"]
    assert await search("smi") == ["john"]
    assert await search("garcia", tag="diabetes") == []


@pytest.mark.parametrize("text", ["", "  ", "%", "-- ' --"])
async def test_a_search_for_nothing_finds_nobody(world: World, text: str) -> None:
    await world.admit("alice")
    assert await _ids(world.patients.search(world.ines, text, limit=9, tag=None, updated_since=None)) == []


async def test_an_endless_search_is_refused(world: World) -> None:
    with pytest.raises(InvalidFields):
        await world.patients.search(world.ines, "x" * 201, limit=9, tag=None, updated_since=None)


# -- reverting ----------------------------------------------------------------------------------------------------


async def test_reverting_a_patient_brings_back_every_field(world: World) -> None:
    first = await world.patients.create(world.dr_okafor, ALICE, "alice")
    married = await world.patients.change(
        world.dr_okafor, "alice", {"family_name": "Jones", "tags": None, "notes": "Married."}, saw(first)
    )
    back = await world.patients.revert(world.dr_okafor, "alice", saw(married), 1, Why())
    assert back.fields() == ALICE


# -- who may ------------------------------------------------------------------------------------------------------

READS: dict[str, Any] = {
    "get": lambda cases, actor: cases.get(actor, "alice"),
    "page": lambda cases, actor: cases.page(actor, after=None, limit=1, tag=None, updated_since=None),
    "search": lambda cases, actor: cases.search(actor, "a", limit=1, tag=None, updated_since=None),
    "history": lambda cases, actor: cases.history(actor, "alice", None, 1),
    "version": lambda cases, actor: cases.version(actor, "alice", 1),
    "differences": lambda cases, actor: cases.differences(actor, "alice", 1, 1),
}
WRITES: dict[str, Any] = {
    "create": lambda cases, actor: cases.create(actor, ALICE),
    "change": lambda cases, actor: cases.change(actor, "alice", {"notes": "x"}, Seen(1)),
    "revert": lambda cases, actor: cases.revert(actor, "alice", Seen(1), 1, Why()),
}
DELETES: dict[str, Any] = {
    "delete": lambda cases, actor: cases.delete(actor, "alice", Seen(1)),
    "restore": lambda cases, actor: cases.restore(actor, "alice", Seen(1)),
}


@pytest.mark.parametrize("step", READS)
async def test_an_auditor_may_read(world: World, step: str) -> None:
    await world.admit("alice")
    await READS[step](world.patients, world.ines)


@pytest.mark.parametrize("step", WRITES | DELETES)
async def test_an_auditor_may_not_write(world: World, step: str) -> None:
    """Not even where there is nothing: what a role may not do does not depend on what is there."""
    with pytest.raises(Forbidden):
        await (WRITES | DELETES)[step](world.patients, world.ines)
    assert (world.trail, world.told) == ([], [])


@pytest.mark.parametrize("step", WRITES)
async def test_an_assistant_may_write(world: World, step: str) -> None:
    await world.admit("alice")
    await WRITES[step](world.patients, world.amara)


@pytest.mark.parametrize("step", DELETES)
async def test_an_assistant_may_not_delete(world: World, step: str) -> None:
    with pytest.raises(Forbidden):
        await DELETES[step](world.patients, world.amara)
