"""The list of common passwords as it is shipped, and zxcvbn as it is asked."""

import asyncio
import random
import time
from importlib import resources

import pytest

from heallog.adapters.guesses import KnownGuesses
from heallog.adapters.security import Argon2Passwords
from heallog.domain.passwords import LONGEST, SHORTEST, STRONG, flaw

GUESSES = KnownGuesses()


def test_the_list_has_thousands_and_its_licence_is_beside_it() -> None:
    assert len(set(GUESSES.listed)) == len(GUESSES.listed) >= 3000
    assert {"password", "letmein", "qwerty123456"} <= set(GUESSES.listed)
    data = resources.files("heallog.adapters") / "data"
    notice = (data / "common-passwords.LICENSE").read_text(encoding="utf-8")
    assert "Permission is hereby granted, free of charge" in notice
    assert "Dropbox" in notice
    assert "Daniel Wolf" in notice


def decorated(word: str) -> list[str]:
    """Ways to make a common password as long as it has to be."""
    missing = max(SHORTEST - len(word), 1)
    if not any(map(str.isalpha, word)):
        return [word.ljust(SHORTEST, "!"), word.rjust(SHORTEST, "#")]
    date = "19840523!"[:missing] if missing < 9 else "19840523!" * 2
    return [
        word.ljust(SHORTEST, "!"),
        word.capitalize() + date,
        date + word.upper(),
        (word * SHORTEST)[: max(SHORTEST, 2 * len(word))],
    ]


def test_no_listed_password_is_taken_however_it_is_decorated() -> None:
    taken = [
        password
        for word in GUESSES.listed
        for password in ([word] if len(word) >= SHORTEST else []) + decorated(word)
        if flaw(password, [], GUESSES) is None
    ]
    assert taken == []


def test_every_long_listed_password_is_listed_in_other_letters_too() -> None:
    for word in (word for word in GUESSES.listed if len(word) >= SHORTEST):
        spelled_oddly = word.translate(str.maketrans("aeos", "@30$")).upper()
        assert flaw(spelled_oddly, [], GUESSES) in {"common", "sequence", "repeats"}


@pytest.mark.parametrize("password", ["monkeydragon", "jennifer1984", "michaelsmith", "yankeesfootball"])
def test_what_zxcvbn_guesses_is_weak(password: str) -> None:
    assert GUESSES.strength(password) < STRONG
    assert flaw(password, [], GUESSES) in {"weak", "common"}


@pytest.mark.parametrize(
    "password",
    [
        "seven quiet herons",
        "correct horse battery",
        "eleven slow barges",
        "Tr4-q9#vLx2!",
        "северный ветер утих",
        "静かな七羽の鷺が川辺に立つ",
        "a" * 80 + "seven quiet herons",
        "seven quiet herons" + "a" * 80,
    ],
)
def test_what_is_hard_to_guess_is_taken(password: str) -> None:
    assert flaw(password, [], GUESSES) is None


SIGNS = "4@8({[<369#!1/|0$5+7%2"


@pytest.mark.parametrize(
    "password",
    [
        SIGNS * 6,
        "".join(random.Random(1).choices(SIGNS, k=LONGEST)),
        "".join(random.Random(1).choices("aA4@", k=LONGEST)),
        "1" * LONGEST,
        "password" * 16,
        "qwerty1q2w3e" * 10,
    ],
)
def test_nobody_can_keep_the_server_busy_with_a_password(password: str) -> None:
    GUESSES.strength("warm")
    begun = time.process_time()
    GUESSES.strength(password[:LONGEST])
    flaw(password[:LONGEST], ["a b c d e f"] * 3, GUESSES)
    assert time.process_time() - begun < 0.6


def test_nothing_has_no_strength() -> None:
    assert GUESSES.strength("") == 0


async def test_a_password_from_another_keyboard_is_the_same_password() -> None:
    passwords = Argon2Passwords()
    kept = await asyncio.gather(passwords.hash("Amélie a mangé"), passwords.hash("Ame\u0301lie\u00a0a mange\u0301"))
    for one in kept:
        assert await passwords.verify(one, "Amélie a mangé")
        assert await passwords.verify(one, "Ame\u0301lie a\u3000mange\u0301")
        assert not await passwords.verify(one, "Amelie a mange")
