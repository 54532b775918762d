"""What every use case leaves behind it: an entry of what it showed, or of what it refused.

A change's entry is written in its transaction, beside the version (`domain/audit.py:done`). Everything else goes
through here, and is answered only once its entry is durable.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from heallog.application.ports.audit import Trail
from heallog.application.ports.world import Clock, Ids
from heallog.domain.access import Actor
from heallog.domain.audit import AuditEntry, noted
from heallog.domain.errors import DomainError, HeldBack, InvalidFields, MalformedJson, Unavailable, VersionRequired
from heallog.domain.versions import Head, Version

UNNOTED = (HeldBack, InvalidFields, MalformedJson, Unavailable, VersionRequired)
"""Refusals that tell of no one's right or intent: the request was not one yet, or nothing could be asked.

What was held back has its entry already, beside the version that keeps it.
"""


class Books:
    """Makes entries and hands them to the trail; each method returns once its entry is durable."""

    def __init__(self, trail: Trail, clock: Clock, ids: Ids) -> None:
        self._trail = trail
        self._clock = clock
        self._ids = ids

    async def showed(self, actor: Actor, action: str, thing: Head | Version) -> None:
        """One thing, at one version."""
        if isinstance(thing, Head):
            thing_id, version = thing.id, thing.version
        else:
            thing_id, version = thing.thing_id, thing.number
        await self._record(actor, action, thing_id=thing_id, patient_id=thing.patient_id, version=version)

    async def looked_back(
        self,
        actor: Actor,
        action: str,
        thing_id: str,
        versions: Sequence[Version] = (),
        *,
        patient_id: str | None = None,
        version: int | None = None,
    ) -> None:
        """Several versions of one thing."""
        patient_id = versions[0].patient_id if versions else patient_id
        await self._record(actor, action, thing_id=thing_id, patient_id=patient_id, version=version)

    async def listed(
        self, actor: Actor, action: str, *, patient_id: str | None = None, subjects: Iterable[str] = ()
    ) -> None:
        """Several things: of one patient, or of the patients `subjects`, each named once."""
        await self._record(actor, action, patient_id=patient_id, subjects=tuple(dict.fromkeys(subjects)))

    async def started(self, actor: Actor, action: str) -> None:
        """Work that leaves entries of its own as it goes."""
        await self._trail.record(noted(self._ids(), self._clock(), actor, action))

    async def turned_away(self, entry: AuditEntry) -> None:
        """Someone who could not show who they are. The entry belongs to no practice where they named no account."""
        await self._trail.record(entry)

    async def refused(
        self, actor: Actor, action: str, code: str, *, thing_id: str | None = None, patient_id: str | None = None
    ) -> None:
        """What was asked for and not given. The reason is the error's code; what the caller said stays out."""
        await self._record(actor, action, "refused", thing_id=thing_id, patient_id=patient_id, reason=code)

    async def _record(self, actor: Actor, action: str, outcome: str = "done", **about: Any) -> None:
        """The action's noun is the collection that it is about."""
        await self._trail.record(
            noted(self._ids(), self._clock(), actor, action, outcome, collection=_noun(action), **about)
        )


def _noun(action: str) -> str:
    return action.partition(".")[0]


class UseCases(Protocol):
    """A class of use cases that keeps books."""

    @property
    def books(self) -> Books: ...


Self = TypeVar("Self", bound=UseCases)
P = ParamSpec("P")
R = TypeVar("R")
UseCase = Callable[Concatenate[Self, Actor, P], Coroutine[Any, Any, R]]


def audited(action: str) -> Callable[[UseCase[Self, P, R]], UseCase[Self, P, R]]:
    """A use case whose refusals leave an entry. What it shows or changes it tells of itself.

    The action's noun names the argument with the thing's id: `records.read` is about `record_id`.
    """
    noun = _noun(action)
    thing = f"{noun[:-3]}y_id" if noun.endswith("ies") else f"{noun[:-1]}_id"

    def wrap(method: UseCase[Self, P, R]) -> UseCase[Self, P, R]:
        names = list(inspect.signature(method).parameters)[2:]

        @wraps(method)
        async def use_case(self: Self, actor: Actor, /, *args: P.args, **named: P.kwargs) -> R:
            try:
                return await method(self, actor, *args, **named)
            except DomainError as error:
                if not isinstance(error, UNNOTED):
                    given = {**dict(zip(names, args, strict=False)), **named}
                    await self.books.refused(
                        actor, action, error.code, thing_id=_id(given, thing), patient_id=_id(given, "patient_id")
                    )
                raise

        return use_case

    return wrap


def _id(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
