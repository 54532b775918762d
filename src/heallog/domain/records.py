"""Records: one clinical statement about a patient. Which fields each kind has, and which steps lead where.

`draft` → `signed` → `amended`, or `entered_in_error` from any of them. What is signed never changes; it is amended, by
a named author with a reason.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from heallog.domain.canon import moment
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
    object_schema,
)
from heallog.domain.merging import Invariant, Mergeable, whole
from heallog.domain.policies import (
    COUNTER,
    DERIVED,
    IMMUTABLE,
    MANUAL,
    SET,
    TEXT,
    each,
    group,
    monotone,
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

_WORD = Field(Text(200), MANUAL)
_WORDS = Field(ListOf(Text(300), most=100), SET)

COMMON: Fields = {
    "title": Field(Text(500), MANUAL),
    "occurred_at": Field(Moment(), MANUAL, says="When it was so; an exact time, or a date as precise as it is known."),
    "ended_at": Field(Moment(), MANUAL),
    "code": Field(CODE, group("code")),
    "clinical_status": replace(_WORD, says="The statement's own status, such as active, resolved or stopped."),
    "text": Field(Text(100_000, lines=True), TEXT, says="Narrative."),
    "values": Field(
        Named(MEASUREMENT),
        each(IMMUTABLE, blood_pressure=("systolic", "diastolic")),
        says="Measured values by name: systolic, diastolic, value.",
    ),
    "tags": Field(ListOf(Text(100, shortest=1), most=50, unique=True), SET),
    "encounter_id": Field(ID, IMMUTABLE, says="The encounter that it belongs to."),
    "status": Field(Choice(STATUSES), monotone(*STATUSES), settable=False),
    "signed_by": Field(ID, IMMUTABLE, settable=False),
    "signed_at": Field(Moment(exact=True), IMMUTABLE, settable=False),
}

OWN: Mapping[str, Fields] = {
    "encounter": {"encounter_class": _WORD, "complaint": Field(Text(1_000), TEXT, says="Why the patient came.")},
    "note": {},
    "observation": {
        "category": _WORD,
        "interpretation": _WORD,
        "body_site": _WORD,
        "bmi": Field(Number(), DERIVED, settable=False, says="From the values named weight and height, in kg/m2."),
    },
    "condition": {"category": _WORD, "severity": _WORD, "verification": _WORD, "body_site": _WORD},
    "medication": {
        "dose": Field(Number(least=0), group("dosage")),
        "dose_unit": Field(Text(60), group("dosage")),
        "route": Field(Text(200), group("dosage")),
        "frequency": Field(Text(200), group("dosage")),
        "as_needed": Field(Boolean(), group("dosage")),
        "instructions": Field(Text(4_000, lines=True), MANUAL),
        "quantity": Field(Number(least=0), MANUAL),
        "remaining": Field(Number(least=0), COUNTER, says="How many are left; several people may count them down."),
        "indication": Field(Text(1_000), TEXT, says="What it is for."),
    },
    "allergy": {
        "substance": Field(Text(300), MANUAL),
        "criticality": Field(Choice(("low", "high", "unable_to_assess")), MANUAL),
        "severity": _WORD,
        "verification": _WORD,
        "categories": _WORDS,
        "reactions": _WORDS,
    },
    "immunization": {
        "lot_number": _WORD,
        "dose_number": _WORD,
        "route": Field(Text(200), group("dosage")),
        "body_site": _WORD,
    },
    "procedure": {"outcome": _WORD, "body_site": _WORD, "indication": Field(Text(1_000), TEXT)},
    "document": {"content_type": _WORD, "category": _WORD},
    "report": {"category": _WORD, "results": Field(ListOf(ID, most=500), SET, says="Ids of its observations.")},
    "care_plan": {
        "category": _WORD,
        "activities": _WORDS,
        "addresses": Field(ListOf(ID), SET, says="Ids of the conditions that it is for."),
    },
    "goal": {"target": Field(Text(1_000), MANUAL), "achievement": _WORD, "addresses": Field(ListOf(ID), SET)},
    "imaging": {"modality": _WORD, "body_site": _WORD, "instances": Field(Number(least=0, whole=True), MANUAL)},
}

KINDS: Final = tuple(OWN)
KIND: Fields = {"kind": Field(Choice(KINDS), IMMUTABLE, required=True)}
FIELDS: Mapping[str, Fields] = {kind: {**KIND, **COMMON, **own} for kind, own in OWN.items()}
"""Every field of every kind."""

_CHANGEABLE: Mapping[str, Fields] = {kind: {**COMMON, **own} for kind, own in OWN.items()}

ANY: Fields = {name: replace(known, required=False) for fields in FIELDS.values() for name, known in fields.items()}
"""Every field that some kind of record has: what may stand in a change."""

_UNKNOWN: Fields = {**ANY, **KIND}
"""Of a record whose kind is none: what may be said of it all the same."""

if differing := {
    name for fields in FIELDS.values() for name, known in fields.items() if known.policy != ANY[name].policy
}:
    raise TypeError(f"merged in one way in one kind, in another way in another: {sorted(differing)}")


def new(body: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a new draft. Raises `InvalidFields` naming everything that is wrong."""
    errors: Errors = []
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in FIELDS:
        check_fields(_UNKNOWN, body, errors)
        raise InvalidFields(errors)
    content = check_fields(FIELDS[kind], body, errors)
    return derived(whole({**content, "status": DRAFT}, INVARIANTS, errors))


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
    return derived({**earlier, "status": content["status"]})


