"""Sync by its native protocol: what devices pull and push, and what became of it."""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from heallog.domain.access import PERMISSIONS, Permission, Role

from .clinic import Clinic, NewClinic, fields_of, refused
from .devices import METFORMIN, NGOZI, Device, delete, statuses, update
from .people import HOUR, MINUTE, NewHouse


@pytest.fixture
async def tablet(clinic: Clinic) -> Device:
    return Device(clinic, await clinic.token_for(device="tablet"))


@pytest.fixture
async def phone(clinic: Clinic) -> Device:
    return Device(clinic, await clinic.token_for(device="phone"))


# -- pulling ------------------------------------------------------------------------------------------------------


async def test_what_one_device_enters_another_has_after_its_next_pull(tablet: Device, phone: Device) -> None:
    assert statuses(await tablet.push(NGOZI, METFORMIN)) == ["created", "created"]
    assert await phone.pull() == [("patients", "ngozi"), ("records", "metformin")]
    assert phone.data("records", "metformin") == await tablet.clinic.get("/v1/records/metformin")
    assert await phone.pull() == []


async def test_what_is_written_without_sync_is_pulled_too(clinic: Clinic, tablet: Device) -> None:
    await clinic.patient(id="ngozi")
    await clinic.record("ngozi", id="r-1")
    await clinic.deleted("/v1/records/r-1", 1)
    await tablet.pull()
    assert tablet.has["records", "r-1"]["op"] == "delete"
    assert tablet.data("records", "r-1").keys() == {"id", "patient_id", "version", "deleted_at", "updated_by"}


async def test_one_pages_through_everything_and_nothing_comes_twice(clinic: Clinic, tablet: Device) -> None:
    made = [(await clinic.patient())["id"] for _ in range(7)]
    assert await tablet.pull(limit=2) == [("patients", patient_id) for patient_id in made]


async def test_so_many_come_at_once_as_are_asked_for_and_never_others(clinic: Clinic, another: NewHouse) -> None:
    """By the defaults, on a server whose settings are they."""
    strict = (await another(min_sync_batch_size=50)).clinic(clinic)
    for limit in (-1, 0, 49, 5_001, 2**60):
        error = refused(await strict.call("GET", f"/v1/sync/pull?limit={limit}"), 422, "INVALID_FIELDS", "limit")
        assert error["context"]["errors"][0]["message"] == "must be from 50 to 5000"
    notes = [{**METFORMIN, "id": f"n-{n:03}", "fields": {"kind": "note", "text": "Well."}} for n in range(500)]
    await Device(clinic, clinic.token).push(NGOZI, *notes)
    for query, count in (("", 500), ("?limit=50", 50), ("?limit=5000", 501)):
        assert len((await strict.get(f"/v1/sync/pull{query}"))["changes"]) == count
    document = (await strict.client.get("/schema/openapi.json")).json()
    (said,) = (one for one in document["paths"]["/v1/sync/pull"]["get"]["parameters"] if one["name"] == "limit")
    assert said["schema"] == {"type": "integer", "minimum": 50, "maximum": 5_000, "default": 500}


async def test_a_server_may_be_set_to_less(clinic: Clinic, another: NewHouse) -> None:
    house = await another(max_sync_records=2, sync_batch_size=1, max_sync_rows=2, sync_pull_hours=2)
    small = house.clinic(clinic)
    device = Device(small, await small.token_for(device="tablet"))
    refused(await device.sends([NGOZI, METFORMIN], [NGOZI]), 422, "INVALID_FIELDS", "contributions")
    for rows, status in ((2, 200), (3, 422)):
        changes = {"patients": {"deleted": ["chidi"] * rows}}
        assert (await device.call("POST", "/v1/sync/watermelon", changes)).status_code == status
    assert statuses(await device.push(NGOZI, METFORMIN)) == ["created", "created"]
    refused(await device.call("GET", "/v1/sync/pull?limit=3"), 422, "INVALID_FIELDS", "limit")
    begun = (await device.call("GET", "/v1/sync/pull")).json()
    assert (len(begun["changes"]), begun["has_more"]) == (1, True)
    further = f"/v1/sync/pull?cursor={begun['cursor']}"
    for later, good in ((2 * HOUR - MINUTE, True), (2 * MINUTE, False)):
        house.clock.now += later
        device.token = await small.token_for(device="tablet")
        answer = await device.call("GET", further)
        if good:
            assert [change["id"] for change in answer.json()["changes"]] == ["metformin"]
        else:
            refused(answer, 400, "INVALID_CURSOR")


