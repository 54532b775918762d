"""Merging: two edits of one thing, made without knowledge of each other, become one, or the conflict is named.

Nothing here looks at a clock or asks who is who: `theirs` was committed first, `mine` arrives.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from fractions import Fraction
from typing import Any

from heallog.domain.canon import canonical, same
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import Errors, Fields, check_fields
from heallog.domain.narrative import Woven, weave
from heallog.domain.policies import MANUAL, Policy, Rule, Rules, declared
from heallog.domain.versions import differing, immutable

# -- what a type of content says about itself ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule over several fields, and what is said where it does not hold."""

    fields: tuple[str, ...]
    error: FieldError
    holds: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a content breaks, and the fields that can be to blame."""

    fields: tuple[str, ...]
    error: FieldError


@dataclass(frozen=True, slots=True)
class Mergeable:
    """One type of content: the policies of its fields, what follows from others, and every rule that one breaks.

    `derived` are the fields that follow from others, `entered` those whose entries are merged one by one.
    """

    rules: Rules
    derive: Callable[[Mapping[str, Any]], dict[str, Any]]
    broken: Callable[[Mapping[str, Any]], Sequence[Broken]]
    derived: tuple[str, ...]
    entered: frozenset[str]

    @classmethod
    def of(
        cls, fields: Fields, derive: Callable[[Mapping[str, Any]], dict[str, Any]], invariants: Sequence[Invariant]
    ) -> "Mergeable":
        """The type with these fields. Raises `NoPolicy` where one does not say how it is merged."""
        rules = declared(fields)
        follow = tuple(name for name, rule in rules.items() if rule.policy is Policy.DERIVED)
        by_entry = frozenset(name for name, rule in rules.items() if rule.each)
        return cls(rules, derive, breaks(fields, invariants), follow, by_entry)


def whole(content: dict[str, Any], invariants: Iterable[Invariant], errors: Errors) -> dict[str, Any]:
    """The content, if it breaks no rule. Raises `InvalidFields` with what was found before, or else with these."""
    if not errors:
        errors += [rule.error for rule in invariants if not rule.holds(content)]
    if errors:
        raise InvalidFields(errors)
    return content


def breaks(fields: Fields, invariants: Sequence[Invariant]) -> Callable[[Mapping[str, Any]], Sequence[Broken]]:
    """A content's broken shapes and, as far as the fields that they are about have the right ones, its broken rules."""

    def broken(content: Mapping[str, Any]) -> Sequence[Broken]:
        errors: Errors = []
        check_fields(fields, content, errors, stored=True)
        if not errors:
            return [Broken(rule.fields, rule.error) for rule in invariants if not rule.holds(content)]
        found = [Broken((_place(error.field, fields),), error) for error in errors]
        unsound = {error.field.partition(".")[0] for error in errors}
        sound = (rule for rule in invariants if unsound.isdisjoint(rule.fields))
        return found + [Broken(rule.fields, rule.error) for rule in sound if not rule.holds(content)]

    return broken


def _place(path: str, fields: Fields) -> str:
    """The field that an error is about: `tags` for `tags.3`, `values.pulse` for `values.pulse.unit`."""
    name, _, inner = path.partition(".")
    rule = fields[name].policy if name in fields else None
    return f"{name}.{inner.partition('.')[0]}" if rule is not None and rule.each and inner else name


# -- what comes out -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clash:
    """One field that both sides changed. None is absence.

    `proposal` is what was merged, or both passages of a text; None where nothing is proposed.
    """

    field: str
    policy: Policy
    group: str
    base: Any
    theirs: Any
    mine: Any
    proposal: Any


@immutable
class Merged:
    """One content out of two. `took` are the fields in which it differs from theirs; `reviews` ask for a look."""

    content: dict[str, Any]
    took: tuple[str, ...]
    reviews: tuple[Clash, ...]


@dataclass(frozen=True, slots=True)
class Conflicted:
    """What could be merged is, all else is as theirs has it. `broken` are rules that mine would have broken."""

    content: dict[str, Any]
    took: tuple[str, ...]
    reviews: tuple[Clash, ...]
    clashes: tuple[Clash, ...]
    broken: tuple[FieldError, ...]


