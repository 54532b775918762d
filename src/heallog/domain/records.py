"""Records: one clinical statement about a patient. Which fields each kind has, and which steps lead where.

`draft` → `signed` → `amended`, or `entered_in_error` from any of them. What is signed never changes; it is amended, by
a named author with a reason.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from heallog.domain.errors import FieldError, InvalidFields, RecordSigned, WrongState
from heallog.domain.fields import (
    ID,
    AnyOf,
    Boolean,
    Choice,
    Errors,
    Field,
    Fields,
    Group,
    ListOf,
    Moment,
    Named,
    Number,
    Text,
    check_fields,
    moment,
    object_schema,
)

DRAFT: Final = "draft"
SIGNED: Final = "signed"
AMENDED: Final = "amended"
ENTERED_IN_ERROR: Final = "entered_in_error"
STATUSES: Final = (DRAFT, SIGNED, AMENDED, ENTERED_IN_ERROR)

CODE = Group(
    {
        "system": Field(Text(300), says="The code system's URI, such as http://loinc.org."),
        "code": Field(Text(100, shortest=1), required=True),
        "display": Field(Text(500)),
    }
)

MEASUREMENT = Group(
    {
        "value": Field(AnyOf(Text(2_000, lines=True)), says="A number, a string or a boolean."),
        "unit": Field(Text(60), says="UCUM where there is one."),
        "comparator": Field(Choice(("<", "<=", ">=", ">"))),
        "code": Field(CODE, says="What was measured, or the coded answer's system and code."),
        "absent": Field(Text(200), says="Why there is no value."),
    }
)

_WORD = Text(200)
_WORDS = ListOf(Text(300), most=100)

COMMON: Fields = {
    "title": Field(Text(500)),
    "occurred_at": Field(Moment(), says="When it was so; an exact time, or a date as precise as it is known."),
    "ended_at": Field(Moment()),
    "code": Field(CODE),
    "clinical_status": Field(_WORD, says="The statement's own status, such as active, resolved or stopped."),
    "text": Field(Text(100_000, lines=True), says="Narrative."),
    "values": Field(Named(MEASUREMENT), says="Measured values by name: systolic, diastolic, value."),
    "tags": Field(ListOf(Text(100, shortest=1), most=50, unique=True)),
    "encounter_id": Field(ID, says="The encounter that it belongs to."),
    "status": Field(Choice(STATUSES), settable=False),
    "signed_by": Field(ID, settable=False),
    "signed_at": Field(Moment(exact=True), settable=False),
}

OWN: Mapping[str, Fields] = {
    "encounter": {"encounter_class": Field(_WORD), "complaint": Field(Text(1_000), says="Why the patient came.")},
    "note": {},
    "observation": {"category": Field(_WORD), "interpretation": Field(_WORD), "body_site": Field(_WORD)},
    "condition": {
        "category": Field(_WORD),
        "severity": Field(_WORD),
        "verification": Field(_WORD),
        "body_site": Field(_WORD),
    },
    "medication": {
        "dose": Field(Number(least=0)),
        "dose_unit": Field(Text(60)),
        "route": Field(_WORD),
        "frequency": Field(_WORD),
        "as_needed": Field(Boolean()),
        "instructions": Field(Text(4_000, lines=True)),
        "quantity": Field(Number(least=0)),
        "indication": Field(Text(1_000), says="What it is for."),
    },
    "allergy": {
        "substance": Field(Text(300)),
        "criticality": Field(Choice(("low", "high", "unable_to_assess"))),
        "severity": Field(_WORD),
        "verification": Field(_WORD),
        "categories": Field(_WORDS),
        "reactions": Field(_WORDS),
    },
    "immunization": {
        "lot_number": Field(_WORD),
        "dose_number": Field(_WORD),
        "route": Field(_WORD),
        "body_site": Field(_WORD),
    },
    "procedure": {"outcome": Field(_WORD), "body_site": Field(_WORD), "indication": Field(Text(1_000))},
    "document": {"content_type": Field(_WORD), "category": Field(_WORD)},
    "report": {"category": Field(_WORD), "results": Field(ListOf(ID, most=500), says="Ids of its observations.")},
    "care_plan": {
        "category": Field(_WORD),
        "activities": Field(_WORDS),
        "addresses": Field(ListOf(ID), says="Ids of the conditions that it is for."),
    },
    "goal": {"target": Field(Text(1_000)), "achievement": Field(_WORD), "addresses": Field(ListOf(ID))},
    "imaging": {"modality": Field(_WORD), "body_site": Field(_WORD), "instances": Field(Number(least=0, whole=True))},
}

KINDS: Final = tuple(OWN)
KIND: Fields = {"kind": Field(Choice(KINDS), required=True)}
FIELDS: Mapping[str, Fields] = {kind: {**KIND, **COMMON, **own} for kind, own in OWN.items()}
"""Every field of every kind."""

ANY: Fields = {name: replace(known, required=False) for fields in FIELDS.values() for name, known in fields.items()}
"""Every field that some kind of record has: what may stand in a change."""


def new(body: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a new draft. Raises `InvalidFields` naming everything that is wrong."""
    errors: Errors = []
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in FIELDS:
        check_fields({**ANY, **KIND}, body, errors)
        raise InvalidFields(errors)
    content = check_fields(FIELDS[kind], body, errors)
    return _whole({**content, "status": DRAFT}, errors)


