"""The use cases of practices: who belongs to one, who is asked to, and what is done in an emergency."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from heallog.domain.access import Actor, Permission, Plan, Role, authorise
from heallog.domain.errors import (
    AlreadyExists,
    CodeInvalid,
    DomainError,
    EmailNotVerified,
    Forbidden,
    InvalidFields,
    LastOwner,
    NotFound,
    ProRequired,
    RateLimited,
    SessionEnded,
    WrongState,
)
from heallog.domain.events import GlassBroken, SessionClosed
from heallog.domain.practices import Membership, Practice, Presence

from .world import DAY, FRESH, HOME, HOUR, MINUTE, NOON, SECOND, World, address

REASON = "Bruno fell on the stairs and nobody else is here."


@pytest.fixture
async def house(world: World) -> World:
    """Northside with everyone in it, and southside with dr_stern."""
    await world.hire(world.grace, world.dr_okafor, world.dr_lee, world.amara, world.ines, world.dr_stern)
    world.clock.now += MINUTE
    return world


@pytest.fixture
async def small(world: World) -> World:
    """Northside with two members only."""
    await world.hire(world.grace, world.amara)
    world.clock.now += MINUTE
    return world


async def refused(asked: Awaitable[object], kind: type[DomainError]) -> DomainError:
    with pytest.raises(kind) as refusal:
        await asked
    return refusal.value


async def names(world: World) -> list[str]:
    return [one.email.partition("@")[0] for one in await world.practices.members(world.grace)]


# -- the practice itself ------------------------------------------------------------------------------------------


async def test_everyone_reads_the_practice_and_its_owner_renames_it(house: World) -> None:
    assert await house.practices.get(house.ines) == Practice("northside", "Northside", NOON)
    renamed = await house.practices.rename(house.grace, "Northside & Sons")
    assert await house.practices.get(house.amara) == renamed == Practice("northside", "Northside & Sons", NOON)
    assert (await house.practices.get(house.dr_stern)).name == "Southside"
    [entry] = house.entries
    assert (entry.action, entry.account_id, entry.practice_id) == ("practices.rename", "grace", "northside")


async def test_the_operator_sets_the_plan(house: World) -> None:
    assert (await house.practices.set_plan("northside", Plan.PRO)).plan is Plan.PRO
    assert (await house.practices.get(house.grace)).plan is Plan.PRO
    assert (await house.practices.get(house.dr_stern)).plan is Plan.FREE
    [entry] = house.entries
    assert (entry.action, entry.practice_id, entry.account_id, entry.reason) == (
        "practices.set-plan",
        "northside",
        "",
        "pro",
    )
    await refused(house.practices.set_plan("nowhere", Plan.PRO), NotFound)


async def test_a_practice_that_is_gone_refuses_everyone(house: World) -> None:
    lost = replace(house.grace, practice_id="gone")
    await refused(house.practices.get(lost), Forbidden)
    await refused(house.practices.rename(lost, "x"), Forbidden)


@pytest.mark.parametrize("who", ["dr_okafor", "amara", "ines"])
async def test_only_an_owner_rules_the_house(house: World, who: str) -> None:
    actor: Actor = getattr(house, who)
    cases = house.practices
    for asked in (
        cases.rename(actor, "Mine"),
        cases.invite(actor, "x@x.example", Role.OWNER, ""),
        cases.change_role(actor, who, Role.OWNER),
        cases.remove(actor, "grace"),
        cases.log_out(actor, "grace"),
    ):
        await refused(asked, Forbidden)
    assert {(entry.outcome, entry.reason) for entry in house.entries} == {("refused", "FORBIDDEN")}
    assert [entry.action for entry in house.entries] == [
        "practices.rename",
        "members.invite",
        "members.change",
        "members.remove",
        "members.log-out",
    ]
    assert (house.mail.letters, house.told) == ([], [])


async def test_whoever_is_not_verified_invites_nobody(house: World) -> None:
    await refused(
        house.practices.invite(replace(house.grace, verified=False), "x@x.example", Role.OWNER, ""), EmailNotVerified
    )


# -- invitations --------------------------------------------------------------------------------------------------


async def test_grace_asks_bola_to_join(small: World) -> None:
    asked = await small.practices.invite(small.grace, " Bola@North.example ", Role.CLINICIAN, "Bola")
    assert (asked.presence, asked.email, asked.name, asked.role) == (
        Presence.INVITED,
        "Bola@North.example",
        "Bola",
        Role.CLINICIAN,
    )
    assert (asked.since, asked.expires_at) == (small.clock(), small.clock() + 7 * DAY)
    [letter] = small.mail.letters
    assert letter.to == "Bola@North.example"
    assert "Grace asks you to join Northside as clinician" in letter.text
    code = small.mail.letters[-1].text.split("    ")[1].split("\n")[0]
    [entry] = small.entries
    assert (entry.action, entry.thing_id) == ("members.invite", asked.id)
    assert list(await small.practices.members(small.ines))[-1] == asked
    [kept] = small.store.invitations.values()
    assert code not in repr(kept) + repr(small.entries)
    assert len(code) == 43


async def test_a_plan_counts_people_and_open_invitations(small: World) -> None:
    for n in range(3):
        await small.practices.invite(small.grace, f"{n}@north.example", Role.ASSISTANT, "")
    refusal = await refused(small.practices.invite(small.grace, "3@north.example", Role.ASSISTANT, ""), ProRequired)
    assert refusal.context == {"plan": "free", "members": 5}
    assert small.entries[-1].reason == "PRO_REQUIRED"
    # The same address again takes no second place; one that is withdrawn or too old takes none.
    again = await small.practices.invite(small.grace, "2@north.example", Role.ASSISTANT, "")
    await small.practices.remove(small.grace, again.id)
    await small.practices.invite(small.grace, "3@north.example", Role.ASSISTANT, "")
    small.clock.now += 7 * DAY
    for n in range(3):
        await small.practices.invite(small.grace, f"{n + 4}@north.example", Role.ASSISTANT, "")
    assert len(await names(small)) == 5


async def test_of_invitations_at_once_as_many_are_made_as_the_plan_has_room_for(small: World) -> None:
    servers = [small.server() for _ in range(8)]
    answers = await asyncio.gather(
        *(
            server.practices.invite(small.grace, f"{n}@north.example", Role.ASSISTANT, "")
            for n, server in enumerate(servers)
        ),
        return_exceptions=True,
    )
    assert [type(one) for one in answers].count(ProRequired) == 5
    assert len(small.mail.letters) == 3


async def test_a_larger_plan_has_room_for_more(small: World) -> None:
    await small.practices.set_plan("northside", Plan.PRO)
    for n in range(6):
        await small.practices.invite(small.grace, f"{n}@north.example", Role.ASSISTANT, "")


async def test_whoever_is_asked_again_gets_a_new_code_and_the_old_one_is_worth_nothing(small: World) -> None:
    codes = []
    for role in (Role.ASSISTANT, Role.OWNER):
        small.clock.now += MINUTE
        await small.practices.invite(small.grace, "BOLA@north.example", role, "Bola")
        codes.append(small.mail.letters[-1].text.split("    ")[1].split("\n")[0])
    assert [one.role for one in await small.practices.members(small.grace) if one.name == "Bola"] == [Role.OWNER]
    join = small.accounts.accept
    await refused(join("bola@north.example", codes[0], FRESH, None, "Bola", None, HOME), CodeInvalid)
    joined = await join("bola@north.example", codes[1], FRESH, None, "Bola", None, HOME)
    assert joined.role is Role.OWNER


async def test_a_member_is_not_asked_again(house: World) -> None:
    await house.practices.set_plan("northside", Plan.PRO)
    house.forget()
    await refused(house.practices.invite(house.grace, " AMARA@north.example", Role.OWNER, ""), AlreadyExists)
    assert house.mail.letters == []
    # Of another practice they are no member.
    await house.practices.invite(house.grace, address("dr_stern"), Role.AUDITOR, "")


async def test_a_practice_writes_to_twenty_strangers_an_hour(small: World) -> None:
    await small.practices.set_plan("northside", Plan.PRO)
    for n in range(20):
        await small.practices.invite(small.grace, f"{n % 3}@north.example", Role.ASSISTANT, "")
        small.clock.now += MINUTE
    refusal = await refused(small.practices.invite(small.grace, "x@north.example", Role.ASSISTANT, ""), RateLimited)
    assert refusal.context == {"retry_after": 3600}
    assert len(small.mail.letters) == 20
    small.clock.now += 40 * MINUTE
    await small.practices.invite(small.grace, "x@north.example", Role.ASSISTANT, "")


async def test_an_address_that_is_none_is_not_written_to(small: World) -> None:
    refusal = await refused(
        small.practices.invite(small.grace, "bola@nowhere.invalid", Role.ASSISTANT, ""), InvalidFields
    )
    assert refusal.field == "email"
    assert "must end in .example" in refusal.message
    assert (small.mail.letters, small.entries) == ([], [])


async def test_an_invitation_by_someone_whose_account_is_gone_names_the_practice(small: World) -> None:
    ghost = replace(small.grace, account_id="ghost")
    await small.practices.invite(ghost, "bola@north.example", Role.ASSISTANT, "")
    assert small.mail.letters[-1].text.startswith("Northside asks you")


# -- roles --------------------------------------------------------------------------------------------------------


async def test_another_role_counts_at_once_and_is_written_down(house: World) -> None:
    tokens = await house.login("amara")
    house.forget()
    changed = await house.practices.change_role(house.grace, "amara", Role.CLINICIAN)
    assert (changed.id, changed.role, changed.presence) == ("amara", Role.CLINICIAN, Presence.ACTIVE)
    assert (await house.who(tokens)).role is Role.CLINICIAN
    [entry] = house.entries
    assert (entry.action, entry.thing_id, entry.reason, entry.account_id) == (
        "members.change",
        "amara",
        "clinician",
        "grace",
    )


async def test_the_role_of_an_invitation_changes_too(small: World) -> None:
    asked = await small.practices.invite(small.grace, "bola@north.example", Role.OWNER, "Bola")
    code = small.mail.letters[-1].text.split("    ")[1].split("\n")[0]
    changed = await small.practices.change_role(small.grace, asked.id, Role.AUDITOR)
    assert changed == replace(asked, role=Role.AUDITOR)
    joined = await small.accounts.accept("bola@north.example", code, FRESH, None, "Bola", None, HOME)
    assert joined.role is Role.AUDITOR


async def test_the_only_owner_stays_one(house: World) -> None:
    for role in (Role.CLINICIAN, Role.ASSISTANT, Role.AUDITOR):
        await refused(house.practices.change_role(house.grace, "grace", role), LastOwner)
    await refused(house.practices.remove(house.grace, "grace"), LastOwner)
    assert (await house.practices.change_role(house.grace, "grace", Role.OWNER)).role is Role.OWNER
    assert {entry.reason for entry in house.entries} == {"LAST_OWNER", "owner"}


async def test_an_owner_who_was_only_asked_is_none_yet(small: World) -> None:
    await small.practices.invite(small.grace, "bola@north.example", Role.OWNER, "Bola")
    await refused(small.practices.remove(small.grace, "grace"), LastOwner)


async def test_of_two_owners_who_remove_each_other_one_stays(house: World) -> None:
    await house.practices.change_role(house.grace, "dr_okafor", Role.OWNER)
    okafor = replace(house.dr_okafor, role=Role.OWNER)
    answers = await asyncio.gather(
        house.practices.remove(house.grace, "dr_okafor"),
        house.server().practices.remove(okafor, "grace"),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in answers) == ["LastOwner", "NoneType"]
    owners = [one for one in await house.practices.members(house.grace) if one.role is Role.OWNER]
    assert len(owners) == 1


@pytest.mark.parametrize("who", ["nobody", "dr_stern"])
async def test_people_of_other_practices_are_as_good_as_nobody(house: World, who: str) -> None:
    cases = house.practices
    for asked in (
        cases.change_role(house.grace, who, Role.OWNER),
        cases.remove(house.grace, who),
        cases.log_out(house.grace, who),
    ):
        assert (await refused(asked, NotFound)).message == "there is no such member"
    assert [entry.thing_id for entry in house.entries] == [who] * 3


# -- removed ------------------------------------------------------------------------------------------------------


async def in_both(house: World) -> tuple[object, object]:
    """amara, logged in to both practices."""
    async with house.uow() as uow:
        await uow.practices.join(Membership("southside", "amara", Role.ASSISTANT, house.clock()))
        await uow.commit()
    north = await house.login("amara")
    return north, await house.sessions.switch(await house.who(north), "southside", HOME)


async def test_whoever_is_removed_is_out_at_once_and_stays_in_other_practices(house: World) -> None:
    north, south = await in_both(house)
    session = (await house.who(north)).session_id
    house.forget()
    await house.practices.remove(house.grace, "amara")
    await refused(house.who(north), SessionEnded)
    await refused(house.server().sessions.refresh(north.refresh_token, HOME), SessionEnded)
    assert (await house.who(south)).practice_id == "southside"
    assert house.told == [SessionClosed("northside", "amara", session, "membership")]
    assert await house.blacklist.revoked("northside", session)
    assert "amara" not in await names(house)
    [entry] = house.entries
    assert (entry.action, entry.thing_id) == ("members.remove", "amara")
    await refused(house.practices.remove(house.grace, "amara"), NotFound)


async def test_an_invitation_is_withdrawn(small: World) -> None:
    asked = await small.practices.invite(small.grace, "bola@north.example", Role.OWNER, "Bola")
    code = small.mail.letters[-1].text.split("    ")[1].split("\n")[0]
    await small.practices.remove(small.grace, asked.id)
    assert sorted(await names(small)) == ["amara", "grace"]
    join = small.accounts.accept("bola@north.example", code, FRESH, None, "Bola", None, HOME)
    await refused(join, CodeInvalid)
    await refused(small.practices.remove(small.grace, asked.id), NotFound)


async def test_an_invitation_that_is_too_old_is_as_good_as_none(small: World) -> None:
    asked = await small.practices.invite(small.grace, "bola@north.example", Role.OWNER, "Bola")
    small.clock.now += 7 * DAY
    await refused(small.practices.change_role(small.grace, asked.id, Role.AUDITOR), NotFound)


async def test_the_owner_logs_out_a_stolen_tablet_here_and_not_elsewhere(house: World) -> None:
    north, south = await in_both(house)
    house.forget()
    assert await house.practices.log_out(house.grace, "amara") == 1
    await refused(house.who(north), SessionEnded)
    assert (await house.who(south)).practice_id == "southside"
    assert [event.ending for event in house.told if isinstance(event, SessionClosed)] == ["revoked"]
    [entry] = house.entries
    assert (entry.action, entry.thing_id) == ("members.log-out", "amara")
    assert await house.practices.log_out(house.grace, "amara") == 0
    await house.login("amara")


async def test_an_invitation_has_nothing_to_log_out(small: World) -> None:
    asked = await small.practices.invite(small.grace, "bola@north.example", Role.OWNER, "Bola")
    await refused(small.practices.log_out(small.grace, asked.id), NotFound)


# -- broken glass -------------------------------------------------------------------------------------------------


async def test_amara_breaks_the_glass_and_every_owner_hears_of_it(house: World) -> None:
    await house.practices.change_role(house.grace, "dr_lee", Role.OWNER)
    tokens = await house.login("amara")
    amara = await house.who(tokens)
    house.forget()
    emergency, name = await house.practices.break_glass(amara, REASON, 60)
    assert (emergency.opened_at, emergency.until, name) == (house.clock(), house.clock() + HOUR, "Amara")
    assert house.told == [GlassBroken("northside", "amara", emergency.id)]
    assert {letter.to for letter in house.mail.letters} == {address("grace"), address("dr_lee")}
    assert all(REASON in letter.text and "60 minutes" in letter.text for letter in house.mail.letters)
    [entry] = house.entries
    assert (entry.action, entry.thing_id, entry.reason, entry.role) == (
        "emergencies.declare",
        emergency.id,
        REASON,
        "assistant",
    )
    with pytest.raises(Forbidden):
        authorise(amara, Permission.SIGN_RECORDS)
    authorise(await house.who(tokens), Permission.SIGN_RECORDS)
    house.clock.now += HOUR
    tokens = await house.sessions.refresh(tokens.refresh_token, HOME)
    with pytest.raises(Forbidden):
        authorise(await house.who(tokens), Permission.SIGN_RECORDS)


async def test_everything_that_is_done_through_broken_glass_is_marked(house: World) -> None:
    tokens = await house.login("amara")
    await house.admit("alice")
    await house.note("note-1")
    await house.practices.break_glass(await house.who(tokens), REASON, 5)
    house.forget()
    amara = await house.who(tokens)
    await house.records.get(amara, "note-1")
    await refused(house.patients.delete(amara, "alice", None), Forbidden)  # type: ignore[arg-type]
    await house.sessions.logout(amara)
    assert [(entry.action, entry.role) for entry in house.entries] == [
        ("records.read", "assistant+emergency"),
        ("patients.delete", "assistant+emergency"),
        ("sessions.logout", "assistant+emergency"),
    ]


@pytest.mark.parametrize("who", ["grace", "dr_okafor", "ines"])
async def test_only_an_assistant_has_glass_to_break(house: World, who: str) -> None:
    await refused(house.practices.break_glass(getattr(house, who), REASON, 60), Forbidden)
    assert house.mail.letters == []


async def test_glass_is_broken_once_at_a_time(house: World) -> None:
    answers = await asyncio.gather(
        *(house.server().practices.break_glass(house.amara, REASON, 60) for _ in range(5)), return_exceptions=True
    )
    refusals = [one for one in answers if isinstance(one, WrongState)]
    [broken] = [one[0] for one in answers if not isinstance(one, BaseException)]
    assert [one.context for one in refusals] == [{"emergency": broken.id}] * 4
    assert len(house.mail.letters) == 1
    house.clock.now += HOUR
    await house.practices.break_glass(house.amara, REASON, 60)


async def test_someone_elses_broken_glass_is_not_mine(house: World) -> None:
    await house.practices.change_role(house.grace, "dr_lee", Role.ASSISTANT)
    await house.practices.break_glass(house.amara, REASON, 60)
    assert not (await house.enter("dr_lee")).emergency
    await house.practices.break_glass(replace(house.dr_lee, role=Role.ASSISTANT), REASON, 60)


async def test_whose_account_left_meanwhile_is_told_of_without_a_name(house: World) -> None:
    house.store.memberships["northside", "amara"] = replace(
        house.store.memberships["northside", "amara"], ended_at=house.clock()
    )
    _, name = await house.practices.break_glass(house.amara, REASON, 60)
    assert name == ""


async def test_owner_and_auditor_read_every_emergency_newest_first(house: World) -> None:
    broken = []
    for _ in range(3):
        broken.append((await house.practices.break_glass(house.amara, REASON, 5))[0])
        house.clock.now += HOUR
    for actor in (house.grace, house.ines):
        page = await house.practices.emergencies(actor, None, 2)
        assert [(one.id, name) for one, name in page] == [(broken[2].id, "Amara"), (broken[1].id, "Amara")]
        assert [one.id for one, _ in await house.practices.emergencies(actor, broken[1].id, 2)] == [broken[0].id]
    assert await house.practices.emergencies(house.dr_stern, None, 9) == []
    for actor in (house.amara, house.dr_okafor):
        await refused(house.practices.emergencies(actor, None, 9), Forbidden)


@pytest.mark.parametrize("who", ["amara", "grace"])
async def test_whoever_broke_the_glass_or_an_owner_says_that_it_is_over(house: World, who: str) -> None:
    tokens = await house.login("amara")
    emergency, _ = await house.practices.break_glass(await house.who(tokens), REASON, 60)
    house.clock.now += SECOND
    house.forget()
    await house.practices.close(getattr(house, who), emergency.id)
    assert not (await house.who(tokens)).emergency
    [entry] = house.entries
    assert (entry.action, entry.thing_id, entry.account_id) == ("emergencies.close", emergency.id, who)
    await refused(house.practices.close(getattr(house, who), emergency.id), NotFound)
    [(closed, _)] = await house.practices.emergencies(house.grace, None, 9)
    assert closed.closed_at == house.clock()


@pytest.mark.parametrize("who", ["dr_okafor", "ines"])
async def test_nobody_else_closes_it(house: World, who: str) -> None:
    emergency, _ = await house.practices.break_glass(house.amara, REASON, 60)
    house.forget()
    for emergency_id in (emergency.id, "nothing"):
        await refused(house.practices.close(getattr(house, who), emergency_id), Forbidden)
    assert [(entry.action, entry.outcome, entry.thing_id) for entry in house.entries] == [
        ("emergencies.close", "refused", emergency.id),
        ("emergencies.close", "refused", "nothing"),
    ]


async def test_an_emergency_of_another_practice_is_as_good_as_none(house: World) -> None:
    emergency, _ = await house.practices.break_glass(house.amara, REASON, 60)
    for emergency_id in (emergency.id, "nothing"):
        await refused(house.practices.close(house.dr_stern, emergency_id), NotFound)
    house.clock.now += HOUR
    await refused(house.practices.close(house.amara, emergency.id), NotFound)
