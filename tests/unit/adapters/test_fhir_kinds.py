"""Each kind of record, from the FHIR resources that it comes from."""

from typing import Any

import pytest

from heallog.domain.versions import Collection

from .fhir_resources import LOINC, SNOMED, UUID, Resource, body, coded, encoded, mapped, observation, refused, some

# -- each kind ----------------------------------------------------------------------------------------------------


def test_an_observation_with_a_quantity() -> None:
    resource = observation(
        category=[coded("vital-signs", "Vital signs"), coded("other")],
        encounter={"reference": "Encounter/e1"},
        effectiveDateTime="2020-01-01",
        valueQuantity={"value": 176.5, "unit": "cm", "comparator": ">=", "system": "http://x", "code": "cm"},
        interpretation=[coded("H", "High"), coded("A")],
        bodySite={"text": "whole"},
    )
    found = mapped(resource)
    assert (found.collection, found.id, found.patient_id, found.status) == (
        Collection.RECORDS,
        "Observation.x1",
        "alice",
        "signed",
    )
    assert found.body == {
        "kind": "observation",
        "title": "Body height",
        "code": {"system": LOINC, "code": "8302-2", "display": "Body height"},
        "occurred_at": "2020-01-01",
        "clinical_status": "final",
        "encounter_id": "Encounter.e1",
        "category": "Vital signs",
        "interpretation": "High, A",
        "body_site": "whole",
        "values": {"value": {"value": 176.5, "unit": "cm", "comparator": ">="}},
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("valueQuantity", {"value": 0, "code": "mg"}, {"value": 0, "unit": "mg"}),
        ("valueQuantity", {"unit": "mg"}, None),
        ("valueCodeableConcept", coded("266919005", "Never smoker"), {"value": "Never smoker"}),
        ("valueCodeableConcept", {"text": "a\tlittle"}, {"value": "a little"}),
        ("valueString", "two\nlines", {"value": "two\nlines"}),
        ("valueString", " ", None),
        ("valueBoolean", False, {"value": False}),
        ("valueInteger", 3, {"value": 3}),
        ("valueDateTime", "2020-05", {"value": "2020-05"}),
        ("valueTime", "10:30:00", {"value": "10:30:00"}),
        (
            "valueRange",
            {"low": {"value": 5, "unit": "mg"}, "high": {"value": 10.5, "unit": "mg"}},
            {"value": "5 to 10.5 mg"},
        ),
        ("valueRange", {"low": {"value": 5, "unit": "mg"}}, {"value": "at least 5 mg"}),
        ("valueRange", {"high": {"value": 5, "unit": "mg"}}, {"value": "at most 5 mg"}),
        (
            "valueRange",
            {"low": {"value": 5, "unit": "mg"}, "high": {"value": 1, "unit": "g"}},
            {"value": "5 mg to 1 g"},
        ),
        ("valueRatio", {"numerator": {"value": 1}, "denominator": {"value": 128}}, {"value": "1:128"}),
        (
            "valueRatio",
            {"numerator": {"value": 5, "unit": "mg"}, "denominator": {"value": 1, "unit": "h"}},
            {"value": "5 mg / 1 h"},
        ),
        ("valuePeriod", {"start": "2019", "end": "2020"}, {"value": "2019 to 2020"}),
        ("valuePeriod", {"start": "2019"}, {"value": "from 2019"}),
        ("valuePeriod", {"end": "2020"}, {"value": "until 2020"}),
        ("valuePeriod", {}, None),
        (
            "valueSampledData",
            {"origin": {"value": 2048, "unit": "mV"}, "period": 10, "factor": 1.5, "data": "1 2 E"},
            {"value": "3 samples, one every 10 ms, origin 2048 mV, factor 1.5"},
        ),
    ],
)
def test_the_many_kinds_of_values(name: str, value: Any, expected: Resource | None) -> None:
    found = body(observation(**{name: value, f"_{name}": {"extension": []}})).get("values", {}).get("value")
    if expected and "code" not in expected and found:
        found = {key: part for key, part in found.items() if key != "code"}
    assert found == expected


