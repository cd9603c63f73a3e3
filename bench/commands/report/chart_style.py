"""How every chart looks: its colours, marks and words, and the Vega-Lite that they end in.

Every chart is as wide as the page lets it be, and takes the page's text colour (``currentColor``), so that one chart
serves a telephone, a wide screen, light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
from peft_update_bench.bench.cells import Cell

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


def specification(chart: Chart, description: str) -> dict[str, Any]:
    """The chart as Vega-Lite, as wide as what holds it."""
    specification: dict[str, Any] = chart.properties(width="container", description=description).to_dict()
    return specification | {"config": CONFIG, "autosize": {"type": "fit-x", "contains": "padding"}}


def tooltip_of(*fields: str) -> list[alt.Tooltip]:
    """Each field as a channel, as everywhere here: of a bare word altair asks all of its classes what it is, which is
    most of the time that a chart takes, and a page may have a thousand."""
    return [alt.Tooltip(field) for field in fields]


def chart_of(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def label_of(cell: Cell) -> str:
    """A cell within a chart of its own architecture."""
    return cell.method if cell.rank is None else f"{cell.method} r={cell.rank}"


def scale_of(colours: dict[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def by_method(methods: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of each method, the same on every chart; no two of 24 further ones have both in common."""
    further = [method for method in methods if method not in METHODS]
    colours, places = dict(METHODS), {method: index for index, method in enumerate(METHODS)}
    for index, method in enumerate(further):
        colours[method] = FURTHER_METHODS[index % len(FURTHER_METHODS)]
        # Four colours beside six shapes come back after twelve: then the shapes begin one later.
        places[method] = index + index // 12
    shapes = [SHAPES[places[method] % len(SHAPES)] for method in methods]
    return (
        alt.Color("method:N", sort=list(methods), scale=scale_of({method: colours[method] for method in methods})),
        alt.Shape("method:N", sort=list(methods), scale=alt.Scale(domain=list(methods), range=shapes)),
    )
