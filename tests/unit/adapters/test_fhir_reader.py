"""Where resources come from: NDJSON and Bundles in files, what a client posts; each comes once, damage costs little."""

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heallog.adapters.fhir import FhirBundle, FhirFiles, cutter
from heallog.adapters.fhir.cutter import LONGEST
from heallog.adapters.fhir.node import Refused
from heallog.application.ports.imports import Incoming, ResourceSource
from heallog.domain.errors import InvalidFields, MalformedJson

Resource = dict[str, Any]

MiB = 1024 * 1024
ALICE: Resource = {"resourceType": "Patient", "id": "alice", "name": [{"family": "Okoye"}]}
SUBJECT = b'{"reference":"Patient/alice"}'
HEIGHT: Resource = {
    "resourceType": "Observation",
    "id": "height",
    "status": "final",
    "code": {"text": "Height"},
    "subject": {"reference": "Patient/alice"},
    "valueQuantity": {"value": 176.50, "unit": "cm"},
}
WARD: Resource = {"resourceType": "Organization", "id": "ward"}


def line(resource: Any) -> bytes:
    return json.dumps(resource).encode() + b"\n"


def bundle(*resources: Any, type: str = "collection") -> Resource:
    return {"resourceType": "Bundle", "type": type, "entry": [{"resource": resource} for resource in resources]}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def both(source: ResourceSource) -> tuple[list[Incoming], list[Incoming]]:
    return list(source.patients()), list(source.others())


def places(items: list[Incoming]) -> list[tuple[str, str]]:
    return [(item.where, item.type) for item in items]


def reasons(items: list[Incoming]) -> list[tuple[str, str | None]]:
    return [(item.where, item.refused) for item in items]


# -- NDJSON -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all.ndjson", "all.ndjson.gz", "all.json", "all.json.gz"])
def test_a_line_is_a_resource_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    odd = b'  {"resourceType" : "Observation",\t"id":"o", "code":{"text":"H\\u00f6he"},"subject":%s} ' % SUBJECT
    path = written(tmp_path, name, b"\n" + line(ALICE) + b"\n   \n" + odd + b"\r\n" + line(WARD).strip())
    patients, others = both(FhirFiles([path]))
    assert places(patients) == [(f"{name}:2", "Patient")]
    assert places(others) == [(f"{name}:5", "Observation"), (f"{name}:6", "Organization")]
    assert others[0].source == odd.strip(), "the source is kept byte for byte"
    assert others[0].mapped is not None
    assert others[0].mapped.body["title"] == "Höhe"
    assert (others[1].mapped, others[1].refused) == (None, None)


def test_what_cannot_be_read_is_refused_where_it_stands_and_the_rest_goes_on(tmp_path: Path) -> None:
    content = b"\n".join(
        [
            b'{"resourceType":"Patient"',
            b'{"resourceType":"Patient","id":"\xff"}',
            b'["Patient"]',
            b'{"id":"x"}',
            b'{"resourceType":7,"id":"x"}',
            b'{"resourceType":"Patient","id":"p","id":"p"}',
            b'{"resourceType":"Observation","id":"o","valueQuantity":{"value":NaN}}',
            b'{"resourceType":"Observation","id":"o","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"resourceType":"Patient","id":"no spaces please"}',
            line(bundle(ALICE)).strip(),
            line(ALICE).strip(),
        ]
    )
    patients, others = both(FhirFiles([written(tmp_path, "a.ndjson", content)]))
    assert reasons(patients) == [
        ("a.ndjson:9", "id 'no spaces please' is not 1 to 64 letters, digits, dots or hyphens"),
        ("a.ndjson:11", None),
    ]
    assert reasons(others) == [
        ("a.ndjson:1", "not JSON: Expecting ',' delimiter, line 1 column 26"),
        ("a.ndjson:2", "not UTF-8 at byte 32"),
        ("a.ndjson:3", "not an object"),
        ("a.ndjson:4", "resourceType is missing"),
        ("a.ndjson:5", "resourceType: must be a string"),
        ("a.ndjson:6", "the key 'id' appears twice in one object"),
        ("a.ndjson:7", "NaN is not JSON"),
        ("a.ndjson:8", "nested too deep"),
        ("a.ndjson:10", "a Bundle inside something else is not taken apart; give it as a file of its own"),
    ]
    assert others[1].source == b'{"resourceType":"Patient","id":"\xff"}'


