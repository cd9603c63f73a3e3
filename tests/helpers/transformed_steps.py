"""Steps of linear layers whose derivatives, or whose calls, torch.func makes, and one with dual numbers of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft_update_bench.fixtures.whole_step import WholeStep
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap

Tensors = dict[str, Tensor]


def _step(inputs: Tensor, gradients_of: Callable[[Callable[[Tensors], Tensor], Tensors], Tensors]) -> WholeStep:
    """`gradients_of` takes the loss, as a function of the weights, and the weights."""
    network = nn.Sequential(nn.Linear(4, 256), nn.Tanh(), nn.Linear(256, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def loss(weights: Tensors) -> Tensor:
        mean: Tensor = functional_call(network, weights, inputs).square().mean()
        return mean

    def call() -> Tensor:
        weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
        for name, gradient in gradients_of(loss, weights).items():
            network.get_parameter(name).grad = gradient
        optimizer.step()
        optimizer.zero_grad()
        return inputs.mean()

    return WholeStep(call, network, (optimizer,))


def _like(weights: Tensors, *copies: int) -> Tensors:
    return {name: torch.randn(*copies, *weight.shape) for name, weight in weights.items()}


def forward_gradient() -> WholeStep:
    """The derivative along a random direction, times that."""

    def gradients_of(loss: Callable[[Tensors], Tensor], weights: Tensors) -> Tensors:
        direction = _like(weights)
        derivative: Tensor = jvp(loss, (weights,), (direction,))[1]
        return {name: derivative * change for name, change in direction.items()}

    return _step(torch.randn(4, 4), gradients_of)


def curvature() -> WholeStep:
    """Gradients over how much they change in a random direction."""

    def gradients_of(loss: Callable[[Tensors], Tensor], weights: Tensors) -> Tensors:
        gradients, changes = jvp(grad(loss), (weights,), (_like(weights),))[:2]
        return {name: gradient / (1 + changes[name].abs()) for name, gradient in gradients.items()}

    return _step(torch.randn(4, 4), gradients_of)


def evolution() -> WholeStep:
    """The mean of six random changes, each times the loss after it."""

    def gradients_of(loss: Callable[[Tensors], Tensor], weights: Tensors) -> Tensors:
        changes = _like(weights, 6)
        losses = vmap(loss)({name: weight + changes[name] for name, weight in weights.items()})
        return {name: torch.tensordot(losses, changes[name], 1) for name in weights}

    return _step(torch.randn(2, 16, 4), gradients_of)


def dual_numbers() -> WholeStep:
    """As :func:`forward_gradient`, without torch.func."""

    def gradients_of(loss: Callable[[Tensors], Tensor], weights: Tensors) -> Tensors:
        direction = _like(weights)
        with forward_ad.dual_level():
            made = loss({name: forward_ad.make_dual(weight, direction[name]) for name, weight in weights.items()})
            derivative = forward_ad.unpack_dual(made).tangent
        assert derivative is not None
        return {name: derivative * change for name, change in direction.items()}

    return _step(torch.randn(4, 4), gradients_of)
