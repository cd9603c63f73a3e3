"""Accuracy against costs: what is on a front, what equals what, and which method is best within a budget."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate.spread import Spread
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.record.update import Parameters
from peft_update_bench.bench.study import front, front_tables
from peft_update_bench.bench.study.front import Choice, Network, networks
from scipy.stats import t

from tests.helpers.adaptation_records import SETTINGS, adapted
from tests.helpers.records import baseline_data, extra_info, write


def of_seeds(
    method: str,
    *ends: float,
    peak: float = 50,
    corruption: str | None = "fog",
    rank: int | None = None,
    source: float = 0.9,
    **figures: Any,
) -> Record:
    """A record of as many seeds as `ends`, accuracies after an update that began at 0.2; `peak` in MiB."""
    task = "unseen" if corruption is None else "shift"
    shift = {"new_classes": 3} if corruption is None else {"corruption": corruption, "severity": 5}
    runs = [
        {"seed": seed, "curve": [0.2, end], "source_accuracy_before": source, "source_accuracy_after": 0.8}
        for seed, end in enumerate(ends)
    ]
    after = sum(ends) / len(ends)
    spread = math.sqrt(sum((end - after) ** 2 for end in ends) / (len(ends) - 1)) if len(ends) > 1 else None
    figures = {"settings": {**SETTINGS, **shift}, "runs": runs, "peak_memory": int(peak * 2**20), **figures}
    figures["source_accuracy_before"] = source
    if spread is not None:
        figures["accuracy_spread"] = spread
    record = adapted(Cell("mobilenet_v2", method, rank, task), 0.2, after, **figures)
    return record.model_copy(update={"parameters": Parameters.model_validate(extra_info()["parameters"])})


def network(*choices: tuple[str, float, float], deviation: float = 0.01) -> Network:
    """Choices by name, accuracy and peak; two seeds, ten degrees of freedom."""
    made = tuple(Choice(name, accuracy, {"peak memory": peak}) for name, accuracy, peak in choices)
    return Network("net", made, (("shift", "fog 5"),), Spread(deviation, 10), 2, 10_000, 0.8)


def names(choices: list[Choice]) -> list[str]:
    return [choice.name for choice in choices]


def test_a_front_has_the_cheapest_of_those_that_are_equal() -> None:
    found = network(("a", 0.90, 100), ("b", 0.89, 60), ("c", 0.80, 50), ("d", 0.70, 70), ("e", 0.60, 10))
    assert 0.01 < found.alike < 0.09
    assert names(found.front("peak memory")) == ["b", "c", "e"]


def test_without_scatter_a_front_is_the_usual_one() -> None:
    found = network(("a", 0.90, 100), ("b", 0.89, 60), ("c", 0.89, 80), ("d", 0.95, 100), deviation=0.0)
    assert found.alike == 2 / found.images
    assert names(found.front("peak memory")) == ["d", "b"]


def test_small_steps_down_do_not_add_up_to_an_equal() -> None:
    """What is at the front's end equals nothing that is far above it, whatever lies between."""
    step = network().spread.tolerance(2, 2, 3, 10_000) * 0.9
    found = network(*((str(n), 0.9 - n * step, 100 - n) for n in range(4)))
    assert names(found.front("peak memory")) == ["1", "3"]


@pytest.mark.parametrize(("below", "is_equal"), [(0.0, True), (-1e-6, True), (1e-6, False)])
def test_just_below_at_and_above_the_spread(below: float, is_equal: bool) -> None:
    alike = network(("a", 0.9, 1), ("b", 0.5, 1)).alike
    found = network(("a", 0.9, 1), ("b", 0.9 - alike - below, 1))
    best, other = found.choices
    assert found.equals(other, best) == is_equal
    assert found.equals(best, other), "the better one is never below"


def test_a_cost_that_is_not_known_is_on_no_front() -> None:
    found = network(("a", 0.9, 10))
    unknown = Choice("b", 0.95, {"peak memory": None})
    both = Network("net", (*found.choices, unknown), found.conditions, found.spread, 2, 10_000, 0.8)
    assert names(both.front("peak memory")) == ["a"]
    best = both.best(100)
    assert best is not None
    assert best.choice.name == "a"


def test_the_best_within_a_budget() -> None:
    found = network(("a", 0.90, 100), ("b", 0.89, 60), ("c", 0.60, 50))
    assert found.best(49) is None
    alone, two, all_three = found.best(50), found.best(99), found.best(100)
    assert alone is not None
    assert two is not None
    assert all_three is not None
    assert (alone.choice.name, alone.fitting, alone.probability) == ("c", 1, 1.0)
    assert (two.choice.name, two.equal) == ("b", ())
    assert two.probability > 0.999
    assert (all_three.choice.name, names([*all_three.equal])) == ("a", ["b"])
    # Two whose difference is one standard error of it: a little less sure than the normal's 0.841.
    error = 0.01 / math.sqrt(2)
    near = network(("a", 0.90, 1), ("b", 0.90 - math.sqrt(2) * error, 1)).best(1)
    assert near is not None
    assert 0.80 < near.probability < 0.841