async def test_only_what_is_asked_for_comes(clinic: Clinic, tablet: Device) -> None:
    await clinic.record((await clinic.patient(id="ngozi"))["id"], id="r-1")
    answer = await tablet.call("GET", "/v1/sync/pull?collections=records")
    assert [change["id"] for change in answer.json()["changes"]] == ["r-1"]
    further = f"/v1/sync/pull?collections=patients&cursor={answer.json()['cursor']}"
    refused(await tablet.call("GET", further), 422, "INVALID_FIELDS", "collections")
    refused(await tablet.call("GET", "/v1/sync/pull?collections=secrets"), 422, "INVALID_FIELDS", "collections")


class OldClient(Device):
    """Knows of no cursors: it turns pages by skipping, and keeps what the page says for the time after."""

    async def skipped(self, skip: int, limit: int) -> dict[str, Any]:
        answer = await self.call("GET", f"/v1/sync/pull?skip={skip}&limit={limit}")
        assert answer.status_code == 200, answer.text
        pulled = answer.json()
        self.cursor = pulled.get("cursor_at_end", self.cursor)
        for change in pulled["changes"]:
            self.has[change["collection"], change["id"]] = change
        return pulled


async def test_an_old_client_turns_pages_by_skipping_and_misses_nothing_that_happens_meanwhile(
    clinic: Clinic, tablet: Device
) -> None:
    """In the order of the feed each change would pull one forward that was not sent yet: it would never come."""
    for number in range(9):
        await clinic.patient(id=f"p-{number}")
    old = OldClient(clinic, await clinic.token_for(device="old"))
    meanwhile = [
        clinic.changed("/v1/patients/p-0", 1, phone="0100"),
        clinic.patient(id="a-new-one-before-all"),
        clinic.deleted("/v1/patients/p-1", 1),
        clinic.changed("/v1/patients/p-8", 1, phone="0200"),
        clinic.record("p-3", id="r-1"),
    ]
    skip, more, came = 0, True, []
    while more:
        page = await old.skipped(skip, 2)
        skip, more = skip + 2, page["has_more"]
        came += [change["id"] for change in page["changes"]]
        if meanwhile:
            await meanwhile.pop(0)
    assert not meanwhile
    assert set(came) >= {f"p-{number}" for number in range(9)}
    await old.pull()
    await tablet.pull()
    assert old.has == tablet.has
    assert await old.pull() == []


async def test_only_the_first_page_says_where_to_go_on_afterwards_and_no_page_as_its_cursor(clinic: Clinic) -> None:
    """`cursor` is what one goes on from at once: from the end that would leave out every page but the first."""
    for number in range(3):
        await clinic.patient(id=f"p-{number}")
    old = OldClient(clinic, await clinic.token_for(device="old"))
    first, last = await old.skipped(0, 2), await old.skipped(2, 2)
    assert (first["cursor"], first["has_more"], "cursor_at_end" in first) == (None, True, True)
    assert (last["cursor"], last["has_more"], "cursor_at_end" in last) == (None, False, False)
    assert (last["head"], last["epoch"]) == (first["head"], first["epoch"])
    whole = await old.skipped(0, 3)
    assert (whole["has_more"], whole["cursor"]) == (False, whole["cursor_at_end"])
    assert await old.pull() == []


async def test_skipping_says_that_it_will_go(clinic: Clinic, document: dict[str, Any]) -> None:
    answer = await clinic.call("GET", "/v1/sync/pull?skip=0")
    deprecated, sunset = answer.headers["deprecation"], parsedate_to_datetime(answer.headers["sunset"])
    assert re.fullmatch(r"@\d{10}", deprecated)
    assert datetime.fromtimestamp(int(deprecated[1:]), UTC) < sunset
    assert answer.headers["sunset"].endswith(" GMT")
    found = re.fullmatch(r'<([^>#]+)[^>]*>; rel="deprecation"; type="text/html"', answer.headers["link"])
    assert found
    assert (await clinic.client.get(found[1])).status_code == 200
    plain = await clinic.call("GET", "/v1/sync/pull")
    assert not {"deprecation", "sunset", "link"} & plain.headers.keys()
    parameters = document["paths"]["/v1/sync/pull"]["get"]["parameters"]
    assert [one["name"] for one in parameters if one["deprecated"]] == ["skip"]


