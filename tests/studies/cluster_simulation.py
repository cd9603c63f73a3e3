"""How long a cluster would take for adaptation's updates, from times that were measured (``cluster_speed.py``).

A list schedule: whichever node of one core is free takes the next update. Networks are trained first, each by one node;
each comes once to every node that needs it, over the link of the node that has it; one driver hands out one task after
the other.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from statistics import fmean

from tabulate import tabulate

LINK = 125e6
"""Bytes a second between nodes: 1 Gbit/s."""

HEADERS = ["updates", "networks", "nodes", "time", "faster than one", "of what the nodes could"]


@dataclass(frozen=True)
class Measured:
    """Seconds of the same updates by one node and by two, by one process of this machine and by two, and of each update
    alone; of a cluster's start, of a training, and of a task that does nothing, by the engine and by processes of this
    machine; and the bytes of each network."""

    one_node: list[float]
    two_nodes: list[float]
    one_process: list[float]
    two_processes: list[float]
    update: list[float]
    start: float
    training: float
    engine_task: float
    local_task: float
    network_bytes: list[int]


def makespan(measured: Measured, nodes: int, updates: int, networks: int) -> float:
    """Seconds for `updates` updates of as many `networks` by `nodes` nodes of one core."""
    transfer = fmean(measured.network_bytes) / LINK
    trained = [measured.start + measured.training * (1 + index // nodes) for index in range(networks)]
    # A node trains every so many-th network, and is free when it has trained its last.
    free = [(measured.start + measured.training * len(range(node, networks, nodes)), node) for node in range(nodes)]
    heapq.heapify(free)
    link_free = list(trained)
    has: set[tuple[int, int]] = set()
    handed_out = 0.0
    for update in range(updates):
        network = update * networks // updates
        at, node = heapq.heappop(free)
        handed_out = begin = max(handed_out + measured.engine_task, at, trained[network])
        if (node, network) not in has:
            has.add((node, network))
            link_free[network] = begin = max(begin, link_free[network]) + transfer
        heapq.heappush(free, (begin + measured.update[update % len(measured.update)], node))
    return max(at for at, _ in free)


def table(measured: Measured) -> str:
    """Markdown: the benchmark's default, 1,000 and 10,000 updates on 10, 100 and 1,000 nodes."""
    rows = []
    for updates, networks in ((96, 4), (1000, 8), (10000, 18)):
        one = makespan(measured, 1, updates, networks)
        for nodes in (10, 100, 1000):
            took = makespan(measured, nodes, updates, networks)
            faster = one / took
            rows.append([updates, networks, nodes, f"{took / 60:.1f} min", f"{faster:.0f} ×", f"{faster / nodes:.0%}"])
    return tabulate(rows, HEADERS, tablefmt="pipe")
