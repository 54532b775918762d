"""The types of FHIR that are records here, each in the words of `domain/records.py`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from heallog.adapters.fhir.elements import (
    Concept,
    amount,
    coding_word,
    concept,
    earlier,
    measurement,
    plain_number,
    reasons,
    times,
    unique,
    word,
    words,
)
from heallog.adapters.fhir.medications import medication, prescription
from heallog.adapters.fhir.narrative import attached, media_type, plain
from heallog.adapters.fhir.node import Body, Node, present
from heallog.adapters.fhir.references import Links
from heallog.domain.records import AMENDED, DRAFT, ENTERED_IN_ERROR, SIGNED

_MISTAKE = "entered-in-error"
_ARRIVES_AS = {
    **dict.fromkeys(("amended", "corrected", "appended"), AMENDED),
    # Everything that is over, also where it ended before its time; the rest is still going on.
    **dict.fromkeys(("final", "completed", "finished", "current", "superseded", "available"), SIGNED),
    **dict.fromkeys(("not-done", "cancelled", "stopped"), SIGNED),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A resource on its way: what its own fields are read from."""

    resource: Node
    links: Links
    concept: Concept


@dataclass(frozen=True, slots=True)
class Kind:
    """How one type of resource is read."""

    kind: str
    own: Callable[[Reading], Body]
    """The fields that only this kind has. They win over the common ones, but for `text`, which is joined."""
    concept: Callable[[Node], Concept] = lambda resource: concept(resource.node("code"))
    when: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    """When it was written down: taken where nobody knows when it was so."""
    status: Callable[[Node], str] = lambda resource: resource.text("status")
    checked: Callable[[Node], str] = lambda resource: ""  # noqa: ARG005
    """A second status: how sure the statement is, or how finished the document."""
    living: bool = False
    """Whether it goes on changing: such a record arrives as a draft."""
    patient: str = "subject"
    encounter: Callable[[Node], Node] = lambda resource: resource.node("encounter")
    fallback: str = ""
    """A title for types of which FHIR asks neither code nor text."""


def read_record(type: str, resource: Node, links: Links) -> tuple[str, Body, str]:
    """The patient's id, the body and the status on arrival."""
    known = KINDS[type]
    patient_id = links.patient(resource, known.patient)
    found = known.concept(resource)
    own = present(known.own(Reading(resource, links, found)))
    occurred_at, ended_at = _times(resource, known)
    status, checked = known.status(resource), known.checked(resource)
    body = {
        "kind": known.kind,
        "title": found.title,
        "code": found.code,
        "occurred_at": occurred_at,
        "ended_at": ended_at,
        "clinical_status": status,
        "encounter_id": links.record(known.encounter(resource), "Encounter"),
        **own,
        "text": _text(resource, own),
    }
    if not any(body.get(name) for name in ("title", "code", "text", "values")):
        body["title"] = known.fallback
    return patient_id, present(body), _arrives_as(known, status, checked)


def _times(resource: Node, known: Kind) -> tuple[str, str]:
    start, end = times(resource, known.when)
    # The end of an illness is one of these, a moment or a period of its own.
    for name in known.until:
        end = end or (resource.node(name).text("end") if name.endswith("Period") else resource.text(name))
    if not start:
        start = next(filter(None, map(resource.text, known.recorded)), "")
        # What is written down afterwards does not begin then.
        start = start if not end or earlier(start, end) else ""
    return start, end


def _text(resource: Node, own: Body) -> str:
    """What the authors wrote; the narrative that FHIR puts on top is mostly made from the other fields."""
    notes = [note.lines("text") for note in resource.nodes("note")]
    written = "\n\n".join(filter(None, [own.get("text", ""), *notes]))
    if written:
        return written
    narrative = resource.node("text").lines("div")
    return plain(narrative) if narrative else ""


def _arrives_as(known: Kind, status: str, checked: str) -> str:
    if _MISTAKE in (status, checked):
        return ENTERED_IN_ERROR
    return DRAFT if known.living else _ARRIVES_AS.get(checked or status, DRAFT)


def _concept_status(name: str) -> Callable[[Node], str]:
    return lambda resource: concept(resource.node(name)).status


def _first_concept(name: str) -> Callable[[Node], Concept]:
    return lambda resource: concept(resource.first(name))


def _sites(resource: Node) -> str:
    return words(resource.nodes("bodySite"))


# -- what each kind has of its own --------------------------------------------------------------------------------


