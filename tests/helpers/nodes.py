"""A cluster of Ray's on this machine: a head that gives no core, and nodes that give some, each as if it were another
machine, with a folder of its own for trained networks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Everything on 127.0.0.1, so that no other address of this machine need be reachable.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A node that is killed is known to be within two seconds, not fifteen.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
STORE_BYTES = 200_000_000


class Nodes:
    """The cluster; `address` is what ``--cluster`` takes."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._folder = folder
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, **self._usual("head")},
        )
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, name: str, cores: int = 1, environment: Mapping[str, str] | None = None, **given: Any) -> None:
        usual = self._usual(name)
        usual["env_vars"] |= environment or {}
        self._nodes[name] = self._cluster.add_node(num_cpus=cores, **{**usual, **given})

    @property
    def names(self) -> list[str]:
        """Of the nodes that were added and not killed, the oldest first."""
        return list(self._nodes)

    def remove(self, name: str) -> None:
        self._cluster.remove_node(self._nodes.pop(name))

    def kill_node(self, name: str) -> None:
        """Kill a node's raylet, with which its workers end."""
        _kill(self._nodes.pop(name), "raylet")

    def workers(self) -> list[psutil.Process]:
        """Ray's worker processes that do tasks, and the processes behind their walls."""
        found = []
        for node in self._nodes.values():
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            for worker in raylet.children():
                with suppress(psutil.Error):  # it has ended meanwhile
                    if "ray::do_task" in " ".join(worker.cmdline()):
                        found += [worker, *worker.children(recursive=True)]
        return found

    def kill_head(self) -> None:
        _kill(self._cluster.head_node, "gcs_server")

    def close(self) -> None:
        self._cluster.shutdown()

    def _usual(self, name: str) -> dict[str, Any]:
        return {
            "node_ip_address": "127.0.0.1",
            "node_name": name,
            "object_store_memory": STORE_BYTES,
            "memory": 2**34,
            "env_vars": {**SETTINGS, "XDG_CACHE_HOME": str(self._folder / name)},
        }


@contextmanager
def nodes_of(folder: Path, *names: str) -> Iterator[Nodes]:
    """A cluster with nodes of one core. The settings stay in this process's environment meanwhile."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ |= SETTINGS
    nodes = Nodes(folder)
    try:
        for name in names:
            nodes.add(name)
        yield nodes
    finally:
        nodes.close()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _kill(node: Any, kind: str) -> None:
    process = node.all_processes[kind][0].process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
