"""A thousand ways to change what is written, by someone who may do everything in the database: each is found.

Each is done with the triggers off, in a transaction that is rolled back. What is outside the database is not in the
tamperer's hands: there the hashes of the seals were told.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from heallog import bootstrap, config
from heallog.adapters.postgres import migrations
from heallog.adapters.postgres.database import Transaction, _prepare
from heallog.adapters.postgres.ledger import PostgresLedger
from heallog.adapters.postgres.seals import ENTRIES, PostgresProofs
from heallog.adapters.postgres.versions import version_of
from heallog.application.audit import Proof, verify
from heallog.application.ports.audit import Evidence
from heallog.application.ports.records import RecordFilter
from heallog.application.versions import Why
from heallog.domain.access import Actor, Role
from heallog.domain.audit import Seal, Witnessed, sealed
from heallog.domain.errors import DomainError
from heallog.domain.versions import GENESIS, Seen, chain

TIMES = 1_000

UNPROVEN = frozenset({"conflict_id", "sort_name", "words", "trigrams", "tags", "kind", "status", "occurred_at", "code"})
"""Columns of heads that lists choose by: made from the content, and in no hash (ADR 3)."""


@dataclass
class Room:
    """The database as its owner sees it, and what was told outside."""

    connection: asyncpg.Connection
    told: list[Witnessed]
    dice: random.Random

    async def verify(self) -> Proof:
        transaction = Transaction(self.connection)
        return await verify(Evidence(PostgresProofs(transaction), PostgresLedger(transaction)), self.told)

    async def run(self, sql: str, *arguments: Any) -> None:
        done = await self.connection.execute(sql, *arguments)
        assert not done.endswith(" 0"), (sql, arguments)

    async def any(self, table: str, where: str = "true") -> asyncpg.Record:
        """One row, and where it is."""
        rows = await self.connection.fetch(f"SELECT ctid AS place, * FROM {table} WHERE {where} ORDER BY ctid")
        return self.dice.choice(rows)

    async def edit(self, table: str, left_out: frozenset[str] = frozenset()) -> str | None:
        """Change one value of one row. Gives the id of an entry whose own content that was."""
        row = await self.any(table)
        names = [name for name, value in row.items() if value is not None and name not in left_out | {"place"}]
        name = self.dice.choice(names)
        value = row[name]
        while value == row[name]:
            value = self.another(name, row[name])
        await self.run(f"UPDATE {table} SET {name} = $2 WHERE ctid = $1", row["place"], value)
        plain = table == "audit_entries" and name not in ("practice_id", "id", "cluster", "transaction")
        return row["id"] if plain else None

    def another(self, name: str, value: Any) -> Any:
        """A value that the column takes."""
        match value:
            case bool():
                return not value
            case int():
                return value + self.dice.choice((-1, 1, 1_000))
            case datetime():
                return value + timedelta(milliseconds=self.dice.choice((-1, 1, 86_400_000)))
            case bytes() if name in ("content", "source"):
                return value.replace(b":", b": ", 1)
            case bytes():
                place = self.dice.randrange(len(value))
                return value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
            case list() if not value:
                return [1] if name == "inputs" else [""]
            case list():
                return self.dice.choice((value[1:], [*value, value[-1]]))
            case str():
                return self.dice.choice((value + "x", value[1:], value.swapcase()))
        raise AssertionError(name)


# -- what can be done ---------------------------------------------------------------------------------------------


async def edit_an_entry(room: Room) -> str | None:
    return await room.edit("audit_entries")


async def fill_what_is_empty(room: Room) -> str | None:
    """NULL and empty are not the same."""
    name, value = room.dice.choice(
        [("thing_id", ""), ("patient_id", ""), ("version", 0), ("reason", ""), ("hash", b""), ("subjects", [])]
    )
    row = await room.any("audit_entries", f"{name} IS NULL")
    await room.run(f"UPDATE audit_entries SET {name} = $2 WHERE ctid = $1", row["place"], value)
    return row["id"]


async def empty_what_is_filled(room: Room) -> str | None:
    name = room.dice.choice(["collection", "thing_id", "patient_id", "version", "reason", "hash", "subjects"])
    row = await room.any("audit_entries", f"{name} IS NOT NULL")
    await room.run(f"UPDATE audit_entries SET {name} = NULL WHERE ctid = $1", row["place"])
    return row["id"]


async def remove_an_entry(room: Room) -> str | None:
    row = await room.any("audit_entries")
    await room.run("DELETE FROM audit_entries WHERE ctid = $1", row["place"])
    return row["id"]


async def add_an_entry(room: Room) -> str | None:
    row = await room.any("audit_entries")
    new = f"{row['id']}-{room.dice.randrange(10)}"
    columns = ", ".join(name for name in row.keys() if name not in ("place", "id"))  # noqa: SIM118
    await room.run(
        f"INSERT INTO audit_entries (id, {columns}) SELECT $2, {columns} FROM audit_entries WHERE ctid = $1",
        row["place"], new,
    )  # fmt: skip
    return new


async def swap_two_entries(room: Room) -> str | None:
    """They change ids, or places."""
    row = await room.any("audit_entries")
    other = await room.any("audit_entries", f"practice_id = '{row['practice_id']}' AND action <> '{row['action']}'")
    what = room.dice.choice(["id", "transaction", "at, request_id, action, thing_id"])
    if what == "transaction" and row["transaction"] == other["transaction"]:
        what = "id"
    names = what.split(", ")
    await room.run("UPDATE audit_entries SET id = id || '?' WHERE ctid = $1", other["place"])
    for to, come in ((row, other), (other, row)):
        sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(names, start=3))
        where = "practice_id = $1 AND id IN ($2, $2 || '?')"
        await room.run(
            f"UPDATE audit_entries SET {sets} WHERE {where}", to["practice_id"], to["id"], *(come[n] for n in names)
        )
    if "id" not in names:
        await room.run("UPDATE audit_entries SET id = rtrim(id, '?') WHERE id LIKE '%?'")
    return None


async def edit_a_seal(room: Room) -> str | None:
    return await room.edit("audit_seals")


async def remove_a_seal(room: Room) -> str | None:
    row = await room.any("audit_seals")
    await room.run("DELETE FROM audit_seals WHERE ctid = $1", row["place"])
    return None


async def swap_two_seals(room: Room) -> str | None:
    row = await room.any("audit_seals")
    other = await room.any("audit_seals", f"practice_id = '{row['practice_id']}' AND number <> {row['number']}")
    await room.run("UPDATE audit_seals SET number = -1 WHERE ctid = $1", row["place"])
    await room.run("UPDATE audit_seals SET number = $2 WHERE ctid = $1", other["place"], row["number"])
    await room.run("UPDATE audit_seals SET number = $1 WHERE number = -1", other["number"])
    return None


async def cut_the_tail(room: Room) -> str | None:
    """The last seals of a practice, and every entry that they cover."""
    row = await room.any("audit_seals")
    mine = "practice_id = $1 AND"
    await room.run(f"DELETE FROM audit_entries WHERE {mine} transaction >= $2", row["practice_id"], row["low"])
    await room.run(f"DELETE FROM audit_seals WHERE {mine} number >= $2", row["practice_id"], row["number"])
    return None


async def rewrite_the_end(room: Room) -> str | None:
    """Whoever knows how seals are made makes them anew, after changing what they cover."""
    row = await room.any("audit_seals")
    practice_id = row["practice_id"]
    entry = room.dice.choice(row["entries"])
    await room.run(
        "UPDATE audit_entries SET account_id = 'mallory' WHERE practice_id = $1 AND id = $2", practice_id, entry
    )
    digests = {kept[3]: kept[4] for kept in await room.connection.fetch(ENTRIES[True].sql, practice_id)}
    previous = GENESIS
    seals = await room.connection.fetch("SELECT * FROM audit_seals WHERE practice_id = $1 ORDER BY number", practice_id)
    for seal in seals:
        new = Seal(*list(seal)[:6], tuple(seal["entries"]), b"".join(map(digests.__getitem__, seal["entries"])), b"")
        previous = sealed(previous, new)
        await room.run(
            "UPDATE audit_seals SET digests = $3, hash = $4 WHERE practice_id = $1 AND number = $2",
            practice_id, seal["number"], new.digests, previous,
        )  # fmt: skip
    return None


async def edit_a_version(room: Room) -> str | None:
    return await room.edit("versions")


async def remove_a_version(room: Room) -> str | None:
    row = await room.any("versions")
    await room.run("DELETE FROM versions WHERE ctid = $1", row["place"])
    return None


async def remove_a_source(room: Room) -> str | None:
    row = await room.any("versions", "source IS NOT NULL")
    await room.run("UPDATE versions SET source = NULL WHERE ctid = $1", row["place"])
    return None


async def swap_two_versions(room: Room) -> str | None:
    row = await room.any("versions", "number > 1")
    where = "practice_id = $1 AND collection = $2 AND thing_id = $3 AND number = "
    thing = row["practice_id"], row["collection"], row["thing_id"]
    for old, new in ((row["number"], -1), (row["number"] - 1, row["number"]), (-1, row["number"] - 1)):
        await room.run(f"UPDATE versions SET number = $4 WHERE {where} $5", *thing, new, old)
    return None


async def edit_a_head(room: Room) -> str | None:
    return await room.edit(room.dice.choice(["patients", "records"]), UNPROVEN)


async def remove_a_head(room: Room) -> str | None:
    table = room.dice.choice(["patients", "records"])
    row = await room.any(table)
    await room.run(f"DELETE FROM {table} WHERE ctid = $1", row["place"])
    return None


async def _versions(room: Room, where: str) -> list[Any]:
    row = await room.any("versions", where)
    rows = await room.connection.fetch(
        "SELECT * FROM versions WHERE practice_id = $1 AND collection = $2 AND thing_id = $3 ORDER BY number",
        row["practice_id"], row["collection"], row["thing_id"],
    )  # fmt: skip
    return list(map(version_of, rows))


async def _move_head(room: Room, versions: list[Any]) -> None:
    """A head that fits its versions in everything that a proof looks at."""
    trunk = [version for version in versions if not version.branch]
    now, last = trunk[-1], versions[-1]
    imported = next((version for version in reversed(trunk) if version.source_digest), None)
    await room.run(
        f"UPDATE {last.collection} SET version = $3, last = $4, hash = $5, content = $6, updated_at = $7,"
        " updated_by = $8, source_digest = $9, source_version = $10 WHERE practice_id = $1 AND id = $2",
        last.practice_id, last.thing_id, now.number, last.number, last.hash, now.content, now.received_at,
        now.author_id, imported and imported.source_digest, imported and imported.number,
    )  # fmt: skip


async def cut_the_last_version(room: Room) -> str | None:
    """And let the head say that the one before is all there ever was."""
    versions = await _versions(room, "number > 1")
    last = versions.pop()
    await room.run("DELETE FROM versions WHERE hash = $1", last.hash)
    await _move_head(room, versions)
    return None


async def forge_a_version(room: Room) -> str | None:
    """Another content, with all hashes from there on made anew, and the head with them."""
    versions = await _versions(room, "content IS NOT NULL")
    place = room.dice.choice([place for place, version in enumerate(versions) if version.content])
    previous = versions[place - 1].hash if place else GENESIS
    for at in range(place, len(versions)):
        old = versions[at]
        new = replace(old, content=old.content.replace(b"}", b',"z":1}', 1)) if at == place else old
        versions[at] = new = replace(new, hash=chain(previous, new))
        previous = new.hash
        await room.run("UPDATE versions SET content = $2, hash = $3 WHERE hash = $1", old.hash, new.content, new.hash)
    await _move_head(room, versions)
    return None


async def add_a_version(room: Room) -> str | None:
    """A proper one, which nobody wrote."""
    versions = await _versions(room, "true")
    last = versions[-1]
    new = replace(last, number=last.number + 1, parent=last.number, branch=room.dice.random() < 0.5)
    new = replace(new, hash=chain(last.hash, new))
    columns = "practice_id, collection, thing_id, patient_id, change, author_id, device_id, received_at, client_time"
    rest = "reason, contribution_id, inputs, content, source, source_digest"
    await room.run(
        f"INSERT INTO versions ({columns}, {rest}, number, parent, branch, hash)"
        f" SELECT {columns}, {rest}, $2, $3, $4, $5 FROM versions WHERE hash = $1",
        last.hash, new.number, new.parent, new.branch, new.hash,
    )  # fmt: skip
    await _move_head(room, [*versions, new])
    return None


TRICKS: list[Callable[[Room], Awaitable[str | None]]] = [
    *[edit_an_entry] * 4, fill_what_is_empty, empty_what_is_filled, *[remove_an_entry] * 2, *[add_an_entry] * 2,
    *[swap_two_entries] * 2, edit_a_seal, remove_a_seal, swap_two_seals, cut_the_tail, rewrite_the_end,
    *[edit_a_version] * 3, remove_a_version, remove_a_source, swap_two_versions, edit_a_head, remove_a_head,
    cut_the_last_version, forge_a_version, add_a_version,
]  # fmt: skip


# -- a few days at two clinics ------------------------------------------------------------------------------------


async def a_few_days(wired: bootstrap.Container, name: str) -> None:
    fields = {"email": f"{name}@example.org", "password": "correct horse battery", "name": name, "practice_name": name}
    owner = await wired.accounts().register(fields)
    alice = Actor(owner.account.id, owner.practice.id, Role.OWNER, "session", "device", "request")
    ben = replace(alice, role=Role.AUDITOR, account_id="ben")
    patients, records = wired.patients(), wired.records()
    for day in range(4):
        bundle = b'{"resourceType": "Patient", "id": "i-%d", "name": [{"family": "Obi", "given": ["Ngozi"]}]}' % day
        await wired.imports().run(alice, wired.fhir_bundle()(bundle))
        patient = await patients.create(alice, {"family_name": "Obi", "given_name": str(day)}, f"p-{day}")
        await patients.change(alice, patient.id, {"phone": f"0{day}"}, Seen(1), Why("moved"))
        note = await records.create(alice, patient.id, {"kind": "note", "text": "Feels well."}, f"r-{day}")
        await records.change(alice, note.id, {"text": "Feels ill."}, Seen(1))
        with suppress(DomainError):
            await records.change(alice, note.id, {"text": "Feels odd."}, Seen(1))
        for asked in (note.id, "nothing"):
            with suppress(DomainError):
                await records.get(ben, asked)
        with suppress(DomainError):
            await records.change(ben, note.id, {"text": "No."}, Seen(1))
        await patients.page(ben, after=None, limit=9, tag=None, updated_since=None)
        await records.of_patient(ben, patient.id, RecordFilter(), after=None, limit=9)
        if day % 2:
            head = await patients.get(alice, patient.id)
            await patients.delete(alice, patient.id, Seen(head.version), Why("entered twice"))
        await wired.sealer().seal()


@pytest.fixture
async def room(empty_url: str, tmp_path: Path) -> AsyncIterator[Room]:
    await asyncio.to_thread(migrations.upgrade, empty_url)
    settings = config.Settings(database_url=empty_url, data_dir=tmp_path, secret_key="k" * 40, _env_file=None)
    wired = bootstrap.container(settings)
    await wired.database().open()
    for name in ("hillside", "seaside"):
        await a_few_days(wired, name)
    await wired.trail().close()
    await wired.database().close()
    connection = await asyncpg.connect(empty_url)
    await _prepare(connection)
    yield Room(connection, list(wired.witness().told()), random.Random(20260301))
    await connection.close()


async def test_a_thousand_tamperings_are_a_thousand_findings(room: Room) -> None:
    missed, misnamed, done = [], [], Counter[str]()
    while done.total() < TIMES:
        trick = room.dice.choice(TRICKS)
        transaction = room.connection.transaction()
        await transaction.start()
        try:
            await room.connection.execute("SET LOCAL session_replication_role = replica")
            entry_id = await trick(room)
        except asyncpg.UniqueViolationError:
            continue  # not even the database takes that
        else:
            flaw = (await room.verify()).flaw
        finally:
            await transaction.rollback()
        done[trick.__name__] += 1
        if flaw is None:
            missed.append((done.total(), trick.__name__, entry_id))
        elif entry_id is not None and flaw.entry_id != entry_id:
            misnamed.append((done.total(), trick.__name__, entry_id, flaw))
    assert missed == []
    assert misnamed == []
    assert set(done) == {trick.__name__ for trick in TRICKS}


async def test_what_nobody_touched_is_good(room: Room) -> None:
    transaction = room.connection.transaction()
    await transaction.start()
    proof = await room.verify()
    await transaction.rollback()
    assert proof.flaw is None, proof
    assert (proof.unsealed, proof.witnessed, proof.seals) == (0, len(room.told), 8)
    assert proof.entries > 100
    assert proof.versions > 40
