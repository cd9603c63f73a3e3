"""The table that ends a run, in the terminal and as Markdown."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import shorten

from peft_update_bench.bench.gate.figures import show, show_change
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.verdict import Kind
from peft_update_bench.bench.record import Adaptation
from tabulate import tabulate

HEADERS = ("cell", "FLOPs", "peak memory", "latency / fft", "verdict")
ADAPTATION_HEADERS = (
    "cell", "accuracy before → after", "source before → after",
    "steps to target", "FLOPs to it", "peak memory", "verdict",
)  # fmt: skip
_SEVERITY: tuple[Kind, ...] = ("missing", "regressed", "unstable", "improved", "new", "not comparable", "ok")


def terminal(gate: Gate) -> str:
    """The table for a terminal, one line a cell."""
    return tabulate(_rows(gate, gate.results.values()), _headers(gate), tablefmt="simple", disable_numparse=True)


def markdown(gate: Gate) -> str:
    """The verdict in a sentence, then the table, for a pull request. Failing cells come first."""
    ordered = sorted(gate.results.values(), key=lambda result: not _is_bad(result))
    rows = [[escape(value) for value in row] for row in _rows(gate, ordered)]
    return f"{headline(gate)}\n\n{tabulate(rows, _headers(gate), tablefmt='pipe', disable_numparse=True)}\n"


def headline(gate: Gate) -> str:
    """What came out, in one sentence: how many cells of which kind, against what."""
    counts = Counter(kind_of(result) for result in gate.results.values())
    words = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    against = f"against {gate.baseline.name}" if gate.baseline else "no baseline compared (--benchmark-compare)"
    return f"{len(gate.results)} cells, {against}: {words or 'none measured'}"


def notes(gate: Gate) -> list[str]:
    """What a reader should know beside the table."""
    verdicts = [verdict for result in gate.results.values() for verdict in result.verdicts]
    found = [*gate.remarks]
    incomparable = {verdict.note for verdict in verdicts if verdict.kind == "not comparable"}
    if incomparable:
        found.append(f"Not compared: measured memory and latency ({'; '.join(sorted(incomparable))}).")
    if any(verdict.kind == "improved" for verdict in verdicts):
        found.append(f"Improved past the tolerance; to keep it, record a new baseline: {gate.record_command}")
    if any(verdict.kind == "new" for verdict in verdicts):
        found.append(f"New cells have no baseline and were not judged; record one: {gate.record_command}")
    if gate.unsaved:
        found.append(f"No baseline was saved: {gate.unsaved}.")
    return found


def _headers(gate: Gate) -> Sequence[str]:
    return HEADERS if gate.run.adaptation is None else ADAPTATION_HEADERS


def _rows(gate: Gate, results: Iterable[Result]) -> list[Sequence[str]]:
    if gate.run.adaptation is not None:
        return [
            (
                str(result.cell),
                *adaptation_figures(result.record.adaptation if result.record else None),
                _verdict(result),
            )
            for result in results
        ]
    return [
        (
            str(result.cell),
            show(record.flops.total, "FLOPs") if record and record.flops else "–",
            show(record.memory.peak, "bytes") if record and record.memory else "–",
            _latency(result),
            _verdict(result),
        )
        for result in results
        for record in (result.record,)
    ]


def adaptation_figures(adaptation: Adaptation | None) -> Sequence[str]:
    """What is shown of an adaptation: accuracies, what it took to the target accuracy, and the peak memory."""
    if adaptation is None:
        return ["–"] * (len(ADAPTATION_HEADERS) - 2)
    spread = "" if adaptation.accuracy_spread is None else f" ± {100 * adaptation.accuracy_spread:.1f}"
    return (
        f"{adaptation.accuracy_before:.1%} → {adaptation.accuracy_after:.1%}{spread}"
        f"{'' if adaptation.adapted else ' (not adapted)'}",
        f"{adaptation.source_accuracy_before:.1%} → {adaptation.source_accuracy_after:.1%}",
        "not reached" if adaptation.steps_to_target is None else str(adaptation.steps_to_target),
        show(adaptation.flops_to_target, "FLOPs"),
        show(adaptation.peak_memory, "bytes"),
    )


def _latency(result: Result) -> str:
    latency = result.record.latency if result.record else None
    if latency is None:
        return "–"
    # Full fine-tuning is the reference; its own ratio, to the calibration step, is on another scale.
    spread = (latency.relative_high - latency.relative_low) / 2
    value = "1 (reference)" if latency.is_references else f"{latency.relative:.3f} ± {spread:.3f}"
    return value if latency.stable else f"{value} unstable"


def kind_of(result: Result) -> str:
    """The one word for a cell: its gravest verdict."""
    if result.error:
        return "failed"
    kinds = {verdict.kind for verdict in result.verdicts}
    # A cell whose computed metrics hold is ok, also where its measured ones could not be compared.
    if "ok" in kinds:
        kinds.discard("not comparable")
    return next((kind for kind in _SEVERITY if kind in kinds), "not compared")


def _is_bad(result: Result) -> bool:
    return kind_of(result) in {"failed", "missing", "regressed", "unstable"}


def _verdict(result: Result) -> str:
    kind = kind_of(result)
    if kind == "failed":
        return f"failed: {shorten(result.error, width=80, placeholder=' …')}"
    told = [f"{verdict.metric} {show_change(verdict)}" for verdict in result.verdicts if verdict.kind == kind]
    return f"{kind}: {', '.join(told)}" if kind in {"regressed", "improved", "unstable"} else kind


def escape(text: str) -> str:
    """Text as text in Markdown: no cell boundary, no HTML, no link.

    By entities, because a backslash in the text would take another's effect away.
    """
    return html.escape(text, quote=False).translate(_AS_ENTITIES)


_AS_ENTITIES = str.maketrans({"|": "&#124;", "[": "&#91;", "`": "&#96;", "*": "&#42;", "\n": " ", "\r": " "})
