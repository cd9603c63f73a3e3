"""Tolerances of single cells: by pattern, by a test's marker, and by the command line, of exact figures too."""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.gate.tolerances import Tolerances, asked_by, limits_named, names
from peft_update_bench.bench.options import OptionError, read_tolerances, tolerances

from tests.helpers.records import changed, record
from tests.helpers.sessions import HERE, TOLERANCES, of

LORA = "resnet18-lora-r4"


def test_the_later_counts_before_the_earlier() -> None:
    found = tolerances({"rss_peak": 0.2, "*-lora-*": {"rss_peak": 0.3, "latency": 0.4}}, ["latency=0.6"])
    found.asked[LORA] = {"rss_peak": 0.5}
    assert found["rss_peak"] == found.of("resnet18-fft")["rss_peak"] == 0.2
    assert found.of("mobilenet_v2-lora-r1")["rss_peak"] == 0.3
    assert found.of(LORA)["rss_peak"] == 0.5
    # The command line is for all cells alike.
    assert found["latency"] == found.of(LORA)["latency"] == 0.6


def test_the_gate_judges_a_cell_by_its_pattern() -> None:
    by_pattern = tolerances({**TOLERANCES, "*-lora-*": {"flops": 0.1}})
    judge = Gate(by_pattern, of(record()), HERE)
    assert {v.kind for v in judge.judge(record(**changed("flops", forward=1100, total=3100))).verdicts} == {"ok"}


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("*", True),
        ("tests/test_a.py::*", True),
        ("tests/test_a.py::test_u[a-1]", True),
        ("*[a-?]", True),
        ("*[b]", False),
    ],
)
def test_brackets_in_a_pattern_are_a_tests_own(pattern: str, fits: bool) -> None:
    found = tolerances({pattern: {"rss_peak": 0.7}})
    assert (found.of("tests/test_a.py::test_u[a-1]")["rss_peak"] == 0.7) == fits


def test_names() -> None:
    assert limits_named("latency") == ("latency",)
    assert limits_named("memory.peak") == limits_named("memory_peak") == ("memory.peak",)
    assert "flops.forward" in limits_named("flops")
    assert limits_named("flops.total") == limits_named("speed") == ()


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"speed": 0.1}, "the tolerance speed in the marker of a::b is of no metric; expected one of allocator_peak, "),
        ({"flops": -0.1}, "the tolerance flops in the marker of a::b is -0.1; expected a fraction of at least 0"),
        ({"latency": True}, "the tolerance latency in the marker of a::b is True; expected a fraction of at least 0"),
        ({"latency": 0}, "the tolerance latency in the marker of a::b is 0; expected a fraction above 0"),
    ],
)
def test_what_is_wrong_is_refused(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        read_tolerances("in the marker of a::b", table)
    assert str(error.value).startswith(complaint)


def test_an_exact_figure_for_all_cells_is_sent_to_a_pattern() -> None:
    elsewhere = "; flops is exact: pyproject.toml's table of a pattern may name it, or a test's marker$"
    with pytest.raises(OptionError, match=f"is of no measured metric; expected one of .*{elsewhere}"):
        tolerances({"flops": 0.1})
    with pytest.raises(OptionError, match=f"^--tolerance is 'flops=0.1'; expected NAME=FRACTION with .*{elsewhere}"):
        tolerances({}, ["flops=0.1"])
    with pytest.raises(OptionError, match=r"^the tolerance speed in pyproject.toml's table for '\*' is of no metric"):
        tolerances({"*": {"speed": 0.1}})


@pytest.mark.parametrize(
    ("typed", "end"), [("latenzy=0.1", "; did you mean latency?"), ("latency", ", median_seconds"), ("", "_seconds")]
)
def test_a_tolerance_of_no_name_is_told_the_nearest(typed: str, end: str) -> None:
    with pytest.raises(OptionError) as error:
        tolerances({}, [typed])
    assert str(error.value).endswith(end)


def kinds(now: int, **asked: float) -> dict[str, str]:
    """Verdicts of a memory peak that was 1000, by metric."""
    more = {"peak": now, "activations": 400 + now - 1000}
    parts: dict[str, Any] = changed("memory", **more)
    found = record(**parts, tolerances=asked or None)
    gate = Gate(Tolerances(TOLERANCES, {"resnet18-*": {"flops.forward": 0.5}}), of(record()), HERE)
    return {verdict.metric: verdict.kind for verdict in gate.judge(found).verdicts}


@pytest.mark.parametrize(
    ("now", "kind"), [(1000, "ok"), (1010, "ok"), (1011, "regressed"), (991, "ok"), (990, "improved")]
)
def test_an_exact_figure_is_judged_by_the_tolerance_that_its_test_asks_for(now: int, kind: str) -> None:
    assert kinds(now, **{"memory.peak": 0.01})["memory.peak"] == kind


def test_without_one_it_tolerates_nothing() -> None:
    assert kinds(1001)["memory.peak"] == "regressed"
    assert kinds(999)["memory.peak"] == "improved"


def test_a_pinned_figure_may_move_within_it_and_not_further() -> None:
    gate = Gate(Tolerances(TOLERANCES, {"*": {"parameters.trainable": 0.05}}), of(record()), HERE)
    judged = {
        trainable: next(
            verdict.kind
            for verdict in gate.judge(record(**changed("parameters", trainable=trainable))).verdicts
            if verdict.metric == "parameters.trainable"
        )
        for trainable in (94, 96, 105, 106)
    }
    assert judged == {94: "regressed", 96: "ok", 105: "ok", 106: "regressed"}


@pytest.mark.parametrize(("typed", "kind"), [([], "ok"), (["allocator_peak=0.2"], "regressed")])
def test_what_is_typed_counts_before_what_a_test_asks_for(typed: list[str], kind: str) -> None:
    judge = Gate(tolerances({}, typed), of(record()), HERE)
    memory = changed("measured_memory", allocator_peak=1430)
    result = judge.judge(record(tolerances={"allocator_peak": 0.5}, **memory))
    assert {v.metric: v.kind for v in result.verdicts}["measured_memory.allocator_peak"] == kind


def test_as_a_mapping_they_are_those_of_all_cells() -> None:
    found = tolerances({"rss_peak": 0.2, "*-lora-*": {"rss_peak": 0.3}}, ["latency=0.6"])
    assert dict(found)["rss_peak"] == 0.2
    assert len(found) == len([*found])


def test_what_a_test_asks_for() -> None:
    found = tolerances({"rss_peak": 0.2})
    found.asked[LORA] = {"rss_peak": 0.5}
    assert asked_by(found, LORA) == {"rss_peak": 0.5}
    assert asked_by(found, "resnet18-fft") == asked_by(TOLERANCES, LORA) == {}


def test_each_name_that_a_sentence_lists_is_known_and_listed_once() -> None:
    assert all(limits_named(name) for name in names())
    assert {"latency", "median_seconds", "flops", "flops.forward", "memory.peak"} <= {*names()}
    assert len(names()) == len({*names()})


def test_a_second_measurement_goes_by_the_tolerance_of_its_cell() -> None:
    judge = Gate(tolerances({"*-lora-*": {"latency": 0.3}}), of(record()), HERE)
    decision = judge.decision(record().cell)
    assert decision is not None
    assert decision.tolerance == 0.3
