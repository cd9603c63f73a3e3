"""What the computed metrics themselves cost, in wall-clock seconds: building an update step and measuring it.

Run with ``pytest bench/test_instruments.py -m instrument_cost``. Targets, on two cores and in one process, stated here
and not asserted, because a shared machine's clock is no test:

* a cell: at most 0.5 s in the median over the core matrix;
* the whole core matrix, 48 cells: at most 30 s; the full matrix: at most 150 s;
* batch 256: at most 1.1 times batch 1, and the process under 1.5 GB;
* against the study's published profiler, on the same cells: a tenth of its time at batch 1, a twentieth at batch 16.

Each round measures a cell as the matrix does, after others have been measured: the operator calls they have in common
are remembered (``fixtures/instruments/tracing/replay.py``). ``test_cold`` forgets them before each round.
"""

from __future__ import annotations

import pytest
from peft_update_bench.bench.cells import Selection
from peft_update_bench.fixtures.instruments.computed import Computed, measure
from peft_update_bench.fixtures.instruments.tracing import calls
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload
from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.instrument_cost

CELLS = [
    pytest.param("resnet18", "fft", None, id="resnet18-fft"),
    pytest.param("mobilenet_v2", "lora", 4, id="mobilenet_v2-lora-r4"),
    pytest.param("mobilenet_v3_large", "dora", 4, id="mobilenet_v3_large-dora-r4"),
    pytest.param("mobilenet_v3_large", "galore", 4, id="mobilenet_v3_large-galore-r4"),
]


def compute(architecture: str, method: str, rank: int | None, batch_size: int = 1) -> Computed:
    return measure(build_update_step(architecture, method, rank, Workload(batch_size=batch_size), "meta"))


@pytest.mark.parametrize("batch_size", [1, 256])
@pytest.mark.parametrize(("architecture", "method", "rank"), CELLS)
def test_cell(benchmark: BenchmarkFixture, architecture: str, method: str, rank: int | None, batch_size: int) -> None:
    arguments = (architecture, method, rank, batch_size)
    computed = benchmark.pedantic(compute, args=arguments, rounds=5, warmup_rounds=1)
    assert computed.flops["total"] > 0


@pytest.mark.parametrize(("architecture", "method", "rank"), CELLS)
def test_cold(benchmark: BenchmarkFixture, architecture: str, method: str, rank: int | None) -> None:
    arguments = (architecture, method, rank)
    computed = benchmark.pedantic(compute, args=arguments, setup=calls.REMEMBERED.clear, rounds=3, warmup_rounds=1)
    assert computed.flops["total"] > 0


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("method", ["fft", "lora", "dora"])
@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "mobilenet_v3_large"])
def test_study_profilers_cell(benchmark: BenchmarkFixture, architecture: str, method: str, batch_size: int) -> None:
    """Nine cells that the study's published profiler is timed on, nothing remembered before."""
    arguments = (architecture, method, 8 if METHODS[method].takes_rank else None, batch_size)
    computed = benchmark.pedantic(compute, args=arguments, setup=calls.REMEMBERED.clear, rounds=3, warmup_rounds=1)
    assert computed.flops["total"] > 0


def test_core_matrix(benchmark: BenchmarkFixture) -> None:
    cells = Selection(matrix="core").cells()

    def compute_all() -> list[Computed]:
        return [compute(cell.architecture, cell.method, cell.rank) for cell in cells]

    computed = benchmark.pedantic(compute_all, setup=calls.REMEMBERED.clear, rounds=1)
    assert len(computed) == len(cells) == 48
