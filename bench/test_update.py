"""The benchmark: one update step of every cell, measured, recorded and judged against the baseline."""

from __future__ import annotations

from collections.abc import Callable

BENCHMARK = "update"


def test_update(
    architecture: str, method: str, rank: int | None, batch_size: int | None, benchmark_cell: Callable[..., None]
) -> None:
    """Fails where the cell does not train, cannot be measured, or does not hold its baseline."""
    benchmark_cell(architecture, method, rank, batch_size=batch_size)
