"""Which functions a change in instructions is of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

from peft_update_bench.bench.record.instructions import Instructions
from peft_update_bench.bench.units import show, show_difference, show_fraction
from peft_update_bench.fixtures.instruments.instructions.counted import LISTED

LINES = 5
"""At most so many lines say what moved."""

_LEAST_SHARE = 0.05
"""Of the change of the whole step, below which an operator or a function is not named."""


def what_moved(now: Instructions, before: Instructions) -> list[str]:
    """Up to five lines: the phases that moved; then functions, operators and Python functions, the most moved first.

    What moved most is so by difference and share together: a large operator moves by a few per mille for no reason but
    where memory lies, which may be more than a small one that was added. A Python function goes by its ratio alone:
    what was added has a large one, and what it calls, and others call too, a small one.

    Only the largest are recorded. What is on one side's list alone is compared with the least on the other's, which it
    was below.
    """
    difference = now.total - before.total
    lines = [_phases(now, before)]
    least = _LEAST_SHARE * abs(difference)
    operators = _moved(now.operators, before.operators, least, _by_instructions)
    functions = _moved(now.functions, before.functions, least, _by_instructions)
    calls = _moved(now.python_calls, before.python_calls, 0, _by_ratio)
    lines += [f"operator {_in_words(*moved)}" for moved in operators[:1]]
    lines += [f"function {_in_words(*moved)}" for moved in functions[:1]]
    lines += [f"Python function {name} called {old} → {new} times" for name, old, new in calls[:2]]
    lines += [f"function {_in_words(*moved)}" for moved in functions[1:]]
    return [f"  {line}" if index else line for index, line in enumerate(lines[:LINES])]


def _phases(now: Instructions, before: Instructions) -> str:
    phases = ("forward", "backward", "optimizer", "zero_grad", "other")
    changes = {phase: getattr(now, phase) - getattr(before, phase) for phase in phases}
    largest = sorted(changes, key=lambda phase: -abs(changes[phase]))
    words = [f"{phase} {show_difference(changes[phase], 'instructions')}" for phase in largest if changes[phase]]
    return f"instructions moved in {', '.join(words[:3])}:" if words else "instructions moved in no phase:"


_Moved = tuple[str, int, int]
"""Name, before and now."""


def _moved(
    now: Mapping[str, int], before: Mapping[str, int], least: float, order: Callable[[_Moved], tuple[object, ...]]
) -> list[_Moved]:
    """What moved by more than `least`, in this order."""
    return sorted((moved for moved in _pairs(now, before) if abs(moved[2] - moved[1]) > least), key=order)


def _ratio(old: int, new: int) -> float:
    """Of the larger to the smaller."""
    return max(old, new) / max(1, min(old, new))


def _by_instructions(moved: _Moved) -> tuple[object, ...]:
    name, old, new = moved
    return -((new - old) ** 2) / max(old, new), name


def _by_ratio(moved: _Moved) -> tuple[object, ...]:
    """Of what is called as often, Python's own library comes last: a logger after the function that logs."""
    name, old, new = moved
    return -_ratio(old, new), -abs(new - old), name.partition(".")[0] in sys.stdlib_module_names, name


def _pairs(now: Mapping[str, int], before: Mapping[str, int]) -> Iterator[_Moved]:
    unlisted_now, unlisted_before = _most_of_the_unlisted(now), _most_of_the_unlisted(before)
    for name in sorted({*now, *before}):
        new = now[name] if name in now else min(unlisted_now, before[name])
        old = before[name] if name in before else min(unlisted_before, now[name])
        yield name, old, new


def _most_of_the_unlisted(counts: Mapping[str, int]) -> int:
    """No more than this has what is not listed; nothing where the list is complete."""
    return min(counts.values()) if len(counts) >= LISTED else 0


def _in_words(name: str, old: int, new: int) -> str:
    fraction = f", {show_fraction(new / old - 1)}" if old else ""
    moved = show_difference(new - old, "instructions")
    return f"{name}: {show(old, 'instructions')} → {show(new, 'instructions')} ({moved}{fraction})"
