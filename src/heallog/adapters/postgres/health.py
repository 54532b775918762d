"""How sync fares, in PostgreSQL: events of many requests written by one statement, and read."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.feed import sync_heads
from heallog.adapters.postgres.schema import ID, SEPARATOR, TIME, identifier, metadata, moment
from heallog.adapters.postgres.sync import quarantine
from heallog.domain.errors import Unavailable
from heallog.domain.health import (
    LAGS,
    LOST,
    Chosen,
    Count,
    Device,
    Door,
    Gauges,
    Mode,
    Outcome,
    Place,
    Reading,
    SyncEvent,
    Waiting,
    reading,
    readings,
    seen,
)

MOST_WAITING = 20_000
"""Events that may wait; beyond that they are let go, for the database does not keep up, and counted."""

LARGEST = 500
"""Events in one statement: to make it ready takes milliseconds, in which nobody is answered."""

_COUNTS = ("records", "conflicts", "merges", "quarantined", "retries")

sync_events = Table(
    "sync_events",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    moment("at"),
    identifier("account_id"),
    identifier("device_id"),
    Column("door", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text),
    Column("duration_ms", Double, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    *(Column(name, Integer, nullable=False) for name in _COUNTS),
    Column("reached", BigInteger),
    Column("skew_ms", BigInteger),
    Column("disputes", ARRAY(Text), nullable=False),
    PrimaryKeyConstraint("practice_id", "at", "id"),
    Index(None, "at", postgresql_using="brin"),
)

sync_devices = Table(
    "sync_devices",
    metadata,
    identifier("practice_id"),
    identifier("device_id"),
    identifier("account_id"),
    Column("position", BigInteger),
    moment("seen_at"),
    Column("reached", BigInteger),
    Column("outcome", Text),
    PrimaryKeyConstraint("practice_id", "device_id"),
)
"""Everything up to `position` a device has confirmed to have; it was sent everything up to `reached`."""

sync_meters = Table(
    "sync_meters",
    metadata,
    identifier("name"),
    identifier("labels"),
    Column("value", Double, nullable=False),
    PrimaryKeyConstraint("name", "labels"),
)
"""What is counted over the whole house. Of no practice: that is the one table here whose key begins otherwise."""

# -- writing ------------------------------------------------------------------------------------------------------


def _given(table: Table, prefix: str, types: Mapping[str, Any]) -> Any:
    """Rows for a table out of one array for each of its columns."""
    kinds = {f"{prefix}_{c.name}": types.get(c.name, c.type) for c in table.c}
    arrays = func.unnest(*(bindparam(name, type_=ARRAY(kind)) for name, kind in kinds.items()))
    return arrays.table_valued(*(column(name, kind) for name, kind in kinds.items())).render_derived(name=prefix)


def _flush() -> Statement:
    """Events, devices and meters, together or not at all.

    Rows that others may be writing too are taken in the order of their keys: nobody waits in a circle.
    """
    events = _given(sync_events, "e", {"disputes": Text()})
    separator: Any = literal_column("E'\\x1f'")
    values = [
        cast(func.string_to_array(events.c.e_disputes, separator), ARRAY(Text))
        if c.name == "disputes"
        else events.c[f"e_{c.name}"]
        for c in sync_events.c
    ]
    # Written already, where only the answer to it was lost.
    kept = (
        upsert(sync_events)
        .from_select([c.name for c in sync_events.c], select(*values))
        .on_conflict_do_nothing()
        .cte("kept")
    )
    meters = _given(sync_meters, "m", {})
    count = upsert(sync_meters).from_select(
        [c.name for c in sync_meters.c],
        select(*meters.c).order_by(meters.c.m_name, meters.c.m_labels),
    )
    counted = count.on_conflict_do_update(
        index_elements=["name", "labels"], set_={"value": sync_meters.c.value + count.excluded.value}
    ).cte("counted")
    devices = _given(sync_devices, "d", {})
    move = upsert(sync_devices).from_select(
        [c.name for c in sync_devices.c],
        select(*devices.c).order_by(devices.c.d_practice_id, devices.c.d_device_id),
    )
    new = move.excluded
    return Statement(
        move.on_conflict_do_update(
            index_elements=["practice_id", "device_id"],
            set_={name: new[name] for name in ("account_id", "seen_at", "outcome")}
            | {name: func.coalesce(new[name], sync_devices.c[name]) for name in ("position", "reached")},
            # Of two processes the one that saw the device last is right.
            where=new.seen_at >= sync_devices.c.seen_at,
        ).add_cte(kept, counted)
    )


FLUSH = _flush()


def _forget() -> Statement:
    old = (
        select(sync_events.c.practice_id, sync_events.c.at, sync_events.c.id)
        .where(sync_events.c.at < bindparam("before", type_=TIME))
        .limit(bindparam("most", type_=Integer))
        .subquery("old")
    )
    gone = (
        delete(sync_events)
        .where(
            sync_events.c.practice_id == old.c.practice_id,
            sync_events.c.at == old.c.at,
            sync_events.c.id == old.c.id,
        )
        .returning(sync_events.c.id)
        .cte("gone")
    )
    return Statement(select(func.count()).select_from(gone))


FORGET = _forget()


class HealthLog:
    """Gathers, and writes when it is told to."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._events: list[SyncEvent] = []
        self._meters: dict[Reading, float] = {}
        self._alone = asyncio.Lock()

    def record(self, event: SyncEvent) -> None:
        if len(self._events) < MOST_WAITING:
            self._events.append(event)
        else:
            self.add(LOST.name)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        self._count(reading(name, labels), amount)

    def _count(self, key: Reading, amount: float) -> None:
        self._meters[key] = self._meters.get(key, 0) + amount

    async def flush(self) -> None:
        async with self._alone:
            while self._events or self._meters:
                events, self._events = self._events[:LARGEST], self._events[LARGEST:]
                meters, self._meters = self._meters, {}
                try:
                    await self._write(events, meters)
                except Unavailable:
                    self._events = [*events, *self._events][:MOST_WAITING]
                    for key, amount in meters.items():
                        self._count(key, amount)
                    raise
                except Exception:
                    # What the database will not have must not stand in the way of all that comes after it.
                    self._count((LOST.name, ()), len(events))
                    raise

    async def _write(self, events: Sequence[SyncEvent], meters: Mapping[Reading, float]) -> None:
        total: dict[Reading, float] = dict(meters)
        for event in events:
            for key, amount in readings(event):
                total[key] = total.get(key, 0) + amount
        rows = [
            {c.name: getattr(event, c.name) for c in sync_events.c} | {"disputes": SEPARATOR.join(event.disputes)}
            for event in events
        ]
        devices = seen(events)
        names = sorted(total)
        await self._executor.fetch(
            FLUSH,
            **{f"e_{c.name}": [row[c.name] for row in rows] for c in sync_events.c},
            **{f"d_{c.name}": [getattr(device, c.name) for device in devices] for c in sync_devices.c},
            m_name=[name for name, _ in names],
            m_labels=[json.dumps(labels) for _, labels in names],
            m_value=[float(total[key]) for key in names],
        )

    async def forget(self, before: datetime, most: int) -> int:
        row = await self._executor.row(FORGET, before=before, most=most)
        return int(row[0])


