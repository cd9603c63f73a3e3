"""How long the whole study on Fashion-MNIST takes, from measured seconds of CPU time of one update and one training.

    python -m tests.studies.study_hours --update 100 --training 430

Six networks (the core matrix's four from random weights, MobileNetV2 and EfficientNet-Lite0 from ImageNet's), all
methods of the matrix `wide`, three shifts and unseen classes, five seeds. Nodes have one core each, and take updates as
``cluster_simulation.py`` says; a cluster's start is left out, which is seconds.
"""

from __future__ import annotations

import argparse

from peft_update_bench.bench.cells import Selection
from peft_update_bench.fixtures.architecture_names import CORE_ARCHITECTURES
from tabulate import tabulate

from tests.studies.cluster_simulation import Measured, makespan

NETWORKS = (*CORE_ARCHITECTURES, "mobilenet_v2", "efficientnet_lite0")
CONDITIONS = 4
TRAININGS_A_NETWORK = 2
"""Shifts start from the same network, and unseen classes from another."""
SEEDS = 5
NODES = (1, 2, 10, 100, 1000)
TASK = 0.0095
"""Seconds of a task that does nothing (bench/processes/cluster.md)."""
NETWORK_BYTES = 9_200_000
"""MobileNetV2's."""


def updates() -> int:
    return len(Selection("wide", architectures=NETWORKS).cells()) * CONDITIONS * SEEDS


def hours(nodes: int, update: float, training: float) -> float:
    """Of a wall clock, on `nodes` nodes of one core."""
    measured = Measured([], [], [], [], [update], 0.0, training, TASK, TASK, [NETWORK_BYTES])
    return makespan(measured, nodes, updates(), len(NETWORKS) * TRAININGS_A_NETWORK) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", type=float, required=True, metavar="SECONDS", help="of CPU time")
    parser.add_argument("--training", type=float, required=True, metavar="SECONDS", help="of CPU time")
    given = parser.parse_args()
    print(f"{updates():,} updates of {len(NETWORKS) * TRAININGS_A_NETWORK} networks")
    rows = [[nodes, f"{hours(nodes, given.update, given.training):,.1f} h"] for nodes in NODES]
    print(tabulate(rows, ["cores", "time"], tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
