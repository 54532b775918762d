"""Importing FHIR over HTTP: what can be taken is taken, the rest is named, and nobody's work is overwritten."""

import asyncio
import base64
import json
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heallog.domain.access import Role

from .clinic import Clinic, NewClinic, refused

NGOZI = {
    "resourceType": "Patient",
    "id": "ngozi",
    "name": [{"use": "official", "family": "Obi", "given": ["Ngozi", "Ada"], "prefix": ["Dr."]}],
    "birthDate": "1984-02-29",
    "gender": "female",
    "identifier": [{"system": "urn:example:mrn", "value": "H-20117"}],
    "telecom": [{"system": "phone", "value": "+234 803 555 0142"}],
    "address": [{"city": "Enugu", "country": "NG", "line": ["1 Hill Rd"]}],
}
PRESSURE = {
    "resourceType": "Observation",
    "id": "bp-1",
    "status": "final",
    "category": [{"coding": [{"code": "vital-signs", "display": "Vital signs"}]}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"}]},
    "subject": {"reference": "Patient/ngozi"},
    "effectiveDateTime": "2026-03-01T10:30:00+01:00",
    "component": [
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6", "display": "Systolic"}]},
            "valueQuantity": {"value": 128, "unit": "mm[Hg]"},
        },
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8462-4", "display": "Diastolic"}]},
            "valueQuantity": {"value": 82.5, "unit": "mm[Hg]"},
        },
    ],
}
ALLERGY = {
    "resourceType": "AllergyIntolerance",
    "id": "al-1",
    "clinicalStatus": {"coding": [{"code": "active"}]},
    "verificationStatus": {"coding": [{"code": "confirmed"}]},
    "criticality": "unable-to-assess",
    "category": ["medication"],
    "code": {"coding": [{"system": "http://snomed.info/sct", "code": "91936005"}], "text": "Penicillin"},
    "patient": {"reference": "Patient/ngozi"},
    "recordedDate": "2019-05",
    "reaction": [{"manifestation": [{"text": "Hives"}], "severity": "severe"}],
}
TEXT = "Slept well.\nÜber Nacht kein Fieber. Ọ dị mma."


def note(**attachment: Any) -> dict[str, Any]:
    data = base64.b64encode(TEXT.encode()).decode()
    return {
        "resourceType": "DocumentReference",
        "id": "doc-1",
        "status": "current",
        "type": {"text": "Progress note"},
        "subject": {"reference": "Patient/ngozi"},
        "date": "2026-03-01T08:00:00Z",
        "content": [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": data, **attachment}}],
    }


def bundle(*resources: Any, type: str = "collection") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type, "entry": [{"resource": resource} for resource in resources]}


async def imported(clinic: Clinic, *resources: Any) -> dict[str, Any]:
    """The report of importing these as one Bundle."""
    answer = await clinic.call("POST", "/v1/import/fhir", bundle(*resources))
    assert answer.status_code == 200, answer.text
    return answer.json()


def tally(**counts: int) -> dict[str, int]:
    """The counts of one type; `read` is their sum."""
    names = ("created", "updated", "unchanged", "refused", "not_mapped")
    return dict.fromkeys(names, 0) | counts | {"read": sum(counts.values())}


async def the_one_record(clinic: Clinic, patient_id: str = "ngozi", **fields: Any) -> dict[str, Any]:
    (record,) = (await clinic.get(f"/v1/patients/{patient_id}/records"))["items"]
    assert record.items() >= fields.items()
    return record


# -- what arrives -------------------------------------------------------------------------------------------------


async def test_a_report_counts_what_became_of_each_type(clinic: Clinic) -> None:
    report = await imported(clinic, PRESSURE, ALLERGY, NGOZI, note())
    one = tally(created=1)
    assert report == {
        "types": {"AllergyIntolerance": one, "DocumentReference": one, "Observation": one, "Patient": one},
        "refused": 0,
        "refusals": [],
    }
    assert len((await clinic.get("/v1/patients/ngozi/records"))["items"]) == 3


