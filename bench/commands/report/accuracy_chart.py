"""The chart of accuracy against what an update costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
from peft_update_bench.bench.commands.report.chart_style import Chart, Rows, by_method, chart_of, label_of, tooltip_of
from peft_update_bench.bench.commands.report.pareto import front
from peft_update_bench.bench.record import Adaptation, Record
from peft_update_bench.bench.units import show

_PLOT = 400, 300
"""Pixels that a plot is wide and high, at the least where there is room for its points' names."""


def accuracy_against(
    records: Sequence[Record],
    cost: Callable[[Adaptation], int],
    axis: str,
    unit: str,
    scale: float,
    margin: float | None = None,
) -> Chart | None:
    """Accuracy after the update against what it costs, the Pareto front joined and named. `records` are of one task.

    `margin`, a fraction, is half of the interval that seeds leave to each accuracy. One that is lower than before the
    update has none: its seeds scatter like no other's.
    """
    adapted = [(record, record.adaptation) for record in records if record.adaptation is not None]
    if not adapted:
        return None
    best = front([(cost(adaptation), adaptation.accuracy_after) for _, adaptation in adapted])
    rows: Rows = [
        {
            "cell": label_of(record.cell), "method": record.method, "cost": cost(adaptation) / scale,
            "accuracy": adaptation.accuracy_after * 100, axis: show(cost(adaptation), unit),
            "after the update": f"{adaptation.accuracy_after:.1%}", "before": f"{adaptation.accuracy_before:.1%}",
            "front": index in best,
        }
        for index, (record, adaptation) in enumerate(adapted)
    ]  # fmt: skip
    within = [row for row, (_, adaptation) in zip(rows, adapted, strict=True) if not adaptation.harms]
    if margin is not None:
        for row in within:
            row |= {"low": row["accuracy"] - 100 * margin, "high": row["accuracy"] + 100 * margin}
            row["after the update"] += f" ± {100 * margin:.1f}"
    color, shape = by_method(list(dict.fromkeys(row["method"] for row in rows)))
    x = alt.X("cost:Q", title=axis, scale=alt.Scale(domain=[0, 1.1 * max(row["cost"] for row in rows)]))
    # Apart from the plot, the axis leaves room for the names of its first points.
    off = alt.Axis(offset=20)
    y = alt.Y("accuracy:Q", title="accuracy after the update, %", scale=alt.Scale(zero=False, padding=15), axis=off)
    tooltip = tooltip_of("cell:N", "after the update:N", "before:N", f"{axis}:N")
    points = chart_of(rows).mark_point(size=70, opacity=1).encode(x=x, y=y, color=color, shape=shape, tooltip=tooltip)
    on_front = [rows[index] for index in best]
    joined = chart_of(on_front).mark_line(
        interpolate="step-after", strokeDash=[4, 3], strokeWidth=1, color="currentColor"
    ).encode(x=x, y=y)  # fmt: skip
    filled = chart_of(on_front).mark_point(size=70, filled=True, opacity=1).encode(
        x=x, y=y, color=color, shape=shape, tooltip=tooltip
    )  # fmt: skip
    # Above a rising front, to its left, nothing lies.
    names = (
        chart_of(_not_on_each_other(on_front, rows))
        .mark_text(align="right", dx=-7, dy=-5, color="currentColor", fontSize=11)
        .encode(x=x, y=y, text=alt.Text("cell:N"))
    )
    layers = [joined, points, filled, names]
    if margin is not None:
        intervals = chart_of(within).mark_rule(strokeWidth=1)
        layers.insert(0, intervals.encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=color))
    return alt.layer(*layers).properties(height=300)


def _not_on_each_other(named: Rows, drawn: Rows) -> Rows:
    """Those of `named` whose names, to the left of their points, do not lie on another's; the most accurate first."""
    ends = [row[end] for row in drawn for end in ("low", "high") if end in row]
    heights = [*ends, *(row["accuracy"] for row in drawn)]
    width, height = max(row["cost"] for row in drawn) or 1, max(heights) - min(heights) or 1
    kept: list[tuple[float, float, float, dict[str, Any]]] = []
    for row in sorted(named, key=lambda row: -float(row["accuracy"])):
        right, middle = _PLOT[0] * row["cost"] / width, _PLOT[1] * row["accuracy"] / height
        left = right - 6 * len(row["cell"])
        if all(left > end or right < start or abs(middle - line) > 12 for start, end, line, _ in kept):
            kept.append((left, right, middle, row))
    return [row for *_, row in kept]
