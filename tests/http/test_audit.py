"""The trail over HTTP: every use case leaves its entry, and those who may can read and prove it."""

from typing import Any

import pytest

from heallog.domain.access import PERMISSIONS, Permission, Role

from .clinic import Clinic, NewClinic, refused
from .operations import OPERATIONS, may
from .trespass import prepared

SILENT = {
    "me": "who one is",
    "listSessions": "where one is logged in",
    "sendVerification": "a mail to oneself",
    "getPolicies": "rules, of no patient",
    "policyHistory": "rules, of no patient",
    "getPractice": "of no patient",
    "watermelonSchema": "of no patient",
    "listMembers": "of no patient",
    "listEmergencies": "of no patient, and each is an entry itself",
}
"""What shows nothing of a patient and changes nothing, and leaves nothing when it is done."""

BEGIN = {"importFhir": 2, "changePassword": 2, "push": 2, "releaseQuarantined": 2, "pushWatermelon": 2}
"""An import tells that it begins, and then of each version; so does a push; a new password begins a session, too."""


async def entries(clinic: Clinic, request_id: str) -> list[dict[str, Any]]:
    """What a request left, in the order in which it was written."""
    rows = await clinic.container.database().pool.fetch(
        "SELECT * FROM audit_entries WHERE practice_id = ANY($1) AND request_id = $2 ORDER BY at, id",
        [clinic.practice_id, clinic.annex], request_id,
    )  # fmt: skip
    return [dict(row) for row in rows]


async def trail(clinic: Clinic, query: str = "", **said: str) -> list[dict[str, Any]]:
    return (await clinic.get(f"/v1/audit?{query}", **said))["items"]


# -- nothing is forgotten -----------------------------------------------------------------------------------------


ASIDE = ("push", "pushWatermelon")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_what_is_done_leaves_one_entry_and_what_is_refused_too(
    clinic: Clinic, document: dict[str, Any], name: str
) -> None:
    """A new operation: its use case is `@audited`, and tells of what it shows or changes."""
    permission = OPERATIONS[name].permission
    who = may(permission)
    asked = await prepared(clinic, document, name, who)
    for role in Role:
        allowed = permission is None or permission in PERMISSIONS[role]
        if allowed and role is not who:
            continue
        request_id = f"{name}-{role}"
        token = await clinic.token_for(role, device=role)
        answer = await asked.sent({"Authorization": f"Bearer {token}", "X-Request-ID": request_id})
        left = await entries(clinic, request_id)
        # What somebody pushes who may not is kept for others to look at.
        assert answer.is_success == (allowed or name in ASIDE), answer.text
        assert len(left) == (BEGIN.get(name, name not in SILENT) if allowed else 1), left
        for entry in left:
            assert entry["outcome"] == ("done" if allowed else "refused")
            assert (entry["account_id"], entry["role"]) == (await clinic.member(role), role)
            if "{patient_id}" in asked.operation.path:
                assert entry["patient_id"] == asked.thing
            elif asked.operation.of_one_thing and "conflict" not in name.casefold():
                # A decision is about the record that was disputed.
                assert entry["thing_id"] == asked.thing
        if not allowed:
            assert left[0]["reason"] == "FORBIDDEN"


@pytest.mark.parametrize("name", [name for name in OPERATIONS if OPERATIONS[name].of_one_thing])
async def test_asking_for_what_is_not_here_leaves_an_entry(clinic: Clinic, document: dict[str, Any], name: str) -> None:
    asked = await prepared(clinic, document, name)
    headers = {"Authorization": f"Bearer {clinic.token}", "X-Request-ID": "look"}
    refused(await asked.sent(headers, thing="nothing"), 404, "NOT_FOUND")
    [entry] = await entries(clinic, "look")
    assert (entry["outcome"], entry["reason"], entry["version"]) == ("refused", "NOT_FOUND", None)
    assert "nothing" in (entry["thing_id"], entry["patient_id"])


