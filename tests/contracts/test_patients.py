"""What every place where patients are kept promises: who is present, who comes on which page, who is found."""

import pytest

from heallog.domain.errors import DomainError

from .clinic import MINUTE, MONDAY, Backend, Clinic

TIED = ("B", "a", "a-1", "a.1", "b")
"""Ids in byte order."""


# -- being present ------------------------------------------------------------------------------------------------


async def test_present_are_those_that_exist_and_are_not_deleted(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    await clinic.admit("alice")
    await clinic.delete(await clinic.admit("bruno"))
    await elsewhere.admit("cleo")
    async with backend.uow() as uow:
        await uow.patients.append([clinic.patient("dina", family_name="Diaz")])
        asked = ["alice", "alice", "bruno", "cleo", "dina", "nobody"]
        assert await uow.patients.present(clinic.id, asked) == {"alice", "dina"}
        assert await uow.patients.present(elsewhere.id, asked) == {"cleo"}
        assert await uow.patients.present(clinic.id, []) == set()


async def test_a_patient_needs_a_practice(backend: Backend) -> None:
    nowhere = Clinic(backend)
    with pytest.raises(Exception) as refused:
        await nowhere.admit("alice")
    assert not isinstance(refused.value, DomainError)
    assert await backend.patients.get(nowhere.id, "alice") is None


# -- pages --------------------------------------------------------------------------------------------------------


async def test_pages_come_by_name_blind_to_case_and_accents(clinic: Clinic) -> None:
    for patient, family, given in (
        ("1", "Zoë", "Ana"),
        ("2", "ångström", "Bo"),
        ("3", "Angstrom", "Al"),
        ("4", "ÖZIL", "Mesut"),
        ("5", "O'Brien", "Pat"),
        ("6", "O\u2019Brien", "Nora"),
        ("7", "Łukasz", "Jan"),
    ):
        await clinic.admit(patient, family_name=family, given_name=given)
    assert await clinic.page() == ["3", "2", "7", "6", "5", "4", "1"]


async def test_names_beyond_latin_come_in_the_order_of_their_bytes(clinic: Clinic) -> None:
    """As UTF-8, not as UTF-16: the last of these lies outside the basic plane."""
    names = {"latin": "zz", "greek": "Ωμέγα", "han": "王", "compatible": "\ufa0e", "rare": "\U00020bb7"}
    for patient, name in reversed(names.items()):
        await clinic.admit(patient, family_name=name)
    assert await clinic.page() == list(names)


async def test_the_nameless_come_first(clinic: Clinic) -> None:
    await clinic.admit("alice")
    await clinic.admit("unknown", family_name="---")
    assert await clinic.page() == ["unknown", "alice"]


async def test_ties_come_by_id_in_bytes(clinic: Clinic) -> None:
    for patient in reversed(TIED):
        await clinic.admit(patient, family_name="Smith")
    assert await clinic.page() == list(TIED)


async def test_pages_meet_without_gap_or_overlap(clinic: Clinic) -> None:
    for patient in TIED:
        await clinic.admit(patient, family_name="Smith")
    for patient, name in (("first", "Ábel"), ("last", "Želiva"), ("middle", "ŠMITH")):
        await clinic.admit(patient, family_name=name)
    whole = await clinic.page()
    for size in (1, 2, 3, len(whole)):
        paged: list[str] = []
        while page := await clinic.page(after=paged[-1] if paged else None, limit=size):
            assert len(page) <= size
            paged += page
            assert len(paged) <= len(whole)
        assert paged == whole


async def test_a_cursor_that_names_nobody_gives_an_empty_page(clinic: Clinic, elsewhere: Clinic) -> None:
    await clinic.admit("alice")
    await elsewhere.admit("bruno")
    assert await clinic.page(after="nobody") == []
    assert await clinic.page(after="bruno") == []


async def test_a_cursor_may_name_someone_whom_the_filter_leaves_out(clinic: Clinic) -> None:
    await clinic.admit("alice", tags=["diabetes"])
    await clinic.admit("bruno")
    await clinic.admit("cleo", tags=["diabetes"])
    assert await clinic.page(after="bruno", tag="diabetes") == ["cleo"]


async def test_a_cursor_whose_patient_was_deleted_meanwhile_keeps_its_place(clinic: Clinic) -> None:
    heads = {who: await clinic.admit(who) for who in ("alice", "bruno", "cleo")}
    await clinic.delete(heads["bruno"])
    assert await clinic.page(after="bruno") == ["cleo"]


async def test_a_renamed_patient_moves(clinic: Clinic) -> None:
    alice = await clinic.admit("alice", family_name="Young")
    await clinic.admit("bruno", family_name="Miller")
    await clinic.change(alice, family_name="Adams")
    assert await clinic.page() == ["alice", "bruno"]
    assert await clinic.search("Young") == []


async def test_deleted_patients_are_left_out_until_they_are_restored(clinic: Clinic) -> None:
    alice = await clinic.admit("alice", family_name="Smith", tags=["asthma"])
    gone = await clinic.delete(alice)
    assert await clinic.page() == await clinic.page(tag="asthma") == await clinic.search("Smith") == []
    await clinic.change(gone, family_name="Smith", tags=["asthma"])
    assert await clinic.page() == await clinic.page(tag="asthma") == await clinic.search("Smith") == ["alice"]


async def test_a_tag_chooses_by_the_whole_word(clinic: Clinic) -> None:
    await clinic.admit("alice", tags=["diabetes", "kidney, chronic"])
    await clinic.admit("bruno", tags=["Diabetes"])
    await clinic.admit("cleo", tags=["diabetes type 2"])
    await clinic.admit("dina")
    assert await clinic.page(tag="diabetes") == ["alice"]
    assert await clinic.page(tag="kidney, chronic") == ["alice"]
    assert await clinic.page(tag="kidney") == []
    assert await clinic.page(tag="") == []


async def test_a_tag_that_was_taken_away_chooses_no_more(clinic: Clinic) -> None:
    alice = await clinic.admit("alice", tags=["asthma"])
    await clinic.change(alice, family_name="Alice", tags=["healthy"])
    assert await clinic.page(tag="asthma") == []
    assert await clinic.page(tag="healthy") == ["alice"]


async def test_updated_since_includes_its_moment(clinic: Clinic) -> None:
    alice = await clinic.admit("alice")
    bruno = await clinic.admit("bruno")
    assert await clinic.page(since=bruno.updated_at) == ["bruno"]
    assert await clinic.page(since=bruno.updated_at + MINUTE) == []
    await clinic.change(alice, family_name="Alice", notes="Called.")
    assert await clinic.page(since=bruno.updated_at + MINUTE) == ["alice"]
    assert await clinic.page(since=MONDAY) == ["alice", "bruno"]


async def test_another_practices_patients_never_come(clinic: Clinic, elsewhere: Clinic) -> None:
    await elsewhere.admit("alice", family_name="Smith", tags=["asthma"], phone="555 0100")
    assert await clinic.page() == await clinic.page(tag="asthma") == []
    for text in ("Smith", "Smiht", "555 0100", "smi"):
        assert await clinic.search(text) == []


# -- search -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def town(clinic: Clinic) -> Clinic:
    """A clinic with some people to find."""
    for patient, content in {
        "maria": {
            "family_name": "García Márquez",
            "given_name": "María José",
            "phone": "+1 (555) 010-0199",
            "identifiers": [{"system": "urn:mrn", "value": "MRN-0042"}],
            "tags": ["asthma"],
        },
        "john": {"family_name": "Smith", "given_name": "John", "birth_date": "1980", "phone": "555-010-7777"},
        "jane": {"family_name": "Smithson", "given_name": "Jane", "other_names": ["Janet", "Poole"]},
        "sean": {"family_name": "O'Brien", "given_name": "Seán", "contacts": [{"name": "Kin", "phone": "0170 333 44"}]},
        "soren": {"family_name": "Sørensen", "telecom": [{"system": "sms", "value": "45 22 11 00"}]},
        "mei": {"family_name": "王", "given_name": "美"},
    }.items():
        await clinic.admit(patient, **content)
    return clinic


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        pytest.param("Smith", ["john", "jane"], id="a name, also as the beginning of another"),
        pytest.param("smi", ["john", "jane"], id="the beginning of a name"),
        pytest.param("s", ["jane", "john", "sean", "soren"], id="one letter"),
        pytest.param("GARCIA", ["maria"], id="case and accents"),
        pytest.param("garcía josé", ["maria"], id="two names, each in full"),
        pytest.param("mar gar", ["maria"], id="two beginnings in any order"),
        pytest.param("jane poole", ["jane"], id="a former name"),
        pytest.param("obrien", ["sean"], id="without its apostrophe"),
        pytest.param("O\u2019Brien", ["sean"], id="with a typographic apostrophe"),
        pytest.param("Sorensen", ["soren"], id="a letter that does not decompose"),
        pytest.param("王", ["mei"], id="one character"),
        pytest.param("  smith \t john ", ["john"], id="spaces"),
        pytest.param("5550100199", ["maria"], id="a phone number without its groups"),
        pytest.param("555 010 0199", ["maria"], id="a phone number in groups"),
        pytest.param("+1 (555) 010-0199", ["maria"], id="a phone number as written"),
        pytest.param("0199", ["maria"], id="its end"),
        pytest.param("555 010", ["maria", "john"], id="its middle"),
        pytest.param("99", ["maria"], id="two digits"),
        pytest.param("017033344", ["sean"], id="a contact's number"),
        pytest.param("4522 1100", ["soren"], id="a number among the telecoms"),
        pytest.param("mrn-0042", ["maria"], id="an identifier"),
        pytest.param("MRN0042", ["maria"], id="an identifier without its hyphen"),
        pytest.param("mrn-0043", [], id="an identifier with a typo"),
        pytest.param("smith 7777", ["john"], id="a name and a number"),
        pytest.param("smith 0199", [], id="a name and another's number"),
        pytest.param("1980", [], id="not the birth date"),
        pytest.param("qu%", [], id="a wildcard is no letter"),
    ],
)
async def test_search_finds(town: Clinic, typed: str, found: list[str]) -> None:
    assert sorted(await town.search(typed)) == sorted(found)


