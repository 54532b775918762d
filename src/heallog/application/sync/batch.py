"""A unit of work over things that were loaded together.

The use cases of patients and records run on it one after the other, as they do alone, and find everything here: the
database is asked a constant number of times before and after, however many things there are.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from heallog.application.ports.unit_of_work import UnitOfWork
from heallog.domain.access import Actor
from heallog.domain.audit import AuditEntry, Written
from heallog.domain.conflicts import Conflict, State
from heallog.domain.errors import AlreadyExists
from heallog.domain.events import Event
from heallog.domain.health import disputed
from heallog.domain.policies import Setting
from heallog.domain.versions import ENTERED, Collection, Head, Version, immutable

Key = tuple[Collection, str]
Number = tuple[Collection, str, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operation will be about: a thing, the version it names (0: none), and the patient of a new record."""

    collection: Collection
    id: str
    base: int
    patient_id: str | None = None


_ABSENT: Any = object()


class Batch:
    """Everything that one device's operations need, locked; and what they make of it.

    Where they were `said` at a time and are done only now, what the device has said since is no base of theirs.
    """

    def __init__(self, uow: UnitOfWork, actor: Actor, said: datetime | None = None) -> None:
        self._uow = uow
        self._actor = actor
        self._said = said
        self.heads: dict[Key, Head] = {}
        self._lineages: dict[Number, tuple[Version | None, Version | None]] = {}
        self._versions: dict[Number, Version] = {}
        self._loaded: frozenset[Key] = frozenset()
        self._conflicts: dict[str, Conflict] = {}
        self._conflicts_before: dict[str, Conflict] = {}
        self._present: set[str] = set()
        self._setting: Setting | None = None
        self._written: list[Written] = []
        self._begun = 0
        self._sending: asyncio.Task[None] | None = None
        self._made: dict[Key, tuple[Version, ...]] = {}
        self._changed: dict[str, Conflict] = {}
        self._entries: list[AuditEntry] = []
        self._refusals: list[AuditEntry] = []
        self._journal: list[tuple[dict[Any, Any], Any, Any]] = []

    async def load(self, wanted: Sequence[Wanted]) -> None:
        """Lock patients, then records, each in the order of their ids; then read what late operations go back to."""
        practice_id = self._actor.practice_id
        for collection in Collection:
            ids = sorted({one.id for one in wanted if one.collection is collection})
            if ids:
                things = self._uow.patients if collection is Collection.PATIENTS else self._uow.records
                found = await things.lock(practice_id, ids)
                self.heads.update({(collection, thing_id): head for thing_id, head in found.items()})
        self._loaded = frozenset(self.heads)
        owners = sorted({one.patient_id for one in wanted if one.patient_id is not None})
        if owners:
            self._present = await self._uow.patients.present(practice_id, owners)
        known = [one for one in wanted if (one.collection, one.id) in self.heads]
        times = Counter((one.collection, one.id) for one in known)
        await self._look_up(number for one in known for number in self._late(one, times))
        deletions = ((*key[:2], self._versions[key].parent or 0) for key in self._gone() if key in self._versions)
        await self._look_up(deletions)
        disputed = sorted({head.conflict_id for head in self.heads.values() if head.conflict_id is not None})
        if disputed:
            self._conflicts_before = await self._uow.conflicts.these(practice_id, disputed)
            self._conflicts = dict(self._conflicts_before)
        self._setting = await self._uow.policies.current(practice_id)

    def _late(self, one: Wanted, times: Mapping[Key, int]) -> Iterator[Number]:
        """The versions that an operation may go back to: the one that it names, unless that is surely the head; of a
        creation that was made before, the first; of what is deleted, the deletion."""
        key = one.collection, one.id
        head = self.heads[key]
        if one.base != head.version:
            yield *key, one.base
        if times[key] > 1:
            # By the second, the head has moved.
            yield *key, head.version
        if one.base == 0:
            yield *key, 1
        if head.deleted:
            yield *key, head.version

    def _gone(self) -> list[Number]:
        return [(*key, head.version) for key, head in self.heads.items() if head.deleted]

    async def _look_up(self, asked: Iterable[Number]) -> None:
        """Versions, and what the device itself made of each last."""
        new = sorted(set(asked) - self._lineages.keys())
        if new:
            await self.sent()
            found = await self._uow.versions.lineages(self._actor.practice_id, new, self._actor.device_id)
            self._lineages |= {key: (started, self._earlier(own)) for key, (started, own) in found.items()}
            self._versions = {key: found for key, (found, _) in self._lineages.items() if found is not None}

    def _earlier(self, own: Version | None) -> Version | None:
        return None if own is not None and self._said is not None and own.received_at > self._said else own

    # -- doing --------------------------------------------------------------------------------------------------

    def mark(self) -> "Mark":
        """Where things stand, to come back to: a contribution is all or nothing."""
        return Mark(len(self._journal), len(self._written), len(self._entries))

    def back_to(self, mark: "Mark") -> None:
        while len(self._journal) > mark.journal:
            known, key, before = self._journal.pop()
            if before is _ABSENT:
                del known[key]
            else:
                known[key] = before
        del self._written[mark.written :], self._entries[mark.entries :]

    def _set(self, known: dict[Any, Any], key: Any, value: Any) -> None:
        self._journal.append((known, key, known.get(key, _ABSENT)))
        known[key] = value

    def send(self) -> None:
        """Let the database begin to write what was done so far, while the rest is worked out."""
        part, self._begun = self._written[self._begun :], len(self._written)
        self._sending = asyncio.create_task(self._append(part))

    async def sent(self) -> None:
        """Wait for what was sent. Nothing else may be asked of the database meanwhile."""
        if self._sending is not None:
            sending, self._sending = self._sending, None
            await sending

    async def _append(self, written: Sequence[Written]) -> None:
        for collection in Collection:
            things = self._uow.patients if collection is Collection.PATIENTS else self._uow.records
            for part in _without_repeats([one for one in written if one.head.collection is collection]):
                await things.append(part)

    async def write(self) -> int:
        """Hand everything to the unit of work underneath, which commits it. How many versions it is."""
        await self._append(self._written[self._begun :])
        if self._changed:
            await self._uow.conflicts.put(list(self._changed.values()))
        if entries := [*self._entries, *self._refusals]:
            await self._uow.audit(entries)
        return sum(len(one.versions) for one in self._written)

    def disputed(self) -> list[tuple[str, str]]:
        """Fields that came into conflict by this batch, each with its policy."""
        return [
            disputed(one.field, one.policy)
            for conflict in self._changed.values()
            if conflict.state is State.OPEN
            for one in conflict.disputed
            if (one.field, one.branch) not in self._disputed_before(conflict.id)
        ]

    def _disputed_before(self, conflict_id: str) -> set[tuple[str, int]]:
        before = self._conflicts_before.get(conflict_id)
        return set() if before is None else {(one.field, one.branch) for one in before.disputes}

    # -- what the unit of work is asked ---------------------------------------------------------------------------

    def lock(self, collection: Collection, ids: Sequence[str]) -> dict[str, Head]:
        found: dict[str, Head] = {}
        for thing_id in ids:
            head = self.heads.get((collection, thing_id))
            if head is not None:
                # What it was merged from is said once, to whoever merged.
                found[thing_id] = replace(head, merged_from=()) if head.merged_from else head
        return found

    def append(self, written: Sequence[Written]) -> None:
        for item in written:
            key = item.head.collection, item.head.id
            known = self.heads.get(key)
            if (0 if known is None else known.last) != item.before:
                raise AlreadyExists("this id is taken")
        for item in written:
            head = item.head
            key = head.collection, head.id
            self._set(self.heads, key, head)
            self._set(self._made, key, (*self._made.get(key, ()), *item.versions))
        self._written += written

    def present(self, ids: Iterable[str]) -> set[str]:
        """Who was there, and who came or went by this batch."""
        heads = ((thing_id, self.heads.get((Collection.PATIENTS, thing_id))) for thing_id in ids)
        return {
            thing_id for thing_id, head in heads if (thing_id in self._present if head is None else not head.deleted)
        }

    async def lineage(self, collection: Collection, thing_id: str, base: int) -> tuple[Version | None, Version | None]:
        """What was loaded, and what this very batch made of it."""
        key = collection, thing_id, base
        if key not in self._lineages and (collection, thing_id) in self._loaded:
            await self._look_up([key])
        # What was not there when the batch began, it made itself.
        found, own = self._lineages.get(key, (None, None))
        made = self._made.get((collection, thing_id))
        if not made:
            return found, own
        started = next((version for version in made if version.number == base), found)
        later = [one for one in made if one.number > base and (one.parent or 0) >= base and one.change in ENTERED]
        return started, later[-1] if later else own

    async def numbered(self, collection: Collection, thing_id: str, numbers: Sequence[int]) -> dict[int, Version]:
        """What this batch made, or else what was loaded."""
        key = collection, thing_id
        made = {version.number: version for version in self._made.get(key, ())}
        if key in self._loaded:
            await self._look_up((*key, number) for number in numbers if number not in made)
        found = {number: made.get(number) or self._versions.get((*key, number)) for number in numbers}
        return {number: version for number, version in found.items() if version is not None}

    def these(self, ids: Sequence[str]) -> dict[str, Conflict]:
        return {conflict_id: self._conflicts[conflict_id] for conflict_id in ids if conflict_id in self._conflicts}

    def put(self, conflicts: Sequence[Conflict]) -> None:
        for conflict in conflicts:
            self._set(self._conflicts, conflict.id, conflict)
            self._set(self._changed, conflict.id, conflict)

    def setting(self) -> Setting | None:
        return self._setting

    def note(self, entries: Sequence[AuditEntry]) -> None:
        self._entries += entries

    async def record(self, entry: AuditEntry) -> None:
        """A refusal, as `Trail` has it: it stays, whatever becomes of the contribution."""
        self._refusals.append(entry)


