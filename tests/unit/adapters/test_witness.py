"""What is told outside the database: a file that only grows, and the log."""

import json
from datetime import UTC, datetime
from pathlib import Path

from structlog.testing import capture_logs

from heallog.adapters.logs import ALLOWED
from heallog.adapters.witness import FileWitness, read
from heallog.domain.audit import Witnessed

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def seal(number: int) -> Witnessed:
    return Witnessed("northside", number, NOON, f"entry-{number}", 3, bytes([number] * 32))


def test_what_was_told_is_read_back_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "data" / "audit-seals.jsonl"
    witness = FileWitness(path)
    assert list(witness.told()) == []
    witness.tell([seal(1), seal(2)])
    FileWitness(path).tell([seal(3)])
    assert list(witness.told()) == list(read(path)) == [seal(1), seal(2), seal(3)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_told_later_is_not_in_what_was_asked_before(tmp_path: Path) -> None:
    witness = FileWitness(tmp_path / "seals")
    witness.tell([seal(1)])
    told = witness.told()
    witness.tell([seal(2)])
    assert list(told) == [seal(1)]


def test_a_line_that_a_crash_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "seals"
    witness = FileWitness(path)
    witness.tell([seal(1), seal(2)])
    path.write_bytes(path.read_bytes()[:-10])
    witness.tell([seal(3)])
    path.write_bytes(path.read_bytes() + b'{"number": 1}\n[]\n')
    assert list(witness.told()) == [seal(1), seal(3)]


def test_each_seal_is_a_line_in_the_log(tmp_path: Path) -> None:
    with capture_logs() as logged:
        FileWitness(tmp_path / "seals").tell([seal(1), seal(2)])
    assert [line["event"] for line in logged] == ["audit_sealed"] * 2
    assert logged[0].keys() - {"log_level"} <= ALLOWED
    assert {**json.loads((tmp_path / "seals").read_text().splitlines()[0])}.items() <= logged[0].items()