async def test_exact_matches_come_by_name(town: Clinic) -> None:
    await town.admit("aaron", family_name="Smith", given_name="Aaron")
    assert await town.search("smith") == ["aaron", "john", "jane"]
    assert await town.search("smith", limit=2) == ["aaron", "john"]


@pytest.mark.parametrize(
    ("typed", "best"),
    [("Garica", "maria"), ("Smiht", "john"), ("Sorennsen", "soren"), ("Obrein", "sean"), ("marai garica", "maria")],
)
async def test_names_forgive_typos(town: Clinic, typed: str, best: str) -> None:
    assert (await town.search(typed))[0] == best


async def test_nothing_is_forgiven_where_something_is_exact(town: Clinic) -> None:
    await town.admit("garica", family_name="Garica")
    assert await town.search("garica") == ["garica"]


async def test_who_shares_more_comes_first_then_who_has_less_beside_then_by_name(clinic: Clinic) -> None:
    """The query's seven trigrams: `  h`, ` ho`, `hof`, `ofm`, `fmm`, `mmn`, `mn `."""
    await clinic.admit("long", family_name="Hofmn", given_name="Maximilian")
    await clinic.admit("zoe", family_name="Hofmn", given_name="Zoe")
    await clinic.admit("ann", family_name="Hofmn", given_name="Ann")
    await clinic.admit("twin-b", family_name="Hofmn", given_name="Bea")
    await clinic.admit("twin-a", family_name="Hofmn", given_name="Bea")
    await clinic.admit("less", family_name="Hof")
    await clinic.admit("more", family_name="Hofmmen", given_name="Maximilian")
    await clinic.admit("other", family_name="Schulze")
    assert await clinic.search("hofmmn") == [*("ann", "twin-a", "twin-b", "zoe", "long", "more", "less")]
    assert await clinic.search("hofmmn", limit=2) == ["ann", "twin-a"]


async def test_an_identifier_is_never_forgiven_a_typo(town: Clinic) -> None:
    assert await town.search("garica mrn-0042") == ["maria"]
    assert await town.search("garica mrn-0024") == []
    assert await town.search("garcia mrn-0024") == []


@pytest.mark.parametrize("number", ["77", "010010"])
async def test_nor_is_a_short_or_repetitive_one(town: Clinic, number: str) -> None:
    await town.admit("rita", family_name="García", phone="0100")
    assert await town.search(f"garica {number}") == []


async def test_search_filters_both_stages(town: Clinic) -> None:
    await town.admit("bruno", family_name="García", given_name="Bruno")
    for typed in ("garcia", "garica"):
        assert sorted(await town.search(typed)) == ["bruno", "maria"]
        assert await town.search(typed, tag="asthma") == ["maria"]
        assert await town.search(typed, since=town.now) == ["bruno"]
        assert await town.search(typed, tag="asthma", since=town.now) == []


async def test_the_forgiving_stage_leaves_the_deleted_out(clinic: Clinic) -> None:
    await clinic.delete(await clinic.admit("maria", family_name="García"))
    assert await clinic.search("Garica") == []
