"""An account: a person who can log in."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import Errors, Field, Fields, Text, check_fields

PASSWORD = Text(128)
SHORTEST_PASSWORD = 12

REGISTRATION: Fields = {
    "email": Field(Text(254, shortest=3), required=True),
    "password": Field(PASSWORD, required=True, says="12 to 128 characters."),
    "name": Field(Text(200, shortest=1), required=True),
    "practice_name": Field(Text(200, shortest=1), required=True),
}


@dataclass(frozen=True, slots=True)
class Account:
    """A person who can log in. `email` is as written; `email_key` is what must be unique."""

    id: str
    email: str
    email_key: str
    name: str
    password_hash: str = field(repr=False)
    created_at: datetime


def email_key(email: str) -> str:
    """Addresses that differ only in case are one account."""
    return unicodedata.normalize("NFC", email).strip().casefold()


def registration(body: Mapping[str, Any], undeliverable: str | None = None) -> dict[str, Any]:
    """The fields of a registration, checked. Raises `InvalidFields` with everything that is wrong.

    `undeliverable` says why the e-mail address is none, where that is known.
    """
    errors: Errors = []
    checked = check_fields(REGISTRATION, body, errors)
    if undeliverable and not any(error.field == "email" for error in errors):
        errors.append(FieldError("email", "email", undeliverable))
    password = body.get("password")
    if isinstance(password, str) and len(password) < SHORTEST_PASSWORD:
        message = f"must have at least {SHORTEST_PASSWORD} characters; a few unrelated words work well"
        errors.append(FieldError("password", "too_short", message))
    elif isinstance(password, str) and email_key(password) == email_key(str(body.get("email"))):
        errors.append(FieldError("password", "guessable", "must not be the e-mail address"))
    if errors:
        raise InvalidFields(errors)
    return checked
