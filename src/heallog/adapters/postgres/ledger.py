"""Everything there is, streamed by server-side cursors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from heallog.adapters.postgres.database import Database, Statement, Transaction
from heallog.adapters.postgres.patients import patients
from heallog.adapters.postgres.records import records
from heallog.adapters.postgres.versions import EVERY, SIZE, head_of, head_select, version_of
from heallog.domain.versions import Collection, Head, Version

HEADS = {
    collection: Statement(head_select(table).order_by(table.c.practice_id, table.c.id))
    for collection, table in ((Collection.PATIENTS, patients), (Collection.RECORDS, records))
}


class PostgresLedger:
    """Of one moment: writers go on meanwhile and are not seen."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def versions(self, collection: Collection) -> AsyncIterator[Version]:
        async for row in self._transaction.stream(EVERY, collection=collection):
            yield version_of(row)

    async def heads(self, collection: Collection) -> AsyncIterator[Head]:
        async for row in self._transaction.stream(HEADS[collection]):
            yield head_of(collection, row)

    async def size(self) -> int:
        row = await self._transaction.row(SIZE)
        return int(row[0])


@asynccontextmanager
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    """The ledger as it stands now."""
    async with database.snapshot() as transaction:
        yield PostgresLedger(transaction)
