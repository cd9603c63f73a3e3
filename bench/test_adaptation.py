"""The benchmark of adaptation: a trained network updated to a shift or to new classes, recorded and judged.

Run with ``--metrics adaptation``; ``--seeds`` says how many updates a cell takes.
"""

from __future__ import annotations

from collections.abc import Callable

BENCHMARK = "adaptation"


def test_adaptation(
    architecture: str, method: str, rank: int | None, task: str, benchmark_cell: Callable[..., None]
) -> None:
    """Fails where the cell cannot be updated, or does not hold its baseline."""
    benchmark_cell(architecture, method, rank, task)
