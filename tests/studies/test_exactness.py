"""Networks that nobody chose: computed as a real step is, or refused. A tenth of them; all with ``-m study``."""

from __future__ import annotations

from itertools import cycle

import pytest
import timm
import torch

from tests.studies.exactness import METHODS, NETWORKS, compare

QUICK = (
    "cs3darknet_focus_s", "dla46_c", "edgenext_xx_small", "ghostnet_050", "lcnet_050", "mixnet_s", "mnasnet_small",
    "mobilenetv3_small_050", "pit_ti_224", "repghostnet_050", "resnet10t", "skresnet18", "starnet_s050", "tinynet_e",
)  # fmt: skip


@pytest.mark.parametrize(("network", "method"), [*zip(QUICK, cycle(METHODS), strict=False)])
def test_quick(network: str, method: str) -> None:
    outcome = compare(network, method)
    assert outcome.verdict in ("ok", "refused"), outcome.detail
    assert (outcome.verdict == "refused") == bool(outcome.detail)


def test_a_tenth_is_quick() -> None:
    assert set(QUICK) <= set(NETWORKS)
    assert len(QUICK) >= len(NETWORKS) / 10


@pytest.mark.study
def test_each_family_has_its_network() -> None:
    """timm's modules are its families. One has none in the list only where its smallest has over 30 M parameters."""
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if not {*names} & {*NETWORKS}:
            assert min(map(parameters, names)) > 30e6, module


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name, num_classes=10).parameters())


@pytest.mark.study
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network(network: str, method: str) -> None:
    outcome = compare(network, method)
    assert outcome.verdict in ("ok", "refused"), outcome.detail
