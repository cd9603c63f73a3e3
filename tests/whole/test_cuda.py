"""The whole way on a GPU, as a user takes it: minutes, because each cell's process begins to use it anew. CI has none;
where there is one: ``pytest tests/whole/test_cuda.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_update_bench.fixtures import gpus

REPOSITORY = Path(__file__).parents[2]
BENCH = (REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY)
MATRIX = ("--image-size=64", "--batch-size=8", "--architectures=mobilenet_v3_small", "--ranks=4")
METHODS = "--methods=fft,head,lora,galore"
MEASURED = {"measured_memory", "latency", "gpu"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not gpus.are_there(), reason="torch finds no CUDA device on this machine"),
]

Suite = Callable[..., "subprocess.CompletedProcess[str]"]

STEP = """
import os
import torch
from torch import nn
from peft_update_bench.fixtures.update_step import UpdateStep

def build():
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    network.to("cuda")
    batch = torch.randn(64, 3, 64, 64, device="cuda"), torch.randint(10, (64,), device="cuda")
    matrix = torch.zeros(1024, 1024, device="cuda")
    more = int(os.environ.get("MORE_PRODUCTS", 0))

    def loss(network, images, labels):
        for _ in range(more):
            matrix @ matrix
        return nn.functional.cross_entropy(network(images), labels)

    return UpdateStep(network, torch.optim.AdamW(network.parameters()), batch, loss)
"""
TEST = "import step\n\ndef test_step(update_benchmark):\n    update_benchmark(step.build)\n"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """``pytest bench --device cuda`` of this repository, its baselines in an empty folder. A process of its own: one
    that has used CUDA cannot be forked."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return _pytest(*BENCH, *MATRIX, "--device=cuda", *options, folder=tmp_path)

    return run


def _pytest(*arguments: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    program = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark-storage=file://baselines")
    command, environment = [*program, *map(str, arguments)], {**os.environ, **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    (path,) = (folder / "baselines").rglob("0001_*.json")
    return {entry["name"]: entry["extra_info"] for entry in json.loads(path.read_text())["benchmarks"]}


def test_every_metric_is_recorded_and_holds(suite: Suite, tmp_path: Path) -> None:
    saved = suite(METHODS, "--benchmark-save=baseline")
    assert saved.returncode == 0, saved.stdout + saved.stderr
    records = _records(tmp_path)
    assert len(records) == 4
    for record in records.values():
        assert set(record) >= MEASURED
        assert record["gpu"] == torch.cuda.get_device_name()
        assert record["workload"]["device"] == "cuda"
    compared = suite(METHODS, "--benchmark-compare")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "4 cells, against 0001_baseline.json: 4 ok" in compared.stdout


def test_what_is_computed_is_what_is_computed_for_the_cpu(suite: Suite, tmp_path: Path) -> None:
    options = (METHODS, "--metrics=flops,memory", "--benchmark-save=baseline")
    assert suite(*options).returncode == 0
    on_cuda = _records(tmp_path)
    (tmp_path / "cpu").mkdir()
    cpu = _pytest(*BENCH, *MATRIX, *options, folder=tmp_path / "cpu")
    assert cpu.returncode == 0, cpu.stdout
    for name, record in _records(tmp_path / "cpu").items():
        assert (record["flops"], record["memory"]) == (on_cuda[name]["flops"], on_cuda[name]["memory"])
        assert MEASURED.isdisjoint(on_cuda[name])


def test_another_gpus_figures_are_not_compared(suite: Suite, tmp_path: Path) -> None:
    options = ("--methods=lora", "--metrics=flops,latency")
    assert suite(*options, "--benchmark-save=baseline").returncode == 0
    (path,) = (tmp_path / "baselines").rglob("*.json")
    path.write_text(path.read_text().replace(torch.cuda.get_device_name(), "NVIDIA Another"))
    compared = suite(*options, "--benchmark-compare")
    assert compared.returncode == 0, compared.stdout
    assert "figures not comparable" in compared.stdout
    assert "NVIDIA Another" in compared.stdout


def test_kernels_that_a_step_launches_and_does_not_wait_for_are_timed(tmp_path: Path) -> None:
    """A user's own step on a GPU; what is added to it takes no time of the CPU's."""
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "test_step.py").write_text(TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    saved = _pytest("--benchmark-save=baseline", folder=tmp_path)
    assert saved.returncode == 0, saved.stdout
    (record,) = _records(tmp_path).values()
    assert record["gpu"] == torch.cuda.get_device_name()
    slower = _pytest("--benchmark-compare", folder=tmp_path, MORE_PRODUCTS="100")
    assert slower.returncode == 1, slower.stdout
    assert "latency.relative regressed" in slower.stdout


@pytest.mark.parametrize("workload", ["--optimizer=adamw-fused", "--dtype=autocast", "--dtype=bfloat16"])
def test_other_workloads(suite: Suite, workload: str) -> None:
    ran = suite("--methods=fft,lora", workload)
    assert ran.returncode == 0, ran.stdout


def test_instructions_are_the_cpus(suite: Suite) -> None:
    refused = suite("--methods=head", "--metrics=instructions")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "given --device cuda" in refused.stderr
