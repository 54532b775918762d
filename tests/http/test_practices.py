"""Bola runs Lakeside: she asks people to join, says what they may do, and lets them go; and who breaks the glass."""

import asyncio

import pytest

from heallog.domain.access import Plan, Role

from .clinic import refused
from .people import DAY, HOUR, MINUTE, SECOND, House, Person

MEMBERS, EMERGENCIES = "/v1/practice/members", "/v1/practice/emergencies"
REASON = "Nobody else is here, and she does not breathe."


@pytest.fixture
async def bola(house: House) -> Person:
    return await house.person("Bola")


# -- the practice -------------------------------------------------------------------------------------------------


async def test_the_practice_says_what_its_plan_gives_and_can_be_renamed(bola: Person) -> None:
    practice = await bola.get("/v1/practice")
    assert practice == practice | {"id": bola.practice_id, "name": "Lakeside", "plan": "free", "members_at_most": 5}
    renamed = await bola.did("PATCH", "/v1/practice", {"name": "Lakeside and Hillside"})
    assert renamed == practice | {"name": "Lakeside and Hillside"}
    assert await bola.trail() == [("practices.rename", "done", None)]
    assert (await bola.get("/v1/me"))["practice"]["name"] == "Lakeside and Hillside"
    for body in ({}, {"name": ""}, {"name": 7}):
        refused(await bola.ask("PATCH", "/v1/practice", body), 422, "INVALID_FIELDS", "name")
    refused(await bola.ask("PATCH", "/v1/practice", {"name": "X", "plan": "pro"}), 422, "INVALID_FIELDS", "plan")


async def test_everybody_knows_a_member_by_the_name_that_they_chose_last(bola: Person) -> None:
    chidi = await bola.hires(Role.CLINICIAN, "Chidi")
    assert (await chidi.did("PATCH", "/v1/me", {"name": "Dr Chidi"}))["account"]["name"] == "Dr Chidi"
    assert await chidi.trail() == [("accounts.rename", "done", None)]
    members = (await bola.get(MEMBERS))["items"]
    assert [member["name"] for member in members] == ["Bola", "Dr Chidi"]


# -- inviting -----------------------------------------------------------------------------------------------------


async def test_bola_invites_chidi_who_is_new_and_can_work_at_once(house: House, bola: Person) -> None:
    chidi = house.stranger("Chidi")
    answer = await bola.post(MEMBERS, {"email": chidi.email, "role": "clinician", "name": "Chidi"})
    assert answer.status_code == 201
    invited = answer.json()
    assert invited == invited | {"state": "invited", "email": chidi.email, "role": "clinician", "name": "Chidi"}
    (entry,) = await bola.entries()
    assert (entry["action"], entry["thing_id"]) == ("members.invite", invited["id"])
    assert (await bola.get(MEMBERS))["items"][1] == invited
    (letter,) = chidi.letters
    assert letter.subject == "Join Lakeside on HealLog"
    assert "Bola" in letter.text
    assert "clinician" in letter.text

    answer = await chidi.accepts()
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/me"
    said = answer.json()
    assert (said["account"]["email"], said["account"]["email_verified"]) == (chidi.email, True)
    assert (said["practice"]["id"], said["practice"]["role"]) == (bola.practice_id, "clinician")
    assert await chidi.trail() == [("accounts.accept", "done", None), ("sessions.login", "done", None)]
    await chidi.did("POST", "/v1/patients", {"family_name": "Obi"})
    assert (await chidi.login()).status_code == 200
    members = (await bola.get(MEMBERS))["items"]
    assert [(one["state"], one["name"], one["role"]) for one in members] == [
        ("active", "Bola", "owner"), ("active", "Chidi", "clinician"),
    ]  # fmt: skip
    assert members[1]["id"] == chidi.id


async def test_an_answer_to_an_invitation_tells_nothing_of_whether_there_is_an_account(
    house: House, bola: Person
) -> None:
    known, unknown = await house.person("Dayo"), house.stranger("Dayo")
    invited = [await bola.invites(person, Role.AUDITOR) for person in (known, unknown)]
    assert invited[0].keys() == invited[1].keys()
    differing = {name for name in invited[0] if invited[0][name] != invited[1][name]}
    assert differing == {"id", "email"}


