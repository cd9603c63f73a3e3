"""What is recorded of an update's first step, and of what it leaves."""

from __future__ import annotations

from peft_update_bench.bench.record.part import Count, Part, Ratio


class FirstStep(Part):
    """What the first step took, in which the optimizer makes its states."""

    seconds: Ratio


class Result(Part):
    """What must be stored of an update, and what the updated network costs that answers.

    ``stored_bytes`` is the length of a safetensors file of the trained parameters and of the running statistics that
    moved; ``resume_bytes`` that and the optimizer's states, with which training goes on. ``inference_…`` are of a
    forward pass with the update beside the network, ``merged_…`` with the update merged into it, the same where the
    method keeps nothing beside it.
    """

    stored_bytes: Count
    resume_bytes: Count
    inference_flops: Count
    inference_peak: Count
    merged_flops: Count
    merged_peak: Count
