"""How many processes compute beside each other, and when none may."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.update import UpdateBenchmark
from peft_update_bench.bench.options import OptionError, RunOptions


def read(**given: str) -> RunOptions:
    return options.read(given, {"latency": 0.1})


@pytest.mark.parametrize(
    "metrics", ["flops", "flops,memory", "growth,result", "measured_memory", "flops,latency", None]
)
def test_all_but_latency_may_have_several(metrics: str | None) -> None:
    benchmark = options.read({"metrics": metrics, "workers": "2"}, {"latency": 0.1}).benchmark
    assert isinstance(benchmark, UpdateBenchmark)
    assert benchmark.workers == 2


def test_latency_has_no_neighbour() -> None:
    with pytest.raises(
        OptionError, match="--workers is 2 and --metrics latency; expected one worker, or other metrics"
    ):
        read(metrics="latency", workers="2")
    read(metrics="latency", workers="1")
    read(metrics="latency")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"workers": "0"}, "--workers is '0'; expected a whole number of at least 1"),
        ({"workers": "2", "cell_seconds": "0"}, "--workers is 2 beside --cell-seconds 0"),
    ],
)
def test_bad_workers(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        read(metrics="flops", **given)


def test_help_has_the_workers_of_every_benchmark() -> None:
    assert options.all_options()["workers"].startswith("update: processes that measure cells beside each other")
    assert "; adaptation: processes, each with one thread" in options.all_options()["workers"]


def test_a_benchmark_without_workers_says_so() -> None:
    with pytest.raises(OptionError, match="--workers is given with --metrics instructions, which takes none; expected"):
        read(metrics="instructions", workers="2")
