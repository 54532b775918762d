"""Conflicts: what no policy may merge silently, kept with everything that a person needs to decide.

The head keeps the first committed value, the other stays on a branch version. A thing has at most one open conflict:
what else is disputed meanwhile joins it.
"""

from collections.abc import Collection as Names
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from heallog.domain.canon import moment, same
from heallog.domain.errors import HeldBack, VersionConflict
from heallog.domain.merging import Clash, Conflicted, Mergeable, flat, rule_of, three_way_merge
from heallog.domain.policies import Policy, Rules, members
from heallog.domain.versions import Collection, Head, Version, immutable

Content = Mapping[str, Any]

DELETED = "deleted"
"""The field under which a deletion is disputed: true or false."""


class Kind(StrEnum):
    """What clashed; the later in this list is the graver."""

    FIELD = "field"
    GROUP = "group"
    INVARIANT = "invariant"
    CREATE_CREATE = "create_create"
    DELETE_EDIT = "delete_edit"
    SIGNED = "signed"


class Severity(StrEnum):
    """`soft`: merged, for review. `hard`: held back. `safety`: held back, and a wrong value could hurt."""

    SOFT = "soft"
    HARD = "hard"
    SAFETY = "safety"


class State(StrEnum):
    """`superseded`: nothing is disputed any more, though nobody decided."""

    OPEN = "open"
    RESOLVED = "resolved"
    SUPERSEDED = "superseded"


_KINDS, _SEVERITIES = tuple(Kind), tuple(Severity)

SAFETY = frozenset(
    {
        *("dose", "dose_unit", "route", "frequency", "as_needed", "instructions", "substance", "criticality"),
        *("family_name", "given_name", "birth_date", "sex", "species", "identifiers"),
        *("blood_group", "deceased", "deceased_at"),
    }
)
"""Fields (and every measured value) in which a wrong value could hurt."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """One field: `theirs` is the head's value, `mine` the one that was held back, on version `branch` by `author_id`.

    None is a value that is absent. `group` names the fields that are one value with it.
    """

    field: str
    kind: Kind
    severity: Severity
    policy: str
    group: str
    base: Any
    theirs: Any
    mine: Any
    proposal: Any
    branch: int
    author_id: str
    device_id: str
    at: datetime

    @property
    def settled(self) -> bool:
        return same(self.theirs, self.mine)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who decided what, why, and the version that it made."""

    account_id: str
    at: datetime
    reason: str
    version: int
    choices: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Edits of one thing that wait for a person. `base_version` is the oldest version that one of them started from."""

    practice_id: str
    id: str
    collection: Collection
    thing_id: str
    patient_id: str
    state: State
    base_version: int
    head_version: int
    branches: tuple[int, ...]
    disputes: tuple[Dispute, ...]
    opened_at: datetime
    updated_at: datetime
    resolution: Resolution | None = None

    @property
    def kind(self) -> Kind:
        """The gravest of its disputes."""
        return max((dispute.kind for dispute in self.disputed), key=_KINDS.index)

    @property
    def severity(self) -> Severity:
        return max((dispute.severity for dispute in self.disputed), key=_SEVERITIES.index)

    @property
    def disputed(self) -> tuple[Dispute, ...]:
        """What is to be decided. The rest is kept because it is one value with something of it."""
        left = tuple(dispute for dispute in self.disputes if not dispute.settled)
        return left or self.disputes

    @property
    def held(self) -> tuple[Dispute, ...]:
        """What is held back, and not only shown for review."""
        return tuple(dispute for dispute in self.disputed if dispute.severity is not Severity.SOFT)


def document(conflict: Conflict) -> dict[str, Any]:
    """A conflict as the API shows it."""
    resolution = conflict.resolution
    return {
        "id": conflict.id,
        "collection": conflict.collection,
        "thing_id": conflict.thing_id,
        "patient_id": conflict.patient_id,
        "kind": conflict.kind,
        "severity": conflict.severity,
        "state": conflict.state,
        "base_version": conflict.base_version,
        "head_version": conflict.head_version,
        "branch_versions": list(conflict.branches),
        "fields": [_shown(dispute) for dispute in conflict.disputed],
        "opened_at": moment(conflict.opened_at),
        "updated_at": moment(conflict.updated_at),
        "resolution": None
        if resolution is None
        else {
            "account_id": resolution.account_id,
            "at": moment(resolution.at),
            "reason": resolution.reason,
            "version": resolution.version,
            "choices": dict(resolution.choices),
        },
    }


def _shown(dispute: Dispute) -> dict[str, Any]:
    return {
        "field": dispute.field,
        "kind": dispute.kind,
        "severity": dispute.severity,
        "policy": dispute.policy,
        "group": dispute.group or None,
        "base": dispute.base,
        "theirs": dispute.theirs,
        "mine": dispute.mine,
        "proposal": dispute.proposal,
        "branch_version": dispute.branch,
        "author_id": dispute.author_id,
        "device_id": dispute.device_id or None,
        "at": moment(dispute.at),
    }


def held_back(conflict: Conflict, head: Head, message: str, **context: Any) -> HeldBack:
    """The answer to whoever's edit was held back."""
    return HeldBack(message, context=_context(conflict, head, **context))


