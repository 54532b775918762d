"""A HealLog that can be crashed, a network that loses and repeats, and practices to tell stories in."""

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
from dependency_injector import providers

from heallog import bootstrap, config
from heallog.adapters.mail import MemoryMail
from heallog.adapters.postgres.unit_of_work import PostgresUnitOfWork
from heallog.adapters.security import Argon2Passwords
from heallog.domain.access import Role
from heallog.domain.sessions import opened

PASSWORD = "nine lanterns over the ford"


class Fate(StrEnum):
    """What becomes of one request."""

    ARRIVES = "arrives"
    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    AT_ONCE = "sent twice at once"
    AGAIN = "sent again"
    LATE = "sent again, much later"
    CRASH_BEFORE = "crash before the commit"
    CRASH_AFTER = "crash after the commit"


TROUBLE = (
    Fate.REQUEST_LOST,
    Fate.ANSWER_LOST,
    Fate.AT_ONCE,
    Fate.AGAIN,
    Fate.LATE,
    Fate.CRASH_BEFORE,
    Fate.CRASH_AFTER,
)


class Lost(Exception):
    """No answer came."""


class Wrong(AssertionError):
    """The product broke a promise."""


# -- the server ---------------------------------------------------------------------------------------------------


@dataclass
class _Doom:
    """The process dies at the commit with this number (of those that the request makes)."""

    commit: int
    after: bool


_doom: ContextVar[_Doom | None] = ContextVar("doom", default=None)


class MortalUnitOfWork(PostgresUnitOfWork):
    """The real one, on a process that may die around the commit."""

    async def commit(self) -> None:
        doom = _doom.get()
        if doom is not None:
            doom.commit -= 1
        dies = doom is not None and doom.commit == 0
        if dies and doom is not None and not doom.after:
            raise asyncio.CancelledError
        await super().commit()
        if dies:
            raise asyncio.CancelledError


class CheapPasswords(Argon2Passwords):
    def __init__(self) -> None:
        super().__init__(passes=1, mebibytes=8, lanes=1)


class House:
    """One server over the tests' database. `restart` takes it down and builds it anew, as it would come up again."""

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings
        self._over = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.container = bootstrap.container(self._settings)
        uow = providers.Factory(MortalUnitOfWork, self.container.database, self.container.ears)
        self.container.uow.override(uow)
        self.container.passwords.override(providers.Singleton(CheapPasswords))
        self.container.mail.override(providers.Singleton(MemoryMail))
        app = bootstrap.http_app(self.container)
        begun, self._over = asyncio.Event(), asyncio.Event()

        async def live(over: asyncio.Event) -> None:
            async with app.lifespan():
                begun.set()
                await over.wait()

        # The lifespan must end in the task in which it began.
        self._life = asyncio.create_task(live(self._over))
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait([self._life, waiting], return_when=asyncio.FIRST_COMPLETED)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://heallog.test")

    async def stop(self) -> None:
        assert self._life is not None
        self._over.set()
        await self._life
        await self._client.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def ask(self, method: str, path: str, token: str, body: Any = None) -> httpx.Response:
        raw = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        answer = await self._client.request(method, path, content=raw, headers=headers)
        if answer.status_code >= 400:
            _envelope(answer)
        return answer

    async def dying(self, doom: _Doom, method: str, path: str, token: str, body: Any) -> None:
        """A request during which the process dies; where it does not come so far, its answer is lost all the same."""

        async def doomed() -> None:
            _doom.set(doom)
            await self.ask(method, path, token, body)

        task = asyncio.create_task(doomed())
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def _envelope(answer: httpx.Response) -> None:
    said = answer.json()
    if answer.status_code >= 500:
        raise Wrong(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}")
    if said.keys() != {"success", "error", "request_id"} or said["error"].keys() != {
        "message",
        "code",
        "field",
        "context",
    }:
        raise Wrong(f"not in the envelope: {answer.text[:500]}")


# -- a practice ---------------------------------------------------------------------------------------------------

_people = itertools.count()


@dataclass(frozen=True)
class Person:
    id: str
    role: Role


