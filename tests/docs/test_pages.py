"""The reader of pages notices every kind of lie, and passes what is true."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from . import pages
from .pages import Memory, Reader, WrongPage, blocks, environment

TRUE = """
```http
POST /v1/things?x=1
If-Match: "1"

{"name": "a"}
```

```http
HTTP/1.1 200 OK
ETag: "2"

{"id": "{thing_id}", "at": "…", "n": 1, "list": [1, {"x": null}]}
```

```http
GET /v1/things/{thing_id}
```

```http
HTTP/1.1 200 OK

{"id": "{thing_id}", "at": "…", "n": 1, "list": [1, {"x": null}]}
```
"""
THING = {"id": "t-1", "at": "2026-03-01T00:00:00.000Z", "n": 1, "list": [1, {"x": None}]}


def reader(folder: Path, answer: Any = THING, status: int = 200) -> Reader:
    async def send(method: str, path: str, **rest: Any) -> httpx.Response:
        assert (method, path) in {("POST", "/v1/things?x=1"), ("GET", "/v1/things/t-1")}
        content = b"" if answer is None else json.dumps(answer).encode()
        return httpx.Response(status, headers={"ETag": '"2"'}, content=content)

    return Reader(folder, environment(), send)


async def test_what_is_true_passes(tmp_path: Path) -> None:
    following = reader(tmp_path)
    await following.follow(TRUE)
    assert following.memory.known == {"thing_id": "t-1"}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({**THING, "n": 2}, 200),
        ({**THING, "n": True}, 200),
        ({**THING, "n": "1"}, 200),
        ({**THING, "more": 1}, 200),
        ({name: value for name, value in THING.items() if name != "at"}, 200),
        ({**THING, "list": [1]}, 200),
        ({**THING, "list": [1, {}]}, 200),
        (None, 200),
        (THING, 201),
    ],
)
async def test_another_answer_than_the_page_has(answer: Any, status: int, tmp_path: Path) -> None:
    with pytest.raises(WrongPage, match=r"^line 2: "):
        await reader(tmp_path, answer, status).follow(TRUE)


@pytest.mark.parametrize(
    ("is_there", "instead"),
    [
        ('ETag: "2"', 'ETag: "3"'),
        ('ETag: "2"', 'Location: "2"'),
        ("GET /v1/things/{thing_id}", "GET /v1/things/{other_id}"),
        ('HTTP/1.1 200 OK\n\n{"id": "{thing_id}"', 'HTTP/1.1 200 OK\n\n{"id": "t-2"'),
        ("```http\nGET", "```htpp\nGET"),
        ("HTTP/1.1 200 OK\n\n", "200 OK\n\n"),
    ],
)
async def test_another_page_than_the_answer(is_there: str, instead: str, tmp_path: Path) -> None:
    assert is_there in TRUE
    with pytest.raises(WrongPage):
        await reader(tmp_path).follow(TRUE.replace(is_there, instead))


async def test_commands_are_typed_and_what_they_print_is_compared(tmp_path: Path) -> None:
    file = "```json a.json\n[1]\n```\n"
    typed = "$ cat a.json\n[1]\n$ exit 3\n$ echo $?\n3\n$ printf 'a\\nb\\nid 7\\n'\na\n…\nid {id}"
    following = reader(tmp_path)
    await following.follow(f"{file}```console\n{typed}\n```\n")
    assert following.memory.known == {"id": "7"}


@pytest.mark.parametrize(
    "console",
    [
        "$ echo a\nb",
        "$ echo a",
        "$ true\na",
        "$ printf 'a\\nb\\n'\na",
        "$ exit 3",
        "$ exit 3\n$ echo a\na",
        "$ echo a >&2",
        "$ no-such-command",
        "a",
    ],
)
async def test_commands_that_do_something_else(console: str, tmp_path: Path) -> None:
    with pytest.raises(WrongPage):
        await reader(tmp_path).follow(f"```console\n{console}\n```\n")


async def test_exported_settings_hold_from_there_on(tmp_path: Path) -> None:
    typed = "$ export HEALLOG_PORT=9\n$ echo $HEALLOG_PORT\n9\n$ unset HEALLOG_PORT\n$ echo $HEALLOG_PORT.\n."
    await reader(tmp_path).follow(f"```console\n{typed}\n```\n")


LETTERS = """
```console
$ heallog serve --for-the-test
ready
```

```mail
To: a
Subject: b

The code: {code}
```
"""


A_LETTER = "---- mail ----\\nTo: a\\nSubject: b\\n\\nThe code: 12\\n--------------\\n"
ANOTHER = "---- mail ----\\nTo: c\\n--------------\\n{}\\n"


def resident(folder: Path, script: str) -> Reader:
    """Someone whose server is a shell script, which ends well."""
    command = folder / "heallog"
    command.write_text(f"#!/bin/sh\ntrap 'exit 0' INT\n{script}\n")
    command.chmod(0o755)
    return Reader(folder, {"PATH": f"{folder}:/usr/bin:/bin"})


@pytest.mark.parametrize("printed", [A_LETTER, ANOTHER + A_LETTER])
async def test_a_letter_is_what_the_server_prints(printed: str, tmp_path: Path) -> None:
    following = resident(tmp_path, f"printf 'ready\\n{printed}'")
    await following.follow(LETTERS)
    assert following.memory.known == {"code": "12"}


@pytest.mark.parametrize(
    "printed", ["", ANOTHER, A_LETTER.replace("code", "number"), A_LETTER.replace("To: a", "To: c")]
)
async def test_another_letter_than_the_page_has(printed: str, tmp_path: Path) -> None:
    with pytest.raises(WrongPage, match=r"^line 7: "):
        await resident(tmp_path, f"printf 'ready\\n{printed}'").follow(LETTERS)


async def test_a_letter_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "POST", 0.05)
    with pytest.raises(WrongPage, match=r"^line 7: there is no such letter"):
        await resident(tmp_path, "echo ready; while :; do sleep 0.05; done").follow(LETTERS)


async def test_nobody_waits_for_sleep(tmp_path: Path) -> None:
    late = tmp_path / "late"
    late.write_text("0")
    await Reader(tmp_path, environment(), late=late).type("$ sleep 900\n$ sleep 11")
    assert float(late.read_text()) == 911


async def test_a_python_file_is_written_and_run(tmp_path: Path) -> None:
    await reader(tmp_path).follow("```python a.py\nprint(1)\n```\n```console\n$ python a.py\n1\n```\n")
    with pytest.raises(WrongPage):
        await reader(tmp_path).follow("```python\nprint(1)\n```\n")


def test_a_block_that_does_not_end() -> None:
    with pytest.raises(WrongPage):
        blocks("```http\nGET /\n")


def test_a_hole_is_the_same_within_one_line() -> None:
    assert Memory().fits("{a} and {a}", "1 and 1")
    assert not Memory().fits("{a} and {a}", "1 and 2")
