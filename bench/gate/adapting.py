"""Verdicts on adaptation: accuracy against the baseline's, with a tolerance from the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import variance

from scipy.stats import t

from bench.gate.slowdown import FAMILY_ERROR
from bench.gate.verdict import Kind, Verdict
from bench.record import Adaptation, Record

COMPARISONS_PER_CELL = 3
"""Accuracy on the target, on the source, and what it takes to the target accuracy."""


@dataclass(frozen=True)
class Spread:
    """How far seeds scatter: a standard deviation of accuracies, as a fraction, and its degrees of freedom."""

    deviation: float
    freedom: int

    def tolerance(self, seeds_now: int, seeds_before: int, comparisons: int, images: int) -> float:
        """How far two means may be apart, as a fraction: Student's t for one of `comparisons` one-sided tests.

        At least two images' worth, because nothing finer than an image is measured, and no tie is exact.
        """
        # Šidák's correction (JASA 62, 1967).
        error = 1 - (1 - FAMILY_ERROR) ** (1 / comparisons)
        scale = self.deviation * math.sqrt(1 / seeds_now + 1 / seeds_before)
        return max(float(t.isf(error, self.freedom)) * scale, 2 / images)


def judge_adaptation(now: Record, before: Record, baseline: Iterable[Record]) -> Iterator[Verdict]:
    """Judge `now` against `before`, which is its cell's record in `baseline`.

    The rate of false alarms is controlled over a run that has every cell of the baseline. Seeds are those
    of the same architecture and task, whatever the method; where a cell's own scatter more, its own count.
    """
    new, old = now.adaptation, before.adaptation
    assert new is not None
    if old is None:
        yield Verdict("adaptation", "missing", note="the baseline has no such figure")
        return
    adapted = [(record.architecture, record.adaptation) for record in baseline if record.adaptation]
    comparisons = COMPARISONS_PER_CELL * len(adapted)
    peers = [found for architecture, found in adapted if architecture == now.architecture and found.task == new.task]
    spread = _spread([[run.curve[-1] for run in peer.runs] for peer in peers], [run.curve[-1] for run in old.runs])
    allowed = spread.tolerance(len(new.runs), len(old.runs), comparisons, new.settings.test_images)
    yield _judge_accuracy("accuracy_after", new.accuracy_after, old.accuracy_after, allowed)
    source = _spread(
        [[run.source_accuracy_after for run in peer.runs] for peer in peers],
        [run.source_accuracy_after for run in old.runs],
    )
    source_allowed = source.tolerance(len(new.runs), len(old.runs), comparisons, new.settings.test_images)
    yield _judge_accuracy("source_accuracy_after", new.source_accuracy_after, old.source_accuracy_after, source_allowed)
    yield from _judge_cost(now, before, peers, comparisons)


def _judge_accuracy(name: str, now: float, before: float, tolerance: float) -> Verdict:
    # Accuracies are counts of images divided: what is exactly at the limit must not depend on the last bit.
    change = round(now - before, 9)
    limit = round(tolerance, 9)
    return Verdict(
        f"adaptation.{name}",
        "regressed" if change < -limit else "improved" if change > limit else "ok",
        "accuracy",
        now,
        before,
        tolerance,
        "from the spread over seeds",
    )


def _judge_cost(now: Record, before: Record, peers: list[Adaptation], comparisons: int) -> Iterator[Verdict]:
    """FLOPs until the accuracy that the baseline's record aims at, less what seeds scatter on the way.

    One evaluation later is allowed: nothing finer is measured.
    """
    new, old = now.adaptation, before.adaptation
    assert new is not None
    assert old is not None
    if old.steps_to_target is None or old.target_accuracy is None or old.flops_to_target is None:
        return
    reached = old.evaluated_at.index(old.steps_to_target)
    spread = _spread(
        [[run.curve[reached] for run in peer.runs] for peer in peers], [run.curve[reached] for run in old.runs]
    )
    allowed = spread.tolerance(len(new.runs), len(old.runs), comparisons, new.settings.test_images)
    latest = old.evaluated_at[min(reached + 1, len(old.evaluated_at) - 1)]
    steps = new.steps_to(old.target_accuracy - allowed)
    flops = None if steps is None or now.flops is None else now.flops.of_steps(steps)
    note = f"to {old.target_accuracy:.1%} less {100 * allowed:.1f} points for the spread over seeds"
    if steps is None:
        yield Verdict(
            "adaptation.flops_to_target", "missing", "FLOPs", None, old.flops_to_target, note=f"never comes {note}"
        )
        return
    late = latest / old.steps_to_target - 1
    kind: Kind = "regressed" if steps > latest else "ok"
    yield Verdict("adaptation.flops_to_target", kind, "FLOPs", flops, old.flops_to_target, late, note)


def _spread(groups: list[list[float]], own: list[float]) -> Spread:
    """The pooled standard deviation of `groups`, or that of `own` where it is larger."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    pooled = sum((len(group) - 1) * variance(group) for group in several) / freedom
    return Spread(math.sqrt(max(pooled, variance(own) if len(own) > 1 else 0.0)), freedom)
