"""Every operation of the API: who may do it, and what must be there before it can succeed."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pyotp

from heallog.domain.access import PERMISSIONS, Permission, Role

from .clinic import PASSWORD, Clinic, code_in

Prepare = Callable[[Clinic, Role], Awaitable[str]]
"""Makes what someone with a role needs, so that the example of the body succeeds; gives the id to ask for."""


@dataclass(frozen=True)
class Operation:
    """`permission` is None where being logged in is enough: these are the account's own things.

    `path` has the places of the OpenAPI document. What is prepared stands in the path, or in the body as `said`.
    """

    method: str
    path: str
    permission: Permission | None
    prepare: Prepare | None = None
    query: str = ""
    said: str = ""
    kept: bool = False
    """Of who may not do it, also of a former member, it is kept for review: nothing is done."""

    @property
    def of_one_thing(self) -> bool:
        return "{" in self.path

    def address(self, thing: str) -> str:
        """Where it is done to one thing."""
        filled = re.sub(r"{\w+}", thing, self.path.replace("{number}", "1"))
        return f"{filled}?{self.query}" if self.query else filled

    def body(self, example: Any, thing: str) -> Any:
        """What is sent: the example of the document, and in it what no example can know."""
        return {**example, self.said: thing} if self.said else example


def patient(version: int = 1, *, deleted: bool = False) -> Prepare:
    """A patient at a version; deleted with the last one."""

    async def prepare(clinic: Clinic, _: Role) -> str:
        path = f"/v1/patients/{(made := await clinic.patient())['id']}"
        await _at(clinic, path, 1, version - deleted, phone="0{}")
        if deleted:
            await clinic.deleted(path, version - 1)
        return made["id"]

    return prepare


def record(version: int = 1, *, deleted: bool = False, signed: bool = False) -> Prepare:
    """A record at a version; deleted or signed with the last one."""

    async def prepare(clinic: Clinic, _: Role) -> str:
        made = await clinic.record((await clinic.patient())["id"])
        path = f"/v1/records/{made['id']}"
        await _at(clinic, path, 1, version - (deleted or signed), title="Pressure {}")
        if deleted:
            await clinic.deleted(path, version - 1)
        if signed:
            answer = await clinic.call("POST", f"{path}/sign", {"base_version": version - 1})
            assert answer.status_code == 200, answer.text
        return made["id"]

    return prepare


async def quarantined(clinic: Clinic, _: Role) -> str:
    """A creation of a patient that was pushed with a field that there is not."""
    operation = {"op": "create", "collection": "patients", "id": "q-1", "fields": {"shoe_size": 38}}
    body = {"push_id": "p-1", "contributions": [{"operations": [operation]}]}
    answer = await clinic.call("POST", "/v1/sync/push", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["quarantine_id"]


async def conflict(clinic: Clinic, _: Role) -> str:
    """A dose that was changed to 20 on one device and to 15 on another; the head is at version 2."""
    made = await clinic.record((await clinic.patient())["id"], kind="medication", title="Metformin", dose=10)
    path = f"/v1/records/{made['id']}"
    await clinic.changed(path, 1, dose=20)
    tablet = await clinic.token_for(device="tablet")
    answer = await clinic.call("PATCH", path, {"base_version": 1, "dose": 15}, token=tablet)
    assert answer.status_code == 409, answer.text
    return answer.json()["error"]["context"]["conflict"]["id"]


async def _at(clinic: Clinic, path: str, version: int, wanted: int, **fields: str) -> None:
    for number in range(version, wanted):
        await clinic.changed(path, number, **{name: value.format(number) for name, value in fields.items()})


# -- people -------------------------------------------------------------------------------------------------------


async def a_colleague(clinic: Clinic, _: Role) -> str:
    """A member whom nobody of the matrix is, and who is logged in."""
    return (await clinic.session_for(Role.CLINICIAN, account=f"ben-{clinic.practice_id}"))[0].account_id


async def anothers_broken_glass(clinic: Clinic, _: Role) -> str:
    """By an assistant whom nobody of the matrix is: who broke it may always say that it is over."""
    token = await clinic.token_for(Role.ASSISTANT, account=f"ada-{clinic.practice_id}")
    reason = {"reason": "Nobody can be reached."}
    answer = await clinic.call("POST", "/v1/practice/emergencies", reason, token=token)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def another_session(clinic: Clinic, role: Role) -> str:
    """Of the one who asks, on another device."""
    return (await clinic.session_for(role, device="lost"))[0].id


async def another_practice(clinic: Clinic, role: Role) -> str:
    """Of the one who asks, who has the same role there."""
    pool = clinic.container.database().pool
    await pool.execute(
        "INSERT INTO practices (id, name, created_at) VALUES ($1, 'Annex', now()) ON CONFLICT DO NOTHING", clinic.annex
    )
    await pool.execute(
        "INSERT INTO memberships (practice_id, account_id, role, created_at) VALUES ($1, $2, $3, now())",
        clinic.annex,
        await clinic.member(role),
        role,
    )
    return clinic.annex


async def mailed_code(clinic: Clinic, role: Role) -> str:
    answer = await clinic.call("POST", "/v1/auth/verify-email/send", token=await clinic.token_for(role))
    assert answer.status_code == 204, answer.text
    return code_in(clinic.letters(clinic.address_of(await clinic.member(role)))[-1])


async def apps_code(clinic: Clinic, role: Role) -> str:
    """What an authenticator app shows that was just begun with."""
    answer = await clinic.call("POST", "/v1/auth/totp", {"password": PASSWORD}, token=await clinic.token_for(role))
    assert answer.status_code == 201, answer.text
    return pyotp.TOTP(answer.json()["secret"]).at(clinic.container.clock()())


async def recovery_code(clinic: Clinic, role: Role) -> str:
    """Of a second factor that is asked for."""
    said, token = {"otp": await apps_code(clinic, role)}, await clinic.token_for(role)
    answer = await clinic.call("POST", "/v1/auth/totp/confirm", said, token=token)
    assert answer.status_code == 200, answer.text
    return answer.json()["recovery_codes"][0]


# -- the table ----------------------------------------------------------------------------------------------------

P, R, C = "/v1/patients/{patient_id}", "/v1/records/{record_id}", "/v1/conflicts/{conflict_id}"
A, M, E = "/v1/auth", "/v1/practice/members", "/v1/practice/emergencies"

PUBLIC = {
    "register": ("POST", f"{A}/register"),
    "acceptInvitation": ("POST", f"{A}/accept-invitation"),
    "login": ("POST", f"{A}/login"),
    "refresh": ("POST", f"{A}/refresh"),
    "forgotPassword": ("POST", f"{A}/password/forgot"),
    "resetPassword": ("POST", f"{A}/password/reset"),
    "live": ("GET", "/health/live"),
    "ready": ("GET", "/health/ready"),
}
"""What anyone may ask without a token."""

OPERATIONS = {
    "me": Operation("GET", "/v1/me", None),
    "changeMe": Operation("PATCH", "/v1/me", None),
    "changePassword": Operation("POST", f"{A}/password/change", None),
    "verifyEmail": Operation("POST", f"{A}/verify-email", None, mailed_code, said="code"),
    "sendVerification": Operation("POST", f"{A}/verify-email/send", None),
    "enrolTotp": Operation("POST", f"{A}/totp", None),
    "confirmTotp": Operation("POST", f"{A}/totp/confirm", None, apps_code, said="otp"),
    "removeTotp": Operation("DELETE", f"{A}/totp", None, recovery_code, said="otp"),
    "logout": Operation("POST", f"{A}/logout", None),
    "logoutAll": Operation("POST", f"{A}/logout-all", None),
    "switch": Operation("POST", f"{A}/switch", None, another_practice, said="practice_id"),
    "listSessions": Operation("GET", "/v1/sessions", None),
    "revokeSession": Operation("DELETE", "/v1/sessions/{session_id}", None, another_session),
    "getPractice": Operation("GET", "/v1/practice", Permission.READ_PRACTICE),
    "changePractice": Operation("PATCH", "/v1/practice", Permission.CHANGE_PRACTICE),
    "listMembers": Operation("GET", M, Permission.READ_MEMBERS),
    "inviteMember": Operation("POST", M, Permission.MANAGE_MEMBERS),
    "changeMember": Operation("PATCH", f"{M}/{{member_id}}", Permission.MANAGE_MEMBERS, a_colleague),
    "removeMember": Operation("DELETE", f"{M}/{{member_id}}", Permission.MANAGE_MEMBERS, a_colleague),
    "logOutMember": Operation("DELETE", f"{M}/{{member_id}}/sessions", Permission.MANAGE_MEMBERS, a_colleague),
    "breakGlass": Operation("POST", E, Permission.BREAK_GLASS),
    "listEmergencies": Operation("GET", E, Permission.READ_EMERGENCIES),
    "closeEmergency": Operation("DELETE", f"{E}/{{emergency_id}}", Permission.MANAGE_MEMBERS, anothers_broken_glass),
    "createPatient": Operation("POST", "/v1/patients", Permission.WRITE_PATIENTS),
    "listPatients": Operation("GET", "/v1/patients", Permission.READ_PATIENTS),
    "getPatient": Operation("GET", P, Permission.READ_PATIENTS, patient()),
    "changePatient": Operation("PATCH", P, Permission.WRITE_PATIENTS, patient()),
    "deletePatient": Operation("DELETE", P, Permission.DELETE_PATIENTS, patient()),
    "restorePatient": Operation("POST", f"{P}/restore", Permission.DELETE_PATIENTS, patient(2, deleted=True)),
    "revertPatient": Operation("POST", f"{P}/revert", Permission.WRITE_PATIENTS, patient(3)),
    "patientHistory": Operation("GET", f"{P}/history", Permission.READ_PATIENTS, patient()),
    "patientVersion": Operation("GET", f"{P}/versions/{{number}}", Permission.READ_PATIENTS, patient()),
    "patientDiff": Operation("GET", f"{P}/diff", Permission.READ_PATIENTS, patient(2), "from=1&to=2"),
    "createRecord": Operation("POST", f"{P}/records", Permission.WRITE_RECORDS, patient()),
    "listRecords": Operation("GET", f"{P}/records", Permission.READ_RECORDS, patient()),
    "getRecord": Operation("GET", R, Permission.READ_RECORDS, record()),
    "changeRecord": Operation("PATCH", R, Permission.WRITE_RECORDS, record()),
    "deleteRecord": Operation("DELETE", R, Permission.DELETE_RECORDS, record()),
    "signRecord": Operation("POST", f"{R}/sign", Permission.SIGN_RECORDS, record(2)),
    "amendRecord": Operation("POST", f"{R}/amend", Permission.SIGN_RECORDS, record(3, signed=True)),
    "retractRecord": Operation("POST", f"{R}/entered-in-error", Permission.SIGN_RECORDS, record(4, signed=True)),
    "restoreRecord": Operation("POST", f"{R}/restore", Permission.DELETE_RECORDS, record(2, deleted=True)),
    "revertRecord": Operation("POST", f"{R}/revert", Permission.WRITE_RECORDS, record(2)),
    "recordHistory": Operation("GET", f"{R}/history", Permission.READ_RECORDS, record()),
    "recordVersion": Operation("GET", f"{R}/versions/{{number}}", Permission.READ_RECORDS, record()),
    "recordDiff": Operation("GET", f"{R}/diff", Permission.READ_RECORDS, record(2), "from=1&to=2"),
    "listConflicts": Operation("GET", "/v1/conflicts", Permission.READ_CONFLICTS),
    "getConflict": Operation("GET", C, Permission.READ_CONFLICTS, conflict),
    "resolveConflict": Operation("POST", f"{C}/resolve", Permission.RESOLVE_CONFLICTS, conflict),
    "getPolicies": Operation("GET", "/v1/practice/policies", Permission.READ_POLICIES),
    "setPolicies": Operation("PUT", "/v1/practice/policies", Permission.SET_POLICIES),
    "policyHistory": Operation("GET", "/v1/practice/policies/history", Permission.READ_POLICIES),
    "listAudit": Operation("GET", "/v1/audit", Permission.READ_AUDIT),
    "verifyAudit": Operation("GET", "/v1/audit/verify", Permission.VERIFY_AUDIT),
    "patientAccessLog": Operation("GET", f"{P}/access-log", Permission.READ_ACCESS_LOG, patient()),
    "pull": Operation("GET", "/v1/sync/pull", Permission.READ_PATIENTS),
    "push": Operation("POST", "/v1/sync/push", Permission.WRITE_RECORDS, kept=True),
    "pullWatermelon": Operation("GET", "/v1/sync/watermelon", Permission.READ_PATIENTS),
    "pushWatermelon": Operation("POST", "/v1/sync/watermelon", Permission.WRITE_RECORDS, kept=True),
    "watermelonSchema": Operation("GET", "/v1/sync/watermelon/schema", None),
    "syncStats": Operation("GET", "/v1/sync/stats", Permission.READ_SYNC_HEALTH),
    "listSyncEvents": Operation("GET", "/v1/sync/events", Permission.READ_SYNC_HEALTH),
    "listQuarantine": Operation("GET", "/v1/sync/quarantine", Permission.READ_CONFLICTS),
    "releaseQuarantined": Operation(
        "POST", "/v1/sync/quarantine/{quarantine_id}/release", Permission.RESOLVE_CONFLICTS, quarantined
    ),
    "discardQuarantined": Operation(
        "POST", "/v1/sync/quarantine/{quarantine_id}/discard", Permission.RESOLVE_CONFLICTS, quarantined
    ),
    "importFhir": Operation("POST", "/v1/import/fhir", Permission.IMPORT),
}
"""What a token is needed for."""


def may(permission: Permission | None) -> Role:
    """Somebody who may; the owner, if the owner does."""
    return next(role for role in Role if permission is None or permission in PERMISSIONS[role])


METHODS = ("get", "put", "post", "patch", "delete", "head", "options", "trace")


def listed(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations of an OpenAPI document by their id, each with its `method` and `path`."""
    return {
        operation["operationId"]: {**operation, "method": method.upper(), "path": path}
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def example_of(operation: dict[str, Any]) -> Any:
    """The body that the document shows; where it shows none, the least that a change needs."""
    body = operation.get("requestBody")
    if body is None:
        return None
    return body["content"]["application/json"].get("example", {"base_version": 1})
