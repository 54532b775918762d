"""Patients: demographics, identifiers, contacts, tags; and the key that finds them by name, phone or identifier."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from heallog.domain.errors import FieldError, InvalidFields
from heallog.domain.fields import (
    Boolean,
    Choice,
    Day,
    Errors,
    Field,
    Fields,
    Group,
    ListOf,
    Moment,
    Text,
    check_fields,
)
from heallog.domain.merging import Invariant, Mergeable, whole
from heallog.domain.policies import LWW, MANUAL, SET, TEXT, group

_LINE = Text(200)

ADDRESS = Group(
    {
        "lines": Field(ListOf(_LINE, most=6)),
        "city": Field(_LINE),
        "district": Field(_LINE),
        "state": Field(_LINE),
        "postal_code": Field(Text(40)),
        "country": Field(_LINE),
    }
)
IDENTIFIER = Group(
    {
        "system": Field(Text(300), says="Who gave it: a URI."),
        "value": Field(Text(200, shortest=1), required=True),
        "type": Field(_LINE, says="What it is: MR, SS, PPN, or in words."),
    }
)
TELECOM = Group(
    {
        "system": Field(Choice(("phone", "fax", "email", "pager", "url", "sms", "other"))),
        "value": Field(_LINE, required=True),
        "use": Field(Text(40)),
    }
)
CONTACT = Group(
    {
        "name": Field(_LINE, required=True),
        "relation": Field(_LINE),
        "phone": Field(Text(60)),
        "email": Field(_LINE),
    }
)

FIELDS: Fields = {
    "family_name": Field(_LINE, MANUAL),
    "given_name": Field(_LINE, MANUAL, says="All given names, as written."),
    "prefix": Field(Text(60), MANUAL),
    "other_names": Field(ListOf(_LINE, most=20), MANUAL, says="Former, maiden and nicknames."),
    "birth_date": Field(Day(), MANUAL),
    "sex": Field(Choice(("female", "male", "other", "unknown")), MANUAL),
    "species": Field(_LINE, MANUAL, says="For animals: dog, horse."),
    "breed": Field(_LINE, MANUAL),
    "blood_group": Field(Choice(("A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-")), MANUAL),
    "deceased": Field(Boolean(), group("death")),
    "deceased_at": Field(Moment(), group("death")),
    "identifiers": Field(ListOf(IDENTIFIER, most=50), MANUAL),
    "phone": Field(Text(60), LWW),
    "email": Field(_LINE, LWW),
    "address": Field(ADDRESS, LWW),
    "telecom": Field(ListOf(TELECOM, most=20), SET, says="Further ways to reach the patient."),
    "contacts": Field(ListOf(CONTACT, most=20), SET, says="Whom to call: next of kin, owner of an animal."),
    "language": Field(Text(60), LWW),
    "marital_status": Field(Text(60), LWW),
    "tags": Field(ListOf(Text(100, shortest=1), most=50, unique=True), SET),
    "notes": Field(Text(20_000, lines=True), TEXT),
}

INVARIANTS: Final = (
    Invariant(
        ("family_name", "given_name"),
        FieldError("family_name", "required", "a patient needs a family name or a given name"),
        lambda content: any(content.get(name, "").strip() for name in ("family_name", "given_name")),
    ),
)

MERGEABLE: Final = Mergeable.of(FIELDS, dict, INVARIANTS)
"""How two edits of a patient become one."""


def new(body: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a new patient. Raises `InvalidFields` naming everything that is wrong."""
    errors: Errors = []
    return whole(check_fields(FIELDS, body, errors), INVARIANTS, errors)


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A patient with some fields changed; `null` takes a field away."""
    errors: Errors = []
    checked = check_fields(FIELDS, changes, errors)
    kept = {name: value for name, value in content.items() if name not in changes}
    return whole({**kept, **checked}, INVARIANTS, errors)


def may_be_another(content: Mapping[str, Any], incoming: Mapping[str, Any]) -> bool:
    """Whether an incoming patient under the same id looks like someone else: neither family name nor birth date agrees.

    A given name counts only where nothing else is known of either (an animal's, say): many share one.
    """
    telling: tuple[str, ...] = ("family_name", "birth_date")
    if not any(side.get(name) for name in telling for side in (content, incoming)):
        telling = ("given_name",)
    return not any(
        content.get(name) and normalise(str(content[name])) == normalise(str(incoming.get(name, "")))
        for name in telling
    )


# -- finding ------------------------------------------------------------------------------------------------------

_UNDECOMPOSED = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i", "ħ": "h", "ŧ": "t"}
)
_JOINERS = re.compile("['\u2019\u02bc`\u00b4\u200b-\u200d]")
"""Apostrophes in their several forms, and zero-width joiners."""


def normalise(text: str) -> str:
    """Letters and digits without case, accents and punctuation: `O'Hálloran-Ñuñez` → `ohalloran nunez`."""
    folded = unicodedata.normalize("NFKD", _JOINERS.sub("", text)).casefold().translate(_UNDECOMPOSED)
    bare = _JOINERS.sub("", unicodedata.normalize("NFKD", folded))
    return " ".join("".join(map(_letter, bare)).split())


def _letter(char: str) -> str:
    """The character where it belongs to a word, nothing where it is a mark on one, else a space."""
    if char.isalnum():
        return char
    kind = unicodedata.category(char)
    # Spacing marks are letters in Indic scripts; non-spacing ones are accents, points and vowel signs.
    return {"Mn": "", "Me": "", "Mc": char}.get(kind, " ")


@dataclass(frozen=True, slots=True)
class SearchKey:
    """What a patient is found by. `words` starts with a space, so that ` smi` finds a word by its beginning."""

    sort_name: str
    words: str
    trigrams: tuple[int, ...]


def search_key(practice_id: str, content: Mapping[str, Any]) -> SearchKey:
    """The search key of a patient: a pure function of its content, so it can be rebuilt at any time."""
    names = [content.get("family_name", ""), content.get("given_name", ""), *content.get("other_names", ())]
    numbers = [content.get("phone", ""), *(item["value"] for item in content.get("identifiers", ()))]
    numbers += [item["value"] for item in content.get("telecom", ()) if item.get("system") in ("phone", "sms", None)]
    numbers += [contact.get("phone", "") for contact in content.get("contacts", ())]
    words = " ".join(filter(None, map(normalise, names))).split()
    codes = [normalise(number).replace(" ", "") for number in numbers if number]
    grams = {gram for word in words for gram in _padded(f"{word} ")}
    grams |= {gram for code in codes for gram in _inner(code)}
    return SearchKey(
        sort_name=" ".join(normalise(str(content.get(name, ""))) for name in ("family_name", "given_name")).strip(),
        words=f" {' '.join(dict.fromkeys([*words, *(f'#{code}' for code in codes if code)]))} ",
        trigrams=_hashed(practice_id, grams),
    )


@dataclass(frozen=True, slots=True)
class Query:
    """A search as the store runs it.

    Exact: the row has all of `must` and every one of `contains` (LIKE patterns). Forgiving: it has every one of `codes`
    (LIKE patterns too) and at least `enough` of `fuzzy`; an identifier is never forgiven a typo, for that would show
    another person. Enough is half less one: a wrong letter spoils three trigrams of a name, two swapped letters four.
    """

    must: tuple[int, ...]
    contains: tuple[str, ...]
    codes: tuple[str, ...]
    fuzzy: tuple[int, ...]
    enough: int


def query(practice_id: str, text: str) -> Query:
    """Read what a person typed: names by their beginnings; what has a digit in it by any part, as it stands."""
    if len(text) > 200:
        raise InvalidFields([FieldError("q", "too_long", "must be at most 200 characters")])
    parts = [normalise(part).replace(" ", "") for part in text.split()]
    names = normalise(" ".join(part for part in text.split() if not any(map(str.isdigit, part)))).split()
    mixed = [part for part in parts if any(map(str.isdigit, part)) and not part.isdigit()]
    # A phone number may be typed in groups: numbers are read as one.
    code = "".join(part for part in parts if part.isdigit())
    codes = [f"%{part}%" for part in mixed] + ([f"%#%{code}%"] if code else [])
    inner = {gram for part in (code, *mixed) for gram in _inner(part)}
    begins = {gram for name in names for gram in _padded(name)}
    fuzzy = {gram for name in names for gram in _padded(f"{name} ")}
    return Query(
        must=_hashed(practice_id, begins | inner),
        contains=(*(f"% {name}%" for name in names), *codes),
        codes=tuple(codes),
        fuzzy=_hashed(practice_id, fuzzy),
        enough=max(2, (len(fuzzy) + 1) // 2 - 1),
    )


def _padded(word: str) -> Iterable[str]:
    return _inner(f"  {word}")


def _inner(code: str) -> Iterable[str]:
    return (code[at : at + 3] for at in range(len(code) - 2))


def _hashed(practice_id: str, grams: Iterable[str]) -> tuple[int, ...]:
    """Trigrams as 64-bit numbers that hold the practice: one index serves all, and none sees another's rows."""
    seed = hashlib.blake2b(practice_id.encode(), digest_size=16).digest()
    return tuple(
        sorted(
            int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8, key=seed).digest(), "big", signed=True)
            for gram in grams
        )
    )
