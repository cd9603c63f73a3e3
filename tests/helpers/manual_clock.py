"""A machine whose clocks tests turn by hand, so that no test of latency depends on how fast anything is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from peft_update_bench.fixtures.instruments.latency.clock import Clock
from peft_update_bench.fixtures.instruments.latency.paired import PairedSample, SamplingLimits, measure

MS = 1_000_000
SHORT = SamplingLimits(warm_up_rounds=0, min_rounds=4, max_rounds=12, budget_seconds=1e6, max_refreshes=4)


@dataclass
class Machine:
    """Three clocks and the steps that turn them. `calls` are the steps' names in the order they ran."""

    wall: int = 0
    cpu: int = 0
    queued: int = 0
    calls: list[str] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.cpu, lambda: self.queued)

    def step(
        self, name: str, cpu_ms: Iterator[float], asleep_ms: float = 0.0, queued_ms: Iterator[float] | None = None
    ) -> Callable[[], None]:
        def run() -> None:
            cpu, queued = next(cpu_ms), 0.0 if queued_ms is None else next(queued_ms)
            self.calls.append(name)
            self.cpu += round(cpu * MS)
            self.queued += round(queued * MS)
            self.wall += round((cpu + asleep_ms + queued) * MS)

        return run


def sampled(
    step_ms: Iterator[float], reference_ms: Iterator[float], limits: SamplingLimits = SHORT, asleep_ms: float = 0.0
) -> PairedSample:
    machine = Machine()
    step = machine.step("step", step_ms, asleep_ms)
    return measure(step, machine.step("reference", reference_ms), limits=limits, clock=machine.clock)


def noisy(middle: float, seed: int, spread: float = 0.04) -> Iterator[float]:
    random = np.random.default_rng(seed)
    while True:
        yield middle * math.exp(random.normal(0, spread))
