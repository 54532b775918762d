"""Late edits over HTTP: merged where the policies allow it; held back, shown and decided where they do not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heallog.domain.access import Role

from .clinic import Clinic, NewClinic, fields_of, refused

Says = Callable[..., Awaitable[httpx.Response]]

METFORMIN = {
    "kind": "medication",
    "title": "Metformin",
    "dose": 10,
    "dose_unit": "mg",
    "route": "oral",
    "text": "With breakfast.\nNot before a scan.\nCheck the kidneys.\n",
}


@dataclass
class Ward:
    """Two clinicians who look after Ngozi, each with a device that is often offline; what Alice made, both have."""

    clinic: Clinic
    amara: Says
    jonas: Says

    async def medication(self, **fields: Any) -> str:
        """The address of a prescription, at version 1."""
        made = await self.clinic.record("ngozi", **{**METFORMIN, **fields})
        return f"/v1/records/{made['id']}"

    async def disputed(self, **fields: Any) -> tuple[str, dict[str, Any]]:
        """A prescription whose dose Amara made 20 (version 2, the head) and Jonas 15 (version 3), and the conflict."""
        path = await self.medication(**fields)
        ok(await self.amara("PATCH", path, {"base_version": 1, "dose": 20}))
        return path, held(await self.jonas("PATCH", path, {"base_version": 1, "dose": 15}))

    async def resolve(self, conflict: dict[str, Any], choices: Any, **said: Any) -> httpx.Response:
        body = {"head_version": conflict["head_version"], "choices": choices, "reason": "asked the pharmacy", **said}
        return await self.clinic.call("POST", f"/v1/conflicts/{conflict['id']}/resolve", body)

    async def conflict(self, conflict: dict[str, Any]) -> dict[str, Any]:
        """The conflict as it is now."""
        return await self.clinic.get(f"/v1/conflicts/{conflict['id']}")

    async def history(self, path: str) -> list[dict[str, Any]]:
        """The versions of a thing, the newest first."""
        return (await self.clinic.get(f"{path}/history"))["items"]


@pytest.fixture
async def ward(clinic: Clinic) -> Ward:
    await clinic.patient(id="ngozi")
    return Ward(
        clinic,
        partial(clinic.call, token=await clinic.token_for(Role.CLINICIAN, device="ward-tablet", account="amara")),
        partial(clinic.call, token=await clinic.token_for(Role.CLINICIAN, device="home-phone", account="jonas")),
    )


def ok(answer: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return answer.json()


def held(answer: httpx.Response) -> dict[str, Any]:
    """The conflict that keeps what was held back."""
    return refused(answer, 409, "VERSION_CONFLICT")["context"]["conflict"]


def names(conflict: dict[str, Any]) -> list[str]:
    return [disputed["field"] for disputed in conflict["fields"]]


EVERYTHING = "".join(
    f"SELECT '{table}' AS name, {table}::text AS row FROM {table} WHERE practice_id = $1 {union}"
    for table, union in (("patients", "UNION ALL "), ("records", "UNION ALL "), ("conflicts", ""))
)


@asynccontextmanager
async def untouched(clinic: Clinic) -> AsyncIterator[None]:
    """Nothing is written meanwhile: no version, and no head or conflict is another than before."""

    async def state() -> Any:
        rows = await clinic.container.database().pool.fetch(EVERYTHING, clinic.practice_id)
        return await clinic.rows(), sorted(map(tuple, rows))

    before = await state()
    yield
    assert await state() == before


# -- what is held back --------------------------------------------------------------------------------------------


async def test_two_doses_are_a_conflict_and_the_first_stays(ward: Ward) -> None:
    path = await ward.medication()
    first = ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 20, "reason": "HbA1c 8.1"}))
    answer = await ward.jonas("PATCH", path, {"base_version": 1, "dose": 15, "reason": "nausea"})

    context = refused(answer, 409, "VERSION_CONFLICT")["context"]
    assert answer.headers["etag"] == '"2"'
    content = {**METFORMIN, "dose": 20, "status": "draft"}
    conflict_id, at = context["conflict"]["id"], context["conflict"]["opened_at"]
    assert context == {
        "version": 2,
        "base_version": 1,
        "head": content,
        "changes": {"dose": 15},
        "conflict": {
            "id": conflict_id,
            "collection": "records",
            "thing_id": first["id"],
            "patient_id": "ngozi",
            "kind": "group",
            "severity": "safety",
            "state": "open",
            "base_version": 1,
            "head_version": 2,
            "branch_versions": [3],
            "fields": [
                {
                    "field": "dose",
                    "kind": "group",
                    "severity": "safety",
                    "policy": "atomic_group",
                    "group": "dosage",
                    "base": 10,
                    "theirs": 20,
                    "mine": 15,
                    "proposal": None,
                    "branch_version": 3,
                    "author_id": "jonas",
                    "device_id": "home-phone",
                    "at": at,
                }
            ],
            "opened_at": at,
            "updated_at": at,
            "resolution": None,
        },
    }
    assert await ward.clinic.get(path) == {**first, "conflict_id": conflict_id}
    assert await ward.conflict(context["conflict"]) == context["conflict"]

    kept, head, _ = await ward.history(path)
    assert (kept["version"], kept["parent"], kept["branch"], kept["change"]) == (3, 1, True, "modification")
    assert (kept["content"]["dose"], kept["author_id"], kept["device_id"]) == (15, "jonas", "home-phone")
    assert kept["reason"] == "nausea"
    assert (head["version"], head["parent"], head["branch"], head["content"]) == (2, 1, False, content)
    assert ok(await ward.jonas("GET", f"{path}/versions/3"))["content"]["dose"] == 15


async def test_what_is_sent_again_is_held_back_once(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    async with untouched(ward.clinic):
        again = await ward.jonas("PATCH", path, {"base_version": 1, "dose": 15})
        assert held(again) == conflict
        assert again.headers["etag"] == '"2"'


async def test_a_device_that_goes_on_on_its_own_edit_has_one_say(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    again = held(await ward.jonas("PATCH", path, {"base_version": 1, "dose": 16}))
    assert again["id"] == conflict["id"]
    assert [(disputed["mine"], disputed["branch_version"]) for disputed in again["fields"]] == [(16, 4)]
    assert again["branch_versions"] == [3, 4]


async def test_who_saw_the_head_changes_it_and_the_conflict_follows(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    changed = ok(await ward.amara("PATCH", path, {"base_version": 2, "dose": 25}))
    assert changed["conflict_id"] == conflict["id"]
    now = await ward.conflict(conflict)
    assert (now["head_version"], now["fields"][0]["theirs"], now["fields"][0]["mine"]) == (4, 25, 15)


async def test_a_unit_that_changes_under_a_disputed_dose_is_disputed_with_it(ward: Ward) -> None:
    """15 was meant in mg."""
    path, conflict = await ward.disputed()
    ok(await ward.amara("PATCH", path, {"base_version": 2, "dose_unit": "g"}))
    now = await ward.conflict(conflict)
    assert {disputed["field"]: (disputed["theirs"], disputed["mine"]) for disputed in now["fields"]} == {
        "dose": (20, 15),
        "dose_unit": ("g", "mg"),
    }
    error = refused(await ward.resolve(now, {"dose": {"take": "mine"}}), 422, "INVALID_FIELDS", "choices.dose_unit")
    assert fields_of(error) == ["choices.dose_unit"]
    ok(await ward.resolve(now, {"dose": {"take": "mine"}, "dose_unit": {"take": "mine"}}))
    assert (await ward.clinic.get(path)).items() >= {"dose": 15, "dose_unit": "mg"}.items()


async def test_two_who_come_to_agree_have_no_conflict_any_more(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    changed = ok(await ward.amara("PATCH", path, {"base_version": 2, "dose": 15}))
    assert "conflict_id" not in changed
    now = await ward.conflict(conflict)
    assert (now["state"], now["resolution"], names(now)) == ("superseded", None, ["dose"])
    async with untouched(ward.clinic):
        error = refused(await ward.resolve(now, {"dose": {"take": "theirs"}}), 409, "VERSION_CONFLICT")
        assert error["context"]["conflict"] == now


async def test_a_dose_and_its_unit_are_one_value(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 0.5, "dose_unit": "g"}))
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, "dose": 20, "title": "Metformin"}))
    assert {disputed["field"]: (disputed["theirs"], disputed["mine"]) for disputed in conflict["fields"]} == {
        "dose": (0.5, 20),
        "dose_unit": ("g", "mg"),
    }
    assert {disputed["group"] for disputed in conflict["fields"]} == {"dosage"}


async def test_a_dose_by_one_and_its_unit_by_another_do_not_meet(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 20}))
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, "dose_unit": "g"}))
    assert conflict["kind"] == "group"
    assert {disputed["field"]: (disputed["theirs"], disputed["mine"]) for disputed in conflict["fields"]} == {
        "dose": (20, 10),
        "dose_unit": ("mg", "g"),
    }
    assert (await ward.clinic.get(path)).items() >= {"dose": 20, "dose_unit": "mg"}.items()

    async with untouched(ward.clinic):
        mixed = await ward.resolve(conflict, {"dose": {"take": "theirs"}, "dose_unit": {"take": "mine"}})
        error = refused(mixed, 422, "INVALID_FIELDS", "choices.dose")
        assert fields_of(error) == ["choices.dose", "choices.dose_unit"]
        assert {wrong["code"] for wrong in error["context"]["errors"]} == {"group"}
    ok(await ward.resolve(conflict, {"dose": {"value": 0.02}, "dose_unit": {"value": "g"}}))
    assert (await ward.clinic.get(path)).items() >= {"dose": 0.02, "dose_unit": "g"}.items()


async def test_what_can_be_merged_of_an_edit_is_and_the_rest_waits(ward: Ward) -> None:
    path = await ward.medication(tags=["sitting"])
    ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 20, "tags": ["sitting", "started"]}))
    body = {"base_version": 1, "dose": 15, "tags": ["sitting", "nausea"]}
    answer = await ward.jonas("PATCH", path, body)
    conflict = held(answer)
    context = answer.json()["error"]["context"]
    assert names(conflict) == ["dose"]
    assert (context["version"], answer.headers["etag"], conflict["head_version"]) == (4, '"4"', 4)
    assert context["head"].items() >= {"dose": 20, "tags": ["sitting", "nausea", "started"]}.items()
    merged, branch, *_ = await ward.history(path)
    assert (merged["change"], merged["inputs"]) == ("merge", [2, 3])
    assert branch["branch"]
    async with untouched(ward.clinic):
        assert held(await ward.jonas("PATCH", path, body)) == conflict


async def test_two_passages_of_a_text_are_proposed_without_marks(ward: Ward) -> None:
    path = await ward.medication(text="With breakfast.\n")
    ok(await ward.amara("PATCH", path, {"base_version": 1, "text": "With supper.\n"}))
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, "text": "With lunch.\n"}))
    (disputed,) = conflict["fields"]
    assert (disputed["field"], disputed["policy"]) == ("text", "text")
    assert not set("<>=|") & set(disputed["proposal"])
    assert "supper" in disputed["proposal"]
    assert "lunch" in disputed["proposal"]
    assert (await ward.clinic.get(path))["text"] == "With supper.\n"
    ok(await ward.resolve(conflict, {"text": {"value": disputed["proposal"]}}))
    assert (await ward.clinic.get(path))["text"] == disputed["proposal"]


async def test_a_measured_value_is_disputed_by_its_name(ward: Ward) -> None:
    made = await ward.clinic.record("ngozi", values={"pulse": {"value": 70}, "spo2": {"value": 97}})
    path = f"/v1/records/{made['id']}"
    ok(await ward.amara("PATCH", path, {"base_version": 1, "values": {"pulse": {"value": 71}, "spo2": {"value": 97}}}))
    values = {"pulse": {"value": 72}, "spo2": {"value": 97}, "weight": {"value": 80, "unit": "kg"}}
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, "values": values}))
    assert names(conflict) == ["values.pulse"]
    assert (conflict["fields"][0]["theirs"], conflict["fields"][0]["mine"]) == ({"value": 71}, {"value": 72})
    async with untouched(ward.clinic):
        wrong = await ward.resolve(conflict, {"values.pulse": {"value": {"value": 73, "unit": 7}}})
        refused(wrong, 422, "INVALID_FIELDS", "choices.values.pulse.unit")
    ok(await ward.resolve(conflict, {"values.pulse": {"value": {"value": 73}}}))
    assert (await ward.clinic.get(path))["values"] == {**values, "pulse": {"value": 73}}


# -- what is merged -----------------------------------------------------------------------------------------------

NGOZI = "/v1/patients/ngozi"
CHART = f"{NGOZI}/records"


async def test_a_phone_and_an_address_are_merged(ward: Ward) -> None:
    ok(await ward.amara("PATCH", NGOZI, {"base_version": 1, "phone": "0199"}))
    answer = await ward.jonas("PATCH", NGOZI, {"base_version": 1, "address": {"city": "Enugu"}, "reason": "moved"})
    merged = ok(answer)
    assert answer.headers["etag"] == '"4"'
    assert merged.pop("merged_from") == [2, 3]
    assert merged.items() >= {"version": 4, "phone": "0199", "address": {"city": "Enugu"}}.items()
    assert "conflict_id" not in merged
    assert await ward.clinic.get(NGOZI) == merged
    assert (await ward.clinic.get("/v1/conflicts"))["items"] == []

    made = [
        {name: version[name] for name in ("version", "parent", "inputs", "branch", "change", "author_id")}
        for version in await ward.history(NGOZI)
    ]
    assert made[:3] == [
        {"version": 4, "parent": 2, "inputs": [2, 3], "branch": False, "change": "merge", "author_id": "jonas"},
        {"version": 3, "parent": 1, "inputs": [], "branch": True, "change": "modification", "author_id": "jonas"},
        {"version": 2, "parent": 1, "inputs": [], "branch": False, "change": "modification", "author_id": "amara"},
    ]
    reasons = [version["reason"] for version in await ward.history(NGOZI)]
    assert reasons == ["moved", "moved", None, None]
    beside = ok(await ward.jonas("GET", f"{NGOZI}/versions/3"))["content"]
    assert "phone" not in beside


async def test_what_was_merged_and_is_sent_again_changes_nothing(ward: Ward) -> None:
    ok(await ward.amara("PATCH", NGOZI, {"base_version": 1, "phone": "0199"}))
    body = {"base_version": 1, "address": {"city": "Enugu"}}
    ok(await ward.jonas("PATCH", NGOZI, body))
    async with untouched(ward.clinic):
        again = await ward.jonas("PATCH", NGOZI, body)
        assert (ok(again)["version"], again.headers["etag"]) == (4, '"4"')


async def test_the_phone_that_came_last_stands_and_the_other_is_shown_for_review(ward: Ward) -> None:
    ok(await ward.amara("PATCH", NGOZI, {"base_version": 1, "phone": "0199", "client_time": "2999-01-01T00:00:00Z"}))
    body = {"base_version": 1, "phone": "0200", "client_time": "1999-01-01T00:00:00Z"}
    merged = ok(await ward.jonas("PATCH", NGOZI, body))
    assert (merged["phone"], merged["version"], merged["merged_from"]) == ("0200", 4, [2, 3])
    conflict = await ward.clinic.get(f"/v1/conflicts/{merged['conflict_id']}")
    assert (conflict["severity"], conflict["kind"], conflict["state"]) == ("soft", "field", "open")
    (lost,) = conflict["fields"]
    assert (lost["mine"], lost["theirs"], lost["branch_version"], lost["author_id"]) == ("0199", "0200", 2, "amara")

    ok(await ward.resolve(conflict, {"phone": {"take": "mine"}}))
    assert (await ward.clinic.get(NGOZI))["phone"] == "0199"


async def test_what_waits_for_review_only_is_in_nobodys_way(ward: Ward) -> None:
    ok(await ward.amara("PATCH", NGOZI, {"base_version": 1, "phone": "0199"}))
    merged = ok(await ward.jonas("PATCH", NGOZI, {"base_version": 1, "phone": "0200"}))
    deleted = await ward.amara("DELETE", NGOZI, {"base_version": merged["version"]})
    assert deleted.status_code == 204
    assert (await ward.clinic.get(f"/v1/conflicts/{merged['conflict_id']}"))["state"] == "superseded"
    back = ok(await ward.amara("POST", f"{NGOZI}/restore", {"base_version": merged["version"] + 1}))
    assert back["phone"] == "0200"


async def test_lines_of_a_text_and_tags_are_merged(ward: Ward) -> None:
    path = await ward.medication(tags=["new"])
    text: str = METFORMIN["text"]
    first = {"text": text.replace("breakfast", "supper"), "tags": ["new", "checked"]}
    ok(await ward.amara("PATCH", path, {"base_version": 1, **first}))
    second = {"text": text.replace("kidneys", "kidneys every year"), "tags": ["old"]}
    merged = ok(await ward.jonas("PATCH", path, {"base_version": 1, **second}))
    assert merged["text"] == first["text"].replace("kidneys", "kidneys every year")
    assert merged["tags"] == ["checked", "old"]
    assert "conflict_id" not in merged


async def test_what_is_counted_by_two_adds_up(ward: Ward) -> None:
    path = await ward.medication(remaining=30)
    ok(await ward.amara("PATCH", path, {"base_version": 1, "remaining": 28}))
    assert ok(await ward.jonas("PATCH", path, {"base_version": 1, "remaining": 29}))["remaining"] == 27


async def test_the_same_edit_by_two_is_one(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 20}))
    same = ok(await ward.jonas("PATCH", path, {"base_version": 1, "dose": 20}))
    assert (same["version"], same["dose"]) == (2, 20)
    assert "conflict_id" not in same
    assert "merged_from" not in same


async def test_an_edit_in_between_by_a_third_is_merged_too(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "tags": ["a"]}))
    ok(await ward.clinic.call("PATCH", path, {"base_version": 2, "title": "Metformin XR"}))
    merged = ok(await ward.jonas("PATCH", path, {"base_version": 2, "dose": 15}))
    assert merged.items() >= {"tags": ["a"], "title": "Metformin XR", "dose": 15, "merged_from": [3, 4]}.items()


# -- deleting against editing -------------------------------------------------------------------------------------

EITHER = pytest.mark.parametrize("what", ["patient", "record"])


async def thing(ward: Ward, what: str) -> tuple[str, dict[str, Any]]:
    """The address of a thing, and an edit of it."""
    if what == "patient":
        return NGOZI, {"notes": "Called twice."}
    return await ward.medication(), {"title": "Metformin XR"}


@EITHER
async def test_a_deletion_of_what_was_edited_is_held_back(ward: Ward, what: str) -> None:
    path, edit = await thing(ward, what)
    edited = ok(await ward.amara("PATCH", path, {"base_version": 1, **edit}))
    answer = await ward.jonas("DELETE", path, {"base_version": 1, "reason": "entered twice"})
    context = refused(answer, 409, "VERSION_CONFLICT")["context"]
    conflict = context["conflict"]
    assert (context["version"], context["base_version"], answer.headers["etag"]) == (2, 1, '"2"')
    assert context["head"].items() >= edit.items()
    assert (conflict["kind"], conflict["collection"], names(conflict)) == ("delete_edit", f"{what}s", ["deleted"])
    (disputed,) = conflict["fields"]
    assert (disputed["base"], disputed["theirs"], disputed["mine"]) == (False, False, True)
    assert (disputed["author_id"], disputed["device_id"]) == ("jonas", "home-phone")
    assert await ward.clinic.get(path) == {**edited, "conflict_id": conflict["id"]}
    kept = (await ward.history(path))[0]
    assert (kept["change"], kept["branch"], kept["content"], kept["reason"]) == (
        "deletion",
        True,
        None,
        "entered twice",
    )
    async with untouched(ward.clinic):
        assert held(await ward.jonas("DELETE", path, {"base_version": 1})) == conflict
        refused(await ward.jonas("DELETE", path, headers={"If-Match": '"1"'}), 412, "STALE_VERSION")

    resolved = await ward.resolve(conflict, {"deleted": {"take": "mine"}})
    assert (ok(resolved)["state"], resolved.headers["etag"]) == ("resolved", '"4"')
    assert refused(await ward.clinic.call("GET", path), 404, "DELETED")["context"] == {"version": 4}
    gone = (await ward.history(path))[0]
    assert (gone["change"], gone["inputs"], gone["content"]) == ("deletion", [2, 3], None)
    back = ok(await ward.amara("POST", f"{path}/restore", {"base_version": 4}))
    assert back.items() >= edit.items()


@EITHER
async def test_a_deletion_that_was_held_back_can_be_given_up(ward: Ward, what: str) -> None:
    path, edit = await thing(ward, what)
    edited = ok(await ward.amara("PATCH", path, {"base_version": 1, **edit}))
    conflict = held(await ward.jonas("DELETE", path, {"base_version": 1}))
    for choice in ({"value": 1}, {"value": None}, {"value": "true"}, {"value": {}}):
        refused(await ward.resolve(conflict, {"deleted": choice}), 422, "INVALID_FIELDS", "choices.deleted.value")
    ok(await ward.resolve(conflict, {"deleted": {"value": False}}))
    assert (await ward.clinic.get(path)) | {"version": 2, "updated_at": ANY, "updated_by": "amara"} == edited


@EITHER
async def test_an_edit_of_what_was_deleted_brings_it_back_and_says_so(ward: Ward, what: str) -> None:
    path, edit = await thing(ward, what)
    assert (await ward.amara("DELETE", path, {"base_version": 1})).status_code == 204
    answer = await ward.jonas("PATCH", path, {"base_version": 1, **edit})
    back = ok(answer)
    assert back.items() >= {**edit, "version": 4, "merged_from": [2, 3]}.items()
    assert answer.headers["etag"] == '"4"'
    conflict = await ward.clinic.get(f"/v1/conflicts/{back['conflict_id']}")
    (disputed,) = conflict["fields"]
    assert (conflict["kind"], disputed["field"], disputed["theirs"], disputed["mine"]) == (
        "delete_edit",
        "deleted",
        False,
        True,
    )
    assert (disputed["author_id"], disputed["device_id"], disputed["branch_version"]) == ("amara", "ward-tablet", 2)
    assert (await ward.clinic.get(path))["conflict_id"] == conflict["id"]
    async with untouched(ward.clinic):
        again = ok(await ward.jonas("PATCH", path, {"base_version": 1, **edit}))
        assert again["version"] == 4

    ok(await ward.resolve(conflict, {"deleted": {"take": "mine"}}))
    refused(await ward.clinic.call("GET", path), 404, "DELETED")


async def test_who_may_not_delete_does_not_decide_for_a_deletion(ward: Ward) -> None:
    """The table of roles has nobody who may resolve and not delete; assistants may do neither."""
    ok(await ward.amara("PATCH", NGOZI, {"base_version": 1, "notes": "Called."}))
    conflict = held(await ward.jonas("DELETE", NGOZI, {"base_version": 1}))
    body = {"head_version": 2, "choices": {"deleted": {"take": "mine"}}, "reason": "twice"}
    for role in (Role.ASSISTANT, Role.AUDITOR):
        async with untouched(ward.clinic):
            answer = await ward.clinic.call(
                "POST", f"/v1/conflicts/{conflict['id']}/resolve", body, token=await ward.clinic.token_for(role)
            )
            error = refused(answer, 403, "FORBIDDEN")
            assert error["context"] == {"permission": "conflicts.resolve"}


async def test_what_waits_for_a_decision_is_neither_signed_nor_deleted(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    async with untouched(ward.clinic):
        for method, rest in (("POST", "/sign"), ("DELETE", "")):
            answer = await ward.amara(method, f"{path}{rest}", {"base_version": 2})
            context = refused(answer, 409, "WRONG_STATE")["context"]
            assert context == {"version": 2, "conflict_id": conflict["id"]}
    ok(await ward.resolve(conflict, {"dose": {"take": "theirs"}}))
    assert ok(await ward.amara("POST", f"{path}/sign", {"base_version": 4}))["status"] == "signed"


# -- what is signed -----------------------------------------------------------------------------------------------


async def test_an_edit_that_comes_after_the_signature_is_a_proposed_amendment(ward: Ward) -> None:
    path = await ward.medication()
    signed = ok(await ward.amara("POST", f"{path}/sign", {"base_version": 1}))
    edit = {"title": "Metformin XR", "tags": ["new"], "dose": 10}
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, **edit}))
    assert (conflict["kind"], conflict["state"], names(conflict)) == ("signed", "open", ["tags", "title"])
    assert [disputed["proposal"] for disputed in conflict["fields"]] == [["new"], "Metformin XR"]
    assert await ward.clinic.get(path) == {**signed, "conflict_id": conflict["id"]}
    kept = (await ward.history(path))[0]
    assert (kept["branch"], kept["content"]["status"]) == (True, "draft")

    ok(await ward.resolve(conflict, {"title": {"take": "mine"}, "tags": {"take": "theirs"}}))
    amended = await ward.clinic.get(path)
    assert (amended["status"], amended["title"]) == ("amended", "Metformin XR")
    assert "tags" not in amended
    assert (amended["signed_by"], amended["signed_at"]) == (signed["signed_by"], signed["signed_at"])
    latest = (await ward.history(path))[0]
    assert (latest["change"], latest["reason"], latest["inputs"]) == ("amendment", "asked the pharmacy", [2, 3])
    assert latest["author_id"] == ward.clinic.account_id


BODY = {"weight": {"value": 80, "unit": "kg"}, "height": {"value": 200, "unit": "cm"}}
HEAVIER = {**BODY, "weight": {"value": 88, "unit": "kg"}}


async def test_what_follows_from_other_fields_is_not_for_anyone_to_decide(ward: Ward) -> None:
    """A body mass index is worked out from what is decided about the weight."""
    made = await ward.clinic.record("ngozi", values=BODY)
    assert made["bmi"] == 20
    path = f"/v1/records/{made['id']}"
    ok(await ward.amara("POST", f"{path}/sign", {"base_version": 1}))
    late = held(await ward.jonas("PATCH", path, {"base_version": 1, "values": HEAVIER}))
    assert names(late) == ["values.weight"]
    ok(await ward.resolve(late, {"values.weight": {"take": "mine"}}))
    assert (await ward.clinic.get(path))["bmi"] == 22

    body = {"id": "r-1", "kind": "observation", "title": "Blood pressure"}
    ok(await ward.amara("POST", CHART, {**body, "values": BODY}), 201)
    twin = held(await ward.jonas("POST", CHART, {**body, "values": HEAVIER}))
    assert names(twin) == ["values.weight"]
    ok(await ward.resolve(twin, {"values.weight": {"take": "mine"}}))
    assert (await ward.clinic.get("/v1/records/r-1"))["bmi"] == 22


async def test_a_body_mass_index_is_that_of_the_merge(ward: Ward) -> None:
    made = await ward.clinic.record("ngozi", values=BODY)
    path = f"/v1/records/{made['id']}"
    ok(await ward.amara("PATCH", path, {"base_version": 1, "values": HEAVIER}))
    taller = {**BODY, "height": {"value": 2.1, "unit": "m"}}
    merged = ok(await ward.jonas("PATCH", path, {"base_version": 1, "values": taller}))
    assert (merged["values"], merged["bmi"]) == ({**HEAVIER, "height": taller["height"]}, 20)
    assert "conflict_id" not in merged


async def test_a_signature_stays_when_nothing_is_taken_from_a_late_edit(ward: Ward) -> None:
    path = await ward.medication()
    signed = ok(await ward.amara("POST", f"{path}/sign", {"base_version": 1}))
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, "title": "Metformin XR"}))
    ok(await ward.resolve(conflict, {"title": {"take": "theirs"}}))
    now = await ward.clinic.get(path)
    assert now | {name: signed[name] for name in ("version", "updated_at", "updated_by")} == signed


async def test_two_amendments_are_merged_like_edits(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("POST", f"{path}/sign", {"base_version": 1}))

    def amendment(**changes: Any) -> dict[str, Any]:
        return {"base_version": 2, "changes": changes, "reason": "misread"}

    ok(await ward.amara("POST", f"{path}/amend", amendment(dose=20)))
    merged = ok(await ward.jonas("POST", f"{path}/amend", amendment(title="Metformin XR")))
    assert merged.items() >= {"dose": 20, "title": "Metformin XR", "status": "amended", "merged_from": [3, 4]}.items()
    third = await ward.clinic.call("POST", f"{path}/amend", amendment(dose=15))
    context = refused(third, 409, "VERSION_CONFLICT")["context"]
    assert (context["changes"], names(context["conflict"])) == ({"dose": 15}, ["dose"])
    ok(await ward.resolve(context["conflict"], {"dose": {"take": "mine"}}))
    latest = (await ward.history(path))[0]
    assert (latest["change"], latest["content"]["dose"], latest["inputs"]) == ("amendment", 15, [5, 6])


async def test_an_edit_of_what_was_entered_in_error_is_kept_and_can_only_be_given_up(ward: Ward) -> None:
    path = await ward.medication()
    body = {"base_version": 1, "reason": "another patient's"}
    ok(await ward.amara("POST", f"{path}/entered-in-error", body))
    conflict = held(await ward.jonas("PATCH", path, {"base_version": 1, "dose": 15}))
    assert conflict["kind"] == "signed"
    async with untouched(ward.clinic):
        refused(await ward.resolve(conflict, {"dose": {"take": "mine"}}), 409, "WRONG_STATE")
    ok(await ward.resolve(conflict, {"dose": {"take": "theirs"}}))
    assert (await ward.clinic.get(path)).items() >= {"dose": 10, "status": "entered_in_error"}.items()


# -- one id, two creations ----------------------------------------------------------------------------------------


async def test_two_creations_of_one_id_are_both_kept(ward: Ward) -> None:
    body = {"id": "r-1", "kind": "medication", "title": "Metformin", "dose": 10}
    first = ok(await ward.amara("POST", CHART, body), 201)
    answer = await ward.jonas("POST", CHART, {"id": "r-1", "kind": "medication", "title": "Insulin", "route": "sc"})
    context = refused(answer, 409, "VERSION_CONFLICT")["context"]
    conflict = context["conflict"]
    assert (context["version"], answer.headers["etag"]) == (1, '"1"')
    assert (conflict["kind"], conflict["base_version"], conflict["branch_versions"]) == ("create_create", 0, [2])
    assert {
        disputed["field"]: (disputed["base"], disputed["theirs"], disputed["mine"]) for disputed in conflict["fields"]
    } == {
        "dose": (None, 10, None),
        "route": (None, None, "sc"),
        "title": (None, "Metformin", "Insulin"),
    }
    assert await ward.clinic.get("/v1/records/r-1") == {**first, "conflict_id": conflict["id"]}
    beside = (await ward.history("/v1/records/r-1"))[0]
    assert (beside["change"], beside["parent"], beside["branch"]) == ("creation", None, True)
    async with untouched(ward.clinic):
        again = await ward.jonas("POST", CHART, {"id": "r-1", "kind": "medication", "title": "Insulin", "route": "sc"})
        assert held(again) == conflict
        assert ok(await ward.amara("POST", CHART, body), 201)["conflict_id"] == conflict["id"]

        nothing = {"title": {"take": "base"}, "dose": {"take": "mine"}, "route": {"take": "mine"}}
        refused(await ward.resolve(conflict, nothing), 422, "INVALID_FIELDS", "choices.title")
    ok(await ward.resolve(conflict, {name: {"take": "mine"} for name in names(conflict)}))
    now = await ward.clinic.get("/v1/records/r-1")
    assert (now["title"], now["route"]) == ("Insulin", "sc")
    assert "dose" not in now


async def test_the_same_creation_by_two_devices_is_one(ward: Ward) -> None:
    body = {"id": "r-1", "kind": "note", "text": "Well."}
    first = ok(await ward.amara("POST", CHART, body), 201)
    async with untouched(ward.clinic):
        assert ok(await ward.jonas("POST", CHART, body), 201) == first


async def test_two_patients_under_one_id_are_both_kept(ward: Ward) -> None:
    answer = await ward.jonas("POST", "/v1/patients", {"id": "ngozi", "family_name": "Okafor", "given_name": "Ngozi"})
    conflict = held(answer)
    assert (conflict["collection"], conflict["severity"], names(conflict)) == ("patients", "safety", ["family_name"])
    assert (await ward.clinic.get(NGOZI))["family_name"] == "Obi"


async def test_a_signature_is_not_for_a_second_creation_to_dispute(ward: Ward) -> None:
    """Nobody can choose what signing wrote, so nobody has to."""
    body = {"id": "r-1", "kind": "note", "text": "Well."}
    ok(await ward.amara("POST", CHART, body), 201)
    ok(await ward.amara("POST", "/v1/records/r-1/sign", {"base_version": 1}))
    conflict = held(await ward.jonas("POST", CHART, {**body, "text": "Ill."}))
    assert names(conflict) == ["text"]
    ok(await ward.resolve(conflict, {"text": {"take": "mine"}}))
    assert (await ward.clinic.get("/v1/records/r-1")).items() >= {"text": "Ill.", "status": "amended"}.items()


# -- seeing that there is one -------------------------------------------------------------------------------------


async def test_an_open_conflict_is_shown_wherever_the_thing_is(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    (listed,) = (await ward.clinic.get(CHART))["items"]
    assert listed["conflict_id"] == (await ward.clinic.get(path))["conflict_id"] == conflict["id"]

    about = held(await ward.jonas("POST", "/v1/patients", {"id": "ngozi", "family_name": "Okafor"}))
    for query in ("", "?q=obi"):
        (listed,) = (await ward.clinic.get(f"/v1/patients{query}"))["items"]
        assert listed["conflict_id"] == about["id"]
    assert (await ward.clinic.get(NGOZI))["conflict_id"] == about["id"]


@pytest.mark.parametrize("known", ['"2"', 'W/"2"', '"1", "2"'])
async def test_who_has_the_head_is_told_of_the_conflict_all_the_same(ward: Ward, known: str) -> None:
    path, conflict = await ward.disputed()
    answer = await ward.amara("GET", path, headers={"If-None-Match": known})
    assert ok(answer)["conflict_id"] == conflict["id"]
    assert answer.headers["etag"] == '"2"'
    ok(await ward.resolve(conflict, {"dose": {"take": "theirs"}}))
    answer = await ward.amara("GET", path, headers={"If-None-Match": '"4"'})
    assert answer.status_code == 304


async def test_if_match_is_strict_and_keeps_nothing(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "tags": ["new"]}))
    async with untouched(ward.clinic):
        for body in ({"dose": 15}, {"dose": 15, "base_version": 1}, {}):
            answer = await ward.jonas("PATCH", path, body, headers={"If-Match": '"1"'})
            assert refused(answer, 412, "STALE_VERSION")["context"] == {"version": 2}
            assert answer.headers["etag"] == '"2"'
        refused(await ward.jonas("DELETE", path, headers={"If-Match": '"1"'}), 412, "STALE_VERSION")


async def test_a_branch_is_no_head_that_one_could_ask_for(ward: Ward) -> None:
    path, _ = await ward.disputed()
    async with untouched(ward.clinic):
        answer = await ward.jonas("PATCH", path, {"dose": 15}, headers={"If-Match": '"3"'})
        assert refused(answer, 412, "STALE_VERSION")["context"] == {"version": 2}


# -- where an edit may come from ----------------------------------------------------------------------------------


async def test_an_edit_may_start_from_a_branch(ward: Ward) -> None:
    """Jonas, or whoever reads the history, goes on from what he submitted."""
    path, conflict = await ward.disputed()
    merged = ok(await ward.jonas("PATCH", path, {"base_version": 3, "title": "Metformin XR"}))
    assert merged.items() >= {"dose": 20, "title": "Metformin XR", "conflict_id": conflict["id"]}.items()
    assert [disputed["mine"] for disputed in (await ward.conflict(conflict))["fields"]] == [15]
    again = held(await ward.clinic.call("PATCH", path, {"base_version": 3, "dose": 16}))
    assert {(disputed["base"], disputed["mine"]) for disputed in again["fields"]} == {(10, 15), (15, 16)}


async def test_an_edit_does_not_start_from_what_is_not_there(ward: Ward) -> None:
    path, _ = await ward.disputed()
    async with untouched(ward.clinic):
        for version in (4, 9, 2**31 - 1):
            for method in ("PATCH", "DELETE"):
                answer = await ward.jonas(method, path, {"base_version": version})
                context = refused(answer, 409, "VERSION_CONFLICT")["context"]
                assert context == {"version": 2}
        for version in (0, -1, 2**31, 1.5, "1", True, [1]):
            answer = await ward.jonas("PATCH", path, {"base_version": version, "dose": 15})
            refused(answer, 422, "INVALID_FIELDS", "base_version")


async def test_an_edit_does_not_start_from_a_deletion(ward: Ward) -> None:
    path = await ward.medication()
    assert (await ward.amara("DELETE", path, {"base_version": 1})).status_code == 204
    ok(await ward.amara("POST", f"{path}/restore", {"base_version": 2}))
    async with untouched(ward.clinic):
        for method in ("PATCH", "DELETE"):
            answer = await ward.jonas(method, path, {"base_version": 2})
            context = refused(answer, 409, "VERSION_CONFLICT")["context"]
            assert context == {"version": 3, "base_version": 2, "head": {**METFORMIN, "status": "draft"}}


async def test_what_cannot_be_merged_is_about_the_head(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "tags": ["new"]}))
    async with untouched(ward.clinic):
        for rest, body in (("sign", {}), ("revert", {"to": 1}), ("entered-in-error", {"reason": "why"})):
            answer = await ward.jonas("POST", f"{path}/{rest}", {"base_version": 1, **body})
            context = refused(answer, 409, "VERSION_CONFLICT")["context"]
            assert context.keys() == {"version", "base_version", "head"}


async def test_a_late_edit_that_breaks_a_rule_of_its_own_is_refused(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 20}))
    async with untouched(ward.clinic):
        for changes, field in (
            ({"dose": "15"}, "dose"),
            ({"title": None, "text": None}, "title"),
            ({"substance": "x"}, "substance"),
            ({"status": "signed"}, "status"),
            ({"kind": "note"}, "kind"),
        ):
            answer = await ward.jonas("PATCH", path, {"base_version": 1, **changes})
            refused(answer, 422, "INVALID_FIELDS", field)


# -- the list -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def several(ward: Ward) -> Ward:
    """Five conflicts about Ngozi, one of them resolved, one superseded; and one about Tobi."""
    await ward.clinic.patient(id="tobi", family_name="Tobi")
    for number in range(5):
        await ward.disputed(id=f"m-{number}")
    found = (await ward.clinic.get("/v1/conflicts"))["items"]
    ok(await ward.resolve(found[4], {"dose": {"take": "mine"}}))
    ok(await ward.amara("PATCH", "/v1/records/m-1", {"base_version": 2, "dose": 15}))
    ok(await ward.amara("PATCH", "/v1/patients/tobi", {"base_version": 1, "birth_date": "1984"}))
    held(await ward.jonas("PATCH", "/v1/patients/tobi", {"base_version": 1, "birth_date": "1983"}))
    return ward


LISTS = {
    "": ["tobi", "m-4", "m-3", "m-2", "m-1", "m-0"],
    "state=open": ["tobi", "m-4", "m-3", "m-2"],
    "state=resolved": ["m-0"],
    "state=superseded": ["m-1"],
    "patient_id=tobi": ["tobi"],
    "patient_id=nobody": [],
    "patient_id=ngozi&state=open": ["m-4", "m-3", "m-2"],
    "patient_id=tobi&state=resolved": [],
    "limit=2": ["tobi", "m-4"],
    "limit=500": ["tobi", "m-4", "m-3", "m-2", "m-1", "m-0"],
    "cursor=nothing": ANY,
}


@pytest.mark.parametrize(("query", "expected"), LISTS.items(), ids=LISTS.keys())
async def test_the_newest_conflict_comes_first(several: Ward, query: str, expected: list[str]) -> None:
    page = await several.clinic.get(f"/v1/conflicts?{query}")
    assert page.keys() == {"items", "next_cursor"}
    assert [conflict["thing_id"] for conflict in page["items"]] == expected


@pytest.mark.parametrize(("query", "number"), [("", 6), ("state=open", 4), ("patient_id=ngozi", 5)])
@pytest.mark.parametrize("limit", [1, 2, 3, 6])
async def test_page_by_page_every_conflict_comes_exactly_once(
    several: Ward, limit: int, query: str, number: int
) -> None:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await several.clinic.get(f"/v1/conflicts?limit={limit}&{query}{cursor and f'&cursor={cursor}'}")
        assert page["items"]
        assert len(page["items"]) <= limit
        found += [conflict["thing_id"] for conflict in page["items"]]
        cursor = page["next_cursor"]
    assert len(found) == len(set(found)) == number


async def test_a_conflict_in_a_list_is_the_conflict(ward: Ward) -> None:
    _, conflict = await ward.disputed()
    assert (await ward.clinic.get("/v1/conflicts"))["items"] == [conflict] == [await ward.conflict(conflict)]


async def test_all_that_is_wrong_with_a_list_is_named_at_once(clinic: Clinic) -> None:
    answer = await clinic.call("GET", "/v1/conflicts?state=lost&patient_id=a_b")
    assert fields_of(refused(answer, 422, "INVALID_FIELDS", "state")) == ["state", "patient_id"]


async def test_a_list_shows_ones_own_conflicts_only(several: Ward, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    (newest, *_) = (await several.clinic.get("/v1/conflicts"))["items"]
    for query in ("", "?patient_id=ngozi", "?state=open", f"?cursor={newest['id']}"):
        assert await elsewhere.get(f"/v1/conflicts{query}") == {"items": [], "next_cursor": None}


async def test_another_practices_conflict_is_not_there(ward: Ward, new_clinic: NewClinic) -> None:
    _, conflict = await ward.disputed()
    elsewhere = await new_clinic()
    path = f"/v1/conflicts/{conflict['id']}"
    refused(await elsewhere.call("GET", path), 404, "NOT_FOUND")
    body = {"head_version": 2, "choices": {"dose": {"take": "mine"}}, "reason": "why not"}
    async with untouched(ward.clinic):
        refused(await elsewhere.call("POST", f"{path}/resolve", body), 404, "NOT_FOUND")


# -- deciding -----------------------------------------------------------------------------------------------------

CHOICES = {
    "mine": ({"take": "mine"}, 15),
    "mine, by its number": ({"take": "mine", "branch_version": 3}, 15),
    "theirs": ({"take": "theirs"}, 20),
    "base": ({"take": "base"}, 10),
    "a value": ({"value": 12.5}, 12.5),
    "no value": ({"value": None}, None),
    "their value": ({"value": 20}, 20),
    "a number that needs no point": ({"value": 12.0}, 12),
}


@pytest.mark.parametrize(("choice", "dose"), CHOICES.values(), ids=CHOICES.keys())
async def test_a_decision_is_a_version_that_names_what_it_was_made_from(
    ward: Ward, choice: dict[str, Any], dose: float | None
) -> None:
    path, conflict = await ward.disputed()
    answer = await ward.resolve(conflict, {"dose": choice}, client_time="2026-03-01T09:30:00Z")
    resolved = ok(answer)
    assert answer.headers["etag"] == '"4"'
    assert resolved["state"] == "resolved"
    assert resolved["resolution"] == {
        "account_id": ward.clinic.account_id,
        "at": resolved["updated_at"],
        "reason": "asked the pharmacy",
        "version": 4,
        "choices": {"dose": choice},
    }
    same = ("id", "thing_id", "fields", "branch_versions", "opened_at", "base_version")
    assert {name: resolved[name] for name in same} == {name: conflict[name] for name in same}
    assert await ward.conflict(conflict) == resolved

    now = await ward.clinic.get(path)
    assert (now["version"], now.get("dose"), now["status"]) == (4, dose, "draft")
    assert "conflict_id" not in now
    assert {name: now[name] for name in ("title", "dose_unit", "route", "text")} == {
        name: METFORMIN[name] for name in ("title", "dose_unit", "route", "text")
    }
    version = (await ward.history(path))[0]
    assert (version["inputs"], version["parent"], version["change"], version["branch"]) == ([2, 3], 2, "merge", False)
    assert (version["author_id"], version["reason"]) == (ward.clinic.account_id, "asked the pharmacy")
    assert version["client_time"] == "2026-03-01T09:30:00.000Z"


async def test_who_was_overruled_and_sends_it_again_opens_nothing_anew(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    ok(await ward.resolve(conflict, {"dose": {"take": "theirs"}}))
    async with untouched(ward.clinic):
        again = ok(await ward.jonas("PATCH", path, {"base_version": 1, "dose": 15}))
        assert (again["version"], again["dose"]) == (4, 20)
    assert ok(await ward.jonas("PATCH", path, {"base_version": 4, "dose": 15}))["dose"] == 15


async def test_after_a_decision_there_can_be_another_conflict(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    ok(await ward.resolve(conflict, {"dose": {"take": "theirs"}}))
    ok(await ward.amara("PATCH", path, {"base_version": 4, "dose": 30}))
    second = held(await ward.jonas("PATCH", path, {"base_version": 4, "dose": 25}))
    assert second["id"] != conflict["id"]
    assert [found["state"] for found in (await ward.clinic.get("/v1/conflicts"))["items"]] == ["open", "resolved"]


async def test_of_several_that_were_held_back_one_says_which(ward: Ward) -> None:
    path, _ = await ward.disputed()
    conflict = held(await ward.clinic.call("PATCH", path, {"base_version": 1, "dose": 12}))
    assert {disputed["branch_version"]: disputed["mine"] for disputed in conflict["fields"]} == {3: 15, 4: 12}
    async with untouched(ward.clinic):
        for choice in ({"take": "mine"}, {"take": "mine", "branch_version": None}):
            error = refused(
                await ward.resolve(conflict, {"dose": choice}), 422, "INVALID_FIELDS", "choices.dose.branch_version"
            )
            assert "3, 4" in error["message"]
        for number in (1, 2, 5, 0, -3, "3", [3], {"3": 3}, 3.5):
            answer = await ward.resolve(conflict, {"dose": {"take": "mine", "branch_version": number}})
            refused(answer, 422, "INVALID_FIELDS", "choices.dose.branch_version")
        answer = await ward.resolve(conflict, {"dose": {"take": "theirs", "branch_version": 3}})
        refused(answer, 422, "INVALID_FIELDS", "choices.dose")
    ok(await ward.resolve(conflict, {"dose": {"take": "mine", "branch_version": 4}}))
    assert (await ward.clinic.get(path))["dose"] == 12
    assert (await ward.history(path))[0]["inputs"] == [2, 3, 4]


async def test_of_several_that_say_the_same_nobody_needs_to_say_which(ward: Ward) -> None:
    path, _ = await ward.disputed()
    conflict = held(await ward.clinic.call("PATCH", path, {"base_version": 1, "dose": 15}))
    assert [disputed["branch_version"] for disputed in conflict["fields"]] == [3, 4]
    ok(await ward.resolve(conflict, {"dose": {"take": "mine"}}))
    assert (await ward.clinic.get(path))["dose"] == 15


async def test_a_decision_is_about_the_head_that_was_seen(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    moved = ok(await ward.amara("PATCH", path, {"base_version": 2, "title": "Metformin XR"}))
    async with untouched(ward.clinic):
        for head_version in (1, 2, 3, 9):
            answer = await ward.resolve(conflict, {"dose": {"take": "mine"}}, head_version=head_version)
            context = refused(answer, 409, "VERSION_CONFLICT")["context"]
            assert context["version"] == moved["version"] == 4
            assert answer.headers["etag"] == '"4"'
            assert (context["head"]["title"], context["conflict"]["head_version"]) == ("Metformin XR", 4)
    ok(await ward.resolve(context["conflict"], {"dose": {"take": "mine"}}))
    assert (await ward.clinic.get(path)).items() >= {"title": "Metformin XR", "dose": 15, "version": 5}.items()


async def test_a_decision_is_made_once(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    resolved = ok(await ward.resolve(conflict, {"dose": {"take": "mine"}}))
    async with untouched(ward.clinic):
        for head_version in (2, 4):
            answer = await ward.resolve(conflict, {"dose": {"take": "theirs"}}, head_version=head_version)
            context = refused(answer, 409, "VERSION_CONFLICT")["context"]
            assert (context["version"], answer.headers["etag"], context["head"]["dose"]) == (4, '"4"', 15)
            assert context["conflict"] == resolved
    assert len(await ward.history(path)) == 4


async def test_of_two_who_decide_at_once_one_does(ward: Ward) -> None:
    path, conflict = await ward.disputed()
    choices = [{"take": "mine"}, {"take": "theirs"}, {"take": "base"}, {"value": 12}, {"value": 13}]
    answers = await asyncio.gather(*(ward.resolve(conflict, {"dose": choice}) for choice in choices))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    for answer in answers:
        if answer.status_code == 409:
            context = refused(answer, 409, "VERSION_CONFLICT")["context"]
            assert (context["version"], context["conflict"]) == (4, winner)
    assert len(await ward.history(path)) == 4


async def test_who_decides_while_another_edits_decides_about_what_they_saw(ward: Ward) -> None:
    """Whichever comes first: nobody's edit is lost."""
    for number in range(5):
        path, conflict = await ward.disputed(id=f"m-{number}")
        decided, edited = await asyncio.gather(
            ward.resolve(conflict, {"dose": {"take": "mine"}}),
            ward.amara("PATCH", path, {"base_version": 2, "title": "Metformin XR"}),
        )
        assert ok(edited)
        now = await ward.clinic.get(path)
        assert now["title"] == "Metformin XR"
        assert (now["dose"], "conflict_id" in now) == ((15, False) if decided.is_success else (20, True))