@immutable
class Mark:
    """How much had been done."""

    journal: int
    written: int
    entries: int


def _without_repeats(written: Sequence[Written]) -> list[list[Written]]:
    """Parts in which no thing comes twice, in the order of their versions."""
    seen: dict[str, int] = defaultdict(int)
    parts: list[list[Written]] = []
    for item in written:
        at = seen[item.head.id]
        seen[item.head.id] += 1
        if at == len(parts):
            parts.append([])
        parts[at].append(item)
    return parts


# -- the unit of work that use cases see ----------------------------------------------------------------------------


class _Things:
    """Patients or records."""

    def __init__(self, batch: Batch, collection: Collection) -> None:
        self._batch = batch
        self._collection = collection

    async def lock(self, practice_id: str, ids: Sequence[str]) -> dict[str, Head]:  # noqa: ARG002
        return self._batch.lock(self._collection, ids)

    async def present(self, practice_id: str, ids: Sequence[str]) -> set[str]:  # noqa: ARG002
        return self._batch.present(ids)

    async def append(self, written: Sequence[Written]) -> None:
        self._batch.append(written)


class _Versions:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def lineage(
        self,
        practice_id: str,  # noqa: ARG002
        collection: Collection,
        thing_id: str,
        base: int,
        device_id: str,  # noqa: ARG002
    ) -> tuple[Version | None, Version | None]:
        return await self._batch.lineage(collection, thing_id, base)

    async def numbered(
        self,
        practice_id: str,  # noqa: ARG002
        collection: Collection,
        thing_id: str,
        numbers: Sequence[int],
    ) -> dict[int, Version]:
        return await self._batch.numbered(collection, thing_id, numbers)


class _Conflicts:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def these(self, practice_id: str, ids: Sequence[str]) -> dict[str, Conflict]:  # noqa: ARG002
        return self._batch.these(ids)

    async def put(self, conflicts: Sequence[Conflict]) -> None:
        self._batch.put(conflicts)


class _Policies:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def current(self, practice_id: str) -> Setting | None:  # noqa: ARG002
        return self._batch.setting()


class BatchUnitOfWork:
    """As much of a unit of work as changes of patients and records need.

    They write only when they have decided, right before their commit: there is nothing to undo of a single one.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.patients = _Things(batch, Collection.PATIENTS)
        self.records = _Things(batch, Collection.RECORDS)
        self.versions = _Versions(batch)
        self.conflicts = _Conflicts(batch)
        self.policies = _Policies(batch)

    async def audit(self, entries: Sequence[AuditEntry]) -> None:
        self._batch.note(entries)

    def tell(self, event: Event) -> None:
        """The push tells, once, of all of it."""

    async def commit(self) -> None:
        """The push commits."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
