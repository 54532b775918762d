"""Routes of sync with WatermelonDB: what `synchronize()` of `@nozbe/watermelondb` calls."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from anyio import CancelScope
from anyio.lowlevel import checkpoint
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.response import Response, Stream

from heallog.application.sync.watermelon import Watermelon
from heallog.domain import pushes, watermelon
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import MAX_SAFE_INTEGER
from heallog.domain.health import Door, Mode
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import json_object
from heallog.entrypoints.http.limits import Rate
from heallog.entrypoints.http.openapi import describes
from heallog.entrypoints.http.versions import JSON
from heallog.entrypoints.http.watching import tally

PulledAt = Annotated[
    int,
    QueryParameter(
        ge=0, le=MAX_SAFE_INTEGER, description="`timestamp` of the last answer; 0 or nothing at the first pull."
    ),
]
Device = Annotated[
    str | None, QueryParameter(max_length=64, description="The device that the login named; any other is refused.")
]

_ROW = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}


def _changes(deleted: str) -> dict[str, Any]:
    lists = {
        "created": {"type": "array", "items": _ROW},
        "updated": {"type": "array", "items": _ROW},
        "deleted": {"type": "array", "items": {"type": "string"}, "description": deleted},
    }
    table = {"type": "object", "properties": lists}
    return {"type": "object", "properties": {str(stream): table for stream in watermelon.TABLES}}


_PULLED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "changes": _changes("Empty: what is deleted comes under `updated`, with `deleted_at`."),
        "timestamp": {"type": "integer", "minimum": 1},
    },
    "required": ["changes", "timestamp"],
}
_RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "table": {"type": "string"},
        "id": {"type": ["string", "null"]},
        "status": {"type": "string", "enum": list(pushes.Status)},
        "version": {"type": ["integer", "null"]},
        "flag": {"type": "string", "description": "`unknown_id`: what was sent as a change was created."},
        "conflict_id": {"type": "string"},
        "severity": {"type": "string"},
        "quarantine_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_PUSHED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "experimentalRejectedIds": {"type": "object", "description": "What the client shall send again: nothing."},
        "results": {"type": "array", "items": _RESULT},
    },
    "required": ["experimentalRejectedIds", "results"],
}
_COLUMN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "type": {"type": "string", "enum": ["string", "number", "boolean"]},
        "isOptional": {"type": "boolean"},
        "isIndexed": {"type": "boolean"},
    },
}
_TABLE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "columns": {"type": "array", "items": _COLUMN}},
}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"version": {"type": "integer"}, "tables": {"type": "array", "items": _TABLE}},
    "required": ["version", "tables"],
}


@get(
    "/v1/sync/watermelon",
    operation_id="pullWatermelon",
    summary="What changed since, for WatermelonDB",
    tags=["sync"],
    rate=Rate.SYNC,
    sync=(Door.WATERMELON, Mode.PULL),
    **describes(answer=_PULLED, codes=("RESYNC_REQUIRED", "INVALID_FIELDS")),
)
async def pull(
    request: ApiRequest,
    watermelon_sync: NamedDependency[Watermelon],
    last_pulled_at: PulledAt = 0,
    schema_version: Annotated[
        int, QueryParameter(ge=1, le=MAX_SAFE_INTEGER, description="The client's.")
    ] = watermelon.VERSION,
    migration: Annotated[
        str | None, QueryParameter(max_length=20_000, description="JSON, as the client gives it.")
    ] = None,
    device_id: Device = None,
) -> Response[bytes] | Stream:
    """For `pullChanges`. Everything comes under `updated`: synchronise with `sendCreatedAsUpdated: true`.

    All of it is one moment. What is deleted comes as a row with `deleted_at`, empty of everything else.
    """
    _same_device(request, device_id)
    pulled = await watermelon_sync.pull(request.user, last_pulled_at, schema_version, migration, tally(request))
    if pulled.rest is None:
        return Response(pulled.first, media_type=JSON)
    return Stream(_all(pulled.first, pulled.rest), media_type=JSON)


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Whoever hangs up leaves the rest unfinished: what it holds is given back in peace, and no statement cut off."""
    try:
        part: bytes | None = first
        while part is not None:
            yield part
            with CancelScope(shield=True):
                part = await anext(rest, None)
            await checkpoint()
    finally:
        with CancelScope(shield=True):
            await rest.aclose()


@post(
    "/v1/sync/watermelon",
    operation_id="pushWatermelon",
    summary="What a device did, from WatermelonDB",
    tags=["sync"],
    status_code=200,
    rate=Rate.SYNC,
    sync=(Door.WATERMELON, Mode.PUSH),
    hands_in=True,
    **describes(
        body=_changes("Ids."),
        example={
            "patients": {
                "created": [{"id": "pat-2041", "_status": "created", "_changed": "", "family_name": "Obi"}],
                "updated": [],
                "deleted": [],
            }
        },
        answer=_PUSHED,
        codes=("MALFORMED_JSON", "INVALID_FIELDS"),
    ),
)
async def push(
    request: ApiRequest,
    watermelon_sync: NamedDependency[Watermelon],
    last_pulled_at: PulledAt = 0,
    device_id: Device = None,
) -> dict[str, Any]:
    """For `pushChanges`; the body is its `changes`. Of a row only what `_changed` names is the client's edit.

    It is merged from the version that `base_token` names, or else from the one that the device had before its last
    pull. What cannot be merged becomes a conflict; what can never be done is quarantined, and not asked for again.
    """
    _same_device(request, device_id)
    return await watermelon_sync.push(request.user, last_pulled_at, await json_object(request), tally(request))


@get(
    "/v1/sync/watermelon/schema",
    operation_id="watermelonSchema",
    summary="The tables, for WatermelonDB",
    tags=["sync"],
    **describes(answer=_SCHEMA),
    sync_to_thread=False,
)
def schema(request: ApiRequest) -> dict[str, Any]:  # noqa: ARG001 - asked for, so that who asks is known
    """Ready for `appSchema`, each table for `tableSchema`."""
    return watermelon.schema()


def _same_device(request: ApiRequest, device_id: str | None) -> None:
    if device_id is not None and device_id != request.user.device_id:
        raise InvalidFields([FieldError("device_id", "differs", "differs from the device that the login named")])


HANDLERS = [pull, push, schema]
