"""Use cases of patients."""

from collections.abc import Sequence
from datetime import datetime

from heallog.application.ports.patients import PatientReads
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.application.versions import NO_REASON, Content, Versions, Why
from heallog.domain import patients
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.errors import AlreadyExists
from heallog.domain.fields import read
from heallog.domain.versions import Change, Collection, Difference, Head, Seen, Version, unborn


class Patients:
    """Create, change, delete, restore, revert; read, find, and look back."""

    def __init__(
        self, uow: UnitOfWorkFactory, reads: PatientReads, versions: VersionReads, clock: Clock, ids: Ids
    ) -> None:
        self._uow = uow
        self._reads = reads
        self._ids = ids
        self._versions = Versions(Collection.PATIENTS, uow, versions, clock, ids)

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
            return await self._versions.created_before(actor, head, content)

    async def get(self, actor: Actor, patient_id: str) -> Head:
        """The head. Raises `NotFound`, `Deleted`."""
        authorise(actor, Permission.READ_PATIENTS)
        head = await self._reads.get(actor.practice_id, patient_id)
        if head is None:
            raise self._versions.missing()
        if head.deleted:
            head.fields()
        return head

    async def page(
        self, actor: Actor, *, after: str | None, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        """By name."""
        authorise(actor, Permission.READ_PATIENTS)
        return await self._reads.page(actor.practice_id, after=after, limit=limit, tag=tag, updated_since=updated_since)

    async def search(
        self, actor: Actor, text: str, *, limit: int, tag: str | None, updated_since: datetime | None
    ) -> Sequence[Head]:
        """By name, phone or identifier, blind to case and accents; names forgive typos. Best first, one page."""
        authorise(actor, Permission.READ_PATIENTS)
        query = patients.query(actor.practice_id, text)
        if not query.contains:
            return []
        return await self._reads.search(actor.practice_id, query, limit=limit, tag=tag, updated_since=updated_since)

    async def change(self, actor: Actor, patient_id: str, changes: Content, seen: Seen, why: Why = NO_REASON) -> Head:
        """Set or take away (`null`) some fields."""
        authorise(actor, Permission.WRITE_PATIENTS)
        read(patients.FIELDS, changes)
        return await self._versions.change(
            actor,
            patient_id,
            seen,
            lambda content, _: patients.changed(content, changes),
            action="change",
            change=Change.MODIFICATION,
            why=why,
            changes=changes,
        )

    async def delete(self, actor: Actor, patient_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        authorise(actor, Permission.DELETE_PATIENTS)
        return await self._versions.delete(actor, patient_id, seen, why)

    async def restore(self, actor: Actor, patient_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        authorise(actor, Permission.DELETE_PATIENTS)
        return await self._versions.restore(actor, patient_id, seen, why)

    async def revert(self, actor: Actor, patient_id: str, seen: Seen, to: int, why: Why) -> Head:
        """Append the content of version `to`."""
        authorise(actor, Permission.WRITE_PATIENTS)
        return await self._versions.revert(actor, patient_id, seen, to, lambda _, then: then, why)

    async def history(self, actor: Actor, patient_id: str, before: int | None, limit: int) -> Sequence[Version]:
        authorise(actor, Permission.READ_PATIENTS)
        return await self._versions.history(actor, patient_id, before, limit)

    async def version(self, actor: Actor, patient_id: str, number: int) -> Version:
        authorise(actor, Permission.READ_PATIENTS)
        return await self._versions.numbered(actor, patient_id, number)

    async def differences(self, actor: Actor, patient_id: str, one: int, other: int) -> list[Difference]:
        authorise(actor, Permission.READ_PATIENTS)
        return await self._versions.differences(actor, patient_id, one, other)
