"""What a baseline says: its records, where it comes from, and of which machine it is."""

from __future__ import annotations

import time as clock
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import read
from peft_update_bench.bench.gate.machine import Machine, read_machine
from peft_update_bench.fixtures.methods.names import AS_IT_IS

from tests.helpers.records import VERSIONS, baseline_data, extra_info, write


def test_a_valid_baseline(tmp_path: Path) -> None:
    lora, fft = extra_info(), extra_info(Cell("resnet18", "fft"))
    baseline = read(write(tmp_path / "0001_a.json", baseline_data(lora, fft, matrix="full", is_filtered=True)))
    assert list(baseline.records) == [Cell("resnet18", "lora", 4), Cell("resnet18", "fft")]
    record = baseline.records[Cell("resnet18", "lora", 4)]
    assert record.flops is not None
    assert record.flops.forward == 1000
    assert record.as_extra_info() == lora
    assert record.versions == VERSIONS
    assert (baseline.matrix, baseline.is_filtered) == ("full", True)
    assert baseline.machine == Machine("A CPU", 2)
    assert baseline.seconds == {Cell("resnet18", "lora", 4): 0.05, Cell("resnet18", "fft"): 0.05}
    assert baseline.name == "0001_a.json"
    assert (baseline.commit, baseline.time) == ("", None)


@pytest.mark.parametrize("schema", [1, 2])
def test_a_record_of_an_older_schema_is_read_and_stays_what_it_is(tmp_path: Path, schema: int) -> None:
    (record,) = read(write(tmp_path / "0001_a.json", baseline_data(extra_info(schema=schema)))).records.values()
    assert record.as_extra_info() == extra_info(schema=schema)


@pytest.mark.parametrize("test", ["tests/test_ours.py::test_train", "tests/test_update.py::test_update[large]"])
def test_a_users_own_step_is_known_by_the_name_of_its_test(tmp_path: Path, test: str) -> None:
    """Which may be called as this suite's tests are."""
    workload = {"batch": "2×3×8×8 float32", "optimizer": "SGD", "dtype": "float32", "device": "cpu", "threads": 1}
    data = baseline_data(extra_info(Cell(test, AS_IT_IS, is_step=True), workload=workload))
    data["benchmarks"][0]["fullname"] = test
    (cell,) = read(write(tmp_path / "0001_a.json", data)).records
    assert (cell.architecture, cell.is_step, str(cell)) == (test, True, test)


def test_an_untimed_cell_has_no_seconds(tmp_path: Path) -> None:
    data = baseline_data(extra_info(latency=None))
    del data["benchmarks"][0]["stats"]
    assert read(write(tmp_path / "0001_a.json", data)).seconds == {}


COMMITTED = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "commit", "time"),
    [
        ({"commit_info": {"id": "abc", "time": "2026-11-23T12:00:00+00:00"}, "datetime": "2026"}, "abc", COMMITTED),
        ({"commit_info": {"id": "abc", "time": "2026-11-23T14:00:00+02:00"}}, "abc", COMMITTED),
        # Outside a checkout: when it was measured, which pytest-benchmark writes in UTC and without a zone.
        ({"commit_info": {"id": None, "time": None}, "datetime": "2026-11-23T12:00:00"}, "", COMMITTED),
        ({"commit_info": "abc", "datetime": "2026-11-23T12:00:00"}, "", COMMITTED),
        ({"commit_info": {"id": "abc", "time": "noon"}, "datetime": "2026-11-23T12:00:00"}, "abc", COMMITTED),
        ({"commit_info": {"id": "abc"}}, "abc", None),
        ({"datetime": 20261123}, "", None),
    ],
)
def test_where_a_baseline_comes_from(
    tmp_path: Path, said: dict[str, Any], commit: str, time: datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    clock.tzset()
    try:
        baseline = read(write(tmp_path / "0001_a.json", {**baseline_data(), **said}))
    finally:
        monkeypatch.undo()
        clock.tzset()
    assert (baseline.commit, baseline.time) == (commit, time)
    assert baseline.time is None or baseline.time.tzinfo is UTC


def test_a_time_at_the_end_of_the_calendar_is_no_time(tmp_path: Path) -> None:
    for time in ("9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"):
        data = {**baseline_data(), "commit_info": {"id": "a", "time": time}}
        assert read(write(tmp_path / "0001_a.json", data)).time is None


@pytest.mark.parametrize(
    ("info", "machine"),
    [
        ({"cpu": {"brand_raw": "A CPU", "count": 2}}, Machine("A CPU", 2)),
        ({"cpu": {"brand_raw": "A CPU", "count": "2"}}, Machine("A CPU", 0)),
        ({"cpu": {}}, Machine("an unknown CPU", 0)),
        ({"cpu": "A CPU"}, Machine("an unknown CPU", 0)),
        ({}, Machine("an unknown CPU", 0)),
    ],
)
def test_the_machine(info: dict[str, Any], machine: Machine) -> None:
    assert read_machine(info) == machine


def test_a_machine_in_words() -> None:
    assert str(Machine("A CPU", 2)) == "A CPU, 2 cores"


def test_other_benchmarks_in_the_file_are_passed_over(tmp_path: Path) -> None:
    data = baseline_data()
    data["benchmarks"].append({"fullname": "bench/test_instruments.py::test_cost[a]", "extra_info": {}, "stats": {}})
    assert len(read(write(tmp_path / "a.json", data)).records) == 1


@pytest.mark.parametrize("test", ["test_update", "test_update[small]", "TestQuery::test_adaptation"])
def test_a_plain_benchmark_of_a_user_s_may_be_called_as_ours(tmp_path: Path, test: str) -> None:
    data = baseline_data(extra_info())
    data["benchmarks"].append({"fullname": f"tests/test_update.py::{test}", "extra_info": {}, "stats": {}})
    assert [str(cell) for cell in read(write(tmp_path / "a.json", data)).records] == ["resnet18-lora-r4"]
