"""Patients: what is kept of them, and how they are found however their names are typed."""
# ruff: noqa: RUF001 - letters that look like others are what this is about

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heallog.domain import patients
from heallog.domain.errors import InvalidFields
from heallog.domain.patients import Query, SearchKey, may_be_another, normalise, query, search_key

ALICE = {"family_name": "O'Hálloran-Ñuñez", "given_name": "Alice Maria", "birth_date": "1980-05-17"}

Content = dict[str, Any]


# -- what is kept -------------------------------------------------------------------------------------------------


def refused(content: Content | None, body: Content) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refusal:
        patients.new(body) if content is None else patients.changed(content, body)
    return [(error.field, error.code) for error in refusal.value.errors]


def test_a_new_patient_is_kept_as_written() -> None:
    assert patients.new({**ALICE, "phone": None}) == ALICE


@pytest.mark.parametrize("name", ["family_name", "given_name"])
def test_one_name_is_enough(name: str) -> None:
    assert patients.new({name: "Sukarno"}) == {name: "Sukarno"}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("family_name", "required")]),
        ({"family_name": " ", "given_name": "\u00a0"}, [("family_name", "required")]),
        ({"birth_date": "2023-02-30", "sex": "F", "shoe_size": 43, "identifiers": [{"system": "urn:x"}]}, [
            ("birth_date", "date"),
            ("sex", "choice"),
            ("shoe_size", "unknown"),
            ("identifiers.0.value", "required"),
        ]),
        ({"given_name": "Alice", "contacts": [{"name": "Bob"}, {"phone": 5}]}, [
            ("contacts.1.phone", "type"), ("contacts.1.name", "required"),
        ]),
        ({"given_name": "Alice", "tags": ["ok", ""]}, [("tags.1", "too_short")]),
        ({"given_name": "A\x00lice"}, [("given_name", "character")]),
    ],
)  # fmt: skip
def test_what_a_new_patient_refuses(body: Content, errors: list[tuple[str, str]]) -> None:
    assert refused(None, body) == errors


def test_a_change_sets_some_fields_takes_away_others_and_leaves_the_rest() -> None:
    assert patients.changed(ALICE, {"birth_date": None, "phone": "030 1234567", "tags": ["b", "a", "b"]}) == {
        "family_name": "O'Hálloran-Ñuñez",
        "given_name": "Alice Maria",
        "phone": "030 1234567",
        "tags": ["b", "a"],
    }
    assert patients.changed(ALICE, {}) == ALICE


def test_a_change_may_not_take_the_last_name_away() -> None:
    assert "family_name" not in patients.changed(ALICE, {"family_name": None})
    assert refused(ALICE, {"family_name": None, "given_name": None}) == [("family_name", "required")]
    assert refused(ALICE, {"birth_date": 1980}) == [("birth_date", "type")]


def test_a_patient_without_a_name_breaks_the_rule_about_both() -> None:
    (broken,) = patients.MERGEABLE.broken({"given_name": " ", "phone": "030 1234567"})
    assert broken.fields == ("family_name", "given_name")
    assert (broken.error.field, broken.error.code) == ("family_name", "required")
    assert patients.MERGEABLE.broken(ALICE) == []
    assert patients.MERGEABLE.derive(ALICE) == ALICE


@pytest.mark.parametrize(
    ("incoming", "another"),
    [
        (ALICE, False),
        ({**ALICE, "family_name": "Smith"}, False),
        ({**ALICE, "birth_date": "1980-05-18"}, False),
        ({**ALICE, "family_name": "OHALLORAN NUNEZ", "birth_date": None}, False),
        ({**ALICE, "family_name": "Smith", "birth_date": "1980-05-18"}, True),
        ({"given_name": "Alice Maria"}, True),
    ],
)
def test_who_looks_like_someone_else_under_the_same_id(incoming: Content, another: bool) -> None:
    assert may_be_another(ALICE, incoming) is another
    assert may_be_another(incoming, ALICE) is another


def test_an_animal_known_by_its_name_alone() -> None:
    assert may_be_another({"given_name": "Bella"}, {"given_name": "BELLA", "species": "dog"}) is False
    assert may_be_another({"given_name": "Bella"}, {"given_name": "Rex"}) is True


