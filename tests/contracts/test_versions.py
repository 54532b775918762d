"""What patients and records share: heads that are locked, versions that are appended, and reading those."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from heallog.adapters.memory.store import ConstraintViolated
from heallog.domain.audit import Written
from heallog.domain.errors import AlreadyExists, DomainError
from heallog.domain.events import LoggedIn
from heallog.domain.fields import canonical
from heallog.domain.versions import GENESIS, Change, Collection, Head, Version, proves

from .clinic import MINUTE, MONDAY, Backend, Clinic, things


@pytest.fixture(params=list(Collection))
def collection(request: pytest.FixtureRequest) -> Collection:
    found: Collection = request.param
    return found


class Shelf:
    """Things of one collection: patients, or records of alice."""

    def __init__(self, clinic: Clinic, collection: Collection) -> None:
        self.clinic, self.collection, self.backend = clinic, collection, clinic.backend

    def first(self, id: str, text: str = "first", **told: Any) -> Written:
        content = self.content(text)
        return self.clinic.first(self.collection, id, content, of="alice" if "kind" in content else id, **told)

    def next(self, head: Head, text: str, **told: Any) -> Written:
        return self.clinic.next(head, self.content(text), **told)

    def content(self, text: str) -> dict[str, Any]:
        if self.collection is Collection.PATIENTS:
            return {"family_name": text}
        return {"kind": "note", "status": "draft", "text": text}

    async def put(self, id: str, *texts: str) -> Head:
        """A thing with a version per text."""
        [head] = await self.clinic.write(self.first(id, texts[0] if texts else "first"))
        for text in texts[1:]:
            [head] = await self.clinic.write(self.next(head, text))
        return head

    async def get(self, id: str) -> Head | None:
        reads = self.backend.patients if self.collection is Collection.PATIENTS else self.backend.records
        return await reads.get(self.clinic.id, id)

    async def history(self, id: str, before: int | None = None, limit: int = 100) -> list[Version]:
        return list(await self.backend.versions.history(self.clinic.id, self.collection, id, before, limit))

    async def numbered(self, id: str, *numbers: int) -> dict[int, Version]:
        return await self.backend.versions.numbered(self.clinic.id, self.collection, id, numbers)


@pytest.fixture
async def shelf(clinic: Clinic, collection: Collection) -> Shelf:
    await clinic.admit("alice")
    return Shelf(clinic, collection)


# -- heads --------------------------------------------------------------------------------------------------------


async def test_what_was_appended_is_read_back_whole(shelf: Shelf) -> None:
    written = shelf.first("bruno")
    await shelf.clinic.write(written)
    assert await shelf.get("bruno") == written.head
    assert await shelf.history("bruno") == [written.version]
    assert await shelf.get("nobody") is None


async def test_every_reader_gets_its_own_copy(shelf: Shelf) -> None:
    head = await shelf.put("bruno")
    one, other = await shelf.get("bruno"), await shelf.get("bruno")
    assert one == other == head
    assert one is not other
    assert one is not head


async def test_another_practice_sees_nothing(shelf: Shelf, elsewhere: Clinic) -> None:
    await shelf.put("bruno")
    foreign = Shelf(elsewhere, shelf.collection)
    assert await foreign.get("bruno") is None
    assert await foreign.history("bruno") == []
    assert await foreign.numbered("bruno", 1) == {}
    async with shelf.backend.uow() as uow:
        assert await things(uow, shelf.collection).lock(elsewhere.id, ["bruno"]) == {}


async def test_the_same_id_in_two_practices_is_two_things(shelf: Shelf, elsewhere: Clinic) -> None:
    await shelf.put("bruno", "here")
    await elsewhere.admit("alice")
    there = await Shelf(elsewhere, shelf.collection).put("bruno", "there", "there again")
    assert [version.number for version in await shelf.history("bruno")] == [1]
    assert await Shelf(elsewhere, shelf.collection).get("bruno") == there


async def test_lock_gives_those_that_exist_in_the_order_of_their_ids(shelf: Shelf) -> None:
    heads = {thing: await shelf.put(thing) for thing in ("b", "B", "a-1", "a.1", "10", "9")}
    gone = await shelf.clinic.delete(await shelf.put("gone"))
    async with shelf.backend.uow() as uow:
        found = await things(uow, shelf.collection).lock(
            shelf.clinic.id, ["gone", "nobody", "b", "B", "b", "a.1", "a-1", "9", "10"]
        )
    assert list(found) == ["10", "9", "B", "a-1", "a.1", "b", "gone"]
    assert found == heads | {"gone": gone}
    assert found["gone"].deleted


async def test_lock_of_nothing_gives_nothing(shelf: Shelf) -> None:
    async with shelf.backend.uow() as uow:
        assert await things(uow, shelf.collection).lock(shelf.clinic.id, []) == {}


# -- appending ----------------------------------------------------------------------------------------------------


async def test_a_change_moves_the_head_and_keeps_the_version_before(shelf: Shelf) -> None:
    first = shelf.first("bruno", "one")
    second = shelf.next(first.head, "two", reason="He said so.", client_time=MONDAY - MINUTE)
    await shelf.clinic.write(first)
    await shelf.clinic.write(second)
    assert await shelf.get("bruno") == second.head
    assert await shelf.history("bruno") == [second.version, first.version]
    assert second.head.created_at == first.head.created_at < second.head.updated_at


async def test_one_append_takes_many_things(shelf: Shelf) -> None:
    cleo = await shelf.put("cleo", "before")
    contribution = shelf.clinic.contribution()
    written = [
        shelf.first("bruno", contribution=contribution),
        shelf.next(cleo, "after", contribution=contribution),
        shelf.first("dina", contribution=contribution, source=b'{"resourceType": "Patient"}'),
    ]
    await shelf.clinic.write(*written)
    for item in written:
        assert await shelf.get(item.head.id) == item.head
        assert (await shelf.numbered(item.head.id, item.version.number))[item.version.number] == item.version


async def test_appending_nothing_is_nothing(shelf: Shelf) -> None:
    async with shelf.backend.uow() as uow:
        await things(uow, shelf.collection).append([])
        await uow.commit()


async def test_a_taken_id_is_refused_and_nothing_is_written(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "the first to come")
    contribution = shelf.clinic.contribution()
    async with shelf.backend.uow() as uow:
        with pytest.raises(AlreadyExists):
            await things(uow, shelf.collection).append(
                [shelf.first(who, "late", contribution=contribution) for who in ("arno", "bruno", "cleo")]
            )
    assert await shelf.get("bruno") == bruno
    assert await shelf.get("arno") is None
    assert await shelf.get("cleo") is None
    assert await shelf.history("arno") == []
    assert len(await shelf.history("bruno")) == 1


async def test_an_id_is_taken_within_one_unit_of_work_too(shelf: Shelf) -> None:
    async with shelf.backend.uow() as uow:
        await things(uow, shelf.collection).append([shelf.first("bruno")])
        with pytest.raises(AlreadyExists):
            await things(uow, shelf.collection).append([shelf.first("bruno")])


async def test_the_id_of_something_deleted_stays_taken(shelf: Shelf) -> None:
    await shelf.clinic.delete(await shelf.put("bruno"))
    with pytest.raises(AlreadyExists):
        await shelf.clinic.write(shelf.first("bruno"))


async def test_a_versions_number_is_written_once(shelf: Shelf) -> None:
    """Two changes that both start from version 1, of which the second never looked again."""
    bruno = await shelf.put("bruno")
    kept = await shelf.clinic.write(shelf.next(bruno, "hers"))
    with pytest.raises(AlreadyExists):
        await shelf.clinic.write(shelf.next(bruno, "his"))
    assert [await shelf.get("bruno")] == kept
    assert [version.number for version in await shelf.history("bruno")] == [2, 1]


async def test_a_head_moves_only_to_the_version_after_its_own(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno")
    async with shelf.backend.uow() as uow:
        with pytest.raises(RuntimeError):
            await things(uow, shelf.collection).append([shelf.next(replace(bruno, version=6), "from the future")])
    assert await shelf.get("bruno") == bruno
    assert len(await shelf.history("bruno")) == 1


async def test_one_append_takes_a_thing_once(shelf: Shelf) -> None:
    contribution = shelf.clinic.contribution()
    first = shelf.first("bruno", contribution=contribution)
    for second in (
        shelf.first("bruno", "twin", contribution=contribution),
        shelf.next(first.head, "next", contribution=contribution),
    ):
        async with shelf.backend.uow() as uow:
            with pytest.raises(Exception) as refused:
                await things(uow, shelf.collection).append([first, second])
        assert not isinstance(refused.value, DomainError)
        assert await shelf.get("bruno") is None
        assert await shelf.history("bruno") == []


@pytest.mark.parametrize("backend", ["memory"], indirect=True)
async def test_one_append_is_one_contribution(shelf: Shelf) -> None:
    """PostgreSQL is told who and when once for all versions; memory refuses what would be stored wrongly there."""
    with pytest.raises(ConstraintViolated):
        await shelf.clinic.write(shelf.first("bruno"), shelf.first("cleo"))
    assert await shelf.get("bruno") is None


async def test_an_audit_entry_is_written_once(shelf: Shelf) -> None:
    """The entry goes with its version: where it cannot, neither does the version."""
    first, second = shelf.first("bruno"), shelf.first("cleo")
    await shelf.clinic.write(first)
    with pytest.raises(Exception) as refused:
        await shelf.clinic.write(replace(second, entry=replace(second.entry, id=first.entry.id)))
    assert not isinstance(refused.value, DomainError)
    assert await shelf.get("cleo") is None
    assert await shelf.history("cleo") == []


async def test_whose_it_is_and_when_it_began_never_change(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno")
    moved = shelf.next(replace(bruno, patient_id="cleo", created_at=MONDAY - MINUTE), "moved")
    await shelf.clinic.write(moved)
    assert await shelf.get("bruno") == replace(moved.head, patient_id=bruno.patient_id, created_at=bruno.created_at)


async def test_after_a_failed_write_nothing_of_the_unit_of_work_is_kept(shelf: Shelf) -> None:
    """Not even where someone swallows the error and commits."""
    await shelf.put("bruno")
    async with shelf.backend.uow() as uow:
        await things(uow, shelf.collection).append([shelf.first("cleo")])
        with pytest.raises(AlreadyExists):
            await things(uow, shelf.collection).append([shelf.first("bruno")])
        with suppress(RuntimeError):
            await uow.commit()
    assert await shelf.get("cleo") is None
    assert await shelf.history("cleo") == []


async def test_a_commit_that_kept_nothing_says_so(shelf: Shelf) -> None:
    await shelf.put("bruno")
    async with shelf.backend.uow() as uow:
        with pytest.raises(AlreadyExists):
            await things(uow, shelf.collection).append([shelf.first("bruno")])
        uow.tell(LoggedIn(shelf.clinic.id, "okafor", "s-1"))
        with pytest.raises(Exception):  # noqa: B017
            await uow.commit()
    assert shelf.backend.told == []


# -- bytes --------------------------------------------------------------------------------------------------------

ODD = {
    "family_name": "Ångström-O\u2019Brien \U00020bb7 \u2028",
    "kind": "note",
    "status": "draft",
    "text": 'Tab\tand "quotes" \\ and \u00e9 beside e\u0301',
    "values": {"a": {"value": 0.1}, "b": {"value": 2**53 - 1}, "c": {"value": 1e-7}, "d": {"value": -0.0}},
}


async def test_content_is_kept_byte_for_byte(shelf: Shelf) -> None:
    [head] = await shelf.clinic.write(shelf.clinic.first(shelf.collection, "bruno", ODD, of="alice"))
    found = await shelf.get("bruno")
    [version] = await shelf.history("bruno")
    assert found is not None
    assert found.content == version.content == head.content == canonical(ODD)
    assert type(found.content) is type(version.content) is bytes


async def test_a_source_is_kept_byte_for_byte(shelf: Shelf) -> None:
    source = '{ "b" : 1.0,\r\n\t"a":"\\u00e9 é \\ud83d\\ude00",  "a": 1e400, "nul": "\\u0000" }'.encode()
    [head] = await shelf.clinic.write(shelf.first("bruno", source=source))
    version = (await shelf.numbered("bruno", 1))[1]
    assert version.source == source
    assert type(version.source) is bytes
    assert version.source_digest == head.source_digest
    assert proves(GENESIS, version)


async def test_a_history_proves_itself(shelf: Shelf) -> None:
    head = await shelf.put("bruno", "one", "two")
    restored = shelf.next(await shelf.clinic.delete(head), "two", change=Change.RESTORATION, reason="By mistake.")
    await shelf.clinic.write(restored)
    previous = GENESIS
    for version in reversed(await shelf.history("bruno")):
        assert proves(previous, version)
        previous = version.hash
    assert previous == restored.head.hash


# -- reading ------------------------------------------------------------------------------------------------------


async def test_history_comes_newest_first_in_pages(shelf: Shelf) -> None:
    await shelf.put("bruno", "one", "two", "three", "four", "five")

    async def numbers(before: int | None, limit: int) -> list[int]:
        return [version.number for version in await shelf.history("bruno", before, limit)]

    assert await numbers(None, 2) == [5, 4]
    assert await numbers(4, 2) == [3, 2]
    assert await numbers(2, 2) == [1]
    assert await numbers(1, 2) == []
    assert await numbers(99, 99) == [5, 4, 3, 2, 1]


async def test_history_leaves_sources_out_and_names_them(shelf: Shelf) -> None:
    imported = shelf.first("bruno", source=b'{"resourceType":"Patient"}')
    await shelf.clinic.write(imported)
    [version] = await shelf.history("bruno")
    assert version == replace(imported.version, source=None)
    assert version.source_digest is not None


async def test_a_later_version_keeps_what_was_imported_last(shelf: Shelf) -> None:
    imported = shelf.first("bruno", source=b"{}")
    await shelf.clinic.write(imported)
    [head] = await shelf.clinic.write(shelf.next(imported.head, "by hand"))
    found = await shelf.get("bruno")
    assert found == head
    assert found is not None
    assert (found.source_version, found.source_digest) == (1, imported.version.source_digest)


async def test_a_deletion_has_no_content_and_a_place_in_history(shelf: Shelf) -> None:
    gone = await shelf.clinic.delete(await shelf.put("bruno"))
    assert await shelf.get("bruno") == gone
    last, first = await shelf.history("bruno")
    assert (last.content, last.change, last.parent) == (None, Change.DELETION, 1)
    assert first.content is not None


async def test_numbered_gives_those_that_exist(shelf: Shelf) -> None:
    first = shelf.first("bruno", source=b'{"a": 1}')
    second = shelf.next(first.head, "two")
    await shelf.clinic.write(first)
    await shelf.clinic.write(second)
    assert await shelf.numbered("bruno", 1, 2) == {1: first.version, 2: second.version}
    assert await shelf.numbered("bruno", 2, 2, 3, 0, -1) == {2: second.version}
    assert await shelf.numbered("bruno") == {}
    assert await shelf.numbered("nobody", 1) == {}


async def test_patients_and_records_do_not_mix(clinic: Clinic, backend: Backend) -> None:
    patient = await clinic.admit("alice")
    record = await clinic.file("alice", of="alice")
    record = await clinic.change(record, kind="note", status="draft", text="Feels better.")
    assert await backend.patients.get(clinic.id, "alice") == patient
    assert await backend.records.get(clinic.id, "alice") == record
    for collection, count in ((Collection.PATIENTS, 1), (Collection.RECORDS, 2)):
        assert len(await backend.versions.history(clinic.id, collection, "alice", None, 9)) == count


async def test_own_versions_are_seen_inside_and_not_outside(shelf: Shelf) -> None:
    written = shelf.first("bruno")
    async with shelf.backend.uow() as uow:
        await things(uow, shelf.collection).append([written])
        assert await uow.versions.history(shelf.clinic.id, shelf.collection, "bruno", None, 9) == [written.version]
        assert await things(uow, shelf.collection).lock(shelf.clinic.id, ["bruno"]) == {"bruno": written.head}
        assert await shelf.get("bruno") is None
        assert await shelf.history("bruno") == []
        assert await shelf.numbered("bruno", 1) == {}
        await uow.commit()
    assert await shelf.get("bruno") == written.head
