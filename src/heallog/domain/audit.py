"""The audit entry: who did what, to which thing and version, when, from where, with what outcome.

An entry names changed fields and never holds a value of one.
"""

from dataclasses import dataclass
from datetime import datetime

from heallog.domain.access import Actor
from heallog.domain.versions import Head, Version


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the trail."""

    practice_id: str
    id: str
    at: datetime
    account_id: str
    role: str
    session_id: str
    device_id: str
    request_id: str
    action: str
    outcome: str
    collection: str | None = None
    thing_id: str | None = None
    patient_id: str | None = None
    version: int | None = None
    reason: str | None = None
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A version, the head it makes and the audit entry that declares it: stored together or not at all."""

    head: Head
    version: Version
    entry: AuditEntry


def done(entry_id: str, action: str, actor: Actor, head: Head, version: Version, fields: tuple[str, ...]) -> Written:
    """A change with the entry that tells of it."""
    entry = AuditEntry(
        practice_id=head.practice_id,
        id=entry_id,
        at=version.received_at,
        account_id=actor.account_id,
        role=actor.role,
        session_id=actor.session_id,
        device_id=actor.device_id,
        request_id=actor.request_id,
        action=action,
        outcome="done",
        collection=head.collection,
        thing_id=head.id,
        patient_id=head.patient_id,
        version=version.number,
        reason=version.reason,
        fields=fields,
    )
    return Written(head, version, entry)