def moved_on(conflict: Conflict, head: Head, message: str) -> VersionConflict:
    """The answer to whoever decides about what is not so any more."""
    return VersionConflict(message, context=_context(conflict, head))


def _context(conflict: Conflict, head: Head, **more: Any) -> dict[str, Any]:
    content = None if head.content is None else head.fields()
    return {"version": head.version, "head": content, "conflict": document(conflict), **more}


# -- edits that come late -----------------------------------------------------------------------------------------


@immutable
class Origin:
    """Where a value stands: the version, and who made it where and when. Of a head the device is not known."""

    number: int
    author_id: str
    device_id: str
    at: datetime

    @classmethod
    def of(cls, made: Version | Head) -> "Origin":
        if isinstance(made, Head):
            return cls(made.version, made.updated_by, "", made.updated_at)
        return cls(made.number, made.author_id, made.device_id, made.received_at)


@immutable
class Edit:
    """What someone made of an older version: the content of that version, the one they changed, and what came of it.

    `base` is the content of what the same device submitted last on the version that it names, else of that version
    itself: so neither a lost answer nor a second edit before the first answer looks like somebody else's change.
    """

    ancestor: Content
    base: Content
    mine: Content
    locked: bool = False
    """Whether the head takes no edit of this sort: it was signed meanwhile, or marked as entered in error."""


@immutable
class Reconciled:
    """The head's content after an edit, which fields it brought, and what is disputed now."""

    content: Content
    took: tuple[str, ...]
    disputes: tuple[Dispute, ...]


def reconcile(theirs: Content, edit: Edit, policies: Mergeable, branch: Origin, overwritten: Origin) -> Reconciled:
    """Merge an edit into the head's content. `branch` keeps the edit; `overwritten` is the head before it."""
    merged = three_way_merge(edit.base, theirs, edit.mine, policies)
    if edit.locked:
        proposed = list(_proposed(theirs, edit, merged.content, policies.rules, branch))
        disputes = [*proposed, *_companions(proposed, theirs, edit, policies.rules)]
        return Reconciled(theirs, (), _since(edit.ancestor, disputes))
    disputes = [_reviewed(clash, branch, overwritten) for clash in merged.reviews]
    if isinstance(merged, Conflicted):
        held = [_dispute(clash, _kind(clash, merged), branch) for clash in merged.clashes]
        disputes += [*held, *_companions(held, theirs, edit, policies.rules)]
    return Reconciled(merged.content, merged.took, _since(edit.ancestor, disputes))


def _since(ancestor: Content, disputes: Iterable[Dispute]) -> tuple[Dispute, ...]:
    """What a person calls the base is the version that both sides go back to, not a value withdrawn since."""
    return tuple(replace(dispute, base=at_path(ancestor, dispute.field)) for dispute in disputes)


