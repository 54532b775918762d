"""What the tables have in common.

Ids are text under the C collation: they sort and compare as bytes, on every server alike. Every key starts with
`practice_id`. JSON columns are `json`, not `jsonb`: what was hashed is what is stored, byte for byte.
"""

from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import JSON

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

SEPARATOR = "\x1f"
"""Joins lists inside an array parameter (PostgreSQL has no arrays of arrays of unequal length). No text holds it."""


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
