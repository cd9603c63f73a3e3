"""The kinds of benchmark, by name. Each is one class (``base.py`` says what it answers) and one test file.

The test file says which kind it is by ``BENCHMARK = NAME``; its test is ``test_NAME``, by which its records are known
in a baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_update_bench.bench.metrics import load

if TYPE_CHECKING:
    from peft_update_bench.bench.benchmarks.base import Benchmark

_HERE = "peft_update_bench.bench.benchmarks"
BENCHMARKS: dict[str, str] = {
    "update": f"{_HERE}.update:UpdateBenchmark",
    "instructions": f"{_HERE}.instructions:InstructionsBenchmark",
    "adaptation": f"{_HERE}.adaptation:AdaptationBenchmark",
}
"""Each kind's class, as MODULE:NAME."""

DEFAULT = "update"


def add(name: str, benchmark: str) -> None:
    """Add a kind from elsewhere, its class as MODULE:NAME. Call it where :func:`bench.metrics.add` is called."""
    BENCHMARKS[name] = benchmark


def kind(name: str) -> type[Benchmark]:
    """The class of a kind."""
    found: type[Benchmark] = load(BENCHMARKS[name])
    return found


def test_names() -> list[str]:
    """The names of the tests whose entries in pytest-benchmark's JSON carry records."""
    return [f"test_{name}" for name in BENCHMARKS]
