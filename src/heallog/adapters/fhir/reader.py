"""Where FHIR resources come from: NDJSON files, Bundles in files, and what a client posts.

Each is cut into resources first. Then both readings, of the patients and of everything else, work the same way: one
rule decides which of the two a resource comes in, so that none comes twice and none is lost.
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

import msgspec

from heallog.adapters.fhir.cutter import LONGEST, Cutter
from heallog.adapters.fhir.mapping import BUNDLE, PATIENT, UNKNOWN, map_resource
from heallog.adapters.fhir.node import Refused
from heallog.application.ports.imports import Incoming
from heallog.domain.canon import decode
from heallog.domain.errors import FieldError, InvalidFields, MalformedJson

_SUFFIXES = (".ndjson", ".ndjson.gz", ".json", ".json.gz")
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)

T = TypeVar("T")

Urls = dict[str, tuple[str, str]]
"""What a Bundle calls its resources (`urn:uuid:…`): their types and ids."""


class _Cut(NamedTuple):
    """A resource as it was cut out, not yet decoded; or why it could not be. `url` is its `fullUrl` in a Bundle."""

    where: str
    source: bytes = b""
    url: str = ""
    refused: str = ""


# -- the two readings ---------------------------------------------------------------------------------------------

_PATIENT = re.compile(rb'"resourceType"\s*:\s*"Patient"')
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")


def _may_be_patient(source: bytes) -> bool:
    """Whether it is worth decoding. JSON may spell any letter as an escape, so such a source may be one too."""
    if b'"Patient"' in source and _PATIENT.search(source):
        return True
    return b"\\u00" in source and _ESCAPED_LETTER.search(source) is not None


def _opened(cut: _Cut) -> dict[str, Any]:
    """The resource, decoded. Raises `Refused`, `MalformedJson`."""
    if cut.refused:
        raise Refused(cut.refused)
    resource = decode(cut.source)
    if not isinstance(resource, dict):
        raise Refused("not an object")
    if resource.get("id") is None and cut.url.startswith("urn:uuid:"):
        resource["id"] = cut.url.removeprefix("urn:uuid:")
    return resource


def _patients(cuts: Iterable[_Cut]) -> Iterator[Incoming]:
    for cut in cuts:
        if not _may_be_patient(cut.source):
            continue
        try:
            resource = _opened(cut)
        except (Refused, MalformedJson):
            continue  # the other reading reports it
        if resource.get("resourceType") == PATIENT:
            yield map_resource(resource, cut.where, cut.source, lambda _: None)


def _others(cuts: Iterable[_Cut], urls: Urls) -> Iterator[Incoming]:
    def resolve(url: str) -> tuple[str, str] | None:
        return urls.get(url.lower())

    for cut in cuts:
        try:
            resource = _opened(cut)
        except (Refused, MalformedJson) as refusal:
            yield Incoming(cut.where, UNKNOWN, "", cut.source, refused=str(refusal))
        else:
            kind = resource.get("resourceType")
            if kind == BUNDLE:
                reason = "a Bundle inside something else is not taken apart; give it as a file of its own"
                yield Incoming(cut.where, kind, "", cut.source, refused=reason)
            elif kind != PATIENT:
                yield map_resource(resource, cut.where, cut.source, resolve)


class _Named(msgspec.Struct):
    type: Any = msgspec.field(name="resourceType", default=None)
    id: Any = None


_NAMED = msgspec.json.Decoder(_Named)


def _remember(cut: _Cut, urls: Urls) -> None:
    """Note which resource a `urn:` stands for. What is broken is noted by nobody and refused when it is read."""
    if not cut.url.startswith("urn:"):
        return
    try:
        named = _NAMED.decode(cut.source)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return
    own = cut.url.removeprefix("urn:uuid:") if named.id is None else named.id
    if isinstance(named.type, str) and isinstance(own, str):
        urls[cut.url.lower()] = (named.type, own)


class _Entry(msgspec.Struct):
    url: Any = msgspec.field(name="fullUrl", default=None)
    resource: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    request: Any = None


_ENTRY = msgspec.json.Decoder(_Entry)


def _cut_entry(where: str, source: bytes | msgspec.Raw) -> _Cut:
    """The resource of a Bundle's entry."""
    try:
        entry = _ENTRY.decode(source)
    except msgspec.ValidationError:
        return _Cut(where, bytes(source), refused="must be an object")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Cut(where, bytes(source), refused=_complaint(bytes(source)))
    return _cut_out(where, entry)


