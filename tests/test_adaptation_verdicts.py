"""What adaptation's gate, search and tables make of records, at their limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.adaptation_table import report
from bench.cells import Cell
from bench.gate.adapting import judge_adaptation
from bench.record import Record
from bench.search import choose
from tests.adaptations import adapted
from tests.records import baseline_data, write

CELL = Cell("mobilenet_v2", "lora", 4, "shift")


def of_seeds(*after: float, cell: Cell = CELL, **figures: Any) -> Record:
    """A record of seeds that came to `after`, each from 10 %, without a spread on the way."""
    runs = [
        {"seed": seed, "curve": [0.1, a], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed, a in enumerate(after)
    ]
    mean = sum(after) / len(after)
    return adapted(cell, 0.1, mean, runs=runs, accuracy_spread=abs(after[0] - after[1]) / 2**0.5, **figures)


def verdicts(now: Record, before: Record) -> dict[str, str]:
    return {verdict.metric: verdict.kind for verdict in judge_adaptation(now, before, [before])}


def test_without_spread_two_images_of_a_hundred_are_tolerated_and_three_are_not() -> None:
    before = of_seeds(0.8, 0.8)
    kinds = [verdicts(of_seeds(a, a), before)["adaptation.accuracy_after"] for a in (0.77, 0.78, 0.8, 0.82, 0.83)]
    assert kinds == ["regressed", "ok", "ok", "ok", "improved"]


def test_the_tolerance_grows_with_the_spread_over_seeds() -> None:
    now = of_seeds(0.7, 0.7)
    assert verdicts(now, of_seeds(0.8, 0.8))["adaptation.accuracy_after"] == "regressed"
    assert verdicts(now, of_seeds(0.75, 0.85))["adaptation.accuracy_after"] == "ok"


def test_a_target_that_is_never_reached_any_more_is_missing() -> None:
    before = of_seeds(0.8, 0.8, target_accuracy=0.7, steps_to_target=10, flops_to_target=10)
    assert verdicts(of_seeds(0.67, 0.67), before)["adaptation.flops_to_target"] == "missing"


def test_the_search_takes_the_best_mean_and_of_equal_ones_the_lowest_rate() -> None:
    scores = {"fft": {0.01: {"a": 0.5, "b": 0.7}, 0.001: {"a": 0.6, "b": 0.6}, 0.1: {"a": 0.9, "b": 0.1}}}
    assert choose(scores) == {"fft": 0.001}


def test_the_tables_say_what_was_found_beside_the_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        of_seeds(a, a + 0.02, cell=Cell("mobilenet_v2", method, rank, "shift"), **steps)
        for method, rank, a, steps in (
            ("fft", None, 0.9, {}),
            ("bn_head", None, 0.5, {}),
            ("lora", 4, 0.8, {"steps_to_target": 10, "flops_to_target": 1}),
            ("dora", 4, 0.7, {}),
            ("galore", 4, 0.88, {"steps_to_target": 10, "flops_to_target": 1}),
        )
    ]
    text = report(records)
    assert "10.0% → 81.0% ± 1.4" in next(line for line in text.splitlines() if "mobilenet_v2-lora-r4-shift" in line)
    assert "up to 10.0 points apart" in text
    assert "points behind full fine-tuning on the shift: mobilenet_v2 40.0" in text
    assert "1.00 times as many on average over 1 pairs; in 0 more" in text
    data = baseline_data(*(record.as_extra_info() for record in records))
    for entry, record in zip(data["benchmarks"], records, strict=True):
        entry["fullname"] = f"bench/test_adaptation.py::test_adaptation[{record.cell}]"
    assert main(["adaptation", str(write(tmp_path / "0001_a.json", data))]) == 0
    assert capsys.readouterr().out.strip() == text
    assert main(["adaptation", str(write(tmp_path / "0002_b.json", baseline_data()))]) == 2
    assert "holds no adaptation; expected a baseline of --metrics adaptation" in capsys.readouterr().err


@pytest.mark.parametrize("rates", ["", "0", "2", "x", "1e-3,-1"])
def test_bad_rates_are_one_line(rates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", f"--rates={rates}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expected comma-separated numbers above 0 and at most 1" in error


def test_a_search_writes_its_choice_and_every_score(tmp_path: Path) -> None:
    output = tmp_path / "rates.json"
    options = ["--architectures=mobilenet_v3_small", "--tasks=unseen", "--steps=1", "--workers=1", "--rates=1e-3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.update_runs.adaptation.run", lambda update, *_: _outcome(update.learning_rate))
        assert main(["search", *options, f"--cache-dir={tmp_path}", f"--output={output}"]) == 0
    found = json.loads(output.read_text())
    assert found["chosen"] == dict.fromkeys(("fft", "head", "bn_head", "lora", "dora", "galore"), 0.001)
    assert found["scores"]["dora"] == {"0.001": {"mobilenet_v3_small-unseen": 0.5}}
    assert found["seed"] == 1000


def _outcome(_: float) -> Any:
    from fixtures.adaptation import Outcome

    return Outcome([0.1, 0.5], 0.9, 0.8)
