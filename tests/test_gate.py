"""The gate over a run: what it may be compared with, what it keeps, and each kind of failure in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.cells import Cell, Selection
from bench.gate.baseline import Baseline, BaselineError, Machine
from bench.gate.gate import Gate, Result, finds_slower
from bench.gate.slowdown import Decision, ErrorBudget, judge_slowdown
from bench.gate.verdict import Verdict
from bench.options import AdaptationOptions, RunOptions
from bench.record import AdaptationSettings, Record
from fixtures.workload import Workload
from tests.adaptations import SETTINGS, adapted
from tests.records import LATENCY, LORA, VERSIONS, changed, record

HERE = Machine("A CPU", 2)
FFT = Cell("resnet18", "fft")
SMALL = Selection(architectures=("resnet18",), methods=("fft", "lora"), ranks=(4,))
TOLERANCES = {"allocator_peak": 0.05, "rss_peak": 0.25, "latency": 0.1, "median_seconds": 1.0}


def of(*records: Record, matrix: str = "core", is_filtered: bool = False, **more: Any) -> Baseline:
    cells = {found.cell: found for found in records}
    return Baseline(Path("baselines/0001_a.json"), cells, {}, HERE, matrix, is_filtered, **more)


def gate(*records: Record, **run: Any) -> Gate:
    return Gate(RunOptions(tolerances=TOLERANCES, **run), of(*records) if records else None, HERE)


def test_the_header_says_how_many_cells_which_metrics_and_against_what() -> None:
    run = {"selection": SMALL, "metrics": ("flops", "memory")}
    assert gate(record(), **run).header() == "update benchmark: 2 cells, flops, memory, against baselines/0001_a.json"
    assert gate(**run).header() == "update benchmark: 2 cells, flops, memory, without a baseline"


def test_the_command_that_records_repeats_the_workload() -> None:
    assert gate().record_command == "pytest --benchmark-save=baseline"
    assert gate(workload=Workload(batch_size=8)).record_command == "pytest --benchmark-save=baseline --batch-size 8"


def test_a_baseline_of_this_workload_is_compared_with() -> None:
    judge = gate(selection=SMALL)
    assert judge.baseline is None
    assert judge.missing == frozenset()
    whole = of(record(), record(FFT))
    judge.compare_with(whole)
    assert judge.baseline is whole


def test_a_baseline_of_another_workload_is_refused() -> None:
    judge = gate(selection=SMALL, workload=Workload(batch_size=8))
    with pytest.raises(BaselineError, match="batch_size 1, this run 8"):
        judge.compare_with(of(record()))
    assert judge.baseline is None


def test_a_part_cannot_judge_a_whole_run() -> None:
    whole = Selection().cells()
    lacking = [record(cell) for cell in whole if cell.method == "fft"]
    with pytest.raises(BaselineError) as error:
        gate(workload=Workload(threads=1)).compare_with(of(*lacking, is_filtered=True))
    assert str(error.value) == (
        "baselines/0001_a.json: was saved by a filtered run and lacks 44 of this run's 48 cells, "
        "resnet18-head for one; run with the same filters, or record a whole one: pytest --benchmark-save=baseline"
    )


def test_a_part_can_judge_a_part_and_a_run_that_it_covers() -> None:
    gate(selection=SMALL).compare_with(of(record(), is_filtered=True))
    gate().compare_with(of(*map(record, Selection().cells()), is_filtered=True))
    # A whole baseline may lack a cell: it is new.
    gate().compare_with(of(record()))


SHIFT = Cell("resnet18", "lora", 4, "shift")
ADAPTING: dict[str, Any] = {
    "selection": Selection(architectures=("resnet18",), methods=("lora",), ranks=(4,), tasks=("shift",)),
    "adaptation": AdaptationOptions(settings={"shift": AdaptationSettings(**SETTINGS, corruption="fog", severity=5)}),
}


def test_a_baseline_of_another_adaptation_is_refused() -> None:
    runs = [
        {"seed": seed, "curve": [0.1, 0.8], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed in (0, 1)
    ]
    with pytest.raises(BaselineError, match="was adapted otherwise: severity 3, this run 5"):
        gate(**ADAPTING).compare_with(of(adapted(SHIFT, 0.1, 0.8, runs=runs, accuracy_spread=0.0)))


def test_a_saved_file_says_whether_it_is_whole() -> None:
    judge = gate()
    cells = judge.cells
    for cell in cells[:-1]:
        judge.judge(record(cell))
    assert judge.suite_entry() == {"matrix": "core", "is_filtered": True}
    judge.fail(cells[-1], "a failed cell is there, too")
    judge.judge(record(Cell("mine:network", "fft")))
    assert judge.suite_entry() == {"matrix": "core", "is_filtered": False}


def test_a_saved_file_of_adaptation_is_whole_with_both_tasks() -> None:
    selection = Selection(matrix="subset", tasks=("shift",))
    judge = gate(selection=selection, adaptation=AdaptationOptions())
    for cell in judge.cells:
        judge.fail(cell, "not run")
    assert judge.suite_entry() == {"matrix": "subset", "is_filtered": True}
    for cell in Selection(matrix="subset", tasks=("unseen",)).cells():
        judge.fail(cell, "not run")
    assert judge.suite_entry() == {"matrix": "subset", "is_filtered": False}


def test_without_a_baseline_a_record_is_kept_and_not_judged() -> None:
    judge = gate()
    result = judge.judge(record(), 0.05)
    assert result == Result(LORA, record())
    assert judge.results == {LORA: result}
    assert judge.failure(result) == ""


def test_a_cell_that_cannot_be_measured_is_kept_with_its_error() -> None:
    judge = gate(record())
    assert judge.fail(LORA, "is out of memory") == "resnet18-lora-r4: is out of memory"
    assert judge.results == {LORA: Result(LORA, error="is out of memory")}
    assert judge.failure(judge.results[LORA]) == ""


def test_a_lost_cell_is_kept_as_missing() -> None:
    lost = Cell("resnet18", "lora", 2)
    judge = gate(record(lost))
    assert judge.lose(lost) == (
        "resnet18-lora-r2 is in 0001_a.json and no longer in the run.\n"
        "If it was removed on purpose, record a new baseline: pytest --benchmark-save=baseline"
    )
    verdict = Verdict("the cell", "missing", note="the run no longer has it")
    assert judge.results == {lost: Result(lost, verdicts=(verdict,))}
    assert judge.failure(judge.results[lost]) == "", "its message is the one above"


def failure(now: Record, before: Record, *, seconds: float | None = None, **run: Any) -> list[str]:
    """The lines between the first, which names cell and baseline, and the last, which names the command."""
    judge = gate(before, **run)
    lines = judge.failure(judge.judge(now, seconds)).splitlines()
    assert lines[0] == f"{now.cell} does not hold its baseline 0001_a.json:"
    assert lines[-1] == f"If the change is meant, record a new baseline: {judge.record_command}"
    return lines[1:-1]


AS_BEFORE = "  recorded with the same package versions"


def test_a_missing_figure_in_words() -> None:
    assert failure(record(), record(flops=None))[0] == "  flops.forward is missing: the baseline has no such figure"


def test_fewer_parameters_in_words() -> None:
    assert failure(record(**changed("parameters", trainable=99)), record()) == [
        "  parameters.trainable regressed: 100 parameters → 99 parameters (-1.0 %, −1 parameters; tolerance 0%)",
        AS_BEFORE,
    ]


def test_measured_memory_in_words() -> None:
    assert failure(record(**changed("measured_memory", allocator_peak=2048)), record()) == [
        "  measured_memory.allocator_peak regressed: 1.07 KiB → 2.00 KiB (+86.2 %, +948 Bytes; tolerance 5%)",
        AS_BEFORE,
    ]


def of_seeds(after: float, **figures: Any) -> Record:
    """A record of two seeds that came to `after`, on ten test images: the tolerance is two of them."""
    runs = [
        {"seed": seed, "curve": [0.1, after], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed in (0, 1)
    ]
    settings = {**SETTINGS, "corruption": "fog", "severity": 5, "test_images": 10}
    return adapted(SHIFT, 0.1, after, runs=runs, settings=settings, accuracy_spread=0.0, **figures)


def test_accuracy_in_words() -> None:
    assert failure(of_seeds(0.5), of_seeds(0.8), **ADAPTING) == [
        "  adaptation.accuracy_after regressed: 80.0% → 50.0% "
        "(-30.0 points; tolerance 20.0 points; from the spread over seeds)",
        AS_BEFORE,
    ]


def test_an_adaptation_is_judged_beside_what_else_was_recorded() -> None:
    parameters = record().parameters
    assert parameters is not None
    now = of_seeds(0.5).model_copy(update={"parameters": parameters.model_copy(update={"trainable": 101})})
    before = of_seeds(0.8).model_copy(update={"parameters": parameters})
    failing = [line.split()[0] for line in failure(now, before, **ADAPTING)[:-1]]
    assert failing == ["parameters.trainable", "adaptation.accuracy_after"]


def test_a_latency_in_words() -> None:
    relative, wall, _ = failure(slower(1.5), record())
    words = "regressed: 0.800 × → 1.200 × (+50.0 %, +0.400 ×; tolerance 10%; between +"
    assert relative.startswith(f"  latency.relative {words}")
    assert wall.startswith(f"  latency.wall_relative {words}")


def test_a_latency_that_is_the_same_and_too_uncertain_in_words() -> None:
    wide = record(**changed("latency", relative_low=0.5, relative_high=1.3))
    line, _ = failure(wide, record(), unstable="fail")
    assert line.startswith("  latency.relative unstable: 0.800 × → 0.800 × (+0.0 %, +0.000 ×; tolerance 10%; between -")


def of_median(judge: Gate, now: Record, seconds: float | None) -> list[Verdict]:
    return [verdict for verdict in judge.judge(now, seconds).verdicts if verdict.metric == "stats.median"]


def test_what_is_said_of_absolute_times() -> None:
    def judge(machine: Machine = HERE) -> Gate:
        before = record()
        baseline = Baseline(Path("0001_a.json"), {before.cell: before}, {before.cell: 0.05}, HERE, "core", False)
        return Gate(RunOptions(tolerances=TOLERANCES), baseline, machine)

    assert of_median(judge(), record(), 0.06) == [Verdict("stats.median", "ok", "s", 0.06, 0.05, 1.0, "")]
    updated = record(versions={**VERSIONS, "torch": "2.15.0"})
    note = "timed with other package versions"
    assert of_median(judge(), updated, 0.06) == [Verdict("stats.median", "not comparable", "s", 0.06, 0.05, 1.0, note)]
    elsewhere = judge(Machine("A CPU", 4))
    note = "measured on A CPU, 4 cores; the baseline on A CPU, 2 cores"
    assert of_median(elsewhere, updated, 0.06) == [
        Verdict("stats.median", "not comparable", "s", 0.06, 0.05, 1.0, note)
    ]
    assert of_median(judge(), record(), None) == []
    assert of_median(gate(record()), record(), 0.06) == [], "the baseline has no such figure"


def test_what_was_not_moved_at_the_peak_is_not_named() -> None:
    now = record(**changed("memory", peak=1100, activations=480, temporaries=70))
    assert failure(now, record()) == [
        "  memory.peak regressed: 1000 Bytes → 1.07 KiB (+10.0 %, +100 Bytes; tolerance 0%)",
        "  at the peak (backward, layer4): activations 400 Bytes → 480 Bytes, temporaries 50 Bytes → 70 Bytes",
        AS_BEFORE,
    ]


def test_a_peak_of_the_same_categories_says_so() -> None:
    """Only the refresh's peak grew: at the peak itself nothing did."""
    now, before = (record(**changed("memory", refresh_peak=peak)) for peak in (2000, 1000))
    assert failure(now, before)[1] == "  at the peak (backward, layer4): every category as before"


