"""What every unit of work promises: all or nothing, one after the other, and told only when it is true."""

import asyncio
from contextlib import suppress

import pytest

from heallog.application.ports.unit_of_work import UnitOfWork
from heallog.domain.errors import AlreadyExists, DomainError
from heallog.domain.events import LoggedIn

from .clinic import Backend, Clinic

# -- all or nothing -----------------------------------------------------------------------------------------------


async def test_leaving_without_a_commit_rolls_back(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        await uow.patients.append([clinic.patient("alice", family_name="Smith")])
        await uow.records.append([clinic.record("note", of="alice")])
    assert await clinic.page() == []
    assert await backend.records.get(clinic.id, "note") is None
    await clinic.admit("alice")


async def test_an_error_rolls_back_and_comes_through(backend: Backend, clinic: Clinic) -> None:
    async def fail() -> None:
        async with backend.uow() as uow:
            await uow.patients.append([clinic.patient("alice", family_name="Smith")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await clinic.page() == []


async def test_being_cancelled_rolls_back_and_frees_the_way(backend: Backend, clinic: Clinic) -> None:
    await clinic.admit("alice")
    ready = asyncio.Event()

    async def forever() -> None:
        async with backend.uow() as uow:
            await uow.patients.lock(clinic.id, ["alice"])
            await uow.patients.append([clinic.patient("bruno", family_name="Braun")])
            ready.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(forever())
    await ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await clinic.page() == ["alice"]
    async with backend.uow() as uow:
        assert list(await uow.patients.lock(clinic.id, ["alice"])) == ["alice"]


async def test_one_commit_keeps_everything(backend: Backend, clinic: Clinic) -> None:
    bruno = await clinic.admit("bruno")
    async with backend.uow() as uow:
        await uow.accounts.add(clinic.account("amara"))
        await uow.patients.append([clinic.patient("alice", family_name="Smith")])
        await uow.records.append([clinic.record("note", of="alice")])
        await uow.patients.append([clinic.next(bruno, None)])
        await uow.commit()
    assert await clinic.page() == ["alice"]
    assert await clinic.records_of("alice") == ["note"]
    async with backend.uow() as uow:
        assert await uow.accounts.get(clinic.account("amara").id) is not None


async def test_reads_outside_see_what_is_committed_and_inside_what_is_written(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice", family_name="Smith")
    async with backend.uow() as uow:
        changed = clinic.next(alice, {"family_name": "Jones"})
        await uow.patients.append([changed])
        assert await backend.patients.get(clinic.id, "alice") == alice
        assert await clinic.search("Jones") == []
        assert await uow.patients.lock(clinic.id, ["alice"]) == {"alice": changed.head}
        await uow.commit()
        assert await backend.patients.get(clinic.id, "alice") == changed.head
    assert await clinic.search("Jones") == ["alice"]


async def test_each_unit_of_work_is_fresh(backend: Backend) -> None:
    assert backend.uow() is not backend.uow()


async def test_what_was_never_entered_does_nothing(backend: Backend, clinic: Clinic) -> None:
    uow = backend.uow()
    with pytest.raises(RuntimeError):
        await uow.commit()
    with pytest.raises(RuntimeError):
        await uow.audit([clinic.entry("e-1")])
    with pytest.raises(RuntimeError):
        await uow.exclusive(clinic.id, "import")


async def test_after_its_end_nothing_is_done_any_more(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        await uow.patients.append([clinic.patient("alice", family_name="Smith")])
    with pytest.raises(Exception):  # noqa: B017
        await uow.patients.append([clinic.patient("bruno", family_name="Braun")])
    with pytest.raises(Exception):  # noqa: B017
        await uow.commit()
    assert await clinic.page() == []


async def test_the_commit_lets_the_next_one_in(backend: Backend, clinic: Clinic) -> None:
    await clinic.admit("alice")
    async with backend.uow() as first:
        await first.exclusive(clinic.id, "import")
        await first.patients.lock(clinic.id, ["alice"])
        await first.commit()
        async with asyncio.timeout(10), backend.uow() as second:
            await second.exclusive(clinic.id, "import")
            assert await second.patients.lock(clinic.id, ["alice"])


# -- audit --------------------------------------------------------------------------------------------------------


async def test_audit_entries_go_with_the_commit(backend: Backend, clinic: Clinic) -> None:
    """There is no reading them yet: what is kept cannot be added twice."""
    for committed in (False, True):
        async with backend.uow() as uow:
            await uow.audit([clinic.entry("e-1"), clinic.entry("e-2")])
            if committed:
                await uow.commit()
    async with backend.uow() as uow:
        with pytest.raises(Exception) as refused:
            await uow.audit([clinic.entry("e-3"), clinic.entry("e-2")])
    assert not isinstance(refused.value, DomainError)
    async with backend.uow() as uow:
        await uow.audit([clinic.entry("e-3")])
        await uow.audit([])


# -- events -------------------------------------------------------------------------------------------------------


async def test_events_are_told_after_the_commit_in_their_order(backend: Backend, clinic: Clinic) -> None:
    first, second = LoggedIn(clinic.id, "okafor", "s-1"), LoggedIn(clinic.id, "okafor", "s-2")
    async with backend.uow() as uow:
        uow.tell(first)
        uow.tell(second)
        assert backend.told == []
        await uow.commit()
        assert backend.told == [first, second]
    assert backend.told == [first, second]


async def test_what_was_rolled_back_is_not_told(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        uow.tell(LoggedIn(clinic.id, "okafor", "s-1"))
    with suppress(ZeroDivisionError):
        async with backend.uow() as uow:
            uow.tell(LoggedIn(clinic.id, "okafor", "s-2"))
            raise ZeroDivisionError
    assert backend.told == []


# -- one after the other ------------------------------------------------------------------------------------------


async def test_a_second_lock_waits_for_the_first_commit_and_sees_it(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice", family_name="Smith")

    async def second() -> object:
        async with backend.uow() as uow:
            return await uow.patients.lock(clinic.id, ["alice"])

    async with backend.uow() as uow:
        await uow.patients.lock(clinic.id, ["alice"])
        task = asyncio.create_task(second())
        await backend.until_waiting(task)
        assert not task.done()
        written = clinic.next(alice, {"family_name": "Jones"})
        await uow.patients.append([written])
        assert not task.done()
        await uow.commit()
    assert await task == {"alice": written.head}


async def test_a_second_lock_is_let_in_by_a_rollback_too(backend: Backend, clinic: Clinic) -> None:
    await clinic.admit("alice")
    note = await clinic.file("note", of="alice")

    async def second() -> object:
        async with backend.uow() as uow:
            return await uow.records.lock(clinic.id, ["note"])

    async with backend.uow() as uow:
        await uow.records.lock(clinic.id, ["note"])
        task = asyncio.create_task(second())
        await backend.until_waiting(task)
        assert not task.done()
    assert await task == {"note": note}


async def test_who_is_present_cannot_be_deleted_meanwhile(backend: Backend, clinic: Clinic) -> None:
    alice = await clinic.admit("alice")

    async def delete() -> object:
        async with backend.uow() as uow:
            await uow.patients.lock(clinic.id, ["alice"])
            await uow.patients.append([clinic.next(alice, None)])
            await uow.commit()

    async with backend.uow() as uow:
        assert await uow.patients.present(clinic.id, ["alice"]) == {"alice"}
        task = asyncio.create_task(delete())
        await backend.until_waiting(task)
        assert not task.done()
        await uow.records.append([clinic.record("note", of="alice")])
        await uow.commit()
    await task
    assert await clinic.records_of("alice") is None


async def test_two_create_one_thing_and_one_of_them_does(backend: Backend, clinic: Clinic) -> None:
    first, second = (clinic.patient("alice", family_name=name) for name in ("Smith", "Jones"))
    other = clinic.patient("bruno", family_name="Braun")

    async def late() -> None:
        async with backend.uow() as uow:
            await uow.patients.append([other])
            await uow.patients.append([second])
            await uow.commit()

    async with backend.uow() as uow:
        await uow.patients.append([first])
        task = asyncio.create_task(late())
        await backend.until_waiting(task)
        assert not task.done()
        await uow.commit()
    with pytest.raises(AlreadyExists):
        await task
    assert await backend.patients.get(clinic.id, "alice") == first.head
    assert await clinic.page() == ["alice"]


async def test_the_second_creates_it_where_the_first_gives_up(backend: Backend, clinic: Clinic) -> None:
    second = clinic.patient("alice", family_name="Jones")

    async with backend.uow() as uow:
        await uow.patients.append([clinic.patient("alice", family_name="Smith")])
        task = asyncio.create_task(clinic.write(second))
        await backend.until_waiting(task)
        assert not task.done()
    await task
    assert await backend.patients.get(clinic.id, "alice") == second.head


@pytest.mark.parametrize("committed", [True, False])
async def test_exclusive_work_waits_for_the_end_of_its_kind(backend: Backend, clinic: Clinic, committed: bool) -> None:
    async def second() -> object:
        async with backend.uow() as uow:
            await uow.exclusive(clinic.id, "import")
            return await clinic.page()

    async with backend.uow() as uow:
        await uow.exclusive(clinic.id, "import")
        await uow.exclusive(clinic.id, "import")
        task = asyncio.create_task(second())
        await backend.until_waiting(task)
        assert not task.done()
        await uow.patients.append([clinic.patient("alice", family_name="Smith")])
        if committed:
            await uow.commit()
    assert await task == (["alice"] if committed else [])


# -- what only PostgreSQL can do: several at once -----------------------------------------------------------------


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_strangers_do_not_wait_for_each_other(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    for place in (clinic, elsewhere):
        await place.admit("alice")
    await clinic.admit("bruno")

    async def busy(uow: UnitOfWork) -> None:
        await uow.exclusive(clinic.id, "import")
        await uow.patients.lock(clinic.id, ["alice"])

    async with backend.uow() as first, backend.uow() as second:
        await busy(first)
        await second.exclusive(clinic.id, "export")
        await second.exclusive(elsewhere.id, "import")
        assert await second.patients.lock(clinic.id, ["bruno"])
        assert await second.patients.lock(elsewhere.id, ["alice"])
        assert await backend.patients.get(clinic.id, "alice")


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_several_may_rely_on_one_patient_being_present(backend: Backend, clinic: Clinic) -> None:
    await clinic.admit("alice")
    async with backend.uow() as first, backend.uow() as second:
        assert await first.patients.present(clinic.id, ["alice"]) == {"alice"}
        assert await second.patients.present(clinic.id, ["alice"]) == {"alice"}


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_two_who_lock_the_same_things_do_not_deadlock(backend: Backend, clinic: Clinic) -> None:
    """Locks are taken in the order of the ids, however they are asked for."""
    ids = [f"p-{number}" for number in range(8)]
    for patient in ids:
        await clinic.admit(patient)

    async def lock(asked: list[str]) -> int:
        async with backend.uow() as uow:
            return len(await uow.patients.lock(clinic.id, asked))

    rounds = [lock(ids if number % 2 else ids[::-1]) for number in range(16)]
    assert await asyncio.gather(*rounds) == [8] * 16
