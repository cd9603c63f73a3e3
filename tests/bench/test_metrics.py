"""The table of metrics: what its rows name exists."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.metrics import METRICS, load


@pytest.mark.parametrize("name", METRICS)
def test_what_a_metric_is_made_of_is_there(name: str) -> None:
    metric = METRICS[name]
    assert {figure.key for figure in metric.figures} <= {*metric.model().model_fields}
    assert not metric.measure or callable(load(metric.measure))
