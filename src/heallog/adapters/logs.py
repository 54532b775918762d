"""Logs are JSON events with a name and fields; what may be a field is listed here, the rest never gets out."""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

ALLOWED = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "logger",
        "practice_id",
        "account_id",
        "session_id",
        "contribution_id",
        "push_id",
        "request_id",
        "action",
        "versions",
        "number",
        "at",
        "first",
        "count",
        "hash",
        "error_id",
        "ending",
        "emergency_id",
        "type",
        "where",
        "port",
        "workers",
    }
)


def allow(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Drop every field that is not on the list: a new one is a decision, not an accident."""
    return {name: value for name, value in event.items() if name in ALLOWED}


def configure(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            allow,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
