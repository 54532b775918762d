"""Seals in PostgreSQL: made and proved where the entries are, a constant number of statements a round (ADR 11).

`pg_snapshot_xmin` is a horizon: every transaction below it is finished, so the entries of those transactions are all
there and no other will come. Transaction numbers are one server's own; entries of another one (from before there were
seals, or from a dump of another server) can get no company here either, and are sealed first.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    LargeBinary,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    extract,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, array

from heallog.adapters.postgres.audit import audit_entries, audit_seals
from heallog.adapters.postgres.database import Database, Row, Statement, Transaction
from heallog.adapters.postgres.ledger import PostgresLedger, chosen, of_practice
from heallog.adapters.postgres.patients import patients
from heallog.adapters.postgres.records import records
from heallog.adapters.postgres.schema import ID, TIME
from heallog.adapters.postgres.versions import versions
from heallog.application.ports.audit import Evidence, Kept, Undeclared
from heallog.domain.audit import SCALARS, Seal, Witnessed
from heallog.domain.versions import Collection

LARGEST = 20_000
"""Entries that a round seals, about: transactions are sealed whole."""

PATIENCE = 3600.0
"""Seconds that a proof of everything may take for one statement."""

_LOCK = 0x5EA1
_E, _S = audit_entries.c, audit_seals.c


def _line(*values: Any) -> ColumnElement[str]:
    """A JSON array of strings and nulls, without spaces."""
    return cast(func.array_to_json(array([_text(value) for value in values], type_=Text)), Text)


def _text(value: Any) -> Any:
    if isinstance(value.type, type(TIME)):
        return cast(cast(extract("epoch", value) * literal_column("1000000"), BigInteger), Text)
    if isinstance(value.type, LargeBinary):
        return func.encode(value, literal_column("'hex'"))
    return value if isinstance(value.type, Text) else cast(value, Text)


def _sha256(text: Any) -> ColumnElement[bytes]:
    return func.sha256(func.convert_to(text, literal_column("'UTF8'")), type_=LargeBinary)


DIGEST = _sha256(
    _line(*(_E[name] for name in (*SCALARS, "cluster", "transaction")))
    + cast(func.array_to_json(_E.fields), Text)
    + func.coalesce(cast(func.array_to_json(_E.subjects), Text), literal_column("'null'"))
)
"""What `domain/audit.py:digest` makes of the entry in a row."""

# -- sealing ------------------------------------------------------------------------------------------------------

ALONE = Statement(select(func.pg_try_advisory_xact_lock(bindparam("lock", _LOCK, type_=BigInteger))))


def _horizons() -> Statement:
    """Each cluster that has entries: how far it is sealed, and how far it can be; other servers' come first.

    The clusters are found by jumping through their index from one to the next.
    """
    found = select(func.min(_E.cluster).label("cluster")).cte("found", recursive=True)
    further = select(func.min(_E.cluster)).where(_E.cluster > found.c.cluster).scalar_subquery()
    found = found.union_all(select(further).where(found.c.cluster.is_not(None)))
    newest = select(func.max(_E.transaction)).where(_E.cluster == found.c.cluster).scalar_subquery()
    low = select(func.max(_S.high)).where(_S.cluster == found.c.cluster).scalar_subquery()
    here = found.c.cluster == literal_column("current_setting('heallog.cluster')::bigint")
    horizon = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)
    end = newest + literal_column("1")
    return Statement(
        select(
            found.c.cluster,
            func.coalesce(low, literal_column("0")).label("low"),
            case((here, func.least(end, horizon)), else_=end).label("until"),
        )
        .where(found.c.cluster.is_not(None))
        .order_by(here, found.c.cluster)
    )


HORIZONS = _horizons()

_CLUSTER = bindparam("cluster", type_=BigInteger)
_LOW, _HIGH = bindparam("low", type_=BigInteger), bindparam("high", type_=BigInteger)
_IN_RANGE = and_(_E.cluster == _CLUSTER, _E.transaction >= _LOW, _E.transaction < _HIGH)


def _bounds() -> Statement:
    """The oldest transaction to seal, and the one that a round's worth of entries does not reach."""
    in_order = select(_E.transaction).where(_IN_RANGE).order_by(_E.transaction).limit(literal_column("1"))
    beyond = in_order.offset(bindparam("most", type_=Integer))
    return Statement(select(in_order.scalar_subquery().label("oldest"), beyond.scalar_subquery().label("beyond")))


BOUNDS = _bounds()


