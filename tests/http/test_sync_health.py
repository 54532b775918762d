"""How sync fares: an event of every pull and push, also of those that went wrong, and what they add up to."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from heallog import bootstrap
from heallog.adapters.postgres.database import Database
from heallog.adapters.postgres.feed import FeedReads
from heallog.adapters.postgres.health import HealthLog
from heallog.application.sync import watermelon as use_cases
from heallog.domain.access import Role
from heallog.domain.canon import moment
from heallog.domain.health import Chosen

from .clinic import Clinic, NewClinic, refused
from .conftest import living
from .people import House, NewHouse
from .test_sync import METFORMIN, NGOZI, Device, update

WM = "/v1/sync/watermelon"
EVENTS = "/v1/sync/events"
METRICS_TOKEN = "a token for whoever watches over us"


@pytest.fixture
async def tablet(clinic: Clinic) -> Device:
    return Device(clinic, await clinic.token_for(device="tablet"))


@pytest.fixture
async def phone(clinic: Clinic) -> Device:
    return Device(clinic, await clinic.token_for(device="phone"))


async def events(clinic: Clinic, query: str = "") -> list[dict[str, Any]]:
    """What happened, the oldest first."""
    return list(reversed((await clinic.get(f"{EVENTS}?limit=100{query}"))["items"]))


def told(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["door"], event["mode"], event["outcome"], event["code"], event["records"]


async def position(clinic: Clinic, device: str = "tablet") -> int | None:
    await clinic.container.health_log().flush()
    sql = "SELECT position FROM sync_devices WHERE practice_id = $1 AND device_id = $2"
    return await clinic.container.database().pool.fetchval(sql, clinic.practice_id, device)


# -- what is noted ------------------------------------------------------------------------------------------------


async def test_every_pull_and_push_leaves_an_event(clinic: Clinic, tablet: Device) -> None:
    await tablet.push(NGOZI, METFORMIN)
    pulled = await tablet.page()
    await tablet.call("POST", f"{WM}?last_pulled_at=0", {})
    answer = await tablet.call("GET", WM)
    found = await events(clinic)
    assert [told(event) for event in found] == [
        ("native", "push", "ok", None, 2),
        ("native", "pull", "ok", None, 2),
        ("watermelon", "push", "ok", None, 0),
        ("watermelon", "pull", "ok", None, 2),
    ]
    assert {(event["device_id"], event["account_id"]) for event in found} == {("tablet", clinic.account_id)}
    assert [event["reached"] for event in found] == [None, pulled["head"], None, answer.json()["timestamp"]]
    assert found[3]["bytes"] == len(answer.content)
    assert all(0 < event["duration_ms"] < 60_000 for event in found)


async def test_bytes_are_those_that_carry_the_records(clinic: Clinic, tablet: Device) -> None:
    operations = [{"operations": [{**NGOZI, "id": f"p-{number}"}]} for number in range(50)]
    body = json.dumps({"push_id": "p", "contributions": operations}, indent=2).encode()
    await clinic.call("POST", "/v1/sync/push", raw=body, token=tablet.token)
    answer = await tablet.call("GET", "/v1/sync/pull")
    pushed, pulled = await events(clinic)
    assert pushed["bytes"] == len(body)
    assert pulled["bytes"] == len(answer.content)


async def test_a_pull_in_pages_says_so_and_confirms_nothing_before_its_end(clinic: Clinic, tablet: Device) -> None:
    for _ in range(5):
        await clinic.patient()
    await tablet.page()
    first = tablet.cursor
    head = (await tablet.page())["head"]
    assert await position(clinic) == head
    for _ in range(5):
        await clinic.patient()
    tablet.cursor = first
    while (await tablet.page(limit=2))["has_more"]:
        # The pages are written down together: until then the device has what it had.
        assert await position(clinic) == head
    assert [event["mode"] for event in await events(clinic)] == ["pull", "pull"] + 3 * ["batched_pull"]
    assert await position(clinic) == head
    later = (await tablet.page())["head"]
    assert later > head
    assert await position(clinic) == later


async def test_a_device_that_begins_anew_has_nothing(clinic: Clinic, tablet: Device) -> None:
    await clinic.patient()
    await tablet.page()
    await tablet.page()
    assert await position(clinic)
    tablet.cursor = None
    await tablet.page()
    assert await position(clinic) == 0
    last = (await tablet.call("GET", WM)).json()["timestamp"]
    assert await position(clinic) == 0
    await tablet.call("GET", f"{WM}?last_pulled_at={last}")
    assert await position(clinic) == last


async def test_a_long_answer_in_parts_is_counted_to_its_end(
    clinic: Clinic, tablet: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases, "PAGE", 2)
    for _ in range(5):
        await clinic.patient()
    answer = await tablet.call("GET", WM)
    (event,) = await events(clinic)
    assert told(event) == ("watermelon", "batched_pull", "ok", None, 5)
    assert (event["bytes"], event["reached"]) == (len(answer.content), answer.json()["timestamp"])


async def test_conflicts_merges_and_quarantined_are_counted_by_field_and_policy(
    clinic: Clinic, tablet: Device, phone: Device
) -> None:
    await tablet.push(NGOZI, METFORMIN)
    await tablet.push(update("records", "metformin", 1, dose=20, tags=["new"]))
    shoe = {"op": "create", "collection": "patients", "id": "obi", "fields": {"shoe_size": 38}}
    late = update("records", "metformin", 1, dose=15)
    await phone.push(late, update("patients", "ngozi", 1, phone="1"), shoe, push_id="once")
    first = (await events(clinic))[-1]
    assert (first["records"], first["conflicts"], first["merges"], first["quarantined"]) == (3, 1, 0, 1)
    assert {one["field"] for one in first["disputes"]} >= {"dose"}
    assert all(one["policy"] for one in first["disputes"])
    # Its answer was lost: nothing more is done, nothing is counted twice.
    await phone.push(late, update("patients", "ngozi", 1, phone="1"), shoe, push_id="once")
    again = (await events(clinic))[-1]
    assert (again["outcome"], again["records"], again["conflicts"], again["disputes"]) == ("ok", 0, 0, [])
    # What joins an open conflict is a dispute of its own; what stood in it is not counted again.
    await phone.push(update("records", "metformin", 1, tags=["late"]), update("records", "metformin", 1, title="M."))
    merged = (await events(clinic))[-1]
    assert (merged["merges"], merged["disputes"]) == (2, [])


async def test_how_far_a_devices_clock_is_ahead_is_noted(clinic: Clinic, tablet: Device) -> None:
    now = datetime.now(UTC)
    edits = [{**NGOZI, "id": f"p-{days}", "client_time": moment(now + timedelta(days=days))} for days in (-2, 3, 1)]
    await tablet.push(*edits)
    await tablet.push({**NGOZI, "client_time": moment(now - timedelta(days=2))})
    await tablet.push({**NGOZI, "id": "none"})
    ahead, behind, unknown = (event["clock_skew_ms"] for event in await events(clinic))
    day = 86_400_000
    assert abs(ahead - 3 * day) < 60_000
    assert abs(behind + 2 * day) < 60_000
    assert unknown is None
    assert (await clinic.get("/v1/sync/stats"))["clock_skew_ms"] == ahead


# -- what goes wrong ----------------------------------------------------------------------------------------------


async def test_what_is_refused_is_noted_with_its_code(clinic: Clinic, tablet: Device, phone: Device) -> None:
    await tablet.push(NGOZI, METFORMIN)
    await tablet.push(update("records", "metformin", 1, dose=20))
    clash = [update("records", "metformin", 1, dose=15)]
    head = (await tablet.page())["head"]
    known = len(await events(clinic))
    answers = [
        await phone.sends(clash, mode="strict"),
        await phone.sends(push_id="not an id"),
        await phone.call("POST", "/v1/sync/push", [1]),
        await clinic.call("POST", "/v1/sync/push", raw=b"{oops", token=phone.token),
        await phone.call("GET", "/v1/sync/pull?cursor=hls_x"),
        await phone.call("GET", "/v1/sync/pull?limit=many"),
        await phone.call("GET", f"{WM}?last_pulled_at={head + 10**9}"),
        await phone.call("POST", WM, {"secrets": {}}),
        await clinic.call("POST", WM, raw=b"x" * (64 * 1024 * 1024 + 1), token=phone.token),
    ]
    found = (await events(clinic))[known:]
    assert [event["code"] for event in found] == [answer.json()["error"]["code"] for answer in answers]
    assert [event["code"] for event in found] == [
        "PUSH_CONFLICT",
        *("INVALID_FIELDS", "INVALID_FIELDS", "MALFORMED_JSON"),
        *("INVALID_CURSOR", "INVALID_FIELDS", "RESYNC_REQUIRED", "INVALID_FIELDS"),
        "TOO_LARGE",
    ]
    assert {event["outcome"] for event in found} == {"refused"}
    assert {event["reached"] for event in found} == {None}
    # Nothing was said about where the device stands.
    assert await position(clinic, "phone") is None


async def test_who_is_not_known_has_no_event(clinic: Clinic) -> None:
    refused(await clinic.call("GET", "/v1/sync/pull", token="nobody"), 401, "NOT_AUTHENTICATED")
    assert await events(clinic) == []


async def test_a_database_that_does_not_answer_is_noted_as_a_failure(clinic: Clinic, another: NewHouse) -> None:
    """The feed is behind a connection that leads nowhere; what happened is written once there is one again."""
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    house = await another(parts={"feed_reads": FeedReads(nowhere)})
    there = house.clinic(clinic)
    refused(await there.call("GET", "/v1/sync/pull"), 503, "UNAVAILABLE")
    (event,) = await events(there)
    assert told(event) == ("native", "pull", "failed", "UNAVAILABLE", 0)


async def test_a_bug_is_noted_as_a_failure(clinic: Clinic, another: NewHouse) -> None:
    there = (await another(parts={"feed_reads": None})).clinic(clinic)
    assert (await there.call("GET", WM)).status_code == 500
    (event,) = await events(there)
    assert told(event) == ("watermelon", "pull", "failed", "INTERNAL", 0)


async def test_a_device_that_hangs_up_is_noted(
    clinic: Clinic, tablet: Device, another: NewHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first part of a long answer it is gone."""
    monkeypatch.setattr(use_cases, "PAGE", 1)
    for _ in range(4):
        await clinic.patient()
    house = await another()
    gone = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            gone.set()

    headers = [(b"authorization", f"Bearer {tablet.token}".encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": WM,
        "raw_path": WM.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("heallog.test", 80),
    }
    await house.app(scope, receive, send)  # type: ignore[arg-type]
    (event,) = await events(house.clinic(clinic))
    assert told(event)[:4] == ("watermelon", "batched_pull", "failed", "ABORTED")
    assert event["reached"] is None


# -- what it adds up to -------------------------------------------------------------------------------------------


async def test_the_statistics_of_a_practice(
    clinic: Clinic, tablet: Device, phone: Device, new_clinic: NewClinic
) -> None:
    elsewhere = await new_clinic()
    await Device(elsewhere, elsewhere.token).pull()
    await tablet.push(NGOZI, METFORMIN)
    await phone.pull()
    behind = (await phone.page())["head"]
    await tablet.push(update("records", "metformin", 1, dose=20))
    await phone.push(update("records", "metformin", 1, dose=15))
    await phone.sends([METFORMIN], push_id="?")
    await tablet.push({"op": "create", "collection": "patients", "id": "obi", "fields": {"shoe_size": 38}})
    head = (await tablet.page())["head"]
    stats = await clinic.get("/v1/sync/stats")
    lags = {one["device_id"]: (one["lag_ms"], one["outcome"]) for one in stats["devices"]}
    assert lags == {"tablet": (0, "ok"), "phone": (head - behind, "refused")}
    assert head > behind
    assert {one["account_id"] for one in stats["devices"]} == {clinic.account_id}
    assert (stats["pulls"], stats["pushes"]) == (3, 5)
    assert (stats["conflicts"], stats["merges"], stats["quarantined"], stats["retries"]) == (1, 0, 1, 0)
    assert stats["records"] == 2 + 2 + 0 + 1 + 1 + 3 + 1
    assert stats["failures"] == [{"mode": "push", "outcome": "refused", "code": "INVALID_FIELDS", "count": 1}]
    assert {"field": "dose", "policy": "atomic_group", "count": 1} in stats["disputes"]
    assert stats["quarantine"]["waiting"] == 1
    assert stats["quarantine"]["oldest_at"] > stats["since"]


async def test_events_are_chosen_and_paged(clinic: Clinic, tablet: Device, phone: Device) -> None:
    for device in (tablet, phone, tablet):
        await device.pull()
    await phone.call("GET", "/v1/sync/pull?cursor=x")
    assert [event["device_id"] for event in await events(clinic)] == ["tablet", "phone", "tablet", "phone"]
    assert len(await events(clinic, "&device_id=phone")) == 2
    assert [told(event)[2] for event in await events(clinic, "&device_id=phone&outcome=refused")] == ["refused"]
    found, cursor = [], ""
    while True:
        page = await clinic.get(f"{EVENTS}?limit=3{cursor}")
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == list(reversed(await events(clinic)))
    for query, code, field in (
        ("outcome=bad", "INVALID_FIELDS", "outcome"),
        ("device_id=%20", "INVALID_FIELDS", "device_id"),
    ):
        refused(await clinic.call("GET", f"{EVENTS}?{query}"), 422, code, field)
    for cursor in ("x", "-1.a", "1", "1.", "99999999999999999.a"):
        refused(await clinic.call("GET", f"{EVENTS}?cursor={cursor}"), 400, "INVALID_CURSOR")


async def test_looking_is_on_the_record(clinic: Clinic) -> None:
    await clinic.get("/v1/sync/stats")
    await clinic.get(EVENTS)
    assistant = await clinic.token_for(Role.ASSISTANT)
    refused(await clinic.call("GET", EVENTS, token=assistant), 403, "FORBIDDEN")
    actions = [(one["action"], one["outcome"]) for one in (await clinic.get("/v1/audit?limit=3"))["items"]]
    assert actions == [("sync.events", "refused"), ("sync.events", "done"), ("sync.stats", "done")]


# -- when it is written -------------------------------------------------------------------------------------------


async def test_what_waits_is_written_when_the_server_stops(clinic: Clinic, container: bootstrap.Container) -> None:
    settings = container.settings().model_copy(update={"database_connections": 2})
    wired = bootstrap.container(settings)
    app = bootstrap.http_app(wired)
    async with living(app):
        over = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=over, base_url="http://heallog.test") as client:
            headers = {"Authorization": f"Bearer {clinic.token}"}
            assert (await client.get("/v1/sync/pull", headers=headers)).status_code == 200
    assert [told(event) for event in await events(clinic)] == [("native", "pull", "ok", None, 0)]


