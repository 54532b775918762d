"""Use cases of records."""

from collections.abc import Sequence

from heallog.application.patience import ONCE, Patience, retried
from heallog.application.ports.records import RecordFilter, RecordReads
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.application.trail import Books, audited
from heallog.application.versions import NO_REASON, Content, Step, Transform, Versions, Why
from heallog.domain import records
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.errors import AlreadyExists, FieldError, InvalidFields, NotFound
from heallog.domain.fields import read
from heallog.domain.merging import Mergeable
from heallog.domain.versions import Change, Collection, Difference, Head, Seen, Version, between, unborn


class Records:
    """Create, change, sign, amend, mark as error, delete, restore, revert; read, list, and look back."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        reads: RecordReads,
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
        self._versions = Versions(Collection.RECORDS, uow, versions, clock, ids, contributions)

    @audited("records.create")
    @retried("records.create")
    async def create(
        self, actor: Actor, patient_id: str, body: Content, record_id: str | None = None, why: Why = NO_REASON
    ) -> Head:
        """A new draft. With the caller's own id, the same content again answers as the first time did."""
        authorise(actor, Permission.WRITE_RECORDS)
        content = records.new(body)
        contribution = self._versions.contribution(actor)
        record_id = record_id or self._ids()
        head = unborn(actor.practice_id, Collection.RECORDS, record_id, patient_id, contribution.at)
        try:
            async with self._uow() as uow:
                if not await uow.patients.present(actor.practice_id, [patient_id]):
                    raise NotFound("there is no such patient")
                return await self._versions.write(uow, contribution, "create", head, content, Change.CREATION, why)
        except AlreadyExists:
            again = _edit(lambda now, _: records.reverted(now, content), content)
            return await self._versions.created_before(contribution, head, content, again, why)

    @audited("records.read")
    async def get(self, actor: Actor, record_id: str) -> Head:
        """The head. Raises `NotFound`, `Deleted`."""
        authorise(actor, Permission.READ_RECORDS)
        head = await self._reads.get(actor.practice_id, record_id)
        if head is None:
            raise self._versions.missing()
        if head.deleted:
            head.fields()
        await self.books.showed(actor, "records.read", head)
        return head

    @audited("records.list")
    async def of_patient(
        self, actor: Actor, patient_id: str, chosen: RecordFilter, *, after: str | None, limit: int
    ) -> Sequence[Head]:
        """A patient's records, the latest first."""
        authorise(actor, Permission.READ_RECORDS)
        heads = await self._reads.of_patient(actor.practice_id, patient_id, chosen, after=after, limit=limit)
        if heads is None:
            raise NotFound("there is no such patient")
        await self.books.listed(actor, "records.list", patient_id=patient_id)
        return heads

    @audited("records.change")
    @retried("records.change")
    async def change(self, actor: Actor, record_id: str, changes: Content, seen: Seen, why: Why = NO_REASON) -> Head:
        """Set or take away (`null`) some fields of a draft; on an older version than the head, merged into it.

        Where it was signed meanwhile, the change becomes a proposed amendment: a conflict.
        """
        authorise(actor, Permission.WRITE_RECORDS)
        read(records.ANY, changes)
        step = _edit(lambda content, _: records.changed(content, changes), changes)
        return await self._versions.change(actor, record_id, seen, step, why)

    @audited("records.sign")
    @retried("records.sign")
    async def sign(self, actor: Actor, record_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        """From draft to signed. From here on only amendments."""
        authorise(actor, Permission.SIGN_RECORDS)
        step = Step(
            "sign",
            Change.SIGNATURE,
            lambda content, contribution: records.signed(content, actor.account_id, contribution.at),
        )
        return await self._versions.change(actor, record_id, seen, step, why)

    @audited("records.amend")
    @retried("records.amend")
    async def amend(self, actor: Actor, record_id: str, changes: Content, seen: Seen, why: Why) -> Head:
        """Change signed content, with a reason."""
        authorise(actor, Permission.SIGN_RECORDS)
        _with_reason(why)
        read(records.ANY, changes)
        step = Step(
            "amend",
            Change.AMENDMENT,
            lambda content, _: records.amended(content, changes),
            changes,
            _policies,
            lambda content: bool(content["status"] == records.ENTERED_IN_ERROR),
        )
        return await self._versions.change(actor, record_id, seen, step, why)

    @audited("records.entered-in-error")
    @retried("records.entered-in-error")
    async def retract(self, actor: Actor, record_id: str, seen: Seen, why: Why) -> Head:
        """Mark as entered in error, with a reason. The record stays and says so."""
        authorise(actor, Permission.SIGN_RECORDS)
        _with_reason(why)
        step = Step("entered-in-error", Change.AMENDMENT, lambda content, _: records.retracted(content))
        return await self._versions.change(actor, record_id, seen, step, why)

    @audited("records.delete")
    @retried("records.delete")
    async def delete(self, actor: Actor, record_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        authorise(actor, Permission.DELETE_RECORDS)
        return await self._versions.delete(actor, record_id, seen, why)

    @audited("records.restore")
    @retried("records.restore")
    async def restore(self, actor: Actor, record_id: str, seen: Seen, why: Why = NO_REASON) -> Head:
        authorise(actor, Permission.DELETE_RECORDS)
        return await self._versions.restore(actor, record_id, seen, why)

    @audited("records.revert")
    @retried("records.revert")
    async def revert(self, actor: Actor, record_id: str, seen: Seen, to: int, why: Why) -> Head:
        """Append the content of version `to` of a draft."""
        authorise(actor, Permission.WRITE_RECORDS)
        return await self._versions.revert(actor, record_id, seen, to, records.reverted, why)

    @audited("records.history")
    async def history(self, actor: Actor, record_id: str, before: int | None, limit: int) -> Sequence[Version]:
        authorise(actor, Permission.READ_RECORDS)
        versions = await self._versions.history(actor, record_id, before, limit)
        await self.books.looked_back(actor, "records.history", record_id, versions)
        return versions

    @audited("records.version")
    async def version(self, actor: Actor, record_id: str, number: int) -> Version:
        authorise(actor, Permission.READ_RECORDS)
        version = await self._versions.numbered(actor, record_id, number)
        await self.books.showed(actor, "records.version", version)
        return version

    @audited("records.diff")
    async def differences(self, actor: Actor, record_id: str, one: int, other: int) -> list[Difference]:
        authorise(actor, Permission.READ_RECORDS)
        before, after = await self._versions.pair(actor, record_id, one, other)
        await self.books.looked_back(actor, "records.diff", record_id, [after], version=other)
        return between(before, after)


def _with_reason(why: Why) -> None:
    if not (why.reason or "").strip():
        raise InvalidFields([FieldError("reason", "required", "is required: say why")])


def _edit(transform: Transform, changes: Content) -> Step:
    """An edit of a draft; of what is signed it is a proposal."""
    return Step("change", Change.MODIFICATION, transform, changes, _policies, lambda content: not _draft(content))


def _policies(content: Content) -> Mergeable:
    return records.mergeable(content["kind"])


def _draft(content: Content) -> bool:
    return bool(content["status"] == records.DRAFT)