def test_a_coded_answer_keeps_its_code_and_an_absent_one_its_reason() -> None:
    answer = body(observation(valueCodeableConcept=coded("266919005", "Never smoker")))["values"]["value"]
    assert answer["code"] == {"system": SNOMED, "code": "266919005", "display": "Never smoker"}
    reason = coded("asked-declined", "Asked But Declined")
    assert body(observation(dataAbsentReason=reason))["values"] == {"value": {"absent": "Asked But Declined"}}
    assert "absent" not in body(observation(dataAbsentReason=reason, valueInteger=1))["values"]["value"]


def test_components_go_by_well_known_names_or_their_codes() -> None:
    def component(code: Resource, **value: Any) -> Resource:
        return {"code": code, **value}

    mmhg = {"value": 80, "unit": "mmHg"}
    found = body(
        observation(
            valueInteger=1,
            component=[
                component(coded("8480-6", "Systolic", LOINC), valueQuantity={"value": 120, "unit": "mmHg"}),
                component(coded("8462-4", system=LOINC), valueQuantity=mmhg),
                component(coded("8462-4", system=LOINC), valueQuantity=mmhg),
                component(coded("a b/ç.1"), valueString="x"),
                component({"text": "pain now?"}, valueCodeableConcept=coded("7", "seven")),
                component(coded("value"), valueBoolean=True),
                component(coded("gone"), dataAbsentReason=coded("unknown")),
                component(coded("empty")),
                component({}, valueInteger=2),
                component(coded("z" * 80), valueInteger=3),
            ],
        )
    )["values"]
    assert list(found) == [
        "value",
        "systolic",
        "diastolic",
        "diastolic_2",
        "a_b_1",
        "pain_now_",
        "value_2",
        "gone",
        "component",
        "z" * 60,
    ]
    assert found["systolic"] == {
        "value": 120,
        "unit": "mmHg",
        "code": {"system": LOINC, "code": "8480-6", "display": "Systolic"},
    }
    assert found["pain_now_"]["code"]["code"] == "7", "a coded answer's code wins over the question's"
    assert found["gone"] == {"code": {"system": SNOMED, "code": "gone"}, "absent": "unknown"}


def test_an_allergy() -> None:
    found = body(
        some(
            "AllergyIntolerance",
            code=coded("91935009", "Peanut"),
            clinicalStatus=coded("active"),
            verificationStatus=coded("confirmed", "Confirmed"),
            category=["food"],
            criticality="unable-to-assess",
            reaction=[
                {"manifestation": [coded("hives", "Hives"), coded("itch")], "severity": "mild"},
                {"description": "could not breathe", "severity": "severe"},
            ],
        )
    )
    del found["code"]
    assert found == {
        "kind": "allergy",
        "title": "Peanut",
        "substance": "Peanut",
        "clinical_status": "active",
        "verification": "confirmed",
        "categories": ["food"],
        "criticality": "unable_to_assess",
        "severity": "severe",
        "reactions": ["Hives, itch", "could not breathe"],
    }


def test_a_condition() -> None:
    found = body(
        some(
            "Condition",
            code=coded("38341003", "High blood pressure"),
            category=[{"text": "Problem"}],
            severity=coded("moderate"),
            verificationStatus=coded("provisional"),
            bodySite=[coded("1", "Left"), coded("2", "Right")],
        )
    )
    assert {name: found[name] for name in ("kind", "category", "severity", "verification", "body_site")} == {
        "kind": "condition",
        "category": "Problem",
        "severity": "moderate",
        "verification": "provisional",
        "body_site": "Left, Right",
    }