def _apply(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    errors: Errors = []
    if "kind" in changes and changes["kind"] != content["kind"]:
        errors.append(FieldError("kind", "immutable", "a record's kind never changes"))
    rest = {name: value for name, value in changes.items() if name != "kind"}
    checked = check_fields(_CHANGEABLE[content["kind"]], rest, errors)
    kept = {name: value for name, value in content.items() if name not in rest}
    return derived(whole({**kept, **checked}, INVARIANTS, errors))


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


# -- rules over several fields --------------------------------------------------------------------------------------

_SAYING: Final = ("title", "code", "text", "values", "substance")


def _says_something(content: Mapping[str, Any]) -> bool:
    for name in _SAYING:  # noqa: SIM110 - asked of every content several times: a third of what `any` takes
        if _says(content.get(name)):
            return True
    return False


def _says(value: Any) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


INVARIANTS: Final = (
    Invariant(
        _SAYING,
        FieldError("title", "required", "a record needs a title, a code, a text or values"),
        _says_something,
    ),
    Invariant(
        ("text",),
        FieldError("text", "required", "a note needs its text"),
        lambda content: content.get("kind") != "note" or _says(content.get("text")),
    ),
    Invariant(
        ("occurred_at", "ended_at"),
        FieldError("ended_at", "order", "must not lie before occurred_at"),
        lambda content: not _ends_before(content.get("occurred_at"), content.get("ended_at")),
    ),
)


_OFFSETS = timedelta(hours=14)
"""How far a day begins from UTC's, at most, east or west."""


def _ends_before(start: str | None, end: str | None) -> bool:
    """Whether an end lies before its start, whatever a bare date's own offset from UTC was."""
    if not start or not end:
        return False
    slack = _OFFSETS if (len(start) > 10) != (len(end) > 10) else timedelta(0)
    return started_at(end, latest=True) + slack < started_at(start)


# -- what follows from other fields -----------------------------------------------------------------------------------

_KILOGRAMS: Mapping[str, Decimal] = {"kg": Decimal(1), "g": Decimal("0.001"), "[lb_av]": Decimal("0.45359237")}
_METRES: Mapping[str, Decimal] = {"m": Decimal(1), "cm": Decimal("0.01"), "[in_i]": Decimal("0.0254")}
_POSSIBLE: Final = (5, 300)
"""The body mass indices that a living being may have; others come from a slip, and a slip is not multiplied."""


def derived(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with what follows from its other fields worked out anew."""
    if content["kind"] != "observation" and "bmi" not in content:
        return dict(content)
    rest = {name: value for name, value in content.items() if name != "bmi"}
    bmi = _bmi(content.get("values", {})) if content["kind"] == "observation" else None
    return rest if bmi is None else {**rest, "bmi": bmi}


def _bmi(values: Mapping[str, Any]) -> float | None:
    """The body mass index: weight in kg / (height in m)² (WHO), to one decimal; None where that is no possible one."""
    weight, height = _amount(values.get("weight"), _KILOGRAMS), _amount(values.get("height"), _METRES)
    if weight is None or height is None:
        return None
    index = weight / height**2
    if not _POSSIBLE[0] <= index <= _POSSIBLE[1]:
        return None
    rounded = float(index.quantize(Decimal("0.1"), ROUND_HALF_UP))
    return int(rounded) if rounded.is_integer() else rounded


def _amount(measured: Mapping[str, Any] | None, units: Mapping[str, Decimal]) -> Decimal | None:
    """A measured amount in the first of `units`, where it is a plain number above 0."""
    if not measured or "comparator" in measured or "absent" in measured:
        return None
    value, unit = measured.get("value"), units.get(measured.get("unit", ""))
    if unit is None or isinstance(value, (bool, str)) or not value or value < 0:
        return None
    return Decimal(str(value)) * unit


# -- merging and describing -------------------------------------------------------------------------------------------

_MERGEABLE: Final = {kind: Mergeable.of(fields, derived, INVARIANTS) for kind, fields in FIELDS.items()}


def mergeable(kind: str) -> Mergeable:
    """How two edits of a record of this kind become one."""
    return _MERGEABLE[kind]


def schema(kind: str, *, writing: bool = False) -> dict[str, Any]:
    """JSON Schema of one kind of record's content."""
    described = object_schema(FIELDS[kind], writing=writing)
    described["properties"]["kind"] = {"const": kind}
    return described
