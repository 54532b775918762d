"""Cutting a Bundle of any size into its entries, byte for byte, holding one at a time.

A streaming JSON parser would hand over values, not bytes; and ijson's fast backend, measured, crashes the process on an
integer of 5,000 digits, takes memory by the square of the nesting, and turns half a surrogate pair into `?`. Here only
brackets and strings are told apart. That each entry is JSON is checked where it is decoded, and what stands around the
entries is checked at the end.
"""

import re
from collections.abc import Iterator
from typing import IO, Final

from heallog.adapters.fhir.node import Refused
from heallog.domain.canon import decode

LONGEST: Final = 10 * 1024 * 1024
"""Bytes that one resource may have."""

_CHUNK = 1 << 16
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+", re.DOTALL)
_TO_BRACKET_OR_COMMA = re.compile(rb'(?:[^"{}\[\],]++|' + _STRING + rb")*+", re.DOTALL)
_OPENING = re.compile(rb"\s*+\{")
_NAME = re.compile(rb"\s*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_OPENS, _QUOTE = b"{[", b'"'


class Cutter:
    """The entries of the Bundle that a stream holds. Raises `Refused`, `MalformedJson` where it is none to the end.

    `type` is the `resourceType` and `sort` the Bundle's own `type`, as soon as they were seen: before the first entry,
    unless the Bundle is written backwards.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.type: object = None
        self.sort: object = None
        self._stream = stream
        self._held = b""
        self._start = 0
        """Where the piece starts that is being cut; what is held before it is done with."""
        self._at = 0
        self._frame = bytearray()
        """What stands around the entries, each of which is a `0` in it."""

    def __iter__(self) -> Iterator[bytes]:
        """Each entry, as it stands between the commas."""
        self._frame += self._next(_OPENING)
        end = b"," if self._frame else b""
        while end == b",":
            name = self._next(_NAME)
            self._frame += name
            key = decode(name.rstrip()[:-1]) if name else None
            if key == "entry" and self._held[self._at : self._at + 1] == b"[":
                self._at += 1
                self._frame += b"["
                yield from self._entries()
            value, end = self._value()
            self._frame += value + end
            if key == "resourceType":
                self.type = decode(value)
            elif key == "type":
                self.sort = decode(value)
        self._check_frame()

    def _entries(self) -> Iterator[bytes]:
        end = b","
        while end == b",":
            entry, end = self._value()
            if entry:
                yield entry
            self._frame += (b"0" if entry else b"") + end

    def _check_frame(self) -> None:
        self._frame += self._held[self._at :]
        while rest := self._stream.read(_CHUNK):
            self._frame += rest.strip()
            if rest.strip() and len(self._frame) > LONGEST:
                break  # there is more after the end than can be kept: decoding the beginning says so too
        whole = decode(bytes(self._frame))
        if isinstance(whole, dict) and not isinstance(whole.get("entry"), list | None):
            raise Refused("entry: must be a list")

    def _value(self) -> tuple[bytes, bytes]:
        """Everything up to the comma or the closing bracket that ends this value, and that."""
        self._start = self._at
        depth = 0
        while True:
            run = (_TO_BRACKET if depth else _TO_BRACKET_OR_COMMA).match(self._held, self._at)
            self._at = run.end() if run else self._at
            found = self._held[self._at : self._at + 1]
            if found in (b"", _QUOTE):  # the end of what is held, perhaps inside a string
                if not self._fill():
                    raise Refused("ends too early")
            elif depth or found in _OPENS:
                depth += 1 if found in _OPENS else -1
                self._at += 1
            else:
                value = self._held[self._start : self._at].strip()
                self._at += 1
                return value, found

    def _next(self, pattern: re.Pattern[bytes]) -> bytes:
        """What the pattern matches here, or nothing."""
        self._start = self._at
        while True:
            found = pattern.match(self._held, self._at)
            # What reaches to the end of what is held may go on behind it.
            surely = found is not None and found.end() < len(self._held)
            if surely or not self._fill():
                self._at = found.end() if found else self._at
                return found[0] if found else b""

    def _fill(self) -> bool:
        """Read on, keeping the piece that is being cut."""
        held = len(self._held) - self._start
        if held > LONGEST:
            raise Refused(f"longer than {LONGEST} bytes")
        # By as much again as is held: a long string is looked at from its start each time.
        data = self._stream.read(max(_CHUNK, held))
        self._held = self._held[self._start :] + data
        self._at -= self._start
        self._start = 0
        return bool(data)
