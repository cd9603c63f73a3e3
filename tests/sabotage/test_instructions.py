"""Faults that no computed figure sees are seen by counted instructions, each with the function that it is of."""

from __future__ import annotations

import pytest

from tests.sabotage.instructions import FAULTS, run


@pytest.mark.study
def test_each_is_caught_and_named() -> None:
    assert {caught.name: caught.complaint for caught in run(list(FAULTS))} == dict.fromkeys(FAULTS, "")


def test_there_are_ten_and_more() -> None:
    assert len(FAULTS) >= 10
