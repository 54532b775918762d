"""Audit entries in memory."""

from collections.abc import Sequence
from dataclasses import replace

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.audit import AuditEntry


def add(tables: Overlay, entries: Sequence[AuditEntry]) -> None:
    """Entries that belong to no version; those of versions go with their versions."""
    with tables.writing():
        for entry in entries:
            check(tables, entry)
            put(tables, entry)


def check(tables: Overlay, entry: AuditEntry) -> None:
    if (entry.practice_id, entry.id) in tables.audit_entries:
        raise ConstraintViolated("audit_entries: this id is taken")


def put(tables: Overlay, entry: AuditEntry) -> None:
    tables.audit_entries[entry.practice_id, entry.id] = replace(entry, fields=tuple(entry.fields))
