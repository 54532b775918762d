"""Codes of authenticator apps are good now and a step ago, whatever key they are kept under; a hash tells its age."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.adapters.security import Argon2Passwords, TotpAuthenticators, deliverable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP = int(NOON.timestamp()) // 30
KEY, OLD = b"k" * 32, b"o" * 32
APP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
OURS = TotpAuthenticators([KEY, OLD])
SEALED = OURS.sealed(APP)


def shown(seconds: float = 0) -> str:
    return pyotp.TOTP(APP).at(NOON + timedelta(seconds=seconds))


# -- codes of apps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "step"), [(0, STEP), (29, STEP), (-1, STEP - 1), (-30, STEP - 1)])
def test_the_present_code_is_good_and_the_one_before(seconds: int, step: int) -> None:
    assert OURS.step(SEALED, shown(seconds), NOON) == step


@pytest.mark.parametrize("seconds", [-31, 30, 3_600, -86_400])
def test_no_other_is(seconds: int) -> None:
    assert OURS.step(SEALED, shown(seconds), NOON) is None


def test_a_code_may_be_typed_with_a_space() -> None:
    code = shown()
    assert OURS.step(SEALED, f" {code[:3]} {code[3:]}\n", NOON) == STEP


@given(st.text(max_size=12))
def test_nothing_else_is_a_code(said: str) -> None:
    if "".join(said.split()) not in {shown(), shown(-30)}:
        assert OURS.step(SEALED, said, NOON) is None


def test_digits_of_other_scripts_are_no_code() -> None:
    assert OURS.step(SEALED, "".join(chr(0x660 + int(digit)) for digit in shown()), NOON) is None


# -- keys ---------------------------------------------------------------------------------------------------------


def test_a_secret_is_kept_under_the_servers_key_and_outlives_a_change_of_it() -> None:
    assert APP.encode() not in SEALED
    before = TotpAuthenticators([OLD]).sealed(APP)
    assert OURS.step(before, shown(), NOON) == STEP
    assert TotpAuthenticators([KEY]).step(before, shown(), NOON) is None
    assert TotpAuthenticators([KEY]).step(b"no secret at all", shown(), NOON) is None
    after = OURS.resealed(before)
    assert after is not None
    assert TotpAuthenticators([KEY]).step(after, shown(), NOON) == STEP
    assert OURS.resealed(after) is None


def test_each_secret_is_another_one_and_an_app_can_read_it() -> None:
    assert OURS.new() != OURS.new()
    read = pyotp.parse_uri(OURS.uri(APP, "ada@north.example"))
    assert (read.secret, read.name, read.issuer) == (APP, "ada@north.example", "HealLog")


# -- passwords ----------------------------------------------------------------------------------------------------

CHEAP = Argon2Passwords(passes=1, mebibytes=1, lanes=1)


async def test_a_password_is_right_or_not_and_nobody_has_none() -> None:
    made = await CHEAP.hash("kettle violin harbour")
    assert await CHEAP.verify(made, "kettle violin harbour")
    assert not await CHEAP.verify(made, "kettle violin harbou")
    assert not await CHEAP.verify(None, "kettle violin harbour")
    assert not await CHEAP.verify("no hash", "kettle violin harbour")


async def test_a_hash_of_other_parameters_is_outdated_and_still_good() -> None:
    made = await CHEAP.hash("kettle violin harbour")
    dearer = Argon2Passwords(passes=2, mebibytes=1, lanes=1)
    assert not CHEAP.outdated(made)
    assert dearer.outdated(made)
    assert await dearer.verify(made, "kettle violin harbour")


async def test_two_keyboards_write_one_password() -> None:
    made = await CHEAP.hash("ke\u0301ttle\u00a0violin harbour")
    assert await CHEAP.verify(made, "k\u00e9ttle violin\u2003harbour")


# -- addresses ----------------------------------------------------------------------------------------------------


def test_an_address_is_one_or_it_is_said_why_not() -> None:
    deliverable(" ada@north.test ")
    for email in ("", "ada", "ada@", "ada@north", "a b@north.test", "ada@north.test\nBcc: x@x.test"):
        with pytest.raises(ValueError):
            deliverable(email)
