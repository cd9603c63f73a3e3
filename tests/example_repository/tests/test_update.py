"""What an update costs, held to baselines/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from spotter.training import build_step


def test_update(update_benchmark: Callable[..., Any]) -> None:
    update_benchmark(build_step)


@pytest.mark.parametrize(("method", "rank"), [("head", None), ("lora", 4)])
def test_update_with(method: str, rank: int | None, update_benchmark: Callable[..., Any]) -> None:
    update_benchmark(build_step, method=method, rank=rank)
