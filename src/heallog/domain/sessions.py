"""A session: one login of one account on one device, speaking for one practice."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from heallog.domain.fields import ID, Field, Fields, Text
from heallog.domain.passwords import Password

ACCESS_TOKEN_LIFE = timedelta(minutes=15)
SESSION_LIFE = timedelta(days=30)

LOGIN: Fields = {
    "email": Field(Text(254), required=True),
    "password": Field(Password(), required=True),
    "device_id": Field(ID, says="The installation of the app, chosen by it. A new one is made where it is missing."),
}


@dataclass(frozen=True, slots=True)
class Session:
    """Times are the server's."""

    practice_id: str
    id: str
    account_id: str
    device_id: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token and how many seconds it is good for."""

    access_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 - a scheme, not a secret
