"""How often the database is asked. Each number here is a promise about speed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from heallog.adapters.postgres.sessions import STANDING
from heallog.application.ports.retention import Keep

from .clinic import Clinic, refused

Counted = Callable[[Callable[[], Awaitable[httpx.Response]]], Awaitable[list[str]]]


@pytest.fixture(scope="module")
async def connections(client: httpx.AsyncClient, container: Any) -> list[asyncpg.Connection]:
    """Every connection that the pool can have, open and introduced."""
    pool = container.database().pool
    async with AsyncExitStack() as stack:
        borrowed = [await stack.enter_async_context(pool.acquire()) for _ in range(pool.get_max_size())]
        return [connection._con for connection in borrowed]


@contextmanager
def heard(connections: list[asyncpg.Connection]) -> Iterator[list[str]]:
    """The statements that any of the connections runs; but not asyncpg's own, that look up each type once."""
    statements: list[str] = []

    def hear(query: asyncpg.connection.LoggedQuery) -> None:
        if "typeinfo_tree" not in query.query and "'jit'" not in query.query:
            statements.append(query.query)

    for connection in connections:
        connection.add_query_logger(hear)
    try:
        yield statements
    finally:
        for connection in connections:
            connection.remove_query_logger(hear)


def inside(statements: list[str]) -> list[str]:
    """What runs behind the door, at which the session and the blacklist are asked: together, and once."""
    assert statements[0] == STANDING.sql, statements
    assert STANDING.sql not in statements[1:], statements
    return statements[1:]


@pytest.fixture
def counted(connections: list[asyncpg.Connection]) -> Counted:
    async def count(ask: Callable[[], Awaitable[httpx.Response]]) -> list[str]:
        """What one request runs, when it is not the first of its kind: types were looked up then."""
        assert (await ask()).is_success
        with heard(connections) as statements:
            answer = await ask()
        assert answer.is_success, answer.text
        assert all(not connection.is_closed() for connection in connections)
        return statements

    return count


@pytest.fixture
async def chart(clinic: Clinic) -> Clinic:
    """Ngozi with a record of several versions, among others."""
    for number in range(10):
        await clinic.patient(family_name=f"Patient {number}")
    await clinic.patient(id="ngozi")
    for number in range(10):
        await clinic.record("ngozi", id=f"r-{number}")
    for version in range(1, 4):
        await clinic.changed("/v1/records/r-0", version, title=f"Title {version}")
        await clinic.changed("/v1/patients/ngozi", version, phone=f"0{version}")
    return clinic


READS = (
    "/v1/patients/ngozi",
    "/v1/patients",
    "/v1/patients?limit=3",
    "/v1/patients?limit=3&cursor=ngozi",
    "/v1/patients?tag=none&updated_since=2020",
    "/v1/patients?q=obi",
    "/v1/patients/ngozi/history",
    "/v1/patients/ngozi/versions/2",
    "/v1/patients/ngozi/diff?from=1&to=4",
    "/v1/patients/ngozi/records",
    "/v1/patients/ngozi/records?kind=observation&status=draft&from=2020&to=2999&code=x",
    "/v1/patients/ngozi/records?limit=3&cursor=r-5",
    "/v1/records/r-0",
    "/v1/records/r-0/history",
    "/v1/records/r-0/history?limit=2&cursor=3",
    "/v1/records/r-0/versions/2",
    "/v1/records/r-0/diff?from=1&to=4",
    "/v1/audit",
    "/v1/audit?patient_id=ngozi&account_id=x&from=2020&to=2999&limit=3",
    "/v1/conflicts",
    "/v1/conflicts?state=open&patient_id=ngozi&limit=3",
    "/v1/sync/pull",
    "/v1/sync/pull?skip=0&limit=3",
    "/v1/sync/pull?skip=3&limit=3&collections=records",
)


def reads(statements: list[str]) -> int:
    """How many statements the read itself was; the last one is its audit entry, which is a transaction of its own."""
    statements = inside(statements)
    assert statements[-1].startswith("INSERT INTO audit_entries"), statements
    assert not any(statement.startswith(("INSERT", "BEGIN")) for statement in statements[:-1]), statements
    return len(statements) - 1


@pytest.mark.parametrize("path", READS)
async def test_a_read_is_one_statement_and_its_entry(chart: Clinic, counted: Counted, path: str) -> None:
    statements = await counted(lambda: chart.call("GET", path))
    assert reads(statements) == 1, statements


async def test_whether_it_is_ready_is_one_statement(chart: Clinic, counted: Counted) -> None:
    assert len(await counted(lambda: chart.call("GET", "/health/ready"))) == 1


