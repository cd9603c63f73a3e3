"""Which operators an optimizer's step no longer calls, or calls less often."""

from __future__ import annotations

from peft_update_bench.bench.record import Flops

NAMED = 5
"""At most so many operators are named."""


def left_out(now: Flops, before: Flops) -> list[str]:
    """One line, or none where nothing is left out or the baseline does not say what there was."""
    new, old = now.optimizer_operators, before.optimizer_operators
    if new is None or old is None:
        return []
    fewer = {name: (count, new.get(name, 0)) for name, count in old.items() if new.get(name, 0) < count}
    if not fewer:
        return []
    most = sorted(fewer, key=lambda name: (fewer[name][1] - fewer[name][0], name))
    words = [f"{name} {fewer[name][0]} → {fewer[name][1]} times" for name in most[:NAMED]]
    more = f" and {len(most) - NAMED} more operators" if len(most) > NAMED else ""
    return [f"the optimizer's step calls {', '.join(words)}{more}"]
