"""Proving the whole store: every chain of versions, and every head against the end of its chain."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

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


async def verify(ledger: Ledger, watch: Callable[[int, int], None] | None = None) -> Proof:
    """Read everything once, in order, in bounded memory. `watch` hears how many versions of how many are behind."""
    size = await ledger.size()
    checked = things = 0
    for collection in Collection:
        async for head, chain in _joined(ledger.heads(collection), ledger.versions(collection)):
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
        if version.patient_id != chain[0].patient_id or not proves(previous, version):
            return Flaw(*_key(version), place, "the version is not what was written")
        previous = version.hash
    if head is None:
        return Flaw(*_key(chain[0]), 0, "the head is missing")
    last = chain[-1] if chain else None
    if last is None or head.version != last.number:
        return Flaw(*_key(head), head.version, "the head's version is missing")
    if (head.hash, head.content, head.patient_id) != (last.hash, last.content, last.patient_id):
        return Flaw(*_key(head), head.version, "the head is not its last version")
    return None
