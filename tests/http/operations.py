"""Every operation of the API: who may do it, and what must be there before it can succeed."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from heallog.domain.access import Permission

from .clinic import Clinic

Prepare = Callable[[Clinic], Awaitable[str]]
"""Makes what the operation needs, so that the example of its body succeeds; gives the id to ask for."""


@dataclass(frozen=True)
class Operation:
    """`permission` is None where being logged in is enough. `path` has the places of the OpenAPI document."""

    method: str
    path: str
    permission: Permission | None
    prepare: Prepare | None = None
    query: str = ""

    def address(self, thing: str) -> str:
        """Where it is done to one thing."""
        filled = self.path.format(patient_id=thing, record_id=thing, conflict_id=thing, number=1)
        return f"{filled}?{self.query}" if self.query else filled


def patient(version: int = 1, *, deleted: bool = False) -> Prepare:
    """A patient at a version; deleted with the last one."""

    async def prepare(clinic: Clinic) -> str:
        path = f"/v1/patients/{(made := await clinic.patient())['id']}"
        await _at(clinic, path, 1, version - deleted, phone="0{}")
        if deleted:
            await clinic.deleted(path, version - 1)
        return made["id"]

    return prepare


def record(version: int = 1, *, deleted: bool = False, signed: bool = False) -> Prepare:
    """A record at a version; deleted or signed with the last one."""

    async def prepare(clinic: Clinic) -> str:
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


async def conflict(clinic: Clinic) -> str:
    """A dose that was changed to 20 on one device and to 15 on another; the head is at version 2."""
    made = await clinic.record((await clinic.patient())["id"], kind="medication", title="Metformin", dose=10)
    path = f"/v1/records/{made['id']}"
    await clinic.changed(path, 1, dose=20)
    tablet = clinic.token_for(device="tablet")
    answer = await clinic.call("PATCH", path, {"base_version": 1, "dose": 15}, token=tablet)
    assert answer.status_code == 409, answer.text
    return answer.json()["error"]["context"]["conflict"]["id"]


async def _at(clinic: Clinic, path: str, version: int, wanted: int, **fields: str) -> None:
    for number in range(version, wanted):
        await clinic.changed(path, number, **{name: value.format(number) for name, value in fields.items()})


P, R, C = "/v1/patients/{patient_id}", "/v1/records/{record_id}", "/v1/conflicts/{conflict_id}"

PUBLIC = {
    "register": ("POST", "/v1/auth/register"),
    "login": ("POST", "/v1/auth/login"),
    "live": ("GET", "/health/live"),
    "ready": ("GET", "/health/ready"),
}
"""What anyone may ask without a token."""

OPERATIONS = {
    "me": Operation("GET", "/v1/me", None),
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
    "importFhir": Operation("POST", "/v1/import/fhir", Permission.IMPORT),
}
"""What a token is needed for."""

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
