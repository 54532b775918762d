"""Following a page to the letter: its requests are sent, its commands typed, its files written, its answers compared.

A page is Markdown with fenced blocks. These are run, from the top to the bottom of the page:

    ```http             a request (`POST /v1/patients`, headers, an empty line, JSON), and after it, in a block of its
                        own, the answer (`HTTP/1.1 201 Created`, the headers that matter, an empty line, JSON)
    ```json name.json   a file, written under this name; ```python name.py and ```js name.js likewise
    ```console          commands after `$ `, each with everything that it prints
    ```mail             a letter that the running server has printed since the last one; others may come before it
    ```sql name         run by the database server's administrator, in this database

In answers and in what commands print, `…` stands for anything (alone in a line: for any lines) and `{name}` for
something to remember: the first time it takes whatever stands there, afterwards it is that, in requests too. JSON is
compared whole: a field too many or too few is a difference. Blocks of ```text are for the eye only; a block in any
other language is an error, so that none is skipped by a slip of the pen.

Nobody waits for the command `sleep`: HealLog's clock is put forward instead.
"""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds that a command may take; on a busy machine a start takes many."""
POST = 10
"""Seconds that a letter may take."""

_FENCE = re.compile(r"^```(\w*)(?: ([\w.-]+))?$")
_HOLE = re.compile(r"\{([a-z][a-z_0-9]*)\}|…")
_METHODS = ("GET ", "POST ", "PATCH ", "DELETE ", "PUT ")

Send = Callable[..., Awaitable[httpx.Response]]
Sql = Callable[[str, str], Awaitable[None]]


class WrongPage(AssertionError):
    """The page says one thing and HealLog does another."""


@dataclass(frozen=True)
class Block:
    """A fenced block and the line of the page that it begins in."""

    line: int
    language: str
    name: str
    text: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _FENCE.match(line)
        if fence and opened is None:
            opened, inside = (number, fence[1], fence[2] or ""), []
        elif line == "```" and opened is not None:
            found.append(Block(*opened, "\n".join(inside)))
            opened = None
        elif opened is not None:
            inside.append(line)
    if opened is not None:
        raise WrongPage(f"the block of line {opened[0]} does not end")
    return found


# -- comparing ----------------------------------------------------------------------------------------------------


@dataclass
class Memory:
    """What `{name}` stood for so far on this page."""

    known: dict[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """A text to send, with what is known put in. Raises `WrongPage` where it is not known."""

        def value(hole: re.Match[str]) -> str:
            if hole[1] is None:
                return hole[0]
            if hole[1] not in self.known:
                raise WrongPage(f"nothing on this page says yet what {hole[0]} is")
            return self.known[hole[1]]

        return _HOLE.sub(value, text)

    def fits(self, expected: str, actual: str) -> bool:
        """Whether a text is as expected; what stands in new holes is remembered."""
        pattern, names, at = "", [], 0
        for hole in _HOLE.finditer(expected):
            pattern += re.escape(expected[at : hole.start()])
            at = hole.end()
            if hole[1] is None:
                pattern += "(?:.*?)"
            elif hole[1] in self.known:
                pattern += re.escape(self.known[hole[1]])
            elif hole[1] in names:
                pattern += f"(?P={hole[1]})"
            else:
                pattern += f"(?P<{hole[1]}>[^\\s\"']+?)"
                names.append(hole[1])
        found = re.fullmatch(pattern + re.escape(expected[at:]), actual)
        if found is None:
            return False
        self.known |= {name: found[name] for name in names}
        return True

    def differences(self, expected: Any, actual: Any, path: str = "$") -> Iterator[str]:
        """How a JSON value differs from what the page shows."""
        if expected == "…":
            return
        if isinstance(expected, str) and isinstance(actual, str):
            if not self.fits(expected, actual):
                yield f"{path}: the page has {expected!r}, the answer {actual!r}"
        elif isinstance(expected, dict) and isinstance(actual, dict):
            yield from (f"{path}.{name}: only on the page" for name in expected if name not in actual)
            yield from (f"{path}.{name}: only in the answer" for name in actual if name not in expected)
            for name in expected.keys() & actual.keys():
                yield from self.differences(expected[name], actual[name], f"{path}.{name}")
        elif isinstance(expected, list) and isinstance(actual, list):
            if len(expected) != len(actual):
                yield f"{path}: the page has {len(expected)} items, the answer {len(actual)}"
            for index, (one, other) in enumerate(zip(expected, actual, strict=False)):
                yield from self.differences(one, other, f"{path}.{index}")
        elif type(expected) is not type(actual) or expected != actual:
            yield f"{path}: the page has {expected!r}, the answer {actual!r}"

    def prefix(self, expected: Sequence[str], actual: Sequence[str]) -> int | None:
        """How many of the lines the expected ones take up, or None where they do not fit."""
        if not expected:
            return 0
        if expected[0] == "…":
            for skipped in range(len(actual) + 1):
                rest = self.prefix(expected[1:], actual[skipped:])
                if rest is not None and (len(expected) > 1 or skipped == len(actual)):
                    return skipped + rest
            return None
        before = dict(self.known)
        if actual and self.fits(expected[0], actual[0]):
            rest = self.prefix(expected[1:], actual[1:])
            if rest is not None:
                return 1 + rest
        self.known = before
        return None


# -- doing --------------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """Someone who follows a page. `send` sends a request; once a server was started by a command, that one gets it.

    `late` is a file with the seconds by which HealLog's clock is put forward.
    """

    folder: Path
    environment: Mapping[str, str]
    send: Send | None = None
    sql: Sql | None = None
    late: Path | None = None
    memory: Memory = field(default_factory=Memory)
    exported: dict[str, str] = field(default_factory=dict)
    status: int = 0
    server: asyncio.subprocess.Process | None = None

    async def follow(self, text: str) -> None:
        """Run every block of a page. Raises `WrongPage` naming the line."""
        waiting = list(reversed(blocks(text)))
        try:
            while waiting:
                block = waiting.pop()
                try:
                    await self._run(block, waiting)
                except WrongPage as wrong:
                    raise WrongPage(f"line {block.line}: {wrong}") from None
        finally:
            await self.stop()
        if self.status:
            raise WrongPage(f"the last command failed ({self.status}) and the page does not say so")

    async def _run(self, block: Block, waiting: list[Block]) -> None:
        if block.language == "http":
            if not block.text.startswith(_METHODS):
                raise WrongPage("an answer without a request")
            if not waiting or waiting[-1].language != "http" or not waiting[-1].text.startswith("HTTP/"):
                raise WrongPage("a request without its answer")
            await self._exchange(block.text, waiting.pop().text)
        elif block.language == "json" and block.name:
            json.loads(block.text)
            (self.folder / block.name).write_text(block.text + "\n", encoding="utf-8")
        elif block.language in ("js", "python") and block.name:
            (self.folder / block.name).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "mail":
            await self._receive(block.text.splitlines())
        elif block.language == "console":
            await self.type(block.text)
        elif block.language == "sql" and self.sql is not None:
            await self.sql(block.name, block.text)
        elif block.language != "text":
            raise WrongPage(f"a block of {block.language or 'nothing'!r} {block.name} cannot be run")

    # -- requests

    async def _exchange(self, request: str, expected: str) -> None:
        first, headers, body = _message(self.memory.filled(request))
        method, path = first.split(" ", 1)
        if body:
            headers.setdefault("Content-Type", "application/json")
        if "token" in self.memory.known:
            headers.setdefault("Authorization", f"Bearer {self.memory.known['token']}")
        answer = await self._sender()(method, path, headers=headers, content=body.encode() or None)
        wrong = list(self._compared(answer, *_message(expected)))
        if wrong:
            shown = f"{answer.status_code} {dict(answer.headers)}\n{_pretty(answer.content)}"
            raise WrongPage("\n".join([first, *wrong, "The answer was:", shown]))

    def _sender(self) -> Send:
        if self.server is not None:
            return _over_the_network(f"http://127.0.0.1:{self.environment['HEALLOG_PORT']}")
        if self.send is None:
            raise WrongPage("no server is running at this point of the page")
        return self.send

    def _compared(self, answer: httpx.Response, first: str, headers: Mapping[str, str], body: str) -> Iterator[str]:
        status = answer.status_code
        if first.split()[:2] != ["HTTP/1.1", str(status)]:  # the phrase beside it is for the eye
            yield f"the page has {first!r}, the answer {status}"
            return
        for name, value in headers.items():
            if name not in answer.headers:
                yield f"{name}: only on the page"
            elif not self.memory.fits(value, answer.headers[name]):
                yield f"{name}: the page has {value!r}, the answer {answer.headers[name]!r}"
        if body and answer.content:
            yield from self.memory.differences(json.loads(body), answer.json())
        elif body or answer.content:
            yield "only the page has a body" if body else "only the answer has a body"

    # -- commands

    async def type(self, console: str) -> None:
        """Type the commands of a console block."""
        for command, printed in _commands(console):
            await self._type(command, printed)

    async def _type(self, command: str, expected: Sequence[str]) -> None:
        command = self.memory.filled(command)
        if self.status and command != "echo $?":
            raise WrongPage(f"the command before failed ({self.status}) and the page does not say so")
        if command.startswith("export "):
            name, value = shlex.split(command)[1].split("=", 1)
            self.exported[name] = value
        elif command.startswith("unset "):
            self.exported.pop(command.split()[1])
        elif command.startswith("sleep ") and self.late is not None:
            self.late.write_text(str(float(self.late.read_text()) + float(command.split()[1])))
        elif command.startswith("heallog serve"):
            await self._serve(command, expected)
        elif command == "^C":
            await self.stop()
        else:
            await self._finish(command, expected)

    async def _start(self, command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("sh", "-c", f"(exit {self.status})\n{command}"),
            cwd=self.folder,
            env={**self.environment, **self.exported},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def _finish(self, command: str, expected: Sequence[str]) -> None:
        process = await self._start(command)
        printed = (await asyncio.wait_for(process.communicate(), PATIENCE))[0].decode()
        lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
        if self.memory.prefix(expected, lines) != len(lines):
            raise WrongPage("\n".join([f"$ {command}", "The page has:", *expected, "It printed:", *lines]))
        self.status = process.returncode or 0

    async def _serve(self, command: str, expected: Sequence[str]) -> None:
        """Start a server and leave it running; what the page shows is what it prints until then."""
        await self.stop()
        self.server = await self._start(f"exec {command}")
        output = self.server.stdout
        lines: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while output is not None and self.memory.prefix(expected, lines) is None:
                    line = await output.readline()
                    if not line:
                        break
                    lines.append(line.decode().rstrip())
        except TimeoutError:
            pass
        if self.memory.prefix(expected, lines) is None:
            raise WrongPage("\n".join([f"$ {command}", "The page has:", *expected, "It printed:", *lines]))

    async def _receive(self, expected: Sequence[str]) -> None:
        """Wait for the letter with this head (`To:` and `Subject:`), and compare it."""
        if self.server is None or self.server.stdout is None:
            raise WrongPage("no server is running that could print a letter")
        lines: list[str] = []
        try:
            async with asyncio.timeout(POST):
                while lines[:2] != list(expected[:2]):
                    lines = []
                    while await self._line() != "---- mail ----":
                        pass
                    while (line := await self._line()) != "--------------":
                        lines.append(line)
        except TimeoutError:
            raise WrongPage(f"there is no such letter; the last one was {lines}") from None
        if self.memory.prefix(expected, lines) != len(lines):
            raise WrongPage("\n".join(["The page has:", *expected, "The letter is:", *lines]))

    async def _line(self) -> str:
        """The next line that the server prints."""
        line = await self.server.stdout.readline() if self.server and self.server.stdout else b""
        if not line:
            raise WrongPage("the server prints nothing any more")
        return line.decode().rstrip()

    async def stop(self) -> None:
        """Ctrl-C, and wait for the end."""
        if self.server is None:
            return
        server, self.server = self.server, None
        # Not by its own method: that may take the exit code away from whoever waits for it.
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGINT)
        await asyncio.wait_for(server.communicate(), PATIENCE)
        if server.returncode:
            raise WrongPage(f"the server ended with {server.returncode}")


def _over_the_network(address: str) -> Send:
    async def send(method: str, path: str, **rest: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=address) as client:
            return await client.request(method, path, **rest)

    return send


def _message(text: str) -> tuple[str, dict[str, str], str]:
    """The first line, the headers and the body of a request or an answer."""
    head, _, body = text.partition("\n\n")
    first, *rest = head.splitlines()
    headers = dict(line.split(": ", 1) for line in rest)
    return first, headers, body.strip()


def _pretty(content: bytes) -> str:
    try:
        return json.dumps(json.loads(content), indent=2, ensure_ascii=False)
    except ValueError:
        return content.decode(errors="replace")


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block with the lines that it prints. A line that ends in a backslash goes on in the next."""
    command: str | None = None
    printed: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("$ ") or line == "^C":
            if command is not None:
                yield command, printed
            command, printed = line.removeprefix("$ "), []
            while command.endswith("\\"):
                command = f"{command}\n{next(lines)}"
        elif command is None:
            raise WrongPage("a console block begins with `$ ` and a command")
        else:
            printed.append(line.rstrip())
    if command is not None:
        yield command, printed


def environment(**settings: str) -> dict[str, str]:
    """A clean shell: none of our settings but these, and HealLog's commands on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEALLOG_")}
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}", "PYTHONUTF8": "1"}
    return {**kept, **here, "COLUMNS": "100", **settings}
