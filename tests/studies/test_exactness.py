"""Networks that nobody chose: computed as a real step is, or refused. A tenth of them; all with ``-m study``."""

from __future__ import annotations

import pytest

from tests.studies.exactness import METHODS, NETWORKS, compare

QUICK = (
    "cs3darknet_focus_s", "dla46_c", "edgenext_xx_small", "ghostnet_050", "lcnet_050", "mixnet_s", "mnasnet_small",
    "mobilenetv3_small_050", "pit_ti_224", "repghostnet_050", "resnet10t", "skresnet18", "starnet_s050", "tinynet_e",
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", QUICK)
def test_quick(network: str, method: str) -> None:
    outcome = compare(network, method)
    assert outcome.verdict in ("ok", "refused"), outcome.detail
    assert (outcome.verdict == "refused") == bool(outcome.detail)


def test_a_tenth_is_quick() -> None:
    assert set(QUICK) <= set(NETWORKS)
    assert len(QUICK) >= len(NETWORKS) / 10


@pytest.mark.study
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network(network: str, method: str) -> None:
    outcome = compare(network, method)
    assert outcome.verdict in ("ok", "refused"), outcome.detail
