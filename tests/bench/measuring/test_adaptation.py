"""What an adaptation's record makes of the outcomes of its seeds."""

from __future__ import annotations

import torch
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.adaptation import record
from peft_update_bench.bench.options.adaptation import AdaptationOptions
from peft_update_bench.bench.processes.update_runs import Found
from peft_update_bench.bench.record import AdaptationSettings
from peft_update_bench.fixtures.methods.fft import FullFineTuning
from peft_update_bench.fixtures.network import Network
from peft_update_bench.fixtures.training.adaptation import Outcome
from peft_update_bench.fixtures.training.plan import Plan
from peft_update_bench.fixtures.workload import Workload

from tests.helpers.adaptation_records import SETTINGS
from tests.helpers.holding_steps import Replacing


class ReplacingStates(FullFineTuning):
    def optimizer(self, network: Network, rank: int | None) -> torch.optim.Optimizer:
        return Replacing(network.module.parameters())


CELL = Cell("mobilenet_v3_small", "head", None, "shift")
PLAN = Plan(steps=2, batch_size=2)
SHIFT = AdaptationSettings(**{**SETTINGS, "steps": PLAN.steps}, corruption="fog", severity=5)


def test_what_is_gained_or_reached_exactly_counts() -> None:
    """In binary 0.15 - 0.1 is less than 0.05, and 0.1 + 0.8 × (0.2 - 0.1) more than 0.18."""
    outcome = Outcome([0.1, 0.18, 0.15], 0.9, 0.9)
    reference = Outcome([0.1, 0.1, 0.2], 0.9, 0.9)
    options = AdaptationOptions(plan=PLAN, settings={"shift": SHIFT}, seeds=1)
    found = record(CELL, Workload(batch_size=2, image_size=32), options, [Found(outcome, None)], [reference]).adaptation
    assert found is not None
    assert (found.adapted, found.steps_to_target) == (True, 1)


def test_an_optimizer_without_a_learning_rate_is_recorded_without_one() -> None:
    cell = Cell("mobilenet_v3_small", f"{__name__}:ReplacingStates", None, "shift")
    found = Found(Outcome([0.1, 0.2, 0.3], 0.9, 0.9), None)
    options = AdaptationOptions(plan=PLAN, settings={"shift": SHIFT}, seeds=1)
    written = record(cell, Workload(batch_size=2, image_size=32), options, [found], [found.outcome]).as_extra_info()
    assert "learning_rate" not in written["adaptation"]
    assert written["workload"]["optimizer"] == "Replacing"
