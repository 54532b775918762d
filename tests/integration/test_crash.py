"""The power goes: nothing acknowledged is lost, nothing is half-written, and doing it again makes it right."""

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

PATIENTS, EACH = 400, 20
ALL = PATIENTS * (EACH + 1)


def kill_everything(process: subprocess.Popen[bytes]) -> None:
    """The server, its workers and its PostgreSQL, at once and without a word."""
    group = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in group:
        with suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """Outside pytest's own folders: the next pytest that starts closes the way to those for the database's user."""
    with tempfile.TemporaryDirectory(prefix="heallog-crash-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "heallog", "serve", "--port", str(port)],
        env={**os.environ, "HEALLOG_DATA_DIR": str(folder), "HEALLOG_LOG_LEVEL": "error", "HEALLOG_RATE_LIMITS": "off"},
        stdout=subprocess.DEVNULL,
        cwd=folder.parent,
    )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
        except OSError:
            assert process.poll() is None
            time.sleep(0.05)
        else:
            return process
    raise AssertionError("the server did not start")


def post(port: int, path: str, body: object, token: str = "") -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def written(ask, url: str) -> int:
    return ask(url, "SELECT count(*) FROM versions")[0][0]


def socket_url(folder: Path) -> str:
    """Where the embedded database of a folder listens."""
    lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    return f"postgresql://postgres@/heallog?host={lines[4]}"


def test_kill_9_of_server_and_database_during_an_import(own_folder, free_port, sample, ask, heallog):
    folder = own_folder / "data"
    server = start(folder, free_port)
    url = socket_url(folder)
    fields = {"email": "alice@example.org", "password": "correct horse battery", "name": "A", "practice_name": "B"}
    token = post(free_port, "/v1/auth/register", fields)["tokens"]["access_token"]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": r} for r in sample(PATIENTS, EACH)],
    }
    asking = subprocess.Popen(
        [sys.executable, "-c", _POST, f"http://127.0.0.1:{free_port}/v1/import/fhir", token],
        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert asking.stdin is not None
    asking.stdin.write(json.dumps(bundle).encode())
    asking.stdin.close()
    until = time.monotonic() + 60
    while written(ask, url) <= PATIENTS and time.monotonic() < until:
        pass
    postmaster = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    kill_everything(server)
    for member in [psutil.Process(postmaster), *psutil.Process(postmaster).children(recursive=True)]:
        with suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGKILL)
    assert asking.wait(30) != 0

    server = start(folder, free_port)
    url = socket_url(folder)
    before = written(ask, url)
    assert PATIENTS < before < ALL, "the import was killed half way"
    token = post(free_port, "/v1/auth/login", {k: fields[k] for k in ("email", "password")})["access_token"]
    report = post(free_port, "/v1/import/fhir", bundle, token)
    totals = {
        name: sum(t[name] for t in report["types"].values()) for name in ("read", "created", "unchanged", "refused")
    }
    assert totals == {"read": ALL, "created": ALL - before, "unchanged": before, "refused": 0}
    assert written(ask, url) == ALL
    assert ask(url, "SELECT count(*) FROM versions WHERE number > 1")[0][0] == 0
    assert ask(url, "SELECT (SELECT count(*) FROM records) + (SELECT count(*) FROM patients)")[0][0] == ALL
    assert ask(url, "SELECT count(*) FROM audit_entries WHERE version IS NOT NULL")[0][0] == ALL
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    checked = heallog("db", "check", "--json", HEALLOG_DATA_DIR=str(folder))
    assert json.loads(checked.stdout)["versions"] == ALL, checked


_POST = """
import sys, urllib.request
body = sys.stdin.buffer.read()
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + sys.argv[2]}
urllib.request.urlopen(urllib.request.Request(sys.argv[1], data=body, headers=headers), timeout=60).read()
"""


def test_kill_9_of_the_command_line_during_an_import(empty_url, ask, heallog, ndjson, tmp_path):
    url = {"HEALLOG_DATABASE_URL": empty_url}
    heallog("user", "create", "alice@example.org", "--name", "Alice", "--new-practice", "Hillside",
            "--password-stdin", given="correct horse battery\n", **url)  # fmt: skip
    path = str(ndjson(PATIENTS, EACH))
    importing = subprocess.Popen(
        [sys.executable, "-m", "heallog", "import", "fhir", path],
        env={**os.environ, **url}, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while written(ask, empty_url) <= PATIENTS and time.monotonic() < until:
        assert importing.poll() is None
    importing.kill()
    importing.wait()
    before = written(ask, empty_url)
    assert PATIENTS < before < ALL
    done = heallog("import", "fhir", path, "--json", **url)
    types = json.loads(done.stdout)["types"]
    assert sum(tally["created"] for tally in types.values()) == ALL - before
    assert written(ask, empty_url) == ALL
    assert heallog("db", "check", **url).returncode == 0


def test_kill_9_of_server_and_database_while_many_read(own_folder, free_port, ask, heallog):
    """Whoever got an answer has left an entry: it was on the disk before the answer left."""
    folder = own_folder / "data"
    server = start(folder, free_port)
    fields = {"email": "alice@example.org", "password": "correct horse battery", "name": "A", "practice_name": "B"}
    token = post(free_port, "/v1/auth/register", fields)["tokens"]["access_token"]
    patient = post(free_port, "/v1/patients", {"family_name": "Obi"}, token)["id"]
    postmaster = int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    answered: list[str] = []
    enough = threading.Event()

    def read(reader: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=30)
        with suppress(OSError, http.client.HTTPException):
            for number in itertools.count():
                asked = f"reader-{reader}-{number}"
                connection.request(
                    "GET",
                    f"/v1/patients/{patient}",
                    headers={"Authorization": f"Bearer {token}", "X-Request-ID": asked},
                )
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    return
                answered.append(asked)
                if len(answered) >= 2_000:
                    enough.set()

    with ThreadPoolExecutor(16) as readers:
        reading = [readers.submit(read, reader) for reader in range(16)]
        enough.wait(30)
        kill_everything(server)
        for member in [psutil.Process(postmaster), *psutil.Process(postmaster).children(recursive=True)]:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        for task in reading:
            task.result(30)
    assert len(answered) > 1_000

    server = start(folder, free_port)
    rows = ask(socket_url(folder), "SELECT request_id FROM audit_entries WHERE action = 'patients.read'")
    assert set(answered) - {row["request_id"] for row in rows} == set()
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    verified = heallog("audit", "verify", "--json", HEALLOG_DATA_DIR=str(folder))
    assert (verified.returncode, json.loads(verified.stdout)["unsealed"]) == (0, 0), verified


def test_a_burst_of_signals_ends_the_server_once(own_folder, free_port):
    """Ctrl-C pressed in haste, passed on by `make`, repeated by an impatient supervisor: it still ends, and well."""
    server = start(own_folder / "data", free_port)
    for _ in range(50):
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGINT)
    assert server.wait(30) == 0
