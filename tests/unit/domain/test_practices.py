"""Practices: one always has an owner; invitations and broken glass are open for a while."""

from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.domain.access import Role
from heallog.domain.errors import LastOwner
from heallog.domain.practices import (
    Emergency,
    Invitation,
    Membership,
    invitation_code,
    invitation_digest,
    still_owned,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def member(name: str, role: Role, ended_at: datetime | None = None) -> Membership:
    return Membership("northside", name, role, NOON, ended_at)


def test_whoever_is_the_only_owner_stays_one() -> None:
    house = [member("grace", Role.OWNER), member("amara", Role.ASSISTANT), member("old", Role.OWNER, NOON)]
    with pytest.raises(LastOwner):
        still_owned(house, "grace")
    still_owned(house, "amara")


def test_of_two_owners_either_may_go() -> None:
    house = [member("grace", Role.OWNER), member("hugo", Role.OWNER)]
    still_owned(house, "grace")
    still_owned(house, "hugo")


ANYONE = st.builds(member, st.sampled_from("abcd"), st.sampled_from(Role), st.none() | st.just(NOON))


@given(st.lists(ANYONE, unique_by=lambda one: one.account_id), st.sampled_from("abcd"))
def test_whoever_may_go_leaves_an_owner_behind(house: list[Membership], goes: str) -> None:
    left = [one for one in house if one.account_id != goes and one.ended_at is None]
    owned = any(one.role is Role.OWNER for one in left)
    try:
        still_owned(house, goes)
    except LastOwner:
        assert not owned
    else:
        assert owned


# -- invitations --------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_an_invitations_code_is_all_of_its_chance_and_is_kept_as_a_hash(chance: bytes) -> None:
    code = invitation_code(chance)
    assert urlsafe_b64decode(code + "=") == chance
    assert invitation_digest(f" {code}\n") == invitation_digest(code)
    assert code.encode() not in invitation_digest(code)
    assert invitation_digest(code[:-1]) != invitation_digest(code)


def test_an_invitation_is_open_until_its_end_or_until_it_is_closed() -> None:
    week = NOON + timedelta(days=7)
    asked = Invitation("northside", "i-1", "b@b.example", "b@b.example", "", Role.OWNER, "grace", b"d", NOON, week)
    assert asked.open(NOON)
    assert asked.open(week - SECOND)
    assert not asked.open(week)
    assert not replace(asked, closed_at=NOON).open(NOON)


# -- broken glass -------------------------------------------------------------------------------------------------


def test_broken_glass_is_open_until_its_end_or_until_it_is_closed() -> None:
    broken = Emergency("northside", "e-1", "amara", "a fall on the stairs", NOON, NOON + timedelta(minutes=60))
    assert broken.open(NOON)
    assert broken.open(broken.until - SECOND)
    assert not broken.open(broken.until)
    assert not replace(broken, closed_at=NOON).open(NOON)
