"""Patients over HTTP: created, read, changed, deleted, brought back, looked back at, listed and found."""

import asyncio
from typing import Any

import pytest

from .clinic import Clinic, NewClinic, fields_of, refused

NGOZI = {
    "family_name": "Obi",
    "given_name": "Ngozi",
    "birth_date": "1984-02-29",
    "sex": "female",
    "phone": "+234 803 555 0142",
    "identifiers": [{"system": "urn:example:mrn", "value": "H-20117"}],
    "tags": ["diabetes"],
}


def at(patient: dict[str, Any], rest: str = "") -> str:
    return f"/v1/patients/{patient['id']}{rest}"


def tag(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


async def names(clinic: Clinic, query: str) -> list[str]:
    """The family names that a list or a search answers with."""
    return [item["family_name"] for item in (await clinic.get(f"/v1/patients?{query}"))["items"]]


# -- creating -----------------------------------------------------------------------------------------------------


async def test_ngozi_is_registered_as_she_was_written_down(clinic: Clinic) -> None:
    answer = await clinic.call("POST", "/v1/patients", NGOZI)
    assert answer.status_code == 201
    ngozi = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == at(ngozi)
    assert ngozi.items() >= NGOZI.items()
    assert ngozi["version"] == 1
    assert ngozi["created_at"] == ngozi["updated_at"]
    assert ngozi["updated_by"] == clinic.account_id
    assert (await clinic.call("GET", answer.headers["location"])).json() == ngozi


async def test_an_app_without_internet_chooses_the_id_itself(clinic: Clinic) -> None:
    answer = await clinic.call("POST", "/v1/patients", {"id": "tablet-7.20260301-1", **NGOZI})
    assert answer.status_code == 201
    assert answer.json()["id"] == "tablet-7.20260301-1"
    assert answer.headers["location"] == "/v1/patients/tablet-7.20260301-1"


async def test_what_is_null_is_not_known_and_so_is_not_there(clinic: Clinic) -> None:
    patient = await clinic.patient(id=None, birth_date=None, phone="0142")
    assert "birth_date" not in patient
    assert patient["phone"] == "0142"


async def test_sending_a_creation_again_answers_as_the_first_time_did(clinic: Clinic) -> None:
    body = {"id": "ngozi", **NGOZI}
    first = await clinic.call("POST", "/v1/patients", body)
    written = await clinic.rows()
    again = await clinic.call("POST", "/v1/patients", dict(reversed(body.items())))
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (201, first.json())
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["location"] == first.headers["location"]
    assert await clinic.rows() == written


async def test_an_id_that_is_taken_by_other_content_stays_taken(clinic: Clinic) -> None:
    other, tablet = {"id": "ngozi", "family_name": "Okafor"}, await clinic.token_for(device="tablet")
    await clinic.patient(id="ngozi")
    refused(await clinic.call("POST", "/v1/patients", other, token=tablet), 409, "VERSION_CONFLICT")
    assert (await clinic.get("/v1/patients/ngozi"))["family_name"] == "Obi"


async def test_the_id_of_who_was_deleted_is_not_free_for_another(clinic: Clinic) -> None:
    ngozi = await clinic.patient(id="ngozi")
    await clinic.deleted(at(ngozi), 1)
    for token in (clinic.token, await clinic.token_for(device="tablet")):
        answer = await clinic.call("POST", "/v1/patients", {"id": "ngozi", "family_name": "Okafor"}, token=token)
        refused(answer, 409, "ALREADY_EXISTS")


async def test_a_device_that_sends_its_creation_with_other_content_edits_it(clinic: Clinic) -> None:
    """It never saw the answer to the first, and its user went on typing."""
    await clinic.patient(id="ngozi", phone="0199")
    answer = await clinic.call("POST", "/v1/patients", {"id": "ngozi", "family_name": "Okafor"})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"2"')
    ngozi = await clinic.get("/v1/patients/ngozi")
    assert ngozi == answer.json()
    assert not ngozi.keys() & {"given_name", "phone", "conflict_id"}
    assert [version["change"] for version in (await clinic.get(at(ngozi, "/history")))["items"]] == [
        "modification",
        "creation",
    ]


async def test_a_creation_whose_answer_was_lost_is_answered_with_what_became_of_it(clinic: Clinic) -> None:
    patient = await clinic.patient(id="ngozi")
    creation = {"id": "ngozi", "family_name": "Obi", "given_name": "Ngozi"}
    changed = await clinic.changed(at(patient), 1, phone="0199")
    written = await clinic.rows()
    again = await clinic.call("POST", "/v1/patients", creation)
    assert (again.status_code, again.json(), again.headers["etag"]) == (201, changed, '"2"')
    as_it_is = await clinic.call("POST", "/v1/patients", {**creation, "phone": "0199"})
    assert (as_it_is.status_code, as_it_is.json()) == (201, changed)
    assert await clinic.rows() == written

    await clinic.deleted(at(patient), 2)
    error = refused(await clinic.call("POST", "/v1/patients", creation), 404, "DELETED")
    assert error["context"] == {"version": 3}


async def test_two_devices_that_send_one_creation_at_once_make_one_patient(clinic: Clinic) -> None:
    answers = await asyncio.gather(*(clinic.call("POST", "/v1/patients", {"id": "ngozi", **NGOZI}) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert len((await clinic.get("/v1/patients/ngozi/history"))["items"]) == 1


async def test_two_practices_may_use_the_same_id(clinic: Clinic, new_clinic: NewClinic) -> None:
    elsewhere = await new_clinic()
    await clinic.patient(id="ngozi")
    await elsewhere.patient(id="ngozi", family_name="Okafor")
    assert (await clinic.get("/v1/patients/ngozi"))["family_name"] == "Obi"
    assert (await elsewhere.get("/v1/patients/ngozi"))["family_name"] == "Okafor"


async def test_times_and_numbers_are_kept_in_their_normal_form(clinic: Clinic) -> None:
    patient = await clinic.patient(deceased_at="2026-03-01t09:30+02:00", tags=["a", "b", "a"])
    assert patient["deceased_at"] == "2026-03-01T07:30:00.000Z"
    assert patient["tags"] == ["a", "b"]


# -- reading ------------------------------------------------------------------------------------------------------


async def test_who_has_the_latest_version_is_not_sent_it_again(clinic: Clinic) -> None:
    patient = await clinic.patient()
    for known in ('"1"', 'W/"1"', '"7", "1"', '"7",W/"1"'):
        answer = await clinic.call("GET", at(patient), headers={"If-None-Match": known})
        assert answer.status_code == 304, known
        assert answer.content == b""
        assert answer.headers["etag"] == '"1"'
    for other in ('"2"', "1", '"11"'):
        answer = await clinic.call("GET", at(patient), headers={"If-None-Match": other})
        assert (answer.status_code, answer.json()["version"]) == (200, 1), other


async def test_a_change_makes_a_new_tag(clinic: Clinic) -> None:
    patient = await clinic.patient()
    await clinic.changed(at(patient), 1, phone="0199")
    answer = await clinic.call("GET", at(patient), headers={"If-None-Match": '"1"'})
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'


async def test_nobody_is_at_an_unknown_id(clinic: Clinic) -> None:
    refused(await clinic.call("GET", "/v1/patients/nobody"), 404, "NOT_FOUND")


# -- changing -----------------------------------------------------------------------------------------------------


async def test_only_what_is_sent_changes(clinic: Clinic) -> None:
    ngozi = await clinic.patient(**NGOZI)
    answer = await clinic.call("PATCH", at(ngozi), {"phone": "0199"}, headers=tag(1))
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    changed = answer.json()
    assert changed["version"] == 2
    assert changed["created_at"] == ngozi["created_at"]
    assert changed | {"version": 1, "updated_at": ngozi["updated_at"], "phone": ngozi["phone"]} == ngozi


async def test_the_version_that_was_seen_may_stand_in_the_header_or_in_the_body_or_in_both(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    for version, (headers, body) in enumerate(
        [(tag(1), {}), ({}, {"base_version": 2}), (tag(3), {"base_version": 3})], 1
    ):
        answer = await clinic.call("PATCH", at(ngozi), {**body, "phone": f"019{version}"}, headers=headers)
        assert (answer.status_code, answer.json()["version"]) == (200, version + 1)


async def test_a_change_must_say_which_version_it_saw(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    for method, rest in (("PATCH", ""), ("DELETE", ""), ("POST", "/revert")):
        body = {"to": 1} if rest else {}
        refused(await clinic.call(method, at(ngozi, rest), body), 428, "VERSION_REQUIRED")
    refused(await clinic.call("PATCH", at(ngozi), {"base_version": None, "phone": "0"}), 428, "VERSION_REQUIRED")
    assert (await clinic.get(at(ngozi)))["version"] == 1


async def test_a_stale_tag_is_answered_with_the_version_that_is(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.changed(at(ngozi), 1, phone="0199")
    answer = await clinic.call("PATCH", at(ngozi), {"phone": "0200"}, headers=tag(1))
    error = refused(answer, 412, "STALE_VERSION")
    assert error["context"] == {"version": 2}
    assert answer.headers["etag"] == '"2"'
    assert (await clinic.get(at(ngozi)))["phone"] == "0199"


async def test_a_stale_base_is_answered_with_the_head_and_with_what_the_caller_wanted(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.changed(at(ngozi), 1, birth_date="1984")
    body = {"base_version": 1, "birth_date": "1983", "sex": None, "reason": "she called"}
    answer = await clinic.call("PATCH", at(ngozi), body, token=await clinic.token_for(device="tablet"))
    context = refused(answer, 409, "VERSION_CONFLICT")["context"]
    assert [disputed["field"] for disputed in context.pop("conflict")["fields"]] == ["birth_date"]
    assert context == {
        "version": 2,
        "base_version": 1,
        "head": {"family_name": "Obi", "given_name": "Ngozi", "birth_date": "1984"},
        "changes": {"birth_date": "1983", "sex": None},
    }
    assert answer.headers["etag"] == '"2"'
    assert (await clinic.get(at(ngozi)))["birth_date"] == "1984"


async def test_a_version_from_the_future_is_a_conflict_too(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    error = refused(await clinic.call("PATCH", at(ngozi), {"base_version": 9}), 409, "VERSION_CONFLICT")
    assert error["context"] == {"version": 1}
    refused(await clinic.call("PATCH", at(ngozi), {}, headers=tag(9)), 412, "STALE_VERSION")


async def test_a_header_and_a_body_that_saw_different_versions_are_refused(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    answer = await clinic.call("PATCH", at(ngozi), {"base_version": 2, "phone": "0"}, headers=tag(1))
    refused(answer, 422, "INVALID_FIELDS", "base_version")


async def test_null_takes_a_field_away(clinic: Clinic) -> None:
    ngozi = await clinic.patient(**NGOZI)
    changed = await clinic.changed(at(ngozi), 1, phone=None, tags=None, notes=None)
    assert not changed.keys() & {"phone", "tags", "notes"}
    assert changed["sex"] == "female"


async def test_a_patient_keeps_at_least_one_name(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    nameless = {"base_version": 1, "family_name": None, "given_name": None}
    refused(await clinic.call("PATCH", at(ngozi), nameless), 422, "INVALID_FIELDS", "family_name")
    assert "family_name" not in await clinic.changed(at(ngozi), 1, family_name=None)


async def test_the_same_content_again_is_no_new_version(clinic: Clinic) -> None:
    ngozi = await clinic.patient(**NGOZI)
    written = await clinic.rows()
    for same in ({}, {"phone": NGOZI["phone"]}, {"notes": None}, {"identifiers": NGOZI["identifiers"]}):
        answer = await clinic.call("PATCH", at(ngozi), {"base_version": 1, **same})
        assert (answer.status_code, answer.json()) == (200, ngozi)
        assert answer.headers["etag"] == '"1"'
    assert await clinic.rows() == written


async def test_of_two_who_change_the_same_version_at_once_one_wins(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    tablets = [await clinic.token_for(device=f"tablet-{number}") for number in range(5)]
    answers = await asyncio.gather(
        *(
            clinic.call(
                *("PATCH", at(ngozi), {"base_version": 1, "birth_date": f"198{number}"}),
                token=token,
            )
            for number, token in enumerate(tablets)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    now = await clinic.get(at(ngozi))
    conflict = await clinic.get(f"/v1/conflicts/{now.pop('conflict_id')}")
    assert now == winner
    kept = {disputed["mine"] for disputed in conflict["fields"]} | {winner["birth_date"]}
    assert kept == {f"198{number}" for number in range(5)}


async def test_who_sends_what_they_sent_before_again_and_on_top_of_it_changes_their_own(clinic: Clinic) -> None:
    """The answer was lost; the device still names the version that it saw first."""
    ngozi = await clinic.patient()
    written = (await clinic.changed(at(ngozi), 1, birth_date="1984"))["version"]
    assert (await clinic.changed(at(ngozi), 1, birth_date="1984"))["version"] == written
    assert (await clinic.changed(at(ngozi), 1, birth_date="1985"))["version"] == written + 1
    assert (await clinic.get(at(ngozi)))["birth_date"] == "1985"
    assert (await clinic.get("/v1/conflicts"))["items"] == []


async def test_nobody_can_be_changed_who_is_not_there(clinic: Clinic) -> None:
    for method, rest, body in (("PATCH", "", {}), ("DELETE", "", {}), ("POST", "/restore", {})):
        answer = await clinic.call(method, f"/v1/patients/nobody{rest}", {"base_version": 1, **body})
        refused(answer, 404, "NOT_FOUND")
    answer = await clinic.call("POST", "/v1/patients/nobody/revert", {"base_version": 1, "to": 1})
    refused(answer, 404, "NOT_FOUND")


# -- deleting and bringing back -----------------------------------------------------------------------------------


async def test_who_is_deleted_is_gone_from_reads_but_not_from_history(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    answer = await clinic.call("DELETE", at(ngozi), {"reason": "entered twice"}, headers=tag(1))
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["etag"] == '"2"'

    gone = await clinic.call("GET", at(ngozi))
    error = refused(gone, 404, "DELETED")
    assert error["context"] == {"version": 2}
    assert gone.headers["etag"] == '"2"'
    assert await names(clinic, "") == await names(clinic, "q=obi") == []

    deletion, creation = (await clinic.get(at(ngozi, "/history")))["items"]
    assert (deletion["change"], deletion["content"], deletion["reason"]) == ("deletion", None, "entered twice")
    assert creation["content"]["family_name"] == "Obi"
    assert (await clinic.get(at(ngozi, "/versions/2")))["content"] is None


async def test_deleting_again_changes_nothing(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.deleted(at(ngozi), 1)
    written = await clinic.rows()
    for headers in (tag(1), tag(2), {}):
        answer = await clinic.call("DELETE", at(ngozi), headers=headers)
        assert (answer.status_code, answer.headers["etag"]) == (204, '"2"')
    assert await clinic.rows() == written


async def test_a_deletion_must_have_seen_the_head(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.changed(at(ngozi), 1, phone="0199")
    refused(await clinic.call("DELETE", at(ngozi), headers=tag(1)), 412, "STALE_VERSION")
    tablet = await clinic.token_for(device="tablet")
    refused(await clinic.call("DELETE", at(ngozi), {"base_version": 1}, token=tablet), 409, "VERSION_CONFLICT")
    assert (await clinic.get(at(ngozi)))["version"] == 2


async def test_what_is_deleted_cannot_be_changed(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.deleted(at(ngozi), 1)
    error = refused(await clinic.call("PATCH", at(ngozi), {"base_version": 2, "phone": "0"}), 404, "DELETED")
    assert error["context"] == {"version": 2}
    refused(await clinic.call("POST", at(ngozi, "/revert"), {"base_version": 2, "to": 1}), 404, "DELETED")


async def test_who_was_deleted_comes_back_as_before(clinic: Clinic) -> None:
    ngozi = await clinic.patient(**NGOZI)
    await clinic.deleted(at(ngozi), 1)
    answer = await clinic.call("POST", at(ngozi, "/restore"), {"base_version": 2, "reason": "deleted by mistake"})
    assert answer.status_code == 200
    assert answer.headers["etag"] == '"3"'
    assert answer.json() | {"version": 1, "updated_at": ngozi["updated_at"]} == ngozi
    assert await names(clinic, "q=obi") == ["Obi"]
    latest = (await clinic.get(at(ngozi, "/history?limit=1")))["items"][0]
    assert (latest["change"], latest["reason"]) == ("restoration", "deleted by mistake")


async def test_only_what_is_deleted_can_be_restored(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    answer = await clinic.call("POST", at(ngozi, "/restore"), {"base_version": 1})
    assert refused(answer, 409, "WRONG_STATE")["context"] == {"version": 1}
    await clinic.deleted(at(ngozi), 1)
    refused(await clinic.call("POST", at(ngozi, "/restore"), {"base_version": 1}), 409, "VERSION_CONFLICT")
    refused(await clinic.call("POST", at(ngozi, "/restore"), headers=tag(1)), 412, "STALE_VERSION")
    refused(await clinic.call("POST", at(ngozi, "/restore"), {}), 428, "VERSION_REQUIRED")


async def test_going_back_appends_the_earlier_content(clinic: Clinic) -> None:
    ngozi = await clinic.patient(**NGOZI)
    await clinic.changed(at(ngozi), 1, phone="0199", tags=None)
    body = {"base_version": 2, "to": 1, "reason": "wrong patient"}
    answer = await clinic.call("POST", at(ngozi, "/revert"), body)
    assert answer.status_code == 200
    assert answer.json() | {"version": 1, "updated_at": ngozi["updated_at"]} == ngozi
    history = (await clinic.get(at(ngozi, "/history")))["items"]
    assert [version["change"] for version in history] == ["reversion", "modification", "creation"]
    assert history[0]["reason"] == "wrong patient"


async def test_one_cannot_go_back_to_what_never_was(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    for to in (2, 2**31 - 1):
        answer = await clinic.call("POST", at(ngozi, "/revert"), {"base_version": 1, "to": to})
        refused(answer, 404, "NOT_FOUND", "to")
    refused(await clinic.call("POST", at(ngozi, "/revert"), {"base_version": 1}), 422, "INVALID_FIELDS", "to")


async def test_one_cannot_go_back_to_a_deletion(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.deleted(at(ngozi), 1)
    await clinic.call("POST", at(ngozi, "/restore"), {"base_version": 2})
    answer = await clinic.call("POST", at(ngozi, "/revert"), {"base_version": 3, "to": 2})
    refused(answer, 409, "WRONG_STATE", "to")


# -- looking back -------------------------------------------------------------------------------------------------


async def test_a_version_tells_who_when_why_and_from_where(clinic: Clinic) -> None:
    body = {"family_name": "Obi", "reason": "first visit", "client_time": "2026-03-01T11:30:00+02:00"}
    ngozi = (await clinic.call("POST", "/v1/patients", body)).json()
    answer = await clinic.call("GET", at(ngozi, "/versions/1"))
    version = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["cache-control"] == "private, immutable, max-age=31536000"
    assert version.pop("received_at") == ngozi["created_at"]
    assert len(version.pop("hash")) == 64
    assert version.pop("device_id")
    assert version.pop("contribution_id")
    assert version == {
        "version": 1,
        "parent": None,
        "inputs": [],
        "branch": False,
        "change": "creation",
        "author_id": clinic.account_id,
        "client_time": "2026-03-01T09:30:00.000Z",
        "reason": "first visit",
        "content": {"family_name": "Obi"},
        "source": None,
    }


async def test_history_comes_newest_first_and_page_by_page(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    for version in range(1, 7):
        await clinic.changed(at(ngozi), version, phone=f"0{version}")
    numbers: list[list[int]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await clinic.get(at(ngozi, f"/history?limit=3{cursor and f'&cursor={cursor}'}"))
        numbers.append([version["version"] for version in page["items"]])
        cursor = page["next_cursor"]
    assert numbers == [[7, 6, 5], [4, 3, 2], [1]]
    assert [version["parent"] for version in page["items"]] == [None]


async def test_history_goes_on_where_it_was_left_while_the_patient_changes(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.changed(at(ngozi), 1, phone="01")
    first = await clinic.get(at(ngozi, "/history?limit=1"))
    await clinic.changed(at(ngozi), 2, phone="02")
    second = await clinic.get(at(ngozi, f"/history?limit=1&cursor={first['next_cursor']}"))
    assert [version["version"] for version in first["items"] + second["items"]] == [2, 1]
    assert second["next_cursor"] is None


async def test_any_version_can_be_read_as_it_was(clinic: Clinic) -> None:
    ngozi = await clinic.patient(phone="01")
    await clinic.changed(at(ngozi), 1, phone="02")
    await clinic.changed(at(ngozi), 2, phone=None)
    phones = [(await clinic.get(at(ngozi, f"/versions/{number}")))["content"].get("phone") for number in (1, 2, 3)]
    assert phones == ["01", "02", None]
    refused(await clinic.call("GET", at(ngozi, "/versions/4")), 404, "NOT_FOUND")


async def test_history_lists_no_sources_but_every_content(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    (only,) = (await clinic.get(at(ngozi, "/history")))["items"]
    assert "source" not in only
    assert only["content"] == {"family_name": "Obi", "given_name": "Ngozi"}


async def test_a_diff_names_each_field_that_differs_into_objects_but_not_into_lists(clinic: Clinic) -> None:
    ngozi = await clinic.patient(phone="01", address={"city": "Enugu", "country": "NG"}, tags=["a"])
    await clinic.changed(
        at(ngozi), 1, phone=None, address={"city": "Lagos", "country": "NG"}, tags=["a", "b"], sex="female"
    )
    diff = await clinic.get(at(ngozi, "/diff?from=1&to=2"))
    assert diff == {
        "from": 1,
        "to": 2,
        "fields": [
            {"field": "address.city", "before": "Enugu", "after": "Lagos"},
            {"field": "phone", "before": "01", "after": None},
            {"field": "sex", "before": None, "after": "female"},
            {"field": "tags", "before": ["a"], "after": ["a", "b"]},
        ],
    }
    back = await clinic.get(at(ngozi, "/diff?from=2&to=1"))
    assert [(item["before"], item["after"]) for item in back["fields"]] == [
        (item["after"], item["before"]) for item in diff["fields"]
    ]
    assert (await clinic.get(at(ngozi, "/diff?from=1&to=1")))["fields"] == []


async def test_a_diff_with_a_deletion_shows_everything(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    await clinic.deleted(at(ngozi), 1)
    diff = await clinic.get(at(ngozi, "/diff?from=1&to=2"))
    assert [(item["field"], item["after"]) for item in diff["fields"]] == [("family_name", None), ("given_name", None)]


async def test_there_is_no_looking_back_at_what_never_was(clinic: Clinic) -> None:
    ngozi = await clinic.patient()
    for path in (
        at(ngozi, "/diff?from=1&to=2"),
        at(ngozi, "/diff?from=9&to=1"),
        "/v1/patients/nobody/diff?from=1&to=1",
    ):
        refused(await clinic.call("GET", path), 404, "NOT_FOUND")
    refused(await clinic.call("GET", "/v1/patients/nobody/history"), 404, "NOT_FOUND")
    refused(await clinic.call("GET", "/v1/patients/nobody/versions/1"), 404, "NOT_FOUND")


# -- listing ------------------------------------------------------------------------------------------------------


async def test_a_list_comes_by_name_blind_to_case_and_accents(clinic: Clinic) -> None:
    for name in ("Zola", "ábalos", "Abel", "Çelik", "chan"):
        await clinic.patient(family_name=name)
    assert await names(clinic, "") == ["ábalos", "Abel", "Çelik", "chan", "Zola"]


@pytest.mark.parametrize("limit", [1, 5, 17, 18, 500])
async def test_page_by_page_everyone_is_visited_exactly_once(everyone: Clinic, limit: int) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await everyone.get(f"/v1/patients?limit={limit}{cursor and f'&cursor={cursor}'}")
        assert len(page["items"]) <= limit
        assert page["items"] or not cursor
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(f"p{number}" for number in range(17))


async def test_pages_stay_apart_while_others_come_and_go(clinic: Clinic) -> None:
    for name in ("Abel", "Chan", "Egwu", "Gill"):
        await clinic.patient(id=name, family_name=name)
    page = await clinic.get("/v1/patients?limit=2")
    assert [item["id"] for item in page["items"]] == ["Abel", "Chan"]
    await clinic.deleted("/v1/patients/Chan", 1)
    await clinic.patient(id="Baez", family_name="Baez")
    await clinic.patient(id="Diaz", family_name="Diaz")
    rest = await clinic.get(f"/v1/patients?cursor={page['next_cursor']}")
    assert [item["id"] for item in rest["items"]] == ["Diaz", "Egwu", "Gill"]


async def test_an_empty_practice_has_an_empty_list(clinic: Clinic) -> None:
    assert await clinic.get("/v1/patients") == {"items": [], "next_cursor": None}


async def test_a_list_of_one_tag_holds_those_that_carry_it(clinic: Clinic) -> None:
    await clinic.patient(family_name="Abel", tags=["diabetes", "ward 3"])
    await clinic.patient(family_name="Chan", tags=["Diabetes"])
    await clinic.patient(family_name="Egwu", tags=["diabetes"])
    await clinic.patient(family_name="Gill")
    assert await names(clinic, "tag=diabetes") == ["Abel", "Egwu"]
    assert await names(clinic, "tag=ward+3") == ["Abel"]
    assert await names(clinic, "tag=ward") == []
    assert await names(clinic, "tag=diabetes&limit=1") == ["Abel"]


async def test_a_tag_that_was_taken_away_finds_nobody(clinic: Clinic) -> None:
    ngozi = await clinic.patient(**NGOZI)
    await clinic.changed(at(ngozi), 1, tags=["asthma"])
    assert await names(clinic, "tag=diabetes") == []
    assert await names(clinic, "tag=asthma") == ["Obi"]


async def test_a_list_of_what_is_new_holds_what_changed_since(everyone: Clinic) -> None:
    items = (await everyone.get("/v1/patients"))["items"]
    since = sorted(item["updated_at"] for item in items)[8]
    expected = {item["id"] for item in items if item["updated_at"] >= since}
    page = await everyone.get(f"/v1/patients?updated_since={since}")
    assert {item["id"] for item in page["items"]} == expected
    assert len(expected) < len(items)
    assert (await everyone.get("/v1/patients?updated_since=2999"))["items"] == []
    assert len((await everyone.get("/v1/patients?updated_since=2020-02"))["items"]) == len(items)


@pytest.mark.parametrize("since", ["2026-03-01T00:00:00%2B02:00", "2026-03-01T00:00:00+02:00", "2026-03-01T00:00Z"])
async def test_a_time_in_an_address_may_be_escaped_or_not(clinic: Clinic, since: str) -> None:
    await clinic.patient()
    assert await names(clinic, f"updated_since={since}") == ["Obi"]


@pytest.fixture
async def everyone(clinic: Clinic) -> Clinic:
    """Seventeen people, many of one name."""
    for number in range(17):
        await clinic.patient(id=f"p{number}", family_name=("Obi", "obi", "Óbi")[number % 3], given_name=None)
    return clinic


# -- finding ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ward(clinic: Clinic) -> Clinic:
    """A ward whose patients are hard to spell."""
    await clinic.patient(family_name="O'Hálloran-Ñuñez", given_name="Siobhán", tags=["ward 3"])
    await clinic.patient(family_name="González", given_name="María José", phone="+34 600 123 456")
    await clinic.patient(
        family_name="Okonkwo", given_name="Chinedu", identifiers=[{"value": "H-20117"}], tags=["ward 3"]
    )
    await clinic.patient(family_name="Müller", given_name="Jürgen", other_names=["Schmidt"])
    await clinic.patient(family_name="Straße", given_name="Zoë", contacts=[{"name": "Tom", "phone": "0171 5550199"}])
    return clinic


FOUND = {
    "in another case": ("gonzález", "González"),
    "without accents": ("gonzalez", "González"),
    "with an accent too many": ("gónzález", "González"),
    "without punctuation": ("ohalloran nunez", "O'Hálloran-Ñuñez"),
    "by the beginning of a name": ("ohall", "O'Hálloran-Ñuñez"),
    "by the beginning of the first name": ("chin", "Okonkwo"),
    "by both names in either order": ("jose gonzalez", "González"),
    "by a former name": ("schmidt", "Müller"),
    "by ss for ß": ("strasse", "Straße"),
    "with letters turned round": ("gonazlez", "González"),
    "with a letter too few": ("okonko", "Okonkwo"),
    "with a letter too many": ("okonnkwo", "Okonkwo"),
    "with a wrong letter": ("gonsalez", "González"),
    "by a phone number": ("+34600123456", "González"),
    "by the end of a phone number": ("123456", "González"),
    "by a phone number in groups": ("600 12 34 56", "González"),
    "by the number of whom to call": ("01715550199", "Straße"),
    "by an identifier": ("H-20117", "Okonkwo"),
    "by part of an identifier": ("20117", "Okonkwo"),
    "by name and identifier": ("okonkwo h-20117", "Okonkwo"),
    "not by an identifier with a typo": ("H-20171", None),
    "not by another's phone": ("999999", None),
    "not by anything like it": ("wxyz", None),
    "not by nothing but punctuation": ("?!%_", None),
    "not by a wildcard": ("%", None),
}


@pytest.mark.parametrize(("typed", "name"), FOUND.values(), ids=FOUND.keys())
async def test_a_patient_is_found(ward: Clinic, typed: str, name: str | None) -> None:
    answer = await ward.client.get(
        "/v1/patients", params={"q": typed}, headers={"Authorization": f"Bearer {ward.token}"}
    )
    assert answer.status_code == 200
    assert [item["family_name"] for item in answer.json()["items"]] == ([name] if name else [])
    assert answer.json()["next_cursor"] is None


async def test_a_search_keeps_to_the_filters(ward: Clinic) -> None:
    assert await names(ward, "q=o&tag=ward+3") == ["O'Hálloran-Ñuñez", "Okonkwo"]
    assert await names(ward, "q=gonzalez&tag=ward+3") == []
    assert await names(ward, "q=gonzalez&updated_since=2999") == []
    assert await names(ward, "q=o&limit=1") == ["O'Hálloran-Ñuñez"]


async def test_an_empty_search_is_a_list(ward: Clinic) -> None:
    assert len(await names(ward, "q=")) == len(await names(ward, "q=%20%20")) == 5


async def test_a_new_name_finds_and_the_old_one_does_not(ward: Clinic) -> None:
    (found,) = (await ward.get("/v1/patients?q=okonkwo"))["items"]
    await ward.changed(at(found), 1, family_name="Adichie")
    assert await names(ward, "q=adichie") == ["Adichie"]
    assert await names(ward, "q=okonkwo") == []


async def test_a_search_sees_one_practice_only(ward: Clinic, new_clinic: NewClinic) -> None:
    assert await names(await new_clinic(), "q=gonzalez") == []


async def test_every_wrong_parameter_of_a_list_is_named_at_once(clinic: Clinic) -> None:
    answer = await clinic.call("GET", "/v1/patients?limit=0&cursor=a_b&tag=%00")
    error = refused(answer, 422, "INVALID_FIELDS", "tag")
    assert set(fields_of(error)) == {"limit", "cursor", "tag"}
