"""Proving the whole store: every chain of versions, and every head against the end of its chain."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from heallog.application.ports.versions import Ledger
from heallog.domain.versions import GENESIS, Collection, Head, Version, proves

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Flaw:
    """The first thing found that cannot be true."""

    practice_id: str
    collection: str
    thing_id: str
    version: int
    what: str


@dataclass(frozen=True, slots=True)
class Proof:
    """How much was checked, and the first flaw, if there is one."""

    versions: int
    things: int
    flaw: Flaw | None


async def verify(
    ledger: Ledger, watch: Callable[[int, int], None] | None = None, practice_id: str | None = None
) -> Proof:
    """Read everything once, in order, in bounded memory. `watch` hears how many versions of how many are behind."""
    size = await ledger.size(practice_id)
    checked = things = 0
    for collection in Collection:
        both = ledger.heads(collection, practice_id), ledger.versions(collection, practice_id)
        async for head, chain in _joined(*both):
            checked += len(chain)
            things += 1
            flaw = _flaw(head, chain)
            if flaw is not None:
                return Proof(checked, things, flaw)
            if watch is not None and things % 500 == 0:
                watch(checked, size)
    return Proof(checked, things, None)


def _key(thing: Head | Version) -> Key:
    return thing.practice_id, thing.collection, thing.id if isinstance(thing, Head) else thing.thing_id


async def _joined(
    heads: AsyncIterator[Head], versions: AsyncIterator[Version]
) -> AsyncIterator[tuple[Head | None, list[Version]]]:
    """Each head with its versions: both come in the order of their keys."""
    head, version = await anext(heads, None), await anext(versions, None)
    while head is not None or version is not None:
        key = min(_key(thing) for thing in (head, version) if thing is not None)
        of_key: list[Version] = []
        while version is not None and _key(version) == key:
            of_key.append(version)
            version = await anext(versions, None)
        if head is not None and _key(head) == key:
            yield head, of_key
            head = await anext(heads, None)
        else:
            yield None, of_key


def _flaw(head: Head | None, chain: list[Version]) -> Flaw | None:
    previous = GENESIS
    for place, version in enumerate(chain, start=1):
        if version.number != place:
            return Flaw(*_key(version), place, "the version is missing")
        # A source may be left out where it is not asked for; in the ledger it never is.
        sourced = (version.source is None) == (version.source_digest is None)
        if version.patient_id != chain[0].patient_id or not sourced or not proves(previous, version):
            return Flaw(*_key(version), place, "the version is not what was written")
        previous = version.hash
    if head is None:
        return Flaw(*_key(chain[0]), 0, "the head is missing")
    trunk = [version for version in chain if not version.branch]
    if not trunk or (head.version, head.last) != (trunk[-1].number, chain[-1].number):
        return Flaw(*_key(head), head.version, "the head's version is missing")
    if head != _head(head, chain, trunk):
        return Flaw(*_key(head), head.version, "the head is not its last version")
    return None


def _head(head: Head, chain: list[Version], trunk: list[Version]) -> Head:
    """What the versions make of it: content and times are the trunk's, the hash is that of the last, branch or not."""
    now = trunk[-1]
    imported = next((version for version in reversed(trunk) if version.source_digest is not None), None)
    return replace(
        head,
        patient_id=now.patient_id,
        content=now.content,
        hash=chain[-1].hash,
        created_at=chain[0].received_at,
        updated_at=now.received_at,
        updated_by=now.author_id,
        source_digest=imported.source_digest if imported else None,
        source_version=imported.number if imported else None,
    )