def test_only_the_outermost_type_makes_a_patient(tmp_path: Path) -> None:
    contained = HEIGHT | {"contained": [ALICE]}
    escaped = line(ALICE).replace(b"resourceType", rb"resource\u0054ype").replace(b"Patient", rb"P\u0061tient")
    spaced = line(ALICE).replace(b'"resourceType": ', b'"resourceType" \t:  ')
    last = line({**HEIGHT, "text": {"div": "Patient"}})
    path = written(tmp_path, "a.ndjson", line(contained) + escaped + spaced + last)
    patients, others = both(FhirFiles([path]))
    assert places(patients) == [("a.ndjson:2", "Patient"), ("a.ndjson:3", "Patient")]
    assert places(others) == [("a.ndjson:1", "Observation"), ("a.ndjson:4", "Observation")]


def test_a_byte_order_mark_is_no_part_of_the_resource(tmp_path: Path) -> None:
    path = written(tmp_path, "a.ndjson", b"\xef\xbb\xbf" + line(ALICE) + line(HEIGHT))
    patients, others = both(FhirFiles([path]))
    assert [item.source for item in patients] == [line(ALICE).strip()]
    assert [item.refused for item in others] == [None]


def test_an_endless_line_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    with path.open("wb") as file:
        file.write(line(ALICE) + b'{"resourceType":"Patient","id":"')
        for _ in range(64):
            file.write(b"x" * MiB)
        file.write(b'"}\n' + line(HEIGHT))
    source = FhirFiles([path])
    tracemalloc.start()
    patients, others = both(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places(patients) == [("a.ndjson:1", "Patient")]
    assert reasons(others) == [("a.ndjson:2", f"longer than {LONGEST} bytes"), ("a.ndjson:3", None)]
    assert peak < 40 * MiB


def test_a_resource_may_have_ten_mebibytes(tmp_path: Path) -> None:
    frame = b'{"resourceType":"Binary","data":"%s"}'
    fits = frame % (b"x" * (LONGEST - len(frame) + 2))
    assert len(fits) == LONGEST
    path = written(tmp_path, "a.ndjson", fits + b"\n" + fits.replace(b"data", b"datas") + b"\n")
    assert reasons(list(FhirFiles([path]).others())) == [
        ("a.ndjson:1", None),
        ("a.ndjson:2", f"longer than {LONGEST} bytes"),
    ]


# -- damage -------------------------------------------------------------------------------------------------------


def test_a_truncated_gzip_gives_what_it_has_and_the_next_file_follows(tmp_path: Path) -> None:
    lines = b"".join(line({**HEIGHT, "id": f"o{number}", "note": [{"text": "x" * number}]}) for number in range(3_000))
    whole = gzip.compress(lines)
    (tmp_path / "a.ndjson.gz").write_bytes(whole[: len(whole) // 2])
    written(tmp_path, "b.ndjson", line(ALICE) + line(HEIGHT))
    patients, others = both(FhirFiles([tmp_path]))
    assert places(patients) == [("b.ndjson:1", "Patient")]
    *good, damage, last = others
    assert len(good) > 1_000
    assert not any(item.refused for item in good)
    assert (damage.where, damage.refused) == ("a.ndjson.gz", f"truncated gzip after line {len(good)}")
    assert last.where == "b.ndjson:2"


def test_a_damaged_gzip_is_said_once(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(line(ALICE) + line(HEIGHT)))
    whole[-8] ^= 0xFF  # the checksum
    (tmp_path / "a.ndjson.gz").write_bytes(whole)
    (tmp_path / "b.ndjson.gz").write_bytes(whole[:12] + b"\xff" * 20)
    (tmp_path / "c.ndjson.gz").write_bytes(whole[:8])
    patients, others = both(FhirFiles([tmp_path]))
    assert places(patients) == [("a.ndjson.gz:1", "Patient")]
    assert reasons(others) == [
        ("a.ndjson.gz:2", None),
        ("a.ndjson.gz", "damaged gzip after line 2"),
        ("b.ndjson.gz", "damaged gzip"),
        ("c.ndjson.gz", "truncated gzip"),
    ]


def test_a_gzip_without_the_name_and_a_name_without_the_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(gzip.compress(line(ALICE)))
    (tmp_path / "b.ndjson.gz").write_bytes(line(HEIGHT))
    (tmp_path / "c.ndjson.gz").write_bytes(b"")
    patients, others = both(FhirFiles([tmp_path]))
    assert places(patients) == [("a.ndjson:1", "Patient")]
    assert reasons(others) == [("b.ndjson.gz:1", None)]


# -- Bundles in files ---------------------------------------------------------------------------------------------

NAMED = bundle() | {
    "entry": [
        {
            "fullUrl": "urn:uuid:0B9C6A52-6f0e-4c57-9d0e-3f3c0a1d2e4f",
            "resource": HEIGHT | {"subject": {"reference": "urn:uuid:aaaaaaaa-6f0e-4c57-9d0e-3f3c0a1d2e4f"}},
        },
        {
            "fullUrl": "urn:uuid:bbbbbbbb-6f0e-4c57-9d0e-3f3c0a1d2e4f",
            "resource": {
                "resourceType": "Condition",
                "code": {"text": "Cold"},
                "subject": {"reference": "urn:uuid:aaaaaaaa-6f0e-4c57-9d0e-3f3c0a1d2e4f"},
                "encounter": {"reference": "urn:uuid:CCCCCCCC-6f0e-4c57-9d0e-3f3c0a1d2e4f"},
            },
        },
        {"fullUrl": "urn:uuid:aaaaaaaa-6f0e-4c57-9d0e-3f3c0a1d2e4f", "resource": ALICE},
        {
            "fullUrl": "urn:uuid:cccccccc-6f0e-4c57-9d0e-3f3c0a1d2e4f",
            "resource": {"resourceType": "Encounter", "subject": {"reference": "Patient/alice"}},
        },
        {"resource": HEIGHT | {"subject": {"reference": "urn:uuid:dddddddd-6f0e-4c57-9d0e-3f3c0a1d2e4f"}}},
    ]
}
"""Entries that call each other by names of this Bundle's own, also before they are introduced."""


@pytest.mark.parametrize("name", ["b.json", "b.json.gz", "b.ndjson"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("patients_first", [True, False])
def test_the_names_inside_a_bundle_are_followed(
    tmp_path: Path, name: str, indent: int | None, patients_first: bool
) -> None:
    path = written(tmp_path, name, json.dumps(NAMED, indent=indent).encode())
    source = FhirFiles([path])
    if patients_first:
        assert places(list(source.patients())) == [(f"{name}:entry 2", "Patient")]
    check_names(list(source.others()), f"{name}:")


def test_the_names_inside_a_posted_bundle_are_followed() -> None:
    source = FhirBundle(json.dumps(NAMED).encode())
    check_names(list(source.others()), "")
    assert places(list(source.patients())) == [("entry 2", "Patient")]


def check_names(others: list[Incoming], prefix: str) -> None:
    height, cold, visit, lost = others
    assert [item.where for item in others] == [f"{prefix}entry {index}" for index in (0, 1, 3, 4)]
    assert height.mapped is not None
    assert (height.mapped.id, height.mapped.patient_id) == ("Observation.height", "alice")
    assert cold.mapped is not None
    assert (cold.mapped.id, cold.mapped.patient_id) == ("bbbbbbbb-6f0e-4c57-9d0e-3f3c0a1d2e4f", "alice")
    assert visit.mapped is not None
    assert cold.mapped.body["encounter_id"] == visit.mapped.id == "cccccccc-6f0e-4c57-9d0e-3f3c0a1d2e4f"
    assert lost.refused is not None
    assert lost.refused.endswith("is not in this Bundle")


@pytest.mark.parametrize("before", ["", " \n", "\ufeff"])
def test_a_bundles_entries_are_kept_byte_for_byte(tmp_path: Path, before: str) -> None:
    odd = b'{ "resourceType":"Observation","id":"o" , "n":[1.50,12345678901234567890],"code":{"text":"a]}\\"{,"},'
    odd += b'"subject":%s}' % SUBJECT
    text = b'%s{"meta":{"a":[1,{}]} ,"type":"batch","entry" : [ {"resource": %s}\n,\n{"resource":%s}] , '
    text += b'"resourceType":"Bundle"}\n'
    path = written(tmp_path, "b.json", text % (before.encode(), odd, line(ALICE)))
    patients, others = both(FhirFiles([path]))
    assert [item.source for item in others] == [odd]
    assert places(patients) == [("b.json:entry 1", "Patient")]


def test_one_resource_in_a_file_is_a_resource(tmp_path: Path) -> None:
    written(tmp_path, "a.json", json.dumps(ALICE, indent=2).encode())
    written(tmp_path, "b.json", json.dumps(HEIGHT).encode())
    written(tmp_path, "c.json.gz", json.dumps(HEIGHT | {"entry": [ALICE]}, indent=2).encode())
    written(tmp_path, "d.json", b"[" + line(ALICE) + b"]")
    written(tmp_path, "e.json", b"\n")
    written(tmp_path, "f.json", b'{"resourceType":"Patient",\n')
    written(tmp_path, "g.json", b'{\n"resourceType":"Binary","data":"' + b"x" * LONGEST + b'"}')
    written(tmp_path, "h.json", b'{\n"a":' + b"[" * 200_000)
    patients, others = both(FhirFiles([tmp_path]))
    assert places(patients) == [("a.json", "Patient")]
    assert reasons(others) == [
        ("b.json:1", None),
        ("c.json.gz", None),
        ("d.json", "not an object"),
        ("f.json", "not JSON: Expecting property name enclosed in double quotes, line 1 column 27"),
        ("g.json", f"longer than {LONGEST} bytes and not a Bundle"),
        ("h.json", "nested too deep"),
    ]


def test_entries_that_cannot_be_read_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    broken = bundle(ALICE, [], None, HEIGHT)
    broken["entry"] += [7, {"fullUrl": 5, "resource": HEIGHT}, {"request": {"method": "DELETE", "url": "Patient/a"}}]
    broken["entry"] += [{"resource": bundle(ALICE)}, {"fullUrl": "urn:uuid:not an id", "resource": WARD | {"id": None}}]
    broken["entry"] += [{"fullUrl": "urn:uuid:not an id", "resource": {**HEIGHT, "id": None}}]
    expected = [
        "not an object",
        "has no resource",
        None,
        "must be an object",
        "fullUrl: must be a string",
        "deletes are not imported",
        "a Bundle inside something else is not taken apart; give it as a file of its own",
        None,
        "id 'not an id' is not 1 to 64 letters, digits, dots or hyphens",
    ]
    text = json.dumps(broken).encode()
    for source in (FhirFiles([written(tmp_path, "b.json", text)]), FhirBundle(text)):
        patients, others = both(source)
        assert len(patients) == 1
        assert [item.refused for item in others] == expected


BEGUN = b'{"resourceType":"Bundle","entry":['


@pytest.mark.parametrize(
    ("text", "reasons_given"),
    [
        (b'{"resourceType":"Bundle","entry":{}}', ["entry: must be a list"]),
        (b'{"resourceType":"Bundle","entry":7}', ["entry: must be a list"]),
        (BEGUN, ["ends too early"]),
        (BEGUN + b'{"resource":', ["ends too early"]),
        (BEGUN + b'{},{"resource":"', ["has no resource", "ends too early after entry 0"]),
        (BEGUN + b"nonsense]}", ["not JSON: Expecting value, line 1 column 1"]),
        (BEGUN + b'{"resource":{"a":"\xff"}}]}', ["not UTF-8 at byte 6"]),
        (BEGUN + b'{"resource":{"a":"\\ud800"}}]}', ["half of a surrogate pair in a string"]),
        (BEGUN + b'{"fullUrl":"urn:uuid:1","resource":{"id":nope}}]}', ["not JSON"]),
        (BEGUN + b'{"fullUrl":"urn:uuid:1","resource":[1]}]}', ["not an object"]),
        (BEGUN + b'{"fullUrl":"urn:uuid:1","resource":{"id":5}}]}', ["resourceType is missing"]),
        (BEGUN + b'{"resource":{"a":1,"a":1}}]}', ["the key 'a' appears twice in one object"]),
        (BEGUN + b'{"resource":{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}}]}", ["nested too deep"]),
        (BEGUN + b'{"resource":{"a":' + b"[" * 200_000, ["ends too early"]),
        (BEGUN + b'{"resource":{"a":' + b"1" * 5_000 + b"}}]}", ["a number has too many digits"]),
        (BEGUN + b'{"resource":{"a":"' + b"x" * LONGEST + b'"}}]}', [f"longer than {LONGEST} bytes"]),
        (BEGUN + b'{"a":[1}]},{}]}', ["not JSON", "not JSON"]),
        (BEGUN + b'{"a":1]},{}]}', ["not JSON", "not JSON"]),
        (BEGUN + b'{"resource":{"a":"' + b"x" * 3 * LONGEST + b'"}}]}', [f"longer than {LONGEST} bytes"]),
        (BEGUN + b"{}]}" + b"{}" * LONGEST, ["has no resource", "not JSON: Extra data"]),
        (BEGUN + b"{}]} more", ["has no resource", "not JSON: Extra data"]),
        (BEGUN + b"{}]}" + b" " * MiB + b"}", ["has no resource", "not JSON: Extra data"]),
        (BEGUN + b'{}],"entry":[{}]}', ["has no resource", "has no resource", "the key 'entry' appears twice"]),
        (BEGUN + b"{},]}", ["has no resource", "not JSON"]),
        (BEGUN + b"{}],NaN}", ["has no resource", "not JSON"]),
    ],
)
def test_a_bundle_that_is_broken_says_where(tmp_path: Path, text: bytes, reasons_given: list[str]) -> None:
    patients, others = both(FhirFiles([written(tmp_path, "b.json", text)]))
    assert patients == []
    assert len(others) == len(reasons_given)
    for item, reason in zip(others, reasons_given, strict=True):
        assert str(item.refused).startswith(reason)


def test_a_long_bundle_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    resources = [HEIGHT | {"id": f"o{number}"} for number in range(3_000)]
    text = json.dumps(bundle(ALICE, *resources)).encode()
    written(tmp_path, "a.json", text[:-1_000])
    compressed = gzip.compress(text)
    (tmp_path / "b.json.gz").write_bytes(compressed[:-2_000])
    patients, others = both(FhirFiles([tmp_path]))
    assert places(patients) == [("a.json:entry 0", "Patient"), ("b.json.gz:entry 0", "Patient")]
    (first, last_of_a), (second, last_of_b) = [
        (item, others[index - 1]) for index, item in enumerate(others) if item.refused
    ]
    assert (first.where, first.refused) == ("a.json", f"ends too early after {last_of_a.where.partition(':')[2]}")
    assert (second.where, second.refused) == ("b.json.gz", f"truncated gzip after {last_of_b.where.partition(':')[2]}")
    assert len(others) > 4_000


def test_a_large_bundle_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    entry = b'{"resource":%s},' % line(HEIGHT | {"note": [{"text": "x" * MiB}]})
    with path.open("wb") as file:
        file.write(BEGUN)
        for _ in range(48):
            file.write(entry)
        file.write(b"{}]}")
    tracemalloc.start()
    assert sum(item.refused is None for item in FhirFiles([path]).others()) == 48
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * MiB


@pytest.mark.parametrize("text", [b'{"resourceType":"Bundle"}', b'{"resourceType":"Bundle","entry":[]}'])
def test_an_empty_bundle_is_no_mistake(tmp_path: Path, text: bytes) -> None:
    assert both(FhirFiles([written(tmp_path, "b.json", text)])) == ([], [])
    assert both(FhirBundle(text)) == ([], [])


# -- paths --------------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_fhir_files_in_order(tmp_path: Path) -> None:
    for name in ("b.ndjson", "a.json", "C.NDJSON", "readme.txt", "d.csv"):
        written(tmp_path, name, line(HEIGHT))
    (tmp_path / "z.json").mkdir()
    assert [item.where for item in FhirFiles([tmp_path]).others()] == ["C.NDJSON:1", "a.json:1", "b.ndjson:1"]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths.append(written(tmp_path / folder, "a.ndjson", line(HEIGHT)))
    assert [item.where for item in FhirFiles(paths).others()] == [f"{path}:1" for path in paths]


def test_a_path_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.ndjson"):
        FhirFiles([tmp_path / "gone.ndjson"])
    with pytest.raises(FileNotFoundError, match=r"no \.ndjson"):
        FhirFiles([tmp_path])


# -- what a client posts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["transaction", "batch", "collection", "searchset", "document", "message"])
def test_a_posted_bundle_of_any_type_is_taken_byte_for_byte(type: str) -> None:
    verbatim = (
        b'{"resourceType":"Observation",  "id":"o" ,"code":{"text":"H"},"subject":{"reference":"Patient/a"},"n":1.50}'
    )
    body = b'{"resourceType":"Bundle","type":"%s","entry":[ {"resource": %s } ,{"resource":%s}]}'
    source = FhirBundle(body % (type.encode(), verbatim, line(ALICE)))
    patients, others = both(source)
    assert places(patients) == [("entry 1", "Patient")]
    assert [(item.where, item.source) for item in others] == [("entry 0", verbatim)]


def test_a_single_resource_may_be_posted() -> None:
    assert places(both(FhirBundle(b" " + line(ALICE)))[0]) == [("resource", "Patient")]
    assert places(both(FhirBundle(line(HEIGHT)))[1]) == [("resource", "Observation")]
    assert places(both(FhirBundle(line(WARD)))[1]) == [("resource", "Organization")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"resourceType":"Bundle","entry":[}',
        b'{"resourceType":"Bundle","entry":{',
        b'{"resourceType":"Bundle","entry":[{"resource":{"a":NaN}}]}',
        b'{"\xff":1}',
        b"[1",
        b'{"a":' + b"[" * 100_000,
        b'{"resourceType":"Bundle","entry":[{"resource":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_a_body_that_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        FhirBundle(body)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        (b"[]", None, "type"),
        (b'"Bundle"', None, "type"),
        (b"{}", "resourceType", "choice"),
        (b'{"resourceType":null}', "resourceType", "choice"),
        (b'{"resourceType":["Bundle"]}', "resourceType", "choice"),
        (b'{"resourceType":"Bundle","entry":{}}', "entry", "type"),
        (b'{"resourceType":"Bundle","entry":"x"}', "entry", "type"),
    ],
)
def test_a_body_that_is_no_resource_is_invalid(body: bytes, field: str | None, code: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        FhirBundle(body)
    assert (caught.value.field, caught.value.errors[0].code) == (field, code)


def test_an_entry_that_is_no_text_is_refused_alone() -> None:
    body = b'{"resourceType":"Bundle","entry":[{"resource":{"id":"\xff"}},{"fullUrl":"\xff"},{"resource":%s}]}'
    found = reasons(list(FhirBundle(body % line(HEIGHT)).others()))
    assert found[0] == ("entry 0", "not UTF-8 at byte 7")
    assert found[1][0] == "entry 1"
    assert str(found[1][1]).startswith("not UTF-8")
    assert found[2] == ("entry 2", None)


# -- both readings ------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        line(ALICE),
        line(HEIGHT),
        line(WARD),
        line(HEIGHT | {"contained": [ALICE]}),
        line(ALICE | {"contained": [HEIGHT]}),
        line(ALICE).replace(b"Patient", rb"\u0050atient"),
        line(ALICE | {"id": "not ok"}),
        line(ALICE)[:20] + b"\n",
        b'"Patient"\n',
        b'{"resourceType":"Patient","resourceType":"Observation"}\n',
        b'{"resourceType":"Observation","a":{"resourceType":"Patient"}}\n',
        b'\xff{"resourceType":"Patient"}\n',
        b"\n",
        b"  \r\n",
    ]
)


def is_json(piece: bytes) -> bool:
    try:
        json.loads(piece)
    except ValueError:
        return False
    return True


def index_of(item: Incoming) -> int:
    return int(item.where.rpartition(" ")[2])


@given(st.lists(PIECES, max_size=12), st.booleans())
def test_each_line_comes_in_exactly_one_reading(tmp_path_factory: Any, pieces: list[bytes], packed: bool) -> None:
    name = "a.ndjson.gz" if packed else "a.ndjson"
    path = written(tmp_path_factory.mktemp("fhir"), name, b"".join(pieces))
    patients, others = both(FhirFiles([path]))
    numbers = [int(item.where.partition(":")[2]) for item in [*patients, *others]]
    assert sorted(numbers) == [number for number, piece in enumerate(pieces, 1) if piece.strip()]
    assert all(item.type == "Patient" for item in patients)
    assert all(item.type != "Patient" for item in others)


JSON_PIECES = PIECES.map(bytes.strip).filter(is_json)


@given(st.lists(JSON_PIECES, max_size=12), st.integers(0, 3))
def test_each_entry_comes_in_exactly_one_reading(tmp_path_factory: Any, pieces: list[bytes], spaces: int) -> None:
    entries = (b"," + b"\n" * spaces).join(b'{"resource":%s}' % piece for piece in pieces)
    body = b'{"resourceType":"Bundle","entry":[%s]}' % entries
    path = written(tmp_path_factory.mktemp("fhir"), "b.json", body)
    for source, prefix in ((FhirBundle(body), "entry "), (FhirFiles([path]), "b.json:entry ")):
        patients, others = both(source)
        numbers = [int(item.where.removeprefix(prefix)) for item in [*patients, *others]]
        assert sorted(numbers) == list(range(len(pieces)))
        assert {item.type for item in patients} <= {"Patient"}
        assert [item.source for item in sorted([*patients, *others], key=index_of)] == pieces


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES), st.dictionaries(st.text(), VALUES), st.dictionaries(st.text(), VALUES), st.integers(1, 40))
def test_a_bundle_is_cut_at_its_commas_wherever_the_chunks_end(
    entries: list[Any], before: Resource, after: Resource, chunk: int
) -> None:
    for indent in (None, 1):
        texts = [json.dumps(entry, ensure_ascii=False, indent=indent).encode() for entry in entries]
        ahead, behind = (
            [
                b"%s : %s" % (json.dumps(name).encode(), json.dumps(value, indent=indent).encode())
                for name, value in part
            ]
            for part in (
                [(name, value) for name, value in before.items() if name not in ("entry", "resourceType")],
                [(name, value) for name, value in after.items() if name not in {*before, "entry", "resourceType"}],
            )
        )
        members = [*ahead, b'"resourceType":"Bundle"', b'"entry" : [ %s\n]' % b" ,\t".join(texts), *behind]
        with patch.object(cutter, "_CHUNK", chunk):
            cut = cutter.Cutter(io.BytesIO(b"{%s}" % b",".join(members)))
            assert list(cut) == texts
            assert cut.type == "Bundle"


@given(st.text(st.sampled_from('{}[]",:\\ aentry0')), st.integers(1, 9))
def test_what_is_no_bundle_is_never_taken_for_a_whole_one(junk: str, chunk: int) -> None:
    text = b'{"entry":[' + junk.encode() + b"]}"
    with patch.object(cutter, "_CHUNK", chunk), suppress(Refused, MalformedJson):
        found = list(cutter.Cutter(io.BytesIO(text)))
        # Each entry may be broken in itself, but together they are all that there is.
        assert sum(map(len, found)) + junk.count(",") + junk.count(" ") >= len(junk)


def steps(source: ResourceSource) -> Iterator[int]:
    """How far the source says it is, after each resource of both readings."""
    total = source.progress()[1]
    for reading in (source.patients(), source.others()):
        for _ in reading:
            behind, same = source.progress()
            assert same == total
            yield behind
        yield source.progress()[0]
    assert source.progress() == (total, total)


def test_progress_only_goes_forward_and_ends_at_the_end(tmp_path: Path) -> None:
    many = b"".join(line(resource | {"id": f"x{number}"}) for number in range(2_000) for resource in (ALICE, HEIGHT))
    written(tmp_path, "a.ndjson.gz", many)
    written(tmp_path, "b.ndjson", many)
    written(tmp_path, "c.json", json.dumps(bundle(*[ALICE] * 500, *[HEIGHT] * 500), indent=1).encode())
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    files = FhirFiles([tmp_path])
    assert files.progress() == (0, 2 * size)
    for source in (files, FhirBundle(json.dumps(bundle(ALICE, HEIGHT, HEIGHT)).encode())):
        seen = list(steps(source))
        assert seen == sorted(seen)
        assert len(set(seen)) >= 3


def test_a_reading_that_is_left_early_does_no_harm(tmp_path: Path) -> None:
    path = written(tmp_path, "b.json", json.dumps(NAMED).encode())
    source = FhirFiles([path])
    next(source.patients())
    check_names(list(source.others()), "b.json:")
    patients, others = both(source)
    assert (len(patients), len(others)) == (1, 4)
    assert source.progress() == (2 * path.stat().st_size,) * 2


@pytest.mark.parametrize("spaced", [False, True])
def test_a_history_is_refused_entry_by_entry(tmp_path: Path, spaced: bool) -> None:
    """It lists the newest state first: read in order, the oldest would be what stays."""
    states = [{"resourceType": "Patient", "id": "ngozi", "name": [{"family": name}]} for name in ("New", "Old")]
    bundle = {"resourceType": "Bundle", "type": "history", "entry": [{"resource": state} for state in states]}
    body = json.dumps(bundle, indent=2 if spaced else None).encode()
    path = tmp_path / "history.json"
    path.write_bytes(body)
    for source in (FhirBundle(body), FhirFiles([path])):
        found = [*source.patients(), *source.others()]
        assert len(found) == 2
        assert all("history" in (item.refused or "") for item in found)
