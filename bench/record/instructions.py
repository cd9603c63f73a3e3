"""What is recorded of a step's instructions: counts, what they hold for, and which functions they are of."""

from __future__ import annotations

from typing import Self

from peft_update_bench.bench.record.part import Count, Part
from pydantic import model_validator


class Conditions(Part):
    """What must agree before two counts may be compared, besides the workload."""

    valgrind: str
    libc: str
    machine: str
    python: str


class Instructions(Part):
    """Instructions of one ordinary update step, by phase; and of the step with the periodic work, where there is one.

    ``other`` is what the step does outside its phases. None of these hold ``attribute_searches``, of which Python needs
    more or fewer depending on where names lie; absent where the interpreter's functions have no names. The largest are
    listed of ``operators``, whose instructions include those of all that they call; of ``functions``, without those;
    and of ``python_calls``, how often each Python function is called in a step.
    """

    total: Count
    forward: Count
    backward: Count
    optimizer: Count
    zero_grad: Count
    other: Count
    periodic: Count | None = None
    attribute_searches: Count | None = None
    conditions: Conditions
    operators: dict[str, Count]
    functions: dict[str, Count]
    python_calls: dict[str, Count]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total != self.forward + self.backward + self.optimizer + self.zero_grad + self.other:
            raise ValueError("total is not the sum of its phases")
        return self


def incomparable(now: Instructions, before: Instructions) -> str:
    """Why two counts cannot be compared, empty where they can."""
    new, old = now.conditions.model_dump(), before.conditions.model_dump()
    differing = [f"{name} {new[name]}, the baseline's with {old[name]}" for name in new if new[name] != old[name]]
    if (now.attribute_searches is None) != (before.attribute_searches is None):
        which = ("without", "with") if now.attribute_searches is None else ("with", "without")
        differing.append(f"an interpreter {which[0]} names of functions, the baseline's {which[1]}")
    return f"counted with {'; '.join(differing)}" if differing else ""