def _seal() -> Statement:
    """One new seal for each practice that has entries in the range, onto its last one."""
    chosen = select(_E.practice_id, _E.transaction, _E.id, DIGEST.label("digest")).where(_IN_RANGE).cte("chosen")
    order = (chosen.c.transaction, chosen.c.id)
    grouped = (
        select(
            chosen.c.practice_id,
            func.array_agg(aggregate_order_by(chosen.c.id, *order), type_=ARRAY(ID)).label("entries"),
            func.string_agg(
                chosen.c.digest, aggregate_order_by(literal_column("''::bytea"), *order), type_=LargeBinary
            ).label("digests"),
        )
        .group_by(chosen.c.practice_id)
        .cte("grouped")
    )
    mine = _S.practice_id == grouped.c.practice_id
    last = select(_S.number, _S.hash).where(mine).order_by(_S.number.desc()).limit(literal_column("1")).lateral("last")
    edge = (
        select(_S.high)
        .where(mine, _S.cluster == _CLUSTER)
        .order_by(_S.number.desc())
        .limit(literal_column("1"))
        .lateral("edge")
    )
    onto = (
        select(
            grouped.c.practice_id,
            (func.coalesce(last.c.number, literal_column("0")) + literal_column("1")).label("number"),
            bindparam("at", type_=TIME).label("at"),
            _CLUSTER.label("cluster"),
            func.coalesce(edge.c.high, literal_column("0", BigInteger), type_=BigInteger).label("low"),
            _HIGH.label("high"),
            grouped.c.entries,
            grouped.c.digests,
            func.coalesce(last.c.hash, literal_column("decode(repeat('00', 32), 'hex')")).label("previous"),
        )
        .select_from(grouped.outerjoin(last, literal_column("true")).outerjoin(edge, literal_column("true")))
        .cte("onto")
    )
    c = onto.c
    metadata = _line(
        c.practice_id, c.number, c.at, c.cluster, c.low, c.high, func.cardinality(c.entries, type_=Integer)
    )
    ids = cast(func.array_to_json(c.entries), Text)
    parts = _sha256(metadata).op("||")(_sha256(ids)).op("||")(func.sha256(c.digests))
    hashed = func.sha256(c.previous.op("||")(parts))
    columns = ("practice_id", "number", "at", "cluster", "low", "high", "entries", "digests")
    return Statement(
        insert(audit_seals)
        .from_select([*columns, "hash"], select(*(c[name] for name in columns), hashed))
        .returning(
            _S.practice_id,
            _S.number,
            _S.at,
            _S.entries[literal_column("1")],
            func.cardinality(_S.entries),
            _S.hash,
        )
    )


SEAL = _seal()


class PostgresSealing:
    """One process seals at a time; whoever comes meanwhile leaves it to that one."""

    def __init__(self, database: Database, *, largest: int = LARGEST) -> None:
        self._database = database
        self._largest = largest

    async def round(self, at: datetime) -> tuple[Sequence[Witnessed], bool]:
        async with self._database.connection() as transaction:
            await transaction.run("BEGIN")
            try:
                made, more = await self._round(transaction, at)
            except BaseException:
                await transaction.run("ROLLBACK")
                raise
            await transaction.run("COMMIT")
        return made, more

    async def _round(self, transaction: Transaction, at: datetime) -> tuple[Sequence[Witnessed], bool]:
        alone = await transaction.row(ALONE)
        if not alone[0]:
            return [], False
        ranges = await transaction.fetch(HORIZONS)
        for cluster, low, until in ranges:
            oldest, beyond = await transaction.row(BOUNDS, cluster=cluster, low=low, high=until, most=self._largest)
            if oldest is None:
                continue
            high = until if beyond is None else max(beyond, oldest + 1)
            rows = await transaction.fetch(SEAL, cluster=cluster, low=low, high=high, at=at)
            more = beyond is not None or cluster != ranges[-1][0]
            return sorted((Witnessed(*row) for row in rows), key=lambda seal: seal.practice_id), more
        return [], False


# -- proving ------------------------------------------------------------------------------------------------------


SEALS = of_practice(select(audit_seals).order_by(_S.practice_id, _S.number), _S.practice_id)
BY_CLUSTER = of_practice(select(audit_seals).order_by(_S.practice_id, _S.cluster, _S.number), _S.practice_id)
ENTRIES = of_practice(
    select(_E.practice_id, _E.cluster, _E.transaction, _E.id, DIGEST).order_by(
        _E.practice_id, _E.cluster, _E.transaction, _E.id
    ),
    _E.practice_id,
)
SIZE = of_practice(select(func.count()).select_from(audit_entries), _E.practice_id)
EDGES = Statement(select(_S.cluster, func.max(_S.high)).group_by(_S.cluster))


