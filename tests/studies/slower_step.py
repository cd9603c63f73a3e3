"""A step whose slowdown any instrument can see: MobileNetV3-Small's head at 32×32, with further convolutions."""

from __future__ import annotations

import torch
from peft_update_bench.fixtures.instruments.latency.paired import CAREFUL_LIMITS, measure
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch.nn import functional

MORE = 100
"""Convolutions that are timed together, some 50 µs each."""


def build(convolutions: int) -> UpdateStep:
    """The step, whose forward first makes so many further convolutions."""
    step = build_update_step("mobilenet_v3_small", "head", None, Workload(image_size=32))
    images, weight = torch.ones(1, 32, 14, 14), torch.ones(64, 32, 1, 1)
    forward = step.forward

    def convolve_and_forward() -> torch.Tensor:
        for _ in range(convolutions):
            functional.conv2d(images, weight)
        return forward()

    step.forward = convolve_and_forward  # type: ignore[method-assign]
    return step


def time_more() -> float:
    """How many times the CPU time a step takes with `MORE` of them. Timed in turn: the machine may be busy."""
    return measure(build(MORE), build(0), limits=CAREFUL_LIMITS).rounds.cpu(CAREFUL_LIMITS.confidence).estimate


def convolutions_for(fraction: float, with_more: float) -> int:
    """How many take this fraction of a step's time, where one with `MORE` takes `with_more` times as long."""
    return round(fraction * MORE / (with_more - 1))
