"""The table of audit entries, and adding those that belong to no version."""

from collections.abc import Sequence

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, Table, Text, bindparam, insert
from sqlalchemy.dialects.postgresql import ARRAY

from heallog.adapters.postgres.database import Executor, Statement
from heallog.adapters.postgres.schema import ID, identifier, metadata, moment
from heallog.domain.audit import AuditEntry

audit_entries = Table(
    "audit_entries",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    moment("at"),
    identifier("account_id"),
    Column("role", Text, nullable=False),
    identifier("session_id"),
    identifier("device_id"),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("collection", ID),
    Column("thing_id", ID),
    Column("patient_id", ID),
    Column("version", Integer),
    Column("reason", Text),
    Column("fields", ARRAY(Text), nullable=False),
    PrimaryKeyConstraint("practice_id", "id"),
    Index(None, "practice_id", "patient_id", "at"),
)

ADD = Statement(insert(audit_entries).values({c.name: bindparam(c.name, type_=c.type) for c in audit_entries.c}))


async def add(executor: Executor, entries: Sequence[AuditEntry]) -> None:
    """One statement each: logins and refusals come singly; those of versions go with their versions."""
    for entry in entries:
        values = {column.name: getattr(entry, column.name) for column in audit_entries.c}
        await executor.fetch(ADD, **values | {"fields": list(entry.fields)})
