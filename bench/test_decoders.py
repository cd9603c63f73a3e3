"""What the transformer reference costs, and what its computation costs. Computed only: ``pytest bench -m decoder``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.fixtures.decoders import DECODERS, build_decoder_step
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.computed import Computed

RANK = 8
"""Where ``--ranks`` names no others."""


def select_cells(run: RunOptions) -> list[Cell]:
    """Every decoder with the run's methods and ranks, at a batch size of its own."""
    selection = run.selection
    return replace(selection, architectures=tuple(DECODERS), ranks=selection.ranks or (RANK,), batch_sizes=()).cells()


@pytest.mark.decoder
def test_decoder(architecture: str, method: str, rank: int | None, benchmark: Any) -> None:
    """The time is the computation's own, network included; the update's figures stand in ``extra_info``."""

    def compute() -> Computed:
        return computed.measure(build_decoder_step(architecture, method, rank))

    benchmark.group = f"{architecture} (the computation's own time; no update was timed)"
    figures: Computed = benchmark.pedantic(compute)
    benchmark.extra_info.update(parameters=figures.parameters, flops=figures.flops, memory=figures.memory)
