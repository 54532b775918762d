"""Who may do what: one table. What is not in it is refused."""

from dataclasses import dataclass
from enum import StrEnum

from heallog.domain.errors import Forbidden


class Role(StrEnum):
    """What a member is in a practice."""

    OWNER = "owner"
    CLINICIAN = "clinician"
    ASSISTANT = "assistant"
    AUDITOR = "auditor"


class Permission(StrEnum):
    """One thing that a use case asks for."""

    READ_PATIENTS = "patients.read"
    WRITE_PATIENTS = "patients.write"
    DELETE_PATIENTS = "patients.delete"
    READ_RECORDS = "records.read"
    WRITE_RECORDS = "records.write"
    SIGN_RECORDS = "records.sign"
    DELETE_RECORDS = "records.delete"
    IMPORT = "imports.run"
    READ_CONFLICTS = "conflicts.read"
    RESOLVE_CONFLICTS = "conflicts.resolve"
    READ_POLICIES = "policies.read"
    SET_POLICIES = "policies.set"
    READ_AUDIT = "audit.read"
    VERIFY_AUDIT = "audit.verify"
    READ_ACCESS_LOG = "patients.access-log"


_READS = frozenset(
    {Permission.READ_PATIENTS, Permission.READ_RECORDS, Permission.READ_CONFLICTS, Permission.READ_POLICIES}
)
_WRITES = frozenset({Permission.WRITE_PATIENTS, Permission.WRITE_RECORDS})
_CLINICAL = frozenset(
    {
        Permission.SIGN_RECORDS,
        Permission.DELETE_RECORDS,
        Permission.DELETE_PATIENTS,
        Permission.RESOLVE_CONFLICTS,
        Permission.READ_ACCESS_LOG,
    }
)
_TRAIL = frozenset({Permission.READ_AUDIT, Permission.VERIFY_AUDIT, Permission.READ_ACCESS_LOG})

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: _READS | _WRITES | _CLINICAL | _TRAIL | {Permission.SET_POLICIES, Permission.IMPORT},
    Role.CLINICIAN: _READS | _WRITES | _CLINICAL,
    Role.ASSISTANT: _READS | _WRITES,
    Role.AUDITOR: _READS | _TRAIL,
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an account in a practice with a role, through a session on a device, in one request."""

    account_id: str
    practice_id: str
    role: Role
    session_id: str
    device_id: str
    request_id: str = ""


def authorise(actor: Actor, permission: Permission) -> None:
    """Pass, or raise `Forbidden`."""
    if permission not in PERMISSIONS[actor.role]:
        raise Forbidden(f"the role {actor.role} may not do this", context={"permission": str(permission)})
