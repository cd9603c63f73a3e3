"""What computed metrics must see, on every machine."""

from __future__ import annotations

import math

from tests.sabotage.cases.case import (
    ABOVE,
    AMORTISED,
    BACKWARD,
    DOUBLED,
    ELEMENTWISE,
    FIRST_PEAK,
    FORWARD,
    GONE,
    OPTIMIZER,
    OPTIMIZER_ELEMENTWISE,
    PEAK,
    PERIOD,
    REFRESH,
    REFRESH_PEAK,
    STATISTICS,
    TOTAL,
    TRAINABLE,
    Case,
    about,
)

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
        {FIRST_PEAK: about(0.899), FORWARD: DOUBLED, BACKWARD: DOUBLED, ELEMENTWISE: about(0.98), PEAK: about(0.89)},
    ),
    Case(
        "larger_images",
        "mobilenet_v2-bn_head",
        {
            FIRST_PEAK: about(0.198),
            FORWARD: (LARGER - 0.01, LARGER + 0.01),
            ELEMENTWISE: about(LARGER),
            PEAK: about(0.197),
        },
    ),
    Case("graph_retained", "resnet18-fft", {PEAK: about(0.109)}),
    Case(
        "graph_retained",
        "resnet18-galore-r4",
        {FIRST_PEAK: about(0.016), PEAK: about(0.186), REFRESH_PEAK: about(0.184)},
    ),
    Case(
        "backward_twice",
        "resnet18-lora-r4",
        {FIRST_PEAK: about(0.098), BACKWARD: DOUBLED, ELEMENTWISE: about(0.475), PEAK: about(0.097)},
    ),
    Case("gradients_kept", "resnet18-fft", {ELEMENTWISE: about(0.109), PEAK: about(0.062)}),
    Case("gradients_clipped", "resnet18-fft", {OPTIMIZER_ELEMENTWISE: about(0.25), ELEMENTWISE: about(0.218)}),
    Case(
        "moving_average",
        "resnet18-lora-r4",
        {OPTIMIZER_ELEMENTWISE: about(19.04), FIRST_PEAK: about(0.362), ELEMENTWISE: about(0.96), PEAK: about(0.99)},
    ),
    Case("outputs_logged", "mobilenet_v2-lora-r4", {FIRST_PEAK: about(0.393), PEAK: about(0.389)}),
    Case(
        "images_need_gradients",
        "resnet18-head",
        {FIRST_PEAK: about(0.298), BACKWARD: ABOVE, ELEMENTWISE: about(1.02), PEAK: about(0.297)},
    ),
    # Every byte but the labels' is twice as many; no count of operations sees it.
    Case("doubled_precision", "resnet18-fft", {FIRST_PEAK: DOUBLED, PEAK: DOUBLED}),
    Case("doubled_precision", "mobilenet_v2-bn_head", {FIRST_PEAK: DOUBLED, PEAK: DOUBLED}),
    Case(
        "foreach_optimizer",
        "resnet18-fft",
        # One count of steps for each parameter is added to by a list's operator.
        {OPTIMIZER_ELEMENTWISE: ABOVE, FIRST_PEAK: about(0.13), PEAK: about(0.13), ELEMENTWISE: ABOVE},
        quiet=("resnet18-head", "resnet18-galore-r4"),
    ),
    # One more state of the size of all weights; at the peak there were weights, gradients and two states.
    Case(
        "amsgrad",
        "resnet18-fft",
        {OPTIMIZER_ELEMENTWISE: about(0.125), FIRST_PEAK: about(0.225), ELEMENTWISE: about(0.109), PEAK: about(0.225)},
        quiet=("resnet18-galore-r4",),
    ),
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
        improves=frozenset({OPTIMIZER_ELEMENTWISE, FIRST_PEAK, BACKWARD, ELEMENTWISE, PEAK}),
        quiet=("resnet18-head",),
    ),
    Case(
        "backbone_trainable",
        "resnet18-head",
        {
            OPTIMIZER_ELEMENTWISE: about(2178.4),
            FIRST_PEAK: about(2.831),
            TRAINABLE: about(2178.7),
            BACKWARD: ABOVE,
            ELEMENTWISE: about(14.96),
            PEAK: about(2.83),
        },
        quiet=("resnet18-bn_head", "resnet18-fft"),
    ),
    Case(
        "states_for_frozen",
        "resnet18-head",
        {FIRST_PEAK: about(1.726), PEAK: about(1.725)},
        quiet=("resnet18-bn_head",),
    ),
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
        {
            OPTIMIZER_ELEMENTWISE: about(1.873),
            FIRST_PEAK: about(0.298),
            TRAINABLE: about(1.871),
            BACKWARD: ABOVE,
            ELEMENTWISE: about(1.03),
            PEAK: about(0.299),
        },
        quiet=("resnet18-head",),
    ),
    Case(
        "rank_doubled",
        "resnet18-lora-r4",
        {
            OPTIMIZER_ELEMENTWISE: (0.9, 1.0),
            FIRST_PEAK: about(0.018),
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
        dict.fromkeys(
            (TOTAL, TRAINABLE, FORWARD, BACKWARD, ELEMENTWISE, PEAK, FIRST_PEAK, OPTIMIZER_ELEMENTWISE), (0.001, 1.0)
        ),
        quiet=("mobilenet_v3_large-fft",),
    ),
    Case(
        "depthwise_adapted",
        "mobilenet_v2-lora-r4",
        # An adapter on a depthwise layer is larger than the layer: everything grows out of proportion.
        dict.fromkeys(
            (TOTAL, TRAINABLE, FORWARD, BACKWARD, ELEMENTWISE, PEAK, FIRST_PEAK, OPTIMIZER_ELEMENTWISE), (5.0, math.inf)
        ),
        quiet=("mobilenet_v2-fft",),
    ),
    Case(
        "only_named_by_suffix",
        "resnet18-lora-r4",
        {OPTIMIZER_ELEMENTWISE: about(-0.552), TOTAL: about(-0.0072), TRAINABLE: about(-0.552)},
        improves=frozenset({FIRST_PEAK, FORWARD, BACKWARD, ELEMENTWISE, PEAK}),
    ),
    # The copy is the head's 5,130 parameters.
    Case(
        "head_copied",
        "resnet18-lora-r4",
        {FIRST_PEAK: ABOVE, TOTAL: (0.0004, 0.0005), PEAK: ABOVE},
        quiet=("resnet18-head",),
    ),
    Case("head_copied", "mobilenet_v2-dora-r4", {FIRST_PEAK: ABOVE, TOTAL: (0.004, 0.007), PEAK: ABOVE}),
    Case(
        "adapters_in_double",
        "resnet18-lora-r4",
        {FIRST_PEAK: about(0.273), PEAK: about(0.285)},
        quiet=("resnet18-fft",),
    ),
    Case("adapters_in_double", "mobilenet_v3_small-dora-r4", {FIRST_PEAK: (0.05, 1.0), PEAK: (0.05, 1.0)}),
    Case(
        "adapters_frozen",
        "mobilenet_v2-lora-r4",
        {OPTIMIZER_ELEMENTWISE: about(-0.853), TRAINABLE: about(-0.853)},
        improves=frozenset({FIRST_PEAK, BACKWARD, ELEMENTWISE, PEAK}),
        quiet=("mobilenet_v2-head",),
    ),
    Case(
        "base_trainable",
        "resnet18-lora-r4",
        {
            OPTIMIZER_ELEMENTWISE: about(75.1),
            FIRST_PEAK: about(1.937),
            TRAINABLE: about(75.1),
            BACKWARD: about(0.993),
            ELEMENTWISE: about(3.79),
            PEAK: about(1.887),
        },
        quiet=("resnet18-fft",),
    ),
    Case(
        "dropout_left_on", "resnet18-lora-r4", {FIRST_PEAK: about(0.246), ELEMENTWISE: about(0.364), PEAK: about(0.241)}
    ),
    # With dropout peft cannot use the base layer's result, and convolves again.
    Case(
        "dropout_left_on",
        "resnet18-dora-r4",
        {
            FIRST_PEAK: about(0.145),
            FORWARD: about(0.941),
            BACKWARD: about(0.929),
            ELEMENTWISE: about(0.111),
            PEAK: about(0.144),
        },
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
        improves=frozenset({OPTIMIZER_ELEMENTWISE, FIRST_PEAK, ELEMENTWISE, PEAK}),
        quiet=("resnet18-lora-r4",),
    ),
    Case(
        "refreshed_every_step",
        "resnet18-galore-r4",
        {
            OPTIMIZER_ELEMENTWISE: ABOVE,
            PERIOD: about(-0.995),
            OPTIMIZER: about(234),
            AMORTISED: about(3.78),
            ELEMENTWISE: ABOVE,
            PEAK: about(0.0083),
        },
        quiet=("resnet18-fft",),
    ),
    Case(
        "galore_rank_doubled",
        "resnet18-galore-r4",
        {
            OPTIMIZER: DOUBLED,
            OPTIMIZER_ELEMENTWISE: about(0.038),
            FIRST_PEAK: about(0.011),
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
        {
            OPTIMIZER: GONE,
            PERIOD: about(-0.995),
            OPTIMIZER_ELEMENTWISE: about(2.833),
            FIRST_PEAK: about(0.707),
            ELEMENTWISE: about(1.824),
            PEAK: about(0.707),
            REFRESH_PEAK: about(0.693),
        },
        improves=frozenset({REFRESH, AMORTISED}),
    ),
    Case("matrix_gradients_kept", "resnet18-galore-r4", {PEAK: about(0.369), REFRESH_PEAK: about(0.358)}),
    Case(
        "weights_copied",
        "resnet18-galore-r4",
        error="the optimizer's step writes to no memory of conv1.weight and 19 more, which it trains",
    ),
)
