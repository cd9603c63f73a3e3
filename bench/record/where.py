"""What is recorded of where a step's work is done."""

from __future__ import annotations

from typing import Annotated

from peft_update_bench.bench.record.part import Count, Part
from pydantic import Field


class Where(Part):
    """The work of one ordinary step by block of the network, and by operator.

    Of each of ``blocks``: FLOPs of the forward pass, of the backward pass, bytes that were made, and calls of its
    dearest operator in the forward pass. Of each of ``operators``: calls and FLOPs. Numbers without names, because
    there are many of them in a line of a baseline. ``trained`` are parameters by block, of those that have some; the
    first records of schema 3 lack it.
    """

    blocks: dict[str, Annotated[list[Count], Field(min_length=4, max_length=4)]]
    operators: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]]
    trained: dict[str, Count] | None = None