def _proposed(theirs: Content, edit: Edit, merged: Content, rules: Rules, branch: Origin) -> Iterable[Dispute]:
    """Every field that the edit changed, as a proposed amendment: as it merges, or else as it was entered."""
    base, head, mine = flat(edit.base, rules), flat(theirs, rules), flat(edit.mine, rules)
    for name in sorted(base.keys() | mine.keys()):
        changed = not same(base.get(name), mine.get(name)) and not same(head.get(name), mine.get(name))
        if changed and rule_of(name, rules).settable:
            rule, together = rule_of(name, rules), at_path(merged, name)
            proposal = mine.get(name) if same(together, head.get(name)) else together
            clash = Clash(name, Policy.IMMUTABLE, rule.group, base.get(name), head.get(name), mine.get(name), proposal)
            yield _dispute(clash, Kind.SIGNED, branch)


def _kind(clash: Clash, merged: Conflicted) -> Kind:
    one_sided = same(clash.base, clash.theirs) or same(clash.base, clash.mine)
    if merged.broken and (one_sided or clash.policy in (Policy.SET, Policy.COUNTER, Policy.LWW)):
        return Kind.INVARIANT
    return Kind.GROUP if clash.policy is Policy.GROUP else Kind.FIELD


def _companions(held: Sequence[Dispute], theirs: Content, edit: Edit, rules: Rules) -> Iterable[Dispute]:
    """The other fields of a disputed group, on which both sides agree now, be it in having none.

    The head may move on before anybody decides: a dose that was held back must not meet another unit then.
    """
    base, head, mine = flat(edit.base, rules), flat(theirs, rules), flat(edit.mine, rules)
    told = {dispute.field for dispute in held}
    for group in {dispute.group: dispute for dispute in held if dispute.group}.values():
        for name in members(group.group, rules):
            if name not in told:
                yield replace(
                    group, field=name, base=base.get(name), theirs=head.get(name), mine=mine.get(name), proposal=None
                )


def _reviewed(clash: Clash, branch: Origin, overwritten: Origin) -> Dispute:
    """A field that was merged, for a person to look at: what the head lost, and where it is kept."""
    if clash.policy is Policy.LWW:
        lost = replace(clash, theirs=clash.mine, mine=clash.theirs)
        return _dispute(lost, Kind.FIELD, overwritten, Severity.SOFT)
    return _dispute(replace(clash, theirs=clash.proposal), Kind.FIELD, branch, Severity.SOFT)


def _dispute(clash: Clash, kind: Kind, origin: Origin, severity: Severity | None = None) -> Dispute:
    return Dispute(
        field=clash.field,
        kind=kind,
        severity=severity or _severity(clash.field),
        policy=clash.policy,
        group=clash.group,
        base=clash.base,
        theirs=clash.theirs,
        mine=clash.mine,
        proposal=clash.proposal,
        branch=origin.number,
        author_id=origin.author_id,
        device_id=origin.device_id,
        at=origin.at,
    )


def _severity(field: str) -> Severity:
    return Severity.SAFETY if field in SAFETY or field.startswith("values.") else Severity.HARD


def deletion(origin: Origin) -> Dispute:
    """A deletion that was held back because someone had edited meanwhile: the edit survives, and this says so."""
    return _dispute(Clash(DELETED, Policy.MANUAL, "", False, False, True, None), Kind.DELETE_EDIT, origin)


def twins(theirs: Content, mine: Content, rules: Rules, branch: Origin) -> tuple[Dispute, ...]:
    """Two creations of one id: the first is the head, the other is kept, field by field."""
    head, other = flat(theirs, rules), flat(mine, rules)
    held = [
        _dispute(
            Clash(
                name,
                rule_of(name, rules).policy,
                rule_of(name, rules).group,
                None,
                head.get(name),
                other.get(name),
                None,
            ),
            Kind.CREATE_CREATE,
            branch,
        )
        for name in sorted(head.keys() | other.keys())
        if rule_of(name, rules).settable and not same(head.get(name), other.get(name))
    ]
    return (*held, *_companions(held, theirs, Edit({}, {}, mine), rules))