def test_a_peak_that_the_baseline_lacks_has_no_categories() -> None:
    assert failure(record(), record(memory=None)) == [
        "  memory.peak is missing: the baseline has no such figure",
        AS_BEFORE,
    ]


def test_packages_that_only_one_side_has_are_named() -> None:
    now = record(**changed("flops", elementwise=51), versions={**VERSIONS, "timm": "1.0"})
    before = record(versions={**VERSIONS, "accelerate": "1.0"})
    assert failure(now, before)[1:] == ["  recorded with accelerate 1.0, now none; timm none, now 1.0"]


@pytest.mark.parametrize(
    ("verdict", "suspected"),
    [
        (Verdict("latency.relative", "ok", "×", 0.9, 0.8, 0.1), True),
        (Verdict("latency.wall_relative", "unstable", "×", 0.9, 0.8, 0.1), True),
        (Verdict("stats.median", "regressed", "s", 2.1, 1.0, 1.0), True),
        (Verdict("latency.relative", "not comparable", "×", 0.9, 0.8, 0.1), False),
        (Verdict("latency.relative", "missing", "×", 0.9, None, 0.1), False),
        (Verdict("latency.relative", "ok", "×", 0.85, 0.8, 0.1), False),
        (Verdict("latency.relative", "ok", "×", 1.5, 1.0, 0.5), False),
        (Verdict("measured_memory.rss_peak", "regressed", "bytes", 2000, 1000, 0.25), False),
    ],
)
def test_what_is_worth_a_second_measurement(verdict: Verdict, suspected: bool) -> None:
    other = Verdict("flops.forward", "regressed", "FLOPs", 2000, 1000)
    assert gate().suspects_slowdown(Result(LORA, record(), (other, verdict))) == suspected