def imported(body: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Content that comes with a status of its own, from another system. Raises `InvalidFields`."""
    content = new(body)
    if status not in STATUSES:
        raise InvalidFields([FieldError("status", "choice", f"must be one of {', '.join(STATUSES)}")])
    return {**content, "status": status}


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A draft with some fields changed; `null` takes one away. Raises `RecordSigned`, `WrongState`, `InvalidFields`."""
    if content["status"] in (SIGNED, AMENDED):
        raise RecordSigned("signed content never changes; amend it and say why")
    if content["status"] == ENTERED_IN_ERROR:
        raise WrongState("this was entered in error; nothing in it can change")
    return _apply(content, changes)


def signed(content: Mapping[str, Any], account_id: str, at: datetime) -> dict[str, Any]:
    """A draft, signed by someone. Raises `WrongState` for anything but a draft."""
    if content["status"] != DRAFT:
        raise WrongState(f"only a draft can be signed; this is {content['status']}")
    return {**content, "status": SIGNED, "signed_by": account_id, "signed_at": moment(at)}


def amended(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Signed content with an amendment. Raises `WrongState` for a draft (change it) or an error."""
    if content["status"] not in (SIGNED, AMENDED):
        raise WrongState(f"only a signed record is amended; this is {content['status']}")
    return {**_apply(content, changes), "status": AMENDED}


def retracted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Entered in error: kept, and no longer to be believed. Raises `WrongState` where it already is."""
    if content["status"] == ENTERED_IN_ERROR:
        raise WrongState("this is already marked as entered in error")
    return {**content, "status": ENTERED_IN_ERROR}


def reverted(content: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """A draft with the fields of an earlier version. The status stays: it only moves forward."""
    if content["status"] in (SIGNED, AMENDED):
        raise RecordSigned("signed content never changes; amend it and say why")
    if content["status"] == ENTERED_IN_ERROR:
        raise WrongState("this was entered in error; nothing in it can change")
    return {**earlier, "status": content["status"]}


def _apply(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    errors: Errors = []
    if "kind" in changes and changes["kind"] != content["kind"]:
        errors.append(FieldError("kind", "immutable", "a record's kind never changes"))
    fields = {name: known for name, known in FIELDS[content["kind"]].items() if name != "kind"}
    rest = {name: value for name, value in changes.items() if name != "kind"}
    checked = check_fields(fields, rest, errors)
    kept = {name: value for name, value in content.items() if name not in rest}
    return _whole({**kept, **checked}, errors)


def _whole(content: dict[str, Any], errors: Errors) -> dict[str, Any]:
    """Rules over several fields. Raises `InvalidFields` with these and what was found before."""
    if not errors:
        if not any(_says(content.get(name)) for name in ("title", "code", "text", "values", "substance")):
            errors.append(FieldError("title", "required", "a record needs a title, a code, a text or values"))
        if content["kind"] == "note" and not _says(content.get("text")):
            errors.append(FieldError("text", "required", "a note needs its text"))
        start, end = content.get("occurred_at"), content.get("ended_at")
        if start and end and _ends_before(start, end):
            errors.append(FieldError("ended_at", "order", "must not lie before occurred_at"))
    if errors:
        raise InvalidFields(errors)
    return content


def _says(value: Any) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


_OFFSETS = timedelta(hours=14)
"""How far a day begins from UTC's, at most, east or west."""


def _ends_before(start: str, end: str) -> bool:
    """Whether an end lies before its start, whatever a bare date's own offset from UTC was."""
    slack = _OFFSETS if (len(start) > 10) != (len(end) > 10) else timedelta(0)
    return started_at(end, latest=True) + slack < started_at(start)


_LATEST: Mapping[str, Any] = {"hour": 23, "minute": 59, "second": 59, "microsecond": 999_999}


def started_at(value: str, *, latest: bool = False) -> datetime:
    """The first (or last) instant that a `Moment` may mean, in UTC: `2015` begins on 1 January."""
    if len(value) > 10:
        return datetime.fromisoformat(value)
    year, month, day = (*(int(part) for part in value.split("-")), 0, 0)[:3]
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if not latest:
        return first
    if not month:
        return first.replace(month=12, day=31, **_LATEST)
    if not day:
        last = 31 if month == 12 else (datetime(year, month + 1, 1, tzinfo=UTC) - first).days
        return first.replace(day=last, **_LATEST)
    return first.replace(**_LATEST)


def schema(kind: str, *, writing: bool = False) -> dict[str, Any]:
    """JSON Schema of one kind of record's content."""
    described = object_schema(FIELDS[kind], writing=writing)
    described["properties"]["kind"] = {"const": kind}
    return described
