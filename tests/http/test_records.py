"""Records over HTTP: drafted, changed, signed, amended, retracted, deleted, brought back, looked back at and listed."""

import asyncio
import itertools
from typing import Any

import pytest

from heallog.domain import records as domain

from .clinic import Clinic, fields_of, refused

PRESSURE = {
    "kind": "observation",
    "title": "Blood pressure",
    "code": {"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"},
    "occurred_at": "2026-03-01T09:30:00.000Z",
    "values": {"systolic": {"value": 128, "unit": "mm[Hg]"}, "diastolic": {"value": 82.5, "unit": "mm[Hg]"}},
    "tags": ["sitting"],
}


def at(record: dict[str, Any], rest: str = "") -> str:
    return f"/v1/records/{record['id']}{rest}"


def tag(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


@pytest.fixture
async def ngozi(clinic: Clinic) -> str:
    """The id of a patient."""
    return (await clinic.patient(id="ngozi"))["id"]


async def changes_of(clinic: Clinic, record: dict[str, Any]) -> list[str]:
    """What kinds of change made a record, the first first."""
    return [version["change"] for version in reversed((await clinic.get(at(record, "/history")))["items"])]


async def titles(clinic: Clinic, query: str = "") -> list[str]:
    return [item["title"] for item in (await clinic.get(f"/v1/patients/ngozi/records?{query}"))["items"]]


# -- creating -----------------------------------------------------------------------------------------------------


async def test_a_measurement_is_written_down_as_a_draft(clinic: Clinic, ngozi: str) -> None:
    answer = await clinic.call("POST", f"/v1/patients/{ngozi}/records", PRESSURE)
    assert answer.status_code == 201
    record = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == at(record)
    assert record.items() >= PRESSURE.items()
    assert (record["patient_id"], record["status"], record["version"]) == (ngozi, "draft", 1)
    assert record["updated_by"] == clinic.account_id
    assert "signed_by" not in record
    assert await clinic.get(at(record)) == record


OWN = {
    "encounter": {"encounter_class": "ambulatory", "complaint": "cough"},
    "note": {"text": "Slept well.\nEats again."},
    "observation": {"category": "vital signs", "interpretation": "high", "body_site": "left arm"},
    "condition": {"category": "problem", "severity": "mild", "verification": "confirmed", "body_site": "lung"},
    "medication": {
        "dose": 0.5,
        "dose_unit": "mg",
        "route": "oral",
        "frequency": "2 per 1 d",
        "as_needed": False,
        "instructions": "With food.",
        "indication": "pain",
        "quantity": 30,
        "remaining": 12.5,
    },
    "allergy": {
        "substance": "penicillin",
        "criticality": "high",
        "severity": "severe",
        "verification": "confirmed",
        "categories": ["medication"],
        "reactions": ["hives"],
    },
    "immunization": {"lot_number": "A1", "dose_number": "2", "route": "im", "body_site": "left arm"},
    "procedure": {"outcome": "good", "body_site": "knee", "indication": "pain"},
    "document": {"content_type": "application/pdf", "category": "letter"},
    "report": {"category": "lab", "results": ["a", "b"]},
    "care_plan": {"category": "diet", "activities": ["walk"], "addresses": ["c"]},
    "goal": {"target": "< 130", "achievement": "in progress", "addresses": ["c"]},
    "imaging": {"modality": "CT", "body_site": "head", "instances": 12},
}


def test_every_field_of_a_kind_is_tried() -> None:
    assert {kind: set(fields) | {"text"} for kind, fields in OWN.items()} == {
        kind: {name for name, field in fields.items() if field.settable} | {"text"}
        for kind, fields in domain.OWN.items()
    }


@pytest.mark.parametrize("kind", domain.KINDS)
async def test_each_kind_keeps_its_own_fields(clinic: Clinic, ngozi: str, kind: str) -> None:
    record = await clinic.record(ngozi, kind=kind, title="As it was", encounter_id="e-1", **OWN[kind])
    assert (await clinic.get(at(record))).items() >= OWN[kind].items()


async def test_a_record_needs_something_to_say(clinic: Clinic, ngozi: str) -> None:
    path = f"/v1/patients/{ngozi}/records"
    refused(await clinic.call("POST", path, {"kind": "condition"}), 422, "INVALID_FIELDS", "title")
    refused(await clinic.call("POST", path, {"kind": "note", "title": "Today"}), 422, "INVALID_FIELDS", "text")
    refused(await clinic.call("POST", path, {"title": "Today"}), 422, "INVALID_FIELDS", "kind")


async def test_what_ends_does_not_end_before_it_began(clinic: Clinic, ngozi: str) -> None:
    body = {"kind": "condition", "title": "Flu", "occurred_at": "2026-03-02"}
    path = f"/v1/patients/{ngozi}/records"
    refused(await clinic.call("POST", path, {**body, "ended_at": "2026-03-01"}), 422, "INVALID_FIELDS", "ended_at")
    for end in ("2026", "2026-03", "2026-03-02"):
        assert (await clinic.record(ngozi, **body, ended_at=end))["ended_at"] == end


async def test_a_field_of_another_kind_is_refused_by_name(clinic: Clinic, ngozi: str) -> None:
    body = {"kind": "observation", "title": "Pressure", "dose": 5, "substance": "penicillin"}
    error = refused(await clinic.call("POST", f"/v1/patients/{ngozi}/records", body), 422, "INVALID_FIELDS", "dose")
    assert fields_of(error) == ["dose", "substance"]
    draft = await clinic.record(ngozi)
    answer = await clinic.call("PATCH", at(draft), {"base_version": 1, "dose": 5})
    refused(answer, 422, "INVALID_FIELDS", "dose")


@pytest.mark.parametrize("name", ["status", "signed_by", "signed_at"])
async def test_nobody_writes_what_signing_writes(clinic: Clinic, ngozi: str, name: str) -> None:
    draft = await clinic.record(ngozi)
    for method, path in (("POST", f"/v1/patients/{ngozi}/records"), ("PATCH", at(draft))):
        body = {"title": "Pressure", name: "signed"} | ({"base_version": 1} if method == "PATCH" else {"kind": "note"})
        error = refused(await clinic.call(method, path, body), 422, "INVALID_FIELDS", name)
        assert error["context"]["errors"][0]["code"] == "read_only"


async def test_a_record_needs_a_patient_who_is_here(clinic: Clinic, ngozi: str) -> None:
    refused(await clinic.call("POST", "/v1/patients/nobody/records", PRESSURE), 404, "NOT_FOUND")
    draft = await clinic.record(ngozi)
    await clinic.deleted(f"/v1/patients/{ngozi}", 1)
    refused(await clinic.call("POST", f"/v1/patients/{ngozi}/records", PRESSURE), 404, "NOT_FOUND")
    refused(await clinic.call("GET", f"/v1/patients/{ngozi}/records"), 404, "NOT_FOUND")
    refused(await clinic.call("GET", "/v1/patients/nobody/records"), 404, "NOT_FOUND")
    assert await clinic.get(at(draft)) == draft


async def test_sending_a_creation_again_answers_as_the_first_time_did(clinic: Clinic, ngozi: str) -> None:
    path, body = f"/v1/patients/{ngozi}/records", {"id": "r-1", **PRESSURE}
    first = await clinic.call("POST", path, body)
    written = await clinic.rows()
    again = await clinic.call("POST", path, body)
    assert (again.status_code, again.text) == (201, first.text)
    assert await clinic.rows() == written


async def test_an_id_is_taken_by_other_content_and_by_another_patient(clinic: Clinic, ngozi: str) -> None:
    tobi = await clinic.patient(id="tobi")
    record = await clinic.record(ngozi, id="r-1")
    tablet = await clinic.token_for(device="tablet")
    pressure = {"id": "r-1", "kind": "observation", "title": "Blood pressure"}
    for patient_id, body, token, code in (
        (ngozi, {**pressure, "title": "Pulse"}, tablet, "VERSION_CONFLICT"),
        (ngozi, {**pressure, "kind": "condition"}, clinic.token, "ALREADY_EXISTS"),
        (ngozi, {**pressure, "kind": "condition"}, tablet, "ALREADY_EXISTS"),
        (tobi["id"], pressure, clinic.token, "ALREADY_EXISTS"),
        (tobi["id"], pressure, tablet, "ALREADY_EXISTS"),
    ):
        answer = await clinic.call("POST", f"/v1/patients/{patient_id}/records", body, token=token)
        refused(answer, 409, code)
    assert (await clinic.get("/v1/records/r-1")).items() >= record.items()


async def test_a_device_that_sends_its_creation_with_other_content_edits_its_draft(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, id="r-1", tags=["sitting"])
    body = {"id": "r-1", "kind": "observation", "title": "Pulse"}
    answer = await clinic.call("POST", f"/v1/patients/{ngozi}/records", body)
    assert (answer.status_code, answer.json()["version"], answer.json()["title"]) == (201, 2, "Pulse")
    assert "tags" not in await clinic.get(at(record))
    assert await changes_of(clinic, record) == ["creation", "modification"]


SAID = {
    "/sign": {},
    "/amend": {"reason": "why", "changes": {"tags": ["lying"]}},
    "/entered-in-error": {"reason": "why"},
}


@pytest.mark.parametrize("steps", [["/sign"], ["/sign", "/amend"], ["/entered-in-error"]], ids=" ".join)
async def test_a_creation_sent_again_with_other_content_does_not_undo_what_became_of_it(
    clinic: Clinic, ngozi: str, steps: list[str]
) -> None:
    """Not even by the very device that made, signed and amended it."""
    record = await clinic.record(ngozi, id="r-1")
    for version, step in enumerate(steps, start=1):
        done = await clinic.call("POST", at(record, step), {**SAID[step], "base_version": version})
        assert done.status_code == 200, done.text
    before = await clinic.get(at(record))
    again = {"id": "r-1", "kind": "observation", "title": "Pulse"}
    answer = await clinic.call("POST", f"/v1/patients/{ngozi}/records", again)
    assert answer.status_code == 409, answer.text
    now = await clinic.get(at(record))
    now.pop("conflict_id", None)
    assert now == before


async def test_two_devices_that_send_one_creation_at_once_make_one_record(clinic: Clinic, ngozi: str) -> None:
    body = {"id": "r-1", **PRESSURE}
    path = f"/v1/patients/{ngozi}/records"
    answers = await asyncio.gather(*(clinic.call("POST", path, body) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1


async def test_a_record_says_whose_it_is_even_if_it_has_the_id_of_its_patient(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, id=ngozi)
    assert record["patient_id"] == ngozi
    (listed,) = (await clinic.get(f"/v1/patients/{ngozi}/records"))["items"]
    assert listed["patient_id"] == ngozi


async def test_numbers_are_read_back_as_they_were_written(clinic: Clinic, ngozi: str) -> None:
    numbers = [0, -0.5, 0.1, 1e-7, 36.6, 9007199254740991, -9007199254740991, 123456.789]
    values = {f"v{index}": {"value": number} for index, number in enumerate(numbers)}
    record = await clinic.get(at(await clinic.record(ngozi, values=values)))
    assert [item["value"] for item in record["values"].values()] == numbers


async def test_text_in_any_script_is_read_back_as_it_was_written(clinic: Clinic, ngozi: str) -> None:
    text = "Ọ dị mma\n\tمريض 患者 👩🏽‍⚕️ \u2028 \ufeff \u00a0 '\"\\ </script> %s {x} \ufffd \U0010ffff"
    record = await clinic.record(ngozi, kind="note", text=text)
    assert (await clinic.get(at(record)))["text"] == text


# -- reading ------------------------------------------------------------------------------------------------------


async def test_who_has_the_latest_version_is_not_sent_it_again(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    answer = await clinic.call("GET", at(record), headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    await clinic.changed(at(record), 1, title="Pulse")
    answer = await clinic.call("GET", at(record), headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')


STEPS = (
    ("GET", "", None),
    ("PATCH", "", {"title": "Pulse"}),
    ("DELETE", "", {}),
    ("POST", "/sign", {}),
    ("POST", "/amend", {"changes": {"title": "Pulse"}, "reason": "why"}),
    ("POST", "/entered-in-error", {"reason": "why"}),
    ("POST", "/restore", {}),
    ("POST", "/revert", {"to": 1}),
    ("GET", "/history", None),
    ("GET", "/versions/1", None),
    ("GET", "/diff?from=1&to=1", None),
)


@pytest.mark.parametrize(("method", "rest", "body"), STEPS)
async def test_nothing_can_be_done_to_a_record_that_is_not_there(
    clinic: Clinic, method: str, rest: str, body: dict[str, Any] | None
) -> None:
    answer = await clinic.call(method, f"/v1/records/nothing{rest}", body and {**body, "base_version": 1})
    refused(answer, 404, "NOT_FOUND")


# -- what every change asks for -----------------------------------------------------------------------------------

CHANGES = [step for step in STEPS if step[0] != "GET" and step[1] != "/restore"]


async def ready(clinic: Clinic, patient_id: str, rest: str) -> dict[str, Any]:
    """A record at version 3 that this step can be done to, as it could to version 2."""
    if rest in {"/amend", "/entered-in-error"}:
        signed = await clinic.signed(patient_id)
        body = {"base_version": 2, "changes": {"title": "Blood pressure, lying"}, "reason": "position"}
        return (await clinic.call("POST", at(signed, "/amend"), body)).json()
    draft = await clinic.record(patient_id)
    await clinic.changed(at(draft), 1, tags=["sitting"])
    return await clinic.changed(at(draft), 2, title="Blood pressure, lying")


@pytest.mark.parametrize(("method", "rest", "body"), CHANGES)
async def test_every_change_names_the_version_that_it_saw(
    clinic: Clinic, ngozi: str, method: str, rest: str, body: dict[str, Any]
) -> None:
    record = await ready(clinic, ngozi, rest)
    path, tablet = at(record, rest), await clinic.token_for(device="tablet")
    written = await clinic.rows()

    refused(await clinic.call(method, path, body), 428, "VERSION_REQUIRED")
    for token in (clinic.token, tablet):
        stale = await clinic.call(method, path, body, headers=tag(2), token=token)
        assert refused(stale, 412, "STALE_VERSION")["context"] == {"version": 3}
        assert stale.headers["etag"] == '"3"'
    both = await clinic.call(method, path, {**body, "base_version": 2}, headers=tag(3))
    refused(both, 422, "INVALID_FIELDS", "base_version")
    assert await clinic.rows() == written

    conflict = await clinic.call(method, path, {**body, "base_version": 2}, token=tablet)
    context = refused(conflict, 409, "VERSION_CONFLICT")["context"]
    assert (context["version"], context["base_version"]) == (3, 2)
    assert context["head"]["title"] == record["title"]
    assert conflict.headers["etag"] == '"3"'
    kept = "conflict" in context
    assert kept == (method != "POST" or rest == "/amend"), "what cannot be merged is not kept either"
    assert (await clinic.rows() > written) == kept
    now = await clinic.get(at(record))
    assert now.pop("conflict_id", None) == (context["conflict"]["id"] if kept else None)
    assert now == record

    good = await clinic.call(method, path, body, headers=tag(3))
    assert good.is_success, good.text
    assert good.headers["etag"] == ('"5"' if kept else '"4"')


@pytest.mark.parametrize(("method", "rest", "body"), CHANGES)
async def test_nothing_is_done_to_a_record_that_was_deleted_except_deleting_it(
    clinic: Clinic, ngozi: str, method: str, rest: str, body: dict[str, Any]
) -> None:
    record = await clinic.record(ngozi)
    await clinic.deleted(at(record), 1)
    answer = await clinic.call(method, at(record, rest), {**body, "base_version": 2})
    if method == "DELETE":
        assert answer.status_code == 204
    else:
        assert refused(answer, 404, "DELETED")["context"] == {"version": 2}


# -- changing -----------------------------------------------------------------------------------------------------


async def test_only_what_is_sent_changes_and_null_takes_away(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, **PRESSURE)
    changed = await clinic.changed(at(record), 1, title="Blood pressure, lying", tags=None, text=None)
    assert changed["title"] == "Blood pressure, lying"
    assert "tags" not in changed
    assert changed["values"] == PRESSURE["values"]
    assert changed["status"] == "draft"


async def test_a_conflict_shows_the_head_and_what_the_caller_wanted(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    await clinic.changed(at(record), 1, title="Pulse")
    body = {"base_version": 1, "title": "Weight", "text": None}
    answer = await clinic.call("PATCH", at(record), body, token=await clinic.token_for(device="tablet"))
    context = refused(answer, 409, "VERSION_CONFLICT")["context"]
    assert [disputed["field"] for disputed in context.pop("conflict")["fields"]] == ["title"]
    assert context == {
        "version": 2,
        "base_version": 1,
        "head": {"kind": "observation", "status": "draft", "title": "Pulse"},
        "changes": {"title": "Weight", "text": None},
    }


async def test_the_same_content_again_is_no_new_version(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, **PRESSURE)
    written = await clinic.rows()
    for same in ({}, {"kind": "observation"}, {"values": PRESSURE["values"], "text": None}):
        answer = await clinic.call("PATCH", at(record), {"base_version": 1, **same})
        assert (answer.status_code, answer.json()) == (200, record)
    assert await clinic.rows() == written


async def test_a_records_kind_never_changes(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    for kind in ("condition", "poem", None, 7):
        answer = await clinic.call("PATCH", at(record), {"base_version": 1, "kind": kind})
        refused(answer, 422, "INVALID_FIELDS", "kind")


async def test_a_change_leaves_a_record_that_says_something(clinic: Clinic, ngozi: str) -> None:
    note = await clinic.record(ngozi, kind="note", title="Today", text="Well.")
    answer = await clinic.call("PATCH", at(note), {"base_version": 1, "text": None})
    refused(answer, 422, "INVALID_FIELDS", "text")
    pressure = await clinic.record(ngozi)
    answer = await clinic.call("PATCH", at(pressure), {"base_version": 1, "title": None})
    refused(answer, 422, "INVALID_FIELDS", "title")


async def test_of_two_who_change_the_same_version_at_once_one_wins(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    tablets = [await clinic.token_for(device=f"tablet-{number}") for number in range(5)]
    answers = await asyncio.gather(
        *(
            clinic.call(
                *("PATCH", at(record), {"base_version": 1, "title": f"Title {number}"}),
                token=token,
            )
            for number, token in enumerate(tablets)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]


# -- signing, amending, retracting --------------------------------------------------------------------------------


async def test_who_signs_is_named_with_the_time(clinic: Clinic, ngozi: str) -> None:
    draft = await clinic.record(ngozi, **PRESSURE)
    answer = await clinic.call("POST", at(draft, "/sign"), {"reason": "seen by me"}, headers=tag(1))
    assert answer.status_code == 200
    signed = answer.json()
    assert (signed["status"], signed["signed_by"], signed["version"]) == ("signed", clinic.account_id, 2)
    assert signed["signed_at"] == signed["updated_at"]
    assert signed.items() >= PRESSURE.items()
    assert await changes_of(clinic, signed) == ["creation", "signature"]


async def test_what_is_signed_never_changes(clinic: Clinic, ngozi: str) -> None:
    signed = await clinic.signed(ngozi)
    refused(await clinic.call("PATCH", at(signed), {"base_version": 2, "title": "Pulse"}), 409, "RECORD_SIGNED")
    refused(await clinic.call("POST", at(signed, "/revert"), {"base_version": 2, "to": 1}), 409, "RECORD_SIGNED")
    refused(await clinic.call("POST", at(signed, "/sign"), {"base_version": 2}), 409, "WRONG_STATE")
    assert await clinic.get(at(signed)) == signed


async def test_an_amendment_stands_beside_what_was_signed(clinic: Clinic, ngozi: str) -> None:
    signed = await clinic.signed(ngozi, **PRESSURE)
    body = {"base_version": 2, "changes": {"title": "Blood pressure, lying", "tags": None}, "reason": "position"}
    answer = await clinic.call("POST", at(signed, "/amend"), body)
    assert answer.status_code == 200
    amended = answer.json()
    assert (amended["status"], amended["title"], amended["version"]) == ("amended", "Blood pressure, lying", 3)
    assert "tags" not in amended
    assert (amended["signed_by"], amended["signed_at"]) == (signed["signed_by"], signed["signed_at"])
    latest = (await clinic.get(at(signed, "/history?limit=1")))["items"][0]
    assert (latest["change"], latest["reason"], latest["author_id"]) == ("amendment", "position", clinic.account_id)
    assert (await clinic.get(at(signed, "/versions/2")))["content"]["title"] == "Blood pressure"


async def test_what_was_amended_can_be_amended_again_but_not_changed(clinic: Clinic, ngozi: str) -> None:
    signed = await clinic.signed(ngozi)
    for version in (2, 3):
        body = {"base_version": version, "changes": {"title": f"Title {version}"}, "reason": "again"}
        assert (await clinic.call("POST", at(signed, "/amend"), body)).status_code == 200
    refused(await clinic.call("PATCH", at(signed), {"base_version": 4, "title": "Pulse"}), 409, "RECORD_SIGNED")
    refused(await clinic.call("POST", at(signed, "/sign"), {"base_version": 4}), 409, "WRONG_STATE")


async def test_a_draft_is_changed_and_not_amended(clinic: Clinic, ngozi: str) -> None:
    draft = await clinic.record(ngozi)
    body = {"base_version": 1, "changes": {"title": "Pulse"}, "reason": "why not"}
    refused(await clinic.call("POST", at(draft, "/amend"), body), 409, "WRONG_STATE")


@pytest.mark.parametrize("reason", [None, "", "   ", "\n"])
async def test_an_amendment_and_a_retraction_say_why(clinic: Clinic, ngozi: str, reason: str | None) -> None:
    signed = await clinic.signed(ngozi)
    for rest, more in (("/amend", {"changes": {"title": "Pulse"}}), ("/entered-in-error", {})):
        answer = await clinic.call("POST", at(signed, rest), {"base_version": 2, "reason": reason, **more})
        refused(answer, 422, "INVALID_FIELDS", "reason")
    assert (await clinic.get(at(signed)))["version"] == 2


async def test_an_amendment_says_what(clinic: Clinic, ngozi: str) -> None:
    signed = await clinic.signed(ngozi)
    path, good = at(signed, "/amend"), {"base_version": 2, "reason": "position"}
    for changes in (None, "title", [], 7):
        answer = await clinic.call("POST", path, {**good, "changes": changes})
        refused(answer, 422, "INVALID_FIELDS", "changes")
    refused(await clinic.call("POST", path, good), 422, "INVALID_FIELDS", "changes")
    answer = await clinic.call("POST", path, {**good, "changes": {"title": 7}})
    refused(answer, 422, "INVALID_FIELDS", "changes.title")
    answer = await clinic.call("POST", path, {**good, "changes": {"status": "draft"}})
    refused(answer, 422, "INVALID_FIELDS", "changes.status")
    answer = await clinic.call("POST", path, {**good, "title": "Pulse", "changes": {}})
    refused(answer, 422, "INVALID_FIELDS", "title")


async def test_an_amendment_keeps_to_the_fields_of_its_kind(clinic: Clinic, ngozi: str) -> None:
    signed = await clinic.signed(ngozi)
    body = {"base_version": 2, "reason": "dose", "changes": {"dose": 5}}
    answer = await clinic.call("POST", at(signed, "/amend"), body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "changes.dose"


async def test_all_that_is_wrong_with_an_amendment_is_named_at_once(clinic: Clinic, ngozi: str) -> None:
    signed = await clinic.signed(ngozi)
    answer = await clinic.call("POST", at(signed, "/amend"), {"base_version": 2, "changes": {"title": 7, "colour": 1}})
    assert answer.status_code == 422
    assert set(fields_of(answer.json()["error"])) == {"reason", "changes.title", "changes.colour"}


@pytest.mark.parametrize("signed_first", [False, True])
async def test_what_was_entered_in_error_stays_and_says_so(clinic: Clinic, ngozi: str, signed_first: bool) -> None:
    record = await (clinic.signed(ngozi) if signed_first else clinic.record(ngozi))
    version = record["version"]
    body = {"base_version": version, "reason": "belongs to another patient"}
    answer = await clinic.call("POST", at(record, "/entered-in-error"), body)
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["title"]) == ("entered_in_error", "Blood pressure")
    assert await titles(clinic) == ["Blood pressure"]

    for method, rest, more in (
        ("PATCH", "", {"title": "Pulse"}),
        ("POST", "/sign", {}),
        ("POST", "/amend", {"changes": {"title": "Pulse"}, "reason": "why"}),
        ("POST", "/entered-in-error", {"reason": "why"}),
        ("POST", "/revert", {"to": 1}),
    ):
        answer = await clinic.call(method, at(record, rest), {"base_version": version + 1, **more})
        refused(answer, 409, "WRONG_STATE")


# -- deleting and bringing back -----------------------------------------------------------------------------------


async def test_what_was_deleted_comes_back_as_before(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.signed(ngozi, **PRESSURE)
    answer = await clinic.call("DELETE", at(record), {"reason": "twice"}, headers=tag(2))
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", '"3"')
    assert refused(await clinic.call("GET", at(record)), 404, "DELETED")["context"] == {"version": 3}
    assert await titles(clinic) == []

    answer = await clinic.call("POST", at(record, "/restore"), headers=tag(3))
    assert answer.status_code == 200
    assert answer.json() | {"version": 2, "updated_at": record["updated_at"]} == record
    assert await titles(clinic) == ["Blood pressure"]
    assert await changes_of(clinic, record) == ["creation", "signature", "deletion", "restoration"]


async def test_deleting_again_changes_nothing(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    await clinic.deleted(at(record), 1)
    written = await clinic.rows()
    answer = await clinic.call("DELETE", at(record), headers=tag(1))
    assert (answer.status_code, answer.headers["etag"]) == (204, '"2"')
    assert await clinic.rows() == written


async def test_only_what_is_deleted_can_be_restored(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    refused(await clinic.call("POST", at(record, "/restore"), {"base_version": 1}), 409, "WRONG_STATE")
    await clinic.deleted(at(record), 1)
    refused(await clinic.call("POST", at(record, "/restore"), {"base_version": 1}), 409, "VERSION_CONFLICT")
    refused(await clinic.call("POST", at(record, "/restore"), headers=tag(1)), 412, "STALE_VERSION")
    refused(await clinic.call("POST", at(record, "/restore")), 428, "VERSION_REQUIRED")


async def test_a_draft_goes_back_to_what_it_was(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, **PRESSURE)
    await clinic.changed(at(record), 1, title="Pulse", values=None)
    body = {"base_version": 2, "to": 1, "reason": "typed into the wrong record"}
    answer = await clinic.call("POST", at(record, "/revert"), body)
    assert answer.status_code == 200
    assert answer.json() | {"version": 1, "updated_at": record["updated_at"]} == record
    assert await changes_of(clinic, record) == ["creation", "modification", "reversion"]
    for to in (9, 2**31 - 1):
        answer = await clinic.call("POST", at(record, "/revert"), {"base_version": 3, "to": to})
        refused(answer, 404, "NOT_FOUND", "to")


async def test_a_draft_cannot_go_back_to_a_deletion(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    await clinic.deleted(at(record), 1)
    await clinic.call("POST", at(record, "/restore"), {"base_version": 2})
    answer = await clinic.call("POST", at(record, "/revert"), {"base_version": 3, "to": 2})
    refused(answer, 409, "WRONG_STATE", "to")


# -- looking back -------------------------------------------------------------------------------------------------


async def test_history_comes_newest_first_and_page_by_page(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi)
    for version in range(1, 5):
        await clinic.changed(at(record), version, title=f"Title {version}")
    first = await clinic.get(at(record, "/history?limit=2"))
    second = await clinic.get(at(record, f"/history?limit=2&cursor={first['next_cursor']}"))
    third = await clinic.get(at(record, f"/history?limit=2&cursor={second['next_cursor']}"))
    assert [[item["version"] for item in page["items"]] for page in (first, second, third)] == [[5, 4], [3, 2], [1]]
    assert third["next_cursor"] is None
    assert [item["parent"] for item in first["items"]] == [4, 3]
    assert "source" not in first["items"][0]


async def test_any_version_can_be_read_and_kept_for_good(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, **PRESSURE)
    await clinic.changed(at(record), 1, values={"systolic": {"value": 140, "unit": "mm[Hg]"}})
    answer = await clinic.call("GET", at(record, "/versions/1"))
    assert answer.json()["content"] == {**PRESSURE, "status": "draft"}
    assert answer.json()["source"] is None
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["cache-control"] == "private, immutable, max-age=31536000"
    refused(await clinic.call("GET", at(record, "/versions/3")), 404, "NOT_FOUND")


async def test_a_diff_goes_into_values(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.record(ngozi, **PRESSURE)
    values = {"systolic": {"value": 140, "unit": "mm[Hg]"}, "pulse": {"value": 70}}
    await clinic.changed(at(record), 1, values=values)
    diff = await clinic.get(at(record, "/diff?from=1&to=2"))
    assert diff["fields"] == [
        {"field": "values.diastolic", "before": {"unit": "mm[Hg]", "value": 82.5}, "after": None},
        {"field": "values.pulse", "before": None, "after": {"value": 70}},
        {"field": "values.systolic.value", "before": 128, "after": 140},
    ]
    refused(await clinic.call("GET", at(record, "/diff?from=1&to=3")), 404, "NOT_FOUND")


async def test_each_version_proves_the_one_before(clinic: Clinic, ngozi: str) -> None:
    record = await clinic.signed(ngozi)
    hashes = [item["hash"] for item in (await clinic.get(at(record, "/history")))["items"]]
    assert len(set(hashes)) == 2
    assert all(len(bytes.fromhex(item)) == 32 for item in hashes)


# -- listing ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def chart(clinic: Clinic, ngozi: str) -> Clinic:
    """Ngozi's chart over some years, and another patient's, which is not hers."""
    tobi = await clinic.patient(id="tobi")
    await clinic.record(tobi["id"], title="Tobi's")
    await clinic.record(ngozi, kind="condition", title="Diabetes", occurred_at="2015")
    await clinic.signed(ngozi, title="Sugar", occurred_at="2026-02-28T23:30:00Z", code={"code": "2339-0"})
    await clinic.record(ngozi, title="Pressure", occurred_at="2026-03-01T00:00:00Z", code={"code": "85354-9"})
    await clinic.record(ngozi, kind="medication", title="Insulin", occurred_at="2026-03-02", dose=4)
    wrong = await clinic.record(ngozi, kind="condition", title="Flu", occurred_at="2026-03")
    body = {"base_version": 1, "reason": "was hay fever"}
    await clinic.call("POST", at(wrong, "/entered-in-error"), body)
    gone = await clinic.record(ngozi, title="Gone", occurred_at="2026-03-01")
    await clinic.deleted(at(gone), 1)
    return clinic


LISTS = {
    "": ["Insulin", "Flu", "Pressure", "Sugar", "Diabetes"],
    "kind=condition": ["Flu", "Diabetes"],
    "kind=medication": ["Insulin"],
    "kind=goal": [],
    "status=signed": ["Sugar"],
    "status=draft": ["Insulin", "Pressure", "Diabetes"],
    "status=entered_in_error": ["Flu"],
    "status=amended": [],
    "code=85354-9": ["Pressure"],
    "code=85354": [],
    "from=2026-03-01": ["Insulin", "Flu", "Pressure"],
    "from=2026-03-01T00:00:00.001Z": ["Insulin"],
    "from=2026-03-01T01:00:00%2B01:00": ["Insulin", "Flu", "Pressure"],
    "from=2026-03-01T01:00:00+01:00": ["Insulin", "Flu", "Pressure"],
    "to=2026-03-01": ["Sugar", "Diabetes"],
    "to=2015": [],
    "from=2015&to=2015-01-02": ["Diabetes"],
    "from=2026-02&to=2026-03-02": ["Flu", "Pressure", "Sugar"],
    "from=2027&to=2026": [],
    "kind=observation&status=draft&from=2026&code=85354-9": ["Pressure"],
}


@pytest.mark.parametrize(("query", "expected"), LISTS.items(), ids=LISTS.keys())
async def test_a_list_holds_what_was_asked_for_the_latest_first(chart: Clinic, query: str, expected: list[str]) -> None:
    found = await titles(chart, query)
    # Flu and Pressure happened at the same instant, as far as is known: either may come first.
    assert sorted(found) == sorted(expected)
    assert [title for title in found if title != "Flu"] == [title for title in expected if title != "Flu"]


async def test_what_does_not_say_when_was_when_it_was_entered(clinic: Clinic, ngozi: str) -> None:
    await clinic.record(ngozi, title="Long ago", occurred_at="1999")
    await clinic.record(ngozi, title="To come", occurred_at="2999")
    await clinic.record(ngozi, title="Now")
    assert await titles(clinic) == ["To come", "Now", "Long ago"]


async def pages(clinic: Clinic, query: str) -> list[list[str]]:
    """The ids on each page, cursor by cursor."""
    found: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await clinic.get(f"/v1/patients/ngozi/records?{query}{cursor and f'&cursor={cursor}'}")
        found.append([item["id"] for item in page["items"]])
        cursor = page["next_cursor"]
    return found


@pytest.mark.parametrize("limit", [1, 4, 11, 12])
async def test_page_by_page_every_record_comes_exactly_once(clinic: Clinic, ngozi: str, limit: int) -> None:
    for number in range(11):
        await clinic.record(ngozi, id=f"r-{number}", occurred_at="2026-03-01" if number % 2 else "2026-03-02")
    found = await pages(clinic, f"limit={limit}")
    assert all(len(page) == limit for page in found[:-1])
    assert sorted(itertools.chain(*found)) == sorted(f"r-{number}" for number in range(11))


async def test_pages_keep_to_the_filter(chart: Clinic) -> None:
    found = await pages(chart, "limit=1&status=draft")
    assert len(found) == 3
    assert all(len(page) == 1 for page in found)


async def test_pages_go_on_where_they_were_left_although_that_record_is_gone(clinic: Clinic, ngozi: str) -> None:
    for day in range(1, 6):
        await clinic.record(ngozi, id=f"r-{day}", occurred_at=f"2026-03-0{day}")
    page = await clinic.get("/v1/patients/ngozi/records?limit=2")
    assert [item["id"] for item in page["items"]] == ["r-5", "r-4"]
    await clinic.deleted("/v1/records/r-4", 1)
    rest = await clinic.get(f"/v1/patients/ngozi/records?cursor={page['next_cursor']}")
    assert [item["id"] for item in rest["items"]] == ["r-3", "r-2", "r-1"]


async def test_an_empty_chart_has_an_empty_list(clinic: Clinic, ngozi: str) -> None:
    assert await clinic.get(f"/v1/patients/{ngozi}/records") == {"items": [], "next_cursor": None}


async def test_every_wrong_filter_is_named_at_once(clinic: Clinic, ngozi: str) -> None:
    answer = await clinic.call("GET", f"/v1/patients/{ngozi}/records?kind=poem&status=lost")
    assert fields_of(refused(answer, 422, "INVALID_FIELDS", "kind")) == ["kind", "status"]
    answer = await clinic.call("GET", f"/v1/patients/{ngozi}/records?kind=poem&from=soon&to=later")
    assert answer.status_code == 422
    assert fields_of(answer.json()["error"]) == ["kind", "from", "to"]
