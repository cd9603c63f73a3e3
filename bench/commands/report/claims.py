"""The study's claims on the page: its statements, what it does not say, and the counting error step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
from peft_update_bench.bench.commands.report.figures import Figure, figure
from peft_update_bench.bench.commands.report.runs import Conditions
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.record.record import installed_versions
from peft_update_bench.bench.study import grouped_convolution, memory_by_batch, statements, tables
from peft_update_bench.bench.study.grouped_convolution import Steps
from peft_update_bench.bench.study.memory_by_batch import Peak
from peft_update_bench.bench.study.statement import HEADERS, Finding
from peft_update_bench.bench.units import show

_COLOURS = ("#E69F00", "#D55E00")
"""LoRA's on the other charts, and with dropout the one beside it."""


@dataclass(frozen=True)
class Claims:
    """What the section shows. `batches` are a table's headers and rows."""

    findings: Sequence[Finding]
    steps: Steps
    batches: tuple[Sequence[str], Sequence[Sequence[str]]]
    saved_by_batch: Figure
    headers: Sequence[str] = HEADERS


def measure(records: Sequence[Record]) -> Claims:
    """Re-measure everything here and now; what is stated of accuracy comes from a run's `records`."""
    peaks = list(memory_by_batch.measure())
    return Claims(
        statements.measure_all(records), grouped_convolution.count(), tables.batch_table(peaks), _saved_by_batch(peaks)
    )


def _saved_by_batch(peaks: Sequence[Peak]) -> Figure:
    """Peak memory saved against the batch size, a line for each network and update but full fine-tuning."""
    rows = [
        {
            "network": peak.architecture,
            "update": peak.update,
            "batch": peak.batch_size,
            "saved": 100 * peak.saved,
            "peak": show(peak.bytes, "bytes"),
            "of fft": show(peak.of_fft, "bytes"),
        }
        for peak in peaks
        if peak.update != "fft"
    ]
    updates = list(dict.fromkeys(peak.update for peak in peaks if peak.update != "fft"))
    x = alt.X(
        "batch:Q",
        title="batch size",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(values=sorted({peak.batch_size for peak in peaks}), grid=False),
    )
    y = alt.Y("saved:Q", title="peak memory saved, % of fft's")
    color = alt.Color("update:N", sort=updates, scale=alt.Scale(domain=updates, range=_COLOURS))
    tooltip = ["network:N", "update:N", "batch:Q", alt.Tooltip("saved:Q", format="+.1f"), "peak:N", "of fft:N"]
    base = alt.Chart(alt.InlineData(values=rows))
    lines = base.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color, strokeDash="network:N")
    points = base.mark_point(filled=True, size=50, opacity=1).encode(
        x=x, y=y, color=color, shape=alt.Shape("network:N", legend=None), tooltip=tooltip
    )
    nothing = alt.Chart(alt.InlineData(values=[{"saved": 0}])).mark_rule(color="currentColor").encode(y="saved:Q")
    chart = alt.layer(nothing, lines, points).properties(height=260)
    versions = ", ".join(f"{package} {version}" for package, version in installed_versions().items())
    held = Conditions("3×224×224, 10 classes, AdamW, float32", versions, "computed: alike on every machine", "")
    return figure("the study", "saved-by-batch", "Peak memory that LoRA saves, by batch size", chart, held)
