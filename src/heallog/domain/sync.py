"""The change feed of a practice, and cursors into it.

The feed has one item for each thing: its latest change, ready to be sent. Items are ordered by `seq`, which a
contribution takes as the last thing before its commit, so that the order of `seq` is the order of the commits: whoever
read up to one has missed nothing below it.
"""

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from heallog.domain.access import Actor
from heallog.domain.audit import Written
from heallog.domain.canon import canonical, moment
from heallog.domain.conflicts import Conflict
from heallog.domain.conflicts import document as conflict_document
from heallog.domain.errors import FieldError, InvalidCursor, InvalidFields, ResyncRequired
from heallog.domain.versions import Collection, Head, document, immutable


class Stream(StrEnum):
    """What the feed is made of, in the order in which things of one contribution come: nothing before what it is of."""

    PATIENTS = "patients"
    RECORDS = "records"
    CONFLICTS = "conflicts"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {stream: rank for rank, stream in enumerate(Stream)}


@immutable
class Item:
    """A thing's latest change. `wire` is one element of `changes`, as bytes; `deleted`: it is a tombstone."""

    stream: Stream
    id: str
    patient_id: str
    version: int
    wire: bytes
    deleted: bool = False


@dataclass(slots=True)
class _Told:
    """What one practice's devices are told: items, what comes again as it is, and the contributions behind it."""

    items: dict[tuple[Stream, str], Item] = field(default_factory=dict)
    again: set[tuple[Stream, str]] = field(default_factory=set)
    contributions: set[str] = field(default_factory=set)


