"""Figures of a record that are not one of its entries, and how figures are said that need more than their unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft_update_bench.bench.units import NOTHING, show
from peft_update_bench.fixtures.methods.names import AS_IT_IS

if TYPE_CHECKING:
    from peft_update_bench.bench.record import Adaptation, Latency, Record

_BYTES_A_PARAMETER = 4  # float32


def _latency(record: Record) -> Latency:
    assert record.latency is not None
    return record.latency


def relative(record: Record) -> float | None:
    """Relative to full fine-tuning, which is 1, for its own ratio, to the calibration step, is on another scale; of a
    user's own step, which stands among others of that scale, the ratio itself."""
    latency = record.latency
    if latency is None:
        return None
    return 1.0 if latency.is_references and record.method != AS_IT_IS else latency.relative


def _unsteady(record: Record, text: str) -> str:
    return text if _latency(record).stable else f"{text} unstable"


def _against(record: Record, ratio: str) -> str:
    """A ratio to full fine-tuning, which is 1 itself; of a user's own step, as it is, to the calibration step."""
    if not _latency(record).is_references:
        return ratio
    return f"{ratio} × calibration" if record.method == AS_IT_IS else "1 (reference)"


def relative_half_width(record: Record) -> str:
    latency = _latency(record)
    half_width = (latency.relative_high - latency.relative_low) / 2
    text = f"{latency.relative:.3f} ± {half_width:.3f}"
    return _unsteady(record, _against(record, text))


def relative_interval(record: Record) -> str:
    latency = _latency(record)
    ends = f"{latency.relative_low:.3f} to {latency.relative_high:.3f}"
    return _unsteady(record, _against(record, f"{latency.relative:.3f} ({ends})"))


def relative_estimate(record: Record) -> tuple[float, float, float] | None:
    latency = record.latency
    if latency is None:
        return None
    return (1, 1, 1) if latency.is_references else (latency.relative, latency.relative_low, latency.relative_high)


def mean_relative(record: Record) -> float | None:
    """Of the mean step, periodic work included; None where it was not timed."""
    latency = record.latency
    if latency is None:
        return None
    return 1.0 if latency.is_references else latency.mean_relative


def stored(record: Record) -> int | None:
    """Bytes that an update leaves to be stored: what it trained, and the batch norm's statistics that it moved."""
    found = record.parameters
    return None if found is None else (found.trainable + (found.statistics or 0)) * _BYTES_A_PARAMETER


def _adaptation(record: Record) -> Adaptation:
    assert record.adaptation is not None
    return record.adaptation


def accuracies(record: Record) -> str:
    found = _adaptation(record)
    spread = "" if found.accuracy_spread is None else f" ± {100 * found.accuracy_spread:.1f}"
    adapted = "" if found.adapted else " (not adapted)"
    return f"{found.accuracy_before:.1%} → {found.accuracy_after:.1%}{spread}{adapted}"


def source_accuracies(record: Record) -> str:
    found = _adaptation(record)
    return f"{found.source_accuracy_before:.1%} → {found.source_accuracy_after:.1%}"


def steps_to_target(record: Record) -> str:
    return show(_adaptation(record).steps_to_target, "steps").replace(NOTHING, "not reached")
