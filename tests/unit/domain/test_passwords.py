"""What a password is, and which ones are refused although they are long enough."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heallog.domain.errors import FieldError
from heallog.domain.passwords import FLAWS, LONGEST, SHORTEST, Password, flaw, folded, skeletons, spelled

ABOUT = ["ada.okafor@kestrel.example", "Dr Ada Okafor-Núñez", "Northside Clinic 王伟"]


class Guesses:
    """Five common passwords; and whatever has ten characters is strong."""

    words = frozenset(
        each for word in ("password", "trustno1", "123456", "love", "sunshine") for each in skeletons(word)
    )

    def common(self, skeleton: str) -> bool:
        return skeleton in self.words

    def strength(self, text: str) -> int:
        return 3 if len(text) >= 10 else 2


def judged(password: str) -> str | None:
    return flaw(password, ABOUT, Guesses())


def refused(value: object, shortest: int = SHORTEST) -> list[str]:
    errors: list[FieldError] = []
    assert Password(shortest).check(value, "password", errors) == value
    return [error.code for error in errors]


# -- spelling and length ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Amélie a mangé", "Ame\u0301lie a mange\u0301"),
        ("한글 비밀번호 입력", unicodedata.normalize("NFD", "한글 비밀번호 입력")),
        ("kettle violin harbour", "kettle\u00a0violin\u3000harbour"),
        ("\u212bngström seven", "Ångström seven"),
    ],
)
def test_two_keyboards_spell_one_password(one: str, other: str) -> None:
    assert one != other
    assert spelled(one) == spelled(other)


@pytest.mark.parametrize(("one", "other"), [("Kettle", "kettle"), ("é", "e"), ("x²", "x2"), ("a b", "ab"), (" a", "a")])
def test_other_characters_spell_another_password(one: str, other: str) -> None:
    assert spelled(one) != spelled(other)


@pytest.mark.parametrize(
    ("text", "seen"),
    [("PÁSSWÓRD", "password"), ("\uff30\uff21ss", "pass"), ("Straße", "strasse"), ("한글", "한글"), ("\u0130", "i")],
)
def test_guessing_sees_through_case_accents_and_width(text: str, seen: str) -> None:
    assert folded(text) == seen == folded(seen)


@given(st.text())
def test_there_is_one_spelling(password: str) -> None:
    forms = {spelled(unicodedata.normalize(form, password)) for form in ("NFC", "NFD")}
    assert forms == {spelled(password)} == {spelled(spelled(password))}


@pytest.mark.parametrize(
    ("password", "codes"),
    [
        ("x" * (SHORTEST - 1), ["too_short"]),
        ("x" * SHORTEST, []),
        ("x" * LONGEST, []),
        ("x" * (LONGEST + 1), ["too_long"]),
        ("e\u0301" * (SHORTEST - 1), ["too_short"]),
        ("e\u0301" * LONGEST, []),
        ("🦢" * SHORTEST, []),
        ("kettle\x00violin\x00harbour", ["character"]),
        ("tab\t", ["character", "too_short"]),
        ("kettle \ud800 violin", ["character"]),
        (123456789012, ["type"]),
    ],
)
def test_length_is_that_of_the_one_spelling(password: object, codes: list[str]) -> None:
    assert refused(password) == codes


def test_who_logs_in_is_told_nothing_about_the_shortest() -> None:
    assert refused("x", shortest=0) == []
    assert "minLength" not in Password().schema()
    assert Password(SHORTEST).schema() == {"type": "string", "minLength": 12, "maxLength": 128}


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("aaaaaaaaaaaa", "repeats"),
        ("é" * LONGEST, "repeats"),
        ("xyzwxyzwxyzw", "repeats"),
        ("Heron heron HERON", "repeats"),
        ("gull-gull_gull", "repeats"),
        ("kettlekettlek", "repeats"),
        ("abbabbbabaab", "repeats"),
        ("123456789012", "sequence"),
        ("210987654321", "sequence"),
        ("abcdefghijkl", "sequence"),
        ("αβγδεζηθικλμ", "sequence"),
        ("qwertyuiopas", "sequence"),
        ("йцукенгшщзхъ", "sequence"),
        ("poiuytrewqlk", "sequence"),
        ("qazwsxedcrfv", "sequence"),
        ("1qaz2wsx3edc", "sequence"),
        ("zyxwvu!98765", "sequence"),
        ("password2024", "common"),
        ("PassWord!2024", "common"),
        ("p@55w0rd1984", "common"),
        ("#1-pássword-#1", "common"),
        ("\uff50\uff41\uff53\uff53word1984", "common"),
        ("p a s s w o r d 7", "common"),
        ("drowssap1984", "common"),
        ("trustno1!?!?", "common"),
        ("??!123456!??", "common"),
        ("love19840523", "common"),
        ("1ove19840523", "common"),
        ("sunsh1ne1984", "common"),
        ("ada.okafor@KESTREL.example", "guessable"),
        ("okafor.ada.84", "guessable"),
        ("ada - ada - 3!", "guessable"),
        ("0k4f0r-1984-x", "guessable"),
        ("nunez-okafor-9", "guessable"),
        ("KestrelKestr 7", "guessable"),
        ("northside 2024!", "guessable"),
        ("HealLog-2024-x", "guessable"),
        ("王伟 7 王伟 2024", "guessable"),
        ("northside password1984", "guessable"),
        ("northside @#$%&*?!;:<>", "guessable"),
    ],
)
def test_what_is_refused_and_why(password: str, why: str) -> None:
    assert len(spelled(password)) >= SHORTEST
    assert judged(password) == why


@pytest.mark.parametrize(
    "password",
    [
        "seven quiet herons",
        "kettle violin harbour",
        "северный ветер утих",
        "静かな七羽の鷺が川辺に立つ",
        "739205814637",
        "love198405237",
        "4812345609178",
        "northside keeps seven quiet herons",
        "ad okaf kettle",
        "dr hydra drum",
        "7!&*%;?@:<>_7",
        "🦢🎻🫖⚓🌾🧊🪁🪶🪨🧭🪴🛶",
    ],
)
def test_what_is_accepted(password: str) -> None:
    assert judged(password) is None


def test_what_a_library_calls_weak_is_weak() -> None:
    class Strict(Guesses):
        def strength(self, text: str) -> int:
            return 2

    assert flaw("kettle violin harbour", ABOUT, Strict()) == "weak"


def test_without_the_names_only_the_rest_counts() -> None:
    assert judged("northside heron 7") == "guessable"
    assert flaw("northside heron 7", [], Guesses()) is None


ANY = st.characters(categories=["L", "N", "P", "S"]).filter(lambda char: len(folded(char)) == 1)


@given(st.lists(ANY, min_size=SHORTEST, max_size=LONGEST, unique_by=folded))
def test_whatever_nobody_guesses_is_accepted(characters: list[str]) -> None:
    ordered = sorted(characters, key=folded)
    half = len(ordered) // 2
    password = "".join(low + high for low, high in zip(ordered[:half], ordered[half:], strict=False))
    assume(SHORTEST <= len(spelled(password)) <= LONGEST)
    assume(all(abs(ord(one) - ord(other)) > 1 for one, other in pairwise(folded(password))))
    assert refused(password) == []
    assert flaw(password, [], Guesses()) is None


@given(st.text(max_size=2 * LONGEST), st.lists(st.text(max_size=30), max_size=3))
def test_every_password_gets_a_verdict(password: str, about: list[str]) -> None:
    assert flaw(password, about, Guesses()) in {None, *FLAWS}


def test_every_refusal_says_what_to_do() -> None:
    errors: list[FieldError] = []
    Password(SHORTEST).check("short", "password", errors)
    for message in (errors[0].message, *FLAWS.values()):
        assert "words work well" in message
