"""Registering, logging in, and what makes two e-mail addresses the same account."""

import hashlib
import re
from base64 import b32decode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.accounts import (
    RECOVERY_CODES,
    RECOVERY_SIZE,
    Account,
    check_password,
    email_key,
    recovered,
    recovery_codes,
    recovery_digest,
    registration,
)
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import read
from heallog.domain.sessions import LOGIN

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

DR_OKAFOR = {
    "email": "Ada.Okafor@northside.example",
    "password": "kettle violin harbour",
    "name": "Ada Okafor",
    "practice_name": "Northside",
}


class Guesses:
    """Finds everything strong, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def common(self, skeleton: str) -> bool:
        return skeleton == "password"

    def strength(self, text: str) -> int:
        self.asked.append(text)
        return 4


def refused(body: dict[str, Any], undeliverable: str | None = None) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refusal:
        registration(body, Guesses(), undeliverable)
    return [(error.field, error.code) for error in refusal.value.errors]


def test_dr_okafor_registers_as_she_wrote_herself() -> None:
    assert registration(DR_OKAFOR, Guesses()) == DR_OKAFOR


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"password": "short"}, [("password", "too_short")]),
        ({"password": "x" * 129}, [("password", "too_long")]),
        ({"password": "kettle\x00violin\x00harbour"}, [("password", "character")]),
        ({"password": "tab\x00"}, [("password", "character"), ("password", "too_short")]),
        ({"password": " ada.okafor@NORTHSIDE.example"}, [("password", "guessable")]),
        ({"password": "Okafor - 1984"}, [("password", "guessable")]),
        ({"password": "Northside, 1984"}, [("password", "guessable")]),
        ({"password": "Grace Lindqvist", "name": "Grace Lindqvist"}, [("password", "guessable")]),
        ({"password": "Password1984"}, [("password", "common")]),
        ({"password": "Password1984", "name": " "}, [("name", "too_short"), ("password", "common")]),
        ({"password": "Password1984", "email": 7}, [("email", "type"), ("password", "common")]),
        ({"password": 123456789012}, [("password", "type")]),
        ({"password": None}, [("password", "required")]),
        ({"email": None}, [("email", "required")]),
        ({"email": ["a@b.example"]}, [("email", "type")]),
        ({"email": "ab"}, [("email", "too_short")]),
        ({"email": "a" * 255}, [("email", "too_long")]),
        ({"email": "ada@northside.example\nBcc: all@example"}, [("email", "character")]),
        ({"name": "  "}, [("name", "too_short")]),
        ({"practice_name": ""}, [("practice_name", "too_short")]),
        ({"role": "owner"}, [("role", "unknown")]),
    ],
)
def test_what_a_registration_refuses(change: dict[str, Any], errors: list[tuple[str, str]]) -> None:
    assert refused({**DR_OKAFOR, **change}) == errors


def test_an_empty_registration_hears_everything_at_once() -> None:
    assert refused({}) == [(name, "required") for name in ("email", "password", "name", "practice_name")]


def test_an_address_that_is_none_is_named_beside_the_password() -> None:
    body = {**DR_OKAFOR, "password": "Password1984"}
    assert refused(body, "no such place") == [("email", "email"), ("password", "common")]


def test_a_password_that_is_none_is_not_judged() -> None:
    guesses = Guesses()
    with pytest.raises(InvalidFields):
        registration({**DR_OKAFOR, "password": "x" * 129}, guesses)
    assert guesses.asked == []
    registration(DR_OKAFOR, guesses)
    assert guesses.asked == [DR_OKAFOR["password"]]


@given(st.emails())
def test_case_and_spaces_around_it_make_no_second_account(email: str) -> None:
    assert email_key(f" {email.upper()} ") == email_key(email) == email_key(email_key(email))


def test_other_letters_make_another_account() -> None:
    assert email_key("ada@northside.example") != email_key("ada@northside.example.net")


def test_a_login_names_its_device_or_does_not() -> None:
    login = {"email": "ada@northside.example", "password": "kettle violin harbour"}
    assert read(LOGIN, login) == login
    assert read(LOGIN, {**login, "device_id": "tablet-1"})["device_id"] == "tablet-1"
    assert read(LOGIN, {**login, "password": "x"})["password"] == "x"
    with pytest.raises(InvalidFields) as refusal:
        read(LOGIN, {**login, "device_id": "../tablet"})
    assert refusal.value.field == "device_id"


# -- another password ---------------------------------------------------------------------------------------------

ABOUT = ["ada.okafor@northside.example", "Ada Okafor", "Northside"]


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("short", "too_short"),
        ("x" * 129, "too_long"),
        ("kettle\nviolin harbour", "character"),
        ("Password1984", "common"),
        ("Okafor - 1984", "guessable"),
        ("Northside, 1984", "guessable"),
        ("HealLog, 1984", "guessable"),
    ],
)
def test_another_password_follows_the_rules_of_the_first(password: str, code: str) -> None:
    with pytest.raises(InvalidFields) as refusal:
        check_password(password, ABOUT, Guesses(), "new_password")
    assert [(error.field, error.code) for error in refusal.value.errors] == [("new_password", code)]


def test_another_password_that_is_a_good_one_passes() -> None:
    check_password("kettle violin harbour", ABOUT, Guesses())
    guesses = Guesses()
    with pytest.raises(InvalidFields) as refusal:
        check_password("short", ABOUT, guesses)
    assert (refusal.value.field, guesses.asked) == ("password", [])


# -- recovery codes -----------------------------------------------------------------------------------------------

CHANCE = st.binary(min_size=RECOVERY_CODES * RECOVERY_SIZE, max_size=RECOVERY_CODES * RECOVERY_SIZE)


def ada(*codes: str, **other: Any) -> Account:
    digests = tuple(map(recovery_digest, codes))
    return Account("ada", "a@b.example", "a@b.example", "Ada", "a hash", NOON, recovery=digests, **other)


@given(CHANCE)
def test_a_recovery_code_is_120_random_bits_in_letters_that_can_be_typed(chance: bytes) -> None:
    codes = recovery_codes(chance)
    assert len(codes) == 10
    assert all(re.fullmatch(r"[A-Z2-7]{6}(-[A-Z2-7]{6}){3}", code) for code in codes)
    assert b"".join(b32decode(code.replace("-", "")) for code in codes) == chance


@given(CHANCE, st.integers(0, 9), st.sampled_from(["-", "", " ", " - ", "\u2013", "."]), st.booleans())
def test_a_recovery_code_may_be_typed_in_any_way(chance: bytes, which: int, between: str, small: bool) -> None:
    codes = recovery_codes(chance)
    typed = f" {codes[which].replace('-', between)} "
    after = recovered(ada(*codes), typed.lower() if small else typed)
    assert after is not None
    assert recovery_digest(codes[which]) not in after.recovery


@given(st.binary(min_size=300, max_size=300), st.permutations(range(10)))
def test_each_recovery_code_is_good_once_in_any_order(chance: bytes, order: list[int]) -> None:
    codes, others = recovery_codes(chance[:150]), recovery_codes(chance[150:])
    account = ada(*codes, totp=b"sealed", totp_step=7)
    for left, which in enumerate(order, 1):
        after = recovered(account, codes[which])
        if codes[which] in [codes[used] for used in order[: left - 1]]:
            assert after is None
            continue
        assert after is not None
        assert replace(after, recovery=account.recovery) == account
        assert recovered(after, codes[which]) is None
        account = after
    assert account.recovery == ()
    assert all(recovered(ada(*codes), other) is None for other in others if other not in codes)


@pytest.mark.parametrize("said", ["", " ", "-", "123456", "AAAAAA-AAAAAA-AAAAAA"])
def test_nothing_like_a_recovery_code_is_one(said: str) -> None:
    assert recovered(ada(*recovery_codes(bytes(range(150)))), said) is None
    assert recovered(ada(), said) is None


def test_of_recovery_codes_only_hashes_are_kept_and_nothing_secret_is_shown() -> None:
    codes = recovery_codes(bytes(range(150)))
    account = ada(*codes, totp=b"the sealed secret")
    assert account.recovery[0] == hashlib.sha256(codes[0].replace("-", "").encode()).digest()
    shown = repr(account)
    assert not any(secret in shown for secret in ("a hash", "the sealed secret", "recovery", *codes))


def test_a_second_factor_asks_for_nothing_before_it_is_confirmed() -> None:
    assert not ada(totp=b"sealed").second_factor
    assert ada(totp=b"sealed", totp_confirmed_at=NOON).second_factor
