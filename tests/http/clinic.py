"""What the HTTP tests tell their stories with: a practice, calls in its name, and what an answer must look like."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from heallog import bootstrap
from heallog.domain.access import Actor, Role

PASSWORD = "correct horse battery"


@dataclass
class Clinic:
    """A practice, its owner Alice, and calls in her name."""

    client: httpx.AsyncClient
    container: bootstrap.Container
    practice_id: str
    account_id: str
    email: str
    token: str

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

    def token_for(
        self,
        role: Role = Role.OWNER,
        *,
        ago: timedelta = timedelta(),
        device: str = "device",
        account: str | None = None,
    ) -> str:
        """A token of a member of this practice (Alice, if nobody else) on another device, issued some time ago."""
        actor = Actor(account or self.account_id, self.practice_id, role, "session", device)
        return self.container.tokens().issue(actor, self.container.clock()() - ago).access_token

    async def rows(self) -> int:
        """How much this practice ever wrote: versions, conflicts, policies, and the entries that declare versions."""
        count = (
            "SELECT (SELECT count(*) FROM versions WHERE practice_id = $1)"
            " + (SELECT count(*) FROM conflicts WHERE practice_id = $1)"
            " + (SELECT count(*) FROM policies WHERE practice_id = $1)"
            " + (SELECT count(*) FROM audit_entries WHERE practice_id = $1 AND hash IS NOT NULL)"
        )
        return await self.container.database().pool.fetchval(count, self.practice_id)


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
