"""Runs whose work is done by a cluster of two nodes on this machine, each with a name and a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.nodes import Nodes, nodes_of
from tests.whole.test_run import REPOSITORY

pytest.importorskip("ray", reason="the engine of clusters is not installed: pip install 'peft-update-bench[cluster]'")
pytestmark = pytest.mark.slow

NETWORK = "tests.helpers.small_networks:build_small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[Nodes]:
    """One node without a label, one with two: by one of them, what is measured is sent there."""
    with nodes_of(folder, "left") as nodes:
        nodes.add("desk", resources={"board": 1})
        yield nodes


def run(nodes: Nodes | None, *options: str, output: Path | None = None) -> subprocess.CompletedProcess[str]:
    """pytest, in a process of its own."""
    where = [] if nodes is None else [f"--cluster={nodes.address}"]
    written = [] if output is None else [f"--benchmark-json={output}"]
    command = [sys.executable, "-m", "pytest", "bench", "-p", "no:cacheprovider", *options, *where, *written]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)


def records(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry["extra_info"] for entry in json.loads(path.read_text())["benchmarks"]}


def without_machines(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {key: value for key, value in record.items() if key != "made_on"} for name, record in found.items()}


ADAPTATION = (
    "--metrics=adaptation", f"--architectures={NETWORK}", "--methods=fft,head", "--data=digits", "--image-size=16",
    "--steps=4", "--seeds=2",
)  # fmt: skip


def test_updates_are_what_this_machine_finds_and_each_node_is_sent_a_network_once(
    nodes: Nodes, tmp_path: Path, folder: Path
) -> None:
    far, near = tmp_path / "far.json", tmp_path / "near.json"
    there = run(nodes, *ADAPTATION, output=far)
    assert there.returncode == 0, there.stdout
    here = run(None, *ADAPTATION, "--workers=1", f"--cache-dir={tmp_path / 'cache'}", output=near)
    assert here.returncode == 0, here.stdout
    assert without_machines(records(far)) == without_machines(records(near))
    where = [node["node"] for record in records(far).values() for node in record["made_on"]]
    assert {*where} == {"left", "desk"}
    for node in ("left", "desk"):
        kept = [path.name for path in (folder / node).rglob("*.pt")]
        # There are two; a node that Ray gives updates of one of them only needs no other.
        assert 1 <= len(kept) == len({name.rpartition("-")[0] for name in kept}) <= 2, kept


def test_computed_cells_are_the_committed_ones(nodes: Nodes, tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    options = (
        "--metrics=flops,memory",
        "--benchmark-compare",
        "--architectures=mobilenet_v3_small",
        "--methods=fft,head",
    )
    result = run(nodes, *options, output=output)
    assert result.returncode == 0, result.stdout
    assert "2 cells, against 0004_baseline.json: 2 ok" in result.stdout
    assert f"on the cluster {nodes.address}" in result.stdout
    assert all(record["made_on"] for record in records(output).values())


def test_what_is_measured_is_measured_by_the_node_of_the_label(nodes: Nodes, tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    options = (
        "--metrics=measured_memory,flops",
        f"--architectures={NETWORK}",
        "--methods=head,lora",
        "--ranks=1,4",
        "--image-size=32",
    )
    result = run(nodes, *options, "--batch-size=2", "--on=board", output=output)
    assert result.returncode == 0, result.stdout
    assert f"on desk of the cluster {nodes.address}" in result.stdout
    found = records(output)
    assert len(found) == 3
    assert {node["node"] for record in found.values() for node in record["made_on"]} == {"desk"}
    assert json.loads(output.read_text())["machine_info"]["cpu"]["count"] > 0


def test_a_label_that_no_node_has_is_refused(nodes: Nodes) -> None:
    result = run(nodes, "--metrics=latency", "--on=bench")
    assert result.returncode == 4
    assert (
        "ERROR: --on is 'bench'; expected a label of a node (board); start a node with one by: ray start"
        in result.stderr
    )


def test_a_node_with_too_little_memory_is_named_and_left_out(nodes: Nodes) -> None:
    nodes.add("small", memory=2**20)
    try:
        result = run(nodes, "--metrics=flops", "--architectures=mobilenet_v3_small", "--methods=head")
    finally:
        nodes.remove("small")
    assert result.returncode == 0
    assert "A node of the cluster was not used: small has 0.0 GiB for workers, a task takes 1.5 GiB." in result.stdout


def test_a_node_with_other_packages_is_named_and_left_out(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "peft.py").write_text("__version__ = '0.0.1'\n")
    nodes.add("old", environment={"PYTHONPATH": str(tmp_path)})
    try:
        result = run(nodes, "--metrics=flops", "--architectures=mobilenet_v3_small", "--methods=head")
    finally:
        nodes.remove("old")
    assert result.returncode == 0
    assert "A node of the cluster was not used: old " in result.stdout


def test_where_nobody_answers_it_is_said() -> None:
    result = run(None, "--metrics=flops", "--cluster=127.0.0.1:1")
    assert result.returncode == 4
    assert (
        "ERROR: --cluster is '127.0.0.1:1': nobody answers there (Connection refused); expected a cluster"
        in result.stderr
    )
