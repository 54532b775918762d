"""Scenarios of pushes, by the names of the design. Those that need a kill are in `test_crash.py`."""

import asyncio

import pytest
from tests.http.clinic import Clinic, NewClinic, refused
from tests.http.devices import METFORMIN, NGOZI, Device, delete, statuses, update

from .apps import App, Native, Pair, Watermelon, effect, settled, shows


@pytest.fixture(params=[Native, Watermelon])
def door(request: pytest.FixtureRequest) -> type[App]:
    """What a client sends that sets no base tokens differs only where others edit the same: `test_conflict.py`."""
    return request.param


async def test_commit_and_lost_answer_then_identical_retry_then_edit_and_retry(clinic: Clinic, both: Pair) -> None:
    tablet, phone = both
    tablet.create("records", "cough", "ngozi", kind="note", text="one")
    tablet.edit("records", "metformin", dose=20)
    before = await effect(clinic)
    first = await tablet.push()
    done = await effect(clinic)
    assert {what: number - before[what] for what, number in done.items() if what != "head"} == {
        "versions": 2,
        "conflicts": 0,
        "quarantined": 0,
        "entries": 3,
        "told": 1,
        "contributions": 1,
        "pushes": 1,
    }
    for _ in range(3):
        assert (await tablet.push()).content == first.content
    assert await effect(clinic) == done

    # The device never heard any of it, and a person goes on.
    tablet.edit("records", "metformin", dose=25)
    tablet.create("records", "fever", "ngozi", kind="note", text="two")
    assert await tablet.sync() == {"cough": "unchanged", "metformin": "updated", "fever": "created"}
    await settled(tablet, phone)
    assert shows(phone, "records", "metformin", dose=25, version=3)
    assert shows(phone, "records", "cough", text="one", version=1)
    assert phone.conflicts() == []


