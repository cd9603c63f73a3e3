"""A treemap: rectangles whose areas are figures, for the page's template to place in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import squarify

_LABELLED = (8.0, 12.0)
"""A box is labelled that takes at least so many hundredths of the widest treemap's width and of the height; the others
tell by being pointed at, and in the table."""


@dataclass(frozen=True)
class Shape:
    """What a box is of: its size, above 0, the class that colours it, and its words in brief and in full."""

    size: int
    kind: str
    label: str
    title: str


@dataclass(frozen=True)
class Box:
    """A rectangle, in hundredths of the treemap's width and height."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    label: str
    title: str


@dataclass(frozen=True)
class Treemap:
    """`share` is the width, in hundredths of the widest of several, so that their areas compare."""

    title: str
    share: float
    boxes: tuple[Box, ...]


def treemap(title: str, share: float, shapes: Sequence[Shape]) -> Treemap:
    """Lay `shapes` out in their order, which should be from the largest to the smallest."""
    sizes = squarify.normalize_sizes([shape.size for shape in shapes], 100, 100)
    boxes = []
    for shape, found in zip(shapes, squarify.squarify(sizes, 0, 0, 100, 100), strict=True):
        is_labelled = found["dx"] * share / 100 >= _LABELLED[0] and found["dy"] >= _LABELLED[1]
        boxes.append(
            Box(
                found["x"], found["y"], found["dx"], found["dy"],
                shape.kind, shape.label if is_labelled else "", shape.title,
            )
        )  # fmt: skip
    return Treemap(title, share, tuple(boxes))
