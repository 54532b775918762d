"""Sessions in PostgreSQL, who their holders are now, and whose access tokens are worth nothing any more."""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    case,
    column,
    delete,
    func,
    insert,
    literal,
    literal_column,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.gathering import Gathered
from heallog.adapters.postgres.accounts import accounts
from heallog.adapters.postgres.codes import one_time_codes
from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.practices import emergencies, memberships, practices
from heallog.adapters.postgres.schema import ID, TIME, Bytes, identifier, metadata, moment
from heallog.adapters.postgres.tries import tries
from heallog.application.ports.world import Clock
from heallog.domain.access import Plan, Role
from heallog.domain.canon import canonical
from heallog.domain.sessions import Bearer, Ending, Session, Standing

sessions = Table(
    "sessions",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    identifier("account_id", index=True),
    identifier("device_id"),
    moment("created_at"),
    moment("expires_at"),
    moment("refreshed_at"),
    Column("generation", Integer, nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("family", LargeBinary, nullable=False),
    moment("ended_at", nullable=True),
    Column("ending", Text),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id", "account_id"], ["memberships.practice_id", "memberships.account_id"]),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    identifier("practice_id"),
    identifier("session_id"),
    moment("expires_at"),
    PrimaryKeyConstraint("practice_id", "session_id"),
)

_COLUMNS = tuple(column.name for column in sessions.c)
_CHANGING = ("expires_at", "refreshed_at", "generation", "token_hash", "ended_at", "ending")
_VALUES = {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in sessions.c}
_THIS = (sessions.c.practice_id == _VALUES["practice_id"], sessions.c.id == _VALUES["id"])

ADD = Statement(insert(sessions).values(_VALUES))
PUT = Statement(update(sessions).where(*_THIS).values({name: _VALUES[name] for name in _CHANGING}))
LOCK = Statement(select(sessions).where(*_THIS).with_for_update())
_LIVE = (
    select(sessions)
    .where(sessions.c.ended_at.is_(None), sessions.c.expires_at > bindparam("now", type_=TIME))
    .order_by(sessions.c.created_at.desc(), sessions.c.id.desc())
    .with_for_update()
)
LIVE = Statement(_LIVE)
OF_ACCOUNT = Statement(
    _LIVE.where(
        sessions.c.account_id == bindparam("account", type_=ID),
        sessions.c.practice_id == func.coalesce(bindparam("practice", type_=ID), sessions.c.practice_id),
    )
)


_Pair = tuple[str, str]
"""A practice and a session in it."""


def _given() -> Any:
    """Pairs of practice and session, out of two arrays."""
    arrays = func.unnest(bindparam("practices", type_=ARRAY(ID)), bindparam("sessions", type_=ARRAY(ID)))
    return arrays.table_valued("practice_id", "session_id").render_derived(name="given")


def _standing() -> Statement:
    """A row for each session that was asked for: whether its tokens are revoked; its holder, if it has one now.

    Every request pays for it. As one join of six tables it took 0.4 ms to be planned, each time: of an array the
    planner sees the length, so a plan made for this very call looked better than one kept for all. Of JSON it sees
    nothing, and what it looks up one after the other it need not order.
    """
    given = (
        func.json_to_recordset(bindparam("asked", type_=Bytes()))
        .table_valued(column("practice_id", ID), column("session_id", ID))
        .render_derived(name="given", with_types=True)
    )

    def looked_up(name: str, *columns: Any, where: Any) -> Any:
        return select(*columns).where(where).limit(literal_column("1")).lateral(name)

    revoked = looked_up(
        "revoked",
        revoked_tokens.c.expires_at,
        where=(revoked_tokens.c.practice_id == given.c.practice_id)
        & (revoked_tokens.c.session_id == given.c.session_id),
    )
    session = looked_up(
        "session",
        sessions.c.account_id,
        sessions.c.device_id,
        sessions.c.expires_at,
        where=(sessions.c.practice_id == given.c.practice_id)
        & (sessions.c.id == given.c.session_id)
        & sessions.c.ended_at.is_(None),
    )
    member = looked_up(
        "member",
        memberships.c.role,
        where=(memberships.c.practice_id == given.c.practice_id)
        & (memberships.c.account_id == session.c.account_id)
        & memberships.c.ended_at.is_(None),
    )
    account = looked_up(
        "account",
        accounts.c.verified_at.is_not(None).label("verified"),
        where=accounts.c.id == session.c.account_id,
    )
    practice = looked_up("practice", practices.c.plan, where=practices.c.id == given.c.practice_id)
    emergency = looked_up(
        "emergency",
        func.max(emergencies.c.until).label("until"),
        where=(emergencies.c.practice_id == given.c.practice_id)
        & (emergencies.c.account_id == session.c.account_id)
        & emergencies.c.closed_at.is_(None),
    )
    found: Any = given
    for part in (revoked, session, member, account, practice, emergency):
        found = found.join(part, true(), isouter=True)
    return Statement(
        select(
            given.c.practice_id,
            given.c.session_id,
            revoked.c.expires_at.label("revoked_until"),
            session.c.account_id,
            session.c.device_id,
            session.c.expires_at,
            member.c.role,
            practice.c.plan,
            account.c.verified,
            emergency.c.until.label("emergency_until"),
        ).select_from(found)
    )


STANDING = _standing()


LEFT = Statement(
    select(sessions.c.device_id)
    .join(
        memberships,
        (memberships.c.practice_id == sessions.c.practice_id) & (memberships.c.account_id == sessions.c.account_id),
    )
    .where(
        *_THIS,
        sessions.c.account_id == bindparam("account", type_=ID),
        sessions.c.ending == literal(Ending.MEMBERSHIP, Text),
        memberships.c.ended_at.is_not(None),
    )
)

_BEFORE: Any = bindparam("before", type_=TIME)


def _deletion(table: Table, over: Any, before: Any = _BEFORE) -> Statement:
    key = tuple_(*table.primary_key.columns)
    # What somebody holds is in use, and stays.
    rested = select(*table.primary_key.columns).where(over < before)
    rested = rested.with_for_update(skip_locked=True)
    gone = delete(table).where(key.in_(rested)).returning(literal(1).label("one")).cte("gone")
    return Statement(select(func.count()).select_from(gone))


SWEEP_SESSIONS = _deletion(
    sessions,
    func.coalesce(sessions.c.ended_at, sessions.c.expires_at),
    case((sessions.c.ending == literal(Ending.MEMBERSHIP, Text), bindparam("left", type_=TIME)), else_=_BEFORE),
)
SWEEP = (
    _deletion(one_time_codes, one_time_codes.c.expires_at),
    _deletion(tries, tries.c.last_at),
    _deletion(revoked_tokens, revoked_tokens.c.expires_at),
)


def _revoke() -> Statement:
    given = _given()
    rows = select(given.c.practice_id, given.c.session_id, bindparam("until", type_=TIME))
    made = upsert(revoked_tokens).from_select(["practice_id", "session_id", "expires_at"], rows)
    later = func.greatest(revoked_tokens.c.expires_at, made.excluded.expires_at)
    return Statement(
        made.on_conflict_do_update(index_elements=["practice_id", "session_id"], set_={"expires_at": later})
    )


REVOKE = _revoke()


def _session(row: Row) -> Session | None:
    if row is None:
        return None
    return Session(**dict(row) | {"ending": Ending(row["ending"]) if row["ending"] else None})


def _values(session: Session) -> dict[str, object]:
    return {f"new_{name}": getattr(session, name) for name in _COLUMNS}


class SessionRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, session: Session) -> None:
        await self._executor.fetch(ADD, **_values(session))

    async def lock(self, practice_id: str, session_id: str) -> Session | None:
        return _session(await self._executor.row(LOCK, new_practice_id=practice_id, new_id=session_id))

    async def put(self, session: Session) -> None:
        await self._executor.fetch(PUT, **_values(session))

    async def of_account(self, account_id: str, now: datetime, practice_id: str | None = None) -> Sequence[Session]:
        rows = await self._executor.fetch(OF_ACCOUNT, account=account_id, practice=practice_id, now=now)
        return [session for row in rows if (session := _session(row))]

    async def live(self, now: datetime) -> Sequence[Session]:
        return [session for row in await self._executor.fetch(LIVE, now=now) if (session := _session(row))]

    async def sweep(self, before: datetime, left: datetime) -> int:
        swept = [await self._executor.row(SWEEP_SESSIONS, before=before, left=left)]
        swept += [await self._executor.row(statement, before=before) for statement in SWEEP]
        return sum(count for (count,) in swept)


