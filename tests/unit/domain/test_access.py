"""Who may do what: the table, written down a second time by someone who only read the rules."""

import pytest

from heallog.domain.access import (
    EMERGENCY,
    ENTITLEMENTS,
    PERMISSIONS,
    Actor,
    Caller,
    Permission,
    Plan,
    Role,
    authorise,
    entitle,
)
from heallog.domain.errors import EmailNotVerified, Forbidden, ProRequired

OWNER, CLINICIAN, ASSISTANT, AUDITOR = Role.OWNER, Role.CLINICIAN, Role.ASSISTANT, Role.AUDITOR

MAY = {
    "patients.read": {OWNER, CLINICIAN, ASSISTANT, AUDITOR},
    "records.read": {OWNER, CLINICIAN, ASSISTANT, AUDITOR},
    "patients.write": {OWNER, CLINICIAN, ASSISTANT},
    "records.write": {OWNER, CLINICIAN, ASSISTANT},
    "patients.delete": {OWNER, CLINICIAN},
    "records.delete": {OWNER, CLINICIAN},
    "records.sign": {OWNER, CLINICIAN},
    "imports.run": {OWNER},
    "conflicts.read": {OWNER, CLINICIAN, ASSISTANT, AUDITOR},
    "conflicts.resolve": {OWNER, CLINICIAN},
    "policies.read": {OWNER, CLINICIAN, ASSISTANT, AUDITOR},
    "policies.set": {OWNER},
    "audit.read": {OWNER, AUDITOR},
    "audit.verify": {OWNER, AUDITOR},
    "patients.access-log": {OWNER, CLINICIAN, AUDITOR},
    "practices.read": {OWNER, CLINICIAN, ASSISTANT, AUDITOR},
    "practices.change": {OWNER},
    "members.read": {OWNER, CLINICIAN, ASSISTANT, AUDITOR},
    "members.manage": {OWNER},
    "emergencies.declare": {ASSISTANT},
    "emergencies.read": {OWNER, AUDITOR},
    "sync-health.read": {OWNER, AUDITOR},
}
WITH_BROKEN_GLASS = {"records.sign": ASSISTANT, "conflicts.resolve": ASSISTANT, "patients.access-log": ASSISTANT}
"""What is added by it, and to whom: nothing else, and nothing to anyone else."""


def acting_as(role: Role, **how: bool) -> Actor:
    return Actor("alice", "northside", role, "session-1", "tablet-1", **how)


@pytest.mark.parametrize("emergency", [False, True])
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_every_role_meets_every_permission(role: Role, permission: Permission, emergency: bool) -> None:
    actor = acting_as(role, emergency=emergency)
    if role in MAY[permission] or (emergency and WITH_BROKEN_GLASS.get(permission) is role):
        authorise(actor, permission)
    else:
        with pytest.raises(Forbidden) as refusal:
            authorise(actor, permission)
        assert role in refusal.value.message
        assert refusal.value.context == {"permission": str(permission)}


def test_the_table_has_every_role_and_every_permission_is_someones() -> None:
    assert set(PERMISSIONS) == set(Role)
    assert set().union(*PERMISSIONS.values()) == set(Permission) == set(MAY)


def test_an_auditor_changes_nothing() -> None:
    looking = (".read", ".verify", ".access-log")
    assert all(permission.endswith(looking) for permission in PERMISSIONS[AUDITOR])


def test_broken_glass_never_lets_anyone_delete_or_rule_the_house() -> None:
    given = set().union(*EMERGENCY.values())
    assert not any("delete" in permission or "manage" in permission or "change" in permission for permission in given)
    assert not any(EMERGENCY[role] & PERMISSIONS[role] for role in EMERGENCY)


@pytest.mark.parametrize("permission", Permission)
def test_whoever_has_to_verify_an_address_may_do_nothing_before(permission: Permission) -> None:
    for role in Role:
        with pytest.raises(EmailNotVerified, match="verify your e-mail address"):
            authorise(acting_as(role, verified=False, emergency=True), permission)


def test_the_trail_sees_who_acts_through_broken_glass() -> None:
    assert acting_as(ASSISTANT).capacity == "assistant"
    assert acting_as(ASSISTANT, emergency=True).capacity == "assistant+emergency"


@pytest.mark.parametrize(("plan", "most"), [("free", 5), ("pro", 1_000)])
def test_a_plan_gives_so_many_members_and_not_one_more(plan: str, most: int) -> None:
    for members in (0, 1, most):
        entitle(Plan(plan), members=members)
    with pytest.raises(ProRequired) as refusal:
        entitle(Plan(plan), members=most + 1)
    assert refusal.value.context == {"plan": plan, "members": most}
    assert str(most) in refusal.value.message


def test_every_plan_gives_something() -> None:
    assert set(ENTITLEMENTS) == set(Plan)
    assert acting_as(OWNER).plan is Plan.FREE


def test_whoever_calls_from_nowhere_has_no_address() -> None:
    assert (Caller().address, Caller().request_id) == ("", "")


def test_an_actor_cannot_be_promoted_in_passing() -> None:
    with pytest.raises(AttributeError):
        acting_as(AUDITOR).role = OWNER  # type: ignore[misc]
