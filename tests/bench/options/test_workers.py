"""How many processes measure beside each other, and when none may."""

from __future__ import annotations

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks.instructions import InstructionsBenchmark
from peft_update_bench.bench.benchmarks.update import UpdateBenchmark
from peft_update_bench.bench.options import OptionError, RunOptions
from peft_update_bench.fixtures.instruments import instructions


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
    assert "; instructions: processes that count beside each other" in options.all_options()["workers"]
    assert "; adaptation: processes, each with one thread" in options.all_options()["workers"]


def test_help_says_once_what_several_benchmarks_share() -> None:
    assert options.all_options()["cluster"].startswith("update, instructions, adaptation: auto or HOST:PORT")
    assert options.all_options()["cluster"].count("HOST:PORT") == 1


def test_instructions_take_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "conditions", lambda: None)  # which valgrind would be asked for
    benchmark = read(metrics="instructions", workers="1").benchmark
    assert isinstance(benchmark, InstructionsBenchmark)
    assert benchmark.workers == 1
    with pytest.raises(OptionError, match="--workers is 'all'; expected a whole number of at least 1"):
        read(metrics="instructions", workers="all")


def test_a_benchmark_that_takes_no_such_option_says_so() -> None:
    with pytest.raises(
        OptionError, match="--remember is given with --metrics instructions, which takes none; expected"
    ):
        read(metrics="instructions", remember="no")
