"""Many cells that fail for one cause are told once; few, each with its own message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.annotations import is_wanted, workflow_commands
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.messages import in_brief
from peft_update_bench.bench.gate.summary import Summary
from peft_update_bench.bench.gate.together import paragraph, told_together
from peft_update_bench.bench.gate.verdict import Kind, Verdict
from peft_update_bench.bench.record import Record

from tests.helpers.records import FFT, LORA, VERSIONS, changed, record
from tests.helpers.sessions import TOLERANCES, explain, of, session

RANKS = (1, 2, 4, 8)


def cells(
    method: str = "dora", architectures: Iterable[str] = ("resnet18",), ranks: Iterable[int] = RANKS
) -> list[Cell]:
    return [Cell(architecture, method, rank) for architecture in architectures for rank in ranks]


def summary(now: list[Record], *, also_fails: frozenset[Kind] = frozenset(), machine: Machine | None = None) -> Summary:
    before = of(*(record(found.cell) for found in now))
    judge = Gate(TOLERANCES, before, machine or before.machine)
    return Summary(
        [judge.judge(one) for one in now], ("flops",), before.name, "pytest --benchmark-save=baseline",
        compared=before, also_fails=also_fails,
    )  # fmt: skip


def dearer(cell: Cell, more: int, **parts: Any) -> Record:
    return record(cell, **changed("flops", forward=1000 + more, total=3000 + more), **parts)


def test_four_cells_of_one_cause_are_a_paragraph() -> None:
    """From the mildest to the worst, whatever their order; what is the same is said once."""
    versions = {**VERSIONS, "peft": "0.14.0"}
    told = summary(
        [dearer(cell, more, versions=versions) for cell, more in zip(cells(), (300, 900, 100, 500), strict=True)]
    )
    assert told.paragraphs == [
        "4 cells not as in 0001_a.json: resnet18 × dora × r1, r2, r4, r8",
        "  flops.forward regressed in 4, from +10.0 % (resnet18-dora-r4) to +90.0 % (resnet18-dora-r2)",
        "  recorded with peft 0.21.2, now 0.14.0",
        "If the change is meant, record a new baseline: pytest --benchmark-save=baseline",
    ]
    causes = told.markdown.split("\n\n")[1]
    assert causes.count("<br>\n") == 3
    assert "<br>\n&emsp;flops.forward regressed in 4" in causes


@pytest.mark.parametrize(("number", "together"), [(3, False), (4, True)])
def test_few_are_told_one_by_one(number: int, together: bool) -> None:
    told = summary([dearer(cell, 100) for cell in cells()[:number]])
    assert bool(told.paragraphs) == together
    assert len(told.failing) == number


def test_the_blocks_of_each_architecture_are_named_once() -> None:
    """Those of its first failing cell; architectures of which they are the same share a line."""
    found = cells(architectures=("resnet18", "mobilenet_v2"), ranks=(1, 4))
    blocks = {"layer1.0": [1000, 2000, 10, 1]}
    twice = {"layer1.0": [2000, 2000, 10, 2]}
    before = of(*(record(cell, where={"blocks": blocks, "operators": {"convolution": [1, 3000]}}) for cell in found))
    judge = Gate(TOLERANCES, before, before.machine)
    now = [dearer(cell, 1000, where={"blocks": twice, "operators": {"convolution": [2, 4000]}}) for cell in found]
    told = Summary([judge.judge(one) for one in now], baseline="0001_a.json", compared=before)
    assert [line for line in told.paragraphs if "most of it" in line] == [
        "  most of it in resnet18-dora-r1 and 1 more: layer1.0 +1.000 kFLOPs (convolution runs twice)"
    ]


def test_what_runs_more_often_is_told_once() -> None:
    """Where no block's FLOPs moved."""

    def of_calls(cell: Cell, dropouts: int, **parts: Any) -> Record:
        operators = {"convolution": [1, 3000], "native_dropout": [dropouts, 0]}
        return record(cell, where={"blocks": {"layer1.0": [1000, 2000, 10, 1]}, "operators": operators}, **parts)

    before = of(*(of_calls(cell, 1) for cell in cells()))
    judge = Gate(TOLERANCES, before, before.machine)
    now = [of_calls(cell, 2, **changed("flops", elementwise=60)) for cell in cells()]
    told = Summary([judge.judge(one) for one in now], baseline="0001_a.json", compared=before)
    assert "  runs more often in resnet18-dora-r1: native_dropout 1 → 2 times" in told.paragraphs