async def test_a_patient_arrives_with_name_numbers_and_address(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    ngozi = await clinic.get("/v1/patients/ngozi")
    assert (
        ngozi.items()
        >= {
            "family_name": "Obi",
            "given_name": "Ngozi Ada",
            "prefix": "Dr.",
            "birth_date": "1984-02-29",
            "sex": "female",
            "phone": "+234 803 555 0142",
            "identifiers": [{"system": "urn:example:mrn", "value": "H-20117"}],
            "address": {"city": "Enugu", "country": "NG", "lines": ["1 Hill Rd"]},
            "version": 1,
        }.items()
    )
    assert [item["id"] for item in (await clinic.get("/v1/patients?q=H-20117"))["items"]] == ["ngozi"]


async def test_a_measurement_arrives_with_its_components(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, PRESSURE)
    record = await the_one_record(
        clinic,
        kind="observation",
        status="signed",
        title="Blood pressure panel",
        occurred_at="2026-03-01T09:30:00.000Z",
        code={"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel"},
        patient_id="ngozi",
    )
    values = record["values"]
    assert (values["systolic"]["value"], values["systolic"]["unit"]) == (128, "mm[Hg]")
    assert (values["diastolic"]["value"], values["diastolic"]["unit"]) == (82.5, "mm[Hg]")
    assert values["systolic"]["code"]["code"] == "8480-6"


async def test_a_note_arrives_as_text(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, note())
    await the_one_record(clinic, kind="note", title="Progress note", text=TEXT, status="signed")


async def test_an_allergy_arrives_with_what_it_does(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, ALLERGY)
    await the_one_record(
        clinic,
        kind="allergy",
        substance="Penicillin",
        criticality="unable_to_assess",
        severity="severe",
        reactions=["Hives"],
        categories=["medication"],
        clinical_status="active",
        verification="confirmed",
        occurred_at="2019-05",
        status="draft",
    )


async def test_a_version_says_that_it_was_imported_and_by_whom(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    (version,) = (await clinic.get("/v1/patients/ngozi/history"))["items"]
    assert (version["change"], version["author_id"]) == ("import", clinic.account_id)


@pytest.mark.parametrize("kind", ["collection", "transaction", "batch", "searchset", "document", None])
async def test_a_bundle_may_be_of_any_type(clinic: Clinic, kind: str | None) -> None:
    body = bundle(NGOZI) | {"type": kind}
    answer = await clinic.call("POST", "/v1/import/fhir", body)
    assert answer.json()["types"] == {"Patient": tally(created=1)}


async def test_a_transaction_refers_to_its_own_entries_by_urn(clinic: Clinic) -> None:
    mother = {key: value for key, value in NGOZI.items() if key != "id"}
    url = "urn:uuid:7f3a1c9e-4b1d-4a5e-9a44-0c8f3f1d2b10"
    body = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "resource": {**PRESSURE, "subject": {"reference": url}},
                "request": {"method": "POST", "url": "Observation"},
            },
            {"fullUrl": url, "resource": mother, "request": {"method": "POST", "url": "Patient"}},
        ],
    }
    answer = await clinic.call("POST", "/v1/import/fhir", body)
    assert answer.json()["refusals"] == []
    record = await the_one_record(clinic, url.removeprefix("urn:uuid:"))
    assert record["patient_id"] == url.removeprefix("urn:uuid:")


async def test_one_resource_alone_needs_no_bundle(clinic: Clinic) -> None:
    answer = await clinic.call("POST", "/v1/import/fhir", NGOZI, headers={"Content-Type": "application/fhir+json"})
    assert answer.json()["types"] == {"Patient": tally(created=1)}


async def test_an_empty_bundle_is_no_work(clinic: Clinic) -> None:
    for body in ({"resourceType": "Bundle"}, bundle(), {"resourceType": "Bundle", "entry": None}):
        answer = await clinic.call("POST", "/v1/import/fhir", body)
        assert (answer.status_code, answer.json()) == (200, {"types": {}, "refused": 0, "refusals": []})


