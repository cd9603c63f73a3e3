"""How far computed and measured memory are apart, cell by cell: ``python -m tests.studies.memory_gap``.

Measures the core matrix under the default workload, a minute or two, and prints in Markdown what the difference is, and
the cells where it is large with the reason: the allocations that operators made for themselves and that were live at
the peak. ``--all`` prints every cell.

Where workspaces leave something unexplained, it is one of three:
- a traced step accumulates gradients out of place where a plain one adds in place, because each tensor it shows to
  Python has a second owner: computed is above measured by at most 0.6 % (the same step, executed under a dispatch mode
  that does nothing, allocates exactly as much more);
- batch norm in eval mode returns empty statistics on the CPU and full ones on the meta device: at most 0.03 %;
- Python numbers that enter autograd as tensors of 8 bytes are made where no trace sees them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from functools import partial
from statistics import median

from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.processes.child_process import call_once, start_server
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.allocations import Allocations
from peft_update_bench.fixtures.instruments.measured_memory import computed_gap, measure_here, unexplained_gap
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload
from tabulate import tabulate

MIB = 2**20
LIMIT_S = 300
LARGE = 0.05
"""From this gap on a cell is listed with the reason."""


@dataclass(frozen=True)
class Row:
    """One cell: bytes, fractions of the allocator's transient peak, and seconds."""

    cell: Cell
    transient: int
    gap: float
    unexplained: float
    workspace: tuple[tuple[str, int], ...]
    rss_over_allocator: float
    seconds: float

    def cells(self) -> list[str]:
        return [
            str(self.cell), f"{self.transient / MIB:.1f}", f"{self.gap:.1%}", f"{self.unexplained:.3%}", self.reason(),
            f"{self.rss_over_allocator:.2f}",
        ]  # fmt: skip

    def reason(self) -> str:
        """Operators and their allocations of at least 0.1 MiB, such as ``aten::convolution 9.00 + 0.10``."""
        held: dict[str, list[str]] = {}
        for operator, size in self.workspace:
            if size >= 0.1 * MIB:
                held.setdefault(operator, []).append(f"{size / MIB:.2f}")
        return ", ".join(f"{operator} {' + '.join(sizes)}" for operator, sizes in held.items())


HEADERS = [
    "cell", "transient peak (MiB)", "gap", "unexplained", "workspaces at the peak (MiB)", "RSS / allocator",
]  # fmt: skip


def study(cell: Cell, workload: Workload) -> Row:
    build = partial(build_update_step, cell.architecture, cell.method, cell.rank, workload)
    memory = computed.measure(build(device="meta")).memory
    started = time.perf_counter()
    measured = call_once(measure_here, build, workload.threads, limit_s=LIMIT_S)
    seconds = time.perf_counter() - started
    allocations = measured.allocations
    assert isinstance(allocations, Allocations)
    return Row(
        cell,
        measured.allocator_transient,
        computed_gap(memory, measured),
        unexplained_gap(memory, measured),
        allocations.workspace,
        measured.rss_peak / measured.allocator_peak,
        seconds,
    )


def summary(rows: list[Row]) -> list[str]:
    gaps = [abs(row.gap) for row in rows]
    unexplained = [abs(row.unexplained) for row in rows]
    large = sum(gap > LARGE for gap in gaps)
    seconds = [row.seconds for row in rows]
    ratios = [row.rss_over_allocator for row in rows]
    return [
        f"- Gap, {len(rows)} cells: median {median(gaps):.3%}, highest {max(gaps):.1%}, {large} above {LARGE:.0%}.",
        f"- Unexplained by operators' workspaces: median {median(unexplained):.4%}, highest {max(unexplained):.2%}.",
        f"- RSS peak / allocator's peak: median {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}.",
        f"- Seconds a cell: median {median(seconds):.2f}, longest {max(seconds):.2f}, together {sum(seconds):.0f}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.memory_gap", description=__doc__.split("\n")[0])
    parser.add_argument("--all", action="store_true", help="print every cell, not only where the difference is large")
    show_all = parser.parse_args().all
    start_server()
    rows = []
    for cell in Selection().cells():
        print(f"{cell} …", file=sys.stderr)
        rows.append(study(cell, Workload()))
    rows.sort(key=lambda row: abs(row.gap), reverse=True)
    print(*summary(rows), "", sep="\n")
    shown = [row.cells() for row in rows if show_all or abs(row.gap) > LARGE]
    print(tabulate(shown, HEADERS, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
