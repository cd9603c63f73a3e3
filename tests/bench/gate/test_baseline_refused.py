"""Nothing but a complete and valid baseline is ever read: whatever else a file holds, one sentence names it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import BaselineError, read
from peft_update_bench.bench.gate.baseline_file import find
from peft_update_bench.bench.printable import printable

from tests.helpers.records import baseline_data, changed, extra_info, write


def refuse(tmp_path: Path, content: bytes) -> str:
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
    for tenth in range(1, 10):
        message = refuse(tmp_path, content[: len(content) * tenth // 10])
        assert "is not complete JSON" in message
        assert "record it again with: pytest --benchmark-save=baseline" in message


@pytest.mark.parametrize("indent", [None, 1])
def test_a_merge_conflict_is_named_as_one(tmp_path: Path, indent: int | None) -> None:
    content = json.dumps(baseline_data(), indent=indent)
    ours, theirs = content, content.replace("1000", "1001")
    message = refuse(tmp_path, f"<<<<<<< HEAD\n{ours}\n=======\n{theirs}\n>>>>>>> theirs\n".encode())
    assert message == (
        f"{tmp_path / '0001_a.json'}: holds a merge conflict (line 1): two recordings took one number; "
        "take one of them whole with git checkout --ours or --theirs, and record the merged code: "
        "pytest --benchmark-save=baseline"
    )
    message = refuse(tmp_path, f'{{\n "benchmarks": [\n||||||| base\n{ours}'.encode())
    assert "holds a merge conflict (line 3)" in message


@pytest.mark.parametrize("line", ["<<<<<< HEAD", "<<<<<<<< HEAD", " <<<<<<< HEAD", "<<<<<<<HEAD"])
def test_what_only_resembles_a_conflict_is_none(tmp_path: Path, line: str) -> None:
    assert "is not complete JSON" in refuse(tmp_path, f"{line}\n{{}}".encode())


def test_what_git_lfs_leaves_in_a_file_s_place_is_named(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert refuse(tmp_path, pointer) == (
        f"{tmp_path / '0001_a.json'}: is Git LFS's pointer to a file that was not fetched; expected the file: "
        "git lfs pull, or in a workflow lfs: true at actions/checkout"
    )


WRITES = "the JSON that pytest --benchmark-save writes in this suite"
SUITE = b'"suite": {"matrix": "core", "is_filtered": false}'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b"",
            "is empty; restore it from version control, or record it again with: pytest --benchmark-save=baseline",
        ),
        (
            b"\xef\xbb\xbf{}",
            "begins with a byte order mark, as some editors write one; expected UTF-8 without one, which "
            "pytest-benchmark reads too: save it so, or restore it from version control",
        ),
        (b"[]", "holds a list; expected pytest-benchmark's JSON object"),
        (b"null", "holds null; expected pytest-benchmark's JSON object"),
        (b"true", "holds true or false; expected pytest-benchmark's JSON object"),
        (b"1.5", "holds a number; expected pytest-benchmark's JSON object"),
        (b'"{}"', "holds a text; expected pytest-benchmark's JSON object"),
        (b"{}", f"has no 'benchmarks'; expected {WRITES}"),
        (b'{"benchmarks": {}}', f"has no 'benchmarks'; expected {WRITES}"),
        (b'{"benchmarks": []}', f"has no 'machine_info'; expected {WRITES}"),
        (b'{"benchmarks": [], "machine_info": {}}', f"has no 'suite'; expected {WRITES}"),
        (
            b'{"benchmarks": [], "machine_info": {}, %s}' % SUITE,
            "holds no record of this suite; expected entries of test_update or test_instructions or test_adaptation",
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
        (b'{"a": -1e309}', "holds -1e309; expected finite numbers only"),
        (b'{"a": %s}' % (5000 * b"1"), "holds a number of 5000 characters; expected finite numbers only"),
        (b'{"a": 1%s}' % (309 * b"0"), "holds a number of 310 characters; expected finite numbers only"),
        (b'{"b": 1, "a": 1, "b": 2, "a": 2}', "the key 'a' is there twice in one object"),
    ],
)
def test_other_contents(tmp_path: Path, content: bytes, complaint: str) -> None:
    said = refuse(tmp_path, content).removeprefix(str(tmp_path / "0001_a.json")).removeprefix(":")
    assert said.removeprefix(" ") == complaint


def test_what_pythons_reader_gives_up_on(tmp_path: Path) -> None:
    message = refuse(tmp_path, b"[" * 100_000)
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
    message = refuse(tmp_path, json.dumps({**baseline_data(), "suite": suite}).encode())
    assert message.endswith(f"0001_a.json: suite is {suite!r}; expected a matrix and is_filtered")


@pytest.mark.parametrize("name", ["test_b.py::test", "test_b.py::test_update", "bench/test_update.py::test_update"])
def test_an_entry_that_is_named_after_another_test_than_its_record(tmp_path: Path, name: str) -> None:
    """Passed over, it would leave its test new, which nothing judges. A user's test may be called as ours are."""
    data = baseline_data()
    data["benchmarks"][0] |= {"fullname": name, "extra_info": extra_info(architecture="test_a.py::test")}
    message = refuse(tmp_path, json.dumps(data).encode())
    assert message.endswith(f"0001_a.json: the entry named {name} holds the record of test_a.py::test")


