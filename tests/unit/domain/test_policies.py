"""Policies: every field of every versioned type has one, and a practice may only tighten them."""

from collections import Counter
from collections.abc import Mapping

import pytest

from heallog.domain import patients, records
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import Field, Fields, Text
from heallog.domain.policies import (
    COUNTER,
    DERIVED,
    IMMUTABLE,
    LWW,
    MANUAL,
    SET,
    TEXT,
    NoPolicy,
    Policy,
    Rule,
    Rules,
    declared,
    each,
    group,
    monotone,
    tightened,
)

TYPES: Mapping[str, tuple[Fields, Rules]] = {
    "patients": (patients.FIELDS, patients.MERGEABLE.rules),
    **{kind: (records.FIELDS[kind], records.mergeable(kind).rules) for kind in records.KINDS},
}


# -- every field has one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_every_field_of_every_type_has_a_rule(name: str) -> None:
    fields, rules = TYPES[name]
    assert rules.keys() == fields.keys()
    assert all(rules[field] == known.policy for field, known in fields.items())


def test_a_field_without_a_policy_fails_by_name_at_once() -> None:
    fields = {"title": Field(Text(), MANUAL), "shoe_size": Field(Text()), "hat": Field(Text(), says="Which one.")}
    with pytest.raises(NoPolicy, match=r"^no policy: shoe_size, hat$") as refusal:
        declared(fields)
    assert refusal.value.names == ("shoe_size", "hat")
    assert isinstance(refusal.value, TypeError)


POLICIES: Mapping[str, Mapping[str, Policy]] = {
    "patients": {
        **dict.fromkeys(("family_name", "given_name", "prefix", "other_names", "birth_date", "sex"), Policy.MANUAL),
        **dict.fromkeys(("species", "breed", "blood_group", "identifiers"), Policy.MANUAL),
        **dict.fromkeys(("deceased", "deceased_at"), Policy.GROUP),
        **dict.fromkeys(("phone", "email", "address", "language", "marital_status"), Policy.LWW),
        **dict.fromkeys(("telecom", "contacts", "tags"), Policy.SET),
        "notes": Policy.TEXT,
    },
    "medication": {
        **dict.fromkeys(("title", "occurred_at", "ended_at", "clinical_status"), Policy.MANUAL),
        **dict.fromkeys(("instructions", "quantity"), Policy.MANUAL),
        **dict.fromkeys(("code", "dose", "dose_unit", "route", "frequency", "as_needed"), Policy.GROUP),
        **dict.fromkeys(("kind", "values", "encounter_id", "signed_by", "signed_at"), Policy.IMMUTABLE),
        **dict.fromkeys(("text", "indication"), Policy.TEXT),
        "tags": Policy.SET,
        "status": Policy.MONOTONE,
        "remaining": Policy.COUNTER,
    },
}


@pytest.mark.parametrize("name", POLICIES)
def test_what_was_agreed_for_each_field(name: str) -> None:
    assert {field: rule.policy for field, rule in TYPES[name][1].items()} == POLICIES[name]


def test_only_these_fields_of_records_merge_without_asking() -> None:
    by_itself = {
        field: rule.policy
        for _, rules in TYPES.values()
        for field, rule in rules.items()
        if rules is not patients.MERGEABLE.rules and rule.policy not in (Policy.MANUAL, Policy.GROUP, Policy.IMMUTABLE)
    }
    assert by_itself == {
        "text": Policy.TEXT,
        "complaint": Policy.TEXT,
        "indication": Policy.TEXT,
        "tags": Policy.SET,
        "categories": Policy.SET,
        "reactions": Policy.SET,
        "results": Policy.SET,
        "activities": Policy.SET,
        "addresses": Policy.SET,
        "status": Policy.MONOTONE,
        "remaining": Policy.COUNTER,
        "bmi": Policy.DERIVED,
    }


def test_which_fields_are_one_value() -> None:
    groups = {
        (rule.group, name, field) for name, (_, rules) in TYPES.items() for field, rule in rules.items() if rule.group
    }
    sizes = Counter((of, name) for of, name, _ in groups)
    assert sizes == {("death", "patients"): 2, ("dosage", "medication"): 5, ("dosage", "immunization"): 1} | {
        ("code", kind): 1 for kind in records.KINDS
    }


def test_a_reading_of_blood_pressure_is_one_value_and_others_stand_alone() -> None:
    rule = records.mergeable("observation").rules["values"]
    assert rule == each(IMMUTABLE, blood_pressure=("systolic", "diastolic"))
    assert rule.of("systolic") == rule.of("diastolic") == group("blood_pressure")
    assert rule.of("pulse") == IMMUTABLE


def test_the_way_of_a_status() -> None:
    assert records.mergeable("note").rules["status"] == Rule(Policy.MONOTONE, order=records.STATUSES)


# -- a practice may tighten them ----------------------------------------------------------------------------------

RULES: Rules = {
    "name": MANUAL,
    "phone": LWW,
    "tags": SET,
    "text": TEXT,
    "remaining": COUNTER,
    "dose": group("dosage"),
    "status": monotone("draft", "signed"),
    "signed_by": IMMUTABLE,
    "values": each(IMMUTABLE),
    "bmi": DERIVED,
}


@pytest.mark.parametrize("name", ["name", "phone", "tags", "text", "remaining"])
def test_a_field_can_be_kept_for_people_to_decide(name: str) -> None:
    stricter = tightened(RULES, {name: "manual"})
    assert stricter == {**RULES, name: MANUAL}
    assert tightened(stricter, {name: "manual"}) == stricter
    assert RULES["phone"] == LWW


def test_no_wish_changes_nothing() -> None:
    assert tightened(RULES, {}) == RULES


@pytest.mark.parametrize(
    ("name", "wanted", "code"),
    [
        *[(name, "manual", "policy") for name in ("dose", "status", "signed_by", "values", "bmi")],
        *[("tags", policy.value, "choice") for policy in Policy if policy is not Policy.MANUAL],
        *[("name", policy.value, "choice") for policy in Policy if policy is not Policy.MANUAL],
        ("tags", "", "choice"),
        ("tags", "MANUAL", "choice"),
        ("shoe_size", "manual", "unknown"),
        ("values.pulse", "manual", "unknown"),
        ("shoe_size", "lww", "unknown"),
    ],
)
def test_nothing_else_can_be_asked_for(name: str, wanted: str, code: str) -> None:
    with pytest.raises(InvalidFields) as refusal:
        tightened(RULES, {name: wanted})
    assert [(error.field, error.code) for error in refusal.value.errors] == [(name, code)]


def test_each_wrong_wish_is_named() -> None:
    with pytest.raises(InvalidFields) as refusal:
        tightened(RULES, {"phone": "manual", "dose": "manual", "tags": "lww", "hat": "manual"})
    assert [error.field for error in refusal.value.errors] == ["dose", "tags", "hat"]


@pytest.mark.parametrize("name", TYPES)
def test_whatever_a_practice_asks_for_only_manual_takes_the_place_of_what_merged_alone(name: str) -> None:
    _, rules = TYPES[name]
    alone = (Policy.LWW, Policy.SET, Policy.TEXT, Policy.COUNTER)
    for field, rule in rules.items():
        if rule.policy in (*alone, Policy.MANUAL):
            assert tightened(rules, {field: "manual"})[field] == MANUAL
        else:
            with pytest.raises(InvalidFields):
                tightened(rules, {field: "manual"})
