"""In which blocks a change is, in the words of a message."""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.gate.where import (
    runs_more_often,
    where_bytes_moved,
    where_flops_moved,
    where_trained_moved,
)
from peft_update_bench.bench.record import Record, RecordError

from tests.helpers.records import changed, record
from tests.helpers.sessions import TOLERANCES, explain, of

BLOCKS = {"features.0": [100, 200, 50, 1], "features.18": [1000, 2000, 500, 1], "head": [10, 20, 5, 1]}


def located(blocks: dict[str, list[int]], convolution: int = 0, **parts: Any) -> Record:
    operators = {"convolution": [3, 1110 + convolution], "addmm": [1, 30]}
    return record(where={"blocks": blocks, "operators": operators}, **parts)


BEFORE = located(BLOCKS)


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        ({"features.18": [2000, 3000, 500, 2]}, "features.18 +2.000 kFLOPs (convolution runs twice)"),
        ({"features.18": [3000, 2000, 500, 3]}, "features.18 +2.000 kFLOPs (convolution runs 3 times, before 1)"),
        ({"features.18": [1100, 2000, 500, 1]}, "features.18 +100.0 FLOPs"),
        ({"features.18": [900, 2000, 500, 1]}, "features.18 -100.0 FLOPs"),
        (
            {"features.18": [2000, 2000, 500, 2], "features.0": [200, 200, 50, 2]},
            "features.18 +1.000 kFLOPs, features.0 +100.0 FLOPs (convolution runs twice)",
        ),
        (
            {"features.18": [2000, 2000, 500, 2], "features.0": [200, 200, 50, 1]},
            "features.18 +1.000 kFLOPs, features.0 +100.0 FLOPs",
        ),
        ({"added": [5, 0, 0, 1]}, "added +5.000 FLOPs"),
        ({}, ""),
    ],
)
def test_flops_by_block(moved: dict[str, list[int]], words: str) -> None:
    assert where_flops_moved(located({**BLOCKS, **moved}, convolution=7), BEFORE) == words


def test_the_three_that_moved_most_are_named() -> None:
    before = {f"features.{n}": [100, 0, 10, 1] for n in range(5)}
    after = {name: [100 + 10 * n, 0, 10 + n, 1] for n, name in enumerate(before)}
    told = "features.4 +40.00 FLOPs, features.3 +30.00 FLOPs, features.2 +20.00 FLOPs, and 1 more block"
    assert where_flops_moved(located(after), located(before)) == told
    assert where_bytes_moved(located(after), located(before)).startswith("features.4 +4 Bytes, features.3 +3 Bytes, ")


CALLED = {"relu": [3, 0], "mul_": [2, 0], "detach": [9, 0]}


def called(operators: dict[str, list[int]], **parts: Any) -> Record:
    return record(where={"blocks": BLOCKS, "operators": {**CALLED, **operators}}, **parts)


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ({"native_dropout": [1, 0]}, "native_dropout 0 → 1 times"),
        ({"mul_": [8, 0], "relu": [4, 0], "clone": [1, 0]}, "clone 0 → 1 times, mul_ 2 → 8 times, relu 3 → 4 times"),
        (
            {name: [10, 0] for name in ("mul_", "relu", "detach", "clone")},
            "clone 0 → 10 times, mul_ 2 → 10 times, relu 3 → 10 times, and 1 more operator",
        ),
        ({"relu": [2, 0]}, ""),
        ({}, ""),
    ],
)
def test_what_runs_more_often(operators: dict[str, list[int]], words: str) -> None:
    assert runs_more_often(called(operators), called({})) == words


def test_a_failure_without_flops_says_what_runs_more_often() -> None:
    """A dropout, a clone, a hidden .item(): elementwise work or memory that no block's FLOPs explain."""
    judge = Gate(TOLERANCES, of(called({})), of().machine)
    line = "  runs more often: native_dropout 0 → 1 times"
    for moved in (changed("flops", elementwise=60), changed("memory", peak=1100, activations=500)):
        told = explain(judge.judge(called({"native_dropout": [1, 0]}, **moved)), judge.baseline).splitlines()
        assert told[-3:-1] == [line, "  recorded with the same package versions"]
    fewer = called({"native_dropout": [1, 0]}, **changed("parameters", trainable=99))
    assert "more often" not in explain(judge.judge(fewer), judge.baseline)
    assert runs_more_often(located({**BLOCKS, "added": [5, 0, 0, 1]}), called({})) == ""


def test_an_older_baseline_that_does_not_say_where_is_passed_over() -> None:
    assert where_flops_moved(BEFORE, record()) == where_flops_moved(record(), BEFORE) == ""
    assert runs_more_often(BEFORE, record()) == runs_more_often(record(), BEFORE) == ""
    assert where_bytes_moved(BEFORE, record()) == where_bytes_moved(record(), BEFORE) == ""


