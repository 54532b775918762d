"""The shapes that fields may have.

A shape checks one JSON value, names everything that is wrong with it by path, and describes itself as JSON Schema:
the HTTP API, imports and the OpenAPI document all work from the same declaration.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from heallog.domain.canon import moment, shown
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.policies import Rule

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON client reads back exactly (RFC 8259, section 6)."""

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of measurements. No dots: a path of a field must lead to one place."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_OR_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PARTIAL_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_DATETIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?P<offset>[Zz]|[+-]\d{2}:\d{2})?")

Errors = list[FieldError]
_REQUIRED: dict[int, tuple["Fields", list[str]]] = {}


class Shape(Protocol):
    """What a field's value may be."""

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        """The value in its normal form; what is wrong is added to `errors` under `path`."""

    def schema(self) -> dict[str, Any]:
        """The shape as JSON Schema 2020-12."""


def _wrong(errors: Errors, path: str, code: str, message: str) -> None:
    errors.append(FieldError(path, code, message))


@dataclass(frozen=True, slots=True)
class Text:
    """Characters. One line unless `lines`; never control characters, NUL or half a surrogate pair."""

    longest: int = 200
    lines: bool = False
    shortest: int = 0

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str):
            _wrong(errors, path, "type", "must be a string")
        elif len(value) > self.longest:
            _wrong(errors, path, "too_long", f"must be at most {self.longest} characters, not {len(value)}")
        elif not value.isprintable() and (found := (_CONTROL if self.lines else _CONTROL_OR_BREAK).search(value)):
            what = "half of a surrogate pair" if "\ud800" <= found[0] <= "\udfff" else "a control character"
            _wrong(errors, path, "character", f"contains {what} (U+{ord(found[0]):04X}) at position {found.start()}")
        elif self.shortest and len(value.strip()) < self.shortest:
            blank = "must not be empty" if self.shortest == 1 else f"must be at least {self.shortest} characters"
            _wrong(errors, path, "too_short", blank)
        return value

    def schema(self) -> dict[str, Any]:
        least = {"minLength": self.shortest} if self.shortest else {}
        return {"type": "string", "maxLength": self.longest, **least}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A short string that follows a written pattern."""

    pattern: re.Pattern[str]
    says: str

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str):
            _wrong(errors, path, "type", "must be a string")
        elif not self.pattern.fullmatch(value):
            _wrong(errors, path, "pattern", f"must be {self.says}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.pattern.pattern}$"}


ID = Pattern(_ID, "1 to 64 letters, digits, dots or hyphens")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed list of words."""

    of: tuple[str, ...]

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str) or value not in self.of:
            _wrong(errors, path, "choice", f"must be one of {', '.join(self.of)}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.of)}


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, bool):
            _wrong(errors, path, "type", "must be true or false")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number within ±(2^53 - 1), so that every client reads back what was written."""

    least: float | None = None
    most: float = MAX_SAFE_INTEGER
    whole: bool = False

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _wrong(errors, path, "type", "must be a number")
            return value
        if isinstance(value, float) and not math.isfinite(value):
            _wrong(errors, path, "range", "must be a finite number")
        elif abs(value) > MAX_SAFE_INTEGER:
            _wrong(errors, path, "range", "must lie within plus or minus 2^53 - 1")
        elif self.least is not None and value < self.least:
            _wrong(errors, path, "range", f"must be at least {self.least:g}")
        elif value > self.most:
            _wrong(errors, path, "range", f"must be at most {self.most:.0f}")
        elif isinstance(value, float) and value.is_integer():
            return int(value)
        elif self.whole and not isinstance(value, int):
            _wrong(errors, path, "type", "must be a whole number")
        return value

    def schema(self) -> dict[str, Any]:
        least = -MAX_SAFE_INTEGER if self.least is None else self.least
        return {"type": "integer" if self.whole else "number", "minimum": least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Day:
    """A date as precise as it is known: `1980`, `1980-05` or `1980-05-17` (FHIR `date`)."""

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str):
            _wrong(errors, path, "type", "must be a date string")
        elif not _real_day(value):
            _wrong(errors, path, "date", f"{shown(value)} is not a date (YYYY, YYYY-MM or YYYY-MM-DD)")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$", "examples": ["1980-05-17"]}


def _real_day(value: str) -> bool:
    if not value.isascii() or not (parts := _PARTIAL_DATE.fullmatch(value)):
        return False
    try:
        date(int(parts[1]), int(parts[2] or 1), int(parts[3] or 1))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time with its offset, kept as UTC milliseconds; or, where less is known, a date (FHIR `dateTime`)."""

    exact: bool = False

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str):
            _wrong(errors, path, "type", "must be a date-time string")
            return value
        if not self.exact and len(value) <= 10 and _real_day(value):
            return value
        if not value.isascii() or not (found := _DATETIME.fullmatch(value)):
            hint = "RFC 3339 with an offset" if self.exact else "RFC 3339 with an offset, or YYYY, YYYY-MM, YYYY-MM-DD"
            _wrong(errors, path, "datetime", f"{shown(value)} is not a time ({hint})")
            return value
        if not found["offset"]:
            _wrong(errors, path, "datetime", "must name its offset from UTC, such as Z or +02:00")
            return value
        try:
            return moment(datetime.fromisoformat(value.upper()))
        except (ValueError, OverflowError):
            _wrong(errors, path, "datetime", f"{shown(value)} is not a real time")
        return value

    def schema(self) -> dict[str, Any]:
        if self.exact:
            return {"type": "string", "format": "date-time"}
        return {"type": "string", "description": "RFC 3339 with offset, or YYYY, YYYY-MM, YYYY-MM-DD", "maxLength": 40}


