"""What must be so when everything is quiet, whatever happened before."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from heallog.adapters.postgres.ledger import ledger
from heallog.application.ledger import verify
from heallog.domain.canon import decode
from heallog.domain.conflicts import Conflict
from heallog.domain.merging import rule_of
from heallog.domain.patients import MERGEABLE
from heallog.domain.policies import Policy, Rules
from heallog.domain.pushes import Quarantined
from heallog.domain.records import mergeable
from heallog.domain.sync import Item, of_conflict, of_head
from heallog.domain.versions import Change, Collection, Head, Version
from heallog.domain.watermelon import row_of

from .devices import Device, Entry, Native, Thing, Watermelon, paths, text
from .house import Practice

DECIDED = (Policy.MANUAL, Policy.GROUP, Policy.IMMUTABLE)
"""What no policy may overwrite: a dose, a name, a measured value. A person decides."""


def leaves(value: Any) -> Iterator[Any]:
    """Everything in a JSON value that has no parts; JSON in a text is looked into too."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value
        if isinstance(value, str) and value[:1] in ("{", "["):
            with suppress(ValueError):
                yield from leaves(json.loads(value))


class Heap:
    """Values to look for others in."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._exact: set[str] = set()
        self._text: list[str] = []
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        for leaf in leaves(value):
            self._exact.add(text(leaf))
            if isinstance(leaf, str):
                self._text.append(leaf)

    def join(self, other: "Heap") -> None:
        self._exact |= other._exact
        self._text += other._text

    def holds(self, entry: Entry) -> bool:
        if isinstance(entry.token, str):
            return any(entry.token in one for one in self._text)
        return text(entry.token) in self._exact


@dataclass
class Truth:
    """What the server has of one practice."""

    heads: dict[Thing, Head] = field(default_factory=dict)
    versions: dict[Thing, list[Version]] = field(default_factory=lambda: defaultdict(list))
    conflicts: Sequence[Conflict] = ()
    quarantine: Sequence[Quarantined] = ()
    problems: list[str] = field(default_factory=list)
    _entries: Sequence[Entry] = ()

    @classmethod
    async def of(cls, practice: Practice) -> "Truth":
        container, truth = practice.house.container, cls()
        database = container.database()
        async with ledger(database) as read:
            for collection in Collection:
                async for head in read.heads(collection, practice.id):
                    truth.heads[str(collection), head.id] = head
                async for version in read.versions(collection, practice.id):
                    truth.versions[str(collection), version.thing_id].append(version)
            proof = await verify(read, practice_id=practice.id)
        if proof.flaw is not None:
            truth.problems.append(f"the ledger does not prove: {proof.flaw}")
        truth.conflicts = await container.conflict_reads().page(
            practice.id, state=None, patient_id=None, after=None, limit=1_000
        )
        async with container.uow() as uow:
            truth.quarantine = await uow.sync.quarantined(practice.id, None, 1_000)
        return truth

    def check(self, devices: Sequence[Device], entries: Sequence[Entry], acts: Counter[tuple[str, Thing]]) -> list[str]:
        for device in devices:
            if isinstance(device, Watermelon):
                self._holds_rows(device)
            elif isinstance(device, Native):
                self._holds_changes(device)
        self._entries = entries
        self._kept(entries)
        self._once(acts, {one.name for one in devices if isinstance(one, Watermelon) and not one.tokens})
        self._never_overwritten(entries)
        for device in devices:
            if device.out:
                self._stays(device, entries)
        return self.problems

    # -- every device has what the server would show it -----------------------------------------------------------

    def items(self) -> Iterator[Item]:
        yield from map(of_head, self.heads.values())
        yield from map(of_conflict, self.conflicts)

    def _holds_rows(self, device: Watermelon) -> None:
        if device.out:
            return
        expected = {(str(item.stream), item.id): json.loads(row_of(item)) for item in self.items()}
        held = {(table, row["id"]): row for table, rows in device.client.rows.items() for row in rows.values()}
        for key in expected.keys() | held.keys():
            row, wanted = held.get(key), expected.get(key)
            if (
                wanted is None
                and row is not None
                and row["_status"] == "synced"
                and self._refused_creation(device, key)
            ):
                continue
            told = None if row is None else {name: value for name, value in row.items() if name != "_changed"}
            if told is None or wanted is None or told != wanted | {"_status": "synced"}:
                self.problems.append(f"{device.name} has {_differing(told, wanted)} of {key}")

    def _refused_creation(self, device: Watermelon, key: Thing) -> bool:
        """A quarantined creation stays on its device (ADR 19)."""
        operations = (one.operation for one in self.quarantine if one.device_id == device.name)
        return any((one["table"], one["row"]["id"]) == key for one in operations if isinstance(one["row"], dict))

    def _holds_changes(self, device: Native) -> None:
        if device.out:
            return
        expected = {(str(item.stream), item.id): json.loads(item.wire) for item in self.items()}
        for key in expected.keys() | device.has.keys():
            if device.has.get(key) != expected.get(key):
                self.problems.append(f"{device.name} has {_differing(device.has.get(key), expected.get(key))} of {key}")

    # -- nothing that a person entered is lost --------------------------------------------------------------------

    def _kept(self, entries: Sequence[Entry]) -> None:
        """Whatever was acknowledged is in a version, a conflict or the quarantine.

        Where a person decides, the last that each device said of a field was live, is disputed, or is quarantined: in a
        branch alone nobody would find it.
        """
        quarantine = Heap(one.operation for one in self.quarantine)
        live, disputed = self._live(), self._disputed()
        everywhere = Heap([one.operation for one in self.quarantine])
        for versions in self.versions.values():
            for version in versions:
                everywhere.add(decode(version.content or b"{}"))
        for heap in disputed.values():
            everywhere.join(heap)
        last: dict[tuple[str, Thing, str], Entry] = {}
        for entry in entries:
            if entry.acknowledged:
                if entry.value is not None and not everywhere.holds(entry):
                    self.problems.append(f"nowhere: {entry}")
                last[entry.device, entry.thing, entry.path] = entry
        for entry in last.values():
            if entry.value is None or not self._decided(entry.thing, entry.path):
                continue
            if not any(heap.holds(entry) for heap in (live[entry.thing], disputed[entry.thing], quarantine)):
                self.problems.append(f"on a branch that nobody is shown: {entry}")

    def _live(self) -> dict[Thing, Heap]:
        """What ever was on a head."""
        live = defaultdict[Thing, Heap](Heap)
        for thing, versions in self.versions.items():
            for version in versions:
                if not version.branch:
                    live[thing].add(decode(version.content or b"{}"))
        return live

    def _disputed(self) -> dict[Thing, Heap]:
        """What a person is shown of it, or was."""
        disputed = defaultdict[Thing, Heap](Heap)
        for conflict in self.conflicts:
            decision = conflict.resolution and dict(conflict.resolution.choices)
            said = [[one.base, one.theirs, one.mine, one.proposal] for one in conflict.disputes]
            disputed[str(conflict.collection), conflict.thing_id].add([said, decision])
        return disputed

    def _rules(self, thing: Thing) -> Rules:
        if thing[0] == "patients":
            return MERGEABLE.rules
        content = next((one.content for one in self.versions[thing] if one.content), None)
        return mergeable(decode(content)["kind"]).rules if content else {}

    def _decided(self, thing: Thing, path: str) -> bool:
        rules = self._rules(thing) if thing in self.versions else {}
        return path.partition(".")[0] in rules and rule_of(path, rules).policy in DECIDED

    # -- nothing is done twice ------------------------------------------------------------------------------------

    def _once(self, acts: Counter[tuple[str, Thing]], plain: Set[str]) -> None:
        done: dict[tuple[str, Thing], set[str]] = defaultdict(set)
        for thing, versions in self.versions.items():
            for version in versions:
                # A deletion that was held back, decided about, and then comes again is asked about again. One that
                # comes without a base, because its push was lost, is of what is there by then (ADR 19).
                again = version.branch or version.device_id in plain
                if not (again and version.change == Change.DELETION):
                    done[version.device_id, thing].add(version.contribution_id)
        for key, contributions in done.items():
            if len(contributions) > acts[key]:
                self.problems.append(
                    f"{key} was done {len(contributions)} times, and only {acts[key]} times by a person"
                )

    # -- nothing that matters is overwritten unseen ---------------------------------------------------------------

    def _never_overwritten(self, entries: Sequence[Entry]) -> None:
        said: dict[tuple[str, Thing, str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            said[entry.device, entry.thing, entry.path, text(entry.value)].append(entry)
        decisions = {
            (str(one.collection), one.thing_id, one.resolution.version) for one in self.conflicts if one.resolution
        }
        for thing, versions in self.versions.items():
            trunk = [version for version in versions if not version.branch]
            for before, after in pairwise(trunk):
                if before.content and after.content and (*thing, after.number) not in decisions:
                    self._knowingly(thing, before, after, said)

    def _knowingly(
        self, thing: Thing, before: Version, after: Version, said: Mapping[tuple[str, Thing, str, str], list[Entry]]
    ) -> None:
        """Whoever changed a value had seen the one before."""
        was, now = (dict(paths(decode(one.content or b"{}"))) for one in (before, after))
        for path in was.keys() | now.keys():
            one, other = text(was.get(path)), text(now.get(path))
            if one == other or path in ("status", "signed_by", "signed_at") or not self._decided(thing, path):
                continue
            by = said[after.device_id, thing, path, other]
            if any(entry.excused for entry in self._whole(after.device_id, thing, path)):
                continue
            if not by:
                self.problems.append(f"{thing} {path}: nobody on {after.device_id} entered {other} ({after.number})")
            elif not any(one in entry.knew for entry in by):
                self.problems.append(
                    f"{thing} {path}: {one} ({before.number}) became {other} ({after.number}) on {after.device_id},"
                    f" where nobody had seen it"
                )

    def _whole(self, device: str, thing: Thing, path: str) -> Iterator[Entry]:
        """What a device said in the column of a field: measured values are pushed together."""
        name = path.partition(".")[0]
        known = (one for one in self._entries if one.device == device and one.thing == thing)
        return (one for one in known if one.path.partition(".")[0] == name)

    # -- who has left changes nothing -----------------------------------------------------------------------------

    def _stays(self, device: Device, entries: Sequence[Entry]) -> None:
        """What was entered after its person had left is on the device or was handed in, and nothing of it is live."""
        everywhere = Heap([])
        for versions in self.versions.values():
            for version in versions:
                everywhere.add(decode(version.content or b"{}"))
        last = {}
        for entry in entries:
            if entry.device == device.name and not entry.lost:
                last[entry.thing, entry.path] = entry
                anew = isinstance(entry.token, (str, int, float)) and text(entry.value) not in entry.knew
                if entry.late and anew and everywhere.holds(entry):
                    self.problems.append(f"entered after they had left: {entry}")
        shown = device.things()
        for (thing, path), entry in last.items():
            if (
                entry.late
                and not entry.acknowledged
                and thing in shown
                and not entry.is_in(dict(paths(shown[thing])).get(path))
            ):
                self.problems.append(f"lost on {device.name}: {entry}")


def _differing(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    if one is None or other is None:
        return f"{'no row' if one is None else one} instead of {'none' if other is None else other}"
    names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    return "; ".join(f"{name}: {one.get(name)!r} instead of {other.get(name)!r}" for name in sorted(names))
