"""The study's statements: what makes a verdict, at, below and above its limit, and that a wrong count is found out."""

from __future__ import annotations

from pathlib import Path

import pytest
from markupsafe import escape
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import accuracy, cost, grouped_convolution, memory_by_batch, statements
from peft_update_bench.bench.study.statement import Answer, Outcome, Statement, check, equals, reaches
from peft_update_bench.bench.study.statements import STATEMENTS
from torch import Tensor

from tests.helpers.adaptation_records import adapted
from tests.helpers.records import baseline_data, write

STEADY, CLOSE, APART, BEHIND, ITERATIONS = accuracy.STATEMENTS

YES, NO = Answer("yes", True), Answer("no", False)


@pytest.mark.parametrize(
    ("in_truth", "by_definition", "verdict"),
    [
        (YES, YES, "reproduced"),
        (YES, None, "reproduced"),
        (NO, YES, "reproduced only by the study's definition"),
        (YES, NO, "reproduced only in truth"),
        (NO, NO, "not reproduced"),
        (NO, None, "not reproduced"),
        (None, None, "not measured in this run"),
    ],
)
def test_the_verdict_follows_from_both_answers(
    in_truth: Answer | None, by_definition: Answer | None, verdict: str
) -> None:
    assert Outcome("", in_truth, by_definition).verdict == verdict


@pytest.mark.parametrize(("ours", "agrees"), [(0.89, False), (0.91, True), (0.99, True)])
def test_up_to_is_a_saving_that_is_reached(ours: float, agrees: bool) -> None:
    assert reaches(0.95, ours) is agrees


@pytest.mark.parametrize(("ours", "agrees"), [(0.169, False), (0.171, True), (0.269, True), (0.271, False)])
def test_a_figure_is_within_five_points(ours: float, agrees: bool) -> None:
    assert equals(0.22, ours) is agrees


def test_the_backward_passes_that_the_design_names() -> None:
    """A slice of ``pytest bench -m claims`` that is cheap: every count on whole networks."""
    lora = Cell("mobilenet_v2", "lora", 1)
    assert round(cost.saved(lora, cost.backward_flops), 2) == 0.48
    assert round(cost.saved(lora, cost.stock_step_flops), 2) == 0.90
    assert round(cost.saved(lora, cost.step_flops), 2) == 0.31
    assert round(cost.saved(lora, cost.peak_memory), 2) == 0.18
    assert round(cost.saved(lora, cost.defined_backward_flops), 3) == 0.943
    assert round(cost.saved(lora, cost.defined_step_flops), 3) == 0.892
    assert round(cost.saved(lora, cost.defined_peak_memory), 3) == 0.231


@pytest.mark.parametrize(("channels", "size"), [(1, 4), (3, 5), (8, 3)])
def test_three_counts_of_a_depthwise_layer(channels: int, size: int) -> None:
    steps = grouped_convolution.count(channels, size)
    assert steps.brute_force == steps.corrected == 2 * channels * 9 * size**2
    assert steps.stock == channels * steps.brute_force


def test_a_formula_that_ignores_groups_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_convolution, "CORRECTIONS", {})
    steps = grouped_convolution.count(4, 4)
    assert steps.corrected == steps.stock != steps.brute_force


def test_a_brute_force_count_that_leaves_products_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def skips_the_last_channel(images: Tensor, upstream: Tensor) -> tuple[Tensor, int]:
        gradient, flops = whole(images, upstream)
        gradient[-1] = 0
        return gradient, flops

    whole = grouped_convolution.brute_force
    monkeypatch.setattr(grouped_convolution, "brute_force", skips_the_last_channel)
    with pytest.raises(ArithmeticError, match="is not autograd's"):
        grouped_convolution.count(4, 4)


def run(galore: float = 0.79, lora: float = 0.70, dora: float = 0.60, bn_head: float = 0.5) -> list[Record]:
    """A run's records on one MobileNet: full fine-tuning reaches 80 %."""
    after = {"fft": 0.8, "bn_head": bn_head}
    records = [adapted(Cell("mobilenet_v2", name, None, "shift"), 0.2, value) for name, value in after.items()]
    for name, value in {"galore": galore, "lora": lora, "dora": dora}.items():
        for rank, less in ((1, 0.05), (16, 0.0)):
            # GaLore loses half as much as the others at its lowest rank.
            lost = less / 2 if name == "galore" else less
            records.append(adapted(Cell("mobilenet_v2", name, rank, "shift"), 0.2, value - lost))
    return records


@pytest.mark.parametrize("statement", accuracy.STATEMENTS, ids=lambda statement: statement.text)
def test_without_adaptation_a_statement_on_accuracy_has_no_verdict(statement: Statement) -> None:
    assert check(statement, []).verdict == "not measured in this run"


@pytest.mark.parametrize(("lowest", "verdict"), [(0.751, "reproduced"), (0.739, "not reproduced")])
def test_galore_is_the_steadiest_where_its_distance_from_full_fine_tuning_scatters_least(
    lowest: float, verdict: str
) -> None:
    """LoRA's and DoRA's accuracies are 5 points apart over their ranks, GaLore's 3.9 and then 5.1 points."""
    records = [r for r in run() if (r.method, r.rank) != ("galore", 1)]
    records.append(adapted(Cell("mobilenet_v2", "galore", 1, "shift"), 0.2, lowest))
    assert check(STEADY, records).verdict == verdict


