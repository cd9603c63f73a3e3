"""What the transformer reference costs, and what its computation costs. Computed only: ``pytest bench -m decoder``."""

from __future__ import annotations

from typing import Any

import pytest

from bench.cells import Cell
from fixtures.decoders import DECODERS, build_decoder_step
from fixtures.instruments import computed
from fixtures.instruments.computed import Computed
from fixtures.methods import METHODS

RANK = 8
CELLS = [Cell(name, method, RANK if METHODS[method].takes_rank else None) for name in DECODERS for method in METHODS]


@pytest.mark.decoder
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_decoder(cell: Cell, benchmark: Any) -> None:
    """The time is the computation's own, network included; the update's figures stand in ``extra_info``."""

    def compute() -> Computed:
        return computed.measure(build_decoder_step(cell.architecture, cell.method, cell.rank))

    benchmark.group = f"{cell.architecture} (the computation's own time; no update was timed)"
    figures: Computed = benchmark.pedantic(compute)
    benchmark.extra_info.update(parameters=figures.parameters, flops=figures.flops, memory=figures.memory)
