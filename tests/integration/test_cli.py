"""The command line, as an operator meets it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heallog.adapters.postgres import migrations

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery\n"


@pytest.fixture
def hillside(empty_url, heallog):
    """A practice of Alice's, in a database of its own; the command line on it."""

    def run(*arguments: str, given: str = "", **environment: str):
        return heallog(*arguments, given=given, HEALLOG_DATABASE_URL=empty_url, **environment)

    made = run("user", "create", "alice@example.org", "--name", "Alice", "--new-practice", "Hillside",
               "--password-stdin", given=PASSWORD)  # fmt: skip
    assert made.returncode == 0, made.stderr
    return run


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("serve",),
        ("demo",),
        ("db",),
        ("db", "upgrade"),
        ("db", "downgrade"),
        ("db", "check"),
        ("import", "fhir"),
        ("audit", "verify"),
        ("audit", "seal"),
        ("config", "check"),
        ("user", "create"),
    ],
)
def test_every_command_explains_itself(heallog, command):
    run = heallog(*command, "--help")
    assert run.returncode == 0
    assert "heallog" in run.stdout
    if command and command != ("db",):
        assert "For example:" in run.stdout, run.stdout


def test_config_check_shows_settings_and_hides_secrets(heallog):
    run = heallog(
        "config", "check", HEALLOG_SECRET_KEY="s" * 40, HEALLOG_PORT="9001", HEALLOG_PROT="1",
        HEALLOG_OLD_SECRET_KEY="hush" * 10,
        HEALLOG_DATABASE_URL="postgresql://heallog:hush@db.example/heallog",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "HEALLOG_PORT=9001" in run.stdout
    assert "HEALLOG_SECRET_KEY=(set)" in run.stdout
    assert "HEALLOG_OLD_SECRET_KEY=(set)" in run.stdout
    assert "HEALLOG_PROT=(not a setting; ignored)" in run.stdout
    assert "hush" not in run.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HEALLOG_PORT": "a lot"}, "HEALLOG_PORT"),
        ({"HEALLOG_WORKERS": "0"}, "HEALLOG_WORKERS"),
        ({"HEALLOG_DATABASE_URL": "mysql://x"}, "HEALLOG_DATABASE_URL"),
        ({"HEALLOG_ENVIRONMENT": "production"}, "HEALLOG_SECRET_KEY"),
        ({"HEALLOG_SECRET_KEY": "short"}, "at least 32"),
        ({"HEALLOG_OLD_SECRET_KEY": "short"}, "HEALLOG_OLD_SECRET_KEY must have at least 32"),
        ({"HEALLOG_ENVIRONMENT": "production", "HEALLOG_SECRET_KEY": "s" * 40}, "HEALLOG_SECRET_KEY is too easy"),
    ],
)
@pytest.mark.parametrize("command", [("config", "check"), ("serve",)])
def test_what_is_wrong_is_named_before_anything_starts(heallog, command, variables, said):
    run = heallog(*command, **variables)
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_schema_commands(empty_url, heallog):
    url = {"HEALLOG_DATABASE_URL": empty_url}
    assert heallog("db", "current", **url).returncode == 1
    assert f"at {migrations.head_revision()}" in heallog("db", "upgrade", **url).stdout
    assert heallog("db", "current", **url).returncode == 0
    refused = heallog("db", "downgrade", "base", **url)
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert "at base" in heallog("db", "downgrade", "base", "--yes", **url).stdout


def test_members_and_their_roles(hillside):
    joined = hillside("user", "create", "ben@example.org", "--name", "Ben", "--role", "assistant",
                      "--password-stdin", given=PASSWORD)  # fmt: skip
    assert "ben@example.org is assistant in Hillside" in joined.stdout
    again = hillside("user", "create", "ben@example.org", "--name", "Ben", "--password-stdin", given=PASSWORD)
    assert again.returncode == 1
    assert "exists" in again.stderr
    weak = hillside("user", "create", "cay@example.org", "--name", "C", "--password-stdin", given="short\n")
    assert weak.returncode == 1
    assert "12 characters" in weak.stderr
    local = hillside("user", "create", "cay@example.org", "--name", "C", "--password-stdin", given="Hillside - heron\n")
    assert local.returncode == 1
    assert "the practice's name" in local.stderr


def test_an_import_reports_by_type_and_says_what_it_refused_and_where(hillside, ndjson):
    path = ndjson(3, 2)
    with path.open("a") as file:
        file.write('{"resourceType": "Organization", "id": "o1"}\n')
        file.write("{broken\n")
        file.write('{"resourceType": "Observation", "id": "x", "status": "final", "code": {"text": "y"}, '
                   '"subject": {"reference": "Patient/nobody"}}\n')  # fmt: skip
    first = hillside("import", "fhir", str(path), "--json")
    assert first.returncode == 3, first.stderr
    report = json.loads(first.stdout)
    assert report["types"]["Patient"]["created"] == 3
    assert report["types"]["Observation"] == {
        "read": 7, "created": 6, "updated": 0, "unchanged": 0, "refused": 1, "not_mapped": 0
    }  # fmt: skip
    assert report["types"]["Organization"]["not_mapped"] == 1
    assert {refusal["where"] for refusal in report["refusals"]} == {"sample.ndjson:11", "sample.ndjson:12"}
    second = hillside("import", "fhir", str(path))
    assert second.returncode == 3
    assert "refused sample.ndjson:12 Observation/x: patient nobody is not here" in second.stdout


