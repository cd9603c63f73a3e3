"""How many processes compute beside each other, and when none may."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.update import UpdateBenchmark
from peft_update_bench.bench.options import OptionError, RunOptions


def read(**given: str) -> RunOptions:
    return options.read(given, {"latency": 0.1})


@pytest.mark.parametrize("metrics", ["flops", "flops,memory", "growth,result"])
def test_computed_metrics_may_have_several(metrics: str) -> None:
    benchmark = read(metrics=metrics, workers="2").benchmark
    assert isinstance(benchmark, UpdateBenchmark)
    assert benchmark.workers == 2


@pytest.mark.parametrize("metrics", ["latency", "flops,latency", "measured_memory", "first_step"])
def test_nothing_that_is_measured_has_a_neighbour(metrics: str) -> None:
    with pytest.raises(OptionError, match=f"--workers is 2 and --metrics {metrics}; expected one worker, or metrics"):
        read(metrics=metrics, workers="2")
    read(metrics=metrics, workers="1")
    read(metrics=metrics)


def test_the_default_metrics_are_measured_ones() -> None:
    with pytest.raises(
        OptionError, match="such as --metrics flops,memory, because cells beside each other would spoil"
    ):
        read(workers="2")


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
    assert options.all_options()["workers"].startswith("update: processes that compute cells beside each other")
    assert "; adaptation: processes, each with one thread" in options.all_options()["workers"]


def test_a_benchmark_without_workers_says_so() -> None:
    with pytest.raises(OptionError, match="--workers is given with --metrics instructions, which takes none; expected"):
        read(metrics="instructions", workers="2")
