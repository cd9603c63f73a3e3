"""Baselines: which file is meant, and that nothing but a complete and valid one is ever read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cells import Cell
from bench.gate.baseline import Baseline, BaselineError, Machine, check_workload, find, read
from bench.record import WorkloadEntry
from tests.records import VERSIONS, WORKLOAD, baseline_data, changed, extra_info, write


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


def test_other_benchmarks_in_the_file_are_passed_over(tmp_path: Path) -> None:
    data = baseline_data()
    data["benchmarks"].append({"fullname": "bench/test_instruments.py::test_cost[a]", "extra_info": {}, "stats": {}})
    assert len(read(write(tmp_path / "a.json", data)).records) == 1


def refused(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "0001_a.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_truncated_at_every_tenth(tmp_path: Path) -> None:
    content = json.dumps(baseline_data(extra_info(), extra_info(Cell("resnet18", "fft"))), indent=1).encode()
    for tenth in range(10):
        message = refused(tmp_path, content[: len(content) * tenth // 10])
        assert "is not complete JSON" in message
        assert "record it again with: pytest --benchmark-save=baseline" in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not complete JSON"),
        (b"[]", "holds a list; expected pytest-benchmark's JSON object"),
        (b"null", "holds a NoneType"),
        (b"{}", "has no 'benchmarks'"),
        (b'{"benchmarks": {}}', "has no 'benchmarks'"),
        (b'{"benchmarks": []}', "has no 'machine_info'"),
        (b'{"benchmarks": [], "machine_info": {}, "suite": {"matrix": "core", "is_filtered": false}}', "no record"),
        (b'{"benchmarks": [1], "machine_info": {}, "suite": {}}', "benchmarks[0] has no fullname"),
        ("{}".encode("utf-16"), "is not UTF-8 at byte 0"),
        (b'{"a": NaN}', "holds NaN; expected finite numbers only"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b"[" * 100_000, "is not usable JSON"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is not usable JSON"),
    ],
)
def test_other_contents(tmp_path: Path, content: bytes, complaint: str) -> None:
    assert complaint in refused(tmp_path, content)


def without(info: dict[str, Any], *keys: str) -> dict[str, Any]:
    """`info` without the nested entry that `keys` lead to."""
    inner = info
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return info


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        (without(extra_info(), "schema"), "schema: Field required"),
        (extra_info(schema=2), "schema: Input should be 1, given 2"),
        (extra_info(schema="1"), "schema: Input should be 1, given '1'"),
        (without(extra_info(), "flops", "forward"), "flops.forward: Field required"),
        (without(extra_info(), "workload"), "workload: Field required"),
        (without(extra_info(), "versions"), "versions: Field required"),
        (extra_info(**changed("flops", forward=-1)), "flops.forward: Input should be greater than or equal to 0"),
        (extra_info(**changed("flops", forward="1000")), "flops.forward: Input should be a valid integer"),
        (extra_info(**changed("flops", forward=1000.0)), "flops.forward: Input should be a valid integer"),
        (extra_info(**changed("flops", forward=True)), "flops.forward: Input should be a valid integer"),
        (extra_info(**changed("flops", forward=None)), "forward is null; a metric that was not measured is absent"),
        (extra_info(**changed("flops", forward=999)), "total is not the sum of forward, backward and optimizer"),
        (extra_info(**changed("memory", peak=999)), "peak is not the sum of its categories"),
        (extra_info(**changed("latency", relative=0.82)), "relative is outside relative_low to relative_high"),
        (extra_info(**changed("latency", relative_low=0)), "latency.relative_low: Input should be greater than 0"),
        (extra_info(speed=1), "speed: Extra inputs are not permitted"),
        (extra_info(flops=[]), "flops: Input should be a valid dictionary"),
    ],
)
def test_bad_records(tmp_path: Path, info: dict[str, Any], complaint: str) -> None:
    data = baseline_data()
    data["benchmarks"][0]["extra_info"] = info
    message = refused(tmp_path, json.dumps(data).encode())
    assert ": resnet18-lora-r4: " in message
    assert complaint in message


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_has_no_word_for(tmp_path: Path, number: float) -> None:
    content = json.dumps(baseline_data(extra_info(**changed("latency", relative=number)))).encode()
    assert "expected finite numbers only" in refused(tmp_path, content)


def test_duplicated_and_misnamed_cells(tmp_path: Path) -> None:
    twice = json.dumps(baseline_data(extra_info(), extra_info())).encode()
    assert "resnet18-lora-r4 is there twice" in refused(tmp_path, twice)
    data = baseline_data()
    data["benchmarks"][0]["fullname"] = "bench/test_update.py::test_update[resnet18-lora-r8]"
    assert "the entry named resnet18-lora-r8 holds the record of resnet18-lora-r4" in refused(
        tmp_path, json.dumps(data).encode()
    )


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "0001_a.json").mkdir()
    with pytest.raises(BaselineError, match="cannot be read: Is a directory"):
        read(find(tmp_path, None, "machine"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "0001_a.json", baseline_data())
    path.chmod(0)
    with pytest.raises(BaselineError, match="cannot be read: Permission denied"):
        read(path)


@pytest.mark.parametrize("median", [None, 0.0, -1.0, "fast", 1])
def test_a_timed_cell_needs_its_median(tmp_path: Path, median: Any) -> None:
    data = baseline_data()
    data["benchmarks"][0]["stats"] = {"median": median}
    assert "stats.median is" in refused(tmp_path, json.dumps(data).encode())


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["benchmarks"][0]["extra_info"].update({"a\nkey": 1}),
        lambda data: data["benchmarks"][0]["extra_info"].update({"\x1b[2J": 1}),
        lambda data: data["benchmarks"][0]["extra_info"].update(architecture="a\nb"),
        lambda data: data["benchmarks"][0].update(fullname="bench/test_update.py::test_update[a\u2028b]"),
        lambda data: data.update(suite={"matrix": 1, "\r": "\r"}),
    ],
)
def test_names_in_a_file_reach_the_terminal_as_text(tmp_path: Path, damage: Callable[[Any], None]) -> None:
    """Found by the fuzzer: a key with a line break made two lines of the message."""
    data = baseline_data()
    damage(data)
    assert refused(tmp_path, json.dumps(data).encode()).isprintable()


def test_a_time_at_the_end_of_the_calendar_is_no_time(tmp_path: Path) -> None:
    for time in ("9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"):
        data = {**baseline_data(), "commit_info": {"id": "a", "time": time}}
        assert read(write(tmp_path / "0001_a.json", data)).time is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value in nested JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))] if value != {} else [path]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_replaced_is_refused_or_read_as_it_stands(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Whatever stands in a value's place: one sentence naming the file, or a record that says what the file says."""
    content = baseline_data()
    place = data.draw(st.sampled_from([p for p in places(content) if p]))
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(json_values)
    path = write(tmp_path_factory.getbasetemp() / "0001_fuzzed.json", content)
    complaint, baseline = "", None
    try:
        baseline = read(path)
    except BaselineError as error:
        complaint = str(error)
    if baseline is None:
        assert complaint.startswith(str(path))
        assert "\n" not in complaint
    else:
        assert [r.as_extra_info() for r in baseline.records.values()] == [
            entry["extra_info"] for entry in content["benchmarks"] if "::test_update[" in entry["fullname"]
        ]


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "0001_bytes.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError, match=r"0001_bytes\.json"):
        read(path)


