"""Access tokens: signed JWTs. Here they are written, and here alone they are read; what comes out is a `Bearer`."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal

import jwt
import msgspec

from heallog.application.ports.world import Clock
from heallog.domain.errors import NotAuthenticated, TokenExpired
from heallog.domain.sessions import ACCESS_TOKEN_LIFE, Bearer, Session

ALGORITHM = "HS256"
TYPE = "at+jwt"
ISSUER = "heallog"
AUDIENCE = "heallog-api"
LIFE = int(ACCESS_TOKEN_LIFE.total_seconds())
LEEWAY = 10
"""Seconds that two servers' clocks may lie apart."""
LONGEST = 2048
"""Characters of a token. Ours have about 550; nothing longer is looked at."""
KNOWN = 4096
"""Tokens whose claims are remembered, some 2 MiB."""

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Claims(msgspec.Struct, frozen=True):
    iss: Literal["heallog"]
    aud: Literal["heallog-api"]
    jti: _Text
    iat: int
    exp: int
    sub: _Text
    sid: _Text
    prc: _Text
    dev: _Text
    nbf: int = 0


_CLAIMS = msgspec.json.Decoder(_Claims)
_SIGNED = jwt.PyJWS(algorithms=[ALGORITHM])


def derived(secret: str, label: str) -> bytes:
    """A key for one thing alone: nobody who learns one of them learns the secret, or another."""
    return hmac.digest(secret.encode(), f"heallog {label}".encode(), "sha256")


def signing_key(secret: str) -> bytes:
    """The key of access tokens."""
    return derived(secret, "access token")


def key_id(key: bytes) -> str:
    """What a token calls the key that it is signed with. Tells nothing about the key, and cannot disagree with it."""
    digest = hashlib.sha256(b"heallog access token key id\0" + key).digest()
    return urlsafe_b64encode(digest[:8]).rstrip(b"=").decode()


class JwtAccessTokens:
    """The claims say whose session it is, and nothing of rights: those are asked for at each request.

    The first secret signs; tokens of the others are still read, while keys change."""

    def __init__(self, secret_keys: Sequence[str], clock: Clock) -> None:
        keys = [signing_key(secret) for secret in secret_keys]
        self._key = keys[0]
        self._keys = {_signed({}, key).partition(".")[0]: key for key in keys}
        self._clock = clock
        # What a token says never changes; whether it still holds is asked each time. A good one is verified once.
        self._claims = lru_cache(KNOWN)(self._verified)

    def issue(self, session: Session, at: datetime) -> tuple[str, int]:
        issued = int(at.timestamp())
        life = min(LIFE, int(session.expires_at.timestamp()) - issued)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            # One token per generation of a session: the answer to a repeated refresh is the same to the byte.
            "jti": f"{session.id}.{session.generation}",
            "iat": issued,
            "exp": issued + life,
            "sub": session.account_id,
            "sid": session.id,
            "prc": session.practice_id,
            "dev": session.device_id,
        }
        return _signed(claims, self._key), life

    def read(self, token: str, since: datetime | None = None) -> Bearer:
        claims = self._claims(token)
        now = self._clock().timestamp()
        if max(claims.iat, claims.nbf) > now + LEEWAY or not 0 < claims.exp - claims.iat <= LIFE:
            raise _invalid()
        if claims.exp <= now - LEEWAY and (since is None or claims.iat <= since.timestamp()):
            raise TokenExpired("the access token has expired; refresh it, or log in again")
        return Bearer(claims.sub, claims.prc, claims.sid, claims.dev)

    def _verified(self, token: str) -> _Claims:
        """What was signed. A header is compared, never interpreted: it is one that we write, to the byte, or none."""
        key = self._keys.get(token.partition(".")[0]) if len(token) <= LONGEST else None
        if key is None or "=" in token:
            raise _invalid()
        try:
            return _CLAIMS.decode(_SIGNED.decode(token, key, [ALGORITHM]))
        except (jwt.InvalidTokenError, ValueError):
            raise _invalid() from None


def _signed(claims: dict[str, object], key: bytes) -> str:
    return jwt.encode(claims, key, ALGORITHM, headers={"typ": TYPE, "kid": key_id(key)})


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("the access token is not valid")
