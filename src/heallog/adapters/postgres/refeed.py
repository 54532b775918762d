"""Fills the change feed of practices that have none yet: those from before there was a feed."""

from collections.abc import AsyncIterator

from sqlalchemy import bindparam, select

from heallog.adapters.postgres import feed as table
from heallog.adapters.postgres.conflicts import conflict_of, conflicts
from heallog.adapters.postgres.database import Database, Statement, Transaction
from heallog.adapters.postgres.ledger import PostgresLedger
from heallog.adapters.postgres.schema import ID
from heallog.domain.sync import Item, of_conflict, of_head
from heallog.domain.versions import Collection

BATCH = 1_000

EMPTY = Statement(
    select(table.sync_heads.c.practice_id).where(table.sync_heads.c.seq == 0).order_by(table.sync_heads.c.practice_id)
)
LOCK = Statement(
    select(table.sync_heads.c.seq)
    .where(table.sync_heads.c.practice_id == bindparam("practice", type_=ID), table.sync_heads.c.seq == 0)
    .with_for_update()
)
CONFLICTS = Statement(
    select(conflicts).where(conflicts.c.practice_id == bindparam("practice", type_=ID)).order_by(conflicts.c.id)
)


async def refeed(database: Database) -> int:
    """How many practices were filled. Each in one transaction that holds its head: writers wait, and come after it.

    No server of an older release may write meanwhile: it does not know of the feed.
    """
    filled = 0
    for (practice_id,) in await database.fetch(EMPTY):
        async with database.connection() as transaction:
            await transaction.run("BEGIN")
            try:
                if await transaction.row(LOCK, practice=practice_id) is not None:
                    await _fill(transaction, practice_id)
                    filled += 1
            except BaseException:
                await transaction.run("ROLLBACK")
                raise
            await transaction.run("COMMIT")
    return filled


async def _fill(transaction: Transaction, practice_id: str) -> None:
    feed, told = table.Prepared(), 0
    async for item in _items(transaction, practice_id):
        feed.tell(practice_id, [item])
        told += 1
        if told % BATCH == 0:
            await table.write(transaction, feed)
            feed = table.Prepared()
    await table.write(transaction, feed)


async def _items(transaction: Transaction, practice_id: str) -> AsyncIterator[Item]:
    """Patients before what is theirs."""
    ledger = PostgresLedger(transaction)
    for collection in (Collection.PATIENTS, Collection.RECORDS):
        async for head in ledger.heads(collection, practice_id):
            yield of_head(head)
    for row in await transaction.fetch(CONFLICTS, practice=practice_id):
        yield of_conflict(conflict_of(row))
