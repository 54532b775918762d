"""FHIR patients in our words."""

from typing import Any

from heallog.domain.versions import Collection

from .fhir_resources import Resource, body, coded, mapped, read

# -- patients -----------------------------------------------------------------------------------------------------

ALICE_IN_FULL: Resource = {
    "resourceType": "Patient",
    "id": "alice",
    "extension": [{"url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex", "valueCode": "M"}],
    "identifier": [
        {"type": coded("MR", "Medical record number"), "system": "urn:ward", "value": "A-17"},
        {"type": {"text": "ski pass"}, "value": "9"},
        {"system": "urn:empty"},
    ],
    "name": [
        {"use": "maiden", "family": "Moss", "given": ["Alice"]},
        {"use": "nickname", "text": "Ally"},
        {"use": "official", "family": "Okoye", "given": ["Alice", None, "Jane"], "prefix": ["Dr."]},
    ],
    "telecom": [
        {"system": "phone", "value": "1", "use": "old"},
        {"system": "phone", "value": "2", "use": "home"},
        {"system": "phone", "value": "3"},
        {"system": "email", "value": "alice@example.org"},
        {"system": "fax"},
    ],
    "gender": "female",
    "birthDate": "1980-05",
    "_birthDate": {"extension": []},
    "deceasedDateTime": "2020-02-03",
    "address": [
        {"use": "old", "city": "Lagos"},
        {"use": "work", "city": "Enugu"},
        {
            "use": "home",
            "line": ["1 Hill Rd", "Flat 2"],
            "city": "Abuja",
            "district": "Wuse",
            "state": "FCT",
            "postalCode": "900",
            "country": "NG",
        },
    ],
    "maritalStatus": coded("M", "Married"),
    "communication": [{"language": coded("en", "English")}, {"language": coded("ig", "Igbo"), "preferred": True}],
    "contact": [
        {
            "relationship": [coded("N", "Next of kin")],
            "name": {"given": ["Bob"], "family": "Okoye"},
            "telecom": [{"system": "phone", "value": "4"}, {"system": "email", "value": "bob@example.org"}],
        },
        {"telecom": [{"system": "phone", "value": "5"}]},
        {"gender": "male"},
    ],
}


def test_a_patient_in_full() -> None:
    found = mapped(ALICE_IN_FULL)
    assert (found.collection, found.id, found.patient_id, found.status) == (Collection.PATIENTS, "alice", "alice", "")
    assert found.body == {
        "family_name": "Okoye",
        "given_name": "Alice Jane",
        "prefix": "Dr.",
        "other_names": ["Alice Moss", "Ally"],
        "birth_date": "1980-05",
        "sex": "female",
        "deceased": True,
        "deceased_at": "2020-02-03",
        "identifiers": [{"system": "urn:ward", "value": "A-17", "type": "MR"}, {"value": "9", "type": "ski pass"}],
        "phone": "2",
        "email": "alice@example.org",
        "telecom": [{"system": "phone", "value": "1", "use": "old"}, {"system": "phone", "value": "3"}],
        "address": {
            "lines": ["1 Hill Rd", "Flat 2"],
            "city": "Abuja",
            "district": "Wuse",
            "state": "FCT",
            "postal_code": "900",
            "country": "NG",
        },
        "marital_status": "Married",
        "language": "Igbo",
        "contacts": [
            {"name": "Bob Okoye", "relation": "Next of kin", "phone": "4", "email": "bob@example.org"},
            {"name": "5", "phone": "5"},
        ],
    }


def patient(**fields: Any) -> Resource:
    return {"resourceType": "Patient", "id": "alice", "name": [{"family": "Okoye"}], **fields}


def test_a_patient_of_whom_little_is_known() -> None:
    assert body(patient(name=[{"text": "Alice O."}], deceasedBoolean=False)) == {
        "family_name": "Alice O.",
        "deceased": False,
    }
    assert body(patient(address=[{"text": "1 Hill Rd\nAbuja"}]))["address"] == {"lines": ["1 Hill Rd", "Abuja"]}
    assert body(patient(address=[{"use": "old", "city": "Lagos"}]))["address"] == {"city": "Lagos"}
    assert body(patient(gender=None, telecom=[], birthDate="")) == {"family_name": "Okoye"}
    assert read({"resourceType": "Patient", "id": "p"}).mapped is not None, "no name at all is for the domain to refuse"


def test_an_animal_has_species_and_breed() -> None:
    animal = {
        "url": "http://hl7.org/fhir/StructureDefinition/patient-animal",
        "extension": [
            {"url": "species", "valueCodeableConcept": coded("448771007", "Dog")},
            {"url": "breed", "valueCodeableConcept": {"text": "Whippet"}},
            {"url": "genderStatus", "valueCodeableConcept": coded("neutered")},
        ],
    }
    found = body(patient(extension=[{"url": "urn:other", "valueString": "x"}, animal]))
    assert (found["species"], found["breed"]) == ("Dog", "Whippet")
