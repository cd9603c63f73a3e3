"""Steps that torch takes in another way while somebody watches their operators, so that tensors show other memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Thread

import numpy as np
import torch
from peft_update_bench.fixtures.update_step import UpdateStep
from peft_update_bench.fixtures.whole_step import WholeStep
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode

SIDE = 32
MATRIX = 4 * SIDE * SIDE
"""Bytes."""


def _positive(x: Tensor) -> Tensor:
    return x @ x.T + torch.eye(SIDE)


def _cross_entropy(x: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(x, torch.ones(SIDE, SIDE), pos_weight=torch.full((SIDE,), 2.0))


MIDDLES: dict[str, Callable[[Tensor], Tensor]] = {
    "cumprod": lambda x: x.cumprod(1),
    "prod": lambda x: x.prod(1),
    "quantile": lambda x: x.quantile(0.3, 1),
    "median": lambda x: x.median(),
    "highest": lambda x: x.max(),
    "fmax": lambda x: torch.fmax(x, x.flip(0)),
    "polar": lambda x: torch.polar(x, x).real,
    "cholesky": lambda x: torch.linalg.cholesky(_positive(x)),
    "pinv": torch.linalg.pinv,
    "lstsq": lambda x: torch.linalg.lstsq(x, x.T).solution,
    "eig": lambda x: torch.linalg.eigvals(x).abs(),
    "matrix_exp": lambda x: torch.linalg.matrix_exp(x / 40),
    "hessian": lambda x: torch.func.hessian(lambda row: row.sin().prod())(x[0]),
    "cross_entropy": _cross_entropy,
}


def step_with(middle: Callable[[Tensor], Tensor]) -> UpdateStep:
    """A layer, and `middle` of what it returns, of which the loss is the mean."""
    network = nn.Linear(SIDE, SIDE)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    batch = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return UpdateStep(network, optimizer, batch, lambda network, rows: middle(network(rows)).abs().mean())


def _around(before: Callable[[Tensor], Tensor]) -> WholeStep:
    """A step whose batch goes through `before` first, and which diverges with every release of torch."""
    step = step_with(MIDDLES["cholesky"])
    batch = step.batch

    def call() -> Tensor:
        step.batch = before(batch)
        try:
            return step()
        finally:
            step.batch = batch

    return WholeStep(call, step.network, (step.optimizer,))


def of_numpy() -> WholeStep:
    return _around(lambda batch: torch.from_numpy(np.ones_like(batch.numpy())))


def of_another_thread() -> WholeStep:
    pool = ThreadPoolExecutor(1)
    return _around(lambda batch: pool.submit(torch.ones_like, batch).result())


def released_by_another_thread() -> WholeStep:
    def before(batch: Tensor) -> Tensor:
        taken = [torch.ones(2 * SIDE, SIDE)]
        thread = Thread(target=taken.clear)
        thread.start()
        thread.join()
        return batch

    return _around(before)


def other_in_each_call() -> WholeStep:
    """As long as nobody looks."""
    calls = count(1)

    def before(batch: Tensor) -> Tensor:
        kept = torch.ones((20 + next(calls)) * SIDE, SIDE) if _get_current_dispatch_mode() is None else batch
        return batch + kept[0, 0]

    return _around(before)


class Unwatched(torch.optim.SGD):
    """Takes more where nobody looks."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step(closure)
        if _get_current_dispatch_mode() is None:
            torch.ones(20 * SIDE, SIDE)