# -- merging ------------------------------------------------------------------------------------------------------

Content = Mapping[str, Any]


def flat(content: Content, rules: Rules) -> dict[str, Any]:
    """Values by path: an object whose entries are merged one by one is told by them, and as empty where it has none."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) and value and _by_entry(name, rules):
            values.update((f"{name}.{entry}", inner) for entry, inner in value.items())
        else:
            values[name] = value
    return values


def rule_of(path: str, rules: Rules) -> Rule:
    """The rule of a path. A field that is not declared (any more) is nobody's to merge."""
    if path in rules:
        return rules[path]
    name, _, entry = path.partition(".")
    return rules[name].of(entry) if entry and _by_entry(name, rules) else MANUAL


def _by_entry(name: str, rules: Rules) -> bool:
    return name in rules and rules[name].each


def three_way_merge(base: Content, theirs: Content, mine: Content, policies: Mergeable) -> Merged | Conflicted:
    """Theirs with what mine changed, field by field, each by its policy."""
    return passed_by(base, theirs, mine, policies) or met(base, theirs, mine, policies)


def passed_by(base: Content, theirs: Content, mine: Content, policies: Mergeable) -> Merged | None:
    """What `met` comes to where no value was changed by both, as most edits are, without asking each policy.

    None where anything has to be decided: then `met` decides.
    """
    rules = policies.rules
    one, two, three = _entered(base, policies), _entered(theirs, policies), _entered(mine, policies)
    by_them, by_me = differing(one, two), differing(one, three)
    units: dict[str, str] = {}
    for path in (*by_them, *by_me):
        rule = rule_of(path, rules)
        if rule.policy is Policy.MONOTONE:
            return None
        units[path] = _unit(path, rule.group)
    if not {units[path] for path in by_them}.isdisjoint(units[path] for path in by_me):
        return None
    values = {**two, **{path: three.get(path) for path in by_me}}
    plain = one is base and two is theirs and three is mine and None not in values.values()
    content = policies.derive(values) if plain else _whole(values, policies)
    if policies.broken(content):
        return None
    # An object that I took away empty is there all the same where they filled it: what I changed may come to nothing.
    took = differing(content, theirs) if plain else differing(flat(content, rules), flat(theirs, rules))
    return Merged(content, _told({*took}), ())


def _entered(side: Content, policies: Mergeable) -> Content:
    """Values by path; that an object with entries is there at all is a value of its own."""
    if policies.entered.isdisjoint(side):
        return side
    rules = policies.rules
    objects = [name for name in policies.entered if isinstance(side.get(name), dict) and _by_entry(name, rules)]
    values = dict(side)
    for name in objects:
        values[name] = {}
        values.update((f"{name}.{entry}", inner) for entry, inner in side[name].items())
    return values


def met(base: Content, theirs: Content, mine: Content, policies: Mergeable) -> Merged | Conflicted:
    """Every field by its policy."""
    rules = policies.rules
    units = _units(base, theirs, mine, policies)
    found = dict(sorted((path, one) for unit in units for path, one in _together(unit)))
    errors = _settle(found, theirs, mine, policies)
    content = _content(found, policies)
    took = _told({*differing(flat(content, rules), flat(theirs, rules))})
    reviews = tuple(one.sides for one in found.values() if one.mark is _Mark.REVIEW)
    clashes = tuple(_fitting(clash, content, policies) for clash in _clashes(found))
    if clashes or errors:
        return Conflicted(content, took, reviews, clashes, errors)
    return Merged(content, took, reviews)


class _Mark(Enum):
    CLEAN = auto()
    REVIEW = auto()
    HELD = auto()


@dataclass(frozen=True, slots=True)
class _Found:
    """What became of one field: its value, and the value that it would have, had the two come the other way round."""

    sides: Clash
    value: Any
    turned: Any
    mark: _Mark = _Mark.CLEAN


def _both(sides: Clash, value: Any) -> _Found:
    return _Found(sides, value, value)