async def test_a_read_names_its_version_and_a_list_its_patients(clinic: Clinic) -> None:
    ngozi, ada = await clinic.patient(), await clinic.patient(given_name="Ada")
    record = await clinic.record(ngozi["id"])
    await clinic.changed(f"/v1/records/{record['id']}", 1, title="Pulse")
    path = f"/v1/records/{record['id']}"
    for suffix, version in (("", 2), ("/versions/1", 1), ("/history", None), ("/diff?from=1&to=2", 2)):
        await clinic.get(path + suffix, x_request_id="read")
        [*_, entry] = await entries(clinic, "read")
        assert (entry["collection"], entry["thing_id"], entry["version"]) == ("records", record["id"], version)
        assert (entry["patient_id"], entry["hash"], entry["fields"]) == (ngozi["id"], None, [])
    await clinic.get("/v1/patients", x_request_id="list")
    await clinic.get("/v1/patients?q=ada", x_request_id="search")
    await clinic.get(f"/v1/patients/{ngozi['id']}/records", x_request_id="records")
    left = [(await entries(clinic, asked))[0] for asked in ("list", "search", "records")]
    assert [entry["action"] for entry in left] == ["patients.list", "patients.search", "records.list"]
    assert [sorted(entry["subjects"] or []) for entry in left] == [sorted((ngozi["id"], ada["id"])), [ada["id"]], []]
    assert [entry["patient_id"] for entry in left] == [None, None, ngozi["id"]]


async def test_who_has_the_version_already_has_read_it_again(clinic: Clinic) -> None:
    path = f"/v1/patients/{(await clinic.patient())['id']}"
    answer = await clinic.call("GET", path, headers={"If-None-Match": '"1"', "X-Request-ID": "again"})
    assert (answer.status_code, len(await entries(clinic, "again"))) == (304, 1)


async def test_what_was_no_request_yet_leaves_nothing(clinic: Clinic) -> None:
    path = f"/v1/patients/{(await clinic.patient())['id']}"
    for body in ({"colour": "white", "base_version": 1}, {"phone": "0"}):
        answer = await clinic.call("PATCH", path, body, headers={"X-Request-ID": "wrong"})
        assert answer.status_code in (422, 428)
    assert await entries(clinic, "wrong") == []


async def test_no_word_of_the_caller_reaches_a_refusal(clinic: Clinic) -> None:
    path = f"/v1/records/{(await clinic.signed((await clinic.patient())['id']))['id']}"
    body = {"base_version": 2, "title": "CANARY", "reason": "CANARY"}
    refused(await clinic.call("PATCH", path, body, headers={"X-Request-ID": "late"}), 409, "RECORD_SIGNED")
    [entry] = await entries(clinic, "late")
    assert entry["reason"] == "RECORD_SIGNED"
    assert "CANARY" not in str(entry)


# -- reading the trail --------------------------------------------------------------------------------------------


