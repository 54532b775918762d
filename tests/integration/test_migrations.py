"""The schema's way up and down, on empty and filled databases, with company."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from heallog.adapters.postgres import migrations
from heallog.domain.errors import Unavailable

MIGRATE = "import sys; from heallog.adapters.postgres import migrations; migrations.upgrade(sys.argv[1])"


def test_up_down_and_up_again(empty_url, ask):
    assert migrations.current(empty_url) is None
    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.head_revision()
    migrations.downgrade(empty_url, "base")
    assert migrations.current(empty_url) is None
    left = ask(empty_url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    assert [row["relname"] for row in left] == ["alembic_version"]
    assert ask(empty_url, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.head_revision()


def test_the_tables_are_what_the_code_says(empty_url, ask):
    migrations.upgrade(empty_url)
    assert migrations.drift(empty_url) == []
    ask(empty_url, "ALTER TABLE records DROP COLUMN code")
    assert len(migrations.drift(empty_url)) == 1


def test_a_filled_database_keeps_its_rows_and_can_be_taken_down(empty_url, ask, heallog, ndjson):
    url = {"HEALLOG_DATABASE_URL": empty_url}
    made = heallog("user", "create", "alice@example.org", "--name", "Alice", "--new-practice", "Hillside",
                   "--password-stdin", given="correct horse battery\n", **url)  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert heallog("import", "fhir", str(ndjson(3, 2)), **url).returncode == 0
    migrations.upgrade(empty_url)
    assert ask(empty_url, "SELECT count(*) FROM versions")[0][0] == 9
    migrations.downgrade(empty_url, "base")
    assert migrations.current(empty_url) is None


def test_two_migrators_at_once(empty_url):
    """Both succeed: the second waits, and finds nothing to do."""
    with ThreadPoolExecutor(2) as pool:
        runs = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", MIGRATE, empty_url], capture_output=True, text=True, check=False
                ),
                range(2),
            )
        )
    assert [run.returncode for run in runs] == [0, 0], runs
    assert migrations.current(empty_url) == migrations.head_revision()


def test_a_migration_does_not_queue_behind_a_long_transaction(empty_url):
    migrations.upgrade(empty_url)

    async def hold() -> asyncpg.Connection:
        connection = await asyncpg.connect(empty_url)
        await connection.execute("BEGIN; SELECT * FROM records")
        return connection

    with asyncio.Runner() as runner:
        reader = runner.run(hold())
        with pytest.raises(Unavailable, match="lock timeout"):
            migrations.downgrade(empty_url, "base", lock_timeout="50ms")
        runner.run(reader.close())
    assert migrations.current(empty_url) == migrations.head_revision()


def test_versions_and_audit_entries_cannot_be_changed(empty_url, ask):
    migrations.upgrade(empty_url)
    for table in ("versions", "audit_entries"):
        for sql in (f"UPDATE {table} SET practice_id = ''", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                ask(empty_url, sql)


def test_no_statement_locks_a_table_in_use(tmp_path):
    """squawk knows which DDL blocks readers and writers.

    Left out: taste in types (one is Alembic's own table), and columns that must have a value: they fail on rows, which
    a database with rows in it shows.
    """
    path: Path = tmp_path / "migration.sql"
    path.write_text(f"SET lock_timeout = '5s'; SET statement_timeout = 0;\n{migrations.script()}")
    squawk = Path(sys.executable).with_name("squawk")
    excluded = "prefer-bigint-over-int,prefer-text-field,adding-required-field"
    run = subprocess.run(
        [squawk, "--assume-in-transaction", "--exclude", excluded, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


def test_a_database_that_is_not_there_says_so(heallog):
    run = heallog("db", "current", HEALLOG_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert run.returncode == 1
    assert "Traceback" not in run.stderr


# -- identity (0003) ----------------------------------------------------------------------------------------------

BEFORE_IDENTITY = """
INSERT INTO accounts VALUES ('a-1', 'Alice@x.example', 'alice@x.example', 'Alice', '$argon2id$1', '2026-03-02T08:00Z'),
                            ('a-2', 'bola@x.example', 'bola@x.example', 'Bola', '$argon2id$2', '2026-03-02T08:01Z');
INSERT INTO practices VALUES ('p-1', 'Hillside', '2026-03-02T08:00Z'), ('p-2', 'Lakeside', '2026-03-02T08:01Z');
INSERT INTO memberships VALUES ('p-1', 'a-1', 'owner', '2026-03-02T08:00Z'), ('p-1', 'a-2', 'clinician', '2026-03-03Z'),
                               ('p-2', 'a-2', 'owner', '2026-03-02T08:01Z');
INSERT INTO sessions VALUES ('p-1', 's-1', 'a-1', 'tablet', '2026-03-02Z', '2026-04-02Z'),
                            ('p-2', 's-2', 'a-2', 'tablet', '2026-03-02Z', '2026-04-02Z');
"""

SINCE_IDENTITY = """
UPDATE accounts SET verified_at = now(), totp = 'x', totp_confirmed_at = now(), totp_step = 1, recovery = '{x}';
UPDATE practices SET plan = 'pro';
UPDATE memberships SET ended_at = now() WHERE (practice_id, account_id) = ('p-1', 'a-2');
INSERT INTO sessions VALUES ('p-1', 's-3', 'a-1', 'tablet', now(), now(), now(), 1, 'x', 'x', NULL, NULL),
                            ('p-1', 's-4', 'a-2', 'tablet', now(), now(), now(), 1, 'x', 'x', now(), 'membership');
INSERT INTO emergencies VALUES ('p-1', 'e-1', 'a-2', 'Fire.', now(), now(), NULL);
INSERT INTO invitations VALUES ('p-1', 'i-1', 'c@x', 'c@x', 'Cleo', 'owner', 'a-1', 'x', now(), now(), NULL);
INSERT INTO one_time_codes VALUES ('c-1', 'c@x', 'reset', NULL, 'x', now(), now(), 0, NULL);
INSERT INTO tries VALUES ('account:x', 1, now(), NULL);
INSERT INTO revoked_tokens VALUES ('p-1', 's-4', now());
"""

SHAPE = """
SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default, collation_name) AS part
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT concat_ws(' ', table_name, privilege_type) FROM information_schema.role_table_grants
WHERE grantee = 'heallog_app' AND table_schema = 'public'
ORDER BY part
"""
"""Columns, indexes, constraints and rights, a line each."""


@pytest.fixture
def lived_in(empty_url, run):
    """A database from before identity, with accounts, members and sessions in it."""
    migrations.upgrade(empty_url, "0002")
    run(empty_url, BEFORE_IDENTITY)
    return empty_url


@pytest.fixture
def run():
    """Several statements, by a connection of their own."""

    def script(url: str, sql: str) -> None:
        async def all_of_it() -> None:
            connection = await asyncpg.connect(url)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        asyncio.run(all_of_it())

    return script


def test_accounts_and_members_from_before_identity_stay_and_everyone_logs_in_again(lived_in, ask):
    migrations.upgrade(lived_in)
    assert migrations.drift(lived_in) == []
    accounts = [tuple(row) for row in ask(lived_in, "SELECT * FROM accounts ORDER BY id")]
    assert [row[:5] for row in accounts] == [
        ("a-1", "Alice@x.example", "alice@x.example", "Alice", "$argon2id$1"),
        ("a-2", "bola@x.example", "bola@x.example", "Bola", "$argon2id$2"),
    ]
    assert [row[6:] for row in accounts] == [(None, None, None, 0, [])] * 2
    assert [tuple(row) for row in ask(lived_in, "SELECT id, name, plan FROM practices ORDER BY id")] == [
        ("p-1", "Hillside", "free"),
        ("p-2", "Lakeside", "free"),
    ]
    members = "SELECT practice_id, account_id, role, ended_at FROM memberships ORDER BY practice_id, account_id"
    assert [tuple(row) for row in ask(lived_in, members)] == [
        ("p-1", "a-1", "owner", None),
        ("p-1", "a-2", "clinician", None),
        ("p-2", "a-2", "owner", None),
    ]
    assert ask(lived_in, "SELECT * FROM sessions") == []


def test_identity_is_taken_down_to_what_was_before_it(lived_in, ask, run):
    """Who was removed from a practice is no member of it after that either."""
    before = ask(lived_in, SHAPE)
    migrations.upgrade(lived_in)
    after = ask(lived_in, SHAPE)
    assert after != before
    run(lived_in, SINCE_IDENTITY)
    migrations.downgrade(lived_in, "0002")
    assert ask(lived_in, SHAPE) == before
    assert [row["id"] for row in ask(lived_in, "SELECT id FROM accounts ORDER BY id")] == ["a-1", "a-2"]
    members = ask(lived_in, "SELECT practice_id, account_id FROM memberships ORDER BY 1, 2")
    assert [tuple(row) for row in members] == [("p-1", "a-1"), ("p-2", "a-2")]
    assert ask(lived_in, "SELECT * FROM sessions") == []
    migrations.upgrade(lived_in)
    assert ask(lived_in, SHAPE) == after


@pytest.fixture
def meanwhile(lived_in):
    """Walk the schema while someone's transaction has done something, which ends once the walk waits for it."""

    async def story(sql: str, walk: Callable[..., None], *revision: str) -> None:
        someone, watch = await asyncpg.connect(lived_in), await asyncpg.connect(lived_in)
        try:
            await someone.execute(f"BEGIN; {sql}")
            walking = asyncio.create_task(asyncio.to_thread(walk, lived_in, *revision))
            while not walking.done() and not await watch.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
            assert not walking.done()
            await someone.execute("COMMIT")
            await walking
        finally:
            await someone.close()
            await watch.close()

    return lambda *given: asyncio.run(story(*given))


