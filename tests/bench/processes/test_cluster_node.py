"""What must agree between the machines of a cluster, and the files that they bring to themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from peft_update_bench.bench.processes import cluster_node
from peft_update_bench.bench.processes.cluster_node import Description, describe, do_task
from peft_update_bench.bench.processes.executor import Task, Wall

BOARD = Description("board", {"torch": "2.9.0", "peft": "0.18.0"}, "aa", "aarch64", "Cortex-A76", "aarch64, A76", 4)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"name": "other", "cores": 2}, ""),
        ({"versions": {**BOARD.versions, "timm": "1.0.3"}}, ""),
        ({"versions": {"torch": "2.10.0", "peft": "0.18.0"}}, "board has torch 2.10.0, this run 2.9.0"),
        ({"versions": {"torch": "2.9.0"}}, "board has peft none, this run 0.18.0"),
        ({"code": "bb"}, "board has other source code of peft-update-bench than this run"),
    ],
)
def test_what_a_machine_must_have(changed: dict[str, object], reason: str) -> None:
    here = replace(BOARD, **{"name": "board", **changed})  # type: ignore[arg-type]
    assert here.differs(BOARD) == (reason if here.name == "board" else "")


@pytest.mark.parametrize("package", ["corrupt-tta", "opencv-python", "numpy", "pytorch_optimizer", "peft"])
def test_what_images_and_methods_depend_on_must_agree(package: str) -> None:
    """Another release of what corrupts images gives a node other images, and its updates other accuracies."""
    here = describe()
    there = replace(here, versions={**here.versions, package: "0.0.1"})
    assert there.differs(here) == f"{here.name} has {package} 0.0.1, this run {here.versions[package]}"


@pytest.fixture
def on_board(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """This process is a worker of the node; what it asks Ray for is noted."""
    asked: list[bytes] = []

    def get(reference: bytes) -> bytes:
        asked.append(reference)
        return reference

    context = SimpleNamespace(get_node_id=lambda: "0123456789")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=get, get_runtime_context=lambda: context))
    monkeypatch.setattr(cluster_node, "_described", lambda _: BOARD)
    with closing(Wall(60).process()) as process:
        monkeypatch.setattr(cluster_node, "_process", lambda _: process)
        yield asked


def text_of(path: Path) -> str:
    return path.read_text()


def test_a_file_is_brought_to_a_node_once(on_board: list[bytes], tmp_path: Path) -> None:
    packed = Task(text_of, (tmp_path / "network.pt",)).packed()
    for fetched in ({"network.pt": 7}, {}):
        answer = do_task(Wall(60), BOARD, True, packed, 0, {"network.pt": b"weights"}, tmp_path)
        assert answer.result is not None, answer.failure
        assert answer.fetched == fetched
    assert on_board == [b"weights"]
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt"]


@pytest.mark.usefixtures("on_board")
@pytest.mark.parametrize(
    ("needs_kind", "unfit"), [(True, "board is another kind of machine (aarch64, A76)"), (False, "")]
)
def test_another_kind_of_machine_is_unfit_where_figures_depend_on_it(needs_kind: bool, unfit: str) -> None:
    needed = replace(BOARD, kind="x86_64, EPYC")
    answer = do_task(Wall(60), needed, needs_kind, Task(abs, (-1,)).packed(), 0, {}, None)
    assert answer.unfit == unfit
    assert (answer.result is None) == needs_kind


@pytest.mark.usefixtures("on_board")
def test_what_fails_is_told() -> None:
    answer = do_task(Wall(60), BOARD, True, Task(text_of, (Path("nowhere"),)).packed(), 0, {}, None)
    assert answer.result is None
    assert answer.failure.startswith("FileNotFoundError: [Errno 2] No such file or directory: 'nowhere'")


def test_this_machine_is_like_itself() -> None:
    here = describe()
    assert here.differs(describe()) == ""
    assert here.kind.startswith(here.machine)
    assert {"torch", "peft", "python"} <= here.versions.keys()