async def test_the_trail_is_newest_first_and_paged(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.get(f"/v1/patients/{ngozi['id']}", x_request_id="read-1")
    page = await clinic.get("/v1/audit?limit=2")
    assert [item["action"] for item in page["items"]] == ["patients.read", "patients.create"]
    read, created = page["items"]
    assert read == read | {
        "account_id": clinic.account_id,
        "account_name": "Alice",
        "role": "owner",
        "outcome": "done",
        "collection": "patients",
        "thing_id": ngozi["id"],
        "patient_id": ngozi["id"],
        "version": 1,
        "reason": None,
        "request_id": "read-1",
        "fields": [],
        "subjects": [],
        "hash": None,
    }
    assert created["fields"] == ["family_name", "given_name"]
    history = await clinic.get(f"/v1/patients/{ngozi['id']}/history")
    assert created["hash"] == history["items"][0]["hash"]
    rest = await clinic.get(f"/v1/audit?cursor={page['next_cursor']}")
    assert [item["action"] for item in rest["items"]] == ["sessions.login", "accounts.register"]
    assert rest["next_cursor"] is None
    assert [item["action"] for item in await trail(clinic, "limit=1")] == ["audit.read"]


async def test_the_trail_can_be_asked_by_patient_account_and_time(clinic: Clinic) -> None:
    ngozi, ada = await clinic.patient(), await clinic.patient(given_name="Ada")
    await clinic.get("/v1/patients")
    await clinic.get(f"/v1/patients/{ada['id']}")
    actions = [item["action"] for item in await trail(clinic, f"patient_id={ngozi['id']}")]
    assert actions == ["patients.list", "patients.create"]
    assert await trail(clinic, "account_id=nobody") == []
    assert len(await trail(clinic, f"account_id={clinic.account_id}&limit=500")) > 5
    assert await trail(clinic, "from=2999") == await trail(clinic, "to=2020") == []
    answer = await clinic.call("GET", "/v1/audit?from=yesterday&to=soon")
    assert refused(answer, 422, "INVALID_FIELDS", "from")["context"]["errors"][1]["field"] == "to"


async def test_another_practices_trail_is_not_here(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    theirs = await elsewhere.patient()
    assert await trail(clinic, f"patient_id={theirs['id']}") == []
    cursor = (await elsewhere.get("/v1/audit?limit=1"))["next_cursor"]
    assert await trail(clinic, f"cursor={cursor}") == []
    refused(await clinic.call("GET", f"/v1/patients/{theirs['id']}/access-log"), 404, "NOT_FOUND")


async def test_a_patient_asks_who_read_my_record(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    path = f"/v1/patients/{ngozi['id']}"
    record = await clinic.record(ngozi["id"])
    assistant = await clinic.token_for(Role.ASSISTANT)
    await clinic.call("GET", f"/v1/records/{record['id']}", token=assistant)
    await clinic.call("DELETE", path, {"base_version": 1}, token=assistant)
    await clinic.call("DELETE", path, {"base_version": 1, "reason": "moved away"})
    log = await clinic.get(f"{path}/access-log")
    told = [(item["action"], item["outcome"], item["role"], item["reason"]) for item in log["items"]]
    assert told == [
        ("patients.delete", "done", "owner", "moved away"),
        ("patients.delete", "refused", "assistant", "FORBIDDEN"),
        ("records.read", "done", "assistant", None),
        ("records.create", "done", "owner", None),
        ("patients.create", "done", "owner", None),
    ]
    names = {"owner": "Alice", "assistant": await clinic.member(Role.ASSISTANT)}
    assert [item["account_name"] for item in log["items"]] == [names[item["role"]] for item in log["items"]]
    assert log["items"][2] == log["items"][2] | {"thing_id": record["id"], "version": 1, "collection": "records"}
    assert log["items"][0].keys() == {
        "id", "at", "account_id", "account_name", "role", "action", "outcome", "collection", "thing_id", "version",
        "reason",
    }  # fmt: skip
    first = await clinic.get(f"{path}/access-log?limit=1")
    assert first["items"][0]["action"] == "patients.access-log"
    second = await clinic.get(f"{path}/access-log?limit=9&cursor={first['next_cursor']}")
    assert second["items"] == log["items"]


@pytest.mark.parametrize("permission", [Permission.READ_AUDIT, Permission.VERIFY_AUDIT, Permission.READ_ACCESS_LOG])
def test_whoever_is_watched_does_not_watch(permission: Permission) -> None:
    watching = {role for role in Role if permission in PERMISSIONS[role]}
    assert watching - {Role.CLINICIAN} == {Role.OWNER, Role.AUDITOR}


# -- proving it ---------------------------------------------------------------------------------------------------


async def test_the_trail_proves_itself(clinic: Clinic) -> None:
    await clinic.record((await clinic.patient())["id"])
    await clinic.container.sealer().seal()
    await clinic.get("/v1/patients")
    proof = await clinic.get("/v1/audit/verify")
    assert proof == {
        "good": True, "entries": 6, "seals": 1, "witnessed": 1, "unsealed": 2, "versions": 2, "flaw": None,
    }  # fmt: skip


async def test_the_first_bad_entry_is_named(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    await clinic.patient()
    await clinic.container.sealer().seal()
    [entry, *_] = await trail(clinic, "limit=1&to=2999")
    url = clinic.container.settings().database_url
    await as_its_owner(url, "UPDATE audit_entries SET account_id = 'mallory' WHERE id = $1", entry["id"])
    proof = await clinic.get("/v1/audit/verify")
    assert (proof["good"], proof["flaw"]["entry_id"], proof["flaw"]["seal"]) == (False, entry["id"], 1)
    assert (await elsewhere.get("/v1/audit/verify"))["good"]
    await as_its_owner(url, "UPDATE audit_entries SET account_id = $2 WHERE id = $1", entry["id"], clinic.account_id)
    assert (await clinic.get("/v1/audit/verify"))["good"]


async def as_its_owner(url: str, sql: str, *arguments: Any) -> None:
    """By someone who may do everything, with the triggers off."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    assert await connection.execute(sql, *arguments) == "UPDATE 1"
    await connection.close()
