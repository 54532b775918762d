"""The shape of the house: one noun in every room, no room for leftovers, no module too long, every refusal mapped."""

from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import product
from pathlib import Path

import pytest

import heallog.bootstrap  # with it comes every module that can refuse something
from heallog.domain.errors import DomainError
from heallog.entrypoints.http.errors import HTTP_ONLY, STATUS

ROOT = Path(__file__).parents[2]
HEALLOG = Path(heallog.bootstrap.__file__).parent

# -- one noun, every room -----------------------------------------------------------------------------------------

ROOMS = ("domain", "application", "application/ports", "adapters/postgres", "adapters/memory", "entrypoints/http")

SHARED = {
    "decisions": "what a person's choices about a conflict mean",
    "access": "who may do what, asked by every use case",
    "canon": "JSON, in its one byte form: what is hashed, kept and sent",
    "errors": "what every capability may refuse",
    "events": "what every capability may tell",
    "fields": "how every capability checks what comes in",
    "merging": "how two edits of anything versioned become one",
    "narrative": "how two edits of one text become one",
    "pushes": "what a device sends; done by application/sync",
    "passwords": "what makes a password a good one, asked wherever one is chosen",
}
"""Modules of the domain that are no capability: they live there alone."""

ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("credentials", "domain"): "accounts.py: an account has its password and its second factor",
    ("credentials", "application/ports"): "accounts.py: what proves a person",
    ("credentials", "adapters/postgres"): "accounts.py: kept with the account",
    ("credentials", "adapters/memory"): "accounts.py: kept with the account",
    ("letters", "domain"): "a letter is words about what other capabilities do",
    ("letters", "application/ports"): "mail.py: where letters go",
    ("letters", "adapters/postgres"): "a letter is posted, not kept",
    ("letters", "adapters/memory"): "a letter is posted, not kept",
    ("letters", "entrypoints/http"): "nobody asks for a letter; it comes with what they did",
    ("watermelon", "application"): "application/sync/watermelon.py: a dialect of sync",
    ("watermelon", "application/ports"): "sync.py: where pulls and pushes are kept",
    ("watermelon", "adapters/postgres"): "feed.py: its rows stand beside the wire bytes",
    ("watermelon", "adapters/memory"): "sync.py: its rows stand beside the wire bytes",
    ("health", "application"): "application/sync/health.py: how sync fares",
    ("tries", "application"): "credentials.py: every guess takes a try",
    ("tries", "entrypoints/http"): "every route that takes a password counts",
    ("trail", "domain"): "audit.py: what an entry is",
    ("trail", "application/ports"): "audit.py: where entries go",
    ("trail", "adapters/memory"): "audit.py: an entry is kept at once",
    ("trail", "entrypoints/http"): "every route: what it shows or refuses leaves an entry",
    ("imports", "domain"): "what comes in is checked by patients.py and records.py",
    ("imports", "adapters/postgres"): "what comes in is stored by patients.py and records.py",
    ("imports", "adapters/memory"): "what comes in is stored by patients.py and records.py",
    ("patience", "domain"): "errors.py: what can be done again is a refusal of its own",
    ("patience", "application/ports"): "world.py: the chance that keeps two from meeting again",
    ("patience", "adapters/postgres"): "errors.py: which of the database's errors it is for",
    ("patience", "adapters/memory"): "one unit of work at a time: none stands in the way of another",
    ("patience", "entrypoints/http"): "nobody asks for it; what is left of it answers 503",
    ("ledger", "domain"): "versions.py: a version proves itself",
    ("ledger", "application/ports"): "versions.py: the ledger is all versions",
    ("ledger", "entrypoints/http"): "cli.py: the operator verifies, `heallog db check`",
}
"""A noun that is missing from a room, and where to look instead."""


def modules(room: str) -> set[str]:
    """The modules and packages in a room, by name."""
    found = {path.stem for path in (HEALLOG / room).glob("*.py")}
    found |= {path.parent.name for path in (HEALLOG / room).glob("*/__init__.py")}
    return found - {"__init__", "ports"}


NOUNS = sorted((modules("domain") | modules("application")) - set(SHARED))


@pytest.mark.parametrize(("noun", "room"), list(product(NOUNS, ROOMS)))
def test_a_capability_is_in_every_room_or_it_says_where_else(noun: str, room: str) -> None:
    if (noun, room) in ELSEWHERE:
        assert noun not in modules(room), f"{room}/{noun}.py exists now: its excuse can go"
    else:
        assert noun in modules(room), f"{room}/{noun}.py is missing: write it, or say in ELSEWHERE where it is"


def test_every_excuse_is_for_a_capability_and_a_room() -> None:
    assert set(ELSEWHERE) <= set(product(NOUNS, ROOMS))


def test_the_files_that_excuses_name_exist() -> None:
    named = {(room, reason.partition(":")[0]) for (_, room), reason in ELSEWHERE.items() if ".py:" in reason}
    for room, file in named:
        assert list((HEALLOG / room).parent.rglob(file)), f"{room}: {file}"


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_lives_in_the_domain_alone(name: str) -> None:
    assert name in modules("domain")
    assert name not in modules("application") | modules("application/ports")


# -- no leftovers, nothing endless --------------------------------------------------------------------------------

LEFTOVERS = {"base", "common", "core", "helper", "helpers", "lib", "misc", "shared", "stuff", "tools", "util", "utils"}


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


def test_no_room_is_for_leftovers() -> None:
    parts = {part for path in python_files("src", "tests", "benchmarks") for part in path.relative_to(ROOT).parts}
    assert not {part.removesuffix(".py") for part in parts} & LEFTOVERS


def test_no_module_is_too_long_to_read() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files("src")}
    assert lengths
    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > 500} == {}


# -- refusals -----------------------------------------------------------------------------------------------------


def below(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    for refusal in kind.__subclasses__():
        yield refusal
        yield from below(refusal)


REFUSALS = [refusal for refusal in below(DomainError) if refusal.__module__.startswith("heallog.")]
DOMAINS = {refusal.code for refusal in REFUSALS if refusal.__module__.startswith("heallog.domain.")}


SPECIAL = {"HeldBack": "VERSION_CONFLICT", "Contended": "UNAVAILABLE"}
"""Refusals that a client meets as their parent's, and only we tell apart: the code that they share."""


def test_every_refusal_has_a_code_of_its_own() -> None:
    own = [refusal for refusal in REFUSALS if refusal.__name__ not in SPECIAL]
    assert all("code" in vars(refusal) for refusal in own)
    assert {code: times for code, times in Counter(refusal.code for refusal in own).items() if times > 1} == {}


def test_what_shares_a_code_shares_its_parents() -> None:
    special = [refusal for refusal in REFUSALS if "code" not in vars(refusal)]
    assert {refusal.__name__: refusal.code for refusal in special} == SPECIAL
    assert all(refusal.__bases__[0] in REFUSALS for refusal in special)


def test_every_code_has_one_status_and_no_status_stands_for_a_code_that_nobody_utters() -> None:
    assert set(STATUS) == DOMAINS | HTTP_ONLY
    assert not DOMAINS & HTTP_ONLY


def test_only_the_domain_and_the_http_entrypoint_refuse() -> None:
    outside = {refusal.code for refusal in REFUSALS} - DOMAINS
    assert outside <= HTTP_ONLY


def test_a_refusal_is_never_a_success_and_rarely_our_own_fault() -> None:
    assert {code for code, status in STATUS.items() if not 400 <= status < 500} == {"INTERNAL", "UNAVAILABLE"}
    assert all(HTTPStatus(status) for status in STATUS.values())
