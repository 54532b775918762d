"""Practices with as much in them as a benchmark needs: one patient and one record, entered, and then copied by SQL."""

from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks.architecture_tax import OBSERVATION
from benchmarks.load import Client, Owner
from benchmarks.servers import KEY
from heallog.adapters.postgres.patients import patients
from heallog.adapters.postgres.records import records
from heallog.adapters.tokens import derived
from heallog.domain import sync
from heallog.domain.access import Actor, Role
from heallog.domain.sync import Place, Stream

PATIENT = {
    "family_name": "Obi",
    "given_name": "Ngozi",
    "birth_date": "1984-06-11",
    "sex": "female",
    "phone": "0141 496 0123",
    "address": {"lines": ["4 Mill Lane"], "city": "Brook", "postal_code": "BR1 4ML"},
}
TOGETHER = 20
"""Items of one contribution."""


class Feed:
    """A practice and its feed of `patients` and `records`."""

    def __init__(self, url: str, who: Owner, client: Client, patients: int, records: int) -> None:
        self.url, self.who, self.client = url, who, client
        self.patients, self.records = patients, records
        self.first = 0
        self.epoch = ""

    async def fill(self, *, heads: bool = False) -> "Feed":
        """With `heads`: patients and records themselves too, not only what devices are told of them."""
        patient = self.client.ask("POST", "/v1/patients", PATIENT)["id"]
        self.client.ask("POST", f"/v1/patients/{patient}/records", OBSERVATION)
        pulled = self.client.ask("GET", "/v1/sync/pull")
        self.first, self.epoch = pulled["head"] + 1, pulled["epoch"]
        connection = await asyncpg.connect(self.url)
        for stream, table, count in (
            (Stream.PATIENTS, patients, self.patients),
            (Stream.RECORDS, records, self.records),
        ):
            if heads:
                own = {"id": "made.id", "patient_id": "made.patient_id"}
                names = [column.name for column in table.c]
                await connection.execute(
                    f"INSERT INTO {table.name} ({', '.join(names)})"
                    f" SELECT {', '.join(own.get(name, f't.{name}') for name in names)}"
                    f" FROM {table.name} t, {self._made(stream, count)} WHERE t.practice_id = '{self.who.practice_id}'"
                )
            await connection.execute(
                "INSERT INTO change_feed (practice_id, seq, rank, id, patient_id, version, wire, row)"
                f" SELECT t.practice_id, made.seq, t.rank, made.id, made.patient_id, t.version,"
                f" {self._again('wire')}, {self._again('row') if heads else 't.row'}"
                f" FROM change_feed t, {self._made(stream, count)}"
                f" WHERE t.practice_id = '{self.who.practice_id}' AND t.rank = {stream.rank}"
                f" AND t.seq < {self.first}"
            )
        await connection.execute(
            "UPDATE sync_heads SET seq = $2 WHERE practice_id = $1", self.who.practice_id, self.seq(self.size)
        )
        for table in ("change_feed", "patients", "records"):
            await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.close()
        self.client.reconnect()
        return self

    @property
    def size(self) -> int:
        return self.patients + self.records

    def seq(self, depth: int) -> int:
        """The number of the item that has so many of the copies before it."""
        return self.first + depth // TOGETHER

    def cursor(self, depth: int) -> str:
        """Of a device that has so many of them."""
        who = Actor(self.who.account_id, self.who.practice_id, Role.OWNER, "session", "device")
        begun = sync.begun(who, self.epoch, tuple(Stream))
        moved = sync.moved(begun, who, None, self.seq(depth) - 1, datetime.now(UTC), timedelta())
        return moved.text(derived(KEY, "sync cursor"))

    def place(self, depth: int) -> Place:
        return Place(self.seq(depth) - 1, len(Stream), "")

    @staticmethod
    def _again(column: str) -> str:
        """The bytes of the copied item, with other ids in them."""
        text = f"replace(convert_from(t.{column}, 'UTF8'), t.id, made.id)"
        return f"convert_to(replace({text}, t.patient_id, made.patient_id), 'UTF8')"

    def _made(self, stream: Stream, count: int) -> str:
        """Ids as long as those that HealLog makes. A contribution's records are of one patient, as an encounter's are;
        contributions go round the patients.
        """
        of = "n" if stream is Stream.PATIENTS else f"n / {TOGETHER} % {self.patients}"
        number, owner = "lpad(n::text, 32, '0')", f"lpad(({of})::text, 32, '0')"
        before = 0 if stream is Stream.PATIENTS else self.patients
        one = "pat" if stream is Stream.PATIENTS else "rec"
        return (
            f"(SELECT '{one}-' || {number} AS id, 'pat-' || {owner} AS patient_id,"
            f" {self.first} + ({before} + n) / {TOGETHER} AS seq FROM generate_series(0, {count - 1}) n) made"
        )
