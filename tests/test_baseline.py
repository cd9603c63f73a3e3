"""Baselines: which file is meant, and that nothing but a complete and valid one is ever read."""

from __future__ import annotations

import json
import math
import os
import re
import time as clock
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cells import Cell
from bench.gate.baseline import (
    Baseline,
    BaselineError,
    Machine,
    check_adaptation,
    check_workload,
    find,
    names_a_cell,
    read,
    read_machine,
)
from bench.record import AdaptationSettings, Record, WorkloadEntry
from tests.adaptations import SETTINGS, adapted
from tests.records import VERSIONS, WORKLOAD, baseline_data, changed, extra_info, record, write


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


@pytest.mark.parametrize(
    ("info", "machine"),
    [
        ({"cpu": {"brand_raw": "A CPU", "count": 2}}, Machine("A CPU", 2)),
        ({"cpu": {"brand_raw": "A CPU", "count": "2"}}, Machine("A CPU", 0)),
        ({"cpu": {}}, Machine("unknown", 0)),
        ({"cpu": "A CPU"}, Machine("unknown", 0)),
        ({}, Machine("unknown", 0)),
    ],
)
def test_the_machine(info: dict[str, Any], machine: Machine) -> None:
    assert read_machine(info) == machine


def test_a_machine_in_words() -> None:
    assert str(Machine("A CPU", 2)) == "A CPU, 2 cores"


@pytest.mark.parametrize(
    ("nodeid", "named"),
    [
        ("bench/test_update.py::test_update[resnet18-fft]", True),
        ("bench/test_adaptation.py::test_adaptation[resnet18-fft-shift]", True),
        ("bench/test_update.py::test_update", False),
        ("bench/test_claims.py::test_claims[test_update[a]", False),
    ],
)
def test_which_tests_are_of_cells(nodeid: str, named: bool) -> None:
    assert names_a_cell(nodeid) == named


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


WRITES = "the JSON that pytest --benchmark-save writes in this suite"
SUITE = b'"suite": {"matrix": "core", "is_filtered": false}'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b"",
            "is not complete JSON (line 1, column 1: Expecting value); restore it from version control, "
            "or record it again with: pytest --benchmark-save=baseline",
        ),
        (b"[]", "holds a list; expected pytest-benchmark's JSON object"),
        (b"null", "holds a NoneType; expected pytest-benchmark's JSON object"),
        (b"{}", f"has no 'benchmarks'; expected {WRITES}"),
        (b'{"benchmarks": {}}', f"has no 'benchmarks'; expected {WRITES}"),
        (b'{"benchmarks": []}', f"has no 'machine_info'; expected {WRITES}"),
        (b'{"benchmarks": [], "machine_info": {}}', f"has no 'suite'; expected {WRITES}"),
        (
            b'{"benchmarks": [], "machine_info": {}, %s}' % SUITE,
            "holds no record of this suite; expected entries of test_update or test_adaptation",
        ),
        (
            b'{"benchmarks": [1], "machine_info": {}, "suite": {}}',
            "benchmarks[0] has no fullname; expected one of pytest-benchmark's entries",
        ),
        (
            b'{"benchmarks": [{"fullname": "a"}, {"fullname": 1}], "machine_info": {}, "suite": {}}',
            "benchmarks[1] has no fullname; expected one of pytest-benchmark's entries",
        ),
        ("{}".encode("utf-16"), "is not UTF-8 at byte 0; expected pytest-benchmark's JSON"),
        (b'{"a": NaN}', "holds NaN; expected finite numbers only"),
        (b'{"a": -Infinity}', "holds -Infinity; expected finite numbers only"),
        (b'{"b": 1, "a": 1, "b": 2, "a": 2}', "the key 'a' is there twice in one object"),
    ],
)
def test_other_contents(tmp_path: Path, content: bytes, complaint: str) -> None:
    said = refused(tmp_path, content).removeprefix(str(tmp_path / "0001_a.json")).removeprefix(":")
    assert said.removeprefix(" ") == complaint


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"])
def test_what_pythons_reader_gives_up_on(tmp_path: Path, content: bytes) -> None:
    message = refused(tmp_path, content)
    assert re.fullmatch(r".*0001_a\.json: is not usable JSON \(.{20,}\)", message)
    assert "None" not in message


@pytest.mark.parametrize(
    "suite",
    [
        {},
        {"matrix": "core"},
        {"is_filtered": False},
        {"matrix": 1, "is_filtered": False},
        {"matrix": "core", "is_filtered": 0},
    ],
)
def test_a_suite_that_does_not_say_what_was_measured(tmp_path: Path, suite: dict[str, Any]) -> None:
    message = refused(tmp_path, json.dumps({**baseline_data(), "suite": suite}).encode())
    assert message.endswith(f"0001_a.json: suite is {suite!r}; expected a matrix and is_filtered")


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
    assert message.startswith(f"{tmp_path / '0001_a.json'}: resnet18-lora-r4: ")
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
    said = f": resnet18-lora-r4: stats.median is {median!r}; expected seconds above 0"
    assert refused(tmp_path, json.dumps(data).encode()).endswith(said)


