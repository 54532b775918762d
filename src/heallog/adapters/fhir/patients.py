"""FHIR's Patient in the words of `domain/patients.py`."""

from collections.abc import Sequence

from heallog.adapters.fhir.elements import concept, full_name, reach, unique, word
from heallog.adapters.fhir.node import Body, Node, present

_ANIMAL = "http://hl7.org/fhir/StructureDefinition/patient-animal"


def read_patient(patient: Node) -> Body:
    """The body of a patient. us-core's birthsex is another thing than the administrative `sex` and stays out."""
    telecom = patient.nodes("telecom")
    phone, email = reach(telecom, "phone"), reach(telecom, "email")
    died = patient.lines("deceasedDateTime")
    spoken = patient.nodes("communication")
    language = next((one for one in spoken if one.flag("preferred")), next(iter(spoken), None))
    return present(
        {
            **_names(patient.nodes("name")),
            **_animal(patient),
            "birth_date": patient.lines("birthDate"),
            "sex": patient.lines("gender"),
            "deceased": True if died else patient.flag("deceasedBoolean"),
            "deceased_at": died,
            "identifiers": [body for one in patient.nodes("identifier") if "value" in (body := _identifier(one))],
            "phone": phone.text("value") if phone else "",
            "email": email.text("value") if email else "",
            "telecom": [_telecom(one) for one in telecom if one not in (phone, email) and one.text("value")],
            "address": _address(patient.nodes("address")),
            "contacts": [body for one in patient.nodes("contact") if "name" in (body := _contact(one))],
            "marital_status": word(patient.node("maritalStatus")),
            "language": word(language.node("language")) if language else "",
        }
    )


def _names(names: Sequence[Node]) -> Body:
    """The name to go by is the official, else the usual, else the first that is no former or false one."""
    if not names:
        return {}
    uses = [name.text("use") for name in names]
    ranks = {"official": 0, "usual": 1, "": 2, "temp": 3}
    chosen = min(range(len(names)), key=lambda index: ranks.get(uses[index], 4))
    name = names[chosen]
    given = " ".join(name.texts("given"))
    others = unique(map(_bare_name, names))
    return {
        "family_name": name.text("family") or ("" if given else name.text("text")),
        "given_name": given,
        "prefix": " ".join(name.texts("prefix")),
        "other_names": [other for other in others if other != _bare_name(name)],
    }


def _bare_name(name: Node) -> str:
    """Without titles, for it is searched."""
    return " ".join(filter(None, (*name.texts("given"), name.text("family")))) or name.text("text")


def _identifier(identifier: Node) -> Body:
    return present(
        {
            "system": identifier.text("system"),
            "value": identifier.text("value"),
            "type": concept(identifier.node("type")).status,
        }
    )


def _telecom(point: Node) -> Body:
    return present({"system": point.text("system"), "value": point.text("value"), "use": point.text("use")})


def _address(addresses: Sequence[Node]) -> Body:
    """The home that is lived in; failing that any current address, and an old one rather than none."""
    if not addresses:
        return {}
    ranks = {"home": 0, "old": 2}
    address = min(addresses, key=lambda one: ranks.get(one.text("use"), 1))
    body = {
        "lines": address.texts("line"),
        "city": address.text("city"),
        "district": address.text("district"),
        "state": address.text("state"),
        "postal_code": address.text("postalCode"),
        "country": address.text("country"),
    }
    return present(body) or present({"lines": [line for line in address.lines("text").splitlines() if line.strip()]})


def _contact(contact: Node) -> Body:
    telecom = contact.nodes("telecom")
    phone, email = (reach(telecom, system) for system in ("phone", "email"))
    relation = word(contact.first("relationship"))
    body = present(
        {
            "relation": relation,
            "phone": phone.text("value") if phone else "",
            "email": email.text("value") if email else "",
        }
    )
    name = full_name(contact.node("name")) or contact.node("organization").text("display")
    # A number without a name is still worth calling: it goes by what is known of it.
    return present({"name": name or next(iter(body.values()), ""), **body})


def _animal(patient: Node) -> Body:
    for extension in patient.nodes("extension"):
        if extension.text("url") == _ANIMAL:
            parts = {part.text("url"): part for part in extension.nodes("extension")}
            return {
                name: word(parts[name].node("valueCodeableConcept")) for name in ("species", "breed") if name in parts
            }
    return {}