def slower(factor: float) -> Record:
    figures = {key: LATENCY[key] * factor for key in LATENCY if key.startswith(("relative", "wall_relative"))}
    return record(**changed("latency", **figures))


def test_only_second_measurements_spend_of_the_error_budget() -> None:
    judge = gate(record())
    first = judge.error_budget.rate
    judge.judge(record())
    assert (judge.error_budget.tests, judge.error_budget.rate) == (0, first)
    judge.judge(record(), confirming=True)
    assert (judge.error_budget.tests, judge.error_budget.passed_on) == (1, 0.0)
    judge.judge(slower(1.5), confirming=True)
    assert judge.error_budget.tests == 2
    assert judge.error_budget.passed_on > 0, "what is slower passes its share on"


def test_a_second_measurement_is_judged_before_its_share_is_spent() -> None:
    """At a ratio that the first test's rate calls slower and the second's does not."""
    first, second = ErrorBudget(), ErrorBudget(tests=1)
    between = next(
        slower(1 + percent / 1000)
        for percent in range(100, 300)
        if [kind(slower(1 + percent / 1000), budget.rate) for budget in (first, second)] == ["regressed", "unstable"]
    )
    found = gate(record()).judge(between, confirming=True)
    assert [verdict.kind for verdict in found.verdicts if verdict.unit == "×"] == ["regressed", "regressed"]


