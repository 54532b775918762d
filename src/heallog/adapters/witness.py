"""Seals told outside the database: a line in a file of their own, and one in the log."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from heallog.domain.audit import Witnessed
from heallog.domain.canon import moment


class FileWitness:
    """One JSON object a line, only ever appended to, on the disk before it counts. Several processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = structlog.get_logger("heallog.audit")

    def tell(self, seals: Sequence[Witnessed]) -> None:
        lines = [_document(seal) for seal in seals]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(file).st_size
            # A line that a crash cut off stays alone on its line.
            torn = b"\n" if size and os.pread(file, 1, size - 1) != b"\n" else b""
            os.write(file, torn + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            os.fsync(file)
        finally:
            os.close(file)
        for line in lines:
            self._log.info("audit_sealed", **line)

    def told(self) -> Iterable[Witnessed]:
        size = self._path.stat().st_size if self._path.exists() else 0
        return read(self._path, size)


def read(path: Path, size: int | None = None) -> Iterator[Witnessed]:
    """What a file tells, or its first `size` bytes. Lines that are none are left out: a crash may cut one off."""
    if size == 0:
        return
    with path.open("rb") as file:
        while (size is None or file.tell() < size) and (line := file.readline()):
            try:
                seal = json.loads(line)
                yield Witnessed(
                    str(seal["practice_id"]),
                    int(seal["number"]),
                    datetime.fromisoformat(seal["at"]),
                    str(seal["first"]),
                    int(seal["count"]),
                    bytes.fromhex(seal["hash"]),
                )
            except (ValueError, KeyError, TypeError):
                continue


def _document(seal: Witnessed) -> dict[str, object]:
    return {
        "practice_id": seal.practice_id,
        "number": seal.number,
        "at": moment(seal.at),
        "first": seal.first,
        "count": seal.count,
        "hash": seal.hash.hex(),
    }


if TYPE_CHECKING:
    from heallog.application.ports.audit import Witness

    _: type[Witness] = FileWitness
