"""Settings: read once from the environment (prefix `HEALLOG_`) or `.env`, frozen."""

import os
import re
import secrets
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

CONSOLE = "console"
"""Instead of a mail server: letters are printed, with the codes in them."""

SHORTEST_KEY = 32
FEWEST_CHARACTERS = 10
"""Different ones that a key must be made of. Of ten thousand random keys of 32 hexadecimal digits, one has fewer."""
MAKE_ONE = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"

PUBLISHED = frozenset({"3wY0m1vRz8cJtQ5eK7uN2xB4aF6hL9pS", "a key of somebody else, as long as ours is"})
"""Keys that stand, or stood, in this project's pages and tests: everyone has them."""
_PLACEHOLDER = re.compile(r"change.?me|your.?(secret|key)|example|insecure|placeholder|secret.?key", re.IGNORECASE)


class ConfigurationError(Exception):
    """A setting that cannot be used, and what to do about it."""


class Settings(BaseSettings):
    """Every setting, with its default. `.env.template` explains each."""

    model_config = SettingsConfigDict(
        env_prefix="HEALLOG_",
        env_file=".env",
        env_file_encoding="utf-8",
        # A variable that is there and empty is not set: so it stands in templates.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    environment: Literal["local", "production"] = "local"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    data_dir: Path = Path(".heallog")
    database_url: str | None = None
    database_connections: int = Field(default=10, ge=1, le=500)
    secret_key: str | None = Field(default=None, repr=False)
    old_secret_key: str | None = Field(default=None, repr=False)
    redis_url: str | None = Field(default=None, repr=False)
    proxies: int = Field(default=0, ge=0, le=10)
    mail_url: str | None = Field(default=None, repr=False)
    mail_from: str = ""
    require_verified_email: bool | None = None
    login_tries: int = Field(default=5, ge=1, le=100)
    login_tries_per_address: int = Field(default=50, ge=1)
    argon2_passes: int = Field(default=3, ge=1, le=100)
    argon2_mebibytes: int = Field(default=64, ge=8, le=4096)
    argon2_lanes: int = Field(default=4, ge=1, le=64)
    rate_limits: bool = True
    rate_api: str = "100/minute"
    rate_bulk: str = "10/minute"
    rate_sync: str = "300/minute"
    rate_public: str = "300/minute"
    rate_login: str = "5/15 minutes"
    rate_otp: str = "3/hour"
    max_sync_records: int = Field(default=5_000, ge=1, le=50_000)
    sync_batch_size: int = Field(default=500, ge=1, le=50_000)
    min_sync_batch_size: int = Field(default=50, ge=1, le=50_000)
    max_sync_rows: int = Field(default=50_000, ge=1, le=1_000_000)
    sync_pull_hours: int = Field(default=24, ge=1, le=24 * 30)
    max_body_mebibytes: int = Field(default=10, ge=1, le=1024)
    max_push_mebibytes: int = Field(default=64, ge=1, le=1024)
    tombstone_days: int = Field(default=400, ge=400, le=36_500)
    push_days: int = Field(default=400, ge=30, le=36_500)
    seal_every: float = Field(default=5, gt=0, le=3600)
    sync_events_every: float = Field(default=1, gt=0, le=3600)
    sync_event_days: int = Field(default=90, ge=1, le=3650)
    metrics_token: str | None = Field(default=None, repr=False, min_length=SHORTEST_KEY)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def embedded(self) -> bool:
        """Whether HealLog brings its own database."""
        return self.database_url is None

    @property
    def smtp(self) -> str | None:
        """The server that takes our mail. None where letters are printed."""
        return None if self.mail_url in ("", CONSOLE) else self.mail_url

    @property
    def verified_only(self) -> bool:
        """Whether accounts must verify their address. Where nothing is said: where mail really leaves the house."""
        return self.smtp is not None if self.require_verified_email is None else self.require_verified_email

    @property
    def rates(self) -> dict[str, str] | None:
        """How many requests are let through, by the class of the route; None where all are."""
        names = ("api", "bulk", "sync", "public", "login", "otp")
        return {name: getattr(self, f"rate_{name}") for name in names} if self.rate_limits else None

    @property
    def seals_file(self) -> Path:
        """Where the seals of the audit trail are told outside the database."""
        return self.data_dir / "audit-seals.jsonl"

    def keys(self) -> tuple[str, ...]:
        """The key that tokens are signed with, and the one beside it whose tokens are read too, where there is one.

        Where none is set, one was made once and is kept in the data folder. Raises `ConfigurationError`.
        """
        production = self.environment == "production"
        if self.secret_key is not None:
            _check_key("HEALLOG_SECRET_KEY", self.secret_key, production)
            key = self.secret_key
        elif production:
            raise ConfigurationError("HEALLOG_SECRET_KEY must be set in production, the same on every server")
        else:
            key = _kept_key(self.data_dir / "secret-key")
        if not self.old_secret_key:
            return (key,)
        _check_key("HEALLOG_OLD_SECRET_KEY", self.old_secret_key, production)
        if self.old_secret_key == key:
            raise ConfigurationError("HEALLOG_OLD_SECRET_KEY is the key in use; set it to the other one, or not at all")
        return (key, self.old_secret_key)


def _check_key(name: str, key: str, production: bool) -> None:
    """What can be guessed or looked up signs tokens for everyone. Outside production only the length matters."""
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(f"{name} must have at least {SHORTEST_KEY} characters; {MAKE_ONE}")
    if not production:
        return
    if key.strip() in PUBLISHED or _PLACEHOLDER.search(key):
        raise ConfigurationError(f"{name} is an example that everyone can read; {MAKE_ONE}")
    if len(set(key)) < FEWEST_CHARACTERS or key in (key + key)[1:-1]:
        raise ConfigurationError(f"{name} is too easy to guess: it repeats itself; {MAKE_ONE}")


def unknown() -> list[str]:
    """Variables that look like settings and are none: most often a slip of the pen."""
    known = {f"HEALLOG_{name.upper()}" for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.startswith("HEALLOG_") and name.upper() not in known)


def read() -> Settings:
    """The settings of this process. Raises `ConfigurationError` naming each variable that is wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [f"HEALLOG_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}" for wrong in error.errors()]
        raise ConfigurationError("\n".join(lines)) from None
    if settings.database_url is not None and not settings.database_url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError("HEALLOG_DATABASE_URL: must begin with postgresql://")
    _check_order(settings)
    return settings


_ORDERS = (
    ("min_sync_batch_size", "sync_batch_size"),
    ("sync_batch_size", "max_sync_records"),
    ("sync_batch_size", "max_sync_rows"),
    ("max_body_mebibytes", "max_push_mebibytes"),
)
"""Pairs of settings of which the first may not be over the second."""


def _check_order(settings: Settings) -> None:
    """Raises `ConfigurationError` naming every limit that is over another one that it must stay within."""
    wrong = [
        f"HEALLOG_{less.upper()}: {getattr(settings, less)} is over HEALLOG_{more.upper()}, which is {most}"
        for less, more in _ORDERS
        if getattr(settings, less) > (most := getattr(settings, more))
    ]
    if wrong:
        raise ConfigurationError("\n".join(wrong))


def _kept_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written aside and linked into place: of two processes that start at once one key wins, and no half of one.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".secret-key-") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    key = path.read_text().strip()
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(f"{path} is damaged; delete it to get a new key (everyone must log in again)")
    return key


def shown(settings: Settings) -> list[tuple[str, str]]:
    """Every setting as its variable and its value in use; secrets and passwords are not shown."""
    lines = []
    for name, value in settings.model_dump().items():
        text = "" if value is None else str(value)
        if name in {"secret_key", "old_secret_key", "metrics_token"} and text:
            text = "(set)"
        if name in {"database_url", "redis_url", "mail_url"} and text:
            text = re.sub(r"//([^:/@]*):[^@/]*@", r"//\1:***@", text)
        lines.append((f"HEALLOG_{name.upper()}", text))
    return lines


def check_port(host: str, port: int) -> None:
    """Raises `ConfigurationError` where someone else listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port} ({error.strerror}); set HEALLOG_PORT") from None