# -- deciding badly -----------------------------------------------------------------------------------------------


async def test_everything_that_is_wrong_with_a_decision_is_named_at_once(ward: Ward) -> None:
    path = await ward.medication()
    ok(await ward.amara("PATCH", path, {"base_version": 1, "dose": 20, "title": "A", "clinical_status": "active"}))
    body = {"base_version": 1, "dose": 15, "title": "B", "clinical_status": "stopped"}
    conflict = held(await ward.jonas("PATCH", path, body))
    assert names(conflict) == ["clinical_status", "dose", "title"]
    async with untouched(ward.clinic):
        answer = await ward.resolve(conflict, {"title": {"take": "yours"}, "colour": {"take": "mine"}, "dose": 15})
        error = refused(answer, 422, "INVALID_FIELDS", "choices.colour")
        assert {wrong["field"]: wrong["code"] for wrong in error["context"]["errors"]} == {
            "choices.colour": "unknown",
            "choices.clinical_status": "required",
            "choices.dose": "choice",
            "choices.title.take": "choice",
        }
        answer = await ward.resolve(
            conflict, {"title": {"value": 7}, "clinical_status": {"value": "a\nb"}, "dose": {"value": -1}}
        )
        error = refused(answer, 422, "INVALID_FIELDS", ANY)
        assert set(fields_of(error)) == {"choices.title", "choices.clinical_status", "choices.dose"}

        answer = await ward.clinic.call("POST", f"/v1/conflicts/{conflict['id']}/resolve", {"choices": [], "x": 1})
        error = refused(answer, 422, "INVALID_FIELDS", ANY)
        assert set(fields_of(error)) == {"head_version", "choices", "reason", "x"}


