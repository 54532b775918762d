"""What holds for every FHIR resource: ids, references, codes and times, and what is refused."""

import copy
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.adapters.fhir.mapping import map_resource
from heallog.adapters.fhir.narrative import plain
from heallog.adapters.fhir.records import KINDS
from heallog.application.ports.imports import Incoming
from heallog.domain.canon import canonical

from .fhir_resources import (
    ALICE,
    LOINC,
    SNOMED,
    UUID,
    Resource,
    body,
    coded,
    complaints,
    encoded,
    mapped,
    nowhere,
    observation,
    read,
    refused,
    some,
)
from .test_fhir_kinds import DOSAGE, attachment, prescribed
from .test_fhir_patients import ALICE_IN_FULL, patient

# -- ids and references -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        (UUID, UUID),
        (UUID.upper(), UUID.upper()),
        ("example", "Observation.example"),
        (f"{UUID}0", f"Observation.{UUID}0"),
        ("a" * 52, f"Observation.{'a' * 52}"),
        ("a" * 53, f"Observation.{hashlib.sha256(b'a' * 53).hexdigest()[:32]}"),
    ],
)
def test_a_records_id_says_its_type_unless_it_is_a_uuid(id: str, expected: str) -> None:
    assert mapped(observation(id=id)).id == expected


@pytest.mark.parametrize("id", ["with space", "x" * 65, "ä", "a_b", "a/b", "a\n"])
def test_an_id_that_fhir_forbids_is_refused(id: str) -> None:
    assert "is not 1 to 64 letters, digits, dots or hyphens" in refused(observation(id=id))
    assert "is not 1 to 64 letters, digits, dots or hyphens" in refused(patient(id=id))


def test_an_id_must_be_there_and_be_text() -> None:
    assert refused(observation(id=None)) == "id is missing"
    assert refused(observation(id="")) == "id is missing"
    assert refused(observation(id=7)) == "id: must be a string"


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/alice",
        "Patient/alice/_history/3",
        "https://fhir.example.org/r4/Patient/alice",
        "http://localhost:8080/Patient/alice/_history/1",
    ],
)
def test_the_patient_is_found_however_the_reference_is_written(reference: str) -> None:
    assert mapped(observation(subject={"reference": reference})).patient_id == "alice"


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (None, "no patient: subject is missing"),
        ({}, "no patient: subject is missing"),
        ({"identifier": {"value": "A-17"}}, "no patient: subject has no reference"),
        ({"reference": "#p"}, "is inside the resource itself"),
        ({"reference": "Patient?identifier=A-17"}, "is a search, not an id"),
        ({"reference": "http://x.org/fhir/Patient?identifier=A/1"}, "is a search, not an id"),
        ({"reference": f"urn:uuid:{UUID}"}, "is not in this Bundle"),
        ({"reference": "Group/ward-3"}, "is a Group"),
        ({"reference": "alice"}, "is not of the form Patient/id"),
        ({"reference": "Patient/a b"}, "is not of the form Patient/id"),
        ({"reference": 5}, "subject.reference: must be a string"),
        ("Patient/alice", "subject: must be an object"),
    ],
)
def test_without_a_patient_nothing_is_taken(subject: Any, reason: str) -> None:
    assert reason in refused(observation(subject=subject))


def test_allergies_and_immunizations_name_their_patient_otherwise() -> None:
    assert refused(some("Immunization", patient=None, subject=ALICE)) == "no patient: patient is missing"


def test_a_bundles_own_names_are_followed() -> None:
    names = {"urn:uuid:1": ("Patient", "alice"), "urn:uuid:2": ("Encounter", "e1"), "urn:uuid:3": ("Device", "d")}
    resource = observation(subject={"reference": "urn:uuid:1"}, encounter={"reference": "urn:uuid:2"})
    found = map_resource(resource, "entry 1", b"", names.get).mapped
    assert found is not None
    assert (found.patient_id, found.body["encounter_id"]) == ("alice", "Encounter.e1")
    elsewhere = map_resource(observation(subject={"reference": "urn:uuid:3"}), "entry 2", b"", names.get)
    assert elsewhere.refused is not None
    assert elsewhere.refused.endswith("is a Device")


