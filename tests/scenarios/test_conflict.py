"""Scenarios of conflicts, by the names of the design: two who did not know of each other, by every door."""

import json
from collections.abc import Mapping
from datetime import timedelta
from itertools import permutations
from typing import Any

from tests.http.clinic import Clinic
from tests.http.devices import METFORMIN, NGOZI, Device, statuses, update

from heallog.adapters.world import clock
from heallog.domain.access import Role
from heallog.domain.canon import moment

from .apps import App, Native, Pair, disputes, settled, shows


async def test_dose_10_to_20_against_10_to_15_with_a_fresh_timestamp(both: Pair) -> None:
    """The client pulls before it pushes: what it then sends looks as if it had seen the other dose."""
    tablet, phone = both
    tablet.edit("records", "metformin", dose=20)
    phone.edit("records", "metformin", dose=15)
    assert await phone.sync() == {"metformin": "updated"}
    assert await tablet.sync() == {"metformin": "conflict"}
    await settled(tablet, phone)
    assert disputes(tablet) == {"dose": (10, 15, 20)}
    for app in both:
        shown, (conflict,) = app.show("records", "metformin"), app.conflicts()
        assert shown is not None
        assert (shown["dose"], shown["conflict_id"], conflict["severity"]) == (15, conflict["id"], "safety")


async def test_phone_and_address_by_two_people(both: Pair) -> None:
    tablet, phone = both
    tablet.edit("patients", "ngozi", phone="+44 1632 960777")
    phone.edit("patients", "ngozi", address={"city": "Ashford"})
    assert await phone.sync() == {"ngozi": "updated"}
    assert await tablet.sync() == {"ngozi": "merged"}
    await settled(tablet, phone)
    assert shows(phone, "patients", "ngozi", phone="+44 1632 960777", address={"city": "Ashford"})
    assert phone.conflicts() == []


async def test_dose_and_unit_by_two_people(both: Pair) -> None:
    """20 was meant in mg, and g for 10: neither meant 20 g."""
    tablet, phone = both
    tablet.edit("records", "metformin", dose=20)
    phone.edit("records", "metformin", dose_unit="g")
    assert await phone.sync() == {"metformin": "updated"}
    assert await tablet.sync() == {"metformin": "conflict"}
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=10, dose_unit="g")
    assert disputes(tablet) == {"dose": (10, 10, 20), "dose_unit": ("mg", "g", "mg")}


async def test_same_value_twice(both: Pair) -> None:
    tablet, phone = both
    tablet.edit("records", "metformin", dose=20)
    phone.edit("records", "metformin", dose=20)
    assert await phone.sync() == {"metformin": "updated"}
    assert set(await tablet.sync()) == {"metformin"}
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=20)
    assert tablet.conflicts() == []


async def test_two_allergies_added(both: Pair) -> None:
    """Two records; and two reactions to one substance, on one record."""
    tablet, phone = both
    tablet.create("records", "penicillin", "ngozi", kind="allergy", substance="Penicillin", reactions=["rash"])
    assert await tablet.sync() == {"penicillin": "created"}
    await phone.sync()
    await tablet.sync()
    tablet.create("records", "nuts", "ngozi", kind="allergy", substance="Nuts")
    phone.create("records", "latex", "ngozi", kind="allergy", substance="Latex")
    tablet.edit("records", "penicillin", reactions=["rash", "swelling"])
    phone.edit("records", "penicillin", reactions=["rash", "nausea"])
    assert await phone.sync() == {"latex": "created", "penicillin": "updated"}
    assert await tablet.sync() == {"nuts": "created", "penicillin": "merged"}
    await settled(tablet, phone)
    for app in both:
        assert shows(app, "records", "nuts", substance="Nuts")
        assert shows(app, "records", "latex", substance="Latex")
        assert shows(app, "records", "penicillin", reactions=["rash", "nausea", "swelling"])
        assert app.conflicts() == []


