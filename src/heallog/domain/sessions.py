"""A session: one login of one account on one device, speaking for one practice; and the tokens that prove it.

A refresh token is used once: each use gives the next one, and the session counts generations. Whoever comes with an
older one shows that it was copied, and the session ends for both. At rest there is only the hash of the current one.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from heallog.domain.access import Plan, Role
from heallog.domain.fields import ID, Field, Fields, Text
from heallog.domain.passwords import Password

ACCESS_TOKEN_LIFE = timedelta(minutes=15)
IDLE_LIFE = timedelta(days=30)
"""How long a device may stay away: as long as a home visit round in the mountains, and no longer."""
SESSION_LIFE = timedelta(days=90)
"""After which even a device that is used every day asks for the password again."""
RETRY_WINDOW = timedelta(seconds=10)
"""How long the same refresh may be asked again, and gets the same answer: the first one may have been lost."""

MOST_SESSIONS = 50
"""Of one account at once. Another one ends the oldest: nobody has so many devices, and a program that logs in anew each
time would fill the list."""

LOGIN: Fields = {
    "email": Field(Text(254), required=True),
    "password": Field(Password(), required=True),
    "device_id": Field(ID, says="The installation of the app, chosen by it. A new one is made where it is missing."),
    "otp": Field(
        Text(64), says="The code of the authenticator app, or a recovery code, where the account asks for it."
    ),
}
REFRESH: Fields = {"refresh_token": Field(Text(512), required=True)}
SWITCH: Fields = {"practice_id": Field(ID, required=True)}


class Ending(StrEnum):
    """Why a session is over."""

    LOGOUT = "logout"
    REVOKED = "revoked"
    PASSWORD = "password"  # noqa: S105 - a reason
    REPLAYED = "replayed"
    MEMBERSHIP = "membership"
    CROWDED = "crowded"


@dataclass(frozen=True, slots=True)
class Session:
    """Times are the server's; `created_at` is when the password was shown.

    `family` is what the tags of its refresh tokens are made with; it opens nothing.
    """

    practice_id: str
    id: str
    account_id: str
    device_id: str
    created_at: datetime
    expires_at: datetime
    refreshed_at: datetime
    generation: int
    token_hash: bytes
    family: bytes
    ended_at: datetime | None = None
    ending: Ending | None = None

    def live(self, now: datetime) -> bool:
        return self.ended_at is None and now < self.expires_at

    def ended(self, ending: Ending, now: datetime) -> "Session":
        """The same session, over. The first end counts."""
        return self if self.ended_at is not None else replace(self, ended_at=now, ending=ending)


@dataclass(frozen=True, slots=True)
class Bearer:
    """What an access token says of who brings it. Role and rights are not in it: they are asked for (`Standing`)."""

    account_id: str
    practice_id: str
    session_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What the holder of a live session is at this moment."""

    account_id: str
    device_id: str
    expires_at: datetime
    role: Role
    plan: Plan
    verified: bool
    emergency_until: datetime | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives: a signed access token, how many seconds it is good for, and what fetches the next."""

    access_token: str = field(repr=False)
    expires_in: int
    refresh_token: str = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - a scheme, not a secret


# -- refresh tokens -----------------------------------------------------------------------------------------------

SECRET_SIZE = 32
TAG_SIZE = 16
_TOKEN = re.compile(r"hlr_([A-Za-z0-9-]{1,64})_([A-Za-z0-9-]{1,64})_([1-9][0-9]{0,8})_([A-Za-z0-9_-]{64})")


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """`hlr_<practice>_<session>_<generation>_<base64url of tag and secret>`.

    The tag says that we made a token of this generation, so that an old one is known for what it is and a made-up one
    ends nobody's session. The secret is what opens.
    """

    practice_id: str
    session_id: str
    generation: int
    tag: bytes
    secret: bytes

    def __str__(self) -> str:
        sealed = urlsafe_b64encode(self.tag + self.secret).decode()
        return f"hlr_{self.practice_id}_{self.session_id}_{self.generation}_{sealed}"

    def __repr__(self) -> str:
        return f"RefreshToken({self.practice_id}, {self.session_id}, {self.generation})"


def parse(text: str) -> RefreshToken | None:
    """A token as it was written, or None where it is none."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    sealed = urlsafe_b64decode(found[4])
    return RefreshToken(found[1], found[2], int(found[3]), sealed[:TAG_SIZE], sealed[TAG_SIZE:])


def opened(
    practice_id: str, session_id: str, account_id: str, device_id: str, now: datetime, chance: bytes
) -> tuple[Session, RefreshToken]:
    """A new session with its first token, out of 64 random bytes."""
    family, secret = chance[:SECRET_SIZE], chance[SECRET_SIZE : 2 * SECRET_SIZE]
    session = Session(
        practice_id, session_id, account_id, device_id, now, now + IDLE_LIFE, now, 1, _hash(secret), family
    )
    return session, _token(session, secret)


class Use(StrEnum):
    """What someone who brings a refresh token is."""

    NEXT = "next"
    RETRY = "retry"
    REPLAY = "replay"
    OVER = "over"
    UNKNOWN = "unknown"


def use(
    session: Session, token: RefreshToken, keys: Iterable[bytes], now: datetime
) -> tuple[Use, Session, RefreshToken | None]:
    """What this use is, the session after it, and the token to answer with.

    The next secret is HMAC-SHA256 of the brought one under a key of the server: a retry finds it again without its
    being kept anywhere. `keys` are the servers' keys, the one in use first; which of them made it shows by its hash.
    """
    secrets = [hmac.digest(key, b"next" + token.secret, "sha256") for key in keys]
    made = next((one for one in secrets if hmac.compare_digest(_hash(one), session.token_hash)), None)
    what = _judged(session, token, made, now)
    if what is Use.RETRY:
        return what, session, _token(session, token.secret if made is None else made)
    if what is Use.NEXT:
        session = replace(
            session,
            generation=session.generation + 1,
            token_hash=_hash(secrets[0]),
            refreshed_at=now,
            expires_at=min(now + IDLE_LIFE, session.created_at + SESSION_LIFE),
        )
        return what, session, _token(session, secrets[0])
    return what, session.ended(Ending.REPLAYED, now) if what is Use.REPLAY else session, None


def _judged(session: Session, token: RefreshToken, made: bytes | None, now: datetime) -> Use:
    """`made` is what comes after the brought secret, where the session's present secret does."""
    ours = hmac.compare_digest(token.tag, _tag(session, token.generation))
    present = hmac.compare_digest(_hash(token.secret), session.token_hash)
    age = session.generation - token.generation
    if not ours or age < 0 or (age == 0 and not present) or (age == 1 and made is None):
        return Use.UNKNOWN
    if not session.live(now):
        return Use.OVER
    young = now - session.refreshed_at <= RETRY_WINDOW
    if age == 0:
        # One that was just given is given again: else the late half of a crowd of requests, which has the token before
        # it, would come with the one before the last.
        return Use.RETRY if young and session.generation > 1 else Use.NEXT
    return Use.RETRY if age == 1 and young else Use.REPLAY


def _token(session: Session, secret: bytes) -> RefreshToken:
    tag = _tag(session, session.generation)
    return RefreshToken(session.practice_id, session.id, session.generation, tag, secret)


def _tag(session: Session, generation: int) -> bytes:
    return hmac.digest(session.family, f"{session.practice_id}/{session.id}/{generation}".encode(), "sha256")[:TAG_SIZE]


def _hash(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
