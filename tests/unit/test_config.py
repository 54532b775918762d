"""Settings that cannot be used are refused at the start, by name and with what to do; secrets are shown to nobody."""

import random
import re
import secrets
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

from heallog import config
from heallog.config import ConfigurationError, Settings

ROOT = Path(__file__).parents[2]
GOOD, OTHER = "kV3x-8PqLr_0TzWm5NcYbJ2hGd7sAeU4", "Zr9Qm_4tXc6Lw-1PyBn8VkHs3JgDf0Ea"


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, _env_file=None, **given)


def refusal(folder: Path, **given: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        settings(folder, **given).keys()
    return str(refused.value)


# -- which keys there are -----------------------------------------------------------------------------------------


def test_the_key_signs_and_the_old_one_comes_second(tmp_path: Path) -> None:
    for environment in ("local", "production"):
        assert settings(tmp_path, environment=environment, secret_key=GOOD).keys() == (GOOD,)
        both = settings(tmp_path, environment=environment, secret_key=GOOD, old_secret_key=OTHER)
        assert both.keys() == (GOOD, OTHER)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_old_key_is_none(tmp_path: Path) -> None:
    assert settings(tmp_path, secret_key=GOOD, old_secret_key="").keys() == (GOOD,)


def test_addresses_must_be_verified_where_mail_leaves_the_house(tmp_path: Path) -> None:
    server = "smtp://mail.hillside.example"
    assert not settings(tmp_path).verified_only
    assert not settings(tmp_path, mail_url="").verified_only
    assert settings(tmp_path, mail_url=server).verified_only
    assert not settings(tmp_path, mail_url=server, require_verified_email=False).verified_only
    assert settings(tmp_path, require_verified_email=True).verified_only


def test_locally_one_is_made_and_kept_and_can_be_the_old_one_later(tmp_path: Path) -> None:
    (kept,) = settings(tmp_path).keys()
    assert settings(tmp_path).keys() == (kept,)
    assert settings(tmp_path, environment="production", secret_key=GOOD, old_secret_key=kept).keys() == (GOOD, kept)
    assert settings(tmp_path, old_secret_key=OTHER).keys() == (kept, OTHER)


# -- which are refused --------------------------------------------------------------------------------------------

WEAK = {
    "one letter": "s" * 40,
    "nine letters": "abcdefghihgfedcbabcdefghiabcabcdef",
    "a repeated word": "correct-horse-" * 4,
    "digits again and again": "0123456789" * 4,
    "a placeholder": "please-CHANGE_ME-before-you-go-to-production",
    "another placeholder": "your-secret-key-with-at-least-32-letters",
    "insecure by its own words": "django-insecure-0p3n$ourc3!abcdefghijkl",
    "the example of our page": "3wY0m1vRz8cJtQ5eK7uN2xB4aF6hL9pS",
    "the example with a blank": "3wY0m1vRz8cJtQ5eK7uN2xB4aF6hL9pS ",
}


@pytest.mark.parametrize("environment", ["local", "production"])
@pytest.mark.parametrize("key", ["", "short", GOOD[:31]])
def test_a_short_key_is_refused_everywhere(tmp_path: Path, environment: str, key: str) -> None:
    said = refusal(tmp_path, environment=environment, secret_key=key)
    assert said.startswith("HEALLOG_SECRET_KEY must have at least 32 characters; make one with: python3")
    if key:
        said = refusal(tmp_path, environment=environment, secret_key=GOOD, old_secret_key=key)
        assert said.startswith("HEALLOG_OLD_SECRET_KEY must have at least 32 characters; make one")


@pytest.mark.parametrize("key", WEAK.values(), ids=WEAK.keys())
def test_a_key_that_can_be_guessed_is_refused_in_production(tmp_path: Path, key: str) -> None:
    """Of the old one too: who guesses it signs tokens as well."""
    for name, given_keys in (
        ("HEALLOG_SECRET_KEY ", {"secret_key": key}),
        ("HEALLOG_OLD_SECRET_KEY ", {"secret_key": GOOD, "old_secret_key": key}),
    ):
        said = refusal(tmp_path, environment="production", **given_keys)
        assert said.startswith(name)
        assert "secrets.token_urlsafe" in said
        assert key not in said
    assert settings(tmp_path, secret_key=key).keys() == (key,)


@pytest.mark.parametrize("environment", ["local", "production"])
def test_the_old_key_is_another_one(tmp_path: Path, environment: str) -> None:
    assert "HEALLOG_OLD_SECRET_KEY" in refusal(tmp_path, environment=environment, secret_key=GOOD, old_secret_key=GOOD)


def test_production_needs_a_key_and_makes_none(tmp_path: Path) -> None:
    for given_keys in ({}, {"old_secret_key": GOOD}):
        assert "HEALLOG_SECRET_KEY must be set" in refusal(tmp_path, environment="production", **given_keys)
    assert list(tmp_path.iterdir()) == []


def test_no_random_key_of_usual_lengths_is_refused() -> None:
    """As the page says to make them; of hexadecimal ones, see `FEWEST_CHARACTERS`."""
    chance = random.Random(20260301)
    for size in (24, 32, 48) * 500:
        key = urlsafe_b64encode(chance.randbytes(size)).rstrip(b"=").decode()
        assert Settings(environment="production", secret_key=key, _env_file=None).keys() == (key,)


PAGES = [ROOT / ".env.template", ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = re.compile(r"SECRET_KEY=([^\s`{}(]{8,})")


def test_no_key_that_our_pages_show_can_be_used_in_production(tmp_path: Path) -> None:
    shown = {key for page in PAGES for key in SHOWN.findall(page.read_text(encoding="utf-8"))}
    assert shown
    for key in shown:
        refusal(tmp_path, environment="production", secret_key=key)


# -- limits that must fit each other ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"MIN_SYNC_BATCH_SIZE": 501},
            ["HEALLOG_MIN_SYNC_BATCH_SIZE: 501 is over HEALLOG_SYNC_BATCH_SIZE, which is 500"],
        ),
        (
            {"SYNC_BATCH_SIZE": 600, "MAX_SYNC_RECORDS": 599, "MAX_SYNC_ROWS": 599},
            [
                "HEALLOG_SYNC_BATCH_SIZE: 600 is over HEALLOG_MAX_SYNC_RECORDS, which is 599",
                "HEALLOG_SYNC_BATCH_SIZE: 600 is over HEALLOG_MAX_SYNC_ROWS, which is 599",
            ],
        ),
        ({"MAX_PUSH_MEBIBYTES": 9}, ["HEALLOG_MAX_BODY_MEBIBYTES: 10 is over HEALLOG_MAX_PUSH_MEBIBYTES, which is 9"]),
        ({"MAX_SYNC_RECORDS": 50, "SYNC_BATCH_SIZE": 50, "MAX_SYNC_ROWS": 50, "MAX_PUSH_MEBIBYTES": 10}, []),
    ],
)
def test_limits_that_do_not_fit_each_other_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, int], said: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in given.items():
        monkeypatch.setenv(f"HEALLOG_{name}", str(value))
    if said:
        with pytest.raises(ConfigurationError) as refused:
            config.read()
        assert str(refused.value).splitlines() == said
    else:
        assert config.read().min_sync_batch_size == 50


