"""What ``update-bench recommend`` makes of accuracies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.recommend import accuracy
from peft_update_bench.bench.commands.recommend.budget import Costs, Limit, answer
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.spread import Spread
from peft_update_bench.bench.metrics import budgets

from tests.helpers import records
from tests.helpers.adaptation_records import adapted
from tests.helpers.recommending import FFT, HEAD, LORA, Ask, fitting


def test_accuracy_is_the_worst_task_of_the_newest_baseline_of_adaptation(ask: Ask) -> None:
    folder = Path("baselines") / "adaptation"
    folder.mkdir()
    found = [
        adapted(Cell("resnet18", method, rank, task), 0.1, accuracy).as_extra_info()
        for method, rank, task, accuracy in (
            ("head", None, "shift", 0.6), ("head", None, "unseen", 0.9),
            ("lora", 4, "shift", 0.8), ("lora", 4, "unseen", 0.7),
            ("fft", None, "shift", 0.95),
        )
    ]  # fmt: skip
    records.write(folder / "0001_old.json", records.baseline_data(*found[2:]))
    records.write(folder / "0002_new.json", records.baseline_data(*found))
    status, output, _ = ask("--accuracy=0.7")
    assert status == 0
    assert fitting(output) == [str(FFT), str(LORA)]
    assert "Next best: resnet18-head would need 10.0 points more accuracy." in output
    assert "Accuracy from adaptation/0002_new.json, the worse of its tasks, batch 1, 3×224×224." in output
    status, output, _ = ask("--accuracy=0.7", "--adaptation=baselines/adaptation/0001_old.json")
    assert "resnet18-head would need a known accuracy (the baseline holds no adaptation of it)" in output


def test_an_accuracy_that_is_exactly_the_floor_meets_it(ask: Ask) -> None:
    """Of floats 70 × 0.01 is more than 0.7, and the mean of three times 0.7 may be less."""
    folder = Path("baselines") / "adaptation"
    folder.mkdir()
    ends = ((HEAD, 0.7 - 1e-16), (LORA, 0.699), (FFT, 0.7))
    found = [adapted(replace(cell, task="shift"), 0.1, accuracy).as_extra_info() for cell, accuracy in ends]
    records.write(folder / "0001_a.json", records.baseline_data(*found))
    for floor in ("0.7", "70%"):
        assert sorted(fitting(ask(f"--accuracy={floor}")[1])) == sorted(map(str, (HEAD, FFT)))


def test_an_accuracy_that_no_baseline_holds_fits_no_floor(ask: Ask) -> None:
    status, output, _ = ask("--accuracy=0.7")
    assert status == 1
    assert "would need a known accuracy (the baseline holds no adaptation of it)" in output


@pytest.mark.parametrize(("floor", "fit"), [(0.69, [LORA, HEAD]), (0.7, [LORA, HEAD]), (0.71, [LORA])])
def test_an_accuracy_floor_and_the_order_by_accuracy(floor: float, fit: list[Cell]) -> None:
    cells = [
        Costs(HEAD, {"memory": 1, "flops": 1, "flash": 1, "accuracy": 0.7}),
        Costs(LORA, {"memory": 2, "flops": 2, "flash": 2, "accuracy": 0.8}),
        Costs(FFT, {"memory": 3, "flops": 3, "flash": 3, "accuracy": 0.0}),
    ]
    found = answer(cells, [Limit(budgets()["accuracy"], floor)], None)
    assert found.by == "accuracy"
    assert [costs.cell for costs in found.feasible] == fit
    assert [costs.cell for costs in found.left_out][-1] == FFT
    assert found.binding(cells[2])[0].shortfall(cells[2]) == f"{floor * 100:.1f} points more accuracy"


def test_without_every_accuracy_the_order_is_by_memory() -> None:
    cells = [
        Costs(LORA, {"memory": 2, "flops": 1, "flash": 1, "accuracy": 0.9}),
        Costs(HEAD, {"memory": 1, "flops": 2, "flash": 2}),
    ]
    found = answer(cells, [Limit(budgets()["memory"], 2)], None)
    assert found.by == "memory"
    assert [costs.cell for costs in found.feasible] == [HEAD, LORA]
    assert [c.cell for c in answer(cells, [Limit(budgets()["memory"], 2)], "accuracy").feasible] == [LORA, HEAD]
    assert [c.cell for c in answer(cells, [Limit(budgets()["memory"], 2)], "flops").feasible] == [LORA, HEAD]


def test_accuracies_that_seeds_may_set_apart_share_a_place() -> None:
    """Within a place what stores less comes first; a place begins with the best that is left."""
    accuracies = (0.923, 0.921, 0.919, 0.899, 0.5)
    cells = [
        Costs(Cell("resnet18", "lora", rank), {"memory": 1, "flops": 1, "flash": 10 - rank, "accuracy": accuracy})
        for rank, accuracy in enumerate(accuracies, 1)
    ]
    limits = [Limit(budgets()["memory"], 1)]
    for alike, ranks, places in (
        (0.0, [1, 2, 3, 4, 5], (1, 2, 3, 4, 5)),
        (0.002, [2, 1, 3, 4, 5], (1, 1, 3, 4, 5)),
        (0.004, [3, 2, 1, 4, 5], (1, 1, 1, 4, 5)),
        (0.023, [3, 2, 1, 4, 5], (1, 1, 1, 4, 5)),
        (0.024, [4, 3, 2, 1, 5], (1, 1, 1, 1, 5)),
    ):
        found = answer(cells, limits, None, alike)
        assert [costs.cell.rank for costs in found.feasible] == ranks, alike
        assert found.places == places
    assert answer(cells, limits, "flash", 0.5).places == (1, 2, 3, 4, 5), "only accuracies scatter with seeds"


def test_accuracies_are_alike_by_the_rule_of_the_studys_tables() -> None:
    """Each cell is compared with the best, the tasks of a cell counting once."""
    held = baseline.read(baseline_file.find(Path("baselines") / "adaptation", None, ""))
    records = [record.adaptation for record in held.records.values() if record.adaptation]
    spread = Spread.of([[run.curve[-1] for run in found.runs] for found in records])
    images = records[0].settings.test_images
    assert accuracy.alike(held) == spread.tolerance(2, 2, comparisons=len(records) // 2 - 1, images=images)


def test_a_method_that_harms_its_network_sets_no_margin() -> None:
    """Its seeds end anywhere, and others would be alike by it that are not."""
    held = baseline.read(Path("baselines/fashion_mnist/unseen/searched/adaptation/0001_searched.json"))
    harmful = [cell for cell, record in held.records.items() if record.adaptation and record.adaptation.harms]
    assert [cell.method for cell in harmful] == ["pissa"]
    without = replace(held, records={cell: r for cell, r in held.records.items() if cell not in harmful})
    assert accuracy.alike(held) == accuracy.alike(without) == pytest.approx(0.0558, abs=1e-4)


def test_what_accuracy_was_measured_on_stands_at_its_column(ask: Ask) -> None:
    folder = Path("baselines") / "adaptation"
    folder.mkdir()
    found = []
    for method, ends in (("head", (0.60, 0.62)), ("fft", (0.61, 0.63))):
        runs = [
            {"seed": seed, "curve": [0.1, end], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
            for seed, end in enumerate(ends)
        ]
        cell = Cell("resnet18", method, None, "shift")
        found.append(adapted(cell, 0.1, sum(ends) / 2, runs=runs, accuracy_spread=0.01).as_extra_info())
    records.write(folder / "0001_a.json", records.baseline_data(*found))
    output = ask("--memory=1GB", "--methods=head,fft")[1]
    assert "| accuracy (digits under fog, 224 px)" in output
    assert "It is of digits under fog, 224 px; the costs are of 224 px." in output
    assert fitting(output) == ["resnet18-head", "resnet18-fft"]
    assert output.count("\n| 1 ") == 2
    assert "Cells of one place differ by no more than seeds do" in output
