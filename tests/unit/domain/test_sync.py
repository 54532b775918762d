"""Items of the feed, and cursors: a device goes on where it stopped, and nobody goes on where another did."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.access import Actor, Role
from heallog.domain.errors import InvalidCursor, InvalidFields, ResyncRequired
from heallog.domain.sync import (
    Cursor,
    Feed,
    Item,
    Pages,
    Place,
    Stream,
    begun,
    check,
    moved,
    of_head,
    read,
)
from heallog.domain.versions import Collection, Head, document

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY, OLD = b"k" * 32, b"o" * 32
LIFE = timedelta(hours=24)
ALICE = Actor("alice", "hillside", Role.OWNER, "s-1", "tablet")
HEAD = Head(
    "hillside", Collection.RECORDS, "r-1", "ngozi", 3, 3, bytes(32), b'{"text":"Feels well."}', NOON, NOON, "alice"
)


# -- items --------------------------------------------------------------------------------------------------------


def test_an_item_is_the_thing_as_its_own_address_shows_it() -> None:
    item = of_head(replace(HEAD, merged_from=(1, 2)))
    assert json.loads(item.wire) == {
        "collection": "records",
        "id": "r-1",
        "version": 3,
        "op": "put",
        "data": json.loads(document(HEAD)),
    }
    assert (item.stream, item.id, item.patient_id, item.version) == (Stream.RECORDS, "r-1", "ngozi", 3)


@pytest.mark.parametrize("collection", Collection)
def test_a_deletion_is_told_without_what_was_deleted(collection: Collection) -> None:
    head = replace(
        HEAD, collection=collection, id="ngozi" if collection is Collection.PATIENTS else "r-1", content=None
    )
    told = json.loads(of_head(head).wire)
    assert told["op"] == "delete"
    owner = {"patient_id": "ngozi"} if collection is Collection.RECORDS else {}
    assert told["data"] == {
        "id": head.id, **owner, "version": 3, "deleted_at": "2026-03-02T12:00:00.000Z", "updated_by": "alice",
    }  # fmt: skip


def test_of_each_thing_the_latest_change_is_told() -> None:
    feed = Feed()
    first, second = (Item(Stream.RECORDS, "r-1", "ngozi", number, b"") for number in (1, 2))
    other = Item(Stream.PATIENTS, "r-1", "r-1", 1, b"")
    feed.tell("hillside", [first, other])
    feed.tell("hillside", [second])
    feed.tell("brook", [first])
    assert feed.told() == [("brook", [first]), ("hillside", [second, other])]
    feed.again("elsewhere", ())
    assert len(feed.told()) == 2, "whoever has nothing to tell takes no number"


def test_nothing_comes_before_what_it_is_of() -> None:
    assert sorted(Stream, key=lambda stream: stream.rank) == [Stream.PATIENTS, Stream.RECORDS, Stream.CONFLICTS]


# -- cursors ------------------------------------------------------------------------------------------------------

places = st.builds(Place, st.integers(0, 2**53), st.integers(0, 3), st.text("abc-.019", max_size=64))


@given(places, places.map(lambda place: place.seq) | st.none())
def test_a_cursor_comes_back_as_it_was_given(after: Place, until: int | None) -> None:
    cursor = Cursor("hillside", "e-1", tuple(Stream), after, until, "alice", "tablet", int(NOON.timestamp()) + 1)
    assert read(cursor.text(KEY), [KEY], ALICE, NOON) == cursor
    assert read(cursor.text(OLD), [KEY, OLD], ALICE, NOON) == cursor


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_cursor_that_was_changed_anywhere_is_none(at: int, by: int) -> None:
    text = begun(ALICE, "e-1", Stream).text(KEY)
    at %= len(text)
    changed = text[:at] + chr(ord(text[at]) ^ by) + text[at + 1 :]
    with pytest.raises(InvalidCursor):
        read(changed, [KEY], ALICE, NOON)


@pytest.mark.parametrize(
    "text",
    ["", "null", "-1", "1.5", str(2**60), "hls_", "hls_a.b", "hls_" + "A" * 40 + "." + "A" * 22, "é", "x" * 5000],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        read(text, [KEY], ALICE, NOON)


def test_a_cursor_of_another_key_is_none() -> None:
    with pytest.raises(InvalidCursor):
        read(begun(ALICE, "e-1", Stream).text(OLD), [KEY], ALICE, NOON)


PAGE = moved(begun(ALICE, "e-1", Stream), ALICE, Place(5, 1, "r-1"), 9, NOON, LIFE)
END = moved(PAGE, ALICE, None, 9, NOON, LIFE)


@pytest.mark.parametrize(
    ("who", "page", "end"),
    [
        (ALICE, True, True),
        (replace(ALICE, session_id="s-2"), True, True),
        (replace(ALICE, device_id="phone"), False, True),
        (replace(ALICE, account_id="ben"), False, True),
        (replace(ALICE, practice_id="brook"), False, False),
    ],
)
def test_a_pull_belongs_to_a_device_and_what_it_leaves_to_the_practice(who: Actor, page: bool, end: bool) -> None:
    for cursor, good in ((PAGE, page), (END, end)):
        if good:
            assert read(cursor.text(KEY), [KEY], who, NOON) == cursor
        else:
            with pytest.raises(InvalidCursor):
                read(cursor.text(KEY), [KEY], who, NOON)


def test_a_pull_is_gone_on_with_for_a_day_from_its_beginning() -> None:
    later = moved(PAGE, ALICE, Place(6, 1, "r-2"), 9, NOON + timedelta(hours=20), LIFE)
    just = NOON + LIFE - timedelta(seconds=1)
    assert read(later.text(KEY), [KEY], ALICE, just) == later
    with pytest.raises(InvalidCursor, match="too long ago"):
        read(later.text(KEY), [KEY], ALICE, NOON + LIFE)
    assert read(END.text(KEY), [KEY], ALICE, NOON + timedelta(days=399)) == END


def test_at_the_end_of_a_pull_everything_up_to_its_head_is_behind() -> None:
    assert (END.after.seq, END.until) == (9, None)
    assert all((END.after.seq, END.after.rank) > (9, stream.rank) for stream in Stream)


@pytest.mark.parametrize(
    ("cursor", "good"),
    [
        (END, True),
        (replace(END, epoch="e-2"), False),
        (replace(END, after=Place(10)), False),
        (PAGE, True),
        (replace(PAGE, until=10), False),
    ],
)
def test_a_cursor_of_a_database_that_was_restored_since_is_told_to_resync(cursor: Cursor, good: bool) -> None:
    if good:
        check(cursor, "e-1", 9, 0)
    else:
        with pytest.raises(ResyncRequired, match="push what is not pushed yet"):
            check(cursor, "e-1", 9, 0)


@pytest.mark.parametrize(
    ("cursor", "floor", "good"),
    [
        (END, 9, True),
        (END, 10, False),
        (replace(END, after=Place(0, 3)), 10, True),
        (replace(PAGE, anew=False), 4, True),
        (replace(PAGE, anew=False), 5, False),
        (PAGE, 5, True),
        (PAGE, 100, True),
    ],
)
def test_a_cursor_below_the_floor_is_told_to_resync_unless_it_came_from_nothing(
    cursor: Cursor, floor: int, good: bool
) -> None:
    """At the floor itself a page may end in the midst of what was dropped; a pull that has ended there is behind it."""
    if good:
        check(cursor, "e-1", 100, floor)
    else:
        with pytest.raises(ResyncRequired, match="away for too long"):
            check(cursor, "e-1", 100, floor)


def test_a_pull_from_nothing_is_one_to_its_end_and_no_longer() -> None:
    """What it was not sent it cannot have missed; from its end on, it has something."""
    first = moved(begun(ALICE, "e-1", Stream), ALICE, Place(5), 9, NOON, LIFE)
    page = moved(read(first.text(KEY), [KEY], ALICE, NOON), ALICE, Place(7), 9, NOON, LIFE)
    assert (first.anew, page.anew) == (True, True)
    assert not moved(page, ALICE, None, 9, NOON, LIFE).anew
    assert not moved(END, ALICE, Place(10), 12, NOON, LIFE).anew


# -- pages --------------------------------------------------------------------------------------------------------


def test_a_page_is_as_large_as_is_asked_for_or_refused() -> None:
    pages = Pages(50, 500, 5_000, LIFE)
    assert [pages.size(wanted) for wanted in (None, 50, 51, 5_000)] == [500, 50, 51, 5_000]
    for wanted in (-1, 0, 49, 5_001):
        with pytest.raises(InvalidFields) as refused:
            pages.size(wanted)
        (wrong,) = refused.value.errors
        assert (wrong.field, wrong.message) == ("limit", "must be from 50 to 5000")
