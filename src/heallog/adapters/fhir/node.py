"""Reading a foreign JSON object: typed, and by a path that the message can name."""

import math
import re
from typing import Any

from heallog.domain.fields import MAX_SAFE_INTEGER

Body = dict[str, Any]

_BREAKS = re.compile(r"[\t\r\n]+")


class Refused(Exception):
    """Why a resource is not taken, for the person who imports it."""


class Node:
    """An object of a resource and the path to it (`component.0.`). `null`, `""` and `[]` are absence.

    A getter raises `Refused` where a value has another type than FHIR gives it; it never converts.
    """

    __slots__ = ("fields", "path")

    def __init__(self, fields: dict[str, Any], path: str = "") -> None:
        # FHIR forbids to go on where a modifier extension is not understood: it may negate what stands beside it.
        if fields.get("modifierExtension"):
            raise Refused(f"{path}modifierExtension: changes the meaning in a way that HealLog does not know")
        self.fields = fields
        self.path = path

    def text(self, name: str) -> str:
        """One line: tabs and line breaks are folded into a space."""
        value = self.lines(name)
        return value if value.isprintable() else _BREAKS.sub(" ", value)

    def lines(self, name: str) -> str:
        """Text as it stands."""
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value if value.strip() else ""

    def number(self, name: str) -> int | float | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(name, "a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        if abs(value) > MAX_SAFE_INTEGER:
            raise Refused(f"{self.path}{name}: must lie within plus or minus 2^53 - 1")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def node(self, name: str) -> "Node":
        """The object under a name; an empty one where there is none, so that reading on finds nothing."""
        value = self.fields.get(name)
        if value is None:
            return _NOTHING
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Node(value, f"{self.path}{name}.")

    def nodes(self, name: str) -> "list[Node]":
        found = []
        for index, value in self._items(name):
            if not isinstance(value, dict):
                raise self.wrong(f"{name}.{index}", "an object")
            found.append(Node(value, f"{self.path}{name}.{index}."))
        return found

    def first(self, name: str) -> "Node":
        """The first of several objects, or an empty one."""
        return next(iter(self.nodes(name)), _NOTHING)

    def texts(self, name: str) -> list[str]:
        found = []
        for index, value in self._items(name):
            if not isinstance(value, str):
                raise self.wrong(f"{name}.{index}", "a string")
            if value.strip():
                found.append(_BREAKS.sub(" ", value))
        return found

    def wrong(self, name: str, wanted: str) -> Refused:
        return Refused(f"{self.path}{name}: must be {wanted}")

    def _items(self, name: str) -> list[tuple[int, Any]]:
        value = self.fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return [(index, item) for index, item in enumerate(value) if item is not None]


_NOTHING = Node({})


def present(body: Body) -> Body:
    """Without what says nothing: None, empty text, empty lists and objects. `0` and `false` say something."""
    return {name: value for name, value in body.items() if value or value == 0}


def shown(text: str) -> str:
    """What a message may quote: printable and short."""
    return ascii(text) if len(text) <= 60 else f"{text[:57]!a}..."