async def test_what_cannot_be_written_now_is_written_later(clinic: Clinic, database_url: str) -> None:
    database = Database(database_url, connections=1)
    log = HealthLog(database)
    await Device(clinic, clinic.token).pull()
    await clinic.container.health_log().flush()
    (event,) = await clinic.container.health_reads().events(clinic.practice_id, Chosen(), None, 1)
    log.record(event)
    log.record(replace(event, id="never-written"))
    log.add("heallog_retries", work=clinic.practice_id)
    with pytest.raises(Exception, match="not connected"):
        await log.flush()
    await database.open()
    await log.flush()
    await database.close()
    # One was there already: an event is kept once, however often it is written.
    assert sorted(one["id"] for one in await events(clinic)) == sorted([event.id, "never-written"])
    assert dict(await clinic.container.health_reads().meters())["heallog_retries", (clinic.practice_id,)] == 1


async def test_events_are_kept_for_so_many_days(clinic: Clinic, another: NewHouse) -> None:
    house = await another(sync_event_days=2)
    there = house.clinic(clinic)
    for days in (0, 1, 3):
        house.clock.now += timedelta(days=days)
        await there.call("GET", "/v1/sync/pull", token=await _at(house, clinic))
    await house.container.health().flush()
    rows = "SELECT count(*) FROM sync_events WHERE practice_id = $1"
    pool = clinic.container.database().pool
    assert await pool.fetchval(rows, clinic.practice_id) == 3
    assert await house.container.health().sweep() >= 2
    assert await pool.fetchval(rows, clinic.practice_id) == 1
    assert await position(clinic, "tablet") == 0


