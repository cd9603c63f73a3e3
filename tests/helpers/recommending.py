"""A baseline of three cells to recommend from, and what an answer says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft_update_bench.bench.cells import Cell

from tests.helpers import records

Ask = Callable[..., tuple[int, str, str]]

HEAD, LORA, FFT = Cell("resnet18", "head"), Cell("resnet18", "lora", 4), Cell("resnet18", "fft")
CELLS = ("--architectures=resnet18", "--methods=head,lora,fft", "--ranks=4")


def costing(cell: Cell, *, peak: int, flops: int, trained: int, relative: float | None, **parts: Any) -> dict[str, Any]:
    """A record's JSON with these costs; its categories and phases add up."""
    info = records.extra_info(cell)
    memory = {**info["memory"], "peak": peak, "activations": info["memory"]["activations"] + peak - 1000}
    counted = {**info["flops"], "forward": flops - 2000, "total": flops}
    bounds = ("relative", "relative_low", "relative_high", "wall_relative", "wall_relative_low", "wall_relative_high")
    latency = None if relative is None else {**info["latency"], **dict.fromkeys(bounds, relative)}
    if cell.method == "fft" and latency:
        latency["reference"] = "calibration"
    parameters = {"total": 10**6, "trainable": trained}
    return records.extra_info(cell, memory=memory, flops=counted, latency=latency, parameters=parameters, **parts)


def fitting(output: str) -> list[str]:
    """The cells of the first table, if that is the one of those that fit."""
    if "No cell fits." in output:
        return []
    table = output.partition(" within the budget, ")[2].partition("\n\n")[2].partition("\n\n")[0]
    return [line.split("|")[2].strip() for line in table.splitlines()[2:]]
