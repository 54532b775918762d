"""Whatever is sent: what is wrong is refused by name, in the one envelope, and nothing is written."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heallog.domain import patients, records
from heallog.domain.access import Role
from heallog.entrypoints.http.app import MEBIBYTE
from heallog.entrypoints.http.bodies import CHANGING, CREATING

from . import operations
from .clinic import Clinic, NewClinic, fields_of, refused
from .people import NewHouse


@dataclass
class Chart:
    """Ngozi's: a patient and a draft, both at version 2, so that version 1 is stale; and a conflict about a dose."""

    clinic: Clinic
    patient: str
    draft: str
    conflict: str

    def path(self, template: str) -> str:
        return template.format(patient=self.patient, draft=self.draft, conflict=self.conflict)


@pytest.fixture(scope="module")
async def opened(new_clinic: NewClinic) -> Chart:
    clinic = await new_clinic()
    patient, draft = (await clinic.patient(id="ngozi"))["id"], "r-1"
    await clinic.record(patient, id=draft)
    await clinic.changed(f"/v1/patients/{patient}", 1, phone="0199")
    await clinic.changed(f"/v1/records/{draft}", 1, title="Blood pressure, lying")
    return Chart(clinic, patient, draft, await operations.conflict(clinic, Role.OWNER))


@pytest.fixture
async def chart(opened: Chart) -> AsyncIterator[Chart]:
    """The chart, to which nothing must be added."""
    before = await opened.clinic.rows()
    yield opened
    assert await opened.clinic.rows() == before


NEW_PATIENT = "/v1/patients"
NEW_RECORD = "/v1/patients/{patient}/records"
PATIENT = "/v1/patients/{patient}"
RECORD = "/v1/records/{draft}"
LIST = "/v1/patients"
CHART = "/v1/patients/{patient}/records"
CONFLICTS = "/v1/conflicts"
CONFLICT = "/v1/conflicts/{conflict}"
POLICIES = "/v1/practice/policies"


def raw(text: str) -> bytes:
    return text.encode()


# -- no JSON at all -----------------------------------------------------------------------------------------------

