"""What every change feed promises, and every place where pushes are kept."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from heallog.application.ports.sync import Standing
from heallog.domain.errors import AlreadyExists
from heallog.domain.pushes import Pushed, Quarantined
from heallog.domain.sync import Place, Stream
from heallog.domain.versions import Collection

from .clinic import MONDAY, Backend, Clinic

ALL = tuple(Stream)


async def fed(clinic: Clinic, after: Place = Place(), until: int | None = None, limit: int = 100) -> Any:  # noqa: B008
    return await clinic.backend.feed.page(clinic.id, ALL, after, until, limit)


async def told(clinic: Clinic, after: Place = Place()) -> list[tuple[str, str, int]]:  # noqa: B008
    """What the feed tells after a place, in its order."""
    changes = json.loads(b"[%s]" % b",".join((await fed(clinic, after)).changes))
    return [(change["collection"], change["id"], change["version"]) for change in changes]


async def test_a_new_practice_has_a_head_and_nothing_to_tell(clinic: Clinic, elsewhere: Clinic) -> None:
    page = await fed(clinic)
    assert (page.head, page.until, [*page.changes], page.count, page.last, page.more) == (0, 0, [], 0, None, False)
    assert page.epoch
    assert page.epoch != (await fed(elsewhere)).epoch


async def test_of_each_thing_the_latest_change_is_told_in_the_order_of_commits(clinic: Clinic) -> None:
    alice = await clinic.admit("alice")
    await clinic.admit("bruno")
    await clinic.file("note", "alice")
    await clinic.change(alice, phone="0199")
    assert await told(clinic) == [("patients", "bruno", 1), ("records", "note", 1), ("patients", "alice", 2)]
    page = await fed(clinic)
    assert set(page.patients) == {"alice", "bruno"}
    two = await fed(clinic, limit=2)
    assert (two.last.rank, two.last.id) == (1, "note")
    assert two.last.seq < page.head


async def test_what_is_committed_together_comes_together_the_patient_first(clinic: Clinic) -> None:
    async with clinic.backend.uow() as uow:
        contribution = clinic.contribution()
        patient = clinic.patient("alice")
        await uow.patients.append([patient])
        await uow.records.append([clinic.record("note", "alice")])
        await uow.commit()
    assert contribution
    assert await told(clinic) == [("patients", "alice", 1), ("records", "note", 1)]
    first = await fed(clinic, limit=1)
    assert first.last == Place(first.head, 0, "alice")


async def test_what_is_not_committed_is_not_told(clinic: Clinic) -> None:
    async with clinic.backend.uow() as uow:
        await uow.patients.append([clinic.patient("alice")])
    async with clinic.backend.uow() as uow:
        await uow.patients.append([clinic.patient("bruno")])
        with pytest.raises(AlreadyExists):
            await uow.patients.append([clinic.patient("bruno")])
    page = await fed(clinic)
    assert (page.head, [*page.changes]) == (0, [])


async def test_a_page_ends_where_it_is_told_and_says_whether_there_is_more(clinic: Clinic) -> None:
    for name in ("alice", "bruno", "clara"):
        await clinic.admit(name)
    first = await fed(clinic, limit=2)
    assert (first.count, first.more, first.until) == (2, True, first.head)
    await clinic.admit("dora")
    rest = await fed(clinic, first.last, first.until)
    assert (rest.count, rest.more, rest.head > rest.until) == (1, False, True)
    assert await told(clinic, Place(first.until, 3)) == [("patients", "dora", 1)]
    exact = await fed(clinic, limit=4)
    assert (exact.count, exact.more) == (4, False)


async def test_a_page_of_any_length_has_as_much_as_was_asked_for_and_all_pages_have_all(clinic: Clinic) -> None:
    """Around the lengths of what the database joins, and with several contributions in a page."""
    for start, stop in ((0, 130), (130, 131), (131, 250)):
        async with clinic.backend.uow() as uow:
            for number in range(start, stop):
                await uow.patients.append([clinic.patient(f"p-{number:03}")])
            await uow.commit()
    for limit in (99, 100, 101, 120, 200, 201, 249, 250, 251):
        ids, after = [], Place()
        for start in range(0, 250, limit):
            page = await fed(clinic, after, limit=limit)
            came = [change["id"] for change in json.loads(b"[%s]" % b",".join(page.changes))]
            assert len(came) == page.count == min(limit, 250 - start)
            assert set(page.patients) == set(came)
            ids += came
            assert page.more is (start + limit < 250)
            if page.more:
                assert page.last.id == came[-1]
                after = page.last
        assert ids == [f"p-{number:03}" for number in range(250)]
        rows = await clinic.backend.feed.rows(clinic.id, [Stream.PATIENTS], Place(), None, limit)
        assert len(json.loads(b"[%s]" % rows.rows[0])) == min(limit, 250)
        assert (rows.last and rows.last.id) == (f"p-{limit - 1:03}" if limit < 250 else None)


async def test_only_what_is_asked_for_is_told(clinic: Clinic, elsewhere: Clinic) -> None:
    await clinic.admit("alice")
    await clinic.file("note", "alice")
    await elsewhere.admit("alice")
    page = await clinic.backend.feed.page(clinic.id, [Stream.RECORDS], Place(), None, 10)
    assert json.loads(b",".join(page.changes))["id"] == "note"
    assert (await clinic.backend.feed.page(clinic.id, [], Place(), None, 10)).count == 0


async def skipped(
    clinic: Clinic, skip: int, limit: int = 100, streams: Sequence[Stream] = ALL
) -> tuple[list[str], Any]:
    """The ids of a page that is turned to by skipping, and the page."""
    page = await clinic.backend.feed.skipped(clinic.id, streams, skip, limit)
    return [change["id"] for change in json.loads(b"[%s]" % b",".join(page.changes))], page


async def test_by_skipping_all_comes_by_stream_and_id(clinic: Clinic, elsewhere: Clinic) -> None:
    for name in ("clara", "alice", "bruno"):
        await clinic.admit(name)
    await clinic.file("note", "alice")
    await elsewhere.admit("abdul")
    head = (await fed(clinic)).head
    ids, page = await skipped(clinic, 0)
    assert ids == ["alice", "bruno", "clara", "note"]
    assert (page.head, page.until, page.epoch, page.count, page.more) == (
        head,
        head,
        (await fed(clinic)).epoch,
        4,
        False,
    )
    assert set(page.patients) == {"alice", "bruno", "clara"}
    for skip, limit, there, more in (
        (0, 2, ["alice", "bruno"], True),
        (2, 2, ["clara", "note"], False),
        (3, 1, ["note"], False),
        (4, 2, [], False),
        (1_000_000, 2, [], False),
    ):
        ids, page = await skipped(clinic, skip, limit)
        assert (ids, page.count, page.more, page.head) == (there, len(there), more, head)
    assert (await skipped(clinic, 1, 2, [Stream.PATIENTS]))[0] == ["bruno", "clara"]
    assert (await skipped(clinic, 0, 2, [Stream.RECORDS]))[0] == ["note"]


async def test_what_changes_or_is_deleted_keeps_its_place_among_what_is_skipped(clinic: Clinic) -> None:
    alice, bruno, _ = [await clinic.admit(name) for name in ("alice", "bruno", "clara")]
    before = (await skipped(clinic, 1, 1))[0]
    await clinic.change(alice, phone="0199")
    await clinic.delete(bruno)
    ids, page = await skipped(clinic, 1, 1)
    assert ids == before == ["bruno"]
    assert json.loads(b",".join(page.changes))["op"] == "delete"


async def test_of_twenty_who_write_at_once_each_has_a_number_of_its_own_and_the_head_is_the_last(
    clinic: Clinic,
) -> None:
    await asyncio.gather(*(clinic.admit(f"p-{number}") for number in range(20)))
    places, after = [], Place()
    while (page := await fed(clinic, after, limit=1)).last is not None:
        places.append(page.last)
        after = page.last
    assert page.count == 1
    assert len({place.seq for place in places} | {page.head}) == 20
    assert places[-1].seq < page.head


# -- pushes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def push(clinic: Clinic) -> Pushed:
    return Pushed(clinic.id, "tablet", "p-1", clinic.dr_okafor.account_id, MONDAY, b"d" * 32, b'{"results":[]}')


async def test_a_push_is_known_by_its_device_and_its_id(backend: Backend, clinic: Clinic, push: Pushed) -> None:
    async with backend.uow() as uow:
        await uow.sync.keep(push)
        await uow.commit()
    async with backend.uow() as uow:
        assert await uow.sync.pushed(clinic.id, "tablet", "p-1") == push
        for other in ((clinic.id, "phone", "p-1"), (clinic.id, "tablet", "p-2"), ("elsewhere", "tablet", "p-1")):
            assert await uow.sync.pushed(*other) is None


async def test_a_push_is_kept_once(backend: Backend, push: Pushed) -> None:
    async with backend.uow() as uow:
        await uow.sync.keep(push)
        await uow.commit()
    async with backend.uow() as uow:
        with pytest.raises(Exception, match="push"):
            await uow.sync.keep(replace(push, answer=b"{}"))


async def test_what_is_quarantined_is_listed_newest_first_until_someone_closed_it(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    def item(id: str, **other: Any) -> Quarantined:
        shared = (id, "p-1", "okafor", "tablet", MONDAY, {"op": "update", "fields": {"dose": "é"}}, ({"code": "x"},))
        return replace(Quarantined(clinic.id, *shared), **other)

    items = [item("q-1"), item("q-2"), item("q-3", closed_at=MONDAY), item("q-4", practice_id=elsewhere.id)]
    async with backend.uow() as uow:
        await uow.sync.quarantine(items)
        await uow.commit()
    async with backend.uow() as uow:
        assert await uow.sync.quarantined(clinic.id, None, 10) == [items[1], items[0]]
        assert await uow.sync.quarantined(clinic.id, None, 1) == [items[1]]
        assert await uow.sync.quarantined(clinic.id, "q-2", 10) == [items[0]]


# -- where things stood -------------------------------------------------------------------------------------------


async def test_where_a_thing_stood_and_what_its_device_has_not_pulled(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice")
    made = (await fed(clinic)).head
    await clinic.change(await clinic.change(alice, phone="0199"), phone="0200")
    changed = (await fed(clinic)).head
    key = Collection.PATIENTS, "alice"
    asked = [key, (Collection.PATIENTS, "nobody")]
    async with backend.uow() as uow:
        stood = {
            "before it was made": await uow.sync.standing(clinic.id, "tablet-1", asked, 0, made),
            "before it was changed": await uow.sync.standing(clinic.id, "tablet-1", asked, made, changed),
            "now": await uow.sync.standing(clinic.id, "tablet-1", asked, changed, changed),
            "elsewhere": await uow.sync.standing(clinic.id, "phone-2", asked, made, changed),
        }
    assert stood == {
        "before it was made": {key: Standing(None, 1, own=True, since=1)},
        "before it was changed": {key: Standing(1, 3, own=True, since=1)},
        "now": {key: Standing(3, 3, own=True, since=None)},
        "elsewhere": {key: Standing(1, 3, own=False, since=None)},
    }
