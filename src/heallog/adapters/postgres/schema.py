"""What the tables have in common.

Ids are text under the C collation: they sort and compare as bytes, on every server alike. Every key starts with
`practice_id`. JSON columns are `json`, not `jsonb`: what was hashed is what is stored, byte for byte.
"""

from collections.abc import Mapping, Sequence
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
    """Rows out of one parameter for each column, by its name and type; their values are made by `parameter`."""

    def values(column: str, kind: Any) -> Any:
        if not _joined(kind):
            return bindparam(column, type_=ARRAY(kind))
        found = func.string_to_array(bindparam(column, type_=Text), BETWEEN, literal_column("''"))
        return found if kind is ID or isinstance(kind, Bytes) else cast(found, ARRAY(kind))

    rows = func.unnest(*map(values, columns, columns.values())).table_valued(*columns).render_derived(name=name)
    content = [name for name, kind in columns.items() if isinstance(kind, Bytes)]
    return select(*(cast(rows.c[one], Bytes).label(one) if one in content else rows.c[one] for one in columns))


def parameter(kind: Any, column: Sequence[Any]) -> str | list[Any]:
    """The values of one column. One that has none is empty: `unnest` fills it up with NULL."""
    if not _joined(kind):
        return list(column) if any(value is not None for value in column) else []
    if isinstance(kind, Bytes):
        return SEPARATOR.encode().join([value or b"" for value in column]).decode()
    if isinstance(kind, Boolean):
        column = ["t" if value else "f" for value in column]
    elif isinstance(kind, Integer):
        column = ["" if value is None else str(value) for value in column]
    elif kind is DIGEST:
        column = ["" if value is None else f"\\x{value.hex()}" for value in column]
    return SEPARATOR.join([value or "" for value in column])