class SessionReads:
    """Asked by every request: questions of concurrent ones go together."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.rows: Gathered[_Pair, Row] = Gathered(self._ask)

    def standing(self, bearer: Bearer) -> Awaitable[Standing | None]:
        return self.rows((bearer.practice_id, bearer.session_id), _holder)

    async def left(self, bearer: Bearer) -> str | None:
        row = await self._executor.row(
            LEFT, new_practice_id=bearer.practice_id, new_id=bearer.session_id, account=bearer.account_id
        )
        return None if row is None else row["device_id"]

    async def _ask(self, asked: Sequence[_Pair]) -> Sequence[Row]:
        pairs = [{"practice_id": practice, "session_id": session} for practice, session in dict.fromkeys(asked)]
        rows = {(row[0], row[1]): row for row in await self._executor.fetch(STANDING, asked=canonical(pairs))}
        return [rows[pair] for pair in asked]


def _holder(row: Row) -> Standing | None:
    if row["role"] is None:
        return None
    account_id, device_id, expires_at, role, plan, verified, emergency_until = row[3:]
    return Standing(account_id, device_id, expires_at, Role(role), Plan(plan), verified, emergency_until)


def _arrays(pairs: Sequence[_Pair]) -> dict[str, list[str]]:
    pairs = list(dict.fromkeys(pairs))
    return {"practices": [practice for practice, _ in pairs], "sessions": [session for _, session in pairs]}


class PostgresTokenBlacklist:
    """Survives a restart of everything: the default, where there is no Redis.

    It asks in the same statement as `reads`: of a request's two questions the database sees one.
    """

    def __init__(self, executor: Executor, clock: Clock, reads: SessionReads | None = None) -> None:
        self._executor = executor
        self._clock = clock
        self._rows = (reads or SessionReads(executor)).rows

    async def revoke(self, sessions: Sequence[tuple[str, str]], until: datetime) -> None:
        # In one order always: of two that revoke the same sessions neither waits for the other in a circle.
        await self._executor.fetch(REVOKE, **_arrays(sorted(sessions)), until=until)

    def revoked(self, practice_id: str, session_id: str) -> Awaitable[bool]:
        return self._rows((practice_id, session_id), self._still)

    def _still(self, row: Row) -> bool:
        until = row["revoked_until"]
        return until is not None and self._clock() < until


if TYPE_CHECKING:
    from heallog.application.ports.sessions import TokenBlacklist

    _: type[TokenBlacklist] = PostgresTokenBlacklist
