"""The system's clock, time-ordered ids, and whoever listens to events: the log."""

import secrets
from dataclasses import asdict
from datetime import UTC, datetime

import structlog
from uuid_utils import uuid7

from heallog.domain.events import Event


def clock() -> datetime:
    """Now, in UTC, cut to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def new_id() -> str:
    return str(uuid7())


def chance(size: int) -> bytes:
    return secrets.token_bytes(size)


class EventLog:
    """Writes each event as a log event: its name and its fields, which are ids and counts by construction."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("heallog.events")

    def __call__(self, event: Event) -> None:
        self._log.info(type(event).__name__, **asdict(event))
