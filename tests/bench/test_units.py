"""Figures as text: every unit, and no change that reads as none."""

from __future__ import annotations

import math

import pytest
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.units import count, show, show_difference, show_fraction


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "FLOPs", "–"),
        (0, "FLOPs", "0.000 FLOPs"),
        (999, "FLOPs", "999.0 FLOPs"),
        (1_182_345_678, "FLOPs", "1.182 GFLOPs"),
        (50_125, "elements", "50.12 kelements"),
        (1000, "bytes", "1000 Bytes"),
        (88_500_000, "bytes", "84.40 MiB"),
        (0.8666, "×", "0.867 ×"),
        (0.8666, "accuracy", "86.7%"),
        (0.001234567, "s", "1.235 ms"),
        (1_234_567, "parameters", "1,234,567 parameters"),
        (1234, None, "1.234 k"),
    ],
)
def test_a_figure_in_its_unit(value: float | None, unit: str | None, text: str) -> None:
    assert show(value, unit) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (None, "–"),
        (math.inf, "from zero"),
        (0.0, "+0.0 %"),
        (0.9009, "+90.1 %"),
        (-0.5, "-50.0 %"),
        # The smallest change that one decimal shows, and one that it would show as none.
        (0.0005, "+0.1 %"),
        (-0.0005, "-0.1 %"),
        (0.0004999, "+0.04999 %"),
        (-0.0000001, "-0.00001 %"),
        (4 / 2e8, "+2e-06 %"),
    ],
)
def test_a_change_with_its_sign(fraction: float | None, text: str) -> None:
    assert show_fraction(fraction) == text


@pytest.mark.parametrize(
    ("unit", "before", "now", "brief", "whole"),
    [
        ("FLOPs", 1000, 1100, "+10.0 %", "+10.0 %, +100.0 FLOPs"),
        ("bytes", 3000, 1500, "-50.0 %", "-50.0 %, -1.46 KiB"),
        ("elements", 0, 5, "from zero", "from zero, +5.000 elements"),
        # Accuracies are compared in points: half of 2 % is no news.
        ("accuracy", 0.733, 0.056, "-67.7 points", "-67.7 points"),
        ("accuracy", 0.5, 0.5, "+0.0 points", "+0.0 points"),
        ("accuracy", 0.5, None, "–", "–"),
        ("FLOPs", None, 5, "–", "–"),
    ],
)
def test_how_far_a_figure_moved(unit: str, before: float | None, now: float | None, brief: str, whole: str) -> None:
    verdict = Verdict("any", "ok", unit, now, before)
    assert verdict.shown_change == brief
    assert verdict.whole_change == whole


@pytest.mark.parametrize(
    ("difference", "text"), [(-1, "-1 parameters"), (0, "+0 parameters"), (1234, "+1,234 parameters")]
)
def test_a_difference_has_the_sign_of_a_fraction(difference: int, text: str) -> None:
    assert show_difference(difference, "parameters") == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells")])
def test_a_number_of_things(number: int, text: str) -> None:
    assert count(number, "cell") == text