async def test_what_has_no_place_here_is_counted(clinic: Clinic) -> None:
    practitioner = {"resourceType": "Practitioner", "id": "dr-okafor"}
    report = await imported(clinic, practitioner, {**practitioner, "id": "dr-ito"}, NGOZI)
    assert report["types"] == {"Patient": tally(created=1), "Practitioner": tally(not_mapped=2)}
    assert report["refusals"] == []


# -- again --------------------------------------------------------------------------------------------------------


async def test_the_second_time_changes_nothing(clinic: Clinic) -> None:
    everything = (NGOZI, PRESSURE, ALLERGY, note())
    await imported(clinic, *everything)
    written = await clinic.rows()
    report = await imported(clinic, *everything)
    assert set(report["types"]) == {"AllergyIntolerance", "DocumentReference", "Observation", "Patient"}
    assert all(counts == tally(unchanged=1) for counts in report["types"].values())
    assert await clinic.rows() == written


async def test_what_changed_elsewhere_is_a_new_version_here(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, PRESSURE)
    report = await imported(clinic, {**NGOZI, "gender": "other"}, {**PRESSURE, "status": "amended"})
    assert report["types"] == {"Patient": tally(updated=1), "Observation": tally(updated=1)}
    ngozi = await clinic.get("/v1/patients/ngozi")
    assert (ngozi["version"], ngozi["sex"]) == (2, "other")
    await the_one_record(clinic, version=2, status="amended")


async def test_two_who_import_the_same_at_once_import_it_once(clinic: Clinic) -> None:
    reports = await asyncio.gather(*(imported(clinic, NGOZI, PRESSURE) for _ in range(4)))
    outcomes = [report["types"]["Observation"] for report in reports]
    assert sum(outcome["created"] for outcome in outcomes) == 1
    assert sum(outcome["unchanged"] for outcome in outcomes) == 3
    assert (await clinic.get("/v1/patients/ngozi"))["version"] == 1


async def test_one_id_twice_in_a_bundle_is_two_versions_in_their_order(clinic: Clinic) -> None:
    report = await imported(clinic, NGOZI, {**NGOZI, "gender": "other"})
    assert report["types"] == {"Patient": tally(created=1, updated=1)}
    assert (await clinic.get("/v1/patients/ngozi"))["sex"] == "other"


