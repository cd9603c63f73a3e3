"""The mildest and the worst of many verdicts on one figure."""

from __future__ import annotations

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.grouped import Group, by_figure, cells_in_words
from peft_update_bench.bench.gate.verdict import Verdict

CELLS = [Cell("resnet18", "dora", rank) for rank in (1, 2, 4)]


def ends(unit: str, *figures: tuple[float | None, float | None]) -> tuple[Cell, Cell]:
    """The cells in which the figure moved least and most; `figures` are each cell's now and before."""
    verdicts = [Verdict("a.figure", "regressed", unit, now, before) for now, before in figures]
    group = Group("a.figure", tuple(zip(CELLS, verdicts, strict=False)))
    return group.lowest[0], group.highest[0]


def test_accuracies_move_by_points() -> None:
    """By fractions it would be the other way round: −20 % and −11 %."""
    first, second, _ = CELLS
    assert ends("accuracy", (0.08, 0.10), (0.80, 0.90)) == (second, first)


def test_other_figures_move_by_fractions() -> None:
    first, second, _ = CELLS
    assert ends("FLOPs", (120, 100), (1100, 1000)) == (second, first)


def test_what_has_no_change_has_not_moved() -> None:
    first, second, third = CELLS
    for unit in ("accuracy", "FLOPs"):
        assert ends(unit, (0.9, 1.0), (None, 1.0), (1.1, 1.0)) == (first, third)
        assert ends(unit, (0.9, 1.0), (None, 1.0), (0.8, 1.0)) == (third, second)
        assert ends(unit, (1.1, 1.0), (1.0, None), (1.2, 1.0)) == (second, third)


def test_figures_are_in_the_order_of_the_table_and_unknown_ones_last() -> None:
    names = ("an.unknown", "memory.peak", "flops.forward", "memory.peak")
    groups = by_figure((CELLS[0], Verdict(name, "ok")) for name in names)
    assert [(group.metric, len(group.cells)) for group in groups] == [
        ("flops.forward", 1), ("memory.peak", 2), ("an.unknown", 1)
    ]  # fmt: skip


def test_steps_of_ones_own_are_listed() -> None:
    """As they are, "× own" says nothing; with methods they may be all of these. A test's step is no other's."""
    tests = [Cell(f"test_a.py::test_{number}", "own", is_step=True) for number in range(5)]
    assert cells_in_words(tests) == "test_a.py::test_0, test_a.py::test_1, test_a.py::test_2 and 2 more"
    steps = [Cell(f"mine:{name}", "own", is_step=True) for name in "abcd"]
    assert cells_in_words(steps) == "mine:a, mine:b, mine:c and 1 more"
    both = [Cell(f"mine:{name}", method, is_step=True) for name in "ab" for method in ("own", "fft")]
    assert cells_in_words(both) == "mine:a, mine:b × own, fft"
