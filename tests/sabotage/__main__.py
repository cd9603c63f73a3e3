"""The table of sabotages:

``python -m tests.sabotage [computed] [lasting] [measured_memory] [latency] [adaptation]``.

Each fault is put into the code under test and judged by the gate. Prints a Markdown table; exits with 1 where a fault
went unseen, or raised an alarm that it should not have.
"""

from __future__ import annotations

import sys

from peft_update_bench.bench.units import show
from tabulate import tabulate

from tests.sabotage.cases import ADAPTATION, COMPUTED, LASTING, LATENCY, MEASURED
from tests.sabotage.faults import FAULTS
from tests.sabotage.judged import Row, run

CASES = {
    "computed": COMPUTED,
    "lasting": LASTING,
    "measured_memory": MEASURED,
    "latency": LATENCY,
    "adaptation": ADAPTATION,
}
HEADERS = ("sabotage", "cell", "metric that moved most", "baseline", "measured", "change", "others", "verdict")


def columns(row: Row) -> tuple[str, ...]:
    said = (FAULTS[row.case.fault].__doc__ or "").split("\n")[0].rstrip(".")
    verdict = "; ".join(row.complaints) or ("failed" if row.error else "regressed")
    if row.error:
        return said, row.case.cell, "the cell fails", "", "", "", "", f"{verdict}: {row.error}"
    if not row.alarms:
        return said, row.case.cell, "none", "", "", "", "", verdict
    worst = max(row.alarms, key=lambda alarm: abs(alarm.change or 0.0))
    figures = (show(worst.before, worst.unit), show(worst.now, worst.unit), worst.shown_change)
    others = ", ".join(alarm.metric for alarm in row.alarms if alarm is not worst)
    return said, row.case.cell, worst.metric, *figures, others, verdict


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CASES]
    if unknown:
        print(f"python -m tests.sabotage: given {unknown[0]!r}; expected any of {', '.join(CASES)}", file=sys.stderr)
        return 2
    rows = []
    for case in (case for name in names or CASES for case in CASES[name]):
        print(case, file=sys.stderr, flush=True)
        rows.append(run(case))
    print(tabulate([columns(row) for row in rows], HEADERS, tablefmt="pipe", disable_numparse=True))
    wrong = [row for row in rows if row.complaints]
    faults = {row.case.fault for row in rows}
    print(f"\n{len(faults)} sabotages in {len(rows)} cells: {len(rows) - len(wrong)} as they should be judged.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
