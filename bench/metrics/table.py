"""The table itself: a row for each figure of the record, by section."""

from __future__ import annotations

from peft_update_bench.bench.metrics import figures_of
from peft_update_bench.bench.metrics.row import Budget, Column, Curve, Evidence, Figure, Metric, load

_MOST_OF_IT = 2 / 3
"""An optimizer that does less than this of what it did has left something out."""
_PAGES_OF_LIBRARIES = 3 * 2**20
"""How many of these a process maps depends on what of their files the kernel has at hand: the same cell took 13.6 MiB
in one session of a machine, and 14.9 to 15.7 in the next, by the same code too."""
_RECORD = "peft_update_bench.bench.record"
_COMPUTE = "peft_update_bench.bench.measuring.computing:compute"
_EXECUTE = "peft_update_bench.bench.measuring.executing:measure_memory"
_TIME = "peft_update_bench.bench.measuring.timing:measure_latency"
_FLOPS = Column("FLOPs")
_PEAK = Column("peak memory")
_INSTRUCTIONS = Column("instructions")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "parameters",
            "parameter counts",
            f"{_RECORD}:Parameters",
            (
                Figure("total", "parameters", Evidence.PINNED),
                Figure(
                    "trainable",
                    "parameters",
                    Evidence.PINNED,
                    column=Column("trainable parameters"),
                    budget=Budget(
                        "flash", "flash", "bytes", "bytes", "512KB",
                        "the most that an update may store: trained parameters and moved statistics, in float32",
                        figures_of.stored,
                        more="flash",
                    ),
                ),
                Figure("statistics", "elements", Evidence.PINNED, since=2),
            ),
        ),
        Metric(
            "flops",
            "FLOPs",
            f"{_RECORD}:Flops",
            (
                Figure(
                    "total",
                    "FLOPs",
                    column=_FLOPS,
                    brief=_FLOPS,
                    curve=Curve("FLOPs of an ordinary step", "GFLOPs", 1e9),
                    over_time="FLOPs",
                    parts=("forward", "backward", "optimizer"),
                    budget=Budget(
                        "flops", "FLOPs", "FLOPs", "FLOPs", "2G", "the most FLOPs of one update",
                        lambda r: r.flops.of_mean_step if r.flops else None,
                        more="FLOPs",
                    ),
                ),
                Figure("forward", "FLOPs", Evidence.EXACT),
                Figure("backward", "FLOPs", Evidence.EXACT),
                Figure("optimizer", "FLOPs", Evidence.EXACT, floor=_MOST_OF_IT),
                Figure("optimizer_elementwise", "elements", Evidence.EXACT, floor=_MOST_OF_IT, since=3),
                Figure("optimizer_refresh", "FLOPs", Evidence.EXACT),
                Figure("refresh_period", "steps", Evidence.PINNED),
                Figure("amortised_total", "FLOPs", Evidence.EXACT, column=Column("FLOPs, mean with refreshes")),
                Figure("elementwise", "elements", Evidence.EXACT),
            ),
            measure=_COMPUTE,
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "memory",
            "computed memory",
            f"{_RECORD}:Memory",
            (
                Figure(
                    "peak",
                    "bytes",
                    Evidence.EXACT,
                    column=_PEAK,
                    brief=_PEAK,
                    curve=Curve("Peak memory of an ordinary step", "MiB", 2**20),
                    over_time="Peak memory",
                    budget=Budget(
                        "memory", "peak memory", "bytes", "bytes", "64MB",
                        "the most that an update may need at its peak",
                        lambda r: r.memory.highest if r.memory else None,
                        more="memory",
                    ),
                ),
                Figure("first_peak", "bytes", Evidence.EXACT, since=3),
                Figure("refresh_peak", "bytes", Evidence.EXACT, column=Column("peak of a refreshing step")),
            ),
            measure=_COMPUTE,
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "measured_memory",
            "measured memory",
            f"{_RECORD}:MeasuredMemory",
            (
                # The allocator's figures repeat to the byte, RSS within some 2 %, for the same cell on one machine.
                Figure("allocator_peak", "bytes", Evidence.TOLERANCE, "allocator_peak", 0.01),
                Figure(
                    "rss_peak", "bytes", Evidence.TOLERANCE, "rss_peak", 0.10,
                    column=Column("RSS peak"), over_time="RSS peak", noise=_PAGES_OF_LIBRARIES,
                ),
            ),
            measure=_EXECUTE,
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "latency",
            "latency",
            f"{_RECORD}:Latency",
            (
                Figure(
                    "relative",
                    "×",
                    Evidence.INTERVAL,
                    "latency",
                    0.10,
                    column=Column("latency / fft", figures_of.relative_interval, figures_of.relative, "latency"),
                    brief=Column("latency / fft", figures_of.relative_half_width, figures_of.relative, "latency"),
                    curve=Curve("Latency relative to full fine-tuning", "× fft", estimate=figures_of.relative_estimate),
                    over_time="Latency relative to its reference",
                    budget=Budget(
                        "latency", "latency / fft", "ratio", "×", "0.8",
                        "the longest that an update may take, as a multiple of full fine-tuning",
                        figures_of.mean_relative,
                        more="of fft's latency",
                        unknown="no baseline has timed it under this workload",
                    ),
                ),
                Figure("wall_relative", "×", Evidence.INTERVAL, "latency", 0.10),
            ),
            measure=_TIME,
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "growth",
            "growth",
            f"{_RECORD}.growth:Growth",
            (
                Figure("flops_image", "FLOPs", Evidence.EXACT, since=3),
                Figure("flops_image_large", "FLOPs", Evidence.EXACT, since=3),
                Figure("flops_fixed", "FLOPs", Evidence.EXACT, since=3),
                Figure("elementwise_image", "elements", Evidence.EXACT, since=3),
                Figure("bytes_image", "bytes", Evidence.EXACT, since=3),
                Figure("bytes_image_large", "bytes", Evidence.EXACT, since=3),
                Figure("bytes_fixed", "bytes", Evidence.EXACT, since=3),
                Figure("flops_larger_image", "FLOPs", Evidence.EXACT, since=3),
                Figure("bytes_larger_image", "bytes", Evidence.EXACT, since=3),
            ),
            measure=_COMPUTE,
            benchmark="update",
            in_baselines=True,
            of_steps=False,
            is_always_known=False,
        ),
        Metric(
            "result",
            "the update's result",
            f"{_RECORD}.result:Result",
            (
                Figure("stored_bytes", "bytes", Evidence.EXACT, column=Column("bytes to store"), since=3),
                Figure("resume_bytes", "bytes", Evidence.EXACT, since=3),
                Figure("inference_flops", "FLOPs", Evidence.EXACT, since=3),
                Figure("inference_peak", "bytes", Evidence.EXACT, since=3),
                Figure("merged_flops", "FLOPs", Evidence.EXACT, since=3),
                Figure("merged_peak", "bytes", Evidence.EXACT, since=3),
            ),
            measure=_COMPUTE,
            benchmark="update",
            by_default=True,
            of_steps=False,
        ),
        Metric(
            "first_step",
            "the first step",
            f"{_RECORD}.result:FirstStep",
            # First steps of the same code took 0.3 to 2.5 times as long, idle or beside other work.
            (Figure("seconds", "s", Evidence.TOLERANCE, "first_step", 3.0, since=3),),
            measure=_EXECUTE,
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "instructions",
            "instructions",
            f"{_RECORD}.instructions:Instructions",
            (
                Figure(
                    "total",
                    "instructions",
                    Evidence.EXACT,
                    "instructions",
                    0.002,  # of the same code they are equal; this is for what moves where objects lie
                    column=_INSTRUCTIONS,
                    brief=_INSTRUCTIONS,
                    curve=Curve("Instructions of an ordinary step", "M instructions", 1e6),
                    over_time="Instructions",
                    parts=("forward", "backward", "optimizer", "zero_grad", "other"),
                ),
                Figure("forward", "instructions", column=Column("forward instructions")),
                Figure("backward", "instructions", column=Column("backward instructions")),
                Figure("optimizer", "instructions", column=Column("optimizer instructions")),
                Figure("zero_grad", "instructions"),
                Figure("other", "instructions"),
                Figure("attribute_searches", "instructions"),
                Figure(
                    "periodic", "instructions", Evidence.EXACT, "instructions", 0.002,
                    column=Column("instructions of a refreshing step"),
                ),
            ),
            benchmark="instructions",
            by_default=True,
            conditions=lambda now, before: load(f"{_RECORD}.instructions:incomparable")(now, before),
        ),
        Metric(
            "adaptation",
            "adaptation",
            f"{_RECORD}:Adaptation",
            (
                Figure(
                    "accuracy_before", "accuracy",
                    column=Column("accuracy before"), brief=Column("accuracy before → after", figures_of.accuracies),
                ),
                Figure(
                    "accuracy_after",
                    "accuracy",
                    Evidence.SEEDS,
                    column=Column("accuracy after"),
                    over_time="Accuracy after the update",
                    budget=Budget(
                        "accuracy", "accuracy", "accuracy", "accuracy", "0.7", "the least accuracy after the update",
                        lambda r: r.adaptation.accuracy_after if r.adaptation else None,
                        more="accuracy",
                        unknown="the baseline holds no adaptation of it",
                        at_least=True,
                    ),
                ),
                Figure(
                    "source_accuracy_after", "accuracy", Evidence.SEEDS,
                    brief=Column("source before → after", figures_of.source_accuracies),
                ),
                Figure(
                    "steps_to_target", "steps",
                    column=Column("steps to target"),
                    brief=Column(
                        "steps to target",
                        figures_of.steps_to_target,
                        lambda r: 0 if r.adaptation else None,
                    ),
                ),
                Figure(
                    "flops_to_target", "FLOPs", Evidence.SEEDS,
                    column=Column("FLOPs to target"), brief=Column("FLOPs to it"),
                ),
                Figure("peak_memory", "bytes", brief=_PEAK),
            ),
            benchmark="adaptation",
            by_default=True,
        ),
    )
}  # fmt: skip
"""By name, in the order in which columns stand."""

ABSOLUTE_TIME = Figure("median", "s", Evidence.TOLERANCE, "median_seconds", 1.0)
"""pytest-benchmark's own median, which stands beside the record and not in it. Absolute times of the same code move by
more than half on a shared machine: the tolerance catches what is twice as slow."""
