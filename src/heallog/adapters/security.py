"""Passwords by argon2id, access tokens by signed JWT, and whether an e-mail address is one."""

import asyncio
import secrets
from datetime import datetime
from typing import Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from email_validator import EmailNotValidError, validate_email

from heallog.domain.access import Actor, Role
from heallog.domain.errors import NotAuthenticated, TokenExpired
from heallog.domain.sessions import ACCESS_TOKEN_LIFE, AccessToken

ALGORITHM = "HS256"
ISSUER = "heallog"
AUDIENCE = "heallog-api"
KIND = "access"
LEEWAY = 10
"""Seconds that two servers' clocks may lie apart."""


class Argon2Passwords:
    """argon2id with the library's parameters (RFC 9106, low memory), in a thread: it takes tens of milliseconds."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        right = await asyncio.to_thread(self._verify, password_hash or self._nobody, password)
        return right and password_hash is not None

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


class JwtAccessTokens:
    """The claims are the actor; the signature is HMAC-SHA256 under the installation's key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def issue(self, actor: Actor, now: datetime) -> AccessToken:
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "typ": KIND,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now.timestamp()),
            "exp": int((now + ACCESS_TOKEN_LIFE).timestamp()),
            "sub": actor.account_id,
            "sid": actor.session_id,
            "prc": actor.practice_id,
            "rol": actor.role,
            "dev": actor.device_id,
        }
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM)
        return AccessToken(token, int(ACCESS_TOKEN_LIFE.total_seconds()))

    def read(self, token: str, request_id: str) -> Actor:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "jti", "sub", "aud", "iss"]},
            )
            if claims["typ"] != KIND:
                raise NotAuthenticated("this is not an access token")
            return Actor(claims["sub"], claims["prc"], Role(claims["rol"]), claims["sid"], claims["dev"], request_id)
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the access token has expired; log in again") from None
        except (jwt.InvalidTokenError, KeyError, ValueError):
            raise NotAuthenticated("the access token is not valid") from None


def deliverable(email: str) -> None:
    """Raises ValueError saying what is wrong with an address. Asks no server: registering works offline."""
    try:
        validate_email(email.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