async def test_dayo_who_has_an_account_joins_with_her_password_and_has_two_practices(
    house: House, bola: Person
) -> None:
    dayo = await house.person("Dayo", practice="Riverside")
    riverside = dayo.practice_id
    await bola.invites(dayo, Role.ASSISTANT)
    refused(await dayo.accepts(password="not her password"), 401, "INVALID_CREDENTIALS")
    answer = await dayo.accepts(name="Somebody Else")
    assert answer.status_code == 201
    assert answer.json()["account"]["name"] == "Dayo"
    assert dayo.practice_id == bola.practice_id
    dayo.tokens = await dayo.did("POST", "/v1/auth/switch", {"practice_id": riverside})
    assert (await dayo.get("/v1/me"))["practice"]["name"] == "Riverside"
    refused(await bola.post(MEMBERS, {"email": dayo.email, "role": "owner"}), 409, "ALREADY_EXISTS")


async def test_a_code_that_is_wrong_used_withdrawn_replaced_or_old_opens_nothing(house: House, bola: Person) -> None:
    chidi = house.stranger("Chidi")
    await bola.invites(chidi, Role.CLINICIAN)
    refused(await chidi.accepts("wrong"), 422, "CODE_INVALID", "code")
    first = chidi.code
    await bola.invites(chidi, Role.ASSISTANT)
    refused(await chidi.accepts(first), 422, "CODE_INVALID", "code")
    assert (await chidi.accepts()).json()["practice"]["role"] == "assistant"
    refused(await chidi.accepts(), 422, "CODE_INVALID", "code")

    eve = house.stranger("Eve")
    invited = await bola.invites(eve, Role.OWNER)
    refused(await chidi.accepts(eve.code), 422, "CODE_INVALID", "code")
    await bola.did("DELETE", f"{MEMBERS}/{invited['id']}")
    refused(await eve.accepts(), 422, "CODE_INVALID", "code")
    assert [member["name"] for member in (await bola.get(MEMBERS))["items"]] == ["Bola", "Chidi"]

    late, early = house.stranger("Late"), house.stranger("Early")
    await bola.invites(early, Role.ASSISTANT)
    expired = await bola.invites(late, Role.ASSISTANT)
    house.clock.now += 7 * DAY - SECOND
    assert (await early.accepts()).status_code == 201
    house.clock.now += SECOND
    refused(await late.accepts(), 422, "CODE_INVALID", "code")
    await bola.login()
    refused(await bola.ask("PATCH", f"{MEMBERS}/{expired['id']}", {"role": "owner"}), 404, "NOT_FOUND")
    assert len((await bola.get(MEMBERS))["items"]) == 3


async def test_who_is_new_needs_a_name_and_a_good_password(house: House, bola: Person) -> None:
    chidi = house.stranger("Chidi")
    await bola.invites(chidi, Role.CLINICIAN)
    refused(await chidi.accepts(name=None), 422, "INVALID_FIELDS", "name")
    refused(await chidi.accepts(password="password1234"), 422, "INVALID_FIELDS", "password")
    assert (await chidi.accepts()).status_code == 201


