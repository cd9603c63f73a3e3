"""Accuracies by condition: a column for each, with what is best and what equals it."""

from __future__ import annotations

import re

import pytest
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.study.by_condition import accuracies, by_rank, within_budgets

from tests.bench.study.test_front import of_seeds


def test_each_condition_has_a_best_and_what_equals_it() -> None:
    fog = [of_seeds("fft", 0.8, 0.82), of_seeds("lora", 0.79, 0.81, rank=4), of_seeds("head", 0.4, 0.42, peak=20)]
    unseen = [of_seeds("head", 0.9, 0.92, corruption=None, peak=21), of_seeds("fft", 0.6, 0.62, corruption=None)]
    headers, rows = accuracies([fog, unseen])
    assert headers == ["network", "method", "peak memory", "shift under fog 5", "unseen"]
    shown = {method: [peak, *(cell.partition("% ±")[::2] for cell in cells)] for _, method, peak, *cells in rows}
    # By their mean: 80 of the one that lacks a condition, then 71 and 66.
    assert [*shown] == ["lora, r=4", "fft", "head"]
    assert [(accuracy, said.split()[1:]) for accuracy, said in shown["fft"][1:]] == [("81.0", ["best"]), ("61.0", [])]
    assert [(a, said.split()[1:]) for a, said in shown["lora, r=4"][1:]] == [("80.0", ["equal"]), ("–", [])]
    assert [(a, said.split()[1:]) for a, said in shown["head"][1:]] == [("41.0", []), ("91.0", ["best"])]
    assert shown["head"][0] == "21.00 MiB"


def test_methods_that_are_not_shown_are_judged_all_the_same() -> None:
    fog = [of_seeds("fft", 0.8, 0.82), of_seeds("head", 0.4, 0.42, peak=20)]
    _, rows = accuracies([fog], ["head"])
    assert [(method, said.split("%")[0], said.split()[3:]) for _, method, _, said in rows] == [("head", "41.0", [])]


def test_ranks_stand_beside_each_other_and_full_fine_tuning() -> None:
    fog = [
        of_seeds("fft", 0.8, 0.82),
        of_seeds("lora", 0.6, 0.62, rank=16),
        of_seeds("lora", 0.81, 0.83, rank=4),
        of_seeds("dora", 0.7, 0.72, rank=4),
    ]
    unseen = [of_seeds("lora", 0.5, 0.52, rank=4, corruption=None)]
    headers, rows = by_rank([fog, unseen])
    assert headers == ["network", "method", "adapted to", "rank 4", "rank 16", "full fine-tuning"]
    # Neither of dora nor of lora with unseen classes was more than one rank tried.
    (row,) = rows
    assert row[:3] == ["mobilenet_v2", "lora", "shift under fog 5"]
    assert [(said.split("%")[0], said.split()[3:]) for said in row[3:]] == [
        ("82.0", ["best"]),
        ("61.0", []),
        ("81.0", ["equal"]),
    ]


def test_a_rank_that_was_not_tried_is_a_dash() -> None:
    fog = [of_seeds("lora", 0.8, 0.82, rank=rank) for rank in (1, 4)]
    elsewhere = [of_seeds("galore", 0.8, 0.82, rank=rank, corruption=None) for rank in (4, 16)]
    _, rows = by_rank([fog, elsewhere])
    assert [(row[1], [said.split("%")[0] for said in row[3:]]) for row in rows] == [
        ("galore", ["–", "81.0", "81.0", "–"]),
        ("lora", ["81.0", "81.0", "–", "–"]),
    ]


def test_a_network_of_one_condition_has_dashes_for_others() -> None:
    elsewhere = of_seeds("fft", 0.5, 0.52, corruption=None).model_copy(update={"architecture": "resnet18"})
    _, rows = accuracies([[of_seeds("fft", 0.8, 0.82)], [elsewhere]])
    assert [(row[0], row[3].partition("%")[0], row[4].partition("%")[0]) for row in rows] == [
        ("mobilenet_v2", "81.0", "–"),
        ("resnet18", "–", "51.0"),
    ]


def test_runs_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(CommandError, match="is there twice"):
        accuracies([[of_seeds("fft", 0.8, 0.82), of_seeds("fft", 0.8, 0.82)]])


def test_within_so_much_memory_each_condition_has_a_most_accurate_method() -> None:
    fog = [of_seeds("fft", 0.8, 0.82, peak=50), of_seeds("head", 0.4, 0.42, peak=20)]
    unseen = [of_seeds("head", 0.79, 0.81, corruption=None, peak=40), of_seeds("fft", 0.8, 0.82, corruption=None)]
    headers, rows = within_budgets([fog, unseen])
    assert headers == ["network", "peak memory at most", "shift under fog 5", "unseen"]
    assert [row[1] for row in rows] == ["32 MiB", "64 MiB", "128 MiB", "256 MiB"]
    assert rows[0][2:] == ["head 41.0% (the only one that fits)", "none: the least needs 40.00 MiB"]
    assert rows[1][2] == "fft 81.0% (100%)"
    assert re.fullmatch(r"fft 81\.0% \(\d\d%\); equal: head", rows[1][3])
