"""Ray, in a process of its own: one that asks it to do tasks and hears what came of them.

Not in the process that runs pytest: where the head of a cluster or this machine's raylet is gone, Ray ends the process
that it is in, prints to its terminal and catches its signals.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from peft_update_bench.bench.processes.cluster_node import Answer, Description, Place, description, do_task
from peft_update_bench.bench.processes.executor import Wall
from peft_update_bench.bench.processes.head_watch import silence, split

TASK_BYTES = 3 * 2**29
"""The memory that a worker asks a node for: what an update of ResNet-18 and its server take, with room to spare."""

_RETRIES = 20
"""How often Ray begins a task anew whose worker or node is gone. What a task itself ends is behind a wall."""

_OOM_RETRIES = 2

_WAIT_S = 0.1
_LOOK_EVERY_S = 1.0

_ALONE_AFTER_S = 30.0
"""For how long no node may be there that a task could be done on."""


_EXPECTED = (
    "expected a cluster that this machine is a node of (ray start --head, elsewhere ray start --address=HOST:PORT)"
)


class ClusterError(Exception):
    """A cluster that cannot be used, or is gone: which, and what to do."""


@dataclass(frozen=True)
class Share:
    """A file for the tasks that name it."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Do:
    """A task, by `number`. `needed` is what a node must be like, in its kind too where that `needs_kind`."""

    number: int
    wall: Wall
    needed: Description
    needs_kind: bool
    packed: bytes
    retries: int
    files: tuple[str, ...]
    folder: Path | None
    users_code: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A call of :class:`~.cell_process.Process` on a `node`, by id, which has the `label`."""

    number: int
    wall: Wall
    label: str
    node: str
    method: str
    packed: bytes | None = None
    users_code: tuple[str, ...] = ()
    anew: bool = False


Order = Share | Do | Call
Finished = tuple[int, Answer | tuple[bytes | None, str] | str]
"""By number: a task's answer, a call's, or a failure in words."""


@dataclass(frozen=True)
class Node:
    """One that is alive: its id, its name where it was given one, and its resources."""

    id: str
    name: str
    resources: Mapping[str, float]


class Engine:
    """A connection to the cluster at `address`, ``auto`` for the one that this machine is in. Raises ClusterError."""

    def __init__(self, address: str) -> None:
        # Where memory runs out Ray would begin a task anew for ever.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": str(_OOM_RETRIES)}
        if address != "auto" and (silent := silence(*split(address))):
            # Ray itself would try for a minute.
            raise ClusterError(f"--cluster is {address!r}: nobody answers there ({silent}); {_EXPECTED}")
        ray: Any = import_module("ray")
        self._ray = ray
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context = ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split()).partition(". ")[0]
            raise ClusterError(f"--cluster is {address!r}: {said}; {_EXPECTED}") from None
        self.head = split(str(context.address_info["gcs_address"]))
        self._files: dict[str, Any] = {}
        self._orders: dict[int, Do] = {}
        self._calls: dict[int, Call] = {}
        self._places: dict[tuple[str, Wall], Any] = {}
        self._finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._unfit: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._looked = self._fit_seen = time.monotonic()
        self._do: Any = ray.remote(do_task)

    def nodes(self) -> list[Node]:
        return [
            Node(
                found["NodeID"],
                found["NodeName"] if found["NodeName"] != found["NodeManagerAddress"] else "",
                found["Resources"],
            )
            for found in self._ray.nodes()
            if found["Alive"]
        ]

    def describe(self, wall: Wall, ids: Sequence[str], limit_s: float) -> dict[str, Description | str]:
        """What the nodes are, by id; of one that cannot say it why, in words. Raises ClusterError."""
        task = self._ray.remote(description)
        asked = {node: task.options(num_cpus=0, label_selector={"ray.io/node-id": node}).remote(wall) for node in ids}
        until = time.monotonic() + limit_s
        left = list(asked.values())
        while left and time.monotonic() < until:
            _, left = self._ray.wait(left, num_returns=len(left), timeout=_LOOK_EVERY_S)
        found: dict[str, Description | str] = {}
        for node, reference in asked.items():
            try:
                found[node] = self._ray.get(reference, timeout=0)[1]
            except self._ray.exceptions.RayError as error:
                found[node] = _told(error)
        return found

    def exclude(self, unfit: Mapping[str, str]) -> None:
        """Give no tasks to these nodes, by id with the reason."""
        self._unfit |= unfit

    def exchange(self, orders: Sequence[Order]) -> list[Finished]:
        """Take `orders`, and return what has finished since; waits a moment for the first. Raises ClusterError."""
        for order in orders:
            if isinstance(order, Share):
                self._files.setdefault(order.name, self._ray.put(order.content))
            elif isinstance(order, Do):
                self._begin(order)
            else:
                self._call(order)
        found = [finished for number, answer in self._waited() if (finished := self._taken(number, answer))]
        if time.monotonic() - self._looked > _LOOK_EVERY_S:
            found += self._failed_where_alone()
            self._looked = time.monotonic()
        return found

    def _begin(self, order: Do) -> None:
        self._orders[order.number] = order
        excluded = ",".join(self._unfit)
        reference = self._do.options(
            num_cpus=1,
            memory=TASK_BYTES,
            max_retries=_RETRIES,
            label_selector={"ray.io/node-id": f"!in({excluded})"} if excluded else None,
        ).remote(
            order.wall,
            order.needed,
            order.needs_kind,
            order.packed,
            order.retries,
            {name: self._files[name] for name in order.files},
            order.folder,
            order.users_code,
        )
        self._hear(order.number, reference)

    def _call(self, order: Call) -> None:
        key = (order.node, order.wall)
        if key not in self._places:
            place = self._ray.remote(Place)
            self._places[key] = place.options(
                num_cpus=0,
                resources={order.label: 1},
                label_selector={"ray.io/node-id": order.node},
                max_restarts=-1,
                max_task_retries=_RETRIES,
            ).remote(order.wall)
        self._calls[order.number] = order
        self._hear(
            order.number, self._places[key].call.remote(order.method, order.packed, order.users_code, order.anew)
        )

    def _hear(self, number: int, reference: Any) -> None:
        reference.future().add_done_callback(lambda future: self._finished.put((number, future)))

    def _waited(self) -> list[tuple[int, Any]]:
        found = []
        try:
            found.append(self._finished.get(timeout=_WAIT_S))
            while True:
                found.append(self._finished.get_nowait())
        except Empty:
            return found

    def _taken(self, number: int, future: Any) -> Finished | None:
        """What came of an order; None where a task is begun anew, because its node is unfit."""
        order = self._orders.pop(number, None) or self._calls.pop(number, None)
        if order is None:
            return None
        try:
            answer = future.result()
        except self._ray.exceptions.LocalRayletDiedError:
            raise ClusterError("this machine's raylet has ended") from None
        except self._ray.exceptions.RayError as error:
            return number, _told(error)
        if isinstance(order, Do) and answer.unfit:
            self._unfit[answer.node] = answer.unfit
            self._begin(order)
            return None
        if isinstance(answer, Answer) and (name := self._name_of(answer.node)):
            answer = replace(answer, description=replace(answer.description, name=name))
        return number, answer

    def _name_of(self, node: str) -> str:
        if node not in self._names:
            self._names |= {known.id: known.name for known in self.nodes()}
        return self._names.get(node, "")

    def _failed_where_alone(self) -> list[Finished]:
        """A sentence for each order that no node is left for."""
        if not self._orders and not self._calls:
            self._fit_seen = time.monotonic()
            return []
        nodes = self.nodes()
        there = {node.id for node in nodes}
        lost: list[Finished] = [
            (number, "the node has left the cluster") for number, call in self._calls.items() if call.node not in there
        ]
        if any(node.resources.get("CPU") and node.id not in self._unfit for node in nodes) or not self._orders:
            self._fit_seen = time.monotonic()
        elif time.monotonic() - self._fit_seen > _ALONE_AFTER_S:
            why = f" ({'; '.join(self._unfit.values())})" if self._unfit else ""
            lost += [(number, f"no node of the cluster is left that it can be done on{why}") for number in self._orders]
        for number, _ in lost:
            self._orders.pop(number, None)
            self._calls.pop(number, None)
        return lost


def _told(error: Exception) -> str:
    """The kind and the first sentence of what Ray raises."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0][:300]}"
