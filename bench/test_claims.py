"""The study's claims on cost, re-measured: ``pytest bench -m claims``. The claims on accuracy need a run's records."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.study import cost, grouped_convolution
from peft_update_bench.bench.study.statements import Claim, check

pytestmark = pytest.mark.claims


@pytest.mark.parametrize("claim", cost.CLAIMS, ids=lambda claim: claim.statement)
def test_claim(claim: Claim[None]) -> None:
    """What is measured is the verdict that the table in ``bench/claims/cost.py`` records."""
    finding = check(claim, None)
    assert finding.verdict == claim.expected, f"{finding.ours}; {finding.configuration}"


def test_the_stock_count_of_a_grouped_convolution_is_wrong() -> None:
    """Stock, corrected and brute-force count of one depthwise layer's weight gradient."""
    steps = grouped_convolution.count(channels=16, size=6)
    assert steps.corrected == steps.brute_force == 2 * 16 * (3 * 3) * (6 * 6)
    assert steps.stock == 16 * steps.brute_force
