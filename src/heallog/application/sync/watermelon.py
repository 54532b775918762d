"""Use cases of sync with WatermelonDB: its pulls and pushes, in rows, over the same feed and the same pushes."""

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heallog.application.conflicts import Conflicts
from heallog.application.patience import ONCE, Patience, retried
from heallog.application.ports.conflicts import ConflictReads
from heallog.application.ports.sync import FeedReads, Page, Standing
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.application.sync.pull import READING
from heallog.application.sync.push import Pushes, errors
from heallog.application.trail import Books, audited
from heallog.application.versions import Why
from heallog.domain import records, watermelon
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import noted
from heallog.domain.errors import DomainError, FieldError, InvalidFields, ResyncRequired, Unavailable, VersionConflict
from heallog.domain.fields import ID, Errors, as_came, canonical, decode, printable, same
from heallog.domain.health import Tally
from heallog.domain.pushes import MERGE, Contribution, Operation, Push, Quarantined, Status, pushed
from heallog.domain.sync import AWAY, RESTORED, Place, Stream
from heallog.domain.versions import Collection
from heallog.domain.watermelon import DELETED_AT, RESOLUTION, TABLES, Edit, Table

PAGE = 2_000
"""Items that are read at a time: what a pull holds in memory, however long it is."""

Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pulled:
    """An answer: bytes to send first, and what comes after them; `rest` is None where that was all."""

    first: bytes
    rest: AsyncGenerator[bytes, None] | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A row as it was pushed, or an id under `deleted`; `place` is the list that it stood in."""

    table: Table
    place: str
    raw: Any

    @property
    def id(self) -> str | None:
        """Its id, where it has one that could be an id."""
        found = self.raw if self.place == "deleted" else self.raw.get("id") if isinstance(self.raw, dict) else None
        return found if isinstance(found, str) and ID.pattern.fullmatch(found) else None

    def as_sent(self) -> dict[str, Any]:
        return {"table": self.table.stream, "list": self.place, "row": self.raw}


class Watermelon:
    """Pull and push, as `synchronize()` calls them.

    A client pushes all that it has at once, up to `most` rows; `part` of them are done together, and each part once,
    retried or not.
    """

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        feed: FeedReads,
        pushes: Pushes,
        conflicts: Conflicts,
        conflict_reads: ConflictReads,
        books: Books,
        clock: Clock,
        ids: Ids,
        *,
        part: int,
        most: int,
        patience: Patience = ONCE,
    ) -> None:
        self._part_size = part
        self._most = most
        self.patience = patience
        self._uow = uow
        self._feed = feed
        self._pushes = pushes
        self._conflicts = conflicts
        self._conflict_reads = conflict_reads
        self.books = books
        self._clock = clock
        self._ids = ids

    # -- pull -----------------------------------------------------------------------------------------------------

    @audited("sync.pull")
    async def pull(
        self,
        actor: Actor,
        last_pulled_at: int,
        schema_version: int,
        migration: str | None,
        tally: Tally | None = None,
    ) -> Pulled:
        """Everything since `last_pulled_at` (0: ever), all at one moment; tables that a migration brings, from 0 again.

        `tally` hears what it comes to, until the last part was given.

        Raises `ResyncRequired` where the device has seen more than there is, or was away for too long.
        """
        for permission in READING.values():
            authorise(actor, permission)
        tally = tally or Tally()
        anew = watermelon.migrated(migration)
        tables = [table.stream for table in TABLES.values() if table.since <= schema_version]
        if not anew:
            page = await self._feed.rows(actor.practice_id, tables, _after(last_pulled_at), None, PAGE)
            if not page.more:
                await self._begun(actor, last_pulled_at, page)
                tally.records, tally.position, tally.reached = page.count, last_pulled_at, page.head
                await self.books.listed(actor, "sync.pull", subjects=page.patients)
                return Pulled(_whole(tables, page), None)
        parts = self._parts(actor, last_pulled_at, {stream: stream in anew for stream in tables}, tally)
        return Pulled(await anext(parts), parts)

    @retried("sync.pull")
    async def _begun(self, actor: Actor, last_pulled_at: int, page: Page) -> None:
        """Keep where the device was and will be. Raises `ResyncRequired` where that is not told any more."""
        if last_pulled_at > _timestamp(page.head):
            raise ResyncRequired(RESTORED)
        if _lost(last_pulled_at, page.floor, page.head):
            raise ResyncRequired(AWAY)
        async with self._uow() as uow:
            now = self._clock()
            await uow.sync.pulled(actor.practice_id, actor.device_id, last_pulled_at, _timestamp(page.head), now)
            await uow.commit()

    async def _parts(
        self, actor: Actor, last_pulled_at: int, anew: Mapping[Stream, bool], tally: Tally
    ) -> AsyncGenerator[bytes, None]:
        """A long answer, in parts of about a page. The first is given when everything has been checked."""
        async with self._feed.still() as feed:
            begun = await feed.page(actor.practice_id, (), Place(), None, 0)
            head = begun.head
            await self._begun(actor, last_pulled_at, begun)
            tally.batched, tally.position = True, last_pulled_at
            text = b'{"changes":{'
            for number, (stream, again) in enumerate(anew.items()):
                text += b"," * bool(number) + _OPENING % stream.encode()
                comma = b""
                after: Place | None = Place() if again else _after(last_pulled_at)
                while after is not None:
                    page = await feed.rows(actor.practice_id, (stream,), after, head, PAGE)
                    tally.records += page.count
                    if page.count:
                        await self.books.listed(actor, "sync.pull", subjects=page.patients)
                        text += comma + page.rows[stream.rank]
                        comma = b","
                    after = page.last if page.more else None
                    if after is not None:
                        yield text
                        text = b""
                text += _CLOSING
            tally.reached = head
            yield text + _END % _timestamp(head)

    # -- push -----------------------------------------------------------------------------------------------------

    @audited("sync.push")
    async def push(
        self, actor: Actor, last_pulled_at: int, changes: Changes, tally: Tally | None = None
    ) -> dict[str, Any]:
        """What a device did, done by the native push, in parts; of each row what became of it.

        What can never be done is quarantined and acknowledged: the client has nothing to send again. After it, every
        row comes to the device as it is here. `tally` hears what was done of it.
        """
        authorise(actor, Permission.WRITE_RECORDS)
        tally = tally or Tally()
        sent = _sent(changes, self._most)
        body = hashlib.sha256(as_came([actor.device_id, last_pulled_at, changes])).hexdigest()[:40]
        decided = [one for one in sent if one.table.stream is Stream.CONFLICTS]
        results = [await self._decide(actor, f"wm-{body}-c{number}", one) for number, one in enumerate(decided)]
        tally.records = len(decided)
        tally.quarantined = sum(one["status"] == Status.QUARANTINED for one in results)
        rows = [one for one in sent if one.table.stream is not Stream.CONFLICTS]
        for number, start in enumerate(range(0, len(rows), self._part_size)):
            part = rows[start : start + self._part_size]
            results += await self._part(actor, last_pulled_at, f"wm-{body}-{number}", part, tally)
        return {"experimentalRejectedIds": {}, "results": results}

    async def _part(
        self, actor: Actor, last_pulled_at: int, push_id: str, rows: Sequence[Sent], tally: Tally
    ) -> list[dict[str, Any]]:
        keys = [(Collection(one.table.stream), one.id) for one in rows if one.id is not None]
        async with self._uow() as uow:
            window = await uow.sync.window(actor.practice_id, actor.device_id, last_pulled_at)
            # A device that pulled nothing before it pushed has what it names.
            lo = last_pulled_at if window.lo is None else window.lo
            standing = await uow.sync.standing(actor.practice_id, actor.device_id, keys, lo, last_pulled_at)
        if any(_lost(place, window.floor, window.head) for place in (lo, last_pulled_at)):
            # Whatever came after the first version it may not have seen: rather a conflict than to overwrite it.
            standing = {key: replace(one, before=1) for key, one in standing.items()}
        asked = [_operations(index, one, standing) for index, one in enumerate(rows)]
        as_sent = {"last_pulled_at": last_pulled_at, "rows": [one.as_sent() for one in rows]}
        contributions = tuple(Contribution(operations) for operations in asked if operations)
        push = Push(push_id, MERGE, contributions, as_sent)
        again = [(one.table.stream, one.id) for one in rows if one.id is not None]
        answer = decode(await self._pushes.push(actor, push, again, tally=tally))["results"]
        told = {one["index"]: one for one in answer}
        return [_result(one, told.get(index)) for index, one in enumerate(rows)]

    # -- deciding about conflicts ---------------------------------------------------------------------------------

    async def _decide(self, actor: Actor, push_id: str, sent: Sent) -> dict[str, Any]:
        """A resolution that was written into a conflict's row. One that does not hold any more is quarantined."""
        try:
            version = await self._resolved(actor, sent)
        except Unavailable:
            raise
        except DomainError as error:
            return await self._set_aside(actor, push_id, sent, error)
        if sent.id is not None:
            await self._again(actor, sent.id)
        status = Status.UNCHANGED if version is None else Status.UPDATED
        return {"table": Stream.CONFLICTS, "id": sent.id, "status": status, "version": version}

    async def _resolved(self, actor: Actor, sent: Sent) -> int | None:
        """The version that a resolution made; None where the row says nothing that can be said about a conflict."""
        if sent.place != "updated":
            if sent.place == "created":
                raise InvalidFields([FieldError("id", "conflict", "only HealLog makes conflicts")])
            return None
        if sent.id is None:
            raise InvalidFields([FieldError("id", "type", "must be an id")])
        changed = watermelon.changed(sent.raw) & {RESOLUTION}
        edit = watermelon.edit(sent.table, sent.raw, changed)
        said = edit.fields.get("resolution")
        if edit.wrong:
            raise InvalidFields(edit.wrong)
        if said is None:
            return None
        head_version, choices, reason = watermelon.resolution(said)
        # The answer to the very same was lost, or it came twice at once.
        done = await self._done(actor, sent.id, choices, reason)
        if done is not None:
            return done
        try:
            _, head = await self._conflicts.resolve(actor, sent.id, head_version, choices, Why(reason))
        except VersionConflict:
            done = await self._done(actor, sent.id, choices, reason)
            if done is None:
                raise
            return done
        return head.version

    async def _done(self, actor: Actor, conflict_id: str, choices: Mapping[str, Any], reason: str) -> int | None:
        """The version that this very decision made, where it was taken already."""
        known = await self._conflict_reads.get(actor.practice_id, conflict_id)
        done = known.resolution if known is not None else None
        said = [actor.account_id, reason, dict(choices)]
        return done.version if done and same([done.account_id, done.reason, dict(done.choices)], said) else None

    @retried("sync.push")
    async def _again(self, actor: Actor, conflict_id: str) -> None:
        async with self._uow() as uow:
            uow.sync.again(actor.practice_id, [(Stream.CONFLICTS, conflict_id)])
            await uow.commit()

    @retried("sync.push")
    async def _set_aside(self, actor: Actor, push_id: str, sent: Sent, error: DomainError) -> dict[str, Any]:
        """Once, however often it is sent."""
        now, quarantine_id = self._clock(), self._ids()
        told = errors(error)
        result = {
            "table": Stream.CONFLICTS,
            "id": sent.id,
            "status": Status.QUARANTINED,
            "version": None,
            "quarantine_id": quarantine_id,
            "errors": list(told),
        }
        async with self._uow() as uow:
            await uow.exclusive(actor.practice_id, f"push/{actor.device_id}")
            known = await uow.sync.pushed(actor.practice_id, actor.device_id, push_id)
            if known is not None:
                first: dict[str, Any] = decode(known.answer)
                return first
            who = actor.practice_id, quarantine_id, push_id, actor.account_id, actor.device_id
            await uow.sync.quarantine([Quarantined(*who, now, sent.as_sent(), told)])
            await uow.sync.keep(pushed(actor, push_id, now, b"", canonical(result)))
            if sent.id is not None:
                uow.sync.again(actor.practice_id, [(Stream.CONFLICTS, sent.id)])
            await uow.audit([noted(self._ids(), now, actor, "sync.push", thing_id=push_id)])
            await uow.commit()
        return result


