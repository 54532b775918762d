"""The checks of who gets in where. They can be run on any application: also on one with a hole in it.

Each gives what is wrong, in words; nothing, where all is well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import jwt
from litestar import Litestar
from litestar.routes import HTTPRoute

from heallog.adapters.tokens import signing_key
from heallog.domain.access import PERMISSIONS, Role

from .clinic import Clinic, code_in, refused
from .operations import OPERATIONS, PUBLIC, Operation, example_of, listed

Table = Mapping[str, Operation]

OF_THE_PAGE = {
    ("GET", "/schema"),
    ("GET", "/schema/openapi.json"),
    ("GET", "/schema/static/{name}"),
    # Litestar brings a script without data, and its 404.
    ("GET", "/schema/oauth2-redirect.html"),
    ("GET", "/schema/{path}"),
}

OF_THE_OPERATOR = {("GET", "/metrics")}
"""Behind a token of its own, and nothing for clients (test_metrics.py)."""


# -- the document and the routes ----------------------------------------------------------------------------------


def forgotten(document: dict[str, Any], table: Table = OPERATIONS) -> list[str]:
    """Operations that the document and the table do not agree about."""
    found = {(name, said["method"], said["path"]) for name, said in listed(document).items()}
    known = {(name, one.method, one.path) for name, one in table.items()} | {
        (name, *where) for name, where in PUBLIC.items()
    }
    return [f"not in the table: {name} {method} {path}" for name, method, path in sorted(found - known)] + [
        f"not in the document: {name} {method} {path}" for name, method, path in sorted(known - found)
    ]


def hidden(app: Litestar, document: dict[str, Any]) -> list[str]:
    """Whatever the application answers to beside the document, the page and its files."""
    answered = set()
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            # Which methods an address knows may be asked of every one.
            methods = {str(method) for handler in route.route_handlers for method in handler.http_methods}
            answered |= {(method, route.path_format) for method in methods - {"OPTIONS"}}
        else:
            answered.add((type(route).__name__, route.path_format))
    documented = {(said["method"], said["path"]) for said in listed(document).values()}
    return [
        f"not in the document: {method} {path}"
        for method, path in sorted(answered - documented - OF_THE_PAGE - OF_THE_OPERATOR)
    ]


def ajar(document: dict[str, Any]) -> list[str]:
    """Operations that ask for no token although the table does not say so, and the other way round."""
    if document.get("security") != [{"token": []}]:
        return ["the document asks for no token"]
    public = {name for name, said in listed(document).items() if "security" in said}
    return [f"public: {name}" for name in sorted(public - PUBLIC.keys())] + [
        f"not public: {name}" for name in sorted(PUBLIC.keys() - public)
    ]


# -- asking -------------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """One operation of the document, ready to be asked for."""

    clinic: Clinic
    operation: Operation
    thing: str
    body: Any
    responses: dict[str, Any]

    async def by(self, token: str | None, *, thing: str | None = None) -> httpx.Response:
        """With a token, or with none at all."""
        return await self.sent({"Authorization": f"Bearer {token}"} if token else {}, thing=thing)

    async def sent(self, headers: dict[str, str], *, thing: str | None = None) -> httpx.Response:
        address = self.operation.address(thing or self.thing)
        return await self.clinic.client.request(self.operation.method, address, json=self.body, headers=headers)


async def prepared(
    clinic: Clinic, document: dict[str, Any], name: str, role: Role = Role.OWNER, table: Table = OPERATIONS
) -> Asked:
    """What someone with this role can ask for, and if they may, get."""
    operation, said = table[name], listed(document)[name]
    thing = await operation.prepare(clinic, role) if operation.prepare else "none"
    return Asked(clinic, operation, thing, operation.body(example_of(said), thing), said["responses"])


def _refusal(asked: Asked, answer: httpx.Response, status: int, code: str) -> str:
    """What is wrong with a refusal."""
    if (answer.status_code, str(status) in asked.responses) != (status, True):
        return f"is answered {answer.status_code}; the document knows {', '.join(asked.responses)}"
    try:
        refused(answer, status, code)
    except AssertionError as error:
        return str(error)
    if status == 401 and answer.headers.get("www-authenticate") != "Bearer":
        return "is not told how to authenticate"
    return ""


async def worthless(clinic: Clinic) -> dict[str, tuple[str, str]]:
    """What someone may send instead of a good token, and the code of the refusal."""
    key = signing_key(clinic.container.settings().keys()[0])
    header = jwt.get_unverified_header(clinic.token)
    claims = jwt.decode(clinic.token, options={"verify_signature": False})
    over, gone = await clinic.token_for(), f"gone-{clinic.practice_id}"
    ended = await clinic.token_for(account=gone)
    await clinic.call("POST", "/v1/auth/logout", token=over)
    await clinic.left(gone)
    return {
        "nothing": ("", "NOT_AUTHENTICATED"),
        "garbage": ("Bearer garbage", "NOT_AUTHENTICATED"),
        "a token by another scheme": (f"Basic {clinic.token}", "NOT_AUTHENTICATED"),
        "a refresh token": (f"Bearer {clinic.refresh_token}", "NOT_AUTHENTICATED"),
        "another kind of token": (
            f"Bearer {jwt.encode(claims, key, headers=header | {'typ': 'rt+jwt'})}", "NOT_AUTHENTICATED",
        ),
        "a one-time code": (f"Bearer {code_in(clinic.letters()[0]).replace(' ', '')}", "NOT_AUTHENTICATED"),
        "a token that has expired": (f"Bearer {await clinic.token_for(ago=timedelta(hours=1))}", "TOKEN_EXPIRED"),
        "a token of a session that was ended": (f"Bearer {over}", "SESSION_ENDED"),
        "a token of a membership that was ended": (f"Bearer {ended}", "SESSION_ENDED"),
    }  # fmt: skip


async def former(clinic: Clinic) -> dict[str, tuple[str, str]]:
    """The same of somebody who was removed: it opens nothing, and hands in what they did."""
    removed = f"removed-{clinic.practice_id}"
    tokens = {
        "a token of who was removed": (await clinic.token_for(account=removed), "SESSION_ENDED"),
        "an old token of who was removed": (
            await clinic.token_for(account=removed, ago=timedelta(hours=1)), "TOKEN_EXPIRED",
        ),
    }  # fmt: skip
    await clinic.left(removed, sessions=True)
    return {what: (f"Bearer {token}", code) for what, (token, code) in tokens.items()}


def _kept(answer: httpx.Response) -> str:
    """What is wrong with an answer to who may not do what they push."""
    if answer.status_code != 200:
        return f"is answered {answer.status_code}"
    told = [(one["status"], one["version"], [error["code"] for error in one["errors"]]) for one in _results(answer)]
    return "" if set(map(str, told)) == {str(("quarantined", None, ["FORBIDDEN"]))} else f"is told {told}"


def _results(answer: httpx.Response) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def intrusions(asked: Asked) -> list[str]:
    """Who gets in, or is not refused as they should be, although they show no good token."""
    sent, removed = await worthless(asked.clinic), await former(asked.clinic)
    if not asked.operation.kept:
        sent |= removed
    written = await asked.clinic.written()
    wrong = []
    for what, (header, code) in sent.items():
        answer = await asked.sent({"Authorization": header} if header else {})
        if complaint := _refusal(asked, answer, 401, code):
            wrong.append(f"who shows {what} {complaint}")
    wrong += ["something was written"] if await asked.clinic.written() != written else []
    if asked.operation.kept:
        for what, (header, _) in removed.items():
            if complaint := _kept(await asked.sent({"Authorization": header})):
                wrong.append(f"who shows {what} {complaint}")
        wrong += ["something was done"] if await asked.clinic.rows() != written[0] else []
    return wrong


async def trespasses(asked: Asked, role: Role) -> list[str]:
    """What someone with a role can do and should not, or cannot and should."""
    token, permission = await asked.clinic.token_for(role), asked.operation.permission
    written = await asked.clinic.written()
    answer = await asked.by(token)
    if asked.operation.kept and permission not in PERMISSIONS[role]:
        complaint = _kept(answer)
        return [f"{role} {complaint}"] * bool(complaint) + ["something was done"] * (
            await asked.clinic.rows() != written[0]
        )
    changed = await asked.clinic.written() != written
    if permission is None or permission in PERMISSIONS[role]:
        if not answer.is_success or str(answer.status_code) not in asked.responses:
            return [f"{role} may do it and is answered {answer.status_code}: {answer.text}"]
        return [] if changed or asked.operation.method == "GET" else ["nothing was written"]
    complaint = _refusal(asked, answer, 403, "FORBIDDEN")
    if not complaint and answer.json()["error"]["context"] != {"permission": str(permission)}:
        complaint = "is not told the permission"
    return [f"{role} {complaint}"] * bool(complaint) + ["something was written"] * changed


async def unverified(asked: Asked) -> list[str]:
    """What someone can do before their e-mail address is verified, and should not, or cannot and should."""
    if asked.operation.permission is None:
        answer = await asked.by(await asked.clinic.token_for())
        return [] if answer.is_success else [f"the account's own thing is answered {answer.status_code}: {answer.text}"]
    wrong = []
    for role in Role:
        token = await asked.clinic.token_for(role)
        written = await asked.clinic.written()
        if complaint := _refusal(asked, await asked.by(token), 403, "EMAIL_NOT_VERIFIED"):
            wrong.append(f"{role} {complaint}")
        if await asked.clinic.written() != written:
            wrong.append(f"{role} wrote something")
    return wrong
