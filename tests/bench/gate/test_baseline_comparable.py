"""What a baseline can judge: runs of its own workload, and adaptations done as its own were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline, BaselineError, read
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.workloads import check_adaptation, check_batch_sizes, check_workload
from peft_update_bench.bench.record import AdaptationSettings, Record, StepWorkload, WorkloadEntry
from peft_update_bench.fixtures.methods.names import AS_IT_IS

from tests.helpers.adaptation_records import SETTINGS, adapted
from tests.helpers.records import WORKLOAD, baseline_data, extra_info, record, write
from tests.helpers.sessions import gate


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


def test_a_users_own_optimizer_and_dtype_are_no_option_of_the_run(tmp_path: Path) -> None:
    cell = Cell("mypackage.models:build", "lora", 4)
    theirs = extra_info(cell, workload={**WORKLOAD, "optimizer": "SGD", "dtype": "bfloat16"})
    baseline = read(write(tmp_path / "0001_a.json", baseline_data(theirs)))
    check_workload(baseline, WorkloadEntry(**WORKLOAD), [cell])
    with pytest.raises(BaselineError, match=r"another workload: threads 1, this run 2; run with"):
        check_workload(baseline, WorkloadEntry(**{**WORKLOAD, "threads": 2}), [cell])


def test_an_optimizer_that_was_asked_for_is_compared_of_users_cells_too(tmp_path: Path) -> None:
    cell = Cell("mypackage.models:build", "lora", 4)
    theirs = extra_info(cell, workload={**WORKLOAD, "optimizer": "momentum"})
    baseline = read(write(tmp_path / "0001_a.json", baseline_data(theirs)))
    check_workload(baseline, WorkloadEntry(**{**WORKLOAD, "optimizer": "momentum"}), [cell])
    with pytest.raises(BaselineError, match=r"another workload: optimizer momentum, this run SGD; run with"):
        check_workload(baseline, WorkloadEntry(**{**WORKLOAD, "optimizer": "SGD"}), [cell])
    with pytest.raises(BaselineError, match=r"another workload: dtype float32, this run autocast; run with"):
        check_workload(baseline, WorkloadEntry(**{**WORKLOAD, "dtype": "autocast"}), [cell])


ONE, SIXTEEN, STEP = (
    Cell("resnet18", "fft"),
    Cell("resnet18", "fft", batch_size=16),
    Cell("m:b", AS_IT_IS, is_step=True),
)


def test_each_of_several_batch_sizes_is_a_cells_own_workload(tmp_path: Path) -> None:
    baseline = read(write(tmp_path / "0001_a.json", baseline_data(extra_info(ONE), extra_info(SIXTEEN))))
    check_workload(baseline, WorkloadEntry(**WORKLOAD), [ONE, SIXTEEN])
    with pytest.raises(BaselineError, match=r"fft-b16 was recorded under another workload: threads 1, this run 2; run"):
        check_workload(baseline, WorkloadEntry(**{**WORKLOAD, "threads": 2}), [SIXTEEN])


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([ONE], [ONE], ""),
        ([ONE, SIXTEEN], [SIXTEEN], ""),
        ([SIXTEEN], [Cell("resnet18", "fft", batch_size=4), SIXTEEN], ""),
        ([ONE], [], ""),
        ([ONE], [STEP], ""),
        ([STEP], [SIXTEEN], ""),
        ([SIXTEEN, Cell("resnet18", "fft", batch_size=4)], [ONE], "--batch-size 4,16, which this baseline has"),
        ([SIXTEEN], [Cell("resnet18", "fft", batch_size=4)], "--batch-size 16, which this baseline has"),
        ([ONE], [STEP, SIXTEEN], "one --batch-size, as this baseline has"),
    ],
)
def test_a_baseline_of_other_batch_sizes_is_refused(before: list[Cell], now: list[Cell], expected: str) -> None:
    baseline = Baseline(Path("0001_a.json"), {cell: record(cell) for cell in before}, {}, Machine("", 0), "core", False)
    if not expected:
        check_batch_sizes(baseline, now)
        return
    with pytest.raises(BaselineError) as error:
        check_batch_sizes(baseline, now)
    assert str(error.value) == (
        "0001_a.json: has no cell of this run's batch sizes, which stand in a cell's name where several are listed; "
        f"expected {expected}, or name another with --benchmark-compare=NUMBER"
    )


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


STEP_WORKLOAD: dict[str, Any] = {
    "batch": "2×3×8×8 float32",
    "optimizer": "SGD",
    "dtype": "float32",
    "device": "cpu",
    "threads": 1,
}


def test_a_users_own_step_is_refused_under_another_workload() -> None:
    cell = Cell("mypackage.steps:build", AS_IT_IS, is_step=True)
    judge = gate(record(cell, workload=STEP_WORKLOAD))
    same, other = StepWorkload(**STEP_WORKLOAD), StepWorkload(**{**STEP_WORKLOAD, "optimizer": "Adam", "threads": 2})
    judge.check_step(cell, same)
    judge.check_step(Cell("mypackage.steps:another", AS_IT_IS, is_step=True), other)
    gate().check_step(cell, other)
    with pytest.raises(BaselineError) as error:
        judge.check_step(cell, other)
    assert str(error.value) == (
        "was recorded under another workload in baselines/0001_a.json: optimizer SGD, this run Adam; threads 1, this "
        "run 2; figures of two workloads are not compared: if the change is meant, record a new baseline, by the same "
        "run with --benchmark-save=baseline"
    )


def test_a_test_is_refused_with_another_method_or_rank() -> None:
    """It keeps its id, and would otherwise be a new cell, which passes."""
    name = "test_a.py::test_update"
    judge, workload = (
        gate(record(Cell(name, "lora", 2, is_step=True), workload=STEP_WORKLOAD)),
        StepWorkload(**STEP_WORKLOAD),
    )
    judge.check_step(Cell("test_a.py::test_other", "lora", 8, is_step=True), workload)
    for now, words in (
        (Cell(name, "lora", 8, is_step=True), "lora of rank 8"),
        (Cell(name, AS_IT_IS, is_step=True), "own"),
    ):
        with pytest.raises(BaselineError) as error:
            judge.check_step(now, workload)
        assert str(error.value) == (
            f"was recorded with method lora of rank 2 in baselines/0001_a.json, this run with method {words}; figures "
            "of two methods are not compared: if the change is meant, record a new baseline, by the same run "
            "with --benchmark-save=baseline"
        )