def test_links_to_other_records_follow_the_same_rule() -> None:
    plan = some(
        "CarePlan",
        title="Rest",
        encounter={"reference": f"Encounter/{UUID}"},
        addresses=[{"reference": "Condition/c1"}, {"reference": "Practitioner/dr-okafor"}, {"display": "a cold"}],
    )
    found = body(plan)
    assert (found["encounter_id"], found["addresses"]) == (UUID, ["Condition.c1"])
    assert "encounter_id" not in body(observation(encounter={"reference": "EpisodeOfCare/1"}))


# -- common fields ------------------------------------------------------------------------------------------------


def test_the_code_is_the_one_that_the_author_picked() -> None:
    codings = [
        {"display": "words only"},
        {"system": SNOMED, "code": "1", "display": "one"},
        {"system": LOINC, "code": "2", "userSelected": True},
    ]
    found = body(observation(code={"coding": codings}))
    assert found["code"] == {"system": LOINC, "code": "2"}
    assert "title" not in found
    found = body(observation(code={"coding": codings[:2], "text": "Height"}))
    assert (found["code"]["code"], found["title"]) == ("1", "Height")
    assert body(observation(code={"coding": codings[:1]}))["title"] == "words only"


@pytest.mark.parametrize(
    ("type", "fields", "expected"),
    [
        ("Observation", {"effectiveDateTime": "2020", "issued": "2021-01-01T00:00:00Z"}, ("2020", None)),
        ("Observation", {"effectivePeriod": {"start": "2020-01", "end": "2020-02"}}, ("2020-01", "2020-02")),
        ("Observation", {"effectiveInstant": "2020-01-01T10:00:00+02:00"}, ("2020-01-01T10:00:00+02:00", None)),
        ("Observation", {"issued": "2020-01-01T10:00:00Z"}, ("2020-01-01T10:00:00Z", None)),
        ("DiagnosticReport", {"issued": "2020-01-01T10:00:00Z"}, ("2020-01-01T10:00:00Z", None)),
        ("Condition", {"onsetDateTime": "2019", "abatementDateTime": "2020", "recordedDate": "2021"}, ("2019", "2020")),
        ("Condition", {"onsetPeriod": {"start": "2018", "end": "2019"}}, ("2018", None)),
        ("Condition", {"recordedDate": "2021"}, ("2021", None)),
        ("Condition", {"recordedDate": "2021", "abatementDateTime": "2020-05"}, (None, "2020-05")),
        ("Condition", {"onsetDateTime": "2019", "abatementPeriod": {"end": "2020"}}, ("2019", "2020")),
        ("AllergyIntolerance", {"recordedDate": "2021"}, ("2021", None)),
        ("Encounter", {"period": {"start": "2020", "end": "2021"}}, ("2020", "2021")),
        ("Immunization", {"occurrenceDateTime": "2020"}, ("2020", None)),
        ("Immunization", {"occurrenceString": "as a child", "recorded": "2020"}, ("2020", None)),
        ("Procedure", {"performedDateTime": "2020"}, ("2020", None)),
        ("Procedure", {"performedPeriod": {"end": "2020"}}, (None, "2020")),
        ("MedicationRequest", {"authoredOn": "2020"}, ("2020", None)),
        ("MedicationStatement", {"effectivePeriod": {"start": "2020"}, "dateAsserted": "2021"}, ("2020", None)),
        ("CarePlan", {"period": {"start": "2020", "end": "2021"}}, ("2020", "2021")),
        ("CarePlan", {"created": "2020"}, ("2020", None)),
        ("Goal", {"startDate": "2020-01-02"}, ("2020-01-02", None)),
        ("ImagingStudy", {"started": "2020"}, ("2020", None)),
        ("DocumentReference", {"date": "2020-01-01T10:00:00Z"}, ("2020-01-01T10:00:00Z", None)),
        ("DocumentReference", {"date": "2021", "context": {"period": {"start": "2020", "end": "2020"}}}, ("2020",) * 2),
    ],
)
def test_times_come_from_where_each_type_has_them(
    type: str, fields: Resource, expected: tuple[str | None, str | None]
) -> None:
    named = {"title": "x", "code": {"text": "x"}, "vaccineCode": {"text": "x"}, "description": {"text": "x"}}
    named |= {"medicationCodeableConcept": {"text": "x"}}
    title = {} if type in ("DocumentReference", "Encounter", "ImagingStudy") else named
    found = body(some(type, **({**title, "description": None} if type == "CarePlan" else title), **fields))
    assert (found.get("occurred_at"), found.get("ended_at")) == expected


