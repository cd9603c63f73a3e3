"""What a node of a cluster does: tasks and calls, each behind a wall, as this machine would do them itself.

All of this runs in Ray's worker processes, which import nothing of what tasks use: the process behind the wall does,
forked from a server that has the packages.
"""

from __future__ import annotations

import atexit
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from peft_update_bench.bench.gate.machine import read_machine
from peft_update_bench.bench.processes.cell_process import CellProcess
from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.bench.processes.executor import Wall, do, unpack
from peft_update_bench.bench.record.made_on import MadeOn
from peft_update_bench.fixtures.files import users_cache


@dataclass(frozen=True)
class Description:
    """What must agree between machines: `versions` of packages, a digest of this package's `code`, and for figures that
    depend on it the `kind` of machine: architecture, CPU model, and what torch uses of its instructions."""

    name: str
    versions: Mapping[str, str]
    code: str
    machine: str
    cpu: str
    kind: str
    cores: int

    @property
    def made_on(self) -> MadeOn:
        """As records have it."""
        return MadeOn(node=self.name, cpu=self.cpu, cores=self.cores, machine=self.machine)

    def differs(self, other: Description) -> str:
        """Why tasks of a run on the machine `other` cannot be done on this one, in words; empty where they can."""
        for package, version in other.versions.items():
            found = self.versions.get(package, "none")
            if found != version:
                return f"{self.name} has {package} {found}, this run {version}"
        if self.code != other.code:
            return f"{self.name} has other source code of peft-update-bench than this run"
        return ""


def describe() -> Description:
    """This machine. Takes seconds: it imports the packages."""
    from peft_update_bench.bench.processes.machine_kind import kind_of_machine
    from peft_update_bench.bench.pytest_benchmark_session import this_machine
    from peft_update_bench.bench.record import all_versions
    from peft_update_bench.fixtures import digests

    root = Path(__file__).parents[2]
    here = read_machine(this_machine())
    with warnings.catch_warnings():
        # What packages warn of while they are imported.
        warnings.simplefilter("ignore")
        versions = all_versions()
    return Description(
        name=platform.node(),
        versions=versions,
        code=digests.of_folders(root / "bench", root / "fixtures"),
        machine=platform.machine(),
        cpu=here.cpu,
        kind=kind_of_machine(),
        cores=here.cores,
    )


@dataclass(frozen=True)
class Answer:
    """What came of a task: a packed `result`, a `failure` in words, or why the node is `unfit` for it. `fetched` are
    the bytes of the files that it brought to the node."""

    node: str
    description: Description
    result: bytes | None = None
    failure: str = ""
    unfit: str = ""
    fetched: Mapping[str, int] = field(default_factory=dict)


def description(wall: Wall) -> tuple[str, Description]:
    """This node's id, and what it is."""
    return _node_id(), _described(wall)


def do_task(
    wall: Wall,
    needed: Description,
    needs_kind: bool,
    packed: bytes,
    retries: int,
    files: Mapping[str, Any],
    folder: Path | None,
    users_code: tuple[str, ...] = (),
) -> Answer:
    """Do a packed task, unless this node is not as `needed`; `files` are by name what Ray's store has."""
    here = _described(wall)
    unfit = here.differs(needed)
    if needs_kind and not unfit and here.kind != needed.kind:
        unfit = f"{here.name} is another kind of machine ({here.kind})"
    if unfit:
        return Answer(_node_id(), here, unfit=unfit)
    try:
        fetched = _fetch(files, folder)
        result = do(unpack, (packed,), retries, users_code, _process(wall))
    except (MeasurementError, OSError) as error:
        return Answer(_node_id(), here, failure=str(error))
    return Answer(_node_id(), here, result, fetched=fetched)


class Place:
    """An actor: the one process of a node in which cells are measured, one call after the other."""

    def __init__(self, wall: Wall) -> None:
        self._process = _process(wall)

    def call(
        self, method: str, packed: bytes | None, users_code: tuple[str, ...], anew: bool
    ) -> tuple[bytes | None, str]:
        """The packed result of a method of :class:`~.cell_process.Process`, or a failure in words."""
        try:
            if method == "begin" or packed is None:
                self._process.begin(users_code, anew=anew)
                return None, ""
            function: Callable[..., bytes] = getattr(self._process, method)
            return function(unpack, packed), ""
        except MeasurementError as error:
            return None, str(error)


@cache
def _process(wall: Wall) -> CellProcess:
    # Processes that are forked from a server would run the file with which Ray starts its workers.
    vars(sys.modules["__main__"]).pop("__file__", None)
    process = wall.process(forked=False)
    # A worker whose node is gone ends by itself; multiprocessing would have it wait for the process behind the wall.
    atexit.register(process.close)
    return process


@cache
def _described(wall: Wall) -> Description:
    process = _process(wall)
    process.begin()
    return process.call(describe)


def _node_id() -> str:
    ray: Any = import_module("ray")
    return str(ray.get_runtime_context().get_node_id())


def _fetch(files: Mapping[str, Any], folder: Path | None) -> dict[str, int]:
    """Write the files that this node has not, each complete or not at all; how many bytes of each were brought."""
    ray: Any = import_module("ray")
    folder = folder or users_cache()
    brought = {}
    for name, reference in files.items():
        if (folder / name).exists():
            continue
        content: bytes = ray.get(reference)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.{_node_id()[:8]}.{id(content)}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)
        brought[name] = len(content)
    return brought
