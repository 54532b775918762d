"""Who may do what, and what it takes: one table each of roles and plans. What is not in them is refused."""

from dataclasses import dataclass
from enum import StrEnum

from heallog.domain.errors import EmailNotVerified, Forbidden, ProRequired


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
    READ_PRACTICE = "practices.read"
    CHANGE_PRACTICE = "practices.change"
    READ_MEMBERS = "members.read"
    MANAGE_MEMBERS = "members.manage"
    BREAK_GLASS = "emergencies.declare"
    READ_EMERGENCIES = "emergencies.read"
    READ_SYNC_HEALTH = "sync-health.read"


_READS = frozenset(
    {
        Permission.READ_PATIENTS,
        Permission.READ_RECORDS,
        Permission.READ_CONFLICTS,
        Permission.READ_POLICIES,
        Permission.READ_PRACTICE,
        Permission.READ_MEMBERS,
    }
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
_TRAIL = frozenset(
    {
        Permission.READ_AUDIT,
        Permission.VERIFY_AUDIT,
        Permission.READ_ACCESS_LOG,
        Permission.READ_EMERGENCIES,
        Permission.READ_SYNC_HEALTH,
    }
)
_HOUSE = frozenset({Permission.SET_POLICIES, Permission.IMPORT, Permission.CHANGE_PRACTICE, Permission.MANAGE_MEMBERS})

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: _READS | _WRITES | _CLINICAL | _TRAIL | _HOUSE,
    Role.CLINICIAN: _READS | _WRITES | _CLINICAL,
    Role.ASSISTANT: _READS | _WRITES | {Permission.BREAK_GLASS},
    Role.AUDITOR: _READS | _TRAIL,
}

EMERGENCY: dict[Role, frozenset[Permission]] = {
    Role.ASSISTANT: frozenset({Permission.SIGN_RECORDS, Permission.RESOLVE_CONFLICTS, Permission.READ_ACCESS_LOG}),
}
"""What a role may do beside its own while its glass is broken. Deleting is never an emergency."""


class Plan(StrEnum):
    """What a practice pays for."""

    FREE = "free"
    PRO = "pro"


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a plan gives. `members` are people with access, and open invitations."""

    members: int


ENTITLEMENTS: dict[Plan, Entitlements] = {Plan.FREE: Entitlements(members=5), Plan.PRO: Entitlements(members=1_000)}
"""Nothing that patients' safety hangs on is in here: it comes with every plan."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from, before anyone knows whose it is."""

    address: str = ""
    request_id: str = ""


FORMER = "former"
"""What the audit trail calls somebody whose membership has ended."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an account in a practice with a role, through a session on a device, in one request.

    Without a `role` it is somebody whose membership has ended: they hand in what they did before they knew, and may do
    nothing at all. `emergency` says that the account has broken the glass. `verified` is false while its e-mail address
    has to be verified and was not.
    """

    account_id: str
    practice_id: str
    role: Role | None
    session_id: str
    device_id: str
    request_id: str = ""
    plan: Plan = Plan.FREE
    verified: bool = True
    emergency: bool = False

    @property
    def capacity(self) -> str:
        """The role as the audit trail writes it: whoever acts through broken glass is seen to."""
        if self.role is None:
            return FORMER
        return f"{self.role}+emergency" if self.emergency else str(self.role)


def authorise(actor: Actor, permission: Permission) -> None:
    """Pass, or raise `EmailNotVerified` or `Forbidden`."""
    if not actor.verified:
        raise EmailNotVerified("verify your e-mail address first, with the code that was mailed to it")
    if actor.role is None:
        raise Forbidden("the membership in this practice has ended", context={"permission": str(permission)})
    if permission in PERMISSIONS[actor.role] or (actor.emergency and permission in EMERGENCY.get(actor.role, ())):
        return
    raise Forbidden(f"the role {actor.role} may not do this", context={"permission": str(permission)})


def entitle(plan: Plan, *, members: int) -> None:
    """Pass where the plan gives that many members, or raise `ProRequired`."""
    most = ENTITLEMENTS[plan].members
    if members > most:
        raise ProRequired(f"the plan {plan} gives {most} members", context={"plan": str(plan), "members": most})