def test_a_failure_says_where() -> None:
    """FLOPs where they fail; else bytes, where memory does; else FLOPs, where what is trained does."""
    judge = Gate(TOLERANCES, of(BEFORE), of().machine)
    moved = {**BLOCKS, "features.18": [2000, 2000, 600, 2]}
    dearer = located(moved, **changed("flops", forward=2000, total=4000))
    lines = explain(judge.judge(dearer), judge.baseline).splitlines()
    assert lines[2] == "  most of it: features.18 +1.000 kFLOPs (convolution runs twice)"
    larger = located(moved, **changed("memory", peak=1100, activations=500))
    lines = explain(judge.judge(larger), judge.baseline).splitlines()
    assert lines[3] == "  most of it: features.18 +100 Bytes"
    fewer = located(moved, **changed("parameters", trainable=99))
    assert "most of it: features.18 +1.000 kFLOPs" in explain(judge.judge(fewer), judge.baseline)
    fallen = located(moved, **changed("measured_memory", allocator_peak=9999))
    told = explain(judge.judge(fallen), judge.baseline)
    assert "allocator_peak regressed" in told
    assert "most of it" not in told


@pytest.mark.parametrize(
    "where",
    [
        {"blocks": {"a": [1, 2, 3]}, "operators": {}},
        {"blocks": {"a": [1, 2, 3, 4, 5]}, "operators": {}},
        {"blocks": {"a": [1, 2, 3, -1]}, "operators": {}},
        {"blocks": {}, "operators": {"b": [1]}},
        {"blocks": {}},
    ],
)
def test_a_record_that_says_it_otherwise_is_refused(where: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="where"):
        record(where=where)


def test_three_blocks_are_all_named() -> None:
    moved = {name: [numbers[0] + 10, *numbers[1:]] for name, numbers in BLOCKS.items()}
    assert where_flops_moved(located(moved), BEFORE) == ", ".join(f"{block} +10.00 FLOPs" for block in BLOCKS)


def test_a_block_that_is_gone() -> None:
    left = {name: numbers for name, numbers in BLOCKS.items() if name != "head"}
    assert where_flops_moved(located(left), BEFORE) == "head -30.00 FLOPs (convolution runs 0 times, before 1)"


@pytest.mark.parametrize(
    ("before", "now", "operator"),
    [
        ({"bmm": 500, "convolution": 10}, {"bmm": 501, "convolution": 20}, "convolution"),
        ({"bmm": 5}, {"bmm": 14, "convolution": 10}, "convolution"),
        ({"bmm": 5, "convolution": 10}, {"bmm": 14}, "convolution"),
        ({"bmm": 5, "convolution": 10}, {"bmm": 16}, "bmm"),
    ],
)
def test_the_operator_that_moved_most(before: dict[str, int], now: dict[str, int], operator: str) -> None:
    """One that is new or gone moved by all that it has."""

    def of_calls(calls: int, operators: dict[str, int]) -> Record:
        told = {name: [calls, number] for name, number in operators.items()}
        return record(where={"blocks": {"head": [10 * calls, 0, 0, calls]}, "operators": told})

    told = where_flops_moved(of_calls(4, now), of_calls(2, before))
    assert told == f"head +20.00 FLOPs ({operator} runs twice)"


TRAINED = {"features.0": 432, "features.18": 1024, "head": 130}


def training(trained: dict[str, int] | None, blocks: dict[str, list[int]] = BLOCKS) -> Record:
    total = {"total": 9999, "trainable": sum((trained or TRAINED).values())}
    where = {"blocks": blocks, "operators": {"addmm": [1, 30]}} | ({} if trained is None else {"trained": trained})
    return record(where=where, parameters=total)


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (TRAINED, ""),
        ({"features.18": 1024, "head": 130}, "features.0 -432 parameters"),
        ({**TRAINED, "features.18": 1025}, "features.18 +1 parameters"),
        ({**TRAINED, "loss": 2, "head": 0}, "head -130 parameters, loss +2 parameters"),
        (None, ""),
    ],
)
def test_what_is_trained_by_block(trained: dict[str, int] | None, words: str) -> None:
    assert where_trained_moved(training(trained), training(TRAINED)) == words
    if trained is None:
        assert where_trained_moved(training(TRAINED), training(trained)) == ""


def test_a_frozen_layer_is_named() -> None:
    """By a baseline that knows what is trained where, and by an older one through what its layer no longer costs."""
    fewer = {"features.18": 1024, "head": 130}
    frozen = training(fewer, {**BLOCKS, "features.0": [100, 0, 50, 1]})
    judge = Gate(tolerances=TOLERANCES, baseline=of(training(TRAINED)))
    told = ["  trained otherwise: features.0 -432 parameters", "  most of it: features.0 -200.0 FLOPs"]
    assert explain(judge.judge(frozen), judge.baseline).splitlines()[2:4] == told
    older = Gate(tolerances=TOLERANCES, baseline=of(training(None)))
    lines = explain(older.judge(frozen), older.baseline).splitlines()
    assert lines[2] == told[1]
    assert not any("trained otherwise" in line for line in lines)
