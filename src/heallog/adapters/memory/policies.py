"""What practices have tightened, in memory."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.errors import AlreadyExists
from heallog.domain.policies import Setting


class PolicyRepository:
    """The settings of practices; each is appended, none is changed."""

    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def current(self, practice_id: str) -> Setting | None:
        return next(iter(await self.history(practice_id, None, 1)), None)

    async def add(self, setting: Setting) -> None:
        with self._tables.writing():
            if setting.practice_id not in self._tables.practices:
                raise ConstraintViolated("policies: no such practice")
            before = self._tables.policies.get(setting.practice_id, ())
            if any(setting.number == other.number for other in before):
                raise AlreadyExists("this id is taken")
            own = replace(setting, fields={name: dict(fields) for name, fields in setting.fields.items()})
            self._tables.policies[setting.practice_id] = tuple(sorted((*before, own), key=lambda one: one.number))

    async def history(self, practice_id: str, before: int | None, limit: int) -> Sequence[Setting]:
        settings = self._tables.policies.get(practice_id, ())
        below = (one for one in reversed(settings) if before is None or one.number < before)
        return [replace(one) for one in islice(below, limit)]