# -- reading ------------------------------------------------------------------------------------------------------

_PRACTICE = bindparam("practice", type_=ID)
_SINCE = bindparam("since", type_=TIME)
_BEHIND = case(
    # greatest() leaves a NULL out, and would say 0.
    (sync_devices.c.reached.is_not(None), func.greatest(sync_heads.c.seq - sync_devices.c.reached, 0)),
)


def _events(*, cursor: bool) -> Statement:
    e = sync_events.c
    device, outcome = bindparam("device", type_=ID), bindparam("outcome", type_=Text)
    conditions = [
        e.practice_id == _PRACTICE,
        or_(device.is_(None), e.device_id == device),
        or_(outcome.is_(None), e.outcome == outcome),
    ]
    if cursor:
        conditions.append(tuple_(e.at, e.id) < tuple_(bindparam("at", type_=TIME), bindparam("after", type_=ID)))
    return Statement(
        select(sync_events)
        .where(*conditions)
        .order_by(e.at.desc(), e.id.desc())
        .limit(bindparam("limit", type_=Integer))
    )


EVENTS = {cursor: _events(cursor=cursor) for cursor in (False, True)}
POSITIONS = Statement(
    select(sync_devices, _BEHIND.label("behind_ms"))
    .join(sync_heads, sync_heads.c.practice_id == sync_devices.c.practice_id)
    .where(sync_devices.c.practice_id == _PRACTICE)
    .order_by(sync_devices.c.seen_at.desc(), sync_devices.c.device_id)
)
_WINDOW = (sync_events.c.practice_id == _PRACTICE, sync_events.c.at >= _SINCE)
_KIND = (sync_events.c.mode, sync_events.c.outcome, sync_events.c.code)
COUNTS = Statement(
    select(
        *_KIND,
        func.count().label("events"),
        *(cast(func.sum(sync_events.c[name]), BigInteger).label(name) for name in ("bytes", *_COUNTS)),
        func.max(sync_events.c.skew_ms).label("skew_ms"),
    )
    .where(*_WINDOW)
    .group_by(*_KIND)
    .order_by(*_KIND)
)