async def test_skipping_is_bounded_goes_with_no_cursor_and_keeps_to_the_range_of_limits(
    clinic: Clinic, another: NewHouse
) -> None:
    cursor = (await clinic.get("/v1/sync/pull"))["cursor"]
    refused(await clinic.call("GET", f"/v1/sync/pull?skip=0&cursor={cursor}"), 422, "INVALID_FIELDS", "skip")
    for skip in ("-1", "1000001", "x", "1.5"):
        refused(await clinic.call("GET", f"/v1/sync/pull?skip={skip}"), 422, "INVALID_FIELDS", "skip")
    assert (await clinic.get("/v1/sync/pull?skip=1000000"))["changes"] == []
    strict = (await another(min_sync_batch_size=50)).clinic(clinic)
    refused(await strict.call("GET", "/v1/sync/pull?skip=0&limit=49"), 422, "INVALID_FIELDS", "limit")


async def test_skipping_shows_ones_own_practice_to_who_may_and_leaves_an_entry(
    clinic: Clinic, new_clinic: NewClinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clinic.record((await clinic.patient(id="ngozi"))["id"], id="r-1")
    elsewhere = await new_clinic()
    assert (await elsewhere.get("/v1/sync/pull?skip=0"))["changes"] == []
    for path in ("/v1/sync/pull?skip=0&collections=records", "/v1/sync/pull?skip=1"):
        assert [change["id"] for change in (await clinic.get(path))["changes"]] == ["r-1"]
    log = (await clinic.get("/v1/patients/ngozi/access-log"))["items"]
    assert [entry["action"] for entry in log].count("sync.pull") == 2
    refused(await clinic.client.get("/v1/sync/pull?skip=0"), 401, "NOT_AUTHENTICATED")
    may = PERMISSIONS[Role.OWNER] - {Permission.READ_CONFLICTS}
    monkeypatch.setitem(PERMISSIONS, Role.OWNER, may)  # type: ignore[arg-type]
    refused(await clinic.call("GET", "/v1/sync/pull?skip=0"), 403, "FORBIDDEN")


async def test_a_pull_leaves_an_entry_that_names_whom_it_showed(clinic: Clinic, tablet: Device) -> None:
    await clinic.record((await clinic.patient(id="ngozi"))["id"])
    await tablet.pull()
    log = (await clinic.get("/v1/patients/ngozi/access-log"))["items"]
    assert "sync.pull" in {entry["action"] for entry in log}


# -- pushing ------------------------------------------------------------------------------------------------------


async def test_another_push_under_the_same_id_is_refused(tablet: Device) -> None:
    await tablet.sends([NGOZI], push_id="p-1")
    answer = await tablet.sends([METFORMIN], push_id="p-1")
    refused(answer, 422, "INVALID_FIELDS", "push_id")


async def test_operations_of_one_contribution_build_on_each_other(tablet: Device) -> None:
    operations = [
        NGOZI,
        METFORMIN,
        update("records", "metformin", 1, dose=20),
        update("records", "metformin", 2, dose=30),
    ]
    results = (await tablet.sends(operations)).json()["results"]
    assert [(one["status"], one["version"]) for one in results] == [
        ("created", 1), ("created", 1), ("updated", 2), ("updated", 3),
    ]  # fmt: skip
    history = (await tablet.clinic.get("/v1/records/metformin/history"))["items"]
    assert [version["version"] for version in history] == [3, 2, 1]


async def test_an_id_of_another_practice_is_as_one_that_is_not_there(tablet: Device, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    await elsewhere.record((await elsewhere.patient(id="theirs"))["id"], id="secret")
    await tablet.push(NGOZI)
    operations = [update("records", "secret", 1, title="x"), update("records", "nothing", 1, title="x")]
    foreign, missing = await tablet.push(*operations)
    assert (foreign["status"], foreign["errors"]) == ("quarantined", missing["errors"])
    assert statuses(await tablet.push({**METFORMIN, "patient_id": "theirs"})) == ["quarantined"]


async def test_deleting_offline_what_is_there(tablet: Device, phone: Device) -> None:
    await tablet.push(NGOZI, METFORMIN)
    await phone.pull()
    assert statuses(await tablet.push(delete("records", "metformin", 1))) == ["updated"]
    assert await phone.pull() == [("records", "metformin")]
    assert phone.has["records", "metformin"]["op"] == "delete"


@pytest.mark.parametrize(
    "junk",
    ["junk", 7, None, [], {}, {"op": "create"}, {"op": "drop", "collection": "patients", "id": "x"},
     {"op": "update", "collection": "records", "id": "metformin", "fields": {}},
     {"op": "update", "collection": "records", "id": "metformin", "base_version": 0, "fields": {}},
     {"op": "update", "collection": "records", "id": "metformin", "base_version": 9, "fields": {"dose": 1}},
     {"op": "create", "collection": "records", "id": "x", "fields": {"kind": "note"}},
     {"op": "update", "collection": "records", "id": "metformin", "base_version": 1, "fields": {"dose": "x"}},
     {"op": "update", "collection": "records", "id": "metformin", "base_version": 1, "fields": {"nonsense": 1}},
     {"op": "update", "collection": "records", "id": "metformin", "base_version": 1, "fields": "x"}],
    ids=repr,
)  # fmt: skip
async def test_what_can_never_be_done_is_kept_aside_and_stops_nothing(tablet: Device, junk: Any) -> None:
    await tablet.push(NGOZI, METFORMIN)
    results = await tablet.push(junk, update("records", "metformin", 1, title="Metformin XR"))
    assert statuses(results) == ["quarantined", "updated"]
    assert results[0]["errors"]
    kept = await tablet.clinic.container.database().pool.fetchrow(
        "SELECT * FROM quarantine WHERE practice_id = $1 AND id = $2",
        tablet.clinic.practice_id,
        results[0]["quarantine_id"],
    )
    assert json.loads(kept["operation"]) == junk
    assert (kept["device_id"], kept["account_id"]) == ("tablet", tablet.clinic.account_id)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "push_id"),
        ({"push_id": "p", "contributions": {}}, "contributions"),
        ({"push_id": "p", "contributions": [{"operations": 1}]}, "contributions"),
        ({"push_id": "p", "contributions": [{"operations": [NGOZI] * 5001}]}, "contributions"),
        ({"push_id": "p", "mode": "lax", "contributions": []}, "mode"),
        ({"push_id": "p", "contributions": [], "colour": "red"}, "colour"),
    ],
)
async def test_a_push_that_is_none_is_refused_as_a_whole(tablet: Device, body: Any, field: str) -> None:
    error = refused(await tablet.call("POST", "/v1/sync/push", body), 422, "INVALID_FIELDS", field)
    assert field in fields_of(error)


