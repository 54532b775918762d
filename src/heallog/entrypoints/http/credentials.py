"""Routes of the second factor."""

from typing import Any

from litestar import delete, post
from litestar.di import NamedDependency

from heallog.application.credentials import Credentials
from heallog.domain.accounts import CONFIRM, PROVE, REMOVE
from heallog.domain.fields import object_schema, read
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import json_object
from heallog.entrypoints.http.callers import caller
from heallog.entrypoints.http.openapi import describes

_PASSWORD = "nine lanterns over the ford"  # noqa: S105 - an example
_PROVING = ("MALFORMED_JSON", "INVALID_CREDENTIALS", "ACCOUNT_LOCKED", "WRONG_STATE", "INVALID_FIELDS")
_STRING = {"type": "string"}
_ENROLMENT: dict[str, Any] = {
    "type": "object",
    "properties": {"secret": _STRING, "uri": {**_STRING, "description": "What a QR code for the app holds."}},
    "required": ["secret", "uri"],
}
_RECOVERY: dict[str, Any] = {
    "type": "object",
    "properties": {"recovery_codes": {"type": "array", "items": _STRING, "description": "Each is good once."}},
    "required": ["recovery_codes"],
}


@post(
    "/v1/auth/totp",
    operation_id="enrolTotp",
    summary="Begin with an authenticator app",
    tags=["accounts"],
    **describes(
        body=object_schema(PROVE),
        example={"password": _PASSWORD},
        answer=_ENROLMENT,
        codes=(*_PROVING, "OTP_REQUIRED", "OTP_INVALID"),
    ),
)
async def enrol_totp(request: ApiRequest, credentials: NamedDependency[Credentials]) -> dict[str, Any]:
    """A secret for the app, shown once. It asks for nothing until it is confirmed."""
    body = read(PROVE, await json_object(request))
    enrolment = await credentials.enrol(request.user, body["password"], caller(request))
    return {"secret": enrolment.secret, "uri": enrolment.uri}


@post(
    "/v1/auth/totp/confirm",
    operation_id="confirmTotp",
    summary="Ask for the app's code from now on",
    tags=["accounts"],
    status_code=200,
    **describes(
        body=object_schema(CONFIRM),
        example={"otp": "123 456"},
        answer=_RECOVERY,
        codes=("MALFORMED_JSON", "OTP_INVALID", "WRONG_STATE", "INVALID_FIELDS"),
    ),
)
async def confirm_totp(request: ApiRequest, credentials: NamedDependency[Credentials]) -> dict[str, Any]:
    """With the code that the app shows. The recovery codes are shown here and never again: write them down."""
    body = read(CONFIRM, await json_object(request))
    return {"recovery_codes": await credentials.activate(request.user, body["otp"])}


@delete(
    "/v1/auth/totp",
    operation_id="removeTotp",
    summary="Ask for the password alone again",
    tags=["accounts"],
    **describes(
        body=object_schema(REMOVE),
        example={"password": _PASSWORD, "otp": "123 456"},
        codes=(*_PROVING, "OTP_REQUIRED", "OTP_INVALID"),
    ),
)
async def remove_totp(request: ApiRequest, credentials: NamedDependency[Credentials]) -> None:
    """Takes the password, and the app's code or a recovery code."""
    body = read(REMOVE, await json_object(request))
    await credentials.deactivate(request.user, body["password"], body["otp"], caller(request))


HANDLERS = [enrol_totp, confirm_totp, remove_totp]