DEEP: Any = "x"
for _ in range(80):
    DEEP = [DEEP]

WRONG = {
    "nothing": ({}, "choices.dose"),
    "a list": ([{"dose": {"take": "mine"}}], "choices"),
    "a word": ("mine", "choices"),
    "null": (None, "choices"),
    "a bare side": ({"dose": "mine"}, "choices.dose"),
    "a bare value": ({"dose": 15}, "choices.dose"),
    "a null": ({"dose": None}, "choices.dose"),
    "an empty choice": ({"dose": {}}, "choices.dose"),
    "a list of choices": ({"dose": [{"take": "mine"}]}, "choices.dose"),
    "a side that there is not": ({"dose": {"take": "yours"}}, "choices.dose.take"),
    "a side in capitals": ({"dose": {"take": "MINE"}}, "choices.dose.take"),
    "no side": ({"dose": {"take": None}}, "choices.dose.take"),
    "a list of sides": ({"dose": {"take": ["mine"]}}, "choices.dose.take"),
    "an object for a side": ({"dose": {"take": {"mine": "mine"}}}, "choices.dose.take"),
    "a side and a value": ({"dose": {"take": "mine", "value": 15}}, "choices.dose"),
    "a value and more": ({"dose": {"value": 15, "unit": "mg"}}, "choices.dose"),
    "a branch alone": ({"dose": {"branch_version": 3}}, "choices.dose"),
    "half a surrogate pair for a branch": ({"dose": {"take": "mine", "branch_version": "\ud800"}}, ANY),
    "half a surrogate pair for a side": ({"dose": {"take": "\ud800"}}, "choices.dose.take"),
    "text for a number": ({"dose": {"value": "15"}}, "choices.dose"),
    "true for a number": ({"dose": {"value": True}}, "choices.dose"),
    "a number below nothing": ({"dose": {"value": -15}}, "choices.dose"),
    "a number beyond all measure": ({"dose": {"value": 2**53}}, "choices.dose"),
    "a list for a number": ({"dose": {"value": [15]}}, "choices.dose"),
    "an object for a number": ({"dose": {"value": {"value": 15}}}, "choices.dose"),
    "half a surrogate pair for a number": ({"dose": {"value": "\ud800"}}, "choices.dose"),
    "a NUL for a number": ({"dose": {"value": "\x00"}}, "choices.dose"),
    "a deep nest": ({"dose": {"value": DEEP}}, ANY),
    "a deep nest for a choice": ({"dose": DEEP}, "choices.dose"),
    "a long text": ({"dose": {"value": "x" * 1_000_000}}, "choices.dose"),
    "a field that nobody disputes": ({"dose": {"take": "mine"}, "title": {"value": "X"}}, "choices.title"),
    "its status": ({"dose": {"take": "mine"}, "status": {"value": "signed"}}, "choices.status"),
    "its kind": ({"dose": {"take": "mine"}, "kind": {"value": "note"}}, "choices.kind"),
    "its signature": ({"dose": {"take": "mine"}, "signed_by": {"value": "jonas"}}, "choices.signed_by"),
    "its patient": ({"dose": {"take": "mine"}, "patient_id": {"value": "tobi"}}, "choices.patient_id"),
    "its end": ({"dose": {"take": "mine"}, "deleted": {"value": True}}, "choices.deleted"),
    "a path into it": ({"dose": {"take": "mine"}, "dose.value": {"value": 1}}, "choices.dose.value"),
    "a path that is none": ({"dose": {"take": "mine"}, ".dose": {"value": 1}}, "choices..dose"),
    "a prototype": ({"dose": {"take": "mine"}, "values.__proto__": {"value": 1}}, "choices.values.__proto__"),
    "a class": ({"dose": {"take": "mine"}, "__class__": {"value": 1}}, "choices.__class__"),
    "no name": ({"dose": {"take": "mine"}, "": {"value": 1}}, "choices."),
    "half a surrogate pair for a name": ({"dose": {"take": "mine"}, "\ud800": {"value": 1}}, ANY),
    "a NUL in a name": ({"dose": {"take": "mine"}, "do\x00se": {"value": 1}}, ANY),
    "a long name": ({"dose": {"take": "mine"}, "x" * 100_000: {"value": 1}}, ANY),
    "many names": ({"dose": {"take": "mine"}, **{f"x{number}": 1 for number in range(2_000)}}, ANY),
    "the name in capitals": ({"Dose": {"take": "mine"}}, "choices.Dose"),
}


