"""Where methods take hold in each network."""

from __future__ import annotations

import pytest
import torch
from peft_update_bench.fixtures.architectures import (
    ARCHITECTURES,
    CORE_ARCHITECTURES,
    UnsupportedNetworkError,
    build,
    build_on_meta,
    convolutional,
)
from torch import nn


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_classifies_into_the_workloads_classes(architecture: str) -> None:
    network = build_on_meta(architecture, 7)
    assert network.module.eval()(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 7)
    assert network.head not in network.adapted
    assert network.head not in network.projected
    assert set(network.adapted) <= set(network.projected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_grouped_convolutions_get_no_adapter(architecture: str) -> None:
    network = build_on_meta(architecture, 10)
    grouped = {n for n, m in network.module.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    assert not grouped & set(network.adapted)
    assert grouped <= set(network.projected)
    assert bool(grouped) == (architecture not in {"resnet18", "squeezenet1_1"})


def test_the_core_is_the_studys_four() -> None:
    assert CORE_ARCHITECTURES == ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def test_squeezenets_head_is_its_one_by_one_convolution() -> None:
    network = build_on_meta("squeezenet1_1", 10)
    assert network.head == "classifier.1"
    assert isinstance(network.head_module, nn.Conv2d)
    assert network.head_module.out_channels == 10


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (nn.Sequential(nn.ReLU()), "neither a Linear nor a Conv2d"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 9)), "expected a Linear or a 1×1 Conv2d with 10 outputs"),
        (nn.Sequential(nn.Conv2d(3, 10, 3)), "last layer of Sequential with weights is '0'"),
        (nn.Sequential(nn.Conv2d(3, 9, 1)), "with 10 outputs"),
    ],
)
def test_a_network_without_a_head_is_refused(module: nn.Module, complaint: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=complaint):
        convolutional(module, 10)


def test_a_builder_that_needs_real_tensors_ends_on_the_meta_device_all_the_same() -> None:
    built = build_on_meta("regnet_y_400mf", 10).module
    real = build("regnet_y_400mf", 10).module
    assert {t.device.type for t in built.state_dict().values()} == {"meta"}
    assert [(n, t.shape) for n, t in built.state_dict().items()] == [(n, t.shape) for n, t in real.state_dict().items()]


def test_tied_weights_stay_tied_on_the_meta_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight
            assert float(self.first.weight.detach().sum()) != 0  # needs real data

    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: Tied())
    module = build_on_meta("tied", 4).module
    assert isinstance(module, Tied)
    assert module.second.weight is module.first.weight
    assert module.first.weight.is_meta
