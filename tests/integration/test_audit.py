"""The audit trail on a real server: who may do what to it in the database, and the operator's proof of it."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from heallog import bootstrap, config
from heallog.adapters.postgres import migrations
from heallog.adapters.postgres.database import ROLE, Database
from heallog.domain.access import Actor, Role
from heallog.domain.errors import Unavailable
from heallog.entrypoints.worker import Repeated

APPEND_ONLY = ("audit_entries", "audit_seals", "policies", "versions")


@pytest.fixture
def migrated_url(empty_url: str) -> str:
    migrations.upgrade(empty_url)
    return empty_url


def as_someone(url: str, name: str) -> str:
    """The same database, for another login."""
    return url.replace("//postgres@", f"//{name}@")


@pytest.fixture
def login(database_url: str, ask: Any) -> str:
    """The name of a login that may do nothing at all."""
    name = f"clinic_{uuid4().hex[:12]}"
    ask(database_url, f"CREATE ROLE {name} LOGIN")
    return name


# -- the role -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", APPEND_ONLY)
async def test_the_application_can_add_to_the_trail_and_not_change_it(database: Database, table: str) -> None:
    """By privilege: the trigger, which the owner of the table could drop, is not even asked."""
    for sql in (f"UPDATE {table} SET practice_id = ''", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"permission denied for table {table}"):
            await database.pool.execute(sql)
    for sql in (f"DROP TABLE {table}", f"ALTER TABLE {table} DISABLE TRIGGER ALL"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="must be owner"):
            await database.pool.execute(sql)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.pool.execute("SET session_replication_role = replica")


async def test_every_table_of_the_application_is_in_the_table_of_privileges(database: Database) -> None:
    rows = await database.pool.fetch(
        "SELECT relname, has_table_privilege(oid, 'SELECT, INSERT') AS used,"
        " has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE') AS changed"
        " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        " AND relname <> 'alembic_version'"
    )
    assert {row["relname"] for row in rows if not row["used"]} == set()
    assert {row["relname"] for row in rows if not row["changed"]} == set(APPEND_ONLY)


def test_a_login_that_is_only_a_member_of_the_role_is_enough(
    migrated_url: str, login: str, ask: Any, tmp_path: Path
) -> None:
    ask(migrated_url, f"GRANT {ROLE} TO {login}")
    settings = config.Settings(
        database_url=as_someone(migrated_url, login), data_dir=tmp_path, secret_key="k" * 40, _env_file=None
    )

    async def work() -> None:
        wired = bootstrap.container(settings)
        await wired.database().open()
        fields = {"email": "a@example.org", "password": "correct horse battery", "name": "A", "practice_name": "B"}
        registered = await wired.accounts().register(fields)
        alice = Actor(registered.account.id, registered.practice.id, Role.OWNER, "session", "device")
        await wired.patients().create(alice, {"family_name": "Obi"}, "p-1")
        await wired.patients().get(alice, "p-1")
        assert await wired.sealer().seal() == 4
        proof = await wired.audit().verify(alice)
        assert (proof.flaw, proof.entries, proof.seals, proof.versions) == (None, 5, 1, 1)
        await wired.trail().close()
        await wired.database().close()

    asyncio.run(work())


Heallog = Callable[..., subprocess.CompletedProcess[str]]


def test_a_login_that_is_no_member_is_told_so(migrated_url: str, login: str, heallog: Heallog) -> None:
    run = heallog("audit", "seal", HEALLOG_DATABASE_URL=as_someone(migrated_url, login))
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    with pytest.raises(Unavailable, match=f"cannot act as {ROLE}.*GRANT {ROLE}"):
        asyncio.run(Database(as_someone(migrated_url, login)).open())


def test_an_owner_who_may_not_make_roles_needs_an_administrator_once(
    empty_url: str, ask: Any, login: str, heallog: Heallog
) -> None:
    """Another database of the server has the role already, and does not let this owner in by itself."""
    name = empty_url.partition("?")[0].rpartition("/")[2]
    ask(empty_url, f"ALTER DATABASE {name} OWNER TO {login}")
    url = as_someone(empty_url, login)
    run = heallog("db", "upgrade", HEALLOG_DATABASE_URL=url)
    assert run.returncode == 1
    assert f"an administrator must run: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO {login}" in run.stderr
    assert "Traceback" not in run.stderr
    ask(empty_url, f"GRANT {ROLE} TO {login}")
    assert heallog("db", "upgrade", HEALLOG_DATABASE_URL=url).returncode == 0
    assert heallog("audit", "verify", HEALLOG_DATABASE_URL=url).returncode == 0


def test_a_server_without_the_role_is_told_so(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heallog.adapters.postgres.database.ROLE", "heallog_nobody")
    with pytest.raises(Unavailable, match="heallog db upgrade"):
        asyncio.run(Database(migrated_url).open())


# -- the operator's proof -----------------------------------------------------------------------------------------


@pytest.fixture
def hillside(migrated_url: str, heallog: Heallog) -> Heallog:
    """A practice with two patients, sealed; the command line on it."""

    def run(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        return heallog(*arguments, HEALLOG_DATABASE_URL=migrated_url, **options)

    made = run("user", "create", "alice@example.org", "--name", "Alice", "--new-practice", "Hillside",
               "--password-stdin", given="correct horse battery\n")  # fmt: skip
    assert made.returncode == 0, made.stderr
    return run


def test_the_operator_seals_and_proves(hillside: Heallog, ndjson: Any, tmp_path: Path) -> None:
    assert hillside("audit", "seal").stdout == "1 entries sealed\n"
    assert hillside("import", "fhir", str(ndjson(2, 1))).returncode == 0
    fresh = hillside("audit", "verify", "--json")
    assert json.loads(fresh.stdout) == {
        "good": True, "entries": 6, "seals": 1, "witnessed": 1, "unsealed": 5, "versions": 4, "flaw": None,
    }  # fmt: skip
    assert hillside("audit", "seal").stdout == "5 entries sealed\n"
    proved = hillside("audit", "verify", "--practice", "Hillside")
    assert proved.returncode == 0
    assert "entries: 6 were read, 0 of them too new" in proved.stdout
    assert (tmp_path / "data" / "audit-seals.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_operator_learns_which_entry_is_bad(hillside: Heallog, migrated_url: str, ask: Any, tmp_path: Path) -> None:
    hillside("audit", "seal")
    told = tmp_path / "data" / "audit-seals.jsonl"
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(told.read_bytes())
    told.unlink()
    [entry] = ask(migrated_url, "SELECT id FROM audit_entries")
    off = "SET session_replication_role = replica"
    asyncio.run(_all(migrated_url, off, "DELETE FROM audit_seals", "DELETE FROM audit_entries"))
    assert hillside("audit", "verify").returncode == 0, "nothing is left that could tell"
    found = hillside("audit", "verify", "--seals", str(copy))
    assert found.returncode == 1
    assert f"FIRST FLAW: entry {entry['id']}, seal 1" in found.stdout
    machine = hillside("audit", "verify", "--seals", str(copy), "--json")
    assert (machine.returncode, json.loads(machine.stdout)["flaw"]["entry_id"]) == (1, entry["id"])
    missing = hillside("audit", "verify", "--seals", "nothing.jsonl")
    assert (missing.returncode, "nothing.jsonl" in missing.stderr, "Traceback" in missing.stderr) == (1, True, False)


async def _all(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for sql in statements:
        await connection.execute(sql)
    await connection.close()


def test_a_database_of_another_revision_is_neither_sealed_nor_proved(hillside: Heallog, migrated_url: str) -> None:
    migrations.downgrade(migrated_url, "0001")
    for command in ("seal", "verify"):
        run = hillside("audit", command)
        assert (run.returncode, "heallog db upgrade" in run.stderr) == (1, True)


def test_what_was_written_before_there_were_seals_is_sealed_and_proved(hillside: Heallog, migrated_url: str) -> None:
    """Down to where there were none, with entries and versions, and up again."""
    migrations.downgrade(migrated_url, "0001")
    asyncio.run(_all(migrated_url, _OLD_ENTRY))
    migrations.upgrade(migrated_url)
    assert hillside("audit", "seal").stdout == "2 entries sealed\n"
    proof = hillside("audit", "verify", "--json")
    assert json.loads(proof.stdout)["good"]


_OLD_ENTRY = """
INSERT INTO audit_entries (practice_id, id, at, account_id, role, session_id, device_id, request_id, action, outcome,
    fields) SELECT practice_id, id || '-2', at, account_id, role, '', '', '', 'sessions.login', 'refused', '{}'
    FROM audit_entries"""


# -- beside the requests ------------------------------------------------------------------------------------------


async def test_the_work_goes_on_whatever_happens_and_is_done_a_last_time() -> None:
    calls, often = [0], asyncio.Event()

    async def work() -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise Unavailable("the database does not answer")
        if calls[0] == 4:
            often.set()

    sealing = Repeated("audit.seal", work, 0.001, at_last=True)
    await sealing.start()
    async with asyncio.timeout(10):
        await often.wait()
    before = calls[0]
    await sealing.stop()
    assert calls[0] > before
    before = calls[0]
    await sealing.stop()
    assert calls[0] == before


async def test_a_last_round_that_hangs_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heallog.entrypoints.worker.LAST", 0.05)
    begun = []

    async def work() -> None:
        begun.append("once")
        await asyncio.Event().wait()

    sealing = Repeated("audit.seal", work, 3600, at_last=True)
    await sealing.start()
    await sealing.stop()
    assert begun == ["once"]


async def test_work_that_can_wait_is_not_done_at_the_end() -> None:
    begun = []

    async def work() -> None:
        begun.append("once")

    sweeping = Repeated("sessions.sweep", work, 3600)
    await sweeping.start()
    await sweeping.stop()
    assert begun == []
