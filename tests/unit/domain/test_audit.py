"""The trail: an entry tells who did what to which version, and never what was written there."""

import dataclasses
from datetime import UTC, datetime
from typing import get_args

from heallog.domain.access import Actor, Role
from heallog.domain.audit import AuditEntry, Written, done
from heallog.domain.events import AccountRegistered, ContributionCommitted, Event, LoggedIn
from heallog.domain.practices import Membership, Practice
from heallog.domain.versions import Change, Collection, Contribution, advance, unborn

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DR_OKAFOR = Actor("ada", "northside", Role.CLINICIAN, "session-1", "tablet-1", "request-1")


def written(content: dict[str, object], fields: tuple[str, ...]) -> Written:
    head = unborn("northside", Collection.RECORDS, "record-1", "alice", NOON)
    moved, version = advance(
        head, content, Change.AMENDMENT, Contribution("contribution-1", DR_OKAFOR, NOON), reason="dose misread"
    )
    return done("entry-1", "records.amend", DR_OKAFOR, moved, version, fields)


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
    )
    assert (amended.head.version, amended.version.number) == (1, 1)


def test_no_clinical_value_reaches_an_entry() -> None:
    canary = "CANARY-7f3a"
    content = {"kind": "medication", "title": canary, "values": {canary: {"value": canary}}, "tags": [canary]}
    assert canary in str(written(content, ()).version.content)
    assert canary not in repr(written(content, ("title", "values", "tags")).entry)


def test_an_entry_that_belongs_to_no_version_names_none() -> None:
    login = AuditEntry("northside", "entry-2", NOON, "ada", "owner", "", "", "", "sessions.login", "refused")
    assert (login.collection, login.thing_id, login.patient_id, login.version) == (None, None, None, None)
    assert login.fields == ()


def test_events_have_room_for_names_and_counts_only() -> None:
    told = [
        ContributionCommitted("northside", "contribution-1", "ada", "request-1", "records.amend", 1),
        AccountRegistered("northside", "ada"),
        LoggedIn("northside", "ada", "session-1"),
    ]
    assert {type(event) for event in told} == set(get_args(Event))
    assert {field.type for event in told for field in dataclasses.fields(event)} == {str, int}


def test_a_membership_joins_an_account_to_a_practice_as_something() -> None:
    northside = Practice("northside", "Northside", NOON)
    assert Membership(northside.id, "ada", Role.OWNER, NOON).role is Role.OWNER