async def test_who_may_not_delete_keeps_the_rest(clinic: Clinic) -> None:
    assistant = Device(clinic, await clinic.token_for(Role.ASSISTANT, device="desk"))
    results = await assistant.push(NGOZI, METFORMIN, delete("records", "metformin", 1))
    assert statuses(results) == ["created", "created", "quarantined"]
    assert results[2]["errors"][0]["code"] == "FORBIDDEN"


# -- conflicts ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def both(tablet: Device, phone: Device) -> tuple[Device, Device]:
    """Two devices that have the same, and go offline."""
    await tablet.push(NGOZI, METFORMIN)
    await tablet.pull()
    await phone.pull()
    return tablet, phone


async def test_two_measured_values_that_one_device_changed_in_turn_are_both_disputed(
    clinic: Clinic, both: tuple[Device, Device]
) -> None:
    """What it says of the second takes nothing of what was held back of the first."""
    tablet, phone = both

    def of(pulse: int, weight: int) -> dict[str, Any]:
        return {"pulse": {"value": pulse}, "weight": {"value": weight}}

    vitals = {"kind": "observation", "title": "Vitals", "values": of(72, 80)}
    await tablet.push({"op": "create", "collection": "records", "id": "v", "patient_id": "ngozi", "fields": vitals})
    await phone.push(update("records", "v", 1, values=of(90, 90)))
    for pulse, weight in ((75, 80), (75, 85)):
        assert statuses(await tablet.push(update("records", "v", 1, values=of(pulse, weight)))) == ["conflict"]
    (conflict,) = (await clinic.get("/v1/conflicts?state=open"))["items"]
    held = [(one["field"], one["mine"]["value"]) for one in conflict["fields"]]
    assert held == [("values.pulse", 75), ("values.weight", 85)]


async def test_a_strict_push_with_a_conflict_keeps_nothing_and_names_all(both: tuple[Device, Device]) -> None:
    tablet, phone = both
    await tablet.push(update("records", "metformin", 1, dose=20))
    fine = {**METFORMIN, "id": "other"}
    answer = await phone.sends([fine], [update("records", "metformin", 1, dose=15)], mode="strict")
    error = refused(answer, 409, "PUSH_CONFLICT")
    assert [one["id"] for one in error["context"]["conflicts"]] == ["metformin"]
    refused(await phone.call("GET", "/v1/records/other"), 404, "NOT_FOUND")
    assert (await tablet.clinic.get("/v1/conflicts"))["items"] == []
    assert (await phone.sends([fine], mode="strict")).status_code == 200


