"""LoRA's peak memory against full fine-tuning's over the batch size: two findings that nobody has published.

On a depthwise-separable network LoRA's saving vanishes with the batch: what it saves, gradients and optimizer states,
does not grow, and its adapters' activations do. And dropout before the adapters, which peft's examples use, makes LoRA
dearer than full fine-tuning: each adapter keeps a masked copy of its layer's input beside the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.methods.lora_variants import LoRAWithDropout
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload

ARCHITECTURES = ("resnet18", "mobilenet_v2")
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
RANK = 4


UPDATES = {
    "fft": ("fft", None),
    f"lora r={RANK}": ("lora", RANK),
    f"lora r={RANK}, dropout {LoRAWithDropout.dropout}": (LoRAWithDropout.name, RANK),
}
"""Method and rank of each update that is compared."""


@dataclass(frozen=True)
class Peak:
    """The peak memory of one update step, in bytes, and of full fine-tuning's on the same batch."""

    architecture: str
    update: str
    batch_size: int
    bytes: int
    of_fft: int

    @property
    def saved(self) -> float:
        """The fraction of full fine-tuning's; negative where the update needs more."""
        return 1 - self.bytes / self.of_fft


def measure() -> Iterator[Peak]:
    """Every network, batch size and update, full fine-tuning first."""
    for architecture, batch_size in product(ARCHITECTURES, BATCH_SIZES):
        of_fft = 0
        for update, (method, rank) in UPDATES.items():
            step = build_update_step(architecture, method, rank, Workload(batch_size=batch_size), "meta")
            peak = int(computed.measure(step).memory["peak"])
            of_fft = of_fft or peak
            yield Peak(architecture, update, batch_size, peak, of_fft)
