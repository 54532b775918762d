"""What every place where practices, their members, invitations and broken glass are kept promises."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from heallog.domain.access import Plan, Role
from heallog.domain.errors import AlreadyExists, DomainError, NotFound
from heallog.domain.practices import Emergency, Invitation, Member, Membership, Practice, Presence

from .clinic import MINUTE, MONDAY, Backend, Clinic, in_turn

DAY = timedelta(days=1)


async def test_a_practice_is_read_back(backend: Backend, clinic: Clinic) -> None:
    ward = Practice(f"{clinic.id}-ward", "Ward Ä 3", MONDAY)
    async with backend.uow() as uow:
        await uow.practices.add(ward)
        assert await uow.practices.get(ward.id) == ward
        await uow.commit()
    async with backend.uow() as uow:
        assert await uow.practices.get(ward.id) == ward
        assert await uow.practices.get("nowhere") is None


async def test_all_practices_come_oldest_first(backend: Backend, clinic: Clinic) -> None:
    names = {"young": MONDAY + MINUTE, "old-b": MONDAY - MINUTE, "old-B": MONDAY - MINUTE, "old-a": MONDAY - MINUTE}
    async with backend.uow() as uow:
        for name, at in names.items():
            await uow.practices.add(Practice(f"{clinic.id}-{name}", name, at))
        await uow.commit()
    async with backend.uow() as uow:
        ours = [practice for practice in await uow.practices.all() if practice.id.startswith(clinic.id)]
    assert [practice.id.removeprefix(f"{clinic.id}-") for practice in ours] == [
        *("old-B", "old-a", "old-b"),
        clinic.id,
        "young",
    ]


async def test_members_and_memberships_come_oldest_first(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    amara, bola = clinic.account("amara"), clinic.account("bola")
    bola_here = Membership(clinic.id, bola.id, Role.AUDITOR, MONDAY - MINUTE)
    amara_here = Membership(clinic.id, amara.id, Role.CLINICIAN, MONDAY + MINUTE)
    amara_there = Membership(elsewhere.id, amara.id, Role.ASSISTANT, MONDAY - MINUTE)
    async with backend.uow() as uow:
        await uow.accounts.add(amara)
        await uow.accounts.add(bola)
        for membership in (amara_here, bola_here, amara_there):
            await uow.practices.join(membership)
        await uow.commit()
    async with backend.uow() as uow:
        okafor = Membership(clinic.id, clinic.dr_okafor.account_id, Role.OWNER, MONDAY)
        assert await uow.practices.members(clinic.id) == [bola_here, okafor, amara_here]
        assert await uow.practices.memberships(amara.id) == [amara_there, amara_here]
        assert await uow.practices.members("nowhere") == []
        assert await uow.practices.memberships("nobody") == []


async def test_members_of_one_age_come_by_id(backend: Backend, clinic: Clinic) -> None:
    names = ("b", "B", "a")
    async with backend.uow() as uow:
        for name in names:
            await uow.accounts.add(clinic.account(name, id=f"{clinic.id}-{name}"))
            await uow.practices.join(Membership(clinic.id, f"{clinic.id}-{name}", Role.ASSISTANT, MONDAY + MINUTE))
        members = [member.account_id for member in await uow.practices.members(clinic.id)]
    assert members == [f"{clinic.id}-{name}" for name in ("okafor", "B", "a", "b")]


async def test_nobody_joins_a_practice_that_is_not_there(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        with pytest.raises(NotFound):
            await uow.practices.join(Membership("nowhere", clinic.dr_okafor.account_id, Role.OWNER, MONDAY))


async def test_what_cannot_be_is_a_bug_and_no_domain_error(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        with pytest.raises(Exception) as refused:
            await uow.practices.join(Membership(clinic.id, "nobody", Role.OWNER, MONDAY))
    assert not isinstance(refused.value, DomainError)
    async with backend.uow() as uow:
        with pytest.raises(Exception) as refused:
            await uow.practices.add(Practice(clinic.id, "Twin", MONDAY))
    assert not isinstance(refused.value, DomainError)
    async with backend.uow() as uow:
        assert [member.role for member in await uow.practices.members(clinic.id)] == [Role.OWNER]


async def test_a_practice_takes_another_name_and_plan_and_keeps_its_age(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    async with backend.uow() as uow:
        before = await uow.practices.get(elsewhere.id)
        await uow.practices.put(Practice(clinic.id, "Ökafor", MONDAY + DAY, Plan.PRO))
        await uow.practices.put(Practice(f"{clinic.id}-nowhere", "Nowhere", MONDAY))
        await uow.commit()
    async with backend.uow() as uow:
        changed = Practice(clinic.id, "Ökafor", MONDAY, Plan.PRO)
        assert await uow.practices.get(clinic.id) == changed
        assert changed in await uow.practices.all()
        assert await uow.practices.get(elsewhere.id) == before
        assert await uow.practices.get(f"{clinic.id}-nowhere") is None
        await uow.practices.put(before if before is None else replace(before, plan=Plan.PRO))
    async with backend.uow() as uow:
        assert await uow.practices.get(elsewhere.id) == before


# -- members ------------------------------------------------------------------------------------------------------


async def _members(clinic: Clinic) -> Sequence[Membership]:
    async with clinic.backend.uow() as uow:
        return await uow.practices.members(clinic.id)


async def _present(clinic: Clinic, now: datetime = MONDAY) -> list[Member]:
    async with clinic.backend.uow() as uow:
        return list(await uow.practices.present(clinic.id, now))


async def _end(clinic: Clinic, member: Membership, at: datetime = MONDAY + DAY) -> None:
    async with clinic.backend.uow() as uow:
        await uow.practices.put_member(replace(member, ended_at=at))
        await uow.commit()


async def test_a_member_joins_once(backend: Backend, clinic: Clinic) -> None:
    bola = await clinic.hire("bola")
    before = await _members(clinic)
    async with backend.uow() as uow:
        await uow.practices.put(Practice(clinic.id, "Still kept", MONDAY))
        for role in (Role.AUDITOR, bola.role):
            with pytest.raises(AlreadyExists):
                await uow.practices.join(replace(bola, role=role, created_at=MONDAY + DAY))
        await uow.commit()
    assert await _members(clinic) == before
    async with backend.uow() as uow:
        assert await uow.practices.get(clinic.id) == Practice(clinic.id, "Still kept", MONDAY)


async def test_who_has_left_is_no_member_and_may_join_again(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    bola = await clinic.hire("bola")
    there = Membership(elsewhere.id, bola.account_id, Role.CLINICIAN, MONDAY)
    async with backend.uow() as uow:
        await uow.practices.join(there)
        await uow.commit()
    await _end(clinic, bola)
    [okafor] = await _members(clinic)
    async with backend.uow() as uow:
        assert await uow.practices.memberships(bola.account_id) == [there]
        again = replace(bola, role=Role.AUDITOR, created_at=MONDAY + 2 * DAY)
        await uow.practices.join(again)
        with pytest.raises(AlreadyExists):
            await uow.practices.join(again)
        await uow.commit()
    assert await _members(clinic) == [okafor, again]
    assert again.account_id in [one.id for one in await _present(clinic)]
    async with backend.uow() as uow:
        assert await uow.practices.memberships(bola.account_id) == [there, again]


async def test_the_practices_of_an_account_come_with_its_role_oldest_membership_first(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    bola = await clinic.hire("bola", Role.AUDITOR, MONDAY + MINUTE)
    third = Practice(f"{clinic.id}-third", "Third", MONDAY + DAY, Plan.PRO)
    async with backend.uow() as uow:
        await uow.practices.add(third)
        await uow.practices.join(replace(bola, practice_id=third.id, role=Role.OWNER, created_at=MONDAY - DAY))
        left = replace(bola, practice_id=elsewhere.id)
        await uow.practices.join(left)
        await uow.practices.put_member(replace(left, ended_at=MONDAY + DAY))
        await uow.commit()
    async with backend.uow() as uow:
        here = await uow.practices.get(clinic.id)
        found = list(await uow.practices.belonging(bola.account_id))
        assert found == [(third, Role.OWNER), (here, Role.AUDITOR)]
        assert [type(role) for _, role in found] == [Role, Role]
        assert list(await uow.practices.belonging("nobody")) == []


async def test_of_two_who_join_with_one_account_one_does(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    bola = await elsewhere.hire("bola")
    member = replace(bola, practice_id=clinic.id)

    async def late() -> None:
        async with backend.uow() as uow:
            await uow.practices.join(replace(member, role=Role.AUDITOR))
            await uow.commit()

    async with backend.uow() as uow:
        await uow.practices.join(member)
        task = asyncio.create_task(late())
        await backend.until_waiting(task)
        assert not task.done()
        await uow.commit()
    with pytest.raises(AlreadyExists):
        await task
    assert member in await _members(clinic)


async def test_of_a_membership_only_the_role_and_the_end_change(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    bola, before = await clinic.hire("bola"), await _members(elsewhere)
    nobody = Membership(elsewhere.id, bola.account_id, Role.OWNER, MONDAY)
    async with backend.uow() as uow:
        await uow.practices.put_member(replace(bola, role=Role.OWNER, created_at=MONDAY + DAY))
        await uow.practices.put_member(nobody)
        await uow.commit()
    assert await _members(elsewhere) == before
    assert [(one.role, one.created_at) for one in await _members(clinic)] == [(Role.OWNER, MONDAY)] * 2
    async with backend.uow() as uow:
        await uow.practices.put_member(replace(bola, ended_at=MONDAY))
    assert len(await _members(clinic)) == 2


# -- invitations --------------------------------------------------------------------------------------------------


def _invitation(clinic: Clinic, id: str, at: datetime = MONDAY, who: str = "ben", **fields: Any) -> Invitation:
    email = f"{who}@{clinic.id}.example"
    made = Invitation(
        clinic.id,
        id,
        email.capitalize(),
        email,
        f"{who} Itō",
        Role.CLINICIAN,
        clinic.dr_okafor.account_id,
        f"\0digest of {id}".encode(),
        at,
        at + 7 * DAY,
    )
    return replace(made, **fields)


async def _invite(clinic: Clinic, *invitations: Invitation) -> None:
    async with clinic.backend.uow() as uow:
        for invitation in invitations:
            await uow.practices.invite(invitation)
        await uow.commit()


async def _kept(invitation: Invitation, backend: Backend) -> Invitation | None:
    async with backend.uow() as uow:
        return await uow.practices.invitation(invitation.practice_id, invitation.id)


async def _put(backend: Backend, invitation: Invitation) -> None:
    async with backend.uow() as uow:
        await uow.practices.put_invitation(invitation)
        await uow.commit()


async def test_an_invitation_is_kept_whole_in_its_practice(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    here = _invitation(clinic, "i-1")
    there = _invitation(elsewhere, "i-1", email=here.email, email_key=here.email_key, digest=b"other")
    await _invite(clinic, here)
    assert await _kept(there, backend) is None
    await _invite(clinic, there)
    found = await _kept(here, backend)
    assert (found, await _kept(there, backend)) == (here, there)
    assert found is not None
    assert type(found.role) is Role
    assert await _kept(replace(here, id="i-2"), backend) is None


async def test_asking_an_address_again_closes_the_former_invitation(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    first, other = _invitation(clinic, "i-1"), _invitation(clinic, "i-2", who="cleo")
    there = _invitation(elsewhere, "i-1", email=first.email, email_key=first.email_key)
    await _invite(clinic, first, other, there)
    second, third = _invitation(clinic, "i-3", MONDAY + MINUTE), _invitation(clinic, "i-4", MONDAY + 30 * DAY)
    await _invite(clinic, second)
    await _invite(clinic, third)
    assert await _kept(first, backend) == replace(first, closed_at=second.created_at)
    assert await _kept(second, backend) == replace(second, closed_at=third.created_at)
    for untouched in (third, other, there):
        assert await _kept(untouched, backend) == untouched


async def test_an_invitation_is_found_by_its_address_and_its_code(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    mine = _invitation(clinic, "i-1")
    twin = _invitation(clinic, "i-2", who="cleo", digest=mine.digest)
    there = _invitation(elsewhere, "i-1", email_key=mine.email_key, digest=b"there")
    await _invite(clinic, mine, twin, there)
    async with backend.uow() as uow:
        for one in (mine, twin, there):
            assert await uow.practices.invited(one.email_key, one.digest) == one
        assert await uow.practices.invited(twin.email_key, there.digest) is None
        assert await uow.practices.invited(f"dan@{clinic.id}.example", mine.digest) is None
        assert await uow.practices.invited(mine.email_key.upper(), mine.digest) is None
        assert await uow.practices.invited(mine.email_key, b"") is None


async def test_one_that_is_closed_is_found_as_such(backend: Backend, clinic: Clinic) -> None:
    first = _invitation(clinic, "i-1")
    await _invite(clinic, first, _invitation(clinic, "i-2", MONDAY + MINUTE))
    async with backend.uow() as uow:
        found = await uow.practices.invited(first.email_key, first.digest)
    assert found == replace(first, closed_at=MONDAY + MINUTE)


async def test_of_two_who_come_with_one_code_the_second_sees_that_it_was_used(backend: Backend, clinic: Clinic) -> None:
    asked = _invitation(clinic, "i-1")
    await _invite(clinic, asked)
    used = replace(asked, closed_at=MONDAY + MINUTE)
    seen = await in_turn(
        backend,
        lambda uow: uow.practices.invited(asked.email_key, asked.digest),
        lambda uow: uow.practices.put_invitation(used),
    )
    assert seen == used


async def test_of_an_invitation_only_the_role_and_the_end_change(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    asked, there = _invitation(clinic, "i-1"), _invitation(elsewhere, "i-1")
    await _invite(clinic, asked, there)
    changed = replace(asked, role=Role.AUDITOR, closed_at=MONDAY + MINUTE)
    fixed = _invitation(clinic, "i-1", MONDAY + DAY, "thief", invited_by="thief", digest=b"", name="")
    await _put(backend, replace(fixed, role=changed.role, closed_at=changed.closed_at))
    await _put(backend, _invitation(clinic, "i-9"))
    assert await _kept(asked, backend) == changed
    assert await _kept(there, backend) == there
    assert await _kept(_invitation(clinic, "i-9"), backend) is None


async def test_an_invitation_that_was_not_committed_invites_nobody_and_closes_none(
    backend: Backend, clinic: Clinic
) -> None:
    first, second = _invitation(clinic, "i-1"), _invitation(clinic, "i-2", MONDAY + MINUTE)
    await _invite(clinic, first)
    async with backend.uow() as uow:
        await uow.practices.invite(second)
    assert await _kept(first, backend) == first
    assert await _kept(second, backend) is None


async def test_an_invitation_needs_a_practice_and_an_id_of_its_own(backend: Backend, clinic: Clinic) -> None:
    await _invite(clinic, _invitation(clinic, "i-1"))
    for impossible in (_invitation(clinic, "i-2", practice_id="nowhere"), _invitation(clinic, "i-1", who="cleo")):
        async with backend.uow() as uow:
            with pytest.raises(Exception) as refused:
                await uow.practices.invite(impossible)
            assert not isinstance(refused.value, DomainError)
            with pytest.raises(Exception):  # noqa: B017 - what has failed cannot be kept
                await uow.commit()


async def test_invitations_are_counted_open_or_not_from_a_moment_on(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    await _invite(clinic, *(_invitation(clinic, f"i-{minute}", MONDAY + minute * MINUTE) for minute in range(4)))
    await _invite(clinic, _invitation(elsewhere, "i-1", MONDAY + 3 * MINUTE))
    async with backend.uow() as uow:
        for since, count in ((MONDAY - MINUTE, 4), (MONDAY, 3), (MONDAY + 2 * MINUTE, 1), (MONDAY + 3 * MINUTE, 0)):
            assert await uow.practices.invitations_since(clinic.id, since) == count
        assert await uow.practices.invitations_since("nowhere", MONDAY) == 0


async def test_who_is_present_members_first_then_who_is_asked(clinic: Clinic, elsewhere: Clinic) -> None:
    """Neither who has left, nor whose invitation is closed or too old, nor anyone from elsewhere."""
    for name, minute in {"young": 2, "old": -1, "b": 1, "B": 1, "a": 1}.items():
        await clinic.hire(name, Role.ASSISTANT, MONDAY + minute * MINUTE)
    await _end(clinic, await clinic.hire("gone"))
    await elsewhere.hire("stranger")
    asked = [
        _invitation(clinic, f"{clinic.id}-{name}", MONDAY - 8 * DAY + days * DAY, name, expires_at=MONDAY + DAY)
        for name, days in {"z": 1, "y": 3, "x": 2, "v": 2, "W": 2}.items()
    ]
    late = _invitation(clinic, "late", MONDAY - 7 * DAY, "late")
    closed = _invitation(clinic, "closed", MONDAY, "closed", closed_at=MONDAY)
    await _invite(clinic, *asked, late, closed, _invitation(elsewhere, "there", MONDAY, "there"))

    present = await _present(clinic)
    ids = [one.id.removeprefix(f"{clinic.id}-") for one in present]
    assert ids == ["old", "okafor", "B", "a", "b", "young", "z", "W", "v", "x", "y"]
    account = clinic.account("old")
    assert present[0] == Member(
        account.id, Presence.ACTIVE, account.email, account.name, Role.ASSISTANT, MONDAY - MINUTE
    )
    z = asked[0]
    assert present[6] == Member(z.id, Presence.INVITED, z.email, z.name, z.role, z.created_at, z.expires_at)
    assert [type(one.role) for one in present] == [Role] * 11
    assert [type(one.presence) for one in present] == [Presence] * 11

    assert late.id in [one.id for one in await _present(clinic, MONDAY - MINUTE)]
    assert len(await _present(clinic, MONDAY + DAY)) == 6


async def test_nobody_is_present_where_there_is_no_practice(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        assert list(await uow.practices.present("nowhere", MONDAY)) == []


# -- broken glass -------------------------------------------------------------------------------------------------


def _emergency(clinic: Clinic, id: str, who: str = "okafor", at: datetime = MONDAY, **fields: Any) -> Emergency:
    made = Emergency(clinic.id, id, clinic.account(who).id, "Nobody breathes,\nnot even Ä.", at, at + 60 * MINUTE)
    return replace(made, **fields)


async def _declare(clinic: Clinic, *emergencies: Emergency) -> None:
    async with clinic.backend.uow() as uow:
        for emergency in emergencies:
            await uow.practices.declare(emergency)
        await uow.commit()


async def test_broken_glass_is_kept_whole_in_its_practice(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    here = _emergency(clinic, "e-1", closed_at=MONDAY + MINUTE)
    there = _emergency(elsewhere, "e-1")
    await _declare(clinic, here)
    async with backend.uow() as uow:
        assert await uow.practices.emergency(clinic.id, "e-1") == here
        assert await uow.practices.emergency(clinic.id, "e-2") is None
        assert await uow.practices.emergency(elsewhere.id, "e-1") is None
        await uow.practices.declare(there)
        assert await uow.practices.emergency(elsewhere.id, "e-1") == there
    async with backend.uow() as uow:
        assert await uow.practices.emergency(elsewhere.id, "e-1") is None


async def test_of_broken_glass_only_the_end_changes(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    here, there = _emergency(clinic, "e-1"), _emergency(elsewhere, "e-1")
    await clinic.hire("bola")
    await _declare(clinic, here, there)
    closed = MONDAY + MINUTE
    async with backend.uow() as uow:
        other = _emergency(clinic, "e-1", "bola", MONDAY + DAY, reason="", closed_at=closed)
        await uow.practices.put_emergency(other)
        await uow.practices.put_emergency(_emergency(clinic, "e-9"))
        await uow.commit()
    async with backend.uow() as uow:
        assert await uow.practices.emergency(clinic.id, "e-1") == replace(here, closed_at=closed)
        assert await uow.practices.emergency(elsewhere.id, "e-1") == there
        assert await uow.practices.emergency(clinic.id, "e-9") is None
        await uow.practices.put_emergency(here)
    async with backend.uow() as uow:
        assert await uow.practices.emergency(clinic.id, "e-1") == replace(here, closed_at=closed)


async def test_an_accounts_open_emergency(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    await clinic.hire("bola")
    okafor, bola = clinic.dr_okafor.account_id, clinic.account("bola").id
    async with backend.uow() as uow:
        await uow.practices.join(Membership(elsewhere.id, okafor, Role.OWNER, MONDAY))
        await uow.commit()
    latest = _emergency(clinic, "e-2", at=MONDAY + MINUTE)
    await _declare(
        clinic,
        _emergency(clinic, "e-1", closed_at=MONDAY + MINUTE),
        latest,
        _emergency(elsewhere, "e-3", account_id=okafor, until=MONDAY + DAY),
    )
    async with backend.uow() as uow:
        assert await uow.practices.emergency_of(clinic.id, okafor, MONDAY + 2 * MINUTE) == latest
        assert await uow.practices.emergency_of(clinic.id, okafor, latest.until - MINUTE) == latest
        assert await uow.practices.emergency_of(clinic.id, okafor, latest.until) is None
        assert await uow.practices.emergency_of(clinic.id, bola, MONDAY + 2 * MINUTE) is None
        await uow.practices.put_emergency(replace(latest, closed_at=MONDAY + 2 * MINUTE))
        assert await uow.practices.emergency_of(clinic.id, okafor, MONDAY + 2 * MINUTE) is None


async def test_broken_glass_is_listed_newest_first_with_names_page_by_page(
    backend: Backend, clinic: Clinic, elsewhere: Clinic
) -> None:
    bola = await clinic.hire("bola")
    made = [
        _emergency(clinic, "e-1"),
        _emergency(clinic, "e-3", "bola", closed_at=MONDAY),
        _emergency(clinic, "E-4"),
        _emergency(clinic, "e-2", "bola"),
    ]
    await _declare(clinic, *made, _emergency(elsewhere, "e-2"))
    await _end(clinic, bola)  # who has left keeps the name
    async with backend.uow() as uow:
        await uow.accounts.put(clinic.account("okafor", name="Dr Ökafor"))
        await uow.commit()

    async def page(after: str | None, limit: int) -> list[tuple[Emergency, str]]:
        async with backend.uow() as uow:
            return list(await uow.practices.emergencies(clinic.id, after, limit))

    okafor = "Dr Ökafor"
    everything = [(made[1], "bola"), (made[3], "bola"), (made[0], okafor), (made[2], okafor)]
    assert await page(None, 9) == everything
    assert await page(None, 2) == everything[:2]
    assert await page("e-2", 1) == everything[2:3]
    assert await page("e-1", 9) == everything[3:]
    assert await page("E-4", 9) == []
    assert await page(None, 0) == []
    async with backend.uow() as uow:
        assert list(await uow.practices.emergencies("nowhere", None, 9)) == []


async def test_glass_is_broken_by_a_member_under_an_id_of_its_own(backend: Backend, clinic: Clinic) -> None:
    await _declare(clinic, _emergency(clinic, "e-1"))
    for impossible in (_emergency(clinic, "e-2", "nobody"), _emergency(clinic, "e-1")):
        async with backend.uow() as uow:
            with pytest.raises(Exception) as refused:
                await uow.practices.declare(impossible)
            assert not isinstance(refused.value, DomainError)
