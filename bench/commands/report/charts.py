"""The charts, one function each: records in, a Vega-Lite chart out.

Every chart is as wide as the page lets it be, and takes the page's text colour (``currentColor``), so that one chart
serves a telephone, a wide screen, light and dark. A chart that has nothing to show is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.report.pareto import front
from peft_update_bench.bench.metrics import Curve, Row
from peft_update_bench.bench.record import Adaptation, Record
from peft_update_bench.bench.units import show

Chart = alt.Chart | alt.LayerChart | alt.FacetChart
Rows = list[dict[str, Any]]

MIB = 2**20
CATEGORIES = {
    "parameters": "#0072B2", "buffers": "#CC79A7", "gradients": "#E69F00", "activations": "#009E73",
    "temporaries": "#56B4E9", "optimizer_states": "#D55E00", "other": "#999999",
}  # fmt: skip
"""Colours from Okabe and Ito's palette, which the colour-blind tell apart, and which stand out from white and black."""

METHODS = {
    "fft": "#8A8A8A", "head": "#56B4E9", "bn_head": "#0072B2",
    "lora": "#E69F00", "dora": "#D55E00", "galore": "#009E73",
}  # fmt: skip
FURTHER_METHODS = ("#CC79A7", "#A5791F", "#7B61C9", "#4C9F9F")
"""For a user's own methods, in turn."""

SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
UPRIGHT = "M0,-0.5V0.5"
"""A tick's symbol in a legend, as an SVG path."""
COINCIDING = 0.005
"""Of the highest: lines less far apart look like one."""

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor", "titleColor": "currentColor", "domainColor": "currentColor",
        "tickColor": "currentColor", "gridColor": "currentColor", "gridOpacity": 0.15, "titleFontWeight": "normal",
        "labelFontSize": 11, "titleFontSize": 12, "labelFlush": False,
    },
    "legend": {
        "labelColor": "currentColor", "titleColor": "currentColor", "orient": "bottom", "titleFontWeight": "normal",
        "labelFontSize": 11, "title": None, "symbolStrokeWidth": 2, "labelLimit": 220,
        # On a telephone there is room for two names in a line, and for a second legend below the first alone.
        "columns": 2,
        "layout": {"bottom": {"anchor": "start", "direction": "vertical"}},
    },
    "title": {"color": "currentColor", "subtitleColor": "currentColor", "anchor": "start", "fontSize": 13},
}  # fmt: skip


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
                    "cell": _label(record.cell), "category": category, "MiB": size / MIB, "order": order,
                    "size": show(size, "bytes"), "peak": show(memory.peak, "bytes"),
                    "where": f"{memory.peak_phase}, {memory.peak_module}",
                }
            )  # fmt: skip
        if memory.refresh_peak is not None:
            refresh = show(memory.refresh_peak, "bytes")
            mib = memory.refresh_peak / MIB
            ticks.append({"cell": _label(record.cell), "MiB": mib, "refreshing step": refresh, "tick": tick})
    if not rows:
        return None
    y = alt.Y("cell:N", sort=None, title=None, axis=alt.Axis(labelLimit=150))
    bars = _chart(rows).mark_bar().encode(
        y=y,
        x=alt.X("MiB:Q", title="MiB at the peak", stack="zero"),
        color=alt.Color("category:N", scale=_scale(CATEGORIES), sort=list(CATEGORIES)),
        order=alt.Order("order:Q"),
        tooltip=_tooltip("cell:N", "category:N", "size:N", "peak:N", "where:N"),
    )  # fmt: skip
    # Coloured by a scale of its own, so that a legend says what it is.
    stroke = alt.Stroke(
        "tick:N",
        scale=alt.Scale(domain=[tick], range=["currentColor"]),
        legend=alt.Legend(symbolType=UPRIGHT, symbolSize=150),
    )
    marks = _chart(ticks).mark_tick(color="currentColor", thickness=2).encode(
        y=y, x=alt.X("MiB:Q"), stroke=stroke, tooltip=_tooltip("cell:N", "refreshing step:N")
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
            "cell": _label(record.cell), "method": record.method, "rank": record.rank, "value": value / curve.scale,
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
    color, shape = _by_method(methods)
    tooltip = _tooltip("cell:N", f"{curve.axis}:N", *(["interval:N"] if "interval" in ranked[0] else []))
    layers: list[alt.Chart] = [_chart(ranked).mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color)]
    if intervals := [point for point in ranked if "low" in point]:
        layers.append(
            _chart(intervals)
            .mark_rule(strokeWidth=1.5)
            .encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=color, tooltip=tooltip)
        )
    for place, point in enumerate(level):
        # Level lines often lie on each other; where one is dashed, both show.
        line = _chart([point]).mark_rule(strokeWidth=2, strokeDash=DASHES[place % len(DASHES)])
        layers.append(line.encode(y=y, color=color, tooltip=tooltip if "interval" in point else tooltip[:2]))
    layers.append(
        _chart([*ranked, *level]).mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, color=color, shape=shape, tooltip=tooltip
        )
    )  # fmt: skip
    if names := _coinciding(level, max(point["value"] for point in rows)):
        layers.append(
            _chart([name | {"x": right} for name in names])
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
            "cell": _label(record.cell), "method": record.method, "cost": cost(adaptation) / scale,
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
    color, shape = _by_method(list(dict.fromkeys(row["method"] for row in rows)))
    x = alt.X("cost:Q", title=axis, scale=alt.Scale(domain=[0, 1.1 * max(row["cost"] for row in rows)]))
    # Apart from the plot, the axis leaves room for the names of its first points.
    off = alt.Axis(offset=20)
    y = alt.Y("accuracy:Q", title="accuracy after the update, %", scale=alt.Scale(zero=False, padding=15), axis=off)
    tooltip = _tooltip("cell:N", "after the update:N", "before:N", f"{axis}:N")
    points = _chart(rows).mark_point(size=70, opacity=1).encode(x=x, y=y, color=color, shape=shape, tooltip=tooltip)
    on_front = [rows[index] for index in best]
    joined = _chart(on_front).mark_line(
        interpolate="step-after", strokeDash=[4, 3], strokeWidth=1, color="currentColor"
    ).encode(x=x, y=y)  # fmt: skip
    filled = _chart(on_front).mark_point(size=70, filled=True, opacity=1).encode(
        x=x, y=y, color=color, shape=shape, tooltip=tooltip
    )  # fmt: skip
    # Above a rising front, to its left, nothing lies.
    names = (
        _chart(_not_on_each_other(on_front, rows))
        .mark_text(align="right", dx=-7, dy=-5, color="currentColor", fontSize=11)
        .encode(x=x, y=y, text=alt.Text("cell:N"))
    )
    layers = [joined, points, filled, names]
    if margin is not None:
        intervals = _chart(within).mark_rule(strokeWidth=1)
        layers.insert(0, intervals.encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=color))
    return alt.layer(*layers).properties(height=300)


