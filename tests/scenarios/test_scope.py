"""Scenarios of who may: what a device may not see any more, and work that arrives when its right is gone."""

import json
from datetime import timedelta

import httpx
import pytest
from tests.http.clinic import Clinic, refused
from tests.http.devices import ADDRESS, METFORMIN, NGOZI, Device, statuses
from tests.integration.servers import Server

from heallog.domain.access import Role

from .apps import App, effect, settled, shows

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


async def test_revoked_member_pushes_old_work(clinic: Clinic, door: type[App], tablet: App, ben: str) -> None:
    """It is refused, and nothing of it is live or consumed; back in the practice, the same push is done."""
    phone = door(clinic, await clinic.token_for(device="phone", account=ben))
    await phone.pull()
    phone.edit("records", "metformin", dose=20)
    phone.create("records", "cough", "ngozi", kind="note", text="x")
    await removed(clinic, ben)
    before = await effect(clinic)
    refused(await phone.push(), 401, "SESSION_ENDED")
    assert await effect(clinic) == before
    await clinic.container.database().pool.execute(
        "UPDATE memberships SET ended_at = NULL, role = $3 WHERE practice_id = $1 AND account_id = $2",
        clinic.practice_id,
        ben,
        Role.AUDITOR,
    )
    phone.token = await clinic.token_for(device="phone", account=ben)
    refused(await phone.push(), 403, "FORBIDDEN")
    assert (await effect(clinic))["versions"] == before["versions"]
    await clinic.container.database().pool.execute(
        "UPDATE memberships SET role = $3 WHERE practice_id = $1 AND account_id = $2",
        clinic.practice_id,
        ben,
        Role.CLINICIAN,
    )
    assert await phone.sync() == {"metformin": "updated", "cough": "created"}
    await settled(phone, tablet)
    assert shows(tablet, "records", "metformin", dose=20)
    assert shows(tablet, "records", "cough", text="x")


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
