"""The comparison of instruments: how much is put into the step, and what is made of figures. Those are made up."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from torch.utils.flop_counter import FlopCounterMode

from tests.studies import side_by_side
from tests.studies.slower_step import MORE, build, convolutions_for

CONVOLUTION = 2 * 14 * 14 * 32 * 64
"""Its FLOPs."""


def flops(convolutions: int) -> int:
    with FlopCounterMode(display=False) as counter:
        build(convolutions).forward()
    total: int = counter.get_total_flops()
    return total


def test_the_step_makes_as_many_further_convolutions() -> None:
    assert flops(3) - flops(0) == 3 * CONVOLUTION


def test_as_many_as_take_a_fraction_of_the_step() -> None:
    # MORE take half of the step's time.
    assert [convolutions_for(fraction, 1.5) for fraction in (0, 0.02, 0.05, 0.1, 0.5)] == [0, 4, 10, 20, MORE]


def test_changes_are_from_the_first_figure_of_each_trial() -> None:
    assert side_by_side.changes([100, 100, 102, 50, 51, 55], trials=2) == ["+0.00% to +2.00%", "+2.00% to +10.00%"]
    assert side_by_side.changes([8, 8, 6], trials=1) == ["+0.00%", "-25.00%"]


@pytest.mark.parametrize(("at_most", "trials"), [(1, 1), (2, 2), (3, 2)])
def test_no_more_trials_than_an_instrument_has_time_for(
    monkeypatch: pytest.MonkeyPatch, at_most: int, trials: int
) -> None:
    asked: list[int] = []

    def measure(numbers: Iterable[int]) -> list[float]:
        asked.extend(numbers)
        return [100.0 + number for number in asked]

    monkeypatch.setitem(side_by_side.INSTRUMENTS, "made up", (2, measure))
    found = side_by_side.row("made up", [0, 5], at_most)
    assert asked == [0, 0, 5] * trials
    assert found == ("made up", str(trials), "+0.00%", "+5.00%", "0 s")