def test_whoever_logs_in_while_identity_comes_does_not_stop_it(lived_in, ask, meanwhile):
    """It waits for a session that an old server is just making, and lets it go with the others."""
    meanwhile("INSERT INTO sessions VALUES ('p-1', 's-9', 'a-1', 'tablet', now(), now())", migrations.upgrade)
    assert migrations.current(lived_in) == migrations.head_revision()
    assert ask(lived_in, "SELECT * FROM sessions") == []


def test_who_is_removed_while_identity_goes_is_no_member_after_it(lived_in, ask, meanwhile):
    migrations.upgrade(lived_in)
    meanwhile("UPDATE memberships SET ended_at = now() WHERE account_id = 'a-2'", migrations.downgrade, "0002")
    assert [row["account_id"] for row in ask(lived_in, "SELECT account_id FROM memberships")] == ["a-1"]


BEFORE_RETENTION = """
INSERT INTO practices VALUES ('p-1', 'Hillside', now(), 'free');
INSERT INTO sync_heads VALUES ('p-1', 9, 'e-1');
INSERT INTO patients (practice_id, id, patient_id, version, last, hash, content, created_at, updated_at, updated_by,
                      sort_name, words, trigrams, tags)
SELECT 'p-1', id, id, 1, 1, '', content::json, now(), now(), '', '', '', '{}', '{}'
FROM (VALUES ('here', '{}'), ('gone', NULL)) AS given(id, content);
INSERT INTO change_feed SELECT 'p-1', seq, 0, id, id, 1, '', ''
FROM (VALUES (5, 'here'), (6, 'gone')) AS given(seq, id);
INSERT INTO change_feed VALUES ('p-1', 7, 1, 'gone', 'here', 1, '', '');
"""


