"""JSON as HealLog reads and writes it: one byte form for each value."""

import json
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from heallog.domain.errors import MalformedJson


def canonical(value: object) -> bytes:
    """The one byte form of a JSON value: keys sorted, no spaces, UTF-8, shortest round-trip floats.

    Hashes are taken over it and it is what the wire carries. It is what the standard library makes; where the quicker
    encoder is known to make the same, that does (its law is in `tests/unit/domain/test_canon.py`).
    """
    return _QUICK.encode(value) if _alike(value) else _CANONICAL.encode(value).encode()


_QUICK = msgspec.json.Encoder(order="sorted")
_CANONICAL = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_SIMPLE = frozenset((str, int, bool, type(None)))


def _alike(value: object) -> bool:
    """Whether both encoders write a value in the same way: very large and very small floats they do not."""
    kind = type(value)
    if kind is dict:
        values = value.values()  # type: ignore[attr-defined]
        return _SIMPLE.issuperset(map(type, values)) or all(map(_alike, values))
    if kind is list:
        return all(map(_alike, value))  # type: ignore[call-overload]
    return kind in _SIMPLE or (kind is float and (1e-4 <= abs(value) < 1e16 or not value))  # type: ignore[arg-type]


def as_came(value: object) -> bytes:
    """Any value that `decode` gave, as bytes of JSON, also where no field would take it: it can be kept and shown.

    Half a surrogate pair is escaped; a number that is none is written as its name. Raises `MalformedJson`.
    """
    try:
        try:
            return _AS_CAME.encode(value).encode()
        except ValueError:
            return _AS_CAME.encode(_named(value)).encode()
    except RecursionError:
        raise MalformedJson("nested too deep") from None


_AS_CAME = json.JSONEncoder(allow_nan=False, sort_keys=True, separators=(",", ":"))


def _named(value: object) -> object:
    if isinstance(value, dict):
        return {name: _named(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def same(one: object, other: object) -> bool:
    """Whether two JSON values are the same value (`1` and `true` are not, nor are `1` and `1.0`)."""
    if one is other:
        return True
    if isinstance(one, str) or isinstance(other, str) or (type(one) is int and type(other) is int):
        return one == other
    return one == other and canonical(one) == canonical(other)


def decode(raw: bytes | str) -> Any:
    """Read one JSON value. A repeated key, NaN, Infinity, bad UTF-8 or deep nesting is malformed.

    Lone surrogates and over-long numbers pass here: the field's own shape refuses them, by path.
    """
    try:
        return _DECODER.decode(raw if isinstance(raw, str) else raw.decode())
    except UnicodeDecodeError as error:
        raise MalformedJson(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise MalformedJson("nested too deep") from None
    except _Refused as error:
        raise MalformedJson(str(error)) from None
    except ValueError:
        raise MalformedJson("a number has too many digits") from None


class _Refused(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {shown(repeated)} appears twice in one object")
    return decoded


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def reread(raw: bytes) -> Any:
    """JSON that `canonical` wrote: it was checked before, and needs no second look."""
    return _PLAIN.decode(raw)


_PLAIN = msgspec.json.Decoder()


@lru_cache(maxsize=1_024)
def moment(at: datetime) -> str:
    """RFC 3339 UTC with milliseconds: `2026-03-01T09:30:00.000Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def dense(value: object) -> bytes:
    """A JSON value that is sent and never compared or hashed: its keys stay as they stand."""
    return _DENSE.encode(value)


_DENSE = msgspec.json.Encoder()


def shown(text: object) -> str:
    """A short, printable rendering of what the caller sent, safe to put into a message."""
    rendered = ascii(text)
    return rendered if len(rendered) <= 60 else rendered[:57] + "..."
