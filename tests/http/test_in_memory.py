"""The same application on the memory adapters: what a developer tries things on without any database."""

import asyncio

import httpx
import pytest

from heallog import bootstrap, config

from .clinic import PASSWORD, code_in


@pytest.fixture
async def app_without_database(tmp_path):
    wired = bootstrap.in_memory(config.Settings(data_dir=tmp_path, _env_file=None))
    over = httpx.ASGITransport(bootstrap.http_app(wired), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=over, base_url="http://heallog") as client:
        fields = {"email": "alice@example.org", "password": PASSWORD, "name": "Alice", "practice_name": "Hillside"}
        registered = await client.post("/v1/auth/register", json=fields)
        client.mail = wired.mail()
        client.headers["Authorization"] = f"Bearer {registered.json()['tokens']['access_token']}"
        yield client


async def test_a_day_at_the_clinic_without_a_database(app_without_database):
    client = app_without_database
    assert (await client.get("/health/ready")).json() == {"status": "ready"}
    ngozi = (await client.post("/v1/patients", json={"family_name": "García", "given_name": "Ngozi"})).json()
    found = (await client.get("/v1/patients?q=garica")).json()["items"]
    assert [patient["id"] for patient in found] == [ngozi["id"]]
    note = {"kind": "note", "text": "Feels ill."}
    made = await client.post(f"/v1/patients/{ngozi['id']}/records", json=note)
    address = made.headers["location"]
    changed = await client.patch(address, json={"text": "Feels better."}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    stale = await client.patch(address, json={"text": "Feels worse."}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert [item["version"] for item in (await client.get(f"{address}/history")).json()["items"]] == [2, 1]
    bundle = {"resourceType": "Patient", "id": "p-1", "name": [{"family": "Obi"}]}
    for outcome in ("created", "unchanged"):
        report = (await client.post("/v1/import/fhir", json=bundle)).json()
        assert report["types"]["Patient"][outcome] == 1


async def test_the_health_of_sync_without_a_database(app_without_database):
    client = app_without_database
    push = {"op": "create", "collection": "patients", "id": "ngozi", "fields": {"family_name": "Obi"}}
    body = {"push_id": "p", "contributions": [{"operations": [push]}]}
    assert (await client.post("/v1/sync/push", json=body)).status_code == 200
    assert (await client.get("/v1/sync/pull")).status_code == 200
    assert (await client.get("/v1/sync/pull?cursor=x")).status_code == 400
    stats = (await client.get("/v1/sync/stats")).json()
    assert (stats["pulls"], stats["pushes"], stats["records"], stats["devices"][0]["lag_ms"]) == (2, 1, 2, 0)
    found = (await client.get("/v1/sync/events?limit=2")).json()
    assert [event["outcome"] for event in found["items"]] == ["refused", "ok"]
    further = (await client.get(f"/v1/sync/events?cursor={found['next_cursor']}")).json()["items"]
    assert [event["mode"] for event in further] == ["push"]


async def test_a_dose_is_disputed_and_decided_without_a_database(app_without_database):
    client = app_without_database
    await client.post("/v1/patients", json={"id": "ngozi", "family_name": "Obi"})
    metformin = {"id": "m-1", "kind": "medication", "title": "Metformin", "dose": 10}
    await client.post("/v1/patients/ngozi/records", json=metformin)
    answers = []
    for device, dose in (("tablet", 20), ("phone", 15)):
        said = {"email": "alice@example.org", "password": PASSWORD, "device_id": device}
        token = (await client.post("/v1/auth/login", json=said)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        late = {"base_version": 1, "dose": dose, "tags": [device]}
        answers.append(await client.patch("/v1/records/m-1", json=late, headers=headers))
    assert [answer.status_code for answer in answers] == [200, 409]
    conflict = (await client.get("/v1/conflicts?state=open&patient_id=ngozi")).json()["items"][0]
    assert conflict == answers[1].json()["error"]["context"]["conflict"]
    decision = {"head_version": 4, "choices": {"dose": {"take": "mine"}}, "reason": "asked the pharmacy"}
    decided = await client.post(f"/v1/conflicts/{conflict['id']}/resolve", json=decision)
    assert (decided.status_code, decided.headers["etag"]) == (200, '"5"')
    now = (await client.get("/v1/records/m-1")).json()
    assert (now["dose"], now["tags"], "conflict_id" in now) == (15, ["phone", "tablet"], False)
    history = (await client.get("/v1/records/m-1/history")).json()["items"]
    assert [item["inputs"] for item in history] == [[3, 4], [2, 3], [], [], []]
    setting = {"base_version": 0, "patients": {"phone": "manual"}, "reason": "wrong numbers"}
    assert (await client.put("/v1/practice/policies", json=setting)).json()["patients"]["phone"] == "manual"


async def test_sessions_members_and_broken_glass_without_a_database(app_without_database):
    client = app_without_database
    said = {"email": "alice@example.org", "password": PASSWORD}
    tokens = (await client.post("/v1/auth/login", json=said)).json()
    answers = [await client.post("/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}) for _ in range(2)]
    assert answers[0].status_code == 200
    assert answers[0].content == answers[1].content
    login = {"Authorization": f"Bearer {answers[0].json()['access_token']}"}
    assert (await client.post("/v1/auth/logout", headers=login)).status_code == 204
    assert (await client.get("/v1/me", headers=login)).status_code == 401

    body = {"email": "ada@example.org", "role": "assistant"}
    assert (await client.post("/v1/practice/members", json=body)).status_code == 201
    code = code_in(client.mail.to("ada@example.org")[0])
    body = {"email": "ada@example.org", "code": code, "password": PASSWORD, "name": "Ada"}
    joined = await client.post("/v1/auth/accept-invitation", json=body)
    assert joined.status_code == 201, joined.text
    ada = {"Authorization": f"Bearer {joined.json()['tokens']['access_token']}"}
    await client.post("/v1/patients", json={"id": "ngozi", "family_name": "Obi"}, headers=ada)
    await client.post("/v1/patients/ngozi/records", json={"id": "n-1", "kind": "note", "text": "Ill."}, headers=ada)
    sign = ("/v1/records/n-1/sign", {"base_version": 1})
    assert (await client.post(sign[0], json=sign[1], headers=ada)).status_code == 403
    reason = {"reason": "Nobody can be reached."}
    assert (await client.post("/v1/practice/emergencies", json=reason, headers=ada)).status_code == 201
    assert (await client.post(sign[0], json=sign[1], headers=ada)).status_code == 200
    assert client.mail.to("alice@example.org")[-1].subject == "Broken glass in Hillside"
    assert (await client.delete(f"/v1/practice/members/{joined.json()['account']['id']}")).status_code == 204
    assert (await client.get("/v1/me", headers=ada)).status_code == 401


async def test_each_house_is_its_own(app_without_database, tmp_path):
    other = bootstrap.in_memory(config.Settings(data_dir=tmp_path, _env_file=None))
    async with other.uow() as uow:
        assert await uow.accounts.by_email("alice@example.org") is None


async def test_others_are_answered_while_a_long_push_goes_on(app_without_database):
    """Nothing waits for a database here: what turns others get, the push itself gives them."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(others())
    taken = []
    for size in (1, 501):
        made = [{"op": "create", "collection": "patients", "id": f"p-{size}-{n}", "fields": {"family_name": "Obi"}}
                for n in range(size)]  # fmt: skip
        body = {"push_id": f"push-{size}", "contributions": [{"operations": [one]} for one in made]}
        before = turns
        answer = await app_without_database.post("/v1/sync/push", json=body)
        assert {one["status"] for one in answer.json()["results"]} == {"created"}
        taken.append(turns - before)
    waiting.cancel()
    assert taken[1] - taken[0] >= 10


async def test_who_has_left_hands_in_and_it_is_released_without_a_database(app_without_database):
    client = app_without_database
    invited = {"email": "ben@example.org", "role": "clinician"}
    assert (await client.post("/v1/practice/members", json=invited)).status_code == 201
    said = {"email": "ben@example.org", "password": PASSWORD, "name": "Ben", "device_id": "phone"}
    joined = await client.post("/v1/auth/accept-invitation", json=said | {"code": code_in(client.mail.letters[-1])})
    ben = {"Authorization": f"Bearer {joined.json()['tokens']['access_token']}"}
    account_id = joined.json()["account"]["id"]
    assert (await client.delete(f"/v1/practice/members/{account_id}")).status_code == 204
    row = {"id": "ngozi", "_status": "created", "_changed": "", "family_name": "Obi"}
    for _ in range(2):
        pushed = await client.post("/v1/sync/watermelon", json={"patients": {"created": [row]}}, headers=ben)
        assert [one["status"] for one in pushed.json()["results"]] == ["quarantined"]
    assert (await client.get("/v1/sync/watermelon", headers=ben)).status_code == 401
    (item,) = (await client.get("/v1/sync/quarantine")).json()["items"]
    released = await client.post(f"/v1/sync/quarantine/{item['id']}/release", json={})
    assert [one["status"] for one in released.json()["results"]] == ["created"]
    assert (await client.get("/v1/patients/ngozi")).json()["family_name"] == "Obi"
    stats = (await client.get("/v1/sync/stats")).json()
    assert [one["device_id"] for one in stats["devices"]] == []