def test_a_plain_benchmark_may_be_called_as_ours_are(tmp_path: Path) -> None:
    data = baseline_data(extra_info())
    data["benchmarks"].append({"fullname": "bench/test_update.py::test_update", "extra_info": {}})
    found = read(write(tmp_path / "0001_a.json", data))
    assert len(found.records) == 1
    assert found.without_record == {"bench/test_update.py::test_update"}


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
        (extra_info(schema=0), "schema: Input should be 1, 2 or 3, given 0"),
        (extra_info(schema=4), "schema: given 4, which a newer peft-update-bench wrote; expected at most 3"),
        (extra_info(schema="1"), "schema: Input should be 1, 2 or 3, given '1'"),
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
    message = refuse(tmp_path, json.dumps(data).encode())
    assert message.startswith(f"{tmp_path / '0001_a.json'}: resnet18-lora-r4: ")
    assert complaint in message


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_has_no_word_for(tmp_path: Path, number: float) -> None:
    content = json.dumps(baseline_data(extra_info(**changed("latency", relative=number)))).encode()
    assert "expected finite numbers only" in refuse(tmp_path, content)


def test_the_largest_number_that_a_float_holds_is_read_as_it_stands(tmp_path: Path) -> None:
    largest = int(math.ldexp(1 - 2**-53, 1024))
    path = write(tmp_path / "0001_a.json", baseline_data(extra_info(**changed("parameters", total=largest))))
    (record,) = read(path).records.values()
    assert record.parameters is not None
    assert record.parameters.total == largest


def test_duplicated_and_misnamed_cells(tmp_path: Path) -> None:
    twice = json.dumps(baseline_data(extra_info(), extra_info())).encode()
    assert "resnet18-lora-r4 is there twice" in refuse(tmp_path, twice)
    data = baseline_data()
    data["benchmarks"][0]["fullname"] = "bench/test_update.py::test_update[resnet18-lora-r8]"
    assert "the entry named resnet18-lora-r8 holds the record of resnet18-lora-r4" in refuse(
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
    assert refuse(tmp_path, json.dumps(data).encode()).endswith(said)


@pytest.mark.parametrize("stats", [None, [], "0.05"])
def test_a_timed_cell_needs_its_statistics(tmp_path: Path, stats: Any) -> None:
    data = baseline_data()
    data["benchmarks"][0]["stats"] = stats
    assert "stats.median is None" in refuse(tmp_path, json.dumps(data).encode())


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
    assert refuse(tmp_path, json.dumps(data).encode()).isprintable()


def test_what_cannot_be_printed_is_escaped_and_the_rest_is_as_it_was() -> None:
    assert str(BaselineError('it\'s a\\path "é"\n\x1b[2J\u2028')) == 'it\'s a\\path "é"\\n\\x1b[2J\\u2028'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value in nested JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))] if value != {} else [path]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_replaced_is_refused_or_read_as_it_stands(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Whatever stands in a value's place: one sentence naming the file, or a record that says what the file says, with
    what cannot be printed written out."""
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
            printable(entry["extra_info"]) for entry in content["benchmarks"] if "::test_update[" in entry["fullname"]
        ]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "0001_bytes.json"
    path.write_bytes(content)
    with pytest.raises(BaselineError, match=r"0001_bytes\.json"):
        read(path)