# -- answers ------------------------------------------------------------------------------------------------------


_OPENING, _CLOSING, _END = b'"%s":{"created":[],"updated":[', b'],"deleted":[]}', b'},"timestamp":%d}'


def _timestamp(head: int) -> int:
    """What the client keeps of a pull. It takes no 0, so a practice without anything yet says 1."""
    return max(head, 1)


def _lost(place: int, floor: int, head: int) -> bool:
    """Whether a place of the feed is one of which nobody can tell any more what lay before it."""
    return 1 < place < floor or place > _timestamp(head)


def _after(last_pulled_at: int) -> Place:
    return Place(last_pulled_at, len(Stream)) if last_pulled_at > 1 else Place()


def _whole(tables: Sequence[Stream], page: Page) -> bytes:
    """An answer that is one page."""
    parts = [_OPENING % stream.encode() + page.rows[stream.rank] + _CLOSING for stream in tables]
    return b'{"changes":{' + b",".join(parts) + _END % _timestamp(page.head)


def _result(sent: Sent, told: Mapping[str, Any] | None) -> dict[str, Any]:
    """What became of a row. One without an operation changed nothing."""
    result: dict[str, Any] = {"table": sent.table.stream, "id": sent.id, "status": Status.UNCHANGED, "version": None}
    if told is not None:
        result |= {name: value for name, value in told.items() if name not in ("index", "collection", "id")}
    if sent.place == "updated" and result["status"] == Status.CREATED:
        result["flag"] = "unknown_id"
    return result