def _cut_out(where: str, entry: _Entry) -> _Cut:
    resource, reason = bytes(entry.resource), ""
    if isinstance(entry.request, dict) and entry.request.get("method") == "DELETE":
        reason = "deletes are not imported"
    elif resource in (b"", b"null"):
        reason = "has no resource"
    elif len(resource) > LONGEST:
        resource, reason = b"", f"longer than {LONGEST} bytes"
    elif entry.url is not None and not isinstance(entry.url, str):
        reason = "fullUrl: must be a string"
    return _Cut(where, resource, "" if reason else entry.url or "", reason)


def _complaint(source: bytes) -> str:
    """What is wrong with a JSON text that msgspec did not take."""
    try:
        decode(source)
    except MalformedJson as error:
        return str(error)
    return "half of a surrogate pair in a string"  # the one thing that only msgspec minds


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


# -- files --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    path: Path
    name: str
    size: int
    urls: Urls | None = field(default=None)
    """Known once the whole file was read."""


class FhirFiles:
    """Files and folders of NDJSON and Bundles, plain or gzipped; neither the name nor the suffix is trusted.

    Raises `FileNotFoundError` for a path that is not there and for a folder without such files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        found = list(dict.fromkeys(file for path in paths for file in _files_in(path)))
        names = Counter(path.name for path in found)
        self._files = [
            _File(path, _printable(path.name if names[path.name] == 1 else str(path)), path.stat().st_size)
            for path in found
        ]
        self._total = sum(file.size for file in self._files)
        self._behind = 0
        self._reading: tuple[int, int, FileIO] | None = None

    def patients(self) -> Iterator[Incoming]:
        """Only the patients."""
        for file, before in self._each(0):
            yield from _patients(self._remembered(file, before))

    def others(self) -> Iterator[Incoming]:
        """Everything else, what cannot be read included."""
        for file, before in self._each(self._total):
            if file.urls is None:
                for _ in self._remembered(file, before - self._total):
                    pass
            yield from _others(self._cuts(file, before), file.urls or {})

    def progress(self) -> tuple[int, int]:
        """How many bytes of both readings are behind, of how many; compressed bytes, where files are."""
        self._note()
        return self._behind, 2 * self._total

    def _each(self, before: int) -> Iterator[tuple[_File, int]]:
        for file in self._files:
            yield file, before
            before += file.size
            self._behind = max(self._behind, before)

    def _note(self) -> None:
        if self._reading is not None and not self._reading[2].closed:
            before, size, raw = self._reading
            self._behind = max(self._behind, before + min(raw.tell(), size))

    def _remembered(self, file: _File, before: int) -> Iterator[_Cut]:
        urls: Urls = {}
        for cut in self._cuts(file, before):
            _remember(cut, urls)
            yield cut
        file.urls = urls

    def _cuts(self, file: _File, before: int) -> Iterator[_Cut]:
        with BufferedReader(FileIO(file.path), 1 << 16) as packed:
            self._reading = (before, file.size, packed.raw)
            try:
                yield from _cuts(packed, file.name)
            finally:
                self._reading = None


def _files_in(path: Path) -> list[Path]:
    if not path.is_dir():
        path.stat()  # says which path is not there
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.lower().endswith(_SUFFIXES) and file.is_file())
    if not found:
        raise FileNotFoundError(f"no {', '.join(_SUFFIXES)} in {path}")
    return found


def _printable(name: str) -> str:
    """A file's name for the report; on disk it may be no text at all."""
    return name.encode(errors="replace").decode()