class Feed:
    """What a unit of work has to tell devices when it commits: of each thing its latest change."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def tell(self, practice_id: str, items: Iterable[Item]) -> None:
        self._of(practice_id).items.update({(item.stream, item.id): item for item in items})

    def wrote(self, written: Iterable[Written]) -> None:
        """Heads that moved, with the contributions that moved them."""
        items: dict[str, list[Item]] = {}
        for item in written:
            head = item.head
            items.setdefault(head.practice_id, []).append(of_head(head))
            self._of(head.practice_id).contributions.update([version.contribution_id for version in item.versions])
        for practice_id, told in items.items():
            self.tell(practice_id, told)

    def again(self, practice_id: str, keys: Iterable[tuple[Stream, str]]) -> None:
        """Things that did not change, and shall come as if they had."""
        if keys := set(keys):
            self._of(practice_id).again |= keys

    def told(self) -> list[tuple[str, list[Item]]]:
        """By practice, in one order always."""
        return [(practice_id, list(told.items.values())) for practice_id, told in sorted(self._told.items(), key=_name)]

    def repeated(self, practice_id: str) -> list[tuple[Stream, str]]:
        """What comes again, and is not told anew anyway."""
        told = self._of(practice_id)
        return sorted(told.again - told.items.keys())

    def contributions(self, practice_id: str) -> list[str]:
        """The ids of what a practice is told of."""
        return sorted(self._of(practice_id).contributions)

    def _of(self, practice_id: str) -> _Told:
        return self._told.setdefault(practice_id, _Told())


def _name(told: tuple[str, _Told]) -> str:
    return told[0]


def of_head(head: Head) -> Item:
    """What devices are told of a patient or record. One that was deleted comes as its bare tombstone."""
    stream = Stream(str(head.collection))
    if head.content is None:
        owner = f'"patient_id":"{head.patient_id}",' if head.collection is Collection.RECORDS else ""
        data = (
            f'{{"id":"{head.id}",{owner}"version":{head.version},"deleted_at":"{moment(head.updated_at)}",'
            f'"updated_by":"{head.updated_by}"}}'
        ).encode()
        return Item(
            stream, head.id, head.patient_id, head.version, _wire(stream, head.id, head.version, "delete", data), True
        )
    data = document(head, merger=False)
    return Item(stream, head.id, head.patient_id, head.version, _wire(stream, head.id, head.version, "put", data))


def of_conflict(conflict: Conflict) -> Item:
    """Conflicts are read, and can be decided about, without a network."""
    data = canonical(conflict_document(conflict))
    wire = _wire(Stream.CONFLICTS, conflict.id, conflict.head_version, "put", data)
    return Item(Stream.CONFLICTS, conflict.id, conflict.patient_id, conflict.head_version, wire)


def _wire(stream: Stream, id: str, version: int, op: str, data: bytes) -> bytes:
    known = f'{{"collection":"{stream}","id":"{id}","version":{version},"op":"{op}","data":'
    return known.encode() + data + b"}"


# -- pages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pages:
    """How many items one answer has: the least and the most that may be asked for, and as many as come unasked.

    `life`: how long a pull that was begun may be gone on with.
    """

    least: int
    usual: int
    most: int
    life: timedelta

    def size(self, wanted: int | None) -> int:
        """As many as are wanted, and never others: raises `InvalidFields`, which names the range."""
        if wanted is None:
            return self.usual
        if not self.least <= wanted <= self.most:
            raise InvalidFields([FieldError("limit", "range", f"must be from {self.least} to {self.most}")])
        return wanted


# -- cursors ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"hls_([A-Za-z0-9_-]{20,2000})\.([A-Za-z0-9_-]{22})")
_TAG_SIZE = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the feed: after this item."""

    seq: int = 0
    rank: int = 0
    id: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a device has read. `until` is set while a pull goes on: the feed's head when that began.

    A cursor between two pulls belongs to the practice, for a device that is restored from another's backup has one. In
    the midst of a pull it belongs to the account, the device and what it asked for as well, and expires. `anew` is a
    pull that began from nothing, as long as it goes on.
    """

    practice_id: str
    epoch: str
    streams: tuple[str, ...]
    after: Place
    until: int | None = None
    account_id: str = ""
    device_id: str = ""
    expires: int = 0
    anew: bool = False

    def text(self, key: bytes) -> str:
        """The cursor as a device keeps it: nobody but us can make or change one."""
        after = self.after
        values = [
            self.practice_id,
            self.epoch,
            list(self.streams),
            [after.seq, after.rank, after.id],
            self.until,
            self.account_id,
            self.device_id,
            self.expires,
            self.anew,
        ]
        payload = _text(json.dumps(values, separators=(",", ":")).encode())
        return f"hls_{payload}.{_text(_tag(key, payload))}"


def begun(actor: Actor, epoch: str, streams: Iterable[Stream]) -> Cursor:
    """Before everything."""
    return Cursor(actor.practice_id, epoch, tuple(streams), Place(), anew=True)


def read(text: str, keys: Iterable[bytes], actor: Actor, now: datetime) -> Cursor:
    """A cursor that this actor may go on from. Raises `InvalidCursor`, which says nothing of what is in it."""
    found = _TOKEN.fullmatch(text)
    if found is None or not any(hmac.compare_digest(_text(_tag(key, found[1])), found[2]) for key in keys):
        raise InvalidCursor("this is no cursor of ours; begin without one")
    practice_id, epoch, streams, after, *rest = _decoded(found[1])
    cursor = Cursor(practice_id, epoch, tuple(streams), Place(*after), *rest)
    if cursor.practice_id != actor.practice_id:
        raise InvalidCursor("this is no cursor of ours; begin without one")
    if cursor.until is not None:
        if (cursor.account_id, cursor.device_id) != (actor.account_id, actor.device_id):
            raise InvalidCursor("this is no cursor of ours; begin without one")
        if cursor.expires <= now.timestamp():
            raise InvalidCursor("this pull was begun too long ago; begin it again with the cursor before it")
    return cursor


def check(cursor: Cursor, epoch: str, head: int, floor: int) -> None:
    """Raises `ResyncRequired` for a cursor of a database that is not this one any more, or from below the floor.

    Whoever began from nothing misses no tombstone that is gone: what is deleted after a thing was sent lies beyond the
    end of that pull.
    """
    if cursor.epoch != epoch or cursor.after.seq > head or (cursor.until or 0) > head:
        raise ResyncRequired(RESTORED)
    below = (cursor.after.seq, cursor.after.rank) < (floor, len(Stream))
    if below and cursor.after.seq and not cursor.anew:
        raise ResyncRequired(AWAY)


RESTORED = "the database was restored since then: push what is not pushed yet, then pull anew"
AWAY = "this device was away for too long: push what is not pushed yet, then pull anew"


def moved(cursor: Cursor, actor: Actor, after: Place | None, until: int, now: datetime, life: timedelta) -> Cursor:
    """The cursor after a page: behind its last item, or (`after` is None) at the end of the pull."""
    if after is None:
        return Cursor(cursor.practice_id, cursor.epoch, cursor.streams, Place(until, len(Stream), ""))
    expires = cursor.expires or int((now + life).timestamp())
    return Cursor(
        cursor.practice_id,
        cursor.epoch,
        cursor.streams,
        after,
        until,
        actor.account_id,
        actor.device_id,
        expires,
        cursor.anew,
    )


def _tag(key: bytes, payload: str) -> bytes:
    return hmac.digest(key, payload.encode(), "sha256")[:_TAG_SIZE]


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(payload: str) -> Any:
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