# -- from rows to operations ----------------------------------------------------------------------------------------

_ORDER: Sequence[tuple[Stream, str]] = (
    (Stream.CONFLICTS, "created"),
    (Stream.CONFLICTS, "updated"),
    (Stream.CONFLICTS, "deleted"),
    (Stream.PATIENTS, "created"),
    (Stream.PATIENTS, "updated"),
    (Stream.RECORDS, "created"),
    (Stream.RECORDS, "updated"),
    (Stream.RECORDS, "deleted"),
    (Stream.PATIENTS, "deleted"),
)
"""Decisions first, for they are about the head that a person saw; nothing before what it is of, and deletions last."""


def _sent(changes: Changes, most: int) -> list[Sent]:
    """The rows of a push, in the order in which they are done. Raises `InvalidFields` where it is no changes object."""
    wrong: list[FieldError] = []
    for name, lists in changes.items():
        if name not in tuple(Stream):
            wrong.append(FieldError(printable(name), "unknown", "is not a table here"))
        elif not isinstance(lists, dict) or not all(
            place in ("created", "updated", "deleted") and isinstance(rows, list) for place, rows in lists.items()
        ):
            wrong.append(FieldError(name, "type", "must be an object with the lists created, updated and deleted"))
    if wrong:
        raise InvalidFields(wrong)
    sent = [
        Sent(TABLES[stream], place, raw) for stream, place in _ORDER for raw in changes.get(stream, {}).get(place, ())
    ]
    if len(sent) > most:
        raise InvalidFields([FieldError("", "too_many", f"must have at most {most} rows in all")])
    return sent