async def test_a_conflict_that_was_decided_reaches_both(both: tuple[Device, Device]) -> None:
    tablet, phone = both
    await tablet.push(update("records", "metformin", 1, dose=20))
    [held] = await phone.push(update("records", "metformin", 1, dose=15))
    head = (await tablet.clinic.get("/v1/records/metformin"))["version"]
    body = {"head_version": head, "choices": {"dose": {"take": "mine"}}, "reason": "asked the pharmacy"}
    assert (await tablet.call("POST", f"/v1/conflicts/{held['conflict_id']}/resolve", body)).status_code == 200
    for device in both:
        await device.pull()
        assert device.data("records", "metformin")["dose"] == 15
        assert "conflict_id" not in device.data("records", "metformin")
        assert device.data("conflicts", held["conflict_id"])["state"] == "resolved"


# -- quarantine ---------------------------------------------------------------------------------------------------

WRONG = {**METFORMIN, "fields": {**METFORMIN["fields"], "dose": "ten"}}


async def waiting(device: Device) -> list[dict[str, Any]]:
    return (await device.clinic.get("/v1/sync/quarantine"))["items"]


async def test_what_could_not_be_done_is_put_right_by_a_person_and_done(tablet: Device) -> None:
    [_, refusal] = await tablet.push(NGOZI, WRONG)
    [item] = await waiting(tablet)
    assert (item["id"], item["operation"], item["device_id"]) == (refusal["quarantine_id"], WRONG, "tablet")
    path = f"/v1/sync/quarantine/{item['id']}/release"
    released = await tablet.clinic.call("POST", path, {"operation": METFORMIN})
    assert statuses(released.json()["results"]) == ["created"]
    assert await waiting(tablet) == []
    assert (await tablet.clinic.get("/v1/records/metformin"))["dose"] == 10
    refused(await tablet.clinic.call("POST", path, {"operation": METFORMIN}), 404, "NOT_FOUND")


async def test_what_still_cannot_be_done_waits_anew(tablet: Device) -> None:
    await tablet.push(NGOZI, WRONG)
    [item] = await waiting(tablet)
    released = await tablet.clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/release", {})
    assert statuses(released.json()["results"]) == ["quarantined"]
    [again] = await waiting(tablet)
    assert again["id"] == released.json()["results"][0]["quarantine_id"] != item["id"]


async def test_what_waited_for_its_parent_is_done_as_it_was_sent(tablet: Device) -> None:
    assert statuses(await tablet.push(METFORMIN)) == ["quarantined"]
    await tablet.push(NGOZI)
    [item] = await waiting(tablet)
    released = await tablet.clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/release", {})
    assert statuses(released.json()["results"]) == ["created"]


async def test_what_is_let_go_is_listed_no_more_and_the_trail_says_who_did(tablet: Device) -> None:
    await tablet.push(NGOZI, WRONG)
    [item] = await waiting(tablet)
    path = f"/v1/sync/quarantine/{item['id']}/discard"
    refused(await tablet.clinic.call("POST", path, {}), 422, "INVALID_FIELDS", "reason")
    assert (await tablet.clinic.call("POST", path, {"reason": "entered by hand"})).status_code == 204
    assert await waiting(tablet) == []
    entries = (await tablet.clinic.get("/v1/audit"))["items"]
    assert ("quarantines.discard", "entered by hand") in {(entry["action"], entry["reason"]) for entry in entries}


async def test_nobody_sees_what_waits_in_another_practice(tablet: Device, new_clinic: NewClinic) -> None:
    await tablet.push(NGOZI, WRONG)
    [item] = await waiting(tablet)
    elsewhere = await new_clinic()
    assert (await elsewhere.get("/v1/sync/quarantine"))["items"] == []
    refused(await elsewhere.call("POST", f"/v1/sync/quarantine/{item['id']}/release", {}), 404, "NOT_FOUND")


# -- who may not, or not any more ---------------------------------------------------------------------------------


@pytest.fixture
async def ben(clinic: Clinic) -> Device:
    """A clinician's, at the same desk as Alice."""
    return Device(clinic, await clinic.token_for(Role.CLINICIAN, device="tablet", account=f"ben-{clinic.practice_id}"))


