"""Bytes, FLOPs and ratios as people type them."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.commands.recommend.quantities import (
    QuantityError,
    parse_accuracy,
    parse_bytes,
    parse_flops,
    parse_ratio,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64MB", 64e6), ("64M", 64e6), ("64 mb", 64e6), ("64MiB", 64 * 2**20), ("64Mi", 64 * 2**20), ("1B", 1),
        ("512KB", 512e3), ("512KiB", 512 * 1024), ("1.5GiB", 1.5 * 2**30), (".5k", 500), ("1e6b", 1e6), ("1e3kB", 1e6),
    ],
)  # fmt: skip
def test_bytes(text: str, value: float) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(("text", "value"), [("2G", 2e9), ("2GFLOPs", 2e9), ("2 gflop", 2e9), ("1.5e9", 1.5e9)])
def test_flops(text: str, value: float) -> None:
    assert parse_flops(text) == value


def test_ratios_and_accuracies() -> None:
    assert parse_ratio("0.8") == parse_ratio("80%") == parse_ratio("0.8x") == 0.8
    assert parse_accuracy("1") == parse_accuracy("100%") == 1
    assert [parse_accuracy(f"{percent}%") for percent in range(1, 101)] == [n / 100 for n in range(1, 101)]


@pytest.mark.parametrize("text", ["1e400", "1e99", "−1", "1_000", "٣", "1,5MB", "0x10", "--", "1 2"])
def test_what_is_no_quantity(text: str) -> None:
    if text == "1e99":
        assert parse_bytes(f"{text}B") == 1e99
    with pytest.raises(QuantityError, match="expected bytes"):
        parse_bytes(text)
