"""Registering, logging in, and what makes two e-mail addresses the same account."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.accounts import PASSWORD, SHORTEST_PASSWORD, email_key, registration
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import read
from heallog.domain.sessions import LOGIN

DR_OKAFOR = {
    "email": "Ada.Okafor@northside.example",
    "password": "kettle violin harbour",
    "name": "Ada Okafor",
    "practice_name": "Northside",
}


def refused(body: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refusal:
        registration(body)
    return [(error.field, error.code) for error in refusal.value.errors]


def test_dr_okafor_registers_as_she_wrote_herself() -> None:
    assert registration(DR_OKAFOR) == DR_OKAFOR


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"password": "short"}, [("password", "too_short")]),
        ({"password": "x" * (SHORTEST_PASSWORD - 1)}, [("password", "too_short")]),
        ({"password": "x" * 129}, [("password", "too_long")]),
        ({"password": "kettle\x00violin\x00harbour"}, [("password", "character")]),
        ({"password": "tab\x00"}, [("password", "character"), ("password", "too_short")]),
        ({"password": " ada.okafor@NORTHSIDE.example"}, [("password", "guessable")]),
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


@pytest.mark.parametrize("length", [SHORTEST_PASSWORD, PASSWORD.longest])
def test_a_password_of_either_allowed_extreme(length: int) -> None:
    assert registration({**DR_OKAFOR, "password": "é" * length})


@given(st.emails())
def test_case_and_spaces_around_it_make_no_second_account(email: str) -> None:
    assert email_key(f" {email.upper()} ") == email_key(email) == email_key(email_key(email))


def test_other_letters_make_another_account() -> None:
    assert email_key("ada@northside.example") != email_key("ada@northside.example.net")


def test_a_login_names_its_device_or_does_not() -> None:
    login = {"email": "ada@northside.example", "password": "kettle violin harbour"}
    assert read(LOGIN, login) == login
    assert read(LOGIN, {**login, "device_id": "tablet-1"})["device_id"] == "tablet-1"
    with pytest.raises(InvalidFields) as refusal:
        read(LOGIN, {**login, "device_id": "../tablet"})
    assert refusal.value.field == "device_id"