async def removed(clinic: Clinic) -> None:
    assert (await clinic.call("DELETE", f"/v1/practice/members/ben-{clinic.practice_id}")).status_code == 204


async def test_who_was_removed_learns_nothing_of_what_others_pushed_from_the_same_device(
    clinic: Clinic, tablet: Device, ben: Device
) -> None:
    await tablet.push(NGOZI, push_id="p-1")
    await tablet.push(METFORMIN, push_id="p-2")
    lost = await ben.push({**NGOZI, "id": "chidi"}, push_id="p-3")
    await removed(clinic)
    # What he had pushed before is his, and the answer that he did not hear.
    assert await ben.push({**NGOZI, "id": "chidi"}, push_id="p-3") == lost
    refused(await ben.sends([NGOZI], push_id="p-3"), 422, "INVALID_FIELDS", "push_id")
    for sent, push_id in ((NGOZI, "p-1"), (NGOZI, "p-2"), (NGOZI, "p-9")):
        (result,) = await ben.push(sent, push_id=push_id)
        assert (result["status"], result["version"], result["errors"][0]["code"]) == ("quarantined", None, "FORBIDDEN")
        assert await ben.push(sent, push_id=push_id) == [result]
    refused(await ben.sends([METFORMIN], push_id="p-9"), 422, "INVALID_FIELDS", "push_id")
    # Nor does it stand in anybody's way.
    assert statuses(await tablet.push({**NGOZI, "id": "ada"}, push_id="p-9")) == ["created"]
    assert [item["push_id"] for item in await waiting(tablet)] == ["p-9", "p-2", "p-1"]


async def test_a_push_of_who_was_removed_says_nothing_of_where_the_device_is(
    clinic: Clinic, tablet: Device, ben: Device
) -> None:
    phone = Device(clinic, await clinic.token_for(Role.CLINICIAN, device="phone", account=f"ben-{clinic.practice_id}"))
    await tablet.pull()
    await removed(clinic)
    await ben.push(NGOZI)
    await phone.push(NGOZI)
    stats = await clinic.get("/v1/sync/stats")
    assert [(one["device_id"], one["account_id"]) for one in stats["devices"]] == [("tablet", clinic.account_id)]
    event = (await clinic.get("/v1/sync/events?device_id=phone"))["items"][0]
    assert (event["outcome"], event["quarantined"], event["records"]) == ("ok", 1, 1)


async def test_who_was_removed_is_still_a_member_elsewhere(clinic: Clinic, new_clinic: NewClinic, ben: Device) -> None:
    elsewhere = await new_clinic()
    there = Device(elsewhere, await elsewhere.token_for(Role.CLINICIAN, account=f"ben-{clinic.practice_id}"))
    await removed(clinic)
    assert statuses(await ben.push(NGOZI)) == ["quarantined"]
    assert statuses(await there.push(NGOZI)) == ["created"]
    assert len(await waiting(ben)) == 1
    assert await waiting(there) == []


async def test_a_strict_push_of_who_may_not_write_is_kept_too(clinic: Clinic, tablet: Device) -> None:
    auditor = Device(clinic, await clinic.token_for(Role.AUDITOR, device="desk"))
    answer = await auditor.sends([NGOZI, METFORMIN], [], mode="strict")
    assert statuses(answer.json()["results"]) == ["quarantined", "quarantined"]
    assert (await auditor.sends(push_id="none")).json() == {"push_id": "none", "results": []}
    patient, record = (await waiting(tablet))[::-1]
    for item in (patient, record):
        done = await clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/release", {})
        assert statuses(done.json()["results"]) == ["created"]


async def test_what_waited_is_done_from_what_the_device_had_then(clinic: Clinic, tablet: Device) -> None:
    """Since then the device has said something else about it: it is not overwritten by what it said before."""
    await tablet.push(NGOZI, METFORMIN)
    both = [update("records", "metformin", 1, dose=20), delete("patients", "nobody", 1)]
    assert statuses((await tablet.sends(both)).json()["results"]) == ["quarantined", "quarantined"]
    assert statuses(await tablet.push(update("records", "metformin", 1, dose=25))) == ["updated"]
    item = next(one for one in await waiting(tablet) if one["operation"]["op"] == "update")
    done = await clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/release", {})
    assert statuses(done.json()["results"]) == ["conflict"]
    assert (await clinic.get("/v1/records/metformin"))["dose"] == 25
