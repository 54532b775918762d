"""An account: a person who can log in."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import Errors, Field, Fields, Text, check_fields
from heallog.domain.passwords import FLAWS, LONGEST, SHORTEST, Guesses, Password, flaw

REGISTRATION: Fields = {
    "email": Field(Text(254, shortest=3), required=True),
    "password": Field(
        Password(SHORTEST), required=True, says=f"{SHORTEST} to {LONGEST} characters of any kind, not easy to guess."
    ),
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


def registration(body: Mapping[str, Any], guesses: Guesses, undeliverable: str | None = None) -> dict[str, Any]:
    """The fields of a registration, checked. Raises `InvalidFields` with everything that is wrong.

    Asks `guesses` about the password, which is slow. `undeliverable` says why the e-mail address is none, where that
    is known.
    """
    errors: Errors = []
    checked = check_fields(REGISTRATION, body, errors)
    wrong = {error.field for error in errors}
    if undeliverable and "email" not in wrong:
        errors.append(FieldError("email", "email", undeliverable))
    if "password" not in wrong:
        about = [value for name in ("email", "name", "practice_name") if isinstance(value := checked.get(name), str)]
        if found := flaw(checked["password"], about, guesses):
            errors.append(FieldError("password", found, FLAWS[found]))
    if errors:
        raise InvalidFields(errors)
    return checked