def _encounter(reading: Reading) -> Body:
    resource = reading.resource
    return {"encounter_class": coding_word(resource.node("class")), "complaint": reasons(resource)}


def _observation(reading: Reading) -> Body:
    resource = reading.resource
    return {
        "category": word(resource.first("category")),
        "interpretation": words(resource.nodes("interpretation")),
        "body_site": word(resource.node("bodySite")),
        "values": _values(resource),
    }


_WELL_KNOWN = {"8480-6": "systolic", "8462-4": "diastolic"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def _values(observation: Node) -> Body:
    """The value under `value`, the components under the names of their codes; only what says something."""
    values: Body = {}
    if value := _value(observation):
        values["value"] = value
    for component in observation.nodes("component"):
        if value := _value(component):
            what = concept(component.node("code"))
            values[_free_name(values, what)] = present({"code": what.code}) | value
    return values


def _value(node: Node) -> Body:
    value = measurement(node)
    absent = word(node.node("dataAbsentReason"))
    return value | {"absent": absent} if absent and "value" not in value else value


def _free_name(taken: Body, what: Concept) -> str:
    """`systolic`, `2708-6`; a code that comes again is `2708-6_2`."""
    name = _WELL_KNOWN.get(what.status) or _NOT_IN_NAMES.sub("_", what.status)[:60] or "component"
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _condition(reading: Reading) -> Body:
    resource = reading.resource
    return {
        "category": word(resource.first("category")),
        "severity": word(resource.node("severity")),
        "verification": concept(resource.node("verificationStatus")).status,
        "body_site": _sites(resource),
    }


def _medication(reading: Reading) -> Body:
    return prescription(reading.resource)


def _allergy(reading: Reading) -> Body:
    resource = reading.resource
    reactions = resource.nodes("reaction")
    severities = [reaction.text("severity") for reaction in reactions]
    shown = (words(reaction.nodes("manifestation")) or reaction.text("description") for reaction in reactions)
    return {
        "substance": reading.concept.title,
        "criticality": resource.text("criticality").replace("-", "_"),
        "severity": next((worst for worst in ("severe", "moderate", "mild") if worst in severities), ""),
        "verification": concept(resource.node("verificationStatus")).status,
        "categories": resource.texts("category"),
        "reactions": unique(shown),
    }


def _immunization(reading: Reading) -> Body:
    resource = reading.resource
    protocol = resource.first("protocolApplied")
    return {
        "lot_number": resource.text("lotNumber"),
        "dose_number": protocol.text("doseNumberString") or plain_number(protocol.number("doseNumberPositiveInt")),
        "route": word(resource.node("route")),
        "body_site": word(resource.node("site")),
    }


def _procedure(reading: Reading) -> Body:
    resource = reading.resource
    return {"outcome": word(resource.node("outcome")), "body_site": _sites(resource), "indication": reasons(resource)}


def _report(reading: Reading) -> Body:
    resource = reading.resource
    forms = [form for form in resource.nodes("presentedForm") if media_type(form) in ("text/plain", "text/html")]
    return {
        "category": word(resource.first("category")),
        "results": reading.links.records(resource.nodes("result"), "Observation"),
        "text": "\n\n".join(filter(None, (resource.lines("conclusion"), *map(attached, forms)))),
    }


def _document(reading: Reading) -> Body:
    """A note where its text came along, otherwise a pointer to a document that is elsewhere."""
    resource = reading.resource
    attachments = [content.node("attachment") for content in resource.nodes("content")]
    described = resource.text("description")
    named = next(filter(None, (described, *(attachment.text("title") for attachment in attachments))), "")
    title = reading.concept.title or named
    # When the care took place that it documents, rather than when it was written down.
    start, end = times(resource.node("context"), ("period",))
    common = {"title": title, "occurred_at": start, "ended_at": end if start else ""}
    for attachment in attachments:
        if media_type(attachment).startswith("text/") and attachment.lines("data"):
            return {**common, "kind": "note", "text": attached(attachment)}
    return {
        **common,
        "text": resource.lines("description") if described != title else "",
        "category": word(resource.first("category")),
        "content_type": next(filter(None, map(media_type, attachments)), ""),
    }


def _care_plan(reading: Reading) -> Body:
    resource = reading.resource
    return {
        "title": resource.text("title") or reading.concept.title,
        "category": word(resource.first("category")),
        "activities": unique(map(_activity, resource.nodes("activity"))),
        "addresses": reading.links.records(resource.nodes("addresses")),
        "text": resource.lines("description"),
    }


def _activity(activity: Node) -> str:
    detail = activity.node("detail")
    what = word(detail.node("code")) or detail.text("description") or activity.node("reference").text("display")
    return f"not to do: {what}" if what and detail.flag("doNotPerform") else what


def _goal(reading: Reading) -> Body:
    resource = reading.resource
    return {
        "target": "; ".join(unique(map(_target, resource.nodes("target")))),
        "achievement": word(resource.node("achievementStatus")),
        "addresses": reading.links.records(resource.nodes("addresses")),
    }


def _target(target: Node) -> str:
    aim = measurement(target, "detail")
    value = aim.get("value", "")
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif not isinstance(value, str):
        value = plain_number(value)
    date, within = target.text("dueDate"), amount(target.node("dueDuration"))
    due = f"by {date}" if date else f"within {within}" if within else ""
    parts = (word(target.node("measure")), aim.get("comparator", ""), value, aim.get("unit", ""), due)
    return " ".join(filter(None, parts))


def _imaging(reading: Reading) -> Body:
    resource = reading.resource
    series = resource.nodes("series")
    modality = ", ".join(
        unique(map(coding_word, [*resource.nodes("modality"), *(one.node("modality") for one in series)]))
    )
    site = ", ".join(unique(coding_word(one.node("bodySite")) for one in series))
    return {
        "title": resource.text("description") or reading.concept.title or ", ".join(filter(None, (modality, site))),
        "modality": modality,
        "body_site": site,
        "instances": resource.number("numberOfInstances"),
    }


KINDS: Final = {
    "AllergyIntolerance": Kind(
        "allergy",
        _allergy,
        when=("onsetDateTime", "onsetPeriod"),
        recorded=("recordedDate",),
        status=_concept_status("clinicalStatus"),
        checked=_concept_status("verificationStatus"),
        living=True,
        patient="patient",
    ),
    "CarePlan": Kind(
        "care_plan",
        _care_plan,
        concept=_first_concept("category"),
        when=("period",),
        recorded=("created",),
        living=True,
        fallback="Care plan",
    ),
    "Condition": Kind(
        "condition",
        _condition,
        when=("onsetDateTime", "onsetPeriod"),
        until=("abatementDateTime", "abatementPeriod"),
        recorded=("recordedDate",),
        status=_concept_status("clinicalStatus"),
        checked=_concept_status("verificationStatus"),
        living=True,
    ),
    "DiagnosticReport": Kind("report", _report, when=("effectiveDateTime", "effectivePeriod"), recorded=("issued",)),
    "DocumentReference": Kind(
        "document",
        _document,
        concept=lambda resource: concept(resource.node("type")),
        recorded=("date",),
        checked=lambda resource: resource.text("docStatus"),
        encounter=lambda resource: resource.node("context").first("encounter"),
        fallback="Document",
    ),
    "Encounter": Kind("encounter", _encounter, concept=_first_concept("type"), when=("period",), fallback="Encounter"),
    "Goal": Kind(
        "goal",
        _goal,
        concept=lambda resource: concept(resource.node("description")),
        when=("startDate",),
        recorded=("statusDate",),
        status=lambda resource: resource.text("lifecycleStatus"),
        living=True,
    ),
    "ImagingStudy": Kind(
        "imaging", _imaging, concept=_first_concept("procedureCode"), when=("started",), fallback="Imaging study"
    ),
    "Immunization": Kind(
        "immunization",
        _immunization,
        concept=lambda resource: concept(resource.node("vaccineCode")),
        when=("occurrenceDateTime",),
        recorded=("recorded",),
        patient="patient",
    ),
    "MedicationRequest": Kind("medication", _medication, concept=medication, recorded=("authoredOn",), living=True),
    "MedicationStatement": Kind(
        "medication",
        _medication,
        concept=medication,
        when=("effectiveDateTime", "effectivePeriod"),
        recorded=("dateAsserted",),
        living=True,
        encounter=lambda resource: resource.node("context"),
    ),
    "Observation": Kind(
        "observation",
        _observation,
        when=("effectiveDateTime", "effectivePeriod", "effectiveInstant"),
        recorded=("issued",),
    ),
    "Procedure": Kind("procedure", _procedure, when=("performedDateTime", "performedPeriod")),
}
