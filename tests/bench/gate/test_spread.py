"""How far accuracies scatter, and how often a run fails whose seeds alone are others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from peft_update_bench.bench.gate.slowdown import FAMILY_ERROR
from peft_update_bench.bench.gate.spread import Spread, VariancePrior
from scipy.stats import t

from tests.studies.seed_alarms import simulate


def test_the_tolerance_is_students_t_for_as_many_comparisons() -> None:
    def tolerated(*, seeds: tuple[int, int]) -> float:
        return float(t.ppf((1 - FAMILY_ERROR) ** (1 / 6), 4)) * 0.05 * math.sqrt(1 / seeds[0] + 1 / seeds[1])

    found = Spread(0.05, 4).tolerance(3, 2, comparisons=6, images=100)
    assert found == pytest.approx(tolerated(seeds=(3, 2)))
    assert Spread(0.0, 1).tolerance(2, 2, comparisons=1, images=50) == 2 / 50
    both = Spread(0.05, 4, networks=0.03).tolerance(3, 2, comparisons=6, images=100)
    assert both == pytest.approx(found * math.sqrt(1 + 2 * 0.03**2 / (0.05**2 * (1 / 3 + 1 / 2))))


def test_choices_are_alike_by_as_many_comparisons_as_there_are_others() -> None:
    spread = Spread(0.05, 4)
    assert spread.alike(3, 7, images=100) == spread.tolerance(3, 3, comparisons=6, images=100)
    assert spread.alike(3, 1, images=100) == spread.tolerance(3, 3, comparisons=1, images=100)


@pytest.mark.parametrize("freedom", [2.0, 8.0])
def test_how_differently_cells_scatter_is_found(freedom: float) -> None:
    """Two sets, one of which scatters ten times as far; each cell's variance is a scaled inverse chi squared."""
    draw = np.random.default_rng(0)
    deviations = np.sqrt(freedom / draw.chisquare(freedom, (2, 4_000, 1)))
    sets = np.array([0.01, 0.1])[:, None, None] * deviations * draw.standard_normal((2, 4_000, 4))
    prior = VariancePrior.of(tuple(tuple(map(tuple, cells)) for cells in sets.tolist()), images=10**6)
    assert prior.freedom == pytest.approx(freedom, rel=0.15)
    narrow, wide = (prior.spread([0.0, 0.0, 0.0, 0.0], cells.tolist()) for cells in sets)
    assert (narrow.freedom, wide.freedom) == (prior.freedom + 3, prior.freedom + 3)
    # A cell whose own seeds do not differ has what is usual in its set alone.
    usual = math.sqrt(freedom / (freedom + 3))
    assert [narrow.deviation, wide.deviation] == pytest.approx([0.01 * usual, 0.1 * usual], rel=0.1)


def test_cells_that_scatter_alike_are_pooled() -> None:
    cells = ((0.80, 0.82, 0.84), (0.50, 0.53, 0.56), (0.70, 0.71))
    assert math.isinf(VariancePrior.of((cells, ((0.1, 0.9),)), images=100).freedom)
    assert math.isinf(VariancePrior.of((((0.5, 0.5), (0.6, 0.6)),), images=100).freedom), "no seed differs"
    assert math.isinf(VariancePrior.of((((0.5,), (0.6,)),), images=100).freedom), "one seed of each"


def test_a_run_of_other_seeds_fails_once_in_twenty_where_methods_scatter_differently() -> None:
    """By the pooled spread 6 of these 20 do. More runs: `python -m tests.studies.seed_alarms`."""
    draw = np.random.default_rng(0)
    failed = sum(simulate(draw, differently=0.8, tasks=2, methods=24, seeds=3)[0] for _ in range(20))
    assert failed <= 20 * FAMILY_ERROR
