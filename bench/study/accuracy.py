"""The claims on accuracy, taken from a run's adaptation records; without them each is "not measured in this run"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from peft_update_bench.bench.record import Adaptation, Record
from peft_update_bench.bench.study.statements import WITHIN, Claim, Outcome, Verdict, reaches

ABOUT_TWICE = (1.6, 2.4)
"""Ratios that read as "about twice": twice, give or take a fifth."""

Records = Sequence[Record]
Pair = tuple[Record, Adaptation, Record, Adaptation]

NOT_MEASURED = Outcome("–", "needs a run with --metrics adaptation", "not measured in this run")


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


def _galore_is_steady(records: Records) -> Outcome:
    behind = {method: _behind(records, method) for method in ("galore", "lora", "dora")}
    if not all(behind.values()):
        return NOT_MEASURED
    spans = {method: max(gap for gap, _ in found) - min(gap for gap, _ in found) for method, found in behind.items()}
    worst, where = max(behind["galore"], key=lambda pair: abs(pair[0]))
    steady = spans["galore"] <= min(spans["lora"], spans["dora"])
    verdict: Verdict = "reproduced" if steady and abs(worst) <= WITHIN else "not reproduced"
    told = ", ".join(f"{method} {span * 100:.1f}" for method, span in spans.items())
    return Outcome(
        f"at most {abs(worst) * 100:.1f} points from fft ({where.cell}); distances from fft span, in points: {told}",
        "every architecture, rank and task of the run",
        verdict,
    )


def _lora_and_dora(records: Records) -> Outcome:
    pairs = [pair for pair in _pairs(records, "lora", "dora") if pair[0].architecture.startswith("mobilenet")]
    if not pairs:
        return NOT_MEASURED
    apart, where = max(
        ((abs(a.accuracy_after - b.accuracy_after), r) for r, a, _, b in pairs), key=lambda pair: pair[0]
    )
    return Outcome(
        f"{apart * 100:.1f} points at most ({where.cell})", "MobileNets, equal ranks, every task", reaches(0.20, apart)
    )


def _batch_norm_and_head(records: Records) -> Outcome:
    shifted = [record for record, adaptation in _adapted(records) if adaptation.task == "shift"]
    behind = _behind(shifted, "bn_head")
    if not behind:
        return NOT_MEASURED
    worst, where = max(behind, key=lambda pair: pair[0])
    settings = where.adaptation.settings if where.adaptation else None
    shift = f"{settings.corruption}, severity {settings.severity}" if settings else ""
    return Outcome(f"{worst * 100:.1f} points at most ({where.cell})", f"shift task: {shift}", reaches(0.40, worst))


def _iterations(records: Records) -> Outcome:
    ratios = [
        lora.steps_to_target / galore.steps_to_target
        for _, lora, _, galore in _pairs(records, "lora", "galore")
        if lora.steps_to_target is not None and galore.steps_to_target is not None
    ]
    if not ratios:
        return NOT_MEASURED
    middle = median(ratios)
    low, high = ABOUT_TWICE
    return Outcome(
        f"{middle:.1f} times in the median, {min(ratios):.1f} to {max(ratios):.1f}",
        f"steps to the target accuracy, {len(ratios)} pairs of equal architecture, rank and task",
        "reproduced" if low <= middle <= high else "not reproduced",
    )


CLAIMS: tuple[Claim[Records], ...] = (
    Claim(
        "GaLore's accuracy is the steadiest, close to full fine-tuning's",
        "the steadiest, close",
        "secondary",
        _galore_is_steady,
    ),
    Claim("LoRA and DoRA are up to 20 points apart on MobileNets", "up to 20 points", "secondary", _lora_and_dora),
    Claim("BN+H is up to 40 points behind on hard shifts", "up to 40 points", "secondary", _batch_norm_and_head),
    Claim("LoRA needs about twice GaLore's iterations", "about twice", "secondary", _iterations),
)