async def test_each_practice_imports_for_itself(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    for practice in (clinic, elsewhere):
        report = await imported(practice, NGOZI, PRESSURE)
        assert report["types"] == {"Patient": tally(created=1), "Observation": tally(created=1)}


# -- the source ---------------------------------------------------------------------------------------------------

ODD = (
    rb'{ "resourceType":"Observation","id" : "bp-1",  "status":"final", "subject":{"reference":"Patient/ngozi"},'
    rb'"code":{"text":"K\u00f6rper\u0067r\u00f6\u00dfe / \/ \ud83d\ude00"},"valueQuantity":{"value":1.80,"unit":"m"},'
    b'\n\t"extension": [{"url": "urn:x", "valueDecimal": 1e2},'
    b'{"url":"urn:y","valueString":"caf\xc3\xa9 \xf0\x9f\x98\x80"}] }'
)


async def test_the_source_is_kept_byte_for_byte(clinic: Clinic) -> None:
    """Spaces, escapes, the zeros of a decimal: whatever was signed elsewhere still verifies."""
    body = b'{"resourceType": "Bundle", "entry": [{"resource": ' + json.dumps(NGOZI).encode() + b'},{"resource":'
    answer = await clinic.call("POST", "/v1/import/fhir", raw=body + ODD + b"}]}")
    assert answer.json()["refusals"] == []
    record = await the_one_record(clinic, title="Körpergröße / / 😀")
    assert record["values"] == {"value": {"value": 1.8, "unit": "m"}}
    version = await clinic.call("GET", f"/v1/records/{record['id']}/versions/1")
    assert b'"source":' + ODD in version.content
    assert version.json()["source"]["valueQuantity"]["value"] == 1.8


async def test_the_source_of_each_version_is_kept_and_a_persons_change_has_none(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    await imported(clinic, {**NGOZI, "gender": "other"})
    await clinic.changed("/v1/patients/ngozi", 2, phone="0199")
    sources = [(await clinic.get(f"/v1/patients/ngozi/versions/{number}"))["source"] for number in (1, 2, 3)]
    assert sources == [NGOZI, {**NGOZI, "gender": "other"}, None]


async def test_lists_and_heads_do_not_carry_the_source(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, PRESSURE)
    for path in ("/v1/patients/ngozi", "/v1/patients", "/v1/patients/ngozi/history", "/v1/patients/ngozi/records"):
        assert "source" not in json.dumps(await clinic.get(path))


# -- what is refused ----------------------------------------------------------------------------------------------


def only_refusal(report: dict[str, Any], **said: Any) -> str:
    """The reason of the one refusal, which stood where it says."""
    (refusal,) = report["refusals"]
    assert report["refused"] == 1
    assert refusal.keys() == {"where", "type", "id", "reason"}
    assert refusal.items() >= said.items()
    return refusal["reason"]


async def test_what_is_refused_is_named_and_the_rest_is_taken(clinic: Clinic) -> None:
    bad = {**PRESSURE, "id": "bp-2", "valueQuantity": {"value": "high"}}
    report = await imported(clinic, NGOZI, PRESSURE, bad, ALLERGY)
    assert report["types"]["Observation"] == tally(created=1, refused=1)
    reason = only_refusal(report, where="entry 2", type="Observation", id="bp-2")
    assert "valueQuantity.value" in reason
    assert len((await clinic.get("/v1/patients/ngozi/records"))["items"]) == 2


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({**PRESSURE, "id": None}, "id"),
    "an id that FHIR forbids": ({**PRESSURE, "id": "a_b"}, "id"),
    "no patient": ({**PRESSURE, "subject": None}, "subject"),
    "a patient by name only": ({**PRESSURE, "subject": {"display": "Ngozi"}}, "subject"),
    "a patient who is not here": ({**PRESSURE, "subject": {"reference": "Patient/tobi"}}, "patient tobi"),
    "a group": ({**PRESSURE, "subject": {"reference": "Group/ward-3"}}, "Group"),
    "a patient by a urn that leads nowhere": ({**PRESSURE, "subject": {"reference": "urn:uuid:x"}}, "subject"),
    "bad base64": (note(data="%%%"), "content.0.attachment.data"),
    "base64 that is cut off": (note(data="U2xlcHQgd2Vsb"), "content.0.attachment.data"),
    "text that is not in its charset": (note(data=base64.b64encode(b"\xff\xfe\xfa").decode()), "data"),
    "an unknown charset": (note(contentType="text/plain; charset=klingon"), "klingon"),
    "a NUL in a note": (note(data=base64.b64encode(b"a\x00b").decode()), "text"),
    "a note that is too long": (note(data=base64.b64encode(b"x" * 100_001).decode()), "text"),
    "a date that is none": ({**PRESSURE, "effectiveDateTime": "2026-02-30"}, "occurred_at"),
    "a time without offset": ({**PRESSURE, "effectiveDateTime": "2026-02-28T09:30:00"}, "occurred_at"),
    "a number beyond all measure": (
        {**PRESSURE, "component": None, "valueQuantity": {"value": 2**53}},
        "valueQuantity.value",
    ),
    "a NUL": ({**PRESSURE, "code": {"text": "\x00"}}, "title"),
    "a list for an object": ({**PRESSURE, "code": [{"text": "Pressure"}]}, "code"),
    "a modifier that is not understood": ({**PRESSURE, "modifierExtension": [{"url": "urn:x"}]}, "modifierExtension"),
    "two values": ({**PRESSURE, "valueString": "a", "valueBoolean": True}, "value[x]"),
    "a criticality that there is not": ({**ALLERGY, "criticality": "deadly"}, "criticality"),
    "an end before the start": (
        {"resourceType": "Encounter", "id": "e", "subject": {"reference": "Patient/ngozi"}}
        | {"period": {"start": "2026-03-02T00:00:00Z", "end": "2026-03-01T00:00:00Z"}},
        "ended_at",
    ),
}


@pytest.mark.parametrize(("resource", "named"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_resource_that_cannot_be_taken_is_refused_with_the_reason(
    clinic: Clinic, resource: dict[str, Any], named: str
) -> None:
    await imported(clinic, NGOZI)
    written = await clinic.rows()
    report = await imported(clinic, resource)
    assert report["types"] == {resource["resourceType"]: tally(refused=1)}
    assert named in only_refusal(report, where="entry 0", type=resource["resourceType"])
    assert await clinic.rows() == written


@pytest.mark.parametrize(
    "patient",
    [
        {**NGOZI, "name": []},
        {**NGOZI, "birthDate": "1984-02-30"},
        {**NGOZI, "gender": "F"},
        {**NGOZI, "name": [{"family": "x" * 201}]},
        {**NGOZI, "name": "Obi"},
        {**NGOZI, "name": [{"family": "O\x00bi"}]},
    ],
)
async def test_a_patient_who_cannot_be_taken_is_refused_and_so_is_what_belongs_to_them(
    clinic: Clinic, patient: dict[str, Any]
) -> None:
    report = await imported(clinic, patient, PRESSURE)
    assert report["types"] == {"Patient": tally(refused=1), "Observation": tally(refused=1)}
    assert [refusal["where"] for refusal in report["refusals"]] == ["entry 0", "entry 1"]
    assert (await clinic.get("/v1/patients"))["items"] == []


BROKEN_ENTRIES = {
    "not an object": b"7",
    "null": b"null",
    "no resource": b'{"fullUrl": "urn:uuid:x"}',
    "a resource that is null": b'{"resource": null}',
    "a resource that is a list": b'{"resource": []}',
    "a resource of no type": b'{"resource": {"id": "x"}}',
    "a type that is none": b'{"resource": {"resourceType": "a b", "id": "x"}}',
    "a type that is a number": b'{"resource": {"resourceType": 7, "id": "x"}}',
    "a key twice": b'{"resource": {"resourceType": "Observation", "id": "a", "id": "b"}}',
    "half of a surrogate pair for an id": rb'{"resource": {"resourceType": "Observation", "id": "\ud800"}}',
    "NaN": b'{"resource": {"resourceType": "Observation", "id": "a", "valueInteger": NaN}}',
    "a number of 5000 digits": b'{"resource": {"resourceType": "Observation", "id": "a", "x": ' + b"9" * 5_000 + b"}}",
    "deep nesting": b'{"resource": {"resourceType": "Observation", "x": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
    "a Bundle": b'{"resource": {"resourceType": "Bundle", "entry": []}}',
    "a delete": b'{"request": {"method": "DELETE", "url": "Patient/ngozi"}}',
    "a fullUrl that is no text": b'{"fullUrl": 7, "resource": {"resourceType": "Observation", "id": "a"}}',
}


@pytest.mark.parametrize("entry", BROKEN_ENTRIES.values(), ids=BROKEN_ENTRIES.keys())
async def test_a_broken_entry_is_refused_or_makes_the_body_malformed_but_never_worse(
    clinic: Clinic, entry: bytes
) -> None:
    raw = b'{"resourceType": "Bundle", "entry": [{"resource": ' + json.dumps(NGOZI).encode() + b"}, " + entry + b"]}"
    answer = await clinic.call("POST", "/v1/import/fhir", raw=raw)
    if answer.status_code == 200:
        assert answer.json()["types"]["Patient"] == tally(created=1)
        only_refusal(answer.json(), where="entry 1")
    else:
        refused(answer, 400, "MALFORMED_JSON")
        assert (await clinic.get("/v1/patients"))["items"] == []


@pytest.mark.parametrize("own", ["a\x00b", "a_b", "", 7, "x" * 100])
async def test_a_patient_with_a_bad_id_takes_down_nothing_but_what_refers_to_them(clinic: Clinic, own: Any) -> None:
    """By the urn that the Bundle calls them: what it stands for was never checked."""
    body = {
        "resourceType": "Bundle",
        "entry": [
            {"resource": ALLERGY},
            {"resource": NGOZI},
            {"fullUrl": "urn:uuid:x", "resource": {**NGOZI, "id": own}},
            {"resource": {**PRESSURE, "subject": {"reference": "urn:uuid:x"}}},
        ],
    }
    answer = await clinic.call("POST", "/v1/import/fhir", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["types"]["Patient"] == tally(created=1, refused=1)
    assert answer.json()["types"]["AllergyIntolerance"] == tally(created=1)
    assert answer.json()["types"]["Observation"] == tally(refused=1)


@pytest.mark.parametrize(
    ("odd", "named"),
    [({"code": {"text": "\ud800"}}, "title"), ({"id": "\ud800"}, "id")],
    ids=["in a title", "in an id"],
)
async def test_half_of_a_surrogate_pair_takes_down_its_own_entry_only(
    clinic: Clinic, odd: dict[str, Any], named: str
) -> None:
    report = await imported(clinic, NGOZI, {**PRESSURE, **odd}, ALLERGY)
    assert named in only_refusal(report, where="entry 1")
    assert report["types"].items() >= {"Patient": tally(created=1), "AllergyIntolerance": tally(created=1)}.items()


@pytest.mark.parametrize("odd", [{"extension": [{"valueString": "\ud800"}]}, {"\ud800": 1}], ids=["value", "name"])
async def test_half_of_a_surrogate_pair_where_nobody_reads_it_is_kept_in_the_source(
    clinic: Clinic, odd: dict[str, Any]
) -> None:
    source = {**PRESSURE, **odd}
    assert (await imported(clinic, NGOZI, source))["refusals"] == []
    record = await the_one_record(clinic)
    answer = await clinic.call("GET", f"/v1/records/{record['id']}/versions/1")
    assert b'"source":' + json.dumps(source).encode() in answer.content


@pytest.mark.parametrize(
    "body",
    [
        rb'{"resourceType": "Bundle", "x": "\ud800", "entry": {}}',
        rb'{"resourceType": "Bundle", "x": "\ud800", "entry": 7}',
        rb'{"resourceType": "Bundle", "entry": {"a": "\ud800"}}',
        rb'{"resourceType": "Bundle", "entry": "\ud800"}',
        rb'{"resourceType": "Bundle", "\ud800": 1}',
        rb'{"resourceType": "Bundle", "entry": ["\ud800"]}',
        rb'{"resourceType": "Bundle", "entry": [{"fullUrl": "\ud800", "resource": {"resourceType": "Patient"}}]}',
        rb'{"resourceType": "Bundle", "entry": [{"\ud800": 1}], "entry": []}',
        rb'{"resourceType": "Bundle", "entry": [{"\ud800": 1}',
        rb'{"resourceType": "\ud800"}',
        rb'{"\ud800": "Bundle"}',
        rb'["\ud800"]',
        rb'"\ud800"',
    ],
)
async def test_half_of_a_surrogate_pair_in_an_odd_place_is_no_accident(clinic: Clinic, body: bytes) -> None:
    answer = await clinic.call("POST", "/v1/import/fhir", raw=body)
    if answer.status_code != 200:
        assert answer.status_code in {400, 422}, answer.text
        refused(answer, answer.status_code, ANY, ANY)
    assert (await clinic.get("/v1/patients"))["items"] == []


async def test_what_is_no_bundle_and_no_resource_is_refused(clinic: Clinic) -> None:
    for body, field in (
        ({}, "resourceType"),
        ({"resourceType": None}, "resourceType"),
        ({"resourceType": 7}, "resourceType"),
        ({"resourceType": "a b"}, "resourceType"),
        ([], None),
        ("Bundle", None),
        (7, None),
        ({"resourceType": "Bundle", "entry": {}}, "entry"),
        ({"resourceType": "Bundle", "entry": "x"}, "entry"),
    ):
        refused(await clinic.call("POST", "/v1/import/fhir", body), 422, "INVALID_FIELDS", field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"resourceType": "Bundle"',
        b"\xff\xfe",
        b'{"resourceType": "Bundle", "entry": [}',
        b"NaN",
        b'{"resourceType": "Bundle"} x',
        b"[" * 100000,
        b'{"resourceType": "Bundle", "entry": ' + b"[" * 100000,
    ],
)
async def test_what_is_no_json_is_malformed(clinic: Clinic, body: bytes) -> None:
    refused(await clinic.call("POST", "/v1/import/fhir", raw=body), 400, "MALFORMED_JSON")


async def test_a_body_is_declared_as_json_and_not_too_large(clinic: Clinic) -> None:
    for declared in ("text/plain", "application/xml", "application/fhir+xml", "application/x-ndjson"):
        answer = await clinic.call("POST", "/v1/import/fhir", bundle(NGOZI), headers={"Content-Type": declared})
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    large = json.dumps(bundle({**NGOZI, "text": {"div": "x" * 10 * 1024 * 1024}})).encode()
    refused(await clinic.call("POST", "/v1/import/fhir", raw=large), 413, "TOO_LARGE")


# -- what people did here -----------------------------------------------------------------------------------------


async def test_what_a_person_changed_here_is_not_overwritten(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, ALLERGY)
    await clinic.changed("/v1/patients/ngozi", 1, phone="0199")
    allergy = await the_one_record(clinic)
    await clinic.changed(f"/v1/records/{allergy['id']}", 1, criticality="high")

    again = await imported(clinic, NGOZI, ALLERGY)
    assert all(counts == tally(unchanged=1) for counts in again["types"].values())

    report = await imported(clinic, {**NGOZI, "gender": "other"}, {**ALLERGY, "criticality": "low"})
    assert report["types"] == {"Patient": tally(refused=1), "AllergyIntolerance": tally(refused=1)}
    assert [refusal["where"] for refusal in report["refusals"]] == ["entry 0", "entry 1"]
    assert all("changed here" in refusal["reason"] for refusal in report["refusals"])
    assert (await clinic.get("/v1/patients/ngozi"))["phone"] == "0199"
    await the_one_record(clinic, criticality="high", version=2)


async def test_what_people_have_to_decide_about_is_left_as_they_see_it(clinic: Clinic) -> None:
    """Nobody changed the head here, but an edit of what was imported first was held back."""
    await imported(clinic, NGOZI)
    await imported(clinic, {**NGOZI, "birthDate": "1984-03-01"})
    late = {"base_version": 1, "birth_date": "1984-02-28"}
    answer = await clinic.call("PATCH", "/v1/patients/ngozi", late, token=await clinic.token_for(device="tablet"))
    conflict = refused(answer, 409, "VERSION_CONFLICT")["context"]["conflict"]
    report = await imported(clinic, {**NGOZI, "birthDate": "1984-03-02"})
    assert "conflict" in only_refusal(report, where="entry 0", id="ngozi")
    assert await clinic.get(f"/v1/conflicts/{conflict['id']}") == conflict

    decision = {"head_version": 2, "choices": {"birth_date": {"take": "theirs"}}, "reason": "passport seen"}
    decided = await clinic.call("POST", f"/v1/conflicts/{conflict['id']}/resolve", decision)
    assert decided.status_code == 200, decided.text
    report = await imported(clinic, {**NGOZI, "birthDate": "1984-03-02"})
    assert "changed here" in only_refusal(report, where="entry 0", id="ngozi")


async def test_what_a_person_deleted_here_does_not_come_back(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    await clinic.deleted("/v1/patients/ngozi", 1)
    report = await imported(clinic, {**NGOZI, "gender": "other"})
    assert "deleted" in only_refusal(report, where="entry 0", id="ngozi")
    refused(await clinic.call("GET", "/v1/patients/ngozi"), 404, "DELETED")


async def test_what_a_person_entered_here_is_not_taken_for_an_import(clinic: Clinic) -> None:
    await clinic.patient(id="ngozi", family_name="Obi", birth_date="1984-02-29")
    report = await imported(clinic, NGOZI)
    assert "entered here" in only_refusal(report, where="entry 0")
    assert (await clinic.get("/v1/patients/ngozi"))["version"] == 1


async def test_another_person_under_the_same_id_is_refused(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    tobi = {**NGOZI, "name": [{"family": "Okafor", "given": ["Tobi"]}], "birthDate": "1990-01-01"}
    report = await imported(clinic, tobi)
    assert "another person" in only_refusal(report, where="entry 0", type="Patient", id="ngozi")
    assert (await clinic.get("/v1/patients/ngozi"))["family_name"] == "Obi"


async def test_who_married_is_the_same_person(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    married = {**NGOZI, "name": [{"family": "Okafor", "given": ["Ngozi", "Ada"]}]}
    assert (await imported(clinic, married))["types"] == {"Patient": tally(updated=1)}


async def test_a_record_does_not_move_to_another_patient(clinic: Clinic) -> None:
    tobi = {**NGOZI, "id": "tobi", "name": [{"family": "Okafor"}]}
    await imported(clinic, NGOZI, tobi, PRESSURE)
    report = await imported(clinic, {**PRESSURE, "subject": {"reference": "Patient/tobi"}})
    assert "ngozi" in only_refusal(report, where="entry 0", id="bp-1")
    await the_one_record(clinic, patient_id="ngozi")


async def test_records_of_a_deleted_patient_are_refused(clinic: Clinic) -> None:
    await imported(clinic, NGOZI)
    await clinic.deleted("/v1/patients/ngozi", 1)
    assert "ngozi" in only_refusal(await imported(clinic, PRESSURE), where="entry 0", type="Observation")


async def test_an_imported_draft_can_be_changed_and_an_imported_result_amended(clinic: Clinic) -> None:
    await imported(clinic, NGOZI, PRESSURE, ALLERGY)
    allergy, pressure = sorted((await clinic.get("/v1/patients/ngozi/records"))["items"], key=lambda one: one["kind"])
    await clinic.changed(f"/v1/records/{allergy['id']}", 1, criticality="high")
    path = f"/v1/records/{pressure['id']}"
    refused(await clinic.call("PATCH", path, {"base_version": 1, "title": "Pulse"}), 409, "RECORD_SIGNED")
    body = {"base_version": 1, "changes": {"title": "Blood pressure, lying"}, "reason": "position"}
    assert (await clinic.call("POST", f"{path}/amend", body)).json()["status"] == "amended"


# -- who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.CLINICIAN, Role.ASSISTANT, Role.AUDITOR])
async def test_only_the_owner_imports(clinic: Clinic, role: Role) -> None:
    written = await clinic.rows()
    for body in (bundle(NGOZI), {"resourceType": "Bundle"}):
        answer = await clinic.call("POST", "/v1/import/fhir", body, token=await clinic.token_for(role))
        assert refused(answer, 403, "FORBIDDEN")["context"] == {"permission": "imports.run"}
    assert await clinic.rows() == written


# -- whatever else ------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "Patient/ngozi",
        "ngozi",
        "final",
        "2026-03-01",
        "text/plain",
        "U2xlcHQ=",
        "active",
        "\x00",
        "\ud800",
        "",
        " ",
        "a\nb",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.just("value"), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def with_other(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """A JSON value with another value in one place."""
    if not path:
        return other
    copied = value.copy()
    copied[path[0]] = with_other(value[path[0]], path[1:], other)
    return copied


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good Bundle in which something is wrong."""
    whole: Any = bundle(NGOZI, PRESSURE, ALLERGY, note())
    for _ in range(draw(st.integers(1, 3))):
        whole = with_other(whole, draw(st.sampled_from(places(whole))), draw(ANYTHING))
    return whole


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=damaged())
async def test_no_bundle_breaks_anything(fuzzed: Clinic, body: Any) -> None:
    answer = await fuzzed.call("POST", "/v1/import/fhir", body)
    assert answer.status_code in {200, 400, 415, 422}, answer.text
    if answer.status_code == 200:
        report = answer.json()
        assert report["refused"] == sum(counts["refused"] for counts in report["types"].values())
    else:
        refused(answer, answer.status_code, ANY, ANY)


@pytest.fixture(scope="module")
async def fuzzed(new_clinic: NewClinic) -> Clinic:
    return await new_clinic()
