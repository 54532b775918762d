"""Who may do what: the table, written down a second time by someone who only read the rules."""

import pytest

from heallog.domain.access import PERMISSIONS, Actor, Permission, Role, authorise
from heallog.domain.errors import Forbidden

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
}


def acting_as(role: Role) -> Actor:
    return Actor("alice", "northside", role, "session-1", "tablet-1")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_every_role_meets_every_permission(role: Role, permission: Permission) -> None:
    if role in MAY[permission]:
        authorise(acting_as(role), permission)
    else:
        with pytest.raises(Forbidden) as refusal:
            authorise(acting_as(role), permission)
        assert role in refusal.value.message
        assert refusal.value.context == {"permission": str(permission)}


def test_the_table_has_every_role_and_every_permission_is_someones() -> None:
    assert set(PERMISSIONS) == set(Role)
    assert set().union(*PERMISSIONS.values()) == set(Permission) == set(MAY)


def test_an_auditor_changes_nothing() -> None:
    looking = (".read", ".verify", ".access-log")
    assert all(permission.endswith(looking) for permission in PERMISSIONS[AUDITOR])


def test_an_actor_cannot_be_promoted_in_passing() -> None:
    with pytest.raises(AttributeError):
        acting_as(AUDITOR).role = OWNER  # type: ignore[misc]
