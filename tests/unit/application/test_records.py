"""The use cases of records."""

from typing import Any

import pytest

from heallog.application.ports.records import RecordFilter
from heallog.application.versions import Why
from heallog.domain.canon import moment
from heallog.domain.errors import AlreadyExists, Deleted, Forbidden, InvalidFields, NotFound, RecordSigned, WrongState
from heallog.domain.versions import Change, Head, Seen

from .world import MINUTE, NOON, World, saw

NOTE = {"kind": "note", "text": "Feels well."}
SAID_WHY = Why("The other leg.")


@pytest.fixture(autouse=True)
async def alice(world: World) -> Head:
    head = await world.admit("alice")
    world.told.clear()
    world.store.audit_entries.clear()
    return head


# -- create -------------------------------------------------------------------------------------------------------


async def test_dr_okafor_writes_a_note(world: World) -> None:
    note = await world.records.create(world.dr_okafor, "alice", NOTE, why=Why("Visit."))
    assert note.fields() == NOTE | {"status": "draft"}
    assert (note.version, note.patient_id, note.updated_by) == (1, "alice", "dr_okafor")
    assert await world.records.get(world.dr_okafor, note.id) == note
    version = await world.records.version(world.dr_okafor, note.id, 1)
    assert (version.change, version.reason) == (Change.CREATION, "Visit.")
    [entry] = world.trail
    assert (entry.action, entry.thing_id, entry.patient_id) == ("records.create", note.id, "alice")
    assert [event.action for event in world.told] == ["records.create"]  # type: ignore[union-attr]


async def test_a_record_needs_a_patient_who_is_here(world: World, alice: Head) -> None:
    await world.patients.create(world.dr_stern, {"family_name": "Stern"}, "bruno")
    await world.patients.delete(world.dr_okafor, "alice", saw(alice))
    for absent in ("nobody", "bruno", "alice"):
        with pytest.raises(NotFound, match="patient"):
            await world.records.create(world.dr_okafor, absent, NOTE, "note-1")
    with pytest.raises(NotFound):
        await world.records.get(world.dr_okafor, "note-1")


async def test_creating_again_under_the_callers_own_id_answers_as_the_first_time(world: World) -> None:
    first = await world.records.create(world.dr_okafor, "alice", NOTE, "note-1")
    world.clock.now += MINUTE
    assert await world.records.create(world.dr_okafor, "alice", dict(NOTE), "note-1") == first
    assert len(world.trail) == len(world.told) == 1


async def test_an_id_taken_by_something_else_is_refused(world: World) -> None:
    await world.admit("bruno")
    first = await world.records.create(world.dr_okafor, "alice", NOTE, "note-1")
    for actor in (world.dr_okafor, world.dr_lee):
        for patient, body in (("alice", NOTE | {"kind": "goal"}), ("bruno", NOTE), ("bruno", NOTE | {"text": "Ill."})):
            with pytest.raises(AlreadyExists):
                await world.records.create(actor, patient, body, "note-1")
    assert await world.records.get(world.dr_okafor, "note-1") == first


async def test_a_creation_that_comes_again_late_answers_with_what_became_of_it(world: World) -> None:
    first = await world.records.create(world.dr_okafor, "alice", NOTE, "note-1")
    signed = await world.records.sign(world.dr_okafor, "note-1", saw(first))
    assert await world.records.create(world.dr_okafor, "alice", NOTE, "note-1") == signed


async def test_everything_wrong_is_named(world: World) -> None:
    with pytest.raises(InvalidFields) as refused:
        await world.records.create(world.dr_okafor, "alice", {"kind": "note", "dose": 3, "status": "signed"})
    assert {error.field for error in refused.value.errors} == {"dose", "status"}


# -- lists --------------------------------------------------------------------------------------------------------


async def test_a_patients_records_come_the_latest_first(world: World) -> None:
    for year in ("2019", "2021", "2020"):
        await world.note(f"note-{year}", occurred_at=year)
    await world.note("weight", kind="observation", occurred_at="2018")

    async def listed(chosen: RecordFilter, after: str | None = None) -> list[str]:
        heads = await world.records.of_patient(world.ines, "alice", chosen, after=after, limit=3)
        return [head.id for head in heads]

    assert await listed(RecordFilter()) == ["note-2021", "note-2020", "note-2019"]
    assert await listed(RecordFilter(), "note-2020") == ["note-2019", "weight"]
    assert await listed(RecordFilter(kind="observation")) == ["weight"]
    assert await listed(RecordFilter(kind="goal")) == []


