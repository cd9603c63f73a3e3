"""Which operators an optimizer's step calls less often, in the words of a message."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.gate.left_out import NAMED, left_out
from peft_update_bench.bench.record import Flops

from tests.helpers.records import record

MANY = {f"aten.op{number}": 1 for number in range(NAMED + 1)}


def flops(operators: dict[str, int] | None) -> Flops:
    found = record().flops
    assert found is not None
    return found.model_copy(update={"optimizer_operators": operators})


@pytest.mark.parametrize(
    ("now", "before", "lines"),
    [
        ({"a": 1, "b": 5}, {"a": 1, "b": 3}, []),
        ({"b": 2}, {"b": 3, "a": 0}, ["the optimizer's step calls b 3 → 2 times"]),
        (
            {"a": 1, "b": 3, "same": 4},
            {"a": 2, "b": 9, "c": 1, "same": 4},
            ["the optimizer's step calls b 9 → 3 times, a 2 → 1 times, c 1 → 0 times"],
        ),
        # As many as are named, and one more.
        (
            {"aten.op5": 1},
            MANY,
            ["the optimizer's step calls " + ", ".join(f"aten.op{number} 1 → 0 times" for number in range(NAMED))],
        ),
        (
            {},
            {**MANY, "aten.op6": 1},
            [
                "the optimizer's step calls "
                + ", ".join(f"aten.op{number} 1 → 0 times" for number in range(NAMED))
                + " and 2 more operators"
            ],
        ),
        (None, {"a": 1}, []),
        ({"a": 1}, None, []),
    ],
)
def test_what_is_called_less_often(now: dict[str, int] | None, before: dict[str, int] | None, lines: list[str]) -> None:
    """The most first, of two alike the first by name."""
    assert left_out(flops(now), flops(before)) == lines
