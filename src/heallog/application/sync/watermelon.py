"""Use cases of sync with WatermelonDB: its pulls and pushes, in rows, over the same feed and the same pushes."""

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heallog.application.conflicts import Conflicts
from heallog.application.patience import ONCE, Patience, retried
from heallog.application.ports.conflicts import ConflictReads
from heallog.application.ports.sync import FeedReads, Page, Standing, Window
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.application.sync.pull import READING
from heallog.application.sync.push import Pushes, errors, kept_of, refused
from heallog.application.sync.rows import Changes, Had, Key, Sent, bare, operations, sent_in
from heallog.application.trail import Books, audited
from heallog.application.versions import Why
from heallog.domain import watermelon
from heallog.domain.access import Actor, Permission, authorise
from heallog.domain.audit import noted
from heallog.domain.canon import as_came, canonical, decode, same
from heallog.domain.errors import (
    DomainError,
    FieldError,
    Forbidden,
    InvalidFields,
    ResyncRequired,
    Unavailable,
    VersionConflict,
)
from heallog.domain.health import Tally
from heallog.domain.pushes import MERGE, Contribution, Push, Quarantined, Status, pushed
from heallog.domain.sync import AWAY, RESTORED, Place, Stream
from heallog.domain.versions import Collection
from heallog.domain.watermelon import RESOLUTION, TABLES

PAGE = 2_000
"""Items that are read at a time: what a pull holds in memory, however long it is."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """An answer: bytes to send first, and what comes after them; `rest` is None where that was all."""

    first: bytes
    rest: AsyncGenerator[bytes, None] | None


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
        if _lost(Window(None, page.floor, page.head), last_pulled_at):
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
            begun = await feed.page(actor.practice_id, (), Place(), None, 1)
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
                    after = page.last
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
        may = refused(actor) is None
        tally = tally or Tally()
        sent = sent_in(changes, self._most)
        body = hashlib.sha256(as_came([actor.device_id, last_pulled_at, changes])).hexdigest()[:40]
        decided = [one for one in sent if one.table.stream is Stream.CONFLICTS]
        results = [await self._decide(actor, f"wm-{body}-c{number}", one) for number, one in enumerate(decided)]
        tally.records = len(decided)
        tally.quarantined = sum(one["status"] == Status.QUARANTINED for one in results)
        rows = [one for one in sent if one.table.stream is not Stream.CONFLICTS]
        for number, start in enumerate(range(0, len(rows), self._part_size)):
            part = rows[start : start + self._part_size]
            results += await self._part(actor, last_pulled_at, f"wm-{body}-{number}", part, tally, may=may)
        return {"experimentalRejectedIds": {}, "results": results}

    async def _part(
        self, actor: Actor, last_pulled_at: int, push_id: str, rows: Sequence[Sent], tally: Tally, *, may: bool
    ) -> list[dict[str, Any]]:
        keys = [(Collection(one.table.stream), one.id) for one in rows if one.id is not None]
        async with self._uow() as uow:
            window = await uow.sync.window(actor.practice_id, actor.device_id, last_pulled_at)
            # A device that pulled nothing before it pushed has what it names.
            lo = last_pulled_at if window.lo is None else window.lo
            lost = _lost(window, lo, last_pulled_at)
            had = Had(last_pulled_at, None if lost else lo)
            if may:
                standing = await self._standing(uow, actor, keys, lo, last_pulled_at, lost=lost)
                asked = [operations(index, one, standing, had) for index, one in enumerate(rows)]
            else:
                asked = [(bare(index, one, had),) for index, one in enumerate(rows)]
        as_sent = {"last_pulled_at": last_pulled_at, "rows": [one.as_sent() for one in rows]}
        contributions = tuple(Contribution(one) for one in asked if one)
        push = Push(push_id, MERGE, contributions, as_sent)
        again = [(one.table.stream, one.id) for one in rows if one.id is not None]
        answer = decode(await self._pushes.push(actor, push, again, tally=tally))["results"]
        told = {one["index"]: one for one in answer}
        return [_result(one, told.get(index)) for index, one in enumerate(rows)]

    async def _standing(
        self, uow: UnitOfWork, actor: Actor, keys: Sequence[Key], lo: int, hi: int, *, lost: bool
    ) -> dict[Key, Standing]:
        found = await uow.sync.standing(actor.practice_id, actor.device_id, keys, lo, hi)
        # Whatever came after the first version it may not have seen: rather a conflict than to overwrite it.
        return {key: replace(one, before=1) for key, one in found.items()} if lost else found

    async def release(self, actor: Actor, item: Quarantined, sent: Sent) -> bytes:
        """Do what a quarantined row asked for, as a native push answers it: from what its device had when it pushed."""
        if sent.table.stream is Stream.CONFLICTS:
            decided = await self._decide(actor, item.id, sent)
            return _answer(item.id, [{"index": 0, "collection": decided.pop("table"), **decided}])
        keys = [] if sent.id is None else [(Collection(sent.table.stream), sent.id)]
        had = Had.of(item.operation)
        async with self._uow() as uow:
            window = await uow.sync.window(actor.practice_id, actor.device_id, had.last_pulled_at)
            lost = had.pulled_since is None or _lost(window, had.pulled_since, had.last_pulled_at)
            lo, hi = had.pulled_since or 0, had.last_pulled_at
            standing = await self._standing(uow, actor, keys, lo, hi, lost=lost)
        asked = operations(0, sent, standing, had)
        if not asked:
            kept = {"index": 0, "status": Status.UNCHANGED, "collection": sent.table.stream, "id": sent.id}
            return _answer(item.id, [kept | {"version": None}])
        push = Push(item.id, MERGE, (Contribution(asked),), item.operation)
        return await self._pushes.push(actor, push, said=item.at)

    # -- deciding about conflicts ---------------------------------------------------------------------------------

    async def _decide(self, actor: Actor, push_id: str, sent: Sent) -> dict[str, Any]:
        """A resolution that was written into a conflict's row. One that does not hold any more is quarantined."""
        try:
            # Before anything is looked at: whether it was decided is nobody's business who may not write.
            authorise(actor, Permission.WRITE_RECORDS)
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
            kept = await kept_of(uow, actor, push_id, b"")
            if isinstance(kept, bytes):
                first: dict[str, Any] = decode(kept)
                return first
            who = actor.practice_id, quarantine_id, push_id, actor.account_id, actor.device_id
            await uow.sync.quarantine([Quarantined(*who, now, sent.as_sent(), told)])
            await uow.sync.keep(pushed(actor, kept, now, b"", canonical(result)))
            if sent.id is not None and actor.role is not None:
                uow.sync.again(actor.practice_id, [(Stream.CONFLICTS, sent.id)])
            outcome, reason = ("refused", error.code) if isinstance(error, Forbidden) else ("done", None)
            await uow.audit([noted(self._ids(), now, actor, "sync.push", outcome, thing_id=push_id, reason=reason)])
            await uow.commit()
        # To the byte as it is kept: whoever asks again gets the same.
        answer: dict[str, Any] = decode(canonical(result))
        return answer


