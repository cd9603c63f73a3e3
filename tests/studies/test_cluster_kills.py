"""Whatever of a cluster is killed, at ten moments each: nothing that had finished is lost, and figures stay the same.

    pytest tests/studies/test_cluster_kills.py -m study -s

A worker or a node that is killed ends no run: all ten are killed during one. With the head, or the process that runs
pytest, the run ends; the next goes on from what was kept, until the eleventh finishes. Takes a quarter of an hour on
two cores; each test prints what was killed when. The figures are in bench/processes/cluster.md.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.nodes import Nodes, nodes_of
from tests.whole.test_run import REPOSITORY

pytest.importorskip("ray", reason="the engine of clusters is not installed: pip install 'peft-update-bench[cluster]'")
pytestmark = pytest.mark.study

MOMENTS = 10
UPDATES = 24
OPTIONS = (
    "--metrics=adaptation", "--architectures=tests.helpers.small_networks:build_small", "--methods=fft,lora",
    "--data=digits", "--image-size=16", "--steps=40", f"--seeds={UPDATES // 4}",
)  # fmt: skip
LIMIT_S = 900


class Run:
    """pytest, in a process of its own, whose kept updates are in a folder that other runs go on with."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.output = folder / "run.json"
        self._said = folder / "said"
        command = [sys.executable, "-m", "pytest", "bench", "-p", "no:cacheprovider", *OPTIONS, *options]
        command += [f"--benchmark-json={self.output}"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
        with self._said.open("w") as file:
            self._process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=file, stderr=file)

    @property
    def kept(self) -> set[str]:
        return {path.name for path in (self.folder / "peft-update-bench" / "unfinished").rglob("*.json")}

    def wait_for(self, number: int) -> None:
        """Wait until so many updates are kept, or it has ended."""
        until = time.monotonic() + LIMIT_S
        while len(self.kept) < number and self._process.poll() is None:
            assert time.monotonic() < until, self.said
            time.sleep(0.02)

    def wait_until_said(self, text: str) -> None:
        """Wait until it has printed `text`, or has ended."""
        until = time.monotonic() + LIMIT_S
        while text not in self.said and self.is_running:
            assert time.monotonic() < until, self.said
            time.sleep(0.1)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        return self._process.wait(LIMIT_S)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def records(self) -> dict[str, Any]:
        """By name, without the machines, which differ."""
        entries = json.loads(self.output.read_text())["benchmarks"]
        return {e["name"]: {k: v for k, v in e["extra_info"].items() if k != "made_on"} for e in entries}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run finds on this machine, by processes that nobody kills."""
    run = Run(tmp_path_factory.mktemp("undisturbed"), "--workers=2")
    assert run.end() == 0, run.said
    return run.records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def kill_a_worker(nodes: Nodes, number: int) -> str:
    for _ in range(3000):
        if found := nodes.workers():
            process = random.Random(number).choice(found)
            process.kill()
            return f"process {process.pid}"
        time.sleep(0.05)
    raise AssertionError("no worker was there to be killed")


def kill_a_node(nodes: Nodes, number: int) -> str:
    """The older of two, in whose place another comes."""
    name = nodes.names[0]
    nodes.kill_node(name)
    nodes.add(f"node{number + 2}")
    return name


@pytest.mark.parametrize("kill", [kill_a_worker, kill_a_node])
def test_a_run_outlives_its_workers_and_nodes(
    kill: Callable[[Nodes, int], str], undisturbed: dict[str, Any], folder: Path
) -> None:
    with nodes_of(folder, "node0", "node1") as nodes:
        run = Run(folder, f"--cluster={nodes.address}")
        before: set[str] = set()
        for moment in range(MOMENTS):
            run.wait_for(2 * moment)
            time.sleep(random.Random(moment).random())
            assert run.is_running, run.said
            kept = run.kept
            assert before <= kept, "a kept update is gone"
            before = kept
            print(f"{kill.__name__} {moment + 1}: {kill(nodes, moment)}, {len(kept)} of {UPDATES} kept", flush=True)
        assert run.end() == 0, run.said
    assert run.records == undisturbed


@pytest.fixture
def a_cluster(folder: Path) -> Iterator[Callable[[], Nodes]]:
    """One that is replaced where its head was killed."""
    opened: list[Any] = []

    def new() -> Nodes:
        while opened:
            opened.pop().__exit__(None, None, None)
        opened.append(nodes_of(folder, "node0"))
        found: Nodes = opened[-1].__enter__()
        return found

    yield new
    while opened:
        opened.pop().__exit__(None, None, None)


@pytest.mark.parametrize("what", ["head", "driver"])
def test_the_next_run_goes_on_where_one_was_ended(
    what: str, a_cluster: Callable[[], Nodes], undisturbed: dict[str, Any], folder: Path
) -> None:
    before: set[str] = set()
    nodes = a_cluster()
    for moment in range(MOMENTS):
        run = Run(folder, f"--cluster={nodes.address}")
        run.wait_for(len(before) + (moment > 0))
        run.wait_until_said("[1/4]")
        time.sleep(random.Random(moment).random())
        kept = run.kept
        assert before <= kept, "a kept update is gone"
        if what == "head":
            nodes.kill_head()
            if run.end() == 0:
                break  # it had finished before the blow
            assert f"the cluster {nodes.address} is gone: its head at {nodes.address} does not answer" in run.said, (
                run.said
            )
            assert "what had finished is kept, and the next run goes on from there" in run.said, run.said
            assert "Traceback" not in run.said
            nodes = a_cluster()
        else:
            run.kill()
            assert run.end() == -signal.SIGKILL
        assert kept <= run.kept, "a kept update is gone"
        before = run.kept
        print(f"{what} {moment + 1}: {len(before)} of {UPDATES} kept", flush=True)
    else:
        run = Run(folder, f"--cluster={nodes.address}")
    assert run.end() == 0, run.said
    assert f"{len(before)} updates done by a run that did not finish" in run.said
    assert run.records == undisturbed
