"""An account: a person who can log in, with a password and perhaps a second factor."""

import hashlib
import unicodedata
from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import ID, Errors, Field, Fields, Text, check_fields
from heallog.domain.passwords import FLAWS, LONGEST, SHORTEST, Guesses, Password, flaw

REGISTRATION: Fields = {
    "email": Field(Text(254, shortest=3), required=True),
    "password": Field(
        Password(SHORTEST), required=True, says=f"{SHORTEST} to {LONGEST} characters of any kind, not easy to guess."
    ),
    "name": Field(Text(200, shortest=1), required=True),
    "practice_name": Field(Text(200, shortest=1), required=True),
}
_NEW_PASSWORD = REGISTRATION["password"]
CODE = Field(Text(20), required=True, says="The code of the mail; spaces do not matter.")
FORGOT: Fields = {"email": Field(Text(254), required=True)}
RESET: Fields = {"email": Field(Text(254), required=True), "code": CODE, "password": _NEW_PASSWORD}
OTP = Field(Text(64), says="The account's second factor, where it has one.")
CHANGE_PASSWORD: Fields = {
    "password": Field(Password(), required=True, says="The one in use."),
    "new_password": _NEW_PASSWORD,
    "otp": OTP,
}
VERIFY: Fields = {"code": CODE}
ACCEPT: Fields = {
    "email": Field(Text(254), required=True),
    "code": Field(Text(100), required=True, says="The code of the invitation."),
    "password": Field(Password(), required=True, says="The account's password; a new one, where there is no account."),
    "otp": OTP,
    "name": Field(Text(200, shortest=1), says="Needed where there is no account with this address yet."),
    "device_id": Field(ID, says="The installation of the app, chosen by it."),
}
RENAME: Fields = {"name": Field(Text(200, shortest=1), required=True)}
PROVE: Fields = {"password": Field(Password(), required=True, says="The account's password, once more.")}
CONFIRM: Fields = {"otp": Field(Text(64), required=True, says="The code that the authenticator app shows.")}
REMOVE: Fields = {**PROVE, "otp": Field(Text(64), required=True, says="The app's code, or a recovery code.")}


@dataclass(frozen=True, slots=True)
class Account:
    """A person who can log in. `email` is as written; `email_key` is what must be unique.

    `totp` is the sealed secret of the authenticator app. It asks for nothing until it is confirmed; `totp_step` is the
    last step (of 30 s) whose code was used. `recovery` are the digests of the recovery codes that are left.
    """

    id: str
    email: str
    email_key: str
    name: str
    password_hash: str = field(repr=False)
    created_at: datetime
    verified_at: datetime | None = None
    totp: bytes | None = field(default=None, repr=False)
    totp_confirmed_at: datetime | None = None
    totp_step: int = 0
    recovery: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def second_factor(self) -> bool:
        """Whether a login asks for more than the password."""
        return self.totp_confirmed_at is not None


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


def check_password(password: str, about: Iterable[str], guesses: Guesses, field: str = "password") -> None:
    """Raises `InvalidFields` for a password that is no good one. Slow."""
    errors: Errors = []
    Password(SHORTEST).check(password, field, errors)
    if not errors and (found := flaw(password, about, guesses)):
        errors.append(FieldError(field, found, FLAWS[found]))
    if errors:
        raise InvalidFields(errors)


# -- recovery codes -----------------------------------------------------------------------------------------------

RECOVERY_CODES = 10
RECOVERY_SIZE = 15
"""Random bytes of each: 120 bits, too many to try even where the digests are known, so a plain hash keeps them."""


def recovery_codes(chance: bytes) -> tuple[str, ...]:
    """The codes out of `RECOVERY_CODES * RECOVERY_SIZE` random bytes, as they are shown once: `ABCDEF-…` (4 x 6)."""
    texts = [
        b32encode(chance[at : at + RECOVERY_SIZE]).decode()
        for at in range(0, RECOVERY_CODES * RECOVERY_SIZE, RECOVERY_SIZE)
    ]
    return tuple("-".join(text[at : at + 6] for at in range(0, 24, 6)) for text in texts)


def recovery_digest(code: str) -> bytes:
    """What is kept of a code, however it is typed."""
    return hashlib.sha256("".join(filter(str.isalnum, code)).upper().encode()).digest()


def recovered(account: Account, code: str) -> Account | None:
    """The account after one of its recovery codes was used, or None where it is none of them."""
    used = recovery_digest(code)
    if used not in account.recovery:
        return None
    return replace(account, recovery=tuple(digest for digest in account.recovery if digest != used))
