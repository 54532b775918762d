"""What every place where records are kept promises: whose they are, and which come in which order."""

from datetime import timedelta

import pytest

from heallog.application.ports.records import RecordFilter
from heallog.domain.canon import moment
from heallog.domain.errors import AlreadyExists, NotFound

from .clinic import MINUTE, MONDAY, Backend, Clinic

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def alice(clinic: Clinic) -> str:
    await clinic.admit("alice")
    return "alice"


# -- whose they are -----------------------------------------------------------------------------------------------


async def test_a_record_needs_a_patient_of_its_practice(backend: Backend, clinic: Clinic, elsewhere: Clinic) -> None:
    await elsewhere.admit("bruno")
    for missing in ("nobody", "bruno"):
        with pytest.raises(NotFound):
            await clinic.file("note", of=missing)
    assert await backend.records.get(clinic.id, "note") is None


async def test_a_patient_admitted_in_the_same_unit_of_work_will_do(backend: Backend, clinic: Clinic) -> None:
    async with backend.uow() as uow:
        await uow.patients.append([clinic.patient("bruno", family_name="Braun")])
        await uow.records.append([clinic.record("note", of="bruno")])
        await uow.commit()
    assert await clinic.records_of("bruno") == ["note"]


async def test_a_deleted_patient_will_do_for_the_store(backend: Backend, clinic: Clinic) -> None:
    """Whether a patient is present is asked of `present`; the store only knows who has ever been."""
    await clinic.delete(await clinic.admit("bruno"))
    head = await clinic.file("note", of="bruno")
    assert await backend.records.get(clinic.id, "note") == head


async def test_a_taken_id_counts_before_a_missing_patient(clinic: Clinic) -> None:
    await clinic.file("note", of="alice")
    with pytest.raises(AlreadyExists):
        await clinic.file("note", of="nobody")


# -- lists --------------------------------------------------------------------------------------------------------


async def test_a_patient_without_records_has_an_empty_list_and_nobody_has_none(
    clinic: Clinic, elsewhere: Clinic
) -> None:
    await elsewhere.admit("bruno")
    await clinic.delete(await clinic.admit("cleo"))
    assert await clinic.records_of("alice") == []
    assert await clinic.records_of("nobody") is None
    assert await clinic.records_of("bruno") is None
    assert await clinic.records_of("cleo") is None
    assert await clinic.records_of("nobody", after="note") is None


async def test_a_restored_patient_has_the_records_again(clinic: Clinic) -> None:
    bruno = await clinic.admit("bruno")
    await clinic.file("note", of="bruno")
    gone = await clinic.delete(bruno)
    assert await clinic.records_of("bruno") is None
    await clinic.change(gone, family_name="Bruno")
    assert await clinic.records_of("bruno") == ["note"]


async def test_only_the_patients_own_records_come(clinic: Clinic, elsewhere: Clinic) -> None:
    await clinic.admit("bruno")
    await elsewhere.admit("alice")
    await clinic.file("hers", of="alice")
    await clinic.file("his", of="bruno")
    await elsewhere.file("theirs", of="alice")
    assert await clinic.records_of("alice") == ["hers"]


async def test_the_latest_comes_first_however_precise_its_time_is(clinic: Clinic) -> None:
    """A year or a month counts from its first instant; a time without a date from when it was entered."""
    for record, occurred_at in {
        "year": "2026",
        "month": "2026-03",
        "day": "2026-03-02",
        "noon": "2026-03-02T12:00:00.000Z",
        "noon-and-a-bit": "2026-03-02T12:00:00.001Z",
        "long-ago": "0001-01-01",
        "one-day": "9999-12-31T23:59:59.999Z",
    }.items():
        await clinic.file(record, of="alice", occurred_at=occurred_at)
    entered = await clinic.file("undated", of="alice")
    assert moment(entered.created_at)[:13] == "2026-03-02T08"
    assert await clinic.records_of("alice") == [
        *("one-day", "noon-and-a-bit", "noon", "undated", "day", "month", "year", "long-ago")
    ]


async def test_an_undated_record_keeps_its_place_when_it_is_changed(clinic: Clinic) -> None:
    note = await clinic.file("early", of="alice")
    await clinic.file("late", of="alice")
    await clinic.change(note, kind="note", status="draft", text="Later words.")
    assert await clinic.records_of("alice") == ["late", "early"]


async def test_ties_come_by_id_in_bytes_from_the_last(clinic: Clinic) -> None:
    for record in ("a", "B", "b", "a.1", "a-1"):
        await clinic.file(record, of="alice", occurred_at="2026-01-01")
    assert await clinic.records_of("alice") == ["b", "a.1", "a-1", "a", "B"]