@pytest.fixture
def storage(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def test_the_newest_number_is_meant(storage: Callable[..., Path]) -> None:
    assert find(storage("0004_d.json", "machine/0003_c.json"), None, "machine").name == "0004_d.json"
    (storage() / "0004_d.json").unlink()
    folder = storage("0001_b.json", "0002_a.json", "machine/0003_c.json", "other/0009_d.json", "x.json", "0010_e.txt")
    assert find(folder, None, "machine").name == "0003_c.json"
    assert find(folder, "0001", "machine").name == "0001_b.json"
    assert find(folder, "0002_a", "machine").name == "0002_a.json"


def test_a_path_is_meant_as_it_is(storage: Callable[..., Path]) -> None:
    folder = storage("x.json")
    assert find(folder, str(folder / "x.json"), "machine") == folder / "x.json"


def test_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"no baseline .* record one with: pytest --benchmark-save=baseline"):
        find(tmp_path, None, "machine")
    with pytest.raises(BaselineError, match="no baseline '0007'"):
        find(tmp_path, "0007", "machine")
    with pytest.raises(BaselineError, match="no baseline"):
        find(tmp_path / "nowhere", None, "machine")
    with pytest.raises(BaselineError, match="no baseline 'aaa"):  # found by the fuzzer
        find(tmp_path, "a" * 300, "machine")


def test_an_ambiguous_number(storage: Callable[..., Path]) -> None:
    with pytest.raises(BaselineError, match=r"means 2 files .*: 0001_a\.json, 0001_b\.json; name one"):
        find(storage("0001_a.json", "0001_b.json"), "0001", "machine")


@pytest.mark.parametrize("wanted", ["../0001", "*", "000[1]", "machine/0001"])
def test_patterns_are_refused(storage: Callable[..., Path], wanted: str) -> None:
    with pytest.raises(BaselineError, match="expected a number, the beginning of a file name, or a path"):
        find(storage("0001_a.json"), wanted, "machine")


def test_another_workload_is_named(tmp_path: Path) -> None:
    baseline: Baseline = read(write(tmp_path / "0001_a.json", baseline_data()))
    cell = Cell("resnet18", "lora", 4)
    check_workload(baseline, WorkloadEntry(**WORKLOAD), [cell])
    other = WorkloadEntry(**{**WORKLOAD, "batch_size": 8, "threads": 2})
    with pytest.raises(BaselineError, match="batch_size 1, this run 8; threads 1, this run 2"):
        check_workload(baseline, other, [cell])
    check_workload(baseline, other, [Cell("resnet18", "fft")])
