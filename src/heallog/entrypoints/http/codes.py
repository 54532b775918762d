"""Routes of one-time codes: verify an address, choose a new password without the old one."""

from litestar import post
from litestar.di import NamedDependency

from heallog.application.codes import Codes
from heallog.domain.accounts import FORGOT, RESET, VERIFY, email_key
from heallog.domain.fields import object_schema, read
from heallog.entrypoints.http.auth import ApiRequest
from heallog.entrypoints.http.bodies import json_object
from heallog.entrypoints.http.callers import caller
from heallog.entrypoints.http.limits import Rate, forgiven, guesses_of, limited
from heallog.entrypoints.http.openapi import describes


@post(
    "/v1/auth/verify-email",
    operation_id="verifyEmail",
    summary="Show that the address is mine",
    tags=["accounts"],
    status_code=204,
    **describes(
        body=object_schema(VERIFY),
        example={"code": "4711 0815"},
        codes=("MALFORMED_JSON", "CODE_INVALID", "INVALID_FIELDS"),
    ),
)
async def verify_email(request: ApiRequest, codes: NamedDependency[Codes]) -> None:
    """With the code that was mailed to it."""
    body = read(VERIFY, await json_object(request))
    await codes.verify(request.user, body["code"])


@post(
    "/v1/auth/verify-email/send",
    operation_id="sendVerification",
    summary="Mail another code",
    tags=["accounts"],
    status_code=204,
    **describes(codes=("WRONG_STATE",)),
)
async def send_verification(request: ApiRequest, codes: NamedDependency[Codes]) -> None:
    """The ones before it are worth nothing then. Three within an hour."""
    await codes.resend(request.user)


@post(
    "/v1/auth/password/forgot",
    operation_id="forgotPassword",
    summary="Ask for a code to choose a new password",
    tags=["accounts"],
    status_code=204,
    public=True,
    **describes(
        body=object_schema(FORGOT),
        example={"email": "ada@example.org"},
        codes=("MALFORMED_JSON", "INVALID_FIELDS"),
    ),
)
async def forgot_password(request: ApiRequest, codes: NamedDependency[Codes]) -> None:
    """The answer is the same whether there is such an account or not. Three codes within an hour."""
    body = read(FORGOT, await json_object(request))
    await limited(request, Rate.OTP, email_key(body["email"]))
    await codes.forgot(body["email"], caller(request))


@post(
    "/v1/auth/password/reset",
    operation_id="resetPassword",
    summary="Choose a new password with the code",
    tags=["accounts"],
    status_code=204,
    public=True,
    **describes(
        body=object_schema(RESET),
        example={"email": "ada@example.org", "code": "4711 0815", "password": "ten herons and a brass kettle"},
        codes=("MALFORMED_JSON", "CODE_INVALID", "INVALID_FIELDS"),
    ),
)
async def reset_password(request: ApiRequest, codes: NamedDependency[Codes]) -> None:
    """Every session ends, and a locked account is open again. The second factor stays as it is."""
    body = read(RESET, await json_object(request))
    who = caller(request)
    await codes.reset(body["email"], body["code"], body["password"], who)
    await forgiven(request, Rate.LOGIN, guesses_of(who, body["email"]))


HANDLERS = [verify_email, send_verification, forgot_password, reset_password]
