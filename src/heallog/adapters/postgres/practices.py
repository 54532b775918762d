"""Practices, members, invitations and broken glass in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    text,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from heallog.adapters.postgres import feed
from heallog.adapters.postgres.accounts import accounts
from heallog.adapters.postgres.database import Executor, Row, Statement
from heallog.adapters.postgres.schema import ID, TIME, identifier, metadata, moment
from heallog.domain.access import Plan, Role
from heallog.domain.errors import AlreadyExists
from heallog.domain.practices import Emergency, Invitation, Member, Membership, Practice, Presence

practices = Table(
    "practices",
    metadata,
    identifier("id"),
    Column("name", Text, nullable=False),
    moment("created_at"),
    Column("plan", Text, nullable=False, server_default=text("'free'")),
    PrimaryKeyConstraint("id"),
)

memberships = Table(
    "memberships",
    metadata,
    identifier("practice_id"),
    identifier("account_id", index=True),
    Column("role", Text, nullable=False),
    moment("created_at"),
    moment("ended_at", nullable=True),
    PrimaryKeyConstraint("practice_id", "account_id"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
    ForeignKeyConstraint(["account_id"], ["accounts.id"]),
)

invitations = Table(
    "invitations",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    Column("email", Text, nullable=False),
    identifier("email_key", index=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    identifier("invited_by"),
    Column("digest", LargeBinary, nullable=False),
    moment("created_at"),
    moment("expires_at"),
    moment("closed_at", nullable=True),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id"], ["practices.id"]),
    Index(
        "invitations_one_open_idx",
        "practice_id",
        "email_key",
        unique=True,
        postgresql_where=text("closed_at IS NULL"),
    ),
)

emergencies = Table(
    "emergencies",
    metadata,
    identifier("practice_id"),
    identifier("id"),
    identifier("account_id"),
    Column("reason", Text, nullable=False),
    moment("opened_at"),
    moment("until"),
    moment("closed_at", nullable=True),
    PrimaryKeyConstraint("practice_id", "id"),
    ForeignKeyConstraint(["practice_id", "account_id"], ["memberships.practice_id", "memberships.account_id"]),
    Index(None, "practice_id", "account_id"),
)


def _values(table: Table) -> dict[str, Any]:
    return {c.name: bindparam(f"new_{c.name}", type_=c.type) for c in table.c}


def _arguments(table: Table, thing: object) -> dict[str, object]:
    return {f"new_{column.name}": getattr(thing, column.name) for column in table.c}


def _change(table: Table, *names: str) -> Statement:
    """Set these columns of the row with the key of a thing."""
    values = _values(table)
    key = [column == values[column.name] for column in table.primary_key.columns]
    return Statement(update(table).where(*key).values({name: values[name] for name in names}))


_PRACTICE = bindparam("practice", type_=ID)
_ID = bindparam("id", type_=ID)
_NOW = bindparam("now", type_=TIME)

ADD = Statement(insert(practices).values(_values(practices)))
PUT = _change(practices, "name", "plan")
GET = Statement(select(practices).where(practices.c.id == _ID))
ALL = Statement(select(practices).order_by(practices.c.created_at, practices.c.id))


def _join() -> Statement:
    made = upsert(memberships).values(_values(memberships))
    again = {name: made.excluded[name] for name in ("role", "created_at", "ended_at")}
    ended = memberships.c.ended_at.is_not(None)
    return Statement(
        made.on_conflict_do_update(index_elements=["practice_id", "account_id"], set_=again, where=ended).returning(
            memberships.c.account_id
        )
    )


JOIN = _join()
PUT_MEMBER = _change(memberships, "role", "ended_at")
_BY_AGE = (memberships.c.created_at, memberships.c.practice_id, memberships.c.account_id)
_MEMBERS = select(memberships).where(memberships.c.ended_at.is_(None)).order_by(*_BY_AGE)
OF_ACCOUNT = Statement(_MEMBERS.where(memberships.c.account_id == bindparam("account", type_=ID)))
OF_PRACTICE = Statement(_MEMBERS.where(memberships.c.practice_id == _PRACTICE))


BELONGING = Statement(
    select(practices, memberships.c.role)
    .join(memberships, memberships.c.practice_id == practices.c.id)
    .where(memberships.c.account_id == bindparam("account", type_=ID), memberships.c.ended_at.is_(None))
    .order_by(*_BY_AGE)
)


def _present() -> Statement:
    members = (
        select(
            memberships.c.account_id.label("id"),
            literal_column("'active'").label("presence"),
            accounts.c.email,
            accounts.c.name,
            memberships.c.role,
            memberships.c.created_at,
            type_coerce(null(), TIME).label("expires_at"),
        )
        .join(accounts, accounts.c.id == memberships.c.account_id)
        .where(memberships.c.practice_id == _PRACTICE, memberships.c.ended_at.is_(None))
    )
    invited = select(
        invitations.c.id,
        literal_column("'invited'"),
        invitations.c.email,
        invitations.c.name,
        invitations.c.role,
        invitations.c.created_at,
        invitations.c.expires_at,
    ).where(invitations.c.practice_id == _PRACTICE, invitations.c.closed_at.is_(None), invitations.c.expires_at > _NOW)
    return Statement(union_all(members, invited).order_by("presence", "created_at", "id"))


PRESENT = _present()

CLOSE_FORMER = Statement(
    update(invitations)
    .where(
        invitations.c.practice_id == _PRACTICE,
        invitations.c.email_key == bindparam("key", type_=ID),
        invitations.c.closed_at.is_(None),
    )
    .values(closed_at=_NOW)
)
INVITE = Statement(insert(invitations).values(_values(invitations)))
INVITATION = Statement(select(invitations).where(invitations.c.practice_id == _PRACTICE, invitations.c.id == _ID))
INVITED = Statement(
    select(invitations)
    .where(
        invitations.c.email_key == bindparam("key", type_=ID),
        invitations.c.digest == bindparam("digest", type_=LargeBinary),
    )
    .with_for_update()
)
PUT_INVITATION = _change(invitations, "role", "closed_at")
INVITATIONS_SINCE = Statement(
    select(func.count())
    .select_from(invitations)
    .where(invitations.c.practice_id == _PRACTICE, invitations.c.created_at > bindparam("since", type_=TIME))
)

DECLARE = Statement(insert(emergencies).values(_values(emergencies)))
EMERGENCY = Statement(select(emergencies).where(emergencies.c.practice_id == _PRACTICE, emergencies.c.id == _ID))
PUT_EMERGENCY = _change(emergencies, "closed_at")
EMERGENCY_OF = Statement(
    select(emergencies).where(
        emergencies.c.practice_id == _PRACTICE,
        emergencies.c.account_id == bindparam("account", type_=ID),
        emergencies.c.closed_at.is_(None),
        emergencies.c.until > _NOW,
    )
)
_AFTER: Any = bindparam("after", type_=ID)
EMERGENCIES = Statement(
    select(emergencies, accounts.c.name)
    .join(accounts, accounts.c.id == emergencies.c.account_id)
    # Ids are ordered by time.
    .where(emergencies.c.practice_id == _PRACTICE, or_(_AFTER.is_(None), emergencies.c.id < _AFTER))
    .order_by(emergencies.c.id.desc())
    .limit(bindparam("limit", type_=Integer))
)


def _membership(row: Row) -> Membership:
    return Membership(row["practice_id"], row["account_id"], Role(row["role"]), row["created_at"], row["ended_at"])


def _practice(row: Row) -> Practice:
    return Practice(row["id"], row["name"], row["created_at"], Plan(row["plan"]))


def _invitation(row: Row) -> Invitation | None:
    return None if row is None else Invitation(**dict(row) | {"role": Role(row["role"])})


class PracticeRepository:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def add(self, practice: Practice) -> None:
        await self._executor.fetch(ADD, **_arguments(practices, practice))
        await self._executor.fetch(feed.BEGIN, practice=practice.id)

    async def put(self, practice: Practice) -> None:
        await self._executor.fetch(PUT, **_arguments(practices, practice))

    async def join(self, membership: Membership) -> None:
        if not await self._executor.fetch(JOIN, **_arguments(memberships, membership)):
            raise AlreadyExists("this account is a member already")

    async def get(self, practice_id: str) -> Practice | None:
        row = await self._executor.row(GET, id=practice_id)
        return None if row is None else _practice(row)

    async def all(self) -> Sequence[Practice]:
        return [_practice(row) for row in await self._executor.fetch(ALL)]

    async def memberships(self, account_id: str) -> Sequence[Membership]:
        return [_membership(row) for row in await self._executor.fetch(OF_ACCOUNT, account=account_id)]

    async def belonging(self, account_id: str) -> Sequence[tuple[Practice, Role]]:
        rows = await self._executor.fetch(BELONGING, account=account_id)
        return [(_practice(row), Role(row["role"])) for row in rows]

    async def members(self, practice_id: str) -> Sequence[Membership]:
        return [_membership(row) for row in await self._executor.fetch(OF_PRACTICE, practice=practice_id)]

    async def put_member(self, membership: Membership) -> None:
        await self._executor.fetch(PUT_MEMBER, **_arguments(memberships, membership))

    async def present(self, practice_id: str, now: datetime) -> Sequence[Member]:
        rows = await self._executor.fetch(PRESENT, practice=practice_id, now=now)
        return [
            Member(
                row["id"],
                Presence(row["presence"]),
                row["email"],
                row["name"],
                Role(row["role"]),
                row["created_at"],
                row["expires_at"],
            )
            for row in rows
        ]

    async def invite(self, invitation: Invitation) -> None:
        await self._executor.fetch(
            CLOSE_FORMER, practice=invitation.practice_id, key=invitation.email_key, now=invitation.created_at
        )
        await self._executor.fetch(INVITE, **_arguments(invitations, invitation))

    async def invitation(self, practice_id: str, invitation_id: str) -> Invitation | None:
        return _invitation(await self._executor.row(INVITATION, practice=practice_id, id=invitation_id))

    async def invited(self, email_key: str, digest: bytes) -> Invitation | None:
        return _invitation(await self._executor.row(INVITED, key=email_key, digest=digest))

    async def put_invitation(self, invitation: Invitation) -> None:
        await self._executor.fetch(PUT_INVITATION, **_arguments(invitations, invitation))

    async def invitations_since(self, practice_id: str, since: datetime) -> int:
        row = await self._executor.row(INVITATIONS_SINCE, practice=practice_id, since=since)
        return int(row[0])

    async def declare(self, emergency: Emergency) -> None:
        await self._executor.fetch(DECLARE, **_arguments(emergencies, emergency))

    async def emergency(self, practice_id: str, emergency_id: str) -> Emergency | None:
        row = await self._executor.row(EMERGENCY, practice=practice_id, id=emergency_id)
        return None if row is None else Emergency(*row)

    async def put_emergency(self, emergency: Emergency) -> None:
        await self._executor.fetch(PUT_EMERGENCY, **_arguments(emergencies, emergency))

    async def emergency_of(self, practice_id: str, account_id: str, now: datetime) -> Emergency | None:
        row = await self._executor.row(EMERGENCY_OF, practice=practice_id, account=account_id, now=now)
        return None if row is None else Emergency(*row)

    async def emergencies(self, practice_id: str, after: str | None, limit: int) -> Sequence[tuple[Emergency, str]]:
        rows = await self._executor.fetch(EMERGENCIES, practice=practice_id, after=after, limit=limit)
        return [(Emergency(*row[:-1]), row[-1]) for row in rows]
