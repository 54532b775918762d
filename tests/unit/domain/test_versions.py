"""Versions: the chain that proves a history, the head that moves, who saw what, and what differs."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heallog.domain.access import Actor, Role
from heallog.domain.canon import canonical, decode, moment, same
from heallog.domain.errors import Deleted, StaleVersion, VersionConflict, VersionRequired
from heallog.domain.versions import (
    GENESIS,
    Change,
    Collection,
    Contribution,
    Difference,
    Head,
    Seen,
    Version,
    advance,
    branch,
    chain,
    check_seen,
    diff,
    proves,
    saw,
    unborn,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = unborn("northside", Collection.PATIENTS, "alice", "alice", NOON)


def by(account: str, device: str = "tablet-1", at: datetime = NOON, contribution: str = "c-1") -> Contribution:
    return Contribution(contribution, Actor(account, "northside", Role.CLINICIAN, "session-1", device), at)


# -- histories ----------------------------------------------------------------------------------------------------

NAMES = st.text("abcdefgh_", min_size=1, max_size=4)
SCALARS = st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=6)
CONTENTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS | st.lists(SCALARS, max_size=3), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=5
    ),
    max_size=4,
)
IDS = st.text("abc-.019", min_size=1, max_size=6)
TO_THE_MILLISECOND = st.integers(0, 10**12).map(
    lambda ms: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
TOLD: dict[str, st.SearchStrategy[Any]] = {
    "reason": st.none() | st.text(max_size=8),
    "client_time": st.none() | TO_THE_MILLISECOND,
}
STEPS = st.fixed_dictionaries(
    {
        "content": st.none() | CONTENTS,
        "change": st.sampled_from(Change),
        "contribution": st.builds(by, IDS, IDS, TO_THE_MILLISECOND, IDS),
        **TOLD,
        "source": st.none() | st.binary(max_size=8),
        "inputs": st.lists(st.integers(1, 9), max_size=3).map(tuple),
    }
)
BESIDE = st.fixed_dictionaries(
    {
        "parent": st.integers(0, 4),
        "content": st.none() | CONTENTS,
        "change": st.sampled_from(Change),
        "contribution": st.builds(by, IDS, IDS, TO_THE_MILLISECOND, IDS),
        **TOLD,
    }
)
"""What someone made of an older version: it names its parent."""


def lived(steps: Sequence[dict[str, Any]]) -> tuple[Head, list[Version]]:
    head, versions = ALICE, []
    for step in steps:
        head, version = branch(head, **step) if "parent" in step else advance(head, **step)
        versions.append(version)
    return head, versions


HISTORIES = st.lists(STEPS | BESIDE, min_size=1, max_size=4).map(lived)


def holds(head: Head, versions: Sequence[Version]) -> bool:
    """Whether a stored history is what was written: each version follows from the one before, the head is the last."""
    before = [GENESIS, *(version.hash for version in versions)]
    links = all(proves(previous, version) for previous, version in zip(before, versions, strict=False))
    return links and bool(versions) and before[-1] == head.hash


@given(HISTORIES)
def test_a_history_proves_itself(history: tuple[Head, list[Version]]) -> None:
    head, versions = history
    assert holds(head, versions)
    assert [version.number for version in versions] == list(range(1, head.last + 1))
    trunk = [version for version in versions if not version.branch]
    assert [version.parent for version in trunk] == [None, *(version.number for version in trunk)][: len(trunk)]
    assert head.version == (trunk[-1].number if trunk else 0)


OTHER_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "practice_id": IDS,
    "collection": st.sampled_from(Collection),
    "thing_id": IDS,
    "patient_id": IDS,
    "number": st.integers(0, 9),
    "parent": st.none() | st.integers(0, 9),
    "inputs": st.lists(st.integers(0, 9), max_size=3).map(tuple),
    "change": st.sampled_from(Change),
    "content": st.none() | st.just(b"") | CONTENTS.map(canonical),
    "author_id": IDS,
    "device_id": IDS,
    "received_at": TO_THE_MILLISECOND,
    "client_time": st.none() | TO_THE_MILLISECOND,
    "reason": st.none() | st.text(max_size=8),
    "contribution_id": IDS,
    "source": st.binary(max_size=8),  # never None: a source may be erased, its digest stays
    "source_digest": st.none() | st.binary(min_size=32, max_size=32),
    "hash": st.binary(min_size=32, max_size=32),
    "branch": st.booleans(),
}


def test_every_field_of_a_version_has_its_forger() -> None:
    assert list(OTHER_VALUES) == [field.name for field in dataclasses.fields(Version)]


@given(HISTORIES, st.data(), st.fixed_dictionaries(OTHER_VALUES))
def test_no_field_of_any_version_changes_unseen(
    history: tuple[Head, list[Version]], data: st.DataObject, others: dict[str, Any]
) -> None:
    head, versions = history
    at = data.draw(st.integers(0, len(versions) - 1))
    for field, other in others.items():
        if other != getattr(versions[at], field):
            forged = replace(versions[at], **{field: other})
            assert not holds(head, [*versions[:at], forged, *versions[at + 1 :]]), field


@given(HISTORIES, st.data())
def test_no_version_is_taken_out_unseen(history: tuple[Head, list[Version]], data: st.DataObject) -> None:
    head, versions = history
    del versions[data.draw(st.integers(0, len(versions) - 1))]
    assert not holds(head, versions)


@given(st.lists(STEPS | BESIDE, min_size=2, max_size=4).map(lived), st.data())
def test_no_two_versions_change_places_unseen(history: tuple[Head, list[Version]], data: st.DataObject) -> None:
    head, versions = history
    one, other = data.draw(st.lists(st.integers(0, len(versions) - 1), min_size=2, max_size=2, unique=True))
    versions[one], versions[other] = versions[other], versions[one]
    assert not holds(head, versions)


@given(HISTORIES, HISTORIES)
def test_no_version_of_another_history_slips_in(
    one: tuple[Head, list[Version]], other: tuple[Head, list[Version]]
) -> None:
    (head, versions), (_, strangers) = one, other
    assume(versions[-1] != strangers[-1])
    assert not holds(head, [*versions[:-1], strangers[-1]])


def test_a_source_may_be_erased_and_the_version_still_proves_its_place() -> None:
    head, version = advance(ALICE, {"given_name": "Alice"}, Change.IMPORT, by("ada"), source=b'{"id":"1"}')
    assert holds(head, [replace(version, source=None)])
    assert not holds(head, [replace(version, source=b'{"id":"2"}')])
    assert not holds(head, [replace(version, source=None, source_digest=None)])


def test_nothing_and_an_empty_text_are_two_things() -> None:
    _, version = advance(ALICE, None, Change.DELETION, by("ada"))
    assert chain(GENESIS, version) != chain(GENESIS, replace(version, content=b""))
    assert chain(GENESIS, version) != chain(GENESIS, replace(version, reason=""))


def test_the_hash_is_the_one_that_was_agreed() -> None:
    """Written out by hand: should this change, every stored history stops proving itself."""
    _, version = advance(
        ALICE, {"given_name": "Zoë"}, Change.IMPORT, by("ada"), reason="first visit", client_time=NOON, source=b"{}"
    )
    metadata = (
        '{"author_id":"ada","change":"import","client_time":"2026-03-01T12:00:00.000Z","collection":"patients",'
        '"contribution_id":"c-1","device_id":"tablet-1","id":"alice","inputs":[],"number":1,"parent":null,'
        '"patient_id":"alice","practice_id":"northside","reason":"first visit",'
        '"received_at":"2026-03-01T12:00:00.000Z",'
        f'"source":"{sha256(b"{}").hexdigest()}","void":false}}'
    )
    content = '{"given_name":"Zoë"}'
    parts = bytes(32) + sha256(content.encode()).digest() + sha256(metadata.encode()).digest()
    assert version.hash == sha256(parts).digest()


def test_the_hash_of_a_branch_says_that_it_is_one() -> None:
    head, first = advance(ALICE, {"given_name": "Alice"}, Change.CREATION, by("ada"))
    _, beside = branch(head, 1, {"given_name": "Zoë"}, Change.MODIFICATION, by("ben", "phone-2"))
    metadata = (
        '{"author_id":"ben","branch":true,"change":"modification","client_time":null,"collection":"patients",'
        '"contribution_id":"c-1","device_id":"phone-2","id":"alice","inputs":[],"number":2,"parent":1,'
        '"patient_id":"alice","practice_id":"northside","reason":null,'
        '"received_at":"2026-03-01T12:00:00.000Z","source":null,"void":false}'
    )
    content = '{"given_name":"Zoë"}'
    parts = first.hash + sha256(content.encode()).digest() + sha256(metadata.encode()).digest()
    assert beside.hash == sha256(parts).digest()


@given(
    text=st.text(),
    reason=st.none() | st.text(),
    inputs=st.lists(st.integers(1, 9)).map(tuple),
    parent=st.none() | st.integers(1, 9),
    branched=st.booleans(),
    content=st.sampled_from((None, b"{}", b'{"given_name":"Zo\xc3\xab"}')),
    client_time=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_the_metadata_is_canonical_json_whatever_was_said(
    text: str, reason: str | None, inputs: tuple[int, ...], parent: int | None, *, branched: bool,
    content: bytes | None, client_time: datetime | None,
) -> None:  # fmt: skip
    version = replace(
        advance(ALICE, {}, Change.CREATION, by("ada"))[1],
        **dict.fromkeys(("thing_id", "patient_id", "practice_id", "author_id", "device_id", "contribution_id"), text),
        reason=reason, inputs=inputs, parent=parent, branch=branched, content=content, client_time=client_time,
    )  # fmt: skip
    metadata = {
        "practice_id": text,
        "collection": "patients",
        "id": text,
        "patient_id": text,
        "number": 1,
        "parent": parent,
        "inputs": list(inputs),
        "change": "creation",
        "void": content is None,
        "author_id": text,
        "device_id": text,
        "received_at": moment(NOON),
        "client_time": None if client_time is None else moment(client_time),
        "reason": reason,
        "contribution_id": text,
        "source": None,
    } | ({"branch": True} if branched else {})
    parts = GENESIS + sha256(content or b"").digest() + sha256(canonical(metadata)).digest()
    assert chain(GENESIS, version) == sha256(parts).digest()


# -- moving the head ----------------------------------------------------------------------------------------------


def test_the_first_version_and_its_head() -> None:
    later = NOON + timedelta(minutes=5)
    head, version = advance(ALICE, {"given_name": "Alice"}, Change.CREATION, by("ada", at=later), client_time=NOON)
    assert version == Version(
        practice_id="northside",
        collection=Collection.PATIENTS,
        thing_id="alice",
        patient_id="alice",
        number=1,
        parent=None,
        inputs=(),
        change=Change.CREATION,
        content=b'{"given_name":"Alice"}',
        author_id="ada",
        device_id="tablet-1",
        received_at=later,
        client_time=NOON,
        reason=None,
        contribution_id="c-1",
        source=None,
        source_digest=None,
        hash=version.hash,
    )
    assert head == replace(
        ALICE,
        version=1,
        last=1,
        hash=version.hash,
        content=version.content,
        updated_at=later,
        updated_by="ada",
    )
    assert (head.created_at, head.deleted) == (NOON, False)
    assert head.fields() == {"given_name": "Alice"}


@given(HISTORIES, STEPS)
def test_a_step_moves_the_head_to_the_next_number_and_keeps_who_it_is(
    history: tuple[Head, list[Version]], step: dict[str, Any]
) -> None:
    head, _ = history
    moved, version = advance(head, **step)
    assert (moved.version, moved.hash, moved.content) == (head.last + 1, version.hash, version.content)
    assert (version.number, version.parent, version.branch) == (moved.version, head.version or None, False)
    assert (moved.last, moved.merged_from, version.inputs) == (moved.version, step["inputs"], step["inputs"])
    assert (moved.id, moved.patient_id, moved.created_at) == (head.id, head.patient_id, head.created_at)
    assert moved.deleted == (step["content"] is None)
    if not moved.deleted:
        assert same(moved.fields(), step["content"])


@given(HISTORIES, BESIDE)
def test_a_branch_takes_the_next_number_and_the_head_answers_as_before(
    history: tuple[Head, list[Version]], step: dict[str, Any]
) -> None:
    head, versions = history
    beside, version = branch(head, **step)
    assert beside == replace(head, last=head.last + 1, hash=version.hash)
    assert (version.number, version.parent, version.branch) == (head.last + 1, step["parent"] or None, True)
    assert (version.inputs, version.source, version.source_digest) == ((), None, None)
    assert holds(beside, [*versions, version])


def test_a_merge_follows_its_branch_in_one_step() -> None:
    head, first = advance(ALICE, {"given_name": "Alice"}, Change.CREATION, by("ada"))
    head, second = advance(head, {"given_name": "Alice", "phone": "1"}, Change.MODIFICATION, by("ada"))
    beside, third = branch(head, 1, {"given_name": "Alicia"}, Change.MODIFICATION, by("ben", "phone-2"))
    merged, fourth = advance(
        beside, {"given_name": "Alicia", "phone": "1"}, Change.MERGE, by("ben", "phone-2"), inputs=(2, 3)
    )
    assert holds(merged, [first, second, third, fourth])
    assert (fourth.number, fourth.parent, fourth.inputs, fourth.branch) == (4, 2, (2, 3), False)
    assert (merged.version, merged.last, merged.merged_from) == (4, 4, (2, 3))
    assert merged == replace(merged, merged_from=())  # known for the moment, and not part of what a head is


def test_the_deleted_has_no_fields_and_says_at_which_version() -> None:
    head, _ = advance(ALICE, {"given_name": "Alice"}, Change.CREATION, by("ada"))
    head, version = advance(head, None, Change.DELETION, by("ada"), reason="entered twice")
    assert head.deleted
    assert version.content is None
    with pytest.raises(Deleted) as refusal:
        head.fields()
    assert refusal.value.context == {"version": 2}


def test_a_head_remembers_the_last_import_through_later_changes() -> None:
    imported, first = advance(ALICE, {"given_name": "Alice"}, Change.IMPORT, by("ada"), source=b'{"id":"1"}')
    assert (imported.source_digest, imported.source_version) == (first.source_digest, 1)
    edited, second = advance(imported, {"given_name": "Alicia"}, Change.MODIFICATION, by("ada"))
    assert (second.source, second.source_digest) == (None, None)
    assert (edited.source_digest, edited.source_version) == (first.source_digest, 1)
    again, third = advance(edited, {"given_name": "Alice"}, Change.IMPORT, by("ada"), source=b"{}")
    assert (again.source_digest, again.source_version) == (third.source_digest, 3)


# -- who saw what -------------------------------------------------------------------------------------------------


def head_at(version: int, content: bytes | None = b'{"given_name":"Alice"}', last: int = 0) -> Head:
    return replace(ALICE, version=version, last=last or version, content=content)


@pytest.mark.parametrize(
    ("seen", "refusal"),
    [
        (Seen(None), VersionRequired),
        (Seen(None, strict=True), VersionRequired),
        (Seen(7), None),
        (Seen(7, strict=True), None),
        (Seen(6), VersionConflict),
        (Seen(6, strict=True), StaleVersion),
        (Seen(8), VersionConflict),
        (Seen(8, strict=True), StaleVersion),
        (Seen(0), VersionConflict),
        (Seen(-1, strict=True), StaleVersion),
    ],
)
def test_a_change_names_the_version_it_saw(seen: Seen, refusal: type[Exception] | None) -> None:
    if refusal is None:
        check_seen(head_at(7), seen)
    else:
        with pytest.raises(refusal):
            check_seen(head_at(7), seen)


def test_a_conflict_brings_what_is_needed_to_settle_it() -> None:
    with pytest.raises(VersionConflict, match="changed since version 5; the head is 7") as conflict:
        check_seen(head_at(7), Seen(5))
    assert conflict.value.context == {"version": 7, "base_version": 5, "head": {"given_name": "Alice"}}


def test_a_conflict_with_a_deletion_has_no_head_to_show() -> None:
    with pytest.raises(VersionConflict) as conflict:
        check_seen(head_at(7, content=None), Seen(6))
    assert conflict.value.context == {"version": 7, "base_version": 6, "head": None}


@pytest.mark.parametrize("seen", [Seen(8), Seen(9), Seen(9, strict=True), Seen(5, strict=True)])
def test_the_future_and_the_strict_hear_the_heads_number_only(seen: Seen) -> None:
    with pytest.raises((VersionConflict, StaleVersion)) as refusal:
        check_seen(head_at(7), seen)
    assert refusal.value.context == {"version": 7}


def test_whoever_saw_an_older_version_or_a_branch_comes_late() -> None:
    """Versions 8 and 9 lie beside the trunk."""
    head = head_at(7, last=9)
    assert saw(head, Seen(7))
    assert saw(head, Seen(7, strict=True))
    for late in (1, 6, 8, 9):
        assert not saw(head, Seen(late))
        with pytest.raises(StaleVersion):
            saw(head, Seen(late, strict=True))
    with pytest.raises(VersionConflict, match="there is no version 10; the head is 7"):
        saw(head, Seen(10))
    with pytest.raises(VersionRequired):
        saw(head, Seen(None))


# -- differences --------------------------------------------------------------------------------------------------


def applied(content: dict[str, Any], differences: Sequence[Difference]) -> dict[str, Any]:
    after: dict[str, Any] = decode(canonical(content))
    for difference in differences:
        *way, name = difference.field.split(".")
        place = after
        for step in way:
            place = place[step]
        assert same(place.get(name), difference.before)
        if difference.after is None:
            del place[name]
        else:
            place[name] = difference.after
    return after


@given(CONTENTS)
def test_nothing_differs_from_itself(content: dict[str, Any]) -> None:
    assert list(diff(content, decode(canonical(content)))) == []


@given(CONTENTS, CONTENTS)
def test_the_differences_lead_from_one_to_the_other_and_back(one: dict[str, Any], other: dict[str, Any]) -> None:
    there, back = list(diff(one, other)), list(diff(other, one))
    assert same(applied(one, there), other)
    assert [Difference(item.field, item.after, item.before) for item in there] == back


@given(CONTENTS, CONTENTS)
def test_each_field_differs_once_and_in_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    fields = [tuple(item.field.split(".")) for item in diff(one, other)]
    assert fields == sorted(set(fields))


def test_differences_go_into_objects_but_not_into_lists() -> None:
    before = {"title": "BP", "values": {"systolic": {"value": 120, "unit": "mmHg"}}, "tags": ["a", "b"]}
    after = {"values": {"systolic": {"value": 125, "unit": "mmHg"}, "pulse": {"value": 60}}, "tags": ["a"]}
    assert list(diff(before, after)) == [
        Difference("tags", ["a", "b"], ["a"]),
        Difference("title", "BP", None),
        Difference("values.pulse", None, {"value": 60}),
        Difference("values.systolic.value", 120, 125),
    ]


def test_one_and_true_differ() -> None:
    assert list(diff({"a": 1, "b": {"c": [0]}}, {"a": True, "b": {"c": [False]}})) == [
        Difference("a", 1, True),
        Difference("b.c", [0], [False]),
    ]