@pytest.mark.parametrize(
    ("type", "fields", "status", "clinical"),
    [
        ("Observation", {"status": "final"}, "signed", "final"),
        ("Observation", {"status": "corrected"}, "amended", "corrected"),
        ("Observation", {"status": "preliminary"}, "draft", "preliminary"),
        ("Observation", {"status": "entered-in-error"}, "entered_in_error", "entered-in-error"),
        ("Observation", {}, "draft", None),
        ("DiagnosticReport", {"status": "appended"}, "amended", "appended"),
        ("Procedure", {"status": "not-done"}, "signed", "not-done"),
        ("Procedure", {"status": "in-progress"}, "draft", "in-progress"),
        ("Encounter", {"status": "planned"}, "draft", "planned"),
        ("Encounter", {"status": "cancelled"}, "signed", "cancelled"),
        ("ImagingStudy", {"status": "available"}, "signed", "available"),
        ("DocumentReference", {"status": "current"}, "signed", "current"),
        ("DocumentReference", {"status": "current", "docStatus": "preliminary"}, "draft", "current"),
        ("DocumentReference", {"status": "current", "docStatus": "amended"}, "amended", "current"),
        ("DocumentReference", {"status": "current", "docStatus": "entered-in-error"}, "entered_in_error", "current"),
        ("MedicationRequest", {"status": "completed"}, "draft", "completed"),
        ("CarePlan", {"status": "entered-in-error"}, "entered_in_error", "entered-in-error"),
        ("Goal", {"lifecycleStatus": "active"}, "draft", "active"),
        ("Condition", {"clinicalStatus": coded("resolved")}, "draft", "resolved"),
        ("Condition", {"verificationStatus": coded("entered-in-error")}, "entered_in_error", None),
        ("AllergyIntolerance", {"clinicalStatus": coded("active")}, "draft", "active"),
    ],
)
def test_the_status_on_arrival(type: str, fields: Resource, status: str, clinical: str | None) -> None:
    incoming = read(some(type, **fields))
    assert incoming.mapped is not None
    assert (incoming.mapped.status, incoming.mapped.body.get("clinical_status")) == (status, clinical)


def test_notes_become_text_and_the_narrative_stands_in_where_there_are_none() -> None:
    narrative = {"status": "generated", "div": "<div><p>Height &amp; weight</p></div>"}
    notes = [{"text": "standing"}, {"text": None}, {"text": "no shoes\nno hat"}]
    assert body(observation(note=notes, text=narrative))["text"] == "standing\n\nno shoes\nno hat"
    assert body(observation(text=narrative))["text"] == "Height & weight"


def test_line_breaks_in_one_line_fields_are_folded() -> None:
    assert body(observation(code={"text": "Body\r\n height"}))["title"] == "Body  height"
    assert body(patient(name=[{"family": "Okoye\tMoss"}]))["family_name"] == "Okoye Moss"


@pytest.mark.parametrize("type", sorted({*KINDS, "Patient"}))
def test_null_everywhere_is_absence(type: str) -> None:
    resource = {**SAMPLES[type], **dict.fromkeys(SAMPLES[type])}
    identity = {name: SAMPLES[type].get(name) for name in ("resourceType", "id", "subject", "patient")}
    incoming = read({**resource, **identity})
    assert incoming.refused is None
    assert incoming.mapped is not None
    assert set(incoming.mapped.body) <= {"kind", "title"}


# -- what is not taken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["Organization", "Practitioner", "Claim", "Bundle"])
def test_other_types_are_neither_mapped_nor_refused(type: str) -> None:
    incoming = map_resource({"resourceType": type, "id": "o"}, "x:1", b"{ }", nowhere)
    assert incoming == Incoming("x:1", type, "o", b"{ }")


