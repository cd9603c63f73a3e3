"""In which blocks of a network a change is, of work or of what is trained, and which operators run more often."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peft_update_bench.bench.record import Record, Where
from peft_update_bench.bench.units import count, show_difference

NAMED = 3
"""So many blocks are named, those that moved most."""

_NEITHER = (0, 0, 0, 0)


def where_flops_moved(now: Record, before: Record) -> str:
    """The blocks whose FLOPs moved most, and what runs more often in all of these: ``features.18 +85.0 MFLOPs, and 3
    more blocks (convolution runs twice)``; empty where a record does not say where, or nothing moved."""
    if now.where is None or before.where is None:
        return ""
    moved = _moved(now.where, before.where, lambda entry: entry[0] + entry[1])
    operator = _moved_operator(now.where, before.where)
    often = {_how_often(operator, calls, calls_before) for _, _, calls, calls_before in moved[:NAMED]}
    return _told(moved, "FLOPs") + (f" ({often.pop()})" if len(often) == 1 and often != {""} else "")


def where_bytes_moved(now: Record, before: Record) -> str:
    """The blocks that make more bytes, or fewer; as :func:`where_flops_moved`."""
    if now.where is None or before.where is None:
        return ""
    return _told(_moved(now.where, before.where, lambda entry: entry[2]), "bytes")


def where_trained_moved(now: Record, before: Record) -> str:
    """The blocks that train another number of parameters; as :func:`where_flops_moved`."""
    new, old = (record.where.trained if record.where else None for record in (now, before))
    if new is None or old is None:
        return ""
    moved = [(block, new.get(block, 0) - old.get(block, 0), 0, 0) for block in {**old, **new}]
    return _told(sorted((one for one in moved if one[1]), key=lambda entry: -abs(entry[1])), "parameters")


def runs_more_often(now: Record, before: Record) -> str:
    """The operators that are called more often, new ones first: ``native_dropout 0 → 1 times, mul 2 → 3 times, and 4
    more operators``; empty as above, and where the FLOPs of a block moved, which says more."""
    if now.where is None or before.where is None or where_flops_moved(now, before):
        return ""
    calls = {name: (before.where.operators.get(name, (0, 0))[0], new) for name, (new, _) in now.where.operators.items()}
    more = [name for name, (old, new) in calls.items() if new > old]
    most = sorted(more, key=lambda name: (calls[name][0] > 0, calls[name][0] - calls[name][1], name))
    words = [f"{name} {calls[name][0]} → {calls[name][1]} times" for name in most[:NAMED]]
    if len(most) > NAMED:
        words.append(f"and {count(len(most) - NAMED, 'more operator')}")
    return ", ".join(words)


def _moved(now: Where, before: Where, figure: Callable[[Sequence[int]], int]) -> list[tuple[str, int, int, int]]:
    """Block, change, calls now and before of what moved, the most moved first."""
    found = []
    for block in {**before.blocks, **now.blocks}:
        new, old = now.blocks.get(block, _NEITHER), before.blocks.get(block, _NEITHER)
        if change := figure(new) - figure(old):
            found.append((block, change, new[3], old[3]))
    return sorted(found, key=lambda entry: -abs(entry[1]))


def _told(moved: Sequence[tuple[str, int, int, int]], unit: str) -> str:
    named = ", ".join(f"{block} {show_difference(change, unit)}" for block, change, _, _ in moved[:NAMED])
    more = f", and {count(len(moved) - NAMED, 'more block')}" if len(moved) > NAMED else ""
    return f"{named}{more}"


def _moved_operator(now: Where, before: Where) -> str:
    """The operator whose FLOPs moved most."""
    names = {**before.operators, **now.operators}
    return max(names, key=lambda n: abs(now.operators.get(n, (0, 0))[1] - before.operators.get(n, (0, 0))[1]))


def _how_often(operator: str, now: int, before: int) -> str:
    if now == before or not before:
        return ""
    if now == 2 * before:
        return f"{operator} runs twice"
    return f"{operator} runs {now} times, before {before}"