def kind(now: Record, rate: float) -> str:
    assert now.latency is not None
    before = record().latency
    assert before is not None
    intervals = (now.latency.interval("relative"), before.interval("relative"))
    return judge_slowdown(*intervals, tolerance=TOLERANCES["latency"], error_rate=rate).kind


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ([], False),
        ([Verdict("latency.relative", "regressed")], True),
        ([Verdict("latency.relative", "ok"), Verdict("latency.wall_relative", "regressed")], True),
        ([Verdict("latency.relative", "unstable")], False),
        ([Verdict("flops.forward", "regressed"), Verdict("stats.median", "regressed")], False),
    ],
)
def test_what_counts_as_found_slower(verdicts: list[Verdict], found: bool) -> None:
    assert finds_slower(verdicts) == found


def test_what_a_second_measurement_is_to_decide() -> None:
    judge = gate(record())
    before = record().latency
    assert before is not None
    intervals = {"relative": before.interval("relative"), "wall_relative": before.interval("wall_relative")}
    assert judge.decision(LORA) == Decision(intervals, TOLERANCES["latency"], ErrorBudget().rate)
    judge.error_budget.spend(found_slower=False)
    assert judge.decision(LORA) == Decision(intervals, TOLERANCES["latency"], ErrorBudget(tests=1).rate)
    assert judge.decision(FFT) is None
    assert gate().decision(LORA) is None
    assert gate(record(latency=None)).decision(LORA) is None
