"""Whether this process lives, and whether it can work."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import get
from litestar.di import NamedDependency

from heallog.domain.errors import Unavailable
from heallog.entrypoints.http.limits import Rate
from heallog.entrypoints.http.openapi import describes

Ready = Callable[[], Awaitable[bool]]

_STATUS: dict[str, Any] = {"type": "object", "properties": {"status": {"type": "string"}}}


@get(
    "/health/live",
    operation_id="live",
    summary="Is the process alive",
    tags=["health"],
    public=True,
    rate=Rate.NONE,
    sync_to_thread=False,
    **describes(answer=_STATUS),
)
def live() -> dict[str, str]:
    return {"status": "live"}


@get(
    "/health/ready",
    operation_id="ready",
    summary="Can it work: is the database there",
    tags=["health"],
    public=True,
    rate=Rate.NONE,
    **describes(answer=_STATUS),
)
async def ready(is_ready: NamedDependency[Ready]) -> dict[str, str]:
    if not await is_ready():
        raise Unavailable("the database does not answer")
    return {"status": "ready"}


HANDLERS = [live, ready]