@dataclass(frozen=True, slots=True)
class ListOf:
    """Several of one shape."""

    item: Shape
    most: int = 100
    unique: bool = False

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, list):
            _wrong(errors, path, "type", "must be a list")
            return value
        if len(value) > self.most:
            _wrong(errors, path, "too_many", f"must have at most {self.most} items, not {len(value)}")
            return value
        checked = [self.item.check(item, f"{path}.{index}", errors) for index, item in enumerate(value)]
        return list(dict.fromkeys(checked)) if self.unique and not errors else checked

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(), "maxItems": self.most}


@dataclass(frozen=True, slots=True)
class Field:
    """A named place for a value. `null` in it means nothing is known, and is kept as absence."""

    shape: Shape
    policy: Rule | None = None
    """What becomes of it when two people change it; every field of a versioned type says so."""
    required: bool = False
    settable: bool = True
    """Whether a caller may write it; the others are set by use cases (`signed_by`)."""
    says: str = ""
    """One line for the API's reader."""

    def schema(self) -> dict[str, Any]:
        described = self.shape.schema()
        if self.says:
            described["description"] = self.says
        if not self.settable:
            described["readOnly"] = True
        return described


Fields = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Group:
    """An object with known fields."""

    fields: Fields

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, dict):
            _wrong(errors, path, "type", "must be an object")
            return value
        return check_fields(self.fields, value, errors, f"{path}." if path else "")

    def schema(self) -> dict[str, Any]:
        return object_schema(self.fields)


@dataclass(frozen=True, slots=True)
class Named:
    """An object whose keys are names of the caller's choosing."""

    item: Shape
    most: int = 200

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, dict):
            _wrong(errors, path, "type", "must be an object")
            return value
        if len(value) > self.most:
            _wrong(errors, path, "too_many", f"must have at most {self.most} entries, not {len(value)}")
            return value
        checked = {}
        for name, item in value.items():
            if not _NAME.fullmatch(name):
                _wrong(errors, f"{path}.{printable(name)}", "name", "must be 1 to 64 of letters, digits, '_', '-'")
            checked[name] = self.item.check(item, f"{path}.{printable(name)}", errors)
        return checked

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": self.item.schema(),
            "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
            "maxProperties": self.most,
        }


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A number, a string or a boolean: what a measurement may be."""

    text: Text
    number: Number = Number()

    def check(self, value: Any, path: str, errors: Errors) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text.check(value, path, errors)
        if isinstance(value, (int, float)):
            return self.number.check(value, path, errors)
        _wrong(errors, path, "type", "must be a number, a string or a boolean")
        return value

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.number.schema(), self.text.schema(), {"type": "boolean"}]}


def printable(name: str) -> str:
    """A key as part of a path: what cannot be printed is escaped, what is endless is cut."""
    return name.encode("unicode_escape").decode()[:64] if not name.isprintable() else name[:64]


def check_fields(
    fields: Fields, body: Mapping[str, Any], errors: Errors, prefix: str = "", *, stored: bool = False
) -> dict[str, Any]:
    """`body` checked field by field. Every unknown, missing and broken field is added to `errors`.

    What is `stored` has the fields too that no caller may set.
    """
    checked: dict[str, Any] = {}
    for name, value in body.items():
        known = fields.get(name)
        if known is None:
            _wrong(errors, prefix + printable(name), "unknown", "is not a field here")
        elif not (known.settable or stored):
            _wrong(errors, prefix + name, "read_only", "is set by HealLog and cannot be written")
        elif value is not None:
            checked[name] = known.shape.check(value, prefix + name, errors)
    for name in _required(fields):
        if body.get(name) is None:
            _wrong(errors, prefix + name, "required", "is required")
    return checked


def _required(fields: Fields) -> list[str]:
    """Of a declaration, which is made once: by its place in memory, where nothing else can stand while it is kept."""
    known = _REQUIRED.get(id(fields))
    if known is None:
        names = [name for name, field in fields.items() if field.required]
        known = _REQUIRED.setdefault(id(fields), (fields, names))
    return known[1]


def read(fields: Fields, body: object) -> dict[str, Any]:
    """The fields of a request body, checked. Raises `InvalidFields` with everything that is wrong."""
    errors: Errors = []
    if not isinstance(body, dict):
        raise InvalidFields([FieldError("", "type", "the body must be an object")])
    checked = check_fields(fields, body, errors)
    if errors:
        raise InvalidFields(errors)
    return checked


def object_schema(fields: Fields, *, writing: bool = False) -> dict[str, Any]:
    """JSON Schema of an object with these fields; `writing` leaves out what a caller may not set."""
    shown = {name: known for name, known in fields.items() if known.settable or not writing}
    required = [name for name, known in shown.items() if known.required]
    described: dict[str, Any] = {
        "type": "object",
        "properties": {name: known.schema() for name, known in shown.items()},
        "additionalProperties": False,
    }
    return described | ({"required": required} if required else {})