def test_an_encounter() -> None:
    resource = some(
        "Encounter",
        type=[coded("185349003", "Check up")],
        **{"class": {"code": "AMB", "display": "ambulatory"}},
        reasonCode=[coded("1", "Cough"), coded("2", "Fever")],
    )
    found = body(resource)
    assert (found["title"], found["encounter_class"], found["complaint"]) == ("Check up", "ambulatory", "Cough; Fever")
    bare = some("Encounter", **{"class": {"code": "AMB"}}, reasonReference=[{"display": "Cough"}])
    assert body(bare) == {"kind": "encounter", "title": "Encounter", "encounter_class": "AMB", "complaint": "Cough"}


def test_an_immunization() -> None:
    found = body(
        some(
            "Immunization",
            vaccineCode=coded("140", "Influenza"),
            lotNumber="L7",
            route=coded("IM", "intramuscular"),
            site=coded("LA", "left arm"),
            protocolApplied=[{"doseNumberPositiveInt": 2}],
        )
    )
    assert (found["lot_number"], found["dose_number"], found["route"], found["body_site"]) == (
        "L7",
        "2",
        "intramuscular",
        "left arm",
    )


DOSAGE: Resource = {
    "text": "Two a day",
    "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d", "boundsDuration": {"value": 7, "unit": "d"}}},
    "asNeededBoolean": False,
    "route": coded("PO", "oral"),
    "doseAndRate": [{"doseQuantity": {"value": 0.5, "unit": "tablet"}}],
    "additionalInstruction": [{"text": "with food"}],
    "patientInstruction": "drink water",
}


def prescribed(**fields: Any) -> Resource:
    return some("MedicationRequest", **{"medicationCodeableConcept": coded("310965", "Ibuprofen"), **fields})


def test_a_prescription() -> None:
    resource = prescribed(
        status="active",
        dosageInstruction=[DOSAGE],
        dispenseRequest={"quantity": {"value": 30}},
        note=[{"text": "mind the stomach"}],
    )
    found = body(resource)
    del found["code"]
    assert found == {
        "kind": "medication",
        "title": "Ibuprofen",
        "clinical_status": "active",
        "dose": 0.5,
        "dose_unit": "tablet",
        "route": "oral",
        "frequency": "2 per 1 d",
        "as_needed": False,
        "instructions": "Two a day\nwith food\ndrink water\nfor 7 d",
        "quantity": 30,
        "text": "mind the stomach",
    }


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        ({"code": {"text": "at night"}, "repeat": {"frequency": 1}}, "at night"),
        ({"code": coded("BID")}, "BID"),
        ({"repeat": {"frequency": 1, "frequencyMax": 2, "period": 4, "periodMax": 6.5, "periodUnit": "h"}},
         "1 to 2 per 4 to 6.5 h"),
        ({"repeat": {"period": 1, "periodUnit": "wk", "dayOfWeek": ["mon"]}}, "1 per 1 wk mon"),
        ({"repeat": {"frequency": 3, "when": ["ACM"]}}, "3 times ACM"),
        ({"repeat": {"timeOfDay": ["08:00:00"], "count": 5}}, "08:00:00 5 times in all"),
        ({"event": ["2020"]}, None),
    ],
)  # fmt: skip
def test_how_often(timing: Resource, expected: str | None) -> None:
    assert body(prescribed(dosageInstruction=[{"timing": timing}])).get("frequency") == expected


def test_what_has_no_field_of_its_own_is_kept_in_the_instructions() -> None:
    first = {
        "doseAndRate": [{"doseRange": {"low": {"value": 1}, "high": {"value": 2, "unit": "tablet"}}}],
        "asNeededCodeableConcept": {"text": "pain"},
        "maxDosePerPeriod": {"numerator": {"value": 8, "unit": "tablet"}, "denominator": {"value": 1, "unit": "d"}},
    }
    found = body(prescribed(dosageInstruction=[first, DOSAGE]))
    assert found["as_needed"] is True
    assert found["instructions"].split("\n") == [
        "dose 1 to 2 tablet",
        "at most 8 tablet per 1 d",
        "as needed for pain",
        "0.5 tablet, 2 per 1 d, oral, Two a day, with food, drink water, for 7 d",
    ]
    assert "dose" not in found


