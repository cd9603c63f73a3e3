"""The charts of what an update costs, one function each: records in, a Vega-Lite chart out.

A chart that has nothing to show is None.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
from peft_update_bench.bench.commands.report.chart_style import (
    CATEGORIES,
    MIB,
    Chart,
    Rows,
    by_method,
    chart_of,
    label_of,
    scale_of,
    tooltip_of,
)
from peft_update_bench.bench.metrics import Curve, Row
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import show

DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
UPRIGHT = "M0,-0.5V0.5"
"""A tick's symbol in a legend, as an SVG path."""
COINCIDING = 0.005
"""Of the highest: lines less far apart look like one."""


def memory_by_category(records: Sequence[Record]) -> Chart | None:
    """Peak memory of an ordinary step, stacked by what holds it, a bar for each cell.

    A tick shows where a refreshing step peaks.
    """
    tick = "peak of a refreshing step"
    rows: Rows = []
    ticks: Rows = []
    for record in records:
        memory = record.memory
        if memory is None:
            continue
        for order, (category, size) in enumerate(memory.categories().items()):
            rows.append(
                {
                    "cell": label_of(record.cell), "category": category, "MiB": size / MIB, "order": order,
                    "size": show(size, "bytes"), "peak": show(memory.peak, "bytes"),
                    "where": f"{memory.peak_phase}, {memory.peak_module}",
                }
            )  # fmt: skip
        if memory.refresh_peak is not None:
            refresh = show(memory.refresh_peak, "bytes")
            mib = memory.refresh_peak / MIB
            ticks.append({"cell": label_of(record.cell), "MiB": mib, "refreshing step": refresh, "tick": tick})
    if not rows:
        return None
    y = alt.Y("cell:N", sort=None, title=None, axis=alt.Axis(labelLimit=150))
    bars = chart_of(rows).mark_bar().encode(
        y=y,
        x=alt.X("MiB:Q", title="MiB at the peak", stack="zero"),
        color=alt.Color("category:N", scale=scale_of(CATEGORIES), sort=list(CATEGORIES)),
        order=alt.Order("order:Q"),
        tooltip=tooltip_of("cell:N", "category:N", "size:N", "peak:N", "where:N"),
    )  # fmt: skip
    # Coloured by a scale of its own, so that a legend says what it is.
    stroke = alt.Stroke(
        "tick:N",
        scale=alt.Scale(domain=[tick], range=["currentColor"]),
        legend=alt.Legend(symbolType=UPRIGHT, symbolSize=150),
    )
    marks = chart_of(ticks).mark_tick(color="currentColor", thickness=2).encode(
        y=y, x=alt.X("MiB:Q"), stroke=stroke, tooltip=tooltip_of("cell:N", "refreshing step:N")
    )  # fmt: skip
    layers = alt.layer(bars, marks) if ticks else bars
    return layers.properties(height=18 * len({row["cell"] for row in rows}))


