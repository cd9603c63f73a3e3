"""What each fault must do to the gate: which metrics alarm, in which cells, by how much, and that all else is quiet.

Changes are fractions of the baseline. Where a change follows from the fault it is exact up to rounding, and the reason
stands beside it; elsewhere the range is about a fifth to either side of what the fault does to this network, so that a
gate which sees a tenth or ten times of it fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Range = tuple[float, float]
Instrument = Literal["computed", "measured_memory", "latency", "adaptation"]

DOUBLED = (0.999, 1.001)
ABOVE = (1e-9, math.inf)
"""Any increase: the baseline's figure is next to nothing, or the change itself is."""
GONE = (-1.0, -1.0)
MISSING = None
"""The figure itself is no longer there."""


def about(fraction: float) -> Range:
    """A fifth to either side."""
    return (min(0.8 * fraction, 1.2 * fraction), max(0.8 * fraction, 1.2 * fraction))


@dataclass(frozen=True)
class Case:
    """A fault in one cell: what regresses and by how much, or is missing; what may read as improved; and cells that
    must not notice. ``error`` is the beginning of a message where the cell cannot be measured at all."""

    fault: str
    cell: str
    alarms: Mapping[str, Range | None] = field(default_factory=dict)
    improves: frozenset[str] = frozenset()
    quiet: tuple[str, ...] = ()
    instrument: Instrument = "computed"
    error: str = ""

    def __str__(self) -> str:
        return f"{self.fault}-{self.cell}"


FORWARD, BACKWARD, OPTIMIZER = "flops.forward", "flops.backward", "flops.optimizer"
ELEMENTWISE, AMORTISED, REFRESH = "flops.elementwise", "flops.amortised_total", "flops.optimizer_refresh"
PEAK, REFRESH_PEAK = "memory.peak", "memory.refresh_peak"
TOTAL, TRAINABLE, STATISTICS = "parameters.total", "parameters.trainable", "parameters.statistics"
ALLOCATOR, RSS = "measured_memory.allocator_peak", "measured_memory.rss_peak"
LARGER = (256 / 224) ** 2 - 1