def test_methods_that_fail_in_other_figures_have_another_cause() -> None:
    """One whose cells do not all fail in every figure is still one cause; two alike are told together."""
    grown = changed("memory", peak=1100, activations=500)
    now = [dearer(cell, 100) for cell in cells()] + [dearer(cell, 100) for cell in cells("lora")]
    now += [dearer(Cell("resnet18", "galore", 1), 100), record(Cell("resnet18", "galore", 4), **grown)]
    heads = [line for line in summary(now).paragraphs if not line.startswith("  ")]
    assert heads[:2] == [
        "8 cells not as in 0001_a.json: resnet18 × dora, lora × r1, r2, r4, r8",
        "2 cells not as in 0001_a.json: resnet18-galore-r1, resnet18-galore-r4",
    ]
    assert len(heads) == 3, "the sentence on recording stands once"


def test_a_cell_without_a_record_has_its_own_message() -> None:
    """And one that holds its baseline has none."""
    now = [dearer(cell, 100) for cell in cells()]
    told = summary(now)
    as_before = Gate(TOLERANCES, of(record(LORA)), of().machine).judge(record(LORA))
    broken = Summary([*told.results, Result(FFT, error="hangs"), as_before], compared=told.compared)
    assert [result.cell for results in broken.together for result in results] == cells()
    assert len(broken.failing) == 5


def test_twelve_failing_cells_take_at_most_25_lines() -> None:
    found = cells("dora", ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"), (1, 4, 16))
    told = summary([dearer(cell, 100 + (cell.rank or 0)) for cell in found])
    assert len("\n".join(told.lines(None)).splitlines()) <= 25


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (cells(ranks=(1, 2)), "resnet18-dora-r1, resnet18-dora-r2"),
        (cells(ranks=(1, 2, 4)), "resnet18-dora-r1, resnet18-dora-r2, resnet18-dora-r4"),
        (cells(), "resnet18 × dora × r1, r2, r4, r8"),
        (cells(architectures=("a", "b"), ranks=(1, 2)), "a, b × dora × r1, r2"),
        ([*cells(architectures=("a", "b"), ranks=(1, 2))[:3], FFT], "a-dora-r1, a-dora-r2, b-dora-r1 and 1 more"),
        ([Cell("a", "fft", None, task) for task in "stuv"], "a × fft × s, t, u, v"),
    ],
)
def test_cells_in_words(chosen: list[Cell], words: str) -> None:
    assert cells_in_words(chosen) == words


def test_the_worst_of_what_fails_in_brief() -> None:
    judge = Gate(TOLERANCES, of(record()), of().machine)
    worse = judge.judge(record(**changed("flops", forward=1100, backward=2400, total=3500)))
    assert in_brief(worse) == "flops.backward +20.0 %"
    assert in_brief(judge.judge(record())) == ""
    lost = judge.judge(record(**changed("flops", forward=1100, total=3100), memory=None))
    assert in_brief(lost) == "flops.forward +10.0 %"


ELSEWHERE = Machine("Another CPU", 8)


def test_what_is_not_comparable_fails_where_that_was_asked_for() -> None:
    judge = Gate(TOLERANCES, of(record()), ELSEWHERE)
    result = judge.judge(record())
    assert explain(result, judge.baseline) == ""
    message = explain(result, judge.baseline, not_comparable="fail").splitlines()
    assert message == [
        "resnet18-lora-r4 does not hold its baseline 0001_a.json:",
        "  measured_memory.allocator_peak, measured_memory.rss_peak, latency.relative, latency.wall_relative, "
        "first_step.seconds not comparable: measured on Another CPU, 8 cores; the baseline on A CPU, 2 cores",
        "Record a baseline on this machine, in a folder beside the others, of any name: pytest "
        "--benchmark-save=baseline --benchmark-storage=baselines/THIS_MACHINE",
    ]
    assert in_brief(result, session(not_comparable="fail").run.also_fails).endswith(" not comparable")


def test_many_that_cannot_be_compared_are_a_paragraph_too() -> None:
    told = summary([record(cell) for cell in cells()], also_fails=frozenset({"not comparable"}), machine=ELSEWHERE)
    reason = "not comparable in 4: measured on Another CPU, 8 cores; the baseline on A CPU, 2 cores"
    assert f"  latency.relative {reason}" in told.paragraphs


