"""A module of a user's own: networks and methods that work, and others that are wrong in one way each."""

from __future__ import annotations

MODULE = '''
import torch
from torch import nn

from peft_update_bench.fixtures.architectures import Network, convolutional
from peft_update_bench.fixtures.methods import Method


def build(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
    )


def described(num_classes):
    """Its head comes first, where a description by convention does not find it."""
    module = nn.Sequential(nn.Linear(3, num_classes), nn.Linear(num_classes, num_classes, bias=False))
    return Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), module), "2.0", (), ("2.1",))


def on_cpu(num_classes):
    """Made of values, which the meta device has not."""
    network = build(num_classes)
    network.load_state_dict({name: torch.ones(value.shape) for name, value in network.state_dict().items()})
    assert network[0].weight.sum().item() == 8 * 3 * 9
    return network


def ready(num_classes):
    with torch.device("cpu"):
        return build(num_classes)


class ReadsValues(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.network = build(num_classes)

    def forward(self, images):
        return self.network(images if images.mean().item() < 9 else -images)


class Training(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.network = build(num_classes)

    def forward(self, images):
        if self.training:
            raise KeyError("auxiliary")
        return self.network(images)


class Warns(Training):
    def forward(self, images):
        import warnings
        warnings.warn("deprecated", FutureWarning)
        return self.network(images)


def another_signature(classes): ...
def nothing(num_classes): ...
def failing(num_classes): raise KeyError("weights")
def headless(num_classes): return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 99))
def unpooled(num_classes): return nn.Conv2d(3, num_classes, 1)
def images_of_32(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
def misnamed(num_classes): return Network(build(num_classes), "head", (), ())
def no_weights(num_classes): return Network(build(num_classes), "5", (), ())
def flat(num_classes): return Network(build(num_classes), "6", (), ("1",))


class Tuples(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(*build(num_classes))

    def forward(self, images):
        return (super().forward(images),)


SHARED = build(10)
def shared(num_classes): return SHARED
NUMBER = 3


class Biases(Method):
    """Trains the biases and the head."""

    def adapt(self, network, rank):
        for name, parameter in network.module.train().named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
        network.head_module.requires_grad_(True)


class Ranked(Biases):
    takes_rank = True


INSTANCE = Ranked()


class Unfinished(Method): ...


class Needy(Biases):
    def __init__(self, rate): ...


class Breaking(Biases):
    def __init__(self): raise OSError("no table")


class OneArgument(Method):
    def adapt(self, network): ...


class Frozen(Method):
    def adapt(self, network, rank):
        network.module.requires_grad_(False)


class Still(Biases):
    def adapt(self, network, rank):
        super().adapt(network, rank)
        self.learning_rate = 0.0


class Returning(Biases):
    def adapt(self, network, rank):
        import copy
        adapted = copy.deepcopy(network.module)
        return adapted.requires_grad_(False)


class WithoutOptimizer(Biases):
    def optimizer(self, network, rank): ...


class NeedsAClosure(Biases):
    def optimizer(self, network, rank):
        return torch.optim.LBFGS(network.module.parameters())


class Raising(Method):
    def adapt(self, network, rank):
        raise LookupError("no such layer")
'''