COMPUTED = (
    Case("extra_forward", "resnet18-fft", {FORWARD: DOUBLED, ELEMENTWISE: about(0.062)}),
    Case("extra_forward", "resnet18-head", {FORWARD: DOUBLED, ELEMENTWISE: about(0.994)}),
    Case(
        "extra_forward",
        "resnet18-galore-r4",
        {FORWARD: DOUBLED, AMORTISED: about(0.329), ELEMENTWISE: about(0.176)},
    ),
    Case(
        "second_batch",
        "mobilenet_v2-lora-r4",
        {FORWARD: DOUBLED, BACKWARD: DOUBLED, ELEMENTWISE: about(0.98), PEAK: about(0.89)},
    ),
    Case(
        "larger_images",
        "mobilenet_v2-bn_head",
        {FORWARD: (LARGER - 0.01, LARGER + 0.01), ELEMENTWISE: about(LARGER), PEAK: about(0.197)},
    ),
    Case("graph_retained", "resnet18-fft", {PEAK: about(0.109)}),
    Case("graph_retained", "resnet18-galore-r4", {PEAK: about(0.186), REFRESH_PEAK: about(0.184)}),
    Case("backward_twice", "resnet18-lora-r4", {BACKWARD: DOUBLED, ELEMENTWISE: about(0.475), PEAK: about(0.097)}),
    Case("gradients_kept", "resnet18-fft", {ELEMENTWISE: about(0.109), PEAK: about(0.062)}),
    Case("gradients_clipped", "resnet18-fft", {ELEMENTWISE: about(0.218)}),
    Case("moving_average", "resnet18-lora-r4", {ELEMENTWISE: about(0.96), PEAK: about(0.99)}),
    Case("outputs_logged", "mobilenet_v2-lora-r4", {PEAK: about(0.389)}),
    Case("images_need_gradients", "resnet18-head", {BACKWARD: ABOVE, ELEMENTWISE: about(1.02), PEAK: about(0.297)}),
    # Every byte but the labels' is twice as many; no count of operations sees it.
    Case("doubled_precision", "resnet18-fft", {PEAK: DOUBLED}),
    Case("doubled_precision", "mobilenet_v2-bn_head", {PEAK: DOUBLED}),
    Case(
        "foreach_optimizer",
        "resnet18-fft",
        {PEAK: about(0.13)},
        improves=frozenset({ELEMENTWISE}),
        quiet=("resnet18-head", "resnet18-galore-r4"),
    ),
    # One more state of the size of all weights; at the peak there were weights, gradients and two states.
    Case("amsgrad", "resnet18-fft", {ELEMENTWISE: about(0.109), PEAK: about(0.225)}, quiet=("resnet18-galore-r4",)),
    Case(
        "blocks_checkpointed",
        "resnet18-fft",
        {BACKWARD: about(0.483), ELEMENTWISE: about(0.038)},
        quiet=("resnet18-lora-r4",),
    ),
    Case(
        "head_not_trained",
        "resnet18-fft",
        {TRAINABLE: (-0.0005, -0.0004)},  # 5,130 of 11.2 million
        improves=frozenset({BACKWARD, ELEMENTWISE, PEAK}),
        quiet=("resnet18-head",),
    ),
    Case(
        "backbone_trainable",
        "resnet18-head",
        {TRAINABLE: about(2178.7), BACKWARD: ABOVE, ELEMENTWISE: about(14.96), PEAK: about(2.83)},
        quiet=("resnet18-bn_head", "resnet18-fft"),
    ),
    Case("states_for_frozen", "resnet18-head", {PEAK: about(1.725)}, quiet=("resnet18-bn_head",)),
    Case("statistics_move", "resnet18-head", {STATISTICS: ABOVE, ELEMENTWISE: ABOVE}, quiet=("resnet18-bn_head",)),
    Case(
        "statistics_frozen",
        "mobilenet_v2-bn_head",
        {STATISTICS: GONE},
        improves=frozenset({ELEMENTWISE}),
        quiet=("mobilenet_v2-head", "mobilenet_v2-fft"),
    ),
    Case(
        "statistics_frozen_in_full",
        "resnet18-fft",
        {STATISTICS: GONE},
        improves=frozenset({ELEMENTWISE}),
        quiet=("resnet18-galore-r4",),
    ),
    Case(
        "affine_trainable",
        "resnet18-bn_head",
        {TRAINABLE: about(1.871), BACKWARD: ABOVE, ELEMENTWISE: about(1.03), PEAK: about(0.299)},
        quiet=("resnet18-head",),
    ),
    Case(
        "rank_doubled",
        "resnet18-lora-r4",
        {
            TOTAL: about(0.0126),
            TRAINABLE: (0.9, 1.0),  # twice the adapters, beside a head that stays
            FORWARD: about(0.036),
            BACKWARD: about(0.071),
            ELEMENTWISE: about(0.049),
            PEAK: about(0.034),
        },
        quiet=("resnet18-galore-r4",),
    ),
    Case(
        "rank_doubled",
        "mobilenet_v3_large-dora-r4",
        dict.fromkeys((TOTAL, TRAINABLE, FORWARD, BACKWARD, ELEMENTWISE, PEAK), (0.001, 1.0)),
        quiet=("mobilenet_v3_large-fft",),
    ),
    Case(
        "depthwise_adapted",
        "mobilenet_v2-lora-r4",
        # An adapter on a depthwise layer is larger than the layer: everything grows out of proportion.
        dict.fromkeys((TOTAL, TRAINABLE, FORWARD, BACKWARD, ELEMENTWISE, PEAK), (5.0, math.inf)),
        quiet=("mobilenet_v2-fft",),
    ),
    Case(
        "only_named_by_suffix",
        "resnet18-lora-r4",
        {TOTAL: about(-0.0072), TRAINABLE: about(-0.552)},
        improves=frozenset({FORWARD, BACKWARD, ELEMENTWISE, PEAK}),
    ),
    # The copy is the head's 5,130 parameters.
    Case("head_copied", "resnet18-lora-r4", {TOTAL: (0.0004, 0.0005), PEAK: ABOVE}, quiet=("resnet18-head",)),
    Case("head_copied", "mobilenet_v2-dora-r4", {TOTAL: (0.004, 0.007), PEAK: ABOVE}),
    Case("adapters_in_double", "resnet18-lora-r4", {PEAK: about(0.285)}, quiet=("resnet18-fft",)),
    Case("adapters_in_double", "mobilenet_v3_small-dora-r4", {PEAK: (0.05, 1.0)}),
    Case(
        "adapters_frozen",
        "mobilenet_v2-lora-r4",
        {TRAINABLE: about(-0.853)},
        improves=frozenset({BACKWARD, ELEMENTWISE, PEAK}),
        quiet=("mobilenet_v2-head",),
    ),
    Case(
        "base_trainable",
        "resnet18-lora-r4",
        {TRAINABLE: about(75.1), BACKWARD: about(0.993), ELEMENTWISE: about(3.79), PEAK: about(1.887)},
        quiet=("resnet18-fft",),
    ),
    Case("dropout_left_on", "resnet18-lora-r4", {ELEMENTWISE: about(0.364), PEAK: about(0.241)}),
    # With dropout peft cannot use the base layer's result, and convolves again.
    Case(
        "dropout_left_on",
        "resnet18-dora-r4",
        {FORWARD: about(0.941), BACKWARD: about(0.929), ELEMENTWISE: about(0.111), PEAK: about(0.144)},
    ),
    Case(
        "dora_convolves_twice",
        "resnet18-dora-r4",
        {FORWARD: about(0.941), BACKWARD: about(0.929), ELEMENTWISE: about(0.004)},
        quiet=("resnet18-lora-r4",),
    ),
    Case(
        "dora_magnitude_frozen",
        "resnet18-dora-r4",
        {TRAINABLE: about(-0.031)},
        improves=frozenset({ELEMENTWISE, PEAK}),
        quiet=("resnet18-lora-r4",),
    ),
    Case(
        "refreshed_every_step",
        "resnet18-galore-r4",
        {OPTIMIZER: about(234), AMORTISED: about(3.78), ELEMENTWISE: ABOVE, PEAK: about(0.0083)},
        quiet=("resnet18-fft",),
    ),
    Case(
        "galore_rank_doubled",
        "resnet18-galore-r4",
        {
            OPTIMIZER: DOUBLED,
            REFRESH: about(0.0042),
            AMORTISED: about(0.0161),
            ELEMENTWISE: about(0.0245),
            PEAK: about(0.0105),
            REFRESH_PEAK: about(0.01),
        },
        quiet=("resnet18-lora-r4",),
    ),
    Case(
        "not_projected",
        "resnet18-galore-r4",
        {ELEMENTWISE: about(1.824), PEAK: about(0.707), REFRESH_PEAK: about(0.693)},
        improves=frozenset({OPTIMIZER, REFRESH, AMORTISED}),
    ),
    Case("matrix_gradients_kept", "resnet18-galore-r4", {PEAK: about(0.369), REFRESH_PEAK: about(0.358)}),
    Case("weights_copied", "resnet18-galore-r4", {PEAK: about(0.384), REFRESH_PEAK: about(0.381)}),
)

