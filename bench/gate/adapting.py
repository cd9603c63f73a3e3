"""Verdicts on adaptation: accuracy against the baseline's, with a tolerance from the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import stdev, variance
from typing import Self

from peft_update_bench.bench.gate.slowdown import FAMILY_ERROR
from peft_update_bench.bench.gate.verdict import Kind, Verdict
from peft_update_bench.bench.record import Adaptation, AdaptationRun, Flops, Record

COMPARISONS_PER_CELL = 3
"""Accuracy on the target, on the source, and what it takes to the target accuracy."""


BETWEEN_NETWORKS = 0.025
"""Standard deviation of an accuracy after the same update between networks whose training differs by rounding, as a
fraction, on top of what seeds of the update scatter. A machine that rounds otherwise trains another network.

``python -m tests.studies.network_spread``, MobileNetV2 and MobileNetV3-Small: 0.0 to 4.2 points by network, task and
data, 2.5 together.
"""


@dataclass(frozen=True)
class Spread:
    """How far accuracies scatter that should be the same.

    ``deviation`` is the seeds' standard deviation, as a fraction, with its degrees of freedom; ``networks`` is that
    between networks, where two of them are compared.
    """

    deviation: float
    freedom: int
    networks: float = 0.0

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> Self:
        """That of groups of accuracies, each of the seeds of one cell, pooled; at least one has two seeds or more."""
        freedom = sum(len(group) - 1 for group in groups)
        squares = sum((len(group) - 1) * variance(group) for group in groups if len(group) > 1)
        return cls(math.sqrt(squares / freedom), freedom)

    @property
    def cause(self) -> str:
        return "the spread over seeds" + (" and between networks" if self.networks else "")

    def tolerance(self, seeds_now: int, seeds_before: int, comparisons: int, images: int) -> float:
        """How far two means may be apart, as a fraction: Student's t for one of `comparisons` one-sided tests.

        At least two images' worth, because nothing finer than an image is measured, and no tie is exact.
        """
        # Šidák's correction (JASA 62, 1967).
        error = 1 - (1 - FAMILY_ERROR) ** (1 / comparisons)
        scale = math.hypot(self.deviation * math.sqrt(1 / seeds_now + 1 / seeds_before), self.networks * math.sqrt(2))
        from scipy.stats import t  # seconds, which no run without accuracies should wait for

        return max(float(t.isf(error, self.freedom)) * scale, 2 / images)


@dataclass(frozen=True)
class _Pair:
    """A cell's adaptation now and before. `peers` are those in the baseline whose seeds say how far accuracies scatter;
    `networks` is 0 where both updated the same network."""

    now: Adaptation
    before: Adaptation
    peers: list[Adaptation]
    comparisons: int
    networks: float

    def spread(self, figure: Callable[[AdaptationRun], float]) -> Spread:
        """The pooled standard deviation of the peers' seeds, or that of the cell's own where it is larger."""
        groups = [[figure(run) for run in peer.runs] for peer in self.peers if len(peer.runs) > 1]
        own = [figure(run) for run in self.before.runs]
        pooled = Spread.of(groups)
        deviation = max(pooled.deviation, stdev(own) if len(own) > 1 else 0.0)
        return replace(pooled, deviation=deviation, networks=self.networks)

    def tolerance(self, spread: Spread) -> float:
        images = self.now.settings.test_images
        return spread.tolerance(len(self.now.runs), len(self.before.runs), self.comparisons, images)


def judge_adaptation(
    now: Record, before: Record, baseline: Iterable[Record], *, another_machine: bool = False
) -> Iterator[Verdict]:
    """Judge `now` against `before`, which is its cell's record in `baseline`.

    The rate of false alarms is controlled over a run that has every cell of the baseline. Seeds are those of the same
    architecture and task, whatever the method; where a cell's own scatter more, its own count. `another_machine` may
    have trained another network.
    """
    new, old = now.adaptation, before.adaptation
    assert new is not None
    if old is None:
        yield Verdict("adaptation", "missing", note="the baseline has no such figure")
        return
    adapted = [(record.architecture, record.adaptation) for record in baseline if record.adaptation]
    pair = _Pair(
        new,
        old,
        [found for architecture, found in adapted if architecture == now.architecture and found.task == new.task],
        COMPARISONS_PER_CELL * len(adapted),
        BETWEEN_NETWORKS if another_machine or not _same_network(new, old) else 0.0,
    )
    if all(len(peer.runs) < 2 for peer in pair.peers):
        yield Verdict("adaptation", "not comparable", note="adapted with one seed, which says nothing of the spread")
        return
    yield _judge_accuracy(pair, "accuracy_after", lambda run: run.curve[-1])
    yield _judge_accuracy(pair, "source_accuracy_after", lambda run: run.source_accuracy_after)
    if old.steps_to_target is not None and old.target_accuracy is not None and old.flops_to_target is not None:
        yield _judge_cost(pair, now.flops, old.steps_to_target, old.target_accuracy, old.flops_to_target)


def _same_network(new: Adaptation, old: Adaptation) -> bool:
    """Whether both found the same accuracy on the source data before anything was done to the network.

    Accuracy on the target before the update says less: a method may be what moved it.
    """
    # Of as many equal accuracies the mean may differ from them in the last bit, which depends on how many there are.
    return round(new.source_accuracy_before, 9) == round(old.source_accuracy_before, 9)


def _judge_accuracy(pair: _Pair, name: str, figure: Callable[[AdaptationRun], float]) -> Verdict:
    now, before = (getattr(adaptation, name) for adaptation in (pair.now, pair.before))
    spread = pair.spread(figure)
    tolerance = pair.tolerance(spread)
    # Accuracies are counts of images divided: what is exactly at the limit must not depend on the last bit.
    change = round(now - before, 9)
    limit = round(tolerance, 9)
    kind: Kind = "regressed" if change < -limit else "improved" if change > limit else "ok"
    return Verdict(f"adaptation.{name}", kind, "accuracy", now, before, tolerance, f"from {spread.cause}")


def _judge_cost(pair: _Pair, flops: Flops | None, steps_before: int, target: float, flops_before: int) -> Verdict:
    """FLOPs until the accuracy that the baseline's record aims at; or, where that comes too late, until it less what
    accuracies scatter on the way.

    One evaluation later is allowed: nothing finer is measured.
    """
    evaluated_at = pair.before.evaluated_at
    reached = evaluated_at.index(steps_before)
    latest = evaluated_at[min(reached + 1, len(evaluated_at) - 1)]
    spread = pair.spread(lambda run: run.curve[reached])
    allowed = pair.tolerance(spread)
    steps = pair.now.steps_to(target)
    if steps is None or steps > latest:
        steps = pair.now.steps_to(target - allowed)
    note = f"to {target:.1%} less {100 * allowed:.1f} points for {spread.cause}"
    name = "adaptation.flops_to_target"
    if steps is None:
        return Verdict(name, "missing", "FLOPs", None, flops_before, note=f"never comes {note}")
    kind: Kind = "regressed" if steps > latest else "ok"
    late = latest / steps_before - 1
    return Verdict(name, kind, "FLOPs", flops.of_steps(steps) if flops else None, flops_before, late, note)