async def test_allergy_removed_while_its_severity_is_edited(both: Pair) -> None:
    """It stays: better an allergy too many. The removal waits for a decision."""
    tablet, phone = both
    tablet.create("records", "nuts", "ngozi", kind="allergy", substance="Nuts", severity="mild")
    await tablet.sync()
    await phone.sync()
    await tablet.sync()
    tablet.delete("records", "nuts")
    phone.edit("records", "nuts", severity="severe")
    assert await tablet.sync() == {"nuts": "updated"}
    assert await phone.sync() == {"nuts": "merged"}
    await settled(tablet, phone)
    for app in both:
        assert shows(app, "records", "nuts", severity="severe")
        assert [conflict["kind"] for conflict in app.conflicts()] == ["delete_edit"]
        assert disputes(app)["deleted"][1:] == (False, True)


LETTER = "Slept well.\nNo pain.\nWalks alone.\nEats little.\n"


async def test_narrative_disjoint(both: Pair) -> None:
    tablet, phone = both
    tablet.create("records", "visit", "ngozi", kind="note", text=LETTER)
    await tablet.sync()
    await phone.sync()
    await tablet.sync()
    tablet.edit("records", "visit", text=LETTER.replace("well", "badly"))
    phone.edit("records", "visit", text=LETTER.replace("little", "nothing"))
    assert await phone.sync() == {"visit": "updated"}
    assert await tablet.sync() == {"visit": "merged"}
    await settled(tablet, phone)
    for app in both:
        assert shows(app, "records", "visit", text="Slept badly.\nNo pain.\nWalks alone.\nEats nothing.\n")
        assert app.conflicts() == []


async def test_narrative_overlapping(both: Pair) -> None:
    """Both passages are kept, and no sentence is cut in two: the head is what came first, until someone decides."""
    tablet, phone = both
    tablet.create("records", "visit", "ngozi", kind="note", text=LETTER)
    await tablet.sync()
    await phone.sync()
    await tablet.sync()
    mine, theirs = LETTER.replace("No pain", "Pain at night"), LETTER.replace("No pain", "Pain when walking")
    tablet.edit("records", "visit", text=mine)
    phone.edit("records", "visit", text=theirs)
    assert await phone.sync() == {"visit": "updated"}
    assert await tablet.sync() == {"visit": "conflict"}
    await settled(tablet, phone)
    for app in both:
        assert shows(app, "records", "visit", text=theirs)
        assert disputes(app) == {"text": (LETTER, theirs, mine)}


async def test_delete_against_edit(both: Pair) -> None:
    tablet, phone = both
    tablet.delete("records", "metformin")
    phone.edit("records", "metformin", dose=15)
    assert await phone.sync() == {"metformin": "updated"}
    assert await tablet.sync() == {"metformin": "conflict"}
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=15)
    assert [conflict["kind"] for conflict in tablet.conflicts()] == ["delete_edit"]


async def test_edit_against_delete(both: Pair) -> None:
    tablet, phone = both
    tablet.edit("records", "metformin", dose=15)
    phone.delete("records", "metformin")
    assert await phone.sync() == {"metformin": "updated"}
    assert await tablet.sync() == {"metformin": "merged"}
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=15)
    assert [conflict["kind"] for conflict in tablet.conflicts()] == ["delete_edit"]


async def test_edit_of_a_record_signed_meanwhile(clinic: Clinic, both: Pair) -> None:
    tablet, phone = both
    tablet.edit("records", "metformin", dose=20)
    await clinic.call("POST", "/v1/records/metformin/sign", {"base_version": 1})
    assert await tablet.sync() == {"metformin": "conflict"}
    await settled(tablet, phone)
    assert shows(phone, "records", "metformin", dose=10, status="signed")
    assert [conflict["kind"] for conflict in phone.conflicts()] == ["signed"]
    assert disputes(phone) == {"dose": (10, 10, 20)}