_PLOT = 400, 300
"""Pixels that a plot is wide and high, at the least where there is room for its points' names."""


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


def over_time(rows: Rows, methods: Sequence[str], runs: Sequence[str], no_data: Rows) -> Chart | None:
    """A metric over commits, as its change since the first.

    `rows` have cell, method, run, segment (a line breaks between two), change (in %), figure, stepped. `no_data` have
    run and words, which stand where the run would be.
    """
    if not rows:
        return None
    color, _ = _by_method(list(methods))
    x = alt.X("run:N", sort=list(runs), title=None, axis=alt.Axis(labelAngle=-30, labelLimit=120, grid=False))
    y = alt.Y("change:Q", title="change since the first, %")
    tooltip = [*_tooltip("cell:N", "run:N", "figure:N"), alt.Tooltip("change:Q", format="+.3f")]
    base = _chart(rows)
    lines = base.mark_line(interpolate="step-after", strokeWidth=1.2, opacity=0.7).encode(
        x=x, y=y, color=color, detail=[alt.Detail("cell:N"), alt.Detail("segment:N")]
    )
    points = base.mark_point(filled=True, size=25, opacity=0.8).encode(x=x, y=y, color=color, tooltip=tooltip)
    steps = [row for row in rows if row["stepped"]]
    layers = [lines, points]
    if steps:
        layers.append(
            _chart(steps).mark_point(shape="diamond", filled=True, size=130, opacity=1).encode(
                x=x, y=y, color=color, tooltip=tooltip
            )
        )  # fmt: skip
    if no_data:
        layers.append(
            _chart(no_data)
            .mark_text(angle=270, align="left", color="currentColor", fontSize=11)
            .encode(x=x, y=alt.YValue(236), text=alt.Text("words:N"))
        )
    return alt.layer(*layers).properties(height=240)


def specification(chart: Chart, description: str) -> dict[str, Any]:
    """The chart as Vega-Lite, as wide as what holds it."""
    specification: dict[str, Any] = chart.properties(width="container", description=description).to_dict()
    return specification | {"config": CONFIG, "autosize": {"type": "fit-x", "contains": "padding"}}


def _tooltip(*fields: str) -> list[alt.Tooltip]:
    """Each field as a channel, as everywhere here: of a bare word altair asks all of its classes what it is, which is
    most of the time that a chart takes, and a page may have a thousand."""
    return [alt.Tooltip(field) for field in fields]


def _chart(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def _label(cell: Cell) -> str:
    """A cell within a chart of its own architecture."""
    return cell.method if cell.rank is None else f"{cell.method} r={cell.rank}"


def _scale(colours: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def _by_method(methods: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of each method, the same on every chart; no two of 24 further ones have both in common."""
    further = [method for method in methods if method not in METHODS]
    colours, places = dict(METHODS), {method: index for index, method in enumerate(METHODS)}
    for index, method in enumerate(further):
        colours[method] = FURTHER_METHODS[index % len(FURTHER_METHODS)]
        # Four colours beside six shapes come back after twelve: then the shapes begin one later.
        places[method] = index + index // 12
    shapes = [SHAPES[places[method] % len(SHAPES)] for method in methods]
    return (
        alt.Color("method:N", sort=list(methods), scale=_scale({method: colours[method] for method in methods})),
        alt.Shape("method:N", sort=list(methods), scale=alt.Scale(domain=list(methods), range=shapes)),
    )
