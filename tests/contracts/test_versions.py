"""What patients and records share: heads that are locked, versions that are appended, and reading those."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from heallog.adapters.memory.store import ConstraintViolated
from heallog.domain.audit import Written
from heallog.domain.canon import canonical
from heallog.domain.errors import AlreadyExists, DomainError
from heallog.domain.events import LoggedIn
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

    def beside(self, head: Head, parent: int, text: str, **told: Any) -> Written:
        return self.clinic.beside(head, parent, self.content(text), **told)

    def merged(self, head: Head, parent: int, mine: str, text: str, **told: Any) -> Written:
        return self.clinic.merged(head, parent, self.content(mine), self.content(text), **told)

    async def lineage(self, base: int, device_id: str = "tablet-1") -> tuple[Version | None, Version | None]:
        """Asked for alone; beside others it is the same."""
        found = await self.backend.versions.lineage(self.clinic.id, self.collection, "bruno", base, device_id)
        keys = [(self.collection, thing_id, base) for thing_id in ("bruno", "nobody", "bruno")]
        together = await self.backend.versions.lineages(self.clinic.id, keys, device_id)
        assert together == {keys[0]: found, keys[1]: (None, None)}
        return found

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
    assert await shelf.history("bruno") == [*written.versions]
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
    assert await shelf.history("bruno") == [second.versions[0], first.versions[0]]
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
        [version] = item.versions
        assert await shelf.numbered(item.head.id, version.number) == {version.number: version}


async def test_a_branch_is_kept_and_the_head_answers_as_before(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one", "hers")
    written = shelf.beside(bruno, 1, "his", reason="He said so.", client_time=MONDAY - MINUTE)
    [version] = written.versions
    await shelf.clinic.write(written)
    found = await shelf.get("bruno")
    assert found == written.head == replace(bruno, last=3, hash=version.hash)
    assert (version.branch, version.parent, version.number) == (True, 1, 3)
    assert await shelf.numbered("bruno", 3) == {3: version}
    assert [kept.branch for kept in await shelf.history("bruno")] == [True, False, False]


async def test_after_a_branch_the_trunk_goes_on_with_the_next_number(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one", "hers")
    [beside] = await shelf.clinic.write(shelf.beside(bruno, 1, "his"))
    [again] = await shelf.clinic.write(shelf.beside(beside, 3, "his second"))
    [moved] = await shelf.clinic.write(shelf.next(again, "hers again"))
    assert (moved.version, moved.last, await shelf.get("bruno")) == (5, 5, moved)
    numbers = {version.number: (version.parent, version.branch) for version in await shelf.history("bruno")}
    assert numbers == {1: (None, False), 2: (1, False), 3: (1, True), 4: (3, True), 5: (2, False)}


async def test_a_branch_without_content_leaves_the_head_its_own(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one", "hers")
    written = shelf.clinic.beside(bruno, 1, None, change=Change.DELETION)
    await shelf.clinic.write(written)
    found = await shelf.get("bruno")
    assert found is not None
    assert (found.deleted, found.content, found.version, found.last) == (False, bruno.content, 2, 3)
    assert (await shelf.numbered("bruno", 3))[3] == written.versions[0]


async def test_a_branch_without_a_parent_is_a_second_beginning(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno")
    written = shelf.beside(bruno, 0, "twin", change=Change.CREATION)
    await shelf.clinic.write(written)
    assert (await shelf.numbered("bruno", 2))[2].parent is None


async def test_a_branch_and_its_merge_are_appended_at_once(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one", "hers")
    written = shelf.merged(bruno, 1, "his", "both")
    kept, made = written.versions
    await shelf.clinic.write(written)
    found = await shelf.get("bruno")
    assert found == written.head
    assert found is not None
    assert (found.version, found.last, found.content, found.hash) == (4, 4, made.content, made.hash)
    assert await shelf.history("bruno", limit=2) == [made, kept]
    assert (made.inputs, made.parent, kept.inputs, kept.branch, made.branch) == ((2, 3), 2, (), True, False)
    [following] = await shelf.clinic.write(shelf.next(found, "after"))
    assert (following.version, await shelf.get("bruno")) == (5, following)
    previous = GENESIS
    for version in reversed(await shelf.history("bruno")):
        assert proves(previous, version)
        previous = version.hash
    assert previous == following.hash


async def test_one_append_takes_branches_merges_and_beginnings_together(shelf: Shelf) -> None:
    bruno, cleo = await shelf.put("bruno", "one", "hers"), await shelf.put("cleo", "one", "hers")
    contribution = shelf.clinic.contribution()
    merge = shelf.clinic.merged(bruno, 1, shelf.content("his"), shelf.content("both"), contribution=contribution)
    written = [merge, shelf.first("dina", contribution=contribution)]
    written.append(shelf.beside(cleo, 1, "his", contribution=contribution))
    await shelf.clinic.write(*written)
    for item in written:
        assert await shelf.get(item.head.id) == item.head
        assert await shelf.history(item.head.id, limit=len(item.versions)) == list(reversed(item.versions))


async def test_an_open_conflict_is_named_by_its_head_until_it_is_over(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno")
    for conflict_id in ("conflict-1", None):
        written = shelf.next(bruno, f"under {conflict_id}")
        [bruno] = await shelf.clinic.write(replace(written, head=replace(written.head, conflict_id=conflict_id)))
        found = await shelf.get("bruno")
        assert found == bruno
        assert found is not None
        assert found.conflict_id == conflict_id


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
    future = replace(bruno, version=6, last=6)
    async with shelf.backend.uow() as uow:
        with pytest.raises(RuntimeError):
            await things(uow, shelf.collection).append([shelf.next(future, "from the future")])
    assert await shelf.get("bruno") == bruno
    assert len(await shelf.history("bruno")) == 1


async def test_a_head_that_is_not_where_its_lock_left_it_does_not_move(shelf: Shelf) -> None:
    """Its version is the same; a branch was kept since, so its last one is not."""
    bruno = await shelf.put("bruno", "one", "hers")
    [after] = await shelf.clinic.write(shelf.beside(bruno, 1, "his"))
    with pytest.raises(AlreadyExists):
        await shelf.clinic.write(shelf.next(bruno, "as if nothing had been"))
    for last in (4, 9):
        ahead = replace(after, last=last)
        for written in (shelf.next(ahead, "ahead"), shelf.beside(ahead, 1, "ahead"), shelf.merged(ahead, 1, "a", "b")):
            async with shelf.backend.uow() as uow:
                with pytest.raises(RuntimeError):
                    await things(uow, shelf.collection).append([written])
    assert await shelf.get("bruno") == after
    assert len(await shelf.history("bruno")) == 3


async def test_of_a_branch_and_its_merge_both_are_kept_or_none(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one", "hers")
    written = shelf.merged(bruno, 1, "his", "both")
    kept, made = written.versions
    with pytest.raises(AlreadyExists):
        await shelf.clinic.write(replace(written, versions=(replace(kept, number=5), replace(made, number=2))))
    assert await shelf.get("bruno") == bruno
    assert len(await shelf.history("bruno")) == 2


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
    assert version == replace(imported.versions[0], source=None)
    assert version.source_digest is not None


async def test_a_later_version_keeps_what_was_imported_last(shelf: Shelf) -> None:
    imported = shelf.first("bruno", source=b"{}")
    await shelf.clinic.write(imported)
    [head] = await shelf.clinic.write(shelf.next(imported.head, "by hand"))
    found = await shelf.get("bruno")
    assert found == head
    assert found is not None
    assert (found.source_version, found.source_digest) == (1, imported.versions[0].source_digest)


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
    assert await shelf.numbered("bruno", 1, 2) == {1: first.versions[0], 2: second.versions[0]}
    assert await shelf.numbered("bruno", 2, 2, 3, 0, -1) == {2: second.versions[0]}
    assert await shelf.numbered("bruno") == {}
    assert await shelf.numbered("nobody", 1) == {}


# -- lineage ------------------------------------------------------------------------------------------------------


def _numbers(found: tuple[Version | None, Version | None]) -> tuple[int | None, int | None]:
    base, own = found
    return base and base.number, own and own.number


async def test_of_nothing_there_is_no_lineage(shelf: Shelf) -> None:
    assert await shelf.backend.versions.lineages(shelf.clinic.id, [], "tablet-1") == {}


async def test_the_lineage_of_an_edit_is_its_base_and_what_the_device_made_of_it_last(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one")
    hers = shelf.next(bruno, "hers", contribution=shelf.clinic.contribution("laptop-2"))
    await shelf.clinic.write(hers)
    third = shelf.next(hers.head, "three", source=b"{}")
    await shelf.clinic.write(third)
    base, own = await shelf.lineage(1)
    assert (base, own) == ((await shelf.numbered("bruno", 1))[1], replace(third.versions[0], source=None))
    assert _numbers(await shelf.lineage(1, "laptop-2")) == (1, 2)
    assert _numbers(await shelf.lineage(2, "laptop-2")) == (2, None)
    assert _numbers(await shelf.lineage(3)) == (3, None)
    assert _numbers(await shelf.lineage(1, "phone-3")) == (1, None)


async def test_a_base_that_is_not_there_is_none(shelf: Shelf, elsewhere: Clinic) -> None:
    await shelf.put("bruno", "one", "two")
    assert _numbers(await shelf.lineage(0)) == (None, 2)
    assert _numbers(await shelf.lineage(9)) == (None, None)
    foreign = Shelf(elsewhere, shelf.collection)
    assert _numbers(await foreign.lineage(1)) == (None, None)
    other = next(one for one in Collection if one is not shelf.collection)
    assert _numbers(await Shelf(shelf.clinic, other).lineage(1)) == (None, None)


async def test_a_base_gives_its_source_to_nobody(shelf: Shelf) -> None:
    await shelf.clinic.write(shelf.first("bruno", source=b"{}"))
    base, _ = await shelf.lineage(1)
    assert base is not None
    assert (base.source, base.source_digest is None) == (None, False)


async def test_a_devices_branch_is_its_own_though_never_the_head(shelf: Shelf) -> None:
    """Also where the next one goes on from the branch, and the merge between them is the server's."""
    bruno = await shelf.put("bruno", "one")
    [head] = await shelf.clinic.write(shelf.next(bruno, "hers", contribution=shelf.clinic.contribution("laptop-2")))
    [head] = await shelf.clinic.write(shelf.merged(head, 1, "his", "both"))
    assert _numbers(await shelf.lineage(1)) == (1, 3)
    assert _numbers(await shelf.lineage(2)) == (2, None)  # it had not seen version 2
    [head] = await shelf.clinic.write(shelf.beside(head, 3, "his second"))
    assert _numbers(await shelf.lineage(1)) == (1, 5)
    assert _numbers(await shelf.lineage(3)) == (3, 5)
    assert _numbers(await shelf.lineage(4)) == (4, None)


