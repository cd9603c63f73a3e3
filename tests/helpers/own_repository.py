"""A repository of a stranger's, with tests that ask for ``update_benchmark``."""

from __future__ import annotations

import json

import pytest

STEP = """
import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from torch import nn
from torch.nn import functional


def build(network=None):
    if network is None:
        pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        network = nn.Sequential(nn.Conv2d(3, {channels}, 3), *pool, nn.Linear({channels}, 4))
    images, labels = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    loss = lambda network, images, labels: functional.cross_entropy(network(images), labels)
    return UpdateStep(network, torch.optim.SGD(network.parameters(), lr=0.1), (images, labels), loss)
"""
TEST = """
import step


def test_update(update_benchmark):
    update_benchmark(step.build)


def test_lora(update_benchmark):
    update_benchmark(step.build, method="lora", rank=2)
"""
ASKS_LATE = """
import step


def test_before():
    pass


def test_late(request):
    request.getfixturevalue("update_benchmark")(step.build)


def test_after():
    pass
"""
BESIDE = """
def test_beside(benchmark):
    benchmark.pedantic(sum, args=([1, 2],))
"""
ENDS_BEFORE = """
import pytest
import step


def fails():
    raise KeyError("boxes")


def test_skipped(update_benchmark):
    pytest.skip("today")


def test_ends(update_benchmark):
    raise RuntimeError


def test_refused(update_benchmark):
    update_benchmark(step.build, rank=2)


def test_unbuilt(update_benchmark):
    update_benchmark(fails)


@pytest.mark.xfail
def test_expected(update_benchmark):
    update_benchmark(step.build)
"""
SAVE, COMPARE, METRICS = "--benchmark-save=baseline", "--benchmark-compare", "--update-metrics=flops"


class Repository:
    """A stranger's, with two files of tests."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.path = pytester.path
        self.write("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["."]\n[tool.peft-update-bench]\n')
        self.write("test_a.py", TEST)
        self.write("test_b.py", TEST)
        self.widen(8)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def widen(self, channels: int) -> None:
        self.write("step.py", STEP.format(channels=channels))

    def run(self, *options: str) -> pytest.RunResult:
        chosen = ("-p", "no:cacheprovider", METRICS, *options)
        return self._pytester.runpytest_inprocess(*chosen)

    def run_alone(self, *options: str) -> pytest.RunResult:
        """In a process that has the variables of the environment from its start."""
        return self._pytester.runpytest_subprocess("-p", "no:cacheprovider", METRICS, *options)

    def saved(self, number: int = 1) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.path / "baselines" / f"{number:04}_baseline.json").read_text())
        return found
