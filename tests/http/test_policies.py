"""Policies over HTTP: read, tightened, never loosened, and what a practice's own mean for its merges."""

import asyncio
import json
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heallog.application.policies import DECLARED
from heallog.domain import patients, records
from heallog.domain.access import Role
from heallog.domain.policies import Policy

from .clinic import Clinic, NewClinic, fields_of, refused

PATH = "/v1/practice/policies"
NGOZI = "/v1/patients/ngozi"


async def tighten(clinic: Clinic, base_version: int = 0, **fields: dict[str, str]) -> dict[str, Any]:
    answer = await clinic.call("PUT", PATH, {"base_version": base_version, "reason": "wrong numbers", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def calls(clinic: Clinic, device: str, path: str, **changes: Any) -> Any:
    """A change of version 1 from one device."""
    return await clinic.call("PATCH", path, {"base_version": 1, **changes}, token=await clinic.token_for(device=device))


def differing(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Which policies are others, by path, before and after."""
    return {
        f"{collection}.{name}": (policy, other[collection][name])
        for collection in DECLARED
        for name, policy in one[collection].items()
        if policy != other[collection][name]
    }


# -- reading ------------------------------------------------------------------------------------------------------


async def test_every_field_has_a_policy(clinic: Clinic) -> None:
    answer = await clinic.call("GET", PATH)
    policies = answer.json()
    assert answer.headers["etag"] == '"0"'
    assert policies.keys() == {"version", "patients", "records"}
    assert policies["version"] == 0
    assert policies["patients"].keys() == patients.FIELDS.keys()
    assert policies["records"].keys() == records.ANY.keys()
    assert {*policies["patients"].values(), *policies["records"].values()} == set(Policy)
    assert policies["patients"].items() >= {"phone": "lww", "family_name": "manual", "tags": "add_wins_set"}.items()
    assert policies["records"].items() >= {"dose": "atomic_group", "text": "text", "status": "monotone"}.items()


@pytest.mark.parametrize("role", Role)
async def test_everybody_may_know_and_only_the_owner_may_set(clinic: Clinic, role: Role) -> None:
    token = await clinic.token_for(role)
    for path in (PATH, f"{PATH}/history"):
        assert (await clinic.call("GET", path, token=token)).status_code == 200
    body = {"base_version": 0, "reason": "wrong numbers", "patients": {"phone": "manual"}}
    answer = await clinic.call("PUT", PATH, body, token=token)
    if role is Role.OWNER:
        assert answer.status_code == 200
    else:
        assert refused(answer, 403, "FORBIDDEN")["context"] == {"permission": "policies.set"}
    assert (await clinic.get(PATH))["version"] == (1 if role is Role.OWNER else 0)


# -- tightening ---------------------------------------------------------------------------------------------------


async def test_what_is_tightened_is_in_force_and_the_rest_as_declared(clinic: Clinic) -> None:
    before = await clinic.get(PATH)
    body = {
        "base_version": 0,
        "reason": "wrong numbers",
        "patients": {"phone": "manual"},
        "records": {"text": "manual"},
    }
    answer = await clinic.call("PUT", PATH, body)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    after = await clinic.get(PATH)
    assert answer.json() == after
    assert after["version"] == 1
    assert differing(before, after) == {"patients.phone": ("lww", "manual"), "records.text": ("text", "manual")}


async def test_what_is_left_out_is_as_declared_again(clinic: Clinic) -> None:
    before = await clinic.get(PATH)
    await tighten(clinic, patients={"phone": "manual", "email": "manual"}, records={"tags": "manual"})
    after = await tighten(clinic, 1, patients={"email": "manual"})
    assert differing(before, after) == {"patients.email": ("lww", "manual")}
    assert differing(before, await tighten(clinic, 2)) == {}


async def test_nothing_is_gained_by_asking_for_what_is_so_already(clinic: Clinic) -> None:
    before = await clinic.get(PATH)
    assert differing(before, await tighten(clinic, patients={"family_name": "manual"})) == {}


@pytest.mark.parametrize("base_version", [0, 2, 9])
async def test_who_saw_other_policies_is_told_the_number_of_these(clinic: Clinic, base_version: int) -> None:
    await tighten(clinic, patients={"phone": "manual"})
    written = await clinic.rows()
    body = {"base_version": base_version, "reason": "why", "patients": {"email": "manual"}}
    answer = await clinic.call("PUT", PATH, body)
    assert refused(answer, 409, "VERSION_CONFLICT")["context"] == {"version": 1}
    assert answer.headers["etag"] == '"1"'
    assert await clinic.rows() == written
    assert (await clinic.get(PATH))["patients"]["email"] == "lww"


async def test_of_two_who_tighten_at_once_one_does(clinic: Clinic) -> None:
    fields = ("phone", "email", "address", "language", "notes")
    answers = await asyncio.gather(
        *(
            clinic.call("PUT", PATH, {"base_version": 0, "reason": name, "patients": {name: "manual"}})
            for name in fields
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    for late in (answer for answer in answers if answer.status_code == 409):
        assert refused(late, 409, "VERSION_CONFLICT")["context"] == {"version": 1}
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    assert await clinic.get(PATH) == winner
    assert len((await clinic.get(f"{PATH}/history"))["items"]) == 1


# -- what they mean -----------------------------------------------------------------------------------------------


async def test_a_phone_that_people_decide_about_is_not_overwritten(clinic: Clinic) -> None:
    await clinic.patient(id="ngozi")
    await tighten(clinic, patients={"phone": "manual"})
    assert (await calls(clinic, "tablet", NGOZI, phone="0199")).status_code == 200
    context = refused(await calls(clinic, "phone", NGOZI, phone="0200", email="n@example.org"), 409, "VERSION_CONFLICT")
    conflict = context["context"]["conflict"]
    (disputed,) = conflict["fields"]
    assert (disputed["field"], disputed["policy"], disputed["severity"]) == ("phone", "manual", "hard")
    now = await clinic.get(NGOZI)
    assert (now["phone"], now["email"]) == ("0199", "n@example.org")


async def test_a_text_and_tags_that_people_decide_about_are_not_merged(clinic: Clinic) -> None:
    await clinic.patient(id="ngozi")
    await tighten(clinic, records={"text": "manual", "tags": "manual", "remaining": "manual"})
    made = await clinic.record("ngozi", kind="medication", text="One.\nTwo.\nThree.\n", tags=["a"], remaining=30)
    path = f"/v1/records/{made['id']}"
    await calls(clinic, "tablet", path, text="1.\nTwo.\nThree.\n", tags=["a", "b"], remaining=28)
    late = await calls(clinic, "phone", path, text="One.\nTwo.\n3.\n", tags=["a", "c"], remaining=29)
    conflict = refused(late, 409, "VERSION_CONFLICT")["context"]["conflict"]
    assert {disputed["field"]: disputed["policy"] for disputed in conflict["fields"]} == {
        "remaining": "manual",
        "tags": "manual",
        "text": "manual",
    }
    assert (await clinic.get(path))["remaining"] == 28


async def test_what_only_one_side_changed_is_merged_whatever_the_policy(clinic: Clinic) -> None:
    await clinic.patient(id="ngozi")
    await tighten(clinic, patients={"phone": "manual", "address": "manual"})
    await calls(clinic, "tablet", NGOZI, phone="0199")
    merged = await calls(clinic, "phone", NGOZI, address={"city": "Enugu"})
    assert (merged.status_code, merged.json()["merged_from"]) == (200, [2, 3])


async def test_what_is_loosened_again_is_merged_again(clinic: Clinic) -> None:
    await clinic.patient(id="ngozi")
    await tighten(clinic, patients={"phone": "manual"})
    await tighten(clinic, 1)
    await calls(clinic, "tablet", NGOZI, phone="0199")
    assert (await calls(clinic, "phone", NGOZI, phone="0200")).json()["phone"] == "0200"


async def test_one_practices_policies_are_no_others(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    await tighten(elsewhere, patients={"phone": "manual"})
    assert (await clinic.get(PATH))["version"] == 0
    assert (await clinic.get(f"{PATH}/history"))["items"] == []
    await clinic.patient(id="ngozi")
    await calls(clinic, "tablet", NGOZI, phone="0199")
    assert (await calls(clinic, "phone", NGOZI, phone="0200")).json()["phone"] == "0200"


def asked(loosest: frozenset[str]) -> list[tuple[str, str]]:
    return [
        (collection, name)
        for collection, rules in DECLARED.items()
        for name, rule in rules.items()
        if rule.policy in loosest
    ]


MERGEABLE = frozenset({Policy.LWW, Policy.SET, Policy.TEXT, Policy.COUNTER, Policy.MANUAL})


async def test_whatever_was_accepted_late_edits_of_every_kind_are_still_answered(clinic: Clinic) -> None:
    """Everything that can be asked for is, for every kind; a field may belong to several, with other policies."""
    fields: dict[str, dict[str, str]] = {"patients": {}, "records": {}}
    for collection, name in asked(MERGEABLE):
        body = {"base_version": 0, "reason": "why", collection: {name: "manual"}}
        trial = await clinic.call("PUT", PATH, {**body, "base_version": 9})
        if trial.status_code == 409:
            fields[collection][name] = "manual"
    await tighten(clinic, **fields)
    await clinic.patient(id="ngozi")
    await calls(clinic, "tablet", NGOZI, birth_date="1984")
    assert (await calls(clinic, "phone", NGOZI, email="n@example.org")).status_code == 200
    for kind in records.KINDS:
        made = await clinic.record("ngozi", kind=kind, text="Well.")
        path = f"/v1/records/{made['id']}"
        await calls(clinic, "tablet", path, title="Another")
        late = await calls(clinic, "phone", path, occurred_at="2026-03-01")
        assert late.status_code == 200, (kind, late.text)


async def test_a_dose_and_its_route_stay_one_value_whatever_is_asked(clinic: Clinic) -> None:
    """`route` is a field of its own in an immunization, and a part of the dosage in a medication."""
    body = {"base_version": 0, "reason": "why", "records": {"route": "manual"}}
    answer = await clinic.call("PUT", PATH, body)
    assert answer.status_code in {200, 422}
    await clinic.patient(id="ngozi")
    made = await clinic.record("ngozi", kind="medication", dose=10, route="oral")
    path = f"/v1/records/{made['id']}"
    await calls(clinic, "tablet", path, dose=20)
    late = await calls(clinic, "phone", path, route="rectal")
    conflict = refused(late, 409, "VERSION_CONFLICT")["context"]["conflict"]
    assert {disputed["group"] for disputed in conflict["fields"]} == {"dosage"}


# -- what cannot be asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.MANUAL])
async def test_nothing_is_ever_loosened(clinic: Clinic, policy: str) -> None:
    for collection, name in (
        ("patients", "birth_date"),
        ("patients", "phone"),
        ("records", "dose"),
        ("records", "tags"),
    ):
        body = {"base_version": 0, "reason": "why", collection: {name: policy}}
        refused(await clinic.call("PUT", PATH, body), 422, "INVALID_FIELDS", f"{collection}.{name}")
    assert (await clinic.get(PATH))["version"] == 0


@pytest.mark.parametrize(
    ("collection", "name"), asked(frozenset({Policy.GROUP, Policy.IMMUTABLE, Policy.MONOTONE, Policy.DERIVED}))
)
async def test_manual_is_no_tightening_of_what_is_stricter(clinic: Clinic, collection: str, name: str) -> None:
    body = {"base_version": 0, "reason": "why", collection: {name: "manual"}}
    refused(await clinic.call("PUT", PATH, body), 422, "INVALID_FIELDS", f"{collection}.{name}")


WRONG = {
    "no reason": ({"reason": None}, "reason"),
    "an empty reason": ({"reason": "  "}, "reason"),
    "no base": ({"base_version": None}, "base_version"),
    "a base below nothing": ({"base_version": -1}, "base_version"),
    "half a base": ({"base_version": 0.5}, "base_version"),
    "a base in words": ({"base_version": "0"}, "base_version"),
    "true for a base": ({"base_version": True}, "base_version"),
    "a list": ({"patients": ["phone"]}, "patients"),
    "a word": ({"patients": "manual"}, "patients"),
    "an unknown field": ({"patients": {"shoe_size": "manual"}}, "patients.shoe_size"),
    "another noun's field": ({"patients": {"dose": "manual"}}, "patients.dose"),
    "a path": ({"records": {"values.systolic": "manual"}}, "records.values.systolic"),
    "a prototype": ({"records": {"__proto__": "manual"}}, "records.__proto__"),
    "an unknown noun": ({"sessions": {"id": "manual"}}, "sessions"),
    "a policy that there is not": ({"patients": {"phone": "strict"}}, "patients.phone"),
    "a policy in capitals": ({"patients": {"phone": "MANUAL"}}, "patients.phone"),
    "true": ({"patients": {"phone": True}}, "patients.phone"),
    "a list of policies": ({"patients": {"phone": ["manual"]}}, "patients.phone"),
    "half a surrogate pair": ({"patients": {"phone": "\ud800"}}, "patients.phone"),
    "half a surrogate pair for a name": ({"patients": {"\ud800": "manual"}}, ANY),
    "half a surrogate pair for a noun": ({"\ud800": {}}, ANY),
    "its number": ({"version": 7}, "version"),
}


@pytest.mark.parametrize(("said", "field"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_wrong_is_named_and_sets_nothing(clinic: Clinic, said: dict[str, Any], field: Any) -> None:
    answer = await clinic.call("PUT", PATH, {"base_version": 0, "reason": "why", **said})
    refused(answer, 422, "INVALID_FIELDS", field)
    assert (await clinic.get(PATH))["version"] == 0


async def test_everything_that_is_wrong_is_named_at_once(clinic: Clinic) -> None:
    body = {"reason": 7, "patients": {"phone": "lww", "x": "manual"}, "records": {"dose": "lww"}, "y": 1}
    error = refused(await clinic.call("PUT", PATH, body), 422, "INVALID_FIELDS", ANY)
    assert set(fields_of(error)) == {"base_version", "reason", "patients.phone", "patients.x", "records.dose", "y"}
    body = {"base_version": 0, "reason": "why", "patients": {"deceased": "manual"}, "records": {"dose": "manual"}}
    error = refused(await clinic.call("PUT", PATH, body), 422, "INVALID_FIELDS", ANY)
    assert set(fields_of(error)) == {"patients.deceased", "records.dose"}


TEXTS = st.text(st.characters(categories=("L", "N", "P", "C")), max_size=6)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**54) | TEXTS | st.sampled_from(list(Policy)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(["phone", "dose"]), inner),
    max_leaves=6,
)


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    body=st.dictionaries(st.sampled_from(["reason", "patients", "records", "base_version"]) | TEXTS, ANYTHING)
    | ANYTHING.map(lambda value: {"reason": "why", "base_version": 0, "patients": value})
)
@example(body={"base_version": 0, "reason": "why", "patients": {"\ud800": {"\ud800": None}}})
async def test_no_body_breaks_anything(clinic: Clinic, body: Any) -> None:
    answer = await clinic.call("PUT", PATH, raw=json.dumps(body, ensure_ascii=True).encode())
    assert answer.status_code < 500, (body, answer.text)
    if not answer.is_success:
        refused(answer, answer.status_code, ANY, ANY)


# -- looking back -------------------------------------------------------------------------------------------------


async def test_every_setting_is_kept_with_who_and_why(clinic: Clinic) -> None:
    await tighten(clinic, patients={"phone": "manual"})
    await clinic.call("PUT", PATH, {"base_version": 1, "reason": "enough", "records": {"text": "manual"}})
    history = await clinic.get(f"{PATH}/history")
    assert history["next_cursor"] is None
    times = [item.pop("at") for item in history["items"]]
    assert times == sorted(times, reverse=True)
    assert history["items"] == [
        {"version": 2, "account_id": clinic.account_id, "reason": "enough", "records": {"text": "manual"}},
        {"version": 1, "account_id": clinic.account_id, "reason": "wrong numbers", "patients": {"phone": "manual"}},
    ]


async def test_settings_come_newest_first_and_page_by_page(clinic: Clinic) -> None:
    for number in range(5):
        await tighten(clinic, number)
    numbers: list[list[int]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await clinic.get(f"{PATH}/history?limit=2{cursor and f'&cursor={cursor}'}")
        numbers.append([item["version"] for item in page["items"]])
        cursor = page["next_cursor"]
    assert numbers == [[5, 4], [3, 2], [1]]