def test_tombstones_from_before_retention_are_known_after_it(empty_url, ask, run):
    migrations.upgrade(empty_url, "0004")
    run(empty_url, BEFORE_RETENTION)
    migrations.upgrade(empty_url)
    told = ask(empty_url, "SELECT rank, id, deleted FROM change_feed ORDER BY seq")
    assert [tuple(row) for row in told] == [(0, "here", False), (0, "gone", True), (1, "gone", False)]
    assert ask(empty_url, "SELECT floor FROM sync_heads")[0][0] == 0


def test_the_server_deletes_only_what_is_swept_and_changes_nothing_that_is_appended(empty_url, ask):
    migrations.upgrade(empty_url)
    rows = ask(
        empty_url,
        "SELECT relname, array_agg(privilege ORDER BY privilege) AS rights FROM pg_class, "
        "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege "
        "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
        "AND has_table_privilege('heallog_app', pg_class.oid, privilege) GROUP BY relname",
    )
    appended, changed = ("INSERT", "SELECT"), ("INSERT", "SELECT", "UPDATE")
    swept = ("DELETE", *changed)
    assert {row["relname"]: tuple(row["rights"]) for row in rows} == {
        **dict.fromkeys(("audit_entries", "audit_seals", "policies", "versions"), appended),
        **dict.fromkeys(("accounts", "emergencies", "invitations", "memberships", "practices"), changed),
        **dict.fromkeys(("conflicts", "patients", "quarantine", "records", "sync_heads"), changed),
        **dict.fromkeys(("sync_devices", "sync_meters"), changed),
        "sync_events": ("DELETE", *appended),
        **dict.fromkeys(("change_feed", "contributions", "pulls", "pushes"), swept),
        **dict.fromkeys(("one_time_codes", "revoked_tokens", "sessions", "tries"), swept),
    }