def test_accuracies_are_means_over_tasks_and_shifts() -> None:
    records = [
        of_seeds("fft", 0.7, 0.8, steps_to_target=10, flops_to_target=1),
        of_seeds("fft", 0.5, 0.6, corruption="contrast", peak=60, steps_to_target=20, flops_to_target=1),
        of_seeds("fft", 0.9, 0.9, corruption=None, steps_to_target=10, flops_to_target=1),
        of_seeds("lora", 0.6, 0.7, rank=4, steps_to_target=10, flops_to_target=1),
        of_seeds("lora", 0.4, 0.4, rank=4, corruption="contrast"),
        of_seeds("lora", 0.8, 0.9, rank=4, corruption=None),
        of_seeds("head", 0.3, 0.4),
    ]
    (found,) = networks(records)
    assert front.in_words(found.conditions) == "shift under fog 5, shift under contrast 5, unseen"
    fft, lora = found.choices
    assert fft.accuracy == pytest.approx((0.75 + 0.55 + 0.9) / 3)
    assert lora.name == "lora, r=4"
    assert fft.costs == {
        "peak memory": 60 * 2**20, "FLOPs": 10_000_000_000, "to store": 4 * 120, "steps": pytest.approx(40 / 3),
    }  # fmt: skip
    assert lora.costs["steps"] is None, "one of its targets is never reached"
    assert found.incomplete == ("head",)
    # Seven cells of two seeds: those that differ do so by a tenth, whose variance is 0.005.
    deviation = math.sqrt(5 * 0.005 / 7)
    assert found.spread.freedom == 7
    assert found.spread.deviation == pytest.approx(deviation / math.sqrt(3))
    assert found.margin == pytest.approx(float(t.ppf(0.975, 7)) * deviation / math.sqrt(3 * 2))
    assert "not adapted to all of it, and left out: head" in front_tables.conditions_in_words(records)


def test_what_leaves_a_network_worse_than_it_was_is_not_compared() -> None:
    compared = [of_seeds("fft", 0.7, 0.8), of_seeds("head", 0.19, 0.21)]
    harmful = [of_seeds("lora", 0.0, 0.39, rank=4), of_seeds("head", 0.19, 0.2, corruption=None)]
    (found,) = networks([*compared, harmful[0]])
    assert names([*found.choices]) == ["fft", "head"], "as good as before is not worse"
    assert found.harmful == ("lora, r=4",)
    assert found.spread == networks(compared)[0].spread, "nor does it widen the others' intervals"
    told = front_tables.conditions_in_words([*compared, harmful[0]])
    assert told.endswith("; worse after the update than before, and left out: lora, r=4.")
    with pytest.raises(CommandError, match="no method of mobilenet_v2 was adapted to all of unseen, and left"):
        networks(harmful[1:])


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([of_seeds("fft", 0.7, 0.8)] * 2, "mobilenet_v2-fft-shift is there twice for shift under fog 5"),
        ([of_seeds("fft", 0.7)], "adapted with 1 seeds; expected two or more"),
        ([of_seeds("fft", 0.7, 0.8), of_seeds("head", 0.7, 0.8, 0.9)], "adapted with 2 and 3 seeds; expected"),
        (
            [of_seeds("fft", 0.7, 0.8), of_seeds("head", 0.7, 0.8, corruption="contrast")],
            "no method of mobilenet_v2 was adapted to all of shift under fog 5, shift under contrast 5",
        ),
        (
            [of_seeds("fft", 0.7, 0.8), of_seeds("head", 0.7, 0.8, source=0.91)],
            "mobilenet_v2 was adapted from networks that were trained apart",
        ),
        (
            [
                of_seeds("fft", 0.7, 0.8),
                of_seeds(
                    "head", 0.7, 0.8, settings={**SETTINGS, "corruption": "fog", "severity": 5, "weights": "imagenet"}
                ),
            ],
            "was adapted on several data sets, first weights",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(records: list[Record], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        networks(records)


def test_several_runs_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for number, corruption in enumerate(("fog", "contrast"), 1):
        records = [
            of_seeds("fft", 0.90, 0.92, corruption=corruption, peak=100),
            of_seeds("lora", 0.90, 0.91, corruption=corruption, peak=60, rank=4),
            of_seeds("head", 0.40, 0.42, corruption=corruption, peak=7.5),
        ]
        data = baseline_data(*(record.as_extra_info() for record in records))
        paths.append(str(write(tmp_path / f"000{number}_{corruption}.json", data)))
    assert main(["study", *paths, "--tables", "front,front-budgets"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("| mobilenet_v2 | fft | 91.0% ± 1.5 | 100.00 MiB |") for line in lines)
    assert any("| lora, r=4 | 90.5%" in line and line.endswith("| peak memory |") for line in lines)
    assert "| mobilenet_v2 | 8 MiB | head | 41.0% ± 1.5 | the only one that fits | none |" in lines
    assert any(line.startswith("| mobilenet_v2 | 64 MiB | lora, r=4 | 90.5% ± 1.5 | 100% |") for line in lines)
    assert any(line.startswith("| mobilenet_v2 | 128 MiB | fft |") and line.endswith("| lora, r=4 |") for line in lines)
    assert any(
        line.startswith("mobilenet_v2: digits from scratch weights, shift under fog 5, shift under") for line in lines
    )


def test_one_run_twice_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "0001_a.json", baseline_data(of_seeds("fft", 0.7, 0.8).as_extra_info())))
    assert main(["study", path, path, "--tables", "front"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("is there twice for shift under fog 5; expected runs of other shifts or tasks")
