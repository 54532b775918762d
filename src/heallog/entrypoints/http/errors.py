"""The one envelope for everything that goes wrong, and the only map from codes to statuses."""

import re
import traceback
from http import HTTPStatus
from typing import Any, Final

import structlog
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Response
from litestar.types import Scope
from uuid_utils import uuid7

from heallog.domain.errors import DomainError, FieldError, InvalidFields

STATUS: Final[dict[str, int]] = {
    "MALFORMED_JSON": 400,
    "INVALID_CURSOR": 400,
    "NOT_AUTHENTICATED": 401,
    "TOKEN_EXPIRED": 401,
    "SESSION_ENDED": 401,
    "MEMBERSHIP_ENDED": 401,
    "INVALID_CREDENTIALS": 401,
    "OTP_REQUIRED": 401,
    "OTP_INVALID": 401,
    "FORBIDDEN": 403,
    "EMAIL_NOT_VERIFIED": 403,
    "PRO_REQUIRED": 403,
    "NOT_FOUND": 404,
    "DELETED": 404,
    "METHOD_NOT_ALLOWED": 405,
    "ALREADY_EXISTS": 409,
    "EMAIL_TAKEN": 409,
    "LAST_OWNER": 409,
    "VERSION_CONFLICT": 409,
    "PUSH_CONFLICT": 409,
    "RECORD_SIGNED": 409,
    "WRONG_STATE": 409,
    "RESYNC_REQUIRED": 410,
    "STALE_VERSION": 412,
    "TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "INVALID_FIELDS": 422,
    "CODE_INVALID": 422,
    "ACCOUNT_LOCKED": 423,
    "VERSION_REQUIRED": 428,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}

HTTP_ONLY: Final = frozenset({"METHOD_NOT_ALLOWED", "TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "INTERNAL"})
"""Codes that only this entrypoint utters."""

_BY_STATUS: Final = {
    400: ("MALFORMED_JSON", "the request could not be read"),
    401: ("NOT_AUTHENTICATED", "log in first"),
    403: ("FORBIDDEN", "this is not permitted"),
    404: ("NOT_FOUND", "there is nothing at this address"),
    405: ("METHOD_NOT_ALLOWED", "this address does not answer to this method"),
    413: ("TOO_LARGE", "the body is too large"),
    415: ("UNSUPPORTED_MEDIA_TYPE", "the body must be application/json"),
}

_MISSING: Final = re.compile(r"Missing required \w+ parameter '([^']+)'")
"""Litestar's words for it; it names the parameter nowhere else."""

_log = structlog.get_logger("heallog.http")


class UnsupportedMediaType(DomainError):
    """The body is declared to be something other than JSON."""

    code = "UNSUPPORTED_MEDIA_TYPE"


def request_id(scope: Scope) -> str:
    """The id of the request, as the outermost layer set it."""
    return str(scope.get("heallog.request_id", ""))


def envelope(
    code: str, message: str, scope: Scope, *, field: str | None = None, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    # For whoever watches: the answer itself is bytes by the time that it passes them.
    scope["heallog.code"] = code  # type: ignore[typeddict-unknown-key]
    return {
        "success": False,
        "error": {"message": message, "code": code, "field": field, "context": context or {}},
        "request_id": request_id(scope),
    }


def answer(error: DomainError, scope: Scope) -> Response[Any]:
    status = STATUS[error.code]
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    if "version" in error.context:
        headers["ETag"] = f'"{error.context["version"]}"'
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    if "retry_after" in error.context:
        headers["Retry-After"] = str(error.context["retry_after"])
    return Response(
        envelope(error.code, error.message, scope, field=error.field, context=error.context),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def on_domain_error(request: Request[Any, Any, Any], error: DomainError) -> Response[Any]:
    return answer(error, request.scope)


def on_validation_error(request: Request[Any, Any, Any], error: ValidationException) -> Response[Any]:
    """Path and query parameters, as Litestar checked them."""
    extra = error.extra if isinstance(error.extra, list) else []
    wrong = [
        # `from_` is how Python has to spell `from`.
        FieldError(str(item.get("key", "")).rstrip("_"), "parameter", str(item.get("message", "")))
        for item in extra
        if isinstance(item, dict)
    ]
    if not wrong:
        missing = _MISSING.match(error.detail)
        wrong = [
            FieldError(missing[1], "required", "is required") if missing else FieldError("", "parameter", error.detail)
        ]
    return answer(InvalidFields(wrong), request.scope)


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Litestar's own refusals: no such route, wrong method, body too large, unreadable."""
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_unexpected(request, error)
    code, message = _BY_STATUS.get(error.status_code, ("MALFORMED_JSON", "the request could not be read"))
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        most = request.route_handler.resolve_request_max_body_size() or 0
        message = f"{message}: at most {most // 2**20} MiB at this address"
    return Response(
        envelope(code, message, request.scope),
        status_code=STATUS[code],
        headers=error.headers or {},
        media_type="application/json",
    )


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A bug or a broken part. The answer carries an id to find it in the log by, and nothing else.

    The error's own text may quote a patient: the log gets its type and where it was raised.
    """
    error_id = str(uuid7())
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log.error(
        "unexpected_error",
        error_id=error_id,
        request_id=request_id(request.scope),
        type=f"{type(error).__module__}.{type(error).__qualname__}",
        where=where[-12:],
    )
    return Response(
        envelope("INTERNAL", "something went wrong here; it was noted", request.scope, context={"error_id": error_id}),
        status_code=500,
        media_type="application/json",
    )


HANDLERS: Final[Any] = {
    DomainError: on_domain_error,
    ValidationException: on_validation_error,
    HTTPException: on_http_error,
    Exception: on_unexpected,
}
