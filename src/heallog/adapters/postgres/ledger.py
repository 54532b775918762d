"""Everything there is, streamed by server-side cursors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Select, bindparam, func, select

from heallog.adapters.postgres.database import Database, Row, Statement, Transaction
from heallog.adapters.postgres.patients import patients
from heallog.adapters.postgres.records import records
from heallog.adapters.postgres.versions import head_of, head_select, versions
from heallog.domain.versions import Collection, Head, Version


def of_practice(statement: Select[Any], practice_id: Any) -> dict[bool, Statement]:
    """A statement for all practices and one for a single practice, each with a plan of its own."""
    return {
        False: Statement(statement),
        True: Statement(statement.where(practice_id == bindparam("practice_id", type_=practice_id.type))),
    }


def chosen(statements: dict[bool, Statement], practice_id: str | None) -> tuple[Statement, dict[str, Any]]:
    """The one of the two that is wanted, and its parameter."""
    return statements[practice_id is not None], {} if practice_id is None else {"practice_id": practice_id}


VERSIONS = of_practice(
    select(*versions.c)
    .where(versions.c.collection == bindparam("collection"))
    .order_by(versions.c.practice_id, versions.c.thing_id, versions.c.number),
    versions.c.practice_id,
)
HEADS = {
    collection: of_practice(head_select(table).order_by(table.c.practice_id, table.c.id), table.c.practice_id)
    for collection, table in ((Collection.PATIENTS, patients), (Collection.RECORDS, records))
}
SIZE = of_practice(select(func.count()).select_from(versions), versions.c.practice_id)


def _version(row: Row) -> Version:
    """Whatever stands there: a change type that there is not is for the proof to find."""
    practice_id, collection, thing_id, patient_id, number, parent, inputs, change, *rest = row
    return Version(
        practice_id, Collection(collection), thing_id, patient_id, number, parent, tuple(inputs), change, *rest
    )


class PostgresLedger:
    """Of one moment: writers go on meanwhile and are not seen."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def versions(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Version]:
        statement, given = chosen(VERSIONS, practice_id)
        async for row in self._transaction.stream(statement, collection=collection, **given):
            yield _version(row)

    async def heads(self, collection: Collection, practice_id: str | None = None) -> AsyncIterator[Head]:
        statement, given = chosen(HEADS[collection], practice_id)
        async for row in self._transaction.stream(statement, **given):
            yield head_of(collection, row)

    async def size(self, practice_id: str | None = None) -> int:
        statement, given = chosen(SIZE, practice_id)
        row = await self._transaction.row(statement, **given)
        return int(row[0])


@asynccontextmanager
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    """The ledger as it stands now."""
    async with database.snapshot() as transaction:
        yield PostgresLedger(transaction)