# -- a conflict's life --------------------------------------------------------------------------------------------


def opened(conflict_id: str, head: Head, base_version: int, disputes: Sequence[Dispute], at: datetime) -> Conflict:
    """A new conflict about a thing, as its head stands now."""
    return Conflict(
        practice_id=head.practice_id,
        id=conflict_id,
        collection=head.collection,
        thing_id=head.id,
        patient_id=head.patient_id,
        state=State.OPEN,
        base_version=base_version,
        head_version=head.version,
        branches=tuple(sorted({dispute.branch for dispute in disputes})),
        disputes=tuple(disputes),
        opened_at=at,
        updated_at=at,
    )


def joined(
    conflict: Conflict, base_version: int, disputes: Sequence[Dispute], device_id: str = "", names: Names[str] = ()
) -> Conflict:
    """The conflict after a device changed what is disputed under `names`, with what is disputed about that.

    What the device says anew takes the place of what was held back of it before; it may agree with the head now.
    """
    changed = [one for one in conflict.disputes if one.device_id == device_id and one.field in names]
    anew = {key for one in changed for key in _keys(one, whole=False)}
    anew |= {key for one in disputes if one.device_id for key in _keys(one, whole=True)}
    kept = [one for one in conflict.disputes if anew.isdisjoint(_keys(one, whole=True))]
    if not kept and not disputes:
        return replace(conflict, state=State.SUPERSEDED)
    return replace(
        conflict,
        base_version=min(conflict.base_version, base_version),
        branches=tuple(sorted({*conflict.branches, *(dispute.branch for dispute in disputes)})),
        disputes=(*kept, *disputes),
    )


def touched(conflict: Conflict, before: Content, after: Content) -> frozenset[str]:
    """What is disputed and differs between two contents. Of measured values each is one by itself."""
    fields = {dispute.field for dispute in conflict.disputes}
    return frozenset(name for name in fields if not same(at_path(before, name), at_path(after, name)))


def _keys(dispute: Dispute, *, whole: bool) -> set[tuple[str, str]]:
    """What a newer value of a device replaces: the field or its group; all of a creation, where it is created anew."""
    keys = {(dispute.group or dispute.field, dispute.device_id)}
    if whole and dispute.kind is Kind.CREATE_CREATE:
        keys.add((dispute.kind, dispute.device_id))
    return keys


def followed(conflict: Conflict, head: Head, at: datetime) -> Conflict:
    """The conflict after its head moved: `theirs` is what the head says now, and what agrees is no dispute any more.

    Where nothing is left, it is superseded; it then keeps what it was about. What was only for review goes with what
    is deleted.
    """
    if conflict.state is not State.OPEN:
        return replace(conflict, head_version=head.version, updated_at=at)
    content: Content = {} if head.content is None else head.fields()
    now = [
        replace(dispute, theirs=head.deleted if dispute.field == DELETED else at_path(content, dispute.field))
        for dispute in conflict.disputes
        if not (head.deleted and dispute.severity is Severity.SOFT)
    ]
    open_groups = {(dispute.group, dispute.branch) for dispute in now if dispute.group and not dispute.settled}
    left = tuple(dispute for dispute in now if not dispute.settled or (dispute.group, dispute.branch) in open_groups)
    if not left:
        return replace(conflict, state=State.SUPERSEDED, head_version=head.version, updated_at=at)
    return replace(conflict, disputes=left, head_version=head.version, updated_at=at)


def at_path(content: Content, path: str) -> Any:
    """The value of a field or, as `values.pulse`, of one entry of it. None where there is none."""
    name, dot, entry = path.partition(".")
    value = content.get(name)
    return (value or {}).get(entry) if dot else value