def _cuts(packed: "BufferedReader[FileIO]", name: str) -> Iterator[_Cut]:
    """The resources of a file. Damage is one refusal that says where, and the end of this file only."""
    last = ""
    try:
        with _unpacked(packed) as stream:
            for cut in _lines(stream, name) if _is_lines(stream, name) else _document(stream, name):
                yield cut
                last = cut.where.removeprefix(f"{name}:")
    except _DAMAGE as error:
        damage = "truncated gzip" if isinstance(error, EOFError) else "damaged gzip"
    except (Refused, MalformedJson) as error:
        damage = str(error)
    else:
        return
    after = f" after line {last}" if last.isdigit() else f" after {last}" if last else ""
    yield _Cut(name, refused=f"{damage}{after}")


@contextmanager
def _unpacked(packed: "BufferedReader[FileIO]") -> Iterator[IO[bytes]]:
    if packed.peek(2)[:2] == _GZIP:
        with gzip.GzipFile(fileobj=packed, mode="rb") as unpacked:
            yield cast("IO[bytes]", unpacked)
    else:
        yield packed


def _from_start(stream: IO[bytes]) -> None:
    stream.seek(0)
    if stream.read(len(_BOM)) != _BOM:
        stream.seek(0)


def _is_lines(stream: IO[bytes], name: str) -> bool:
    """Whether each line is a resource: an object and more behind it, or one that is no Bundle. Else the name says."""
    _from_start(stream)
    first, rest = b"", b"damaged"
    with suppress(*_DAMAGE):
        first = _next_line(stream)
        rest = _next_line(stream)
    try:
        _OBJECT.decode(first)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ".ndjson" in name.lower() and first not in (b"{", b"[")
    return rest != b"" or b'"Bundle"' not in first


def _next_line(stream: IO[bytes]) -> bytes:
    """The next line that is not blank, or as much of it as a resource may have."""
    while line := stream.readline(LONGEST + 1):
        if line := line.strip():
            return line
    return b""


def _lines(stream: IO[bytes], name: str) -> Iterator[_Cut]:
    _from_start(stream)
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        where = f"{name}:{number}"
        if len(line) > LONGEST and not line.endswith(b"\n"):
            while (rest := stream.readline(1 << 16)) and not rest.endswith(b"\n"):
                pass
            yield _Cut(where, refused=f"longer than {LONGEST} bytes")
        elif source := line.strip():
            yield _Cut(where, source)


def _document(stream: IO[bytes], name: str) -> Iterator[_Cut]:
    """A file that is one JSON value: a Bundle is streamed, anything else is a resource."""
    is_bundle = _is_bundle(stream)
    _from_start(stream)
    if is_bundle:
        for index, entry in enumerate(cutter := Cutter(stream)):
            yield _of_sort(cutter.sort, _cut_entry(f"{name}:entry {index}", entry))
        return
    source = stream.read(LONGEST + 1)
    if len(source) > LONGEST:
        yield _Cut(name, refused=f"longer than {LONGEST} bytes and not a Bundle")
    elif source := source.strip():
        yield _Cut(name, source)


def _of_sort(sort: object, cut: _Cut) -> _Cut:
    """An entry of a Bundle of some sort. In a history the newest state comes first and would be overwritten."""
    return cut._replace(refused=_HISTORY) if sort == "history" else cut


def _is_bundle(stream: IO[bytes]) -> bool:
    _from_start(stream)
    cutter = Cutter(stream)
    with suppress(Refused, MalformedJson):  # whoever reads it finds the same and says it
        for _ in cutter:
            if cutter.type is not None:
                break
    return cutter.type == BUNDLE