async def test_a_missing_patient_has_no_list(world: World, alice: Head) -> None:
    await world.note("note-1")
    await world.patients.delete(world.dr_okafor, "alice", saw(alice))
    for actor, patient in ((world.dr_okafor, "nobody"), (world.dr_stern, "alice"), (world.dr_okafor, "alice")):
        with pytest.raises(NotFound, match="patient"):
            await world.records.of_patient(actor, patient, RecordFilter(), after=None, limit=9)


# -- draft, signed, amended, entered in error ---------------------------------------------------------------------


async def test_signing_says_who_and_when(world: World) -> None:
    draft = await world.note("note-1")
    world.clock.now += MINUTE
    signed = await world.records.sign(world.dr_okafor, "note-1", saw(draft), Why("Read and agreed."))
    assert signed.fields() == draft.fields() | {
        "status": "signed",
        "signed_by": "dr_okafor",
        "signed_at": moment(NOON + MINUTE),
    }
    version = await world.records.version(world.dr_okafor, "note-1", 2)
    assert (version.change, version.reason) == (Change.SIGNATURE, "Read and agreed.")
    assert world.actions[-1] == "records.sign"


async def test_signed_content_never_changes(world: World) -> None:
    signed = await world.records.sign(world.dr_okafor, "note-1", saw(await world.note("note-1")))
    with pytest.raises(RecordSigned):
        await world.records.change(world.dr_okafor, "note-1", {"text": "Else."}, saw(signed))
    with pytest.raises(RecordSigned):
        await world.records.revert(world.dr_okafor, "note-1", saw(signed), 1, SAID_WHY)
    with pytest.raises(WrongState):
        await world.records.sign(world.dr_okafor, "note-1", saw(signed))
    assert await world.records.get(world.dr_okafor, "note-1") == signed


async def test_an_amendment_has_a_reason_and_keeps_the_signature(world: World) -> None:
    signed = await world.records.sign(world.dr_okafor, "note-1", saw(await world.note("note-1")))
    amended = await world.records.amend(world.dr_okafor, "note-1", {"text": "Feels ill."}, saw(signed), SAID_WHY)
    assert amended.fields() == signed.fields() | {"status": "amended", "text": "Feels ill."}
    version = await world.records.version(world.dr_okafor, "note-1", 3)
    assert (version.change, version.reason) == (Change.AMENDMENT, "The other leg.")
    assert world.actions[-1] == "records.amend"
    again = await world.records.amend(world.dr_okafor, "note-1", {"text": "Feels so-so."}, saw(amended), SAID_WHY)
    assert again.version == 4


async def test_a_draft_is_not_amended(world: World) -> None:
    draft = await world.note("note-1")
    with pytest.raises(WrongState):
        await world.records.amend(world.dr_okafor, "note-1", {"text": "Else."}, saw(draft), SAID_WHY)


async def test_what_was_entered_in_error_stays_and_says_so(world: World) -> None:
    draft = await world.note("note-1")
    wrong = await world.records.retract(world.dr_okafor, "note-1", saw(draft), SAID_WHY)
    assert wrong.fields() == draft.fields() | {"status": "entered_in_error"}
    version = await world.records.version(world.dr_okafor, "note-1", 2)
    assert (version.change, version.reason) == (Change.AMENDMENT, "The other leg.")
    assert world.actions[-1] == "records.entered-in-error"
    for attempt in (
        world.records.change(world.dr_okafor, "note-1", {"text": "Else."}, saw(wrong)),
        world.records.sign(world.dr_okafor, "note-1", saw(wrong)),
        world.records.amend(world.dr_okafor, "note-1", {"text": "Else."}, saw(wrong), SAID_WHY),
        world.records.retract(world.dr_okafor, "note-1", saw(wrong), SAID_WHY),
        world.records.revert(world.dr_okafor, "note-1", saw(wrong), 1, SAID_WHY),
    ):
        with pytest.raises(WrongState):
            await attempt


