"""Verdicts on adaptation: accuracy against the baseline's, with a tolerance from the spread over seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import stdev

from peft_update_bench.bench.gate.spread import Spread, VariancePrior
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
class _Pair:
    """A cell's adaptation now and before.

    `sets` are the baseline's adaptations by architecture and task, whose seeds say how far accuracies scatter;
    `networks` is 0 where both updated the same network.
    """

    now: Adaptation
    before: Adaptation
    sets: Mapping[tuple[str, str], list[Adaptation]]
    architecture: str
    networks: float

    @property
    def peers(self) -> list[Adaptation]:
        return self.sets[self.architecture, self.now.task]

    def spread(self, figure: Callable[[AdaptationRun], float]) -> Spread:
        """The one of two that tolerates more.

        That pooled over the peers' seeds, with the standard deviation of the cell's own seeds where it is larger, is
        too narrow for a whole run where methods scatter differently; the cell's own one, with what the baseline says of
        how differently they do, is narrower where they scatter alike and it has few seeds.
        """
        sets = {key: tuple(tuple(map(figure, peer.runs)) for peer in peers) for key, peers in self.sets.items()}
        cells = sets[self.architecture, self.now.task]
        own = [figure(run) for run in self.before.runs]
        pooled = Spread.of(cells)
        deviation = max(pooled.deviation, stdev(own) if len(own) > 1 else 0.0)
        found = [replace(pooled, deviation=deviation)]
        prior = VariancePrior.of(tuple(sets.values()), self.now.settings.test_images)
        if math.isfinite(prior.freedom):
            found.append(prior.spread(own, cells))
        return max((replace(spread, networks=self.networks) for spread in found), key=self.tolerance)

    def tolerance(self, spread: Spread) -> float:
        comparisons = COMPARISONS_PER_CELL * sum(map(len, self.sets.values()))
        images = self.now.settings.test_images
        return spread.tolerance(len(self.now.runs), len(self.before.runs), comparisons, images)


def judge_adaptation(
    now: Record, before: Record, baseline: Iterable[Record], *, another_machine: bool = False
) -> Iterator[Verdict]:
    """Judge `now` against `before`, which is its cell's record in `baseline`.

    The rate of false alarms is controlled over a run that has every cell of the baseline. `another_machine` may have
    trained another network.
    """
    new, old = now.adaptation, before.adaptation
    assert new is not None
    if old is None:
        yield Verdict("adaptation", "missing", note="the baseline has no such figure")
        return
    sets = defaultdict[tuple[str, str], list[Adaptation]](list)
    for record in baseline:
        if record.adaptation:
            sets[record.architecture, record.adaptation.task].append(record.adaptation)
    networks = BETWEEN_NETWORKS if another_machine or not _same_network(new, old) else 0.0
    pair = _Pair(new, old, sets, now.architecture, networks)
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
