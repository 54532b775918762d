"""Scenarios of pushes that are none, on a real server: refused in order, soon, and without much memory."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.http.clinic import Clinic, refused
from tests.http.devices import ADDRESS
from tests.integration.servers import Server

from .apps import effect

PUSH = "/v1/sync/push"
BOTH = pytest.mark.parametrize("path", [PUSH, ADDRESS])
SOON = 20
"""Seconds, for the busiest machine."""
LITTLE = 300 * 2**20


def memory(server: Server) -> int:
    """What its processes hold."""
    return sum(process.memory_info().rss for process in server.processes())


async def sent(server: Server, clinic: Clinic, path: str, body: bytes | Iterator[bytes]) -> httpx.Response:
    """The answer to a body; nothing is left of it, and the server has not grown much."""
    headers = {"Authorization": f"Bearer {clinic.token}", "Content-Type": "application/json"}
    before, held, began = await effect(clinic), memory(server), time.monotonic()
    async with httpx.AsyncClient(timeout=60) as client:
        parts = body if isinstance(body, bytes) else _each(body)
        answer = await client.post(server.url + path, content=parts, headers=headers)
    assert time.monotonic() - began < SOON
    assert memory(server) - held < LITTLE
    assert await effect(clinic) == before
    return answer


async def _each(parts: Iterator[bytes]):
    for part in parts:
        yield part


def endless() -> Iterator[bytes]:
    """A length that nobody declared: some 80 MiB of white space."""
    yield b"{"
    for _ in range(80):
        yield b" " * 2**20


@BOTH
async def test_oversize(served: Server, clinic: Clinic, path: str) -> None:
    over = json.dumps({"push_id": "p", "contributions": [], "patients": "x" * 65 * 2**20}).encode()
    for body in (over, endless()):
        # The whole of it is on its way when it is refused: the answer is heard all the same.
        refused(await sent(served, clinic, path, body), 413, "TOO_LARGE")


@BOTH
@pytest.mark.parametrize(
    "body",
    [b'{"patients":', b"{'a': 1}", b'{"a": NaN}', b'{"a": "\xff"}', b'{"a": 1, "a": 2}', b"[" * 100_000, b"\x00"],
    ids=range(7),
)
async def test_bad_json(clinic: Clinic, path: str, body: bytes) -> None:
    before = await effect(clinic)
    refused(await clinic.call("POST", path, raw=body), 400, "MALFORMED_JSON")
    assert await effect(clinic) == before


MANY = b"{}," * 999_999 + b"{}"
MILLION = {
    "deleted ids": (ADDRESS, b'{"patients":{"deleted":[%s]}}' % MANY.replace(b"{}", b'"x"'), None),
    "operations": (PUSH, b'{"push_id":"p","contributions":[{"operations":[%s]}]}' % MANY, "contributions"),
    "contributions": (PUSH, b'{"push_id":"p","contributions":[%s]}' % MANY, "contributions"),
    "names": (PUSH, b"{%s}" % b",".join(b'"%d":1' % number for number in range(100_000)), "0"),
}


@pytest.mark.parametrize(("path", "body", "field"), MILLION.values(), ids=MILLION.keys())
async def test_a_million_ids(served: Server, clinic: Clinic, path: str, body: bytes, field: str | None) -> None:
    answer = await sent(served, clinic, path, body)
    refused(answer, 422, "INVALID_FIELDS", field)
    assert len(answer.content) < 50_000