async def test_a_beginning_beside_the_first_one_goes_on_from_nothing(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one")
    twin = shelf.beside(bruno, 0, "twin", change=Change.CREATION, contribution=shelf.clinic.contribution("laptop-2"))
    await shelf.clinic.write(twin)
    assert await shelf.lineage(0, "laptop-2") == (None, twin.versions[0])
    assert _numbers(await shelf.lineage(0)) == (None, 1)
    assert _numbers(await shelf.lineage(1, "laptop-2")) == (1, None)


@pytest.mark.parametrize("change", list(Change))
async def test_a_device_goes_on_from_what_a_person_entered_there(shelf: Shelf, change: Change) -> None:
    """Not from what the server merged, from a signature, a deletion or an import."""
    bruno = await shelf.put("bruno", "one")
    text = None if change is Change.DELETION else shelf.content("two")
    await shelf.clinic.write(shelf.clinic.next(bruno, text, change=change))
    entered = change in (Change.CREATION, Change.MODIFICATION, Change.AMENDMENT, Change.REVERSION, Change.RESTORATION)
    assert _numbers(await shelf.lineage(1)) == (1, 2 if entered else None)


async def test_inside_a_unit_of_work_lineage_sees_its_own_versions(shelf: Shelf) -> None:
    bruno = await shelf.put("bruno", "one")
    async with shelf.backend.uow() as uow:
        await things(uow, shelf.collection).append([shelf.next(bruno, "two")])
        inside = await uow.versions.lineage(shelf.clinic.id, shelf.collection, "bruno", 1, "tablet-1")
        assert _numbers(inside) == (1, 2)
        assert _numbers(await shelf.lineage(1)) == (1, None)


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
        assert await uow.versions.history(shelf.clinic.id, shelf.collection, "bruno", None, 9) == [*written.versions]
        assert await things(uow, shelf.collection).lock(shelf.clinic.id, ["bruno"]) == {"bruno": written.head}
        assert await shelf.get("bruno") is None
        assert await shelf.history("bruno") == []
        assert await shelf.numbered("bruno", 1) == {}
        await uow.commit()
    assert await shelf.get("bruno") == written.head
