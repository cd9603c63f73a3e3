"""A cluster of Ray's, as this machine's processes are: an executor of tasks, and a process for cells on one node.

Ray itself is in a process of its own (``ray_engine.py``), which a thread here asks for what has finished.
"""

from __future__ import annotations

import pickle
import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from threading import Thread
from typing import Any, TypeVar

from peft_update_bench.bench.processes import engine_process
from peft_update_bench.bench.processes.answering import names_of
from peft_update_bench.bench.processes.child_process import ChildProcess, LostError, MeasurementError, start_server
from peft_update_bench.bench.processes.cluster_node import Answer, Description, describe
from peft_update_bench.bench.processes.executor import Done, Task, Wall
from peft_update_bench.bench.processes.head_watch import HeadWatch
from peft_update_bench.bench.processes.node_process import NodeProcess
from peft_update_bench.bench.processes.ray_engine import (
    TASK_BYTES,
    ClusterError,
    Do,
    Finished,
    Node,
    Order,
    Share,
)

T = TypeVar("T")

_CONNECTS_S = 60.0

_STARTS_S = 120.0
"""How long a node may take to say what it is: it imports torch for that."""

_ANSWERS_S = 300.0
"""How long the engine may take to take orders; large files among them."""

_TOGETHER = 1000
"""How many orders are given at once, so that what has finished is heard of between them."""


