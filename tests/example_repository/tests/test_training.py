"""The package's own tests, which know nothing of benchmarks."""

from __future__ import annotations

from spotter.training import build_step


def test_an_update_lowers_the_loss() -> None:
    step = build_step()
    first = step().item()
    for _ in range(5):
        last = step().item()
    assert last < first
