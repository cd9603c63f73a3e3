"""What one step at batch 1 does not show: growth, the schedule, the first step, what is kept, trained and left."""

from __future__ import annotations

import math

from tests.sabotage.cases.case import (
    ABOVE,
    AMORTISED,
    DOUBLED,
    ELEMENTWISE,
    FIRST_PEAK,
    FORWARD,
    OPTIMIZER_ELEMENTWISE,
    PEAK,
    PERIOD,
    Case,
    Instrument,
    about,
)

ONE, MANY, FIXED = "growth.flops_image", "growth.flops_image_large", "growth.flops_fixed"
ELEMENTS = "growth.elementwise_image"
BYTES, BYTES_MANY, BYTES_FIXED = "growth.bytes_image", "growth.bytes_image_large", "growth.bytes_fixed"
LARGER, BYTES_LARGER = "growth.flops_larger_image", "growth.bytes_larger_image"
STORED, RESUME = "result.stored_bytes", "result.resume_bytes"
ANSWER, ANSWER_PEAK = "result.inference_flops", "result.inference_peak"
MERGED, MERGED_PEAK = "result.merged_flops", "result.merged_peak"

WHOLE: Instrument = "whole"
EXECUTED: Instrument = "measured_memory"

LASTING = (
    # Twice the adapters, beside a head that stays: more to store and to resume, whoever answers.
    Case(
        "rank_doubled",
        "mobilenet_v3_small-lora-r4",
        {
            "parameters.total": about(0.032),
            "parameters.trainable": about(0.829),
            "flops.forward": about(0.121),
            "flops.backward": about(0.217),
            "flops.optimizer_elementwise": about(0.829),
            "flops.elementwise": about(0.034),
            "memory.peak": about(0.042),
            "memory.first_peak": about(0.025),
            ONE: about(0.169),
            MANY: about(0.169),
            BYTES: about(0.023),
            BYTES_MANY: about(0.023),
            BYTES_FIXED: about(0.086),
            LARGER: about(0.169),
            BYTES_LARGER: about(0.038),
            STORED: about(0.654),
            RESUME: about(0.761),
            ANSWER: about(0.121),
            ANSWER_PEAK: about(0.020),
        },
        instrument=WHOLE,
    ),
    # An adapter's two layers cost twice as much for each image more.
    Case(
        "adapter_runs_per_image",
        "mobilenet_v3_small-lora-r4",
        {ONE: about(0.0565), MANY: about(0.508)},
        improves=frozenset({FIXED}),
        quiet=("mobilenet_v3_small-head",),
        instrument=WHOLE,
    ),
    Case(
        "images_compared",
        "mobilenet_v3_small-head",
        {ELEMENTS: about(2.44), BYTES: about(0.31), BYTES_MANY: about(8)},
        improves=frozenset({BYTES_FIXED}),
        instrument=WHOLE,
    ),
    # 17 images are padded to 24: of 15 more, 22 are computed.
    Case(
        "padded_to_a_multiple_of_eight",
        "mobilenet_v3_small-lora-r4",
        {MANY: about(7 / 15), ELEMENTS: about(7 / 16), BYTES_MANY: about(0.507)},
        instrument=WHOLE,
    ),
    # An image in float64 is 3 × 224 × 224 × 8 bytes.
    Case(
        "features_kept_per_image",
        "mobilenet_v3_small-head",
        {BYTES: about(0.4615), BYTES_MANY: about(0.4615)},
        improves=frozenset({BYTES_FIXED}),
        instrument=WHOLE,
    ),
    Case("doubled_above_224", "mobilenet_v3_small-lora-r4", {LARGER: about(0.497)}, instrument=WHOLE),
    Case(
        "enlarged_above_224",
        "mobilenet_v3_small-head",
        {LARGER: about(2.956), BYTES_LARGER: about(1.14)},
        instrument=WHOLE,
    ),
    Case(
        "weight_norms_per_step",
        "mobilenet_v3_small-head",
        {
            FORWARD: ABOVE,
            ELEMENTWISE: ABOVE,
            PEAK: ABOVE,
            FIRST_PEAK: ABOVE,
            FIXED: ABOVE,
            BYTES_FIXED: ABOVE,
            LARGER: ABOVE,
            BYTES_LARGER: ABOVE,
        },
        improves=frozenset({BYTES, BYTES_MANY}),
        instrument=WHOLE,
    ),
    # Both figures in the message: 200 → 20.
    Case(
        "refreshed_every_20_steps",
        "mobilenet_v3_small-galore-r4",
        {PERIOD: (-0.9, -0.9), AMORTISED: about(0.1246)},
        quiet=("mobilenet_v3_small-fft",),
        instrument=WHOLE,
    ),
    Case(
        "refreshed_every_199_steps",
        "mobilenet_v3_small-galore-r4",
        {PERIOD: (-0.006, -0.004), AMORTISED: ABOVE},
        instrument=WHOLE,
    ),
    Case(
        "never_refreshed",
        "mobilenet_v3_small-galore-r4",
        error="the optimizer's periodic work did not come again within 400 steps after it was done; its method "
        "declares one in 200",
        instrument=WHOLE,
    ),
    Case(
        "averaged_every_10_steps",
        "mobilenet_v3_small-fft",
        error="the optimizer does in some steps what it leaves out in others",
        instrument=WHOLE,
    ),
    Case(
        "optimizer_does_nothing",
        "resnet18-fft",
        error="the optimizer's step writes to no memory of conv1.weight and 61 more, which it trains",
        instrument=WHOLE,
    ),
    Case(
        "optimizer_does_nothing",
        "mobilenet_v3_small-fft",
        error="updates leave trained parameters as they were: features.0.0.weight and 141 more",
        instrument="latency",
    ),
    Case(
        "large_weights_left_out",
        "resnet18-fft",
        error="the optimizer's step writes to no memory of layer4.0.conv1.weight and 3 more, which it trains",
        instrument=WHOLE,
    ),
    Case(
        "update_of_a_copy",
        "resnet18-fft",
        error="the optimizer's step writes to no memory of conv1.weight and 61 more, which it trains",
        instrument=WHOLE,
    ),
    Case(
        "plain_gradient_descent",
        "resnet18-fft",
        {OPTIMIZER_ELEMENTWISE: about(-0.875)},
        improves=frozenset({ELEMENTWISE, PEAK, FIRST_PEAK, BYTES_FIXED, BYTES_LARGER, RESUME}),
        instrument=WHOLE,
    ),
    Case("first_step_waits", "mobilenet_v3_small-fft", {"first_step.seconds": (4.0, math.inf)}, instrument=EXECUTED),
    Case("weights_snapshot_at_first", "mobilenet_v3_small-fft", {FIRST_PEAK: about(0.0466)}, instrument=WHOLE),
    Case("mebibyte_kept", "mobilenet_v3_small-fft", error="every step keeps 1.00 MiB more than", instrument=WHOLE),
    Case("mebibyte_kept", "mobilenet_v3_small-fft", error="every step keeps 1.00 MiB more,", instrument=EXECUTED),
    Case(
        "mebibyte_kept_by_numpy", "mobilenet_v3_small-fft", error="every step keeps 1.00 MiB more,", instrument=EXECUTED
    ),
    Case("images_kept", "mobilenet_v3_small-head", error="every step keeps 588.00 KiB more than", instrument=WHOLE),
    Case("graphs_kept", "mobilenet_v3_small-head", error="every step keeps ", instrument=WHOLE),
    Case(
        "delta_of_zeros",
        "mobilenet_v3_small-lora-r4",
        error="the merged network does not answer as the one that was trained: ",
        instrument=EXECUTED,
    ),
    Case(
        "delta_without_scaling",
        "mobilenet_v3_small-lora-r4",
        error="the merged network does not answer as the one that was trained: ",
        instrument=EXECUTED,
    ),
    Case(
        "statistics_of_another_name",
        "mobilenet_v3_small-lora-r4",
        error="a new network that is given the stored update does not answer as the one that was trained: ",
        instrument=EXECUTED,
    ),
    Case(
        "merged_and_kept",
        "mobilenet_v3_small-lora-r4",
        {MERGED: ABOVE, MERGED_PEAK: ABOVE},
        instrument=WHOLE,
    ),
    Case(
        "answers_twice",
        "mobilenet_v3_small-head",
        {ANSWER: DOUBLED, ANSWER_PEAK: ABOVE, MERGED: DOUBLED, MERGED_PEAK: ABOVE},
        instrument=WHOLE,
    ),
    Case(
        "noise_from_the_system",
        "mobilenet_v3_small-head",
        # Whether the noise moves the bias too is a matter of chance.
        error="updates from the same seed leave classifier.3.weight ",
        instrument=EXECUTED,
    ),
    Case(
        "weights_from_the_system",
        "mobilenet_v3_small-head",
        error="updates from the same seed leave classifier.3.weight and 1 more different: the network is not the "
        "same when it is built",
        instrument=EXECUTED,
    ),
    Case(
        "noise_from_another_generator",
        "mobilenet_v3_small-fft",
        error="updates from the same seed leave features.0.0.weight",
        instrument=EXECUTED,
    ),
)
