"""The schema's way up and down, on empty and filled databases, with company."""

import asyncio
import subprocess
import sys
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
    """squawk knows which DDL blocks readers and writers. (Left out: taste in types; one is Alembic's own table.)"""
    path: Path = tmp_path / "migration.sql"
    path.write_text(f"SET lock_timeout = '5s'; SET statement_timeout = 0;\n{migrations.script()}")
    squawk = Path(sys.executable).with_name("squawk")
    run = subprocess.run(
        [squawk, "--assume-in-transaction", "--exclude", "prefer-bigint-over-int,prefer-text-field", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout


def test_a_database_that_is_not_there_says_so(heallog):
    run = heallog("db", "current", HEALLOG_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
