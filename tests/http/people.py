"""Someone with an app: who registers, logs in, and goes on asking; and the server that they ask."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
from litestar import Litestar

from heallog import bootstrap
from heallog.application.ports.mail import Letter
from heallog.domain.access import Plan, Role

from .clinic import PASSWORD, Clinic, code_in

FRESH = "ten herons and a brass kettle"
"""Another good password."""

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

_request = itertools.count()


@dataclass
class Clock:
    """Stands still until someone moves it."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@dataclass
class House:
    """A server over the tests' database, with its own clock."""

    client: httpx.AsyncClient
    container: bootstrap.Container
    clock: Clock
    app: Litestar

    async def person(self, name: str = "Bola", *, practice: str = "Lakeside") -> "Person":
        """Someone who has just registered here."""
        person = Person(self, name, f"{name.lower()}-{self.container.ids()()}@example.org")
        answer = await person.post(
            "/v1/auth/register",
            {"email": person.email, "password": PASSWORD, "name": name, "practice_name": practice},
        )
        assert answer.status_code == 201, answer.text
        person.known(answer)
        return person

    def stranger(self, name: str = "Chidi") -> "Person":
        """Someone with an address and no account."""
        return Person(self, name, f"{name.lower()}-{self.container.ids()()}@example.org")

    def clinic(self, clinic: Clinic) -> Clinic:
        """The same practice, asked for here."""
        return replace(clinic, client=self.client, container=self.container)


NewHouse = Callable[..., Awaitable[House]]


@dataclass
class Person:
    """Asks one server in their own name. `tokens` are those of the last answer that had any."""

    house: House
    name: str
    email: str
    password: str = PASSWORD
    id: str = ""
    practice_id: str = ""
    tokens: dict[str, Any] = field(default_factory=dict)
    request_id: str = ""
    answers: list[httpx.Response] = field(default_factory=list)

    # -- asking -------------------------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, at: House | None = None
    ) -> httpx.Response:
        """A request with one's access token, or another one; at another server, where it is said."""
        self.request_id = f"request-{next(_request):06}"
        headers = {"X-Request-ID": self.request_id}
        if token or self.tokens:
            headers["Authorization"] = f"Bearer {token or self.tokens['access_token']}"
        self.answers.append(await (at or self.house).client.request(method, path, json=body, headers=headers))
        return self.answers[-1]

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.ask("POST", path, body)

    async def did(self, method: str, path: str, body: Any = None) -> Any:
        """The same, when it has to work."""
        answer = await self.ask(method, path, body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    # -- logging in ---------------------------------------------------------------------------------------------

    def known(self, answer: httpx.Response) -> None:
        """Keep what an answer says of oneself."""
        said = answer.json()
        self.tokens = said["tokens"]
        self.id, self.practice_id = said["account"]["id"], said["practice"]["id"]

    async def login(self, password: str | None = None, *, email: str | None = None, **more: Any) -> httpx.Response:
        """Log in; the tokens are kept, if there are any."""
        body = {"email": email or self.email, "password": password or self.password, **more}
        answer = await self.post("/v1/auth/login", body)
        if answer.status_code == 200:
            self.tokens = answer.json()
        return answer

    async def refresh(self, refresh_token: str | None = None) -> httpx.Response:
        """Ask for the next tokens; they are not kept."""
        return await self.post("/v1/auth/refresh", {"refresh_token": refresh_token or self.tokens["refresh_token"]})

    async def alive(self, token: str | None = None) -> bool:
        """Whether an access token lets one in."""
        answer = await self.ask("GET", "/v1/me", token=token)
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200

    # -- what is kept -------------------------------------------------------------------------------------------

    @property
    def letters(self) -> list[Letter]:
        return self.house.container.mail().to(self.email)

    @property
    def code(self) -> str:
        """The code of the last letter that has one."""
        return next(code_in(letter) for letter in reversed(self.letters) if "code" in letter.text)

    async def trail(self, request_id: str | None = None) -> list[tuple[str, str, str | None]]:
        """What the last request left in the audit trail, of whatever practice: action, outcome and reason."""
        entries = await self.entries(request_id)
        return [(entry["action"], entry["outcome"], entry["reason"]) for entry in entries]

    async def entries(self, request_id: str | None = None) -> list[dict[str, Any]]:
        pool = self.house.container.database().pool
        rows = await pool.fetch(
            "SELECT * FROM audit_entries WHERE request_id = $1 ORDER BY at, id", request_id or self.request_id
        )
        return [dict(row) for row in rows]

    # -- a practice of one's own --------------------------------------------------------------------------------

    async def invites(self, person: "Person", role: Role) -> dict[str, Any]:
        body = {"email": person.email, "role": role, "name": person.name}
        return await self.did("POST", "/v1/practice/members", body)

    async def accepts(self, code: str | None = None, **more: Any) -> httpx.Response:
        """The invitation in the last letter; the tokens are kept."""
        body = {"email": self.email, "code": code or self.code, "password": self.password, "name": self.name, **more}
        answer = await self.post("/v1/auth/accept-invitation", body)
        if answer.status_code == 201:
            self.known(answer)
        return answer

    async def hires(self, role: Role, name: str = "Chidi") -> "Person":
        """Someone new, who has accepted an invitation."""
        person = self.house.stranger(name)
        await self.invites(person, role)
        answer = await person.accepts()
        assert answer.status_code == 201, answer.text
        return person

    async def pays(self, plan: Plan) -> None:
        await self.house.container.practices().set_plan(self.practice_id, plan)