@pytest.mark.parametrize(
    ("type", "reason"),
    [
        (None, "resourceType is missing"),
        (7, "resourceType: must be a string"),
        ("", "resourceType: '' is not the name of a type"),
        ("Pa tient", "resourceType: 'Pa tient' is not the name of a type"),
    ],
)
def test_a_resource_must_say_what_it_is(type: Any, reason: str) -> None:
    incoming = read({"resourceType": type, "id": "x"})
    assert (incoming.type, incoming.id, incoming.refused) == ("?", "x", reason)


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (observation(component=[{"code": coded("1"), "valueQuantity": {"value": "120"}}]),
         "component.0.valueQuantity.value: must be a number"),
        (observation(valueQuantity={"value": True}), "valueQuantity.value: must be a number"),
        (observation(valueQuantity={"value": float("inf")}), "valueQuantity.value: must be a finite number"),
        (observation(valueQuantity={"value": 2**60}), "valueQuantity.value: must lie within plus or minus 2^53 - 1"),
        (observation(valueQuantity={"value": 1, "unit": 5}), "valueQuantity.unit: must be a string"),
        (observation(valueInteger=1.5), "valueInteger: must be a whole number"),
        (observation(valueBoolean="true"), "valueBoolean: must be true or false"),
        (observation(valueString=[]), "valueString: must be a string"),
        (observation(valueAttachment={}), "valueAttachment: is not a kind of value that HealLog reads"),
        (observation(valueString="a", valueInteger=1), "value[x]: only one value may be given, not 2"),
        (observation(category={}), "category: must be a list"),
        (observation(category=["x"]), "category.0: must be an object"),
        (observation(code=coded("1") | {"text": 1}), "code.text: must be a string"),
        (observation(code={"coding": [{"code": "1", "userSelected": "no"}]}),
         "code.coding.0.userSelected: must be true or false"),
        (observation(modifierExtension=[{"url": "urn:not"}]),
         "modifierExtension: changes the meaning in a way that HealLog does not know"),
        (observation(component=[{"modifierExtension": [{}]}]),
         "component.0.modifierExtension: changes the meaning in a way that HealLog does not know"),
        (observation(effectivePeriod="2020"), "effectivePeriod: must be an object"),
        (observation(effectiveDateTime=2020), "effectiveDateTime: must be a string"),
        (patient(name=[{"given": ["Alice", 5]}]), "name.0.given.1: must be a string"),
        (patient(name="Alice"), "name: must be a list"),
        (patient(deceasedBoolean="no"), "deceasedBoolean: must be true or false"),
        (patient(birthDate=1980), "birthDate: must be a string"),
        (prescribed(dosageInstruction=[{"timing": {"repeat": {"frequency": "2"}}}]),
         "dosageInstruction.0.timing.repeat.frequency: must be a number"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_refused_by_its_path(resource: Resource, reason: str) -> None:
    assert refused(resource) == reason


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        (patient(gender="F"), "sex"),
        (patient(birthDate="17.5.1980"), "birth_date"),
        (observation(code={"text": "x" * 501}), "title"),
        (observation(effectiveDateTime="2020-01-01T10:00:00"), "occurred_at"),
        (observation(valueQuantity={"value": 1, "comparator": "ad"}), "values.value.comparator"),
    ],
)
def test_what_the_domain_refuses_is_handed_on_as_it_is(resource: Resource, field: str) -> None:
    incoming = read(resource)
    assert incoming.mapped is not None
    assert [at for at, _ in complaints(incoming.mapped)] == [field]


# -- readable text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("plain", "plain"),
        ("<p>a  b\n c</p>", "a b c"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<ol><li>one</li><li>two</li></ol>after", "- one\n- two\nafter"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a\tb\n\nc"),
        ("<pre>a\n   b</pre>", "a\n   b"),
        ("x<!-- <b> - --> y", "x y"),
        ("<style>p {}</style><SCRIPT>if (a<b) </script >x", "x"),
        ("<!DOCTYPE html><?xml version='1.0'?>x", "x"),
        ("1 < 2 &amp; 3 > 2", "1 < 2 & 3 > 2"),
        ("a <!-- never closed", "a "),
        ("<p", "<p"),
        ("well-being", "well-being"),
    ],
)
def test_markup_becomes_readable_text(markup: str, text: str) -> None:
    assert plain(markup).rstrip() == text.rstrip()


@pytest.mark.parametrize(
    "piece", ["<!--", "<a ", "<a b='", "<", "</", "<script>", "&", "<!", "<pre>", "<td></td>", "<a"]
)
def test_no_markup_takes_long(piece: str) -> None:
    # A parser that looks to the end for each of these would not be done today.
    plain(piece * 200_000)


@given(st.text(st.sampled_from("<>/!-a p&;'\"= \n")))
def test_any_markup_is_read(markup: str) -> None:
    assert len(plain(markup)) <= 3 * len(markup)