def by_rank(records: Sequence[Record], row: Row, curve: Curve) -> Chart | None:
    """A figure against rank, a line for each method; methods without a rank are level lines.

    Every line has its method's marker, as in the legend. Level lines that coincide are named where they do, and none of
    their markers hides another.
    """
    unit = row.figure.unit
    rows: Rows = []
    for record in records:
        figure = curve.estimate(record) if curve.estimate else row.of(record)
        if figure is None:
            continue
        value, low, high = figure if isinstance(figure, tuple) else (figure, figure, figure)
        point = {
            "cell": label_of(record.cell), "method": record.method, "rank": record.rank, "value": value / curve.scale,
            curve.axis: show(value, unit),
        }  # fmt: skip
        if low < high:
            point |= {"low": low / curve.scale, "high": high / curve.scale}
            point["interval"] = f"{show(low, unit)} to {show(high, unit)}"
        rows.append(point)
    ranked = [point for point in rows if point["rank"] is not None]
    if not ranked:
        return None
    level = [point for point in rows if point["rank"] is None]
    methods = list(dict.fromkeys(point["method"] for point in rows))
    ranks = sorted({point["rank"] for point in ranked})
    left, right = ranks[0] / 1.3, ranks[-1] * 1.3
    ranked = [point | {"x": point["rank"]} for point in ranked]
    level = [
        point | {"x": left * (right / left) ** ((place + 0.5) / len(level))} for place, point in enumerate(level)
    ]  # fmt: skip
    x = alt.X(
        "x:Q",
        title="rank",
        scale=alt.Scale(type="log", base=2, domain=[left, right], nice=False),
        axis=alt.Axis(values=ranks, grid=False),
    )
    y = alt.Y("value:Q", title=curve.axis, scale=alt.Scale(zero=True))
    color, shape = by_method(methods)
    tooltip = tooltip_of("cell:N", f"{curve.axis}:N", *(["interval:N"] if "interval" in ranked[0] else []))
    layers: list[alt.Chart] = [chart_of(ranked).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color)]
    if intervals := [point for point in ranked if "low" in point]:
        layers.append(
            chart_of(intervals)
            .mark_rule(strokeWidth=1.5)
            .encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=color, tooltip=tooltip)
        )
    for place, point in enumerate(level):
        # Level lines often lie on each other; where one is dashed, both show.
        line = chart_of([point]).mark_rule(strokeWidth=2, strokeDash=DASHES[place % len(DASHES)])
        layers.append(line.encode(y=y, color=color, tooltip=tooltip if "interval" in point else tooltip[:2]))
    layers.append(
        chart_of([*ranked, *level]).mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, color=color, shape=shape, tooltip=tooltip
        )
    )  # fmt: skip
    if names := _coinciding(level, max(point["value"] for point in rows)):
        layers.append(
            chart_of([name | {"x": right} for name in names])
            .mark_text(align="right", dy=-9, color="currentColor", fontSize=11)
            .encode(x=x, y=y, text=alt.Text("names:N"))
        )
    return alt.layer(*layers).properties(height=260)


def _coinciding(level: Rows, highest: float) -> Rows:
    """The value and the names of level lines that look like one."""
    found: list[Rows] = []
    for point in sorted(level, key=lambda point: float(point["value"])):
        if found and point["value"] - found[-1][0]["value"] <= COINCIDING * highest:
            found[-1].append(point)
        else:
            found.append([point])
    return [
        {"value": alike[0]["value"], "names": " = ".join(point["method"] for point in alike)}
        for alike in found
        if len(alike) > 1
    ]


def over_time(rows: Rows, methods: Sequence[str], runs: Sequence[str], no_data: Rows) -> Chart | None:
    """A metric over commits, as its change since the first.

    `rows` have cell, method, run, segment (a line breaks between two), change (in %), figure, stepped. `no_data` have
    run and words, which stand where the run would be.
    """
    if not rows:
        return None
    color, _ = by_method(list(methods))
    x = alt.X("run:N", sort=list(runs), title=None, axis=alt.Axis(labelAngle=-30, labelLimit=120, grid=False))
    y = alt.Y("change:Q", title="change since the first, %")
    tooltip = [*tooltip_of("cell:N", "run:N", "figure:N"), alt.Tooltip("change:Q", format="+.3f")]
    base = chart_of(rows)
    lines = base.mark_line(interpolate="step-after", strokeWidth=1.2, opacity=0.7).encode(
        x=x, y=y, color=color, detail=[alt.Detail("cell:N"), alt.Detail("segment:N")]
    )
    points = base.mark_point(filled=True, size=25, opacity=0.8).encode(x=x, y=y, color=color, tooltip=tooltip)
    steps = [row for row in rows if row["stepped"]]
    layers = [lines, points]
    if steps:
        layers.append(
            chart_of(steps).mark_point(shape="diamond", filled=True, size=130, opacity=1).encode(
                x=x, y=y, color=color, tooltip=tooltip
            )
        )  # fmt: skip
    if no_data:
        layers.append(
            chart_of(no_data)
            .mark_text(angle=270, align="left", color="currentColor", fontSize=11)
            .encode(x=x, y=alt.YValue(236), text=alt.Text("words:N"))
        )
    return alt.layer(*layers).properties(height=240)
