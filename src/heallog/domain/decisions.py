"""Decisions: what a person's choices about a conflict mean for the head."""

from collections.abc import Mapping, Sequence
from typing import Any

from heallog.domain.canon import same
from heallog.domain.conflicts import Conflict, Content, Dispute, at_path
from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import printable


def decided(conflict: Conflict, choices: Mapping[str, Any]) -> dict[str, Any]:
    """What each disputed field shall be, by its path: the choices of a person, one for every field.

    A choice is `{"take": "mine" | "theirs" | "base"}` or `{"value": …}`; where several edits were held back, `mine`
    says which by `"branch_version"`. Raises `InvalidFields` naming every choice that is missing or wrong.
    """
    fields = {dispute.field: dispute.group for dispute in conflict.disputed}
    errors = [
        FieldError(f"choices.{printable(name)}", "unknown", "is not disputed here")
        for name in sorted(set(choices) - set(fields))
    ]
    values: dict[str, Any] = {}
    sides: dict[str, set[Any]] = {}
    for name, group in fields.items():
        try:
            side, values[name] = _chosen([one for one in conflict.disputes if one.field == name], choices, name)
        except _Wrong as wrong:
            errors.append(FieldError(f"choices.{name}{wrong.part}", wrong.code, wrong.message))
        else:
            sides.setdefault(group or name, set()).add(side)
    errors += [
        FieldError(f"choices.{name}", "group", "belongs together with others: take all of them from one side")
        for name, group in fields.items()
        if group and len(sides.get(group, ())) > 1
    ]
    if errors:
        raise InvalidFields(errors)
    return values


class _Wrong(Exception):
    def __init__(self, part: str, code: str, message: str) -> None:
        super().__init__(message)
        self.part = part
        self.code = code
        self.message = message


Side = tuple[str, int]


def _chosen(disputes: Sequence[Dispute], choices: Mapping[str, Any], name: str) -> tuple[Side, Any]:
    """Which side a choice takes (and of which branch), and the value that it means. Raises `_Wrong`."""
    if name not in choices:
        raise _Wrong("", "required", "a choice is required")
    choice = choices[name]
    if not isinstance(choice, dict) or not (choice.keys() == {"value"} or "take" in choice):
        raise _Wrong("", "choice", 'must be {"take": "mine" | "theirs" | "base"} or {"value": …}')
    if "take" not in choice:
        return ("value", 0), choice["value"]
    take, branch = choice["take"], choice.get("branch_version")
    if take not in ("mine", "theirs", "base"):
        raise _Wrong(".take", "choice", "must be one of mine, theirs, base")
    if choice.keys() - {"take", "branch_version"} or (branch is not None and take != "mine"):
        raise _Wrong("", "choice", "take may have a branch_version beside it, where it is mine, and nothing else")
    if take != "mine":
        return (take, 0), disputes[0].theirs if take == "theirs" else disputes[0].base
    held = [one for one in disputes if one.branch == branch or (branch is None and not one.settled)]
    if not held:
        raise _Wrong(".branch_version", "choice", "no edit of this field was held back there")
    if any(not same(held[0].mine, other.mine) for other in held):
        numbers = ", ".join(str(one.branch) for one in held)
        raise _Wrong(".branch_version", "required", f"several were held back, on versions {numbers}: say which")
    return ("mine", held[0].branch), held[0].mine


def as_changes(content: Content, values: Mapping[str, Any]) -> dict[str, Any]:
    """Chosen values by path as a change of whole fields; what the content says already is left out."""
    changes: dict[str, Any] = {}
    for path, value in values.items():
        if same(at_path(content, path), value):
            continue
        name, dot, entry = path.partition(".")
        if not dot:
            changes[name] = value
            continue
        whole = dict(changes[name] if name in changes else content.get(name) or {})
        whole.pop(entry, None)
        changes[name] = whole if value is None else {**whole, entry: value}
    return changes
