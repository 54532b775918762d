"""The audit trail: where entries go that belong to no unit of work, reading them, sealing and proving them."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from heallog.application.ports.versions import Ledger
from heallog.domain.audit import AuditEntry, Chosen, Line, Seal, Witnessed


class Trail(Protocol):
    """Takes the entries of reads and refusals, from many requests at once."""

    async def record(self, entry: AuditEntry) -> None:
        """Returns once the entry is durable. Raises `Unavailable`: then what it tells of must not be answered."""


class AuditReads(Protocol):
    """Plain reads."""

    async def page(self, practice_id: str, chosen: Chosen, *, after: str | None, limit: int) -> Sequence[Line]:
        """Newest first, by time and id, after the entry with id `after`. A list is about each patient it showed."""


class Sealing(Protocol):
    """Makes seals over what no transaction can add to any more."""

    async def round(self, at: datetime) -> tuple[Sequence[Witnessed], bool]:
        """The seals that were made, and whether there is more to seal. None where someone else is sealing."""


class Witness(Protocol):
    """Keeps the seals' hashes outside the database, where whoever changes the one cannot change the other."""

    def tell(self, seals: Sequence[Witnessed]) -> None:
        """Returns once they are kept."""

    def told(self) -> Iterable[Witnessed]:
        """Everything that was told here up to this call, in its order."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry as the proof sees it: its place, its id and the digest of what it is now."""

    practice_id: str
    cluster: int
    transaction: int
    id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Undeclared:
    """An entry whose version is not there, or a version that no entry declares (then there is no `entry_id`)."""

    practice_id: str
    entry_id: str | None
    collection: str
    thing_id: str
    version: int


class Proofs(Protocol):
    """Everything the trail is proved by, of one moment; of one practice, or of all."""

    def seals(self, practice_id: str | None, *, by_cluster: bool = False) -> AsyncIterator[Seal]:
        """By practice and number; or by practice, cluster and number."""

    def entries(self, practice_id: str | None) -> AsyncIterator[Kept]:
        """By practice, cluster, transaction and id (in byte order)."""

    async def edges(self) -> Mapping[int, int]:
        """How far each cluster is sealed: in all practices at once."""

    async def unknown(self, told: Sequence[Witnessed]) -> Witnessed | None:
        """The first of these that is no seal here, or another one."""

    async def undeclared(self, practice_id: str | None) -> Undeclared | None:
        """The first entry or version that lacks its other half."""

    async def size(self, practice_id: str | None) -> int:
        """How many entries there are."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a proof reads, all of one moment."""

    proofs: Proofs
    ledger: Ledger
