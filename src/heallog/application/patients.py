"""Use cases of patients."""

from collections.abc import Sequence
from datetime import datetime

from heallog.application.patience import ONCE, Patience, retried
from heallog.application.ports.patients import PatientReads
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.application.trail import Books, audited
from heallog.application.versions import NO_REASON, Content, Step, Versions, Why
from heallog.domain import patients
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.errors import AlreadyExists
from heallog.domain.fields import read
from heallog.domain.versions import Change, Collection, Difference, Head, Seen, Version, between, unborn


class Patients:
    """Create, change, delete, restore, revert; read, find, and look back."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        reads: PatientReads,
        versions: VersionReads,
        books: Books,
        clock: Clock,
        ids: Ids,
        contributions: Ids | None = None,
        *,
        patience: Patience = ONCE,
    ) -> None:
        self.books = books
        self.patience = patience
        self._uow = uow
        self._reads = reads
        self._ids = ids
        self._versions = Versions(Collection.PATIENTS, uow, versions, clock, ids, contributions)

    @audited("patients.create")
    @retried("patients.create")
    async def create(self, actor: Actor, body: Content, patient_id: str | None = None, why: Why = NO_REASON) -> Head:
        """A new patient. With the caller's own id, the same content again answers as the first time did."""
        authorise(actor, Permission.WRITE_PATIENTS)
        content = patients.new(body)
        contribution = self._versions.contribution(actor)
        patient_id = patient_id or self._ids()
        head = unborn(actor.practice_id, Collection.PATIENTS, patient_id, patient_id, contribution.at)
        try:
            async with self._uow() as uow:
                return await self._versions.write(uow, contribution, "create", head, content, Change.CREATION, why)
        except AlreadyExists:
            again = Step("change", Change.MODIFICATION, lambda _, __: content, content, lambda _: patients.MERGEABLE)
            return await self._versions.created_before(contribution, head, content, again, why)

    @audited("patients.read")
    async def get(self, actor: Actor, patient_id: str) -> Head:
        """The head. Raises `NotFound`, `Deleted`."""
        authorise(actor, Permission.READ_PATIENTS)
        head = await self._reads.get(actor.practice_id, patient_id)
        if head is None:
            raise self._versions.missing()
        if head.deleted:
            head.fields()
        await self.books.showed(actor, "patients.read", head)
        return head

    @audited("patients.list")
    async def page(
        self, actor: Actor, *, after: str | None, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        """By name."""
        authorise(actor, Permission.READ_PATIENTS)
        heads = await self._reads.page(
            actor.practice_id, after=after, limit=limit, tag=tag, updated_since=updated_since
        )
        await self.books.listed(actor, "patients.list", subjects=[head.id for head in heads])
        return heads

    @audited("patients.search")
    async def search(
        self, actor: Actor, text: str, *, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        """By name, phone or identifier, blind to case and accents; names forgive typos. Best first, one page."""
        authorise(actor, Permission.READ_PATIENTS)
        query = patients.query(actor.practice_id, text)
        heads: Sequence[Head] = []
        if query.contains:
            heads = await self._reads.search(
                actor.practice_id, query, limit=limit, tag=tag, updated_since=updated_since
            )
        await self.books.listed(actor, "patients.search", subjects=[head.id for head in heads])
        return heads

    @audited("patients.change")
    @retried("patients.change")
    async def change(self, actor: Actor, patient_id: str, changes: Content, seen: Seen, why: Why = NO_REASON) -> Head:
        """Set or take away (`null`) some fields; on an older version than the head, merged into it."""
        authorise(actor, Permission.WRITE_PATIENTS)
        read(patients.FIELDS, changes)
        step = Step(
            "change",
            Change.MODIFICATION,
            lambda content, _: patients.changed(content, changes),
            changes,
            lambda _: patients.MERGEABLE,
        )
        return await self._versions.change(actor, patient_id, seen, step, why)

    @audited("patients.delete")
    @retried("patients.delete")
    async def delete(self, actor: Actor, patient_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        authorise(actor, Permission.DELETE_PATIENTS)
        return await self._versions.delete(actor, patient_id, seen, why)

    @audited("patients.restore")
    @retried("patients.restore")
    async def restore(self, actor: Actor, patient_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        authorise(actor, Permission.DELETE_PATIENTS)
        return await self._versions.restore(actor, patient_id, seen, why)

    @audited("patients.revert")
    @retried("patients.revert")
    async def revert(self, actor: Actor, patient_id: str, seen: Seen, to: int, why: Why) -> Head:
        """Append the content of version `to`."""
        authorise(actor, Permission.WRITE_PATIENTS)
        return await self._versions.revert(actor, patient_id, seen, to, lambda _, then: then, why)

    @audited("patients.history")
    async def history(self, actor: Actor, patient_id: str, before: int | None, limit: int) -> Sequence[Version]:
        authorise(actor, Permission.READ_PATIENTS)
        versions = await self._versions.history(actor, patient_id, before, limit)
        await self.books.looked_back(actor, "patients.history", patient_id, versions, patient_id=patient_id)
        return versions

    @audited("patients.version")
    async def version(self, actor: Actor, patient_id: str, number: int) -> Version:
        authorise(actor, Permission.READ_PATIENTS)
        version = await self._versions.numbered(actor, patient_id, number)
        await self.books.showed(actor, "patients.version", version)
        return version

    @audited("patients.diff")
    async def differences(self, actor: Actor, patient_id: str, one: int, other: int) -> list[Difference]:
        authorise(actor, Permission.READ_PATIENTS)
        before, after = await self._versions.pair(actor, patient_id, one, other)
        await self.books.looked_back(actor, "patients.diff", patient_id, [after], version=other)
        return between(before, after)
