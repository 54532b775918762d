"""A seed's story: who does what on which device, what goes wrong meanwhile, and what must be so in the end."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from heallog.domain.access import Role
from heallog.domain.versions import Change

from .devices import Device, Diary, Fields, Native, Thing, Watermelon, text
from .house import House, Network, Practice, Wrong
from .truth import Truth

STEPS = (14, 30)
ROUNDS = 8
"""Syncs of every device within which it has to become quiet."""


class Desk(Device):
    """Someone at a computer with a network, by the plain API; they may have looked a while ago."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.known: dict[Thing, tuple[int, Fields]] = {}

    def things(self) -> dict[Thing, Fields]:
        return {thing: fields for thing, (_, fields) in self.known.items()}

    @property
    def dirty(self) -> bool:
        return False

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return await self.network.send(self.chance, 0, method, path, self.token, body)

    async def visit(self, thing: Thing) -> bool:
        """Look at a thing; whether it is there."""
        answer = await self.ask("GET", f"/v1/{thing[0]}/{thing[1]}")
        if answer.status_code == 200:
            said = answer.json()
            self.known[thing] = said["version"], said
            self.look()
            return True
        self.known.pop(thing, None)
        return False

    async def change(self, thing: Thing, fields: Fields) -> str:
        carried = self.sends(thing, fields)
        answer = await self.ask("PATCH", f"/v1/{thing[0]}/{thing[1]}", {"base_version": self.known[thing][0], **fields})
        kept = answer.status_code == 200 or (
            answer.status_code == 409 and "conflict" in answer.json()["error"]["context"]
        )
        if kept:
            # They go on from what they wrote, and have not looked again.
            version, now = self.known[thing]
            self.known[thing] = version, {**now, **fields}
        for entry in carried:
            entry.acknowledged = kept
            if kept:
                self.seen[thing, entry.path].add(text(entry.value))
        return str(answer.status_code)