def test_what_fails_only_where_asked_for_is_a_cause_of_its_own() -> None:
    """DoRA's cells were not timed: they fail in FLOPs alone, LoRA's in what cannot be compared too."""
    untimed: dict[str, Any] = {"measured_memory": None, "latency": None, "first_step": None}
    before = of(*(record(cell, **untimed) for cell in cells()), *(record(cell) for cell in cells("lora")))
    judge = Gate(TOLERANCES, before, ELSEWHERE)
    now = [dearer(cell, 100, **untimed) for cell in cells()] + [dearer(cell, 100) for cell in cells("lora")]
    results = [judge.judge(one) for one in now]
    assert [len(cause) for cause in told_together(results)] == [8]
    assert [len(cause) for cause in told_together(results, {"not comparable"})] == [4, 4]


def test_annotations_of_a_workflow() -> None:
    """A line each: an error for what fails, a warning for what was not compared, the format's characters escaped."""
    told = summary([dearer(cell, 100 * (cell.rank or 0)) for cell in cells()], machine=ELSEWHERE)
    error, warning = workflow_commands(told)
    assert error.startswith("::error title=update benchmark::4 cells, against 0001_a.json: 4 regressed; 20 figures not")
    assert "%0A  flops.forward regressed in 4, from +10.0 %25 (" in error
    assert warning.startswith("::warning title=update benchmark%3A not comparable::4 cells, against 0001_a.json")
    assert warning.endswith("measured on Another CPU, 8 cores; the baseline on A CPU, 2 cores).")
    assert "\n" not in error + warning
    assert [*workflow_commands(summary([record(LORA)]))] == []
    failing = summary([dearer(LORA, 100)])
    assert [*workflow_commands(failing)] == [
        "::error title=update benchmark::1 cell, against 0001_a.json: 1 regressed"
        "%0Aresnet18-lora-r4: flops.forward +10.0 %25"
    ]


@pytest.mark.parametrize(
    ("environment", "wanted"), [({}, False), ({"GITHUB_ACTIONS": "false"}, False), ({"GITHUB_ACTIONS": "true"}, True)]
)
def test_annotations_are_for_workflows_only(environment: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environment) == wanted


def test_what_junits_file_says_of_a_cell() -> None:
    run = session(record())
    run.gate.machine = ELSEWHERE
    run.results[LORA] = run.gate.judge(record())
    assert run.properties(LORA) == [
        ("verdict", "ok, 5 not comparable"),
        ("not_comparable", "measured on Another CPU, 8 cores; the baseline on A CPU, 2 cores"),
    ]


def test_in_brief_what_always_fails_comes_before_what_was_asked_to() -> None:
    regressed = Verdict("flops.forward", "regressed", "FLOPs", 110, 100)
    unstable = Verdict("latency.relative", "unstable", "×", 1.2, 0.8)
    missing = Verdict("memory.peak", "missing", "bytes")
    assert in_brief(Result(LORA, record(), (unstable, regressed)), {"unstable"}) == "flops.forward +10.0 %"
    assert in_brief(Result(LORA, record(), (missing, regressed))) == "flops.forward +10.0 %"


def test_an_annotation_of_what_a_run_was_asked_to_fail_for_and_of_an_error() -> None:
    unstable = Result(LORA, record(), (Verdict("latency.relative", "unstable", "×", 0.9, 0.8),))
    (told,) = workflow_commands(Summary([unstable, Result(FFT, error="a\r\nb")], also_fails=frozenset({"unstable"})))
    assert told.endswith("%0Aresnet18-lora-r4: latency.relative +12.5 %25%0Aresnet18-fft: a%0D%0Ab")


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ((1.1, 1.0, 1.2, 1.05), "from +0.0 % (resnet18-dora-r2) to +20.0 % (resnet18-dora-r4)"),
        ((0.9, 1.0, 0.8, 0.95), "from +0.0 % (resnet18-dora-r2) to -20.0 % (resnet18-dora-r4)"),
        ((0.9, 0.8, 0.85, 0.95), "from -5.0 % (resnet18-dora-r8) to -20.0 % (resnet18-dora-r2)"),
        ((1.125, 0.875, 1.0, 1.0), "from -12.5 % (resnet18-dora-r2) to +12.5 % (resnet18-dora-r1)"),
        ((1.1, 1.1, 1.1, 1.1), "+10.0 % (resnet18-dora-r1)"),
    ],
)
def test_the_mildest_change_comes_first_whatever_its_sign(now: tuple[float, ...], words: str) -> None:
    results = [
        Result(cell, record(cell), (Verdict("latency.relative", "unstable", "×", figure, 1.0),))
        for cell, figure in zip(cells(), now, strict=True)
    ]
    line = paragraph(results, of(*(record(cell) for cell in cells())), {"unstable"})[1]
    assert line == f"  latency.relative unstable in 4, {words}"