# -- anything at all ----------------------------------------------------------------------------------------------

SAMPLES: dict[str, Resource] = {
    "Patient": ALICE_IN_FULL,
    "AllergyIntolerance": some(
        "AllergyIntolerance",
        code=coded("1", "Peanut"),
        clinicalStatus=coded("active"),
        category=["food"],
        criticality="low",
        reaction=[{"manifestation": [coded("2", "Hives")], "severity": "mild"}],
    ),
    "CarePlan": some(
        "CarePlan",
        category=[coded("1", "Rest")],
        activity=[{"detail": {"code": coded("1", "Rest")}}],
        addresses=[{"reference": "Condition/1"}],
        period={"start": "2020", "end": "2021"},
        text={"div": "<div>Rest</div>"},
    ),
    "Condition": some("Condition", code=coded("1", "Cold"), onsetDateTime="2020", abatementDateTime="2021"),
    "DiagnosticReport": some(
        "DiagnosticReport",
        code=coded("1", "Lipids"),
        result=[{"reference": "Observation/1"}],
        presentedForm=[{"contentType": "text/plain", "data": encoded("well")}],
    ),
    "DocumentReference": attachment("text/plain; charset=utf-8", encoded("well")),
    "Encounter": some("Encounter", type=[coded("1")], reasonCode=[coded("2")], **{"class": {"code": "AMB"}}),
    "Goal": some(
        "Goal",
        description={"text": "Run"},
        target=[{"measure": coded("1"), "detailQuantity": {"value": 5, "unit": "km"}, "dueDate": "2021"}],
    ),
    "ImagingStudy": some("ImagingStudy", series=[{"modality": {"code": "DX"}}], numberOfInstances=1, started="2020"),
    "Immunization": some("Immunization", vaccineCode=coded("1"), protocolApplied=[{"doseNumberPositiveInt": 1}]),
    "MedicationRequest": prescribed(dosageInstruction=[DOSAGE, DOSAGE], dispenseRequest={"quantity": {"value": 1}}),
    "MedicationStatement": some(
        "MedicationStatement",
        medicationReference={"reference": "#m"},
        contained=[{"id": "m", "code": coded("1", "Ibuprofen")}],
    ),
    "Observation": observation(
        effectivePeriod={"start": "2020", "end": "2021"},
        valueQuantity={"value": 1.5, "unit": "cm"},
        component=[
            {"code": coded("8480-6"), "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 2}}},
            {"code": coded("2"), "valueSampledData": {"origin": {"value": 0}, "period": 1, "data": "1 2"}},
            {"code": coded("3"), "dataAbsentReason": coded("unknown")},
        ],
        note=[{"text": "standing"}],
    ),
    "Procedure": some("Procedure", code=coded("1"), performedPeriod={"start": "2020"}, bodySite=[coded("1")]),
}

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(st.characters(exclude_categories=[]), max_size=8),
    st.sampled_from(
        ["#m", "urn:uuid:1", "Patient/alice", "entered-in-error", "2020-13-99", {}, [], [None], [[]], [{}]]
    ),
    st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=3), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(place for key, item in inside for place in places(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Resource:
    """A good resource in which up to three things were replaced by something else."""
    resource = copy.deepcopy(SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))])
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(resource)))
        within: Any = resource
        for key in way:
            within = within[key]
        within[last] = copy.deepcopy(draw(JUNK))
    return resource


@given(mutated())
def test_nothing_that_stands_in_a_resource_is_too_much(resource: Resource) -> None:
    before = copy.deepcopy(resource)
    incoming = read(resource)
    assert repr(resource) == repr(before), "a resource is read, never changed"
    if incoming.refused is not None:
        assert incoming.mapped is None
        assert incoming.refused.isprintable()
    elif incoming.mapped is not None:
        assert all(value not in (None, "", [], {}) for value in incoming.mapped.body.values())
        assert not {code for _, code in complaints(incoming.mapped)} & {"unknown", "read_only"}


@pytest.mark.parametrize("type", sorted(SAMPLES))
def test_every_sample_is_good_and_says_the_same_twice(type: str) -> None:
    assert canonical(body(SAMPLES[type])) == canonical(body(copy.deepcopy(SAMPLES[type])))
    assert set(SAMPLES) == {*KINDS, "Patient"}
