"""Servers to measure, each in a process group of its own, on loopback, ended at the end."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

HOST = "127.0.0.1"

_SERVE = """
import sys
from granian import Granian
target, port, workers = sys.argv[1:]
Granian(target, address="127.0.0.1", port=int(port), workers=int(workers), interface="asgi", loop="uvloop",
        factory=True, websockets=False, log_level="warning").serve()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(target: str, workers: int, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A server's port and process id, once it answers."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, target, str(port), str(workers)],
        env={**os.environ, "HEALLOG_LOG_LEVEL": "info", "HEALLOG_RATE_LIMITS": "off", **environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(port)
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _wait(port: int) -> None:
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health/live", timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server does not answer")


def memory(pid: int) -> float:
    """MiB of the largest process of a server."""
    parent = psutil.Process(pid)
    return max(process.memory_info().rss for process in (parent, *parent.children(recursive=True))) / 2**20
