"""The page: one HTML file that needs no network and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import vl_convert
from altair import SCHEMA_VERSION
from jinja2 import Environment, PackageLoader, StrictUndefined
from peft_update_bench.bench.commands.report.figures import Figure
from peft_update_bench.bench.commands.report.history import History
from peft_update_bench.bench.commands.report.matrix import MOVED_HEADERS, matrix, moved_row
from peft_update_bench.bench.commands.report.runs import Comparison, conditions
from peft_update_bench.bench.commands.report.where import where
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import show

if TYPE_CHECKING:
    from peft_update_bench.bench.commands.report.claims import Claims


@dataclass(frozen=True)
class Contents:
    """What a page shows. What is None has no section."""

    run: Baseline
    comparison: Comparison | None
    figures: Sequence[Figure]
    history: History | None = None
    history_figures: Sequence[Figure] = ()
    claims: Claims | None = None


def render(contents: Contents) -> str:
    """The page as HTML. Everything that comes from a record is escaped."""
    environment = Environment(
        loader=PackageLoader("peft_update_bench.bench.commands.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    comparison = contents.comparison
    records = contents.run.records.values()
    return environment.get_template("page.html").render(
        contents=contents,
        conditions=conditions(contents.run),
        matrix=matrix(contents.run, comparison),
        worst=[moved_row(*pair) for pair in comparison.worst] if comparison else [],
        moved=[moved_row(*pair) for pair in comparison.moved] if comparison else [],
        moved_headers=MOVED_HEADERS,
        work_done=where(contents.run, comparison),
        subjects=list(dict.fromkeys(record.cell.subject for record in records)),
        architectures=list(dict.fromkeys(record.architecture for record in records)),
        methods=list(dict.fromkeys(record.method for record in records)),
        has_accuracy=any(record.adaptation for record in records),
        backward=_backward_passes(records),
        chart_library=_chart_library(),
    )


def _backward_passes(records: Iterable[Record]) -> list[tuple[str, str, str, str]]:
    """Full fine-tuning's backward pass by both counts: subject, stock, corrected, ratio."""
    flops = {r.cell.subject: r.flops for r in records if r.method == "fft" and r.flops and r.flops.backward}
    return [
        (
            subject,
            show(counted.stock_backward, "FLOPs"),
            show(counted.backward, "FLOPs"),
            f"{counted.stock_backward / counted.backward:.1f}",
        )
        for subject, counted in flops.items()
    ]


def _chart_library() -> str:
    """Vega, Vega-Lite and vega-embed as one script, in the versions that the charts were written for."""
    version = ".".join(SCHEMA_VERSION.lstrip("v").split(".")[:2])
    # The package's stub lacks the default that its function has.
    bundle: str = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]
    # Inside a page, the first "</script" ends the script, wherever it stands.
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