def _held(sides: Clash) -> _Found:
    """Whoever came first stays; a person decides."""
    return _Found(sides, sides.theirs, sides.mine, _Mark.HELD)


def _content(found: Mapping[str, _Found], policies: Mergeable, *, turned: bool = False) -> dict[str, Any]:
    """The content of what was found, or of what would be, had the two come the other way round."""
    return _whole({path: one.turned if turned else one.value for path, one in found.items()}, policies)


def _whole(values: Content, policies: Mergeable) -> dict[str, Any]:
    """A content of its values by path, with what follows from them."""
    content: dict[str, Any] = {}
    for path, value in values.items():
        name, _, entry = path.partition(".")
        if value is None:
            continue
        if not _by_entry(name, policies.rules):
            content[path] = value
        elif entry:
            content.setdefault(name, {})[entry] = value
        else:
            content.setdefault(name, {})
    return policies.derive(content)


Unit = list[tuple[Clash, Rule]]


def _units(base: Content, theirs: Content, mine: Content, policies: Mergeable) -> Iterable[Unit]:
    """What is merged as one: a field, or the fields of a group; the three values of each.

    That an object with entries is there at all is merged like a field of its own.
    """
    one, two, three = (_entered(side, policies) for side in (base, theirs, mine))
    units: dict[str, Unit] = {}
    for path in sorted(one.keys() | two.keys() | three.keys()):
        rule = rule_of(path, policies.rules)
        sides = Clash(path, rule.policy, rule.group, one.get(path), two.get(path), three.get(path), proposal=None)
        units.setdefault(_unit(path, rule.group), []).append((sides, rule))
    return units.values()


def _unit(path: str, group: str) -> str:
    """The name of what a field is merged with: its group, or itself alone."""
    return f"{path.rpartition('.')[0]} {group}" if group else path


def _together(unit: Unit) -> Iterator[tuple[str, _Found]]:
    """What becomes of each field of one unit."""
    back = any(rule.policy is Policy.MONOTONE and _goes_back(sides, rule.order) for sides, rule in unit)
    if not back and all(same(sides.base, sides.mine) for sides, _ in unit):
        return ((sides.field, _both(sides, sides.theirs)) for sides, _ in unit)
    if not back and all(same(sides.base, sides.theirs) for sides, _ in unit):
        return ((sides.field, _both(sides, sides.mine)) for sides, _ in unit)
    return ((sides.field, _apart(sides, rule)) for sides, rule in unit)


def _apart(sides: Clash, rule: Rule) -> _Found:
    """What becomes of a field of a unit that both sides changed."""
    theirs, mine = sides.theirs, sides.mine
    if same(theirs, mine):
        return _both(sides, theirs)
    match rule.policy:
        case Policy.LWW:
            found = _Found(replace(sides, proposal=mine), mine, theirs, _Mark.REVIEW)
        case Policy.SET:
            found = _both(sides, _union(sides.base, theirs, mine))
        case Policy.TEXT:
            found = _woven(sides)
        case Policy.COUNTER if theirs is not None and mine is not None:
            found = _both(sides, _counted(sides.base or 0, theirs, mine))
        case Policy.MONOTONE if not _goes_back(sides, rule.order):
            found = _both(sides, max(theirs, mine, key=lambda word: _rank(word, rule.order)))
        case Policy.DERIVED:
            found = _both(sides, theirs)
        case _:
            found = _held(sides)
    return found


def _goes_back(sides: Clash, order: tuple[str, ...]) -> bool:
    """Whether a side left the way from base onwards."""
    return min(_rank(sides.theirs, order), _rank(sides.mine, order)) < _rank(sides.base, order)


def _rank(word: str | None, order: tuple[str, ...]) -> int:
    """How far on a status is. None comes before the first; a word that is not on the way leads nowhere."""
    return order.index(word) if word in order else -1 if word is None else -2