# -- what a client posts ------------------------------------------------------------------------------------------


_HISTORY = "stands in a Bundle of type history, which holds old states; import a searchset or a collection"
_NO_RESOURCE = FieldError("resourceType", "choice", "must be Bundle or the type of a FHIR resource")
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class FhirBundle:
    """A Bundle of any type, or a single resource, as the body of a request.

    Raises `MalformedJson` where it is not JSON, `InvalidFields` where it is something else than a resource.
    """

    def __init__(self, body: bytes) -> None:
        whole = body.removeprefix(_BOM).strip()
        try:
            self._cuts = list(_cut_body(whole))
        except _HalfPair:
            self._cuts = list(_cut_slowly(whole))
        self._size = len(whole)
        self._behind = 0
        self._urls: Urls = {}
        for cut in self._cuts:
            _remember(cut, self._urls)

    def patients(self) -> Iterator[Incoming]:
        """Only the patients."""
        return _patients(self._counted(0))

    def others(self) -> Iterator[Incoming]:
        """Everything else, what cannot be read included."""
        return _others(self._counted(self._size), self._urls)

    def progress(self) -> tuple[int, int]:
        """How many bytes of both readings are behind, of how many."""
        return self._behind, 2 * self._size

    def _counted(self, before: int) -> Iterator[_Cut]:
        for index, cut in enumerate(self._cuts):
            yield cut
            self._behind = max(self._behind, before + self._size * (index + 1) // len(self._cuts))
        self._behind = max(self._behind, before + self._size)


def _cut_body(whole: bytes) -> Iterator[_Cut]:
    """The entries of a Bundle, byte for byte, or the one resource."""
    fields = _raw(whole, _OBJECT, FieldError("", "type", "the body must be an object"))
    kind = decode(bytes(fields.get("resourceType", b"null")))
    if not isinstance(kind, str) or not kind.isalpha():
        raise InvalidFields([_NO_RESOURCE])
    if kind != BUNDLE:
        yield _Cut("resource", whole)
        return
    entries = fields.get("entry", b"null")
    if bytes(entries) == b"null":
        return
    listed = _raw(entries, _LIST, FieldError("entry", "type", "must be a list"))
    sort = decode(bytes(fields.get("type", b"null")))
    for index, entry in enumerate(listed):
        yield _of_sort(sort, _cut_entry(f"entry {index}", entry))


def _raw(source: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], otherwise: FieldError) -> T:
    """The outermost level of a JSON value; what is inside stays as it is."""
    try:
        return decoder.decode(source)
    except msgspec.ValidationError:
        decode(bytes(source))  # it may be no JSON at all, further on
        raise InvalidFields([otherwise]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decode(bytes(source))  # says what is wrong with it
        raise _HalfPair from None  # the one thing that only msgspec minds


class _HalfPair(Exception):
    """Somewhere in a string stands half of a surrogate pair: JSON to the letter, and no text."""


def _cut_slowly(whole: bytes) -> Iterator[_Cut]:
    """As `_cut_body`, where half a pair in one entry must not take the others down. Its bytes are written anew."""
    body = decode(whole)
    kind = body.get("resourceType") if isinstance(body, dict) else None
    if not isinstance(kind, str) or not kind.isalpha():
        raise InvalidFields([_NO_RESOURCE])
    if kind != BUNDLE:
        yield _Cut("resource", whole)
        return
    entries = body.get("entry") or []
    if not isinstance(entries, list):
        raise InvalidFields([FieldError("entry", "type", "must be a list")])
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            resource = msgspec.Raw(json.dumps(entry.get("resource")).encode())
            cut = _cut_out(f"entry {index}", _Entry(entry.get("fullUrl"), resource, entry.get("request")))
            yield _of_sort(body.get("type"), cut)
        else:
            yield _Cut(f"entry {index}", json.dumps(entry).encode(), refused="must be an object")
