"""Two writers at once, on the real database."""

import asyncio

import httpx
import pytest

from heallog import bootstrap, config
from heallog.domain.access import Actor, Role

PAIRS = 100


@pytest.fixture
async def house(database_url, tmp_path):
    wired = bootstrap.container(
        config.Settings(database_url=database_url, data_dir=tmp_path, rate_limits=False, _env_file=None)
    )
    app = bootstrap.http_app(wired)
    over = httpx.ASGITransport(app, raise_app_exceptions=False)
    await wired.database().open()
    async with httpx.AsyncClient(transport=over, base_url="http://heallog") as client:
        fields = {
            "email": f"alice-{wired.ids()()}@example.org",
            "password": "correct horse battery",
            "name": "Alice",
            "practice_name": "Hillside",
        }
        registered = await wired.accounts().register(fields)
        actor = Actor(registered.account.id, registered.practice.id, Role.OWNER, "session", "device")
        client.headers["Authorization"] = f"Bearer {registered.tokens.access_token}"
        yield wired, client, actor
    await wired.database().close()


async def test_of_two_writers_with_the_same_if_match_exactly_one_wins(house):
    wired, client, actor = house
    patient = await wired.patients().create(actor, {"family_name": "Obi"})
    created = [await wired.records().create(actor, patient.id, {"kind": "note", "text": "0"}) for _ in range(PAIRS)]

    async def write(record_id: str, text: str) -> httpx.Response:
        return await client.patch(f"/v1/records/{record_id}", json={"text": text}, headers={"If-Match": '"1"'})

    async def race(record_id: str) -> None:
        alice, ben = await asyncio.gather(write(record_id, "alice"), write(record_id, "ben"))
        assert sorted((alice.status_code, ben.status_code)) == [200, 412], (alice.text, ben.text)
        winner, loser = (alice, ben) if alice.status_code == 200 else (ben, alice)
        assert loser.json()["error"]["context"]["version"] == 2
        head = (await client.get(f"/v1/records/{record_id}")).json()
        assert (head["version"], head["text"]) == (2, winner.json()["text"])

    # In groups, so that several pairs race at the same time on several connections.
    for start in range(0, PAIRS, 10):
        await asyncio.gather(*(race(head.id) for head in created[start : start + 10]))


async def test_of_two_creations_of_one_id_both_answer_and_one_is_kept(house):
    """The same content is the same creation, however many times it arrives at once."""
    wired, client, _ = house
    patient_id = wired.ids()()
    body = {"id": patient_id, "family_name": "Obi"}
    answers = await asyncio.gather(*(client.post("/v1/patients", json=body) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len((await client.get(f"/v1/patients/{patient_id}/history")).json()["items"]) == 1


async def test_a_record_is_never_filed_under_a_patient_deleted_meanwhile(house):
    _, client, _ = house
    for _ in range(20):
        patient_id = (await client.post("/v1/patients", json={"family_name": "Obi"})).json()["id"]
        created, deleted = await asyncio.gather(
            client.post(f"/v1/patients/{patient_id}/records", json={"kind": "note", "text": "x"}),
            client.request("DELETE", f"/v1/patients/{patient_id}", headers={"If-Match": '"1"'}),
        )
        assert deleted.status_code == 204
        assert created.status_code in (201, 404)


async def test_two_imports_of_the_same_resources_at_once(house, sample):
    """They take turns; nothing is doubled and nothing fails."""
    _, client, _ = house
    entries = [{"resource": item} for item in sample(20, 5)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    reports = [
        answer.json()
        for answer in await asyncio.gather(*(client.post("/v1/import/fhir", json=bundle) for _ in range(3)))
    ]
    totals = [sum(tally[name] for report in reports for tally in report["types"].values())
              for name in ("created", "unchanged", "refused")]  # fmt: skip
    assert totals == [120, 240, 0]
