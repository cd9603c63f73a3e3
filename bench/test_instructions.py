"""The benchmark of instructions: one update step of every cell, counted under valgrind, recorded and judged.

Run with ``--metrics instructions``.
"""

from __future__ import annotations

from collections.abc import Callable

BENCHMARK = "instructions"


def test_instructions(
    architecture: str, method: str, rank: int | None, batch_size: int | None, benchmark_cell: Callable[..., None]
) -> None:
    """Fails where the cell cannot be counted, or does not hold its baseline."""
    benchmark_cell(architecture, method, rank, batch_size=batch_size)
