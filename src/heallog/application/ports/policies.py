"""Where practices keep which policies they have tightened."""

from collections.abc import Sequence
from typing import Protocol

from heallog.domain.policies import Setting


class PolicyRepository(Protocol):
    async def current(self, practice_id: str) -> Setting | None:
        """The latest setting; None where the practice never made one."""

    async def add(self, setting: Setting) -> None:
        """Raises `AlreadyExists` where its number is taken."""

    async def history(self, practice_id: str, before: int | None, limit: int) -> Sequence[Setting]:
        """The newest first, below number `before`."""