async def test_same_push_twice_in_parallel(clinic: Clinic, tablet: App) -> None:
    tablet.edit("records", "metformin", dose=20)
    tablet.create("records", "cough", "ngozi", kind="note", text="one")
    before = await effect(clinic)
    answers = await asyncio.gather(*(tablet.push() for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    done = await effect(clinic)
    assert (done["versions"] - before["versions"], done["pushes"] - before["pushes"]) == (2, 1)


async def test_create_of_an_existing_id_with_same_content(clinic: Clinic, both: Pair) -> None:
    tablet, phone = both
    for app in both:
        app.create("records", "cough", "ngozi", kind="note", text="one")
    assert (await tablet.push()).json()["results"][0]["status"] == "created"
    before = await effect(clinic)
    assert (await phone.push()).json()["results"][0]["status"] == "unchanged"
    after = await effect(clinic)
    assert (after["versions"], after["conflicts"]) == (before["versions"], before["conflicts"])
    await settled(tablet, phone)


async def test_create_of_an_existing_id_with_other_content(both: Pair) -> None:
    tablet, phone = both
    tablet.create("records", "ramipril", "ngozi", kind="medication", title="Ramipril", dose=5)
    phone.create("records", "ramipril", "ngozi", kind="medication", title="Ramipril", dose=10)
    assert (await tablet.push()).json()["results"][0]["status"] == "created"
    assert (await phone.push()).json()["results"][0]["status"] == "conflict"
    await settled(tablet, phone)
    assert shows(phone, "records", "ramipril", dose=5)
    assert [conflict["kind"] for conflict in phone.conflicts()] == ["create_create"]


async def test_id_of_another_practice(new_clinic: NewClinic, clinic: Clinic, door: type[App], tablet: App) -> None:
    """Whoever guesses it learns and changes nothing: it is as free there as any other."""
    before = await effect(clinic)
    there = await new_clinic()
    stranger = door(there, await there.token_for(device="tablet"))
    stranger.create("records", "metformin", "ngozi", kind="medication", title="Mine", dose=99)
    assert await stranger.sync() == {"metformin": "quarantined"}
    stranger.create("patients", "ngozi", family_name="Other")
    stranger.create("records", "metformin", "ngozi", kind="medication", title="Mine", dose=99)
    assert await stranger.sync() == {"ngozi": "created", "metformin": "created"}
    await stranger.pull()
    assert shows(stranger, "patients", "ngozi", family_name="Other", given_name=None)
    assert await effect(clinic) == before
    await tablet.pull()
    assert shows(tablet, "records", "metformin", dose=10)


async def test_update_of_unknown(clinic: Clinic, tablet: App) -> None:
    """By the native door it is set aside. WatermelonDB sends whole rows: the thing is made of it, and flagged."""
    if isinstance(tablet, Native):
        answer = await tablet.sends([update("records", "nothing", 1, title="x")])
        (result,) = answer.json()["results"]
        assert (result["status"], result["errors"][0]["code"]) == ("quarantined", "NOT_FOUND")
        assert len((await clinic.get("/v1/sync/quarantine"))["items"]) == 1
    if isinstance(tablet, Watermelon):
        row = {**tablet.row("records", "metformin"), "id": "nothing", "version": None, "_changed": "dose", "dose": 7}
        answer = await tablet.call("POST", f"?last_pulled_at={tablet.last_pulled_at}", {"records": {"updated": [row]}})
        (result,) = answer.json()["results"]
        assert (result["status"], result["flag"]) == ("created", "unknown_id")
        await tablet.pull()
        assert shows(tablet, "records", "nothing", dose=7, title="Metformin")


async def test_delete_of_missing(clinic: Clinic, tablet: App) -> None:
    before = await effect(clinic)
    if isinstance(tablet, Native):
        answer = await tablet.sends([delete("records", "nothing", 1)])
        assert statuses(answer.json()["results"]) == ["quarantined"]
    if isinstance(tablet, Watermelon):
        deleted = {"records": {"deleted": ["nothing"]}}
        answer = await tablet.call("POST", f"?last_pulled_at={tablet.last_pulled_at}", deleted)
        assert statuses(answer.json()["results"]) == ["unchanged"]
    assert (await effect(clinic))["versions"] == before["versions"]


async def test_create_and_delete_offline(clinic: Clinic, both: Pair) -> None:
    """A WatermelonDB says only that it is gone; by the native door both are said, and what was written is kept."""
    tablet, phone = both
    if isinstance(tablet, Native):
        chidi = {**NGOZI, "id": "chidi"}
        answer = await tablet.sends([chidi, delete("patients", "chidi", 1)])
        assert statuses(answer.json()["results"]) == ["created", "updated"]
        assert len((await clinic.get("/v1/patients/chidi/history"))["items"]) == 2
    else:
        tablet.create("patients", "chidi", family_name="Obi")
        tablet.delete("patients", "chidi")
        assert await tablet.sync() == {"chidi": "unchanged"}
    refused(
        await clinic.call("GET", "/v1/patients/chidi"), 404, "DELETED" if isinstance(tablet, Native) else "NOT_FOUND"
    )
    await settled(tablet, phone)
    assert phone.show("patients", "chidi") is None


async def test_child_before_parent(both: Pair) -> None:
    tablet, phone = both
    tablet.create("records", "cough", "chidi", kind="note", text="x")
    tablet.create("patients", "chidi", family_name="Obi")
    assert await tablet.sync() == {"cough": "created", "chidi": "created"}
    await settled(tablet, phone)
    assert shows(phone, "records", "cough", patient_id="chidi")


async def test_child_before_parent_and_parent_rejected(clinic: Clinic, tablet: App) -> None:
    """Both wait for a person, and the device goes on."""
    tablet.create("records", "cough", "chidi", kind="note", text="x")
    tablet.create("patients", "chidi", phone="1")
    assert await tablet.sync() == {"cough": "quarantined", "chidi": "quarantined"}
    waiting = (await clinic.get("/v1/sync/quarantine"))["items"]
    assert {code for item in waiting for code in (error["code"] for error in item["errors"])} == {
        "required",
        "NOT_FOUND",
    }
    refused(await clinic.call("GET", "/v1/records/cough"), 404, "NOT_FOUND")


async def test_one_invalid_in_500(both: Pair) -> None:
    tablet, phone = both
    for number in range(500):
        tablet.create("records", f"n-{number}", "ngozi", kind="note" if number != 250 else "shoe", text="Well.")
    told = await tablet.sync()
    assert [one for one, status in told.items() if status != "created"] == ["n-250"]
    assert (len(told), told["n-250"]) == (500, "quarantined")
    await phone.pull()
    assert [number for number in range(500) if phone.show("records", f"n-{number}") is None] == [250]


async def test_grouped_encounter_and_prescription_one_fails(clinic: Clinic) -> None:
    """Neither is there, both wait, and what stands beside them is done. WatermelonDB knows no groups."""
    tablet = Device(clinic, await clinic.token_for(device="tablet"))
    await tablet.push(NGOZI)
    visit = {**METFORMIN, "id": "visit", "fields": {"kind": "encounter", "title": "Visit"}}
    wrong = {**METFORMIN, "fields": {**METFORMIN["fields"], "dose": "a lot"}}
    for group in ([visit, wrong], [wrong, visit]):
        results = (await tablet.sends(group, [{**METFORMIN, "id": f"beside-{tablet.pushes}"}])).json()["results"]
        assert statuses(results) == ["quarantined", "quarantined", "created"]
        refused(await tablet.call("GET", "/v1/records/visit"), 404, "NOT_FOUND")
    kept = [item["operation"] for item in (await clinic.get("/v1/sync/quarantine"))["items"]]
    assert len(kept) == 4
    assert all(kept.count(said) == 2 for said in (visit, wrong))


async def test_edit_then_revert(clinic: Clinic, both: Pair) -> None:
    """10 to 20 and back without a network says nothing about the dose: what another made of it stands."""
    tablet, phone = both
    for dose in (20, 10):
        tablet.edit("records", "metformin", dose=dose)
    phone.edit("records", "metformin", dose=15)
    await phone.sync()
    assert await tablet.sync() == {"metformin": "unchanged"}
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=15, version=2)
    assert tablet.conflicts() == []
    # But once the 20 has arrived, with its answer lost, going back is an edit of it.
    tablet.edit("records", "metformin", dose=20)
    assert (await tablet.push()).status_code == 200
    tablet.edit("records", "metformin", dose=15)
    assert await tablet.sync() == {"metformin": "updated"}
    await settled(tablet, phone)
    assert shows(phone, "records", "metformin", dose=15, version=4)
    assert phone.conflicts() == []


async def test_two_processes_of_one_device(clinic: Clinic, door: type[App], tablet: App) -> None:
    """An app open twice, each with edits of its own from the same base, at once: in turn, and nothing is lost."""
    other = door(clinic, tablet.token)
    await other.pull()
    if isinstance(other, Native):
        other.names = "other"
    for number, app in enumerate((tablet, other)):
        app.create("records", f"note-{number}", "ngozi", kind="note", text="x")
        app.edit("records", "metformin", dose=20 + number)
        app.edit("patients", "ngozi", **({"phone": "0199"} if number else {"email": "ngozi@example.org"}))
    before = await effect(clinic)
    answers = await asyncio.gather(*(app.push() for app in (tablet, other) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 2
    after = await effect(clinic)
    assert after["pushes"] - before["pushes"] == 2
    doses = [one["content"]["dose"] for one in (await clinic.get("/v1/records/metformin/history"))["items"]]
    assert sorted(doses) == [10, 20, 21]
    await settled(tablet, other)
    assert shows(other, "patients", "ngozi", phone="0199", email="ngozi@example.org")
    assert shows(tablet, "records", "note-1", text="x")
    assert shows(other, "records", "note-0", text="x")