WITH_BODIES = (
    ("POST", NEW_PATIENT),
    ("POST", NEW_RECORD),
    ("PATCH", PATIENT),
    ("PATCH", RECORD),
    ("DELETE", RECORD),
    ("POST", RECORD + "/sign"),
    ("POST", RECORD + "/amend"),
    ("POST", PATIENT + "/revert"),
    ("POST", CONFLICT + "/resolve"),
    ("PUT", POLICIES),
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/login"),
)
MALFORMED = {
    "blank": b"  \n ",
    "words": b"family_name=Obi",
    "cut off": b'{"family_name": "Ob',
    "single quotes": b"{'family_name': 'Obi'}",
    "a comma too many": b'{"family_name": "Obi",}',
    "a comment": b'{"family_name": "Obi"} // Ngozi',
    "two values": b'{"family_name": "Obi"}{"family_name": "Obi"}',
    "a raw line break in a string": b'{"family_name": "Ob\ni"}',
    "a raw NUL in a string": b'{"family_name": "Ob\x00i"}',
    "NUL bytes": b"\x00" * 100,
    "NaN": b'{"family_name": NaN}',
    "Infinity": b'{"family_name": Infinity}',
    "minus Infinity": b'{"values": {"x": {"value": -Infinity}}}',
    "a key twice": b'{"family_name": "Obi", "family_name": "Okafor"}',
    "a key twice inside": b'{"address": {"city": "Enugu", "city": "Lagos"}}',
    "a key twice, once escaped": b'{"id": "a", "\\u0069d": "b"}',
    "Latin-1": '{"family_name": "Müller"}'.encode("latin-1"),
    "UTF-16": '{"family_name": "Obi"}'.encode("utf-16"),
    "UTF-8 with a byte too few": '{"family_name": "Müller'.encode()[:-5] + b'"}',
    "an overlong slash in UTF-8": b'{"family_name": "\xc0\xaf"}',
    "half a surrogate pair in UTF-8": b'{"family_name": "\xed\xa0\x80"}',
    "5000 digits": b'{"family_name": ' + b"1" * 5_000 + b"}",
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "100,000 closed brackets": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_no_json_is_malformed(chart: Chart, body: bytes) -> None:
    for method, path in WITH_BODIES:
        refused(await chart.clinic.call(method, chart.path(path), raw=body), 400, "MALFORMED_JSON")


@pytest.mark.parametrize("body", [b"null", b"[]", b'[{"family_name": "Obi"}]', b"7", b'"Obi"', b"true"])
async def test_a_body_is_an_object(chart: Chart, body: bytes) -> None:
    for method, path in WITH_BODIES:
        refused(await chart.clinic.call(method, chart.path(path), raw=body), 422, "INVALID_FIELDS")


async def test_an_empty_body_lacks_what_is_required(chart: Chart) -> None:
    for path, field in (
        (NEW_PATIENT, "family_name"),
        (NEW_RECORD, "kind"),
        (PATIENT + "/revert", "to"),
        (CONFLICT + "/resolve", "head_version"),
        ("/v1/auth/register", "email"),
        ("/v1/auth/login", "email"),
    ):
        for body in (b"", b"{}", b" {} "):
            answer = await chart.clinic.call("POST", chart.path(path), raw=body)
            refused(answer, 422, "INVALID_FIELDS", field)
    for method, path in (("PATCH", PATIENT), ("PATCH", RECORD), ("DELETE", RECORD), ("POST", RECORD + "/sign")):
        refused(await chart.clinic.call(method, chart.path(path), raw=b""), 428, "VERSION_REQUIRED")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/xml",
        "text/json",
        "multipart/form-data; boundary=x",
        "json",
        "application/json-seq",
        "*/*",
    ],
)
async def test_a_body_is_declared_as_json(chart: Chart, content_type: str) -> None:
    for method, path in WITH_BODIES:
        sent = {"Content-Type": content_type}
        answer = await chart.clinic.call(method, chart.path(path), {"family_name": "Obi"}, headers=sent)
        refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_body_that_is_not_declared_at_all_is_refused(chart: Chart) -> None:
    headers = {"Authorization": f"Bearer {chart.clinic.token}"}
    answer = await chart.clinic.client.post("/v1/patients", content=b'{"family_name": "Obi"}', headers=headers)
    refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json", "application/fhir+json"],
)
async def test_json_may_be_declared_in_other_words(clinic: Clinic, content_type: str) -> None:
    answer = await clinic.call("POST", "/v1/patients", {"family_name": "Obi"}, headers={"Content-Type": content_type})
    assert answer.status_code == 201


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    """A body whose length nobody says beforehand."""
    yield b'{"family_name": "'
    for _ in range(size // 65_536):
        yield b"a" * 65_536
    yield b'"}'


async def test_a_body_over_ten_mebibytes_is_too_large(chart: Chart) -> None:
    body = b'{"family_name": "' + b"a" * (10 * MEBIBYTE) + b'"}'
    for method, path in (*WITH_BODIES[:4], WITH_BODIES[-1]):
        error = refused(await chart.clinic.call(method, chart.path(path), raw=body), 413, "TOO_LARGE")
        assert error["message"] == "the body is too large: at most 10 MiB at this address"


@pytest.mark.parametrize("path", ["/v1/sync/push", "/v1/sync/watermelon"])
async def test_what_a_device_did_may_be_larger(chart: Chart, another: NewHouse, path: str) -> None:
    clinic = (await another(max_push_mebibytes=11)).clinic(chart.clinic)
    for mebibytes, good in ((11, True), (12, False)):
        body = b'{"colour": "' + b"a" * (mebibytes * MEBIBYTE - 20) + b'"}'
        answer = await clinic.call("POST", path, raw=body)
        if good:
            refused(answer, 422, "INVALID_FIELDS", "colour")
        else:
            error = refused(answer, 413, "TOO_LARGE")
            assert error["message"] == "the body is too large: at most 11 MiB at this address"


async def test_a_body_that_grows_over_ten_mebibytes_is_too_large(chart: Chart) -> None:
    headers = {"Authorization": f"Bearer {chart.clinic.token}", "Content-Type": "application/json"}
    body = in_pieces(10 * MEBIBYTE + 65_536)
    refused(await chart.clinic.client.post("/v1/patients", content=body, headers=headers), 413, "TOO_LARGE")


async def test_a_body_of_ten_mebibytes_is_read(chart: Chart) -> None:
    body = b'{"family_name": "' + b"a" * (10 * MEBIBYTE - 19) + b'"}'
    assert len(body) == 10 * MEBIBYTE
    refused(await chart.clinic.call("POST", "/v1/patients", raw=body), 422, "INVALID_FIELDS", "family_name")


# -- fields of a patient ------------------------------------------------------------------------------------------

HALF = r'"\ud800"'
"""Half of a surrogate pair: JSON can spell it, UTF-8 cannot."""

PATIENT_FIELDS = {
    "shoe_size": '{"shoe_size": 38}',
    "created_at": '{"created_at": "2026-03-01T09:30:00Z"}',
    "version": '{"version": 7}',
    "base_version": '{"base_version": 1}',
    "practice_id": '{"practice_id": "another"}',
    "": '{"": 1}',
    r"\ud800": r'{"\ud800": 1}',
    r"a\x00b": r'{"a\u0000b": 1}',
    "family_name": [
        "7",
        "[]",
        "{}",
        "true",
        "1e400",
        f'"{"x" * 201}"',
        r'"a\u0007"',
        r'"a\nb"',
        r'"\u0000"',
        r'"a\u007f"',
        HALF,
        r'"\udc00\ud800"',
        r'"x\udfffx"',
        '""',
        '" \u2003 "',
    ],
    "given_name": [f'"{"x" * 201}"', '["Ngozi"]'],
    "prefix": f'"{"x" * 61}"',
    "other_names": ['"Obi"', "{}", json.dumps(["x"] * 21)],
    "other_names.1": ['["a", 7]', '["a", null]', f'["a", {HALF}]', '["a", ["b"]]'],
    "birth_date": [
        '"2023-02-30"',
        '"2023-13"',
        '"2023-00"',
        '"0000"',
        '"yesterday"',
        '"20230101"',
        '"2023-1-1"',
        "2023",
        '"2023-02-29"',
        '"٢٠٢٣"',
        '"2023-01-01T00:00:00Z"',
        '"2023-01-01\\n"',
        '"02/03/1984"',
        '"-2023"',
        '""',
    ],
    "sex": ['"F"', '"Female"', "true", '["female"]', '""'],
    "blood_group": ['"C+"', '"a+"'],
    "deceased": ['"yes"', "1", "0", '""'],
    "deceased_at": [
        '"2023-02-30T00:00:00Z"',
        '"2023-02-28T24:00:00Z"',
        '"2023-02-28T23:60:00Z"',
        '"2023-02-28T09:30"',
        '"2023-02-28T09:30:61Z"',
        '"2023-02-28 09"',
        '"0001-01-01T00:00:00+14:00"',
        '"9999-12-31T23:59:59-01:00"',
        '"2023-02-28T09:30:00+24:00"',
        '"2023-02-28T09:30:00+0200"',
        "1677571200",
        '"now"',
        '"2023-02-28T09:30:00Z\\n"',
    ],
    "identifiers": ['"H-1"', '{"value": "H-1"}', json.dumps([{"value": "x"}] * 51)],
    "identifiers.0": '["H-1"]',
    "identifiers.0.value": ['[{"system": "mrn"}]', '[{"value": 1}]', '[{"value": ""}]', f'[{{"value": {HALF}}}]'],
    "identifiers.0.colour": '[{"value": "x", "colour": "red"}]',
    "phone": [f'"{"1" * 61}"', "0199"[1:], '["0199"]'],
    "address": ['"Enugu"', "[]"],
    "address.city": ['{"city": 5}', '{"city": ["Enugu"]}', r'{"city": "a\tb"}'],
    "address.planet": '{"planet": "Earth"}',
    "address.lines": json.dumps({"lines": ["x"] * 7}),
    "address.lines.0": '{"lines": [5]}',
    "telecom.0.system": '[{"value": "x", "system": "carrier pigeon"}]',
    "contacts.0.name": '[{"phone": "0199"}]',
    "tags": ['"diabetes"', json.dumps(["x"] * 51), '{"0": "x"}'],
    "tags.0": ["[1]", '[""]', '["  "]', f'["{"x" * 101}"]', r'["a\u001fb"]', "[null]", "[{}]", "[[]]", f"[{HALF}]"],
    "notes": [f'"{"x" * 20_001}"', r'"a\u0000b"', r'"\u000b"', HALF, "[" * 500 + "]" * 500],
    "id": ['"a_b"', '"a/b"', '""', f'"{"x" * 65}"', r'"a\n"', '"é"', "7", '["a"]', '" a"', '"a b"', HALF, r'"\u0000"'],
    "client_time": ['"2026-03-01"', '"2026-03-01T09:30:00"', '"soon"', "7"],
    "reason": [f'"{"x" * 2_001}"', "7", r'"\u0000"', HALF],
}


def cases(table: dict[str, Any]) -> list[Any]:
    """Field and JSON text of each case; one that begins with its own key is a whole body."""
    found = []
    for field, values in table.items():
        for index, value in enumerate([values] if isinstance(values, str) else values):
            whole = isinstance(values, str) and value.startswith("{") and "." not in field and field != "address"
            top = field.partition(".")[0]
            found.append(pytest.param(field, value if whole else f'{{"{top}": {value}}}', id=f"{field} {index}"))
    return found


@pytest.mark.parametrize(("field", "body"), cases(PATIENT_FIELDS))
async def test_a_bad_field_of_a_patient_is_named(chart: Chart, field: str, body: str) -> None:
    """Whether the patient is new, or changed, or changed by someone who saw a stale version."""
    named = "" if field == "family_name" else '"family_name": "Obi", '
    answer = await chart.clinic.call("POST", NEW_PATIENT, raw=raw("{" + named + body[1:]))
    if field != "family_name" or body not in ('{"family_name": ""}', '{"family_name": " \u2003 "}'):
        assert field in fields_of(refused(answer, 422, "INVALID_FIELDS", ANY))
        assert answer.json()["error"]["field"] == (field or None)
    if field in {"id", "base_version"} or body in ('{"family_name": ""}', '{"family_name": " \u2003 "}'):
        return
    body = '{"base_version": 2, ' + body[1:]
    refused(await chart.clinic.call("PATCH", chart.path(PATIENT), raw=raw(body)), 422, "INVALID_FIELDS", field or None)


STALE = {
    "half a surrogate pair": r'"notes": "\ud800"',
    "half a surrogate pair for a name": r'"\ud800": 1',
    "NUL": r'"notes": "\u0000"',
    "a number beyond all measure": '"notes": 1e400',
    "a number of 4000 digits": f'"notes": {"1" * 4_000}',
    "brackets": f'"notes": {"[" * 500}{"]" * 500}',
    "an unknown field": '"shoe_size": 38',
    "an id": '"id": "other"',
}


@pytest.mark.parametrize("field", STALE.values(), ids=STALE.keys())
async def test_a_bad_change_of_a_stale_version_is_refused_as_any_other(chart: Chart, field: str) -> None:
    """It must not come back in the conflict, where it could not even be written down."""
    for path in (PATIENT, RECORD):
        answer = await chart.clinic.call("PATCH", chart.path(path), raw=raw('{"base_version": 1, ' + field + "}"))
        refused(answer, 422, "INVALID_FIELDS", ANY)


@pytest.mark.parametrize("field", [r'"notes": "\ud800"', r'"\ud800": 1', '"shoe_size": 38'])
async def test_a_bad_amendment_of_a_stale_version_is_refused_as_any_other(clinic: Clinic, field: str) -> None:
    signed = await clinic.signed((await clinic.patient())["id"])
    written = await clinic.rows()
    body = '{"base_version": 1, "reason": "why", "changes": {' + field + "}}"
    answer = await clinic.call("POST", f"/v1/records/{signed['id']}/amend", raw=raw(body))
    refused(answer, 422, "INVALID_FIELDS", ANY)
    assert await clinic.rows() == written


async def test_everything_that_is_wrong_is_named_at_once(chart: Chart) -> None:
    body = {
        "id": "a_b",
        "client_time": "soon",
        "family_name": 7,
        "tags": [1, "good", ""],
        "address": {"city": 5, "planet": "Earth"},
        "contacts": [{"name": "Tom"}, {"phone": "0199"}],
        "shoe_size": 38,
    }
    wrong = {"id", "client_time", "family_name", "tags.0", "tags.2", "address.city", "address.planet"}
    wrong |= {"contacts.1.name", "shoe_size"}
    error = refused(await chart.clinic.call("POST", NEW_PATIENT, body), 422, "INVALID_FIELDS", "id")
    assert set(fields_of(error)) == wrong
    assert "8 more" in error["message"]
    for item in error["context"]["errors"]:
        assert item.keys() == {"field", "code", "message"}


# -- fields of a record -------------------------------------------------------------------------------------------

RECORD_FIELDS = {
    "title": ["7", f'"{"x" * 501}"', r'"a\nb"', HALF],
    "text": ["7", f'"{"x" * 100_001}"', r'"\u0000"', HALF, '["a"]'],
    "code": ['"85354-9"', "[]"],
    "code.code": ['{"system": "http://loinc.org"}', '{"code": 7}', '{"code": ""}', '{"code": null}'],
    "code.system": ['{"code": "x", "system": 7}', f'{{"code": "x", "system": {HALF}}}'],
    "code.version": '{"code": "x", "version": "2"}',
    "occurred_at": ['"2026-02-30"', '"2026-02-30T00:00:00Z"', '"soon"', "7", '"2026-03-01T09:30"', '"0000"', '""'],
    "ended_at": ['"1999-01-01"', '"soon"', '"2025-12-30T23:59:59Z"'],
    "values": ['"128"', "[128]", json.dumps({f"v{index}": {"value": 1} for index in range(201)})],
    "values.x": ['{"x": 128}', '{"x": null}', '{"x": [1]}'],
    "values.a b": '{"a b": {"value": 1}}',
    "values.": '{"": {"value": 1}}',
    r"values.\ud800": r'{"\ud800": {"value": 1}}',
    "values.x.value": [
        '{"x": {"value": 1e400}}',
        '{"x": {"value": -1e400}}',
        '{"x": {"value": 9007199254740992}}',
        '{"x": {"value": -9007199254740992}}',
        '{"x": {"value": 1e16}}',
        f'{{"x": {{"value": {"9" * 400}}}}}',
        '{"x": {"value": [1]}}',
        '{"x": {"value": {"a": 1}}}',
        f'{{"x": {{"value": {HALF}}}}}',
        r'{"x": {"value": "\u0000"}}',
        f'{{"x": {{"value": "{"x" * 2001}"}}}}',
    ],
    "values.x.unit": '{"x": {"value": 1, "unit": 7}}',
    "values.x.comparator": '{"x": {"value": 1, "comparator": "=>"}}',
    "values.x.code.code": '{"x": {"value": 1, "code": {"system": "s"}}}',
    "values.x.colour": '{"x": {"value": 1, "colour": "red"}}',
    "encounter_id": ['"a_b"', '""', "7", f'"{"x" * 65}"', r'"a\n"'],
    "tags": ['"x"', json.dumps(["x"] * 51)],
    "tags.0": ["[1]", '[""]'],
    "category": "7",
    "dose": "5",
    "colour": '"red"',
    "status": '"signed"',
    "client_time": ['"soon"', '"2026-03-01"'],
    "reason": "7",
}


@pytest.mark.parametrize(("field", "body"), cases(RECORD_FIELDS))
async def test_a_bad_field_of_a_record_is_named(chart: Chart, field: str, body: str) -> None:
    """Whether the record is new or changed."""
    said = '"kind": "observation", ' + ("" if field == "title" else '"title": "Pressure", ')
    said += "" if field == "occurred_at" else '"occurred_at": "2026-01-01", '
    answer = await chart.clinic.call("POST", chart.path(NEW_RECORD), raw=raw("{" + said + body[1:]))
    refused(answer, 422, "INVALID_FIELDS", field)
    said = '"base_version": 2, ' + ("" if field == "occurred_at" else '"occurred_at": "2026-01-01", ')
    answer = await chart.clinic.call("PATCH", chart.path(RECORD), raw=raw("{" + said + body[1:]))
    refused(answer, 422, "INVALID_FIELDS", field)


OF_OTHER_KINDS = (
    ("medication", "dose", [-1, "5", True, 2**53, [5]]),
    ("medication", "as_needed", ["no", 0]),
    ("allergy", "criticality", ["deadly", 1]),
    ("allergy", "reactions.0", [[7], [None]]),
    ("imaging", "instances", [1.5, -1, "3", True]),
    ("report", "results.0", [["a_b"], [7], [""]]),
    ("goal", "addresses", ["c", {"0": "c"}]),
    ("note", "text", [None, "", 7]),
)


@pytest.mark.parametrize(("kind", "field", "values"), OF_OTHER_KINDS)
async def test_a_bad_field_of_another_kind_is_named(chart: Chart, kind: str, field: str, values: list[Any]) -> None:
    for value in values:
        body = {"kind": kind, "title": "Title", field.partition(".")[0]: value}
        answer = await chart.clinic.call("POST", chart.path(NEW_RECORD), body)
        refused(answer, 422, "INVALID_FIELDS", field)


@pytest.mark.parametrize("kind", ["poem", "Observation", "", 7, None, [], {}, "\ud800", "x" * 10_000])
async def test_a_record_is_of_a_kind_that_there_is(chart: Chart, kind: Any) -> None:
    answer = await chart.clinic.call("POST", chart.path(NEW_RECORD), {"kind": kind, "title": "Title"})
    refused(answer, 422, "INVALID_FIELDS", "kind")


# -- versions -----------------------------------------------------------------------------------------------------

BAD_VERSIONS = ("0", "-1", "1.5", '"2"', "2147483648", "9223372036854775808", "1e400", "1e10", "true", "[2]", "{}")


@pytest.mark.parametrize("version", BAD_VERSIONS)
async def test_a_base_version_is_a_number_that_a_version_can_have(chart: Chart, version: str) -> None:
    body = raw(f'{{"base_version": {version}, "reason": "why", "changes": {{}}}}')
    refused(
        await chart.clinic.call("POST", chart.path(RECORD + "/amend"), raw=body), 422, "INVALID_FIELDS", "base_version"
    )
    body = raw(f'{{"base_version": {version}}}')
    for method, path in (("PATCH", PATIENT), ("PATCH", RECORD), ("DELETE", PATIENT), ("POST", RECORD + "/sign")):
        answer = await chart.clinic.call(method, chart.path(path), raw=body)
        refused(answer, 422, "INVALID_FIELDS", "base_version")


@pytest.mark.parametrize("version", [*BAD_VERSIONS, "null"])
async def test_a_version_to_go_back_to_is_a_number_that_a_version_can_have(chart: Chart, version: str) -> None:
    body = raw(f'{{"base_version": 2, "to": {version}}}')
    for path in (PATIENT, RECORD):
        answer = await chart.clinic.call("POST", chart.path(path + "/revert"), raw=body)
        refused(answer, 422, "INVALID_FIELDS", "to")


@pytest.mark.parametrize(
    "tag",
    [
        "",
        '""',
        '"',
        "*",
        '"0"',
        '"-1"',
        '"1.5"',
        '"abc"',
        'W/"2"',
        '"1", "2"',
        '"2147483648"',
        '"99999999999999999999"',
        '"2" ; drop',
        "'2'",
        '" 2"',
        '"0x2"',
        '"²"',
        '"' + "9" * 5000 + '"',
    ],
)
async def test_an_if_match_is_one_version(chart: Chart, tag: str) -> None:
    headers = [("Authorization", f"Bearer {chart.clinic.token}"), ("Content-Type", "application/json")]
    for method, path in (("PATCH", PATIENT), ("PATCH", RECORD), ("DELETE", RECORD), ("POST", PATIENT + "/restore")):
        sent = [(name.encode(), value.encode()) for name, value in (*headers, ("If-Match", tag))]
        answer = await chart.clinic.client.request(method, chart.path(path), content=b"{}", headers=sent)
        refused(answer, 422, "INVALID_FIELDS", "If-Match")


# -- addresses ----------------------------------------------------------------------------------------------------

BAD_IDS = ("a_b", "a b", "a:b", "é", "\x00", "a\n", "\n", "x" * 65, "%", "a\ud800".encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_an_id_in_an_address_keeps_to_its_letters(chart: Chart, bad: str | bytes) -> None:
    for path, field in (
        ("/v1/patients/{}", "patient_id"),
        ("/v1/patients/{}/records", "patient_id"),
        ("/v1/patients/{}/history", "patient_id"),
        ("/v1/patients/{}/versions/1", "patient_id"),
        ("/v1/records/{}", "record_id"),
        ("/v1/records/{}/diff?from=1&to=1", "record_id"),
        ("/v1/conflicts/{}", "conflict_id"),
    ):
        answer = await chart.clinic.call("GET", path.format(quote(bad, safe="")))
        refused(answer, 422, "INVALID_FIELDS", field)


async def test_nothing_is_written_to_an_id_that_breaks_the_rules(chart: Chart) -> None:
    for bad in BAD_IDS:
        path = quote(bad, safe="")
        body = {"kind": "note", "text": "a", "title": "a"}
        answer = await chart.clinic.call("POST", f"/v1/patients/{path}/records", body)
        refused(answer, 422, "INVALID_FIELDS", "patient_id")
        answer = await chart.clinic.call("PATCH", f"/v1/records/{path}", {"base_version": 1})
        refused(answer, 422, "INVALID_FIELDS", "record_id")


@pytest.mark.parametrize("path", ["/v1/patients/a%2Fb", "/v1/patients/..", "/v1/patients/../me", "/v1//patients"])
async def test_an_address_that_is_none_is_not_found(chart: Chart, path: str) -> None:
    answer = await chart.clinic.call("GET", path)
    assert answer.status_code in {404, 200}
    if answer.status_code == 404:
        refused(answer, 404, "NOT_FOUND")


HUGE = "9" * 5_000

QUERIES = {
    "limit": [
        f"{LIST}?limit={bad}" for bad in ("0", "-1", "501", "abc", "1.5", "", "1e9", "9" * 20, HUGE, "%00", "0x10")
    ]
    + [f"{path}?limit=0" for path in (CHART, PATIENT + "/history", RECORD + "/history")]
    + [f"{path}?limit={bad}" for path in (CONFLICTS, POLICIES + "/history") for bad in ("0", "501", "abc", "")],
    "cursor": [f"{LIST}?cursor={bad}" for bad in ("a_b", "%00", "", "a%20b", "x" * 65, "a%0A", "%C3%A9")]
    + [f"{path}?cursor={bad}" for path in (CHART, CONFLICTS) for bad in ("a_b", "a%0A", "%00")]
    + [
        f"{path}/history?cursor={bad}"
        for path in (RECORD, POLICIES)
        for bad in ("0", "-1", "abc", "2147483648", "9" * 20, HUGE, "", "1.5")
    ],
    "tag": [f"{LIST}?tag={bad}" for bad in ("%00", "a%01", "x" * 201, "a%0A")],
    "q": [f"{LIST}?q={'x' * 201}"],
    "updated_since": [f"{LIST}?updated_since={bad}" for bad in ("soon", "2026-02-30", "2026-03-01T09:30", "", "%00")]
    + [f"{LIST}?updated_since={bad}" for bad in ("1" * 41, "0000", "2026-13", "9999-12-31T23:59:59-01:00", "-1")],
    "kind": [f"{CHART}?kind={bad}" for bad in ("poem", "", "Observation", "%00", "x" * 201)],
    "status": [f"{CHART}?status={bad}" for bad in ("lost", "", "%00")],
    "state": [f"{CONFLICTS}?state={bad}" for bad in ("lost", "", "OPEN", "%00", "open%0A", "x" * 41, "open,resolved")],
    "patient_id": [f"{CONFLICTS}?patient_id={bad}" for bad in ("a_b", "", "%00", "a%0A", "x" * 65, "%C3%A9")],
    "code": [f"{CHART}?code={bad}" for bad in ("%00", "x" * 201)],
    "from": [f"{CHART}?from={bad}" for bad in ("soon", "2026-02-30", "0000", "x" * 41, "", "2026-03-01T09:30:00")]
    + [f"{RECORD}/diff?from={bad}&to=1" for bad in ("0", "-1", "abc", "1.5", "2147483648", "9" * 20, HUGE, "", "%00")]
    + [f"{PATIENT}/diff?to=1", f"{RECORD}/diff?to=1"],
    "to": [f"{CHART}?to={bad}" for bad in ("soon", "2026-02-30", "0000", "x" * 41, "")]
    + [f"{PATIENT}/diff?from=1&to={bad}" for bad in ("0", "-1", "abc", "2147483648", "9" * 20)]
    + [f"{PATIENT}/diff?from=1"],
    "number": [f"{path}/versions/{bad}" for path in (PATIENT, RECORD) for bad in ("0", "-1", "2147483648", "9" * 20)],
}


@pytest.mark.parametrize(
    ("field", "path"),
    [pytest.param(field, path, id=f"{path[:50]}") for field, paths in QUERIES.items() for path in paths],
)
async def test_a_bad_parameter_is_named_as_it_was_sent(chart: Chart, field: str, path: str) -> None:
    answer = await chart.clinic.call("GET", chart.path(path))
    assert answer.status_code == 422, answer.text
    assert field in fields_of(refused(answer, 422, "INVALID_FIELDS", ANY))


@pytest.mark.parametrize("number", ["abc", "1.5", "", "%00", "1e2", HUGE, "+"])
async def test_a_version_that_is_no_number_is_not_there(chart: Chart, number: str) -> None:
    answer = await chart.clinic.call("GET", chart.path(f"{RECORD}/versions/{number}"))
    assert answer.status_code in {404, 422}, answer.text
    assert answer.json().keys() == {"success", "error", "request_id"}


@pytest.mark.parametrize(
    "query", ["q=%00", "q=%FF%FE", "q=%ED%A0%80", "tag=%FF", "q=&q=", "limit=1&limit=2", "a[]=1", "&&==", "%", "q=%"]
)
async def test_an_odd_query_is_answered_in_order(chart: Chart, query: str) -> None:
    answer = await chart.clinic.call("GET", f"/v1/patients?{query}")
    assert answer.status_code in {200, 422}, answer.text


# -- whatever else ------------------------------------------------------------------------------------------------

ANYTHING = st.characters(categories=("L", "M", "N", "P", "S", "Z", "C"))
"""Every code point, halves of surrogate pairs and control characters too."""
TEXTS = st.text(ANYTHING, max_size=20) | st.sampled_from(
    ["2026-03-01", "2026-03-01T09:30:00Z", "note", "observation", "medication", "female", "a", "9999-12", "1", "\x00"]
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3)
PATIENT_NAMES = (*CREATING, *CHANGING, *patients.FIELDS, "system", "value", "name", "city", "lines")
RECORD_NAMES = (*CREATING, *CHANGING, *records.ANY, "system", "value", "code", "unit", "display")


def json_values(names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(names) | TEXTS
    return st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


def bodies(names: tuple[str, ...]) -> st.SearchStrategy[Any]:
    values = json_values(names)
    return st.dictionaries(st.sampled_from(names), values, max_size=6) | values


FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def sent(chart: Chart, method: str, path: str, body: Any) -> None:
    """Send it as JSON that spells everything; whatever it is, it is an answer of ours and no accident."""
    content = json.dumps(body, ensure_ascii=True).encode()
    answer = await chart.clinic.call(method, chart.path(path), raw=content)
    assert answer.status_code < 500, answer.text
    if not answer.is_success:
        refused(answer, answer.status_code, ANY, ANY)


@FUZZ
@given(body=bodies(PATIENT_NAMES))
@example(body={"family_name": "\ud800"})
async def test_no_body_of_a_new_patient_breaks_anything(opened: Chart, body: Any) -> None:
    named = {"family_name": "Obi", **body} if isinstance(body, dict) else body
    for each in (body, named):
        await sent(opened, "POST", NEW_PATIENT, each)


@FUZZ
@given(kind=st.sampled_from(records.KINDS), body=bodies(RECORD_NAMES))
async def test_no_body_of_a_new_record_breaks_anything(opened: Chart, kind: str, body: Any) -> None:
    named = {"title": "Title", **body, "kind": kind} if isinstance(body, dict) else body
    for each in (body, named):
        await sent(opened, "POST", NEW_RECORD, each)


@FUZZ
@given(body=bodies(RECORD_NAMES), base_version=st.integers(1, 3))
async def test_no_body_of_a_change_breaks_anything(opened: Chart, body: Any, base_version: int) -> None:
    """Whether it saw the head or not."""
    changes = {**body, "base_version": base_version} if isinstance(body, dict) else body
    await sent(opened, "PATCH", RECORD, changes)
    await sent(opened, "PATCH", PATIENT, changes)