async def _at(house: House, clinic: Clinic) -> str:
    """A token that is good at the time of that server."""
    return await clinic.token_for(device="tablet", ago=clinic.container.clock()() - house.clock.now)


# -- metrics ------------------------------------------------------------------------------------------------------

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(client: httpx.AsyncClient) -> Samples:
    """Every sample by its name and labels, read by Prometheus' own parser."""
    answer = await client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0)


async def test_metrics_are_for_who_brings_the_token(clinic: Clinic, another: NewHouse) -> None:
    refused(await clinic.call("GET", "/metrics"), 404, "NOT_FOUND")
    house = await another(metrics_token=METRICS_TOKEN)
    for header in ("", "Bearer ", f"Bearer {clinic.token}", f"Basic {METRICS_TOKEN}", f"Bearer {METRICS_TOKEN}x", "é"):
        answer = await house.client.get("/metrics", headers={"Authorization": header.encode()})
        refused(answer, 401, "NOT_AUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert await scraped(house.client)


async def test_metrics_are_the_same_whichever_process_answers(
    clinic: Clinic, tablet: Device, phone: Device, another: NewHouse
) -> None:
    one, other = [await another(metrics_token=METRICS_TOKEN) for _ in range(2)]
    before = await scraped(one.client)
    here = Device(one.clinic(clinic), tablet.token)
    await here.push(NGOZI, METFORMIN)
    await here.push(update("records", "metformin", 1, dose=20))
    await Device(one.clinic(clinic), phone.token).push(update("records", "metformin", 1, dose=15))
    await here.page()
    ours, theirs = await scraped(one.client), await scraped(other.client)
    counted = {key: value for key, value in ours.items() if not key[0].endswith(("_seconds", "_waiting", "_devices"))}
    assert counted == {key: theirs[key] for key in counted}

    def more(name: str, **labels: str) -> float:
        return of(ours, name, **labels) - of(before, name, **labels)

    push = {"door": "native", "mode": "push", "outcome": "ok"}
    assert more("heallog_sync_requests_total", **push) == 3
    assert more("heallog_sync_duration_seconds_count", **push) == 3
    assert more("heallog_sync_duration_seconds_bucket", **push, le="+Inf") == 3
    assert more("heallog_sync_duration_seconds_sum", **push) > 0
    assert more("heallog_sync_records_total", door="native", mode="push") == 4
    assert more("heallog_sync_bytes_total", door="native", mode="pull") > 100
    assert more("heallog_sync_conflicts_total", door="native") == 1
    assert more("heallog_sync_disputes_total", field="dose", policy="atomic_group") == 1
    buckets = [value for (name, labels), value in ours.items() if name.endswith("duration_seconds_bucket")
               and frozenset(push.items()) < labels]  # fmt: skip
    assert buckets == sorted(buckets)
    devices = [of(ours, "heallog_sync_devices", behind_at_most=lag) for lag in ("1", "60", "604800", "+Inf")]
    assert devices == sorted(devices)
    assert devices[-1] >= 1


async def test_retries_are_counted_by_whoever_tries_again(another: NewHouse) -> None:
    house = await another(metrics_token=METRICS_TOKEN)
    before = await scraped(house.client)
    house.container.health_log().add("heallog_retries", work="push")
    after = await scraped(house.client)
    assert of(after, "heallog_retries_total", work="push") - of(before, "heallog_retries_total", work="push") == 1


CANARIES = ("Canaryname", "canary-id", "4711.25", "Canarytext", "canarykey")


async def test_no_value_and_no_patient_gets_into_any_of_it(clinic: Clinic, another: NewHouse) -> None:
    """Values, ids and names of entries that somebody wrote, done, disputed and quarantined; by both doors."""
    house = await another(metrics_token=METRICS_TOKEN)
    there = house.clinic(clinic)
    tablet, phone = [Device(there, await clinic.token_for(device=name)) for name in ("tablet", "phone")]
    name, thing, number, text, key = CANARIES
    patient = {"op": "create", "collection": "patients", "id": thing,
               "fields": {"family_name": name, "notes": text, "tags": [key]}}  # fmt: skip
    values = {key: {"value": float(number), "unit": text}}
    fields = {"kind": "observation", "title": text, "values": values}
    record = {"op": "create", "collection": "records", "id": f"{thing}-r", "patient_id": thing, "fields": fields}
    await tablet.push(patient, record, {**patient, "id": f"{thing}-q", "fields": {key: name}})
    other = {key: {"value": 1.5, "unit": text}}
    await tablet.push(update("records", f"{thing}-r", 1, values=other))
    late = await phone.push(update("records", f"{thing}-r", 1, values={key: {"value": 2.5, "unit": text}}))
    assert late[0]["status"] == "conflict"
    await phone.call("POST", WM, {name: {}, "patients": {"updated": [{"id": thing, "_changed": key, "notes": text}]}})
    await phone.call("GET", f"/v1/sync/pull?cursor={name}")
    await phone.pull()
    found = await there.get(EVENTS)
    assert len(found["items"]) == 6
    assert any(event["disputes"] for event in found["items"])
    answer = await house.client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    stats = await there.get("/v1/sync/stats")
    assert stats["disputes"]
    everything = json.dumps([found, stats]) + answer.text
    rows = await clinic.container.database().pool.fetch(
        "SELECT row_to_json(sync_events)::text FROM sync_events WHERE practice_id = $1"
        " UNION ALL SELECT row_to_json(sync_devices)::text FROM sync_devices WHERE practice_id = $1"
        " UNION ALL SELECT row_to_json(sync_meters)::text FROM sync_meters",
        clinic.practice_id,
    )
    everything += "".join(row[0] for row in rows)
    assert [canary for canary in CANARIES if canary.lower() in everything.lower()] == []
    for private in (clinic.practice_id, clinic.account_id, "tablet"):
        assert private not in answer.text
