"""A bounded load generator: keep-alive connections, one request in flight on each, prepared bytes.

It speaks just enough HTTP/1.1 to count answers, so that it costs little beside the server it measures. And a client
that asks one thing after the other, for what takes longer.
"""

import asyncio
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

HOST = "127.0.0.1"


@dataclass
class Load:
    """What one run saw. Latencies are in milliseconds."""

    seconds: float
    answers: int = 0
    failures: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.answers / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


Requests = Callable[[int, int], bytes]
"""The bytes of request number `n` on connection `c`."""


class _Connection(asyncio.Protocol):
    def __init__(self, number: int, requests: Requests, load: Load, until: float, done: asyncio.Future[None]) -> None:
        self._number = number
        self._requests = requests
        self._load = load
        self._until = until
        self._done = done
        self._sent = 0
        self._at = 0.0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._at = time.perf_counter()
        if self._at >= self._until:
            self._transport.close()
            return
        self._transport.write(self._requests(self._number, self._sent))
        self._sent += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lowered = self._buffer[:head].lower()
        at = lowered.find(b"content-length:")
        length = (
            int(lowered[at + 15 : lowered.find(b"\r\n", at) if b"\r\n" in lowered[at:] else None]) if at >= 0 else 0
        )
        if len(self._buffer) < head + 4 + length:
            return
        self._load.latencies.append((time.perf_counter() - self._at) * 1000)
        if self._buffer[9:10] == b"2":
            self._load.answers += 1
        else:
            self._load.failures += 1
        self._buffer = self._buffer[head + 4 + length :]
        self._send()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if not self._done.done():
            self._done.set_result(None)


async def _run(port: int, connections: int, seconds: float, requests: Requests) -> Load:
    loop = asyncio.get_running_loop()
    load = Load(seconds)
    until = time.perf_counter() + seconds
    waiting = []
    for number in range(connections):
        done = loop.create_future()
        await loop.create_connection(
            lambda number=number, done=done: _Connection(number, requests, load, until, done),  # type: ignore[misc]
            HOST,
            port,
        )
        waiting.append(done)
    await asyncio.wait(waiting, timeout=seconds + 30)
    return load


def run(port: int, connections: int, seconds: float, requests: Requests) -> Load:
    """Load a server on loopback for some seconds."""
    return uvloop.run(_run(port, connections, seconds, requests))


PASSWORD = "kettle violin harbour"
_TAIL = 4_096
_BUFFER = 2**20


class Client:
    """One connection that is kept, one request at a time."""

    def __init__(self, port: int, token: str = "") -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=120)
        self._connection.connect()
        self.token = token

    def reconnect(self) -> None:
        """After a while in which nothing was asked: the server has hung up."""
        self._connection.close()
        self._connection.connect()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises where it is no success."""
        return json.loads(self._answer(method, path, b"" if body is None else json.dumps(body).encode()).read())

    def timed(self, method: str, path: str, body: bytes = b"") -> tuple[float, bytes]:
        """Seconds until the whole answer was there, and the answer."""
        began = time.perf_counter()
        answer = self._answer(method, path, body).read()
        return time.perf_counter() - began, answer

    def drained(self, path: str) -> tuple[int, bytes]:
        """How many bytes an answer has, and the last of them: as whoever writes it to a file sees it."""
        answer, buffer = self._answer("GET", path, b""), bytearray(_BUFFER)
        size, tail = 0, b""
        while count := answer.readinto(buffer):
            size += count
            tail = (tail + buffer[max(0, count - _TAIL) : count])[-_TAIL:]
        return size, bytes(tail)

    def _answer(self, method: str, path: str, body: bytes) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        if answer.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path} was answered by {answer.status}: {answer.read()[:500]!r}")
        return answer


@dataclass(frozen=True)
class Owner:
    """Someone who has registered, with a practice of their own."""

    email: str
    account_id: str
    practice_id: str
    token: str


def owner(port: int, name: str = "bench") -> Owner:
    email = f"{name}@example.org"
    fields = {"email": email, "password": PASSWORD, "name": name, "practice_name": name}
    said = Client(port).ask("POST", "/v1/auth/register", fields)
    return Owner(email, said["account"]["id"], said["practice"]["id"], said["tokens"]["access_token"])


def device(port: int, who: Owner, name: str) -> Client:
    """Somebody's device, logged in."""
    said = {"email": who.email, "password": PASSWORD, "device_id": name}
    return Client(port, Client(port).ask("POST", "/v1/auth/login", said)["access_token"])
