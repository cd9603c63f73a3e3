"""The command in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main

from tests.helpers import records
from tests.helpers.recommending import CELLS, FFT, HEAD, LORA, Ask, costing


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the command in a folder whose baseline has three cells: head, LoRA and full fine-tuning, ever dearer."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    data = records.baseline_data(
        costing(HEAD, peak=2**20, flops=10**9, trained=1000, relative=0.25),
        costing(LORA, peak=2 * 2**20, flops=2 * 10**9, trained=2000, relative=0.8),
        costing(FFT, peak=4 * 2**20, flops=3 * 10**9, trained=10**6, relative=40.0),
    )
    records.write(tmp_path / "baselines" / "0001_baseline.json", data)

    def run(*options: str) -> tuple[int, str, str]:
        status = main(["recommend", *CELLS, *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
