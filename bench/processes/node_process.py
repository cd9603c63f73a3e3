"""A process for cells on the node of a cluster that has a label."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.bench.processes.cluster_node import Description
from peft_update_bench.bench.processes.executor import Wall
from peft_update_bench.bench.processes.ray_engine import Call, ClusterError
from peft_update_bench.bench.pytest_benchmark_session import this_machine

if TYPE_CHECKING:
    from peft_update_bench.bench.processes.cluster import Cluster

T = TypeVar("T")


class NodeProcess:
    """A :class:`~.cell_process.Process` on the node of a label. `machine_info` is pytest-benchmark's, of that node.

    Raises ClusterError.
    """

    def __init__(self, cluster: Cluster, wall: Wall, label: str, node: str, what: Description) -> None:
        self._cluster = cluster
        self._wall = wall
        self._label = label
        self._node = node
        self.made_on = what.made_on
        try:
            self.machine_info = self.call(this_machine)
        except MeasurementError as error:
            raise ClusterError(f"--on {label}: {error}") from None

    def begin(self, users_code: tuple[str, ...] = (), *, anew: bool = False) -> None:
        self._order("begin", None, users_code, anew=anew)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        return self._call("call", function, args)

    def call_fresh(self, function: Callable[..., T], *args: Any) -> T:
        return self._call("call_fresh", function, args)

    def call_forked(self, function: Callable[..., T], *args: Any) -> T:
        return self._call("call_forked", function, args)

    def close(self) -> None:
        self._cluster.close()

    def _call(self, method: str, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        result: T = pickle.loads(self._order(method, pickle.dumps((function, args))) or b"")
        return result

    def _order(
        self, method: str, packed: bytes | None, users_code: tuple[str, ...] = (), *, anew: bool = False
    ) -> bytes | None:
        answer = self._cluster.order(
            lambda number: Call(number, self._wall, self._label, self._node, method, packed, users_code, anew)
        ).result()
        result, failure = (None, answer) if isinstance(answer, str) else answer
        if failure:
            raise MeasurementError(f"{failure} (on {self.made_on.node}, the node of {self._label})")
        packed_result: bytes | None = result
        return packed_result
