"""What nobody has published of LoRA's memory: over the batch, and with dropout."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.study import memory_by_batch, tables


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int, str], float]:
    monkeypatch.setattr(memory_by_batch, "BATCH_SIZES", (1, 16))
    return {(p.architecture, p.batch_size, p.update): p.saved for p in memory_by_batch.measure()}


def test_loras_saving_vanishes_and_dropout_makes_it_dearer(saved: dict[tuple[str, int, str], float]) -> None:
    """A slice of ``pytest bench -m claims``: the figures of the design's notes."""
    lora, dropout = list(memory_by_batch.UPDATES)[1:]
    assert round(saved["mobilenet_v2", 1, lora], 3) == 0.168
    assert round(saved["mobilenet_v2", 16, lora], 2) == 0
    assert round(saved["resnet18", 16, lora], 2) == 0.20
    assert saved["mobilenet_v2", 1, dropout] < 0
    assert round(saved["resnet18", 16, dropout], 2) == -0.32
    assert saved["resnet18", 1, dropout] > 0.5


def test_the_table_has_a_row_for_each_batch_size_and_changes_from_full_fine_tuning() -> None:
    peaks = [
        memory_by_batch.Peak("net", update, batch, size, 2**20)
        for batch in (1, 2)
        for update, size in (("fft", 2**20), ("lora", 2**19), ("dropout", 2**21))
    ]
    headers, rows = tables.batch_table(peaks)
    assert headers == ["batch", "net, fft", "net, lora", "net, dropout"]
    assert rows[1] == ["2", "1.00 MiB", "512.00 KiB (-50.0 %)", "2.00 MiB (+100.0 %)"]