async def test_status_going_back(clinic: Clinic, both: Pair) -> None:
    """What was signed is never a draft again, nor what was entered in error true; what was said of it is kept aside."""
    tablet, phone = both
    steps = [
        ("sign", {}, "draft", "signed"),
        ("entered-in-error", {"reason": "another's"}, "signed", "entered_in_error"),
    ]
    for base, (step, more, back, stays) in enumerate(steps, start=1):
        answer = await clinic.call("POST", f"/v1/records/metformin/{step}", {"base_version": base, **more})
        assert answer.status_code == 200
        await settled(tablet, phone)
        tablet.edit("records", "metformin", status=back)
        assert await tablet.sync() == {"metformin": "quarantined"}
        await settled(tablet, phone)
        assert shows(tablet, "records", "metformin", status=stays)
    assert len((await clinic.get("/v1/sync/quarantine"))["items"]) == 2


async def test_merge_that_breaks_an_invariant(both: Pair) -> None:
    """Each leaves Ngozi a name; together they would leave her none."""
    tablet, phone = both
    tablet.edit("patients", "ngozi", family_name=None)
    phone.edit("patients", "ngozi", given_name=None)
    assert await phone.sync() == {"ngozi": "updated"}
    assert await tablet.sync() == {"ngozi": "conflict"}
    await settled(tablet, phone)
    assert shows(tablet, "patients", "ngozi", family_name="Obi")
    assert [conflict["kind"] for conflict in tablet.conflicts()] == ["invariant"]
    assert disputes(tablet)["family_name"] == ("Obi", "Obi", None)


async def test_device_clock_plus_3_days(clinic: Clinic, both: Pair) -> None:
    """It decides nothing: of two telephone numbers the one that arrives last stands, whatever the devices say."""
    tablet, phone = both
    now, days = clock(), timedelta(days=3)
    ahead, behind = moment(now + days), moment(now - days)
    if isinstance(tablet, Native) and isinstance(phone, Native):
        await tablet.sends([{**update("patients", "ngozi", 1, phone="0100"), "client_time": ahead}])
        await phone.sends([{**update("patients", "ngozi", 1, phone="0200"), "client_time": behind}])
        told = [one.get("client_time") for one in (await clinic.get("/v1/patients/ngozi/history"))["items"]]
        assert set(told) - {None} == {ahead, behind}
    else:
        tablet.edit("patients", "ngozi", phone="0100", updated_at=int((now + days).timestamp() * 1000))
        phone.edit("patients", "ngozi", phone="0200", updated_at=int((now - days).timestamp() * 1000))
        await tablet.sync()
        await phone.sync()
    await settled(tablet, phone)
    for app in both:
        assert shows(app, "patients", "ngozi", phone="0200")


async def disputed(tablet: App, phone: App) -> Mapping[str, Any]:
    """The conflict: the head has the phone's 15, the tablet's 20 is held back."""
    tablet.edit("records", "metformin", dose=20)
    phone.edit("records", "metformin", dose=15)
    await phone.sync()
    await tablet.sync()
    await settled(tablet, phone)
    (conflict,) = tablet.conflicts()
    return conflict


async def test_two_resolvers(clinic: Clinic, both: Pair) -> None:
    """Who decides second decides nothing, and is told."""
    tablet, phone = both
    conflict = await disputed(tablet, phone)
    assert await tablet.decide(conflict, dose={"take": "mine"}) == "updated"
    assert await phone.decide(conflict, dose={"value": 12}) in ("quarantined", "VERSION_CONFLICT")
    await settled(tablet, phone)
    assert shows(phone, "records", "metformin", dose=20)
    assert phone.conflicts() == []
    assert len((await clinic.get("/v1/records/metformin/history"))["items"]) == 4


async def test_head_moves_while_open(both: Pair) -> None:
    """A decision about what is not the head any more decides nothing; the conflict comes again, as it is now."""
    tablet, phone = both
    conflict = await disputed(tablet, phone)
    phone.edit("records", "metformin", title="Metformin XR")
    assert await phone.sync() == {"metformin": "updated"}
    assert await tablet.decide(conflict, dose={"take": "mine"}) in ("quarantined", "VERSION_CONFLICT")
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=15, title="Metformin XR")
    (now,) = tablet.conflicts()
    assert (now["id"], now["head_version"] > conflict["head_version"]) == (conflict["id"], True)
    assert await tablet.decide(now, dose={"take": "mine"}) == "updated"
    await settled(tablet, phone)
    assert shows(phone, "records", "metformin", dose=20, title="Metformin XR")


