"""Scenarios of who may: what a device may not see any more, and work that arrives when its right is gone."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.http.clinic import Clinic, refused
from tests.http.devices import ADDRESS, METFORMIN, NGOZI, Device, statuses
from tests.integration.servers import Server

from heallog.domain.access import Role

from .apps import App, disputes, effect, settled, shows

PAGE = 50


@pytest.fixture
async def ben(clinic: Clinic) -> str:
    """The account of another member."""
    return await clinic.member(Role.CLINICIAN, f"ben-{clinic.practice_id}")


async def removed(clinic: Clinic, account: str) -> None:
    answer = await clinic.call("DELETE", f"/v1/practice/members/{account}")
    assert answer.status_code == 204, answer.text


async def test_membership_revoked_between_pages(clinic: Clinic, ben: str) -> None:
    """The next page is refused, by either door, and so is a pull from the start; nothing of the practice is in it."""
    desk = Device(clinic, await clinic.token_for(device="desk"))
    await desk.push(*({**NGOZI, "id": f"p-{at:03}"} for at in range(3 * PAGE)))
    phone = Device(clinic, await clinic.token_for(device="phone", account=ben))
    page = await phone.page(PAGE)
    assert (len(page["changes"]), page["has_more"]) == (PAGE, True)
    await removed(clinic, ben)
    for path in (
        f"/v1/sync/pull?limit={PAGE}&cursor={page['cursor']}",
        "/v1/sync/pull",
        f"{ADDRESS}?last_pulled_at=0",
        f"{ADDRESS}?last_pulled_at={page['head']}",
        "/v1/sync/quarantine",
    ):
        answer = await phone.call("GET", path)
        refused(answer, 401, "SESSION_ENDED")
        assert "p-0" not in answer.text
        assert clinic.practice_id not in answer.text
    # The page that was lost goes on for nobody else either.
    other = await clinic.call("GET", f"/v1/sync/pull?cursor={page['cursor']}")
    refused(other, 400, "INVALID_CURSOR")


async def waiting(clinic: Clinic) -> list[dict[str, Any]]:
    """What Alice finds in quarantine, the oldest first."""
    return (await clinic.get("/v1/sync/quarantine"))["items"][::-1]


async def released(clinic: Clinic, item: dict[str, Any]) -> str:
    """What becomes of it when Alice does it after all, as it was sent."""
    answer = await clinic.call("POST", f"/v1/sync/quarantine/{item['id']}/release", {})
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return str(result["status"])


def kept(answer: httpx.Response) -> set[str]:
    """The ids of what was pushed and kept for review, all of it; nothing else is in the answer."""
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    told = {(one["status"], one["version"], *(error["code"] for error in one["errors"])) for one in results}
    assert told == {("quarantined", None, "FORBIDDEN")}
    assert not {"conflict_id", "severity", "flag"} & {name for one in results for name in one}
    return {one["id"] for one in results}


async def only_kept(clinic: Clinic, before: dict[str, int], items: int) -> None:
    """All that a push left behind is in quarantine: nothing of it is live, and no device is told anything."""
    after = await effect(clinic)
    assert after == before | {
        "quarantined": before["quarantined"] + items,
        "entries": before["entries"] + 1,
        "pushes": before["pushes"] + 1,
    }


async def test_revoked_member_pushes_old_work(clinic: Clinic, door: type[App], tablet: App, ben: str) -> None:
    """It is neither live nor lost, and shows him nothing; released by the owner it is live, from where he began."""
    phone = door(clinic, await clinic.token_for(device="phone", account=ben))
    await phone.pull()
    phone.edit("records", "metformin", dose=20)
    phone.create("patients", "chidi", family_name="Eze")
    phone.create("records", "cough", "chidi", kind="note", text="x")
    await removed(clinic, ben)
    tablet.edit("records", "metformin", dose=15)
    assert await tablet.sync() == {"metformin": "updated"}
    before = await effect(clinic)
    answer = await phone.push()
    assert kept(answer) == {"metformin", "chidi", "cough"}
    await only_kept(clinic, before, 3)
    for path in ("/v1/sync/pull", ADDRESS, "/v1/sync/quarantine", "/v1/patients/chidi"):
        refused(await clinic.call("GET", path, token=phone.token), 401, "SESSION_ENDED")
    # The same again, which he may send for ever, is kept once.
    assert (await phone.push()).json() == answer.json()
    await only_kept(clinic, before, 3)
    entry = (await clinic.get("/v1/audit"))["items"]
    assert ("sync.push", "refused", ben, "former", "phone", "FORBIDDEN") in {
        tuple(one[name] for name in ("action", "outcome", "account_id", "role", "device_id", "reason")) for one in entry
    }
    items = await waiting(clinic)
    assert {(one["account_id"], one["device_id"]) for one in items} == {(ben, "phone")}
    by_id = {(one["operation"].get("row") or one["operation"])["id"]: one for one in items}
    assert "Eze" in json.dumps(by_id["chidi"]["operation"])
    # A child waits for its parent.
    assert await released(clinic, by_id["cough"]) == "quarantined"
    assert [await released(clinic, by_id[name]) for name in ("chidi", "metformin")] == ["created", "conflict"]
    (cough,) = await waiting(clinic)
    assert await released(clinic, cough) == "created"
    await tablet.sync()
    assert shows(tablet, "records", "metformin", dose=15)
    assert disputes(tablet) == {"dose": (10, 15, 20)}
    assert shows(tablet, "patients", "chidi", family_name="Eze")
    assert shows(tablet, "records", "cough", text="x")
    assert await waiting(clinic) == []


async def test_demoted_member_pushes_old_work(clinic: Clinic, door: type[App], tablet: App, ben: str) -> None:
    """The same; and however far his device goes on, what is released starts from where it began."""

    async def becomes(role: Role) -> None:
        answer = await clinic.call("PATCH", f"/v1/practice/members/{ben}", {"role": role})
        assert answer.status_code == 200, answer.text

    phone = door(clinic, await clinic.token_for(device="phone", account=ben))
    await phone.pull()
    phone.edit("records", "metformin", dose=20)
    tablet.edit("records", "metformin", dose=15)
    await tablet.sync()
    await becomes(Role.AUDITOR)
    before = await effect(clinic)
    assert await phone.sync() == {"metformin": "quarantined"}
    after = await effect(clinic)
    assert (after["versions"], after["quarantined"]) == (before["versions"], before["quarantined"] + 1)
    await phone.sync()
    # He has seen what there is, and writes again.
    await becomes(Role.CLINICIAN)
    phone.edit("records", "metformin", dose=25)
    assert await phone.sync() == {"metformin": "updated"}
    await phone.sync()
    (item,) = await waiting(clinic)
    assert [error["code"] for error in item["errors"]] == ["FORBIDDEN"]
    assert await released(clinic, item) == "conflict"
    await settled(tablet, phone)
    assert shows(tablet, "records", "metformin", dose=25)
    assert disputes(tablet) == {"dose": (10, 25, 20)}
    assert await waiting(clinic) == []


async def test_expired_token_of_a_former_member(clinic: Clinic, door: type[App], tablet: App, ben: str) -> None:
    """Its device was offline when it happened: it hands in, and does nothing else. A member's is refused as ever."""
    phone = door(clinic, await clinic.token_for(device="phone", account=ben))
    await phone.pull()
    phone.edit("records", "metformin", dose=20)
    phone.token = await clinic.token_for(device="phone", account=ben, ago=timedelta(days=29))
    before = await effect(clinic)
    refused(await phone.push(), 401, "TOKEN_EXPIRED")
    assert await effect(clinic) == before
    await removed(clinic, ben)
    assert kept(await phone.push()) == {"metformin"}
    await only_kept(clinic, before, 1)
    for path in ("/v1/sync/pull", ADDRESS, "/v1/sync/quarantine", "/v1/me"):
        refused(await clinic.call("GET", path, token=phone.token), 401, "TOKEN_EXPIRED")
    (item,) = await waiting(clinic)
    assert await released(clinic, item) == "updated"
    await tablet.sync()
    assert shows(tablet, "records", "metformin", dose=20)
    # A member again, he logs in as everybody does.
    await clinic.container.database().pool.execute(
        "UPDATE memberships SET ended_at = NULL WHERE practice_id = $1 AND account_id = $2", clinic.practice_id, ben
    )
    refused(await phone.push(), 401, "TOKEN_EXPIRED")


