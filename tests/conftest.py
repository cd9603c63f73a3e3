"""What all tests of the suite share."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cpuinfo

# Methods import these at their first use. Within a test that runs pytest, that import would be undone with the test,
# and what is registered with torch cannot be registered again.
import galore_torch  # noqa: F401

# Imported for its plugin, which else imports it anew in every run of pytest within a test, 2 s each.
import hypothesis  # noqa: F401
import peft  # noqa: F401
import pytest
import torch
from peft_update_bench.bench.benchmarks import BENCHMARKS

# A run imports these before it measures. Imported anew by a second one, functions would not be those that are sent.
from peft_update_bench.bench.measuring import computing, executing, timing  # noqa: F401
from peft_update_bench.bench.metrics import METRICS
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.computed import schedule
from peft_update_bench.fixtures.instruments.latency.paired import SamplingLimits
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload

from tests.helpers.records import FFT, LATENCY, LORA, baseline_data, extra_info, write

# A repository of its own, whose tests are run as its own (whole/test_example_repository.py).
collect_ignore = ["example_repository"]

# A run of pytest within a test has a process to itself, also where this one is a worker of pytest-xdist (-n 2). By the
# variable pytest-benchmark would take it for a worker, and measure nothing.
os.environ.pop("PYTEST_XDIST_WORKER", None)

# Every run of pytest within a test asks for it, and would wait 0.2 s for a process that finds it out.
cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)

# Each seed is kept with the lines of the calls that led to it for every kind of device that is not there, 1 ms a seed.
for device in (torch.cuda, torch.mtia, torch.xpu):
    vars(device)["traceback"] = SimpleNamespace(format_stack=list)

# One thread, as the default workload: several would compete with each other for a CI machine's two cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def warm_operators() -> None:
    """What torch prepares at an operator's first use is prepared here.

    Every process that is forked for a cell would else do so again, and take twice as long for a small one.
    """
    for method, rank in (("fft", None), ("lora", 4)):
        computed.measure(build_update_step("mobilenet_v3_small", method, rank, Workload(image_size=64), "meta"))


def pytest_collection_finish() -> None:
    """What is imported by now stays. The instruments collect garbage often, and need not look at it again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_compiled_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that a test rewrites is read anew.

    What was compiled of it would pass for it, where both are of one second and as long: 8 channels, and then 9.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency of a few rounds, for tests of what becomes of it."""
    few = SamplingLimits(warm_up_rounds=1, min_rounds=10, max_rounds=20, max_refreshes=3)
    monkeypatch.setattr(timing, "DEFAULT_LIMITS", few)
    monkeypatch.setattr(timing, "CAREFUL_LIMITS", few)


@pytest.fixture
def few_further_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is called twice more, and not 24 times, to see that it does the same: for tests of anything else.

    What only many calls show is tested in fixtures/test_further_calls.py.
    """
    monkeypatch.setattr(schedule, "UNDECLARED_STEPS", 2)


@pytest.fixture
def tables_as_they_were() -> Iterator[None]:
    """What is added to the tables of metrics and benchmarks within a test is gone after it."""
    metrics, benchmarks = dict(METRICS), dict(BENCHMARKS)
    yield
    METRICS.clear()
    METRICS.update(metrics)
    BENCHMARKS.clear()
    BENCHMARKS.update(benchmarks)


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """A run of two cells: a reference, and one that is measured against it."""
    reference = {**LATENCY, "reference": "calibration"}
    return write(tmp_path / "run.json", baseline_data(extra_info(FFT, latency=reference), extra_info(LORA)))
