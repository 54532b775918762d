"""What every command may ask for: the house, and the steps that commands share."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from heallog.application import audit
from heallog.application.ledger import Proof
from heallog.domain.practices import Practice

FAILED = 1

Watch = Callable[[int, int], None]


class House(Protocol):
    """What the command line may ask of the house; `command_line.py` builds it."""

    def settings(self) -> list[tuple[str, str]]:
        """Every setting with its value in use, secrets hidden. Raises ConfigurationError."""

    def database(self) -> AbstractContextManager[str]:
        """The database's address. The embedded one runs as long as the context."""

    def services(self, url: str) -> AbstractAsyncContextManager[Any]:
        """The container, connected."""

    def upgrade(self, url: str, revision: str) -> None: ...
    def downgrade(self, url: str, revision: str) -> None: ...
    def current(self, url: str) -> tuple[str | None, str]:
        """The database's revision, and the one that this code needs."""

    def drift(self, url: str) -> list[Any]: ...
    async def verify(self, services: Any, watch: Watch) -> Proof: ...
    async def prove(self, services: Any, practice_id: str | None, files: Sequence[Path], watch: Watch) -> audit.Proof:
        """The audit trail and versions, against the seals in the files; in the data folder where none are named."""

    def address(self, host: str | None, port: int | None) -> tuple[str, int]:
        """Where to listen: what was asked for, else the settings. Raises ConfigurationError where it is taken."""

    async def demo(self, services: Any, host: str, port: int) -> str:
        """Make the demo practice where it is missing; how to use it."""

    def serve(self, url: str, host: str, port: int, workers: int | None, ready: str) -> None: ...


def check_current(house: House, url: str) -> None:
    """Raises ValueError where the database is not at the revision that this program needs."""
    at, needed = house.current(url)
    if at != needed:
        raise ValueError(f"the database is at {at or 'base'}, this program needs {needed}: heallog db upgrade")


async def with_services(house: House, url: str, work: Callable[[Any], Any]) -> Any:
    async with house.services(url) as services:
        return await work(services)


async def find_practice(uow: Any, wanted: str | None) -> Practice:
    practices: list[Practice] = list(await uow.practices.all())
    found = [item for item in practices if wanted in (None, item.id, item.name)]
    if len(found) == 1:
        return found[0]
    if not practices:
        raise ValueError("there is no practice yet; make one with: heallog user create EMAIL --new-practice NAME")
    known = ", ".join(f"{item.name} ({item.id})" for item in practices[:20])
    raise ValueError(f"name one practice with --practice: {known}")


def progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
