"""What is seen only where updates are executed: memory, time and accuracy."""

from __future__ import annotations

from tests.sabotage.cases.case import (
    ALLOCATOR,
    BACKWARD,
    ELEMENTWISE,
    GONE,
    MISSING,
    PEAK,
    REFRESH_PEAK,
    RSS,
    STATISTICS,
    TRAINABLE,
    Case,
    about,
)

MEASURED = (
    # The gradients of 2.2 million parameters.
    Case(
        "leak",
        "mobilenet_v2-galore-r4",
        error="every step keeps 8.59 MiB more, seen over a dozen steps",
        instrument="measured_memory",
    ),
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