class Cluster:
    """A connection to the cluster at `address`. Raises ClusterError, one sentence."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.remarks: list[str] = []
        """What a reader should know of the nodes, each a sentence."""
        self.fetched: list[tuple[str, str, int]] = []
        """Which files went to which node, and their bytes."""
        # Not forked from this process, which may have used Ray itself.
        start_server((engine_process.__name__,))
        self._engine = ChildProcess("forkserver", (ClusterError,))
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._futures: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._failure = ""
        self._gone = ""
        self._thread: Thread | None = None
        try:
            head = self._engine.call(engine_process.connect, address, limit_s=_CONNECTS_S)
        except MeasurementError as error:
            self._engine.close()
            message = str(error)
            raise ClusterError(
                message if message.startswith("--cluster") else f"--cluster is {address!r}: connecting {message}"
            ) from None
        self._watch = HeadWatch(head, self._lose)

    def executor(self, wall: Wall, *, alike: bool) -> ClusterExecutor:
        """One whose tasks are done on all nodes that have what this machine has; where figures depend on it, on nodes
        of one kind only, which is that of most cores.

        The nodes that are left out are named in `remarks`. Raises ClusterError where none is left.
        """
        wall = replace(wall, plain=names_of(wall.plain))
        nodes = {node.id: node for node in self._ask(engine_process.nodes) if node.resources.get("CPU")}
        unfit = {
            node.id: f"{node.name or node.id[:8]} has {_gib(node)} for workers, a task takes {TASK_BYTES / 2**30:g} GiB"
            for node in nodes.values()
            if node.resources.get("memory", 0) < TASK_BYTES
        }
        here = describe()
        found = self._described(wall, [nodes[node] for node in nodes if node not in unfit])
        kinds: dict[str, float] = {}
        for node, what in found.items():
            unfit |= {node: reason} if (reason := what if isinstance(what, str) else what.differs(here)) else {}
            if isinstance(what, Description) and not reason:
                kinds[what.kind] = kinds.get(what.kind, 0) + nodes[node].resources["CPU"]
        # Of as many cores, this machine's.
        kind = max(kinds, key=lambda kind: (kinds[kind], kind == here.kind), default=here.kind)
        if alike:
            unfit |= {
                node: f"{what.name} is another kind of machine ({what.kind}) than the others ({kind})"
                for node, what in found.items()
                if isinstance(what, Description) and node not in unfit and what.kind != kind
            }
        if nodes and len(unfit) == len(nodes):
            raise ClusterError(f"--cluster {self.address}: none of its nodes can be used: {'; '.join(unfit.values())}")
        self.remarks += [f"A node of the cluster was not used: {reason}." for reason in unfit.values()]
        self._ask(engine_process.exclude, unfit)
        return ClusterExecutor(self, wall, replace(here, kind=kind), alike)

    def process(self, wall: Wall, label: str) -> NodeProcess:
        """Where cells are measured on the node of `label`, one at a time. Raises ClusterError where there is none, or
        where it has not what this machine has."""
        wall = replace(wall, plain=names_of(wall.plain))
        nodes: list[Node] = self._ask(engine_process.nodes)
        of_label = [node for node in nodes if label in node.resources]
        if not of_label:
            known = ", ".join(sorted({name for node in nodes for name in node.resources if _is_label(name)}))
            raise ClusterError(
                f"--on is {label!r}; expected a label of a node ({known or 'none has one'}); "
                f"""start a node with one by: ray start --address=HOST:PORT --resources='{{"{label}": 1}}'"""
            )
        # One of those that have the label, to which all cells go.
        node = of_label[0]
        what = self._described(wall, [node])[node.id]
        reason = what if isinstance(what, str) else what.differs(describe())
        if reason or isinstance(what, str):
            raise ClusterError(f"--on {label}: {reason}; expected the same on both")
        return NodeProcess(self, wall, label, node.id, what)

    def order(self, make: Callable[[int], Order]) -> Future[Any]:
        """Give an order with a number of its own, whose answer the future holds; it raises MeasurementError."""
        future: Future[Any] = Future()
        number = next(self._numbers)
        self._futures[number] = future
        self.tell(make(number))
        if self._failure:
            self._fail()
        return future

    def tell(self, order: Order) -> None:
        """Give an order that has no answer."""
        if self._thread is None:
            self._thread = Thread(target=self._exchange, name="cluster", daemon=True)
            self._thread.start()
        self._orders.put(order)

    def close(self) -> None:
        """End the connection, and with it all that the cluster does for this run."""
        self._failure = self._failure or "the run ended before its turn"
        self._watch.close()
        self._orders.put(None)
        self._engine.kill()
        if self._thread is not None:
            self._thread.join()
        self._engine.close()
        self._fail()

    def _ask(self, function: Callable[..., T], *args: Any) -> T:
        """Before the first order only: then the thread asks."""
        try:
            return self._engine.call(function, *args, limit_s=_ANSWERS_S)
        except MeasurementError as error:
            raise ClusterError(f"the cluster {self.address} is gone: {self._gone or error}") from None

    def _lose(self, why: str) -> None:
        """The head is gone, and whatever is asked of Ray may wait for it."""
        self._gone = why
        self._engine.kill()

    def _described(self, wall: Wall, nodes: list[Node]) -> dict[str, Description | str]:
        found: dict[str, Description | str] = self._ask(
            engine_process.describe, wall, [node.id for node in nodes], _STARTS_S
        )
        for node in nodes:
            what = found[node.id]
            if isinstance(what, str):
                found[node.id] = f"{node.name or node.id[:8]} cannot do a task: {what}"
            elif node.name:
                found[node.id] = replace(what, name=node.name)
        return found

    def _exchange(self) -> None:
        while not self._failure:
            orders = self._taken()
            try:
                finished: list[Finished] = self._engine.call(engine_process.exchange, orders, limit_s=_ANSWERS_S)
            except MeasurementError as error:
                self._failure = self._failure or (
                    f"the cluster {self.address} is gone: {self._gone or error}; what had finished is kept, and the "
                    "next run goes on from there"
                )
                break
            for number, answer in finished:
                self._futures.pop(number).set_result(answer)
        self._fail()

    def _taken(self) -> list[Order]:
        """The orders that wait; where nothing is under way, waits for one."""
        orders: list[Order] = []
        while len(orders) < _TOGETHER:
            try:
                order = self._orders.get(block=not (self._futures or orders))
            except queue.Empty:
                break
            if order is None:
                break
            orders.append(order)
        return orders

    def _fail(self) -> None:
        while self._futures:
            _, future = self._futures.popitem()
            if not future.done():
                future.set_exception(LostError(self._failure))


class ClusterExecutor:
    """Tasks done by the nodes of a cluster. A node or a worker that is gone loses what was under way, which Ray begins
    anew elsewhere."""

    def __init__(self, cluster: Cluster, wall: Wall, needed: Description, alike: bool) -> None:
        self._cluster = cluster
        self._wall = wall
        self._needed = needed
        self._alike = alike

    @property
    def kind(self) -> str:
        """The kind of machine that does tasks."""
        return self._needed.kind

    def submit(self, *tasks: Task[T]) -> list[Future[Done[T]]]:
        return [self._submit(task) for task in tasks]

    def share(self, name: str, content: bytes) -> None:
        self._cluster.tell(Share(name, content))

    def close(self) -> None:
        self._cluster.close()

    def _submit(self, task: Task[T]) -> Future[Done[T]]:
        packed = task.packed()
        answered = self._cluster.order(
            lambda number: Do(
                number,
                self._wall,
                self._needed,
                self._alike,
                packed,
                task.retries,
                task.files,
                task.folder,
                task.users_code,
            )
        )
        future: Future[Done[T]] = Future()
        answered.add_done_callback(lambda _: self._settle(answered, future))
        return future

    def _settle(self, answered: Future[Answer | str], future: Future[Done[T]]) -> None:
        try:
            answer = answered.result()
            if isinstance(answer, str):
                raise LostError(answer)
            where = answer.description
            self._cluster.fetched += [(where.name, name, size) for name, size in answer.fetched.items()]
            if answer.result is None:
                raise MeasurementError(f"{answer.failure} (on {where.name})")
            future.set_result(Done(pickle.loads(answer.result), where.made_on))
        except Exception as error:  # it is raised where the result is asked for
            future.set_exception(error)


def _is_label(resource: str) -> bool:
    """Whether a resource is one that somebody has given to a node."""
    return resource not in {"CPU", "GPU", "memory", "object_store_memory"} and ":" not in resource


def _gib(node: Node) -> str:
    return f"{node.resources.get('memory', 0) / 2**30:.1f} GiB"
