"""The HTTP server: its processes, its signals, and a word when it answers."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from granian import Granian


class Interrupt:
    """Wakes the server's main loop, as `threading.Event` would, but for signals.

    A signal that comes in the instant before an Event falls asleep does not wake it, and one that comes while the Event
    holds its lock waits for itself. This has no lock, and looks up five times a second.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def wait(self) -> None:
        while not self._set:
            time.sleep(0.2)


class Server(Granian):  # type: ignore[misc]
    """Listens to the first signal only: `make` passes on what the terminal has sent to all already.

    A second one that arrives while the first is handled would wait for a lock that the first holds.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.main_loop_interrupt = Interrupt()

    def signal_handler_interrupt(self, *arguments: Any, **named: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        super().signal_handler_interrupt(*arguments, **named)


def serve(target: str, host: str, port: int, workers: int, name: str, ready: str) -> None:
    """Serve the application that the factory `target` makes, until a signal; say so, and `ready`, once it answers."""
    # A fresh interpreter per worker: forked ones would share this one's open sockets and threads.
    multiprocessing.set_start_method("spawn", force=True)
    address = f"http://{host}:{port}"
    threading.Thread(target=_announce, args=(address, name, ready), daemon=True).start()
    Server(
        target,
        address=host,
        port=port,
        workers=workers,
        interface="asgi",
        loop="uvloop",
        factory=True,
        websockets=False,
        log_level="warning",
    ).serve()


def _announce(address: str, name: str, ready: str) -> None:
    """Say where the server is, once it answers and not before."""
    pause = threading.Event()
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{address}/health/ready", timeout=2):  # noqa: S310 - our own address
                break
        except (urllib.error.URLError, OSError):
            pause.wait(0.05)
    print(f"{name} answers at {address}  (try it at {address}/schema)\n\n{ready}", flush=True)


def leave_the_group() -> None:
    """Let the server alone end its workers, and let them end with it.

    Ctrl-C goes to the whole process group; a worker that obeyed it by itself would look like a crashed one.
    """
    if sys.platform == "linux":
        os.setpgid(0, 0)
        # PR_SET_PDEATHSIG: no orphan keeps the port when the server is killed.
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
