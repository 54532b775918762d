"""What a WatermelonDB pushes, row by row, and what it asks for: operations as the native protocol has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heallog.application.ports.sync import Standing
from heallog.domain import records, watermelon
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import ID, MAX_SAFE_INTEGER, Errors, printable
from heallog.domain.pushes import Operation
from heallog.domain.sync import Stream
from heallog.domain.versions import Collection
from heallog.domain.watermelon import DELETED_AT, TABLES, Edit, Table

Changes = Mapping[str, Any]
Key = tuple[Collection, str]


_ORDER: Sequence[tuple[Stream, str]] = (
    (Stream.CONFLICTS, "created"),
    (Stream.CONFLICTS, "updated"),
    (Stream.CONFLICTS, "deleted"),
    (Stream.PATIENTS, "created"),
    (Stream.PATIENTS, "updated"),
    (Stream.RECORDS, "created"),
    (Stream.RECORDS, "updated"),
    (Stream.RECORDS, "deleted"),
    (Stream.PATIENTS, "deleted"),
)
"""Decisions first, for they are about the head that a person saw; nothing before what it is of, and deletions last."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A row as it was pushed, or an id under `deleted`; `place` is the list that it stood in."""

    table: Table
    place: str
    raw: Any

    @property
    def id(self) -> str | None:
        """Its id, where it has one that could be an id."""
        found = self.raw if self.place == "deleted" else self.raw.get("id") if isinstance(self.raw, dict) else None
        return found if isinstance(found, str) and ID.pattern.fullmatch(found) else None

    @classmethod
    def of(cls, operation: Any) -> "Sent | None":
        """The row that is in quarantine; None of an operation that did not come as a row."""
        if not isinstance(operation, dict) or not operation.keys() >= {"table", "list", "row"}:
            return None
        place = operation["table"], operation["list"]
        return cls(TABLES[place[0]], place[1], operation["row"]) if place in _ORDER else None

    def as_sent(self) -> dict[str, Any]:
        return {"table": self.table.stream, "list": self.place, "row": self.raw}


@dataclass(frozen=True, slots=True)
class Had:
    """What a device had when it pushed: everything up to `last_pulled_at`, by a pull from `pulled_since`.

    `pulled_since` is None where nobody can tell. It is kept with a row in quarantine: the device goes on, and where it
    stood is forgotten.
    """

    last_pulled_at: int
    pulled_since: int | None

    @classmethod
    def of(cls, operation: Mapping[str, Any]) -> "Had":
        """As it is kept; nothing, where it is not, so that an edit starts from the first version."""
        places = operation.get("last_pulled_at"), operation.get("pulled_since")
        place, since = (one if isinstance(one, int) and 0 <= one <= MAX_SAFE_INTEGER else None for one in places)
        return cls(place or 0, since)

    def as_kept(self) -> dict[str, Any]:
        return {"last_pulled_at": self.last_pulled_at, "pulled_since": self.pulled_since}


def sent_in(changes: Changes, most: int) -> list[Sent]:
    """The rows of a push, in the order in which they are done. Raises `InvalidFields` where it is no changes object."""
    wrong: list[FieldError] = []
    for name, lists in changes.items():
        if name not in tuple(Stream):
            wrong.append(FieldError(printable(name), "unknown", "is not a table here"))
        elif not isinstance(lists, dict) or not all(
            place in ("created", "updated", "deleted") and isinstance(rows, list) for place, rows in lists.items()
        ):
            wrong.append(FieldError(name, "type", "must be an object with the lists created, updated and deleted"))
    if wrong:
        raise InvalidFields(wrong)
    sent = [
        Sent(TABLES[stream], place, raw) for stream, place in _ORDER for raw in changes.get(stream, {}).get(place, ())
    ]
    if len(sent) > most:
        raise InvalidFields([FieldError("", "too_many", f"must have at most {most} rows in all")])
    return sent


def operations(index: int, sent: Sent, standing: Mapping[Key, Standing], had: Had) -> tuple[Operation, ...]:
    """What a row asks for; nothing, where it is nothing that can be done."""
    collection = Collection(sent.table.stream)
    if sent.id is None or (sent.place != "deleted" and not isinstance(sent.raw, dict)):
        return (
            _operation(
                index, sent, had, "update", None, wrong=(FieldError("id", "pattern", "must be a row with an id"),)
            ),
        )
    known = standing.get((collection, sent.id))
    if sent.place == "deleted":
        return () if known is None else (_operation(index, sent, had, "delete", _base(known, None)),)
    raw = sent.raw
    if not isinstance(raw.get("_changed"), str):
        missing = FieldError("_changed", "required", "is required: the columns that the client changed")
        return (_operation(index, sent, had, "update", None, wrong=(missing,)),)
    changed = watermelon.changed(raw)
    if known is None:
        return (_operation(index, sent, had, "create", None, watermelon.edit(sent.table, _fresh(raw))),)
    if sent.place == "created":
        if not known.own:
            return (_operation(index, sent, had, "create", None, watermelon.edit(sent.table, _fresh(raw))),)
        # It was created already and the answer was lost: what was filled or changed since is an edit of it. Once the
        # client has pulled it, only what it changed is its own.
        pulled = raw.get("version") is not None
        filled = frozenset() if pulled else frozenset(name for name, value in _fresh(raw).items() if value is not None)
        changed |= filled - {"patient_id"}
    base = _base(known, watermelon.base(raw))
    edit = watermelon.edit(sent.table, raw, changed)
    made = [_operation(index, sent, had, "update", base, edit)] if edit.fields or edit.wrong else []
    if DELETED_AT in changed and raw.get(DELETED_AT) is not None:
        made.append(_operation(index, sent, had, "delete", base))
    return tuple(made)


def bare(index: int, sent: Sent, had: Had) -> Operation:
    """What is kept of a row of somebody who may not write: nothing is looked at to say what it asks for."""
    return _operation(index, sent, had, "update", None)


def _fresh(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A row that was made by the client. It may show a new record as the draft that it will be."""
    return {name: value for name, value in raw.items() if (name, value) != ("status", records.DRAFT)}


def _base(standing: Standing, named: int | None) -> int:
    """The version that an edit started from: the one that it names, or else what the device had before its last pull.

    What the device did not have then it can only have changed as it came with that pull, unless it made it itself. And
    while it has not pulled what became of its last push, its row shows its own values beside a version that came with
    the pull before the push: it has seen no more than when it made that push. Nor has it seen a version that came after
    its last pull: one that did have this number was lost since, in a restore.
    """
    seen = standing.before or (1 if standing.own else standing.after) or 1
    base = seen if named is None else min(named or 1, standing.after or 1)
    return base if standing.since is None else min(base, standing.since)


def _operation(
    index: int,
    sent: Sent,
    had: Had,
    op: str,
    base: int | None,
    edit: Edit = Edit({}),  # noqa: B008 - it never changes
    wrong: tuple[FieldError, ...] = (),
) -> Operation:
    collection, fields, patient_id = Collection(sent.table.stream), dict(edit.fields), None
    wrong = (*wrong, *edit.wrong)
    if op == "create" and collection is Collection.RECORDS:
        patient_id = fields.pop("patient_id", None)
        errors: Errors = []
        if patient_id is None:
            errors.append(FieldError("patient_id", "required", "is required for a record"))
        else:
            ID.check(patient_id, "patient_id", errors)
        wrong = (*wrong, *errors)
    return Operation(
        index,
        op,
        collection,
        sent.id or "",
        None if wrong else patient_id,
        base,
        fields,
        None,
        None,
        sent.as_sent() | had.as_kept(),
        wrong,
    )