async def test_third_device_edits_under_an_open_conflict(clinic: Clinic, door: type[App], both: Pair) -> None:
    """What touches nothing that is disputed goes on; what does joins the conflict. Nothing is decided by the way."""
    tablet, phone = both
    laptop = door(clinic, await clinic.token_for(Role.CLINICIAN, device="laptop"))
    await laptop.pull()
    laptop.edit("records", "metformin", dose=30, tags=["checked"])
    conflict = await disputed(tablet, phone)
    assert await laptop.sync() == {"metformin": "conflict"}
    await settled(tablet, phone, laptop)
    for app in (tablet, phone, laptop):
        assert shows(app, "records", "metformin", dose=15, tags=["checked"])
        (now,) = app.conflicts()
        assert now["id"] == conflict["id"]
        assert sorted((one["theirs"], one["mine"]) for one in now["fields"]) == [(15, 20), (15, 30)]


# -- every order --------------------------------------------------------------------------------------------------

LINES = "With breakfast.\nNot before a scan.\nCheck the kidneys.\n"
EDITS: list[tuple[str, dict[str, Any]]] = [
    ("tablet", {"tags": ["new", "sitting"], "remaining": 28}),
    ("tablet", {"text": LINES.replace("breakfast", "supper")}),
    ("phone", {"dose": 20, "tags": ["new", "nausea"]}),
    ("laptop", {"dose": 15, "remaining": 29, "text": LINES.replace("kidneys", "liver")}),
]
ORDERS = list(permutations(range(len(EDITS))))


async def test_replay_of_the_same_edits_in_every_delivery_order(clinic: Clinic) -> None:
    """All 24: the same head wherever a policy merges, and always the one conflict about the dose."""
    devices = {name: Device(clinic, await clinic.token_for(device=name)) for name in ("tablet", "phone", "laptop")}
    fields = {**METFORMIN["fields"], "tags": ["new"], "remaining": 30, "text": LINES}
    made = [{**METFORMIN, "id": f"m-{number}", "fields": fields} for number in range(len(ORDERS))]
    assert set(statuses(await devices["tablet"].push(NGOZI, *made))) == {"created"}
    for turn in range(len(EDITS)):
        # The edit that is each record's next; of one device together, for no record has two of them.
        for name, device in devices.items():
            now = [
                update("records", f"m-{number}", 1, **EDITS[order[turn]][1])
                for number, order in enumerate(ORDERS)
                if EDITS[order[turn]][0] == name
            ]
            assert set(statuses(await device.push(*now))) <= {"updated", "merged", "conflict"}

    heads, held = set(), set()
    conflicts = {one["thing_id"]: one for one in (await clinic.get("/v1/conflicts?limit=500"))["items"]}
    assert len(conflicts) == len(ORDERS)
    for number, order in enumerate(ORDERS):
        head = await clinic.get(f"/v1/records/m-{number}")
        first = next(EDITS[edit][1]["dose"] for edit in order if "dose" in EDITS[edit][1])
        assert head["dose"] == first, "of two doses the first stands until someone decides"
        heads.add(json.dumps([head[name] for name in ("tags", "remaining", "text", "title", "dose_unit")]))
        disputed = [
            (one["field"], one["base"], tuple(sorted((one["theirs"], one["mine"]))))
            for one in conflicts[f"m-{number}"]["fields"]
        ]
        held.add(json.dumps(disputed))
    merged = LINES.replace("breakfast", "supper").replace("kidneys", "liver")
    assert {json.loads(head)[2] for head in heads} == {merged}
    assert heads == {json.dumps([["new", "nausea", "sitting"], 27, merged, "Metformin", "mg"])}
    assert held == {json.dumps([("dose", 10, (15, 20))])}
