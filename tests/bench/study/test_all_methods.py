"""What every method costs, as the methods' page shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from peft_update_bench.bench import marked_tables
from peft_update_bench.bench.cells import MATRICES
from peft_update_bench.bench.study import all_methods
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.methods.names import BUILT_IN
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload

PAGE = Path(__file__).parents[3] / "fixtures" / "methods" / "README.md"


def test_a_row_is_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_methods, "BUILT_IN", {name: BUILT_IN[name] for name in ("head", "galore")})
    wide = replace(MATRICES["wide"], further_ranks={"galore": (8,)})
    monkeypatch.setitem(MATRICES, "wide", wide)
    monkeypatch.setattr(all_methods, "BATCH_SIZES", (1, 2))
    head, galore, higher = all_methods.measure("mobilenet_v3_small")
    assert [(cost.method, cost.rank) for cost in (head, galore, higher)] == [
        ("head", None),
        ("galore", 4),
        ("galore", 8),
    ]
    for size in (1, 2):
        found = computed.measure(
            build_update_step("mobilenet_v3_small", "galore", 8, Workload(batch_size=size), "meta")
        )
        assert higher.flops[size] == found.flops["amortised_total"]
        assert higher.peaks[size] == max(int(found.memory["peak"]), int(found.memory["refresh_peak"]))
    assert head.trained == 1024 * 10 + 10
    assert 4 * head.trained < head.stored < 4 * head.trained + 300
    assert len(head.row()) == 3 + 2 * 2
    assert head.row()[0] == "head"
    assert higher.row()[0] == "galore, r=8"


def test_the_page_has_a_row_for_every_method() -> None:
    for table in marked_tables.read(PAGE.read_text()).values():
        rows = [line.split("|")[1].partition(",")[0].strip() for line in table.splitlines()[2:]]
        assert list(dict.fromkeys(rows)) == list(BUILT_IN)