# -- answers ------------------------------------------------------------------------------------------------------


_OPENING, _CLOSING, _END = b'"%s":{"created":[],"updated":[', b'],"deleted":[]}', b'},"timestamp":%d}'


def _timestamp(head: int) -> int:
    """What the client keeps of a pull. It takes no 0, so a practice without anything yet says 1."""
    return max(head, 1)


def _lost(window: Window, *places: int) -> bool:
    """Whether one of these places of the feed is one of which nobody can tell any more what lay before it."""
    return any(1 < place < window.floor or place > _timestamp(window.head) for place in places)


def _after(last_pulled_at: int) -> Place:
    return Place(last_pulled_at, len(Stream)) if last_pulled_at > 1 else Place()


def _whole(tables: Sequence[Stream], page: Page) -> bytes:
    """An answer that is one page."""
    parts = [_OPENING % stream.encode() + page.rows[stream.rank] + _CLOSING for stream in tables]
    return b'{"changes":{' + b",".join(parts) + _END % _timestamp(page.head)


def _answer(push_id: str, results: Sequence[Mapping[str, Any]]) -> bytes:
    """As that of a native push."""
    return canonical({"push_id": push_id, "results": results})


def _result(sent: Sent, told: Mapping[str, Any] | None) -> dict[str, Any]:
    """What became of a row. One without an operation changed nothing."""
    result: dict[str, Any] = {"table": sent.table.stream, "id": sent.id, "status": Status.UNCHANGED, "version": None}
    if told is not None:
        result |= {name: value for name, value in told.items() if name not in ("index", "collection", "id")}
    if sent.place == "updated" and result["status"] == Status.CREATED:
        result["flag"] = "unknown_id"
    return result