async def test_of_ten_who_accept_an_invitation_at_once_one_is_in(house: House, bola: Person) -> None:
    chidi = house.stranger("Chidi")
    await bola.invites(chidi, Role.CLINICIAN)
    code = chidi.code
    answers = await asyncio.gather(*(chidi.accepts(code) for _ in range(10)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {409, 422}
    assert len((await bola.get(MEMBERS))["items"]) == 2


async def test_an_address_that_is_none_is_not_invited(bola: Person) -> None:
    refused(await bola.post(MEMBERS, {"email": "chidi at home", "role": "owner"}), 422, "INVALID_FIELDS", "email")
    refused(await bola.post(MEMBERS, {"email": "c@example.org", "role": "king"}), 422, "INVALID_FIELDS", "role")


async def test_a_free_practice_has_five_members_and_a_paying_one_more(house: House, bola: Person) -> None:
    people = [house.stranger(name) for name in ("Ada", "Ben", "Cy", "Dee", "Eve")]
    invited = [await bola.invites(person, Role.ASSISTANT) for person in people[:4]]
    body = {"email": people[4].email, "role": "assistant"}
    answer = await bola.post(MEMBERS, body)
    error = refused(answer, 403, "PRO_REQUIRED")
    assert error["context"] == {"plan": "free", "members": 5}
    assert await bola.trail() == [("members.invite", "refused", "PRO_REQUIRED")]
    # Whoever was asked already can be asked again; who is not asked any more leaves room.
    await bola.invites(people[0], Role.ASSISTANT)
    await bola.did("DELETE", f"{MEMBERS}/{invited[1]['id']}")
    await bola.did("POST", MEMBERS, body)
    refused(await bola.post(MEMBERS, {**body, "email": people[1].email}), 403, "PRO_REQUIRED")
    await bola.pays(Plan.PRO)
    assert (await bola.get("/v1/practice"))["members_at_most"] == 1000
    await bola.invites(people[1], Role.ASSISTANT)


async def test_of_ten_invitations_at_once_a_free_practice_has_room_for_four(house: House, bola: Person) -> None:
    bodies = [{"email": house.stranger().email, "role": "assistant"} for _ in range(10)]
    answers = await asyncio.gather(*(bola.post(MEMBERS, body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [403] * 6


async def test_nobody_mails_strangers_all_day_through_a_practice(house: House, bola: Person) -> None:
    chidi = house.stranger("Chidi")
    for _ in range(20):
        await bola.invites(chidi, Role.CLINICIAN)
    answer = await bola.post(MEMBERS, {"email": chidi.email, "role": "owner"})
    refused(answer, 429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) == 3600
    house.clock.now += HOUR
    await bola.login()
    await bola.invites(chidi, Role.CLINICIAN)


# -- roles, and the end -------------------------------------------------------------------------------------------


async def test_a_changed_role_counts_for_the_very_next_request_with_the_same_token(bola: Person) -> None:
    chidi = await bola.hires(Role.ASSISTANT, "Chidi")
    path = f"{MEMBERS}/{chidi.id}"
    refused(await chidi.ask("PATCH", "/v1/practice", {"name": "Mine"}), 403, "FORBIDDEN")
    changed = await bola.did("PATCH", path, {"role": "owner"})
    assert (changed["id"], changed["role"], changed["state"]) == (chidi.id, "owner", "active")
    (entry,) = await bola.entries()
    assert (entry["action"], entry["thing_id"], entry["reason"]) == ("members.change", chidi.id, "owner")
    await chidi.did("PATCH", "/v1/practice", {"name": "Ours"})
    await bola.did("PATCH", path, {"role": "auditor"})
    refused(await chidi.ask("PATCH", "/v1/practice", {"name": "Mine"}), 403, "FORBIDDEN")
    refused(await chidi.post("/v1/patients", {"family_name": "Obi"}), 403, "FORBIDDEN")
    assert (await chidi.get("/v1/me"))["practice"]["role"] == "auditor"


async def test_who_is_invited_can_be_given_another_role_before_they_come(house: House, bola: Person) -> None:
    chidi = house.stranger("Chidi")
    invited = await bola.invites(chidi, Role.OWNER)
    changed = await bola.did("PATCH", f"{MEMBERS}/{invited['id']}", {"role": "assistant"})
    assert (changed["state"], changed["role"]) == ("invited", "assistant")
    assert (await chidi.accepts()).json()["practice"]["role"] == "assistant"


async def test_who_is_let_go_is_out_at_once_and_can_come_back(house: House, bola: Person) -> None:
    chidi = await bola.hires(Role.CLINICIAN, "Chidi")
    phone = dict(chidi.tokens)
    await chidi.login(device_id="tablet")
    patient = await chidi.did("POST", "/v1/patients", {"family_name": "Obi"})
    await bola.did("DELETE", f"{MEMBERS}/{chidi.id}")
    for tokens in (phone, chidi.tokens):
        refused(await chidi.ask("GET", "/v1/patients", token=tokens["access_token"]), 401, "SESSION_ENDED")
        refused(await chidi.refresh(tokens["refresh_token"]), 401, "MEMBERSHIP_ENDED")
    refused(await chidi.login(), 403, "FORBIDDEN")
    refused(await bola.ask("DELETE", f"{MEMBERS}/{chidi.id}"), 404, "NOT_FOUND")
    # What they wrote stays, with their name.
    history = await bola.get(f"/v1/patients/{patient['id']}/history")
    assert chidi.id in str(history)
    log = await bola.get(f"/v1/patients/{patient['id']}/access-log")
    assert "Chidi" in {item["account_name"] for item in log["items"]}

    house.clock.now += MINUTE
    await bola.invites(chidi, Role.ASSISTANT)
    assert (await chidi.accepts()).status_code == 201
    assert (await chidi.get("/v1/me"))["practice"]["role"] == "assistant"
    assert not await chidi.alive(phone["access_token"])
    refused(await chidi.refresh(phone["refresh_token"]), 401, "SESSION_ENDED")


async def test_a_practice_keeps_an_owner(bola: Person) -> None:
    path = f"{MEMBERS}/{bola.id}"
    chidi = await bola.hires(Role.CLINICIAN, "Chidi")
    for answer in (await bola.ask("PATCH", path, {"role": "auditor"}), await bola.ask("DELETE", path)):
        refused(answer, 409, "LAST_OWNER")
    assert await bola.trail() == [("members.remove", "refused", "LAST_OWNER")]
    await bola.did("PATCH", path, {"role": "owner"})
    await bola.did("PATCH", f"{MEMBERS}/{chidi.id}", {"role": "owner"})
    await bola.did("PATCH", path, {"role": "auditor"})
    refused(await bola.ask("PATCH", path, {"role": "owner"}), 403, "FORBIDDEN")
    refused(await chidi.ask("DELETE", f"{MEMBERS}/{chidi.id}"), 409, "LAST_OWNER")


async def test_of_two_owners_who_let_each_other_go_one_stays(bola: Person) -> None:
    chidi = await bola.hires(Role.OWNER, "Chidi")
    answers = await asyncio.gather(
        bola.ask("DELETE", f"{MEMBERS}/{chidi.id}"), chidi.ask("DELETE", f"{MEMBERS}/{bola.id}")
    )
    assert 204 in {answer.status_code for answer in answers}
    assert {answer.status_code for answer in answers} <= {204, 401, 403, 409}
    assert [await bola.alive(), await chidi.alive()].count(True) == 1


async def test_bola_logs_out_a_member_whose_tablet_was_stolen(house: House, bola: Person) -> None:
    chidi = await bola.hires(Role.CLINICIAN, "Chidi")
    dayo = await house.person("Dayo", practice="Riverside")
    await dayo.invites(chidi, Role.CLINICIAN)
    lakeside = chidi.tokens
    await chidi.accepts()
    riverside = chidi.tokens
    await bola.did("DELETE", f"{MEMBERS}/{chidi.id}/sessions")
    (entry,) = await bola.entries()
    assert (entry["action"], entry["thing_id"]) == ("members.log-out", chidi.id)
    assert not await chidi.alive(lakeside["access_token"])
    # What they are in another practice is none of Bola's business.
    assert await chidi.alive(riverside["access_token"])
    invited = await bola.invites(house.stranger(), Role.AUDITOR)
    refused(await bola.ask("DELETE", f"{MEMBERS}/{invited['id']}/sessions"), 404, "NOT_FOUND")


# -- broken glass -------------------------------------------------------------------------------------------------


async def drafted(person: Person) -> str:
    """A draft that nobody has signed yet; gives the address at which it is done."""
    patient = await person.did("POST", "/v1/patients", {"family_name": "Obi"})
    note = {"kind": "note", "text": "Does not breathe."}
    record = await person.did("POST", f"/v1/patients/{patient['id']}/records", note)
    return f"/v1/records/{record['id']}/sign"


async def test_an_assistant_breaks_the_glass_and_signs_and_everyone_can_see_it(bola: Person) -> None:
    await bola.hires(Role.OWNER, "Eve")
    chidi = await bola.hires(Role.CLINICIAN, "Chidi")
    ada = await bola.hires(Role.ASSISTANT, "Ada")
    sign = await drafted(ada)
    refused(await ada.post(sign, {"base_version": 1}), 403, "FORBIDDEN")
    before = [len(person.letters) for person in (bola, chidi, ada)]

    answer = await ada.post(EMERGENCIES, {"reason": REASON})
    assert answer.status_code == 201
    broken = answer.json()
    assert broken == broken | {"account_id": ada.id, "account_name": "Ada", "reason": REASON, "closed_at": None}
    (entry,) = await ada.entries()
    assert (entry["action"], entry["thing_id"], entry["reason"]) == ("emergencies.declare", broken["id"], REASON)
    # The owners are told, and nobody else.
    letter = bola.letters[-1]
    assert letter.subject == "Broken glass in Lakeside"
    assert "Ada" in letter.text
    assert REASON in letter.text
    assert [len(person.letters) for person in (bola, chidi, ada)] == [before[0] + 1, *before[1:]]

    await ada.did("POST", sign, {"base_version": 1})
    (entry,) = await ada.entries()
    assert (entry["action"], entry["role"], entry["outcome"]) == ("records.sign", "assistant+emergency", "done")
    # An emergency is not everything: she still deletes nothing and manages nobody.
    refused(await ada.ask("DELETE", sign.removesuffix("/sign"), {"base_version": 2}), 403, "FORBIDDEN")
    refused(await ada.ask("DELETE", f"{MEMBERS}/{chidi.id}"), 403, "FORBIDDEN")
    again = await ada.post(EMERGENCIES, {"reason": REASON})
    assert refused(again, 409, "WRONG_STATE")["context"] == {"emergency": broken["id"]}
    assert (await bola.get(EMERGENCIES))["items"] == [broken]
    audit = (await bola.get("/v1/audit?limit=500"))["items"]
    assert {item["action"] for item in audit if item["role"] == "assistant+emergency"} >= {"records.sign"}


async def test_broken_glass_ends_with_its_time(house: House, bola: Person) -> None:
    ada = await bola.hires(Role.ASSISTANT, "Ada")
    first, second = await drafted(ada), await drafted(ada)
    await ada.did("POST", EMERGENCIES, {"reason": REASON, "minutes": 5})
    house.clock.now += 5 * MINUTE - SECOND
    await ada.did("POST", first, {"base_version": 1})
    house.clock.now += SECOND
    refused(await ada.post(second, {"base_version": 1}), 403, "FORBIDDEN")
    await ada.did("POST", EMERGENCIES, {"reason": REASON})
    await ada.did("POST", second, {"base_version": 1})


async def test_who_broke_the_glass_or_an_owner_says_that_it_is_over(bola: Person) -> None:
    ada, ben = await bola.hires(Role.ASSISTANT, "Ada"), await bola.hires(Role.ASSISTANT, "Ben")
    chidi = await bola.hires(Role.CLINICIAN, "Chidi")
    sign = await drafted(ada)
    for closer in (ada, bola):
        broken = await ada.did("POST", EMERGENCIES, {"reason": REASON})
        path = f"{EMERGENCIES}/{broken['id']}"
        for other in (ben, chidi):
            refused(await other.ask("DELETE", path), 403, "FORBIDDEN")
        await closer.did("DELETE", path)
        (entry,) = await closer.entries()
        assert (entry["action"], entry["thing_id"]) == ("emergencies.close", broken["id"])
        refused(await ada.post(sign, {"base_version": 1}), 403, "FORBIDDEN")
        refused(await closer.ask("DELETE", path), 404, "NOT_FOUND")
    assert all(one["closed_at"] for one in (await bola.get(EMERGENCIES))["items"])


async def test_emergencies_are_listed_newest_first_and_paged(house: House, bola: Person) -> None:
    ada = await bola.hires(Role.ASSISTANT, "Ada")
    for number in range(3):
        await ada.did("POST", EMERGENCIES, {"reason": f"Number {number}, nobody comes.", "minutes": 5})
        house.clock.now += 5 * MINUTE
    page = await bola.get(f"{EMERGENCIES}?limit=2")
    rest = await bola.get(f"{EMERGENCIES}?limit=2&cursor={page['next_cursor']}")
    assert [one["reason"][:8] for one in (*page["items"], *rest["items"])] == ["Number 2", "Number 1", "Number 0"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "reason"),
        ({"reason": "because"}, "reason"),
        ({"reason": REASON, "minutes": 4}, "minutes"),
        ({"reason": REASON, "minutes": 241}, "minutes"),
        ({"reason": REASON, "minutes": 7.5}, "minutes"),
        ({"reason": REASON, "minutes": 0}, "minutes"),
    ],
)
async def test_the_glass_is_not_broken_without_a_reason_or_for_ever(bola: Person, body: dict, field: str) -> None:
    ada = await bola.hires(Role.ASSISTANT, "Ada")
    refused(await ada.post(EMERGENCIES, body), 422, "INVALID_FIELDS", field)


async def test_one_who_breaks_the_glass_ten_times_at_once_has_broken_it_once(bola: Person) -> None:
    ada = await bola.hires(Role.ASSISTANT, "Ada")
    answers = await asyncio.gather(*(ada.post(EMERGENCIES, {"reason": REASON}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9


async def test_broken_glass_in_one_practice_breaks_nothing_in_another(house: House, bola: Person) -> None:
    ada, dayo = await bola.hires(Role.ASSISTANT, "Ada"), await house.person("Dayo", practice="Riverside")
    await ada.did("POST", EMERGENCIES, {"reason": REASON})
    await dayo.invites(ada, Role.ASSISTANT)
    await ada.accepts()
    refused(await ada.post(await drafted(ada), {"base_version": 1}), 403, "FORBIDDEN")
    assert (await dayo.get(EMERGENCIES))["items"] == []


async def test_who_leaves_and_comes_back_finds_the_glass_whole(house: House, bola: Person) -> None:
    ada = await bola.hires(Role.ASSISTANT, "Ada")
    await ada.did("POST", EMERGENCIES, {"reason": REASON})
    await bola.did("DELETE", f"{MEMBERS}/{ada.id}")
    house.clock.now += MINUTE
    await bola.invites(ada, Role.ASSISTANT)
    await ada.accepts()
    refused(await ada.post(await drafted(ada), {"base_version": 1}), 403, "FORBIDDEN")
