"""What every ledger promises: everything there is, in order, as it stood at one moment."""

from heallog.application.ports.versions import Ledger
from heallog.domain.versions import Collection, Head, Version

from .clinic import Backend, Clinic


async def _versions(ledger: Ledger, clinic: Clinic, collection: Collection) -> list[Version]:
    found = [version async for version in ledger.versions(collection)]
    keys = [(version.practice_id, version.thing_id, version.number) for version in found]
    assert keys == sorted(keys)
    return [version for version in found if version.practice_id == clinic.id]


async def _heads(ledger: Ledger, clinic: Clinic, collection: Collection) -> list[Head]:
    found = [head async for head in ledger.heads(collection)]
    keys = [(head.practice_id, head.id) for head in found]
    assert keys == sorted(keys)
    return [head for head in found if head.practice_id == clinic.id]


async def _size(backend: Backend) -> int:
    async with backend.ledger() as ledger:
        return await ledger.size()


async def test_everything_comes_in_order_with_its_source(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    await elsewhere.admit("alice")
    before = await _size(backend)
    imported = clinic.first(Collection.PATIENTS, "b", {"family_name": "Braun"}, source=b'{ "a": 1 }')
    changed = clinic.next(imported.head, None)
    await clinic.write(imported)
    await clinic.write(changed)
    upper, lower = await clinic.admit("B"), await clinic.admit("a")
    note = await clinic.file("note", of="a")

    async with backend.ledger() as ledger:
        assert await _heads(ledger, clinic, Collection.PATIENTS) == [upper, lower, changed.head]
        assert await _heads(ledger, clinic, Collection.RECORDS) == [note]
        versions = await _versions(ledger, clinic, Collection.PATIENTS)
        assert [(version.thing_id, version.number) for version in versions] == [("B", 1), ("a", 1), ("b", 1), ("b", 2)]
        assert versions[2:] == [imported.versions[0], changed.versions[0]]
        assert [version.thing_id for version in await _versions(ledger, clinic, Collection.RECORDS)] == ["note"]
        assert await ledger.size() == before + 5


async def test_what_is_not_committed_is_not_there(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        await uow.patients.append([clinic.patient("alice", family_name="Smith")])
        async with backend.ledger() as ledger:
            assert await _heads(ledger, clinic, Collection.PATIENTS) == []
            assert await _versions(ledger, clinic, Collection.PATIENTS) == []


async def test_what_is_committed_meanwhile_is_not_seen(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice")
    async with backend.ledger() as ledger:
        assert await _heads(ledger, clinic, Collection.PATIENTS) == [alice]
        await clinic.change(alice, family_name="Jones")
        await clinic.file("note", of="alice")
        assert await _heads(ledger, clinic, Collection.PATIENTS) == [alice]
        assert len(await _versions(ledger, clinic, Collection.PATIENTS)) == 1
        assert await _versions(ledger, clinic, Collection.RECORDS) == []


async def test_a_ledger_of_one_practice(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    for place in (clinic, elsewhere):
        alice = await place.admit("alice")
        await place.file("note", of="alice")
        await place.change(alice, family_name="Jones")
    async with backend.ledger() as ledger:
        assert await ledger.size(clinic.id) == 3
        for collection, names in ((Collection.PATIENTS, ["alice", "alice"]), (Collection.RECORDS, ["note"])):
            versions = [version async for version in ledger.versions(collection, clinic.id)]
            heads = [head async for head in ledger.heads(collection, clinic.id)]
            assert [(version.practice_id, version.thing_id) for version in versions] == [(clinic.id, n) for n in names]
            assert [(head.practice_id, head.id) for head in heads] == [(clinic.id, names[0])]