# -- names without their clothes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("O'Hálloran-Ñuñez", "ohalloran nunez"),
        ("O’BRIEN", "obrien"),
        ("OʼBrien", "obrien"),
        ("O`Brien", "obrien"),
        ("O´Brien", "obrien"),
        ("Straße", "strasse"),
        ("STRASSE", "strasse"),
        ("GROẞ", "gross"),
        ("Søren Kjær", "soren kjaer"),
        ("Łukasz Wałęsa", "lukasz walesa"),
        ("Đặng Thị", "dang thi"),
        ("Þórður Sæmundsson", "thordur saemundsson"),
        ("Œuvrard", "oeuvrard"),
        ("IŞIK Işık ışık", "isik isik isik"),
        ("İzmir", "izmir"),
        ("Ħal Ŧ", "hal t"),
        ("Zoe\u0308", "zoe"),
        ("Zoë", "zoe"),
        ("ﬁsher", "fisher"),
        ("Ｗｉｄｅ", "wide"),
        ("van\u200bder\u00a0Berg", "vander berg"),
        ("  Mary--Ann,  jr. ", "mary ann jr"),
        ("snake_case", "snake case"),
        ("Νίκος Παπαδόπουλος", "νικοσ παπαδοπουλοσ"),
        ("Достоевский", "достоевскии"),
        ("مُحَمَّد", "محمد"),
        ("أحمد", "احمد"),
        ("שָׁלוֹם", "שלום"),
        ("山田 太郎", "山田 太郎"),
        ("やまだ", "やまた"),
        ("+49 (30) 123-45", "49 30 123 45"),
        ("👩‍⚕️", ""),
        ("", ""),
    ],
)
def test_a_name_without_case_accents_and_punctuation(written: str, plain: str) -> None:
    assert normalise(written) == plain


def test_hangul_is_the_same_however_it_was_composed() -> None:
    assert normalise("김철수") == normalise("\u1100\u1175\u11b7\u110e\u1165\u11af\u1109\u116e") != ""
    assert " " not in normalise("김철수")


@pytest.mark.parametrize("name", ["सुनीता", "செல்வி", "วันดี"])
def test_a_word_with_vowel_signs_stays_one_word(name: str) -> None:
    assert " " not in normalise(name)


@given(st.text(max_size=30))
def test_a_plain_name_is_words_of_letters_and_digits_and_stays_as_it_is(text: str) -> None:
    plain = normalise(text)
    assert normalise(plain) == plain
    assert plain == " ".join(plain.split())
    assert all(word.isalnum() for word in plain.split())


@given(st.text(st.characters(categories=["Lu", "Ll", "Nd"]), max_size=20))
def test_case_is_nothing(text: str) -> None:
    assert normalise(text.upper()) == normalise(text.upper().lower())


# -- finding ------------------------------------------------------------------------------------------------------


def exact(key: SearchKey, asked: Query) -> bool:
    """As the store runs it."""
    likes = (re.escape(pattern).replace("%", ".*") for pattern in asked.contains)
    return set(asked.must) <= set(key.trigrams) and all(re.fullmatch(like, key.words) for like in likes)


def forgiving(key: SearchKey, asked: Query) -> bool:
    likes = (re.escape(pattern).replace("%", ".*") for pattern in asked.codes)
    shared = set(key.trigrams) & set(asked.fuzzy)
    return all(re.fullmatch(like, key.words) for like in likes) and len(shared) >= asked.enough


def found(content: Content, typed: str) -> str:
    key, asked = search_key("northside", content), query("northside", typed)
    return "exactly" if exact(key, asked) else "forgivingly" if asked.fuzzy and forgiving(key, asked) else "no"


AMADOU = {
    "family_name": "Diallo-Łoś",
    "given_name": "Amadou",
    "other_names": ["Doudou"],
    "phone": "+49 (30) 123 45-67",
    "identifiers": [{"value": "MRN-00 42/7"}],
    "telecom": [
        {"system": "sms", "value": "0171 5550001"},
        {"system": "email", "value": "amadou@example.net"},
        {"value": "555 0002"},
    ],
    "contacts": [{"name": "Fatou", "phone": "555 0003"}, {"name": "Moussa"}],
    "tags": ["diabetes"],
}


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        ("Diallo", "exactly"),
        ("dia", "exactly"),
        ("D", "exactly"),
        ("amadou diallo", "exactly"),
        ("LOS", "exactly"),
        ("doud", "exactly"),
        ("am di lo", "exactly"),
        ("12345", "exactly"),
        ("30 123 45 67", "exactly"),
        ("+49 30 1234567", "exactly"),
        ("00427", "exactly"),
        ("MRN-00427", "exactly"),
        ("42/7", "exactly"),
        ("1715550001", "exactly"),
        ("5550002", "exactly"),
        ("555 0003", "exactly"),
        ("amadou 4567", "exactly"),
        ("45", "exactly"),
        ("Dialo", "forgivingly"),
        ("Amadu Diallo", "forgivingly"),
        ("Amadu 4567", "forgivingly"),
        ("iallo", "forgivingly"),
        ("Amadu 4568", "no"),
        ("00428", "no"),
        ("Smith", "no"),
        ("allo", "forgivingly"),
        ("diabetes", "no"),
        ("Fatou", "no"),
        ("amadou@example.net", "no"),
        ("amadou smith 4567", "forgivingly"),
    ],
)
def test_who_is_found_by_what(typed: str, how: str) -> None:
    assert found(AMADOU, typed) == how


