"""The statements on accuracy, taken from a run's adaptation records; without them each is "not measured in this run".

The study's profiler has no say in accuracy, so there is no answer by its definition. Data and networks are others than
the study's (ImageNet, CIFAR-10-C, Visual Wake Words): what does not hold here may hold there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, stdev

from peft_update_bench.bench.record import Adaptation, Record
from peft_update_bench.bench.study.statement import WITHIN, Answer, Outcome, Statement, reaches

ABOUT_TWICE = (1.6, 2.4)
"""Ratios that read as "about twice": twice, give or take a fifth."""

COMPARED = ("galore", "dora", "lora", "bn_head")
"""The methods that the study compares with full fine-tuning."""

Records = Sequence[Record]
Pair = tuple[Record, Adaptation, Record, Adaptation]

NOT_MEASURED = Outcome("needs a run with --metrics adaptation", None)


def _adapted(records: Records) -> Iterator[tuple[Record, Adaptation]]:
    return ((record, record.adaptation) for record in records if record.adaptation is not None)


def _pairs(records: Records, left: str, right: str) -> list[Pair]:
    """Cells of method `left` beside those of method `right` that differ in the method alone.

    A method without a rank stands beside every rank of the other.
    """
    return [
        (one, one_adaptation, other, other_adaptation)
        for one, one_adaptation in _adapted(records)
        for other, other_adaptation in _adapted(records)
        if (one.method, other.method) == (left, right)
        and (one.architecture, one.workload) == (other.architecture, other.workload)
        and (one_adaptation.task, one_adaptation.settings) == (other_adaptation.task, other_adaptation.settings)
        and (one.rank is None or other.rank is None or one.rank == other.rank)
    ]


def _behind(records: Records, method: str) -> list[tuple[float, Record]]:
    """How far a method's accuracy is behind full fine-tuning's, cell by cell."""
    return [
        (full_adaptation.accuracy_after - adaptation.accuracy_after, record)
        for record, adaptation, _full, full_adaptation in _pairs(records, method, "fft")
    ]


def _galore_is_steadiest(records: Records) -> Outcome:
    """Steady is what stays equally far from full fine-tuning, whatever network, rank and task are.

    Accuracies themselves would tell networks and tasks apart, not methods: they scatter most by how hard a task is.
    """
    behind = {method: [gap for gap, _ in _behind(records, method)] for method in COMPARED}
    scatter = {method: stdev(gaps) for method, gaps in behind.items() if len(gaps) > 1}
    if not {"galore", "lora", "dora"} <= scatter.keys():
        return NOT_MEASURED
    ranked = sorted(scatter, key=lambda method: scatter[method])
    words = ", ".join(f"{method} {scatter[method] * 100:.1f}" for method in ranked)
    return Outcome(
        "standard deviation, in points, of the distance from fft over every network, rank and task of the run",
        Answer(words, scatter["galore"] == min(scatter.values())),
    )


def _galore_is_close(records: Records) -> Outcome:
    """Close on the whole: the mean distance. The worst cell is named."""
    behind = _behind(records, "galore")
    if not behind:
        return NOT_MEASURED
    distance = fmean(abs(gap) for gap, _ in behind)
    worst, where = max(behind, key=lambda pair: abs(pair[0]))
    return Outcome(
        "mean distance from fft over every network, rank and task of the run; close is within 5 points",
        Answer(
            f"{distance * 100:.1f} points in the mean, {abs(worst) * 100:.1f} at most ({where.cell})",
            distance <= WITHIN,
        ),
    )


def _lora_and_dora(records: Records) -> Outcome:
    pairs = [pair for pair in _pairs(records, "lora", "dora") if pair[0].architecture.startswith("mobilenet")]
    if not pairs:
        return NOT_MEASURED
    apart = [(abs(a.accuracy_after - b.accuracy_after), record) for record, a, _, b in pairs]
    most, where = max(apart, key=lambda pair: pair[0])
    mean = fmean(gap for gap, _ in apart)
    return Outcome(
        f"the most of {len(pairs)} pairs of equal MobileNet, rank and task",
        Answer(f"{most * 100:.1f} points at most ({where.cell}), {mean * 100:.1f} in the mean", reaches(0.20, most)),
    )


def _batch_norm_and_head(records: Records) -> Outcome:
    shifted = [record for record, adaptation in _adapted(records) if adaptation.task == "shift"]
    behind = _behind(shifted, "bn_head")
    if not behind:
        return NOT_MEASURED
    worst, where = max(behind, key=lambda pair: pair[0])
    settings = where.adaptation.settings if where.adaptation else None
    shift = f"{settings.corruption}, severity {settings.severity}" if settings else ""
    words = ", ".join(f"{record.architecture} {gap * 100:.1f}" for gap, record in behind)
    return Outcome(
        f"the most points behind fft over the run's networks; shift task: {shift}",
        Answer(f"{worst * 100:.1f} points at most ({words})", reaches(0.40, worst)),
    )


def _iterations(records: Records) -> Outcome:
    """ "About twice" is what is usual: the median, in which a pair counts where one of the two never gets there.

    Leaving those out would make the slower method look faster, and a mean cannot take them.
    """
    ratios = []
    shares = set()
    for _, lora, _, galore in _pairs(records, "lora", "galore"):
        shares.add(f"{lora.target_share:.0%}")
        if lora.steps_to_target is not None or galore.steps_to_target is not None:
            ratios.append((lora.steps_to_target or math.inf) / (galore.steps_to_target or math.inf))
    if not ratios:
        return NOT_MEASURED
    middle = median(ratios)
    low, high = ABOUT_TWICE
    reached = [ratio for ratio in ratios if 0 < ratio < math.inf]
    words = [f"{middle:.1f} times in the median" if math.isfinite(middle) else "LoRA does not get there in most pairs"]
    if reached:
        words.append(f"{min(reached):.1f} to {max(reached):.1f} where both get there")
    for count, who in ((ratios.count(math.inf), "GaLore"), (ratios.count(0), "LoRA")):
        if count:
            words.append(f"only {who} gets there in {count}")
    return Outcome(
        f"steps to {' or '.join(sorted(shares))} of fft's gain, "
        f"median of {len(ratios)} pairs of equal network, rank and task",
        Answer(", ".join(words), low <= middle <= high),
    )


STATEMENTS: tuple[Statement, ...] = (
    Statement(
        "GaLore's accuracy is the steadiest",
        "the steadiest",
        "secondary",
        _galore_is_steadiest,
        "reproduced",
    ),
    Statement(
        "GaLore's accuracy is close to full fine-tuning's",
        "close",
        "secondary",
        _galore_is_close,
        "reproduced",
    ),
    Statement(
        "LoRA and DoRA are up to 20 points apart on MobileNets",
        "up to 20 points",
        "secondary",
        _lora_and_dora,
        "not reproduced",
    ),
    Statement(
        "BN+H is up to 40 points behind on hard shifts",
        "up to 40 points",
        "secondary",
        _batch_norm_and_head,
        "not reproduced",
    ),
    Statement(
        "LoRA needs about twice GaLore's iterations",
        "about twice",
        "secondary",
        _iterations,
        "not reproduced",
    ),
)
