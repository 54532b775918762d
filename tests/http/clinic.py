"""What the HTTP tests tell their stories with: a practice, calls in its name, and what an answer must look like."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from heallog import bootstrap
from heallog.application.ports.mail import Letter
from heallog.domain.access import Role
from heallog.domain.sessions import Session, opened

PASSWORD = "nine lanterns over the ford"
"""Everybody's, and the one in the document's examples."""


@dataclass
class Clinic:
    """A practice, its owner Alice, and calls in her name."""

    client: httpx.AsyncClient
    container: bootstrap.Container
    practice_id: str
    account_id: str
    email: str
    token: str
    refresh_token: str = ""

    @property
    def annex(self) -> str:
        """The id of a second practice, where there is one."""
        return f"annex-{self.practice_id}"

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        token: str | None = None,
    ) -> httpx.Response:
        """A request as Alice, or with another token; `body` is sent as JSON, `raw` as it is."""
        sent = {"Authorization": f"Bearer {token or self.token}", **(headers or {})}
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        return await self.client.request(method, path, content=raw, headers=sent)

    async def get(self, path: str, **headers: str) -> Any:
        """What is there, as Alice sees it."""
        answer = await self.call(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def patient(self, **fields: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/v1/patients", {"family_name": "Obi", "given_name": "Ngozi", **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def record(self, patient_id: str, **fields: Any) -> dict[str, Any]:
        body = {"kind": "observation", "title": "Blood pressure", **fields}
        answer = await self.call("POST", f"/v1/patients/{patient_id}/records", body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def signed(self, patient_id: str, **fields: Any) -> dict[str, Any]:
        """A record at version 2, signed by Alice."""
        draft = await self.record(patient_id, **fields)
        answer = await self.call("POST", f"/v1/records/{draft['id']}/sign", {"base_version": 1})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def changed(self, path: str, base_version: int, **fields: Any) -> dict[str, Any]:
        answer = await self.call("PATCH", path, {"base_version": base_version, **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def deleted(self, path: str, base_version: int) -> None:
        answer = await self.call("DELETE", path, headers={"If-Match": f'"{base_version}"'})
        assert answer.status_code == 204, answer.text

    async def member(self, role: Role, account: str | None = None) -> str:
        """The id of someone with this role here, made where there is nobody yet; Alice is the owner.

        Everybody has Alice's password, and an address that is not verified.
        """
        account = account or (self.account_id if role is Role.OWNER else f"{role}-{self.practice_id}")
        pool = self.container.database().pool
        await pool.execute(
            "INSERT INTO accounts (id, email, email_key, name, password_hash, created_at)"
            " SELECT $1, $2, $2, $1, password_hash, now() FROM accounts WHERE email = $3 ON CONFLICT DO NOTHING",
            account,
            f"{account}@example.org",
            self.email,
        )
        await pool.execute(
            "INSERT INTO memberships (practice_id, account_id, role, created_at)"
            " VALUES ($1, $2, $3, now()) ON CONFLICT DO NOTHING",
            self.practice_id,
            account,
            role,
        )
        return account

    def address_of(self, account: str) -> str:
        """The e-mail address of someone whom `member` made, or Alice's."""
        return self.email if account == self.account_id else f"{account}@example.org"

    def letters(self, email: str | None = None) -> list[Letter]:
        """What someone was written, or Alice; the oldest first."""
        return self.container.mail().to(email or self.email)

    async def token_for(
        self,
        role: Role = Role.OWNER,
        *,
        ago: timedelta = timedelta(),
        device: str = "device",
        account: str | None = None,
    ) -> str:
        """A token of a member of this practice (Alice, if nobody else) on another device, issued some time ago."""
        return (await self.session_for(role, ago=ago, device=device, account=account))[1]

    async def session_for(
        self,
        role: Role = Role.OWNER,
        *,
        ago: timedelta = timedelta(),
        device: str = "device",
        account: str | None = None,
    ) -> tuple[Session, str]:
        """A session of a member, opened without any password, and its access token."""
        member, container = await self.member(role, account), self.container
        at = container.clock()() - ago
        session, _ = opened(self.practice_id, container.ids()(), member, device, at, container.chance()(64))
        async with container.uow() as uow:
            await uow.sessions.add(session)
            await uow.commit()
        return session, container.tokens().issue(session, at)[0]

    async def left(self, account: str, *, sessions: bool = False) -> None:
        """Someone's membership is over, by whatever way; what they hold is not touched, or their `sessions` end too."""
        pool, who = self.container.database().pool, (self.practice_id, account)
        of = "ended_at = now() WHERE practice_id = $1 AND account_id = $2"
        await pool.execute(f"UPDATE memberships SET {of}", *who)
        if sessions:
            await pool.execute(f"UPDATE sessions SET ending = 'membership', {of}", *who)

    async def rows(self) -> int:
        """How much this practice ever wrote: versions, conflicts, policies, and the entries that declare versions."""
        count = (
            "SELECT (SELECT count(*) FROM versions WHERE practice_id = $1)"
            " + (SELECT count(*) FROM conflicts WHERE practice_id = $1)"
            " + (SELECT count(*) FROM policies WHERE practice_id = $1)"
            " + (SELECT count(*) FROM audit_entries WHERE practice_id = $1 AND hash IS NOT NULL)"
        )
        return await self.container.database().pool.fetchval(count, self.practice_id)

    async def people(self) -> str:
        """Everything about the practice and who belongs to it, wherever they are logged in, as one text to compare."""
        mine = "account_id IN (SELECT account_id FROM memberships WHERE practice_id = $1)"
        key = "SELECT email_key FROM accounts JOIN memberships ON account_id = id WHERE practice_id = $1"
        tables = {
            "practices": "id = $1",
            "memberships": "practice_id = $1",
            "invitations": "practice_id = $1",
            "emergencies": "practice_id = $1",
            "quarantine": "practice_id = $1",
            "sessions": mine,
            "accounts": mine.replace("account_id IN", "id IN"),
            "one_time_codes": f"email_key IN ({key})",
        }
        texts = (f"SELECT {table}::text AS row FROM {table} WHERE {of}" for table, of in tables.items())
        together = f"SELECT string_agg(row, ' ' ORDER BY row) FROM ({' UNION ALL '.join(texts)}) AS everything"
        return await self.container.database().pool.fetchval(together, self.practice_id)

    async def written(self) -> tuple[int, str]:
        """What must be as it was after everything that was refused."""
        return await self.rows(), await self.people()


NewClinic = Callable[[], Awaitable[Clinic]]


def refused(answer: httpx.Response, status: int, code: str, field: object = None) -> dict[str, Any]:
    """The `error` of an answer that is a refusal in the one envelope, with this status and code, about this field."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"success", "error", "request_id"}
    assert body["success"] is False
    assert body["request_id"] == answer.headers["x-request-id"]
    error = body["error"]
    assert error.keys() == {"message", "code", "field", "context"}
    assert (error["code"], error["field"]) == (code, field), error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["context"], dict)
    return error


def fields_of(error: dict[str, Any]) -> list[str]:
    """Every field that a refusal complains about, in its order."""
    return [wrong["field"] for wrong in error["context"]["errors"]]


def code_in(letter: Letter) -> str:
    """The code that a letter brings, as it is printed."""
    found = re.search(r"^ {4}(\S.*)$", letter.text, re.MULTILINE)
    assert found, letter.subject
    return found[1]
