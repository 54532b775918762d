"""The trail: an entry tells who did what to which version, and never what was written there."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import get_args

from heallog.domain.access import Actor, Role
from heallog.domain.audit import SCALARS, AuditEntry, Seal, Written, digest, done, noted, sealed
from heallog.domain.events import (
    AccountRegistered,
    ContributionCommitted,
    Event,
    GlassBroken,
    LoggedIn,
    PushCommitted,
    SessionClosed,
)
from heallog.domain.practices import Membership, Practice
from heallog.domain.versions import GENESIS, Change, Collection, Contribution, advance, unborn

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DR_OKAFOR = Actor("ada", "northside", Role.CLINICIAN, "session-1", "tablet-1", "request-1")


def written(content: dict[str, object], fields: tuple[str, ...]) -> Written:
    head = unborn("northside", Collection.RECORDS, "record-1", "alice", NOON)
    moved, version = advance(
        head, content, Change.AMENDMENT, Contribution("contribution-1", DR_OKAFOR, NOON), reason="dose misread"
    )
    return done("entry-1", "records.amend", DR_OKAFOR, moved, (version,), fields)


def test_an_entry_says_who_did_what_to_which_version_when_from_where_and_why() -> None:
    amended = written({"kind": "note", "text": "x"}, ("text",))
    assert amended.entry == AuditEntry(
        practice_id="northside",
        id="entry-1",
        at=NOON,
        account_id="ada",
        role="clinician",
        session_id="session-1",
        device_id="tablet-1",
        request_id="request-1",
        action="records.amend",
        outcome="done",
        collection="records",
        thing_id="record-1",
        patient_id="alice",
        version=1,
        reason="dose misread",
        fields=("text",),
        hash=amended.versions[0].hash,
    )
    assert (amended.head.version, amended.versions[0].number) == (1, 1)


def test_what_is_done_through_broken_glass_says_so() -> None:
    amara = dataclasses.replace(DR_OKAFOR, role=Role.ASSISTANT, emergency=True)
    assert noted("entry-1", NOON, amara, "patients.access-log").role == "assistant+emergency"
    head = unborn("northside", Collection.RECORDS, "record-1", "alice", NOON)
    moved, version = advance(head, {"kind": "note"}, Change.SIGNATURE, Contribution("contribution-1", amara, NOON))
    assert done("entry-1", "records.sign", amara, moved, (version,), ()).entry.role == "assistant+emergency"


def test_no_clinical_value_reaches_an_entry() -> None:
    canary = "CANARY-7f3a"
    content = {"kind": "medication", "title": canary, "values": {canary: {"value": canary}}, "tags": [canary]}
    assert canary in str(written(content, ()).versions[0].content)
    assert canary not in repr(written(content, ("title", "values", "tags")).entry)


def test_an_entry_that_belongs_to_no_version_names_none() -> None:
    login = AuditEntry("northside", "entry-2", NOON, "ada", "owner", "", "", "", "sessions.login", "refused")
    assert (login.collection, login.thing_id, login.patient_id, login.version) == (None, None, None, None)
    assert login.fields == ()


def test_events_have_room_for_names_and_counts_only() -> None:
    told = [
        ContributionCommitted("northside", "contribution-1", "ada", "request-1", "records.amend", 1),
        PushCommitted("northside", "push-1", "ada", "request-1", 500),
        AccountRegistered("northside", "ada"),
        LoggedIn("northside", "ada", "session-1"),
        SessionClosed("northside", "ada", "session-1", "replayed"),
        GlassBroken("northside", "ada", "emergency-1"),
    ]
    assert {type(event) for event in told} == set(get_args(Event))
    assert {field.type for event in told for field in dataclasses.fields(event)} == {str, int}


def test_a_membership_joins_an_account_to_a_practice_as_something() -> None:
    northside = Practice("northside", "Northside", NOON)
    assert Membership(northside.id, "ada", Role.OWNER, NOON).role is Role.OWNER


# -- seals --------------------------------------------------------------------------------------------------------

READ = noted(
    "entry-3", NOON, DR_OKAFOR, "records.read", collection="records", thing_id="record-1", patient_id="alice", version=1
)
SEAL = Seal("northside", 1, NOON, 7, 0, 5, ("entry-3",), bytes(range(32)), b"")
OTHERS = {"at": NOON + timedelta(microseconds=1), "version": 2, "fields": ("a",), "hash": b"h", "subjects": ("alice",)}


def another(field: dataclasses.Field[object], thing: object) -> object:
    value = getattr(thing, field.name)
    if field.name in OTHERS:
        return OTHERS[field.name]
    return f"{value}x" if isinstance(value, str | None) else value + (1 if isinstance(value, int) else value[:1])


def test_a_digest_is_three_arrays_of_json() -> None:
    """Written down a second time, for whoever wants to check it with other tools."""
    told = dataclasses.replace(
        READ, reason='"ünïcødé"\n', fields=("dose",), subjects=("alice", "bruno"), hash=b"\x01\xff"
    )
    values = [
        "northside", "entry-3", "1772366400000000", "ada", "clinician", "session-1", "tablet-1", "request-1",
        "records.read", "done", "records", "record-1", "alice", "1", '"ünïcødé"\n', "01ff", "7", "12",
    ]  # fmt: skip
    arrays = (values, ["dose"], ["alice", "bruno"])
    text = "".join(json.dumps(array, ensure_ascii=False, separators=(",", ":")) for array in arrays)
    assert digest(told, 7, 12) == hashlib.sha256(text.encode()).digest()


def test_every_field_of_an_entry_and_its_place_are_in_its_digest() -> None:
    fields = dataclasses.fields(AuditEntry)
    assert {field.name for field in fields} == {*SCALARS, "fields", "subjects"}
    changed = [dataclasses.replace(READ, **{field.name: another(field, READ)}) for field in fields]
    digests = {digest(READ, 7, 12), digest(READ, 8, 12), digest(READ, 7, 13), *(digest(e, 7, 12) for e in changed)}
    assert len(digests) == len(fields) + 3


def test_what_is_missing_is_not_what_is_empty() -> None:
    for name in ("collection", "thing_id", "patient_id", "reason"):
        missing, empty = (dataclasses.replace(READ, **{name: value}) for value in (None, ""))
        assert digest(missing, 7, 12) != digest(empty, 7, 12)


def test_every_field_of_a_seal_and_the_one_before_are_in_its_hash() -> None:
    fields = [field for field in dataclasses.fields(Seal) if field.name != "hash"]
    changed = [dataclasses.replace(SEAL, **{field.name: another(field, SEAL)}) for field in fields]
    hashes = {sealed(GENESIS, SEAL), sealed(b"x" * 32, SEAL), *(sealed(GENESIS, seal) for seal in changed)}
    assert len(hashes) == len(fields) + 2
