"""The database that HealLog brings along."""

import subprocess
import sys
from pathlib import Path

import psutil

from heallog.adapters.embedded import EmbeddedPostgres

JOIN = """
import asyncio, sys
from pathlib import Path
import asyncpg
from heallog.adapters.embedded import EmbeddedPostgres
from heallog.adapters.postgres import migrations

async def ask(url):
    connection = await asyncpg.connect(url)
    print(await connection.fetchval("SELECT count(*) FROM versions"), flush=True)
    await connection.close()

with EmbeddedPostgres(Path(sys.argv[1])) as embedded:
    migrations.upgrade(embedded.url)
    asyncio.run(ask(embedded.url))
    sys.stdin.read()
"""


def join(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", JOIN, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def servers(folder: Path) -> list[int]:
    """The PostgreSQL servers of a folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        line = process.info["cmdline"] or []
        if process.info["name"] == "postgres" and str(folder) in line:
            found.append(process.pid)
    return found


def test_two_starts_at_once_share_one_server_and_the_last_one_stops_it(tmp_path):
    folder = tmp_path / "chosen" / "postgres"
    first, second = join(folder), join(folder)
    assert first.stdout is not None
    assert second.stdout is not None
    assert first.stdout.readline().strip() == "0"
    assert second.stdout.readline().strip() == "0"
    assert len(servers(folder)) == 1
    first.communicate("")
    assert len(servers(folder)) == 1, "the other still needs it"
    second.communicate("")
    assert (first.returncode, second.returncode) == (0, 0)
    assert servers(folder) == []


def test_it_keeps_as_much_of_its_tables_in_memory_as_the_machine_can_spare(tmp_path, ask):
    folder = tmp_path / "postgres"
    with EmbeddedPostgres(folder) as embedded:
        assert ask(embedded.url, "SELECT pg_size_bytes(current_setting('shared_buffers'))")[0][0] >= 128 * 2**20
    text = (folder / "postgresql.conf").read_text()
    with EmbeddedPostgres(folder):
        assert (folder / "postgresql.conf").read_text() == text, "said once"


def test_data_stays_in_the_folder(tmp_path, ask):
    folder = tmp_path / "postgres"
    with EmbeddedPostgres(folder) as embedded:
        ask(embedded.url, "CREATE TABLE kept (what text)")
        ask(embedded.url, "INSERT INTO kept VALUES ('this')")
    assert servers(folder) == []
    with EmbeddedPostgres(folder) as embedded:
        assert ask(embedded.url, "SELECT what FROM kept")[0][0] == "this"


def test_a_killed_owner_leaves_a_server_that_the_next_one_takes_over(tmp_path, ask):
    folder = tmp_path / "postgres"
    first = join(folder)
    assert first.stdout is not None
    first.stdout.readline()
    first.kill()
    first.communicate()
    assert len(servers(folder)) == 1
    with EmbeddedPostgres(folder) as embedded:
        assert ask(embedded.url, "SELECT 1")[0][0] == 1
    assert servers(folder) == []