def _disputes() -> Statement:
    each = select(func.unnest(sync_events.c.disputes).label("dispute")).where(*_WINDOW).subquery("each")
    dispute: Any = each.c.dispute.collate("C")
    return Statement(
        select(each.c.dispute, func.count()).group_by(each.c.dispute).order_by(func.count().desc(), dispute)
    )


DISPUTES = _disputes()
_OPEN = (func.count(), func.min(quarantine.c.at))
WAITING = Statement(select(*_OPEN).where(quarantine.c.practice_id == _PRACTICE, quarantine.c.closed_at.is_(None)))
METERS = Statement(select(sync_meters).order_by(sync_meters.c.name, sync_meters.c.labels))


def _gauges() -> Statement:
    """One row. A device that was never sent anything is behind by all there is."""
    behind = func.greatest(sync_heads.c.seq - func.coalesce(sync_devices.c.reached, 0), 0)
    devices = (
        select(behind.label("behind"))
        .join(sync_heads, sync_heads.c.practice_id == sync_devices.c.practice_id)
        .where(sync_devices.c.seen_at >= _SINCE)
        .subquery("devices")
    )
    within = [func.count().filter(devices.c.behind <= literal(lag * 1000, BigInteger)) for lag in LAGS]
    lags = select(
        func.count().label("devices"),
        func.coalesce(func.max(devices.c.behind), literal(0, BigInteger)).label("most"),
        *(count.label(f"within_{number}") for number, count in enumerate(within)),
    ).cte("lags")
    waiting = select(_OPEN[0].label("waiting"), _OPEN[1].label("oldest")).where(quarantine.c.closed_at.is_(None))
    open_ = waiting.cte("open")
    return Statement(select(lags, open_).select_from(lags).join(open_, literal_column("true")))


GAUGES = _gauges()


def _event(row: Row) -> SyncEvent:
    values = dict(row)
    return SyncEvent(
        **values
        | {
            "door": Door(values["door"]),
            "mode": Mode(values["mode"]),
            "outcome": Outcome(values["outcome"]),
            "disputes": tuple(values["disputes"]),
        }
    )


class HealthReads:
    """Plain reads, on the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def positions(self, practice_id: str) -> Sequence[Device]:
        rows = await self._executor.fetch(POSITIONS, practice=practice_id)
        return [Device(**dict(row) | {"outcome": Outcome(row["outcome"])}) for row in rows]

    async def events(self, practice_id: str, chosen: Chosen, after: Place | None, limit: int) -> Sequence[SyncEvent]:
        place = {} if after is None else {"at": _moment(after.at_ms), "after": after.id}
        rows = await self._executor.fetch(
            EVENTS[after is not None],
            practice=practice_id,
            device=chosen.device_id,
            outcome=chosen.outcome,
            limit=limit,
            **place,
        )
        return [_event(row) for row in rows]

    async def counts(self, practice_id: str, since: datetime) -> Sequence[Count]:
        rows = await self._executor.fetch(COUNTS, practice=practice_id, since=since)
        return [Count(Mode(row[0]), Outcome(row[1]), *list(row)[2:]) for row in rows]

    async def disputes(self, practice_id: str, since: datetime) -> Sequence[tuple[str, int]]:
        rows = await self._executor.fetch(DISPUTES, practice=practice_id, since=since)
        return [(row[0], row[1]) for row in rows]

    async def waiting(self, practice_id: str) -> Waiting:
        return Waiting(*await self._executor.row(WAITING, practice=practice_id))

    async def meters(self) -> Sequence[tuple[Reading, float]]:
        rows = await self._executor.fetch(METERS)
        return [((row["name"], tuple(json.loads(row["labels"]))), row["value"]) for row in rows]

    async def gauges(self, since: datetime) -> Gauges:
        row = await self._executor.row(GAUGES, since=since)
        devices, most, *within = list(row)[: 2 + len(LAGS)]
        return Gauges(devices, tuple(within), most, Waiting(row["waiting"], row["oldest"]))


def _moment(milliseconds: int) -> datetime:
    """To the millisecond, without the rounding of floats."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


if TYPE_CHECKING:
    from heallog.application.ports import health as ports

    _: type[ports.HealthLog] = HealthLog
    __: type[ports.HealthReads] = HealthReads