@pytest.mark.parametrize("stats", [None, [], "0.05"])
def test_a_timed_cell_needs_its_statistics(tmp_path: Path, stats: Any) -> None:
    data = baseline_data()
    data["benchmarks"][0]["stats"] = stats
    assert "stats.median is None" in refused(tmp_path, json.dumps(data).encode())


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


def test_what_cannot_be_printed_is_escaped_and_the_rest_is_as_it_was() -> None:
    assert str(BaselineError('it\'s a\\path "é"\n\x1b[2J\u2028')) == 'it\'s a\\path "é"\\n\\x1b[2J\\u2028'


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
    how = f"in {tmp_path}; record one with: pytest --benchmark-save=baseline"
    for wanted, what in (
        (None, "no baseline (NNNN_*.json)"),
        ("0007", "no baseline '0007'"),
        ("a" * 300, f"no baseline {'a' * 300!r}"),  # found by the fuzzer
    ):
        with pytest.raises(BaselineError) as error:
            find(tmp_path, wanted, "machine")
        assert str(error.value) == f"{what} {how}"
    with pytest.raises(BaselineError, match="no baseline"):
        find(tmp_path / "nowhere", None, "machine")


def test_an_ambiguous_number(storage: Callable[..., Path]) -> None:
    folder = storage("0001_a.json", "0001_b.json")
    with pytest.raises(BaselineError) as error:
        find(folder, "0001", "machine")
    names = "0001_a.json, 0001_b.json"
    assert str(error.value) == f"--benchmark-compare=0001 means 2 files in {folder}: {names}; name one"


@pytest.mark.parametrize("wanted", ["../0001", "*", "000[1]", "machine/0001"])
def test_patterns_are_refused(storage: Callable[..., Path], wanted: str) -> None:
    with pytest.raises(BaselineError) as error:
        find(storage("0001_a.json"), wanted, "machine")
    assert str(error.value) == (
        f"--benchmark-compare is {wanted!r}; expected a number, the beginning of a file name, or a path"
    )


def test_another_workload_is_named(tmp_path: Path) -> None:
    baseline: Baseline = read(write(tmp_path / "0001_a.json", baseline_data()))
    cell = Cell("resnet18", "lora", 4)
    check_workload(baseline, WorkloadEntry(**WORKLOAD), [cell])
    other = WorkloadEntry(**{**WORKLOAD, "batch_size": 8, "threads": 2})
    # The first cell has no record and the second is the one that is refused.
    with pytest.raises(BaselineError) as error:
        check_workload(baseline, other, [Cell("resnet18", "fft"), cell])
    assert str(error.value) == (
        f"{baseline.path}: {cell} was recorded under another workload: "
        "batch_size 1, this run 8; threads 1, this run 2; "
        "run with the baseline's workload, or name another baseline with --benchmark-compare=NUMBER"
    )
    check_workload(baseline, other, [Cell("resnet18", "fft")])


SHIFT, UNSEEN = Cell("resnet18", "lora", 4, "shift"), Cell("resnet18", "lora", 4, "unseen")
OF_THIS_RUN = {
    "shift": AdaptationSettings(**SETTINGS, corruption="fog", severity=3),
    "unseen": AdaptationSettings(**SETTINGS, new_classes=5),
}


def of_two_seeds(cell: Cell) -> Record:
    runs = [
        {"seed": seed, "curve": [0.1, 0.8], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed in (0, 1)
    ]
    return adapted(cell, 0.1, 0.8, runs=runs, accuracy_spread=0.0)


def adaptations(*records: Record) -> Baseline:
    return Baseline(Path("0001_a.json"), {r.cell: r for r in records}, {}, Machine("A CPU", 2), "subset", False)


def test_an_adaptation_that_can_judge() -> None:
    # A record without adaptation, and a cell without a record, are not in its way.
    cells = [Cell("resnet18", "fft", None, "shift"), SHIFT, UNSEEN, Cell("resnet18", "lora", 4)]
    check_adaptation(adaptations(record(), of_two_seeds(SHIFT), of_two_seeds(UNSEEN)), OF_THIS_RUN, cells)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([record()], "holds no adaptation; expected a baseline of --metrics adaptation"),
        (
            [of_two_seeds(SHIFT), adapted(UNSEEN, 0.1, 0.8)],
            "resnet18-lora-r4-unseen was adapted with one seed; expected two or more, because the tolerance is how far "
            "seeds scatter; record another baseline with --seeds 2",
        ),
    ],
)
def test_an_adaptation_that_cannot_judge(records: list[Record], complaint: str) -> None:
    with pytest.raises(BaselineError) as error:
        check_adaptation(adaptations(*records), OF_THIS_RUN, [])
    assert str(error.value) == f"0001_a.json: {complaint}"


def test_another_adaptation_is_named() -> None:
    baseline = adaptations(of_two_seeds(SHIFT), of_two_seeds(UNSEEN))
    foggier = {**OF_THIS_RUN, "shift": AdaptationSettings(**SETTINGS, corruption="fog", severity=5)}
    check_adaptation(baseline, foggier, [UNSEEN])
    with pytest.raises(BaselineError) as error:
        check_adaptation(baseline, foggier, [UNSEEN, SHIFT])
    assert str(error.value) == (
        "0001_a.json: resnet18-lora-r4-shift was adapted otherwise: severity 3, this run 5; "
        "run with the baseline's options, or name another baseline with --benchmark-compare=NUMBER"
    )