def _union(base: list[Any] | None, theirs: list[Any] | None, mine: list[Any] | None) -> list[Any] | None:
    """What both kept, in base's order, then what either added, in one order whoever came first."""
    before, one, other = ({canonical(item): item for item in side or ()} for side in (base, theirs, mine))
    kept = [item for key, item in before.items() if key in one and key in other]
    added = {key: item for key, item in (one | other).items() if key not in before}
    union = kept + [added[key] for key in sorted(added)]
    return union if union or (theirs is not None and mine is not None) else None


def _counted(base: float, theirs: float, mine: float) -> float:
    """What was added and taken away by both, to the last decimal."""
    count = float(Fraction(str(theirs)) + Fraction(str(mine)) - Fraction(str(base)))
    return int(count) if count.is_integer() else count


def _woven(sides: Clash) -> _Found:
    """Two texts. No text is merged as an empty one; what both emptied is gone if one side took it away."""
    woven = weave(sides.base or "", sides.theirs or "", sides.mine or "")
    marked = replace(sides, proposal=woven.text)
    if woven.how is Woven.OVERLAP:
        return _held(marked)
    text = woven.text or (None if sides.theirs is None or sides.mine is None else "")
    return _Found(marked, text, text, _Mark.REVIEW if woven.how is Woven.WORDS else _Mark.CLEAN)


def _told(paths: set[str]) -> tuple[str, ...]:
    """An object with entries is told by them."""
    return tuple(sorted(paths - {path.partition(".")[0] for path in paths if "." in path}))


# -- rules after the merge ----------------------------------------------------------------------------------------


def _settle(found: dict[str, _Found], theirs: Content, mine: Content, policies: Mergeable) -> tuple[FieldError, ...]:
    """Hold back what would break a rule that the sides kept; tell which rules.

    The merge is looked at from both ends, so that the same fields clash whoever came first.
    """
    errors: set[FieldError] = set()
    while True:
        broken = _newly_broken(_content(found, policies), theirs, policies)
        if any(one.mark is not _Mark.CLEAN for one in found.values()):
            broken += _newly_broken(_content(found, policies, turned=True), mine, policies)
        doubtful = _doubtful(found, {name for one in broken for name in one.fields}) if broken else {}
        if not doubtful:
            return tuple(sorted(errors, key=lambda error: (error.field, error.code, error.message)))
        errors.update(one.error for one in broken)
        found.update({path: _held(replace(sides, proposal=None)) for path, sides in doubtful.items()})


def _newly_broken(content: Content, before: Content, policies: Mergeable) -> list[Broken]:
    """The rules that a content breaks and the side it goes on from does not."""
    if not (broken := policies.broken(content)):
        return []
    known = {(one.fields, one.error.field, one.error.code) for one in policies.broken(before)}
    return [one for one in broken if (one.fields, one.error.field, one.error.code) not in known]


def _doubtful(found: Mapping[str, _Found], names: Collection[str]) -> dict[str, Clash]:
    """What is not held yet of the named fields, and of what is merged with them; where nothing is, all the rest."""
    differing = {
        path: one.sides
        for path, one in found.items()
        if one.mark is not _Mark.HELD
        and one.sides.policy is not Policy.DERIVED
        and not same(one.sides.theirs, one.sides.mine)
    }
    units = {path: _unit(path, sides.group) for path, sides in differing.items()}
    named = {units[path] for path in differing if path in names or path.partition(".")[0] in names}
    return {path: sides for path, sides in differing.items() if units[path] in named} or differing


def _clashes(found: Mapping[str, _Found]) -> Iterator[Clash]:
    """What is held back, field by field; an object with entries is told by them."""
    held = [one.sides for one in found.values() if one.mark is _Mark.HELD]
    whole = {sides.field.partition(".")[0] for sides in held if "." in sides.field}
    return (sides for sides in held if sides.field not in whole)


def _fitting(clash: Clash, content: Content, policies: Mergeable) -> Clash:
    """The clash with a proposal that the field has room for: two passages can be longer than one may be."""
    if clash.proposal is None:
        return clash
    broken = policies.broken({**content, clash.field: clash.proposal})
    return replace(clash, proposal=None) if any(clash.field in one.fields for one in broken) else clash