class Story:
    """One seed. `run` raises `Wrong` with the trace."""

    def __init__(self, seed: int, house: House, canary: bytes) -> None:
        self.seed, self.house = seed, house
        self.chance = random.Random(seed)
        self.network = Network(house, canary)
        self.diary = Diary()
        self.trace: list[str] = []
        self.happened: Counter[str] = self.network.happened
        self.devices: list[Device] = []
        self.backups: dict[str, Any] = {}
        self.syncing: dict[str, asyncio.Task[str]] = {}
        self.ids = 0

    # -- telling --------------------------------------------------------------------------------------------------

    def tell(self, what: str) -> None:
        self.trace.append(what)

    def wrong(self, problems: list[str]) -> Wrong:
        trace = "\n".join(f"{number:3} {line}" for number, line in enumerate(self.trace, start=1))
        told = "\n".join(f"  {problem}" for problem in problems)
        return Wrong(f"seed {self.seed}: HEALLOG_SEEDS={self.seed} pytest tests/simulation\n{told}\n{trace}")

    async def run(self) -> None:
        try:
            await self._set_up()
            for _ in range(self.chance.randint(*STEPS)):
                await self._step()
            await self._quiet()
            problems = await self._check()
            self.happened["seeds"] += 1
        except Wrong as wrong:
            raise self.wrong([str(wrong)]) from None
        finally:
            for task in self.syncing.values():
                task.cancel()
        if problems:
            raise self.wrong(problems)

    async def _set_up(self) -> None:
        self.practice = await Practice.of(self.house)
        people = [self.practice.owner, await self.practice.hire(Role.CLINICIAN)]
        if self.chance.random() < 0.5:
            people.append(await self.practice.hire(Role.ASSISTANT))
        kinds: list[Callable[..., Device]] = [
            Native,
            lambda *given: Watermelon(*given, tokens=True),
            lambda *given: Watermelon(*given, tokens=False),
        ]
        for number in range(self.chance.randint(2, 5)):
            person, kind = people[number % len(people)], self.chance.choices(kinds, (3, 4, 2))[0]
            device = await self._device(f"device-{number}", person, kind)
            if self.chance.random() < 0.4:
                device.skew = self.chance.choice((-1, 1)) * self.chance.choice(
                    (timedelta(hours=5), timedelta(days=3), timedelta(days=3_650))
                )
                self.happened["a clock that is wrong"] += 1
            self.devices.append(device)
            how = ", without tokens" if isinstance(device, Watermelon) and not device.tokens else ""
            self.tell(f"{device.name} is {type(device).__name__}{how} of {person.role}, its clock off by {device.skew}")
        desk = await self._device("desk", self.practice.owner, Desk)
        assert isinstance(desk, Desk)
        self.desk = desk
        first = self.devices[0]
        for _ in range(self.chance.randint(1, 2)):
            patient = self._create(first, "patients")
            for _ in range(self.chance.randint(1, 2)):
                self._create(first, "records", patient)
        for device in self.devices:
            self.tell(f"{device.name} syncs for the first time: {await device.sync()}")

    async def _device(self, name: str, person: Any, kind: Callable[..., Device]) -> Device:
        token = await self.practice.login(person, name)
        return kind(name, person, token, self.network, self.diary, random.Random(f"{self.seed}/{name}"))

    # -- what happens ---------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        steps: list[tuple[int, Callable[[], Awaitable[None] | None]]] = [
            (30, self._edit),
            (6, self._revert),
            (8, self._make),
            (5, self._delete),
            (10, self._resolve),
            (24, self._sync),
            (10, self._together),
            (6, self._hold),
            (8, self._release),
            (10, self._at_the_desk),
            (2, self._wipe),
            (4, self._back_up),
            (4, self._go_back),
            (1, self._leave),
            (4, self._arrive),
            (1, self._restart),
        ]
        made = self.chance.choices([step for _, step in steps], [weight for weight, _ in steps])[0]()
        if made is not None:
            await made
        if self.network.crashed:
            self.network.crashed = False
            if self.chance.random() < 0.3:
                await self._restart()

    def _any(self) -> Device:
        return self.chance.choice(self.devices)

    def _value(self) -> str:
        return f"v{self.diary.number()}z"

    def _id(self) -> str:
        """The client's own; now and then one that another device may come upon too."""
        if self.chance.random() < 0.08:
            return f"twin{self.chance.randint(1, 2)}"
        self.ids += 1
        return f"{self.chance.getrandbits(60):015x}{self.ids % 10}"

    def _create(self, device: Device, collection: str, patient_id: str | None = None) -> str:
        thing = collection, self._id()
        if thing in device.things() or (isinstance(device, Watermelon) and thing[1] in device.client.rows[collection]):
            return thing[1]
        tokens: Fields = {}
        if collection == "patients":
            fields: Fields = {"family_name": self._value()}
        elif self.chance.random() < 0.75:
            fields = {
                "kind": "medication",
                "title": self._value(),
                "dose": self.diary.number() + 0.5,
                "dose_unit": self._value(),
            }
        else:
            pulse = {"value": self.diary.number(), "unit": self._value()}
            fields = {"kind": "observation", "title": self._value(), "values": {"pulse": pulse}}
            tokens["values.pulse"] = pulse["unit"]
        device.entered(thing, fields, tokens)
        device.create(thing, patient_id, fields)  # type: ignore[attr-defined]
        device.look()
        self.tell(f"{device.name} creates {thing}: {fields}")
        return thing[1]

    def _make(self) -> None:
        device = self._any()
        patients = [thing_id for collection, thing_id in device.things() if collection == "patients"]
        if not patients or self.chance.random() < 0.3:
            self._create(device, "patients")
        else:
            self._create(device, "records", self.chance.choice(patients))

    def _change(self, now: Fields, collection: str) -> tuple[Fields, Fields]:
        """New fields for a thing, and what is in them that is in nothing else."""
        if collection == "patients":
            name = self.chance.choice(("family_name", "given_name", "phone", "tags", "notes", "address"))
        elif now.get("kind") == "medication":
            name = self.chance.choice(
                ("dose", "dose", "dose", "dose_unit", "route", "title", "instructions", "text", "tags")
            )
        else:
            name = self.chance.choice(("values", "values", "title", "text", "tags"))
        token = self._value()
        match name:
            case "dose":
                # Now and then one that can never be.
                wrong = self.chance.random() < 0.1
                dose = self.diary.number() + 0.5
                return {name: -dose if wrong else dose}, {}
            case "values":
                entry = self.chance.choice(("pulse", "systolic", "diastolic"))
                measured = {"value": self.diary.number(), "unit": token}
                return {name: {**(now.get(name) or {}), entry: measured}}, {f"values.{entry}": token}
            case "tags":
                tags = [*(now.get(name) or ()), token]
                return {name: tags[-4:]}, {name: token}
            case "text" | "notes":
                lines = (now.get(name) or "").split("\n") if now.get(name) else []
                lines.insert(self.chance.randint(0, len(lines)), token)
                return {name: "\n".join(lines)}, {name: token}
            case "address":
                return {name: {"city": token}}, {name: token}
        return {name: token}, {}

    def _edit(self) -> None:
        device = self._any()
        things = sorted(device.things().items())
        if not things:
            return
        thing, now = self.chance.choice(things)
        fields, tokens = self._change(now, thing[0])
        if self.chance.random() < 0.2:
            more, of_more = self._change({**now, **fields}, thing[0])
            fields, tokens = fields | more, tokens | of_more
        self._edited(device, thing, now, fields, tokens)

    def _edited(self, device: Device, thing: Thing, now: Fields, fields: Fields, tokens: Fields) -> None:
        # Of measured values, what was there before was not entered now.
        entered = dict(fields)
        if "values" in fields:
            before = now.get("values") or {}
            entered["values"] = {name: value for name, value in fields["values"].items() if before.get(name) != value}
        device.entered(thing, entered, tokens)
        device.edit(thing, fields)  # type: ignore[attr-defined]
        device.look()
        self.tell(f"{device.name} edits {thing}: {fields}, was { ({name: now.get(name) for name in fields}) }")

    def _revert(self) -> None:
        """Take back what one entered, to what one saw before."""
        device = self._any()
        shown = device.things()
        mine = [
            one
            for one in self.diary.entries
            if one.device == device.name
            and not one.lost
            and one.thing in shown
            and one.path in ("dose", "title", "phone", "given_name", "route", "dose_unit")
            and shown[one.thing].get(one.path) == one.value
        ]
        if mine:
            entry = self.chance.choice(mine)
            earlier = json.loads(self.chance.choice(sorted(entry.knew)))
            self.happened["revert"] += 1
            self._edited(device, entry.thing, shown[entry.thing], {entry.path: earlier}, {})

    def _delete(self) -> None:
        device = self._any()
        things = sorted(device.things())
        if things:
            thing = self.chance.choice(things)
            self.happened["delete"] += 1
            self.diary.acts[device.name, thing] += 1
            device.delete(thing)  # type: ignore[attr-defined]
            self.tell(f"{device.name} deletes {thing}")

    async def _resolve(self) -> None:
        device = self._any()
        conflicts = sorted(device.conflicts(), key=lambda one: str(one["id"]))
        if not conflicts:
            return
        conflict = self.chance.choice(conflicts)
        side = self.chance.choice(("mine", "theirs", "value"))
        branch = self.chance.choice([one["branch_version"] for one in conflict["fields"]])
        thing = conflict["collection"], conflict["thing_id"]
        choices: Fields = {}
        for one in conflict["fields"]:
            if side == "mine":
                choices[one["field"]] = {"take": "mine", "branch_version": branch}
            elif side == "value" and isinstance(one["theirs"], (str, float)) and "\n" not in str(one["theirs"]):
                value = self._value() if isinstance(one["theirs"], str) else self.diary.number() + 0.5
                choices[one["field"]] = {"value": value}
            else:
                choices[one["field"]] = {"take": "theirs"}
        self.diary.acts[device.name, thing] += 1
        done = device.resolve(conflict, {"choices": choices, "reason": "asked the pharmacy"})  # type: ignore[attr-defined]
        how = await done if done is not None else "offline"
        self.happened["resolve"] += 1
        self.tell(f"{device.name} resolves {conflict['id']} about {thing}: {choices}: {how}")

    # -- syncing --------------------------------------------------------------------------------------------------

    def _weather(self, device: Device) -> None:
        device.trouble = self.chance.choice((0, 0.2, 0.4, 0.6))

    async def _sync(self) -> None:
        device = self._any()
        if device.name in self.syncing and isinstance(device, Native):
            return
        self._weather(device)
        self.tell(f"{device.name} syncs: {await device.sync()}")

    async def _together(self) -> None:
        """Several at once, someone at the desk beside them, and what was still on its way."""
        free = [one for one in self.devices if one.name not in self.syncing]
        devices = self.chance.sample(free, min(len(free), self.chance.randint(2, 4)))
        for device in devices:
            self._weather(device)
        at_once: list[Awaitable[Any]] = [device.sync() for device in devices]
        if self.chance.random() < 0.5:
            at_once.append(self._at_the_desk())
        if self.chance.random() < 0.5:
            at_once.append(self._arrive())
        how = await asyncio.gather(*at_once)
        self.happened["at once"] += 1
        self.tell(f"{', '.join(device.name for device in devices)} sync at once: {how[: len(devices)]}")

    async def _hold(self) -> None:
        """A sync that stops after an answer; the person goes on meanwhile."""
        device = self._any()
        if device.name in self.syncing:
            return
        device.trouble = 0
        device.holds = self.chance.choice(("pulled", "pushed"))
        device.held, device.go = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(device.sync())
        waiting = asyncio.create_task(device.held.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            device.holds = None
            self.tell(f"{device.name} syncs: {task.result()}")
        else:
            self.syncing[device.name] = task
            self.happened["a sync that takes long"] += 1
            self.tell(f"{device.name} syncs, and this takes long")

    async def _release(self) -> None:
        if self.syncing:
            name = self.chance.choice(sorted(self.syncing))
            await self._go_on(next(one for one in self.devices if one.name == name))

    async def _go_on(self, device: Device) -> None:
        if (task := self.syncing.pop(device.name, None)) is not None:
            device.go.set()
            self.tell(f"{device.name} goes on: {await task}")

    async def _arrive(self) -> None:
        if arrived := await self.network.arrive():
            self.tell(f"{arrived} requests arrive late")

    # -- beside ---------------------------------------------------------------------------------------------------

    async def _at_the_desk(self) -> None:
        things = sorted({one.thing for one in self.diary.entries if one.acknowledged and one.thing[0] != "conflicts"})
        if not things:
            return
        thing, desk = self.chance.choice(things), self.desk
        if (thing not in desk.known or self.chance.random() < 0.6) and not await desk.visit(thing):
            version = await self.house.container.database().pool.fetchval(
                f"SELECT version FROM {thing[0]} WHERE practice_id = $1 AND id = $2", self.practice.id, thing[1]
            )
            if version is not None:
                self.diary.acts["desk", thing] += 1
                answer = await desk.ask("POST", f"/v1/{thing[0]}/{thing[1]}/restore", {"base_version": version})
                self.tell(f"the desk restores {thing}: {answer.status_code}")
            return
        what = self.chance.choices(("change", "sign", "amend"), (6, 1, 1))[0]
        version, now = desk.known[thing]
        if what == "change":
            fields, tokens = self._change(now, thing[0])
            entered = dict(fields)
            if "values" in fields:
                before = now.get("values") or {}
                entered["values"] = {
                    name: value for name, value in fields["values"].items() if before.get(name) != value
                }
            desk.entered(thing, entered, tokens)
            how = await desk.change(thing, fields)
            self.tell(f"the desk changes {thing} from {version}: {fields}: {how}")
        elif thing[0] == "records":
            self.diary.acts["desk", thing] += 1
            body: Fields = {"base_version": version}
            if what == "amend":
                fields = {"title": self._value()}
                desk.entered(thing, fields, {})
                body |= {"changes": fields, "reason": "was wrong"}
            answer = await desk.ask("POST", f"/v1/records/{thing[1]}/{what}", body)
            self.happened[what] += 1
            self.tell(f"the desk does {what} {thing} from {version}: {answer.status_code} {body}")

    # -- accidents ------------------------------------------------------------------------------------------------

    async def _wipe(self) -> None:
        device = self._any()
        self.tell(f"{device.name} is wiped")
        self.happened["wipe"] += 1
        device.wipe()  # type: ignore[attr-defined]
        await self._go_on(device)

    def _back_up(self) -> None:
        device = self._any()
        self.backups[device.name] = device.backup()  # type: ignore[attr-defined]
        self.tell(f"{device.name} is backed up")

    async def _go_back(self) -> None:
        device = self._any()
        if (backup := self.backups.get(device.name)) is not None and not device.out:
            await self._go_on(device)
            device.restore(backup)  # type: ignore[attr-defined]
            self.happened["restore"] += 1
            self.tell(f"{device.name} goes back to its backup")

    async def _leave(self) -> None:
        """Someone leaves the practice. What they did before they left has arrived by then, or not."""
        person = self.chance.choice([one.person for one in self.devices])
        mine = [one for one in self.devices if one.person == person]
        if person.role is Role.OWNER or any(one.out or one.name in self.syncing for one in mine):
            return
        await self._arrive()
        answer = await self.desk.ask("DELETE", f"/v1/practice/members/{person.id}")
        assert answer.status_code == 204, answer.text
        self.happened["leave"] += 1
        self.tell(f"{person.role} leaves")
        for device in mine:
            device.out = True

    async def _restart(self) -> None:
        self.happened["restart"] += 1
        self.tell("the server starts anew")
        await self.house.restart()

    # -- the end --------------------------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """The network is good and nobody does anything: soon nobody has anything to say any more."""
        for device in self.devices:
            await self._go_on(device)
            device.trouble = 0
        await self._arrive()
        self.tell("now everybody is quiet")
        await self._settled()
        # Once more, for what the others pushed after this one had pulled.
        for device in self.devices:
            await device.sync()

    async def _settled(self) -> None:
        for _ in range(ROUNDS):
            for device in self.devices:
                self.tell(f"{device.name} syncs: {await device.sync()}")
            if not any(device.dirty for device in self.devices if not device.out):
                return
        dirty = [device.name for device in self.devices if device.dirty and not device.out]
        raise Wrong(f"never quiet: {dirty}")

    async def _check(self) -> list[str]:
        truth = await Truth.of(self.practice)
        self.happened["conflicts"] += len(truth.conflicts)
        self.happened["quarantined"] += len(truth.quarantine)
        self.happened["versions"] += sum(map(len, truth.versions.values()))
        self.happened["merges"] += sum(one.change == Change.MERGE for those in truth.versions.values() for one in those)
        self.happened["excused by ADR 19"] += sum(one.excused for one in self.diary.entries)
        return truth.check(self.devices, self.diary.entries, self.diary.acts)