@pytest.mark.parametrize(("choices", "field"), WRONG.values(), ids=WRONG.keys())
async def test_a_choice_that_is_none_is_named_and_decides_nothing(ward: Ward, choices: Any, field: Any) -> None:
    _, conflict = await ward.disputed()
    async with untouched(ward.clinic):
        refused(await ward.resolve(conflict, choices), 422, "INVALID_FIELDS", field)


SAID = {
    "head_version": [None, 0, -1, 1.5, "2", True, [2], 2**31, {}],
    "reason": [None, "", "   ", "\n", 7, ["why"], "x" * 2_001, "\x00", "\ud800"],
    "client_time": ["soon", "2026-03-01", 7],
    "state": ["resolved"],
    "base_version": [2],
    "practice_id": ["another"],
}


@pytest.mark.parametrize(("field", "values"), SAID.items(), ids=SAID.keys())
async def test_what_else_is_said_about_a_decision_is_checked(ward: Ward, field: str, values: list[Any]) -> None:
    _, conflict = await ward.disputed()
    async with untouched(ward.clinic):
        for value in values:
            answer = await ward.resolve(conflict, {"dose": {"take": "mine"}}, **{field: value})
            refused(answer, 422, "INVALID_FIELDS", field)


RAW = {
    "NaN": b'{"head_version": 2, "reason": "r", "choices": {"dose": {"value": NaN}}}',
    "Infinity": b'{"head_version": 2, "reason": "r", "choices": {"dose": {"value": Infinity}}}',
    "a name twice": b'{"head_version": 2, "reason": "r", "choices": {"dose": {"value": 1}, "dose": {"value": 2}}}',
    "a side twice": b'{"head_version": 2, "reason": "r", "choices": {"dose": {"take": "mine", "take": "base"}}}',
    "a nest without end": b'{"head_version": 2, "reason": "r", "choices": {"dose": {"value": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", RAW.values(), ids=RAW.keys())
async def test_what_is_no_json_decides_nothing(ward: Ward, body: bytes) -> None:
    _, conflict = await ward.disputed()
    async with untouched(ward.clinic):
        answer = await ward.clinic.call("POST", f"/v1/conflicts/{conflict['id']}/resolve", raw=body)
        refused(answer, 400, "MALFORMED_JSON")


async def test_a_number_beyond_all_measure_decides_nothing(ward: Ward) -> None:
    _, conflict = await ward.disputed()
    async with untouched(ward.clinic):
        for number in (b"1e400", b"-1e400", b"9" * 400):
            body = b'{"head_version": 2, "reason": "r", "choices": {"dose": {"value": ' + number + b"}}}"
            answer = await ward.clinic.call("POST", f"/v1/conflicts/{conflict['id']}/resolve", raw=body)
            refused(answer, 422, "INVALID_FIELDS", "choices.dose")


async def test_there_is_no_deciding_about_what_is_not_there(clinic: Clinic) -> None:
    body = {"head_version": 1, "choices": {}, "reason": "why"}
    refused(await clinic.call("POST", "/v1/conflicts/nothing/resolve", body), 404, "NOT_FOUND")
    refused(await clinic.call("GET", "/v1/conflicts/nothing"), 404, "NOT_FOUND")
    for bad in ("a_b", "%00", "a%0A", "x" * 65):
        refused(await clinic.call("GET", f"/v1/conflicts/{bad}"), 422, "INVALID_FIELDS", "conflict_id")
        refused(await clinic.call("POST", f"/v1/conflicts/{bad}/resolve", body), 422, "INVALID_FIELDS", "conflict_id")


# -- whatever else ------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(categories=("L", "N", "P", "C")), max_size=8)
WORDS = st.sampled_from(["take", "value", "branch_version", "mine", "theirs", "base", "dose", "deleted", "values.x"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.integers(0, 5) | TEXTS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["dose", "deleted", "values.__proto__", "status", "kind", "dose.value", "title"]) | TEXTS
BODIES = st.fixed_dictionaries(
    {"reason": st.just("why") | ANYTHING, "choices": st.dictionaries(NAMES, ANYTHING, max_size=4) | ANYTHING},
    optional={"head_version": st.just(9) | ANYTHING, "client_time": ANYTHING},
)


@pytest.fixture(scope="module")
async def disputed(new_clinic: NewClinic) -> tuple[Clinic, str]:
    """A conflict that nothing below may decide: the head is at version 2 and the bodies say anything but that."""
    clinic = await new_clinic()
    await clinic.patient(id="ngozi")
    await clinic.record("ngozi", **METFORMIN, id="r-1")
    await clinic.changed("/v1/records/r-1", 1, dose=20)
    late = {"base_version": 1, "dose": 15}
    conflict = held(await clinic.call("PATCH", "/v1/records/r-1", late, token=await clinic.token_for(device="tablet")))
    return clinic, f"/v1/conflicts/{conflict['id']}/resolve"


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=BODIES)
@example(body={"head_version": 2, "reason": "why", "choices": {"\ud800": {"take": "mine"}}})
@example(body={"head_version": 2, "reason": "why", "choices": {"dose": {"take": "mine"}, "x": {"\ud800": "\ud800"}}})
async def test_no_body_breaks_a_decision(disputed: tuple[Clinic, str], body: Any) -> None:
    clinic, path = disputed
    for head_version in (2, body.get("head_version")):
        sent = {**body, "head_version": head_version}
        if isinstance(sent["choices"], dict) and sent["choices"].keys() == {"dose"}:
            sent["choices"] = {**sent["choices"], "nothing": None}
        raw = json.dumps(sent, ensure_ascii=True).encode()
        answer = await clinic.call("POST", path, raw=raw)
        assert answer.status_code < 500, (sent, answer.text)
        refused(answer, answer.status_code, ANY, ANY)


async def test_after_all_of_that_it_is_still_undecided(disputed: tuple[Clinic, str]) -> None:
    clinic, path = disputed
    conflict = await clinic.get(path.removesuffix("/resolve"))
    assert (conflict["state"], conflict["head_version"]) == ("open", 2)
    assert len((await clinic.get("/v1/records/r-1/history"))["items"]) == 3