def test_a_method_that_is_evenly_behind_is_steady() -> None:
    """How hard a network is says nothing about the method: 20 points lower, for full fine-tuning too."""
    easier = [record for record in run() if record.method != "bn_head"]
    harder = [
        adapted(Cell("resnet18", r.method, r.rank, "shift"), 0.2, r.adaptation.accuracy_after - 0.2)
        for r in easier
        if r.adaptation
    ]
    assert check(STEADY, easier + harder).verdict == "reproduced"


@pytest.mark.parametrize(("galore", "verdict"), [(0.77, "reproduced"), (0.76, "not reproduced")])
def test_galore_is_close_where_its_mean_distance_is_within_five_points(galore: float, verdict: str) -> None:
    """Of its two ranks one is at `galore`, the other 2.5 points lower: 4.25 points and 5.25 points behind."""
    finding = check(CLOSE, run(galore=galore))
    assert finding.verdict == verdict
    assert f"{(0.8 - galore + 0.025) * 100:.1f} at most (mobilenet_v2-galore-r1-shift)" in finding.row()[3]


@pytest.mark.parametrize(("dora", "verdict"), [(0.54, "reproduced"), (0.56, "not reproduced")])
def test_lora_and_dora_are_apart(dora: float, verdict: str) -> None:
    finding = check(APART, run(lora=0.70, dora=dora))
    assert finding.verdict == verdict
    assert finding.row()[3].startswith(f"{(0.70 - dora) * 100:.1f} points at most")


def test_on_standard_convolutions_lora_and_dora_prove_nothing() -> None:
    records = [
        adapted(Cell("resnet18", name, 1, "shift"), 0.2, after) for name, after in (("lora", 0.8), ("dora", 0.2))
    ]
    assert check(APART, records).verdict == "not measured in this run"


@pytest.mark.parametrize(("bn_head", "verdict"), [(0.44, "reproduced"), (0.46, "not reproduced")])
def test_batch_norm_and_head_are_behind_on_shifts(bn_head: float, verdict: str) -> None:
    finding = check(BEHIND, run(bn_head=bn_head))
    assert finding.verdict == verdict
    assert "fog, severity 3" in finding.outcome.measured


def test_unseen_classes_are_no_shift() -> None:
    unseen = [
        adapted(Cell("resnet18", name, None, "unseen"), 0.1, after) for name, after in (("fft", 0.9), ("bn_head", 0.1))
    ]
    assert check(BEHIND, unseen).verdict == "not measured in this run"


@pytest.mark.parametrize(
    ("lora", "verdict"), [(7, "not reproduced"), (8, "reproduced"), (12, "reproduced"), (13, "not reproduced")]
)
def test_lora_needs_about_twice_the_iterations(lora: int, verdict: str) -> None:
    assert check(ITERATIONS, [reaching("galore", 5), reaching("lora", lora)]).verdict == verdict


def reaching(method: str, steps: int | None, rank: int = 4) -> Record:
    """A cell that reaches the target accuracy after so many steps, or never."""
    reached = {} if steps is None else {"steps_to_target": steps, "flops_to_target": steps}
    return adapted(Cell("resnet18", method, rank, "shift"), 0.2, 0.8, target_accuracy=0.7, **reached)


def test_a_pair_in_which_one_never_reaches_the_target_counts() -> None:
    """Of three pairs two are equally fast. Where LoRA never got there in two, the median is no figure any more."""
    even = [reaching(method, 5, rank) for method in ("lora", "galore") for rank in (1, 2)]
    one = [*even, reaching("lora", None, 16), reaching("galore", 5, 16)]
    assert "1.0 times in the median" in check(ITERATIONS, one).row()[3]
    assert "only GaLore gets there in 1" in check(ITERATIONS, one).row()[3]
    more = [
        *one,
        reaching("lora", None, 8),
        reaching("galore", 5, 8),
        reaching("lora", None, 32),
        reaching("galore", 5, 32),
    ]
    assert check(ITERATIONS, more).row()[3].startswith("LoRA does not get there in most pairs")
    assert check(ITERATIONS, more).verdict == "not reproduced"


def test_a_pair_in_which_neither_reaches_the_target_says_nothing() -> None:
    assert check(ITERATIONS, [reaching("lora", None), reaching("galore", None)]).verdict == "not measured in this run"


def test_statements_stand_on_the_page_as_the_command_prints_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only = (cost.STATEMENTS[2], *accuracy.STATEMENTS)
    monkeypatch.setattr(statements, "STATEMENTS", only)
    monkeypatch.setattr(memory_by_batch, "BATCH_SIZES", (1,))
    run_file = write(tmp_path / "run.json", baseline_data(*(record.as_extra_info() for record in run())))
    page = tmp_path / "page.html"
    assert main(["report", str(run_file), "--output", str(page)]) == 0
    html = page.read_text()
    for statement in only:
        for text in check(statement, run()).row():
            assert escape(text) in html
    for text in ("65.8 % at r=1", "67.9 % at r=1", ">reproduced<", ">secondary<", "82.31 MiB (-56.5 %)"):
        assert text in html
    assert html.count("not measured in this run") == 1
    steps = grouped_convolution.count()
    for figure in (steps.stock, steps.corrected, steps.brute_force):
        assert f'data-value="{figure}"' in html
    assert "for c, i, j, y, x in product(" in html
    assert main(["study", str(run_file), "--tables", "study-accuracy"]) == 0
    shown = capsys.readouterr().out
    for statement in accuracy.STATEMENTS:
        cells = [
            cell.strip() for cell in next(line for line in shown.splitlines() if statement.text in line).split("|")
        ]
        assert tuple(cells[1:-1]) == check(statement, run()).row()


def test_every_statement_is_there_once() -> None:
    assert len({statement.text for statement in STATEMENTS}) == len(STATEMENTS) == 12
