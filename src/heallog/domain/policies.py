"""Policies: what becomes of a field that two people changed. Every field of every versioned type names its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from heallog.domain.errors import FieldError, InvalidFields


class Policy(StrEnum):
    """What happens when both sides changed a field."""

    MANUAL = "manual"
    """A person decides."""
    GROUP = "atomic_group"
    """Several fields are one value; a person decides about all of it."""
    LWW = "lww"
    """The later arrival stands, and is marked for review."""
    SET = "add_wins_set"
    """The union; a removal counts only against what its author saw."""
    TEXT = "text"
    """Merged by lines, then by words; a person decides where they overlap."""
    COUNTER = "counter"
    """What was added and taken away adds up."""
    MONOTONE = "monotone"
    """The one further on; never back."""
    IMMUTABLE = "immutable"
    """Not made to change; a person decides where two corrected it."""
    DERIVED = "derived"
    """Never compared; computed anew."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A field's policy and what belongs to it.

    `group` names the one value that this field is a part of. `each` is for an object whose entries are merged one by
    one, by the paths of `values.systolic`; `groups` says which entries form one value. `order` is the way of a status.
    """

    policy: Policy
    group: str = ""
    each: bool = False
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    order: tuple[str, ...] = ()
    settable: bool = field(default=True, compare=False)
    """Whether people write it; the rest is set by steps such as signing, or worked out."""

    def of(self, entry: str) -> "Rule":
        """The rule of one entry of an object whose entries are merged one by one."""
        for name, entries in self.groups:
            if entry in entries:
                return Rule(Policy.GROUP, group=name)
        return replace(self, each=False, groups=())


Rules = Mapping[str, Rule]

MANUAL: Final = Rule(Policy.MANUAL)
LWW: Final = Rule(Policy.LWW)
SET: Final = Rule(Policy.SET)
TEXT: Final = Rule(Policy.TEXT)
COUNTER: Final = Rule(Policy.COUNTER)
IMMUTABLE: Final = Rule(Policy.IMMUTABLE)
DERIVED: Final = Rule(Policy.DERIVED)


def group(name: str) -> Rule:
    """A part of the one value `name`."""
    return Rule(Policy.GROUP, group=name)


def monotone(*order: str) -> Rule:
    """A status that only moves on, in this order."""
    return Rule(Policy.MONOTONE, order=order)


def each(rule: Rule, **groups: tuple[str, ...]) -> Rule:
    """An object whose entries are merged one by one, each by `rule`; entries of one of `groups` are one value."""
    return replace(rule, each=True, groups=tuple(groups.items()))


class NoPolicy(TypeError):
    """A field of a versioned type says nothing about how it is merged."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"no policy: {', '.join(names)}")
        self.names = tuple(names)


class Declared(Protocol):
    """A field as far as merging looks at it."""

    @property
    def policy(self) -> Rule | None: ...
    @property
    def settable(self) -> bool: ...


def declared(fields: Mapping[str, Declared]) -> Rules:
    """The rules of a versioned type's fields. Raises `NoPolicy` where one is missing: its module cannot be imported."""
    if missing := [name for name, known in fields.items() if known.policy is None]:
        raise NoPolicy(missing)
    return {
        name: replace(known.policy, settable=known.settable)
        for name, known in fields.items()
        if known.policy is not None
    }


def members(name: str, rules: Rules) -> list[str]:
    """The paths of the fields that are the one value `name`."""
    fields = [path for path, rule in rules.items() if rule.group == name]
    entries = [
        f"{path}.{entry}" for path, rule in rules.items() for of, those in rule.groups if of == name for entry in those
    ]
    return sorted([*fields, *entries])


_LOOSER = (Policy.LWW, Policy.SET, Policy.TEXT, Policy.COUNTER)
"""What merges by itself and so can be tightened."""


def tightened(rules: Rules, stricter: Mapping[str, str]) -> Rules:
    """The rules of a practice that wants to decide about some fields itself: `manual`, where they would merge alone.

    Raises `InvalidFields` naming each field of which this cannot be asked.
    """
    errors = [error for name, wanted in stricter.items() if (error := _refusal(rules.get(name), name, wanted))]
    if errors:
        raise InvalidFields(errors)
    return {name: MANUAL if name in stricter else rule for name, rule in rules.items()}


def _refusal(rule: Rule | None, name: str, wanted: str) -> FieldError | None:
    if rule is None:
        return FieldError(name, "unknown", "is not a field here")
    if wanted != Policy.MANUAL:
        return FieldError(name, "choice", "a policy can only be tightened, to manual")
    if rule.policy not in (*_LOOSER, Policy.MANUAL):
        return FieldError(name, "policy", f"is {rule.policy}, which manual would not tighten")
    return None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a practice has tightened, as of setting `number`: by collection, the fields that its people decide about."""

    practice_id: str
    number: int
    at: datetime
    account_id: str
    reason: str
    fields: Mapping[str, Mapping[str, str]]

    def rules(self, collection: str, declared: Rules) -> Rules:
        """A type's rules as the practice wants them. A field that the type does not have is another type's."""
        wanted = self.fields.get(collection, {})
        return tightened(declared, {name: policy for name, policy in wanted.items() if name in declared})