@pytest.mark.parametrize("reason", [None, "", " \t"])
async def test_amending_and_retracting_say_why(world: World, reason: str | None) -> None:
    signed = await world.records.sign(world.dr_okafor, "note-1", saw(await world.note("note-1")))
    for attempt in (
        world.records.amend(world.dr_okafor, "note-1", {"text": "Else."}, saw(signed), Why(reason)),
        world.records.retract(world.dr_okafor, "note-1", saw(signed), Why(reason)),
    ):
        with pytest.raises(InvalidFields) as refused:
            await attempt
        assert [error.field for error in refused.value.errors] == ["reason"]
    assert await world.records.get(world.dr_okafor, "note-1") == signed


async def test_a_records_kind_never_changes(world: World) -> None:
    draft = await world.note("note-1")
    with pytest.raises(InvalidFields):
        await world.records.change(world.dr_okafor, "note-1", {"kind": "goal"}, saw(draft))
    assert await world.records.change(world.dr_okafor, "note-1", {"kind": "note"}, saw(draft)) == draft


async def test_a_signed_record_that_is_deleted_comes_back_signed(world: World) -> None:
    signed = await world.records.sign(world.dr_okafor, "note-1", saw(await world.note("note-1")))
    gone = await world.records.delete(world.dr_okafor, "note-1", saw(signed))
    with pytest.raises(Deleted):
        await world.records.sign(world.dr_okafor, "note-1", saw(gone))
    back = await world.records.restore(world.dr_okafor, "note-1", saw(gone))
    assert back.content == signed.content


# -- who may ------------------------------------------------------------------------------------------------------

READS: dict[str, Any] = {
    "get": lambda cases, actor: cases.get(actor, "note-1"),
    "of_patient": lambda cases, actor: cases.of_patient(actor, "alice", RecordFilter(), after=None, limit=1),
    "history": lambda cases, actor: cases.history(actor, "note-1", None, 1),
    "version": lambda cases, actor: cases.version(actor, "note-1", 1),
    "differences": lambda cases, actor: cases.differences(actor, "note-1", 1, 1),
}
WRITES: dict[str, Any] = {
    "create": lambda cases, actor: cases.create(actor, "alice", NOTE),
    "change": lambda cases, actor: cases.change(actor, "note-1", {"text": "x"}, Seen(1)),
    "revert": lambda cases, actor: cases.revert(actor, "note-1", Seen(1), 1, Why()),
}
CLINICAL: dict[str, Any] = {
    "sign": lambda cases, actor: cases.sign(actor, "note-1", Seen(1)),
    "amend": lambda cases, actor: cases.amend(actor, "note-1", {}, Seen(1), SAID_WHY),
    "retract": lambda cases, actor: cases.retract(actor, "note-1", Seen(1), SAID_WHY),
    "delete": lambda cases, actor: cases.delete(actor, "note-1", Seen(1)),
    "restore": lambda cases, actor: cases.restore(actor, "note-1", Seen(1)),
}


@pytest.mark.parametrize("step", READS)
async def test_an_auditor_may_read(world: World, step: str) -> None:
    await world.note("note-1")
    await READS[step](world.records, world.ines)


@pytest.mark.parametrize("step", WRITES | CLINICAL)
async def test_an_auditor_may_not_write(world: World, step: str) -> None:
    with pytest.raises(Forbidden):
        await (WRITES | CLINICAL)[step](world.records, world.ines)
    assert (world.trail, world.told) == ([], [])


@pytest.mark.parametrize("step", WRITES)
async def test_an_assistant_may_write(world: World, step: str) -> None:
    await world.note("note-1")
    await WRITES[step](world.records, world.amara)


@pytest.mark.parametrize("step", CLINICAL)
async def test_an_assistant_may_neither_sign_nor_delete(world: World, step: str) -> None:
    with pytest.raises(Forbidden):
        await CLINICAL[step](world.records, world.amara)


@pytest.mark.parametrize("step", ["sign", "amend", "retract"])
async def test_a_foreign_record_answers_as_a_missing_one(world: World, step: str) -> None:
    await world.note("note-1")
    with pytest.raises(NotFound):
        await CLINICAL[step](world.records, world.dr_stern)
