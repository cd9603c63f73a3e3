"""What all tests of the suite share."""

from __future__ import annotations

import torch

# One thread, as the default workload: several would compete with each other for a CI machine's two cores.
torch.set_num_threads(1)