async def test_pages_meet_without_gap_or_overlap(clinic: Clinic) -> None:
    for number in range(7):
        await clinic.file(f"note-{number}", of="alice", occurred_at=f"2026-01-0{1 + number // 3}")
    whole = await clinic.records_of("alice") or []
    for size in (1, 2, 3, 7):
        paged: list[str] = []
        while page := await clinic.records_of("alice", after=paged[-1] if paged else None, limit=size):
            assert len(page) <= size
            paged += page
            assert len(paged) <= len(whole)
        assert paged == whole == [f"note-{number}" for number in reversed(range(7))]


async def test_a_cursor_that_names_nothing_gives_an_empty_page(clinic: Clinic, elsewhere: Clinic) -> None:
    await elsewhere.admit("alice")
    await elsewhere.file("theirs", of="alice", occurred_at="2027")
    await clinic.file("hers", of="alice")
    assert await clinic.records_of("alice", after="nothing") == []
    assert await clinic.records_of("alice", after="theirs") == []


async def test_deleted_records_are_left_out_until_they_are_restored(clinic: Clinic) -> None:
    gone = await clinic.delete(await clinic.file("note", of="alice"))
    assert await clinic.records_of("alice") == []
    await clinic.change(gone, kind="note", status="draft", text="Back.")
    assert await clinic.records_of("alice") == ["note"]


async def test_a_cursor_whose_record_was_deleted_meanwhile_keeps_its_place(clinic: Clinic) -> None:
    heads = {
        record: await clinic.file(record, of="alice", occurred_at=at)
        for record, at in (("newest", "2021"), ("middle", "2020"), ("oldest", "2019"))
    }
    await clinic.delete(heads["middle"])
    assert await clinic.records_of("alice", after="middle") == ["oldest"]


# -- filters ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def chart(clinic: Clinic) -> Clinic:
    """alice's chart, from the oldest entry to the latest."""
    body_weight = {"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}
    for day, (record, content) in enumerate(
        {
            "visit": {"kind": "encounter", "title": "Visit", "status": "signed"},
            "weight": {"kind": "observation", "code": body_weight},
            "weight-signed": {"kind": "observation", "code": body_weight, "status": "signed"},
            "uncoded": {"kind": "observation", "title": "Looks well"},
            "same-code": {"kind": "procedure", "code": {"code": "29463-7"}, "status": "entered_in_error"},
        }.items()
    ):
        await clinic.file(record, of="alice", occurred_at=moment(MONDAY + day * DAY), **content)
    return clinic


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        pytest.param(RecordFilter(), ["same-code", "uncoded", "weight-signed", "weight", "visit"], id="no filter"),
        pytest.param(RecordFilter(kind="observation"), ["uncoded", "weight-signed", "weight"], id="kind"),
        pytest.param(RecordFilter(kind="Observation"), [], id="kind is exact"),
        pytest.param(RecordFilter(status="signed"), ["weight-signed", "visit"], id="status"),
        pytest.param(RecordFilter(status="entered_in_error"), ["same-code"], id="errors are listed"),
        pytest.param(RecordFilter(code="29463-7"), ["same-code", "weight-signed", "weight"], id="code, of any system"),
        pytest.param(RecordFilter(code="29463"), [], id="code is exact"),
        pytest.param(RecordFilter(code=""), [], id="an empty code is no missing one"),
        pytest.param(RecordFilter(since=MONDAY + 3 * DAY), ["same-code", "uncoded"], id="since includes its moment"),
        pytest.param(RecordFilter(until=MONDAY + 2 * DAY), ["weight", "visit"], id="until leaves its moment out"),
        pytest.param(
            RecordFilter(since=MONDAY + DAY, until=MONDAY + 2 * DAY + MINUTE), ["weight-signed", "weight"], id="between"
        ),
        pytest.param(RecordFilter(since=MONDAY + DAY, until=MONDAY + DAY), [], id="between a moment and itself"),
        pytest.param(
            RecordFilter("observation", "signed", MONDAY, MONDAY + 9 * DAY, "29463-7"), ["weight-signed"], id="all"
        ),
    ],
)
async def test_filters_choose(chart: Clinic, chosen: RecordFilter, found: list[str]) -> None:
    assert await chart.records_of("alice", chosen) == found


async def test_filters_and_cursors_go_together(chart: Clinic) -> None:
    observations = RecordFilter(kind="observation")
    assert await chart.records_of("alice", observations, limit=2) == ["uncoded", "weight-signed"]
    assert await chart.records_of("alice", observations, after="weight-signed") == ["weight"]
    assert await chart.records_of("alice", observations, after="same-code", limit=1) == ["uncoded"]


async def test_filters_follow_the_head(backend: Backend, chart: Clinic) -> None:
    weight = await backend.records.get(chart.id, "weight")
    assert weight is not None
    await chart.change(weight, **weight.fields() | {"status": "signed", "occurred_at": "1999", "code": {"code": "x"}})
    assert await chart.records_of("alice", RecordFilter(status="signed")) == ["weight-signed", "visit", "weight"]
    assert await chart.records_of("alice", RecordFilter(code="x")) == ["weight"]
    assert await chart.records_of("alice", RecordFilter(status="draft")) == ["uncoded"]