def _operations(index: int, sent: Sent, standing: Mapping[tuple[Collection, str], Standing]) -> tuple[Operation, ...]:
    """What a row asks for; nothing, where it is nothing that can be done."""
    collection = Collection(sent.table.stream)
    if sent.id is None or (sent.place != "deleted" and not isinstance(sent.raw, dict)):
        return (
            _operation(index, sent, "update", None, wrong=(FieldError("id", "pattern", "must be a row with an id"),)),
        )
    known = standing.get((collection, sent.id))
    if sent.place == "deleted":
        return () if known is None else (_operation(index, sent, "delete", _base(known, None)),)
    raw = sent.raw
    if not isinstance(raw.get("_changed"), str):
        missing = FieldError("_changed", "required", "is required: the columns that the client changed")
        return (_operation(index, sent, "update", None, wrong=(missing,)),)
    changed = watermelon.changed(raw)
    if known is None:
        return (_operation(index, sent, "create", None, watermelon.edit(sent.table, _fresh(raw))),)
    if sent.place == "created":
        if not known.own:
            return (_operation(index, sent, "create", None, watermelon.edit(sent.table, _fresh(raw))),)
        # It was created already and the answer was lost: what was filled or changed since is an edit of it. Once the
        # client has pulled it, only what it changed is its own.
        pulled = raw.get("version") is not None
        filled = frozenset() if pulled else frozenset(name for name, value in _fresh(raw).items() if value is not None)
        changed |= filled - {"patient_id"}
    base = _base(known, watermelon.base(raw))
    edit = watermelon.edit(sent.table, raw, changed)
    made = [_operation(index, sent, "update", base, edit)] if edit.fields or edit.wrong else []
    if DELETED_AT in changed and raw.get(DELETED_AT) is not None:
        made.append(_operation(index, sent, "delete", base))
    return tuple(made)


def _fresh(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A row that was made by the client. It may show a new record as the draft that it will be."""
    return {name: value for name, value in raw.items() if (name, value) != ("status", records.DRAFT)}


def _base(standing: Standing, named: int | None) -> int:
    """The version that an edit started from: the one that it names, or else what the device had before its last pull.

    What the device did not have then it can only have changed as it came with that pull, unless it made it itself. And
    while it has not pulled what became of its last push, its row shows its own values beside a version that came with
    the pull before the push: it has seen no more than when it made that push. Nor has it seen a version that came after
    its last pull: one that did have this number was lost since, in a restore.
    """
    seen = standing.before or (1 if standing.own else standing.after) or 1
    base = seen if named is None else min(named or 1, standing.after or 1)
    return base if standing.since is None else min(base, standing.since)


def _operation(
    index: int,
    sent: Sent,
    op: str,
    base: int | None,
    edit: Edit = Edit({}),  # noqa: B008 - it never changes
    wrong: tuple[FieldError, ...] = (),
) -> Operation:
    collection, fields, patient_id = Collection(sent.table.stream), dict(edit.fields), None
    wrong = (*wrong, *edit.wrong)
    if op == "create" and collection is Collection.RECORDS:
        patient_id = fields.pop("patient_id", None)
        errors: Errors = []
        if patient_id is None:
            errors.append(FieldError("patient_id", "required", "is required for a record"))
        else:
            ID.check(patient_id, "patient_id", errors)
        wrong = (*wrong, *errors)
    return Operation(
        index,
        op,
        collection,
        sent.id or "",
        None if wrong else patient_id,
        base,
        fields,
        None,
        None,
        sent.as_sent(),
        wrong,
    )
