"""How heads, versions and differences look on the wire. Contents travel as the bytes that were hashed."""

import json
from collections.abc import Sequence
from typing import Any

from litestar.connection import Request
from litestar.response import Response

from heallog.domain.canon import moment
from heallog.domain.versions import Difference, Head, Version, document

JSON = "application/json"


def answer(head: Head, *, created: str | None = None) -> Response[bytes]:
    """One thing with its ETag; `created` is its address where it is new."""
    headers = {"ETag": f'"{head.version}"'}
    if created is not None:
        headers["Location"] = created
    return Response(document(head), status_code=201 if created else 200, headers=headers, media_type=JSON)


def answer_if_changed(request: Request[Any, Any, Any], head: Head) -> Response[bytes]:
    """One thing, or 304 where the caller has this version. An open conflict is shown even to those who have it."""
    etag = f'"{head.version}"'
    known = request.headers.get("if-none-match")
    if (
        known is not None
        and head.conflict_id is None
        and etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
    ):
        return Response(b"", status_code=304, headers={"ETag": etag})
    return Response(document(head), status_code=200, headers={"ETag": etag}, media_type=JSON)


def gone(head: Head) -> Response[None]:
    """A deletion: nothing but the version that it made, which restoring asks for."""
    return Response(None, status_code=204, headers={"ETag": f'"{head.version}"'})


def page(heads: Sequence[Head], limit: int) -> Response[bytes]:
    """A list of things that was asked for with one more than `limit`."""
    shown = heads[:limit]
    cursor = f'"{shown[-1].id}"' if len(heads) > limit else "null"
    items = b",".join(map(document, shown))
    return Response(b'{"items":[' + items + f'],"next_cursor":{cursor}}}'.encode(), media_type=JSON)


def version_document(version: Version, *, full: bool) -> bytes:
    """A version as one JSON object; `full` adds the foreign resource that it was imported from."""
    known: dict[str, Any] = {
        "version": version.number,
        "parent": version.parent,
        "inputs": list(version.inputs),
        "branch": version.branch,
        "change": version.change,
        "author_id": version.author_id,
        "device_id": version.device_id,
        "received_at": moment(version.received_at),
        "client_time": moment(version.client_time) if version.client_time else None,
        "reason": version.reason,
        "contribution_id": version.contribution_id,
        "hash": version.hash.hex(),
    }
    parts = json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    parts += b',"content":' + (version.content or b"null")
    if full:
        parts += b',"source":' + (version.source or b"null")
    return parts + b"}"


def history(versions: Sequence[Version], limit: int) -> Response[bytes]:
    """Versions, the newest first; the cursor is the number of the last one shown."""
    shown = versions[:limit]
    cursor = f'"{shown[-1].number}"' if len(versions) > limit else "null"
    items = b",".join(version_document(version, full=False) for version in shown)
    return Response(b'{"items":[' + items + f'],"next_cursor":{cursor}}}'.encode(), media_type=JSON)


def one_version(version: Version) -> Response[bytes]:
    # A version never changes: whoever has it has it for good.
    headers = {"ETag": f'"{version.number}"', "Cache-Control": "private, immutable, max-age=31536000"}
    return Response(version_document(version, full=True), headers=headers, media_type=JSON)


def differences(one: int, other: int, found: Sequence[Difference]) -> dict[str, Any]:
    return {
        "from": one,
        "to": other,
        "fields": [{"field": item.field, "before": item.before, "after": item.after} for item in found],
    }


_STRING: dict[str, Any] = {"type": "string"}
_INTEGER: dict[str, Any] = {"type": "integer"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}

IDENTITY: dict[str, Any] = {
    "id": _STRING,
    "version": _INTEGER,
    "created_at": _TIME,
    "updated_at": _TIME,
    "updated_by": _STRING,
    "conflict_id": {"type": "string", "description": "The open conflict about it; absent where there is none."},
    "merged_from": {
        "type": "array",
        "items": _INTEGER,
        "description": "In the answer to a change that was merged: the versions it was merged from.",
    },
}
VERSION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "version": _INTEGER,
        "parent": {"type": ["integer", "null"]},
        "inputs": {"type": "array", "items": _INTEGER, "description": "The versions that a merge was made from."},
        "branch": {"type": "boolean", "description": "Kept beside the trunk: it never was the head."},
        "change": _STRING,
        "author_id": _STRING,
        "device_id": _STRING,
        "received_at": _TIME,
        "client_time": {"type": ["string", "null"]},
        "reason": {"type": ["string", "null"]},
        "contribution_id": _STRING,
        "hash": _STRING,
        "content": {"type": ["object", "null"]},
        "source": {"type": ["object", "null"], "description": "The resource it was imported from; not in lists."},
    },
}
DIFFERENCES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "from": _INTEGER,
        "to": _INTEGER,
        "fields": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": _STRING, "before": {}, "after": {}}},
        },
    },
}


def listed(item: dict[str, Any]) -> dict[str, Any]:
    """The schema of a page of something."""
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": item}, "next_cursor": {"type": ["string", "null"]}},
        "required": ["items", "next_cursor"],
    }