def test_an_import_needs_to_know_the_practice(hillside, ndjson, heallog, empty_url):
    path = str(ndjson(1, 0))
    assert hillside("import", "fhir").returncode == 2
    assert hillside("import", "fhir", "/no/such/file").returncode == 1
    hillside("user", "create", "ben@example.org", "--name", "Ben", "--new-practice", "Seaview", "--password-stdin",
             given=PASSWORD)  # fmt: skip
    several = hillside("import", "fhir", path)
    assert several.returncode == 1
    assert "Seaview" in several.stderr
    assert hillside("import", "fhir", path, "--practice", "Seaview").returncode == 0
    stranger = hillside("import", "fhir", path, "--practice", "Seaview", "--as", "alice@example.org")
    assert stranger.returncode == 1
    assert "not a member" in stranger.stderr


TAMPERINGS = {
    "UPDATE versions SET content = '{\"family_name\":\"Other\"}' WHERE thing_id LIKE '%001'": "not what was written",
    "UPDATE versions SET author_id = 'someone'": "not what was written",
    "UPDATE versions SET patient_id = 'another', content = content": "not what was written",
    "DELETE FROM versions WHERE thing_id LIKE '%001'": "version is missing",
    'UPDATE patients SET content = \'{"family_name":"Other"}\'': "not its last version",
    "UPDATE records SET patient_id = (SELECT max(id) FROM patients)": "not its last version",
    "DELETE FROM records": "head is missing",
}


def test_db_check_finds_what_was_tampered_with(hillside, ndjson, ask, empty_url):
    assert hillside("import", "fhir", str(ndjson(2, 1))).returncode == 0
    good = hillside("db", "check")
    assert good.returncode == 0, good.stdout
    tables = ("versions", "patients", "records")
    for table in tables:
        ask(empty_url, f"CREATE TABLE true_{table} AS TABLE {table}")
        ask(empty_url, f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    for tampering, found in TAMPERINGS.items():
        ask(empty_url, tampering)
        bad = hillside("db", "check", "--json")
        report = json.loads(bad.stdout)
        assert (bad.returncode, report["good"]) == (1, False), tampering
        assert found in report["flaw"]["what"], tampering
        for table in reversed(tables):
            ask(empty_url, f"DELETE FROM {table}")
        for table in tables:
            ask(empty_url, f"INSERT INTO {table} SELECT * FROM true_{table}")
    ask(empty_url, "DELETE FROM records")
    told = hillside("db", "check")
    assert told.returncode == 1
    assert "FIRST FLAW: records" in told.stdout


def test_a_taken_port_is_said_before_anything_starts(heallog, free_port):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        run = heallog("serve", "--port", str(free_port))
    assert run.returncode == 1
    assert "HEALLOG_PORT" in run.stderr


def test_make_run_starts_everything_and_the_first_request_works(tmp_path, free_port, pasting):
    """What a newcomer does: one command, then paste what it prints. Twice: the second time finds the first's data."""
    for _ in range(2):
        process = subprocess.Popen(
            ["make", "run"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "HEALLOG_DATA_DIR": str(tmp_path / "data"), "HEALLOG_PORT": str(free_port)},
        )  # fmt: skip
        assert process.stdout is not None
        printed = ""
        until = time.monotonic() + 90
        while "\ncurl" not in printed and time.monotonic() < until:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        assert f"answers at http://127.0.0.1:{free_port}" in printed
        first = re.search(r"^TOKEN=.*", printed, re.MULTILINE | re.DOTALL)
        assert first is not None
        answer = subprocess.run(["sh", "-c", first[0]], env=pasting, capture_output=True, text=True, check=True)
        names = [patient["family_name"] for patient in json.loads(answer.stdout)["items"]]
        assert names == ["García", "García"]
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGTERM, 2)


def test_python_m_heallog(heallog):
    run = subprocess.run([sys.executable, "-m", "heallog", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0.1.0"


def test_after_a_restore_every_practice_has_a_new_epoch(hillside, heallog, ask, empty_url):
    epochs = "SELECT epoch FROM sync_heads"
    before = ask(empty_url, epochs)
    done = hillside("db", "restored")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 practice has a new epoch: devices push what they have, and pull everything anew\n"
    assert ask(empty_url, epochs) != before
    assert [tuple(row) for row in ask(empty_url, "SELECT action, role, outcome FROM audit_entries")][-1:] == [
        ("sync.restored", "operator", "done")
    ]
    assert "For example" in hillside("db", "restored", "--help").stdout
    hillside("db", "downgrade", "0004", "--yes")
    behind = hillside("db", "restored")
    assert behind.returncode == 1
    assert "heallog db upgrade" in behind.stderr