@dataclass
class Practice:
    """A practice with an owner; others join, and devices log in, without the costs of passwords."""

    house: House
    id: str
    owner: Person

    @classmethod
    async def of(cls, house: House) -> "Practice":
        email = f"amara-{house.container.ids()()}@example.org"
        fields = {"email": email, "password": PASSWORD, "name": "Amara", "practice_name": "Hillside"}
        answer = await house.ask("POST", "/v1/auth/register", "", fields)
        assert answer.status_code == 201, answer.text
        said = answer.json()
        return cls(house, said["practice"]["id"], Person(said["account"]["id"], Role.OWNER))

    async def hire(self, role: Role) -> Person:
        person = Person(f"{role}-{next(_people)}-{self.id}", role)
        pool = self.house.container.database().pool
        await pool.execute(
            "INSERT INTO accounts (id, email, email_key, name, password_hash, created_at)"
            " SELECT $1, $1, $1, $1, password_hash, now() FROM accounts WHERE id = $2",
            person.id,
            self.owner.id,
        )
        await pool.execute(
            "INSERT INTO memberships (practice_id, account_id, role, created_at) VALUES ($1, $2, $3, now())",
            self.id,
            person.id,
            role,
        )
        return person

    async def login(self, person: Person, device: str) -> str:
        """An access token."""
        container = self.house.container
        at = container.clock()()
        session, _ = opened(self.id, container.ids()(), person.id, device, at, container.chance()(64))
        async with container.uow() as uow:
            await uow.sessions.add(session)
            await uow.commit()
        return container.tokens().issue(session, at)[0]


# -- the network --------------------------------------------------------------------------------------------------


@dataclass
class Network:
    """Between devices and the house. `canary` must be in no answer."""

    house: House
    canary: bytes
    happened: Counter[str] = field(default_factory=Counter)
    late: list[tuple[str, str, str, Any]] = field(default_factory=list)
    """Requests that someone gave up on, and that are still on their way."""
    crashed: bool = False

    async def send(
        self, chance: random.Random, trouble: float, method: str, path: str, token: str, body: Any = None
    ) -> httpx.Response:
        """The answer. Raises `Lost`."""
        fate = chance.choice(TROUBLE) if chance.random() < trouble else Fate.ARRIVES
        commit = chance.randint(1, 2)
        self.happened[f"{'push' if body is not None else 'pull'}: {fate}"] += 1
        request = method, path, token, body
        match fate:
            case Fate.REQUEST_LOST:
                raise Lost(fate)
            case Fate.ANSWER_LOST:
                await self._ask(*request)
                raise Lost(fate)
            case Fate.LATE:
                self.late.append(request)
                raise Lost(fate)
            case Fate.CRASH_BEFORE | Fate.CRASH_AFTER:
                await self.house.dying(_Doom(commit, fate is Fate.CRASH_AFTER), *request)
                self.crashed = True
                raise Lost(fate)
            case Fate.AT_ONCE:
                one, other = await asyncio.gather(self._ask(*request), self._ask(*request))
                self._alike(one, other, push="/sync/" in path and body is not None)
                return one
            case Fate.AGAIN:
                one, other = await self._ask(*request), await self._ask(*request)
                self._alike(one, other, push="/sync/" in path and body is not None)
                return other
        return await self._ask(*request)

    async def arrive(self) -> int:
        """Everything that was on its way for long; nobody waits for the answers any more."""
        late, self.late = self.late, []
        for request in late:
            await self._ask(*request)
        return len(late)

    async def _ask(self, method: str, path: str, token: str, body: Any) -> httpx.Response:
        answer = await self.house.ask(method, path, token, body)
        if self.canary in answer.content:
            raise Wrong(f"another practice's data came with {method} {path}")
        return answer

    def _alike(self, one: httpx.Response, other: httpx.Response, *, push: bool) -> None:
        """A push has one effect and one answer."""
        same = one.content == other.content if one.status_code == 200 else one.status_code == other.status_code
        if push and not same:
            raise Wrong(f"the same push had two answers:\n{one.text}\n{other.text}")


@contextmanager
def planted(target: Any, name: str, fault: Any) -> Iterator[None]:
    """The product with a fault in it."""
    real = getattr(target, name)
    setattr(target, name, fault)
    try:
        yield
    finally:
        setattr(target, name, real)


@asynccontextmanager
async def opened_house(settings: config.Settings) -> AsyncIterator[House]:
    house = House(settings)
    await house.start()
    yield house
    await house.stop()


__all__ = ["Fate", "House", "Lost", "Network", "Person", "Practice", "Wrong", "opened_house", "planted"]
