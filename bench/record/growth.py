"""What is recorded of how a step grows."""

from __future__ import annotations

from peft_update_bench.bench.record.part import Count, Part
from pydantic import PositiveInt


class Growth(Part):
    """What one more image costs, and what larger images cost.

    ``flops_image`` and ``bytes_image`` are of one image beyond the workload's batch; ``…_large`` of each image from
    there to ``large_batch``, in the mean. Bytes are of the forward and backward passes' peak, which is where a batch
    weighs. ``…_fixed`` is what is left of the workload's step without its images, each
    at the price of one more. ``…_larger_image`` are the FLOPs and the peak of the whole step with images whose sides
    are ``larger_image`` pixels; absent where the network takes no such images.
    """

    flops_image: int
    flops_image_large: int
    flops_fixed: int
    elementwise_image: int
    bytes_image: int
    bytes_image_large: int
    bytes_fixed: int
    large_batch: PositiveInt
    larger_image: PositiveInt | None = None
    flops_larger_image: Count | None = None
    bytes_larger_image: Count | None = None

    @property
    def is_affine(self) -> bool:
        """Whether each further image costs the same FLOPs."""
        return self.flops_image == self.flops_image_large
