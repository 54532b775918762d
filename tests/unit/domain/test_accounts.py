"""Registering, logging in, and what makes two e-mail addresses the same account."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.accounts import email_key, registration
from heallog.domain.errors import InvalidFields
from heallog.domain.fields import read
from heallog.domain.sessions import LOGIN

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
