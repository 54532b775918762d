"""Routes of sync: what devices pull."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Response

from heallog.application.sync.pull import Sync
from heallog.application.sync.push import Pushes
from heallog.application.sync.quarantine import Quarantine
from heallog.domain import pushes as domain
from heallog.domain.canon import moment
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import object_schema, printable, read
from heallog.domain.health import Door, Mode
from heallog.domain.sync import Stream
from heallog.entrypoints.http import versions as wire
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import Cursor, Id, Limit, json_object
from heallog.entrypoints.http.limits import Rate
from heallog.entrypoints.http.openapi import describes
from heallog.entrypoints.http.versions import JSON
from heallog.entrypoints.http.watching import tally

_CHANGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "collection": {"type": "string", "enum": list(Stream)},
        "id": {"type": "string"},
        "version": {"type": "integer"},
        "op": {"type": "string", "enum": ["put", "delete"]},
        "data": {
            "type": "object",
            "description": "The thing as its own address shows it; of a deletion the bare facts.",
        },
    },
    "required": ["collection", "id", "version", "op", "data"],
}
_PULLED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "changes": {"type": "array", "items": _CHANGE},
        "cursor": {
            "type": ["string", "null"],
            "description": "Where to go on: at once while `has_more`, else at the next pull. Null with `skip`.",
        },
        "cursor_at_end": {
            "type": "string",
            "description": "With `skip=0`: the cursor of the next pull, once every page has been read.",
        },
        "has_more": {"type": "boolean"},
        "head": {"type": "integer"},
        "epoch": {"type": "string"},
    },
    "required": ["changes", "cursor", "has_more", "head", "epoch"],
}

MOST_SKIPPED = 1_000_000
DEPRECATED = datetime(2026, 11, 21, tzinfo=UTC)
SUNSET = datetime(2027, 12, 31, tzinfo=UTC)
_LEAVING = {
    "Deprecation": f"@{DEPRECATED.timestamp():.0f}",
    "Sunset": format_datetime(SUNSET, usegmt=True),
    "Link": '</schema#/sync/pull>; rel="deprecation"; type="text/html"',
}
"""What answers to `skip` say of it (RFC 9745, RFC 8594)."""


@get(
    "/v1/sync/pull",
    operation_id="pull",
    summary="What changed since",
    tags=["sync"],
    rate=Rate.SYNC,
    sync=(Door.NATIVE, Mode.PULL),
    **describes(answer=_PULLED, codes=("INVALID_CURSOR", "RESYNC_REQUIRED", "INVALID_FIELDS"), deprecated=("skip",)),
)
async def pull(
    request: ApiRequest,
    sync: NamedDependency[Sync],
    cursor: Annotated[str | None, QueryParameter(max_length=4_000, description="`cursor` of the last answer.")] = None,
    limit: Annotated[int | None, QueryParameter(description="How many changes at most.")] = None,
    collections: Annotated[str | None, QueryParameter(max_length=200, description="Names with commas; all.")] = None,
    skip: Annotated[
        int | None,
        QueryParameter(
            ge=0, le=MOST_SKIPPED, description="Instead of a cursor, for old clients: changes to leave out."
        ),
    ] = None,
) -> Response[bytes]:
    """Patients, records and conflicts that changed since the cursor, each once and as it is now; without one, all.

    While `has_more`, ask again with the answer's cursor: all answers together are one moment. Keep the last cursor.

    `skip` is how pages were turned before there were cursors. It gives all there is, in another order, and is slow; a
    change may come twice. `cursor_at_end` of the page with `skip=0` is the cursor for what changed meanwhile, and for
    all pulls after it. `skip` will go: answers to it say when, in `Sunset`.
    """
    streams = _streams(collections)
    if skip is None:
        pulled, headers = await sync.pull(request.user, cursor, streams, limit, tally(request)), {}
    elif cursor is not None:
        raise InvalidFields([FieldError("skip", "conflict", "goes with no cursor: a cursor knows where it is")])
    else:
        pulled, headers = await sync.skipped(request.user, skip, streams, limit, tally(request)), _LEAVING
    more = "true" if pulled.more else "false"
    told = "null" if pulled.cursor is None else f'"{pulled.cursor}"'
    then = "" if pulled.then is None else f',"cursor_at_end":"{pulled.then}"'
    tail = f'],"cursor":{told},"has_more":{more},"head":{pulled.head},"epoch":"{pulled.epoch}"{then}}}'
    # One copy of all of it, and no more.
    pieces = [*pulled.changes] or [b""]
    pieces[0] = b'{"changes":[' + pieces[0]
    pieces[-1] += tail.encode()
    return Response(b",".join(pieces), headers=headers, media_type=JSON)


def _streams(collections: str | None) -> tuple[Stream, ...]:
    """Those that are named, in their own order; all where nothing is said."""
    if collections is None:
        return tuple(Stream)
    named = set(collections.split(","))
    if unknown := named - set(Stream):
        known = ", ".join(Stream)
        raise InvalidFields([FieldError("collections", "choice", f"{len(unknown)} of them are none of {known}")])
    return tuple(stream for stream in Stream if stream in named)


_OPERATION = object_schema(domain.OPERATION)
_OPERATION["properties"]["fields"] = {"type": "object", "description": "As at the thing's own address."}
_GROUP = {"type": "object", "properties": {"operations": {"type": "array", "items": _OPERATION}}}
_PUSH = object_schema(domain.PUSH)
_PUSH["properties"]["contributions"] = {"type": "array", "items": _GROUP}
_PUSH["required"] = [*_PUSH["required"], "contributions"]
_RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "description": "Of the operation, over all contributions."},
        "status": {"type": "string", "enum": list(domain.Status)},
        "collection": {"type": "string"},
        "id": {"type": "string"},
        "version": {"type": ["integer", "null"]},
        "conflict_id": {"type": "string"},
        "severity": {"type": "string"},
        "quarantine_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_PUSHED: dict[str, Any] = {
    "type": "object",
    "properties": {"push_id": {"type": "string"}, "results": {"type": "array", "items": _RESULT}},
    "required": ["push_id", "results"],
}


@post(
    "/v1/sync/push",
    operation_id="push",
    summary="What a device did without a network",
    tags=["sync"],
    status_code=200,
    rate=Rate.SYNC,
    sync=(Door.NATIVE, Mode.PUSH),
    hands_in=True,
    **describes(
        body=_PUSH,
        example={
            "push_id": "9b2f6c1e",
            "contributions": [
                {
                    "operations": [
                        {
                            "op": "create",
                            "collection": "patients",
                            "id": "pat-2041",
                            "fields": {"family_name": "Obi", "given_name": "Ngozi"},
                        }
                    ]
                }
            ],
        },
        answer=_PUSHED,
        codes=("MALFORMED_JSON", "PUSH_CONFLICT", "INVALID_FIELDS"),
    ),
)
async def push(request: ApiRequest, pushes: NamedDependency[Pushes]) -> Response[bytes]:
    """Each operation is done as it would be alone; what comes late is merged, what cannot be merged is a conflict.

    A contribution is done as a whole or not at all: what can never be done is quarantined with what belongs to it, and
    the rest goes on. Sent again with its `push_id`, a push gets its first answer.
    """
    body = domain.read(await json_object(request), pushes.most)
    pushed = await pushes.push(request.user, body, tally=tally(request))
    return Response(pushed, media_type=JSON)


_ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "push_id": {"type": "string"},
        "account_id": {"type": "string"},
        "device_id": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "operation": {"description": "As it was sent."},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


@get(
    "/v1/sync/quarantine",
    operation_id="listQuarantine",
    summary="What could not be done",
    tags=["sync"],
    **describes(answer=wire.listed(_ITEM)),
)
async def list_quarantine(
    request: ApiRequest, quarantine: NamedDependency[Quarantine], limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """Operations of pushes that wait for a person, as they were sent, newest first."""
    found = await quarantine.page(request.user, cursor, limit + 1)
    shown = found[:limit]
    items = [
        {
            "id": one.id,
            "push_id": one.push_id,
            "account_id": one.account_id,
            "device_id": one.device_id,
            "at": moment(one.at),
            "operation": one.operation,
            "errors": list(one.errors),
        }
        for one in shown
    ]
    return {"items": items, "next_cursor": shown[-1].id if len(found) > limit else None}


@post(
    "/v1/sync/quarantine/{quarantine_id:str}/release",
    operation_id="releaseQuarantined",
    summary="Do it after all",
    tags=["sync"],
    status_code=200,
    **describes(
        body={"type": "object", "properties": {"operation": {**_OPERATION, "description": "Put right; else as sent."}}},
        example={},
        answer=_PUSHED,
        codes=("MALFORMED_JSON", "NOT_FOUND", "INVALID_FIELDS"),
    ),
)
async def release_quarantined(
    request: ApiRequest, quarantine: NamedDependency[Quarantine], quarantine_id: Id
) -> Response[bytes]:
    """As it was sent, or as it is put right in the body. What still cannot be done is quarantined anew."""
    body = await json_object(request)
    if unknown := body.keys() - {"operation"}:
        raise InvalidFields([FieldError(printable(name), "unknown", "is not known here") for name in sorted(unknown)])
    return Response(await quarantine.release(request.user, quarantine_id, body.get("operation")), media_type=JSON)


@post(
    "/v1/sync/quarantine/{quarantine_id:str}/discard",
    operation_id="discardQuarantined",
    summary="Let it go",
    tags=["sync"],
    status_code=204,
    **describes(
        body=object_schema(domain.DISCARDING),
        example={"reason": "entered by hand meanwhile"},
        codes=("MALFORMED_JSON", "NOT_FOUND", "INVALID_FIELDS"),
    ),
)
async def discard_quarantined(request: ApiRequest, quarantine: NamedDependency[Quarantine], quarantine_id: Id) -> None:
    """It was a mistake, or was done by hand. It is listed no more; the database keeps it."""
    body = read(domain.DISCARDING, await json_object(request))
    await quarantine.discard(request.user, quarantine_id, body["reason"])


HANDLERS = [pull, list_quarantine, release_quarantined, discard_quarantined]