@pytest.mark.parametrize("typed", ["", "  ", "%", "_", "'", "👩‍⚕️", "\\"])
def test_nothing_typed_asks_for_nothing(typed: str) -> None:
    asked = query("northside", typed)
    assert (asked.must, asked.contains, asked.codes, asked.fuzzy) == ((), (), (), ())


def test_a_query_has_a_length() -> None:
    assert query("northside", "x" * 200).contains
    with pytest.raises(InvalidFields) as refusal:
        query("northside", "x" * 201)
    assert refusal.value.field == "q"


@given(st.text(max_size=60))
def test_what_is_typed_never_becomes_a_pattern_of_its_own(typed: str) -> None:
    for pattern in query("northside", typed).contains:
        assert re.fullmatch(r"% [^\W_]+%|%(#%)?[^\W_]+%", pattern)


@pytest.mark.parametrize("typed", ["Abbott774", "Aaron697 Abbott774", "abbott7"])
def test_a_name_with_digits_is_found(typed: str) -> None:
    assert found({"family_name": "Abbott774", "given_name": "Aaron697"}, typed) == "exactly"


LETTERS = st.text(st.characters(categories=["L"]), min_size=1, max_size=10)
NAMES = st.lists(LETTERS, min_size=1, max_size=4).map(" ".join)


@given(NAMES, st.data())
def test_every_beginning_of_every_word_finds_it(name: str, data: st.DataObject) -> None:
    words = normalise(name).split()
    assume(words)
    word = data.draw(st.sampled_from(words))
    typed = word[: data.draw(st.integers(1, len(word)))]
    assert found({"given_name": name}, typed) == "exactly"


LATIN = "abcdefghijklmnopqrstuvwxyz"


@given(st.text(LATIN, min_size=5, max_size=12), st.data())
def test_one_wrong_missing_or_extra_letter_is_forgiven(name: str, data: st.DataObject) -> None:
    at, letter = data.draw(st.integers(0, len(name) - 1)), data.draw(st.sampled_from(LATIN))
    wrong, missing, extra = (
        name[:at] + letter + name[at + 1 :],
        name[:at] + name[at + 1 :],
        name[:at] + letter + name[at:],
    )
    for typed in (wrong, missing, extra):
        assert found({"family_name": name}, typed) != "no", typed


@given(st.text(LATIN, min_size=6, max_size=12), st.data())
def test_two_letters_in_the_wrong_order_are_forgiven_in_longer_names(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    typed = name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    assert found({"family_name": name}, typed) != "no"


@given(NAMES, st.text("0123456789", min_size=3, max_size=10))
def test_a_wrong_number_never_shows_another_person(name: str, number: str) -> None:
    key = search_key("northside", {"given_name": name, "identifiers": [{"value": "77-" + "0" * 20}]})
    assume(set(number) - {"0", "7"})
    asked = query("northside", f"{name} {number}")
    assert not exact(key, asked)
    assert not forgiving(key, asked)


@given(NAMES)
def test_the_index_of_one_practice_says_nothing_to_another(name: str) -> None:
    content = {"given_name": name, "phone": "030 1234567"}
    here, there = search_key("northside", content), search_key("southside", content)
    assert here.words == there.words
    assert here.trigrams
    assert not set(here.trigrams) & set(there.trigrams)
    assert not exact(there, query("northside", name)) or not query("northside", name).must


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_key_is_sorted_fits_its_columns_and_depends_on_nothing_but_the_content(family: str, given_name: str) -> None:
    content = {"family_name": family, "given_name": given_name}
    key = search_key("northside", content)
    assert key == search_key("northside", dict(reversed(content.items())))
    assert list(key.trigrams) == sorted(set(key.trigrams))
    assert all(-(2**63) <= gram < 2**63 for gram in key.trigrams)
    assert key.words.startswith(" ")
    assert key.sort_name == f"{normalise(family)} {normalise(given_name)}".strip()


def test_a_key_lists_each_word_once_and_marks_the_numbers() -> None:
    key = search_key(
        "northside", {"family_name": "Diallo", "given_name": "Amadou Diallo", "phone": "030-12", "email": "x"}
    )
    assert key.words == " diallo amadou #03012 "
    assert key.sort_name == "diallo amadou diallo"
    assert search_key("northside", {"given_name": "-", "phone": "-"}).trigrams == ()