def _unknown() -> Statement:
    told = (
        func.unnest(
            bindparam("practices", type_=ARRAY(ID)),
            bindparam("numbers", type_=ARRAY(Integer)),
            bindparam("hashes", type_=ARRAY(LargeBinary)),
        )
        .table_valued("practice_id", "number", "hash", with_ordinality="place")
        .render_derived(name="told")
    )
    here = and_(_S.practice_id == told.c.practice_id, _S.number == told.c.number)
    return Statement(
        select(told.c.place)
        .select_from(told.outerjoin(audit_seals, here))
        .where(_S.hash.is_distinct_from(told.c.hash))
        .order_by(told.c.place)
        .limit(literal_column("1"))
    )


UNKNOWN = _unknown()
HEADS = {Collection.PATIENTS: patients, Collection.RECORDS: records}


def _lost() -> Select[Any]:
    """An entry that names a version which is not there, or whose hash is another's."""
    same = and_(
        versions.c.practice_id == _E.practice_id,
        versions.c.collection == _E.collection,
        versions.c.thing_id == _E.thing_id,
        versions.c.number == _E.version,
    )
    other = and_(_E.hash.is_not(None), _E.hash.is_distinct_from(versions.c.hash))
    return (
        select(_E.practice_id, _E.id, _E.collection, _E.thing_id, _E.version)
        .select_from(audit_entries.outerjoin(versions, same))
        .where(
            _E.version.is_not(None),
            _E.thing_id.is_not(None),
            _E.collection.in_([literal_column(f"'{name}'") for name in HEADS]),
            or_(versions.c.number.is_(None), other),
        )
        .order_by(_E.practice_id, _E.at, _E.id)
        .limit(literal_column("1"))
    )


def _forged(collection: Collection) -> Select[Any]:
    """A head whose last version no entry declares. Entries from before they named hashes (cluster 0) go by number."""
    heads = HEADS[collection]
    declared = select(_E.id).where(
        _E.practice_id == heads.c.practice_id,
        _E.collection == literal_column(f"'{collection}'"),
        _E.thing_id == heads.c.id,
        _E.version == heads.c.last,
        or_(_E.hash == heads.c.hash, and_(_E.hash.is_(None), _E.cluster == literal_column("0"))),
    )
    return (
        select(heads.c.practice_id, null(), literal_column(f"'{collection}'"), heads.c.id, heads.c.last)
        .where(~declared.exists())
        .order_by(heads.c.practice_id, heads.c.id)
        .limit(literal_column("1"))
    )


UNDECLARED = [of_practice(_lost(), _E.practice_id)] + [
    of_practice(_forged(name), heads.c.practice_id) for name, heads in HEADS.items()
]


WHOLE = Statement(select(func.set_config("enable_nestloop", "off", literal_column("true"))))
"""Every row is looked at: one by one, through indexes, takes many times as long, and LIMIT 1 makes it look cheap."""


class PostgresProofs:
    """Of one moment: writers go on meanwhile and are not seen."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def seals(self, practice_id: str | None, *, by_cluster: bool = False) -> AsyncIterator[Seal]:
        # A few at a time: one seal may hold thousands of entries.
        async for row in self._stream(BY_CLUSTER if by_cluster else SEALS, practice_id, 20):
            values = list(row)
            values[6] = tuple(values[6])
            yield Seal(*values)

    async def entries(self, practice_id: str | None) -> AsyncIterator[Kept]:
        async for row in self._stream(ENTRIES, practice_id, 1_000):
            yield Kept(*row)

    def _stream(self, statements: dict[bool, Statement], practice_id: str | None, prefetch: int) -> AsyncIterator[Row]:
        statement, given = chosen(statements, practice_id)
        return self._transaction.stream(statement, prefetch=prefetch, patience=PATIENCE, **given)

    async def edges(self) -> Mapping[int, int]:
        return dict(await self._transaction.fetch(EDGES))

    async def unknown(self, told: Sequence[Witnessed]) -> Witnessed | None:
        row = await self._transaction.row(
            UNKNOWN,
            practices=[seal.practice_id for seal in told],
            numbers=[seal.number for seal in told],
            hashes=[seal.hash for seal in told],
        )
        return None if row is None else told[row[0] - 1]

    async def undeclared(self, practice_id: str | None) -> Undeclared | None:
        await self._transaction.fetch(WHOLE)
        for statements in UNDECLARED:
            async for row in self._stream(statements, practice_id, 1):
                return Undeclared(*row)
        return None

    async def size(self, practice_id: str | None) -> int:
        statement, given = chosen(SIZE, practice_id)
        return int((await self._transaction.row(statement, **given))[0])


@asynccontextmanager
async def evidence(database: Database) -> AsyncIterator[Evidence]:
    """Everything as it stands now."""
    async with database.snapshot() as transaction:
        yield Evidence(PostgresProofs(transaction), PostgresLedger(transaction))


if TYPE_CHECKING:
    from heallog.application.ports import audit as ports

    _: type[ports.Sealing] = PostgresSealing
    __: type[ports.Proofs] = PostgresProofs
