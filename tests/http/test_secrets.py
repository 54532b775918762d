"""Nothing that opens anything gets into a log, the audit trail or a refusal: over everything that Bola can do."""

import json
import re
from collections.abc import Callable
from typing import Any

import pyotp
import pytest

from heallog.adapters import logs
from heallog.domain.access import Role
from heallog.domain.sessions import parse

from .clinic import PASSWORD, code_in
from .people import FRESH, MINUTE, House, Person

WRONG = "seven wrong guesses at it"
GUESS, OTP_GUESS, WEAK = "19283746", "564738", "weak and bola"


NUMBERS = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\\x[0-9a-f]+|[0-9]{15,}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9:]{8}(\.[0-9]+)?"
)
"""Ids, times, hashes and the number of the database server: six digits of a code may well be in them by chance."""


async def mailed_codes(bola: Person) -> list[str]:
    """Verify, forget, reset; wrongly, rightly, and once more."""
    codes = [bola.code]
    for code in (GUESS, codes[0], codes[0]):
        await bola.post("/v1/auth/verify-email", {"code": code})
    await bola.post("/v1/auth/verify-email/send")
    await bola.post("/v1/auth/password/forgot", {"email": bola.email})
    codes.append(bola.code)
    for code, password in ((GUESS, FRESH), (codes[1], WEAK), (codes[1], FRESH), (codes[1], FRESH)):
        await bola.post("/v1/auth/password/reset", {"email": bola.email, "code": code, "password": password})
    for password in (PASSWORD, FRESH):
        await bola.login(password)
    assert await bola.alive()
    return codes


async def second_factor(bola: Person) -> list[str]:
    """Begin, confirm, log in, lose it; gives everything that opened or could have."""
    await bola.post("/v1/auth/totp", {"password": WRONG})
    secret = (await bola.did("POST", "/v1/auth/totp", {"password": FRESH}))["secret"]
    app, clock = pyotp.TOTP(secret), bola.house.clock
    shown = [app.at(clock.now)]
    await bola.post("/v1/auth/totp/confirm", {"otp": OTP_GUESS})
    recovery = (await bola.did("POST", "/v1/auth/totp/confirm", {"otp": shown[0]}))["recovery_codes"]
    for otp in (None, OTP_GUESS, shown[0]):
        await bola.login(FRESH, **({"otp": otp} if otp else {}))
    clock.now += MINUTE
    shown.append(app.at(clock.now))
    for otp in (shown[1], shown[1], recovery[0], recovery[0]):
        await bola.login(FRESH, otp=otp)
    await bola.ask("DELETE", "/v1/auth/totp", {"password": FRESH, "otp": recovery[0]})
    await bola.did("DELETE", "/v1/auth/totp", {"password": FRESH, "otp": recovery[1]})
    return [secret, *shown, *recovery, *(code.replace("-", "") for code in recovery)]


async def sessions(bola: Person) -> list[str]:
    """Refresh, again, too late; log out, everywhere, one of them."""
    tokens = [dict(bola.tokens)]
    bola.tokens = (await bola.refresh()).json()
    tokens.append(bola.tokens)
    await bola.refresh(tokens[0]["refresh_token"])
    bola.house.clock.now += MINUTE
    await bola.refresh(tokens[0]["refresh_token"])
    await bola.refresh(tokens[1]["refresh_token"] + "x")
    await bola.ask("GET", "/v1/me", token=tokens[0]["refresh_token"])
    await bola.login(FRESH)
    tokens.append(bola.tokens)
    (own,) = [one["id"] for one in (await bola.get("/v1/sessions"))["items"] if one["current"]]
    await bola.ask("DELETE", f"/v1/sessions/{own}", {"password": WRONG})
    await bola.post("/v1/auth/switch", {"practice_id": tokens[0]["refresh_token"]})
    await bola.post("/v1/auth/password/change", {"password": WRONG, "new_password": PASSWORD})
    bola.tokens = await bola.did("POST", "/v1/auth/password/change", {"password": FRESH, "new_password": PASSWORD})
    tokens.append(bola.tokens)
    await bola.did("POST", "/v1/auth/logout-all", {"password": PASSWORD})
    for _ in range(6):
        await bola.login(WRONG)
    opened = [parse(one["refresh_token"]) for one in tokens]
    return [one[kind] for one in tokens for kind in ("access_token", "refresh_token")] + [
        str(token).split("_", 4)[4] for token in opened
    ]


async def invitations(house: House) -> list[str]:
    dayo, chidi = await house.person("Dayo"), house.stranger("Chidi")
    await dayo.invites(chidi, Role.ASSISTANT)
    secret = chidi.code
    await chidi.accepts(GUESS)
    await chidi.accepts(password=WEAK)
    await chidi.accepts()
    await chidi.accepts(secret)
    await chidi.did("POST", "/v1/practice/emergencies", {"reason": "Nobody can be reached."})
    await dayo.did("DELETE", f"/v1/practice/members/{chidi.id}")
    return [secret, *(tokens for person in (dayo, chidi) for tokens in list(person.tokens.values())[:2] if tokens)]


def texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else []


async def test_no_secret_reaches_the_log_the_trail_or_a_refusal(
    house: House, log: Callable[[], list[dict[str, Any]]], capfd: pytest.CaptureFixture[str]
) -> None:
    bola = await house.person("Bola")
    first = list(texts(bola.tokens["access_token"]) + texts(bola.tokens["refresh_token"]))
    secrets = [PASSWORD, FRESH, WRONG, WEAK, GUESS, OTP_GUESS, *first]
    codes = await mailed_codes(bola)
    secrets += codes + [code.replace(" ", "") for code in codes]
    secrets += await second_factor(bola)
    secrets += await sessions(bola)
    secrets += await invitations(house)
    assert len(secrets) > 40
    assert all(len(secret) >= 6 for secret in secrets)

    lines = log()
    assert {line["event"] for line in lines} >= {"AccountRegistered", "LoggedIn", "SessionClosed", "GlassBroken"}
    assert set().union(*lines) <= logs.ALLOWED
    refusals = [answer for answer in bola.answers if answer.is_error]
    assert {answer.json()["error"]["code"] for answer in refusals} >= {
        "ACCOUNT_LOCKED", "CODE_INVALID", "INVALID_CREDENTIALS", "INVALID_FIELDS", "NOT_AUTHENTICATED", "OTP_INVALID",
        "OTP_REQUIRED", "SESSION_ENDED",
    }  # fmt: skip
    entries = await house.container.database().pool.fetch("SELECT audit_entries::text AS entry FROM audit_entries")
    assert len(entries) >= 40
    places = {
        "log": json.dumps(lines, ensure_ascii=False) + "".join(capfd.readouterr()),
        "trail": "\n".join(row["entry"] for row in entries),
        "refusals": "\n".join(answer.text + str(dict(answer.headers)) for answer in refusals),
    }
    for where, text in places.items():
        said = NUMBERS.sub("", text.casefold())
        assert [secret for secret in secrets if secret.casefold() in said] == [], where


async def test_the_search_finds_what_is_there(house: House) -> None:
    bola = await house.person("Bola")
    code = code_in(bola.letters[-1])
    for text in (bola.letters[-1].text, f"wrong{code}", f"id={house.container.ids()()}{code}"):
        assert code in NUMBERS.sub("", text.casefold())
