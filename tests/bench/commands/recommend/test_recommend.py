"""``update-bench recommend``: budgets as typed, the answer and its exit status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.recommend import accuracy, devices
from peft_update_bench.bench.commands.recommend.budget import Costs, Limit, answer
from peft_update_bench.bench.commands.recommend.quantities import (
    QuantityError,
    parse_accuracy,
    parse_bytes,
    parse_flops,
    parse_ratio,
)
from peft_update_bench.bench.commands.recommend.smaller import find_smaller
from peft_update_bench.bench.commands.recommend.words import Tables, paragraphs
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.spread import Spread
from peft_update_bench.bench.metrics import budgets

from tests.helpers import records
from tests.helpers.adaptation_records import adapted

Ask = Callable[..., tuple[int, str, str]]

HEAD, LORA, FFT = Cell("resnet18", "head"), Cell("resnet18", "lora", 4), Cell("resnet18", "fft")
CELLS = ("--architectures=resnet18", "--methods=head,lora,fft", "--ranks=4")


def costing(cell: Cell, *, peak: int, flops: int, trained: int, relative: float | None, **parts: Any) -> dict[str, Any]:
    """A record's JSON with these costs; its categories and phases add up."""
    info = records.extra_info(cell)
    memory = {**info["memory"], "peak": peak, "activations": info["memory"]["activations"] + peak - 1000}
    counted = {**info["flops"], "forward": flops - 2000, "total": flops}
    bounds = ("relative", "relative_low", "relative_high", "wall_relative", "wall_relative_low", "wall_relative_high")
    latency = None if relative is None else {**info["latency"], **dict.fromkeys(bounds, relative)}
    if cell.method == "fft" and latency:
        latency["reference"] = "calibration"
    parameters = {"total": 10**6, "trainable": trained}
    return records.extra_info(cell, memory=memory, flops=counted, latency=latency, parameters=parameters, **parts)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the command in a folder whose baseline has three cells: head, LoRA and full fine-tuning, ever dearer."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    data = records.baseline_data(
        costing(HEAD, peak=2**20, flops=10**9, trained=1000, relative=0.25),
        costing(LORA, peak=2 * 2**20, flops=2 * 10**9, trained=2000, relative=0.8),
        costing(FFT, peak=4 * 2**20, flops=3 * 10**9, trained=10**6, relative=40.0),
    )
    records.write(tmp_path / "baselines" / "0001_baseline.json", data)

    def run(*options: str) -> tuple[int, str, str]:
        status = main(["recommend", *CELLS, *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def fitting(output: str) -> list[str]:
    """The cells of the first table, if that is the one of those that fit."""
    if "No cell fits." in output:
        return []
    table = output.partition(" within the budget, ")[2].partition("\n\n")[2].partition("\n\n")[0]
    return [line.split("|")[2].strip() for line in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("budget", "fit"),
    [
        ("--memory=1048575B", []),
        ("--memory=1MiB", ["resnet18-head"]),
        ("--memory=2097151B", ["resnet18-head"]),
        ("--memory=2mib", ["resnet18-head", "resnet18-lora-r4"]),
        ("--flops=1999999999", ["resnet18-head"]),
        ("--flops=2G", ["resnet18-head", "resnet18-lora-r4"]),
        ("--flops=2.000000001GFLOPs", ["resnet18-head", "resnet18-lora-r4"]),
        ("--latency=0.79", ["resnet18-head"]),
        ("--latency=0.8", ["resnet18-head", "resnet18-lora-r4"]),
        ("--latency=100%", ["resnet18-head", "resnet18-lora-r4", "resnet18-fft"]),
        ("--latency=80%", ["resnet18-head", "resnet18-lora-r4"]),
        ("--flash=7.999KB", ["resnet18-head"]),
        ("--flash=8KB", ["resnet18-head", "resnet18-lora-r4"]),
    ],
)
def test_just_below_at_and_above_each_limit(ask: Ask, budget: str, fit: list[str]) -> None:
    status, output, errors = ask(budget)
    assert fitting(output) == fit
    assert status == (0 if fit else 1)
    # Where nothing fits, smaller images are tried.
    assert [line for line in errors.splitlines() if fit or not line.startswith("trying resnet18-")] == []


@pytest.mark.parametrize(
    ("typed", "echoed"),
    [
        ("--memory=64MB", "peak memory at most 64MB (61.04 MiB)."),
        ("--memory= 64  mib ", "peak memory at most 64 mib."),
        ("--flops=1.5e9", "FLOPs at most 1.5e9."),
        ("--latency=80%", "latency / fft at most 80%."),
        ("--accuracy=.7", "accuracy at least .7."),
    ],
)
def test_a_limit_is_repeated_as_it_was_typed(ask: Ask, typed: str, echoed: str) -> None:
    """Figures are in MiB: what is typed in MB is another number there."""
    _, output, _ = ask(typed)
    assert output.partition("\n")[0] == f"Budget: {echoed}"


def test_the_answer_says_what_binds_and_what_would_have_to_change(ask: Ask) -> None:
    status, output, _ = ask("--memory=1.5MiB", "--flops=1.5G")
    assert status == 0
    assert output.startswith("Budget: FLOPs at most 1.5G, peak memory at most 1.5MiB.\n")
    assert "3 cells from 0001_baseline.json; latency is of its machine" in output
    assert "1 cell within the budget, lowest peak memory first:" in output
    assert "| FLOPs, 67% of it |" in output
    need = "500.0 MFLOPs more FLOPs (+33%); 512.00 KiB more memory (+33%)"
    assert f"Next best: resnet18-lora-r4 would need {need}." in output
    assert "2 cells left out, the nearest first:" in output
    assert "The order says what an update costs, not how well it adapts." in output


@pytest.mark.parametrize("characters", [60, 80, 110])
def test_a_terminals_lines_fit_it(ask: Ask, monkeypatch: pytest.MonkeyPatch, characters: int) -> None:
    """What is piped is Markdown, whatever the terminal."""
    monkeypatch.setenv("COLUMNS", str(characters))
    piped = ask("--memory=1.5MiB", "--flops=1.5G")[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = ask("--memory=1.5MiB", "--flops=1.5G")[1]
    assert max(map(len, shown.splitlines())) <= characters < max(map(len, piped.splitlines()))
    assert "|" in piped
    assert "|" not in shown
    for word in ("resnet18-lora-r4", "FLOPs, 67% of it", "512.00 KiB more memory (+33%)"):
        assert word in " ".join(shown.split())


def test_nothing_fits(ask: Ask) -> None:
    status, output, _ = ask("--memory=64KB")
    assert status == 1
    assert "No cell fits." in output
    assert "Nearest: resnet18-head would need 961.50 KiB more memory (+1538%)." in output


@pytest.mark.parametrize(
    ("by", "first"), [("memory", HEAD), ("flops", HEAD), ("latency", HEAD), ("flash", HEAD), ("accuracy", HEAD)]
)
def test_the_order_that_was_asked_for(ask: Ask, by: str, first: Cell) -> None:
    status, output, _ = ask("--memory=1GB", f"--by={by}")
    assert status == 0
    assert fitting(output)[0] == str(first)
    assert f"{'best' if by == 'accuracy' else 'lowest'} " in output


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


@pytest.mark.parametrize("section", ["adaptation", "instructions"])
def test_a_file_that_has_nothing_of_what_it_is_named_for_is_refused(ask: Ask, section: str) -> None:
    """Its cells would be said to have no baseline."""
    path = "baselines/0001_baseline.json"
    assert ask("--memory=1MiB", f"--{section}={path}") == (
        2,
        "",
        f"update-bench recommend: --{section} is '{path}', which has no {section} of any cell; expected a baseline of "
        f"--metrics {section}\n",
    )


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


def test_another_workload_is_computed_and_its_latency_is_not_known(ask: Ask) -> None:
    status, output, errors = ask("--memory=1GB", "--latency=2", "--image-size=32", "--methods=head")
    assert status == 1
    assert "[1/1] computing resnet18-head" in errors
    assert "1 cell computed now, with latency not known." in output
    assert "would need a known latency / fft (no baseline has timed it under this workload)" in output
    status, output, _ = ask("--memory=1GB", "--image-size=32", "--methods=head")
    assert (status, fitting(output)) == (0, ["resnet18-head"])


def test_a_network_of_ones_own(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chosen.py").write_text(
        "from torch import nn\n"
        "def build(num_classes):\n"
        "    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), *pool, nn.Linear(4, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    status, output, _ = ask(
        "--memory=1MB", "--image-size=32", "--architectures=resnet18,chosen:build", "--methods=head"
    )
    assert (status, fitting(output)) == (0, ["chosen:build-head"])
    assert "resnet18-head would need" in output


def test_a_baseline_of_ones_own_choice(ask: Ask, tmp_path: Path) -> None:
    path = records.write(
        tmp_path / "mine.json",
        records.baseline_data(costing(HEAD, peak=5 * 2**20, flops=10**9, trained=1000, relative=None)),
    )
    _, output, _ = ask("--memory=1MiB", "--methods=head", f"--baseline={path}")
    assert "1 cell from mine.json." in output
    assert "resnet18-head would need 4.00 MiB more memory (+400%)" in output


@pytest.mark.parametrize("name", devices.names())
def test_every_device_has_limits_and_a_source(ask: Ask, name: str) -> None:
    device = devices.named(name)
    assert device.source
    assert device.assumed
    status, output, _ = ask(f"--device={name}")
    assert f"{name}: {device.source}. Assumed: {device.assumed}." in output
    (memory,) = (limit.value for limit in device.limits if limit.name == "memory")
    assert status == (0 if memory >= 2**20 else 1), "the least of the three cells takes 1 MiB"


def test_an_update_stores_the_statistics_that_it_moved(ask: Ask, tmp_path: Path) -> None:
    info = costing(HEAD, peak=2**20, flops=10**9, trained=1000, relative=0.25)
    info["parameters"]["statistics"] = 24
    path = records.write(tmp_path / "mine.json", records.baseline_data(info))
    for limit, fit in (("4095B", []), ("4096B", [str(HEAD)])):
        assert fitting(ask(f"--flash={limit}", "--methods=head", f"--baseline={path}")[1]) == fit


def test_what_the_peak_holds_of_frozen_weights_is_said(ask: Ask) -> None:
    """Of 400 bytes of parameters, a million of them, all but a thousand are frozen."""
    assert "frozen ones too: 399 Bytes of resnet18-head's. A device that reads" in ask("--memory=1GB")[1]
    assert "frozen ones too" not in ask("--memory=1GB", "--methods=fft")[1]


def test_a_latency_that_was_too_unsteady_to_judge_is_told(ask: Ask, tmp_path: Path) -> None:
    assert "Unstable" not in ask("--memory=1GB")[1]
    info = costing(LORA, peak=2**20, flops=10**9, trained=1000, relative=0.8)
    info["latency"]["stable"] = False
    path = records.write(tmp_path / "mine.json", records.baseline_data(info))
    output = ask("--memory=1GB", "--methods=lora", f"--baseline={path}")[1]
    assert "Unstable when it was recorded, and a rough ratio, is the latency of resnet18-lora-r4." in output


def test_the_first_ten_rows_or_as_many_as_are_asked_for(ask: Ask, tmp_path: Path) -> None:
    cells = [Cell("resnet18", "lora", rank) for rank in range(1, 13)]
    infos = [costing(c, peak=2**20 + (c.rank or 0), flops=10**9, trained=1000, relative=None) for c in cells]
    path = records.write(tmp_path / "many.json", records.baseline_data(*infos))
    many = ("--methods=lora", f"--ranks={','.join(map(str, range(1, 13)))}", f"--baseline={path}")
    output = ask("--memory=1GB", *many)[1]
    assert "12 cells (10 shown, --rows N for more) within the budget" in output
    assert len(fitting(output)) == 10
    assert len(fitting(ask("--memory=1GB", *many, "--rows=12")[1])) == 12
    assert "(3 shown, --rows N for more):" in ask("--memory=1KB", *many, "--rows=3", "--image-size=224")[1]


def test_counted_instructions_stand_beside_and_are_called_no_time(ask: Ask) -> None:
    counted = {
        "total": 115_531_000, "forward": 115_531_000, "backward": 0, "optimizer": 0, "zero_grad": 0, "other": 0,
        "conditions": {"valgrind": "3.19.0", "libc": "glibc 2.36", "machine": "x86_64", "python": "3.11.7"},
        "operators": {}, "functions": {}, "python_calls": {},
    }  # fmt: skip
    folder = Path("baselines") / "instructions"
    folder.mkdir()
    assert "instructions" not in ask("--memory=1GB")[1]
    only = dict.fromkeys(("flops", "memory", "measured_memory", "latency", "parameters"))
    records.write(folder / "0001_a.json", records.baseline_data(records.extra_info(HEAD, instructions=counted, **only)))
    output = ask("--memory=1GB")[1]
    rows = {line.split("|")[2].strip(): line for line in output.splitlines() if line.startswith("| ")}
    assert "115.5 M " in rows["resnet18-head"]
    assert " – " in rows["resnet18-fft"]
    assert "they are no time" in output
    assert "instructions" not in ask("--memory=1GB", "--image-size=32", "--methods=head")[1], "another workload's"


def test_cells_that_fail_for_one_reason_are_told_once() -> None:
    failures = {**dict.fromkeys((HEAD, LORA), "it has no layer"), FFT: "another"}
    found = answer([], [Limit(budgets()["memory"], 1)], None, 0.0)
    assert paragraphs(found, Tables(10, "", 80), [], failures)[-2:] == [
        "Not computed: resnet18-head, resnet18-lora-r4: it has no layer",
        "Not computed: resnet18-fft: another",
    ]


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


def shrinking(cell: Cell, pixels: int) -> Costs:
    """A cell whose memory grows with its image: 1000 bytes of weights, and one a pixel."""
    return Costs(cell, {"memory": 1000 + pixels**2, "flops": pixels**2, "flash": 1})


@pytest.mark.parametrize(
    ("memory", "pixels", "fits"),
    [
        (1000 + 192**2, 192, True), (1000 + 192**2 - 1, 160, True), (1000 + 64**2, 64, True),
        (1000 + 32**2, 32, True), (1000 + 32**2 - 1, 32, False),
    ],
)  # fmt: skip
def test_the_largest_image_that_fits(memory: int, pixels: int, fits: bool) -> None:
    limits = [Limit(budgets()["memory"], memory)]
    found = answer([shrinking(HEAD, 224), shrinking(LORA, 224)], limits, None)
    (told,) = find_smaller(found, 224, shrinking)
    assert (told.cell, told.pixels, told.fits) == (HEAD, pixels, fits)
    if fits:
        assert told.sentence == f"A smaller image fits: resnet18-head at {pixels}×{pixels} (computed)."
    else:
        need = "1 Byte more memory (+0%)"
        assert told.sentence == f"No smaller image helps resnet18-head: at 32×32 it would still need {need} (computed)."


def test_smaller_images_are_not_tried_where_they_cannot_help() -> None:
    def never(*_: object) -> Costs:
        raise AssertionError("nothing is to be computed")

    flash = answer([shrinking(HEAD, 224)], [Limit(budgets()["flash"], 0.5)], None)
    assert find_smaller(flash, 224, never) == []
    memory = answer([shrinking(HEAD, 32)], [Limit(budgets()["memory"], 1)], None)
    assert find_smaller(memory, 32, never) == []


def test_images_too_small_for_the_network_do_not_end_the_search() -> None:
    """As of batch norm, which needs more than one value for each channel: MobileNetV2 takes no image of 32 pixels."""

    def picky(cell: Cell, pixels: int) -> Costs | str:
        return shrinking(cell, pixels) if pixels > 64 else "ValueError: too small"

    def ask(memory: int, pixels: int = 224) -> str:
        found = answer([shrinking(HEAD, pixels)], [Limit(budgets()["memory"], memory)], None)
        (told,) = find_smaller(found, pixels, picky)
        return told.sentence

    assert ask(1000 + 160**2) == "A smaller image fits: resnet18-head at 160×160 (computed)."
    assert ask(1000 + 96**2) == "A smaller image fits: resnet18-head at 96×96 (computed)."
    still = "No smaller image helps resnet18-head: at 96×96 it would still need 1 Byte more memory (+0%) (computed)."
    assert ask(1000 + 96**2 - 1) == still
    assert ask(1, 64) == "No smaller image helps resnet18-head: at 32×32 ValueError: too small"


def test_a_device_that_nothing_fits_is_told_of_a_smaller_image(ask: Ask, tmp_path: Path) -> None:
    """Computed for real: ResNet-18's head takes 49.4 MiB at 224 pixels, less than 45 at 128."""
    path = records.write(
        tmp_path / "mine.json",
        records.baseline_data(costing(HEAD, peak=50 * 2**20, flops=10**9, trained=1, relative=None)),
    )
    status, output, errors = ask("--memory=45MiB", "--methods=head", f"--baseline={path}")
    assert status == 1
    assert "No cell fits.\n\nA smaller image fits: resnet18-head at 128×128 (computed)." in output
    assert "trying resnet18-head at 128×128" in errors


def test_a_network_that_takes_no_small_image_is_told_of_a_smaller_one(ask: Ask) -> None:
    """Computed for real: at 32×32 and batch 1 batch norm of ResNet-18 has one value for each channel, and raises."""
    status, output, errors = ask("--memory=1.5MiB", "--methods=fft", "--image-size=64")
    assert status == 1
    assert "trying resnet18-fft at 32×32" in errors
    reason = "a norm in train mode has one value per channel, of which no statistics can be taken"
    assert f"No smaller image helps resnet18-fft: at 32×32 {reason}" in output


def test_a_limit_of_ones_own_counts_before_the_devices(ask: Ask) -> None:
    assert "peak memory at most 1.00 MiB, flash at most 1.00 MiB" in ask("--device=stm32h743")[1]
    assert "peak memory at most 2MiB, flash at most 1.00 MiB" in ask("--device=stm32h743", "--memory=2MiB")[1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "no budget is given; expected at least one of --memory"),
        (("--device=",), "--device is ''; expected one of raspberry-pi-4-1gb, "),
        (("--memory=64",), "--memory: given '64', whose unit is missing; expected bytes, such as 64MB, 64MiB or 512KB"),
        (("--flash=512 ",), "--flash: given '512 ', whose unit is missing; expected bytes"),
        (("--memory", "-3MB"), "--memory: given '-3MB', expected bytes, such as 64MB"),
        (("--memory", "-.5MB"), "--memory: given '-.5MB', expected bytes"),
        (("--memory=64XB",), "--memory: given '64XB', whose unit 'XB' is not known; expected bytes, such as 64MB"),
        (("--memory=-1MB",), "--memory: given '-1MB', expected bytes"),
        (("--memory=0",), "--memory: given '0', expected more than nothing"),
        (("--memory=nan",), "--memory: given 'nan', expected bytes"),
        (("--memory=",), "--memory: given '', expected bytes"),
        (("--memory=64MB!",), "--memory: given '64MB!', expected bytes"),
        (("--flops=2GB",), "--flops: given '2GB', whose unit 'GB' is not known; expected FLOPs"),
        (("--latency=inf",), "--latency: given 'inf', expected a multiple"),
        (("--flash=0KB",), "--flash: given '0KB', expected more than nothing"),
        (("--accuracy=1.01",), "--accuracy: given '1.01', expected a fraction from 0 to 1"),
        (("--device=toaster",), "--device is 'toaster'; expected one of raspberry-pi-4-1gb"),
        (
            ("--device=Raspberry Pi 4",),
            "; did you mean raspberry-pi-4-1gb, raspberry-pi-4-2gb, raspberry-pi-4-4gb or raspberry-pi-4-8gb?",
        ),
        (("--device=jetson_orin_nano",), "; did you mean jetson-orin-nano-4gb or jetson-orin-nano-8gb?"),
        (("--memory=1MB", "--methods=loar"), "; did you mean lora, lokr or loha?"),
        (("--memory=1MB", "--methods=qlora"), "--methods is 'qlora'; expected one of fft"),
        (("--memory=1MB", "--architectures=nowhere:build"), "there is no module 'nowhere'"),
        (("--memory=1MB", "--image-size=0"), "--image-size is '0'"),
        (("--memory=1MB", "--baseline=none.json"), "none.json: cannot be read"),
    ],
)
def test_bad_input_is_one_line(ask: Ask, options: tuple[str, ...], complaint: str) -> None:
    status, output, errors = ask(*options)
    assert status == 2
    assert output == ""
    assert errors.startswith("update-bench recommend: ")
    assert complaint in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("rows", ["0", "-1", "ten", "1.5"])
def test_a_bad_number_of_rows_is_one_line(ask: Ask, rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ask("--memory=1MB", "--rows", rows)
    assert ended.value.code == 2
    assert f"given {rows!r}, expected a whole number of at least 1" in capsys.readouterr().err


def test_an_unknown_order_is_one_line(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ask("--memory=1MB", "--by=beauty")
    assert ended.value.code == 2
    assert "argument --by: invalid choice: 'beauty'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64MB", 64e6), ("64M", 64e6), ("64 mb", 64e6), ("64MiB", 64 * 2**20), ("64Mi", 64 * 2**20), ("1B", 1),
        ("512KB", 512e3), ("512KiB", 512 * 1024), ("1.5GiB", 1.5 * 2**30), (".5k", 500), ("1e6b", 1e6), ("1e3kB", 1e6),
    ],
)  # fmt: skip
def test_bytes(text: str, value: float) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(("text", "value"), [("2G", 2e9), ("2GFLOPs", 2e9), ("2 gflop", 2e9), ("1.5e9", 1.5e9)])
def test_flops(text: str, value: float) -> None:
    assert parse_flops(text) == value


def test_ratios_and_accuracies() -> None:
    assert parse_ratio("0.8") == parse_ratio("80%") == parse_ratio("0.8x") == 0.8
    assert parse_accuracy("1") == parse_accuracy("100%") == 1
    assert [parse_accuracy(f"{percent}%") for percent in range(1, 101)] == [n / 100 for n in range(1, 101)]


@pytest.mark.parametrize("text", ["1e400", "1e99", "−1", "1_000", "٣", "1,5MB", "0x10", "--", "1 2"])
def test_what_is_no_quantity(text: str) -> None:
    if text == "1e99":
        assert parse_bytes(f"{text}B") == 1e99
    with pytest.raises(QuantityError, match="expected bytes"):
        parse_bytes(text)
