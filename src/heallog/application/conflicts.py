"""Use cases of conflicts: see what waits for a decision, and decide."""

from collections.abc import Sequence
from dataclasses import replace

from heallog.application.patience import ONCE, Patience, retried
from heallog.application.ports.conflicts import ConflictReads
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.versions import VersionReads
from heallog.application.ports.world import Clock, Ids
from heallog.application.trail import Books, audited
from heallog.application.versions import Content, Versions, Why
from heallog.domain import conflicts, decisions, patients, records
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.conflicts import DELETED, Conflict, Resolution, State
from heallog.domain.errors import FieldError, InvalidFields, NotFound, WrongState
from heallog.domain.versions import Change, Collection, Contribution, Head, advance, differing


class Conflicts:
    """List, read, resolve."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        reads: ConflictReads,
        versions: VersionReads,
        books: Books,
        clock: Clock,
        ids: Ids,
        *,
        patience: Patience = ONCE,
    ) -> None:
        self.patience = patience
        self._uow = uow
        self._reads = reads
        self.books = books
        self._of = {collection: Versions(collection, uow, versions, clock, ids) for collection in Collection}

    @audited("conflicts.list")
    async def page(
        self, actor: Actor, *, state: State | None, patient_id: str | None, after: str | None, limit: int
    ) -> Sequence[Conflict]:
        """The newest first."""
        authorise(actor, Permission.READ_CONFLICTS)
        found = await self._reads.page(actor.practice_id, state=state, patient_id=patient_id, after=after, limit=limit)
        await self.books.listed(
            actor, "conflicts.list", patient_id=patient_id, subjects=(conflict.patient_id for conflict in found)
        )
        return found

    @audited("conflicts.read")
    async def get(self, actor: Actor, conflict_id: str) -> Conflict:
        """One conflict, with every value that it is about. Raises `NotFound`."""
        authorise(actor, Permission.READ_CONFLICTS)
        conflict = await self._reads.get(actor.practice_id, conflict_id)
        if conflict is None:
            raise _missing()
        await self.books.looked_back(actor, "conflicts.read", conflict.id, patient_id=conflict.patient_id)
        return conflict

    @audited("conflicts.resolve")
    @retried("conflicts.resolve")
    async def resolve(
        self, actor: Actor, conflict_id: str, head_version: int, choices: Content, why: Why
    ) -> tuple[Conflict, Head]:
        """Append what a person decided, as a version that names everything it was made from.

        Raises `VersionConflict` where the conflict is closed, or where the head is not the one that the person saw;
        `InvalidFields` where a choice is missing or does not fit; `Forbidden` where it takes a right that they lack.
        """
        authorise(actor, Permission.RESOLVE_CONFLICTS)
        reason = (why.reason or "").strip()
        if not reason:
            raise InvalidFields([FieldError("reason", "required", "is required: say why")])
        known = await self._reads.get(actor.practice_id, conflict_id)
        if known is None:
            raise _missing()
        versions = self._of[known.collection]
        contribution = versions.contribution(actor)
        async with self._uow() as uow:
            head = await versions.locked(uow, actor, known.thing_id)
            conflict = (await uow.conflicts.these(actor.practice_id, [conflict_id]))[conflict_id]
            if conflict.state is not State.OPEN:
                raise conflicts.moved_on(conflict, head, f"this conflict is {conflict.state} already")
            if head_version != head.version:
                raise conflicts.moved_on(conflict, head, f"the head is at version {head.version}, not {head_version}")
            content, change = _decided(actor, conflict, head, choices)
            return await self._write(uow, versions, contribution, conflict, head, content, change, choices, why)

    async def _write(
        self,
        uow: UnitOfWork,
        versions: Versions,
        contribution: Contribution,
        conflict: Conflict,
        head: Head,
        content: Content | None,
        change: Change,
        choices: Content,
        why: Why,
    ) -> tuple[Conflict, Head]:
        inputs = tuple(sorted({head.version, *conflict.branches}))
        moved, version = advance(head, content, change, contribution, inputs=inputs, **why.said)
        moved = replace(moved, conflict_id=None)
        resolved = replace(
            conflict,
            state=State.RESOLVED,
            head_version=version.number,
            updated_at=contribution.at,
            resolution=Resolution(
                contribution.actor.account_id, contribution.at, why.reason or "", version.number, choices
            ),
        )
        before: Content = {} if head.content is None else head.fields()
        after: Content = content or {}
        await versions.append(uow, contribution, "resolve", moved, (version,), differing(before, after), resolved)
        return resolved, moved


def _missing() -> NotFound:
    return NotFound("there is no such conflict")


def _decided(actor: Actor, conflict: Conflict, head: Head, choices: Content) -> tuple[Content | None, Change]:
    """The content that the choices make of the head, and what sort of change that is."""
    values = decisions.decided(conflict, choices)
    asked = DELETED in values
    removed = values.pop(DELETED, head.deleted)
    if not isinstance(removed, bool):
        raise InvalidFields([FieldError(f"choices.{DELETED}.value", "type", "must be true or false")])
    if removed and not asked and decisions.as_changes({}, values):
        raise WrongState("this is deleted: restore it before you take anything into it")
    if removed:
        if asked:
            of_patients = conflict.collection is Collection.PATIENTS
            authorise(actor, Permission.DELETE_PATIENTS if of_patients else Permission.DELETE_RECORDS)
        return None, Change.DELETION
    content = head.fields()
    changes = decisions.as_changes(content, values)
    if not changes:
        return content, Change.MERGE
    try:
        if conflict.collection is Collection.PATIENTS:
            return patients.changed(content, changes), Change.MERGE
        if content["status"] == records.DRAFT:
            return records.changed(content, changes), Change.MERGE
        authorise(actor, Permission.SIGN_RECORDS)
        return records.amended(content, changes), Change.AMENDMENT
    except InvalidFields as wrong:
        raise InvalidFields([replace(error, field=f"choices.{error.field}") for error in wrong.errors]) from None
