"""Request bodies: JSON objects, split into what is said about a change and the change itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from litestar.connection import Request
from litestar.params import PathParameter, QueryParameter

from heallog.application.versions import Why
from heallog.domain import patients, records
from heallog.domain.canon import decode
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import ID, Errors, Field, Fields, Moment, Number, Text, check_fields
from heallog.domain.records import started_at
from heallog.domain.versions import Seen
from heallog.entrypoints.http.errors import UnsupportedMediaType

LARGEST_VERSION = 2**31 - 1

Id = Annotated[
    str, PathParameter(pattern=r"^[A-Za-z0-9.-]{1,64}(?!\n)$", description="1 to 64 of letters, digits, '.', '-'")
]
VersionNumber = Annotated[int, PathParameter(ge=1, le=LARGEST_VERSION)]
Before = Annotated[
    int | None, QueryParameter(ge=1, le=LARGEST_VERSION, description="`next_cursor` of the page before.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[
    str | None, QueryParameter(pattern=r"^[A-Za-z0-9.-]{1,64}(?!\n)$", description="`next_cursor` of the page before.")
]
Word = Annotated[str | None, QueryParameter(max_length=200, pattern=r"^[^\x00-\x1f]*(?!\n)$")]

CREATING: Fields = {
    "id": Field(ID, says="The client's own id; made here where it is missing. Sending the same again is safe."),
    "client_time": Field(Moment(exact=True), says="The device's clock. Kept, never trusted."),
    "reason": Field(Text(2_000, lines=True)),
}
CHANGING: Fields = {
    "base_version": Field(
        Number(least=1, most=LARGEST_VERSION, whole=True), says="The version you saw, where If-Match is not sent."
    ),
    "client_time": Field(Moment(exact=True), says="The device's clock. Kept, never trusted."),
    "reason": Field(Text(2_000, lines=True)),
}
REVERTING: Fields = {**CHANGING, "to": Field(Number(least=1, most=LARGEST_VERSION, whole=True), required=True)}

if taken := (CREATING.keys() | REVERTING.keys()) & (records.ANY.keys() | patients.FIELDS.keys()):
    raise RuntimeError(f"what is said about a change and a field of the content share a name: {taken}")


async def json_object(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The body as an object; nothing at all is an empty one. Raises what is wrong with it."""
    raw = await request.body()
    if not raw:
        return {}
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json" and not (declared.startswith("application/") and declared.endswith("+json")):
        raise UnsupportedMediaType("the body must be application/json")
    body = decode(raw)
    if not isinstance(body, dict):
        raise InvalidFields([FieldError("", "type", "the body must be an object")])
    return body


def split(body: Mapping[str, Any], meta: Fields, fields: Fields | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is said about a change, checked; and the rest, unchecked. All errors of both are raised together."""
    errors: Errors = []
    said = check_fields(meta, {name: value for name, value in body.items() if name in meta}, errors)
    rest = {name: value for name, value in body.items() if name not in meta}
    if errors:
        if fields is not None:
            check_fields(fields, rest, errors)
        raise InvalidFields(errors)
    return said, rest


def only(body: Mapping[str, Any], meta: Fields, *, raw: str | None = None) -> dict[str, Any]:
    """A body in which nothing but `meta` may stand. The field `raw` is given as it came: `null` has a meaning in it."""
    errors: Errors = []
    said = check_fields(meta, body, errors)
    if errors:
        raise InvalidFields(errors)
    return said | ({raw: body[raw]} if raw else {})


def why(said: Mapping[str, Any]) -> Why:
    client_time = said.get("client_time")
    return Why(said.get("reason"), None if client_time is None else datetime.fromisoformat(client_time))


def seen(request: Request[Any, Any, Any], said: Mapping[str, Any]) -> Seen:
    """The version that the caller saw: `If-Match: "7"` (strict) or `base_version`. Raises where the two disagree."""
    base = said.get("base_version")
    header = request.headers.get("if-match")
    if header is None:
        return Seen(base)
    digits = header.strip().removeprefix('"').removesuffix('"')
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:12]) <= LARGEST_VERSION and len(digits) <= 10):
        raise InvalidFields([FieldError("If-Match", "version", 'must be one version, such as "7"')])
    if base is not None and base != int(digits):
        raise InvalidFields([FieldError("base_version", "version", "differs from If-Match")])
    return Seen(int(digits), strict=True)


def instant(name: str, value: str | None, errors: Errors) -> datetime | None:
    """A time in the query: exact, or a date that stands for its first instant. What is wrong is added to `errors`."""
    if value is None:
        return None
    wrong: Errors = []
    # A '+' in an address that was not escaped arrives as a space.
    checked = Moment().check(value.replace(" ", "+"), name, wrong)
    errors += wrong
    return None if wrong else started_at(checked)