MEASURED = (
    # Each step keeps 9 MB of gradients; at least three steps run before the allocator is asked.
    Case("leak", "mobilenet_v2-galore-r4", {ALLOCATOR: (0.1, 20.0), RSS: (0.1, 20.0)}, instrument="measured_memory"),
    # 64 MiB beside some 130; torch's allocator must not see them.
    Case("buffer_outside_torch", "mobilenet_v2-fft", {RSS: (0.3, 0.8)}, instrument="measured_memory"),
    Case(
        "outputs_logged",
        "mobilenet_v2-lora-r4",
        {ALLOCATOR: (0.2, 0.6), RSS: (0.1, 0.6)},
        instrument="measured_memory",
    ),
    Case(
        "adapters_in_double",
        "mobilenet_v3_small-dora-r4",
        {ALLOCATOR: (0.1, 1.0), RSS: (0.1, 1.0)},
        instrument="measured_memory",
    ),
    Case(
        "learning_rate_of_zero",
        "mobilenet_v3_small-head",
        error="updates leave trained parameters as they were: classifier.3.weight",
        instrument="measured_memory",
    ),
    Case(
        "loss_not_finite",
        "mobilenet_v3_small-bn_head",
        error="the loss is not finite: ",
        instrument="measured_memory",
    ),
)

