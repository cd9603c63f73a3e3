"""The faults: each a small change to methods, networks or the update step, as it happens to people who maintain them.

A fault patches the code under test, never an instrument or the gate. It is named, so that it can also be put into a
process that measures memory.
"""

from __future__ import annotations

from tests.sabotage.faults import adapting, galore, growing, head_and_full, lasting, lora, measured, step
from tests.sabotage.faults.registry import FAULTS

__all__ = ["FAULTS", "adapting", "galore", "growing", "head_and_full", "lasting", "lora", "measured", "step"]
