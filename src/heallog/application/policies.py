"""Use cases of policies: which fields a practice wants to decide about itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.application.trail import Books, audited
from heallog.domain import patients, records
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import noted
from heallog.domain.errors import FieldError, InvalidFields, VersionConflict
from heallog.domain.fields import printable
from heallog.domain.policies import Policy, Rules, Setting, declared, tightened
from heallog.domain.versions import Collection

DECLARED: Mapping[Collection, Rules] = {
    Collection.PATIENTS: declared(patients.FIELDS),
    Collection.RECORDS: declared(records.ANY),
}
"""Every field's policy; of records, every field that some kind has."""


class Policies:
    """Read, tighten, look back."""

    def __init__(self, uow: UnitOfWorkFactory, books: Books, clock: Clock, ids: Ids) -> None:
        self._uow = uow
        self.books = books
        self._clock = clock
        self._ids = ids

    @audited("policies.read")
    async def get(self, actor: Actor) -> tuple[int, Mapping[Collection, Mapping[str, Policy]]]:
        """The number of the practice's setting (0: none yet), and each field's policy under it."""
        authorise(actor, Permission.READ_POLICIES)
        async with self._uow() as uow:
            setting = await uow.policies.current(actor.practice_id)
        return (setting.number if setting else 0), {
            collection: {
                name: rule.policy for name, rule in (setting.rules(collection, rules) if setting else rules).items()
            }
            for collection, rules in DECLARED.items()
        }

    @audited("policies.set")
    async def set(self, actor: Actor, base: int, fields: Mapping[str, Mapping[str, str]], reason: str) -> Setting:
        """Name all fields that are to be `manual` from now on; a field left out is as declared again.

        Raises `InvalidFields` for whatever is no tightening, `VersionConflict` where they were set since `base`.
        """
        authorise(actor, Permission.SET_POLICIES)
        _check(fields)
        async with self._uow() as uow:
            await uow.exclusive(actor.practice_id, "policies")
            current = await uow.policies.current(actor.practice_id)
            number = current.number if current else 0
            if base != number:
                raise VersionConflict(f"the policies are at setting {number} now", context={"version": number})
            setting = Setting(actor.practice_id, number + 1, self._clock(), actor.account_id, reason, fields)
            await uow.policies.add(setting)
            names = tuple(sorted(f"{collection}.{name}" for collection, named in fields.items() for name in named))
            entry = noted(self._ids(), setting.at, actor, "policies.set", version=setting.number, reason=reason)
            await uow.audit([replace(entry, fields=names)])
            await uow.commit()
        return setting

    @audited("policies.history")
    async def history(self, actor: Actor, before: int | None, limit: int) -> Sequence[Setting]:
        """The newest first."""
        authorise(actor, Permission.READ_POLICIES)
        async with self._uow() as uow:
            return await uow.policies.history(actor.practice_id, before, limit)


def _check(fields: Mapping[str, Mapping[str, str]]) -> None:
    errors: list[FieldError] = []
    for collection, wanted in fields.items():
        if collection not in tuple(Collection):
            errors.append(FieldError(printable(collection), "unknown", "is nothing that has policies"))
            continue
        try:
            tightened(DECLARED[Collection(collection)], wanted)
        except InvalidFields as wrong:
            errors += [FieldError(f"{collection}.{one.field}", one.code, one.message) for one in wrong.errors]
    if errors:
        raise InvalidFields(errors)
