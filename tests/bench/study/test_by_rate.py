"""Accuracy by where learning rates are from."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.study.by_rate import HEADERS, rows

from tests.bench.study.test_front import of_seeds


def test_each_method_stands_with_both_rates_and_what_they_came_to() -> None:
    brought = [
        of_seeds("fft", 0.8, 0.82, learning_rate=0.001),
        of_seeds("lora", 0.6, 0.62, rank=4, learning_rate=0.003),
        of_seeds("hra", 0.1, 0.12, rank=4, learning_rate=0.01),
    ]
    searched = [
        of_seeds("lora", 0.85, 0.87, 0.86, rank=4, learning_rate=1e-4),
        of_seeds("hra", 0.4, 0.42, 0.41, rank=4, learning_rate=0.001),
        of_seeds("bitfit", 0.1, 0.1, 0.1, learning_rate=0.01),
        of_seeds("fft", 0.88, 0.87, 0.86, learning_rate=0.001),
    ]
    found = rows(brought, searched)
    assert {len(row) for row in found} == {len(HEADERS)}

    def accuracy(said: str) -> str:
        return " ".join(word for word in said.split() if word != "±" and not word[:1].isdigit()) or said.split("%")[0]

    assert [[*row[1:3], accuracy(row[3]), row[4], accuracy(row[5])] for row in found] == [
        ["fft", "0.001", "best", "0.001", "best"],
        ["lora, r=4", "0.003", "61.0", "0.0001", "equal"],
        ["hra, r=4", "0.01", "worse than before", "0.001", "41.0"],
        ["bitfit", "–", "–", "0.01", "worse than before"],
    ]
    assert found[1][5].startswith("86.0% ± ")


def test_runs_that_cannot_be_compared_are_refused() -> None:
    one = of_seeds("fft", 0.8, 0.82)
    with pytest.raises(CommandError, match="is there twice"):
        rows([one], [one, one])