# -- what is shown ------------------------------------------------------------------------------------------------


def test_keys_are_shown_to_nobody(tmp_path: Path) -> None:
    both = settings(tmp_path, secret_key=GOOD, old_secret_key=OTHER)
    shown = dict(config.shown(both))
    assert shown["HEALLOG_SECRET_KEY"] == shown["HEALLOG_OLD_SECRET_KEY"] == "(set)"
    assert dict(config.shown(settings(tmp_path)))["HEALLOG_OLD_SECRET_KEY"] == ""
    for secret in (GOOD, OTHER):
        assert secret not in f"{shown} {both} {both!r}"


def test_the_token_of_the_metrics_is_long_and_shown_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = settings(tmp_path, metrics_token=GOOD)
    assert dict(config.shown(told))["HEALLOG_METRICS_TOKEN"] == "(set)"
    assert GOOD not in f"{config.shown(told)} {told} {told!r}"
    monkeypatch.setenv("HEALLOG_METRICS_TOKEN", GOOD[:31])
    with pytest.raises(ConfigurationError) as refused:
        config.read()
    assert str(refused.value).startswith("HEALLOG_METRICS_TOKEN: ")
    assert GOOD[:31] not in str(refused.value)


def test_the_command_that_refusals_name_makes_a_good_key(tmp_path: Path) -> None:
    assert "secrets.token_urlsafe(48)" in config.MAKE_ONE
    key = secrets.token_urlsafe(48)
    assert settings(tmp_path, environment="production", secret_key=key).keys() == (key,)