async def test_who_is_turned_away_at_the_door_costs_nothing_or_the_door(chart: Clinic, connections: Any) -> None:
    token = await chart.token_for()
    await chart.call("POST", "/v1/auth/logout", token=token)
    for sent, code, promised in (("garbage", "NOT_AUTHENTICATED", 0), (token, "SESSION_ENDED", 1)):
        with heard(connections) as statements:
            refused(await chart.call("GET", "/v1/records/r-0", token=sent), 401, code)
        assert len(statements) == promised, statements


async def test_readers_at_once_share_the_statement_of_their_entries(chart: Clinic, connections: Any) -> None:
    await chart.call("GET", "/v1/records/r-0")
    with heard(connections) as statements:
        answers = await asyncio.gather(*(chart.call("GET", f"/v1/records/r-{number % 10}") for number in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    entries = sum(statement.startswith("INSERT INTO audit_entries") for statement in statements)
    assert 1 <= entries < sum("FROM records" in statement for statement in statements) == 40
    assert 1 <= statements.count(STANDING.sql) < 40


async def test_a_forgiving_search_is_two(chart: Clinic, counted: Counted) -> None:
    assert reads(await counted(lambda: chart.call("GET", "/v1/patients?q=patietn"))) == 2


async def test_who_has_the_latest_version_costs_one_statement(chart: Clinic, connections: Any) -> None:
    await chart.call("GET", "/v1/records/r-0")
    with heard(connections) as statements:
        answer = await chart.call("GET", "/v1/records/r-0", headers={"If-None-Match": '"4"'})
    assert (answer.status_code, reads(statements)) == (304, 1)


WRITES: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "create a patient": (4, "POST", "/v1/patients", {"family_name": "Obi"}),
    "create a record": (5, "POST", "/v1/patients/ngozi/records", {"kind": "note", "text": "Well."}),
    "change a patient": (5, "PATCH", "/v1/patients/ngozi", {"phone": "{}"}),
    "change a record": (5, "PATCH", "/v1/records/r-0", {"title": "{}"}),
    "revert a patient": (6, "POST", "/v1/patients/ngozi/revert", {"to": 1}),
    "revert a record": (6, "POST", "/v1/records/r-0/revert", {"to": 1}),
}
"""With the number of its statements: BEGIN, what is locked or looked up, one that appends all, the feed, COMMIT."""


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_is_few_round_trips_from_begin_to_commit(chart: Clinic, counted: Counted, name: str) -> None:
    promised, method, path, body = WRITES[name]
    version = iter(range(4, 9))

    def ask() -> Awaitable[httpx.Response]:
        base = next(version)
        said = {key: value.format(base) if value == "{}" else value for key, value in body.items()}
        return chart.call(method, path, said if name.startswith("create") else {**said, "base_version": base})

    statements = inside(await counted(ask))
    assert statements[0] == "BEGIN"
    assert statements[-1] == "COMMIT"
    assert len(statements) == promised, statements


def late(clinic: Clinic, token: str, path: str, **changes: Any) -> Awaitable[httpx.Response]:
    """A change by somebody else's device, which has not seen anything after version 1."""
    return clinic.call("PATCH", path, {"base_version": 1, **changes}, token=token)


@pytest.mark.parametrize("length", [1, 12])
async def test_a_change_that_is_merged_takes_seven_however_long_the_history_is(
    chart: Clinic, connections: Any, length: int
) -> None:
    """BEGIN, the head, where the change comes from, the policies, versions with head and entry, the feed, COMMIT."""
    for device in ("first", "second"):
        path = f"/v1/records/{(await chart.record('ngozi', text='Well.'))['id']}"
        for version in range(1, length + 1):
            await chart.changed(path, version, title=f"Title {version}")
        token = await chart.token_for(device=device)
        with heard(connections) as statements:
            answer = await late(chart, token, path, text="Better.", tags=["sitting"])
        assert answer.json()["merged_from"] == [length + 1, length + 2]
        statements = inside(statements)
        assert device == "first" or len(statements) == 7, statements
    assert (statements[0], statements[-1]) == ("BEGIN", "COMMIT")


async def test_a_change_that_is_held_back_takes_one_more_and_one_for_the_conflict_that_is_open(
    chart: Clinic, connections: Any
) -> None:
    counts = []
    devices = {device: await chart.token_for(device=device) for device in ("tablet", "phone", "watch")}
    for medication in ("warm", "up", "here"):
        made = await chart.record("ngozi", id=medication, kind="medication", title="Metformin", dose=10)
        path = f"/v1/records/{made['id']}"
        await chart.changed(path, 1, dose=20)
        for dose, token in enumerate(devices.values(), 15):
            with heard(connections) as statements:
                answer = await late(chart, token, path, dose=dose)
            assert answer.status_code == 409
            counts.append(len(inside(statements)))
            assert statements[-1] == "COMMIT"
    assert counts[-3:] == [8, 9, 9]


async def test_resolving_takes_eight(chart: Clinic, connections: Any) -> None:
    """The conflict is read to know what to lock, and again under the lock."""
    tablet = await chart.token_for(device="tablet")
    for medication in ("warm", "up", "here"):
        await chart.record("ngozi", id=medication, kind="medication", title="Metformin", dose=10)
        await chart.changed(f"/v1/records/{medication}", 1, dose=20)
        conflict = (await late(chart, tablet, f"/v1/records/{medication}", dose=15)).json()["error"]["context"]
        with heard(connections) as statements:
            answer = await chart.call(
                "POST",
                f"/v1/conflicts/{conflict['conflict']['id']}/resolve",
                {"head_version": 2, "choices": {"dose": {"take": "mine"}}, "reason": "asked the pharmacy"},
            )
        assert answer.status_code == 200, answer.text
    assert len(inside(statements)) == 8, statements


async def test_signing_deleting_and_restoring_are_few_round_trips_too(chart: Clinic, connections: Any) -> None:
    steps = (
        (5, "POST", "/v1/records/{}/sign", 1),
        (5, "DELETE", "/v1/records/{}", 2),
        (7, "POST", "/v1/records/{}/restore", 3),
    )
    for record in ("r-1", "r-2"):
        for promised, method, path, version in steps:
            with heard(connections) as statements:
                answer = await chart.call(method, path.format(record), {"base_version": version})
            assert answer.is_success
            assert record == "r-1" or len(inside(statements)) == promised, statements


async def test_the_same_content_again_writes_that_it_was_shown_and_nothing_else(
    chart: Clinic, counted: Counted
) -> None:
    again = {"base_version": 4, "title": "Title 3"}
    statements = inside(await counted(lambda: chart.call("PATCH", "/v1/records/r-0", again)))
    assert (statements[0], statements[-1]) == ("BEGIN", "COMMIT")
    assert statements[2].startswith("INSERT INTO audit_entries")
    assert len(statements) == 4


async def test_an_import_is_as_many_statements_for_fifty_resources_as_for_one(clinic: Clinic, connections: Any) -> None:
    def bundle(of: str, patients: int) -> dict[str, Any]:
        people = [
            {"resourceType": "Patient", "id": f"{of}-{number}", "name": [{"family": "Obi"}]}
            for number in range(patients)
        ]
        notes = [
            {
                "resourceType": "Observation",
                "id": f"{of}-o-{number}",
                "status": "final",
                "code": {"text": "Pulse"},
                "subject": {"reference": f"Patient/{of}-{number}"},
            }
            for number in range(patients)
        ]
        entries = [{"resource": resource} for resource in (*notes, *people)]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    counts = []
    for of, size in (("first", 1), ("one", 1), ("fifty", 50)):
        with heard(connections) as statements:
            answer = await clinic.call("POST", "/v1/import/fhir", bundle(of, size))
        assert (answer.status_code, answer.json()["refused"]) == (200, 0), answer.text
        counts.append(len(inside(statements)))
    assert counts[1] == counts[2]
    assert counts[2] <= 14


def _operations(of: str, number: int) -> list[dict[str, Any]]:
    """Every sort of thing that can become of an operation, about things that `_before` left."""

    def one(op: str, name: str, base: int | None = None, **more: Any) -> dict[str, Any]:
        said = {"op": op, "collection": "records", "id": f"{of}-{name}-{number}", **more}
        return said if base is None else {**said, "base_version": base}

    made = {"patient_id": f"{of}-{number}", "fields": {"kind": "medication", "title": "Metformin", "dose": 10}}
    return [
        {"op": "create", "collection": "patients", "id": f"{of}-new-{number}", "fields": {"family_name": "Ito"}},
        one("create", "new", **{**made, "patient_id": f"{of}-new-{number}"}),
        one("update", "new", 1, fields={"dose": 11}),
        one("update", "new", 1, fields={"dose": 12}),
        {"op": "update", "collection": "patients", "id": f"{of}-{number}", "base_version": 1, "fields": {"phone": "1"}},
        one("update", "merged", 1, fields={"dose": 20}),
        one("update", "clashes", 1, fields={"dose": 20}),
        one("update", "clashes", 1, fields={"dose": 30}),
        one("update", "head", 1, fields={"dose": 20}),
        one("update", "head", 1, fields={"dose": 30}),
        one("update", "deleted", 1, fields={"dose": 20}),
        one("delete", "deleted", 1),
        one("delete", "edited", 1),
        one("create", "same", **made),
        one("create", "other", **{**made, "fields": {**made["fields"], "dose": 99}}),
        one("create", "own", **{**made, "fields": {**made["fields"], "dose": 99}}),
        one("update", "missing", 1, fields={"dose": 20}),
        one("update", "merged", 2, fields={"dose": "much"}),
    ]


async def _before(clinic: Clinic, of: str, size: int, tablet: str) -> None:
    """Things that others made, changed and deleted; what ends in `own` the tablet made itself."""

    async def push(token: str | None, name: str, operations: list[dict[str, Any]]) -> None:
        groups = [{"operations": [one]} for one in operations]
        answer = await clinic.call(
            "POST", "/v1/sync/push", {"push_id": f"{of}-{name}", "contributions": groups}, token=token
        )
        assert answer.status_code == 200, answer.text
        assert {one["status"] for one in answer.json()["results"]} <= {"created", "updated"}, answer.text

    def about(name: str, number: int, op: str, **more: Any) -> dict[str, Any]:
        return {"op": op, "collection": "records", "id": f"{of}-{name}-{number}", **more}

    fields = {"kind": "medication", "title": "Metformin", "dose": 10}
    numbers = range(size)
    names = ("merged", "clashes", "head", "deleted", "edited", "same", "other")
    people = [
        {"op": "create", "collection": "patients", "id": f"{of}-{number}", "fields": {"family_name": "Obi"}}
        for number in numbers
    ]
    made = [
        about(name, number, "create", patient_id=f"{of}-{number}", fields=fields)
        for name in names
        for number in numbers
    ]
    own = [about("own", number, "create", patient_id=f"{of}-{number}", fields=fields) for number in numbers]
    moved = [
        about(name, number, "update", base_version=1, fields=changes)
        for name, changes in (
            ("merged", {"title": "Metformin 500"}),
            ("clashes", {"dose": 15}),
            ("edited", {"dose": 15}),
        )
        for number in numbers
    ]
    gone = [about("deleted", number, "delete", base_version=1) for number in numbers]
    await push(None, "made", [*people, *made])
    await push(tablet, "own", own)
    await push(None, "moved", [*moved, *gone])


async def test_a_push_is_as_many_statements_for_many_operations_as_for_few(clinic: Clinic, connections: Any) -> None:
    tablet = await clinic.token_for(device="tablet")
    counts, told = [], []
    for of, size in (("first", 1), ("six", 6), ("twenty", 20)):
        await _before(clinic, of, size, tablet)
        groups = [{"operations": [one]} for number in range(size) for one in _operations(of, number)]
        with heard(connections) as statements:
            answer = await clinic.call("POST", "/v1/sync/push", {"push_id": of, "contributions": groups}, token=tablet)
        assert answer.status_code == 200, answer.text
        counts.append(len(inside(statements)))
        told.append(sorted({one["status"] for one in answer.json()["results"]}))
    assert told[0] == ["conflict", "created", "merged", "quarantined", "unchanged", "updated"]
    assert told[0] == told[1] == told[2]
    assert counts[1] == counts[2], (counts, statements)


PULLS = {"/v1/sync/pull": 1, "/v1/sync/watermelon": 4}
"""With its statements: the page; and by the other door BEGIN, what is remembered of the pull, COMMIT."""


@pytest.mark.parametrize("path", PULLS)
async def test_what_is_noted_of_a_pull_costs_it_no_statement(chart: Clinic, counted: Counted, path: str) -> None:
    statements = inside(await counted(lambda: chart.call("GET", path)))
    assert len(statements) == PULLS[path] + 1, statements
    assert statements[-1].startswith("INSERT INTO audit_entries")


async def test_a_sweep_is_as_many_statements_for_a_hundred_tombstones_as_for_one(
    clinic: Clinic, container: Any, connections: Any
) -> None:
    """BEGIN, the lock on the head, what goes, COMMIT; however much of it there is."""
    keep = Keep(container.clock()() + timedelta(hours=1), container.clock()())
    for number in range(100):
        await clinic.patient(id=f"p-{number}")
        await clinic.deleted(f"/v1/patients/p-{number}", 1)
    for most in (1, 1, 200):
        with heard(connections) as statements:
            async with container.uow() as uow:
                dropped = await uow.retention.drop(clinic.practice_id, keep, most)
                await uow.commit()
        assert dropped >= most
        assert len(statements) == 4, statements