def test_a_statement_about_a_medication_that_stands_elsewhere() -> None:
    drug = {"resourceType": "Medication", "id": "m", "code": coded("310965", "Ibuprofen")}
    found = body(some("MedicationStatement", medicationReference={"reference": "#m"}, contained=[drug]))
    assert (found["title"], found["code"]["code"]) == ("Ibuprofen", "310965")
    named = {"reference": "Medication/1", "display": "Ibuprofen 200"}
    assert body(some("MedicationStatement", medicationReference=named))["title"] == "Ibuprofen 200"
    assert body(some("MedicationRequest", medicationReference={"reference": "Medication/1"}))["title"] == "Medication/1"
    lost = some("MedicationStatement", medicationReference={"reference": "#n", "display": "X"}, contained=[drug])
    assert body(lost)["title"] == "X"


def test_an_order_not_to_give_something_is_no_medication() -> None:
    assert refused(prescribed(doNotPerform=True)).startswith("doNotPerform: ")
    assert body(prescribed(doNotPerform=False))["title"] == "Ibuprofen"


def test_a_procedure() -> None:
    found = body(
        some(
            "Procedure",
            code=coded("73761001", "Colonoscopy"),
            outcome={"text": "fine"},
            bodySite=[coded("1", "Colon")],
            reasonReference=[{"display": "Pain"}, {"reference": "Condition/1"}],
        )
    )
    assert (found["outcome"], found["body_site"], found["indication"]) == ("fine", "Colon", "Pain")


def test_a_report_with_its_results_and_its_words() -> None:
    forms = [
        {"contentType": "text/plain", "data": encoded("All is well.")},
        {"contentType": "application/pdf", "data": "not looked at"},
    ]
    found = body(
        some(
            "DiagnosticReport",
            code={"text": "Lipids"},
            category=[coded("LAB", "Laboratory")],
            result=[{"reference": f"Observation/{UUID}"}, {"reference": "Observation/o"}, {"display": "lost"}],
            conclusion="Normal",
            presentedForm=forms,
        )
    )
    assert found == {
        "kind": "report",
        "title": "Lipids",
        "category": "Laboratory",
        "results": [UUID, "Observation.o"],
        "text": "Normal\n\nAll is well.",
    }


def attachment(content_type: str, data: str | None = None, **more: Any) -> Resource:
    given = {"contentType": content_type, **({"data": data} if data is not None else {}), **more}
    return some("DocumentReference", type=coded("11506-3", "Progress note", LOINC), content=[{"attachment": given}])


@pytest.mark.parametrize(
    ("content_type", "data", "text"),
    [
        ("text/plain", encoded("Grüße\n\nDr. Okafor"), "Grüße\n\nDr. Okafor"),
        ("text/plain; charset=ISO-8859-1", encoded("Grüße", "latin-1"), "Grüße"),
        ('TEXT/PLAIN;charset="UTF-8"', encoded("\ufeffGrüße"), "Grüße"),
        ("text/html", encoded("<html><head><title>x</title></head><body><p>A</p><p>B &lt; C</p></body>"), "A\n\nB < C"),
        ("text/plain", "SGVs\n bG8=", "Hello"),
    ],
)
def test_a_note_is_a_document_whose_text_came_along(content_type: str, data: str, text: str) -> None:
    found = body(attachment(content_type, data))
    assert (found["kind"], found["title"], found["text"]) == ("note", "Progress note", text)


