"""MedicationRequest and MedicationStatement: what to take, and how."""

from collections.abc import Sequence

from heallog.adapters.fhir.elements import Concept, amount, concept, plain_number, reasons, span_of, unique, unit, word
from heallog.adapters.fhir.node import Body, Node, Refused


def medication(resource: Node) -> Concept:
    """What is taken: a code, a contained Medication, or whatever name the reference to one has."""
    reference = resource.node("medicationReference")
    target = reference.lines("reference")
    if target.startswith("#"):
        for contained in resource.nodes("contained"):
            if contained.lines("id") == target[1:]:
                found = concept(contained.node("code"))
                return Concept(found.code, found.title or reference.text("display"))
    if reference.fields:
        return Concept({}, reference.text("display") or target)
    return concept(resource.node("medicationCodeableConcept"))


def prescription(resource: Node) -> Body:
    """The own fields of a medication. The first dosage fills them; every further one is a line of instructions."""
    if resource.flag("doNotPerform"):
        raise Refused("doNotPerform: says not to give this medication, which HealLog has no field for")
    dosages = resource.nodes("dosageInstruction") or resource.nodes("dosage")
    body: Body = {
        "quantity": resource.node("dispenseRequest").node("quantity").number("value"),
        "indication": reasons(resource),
    }
    if dosages:
        first, *further = dosages
        dose = _dose(first)
        body |= {
            "dose": dose.number("value"),
            "dose_unit": unit(dose) if dose.number("value") is not None else "",
            "route": word(first.node("route")),
            "frequency": _frequency(first.node("timing")),
            "as_needed": _as_needed(first),
            "instructions": "\n".join([*_instructions(first), *map(_in_a_line, further)]),
        }
    return body


def _dose(dosage: Node) -> Node:
    return dosage.first("doseAndRate").node("doseQuantity")


def _as_needed(dosage: Node) -> bool | None:
    return True if dosage.node("asNeededCodeableConcept").fields else dosage.flag("asNeededBoolean")


def _instructions(dosage: Node) -> list[str]:
    """What the author wrote, and what has no field of its own: ranges, rates, limits, reasons, and how long."""
    given = dosage.first("doseAndRate")
    limit = dosage.node("maxDosePerPeriod")
    rate = given.node("rateRatio")
    reason = word(dosage.node("asNeededCodeableConcept"))
    stated = {
        "dose": span_of(given.node("doseRange")),
        "rate": _over(rate) or span_of(given.node("rateRange")) or amount(given.node("rateQuantity")),
        "at most": _over(limit),
        "for": amount(dosage.node("timing").node("repeat").node("boundsDuration")),
        "as needed for": reason,
        "site": word(dosage.node("site")),
        "method": word(dosage.node("method")),
    }
    return unique(
        (
            dosage.lines("text"),
            *map(word, dosage.nodes("additionalInstruction")),
            dosage.lines("patientInstruction"),
            *(f"{label} {value}" for label, value in stated.items() if value),
        )
    )


def _over(ratio: Node) -> str:
    return " per ".join(filter(None, (amount(ratio.node("numerator")), amount(ratio.node("denominator")))))


def _in_a_line(dosage: Node) -> str:
    parts = (
        amount(_dose(dosage)),
        _frequency(dosage.node("timing")),
        word(dosage.node("route")),
        "as needed" if _as_needed(dosage) else "",
        *_instructions(dosage),
    )
    return ", ".join(unique(parts))


def _frequency(timing: Node) -> str:
    """`2 per 1 d`, `1 to 2 per 4 to 6 h`, and when in the day or week."""
    named = word(timing.node("code"))
    repeat = timing.node("repeat")
    if named or not repeat.fields:
        return named
    period = _between(repeat, "period", "periodMax")
    often = _between(repeat, "frequency", "frequencyMax")
    if period:
        often = f"{often or 1} per {period} {repeat.text('periodUnit')}".rstrip()
    elif often:
        often = f"{often} times"
    count = _between(repeat, "count", "countMax")
    parts: Sequence[str] = (
        often,
        *repeat.texts("dayOfWeek"),
        *repeat.texts("timeOfDay"),
        *repeat.texts("when"),
        f"{count} times in all" if count else "",
    )
    return " ".join(filter(None, parts))


def _between(node: Node, least: str, most: str) -> str:
    return " to ".join(filter(None, (plain_number(node.number(least)), plain_number(node.number(most)))))