RELATIVE, WALL = "latency.relative", "latency.wall_relative"
SLOWER = (0.2, 50.0)

LATENCY = (
    # MobileNetV3-Small's head step takes some 10 ms.
    Case("waits", "mobilenet_v3_small-head", {WALL: (0.5, 20.0)}, instrument="latency"),
    Case("computes_on_numpy", "mobilenet_v3_small-head", {RELATIVE: SLOWER, WALL: SLOWER}, instrument="latency"),
    # It slows a method and its reference alike, so it shows where the reference is itself the cell.
    Case("without_onednn", "mobilenet_v2-fft", {RELATIVE: SLOWER, WALL: SLOWER}, instrument="latency"),
)

ACCURACY, FORGETTING, TO_TARGET = (
    f"adaptation.{name}" for name in ("accuracy_after", "source_accuracy_after", "flops_to_target")
)

ADAPTATION = (
    Case(
        "labels_shuffled",
        "mobilenet_v3_small-lora-r16-shift",
        {ACCURACY: about(-0.92), TO_TARGET: MISSING},
        instrument="adaptation",
    ),
    Case(
        "first_batch_repeated",
        "mobilenet_v3_small-fft-shift",
        {ACCURACY: about(-0.53), TO_TARGET: MISSING},
        instrument="adaptation",
    ),
    # The target is still reached, within what seeds scatter.
    Case(
        "learning_rate_tenth",
        "mobilenet_v3_small-dora-r16-shift",
        {ACCURACY: about(-0.22)},
        instrument="adaptation",
    ),
    # It forgets what it knew.
    Case(
        "learning_rate_tenfold",
        "mobilenet_v3_small-fft-unseen",
        {ACCURACY: about(-0.73), FORGETTING: about(-0.70), TO_TARGET: MISSING},
        instrument="adaptation",
    ),
    # Batch norm's statistics move all the same, and are worth 37 points.
    Case(
        "learning_rate_of_zero",
        "mobilenet_v3_small-galore-r4-shift",
        {ACCURACY: about(-0.29), TO_TARGET: MISSING},
        instrument="adaptation",
    ),
    # What does not adapt forgets nothing.
    Case(
        "statistics_frozen",
        "mobilenet_v3_small-bn_head-shift",
        {ACCURACY: about(-0.74), STATISTICS: GONE},
        improves=frozenset({ELEMENTWISE, FORGETTING}),
        instrument="adaptation",
    ),
    # The head and batch norm's statistics alone come near the target, within what seeds scatter.
    Case(
        "adapters_frozen",
        "mobilenet_v3_small-lora-r16-shift",
        {ACCURACY: about(-0.37), TRAINABLE: about(-0.951)},
        improves=frozenset({BACKWARD, ELEMENTWISE, PEAK}),
        quiet=("mobilenet_v3_small-fft-shift",),
        instrument="adaptation",
    ),
    Case(
        "weights_copied",
        "mobilenet_v3_small-galore-r16-shift",
        {ACCURACY: about(-0.26), PEAK: about(0.128), REFRESH_PEAK: about(0.128)},
        instrument="adaptation",
    ),
    Case(
        "head_not_extended",
        "mobilenet_v3_small-head-unseen",
        error="the network has 7 outputs; expected one for each of 10 classes: its head was not extended",
        instrument="adaptation",
    ),
    Case(
        "held_out_learned",
        "mobilenet_v3_small-head-unseen",
        error="1000 images of unseen's test are learned from too; expected held-out ones",
        instrument="adaptation",
    ),
)