@pytest.mark.parametrize(
    ("content_type", "data", "reason"),
    [
        ("text/plain", "!!!!", "content.0.attachment.data: must be base64"),
        ("text/plain", "SGVsbG8", "content.0.attachment.data: must be base64"),
        ("text/plain", "SGVsbG8é", "content.0.attachment.data: must be base64"),
        ("text/plain", encoded("ü", "latin-1"), "content.0.attachment.data: is not utf-8"),
        (
            "text/plain; charset=klingon",
            "SGVsbG8=",
            "content.0.attachment.contentType: 'klingon' is not a known charset",
        ),
        ("text/plain; charset=zip", "SGVsbG8=", "content.0.attachment.contentType: 'zip' is not a known charset"),
        (
            "text/plain; charset=\ud800",
            "SGVsbG8=",
            "content.0.attachment.contentType: '\\ud800' is not a known charset",
        ),
        ("text/plain; charset=a\0b", "SGVsbG8=", "content.0.attachment.contentType: 'a\\x00b' is not a known charset"),
    ],
)
def test_a_note_that_cannot_be_read_is_refused(content_type: str, data: str, reason: str) -> None:
    assert refused(attachment(content_type, data)) == reason


def test_a_document_that_is_elsewhere_stays_a_document() -> None:
    found = body(
        attachment("application/pdf", url="Binary/1") | {"category": [{"text": "Letters"}], "description": "D"}
    )
    assert found == {
        "kind": "document",
        "title": "Progress note",
        "code": {"system": LOINC, "code": "11506-3", "display": "Progress note"},
        "text": "D",
        "category": "Letters",
        "content_type": "application/pdf",
    }
    assert body(attachment("text/plain", url="Binary/1"))["kind"] == "document"
    assert body(some("DocumentReference", description="Scan")) == {"kind": "document", "title": "Scan"}
    assert body(some("DocumentReference")) == {"kind": "document", "title": "Document"}


def test_a_care_plan() -> None:
    plan = some(
        "CarePlan",
        category=[coded("91251008", "Physical therapy")],
        activity=[
            {"detail": {"code": coded("1", "Rest")}},
            {"detail": {"description": "Stretch"}},
            {"detail": {"code": {"text": "Run"}, "doNotPerform": True}},
            {"reference": {"display": "Follow up"}},
            {},
        ],
        text={"div": "<div>Plan for <b>rest</b>.<br/>Do: <ul><li>A</li><li>B</li></ul></div>"},
    )
    found = body(plan)
    assert (found["title"], found["category"]) == ("Physical therapy", "Physical therapy")
    assert found["activities"] == ["Rest", "Stretch", "not to do: Run", "Follow up"]
    assert found["text"] == "Plan for rest.\nDo:\n- A\n- B"
    assert body(plan | {"description": "Be still", "title": "Rest"})["text"] == "Be still"


def test_a_goal() -> None:
    found = body(
        some(
            "Goal",
            description={"text": "Lower the sugar"},
            achievementStatus=coded("in-progress"),
            addresses=[{"reference": "Condition/dm"}],
            target=[
                {
                    "measure": coded("4548-4", "HbA1c"),
                    "detailQuantity": {"value": 7.0, "comparator": "<", "unit": "%"},
                    "dueDate": "2021",
                },
                {"detailBoolean": True, "dueDuration": {"value": 3, "unit": "mo"}},
                {"detailRange": {"low": {"value": 1}}},
            ],
        )
    )
    assert found == {
        "kind": "goal",
        "title": "Lower the sugar",
        "achievement": "in-progress",
        "addresses": ["Condition.dm"],
        "target": "HbA1c < 7 % by 2021; yes within 3 mo; at least 1",
    }


def test_an_imaging_study() -> None:
    series = [
        {"modality": {"code": "DX", "display": "Radiography"}, "bodySite": {"display": "Knee"}},
        {"modality": {"code": "DX", "display": "Radiography"}, "bodySite": {"display": "Hip"}},
    ]
    found = body(some("ImagingStudy", series=series, numberOfInstances=4))
    assert found == {
        "kind": "imaging",
        "title": "Radiography, Knee, Hip",
        "modality": "Radiography",
        "body_site": "Knee, Hip",
        "instances": 4,
    }
    assert (
        body(some("ImagingStudy", procedureCode=[coded("1", "X-ray")], modality=[{"code": "CT"}]))["title"] == "X-ray"
    )
    assert body(some("ImagingStudy")) == {"kind": "imaging", "title": "Imaging study"}
