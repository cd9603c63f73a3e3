"""Under which conditions an update that an earlier run finished is taken from it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from peft_update_bench.bench.processes.cluster_node import describe
from peft_update_bench.bench.processes.executor import Executor
from peft_update_bench.bench.processes.update_runs import UpdateRuns
from peft_update_bench.bench.record import record
from peft_update_bench.fixtures.training.plan import Plan


def never() -> Executor:
    raise AssertionError("nothing is to be done")


@pytest.mark.parametrize("package", ["corrupt-tta", "opencv-python", "pytorch_optimizer"])
def test_another_release_of_what_images_or_methods_depend_on_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    before = UpdateRuns([], Plan(), tmp_path, never).folder
    assert UpdateRuns([], Plan(), tmp_path, never).folder == before
    monkeypatch.setattr(record, "version", lambda name: "0.0.1" if name == package else version(name))
    assert UpdateRuns([], Plan(), tmp_path, never).folder != before


def test_it_goes_on_from_a_cluster_of_the_same_kind_of_machine_and_from_no_other_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cluster is gone, its machines may be left; with ATEN_CPU_CAPABILITY=default they round otherwise."""
    here = UpdateRuns([], Plan(), tmp_path, never).folder
    assert UpdateRuns([], Plan(), tmp_path, never, kind=describe().kind).folder == here
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert UpdateRuns([], Plan(), tmp_path, never).folder != here
