"""What the tables have in common.

Ids are text under the C collation: they sort and compare as bytes, on every server alike. Every key starts with
`practice_id`. JSON columns are `json`, not `jsonb`: what was hashed is what is stored, byte for byte.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(referred_table_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    }
)

ID = Text(collation="C")
TIME = DateTime(timezone=True)
DIGEST = LargeBinary(32)
"""SHA-256."""

SEPARATOR = "\x1f"
"""Joins values, and lists inside an array parameter (PostgreSQL has no arrays of arrays of unequal length). No text
holds it, nor does JSON."""
BETWEEN: Any = literal_column("E'\\x1f'")


class Bytes(JSON):
    """JSON that asyncpg gives and takes as its bytes (the codec is set in `database.py`)."""

    cache_ok = True

    def bind_processor(self, dialect: Any) -> None:  # noqa: ARG002
        return None

    def result_processor(self, dialect: Any, coltype: object) -> None:  # noqa: ARG002
        return None


def identifier(name: str, **options: Any) -> Column[str]:
    return Column(name, ID, nullable=False, **options)


def moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, TIME, nullable=nullable)


# -- many rows as parameters --------------------------------------------------------------------------------------


def _joined(kind: Any) -> bool:
    """Whether a column of values comes as one text: the driver takes 0.3 to 0.5 µs for an element of an array.

    Ids, JSON, numbers and digests in hexadecimal are never empty.
    """
    return kind is ID or kind is DIGEST or isinstance(kind, (Bytes, Boolean, Integer))


def rows_of(columns: Mapping[str, Any], name: str) -> Select[Any]:
    """Rows out of one parameter for each column, by its name and type; `parameters` makes them."""

    def values(column: str, kind: Any) -> Any:
        if not _joined(kind):
            return bindparam(column, type_=ARRAY(kind))
        found = func.string_to_array(bindparam(column, type_=Text), BETWEEN, literal_column("''"))
        return found if kind is ID or isinstance(kind, Bytes) else cast(found, ARRAY(kind))

    rows = func.unnest(*map(values, columns, columns.values())).table_valued(*columns).render_derived(name=name)
    content = [name for name, kind in columns.items() if isinstance(kind, Bytes)]
    return select(*(cast(rows.c[one], Bytes).label(one) if one in content else rows.c[one] for one in columns))


def parameters(columns: Mapping[str, Any], rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """What `rows_of` takes, of rows whose values stand in the order of the columns."""
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    return {name: _parameter(kind, column) for (name, kind), column in zip(columns.items(), values, strict=True)}


def _parameter(kind: Any, column: Sequence[Any]) -> str | list[Any]:
    """The values of one column. One that has none is empty: `unnest` fills it up with NULL."""
    missing = column.count(None)
    joined = _joined(kind)
    if missing == len(column):
        return "" if joined else []
    if not joined:
        return list(column)
    if isinstance(kind, Bytes):
        return SEPARATOR.encode().join([value or b"" for value in column]).decode()
    write = _writer(kind)
    if write is not None:
        column = [None if value is None else write(value) for value in column] if missing else list(map(write, column))
    return SEPARATOR.join([value or "" for value in column] if missing else column)


def _writer(kind: Any) -> Callable[[Any], str] | None:
    """How a value is written that is no text already."""
    if isinstance(kind, Integer):
        return str
    if isinstance(kind, Boolean):
        return {True: "t", False: "f"}.__getitem__
    return _hexadecimal if kind is DIGEST else None


def _hexadecimal(digest: bytes) -> str:
    return f"\\x{digest.hex()}"
