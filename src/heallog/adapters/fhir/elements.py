"""FHIR's data types in our words: codes, quantities, the many kinds of values, periods, names of people."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from heallog.adapters.fhir.node import Body, Node, Refused, present, shown

# -- codes --------------------------------------------------------------------------------------------------------


class Concept(NamedTuple):
    """A CodeableConcept: the code that was chosen, and what a person reads."""

    code: Body
    title: str

    @property
    def word(self) -> str:
        """Something to show, the bare code if need be."""
        return self.title or str(self.code.get("code", ""))

    @property
    def status(self) -> str:
        """The code where there is one: statuses are compared, not read."""
        return str(self.code.get("code", "")) or self.title


def concept(node: Node) -> Concept:
    """The coding that the author picked, else the first that has a code."""
    text = node.text("text")
    codings = node.nodes("coding")
    coded = [coding for coding in codings if coding.text("code")]
    if not coded:
        return Concept({}, text or next(filter(None, (coding.text("display") for coding in codings)), ""))
    code = coding(next((one for one in coded if one.flag("userSelected")), coded[0]))
    return Concept(code, text or code.get("display", ""))


def coding(node: Node) -> Body:
    return present({"system": node.text("system"), "code": node.text("code"), "display": node.text("display")})


def word(node: Node) -> str:
    """A CodeableConcept in a word or two."""
    return concept(node).word


def coding_word(node: Node) -> str:
    """A Coding in a word or two."""
    return node.text("display") or node.text("code")


def words(nodes: Iterable[Node], between: str = ", ") -> str:
    """Several CodeableConcepts, each named once."""
    return between.join(unique(map(word, nodes)))


def unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, texts)))


# -- quantities and values ----------------------------------------------------------------------------------------


def unit(quantity: Node) -> str:
    return quantity.text("unit") or quantity.text("code")


def plain_number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else str(value)


def amount(quantity: Node) -> str:
    """`< 5 mg`, or "" where nothing is given."""
    value = plain_number(quantity.number("value"))
    return " ".join(filter(None, (quantity.text("comparator"), value, unit(quantity)))) if value else ""


def span_of(range: Node) -> str:
    """A Range: `5 to 10 mg`, `at least 5 mg`."""
    low, high = range.node("low"), range.node("high")
    least, most = amount(low), amount(high)
    if least and most:
        return f"{plain_number(low.number('value')) if unit(low) == unit(high) else least} to {most}"
    return f"at least {least}" if least else f"at most {most}" if most else ""


def _quantity(node: Node, name: str) -> Body:
    quantity = node.node(name)
    value = quantity.number("value")
    if value is None:
        return {}
    return {"value": value, "unit": unit(quantity), "comparator": quantity.text("comparator")}


def _concept(node: Node, name: str) -> Body:
    found = concept(node.node(name))
    return {"value": found.word, "code": found.code}


def _integer(node: Node, name: str) -> Body:
    value = node.number(name)
    if not isinstance(value, int):
        raise node.wrong(name, "a whole number")
    return {"value": value}


def _range(node: Node, name: str) -> Body:
    return {"value": span_of(node.node(name))}


def _ratio(node: Node, name: str) -> Body:
    """`1:128` for a titre, `5 mg / 1 h` for anything with units."""
    ratio = node.node(name)
    over, under = ratio.node("numerator"), ratio.node("denominator")
    between = " / " if unit(over) or unit(under) else ":"
    return {"value": between.join(filter(None, (amount(over), amount(under))))}


def _period(node: Node, name: str) -> Body:
    period = node.node(name)
    start, end = period.text("start"), period.text("end")
    if start and end:
        return {"value": f"{start} to {end}"}
    return {"value": f"from {start}"} if start else {"value": f"until {end}"} if end else {}


def _samples(node: Node, name: str) -> Body:
    """A curve in a sentence: its points can be thousands, and the resource itself is kept."""
    data = node.node(name)
    points = len(data.lines("data").split())
    every = plain_number(data.number("period"))
    parts = (
        f"{points} samples" + (f", one every {every} ms" if every else ""),
        *(f"origin {origin}" for origin in [amount(data.node("origin"))] if origin),
        *(
            f"{label} {plain_number(number)}"
            for label, key in (("factor", "factor"), ("lower limit", "lowerLimit"), ("upper limit", "upperLimit"))
            if (number := data.number(key)) is not None
        ),
    )
    return {"value": ", ".join(parts)}


def _string(node: Node, name: str) -> Body:
    return {"value": node.lines(name)}


_VALUES: dict[str, Callable[[Node, str], Body]] = {
    "Quantity": _quantity,
    "CodeableConcept": _concept,
    "String": _string,
    "Boolean": lambda node, name: {"value": node.flag(name)},
    "Integer": _integer,
    "DateTime": _string,
    "Time": _string,
    "Range": _range,
    "Ratio": _ratio,
    "Period": _period,
    "SampledData": _samples,
}


def measurement(node: Node, prefix: str = "value") -> Body:
    """What `value[x]` says; nothing where there is none. Raises `Refused` for a kind of value that is not known."""
    given = [name for name, value in node.fields.items() if name.startswith(prefix) and value is not None]
    if not given:
        return {}
    if len(given) > 1:
        raise Refused(f"{node.path}{prefix}[x]: only one value may be given, not {len(given)}")
    read = _VALUES.get(given[0].removeprefix(prefix))
    if read is None:
        raise Refused(f"{node.path}{shown(given[0])[1:-1]}: is not a kind of value that HealLog reads")
    return present(read(node, given[0]))


# -- times --------------------------------------------------------------------------------------------------------


def times(node: Node, names: Sequence[str]) -> tuple[str, str]:
    """Start and end, from the first of these elements that has a start. An onset's end is not the illness's end."""
    start = end = ""
    for name in names:
        if name.endswith(("Period", "period")):
            period = node.node(name)
            start = period.text("start")
            end = end or (period.text("end") if not name.startswith("onset") else "")
        else:
            start = node.text(name)
        if start:
            break
    return start, end


def earlier(time: str, end: str) -> bool:
    """Whether a time lies on an earlier day (or month, or year, as far as both are known) than the end."""
    known = min(len(time), len(end), 10)
    return time[:known] < end[:known]


# -- people -------------------------------------------------------------------------------------------------------


def full_name(name: Node) -> str:
    """A HumanName in one line."""
    parts = (*name.texts("prefix"), *name.texts("given"), name.text("family"), *name.texts("suffix"))
    return name.text("text") or " ".join(filter(None, parts))


def reach(telecom: Iterable[Node], system: str) -> Node | None:
    """The first ContactPoint of a system that is still in use."""
    wanted = [point for point in telecom if point.text("system") == system and point.text("value")]
    return next((point for point in wanted if point.text("use") != "old"), None)


def reasons(resource: Node) -> str:
    """Why: in codes, else in the words of what is referred to."""
    displays = (reference.text("display") for reference in resource.nodes("reasonReference"))
    return words(resource.nodes("reasonCode"), "; ") or "; ".join(unique(displays))
