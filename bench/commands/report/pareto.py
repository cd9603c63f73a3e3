"""The Pareto front: what no other choice beats in both cost and accuracy."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, accuracy) that no other point beats: by being as good in both and better in one.

    Equal points are all on the front, or none is. In the order of rising cost.
    """
    return sorted(
        (
            index
            for index, (cost, accuracy) in enumerate(points)
            if not any(
                other_cost <= cost and other_accuracy >= accuracy and (other_cost, other_accuracy) != (cost, accuracy)
                for other_cost, other_accuracy in points
            )
        ),
        key=lambda index: points[index],
    )
