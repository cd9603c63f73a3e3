"""Records and baseline files as the suite writes them, small, for tests to change."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import SCHEMA, Record, read_record

WORKLOAD: dict[str, Any] = {
    "batch_size": 1, "image_size": 224, "num_classes": 10, "optimizer": "AdamW", "dtype": "float32", "threads": 1,
    "device": "cpu",
}  # fmt: skip
VERSIONS = {"torch": "2.14.1", "torchvision": "0.29.1", "peft": "0.21.2", "galore-torch": "1.0", "python": "3.11.7"}
LATENCY: dict[str, Any] = {
    "relative": 0.8, "relative_low": 0.79, "relative_high": 0.81,
    "wall_relative": 0.8, "wall_relative_low": 0.79, "wall_relative_high": 0.81,
    "rounds": 30, "confidence": 0.95, "stable": True, "reference": "fft", "without_core": 0.0,
}  # fmt: skip


FFT = Cell("resnet18", "fft")
LORA = Cell("resnet18", "lora", 4)


def extra_info(cell: Cell = LORA, **parts: Any) -> dict[str, Any]:
    """A complete record as JSON holds it; `parts` replace its entries, None takes one out."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "architecture": cell.architecture,
        "method": cell.method,
        "rank": cell.rank,
        "batch_size": cell.batch_size,
        "workload": WORKLOAD if cell.batch_size is None else {**WORKLOAD, "batch_size": cell.batch_size},
        "versions": VERSIONS,
        "parameters": {"total": 1000, "trainable": 100, "statistics": 20},
        "flops": {
            "forward": 1000, "backward": 2000, "optimizer": 0, "total": 3000, "elementwise": 50, "stock_backward": 2500,
            "optimizer_elementwise": 30, "optimizer_operators": {"aten.add_": 2, "aten.sqrt": 1},
        },
        "memory": {
            "peak": 1000, "parameters": 400, "buffers": 10, "gradients": 40, "activations": 400, "temporaries": 50,
            "optimizer_states": 80, "other": 20, "peak_phase": "backward", "peak_module": "layer4",
            "first_peak": 900,
        },
        "growth": {
            "flops_image": 2900, "flops_image_large": 2900, "flops_fixed": 100, "elementwise_image": 20,
            "bytes_image": 500, "bytes_image_large": 510, "bytes_fixed": 500, "large_batch": 17,
            "larger_image": 256, "flops_larger_image": 4000, "bytes_larger_image": 1200,
        },
        "result": {
            "stored_bytes": 480, "resume_bytes": 560, "inference_flops": 1000, "inference_peak": 700,
            "merged_flops": 950, "merged_peak": 690,
        },
        "first_step": {"seconds": 0.2},
        "measured_memory": {"allocator_peak": 1100, "allocator_transient": 500, "rss_peak": 2000},
        "latency": LATENCY,
        **parts,
    }  # fmt: skip
    return copy.deepcopy({key: value for key, value in data.items() if value is not None})


def record(cell: Cell = LORA, **parts: Any) -> Record:
    return read_record(extra_info(cell, **parts))


def lacking(section: str) -> Record:
    parts: dict[str, Any] = {section: None}
    return record(**parts)


def changed(section: str, **figures: Any) -> dict[str, Any]:
    """A section of `extra_info` with some figures changed, as its keyword argument."""
    return {section: {**extra_info()[section], **figures}}


def baseline_data(*records: dict[str, Any], matrix: str = "core", is_filtered: bool = False) -> dict[str, Any]:
    """What pytest-benchmark saves for records given as `extra_info`."""
    entries = []
    for info in records or (extra_info(),):
        task = info.get("adaptation", {}).get("task")
        cell = Cell(info["architecture"], info["method"], info.get("rank"), task, batch_size=info.get("batch_size"))
        test = "test_update" if task is None else "test_adaptation"
        name = f"{test}[{cell}]"
        entry = {"name": name, "fullname": f"bench/{test}.py::{name}", "extra_info": info}
        entries.append({**entry, "stats": {"median": 0.05}})
    return {
        "machine_info": {"cpu": {"brand_raw": "A CPU", "count": 2}},
        "benchmarks": entries,
        "suite": {"matrix": matrix, "is_filtered": is_filtered},
    }


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path
