"""A demo practice: named clinicians, a few dozen patients and their history, made by a seeded generator.

Everything goes through the use cases, so that the demo's versions, signatures and audit entries are real ones.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

from heallog.application.versions import Why
from heallog.domain.access import Actor, Role
from heallog.domain.canon import moment
from heallog.domain.errors import NotFound
from heallog.domain.versions import Seen

SEED = 20_260
PATIENTS = 36
PASSWORD = "seven quiet herons"  # noqa: S105 - shown to whoever starts the demo
PRACTICE = "Hillside Clinic"
PEOPLE = (
    ("amara.okafor@hillside.example", "Dr Amara Okafor", Role.OWNER),
    ("jonas.lindqvist@hillside.example", "Dr Jonas Lindqvist", Role.CLINICIAN),
    ("mei.tanaka@hillside.example", "Mei Tanaka", Role.ASSISTANT),
    ("rafael.nunez@hillside.example", "Rafael Núñez", Role.AUDITOR),
)
DEVICE = "demo"

_FAMILY = (
    "García", "Okonkwo", "Müller", "Nguyễn", "Smith", "Haddad", "Kowalska", "Ōtani", "Dubois", "Mwangi", "O'Hara",
    "Petrović", "Rossi", "Ferreira", "Andersen", "Öztürk", "Kaur", "Ivanova",
)  # fmt: skip
_FEMALE = ("Lucía", "Adaeze", "Hanna", "Linh", "Grace", "Layla", "Zofia", "Yuki", "Camille", "Wanjiru", "Siobhán")
_MALE = ("Diego", "Chidi", "Felix", "Minh", "Henry", "Omar", "Jakub", "Ren", "Louis", "Kamau", "Eoin")
_CITY = (("Ashford", "AS1"), ("Brook", "BR2"), ("Coldwell", "CW3"))
_CONDITIONS = (
    ("38341003", "Hypertension", ("Amlodipine", "mg", (5, 10))),
    ("44054006", "Type 2 diabetes", ("Metformin", "mg", (500, 850))),
    ("195967001", "Asthma", ("Salbutamol", "ug", (100, 200))),
    ("40930008", "Hypothyroidism", ("Levothyroxine", "ug", (50, 75))),
)
_ALLERGIES = (("Penicillin", "high"), ("Peanut", "high"), ("Latex", "low"), ("Ibuprofen", "unable_to_assess"))
_COMPLAINTS = ("cough for a week", "pain in the left knee", "tiredness", "a check-up", "headache in the evening")


async def known_to_all(services: Any) -> str | None:
    """Who of the demo is in the database with the password that everyone can read here."""
    async with services.uow() as uow:
        for email, _, _ in PEOPLE:
            account = await uow.accounts.by_email(email)
            if account is not None and await services.passwords().verify(account.password_hash, PASSWORD):
                return email
    return None


async def seed(services: Any, address: str) -> str:
    """Make what is missing of the demo; tell how to log in, with a first request to paste."""
    actor = await _people(services)
    gate = asyncio.Semaphore(4)
    now = services.clock()()

    async def one(number: int) -> None:
        async with gate:
            await _patient(services, actor, number, now)

    async with asyncio.TaskGroup() as group:
        for number in range(1, PATIENTS + 1):
            group.create_task(one(number))
    return _how_to(address)


def _how_to(address: str) -> str:
    email = PEOPLE[0][0]
    people = "\n".join(f"  {login:<36} {role:<10} {name}" for login, name, role in PEOPLE)
    login = f'{{"email": "{email}", "password": "{PASSWORD}"}}'
    return (
        f"The demo practice is {PRACTICE}. Log in as one of\n{people}\nwith the password: {PASSWORD}\n\n"
        "A first request to paste:\n\n"
        f"TOKEN=$(curl -s {address}/v1/auth/login -H 'Content-Type: application/json' \\\n"
        f"  -d '{login}' | sed 's/.*\"access_token\":\"\\([^\"]*\\).*/\\1/')\n"
        f'curl -s "{address}/v1/patients?q=garcia&limit=3" -H "Authorization: Bearer $TOKEN"\n'
    )


async def _people(services: Any) -> Actor:
    """The accounts, made where they are missing; who the history is written by."""
    accounts = services.accounts()
    email, name, _ = PEOPLE[0]
    owner = await _owner(services)
    if owner is None:
        await accounts.found({"email": email, "password": PASSWORD, "name": name, "practice_name": PRACTICE})
        owner = await _owner(services)
    if owner is None:
        raise ValueError(f"{email} is registered, but owns no practice")
    for email, name, role in PEOPLE[1:]:
        async with services.uow() as uow:
            known = await uow.accounts.by_email(email)
        if known is None:
            await accounts.join(owner.practice_id, role, email, PASSWORD, name)
    return owner


async def _owner(services: Any) -> Actor | None:
    async with services.uow() as uow:
        account = await uow.accounts.by_email(PEOPLE[0][0])
        memberships = await uow.practices.memberships(account.id) if account else []
    return Actor(account.id, memberships[0].practice_id, Role.OWNER, "", DEVICE, "") if memberships else None


async def _patient(services: Any, actor: Actor, number: int, now: datetime) -> None:
    patients, records = services.patients(), services.records()
    patient_id = f"demo-{number:03}"
    try:
        await patients.get(actor, patient_id)
        return
    except NotFound:
        pass
    random = Random(SEED + number)  # noqa: S311 - a demo, not a secret
    await patients.create(actor, _demographics(random, number), patient_id)
    medication = None
    for body in _history(random, now):
        head = await records.create(actor, patient_id, body)
        if body["kind"] in ("encounter", "immunization", "observation") or random.random() < 0.5:
            if body["kind"] != "medication":
                head = await records.sign(actor, head.id, Seen(head.version))
        else:
            medication = head if body["kind"] == "medication" else medication
    if medication is not None:
        dose = medication.fields()["dose"]
        await records.change(
            actor, medication.id, {"dose": dose * 2}, Seen(medication.version), Why("no effect after four weeks")
        )


def _demographics(random: Random, number: int) -> dict[str, Any]:
    female = random.random() < 0.5
    city, code = random.choice(_CITY)
    return {
        "family_name": _FAMILY[number % len(_FAMILY)],
        "given_name": random.choice(_FEMALE if female else _MALE),
        "birth_date": f"{random.randint(1935, 2021)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}",
        "sex": "female" if female else "male",
        "phone": f"+44 1632 960{random.randint(100, 999)}",
        "address": {"lines": [f"{random.randint(1, 90)} Mill Lane"], "city": city, "postal_code": code},
        "identifiers": [{"system": "urn:example:hillside", "value": f"HS-{10_000 + number}", "type": "MR"}],
        "tags": ["home visits"] if random.random() < 0.2 else [],
    }


def _history(random: Random, now: datetime) -> Iterator[dict[str, Any]]:
    """A patient's records, the oldest first."""
    snomed, loinc = "http://snomed.info/sct", "http://loinc.org"
    start = now - timedelta(days=random.randint(200, 900))
    if random.random() < 0.4:
        substance, criticality = random.choice(_ALLERGIES)
        yield {
            "kind": "allergy",
            "title": f"Allergy to {substance.lower()}",
            "substance": substance,
            "criticality": criticality,
            "occurred_at": str(start.year - random.randint(1, 20)),
        }
    yield {"kind": "immunization", "title": "Influenza, seasonal", "occurred_at": moment(start - timedelta(days=90))}
    code, name, (drug, unit, doses) = random.choice(_CONDITIONS)
    systolic = random.randint(118, 165)
    for visit in range(random.randint(1, 3)):
        at = start + timedelta(days=visit * random.randint(30, 60), minutes=random.randint(0, 480))
        complaint = random.choice(_COMPLAINTS)
        yield {
            "kind": "encounter",
            "title": "Visit",
            "complaint": complaint,
            "occurred_at": moment(at),
            "ended_at": moment(at + timedelta(minutes=20)),
        }
        yield {
            "kind": "observation",
            "title": "Blood pressure",
            "code": {"system": loinc, "code": "85354-9", "display": "Blood pressure panel"},
            "occurred_at": moment(at),
            "values": {
                "systolic": {"value": systolic - 4 * visit, "unit": "mm[Hg]"},
                "diastolic": {"value": systolic - 4 * visit - random.randint(38, 60), "unit": "mm[Hg]"},
            },
        }
        yield {
            "kind": "note",
            "title": "Visit note",
            "occurred_at": moment(at),
            "text": f"Came for {complaint}.\nExamined; findings as recorded.\nReview in {random.randint(2, 8)} weeks.",
        }
    yield {
        "kind": "condition",
        "title": name,
        "code": {"system": snomed, "code": code, "display": name},
        "clinical_status": "active",
        "occurred_at": moment(start),
    }
    yield {
        "kind": "medication",
        "title": drug,
        "dose": doses[0],
        "dose_unit": unit,
        "route": "inhaled" if drug == "Salbutamol" else "oral",
        "frequency": "once a day",
        "occurred_at": moment(start + timedelta(days=1)),
    }