@pytest.mark.parametrize("how", ["by himself", "by the owner"])
async def test_former_member_who_was_logged_out_before(
    clinic: Clinic, door: type[App], tablet: App, ben: str, how: str
) -> None:
    """401, and nothing is consumed: whoever has that token may have stolen it."""
    phone = door(clinic, await clinic.token_for(device="phone", account=ben))
    await phone.pull()
    phone.edit("records", "metformin", dose=20)
    if how == "by himself":
        await clinic.call("POST", "/v1/auth/logout", token=phone.token)
    else:
        await clinic.call("DELETE", f"/v1/practice/members/{ben}/sessions")
    await removed(clinic, ben)
    before = await effect(clinic)
    refused(await phone.push(), 401, "SESSION_ENDED")
    assert await effect(clinic) == before


QUEUE = 200


@pytest.mark.parametrize("door", ["native", "watermelon"])
async def test_token_expired_with_a_full_queue(served: Server, clinic: Clinic, door: str) -> None:
    """8 MB are on their way when they are refused: the device hears why, nothing is consumed, and it sends again."""
    await clinic.patient(id="ngozi")
    fields = {"kind": "note", "text": "x" * 40_000}
    if door == "native":
        operations = [{**METFORMIN, "id": f"n-{n}", "fields": fields} for n in range(QUEUE)]
        path = "/v1/sync/push"
        said = {"push_id": "p-1", "contributions": [{"operations": [operation]} for operation in operations]}
    else:
        row = {"_status": "created", "_changed": "", "patient_id": "ngozi", **fields}
        path, said = ADDRESS, {"records": {"created": [{"id": f"n-{n}", **row} for n in range(QUEUE)]}}
    body, before = json.dumps(said).encode(), await effect(clinic)

    async def sent(token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.post(served.url + path, content=body, headers=headers)

    refused(await sent(await clinic.token_for(device="phone", ago=timedelta(minutes=20))), 401, "TOKEN_EXPIRED")
    assert await effect(clinic) == before
    answer = await sent(await clinic.token_for(device="phone"))
    assert set(statuses(answer.json()["results"])) == {"created"}
    assert (await effect(clinic))["versions"] == before["versions"] + QUEUE
