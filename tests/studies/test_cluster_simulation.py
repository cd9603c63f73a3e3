"""The list schedule, where its answer can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.studies.cluster_simulation import LINK, Measured, makespan

FREE = Measured([1.0], [1.0], [1.0], [1.0], [10.0], start=0, training=0, engine_task=0, local_task=0, network_bytes=[0])


@pytest.mark.parametrize(
    ("nodes", "updates", "seconds"), [(1, 12, 120), (2, 12, 60), (5, 12, 30), (12, 12, 10), (13, 12, 10)]
)
def test_updates_are_dealt_to_whoever_is_free(nodes: int, updates: int, seconds: float) -> None:
    assert makespan(FREE, nodes, updates, 1) == seconds


def test_nothing_begins_before_its_network_is_trained() -> None:
    training = replace(FREE, start=5, training=20)
    assert makespan(training, 2, 2, 2) == 5 + 20 + 10
    assert makespan(training, 1, 2, 2) == 5 + 2 * 20 + 2 * 10, "one node trains both"


def test_a_network_comes_to_each_node_once_and_one_after_the_other() -> None:
    second = replace(FREE, network_bytes=[int(LINK)])
    assert makespan(second, 1, 3, 1) == 1 + 30
    assert makespan(second, 3, 3, 1) == 3 + 10


def test_the_driver_hands_out_one_task_after_the_other() -> None:
    slow = replace(FREE, engine_task=4)
    assert makespan(slow, 3, 3, 1) == 3 * 4 + 10
