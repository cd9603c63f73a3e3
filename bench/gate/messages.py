"""Every failure in words: what regressed, by how much, what may have caused it, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.gate.left_out import left_out
from peft_update_bench.bench.gate.moved import what_moved
from peft_update_bench.bench.gate.verdict import FAILING, Kind, Verdict, fails
from peft_update_bench.bench.gate.where import (
    runs_more_often,
    where_bytes_moved,
    where_flops_moved,
    where_trained_moved,
)
from peft_update_bench.bench.record import Growth, Record
from peft_update_bench.bench.units import show, show_difference


def explain_failure(
    result: Result, baseline: Baseline | None, record_command: str, also_fails: Collection[Kind] = ()
) -> str:
    """The message of a failing result, empty where nothing fails. `also_fails` are kinds that the run fails for too."""
    failing = [verdict for verdict in result.verdicts if fails(verdict, also_fails)]
    if not failing or result.record is None or baseline is None:
        return ""
    lines = [f"{result.cell} does not hold its baseline {baseline.name}:"]
    compared = [verdict for verdict in failing if verdict.kind != "not comparable"]
    lines += [f"  {_sentence(verdict)}" for verdict in compared]
    lines += [f"  {line}" for line in _incomparable(failing)]
    if compared:
        lines += [f"  {line}" for line in _causes(result.record, baseline.records[result.cell], compared)]
    lines.append(
        f"If the change is meant, record a new baseline: {record_command}"
        if compared
        else "Record a baseline on this machine, in a folder beside the others, of any name: "
        f"{_in_a_folder_of_its_own(record_command, baseline)}"
    )
    return "\n".join(lines)


def _in_a_folder_of_its_own(record_command: str, baseline: Baseline) -> str:
    words = [word for word in shlex.split(record_command) if not word.startswith("--benchmark-storage=")]
    return shlex.join([*words, f"--benchmark-storage={baseline.path.parent / 'THIS_MACHINE'}"])


def in_brief(result: Result, also_fails: Collection[Kind] = ()) -> str:
    """What failed most, in a few words: ``flops.forward +94.1 %``; empty where nothing was judged and failed."""
    failing = [verdict for verdict in result.verdicts if fails(verdict, also_fails)]
    if not failing:
        return ""
    worst = max(failing, key=lambda verdict: (verdict.kind in FAILING, abs(verdict.change or 0.0)))
    kind = worst.kind if worst.change is None or worst.kind == "not comparable" else worst.shown_change
    return f"{worst.metric} {kind}"


def explain_loss(cells: Sequence[Cell], baseline: Baseline, record_command: str) -> str:
    """The message of cells that the baseline has, and that the run should have and has no longer."""
    are, were = ("is", "it was") if len(cells) == 1 else ("are", "they were")
    return (
        f"{cells_in_words(cells)} {are} in {baseline.name} and no longer in the run.\n"
        f"If {were} removed or renamed on purpose, record a new baseline: {record_command}"
    )


def explain_left_out(older: Path, newest: Baseline, record_command: str) -> str:
    """The message of a user's step that an older baseline has, and the newest, which judges the run, has not."""
    return (
        f"is in {older.name}, and not in {newest.path}, the newest, which was recorded without it; expected a "
        f"baseline that has it too: {record_command}, the older one by its name: --benchmark-compare={older.stem}, "
        "or for what is recorded by itself a folder of its own: --benchmark-storage"
    )


def explain_without_record(test: str, baseline: Baseline, record_command: str) -> str:
    """The message of a user's test whose entry in the baseline has no figures to hold it to."""
    return (
        f"the entry of {test} in {baseline.path} holds no record of an update, as where it was emptied by hand or is "
        f"of a plain benchmark; restore the file from version control, or record a new baseline: {record_command}"
    )


def _sentence(verdict: Verdict) -> str:
    if verdict.kind == "missing":
        return f"{verdict.metric} is missing: {verdict.note}"
    percent = 100 * verdict.tolerance
    tolerance = f"{percent:.1f} points" if verdict.unit == "accuracy" else f"{percent:.3g}%"
    note = f"; {verdict.note}" if verdict.note else ""
    return (
        f"{verdict.metric} {verdict.kind}: {show(verdict.before, verdict.unit)} → {show(verdict.now, verdict.unit)} "
        f"({verdict.whole_change}; tolerance {tolerance}{note})"
    )


def _incomparable(verdicts: Iterable[Verdict]) -> list[str]:
    """A line for each reason, with the figures that could not be compared for it."""
    found = [verdict for verdict in verdicts if verdict.kind == "not comparable"]
    by_reason = {v.note: [one.metric for one in found if one.note == v.note] for v in found}
    return [f"{', '.join(names)} not comparable: {reason}" for reason, names in by_reason.items()]


def _causes(now: Record, before: Record, failing: list[Verdict]) -> list[str]:
    """What differs beside the failing figures and may explain them."""
    causes = []
    if any(verdict.metric.startswith("memory.") for verdict in failing) and now.memory and before.memory:
        old = before.memory.categories()
        new = now.memory.categories()
        moved = [f"{name} {_bytes_moved(old[name], new[name])}" for name in new if new[name] != old[name]]
        where = f"{now.memory.peak_phase}, {now.memory.peak_module}"
        causes.append(f"at the peak ({where}): {', '.join(moved) or 'every category as before'}")
    if any(verdict.metric.startswith("flops.optimizer") for verdict in failing) and now.flops and before.flops:
        causes += left_out(now.flops, before.flops)
    if any(verdict.metric.startswith("growth.flops_image") for verdict in failing) and now.growth and before.growth:
        causes += _bend(now.growth, before.growth)
    counted = any(verdict.metric.startswith("instructions.") for verdict in failing)
    if counted and now.instructions and before.instructions:
        causes += what_moved(now.instructions, before.instructions)
    causes += [f"{words}: {where}" for words, explain in WHERE if (where := explain(now, before, failing))]
    return [*causes, recorded_with(now, before)]


def _bytes_moved(old: int, new: int) -> str:
    """Both figures, or how far they are apart where they read alike."""
    before, after = show(old, "bytes"), show(new, "bytes")
    if before != after:
        return f"{before} → {after}"
    return show_difference(new - old, "bytes")


def where_moved(now: Record, before: Record, failing: Iterable[Verdict]) -> str:
    """In which blocks FLOPs moved where they fail, else bytes where memory fails, else FLOPs again where what is
    trained fails: a layer that is frozen costs less. Empty where that is not known."""
    sections = {verdict.metric.partition(".")[0] for verdict in failing}
    if "flops" in sections and (flops := where_flops_moved(now, before)):
        return flops
    if "memory" in sections:
        return where_bytes_moved(now, before)
    return where_flops_moved(now, before) if "parameters" in sections else ""


def trained_otherwise(now: Record, before: Record, failing: Iterable[Verdict]) -> str:
    """Which blocks train more parameters, or fewer, where their number fails; empty where that is not known."""
    is_of_these = any(verdict.metric.startswith("parameters.") for verdict in failing)
    return where_trained_moved(now, before) if is_of_these else ""


def more_often(now: Record, before: Record, failing: Iterable[Verdict]) -> str:
    """Which operators run more often, where work without a formula or memory fails; empty where that is not known."""
    if any(verdict.metric.startswith(("flops.elementwise", "memory.")) for verdict in failing):
        return runs_more_often(now, before)
    return ""


WHERE = (("trained otherwise", trained_otherwise), ("most of it", where_moved), ("runs more often", more_often))
"""What an explanation says of where a change is, and how that is found."""


def recorded_with(now: Record, before: Record) -> str:
    """Which packages differ, and the learning rate of an adaptation, as the end of an explanation."""
    changed = [
        f"{package} {before.versions.get(package, 'none')}, now {now.versions.get(package, 'none')}"
        for package in sorted({*now.versions, *before.versions})
        if now.versions.get(package) != before.versions.get(package)
    ]
    if now.adaptation and before.adaptation and now.adaptation.learning_rate != before.adaptation.learning_rate:
        was, rate = (
            "none" if one.learning_rate is None else f"{one.learning_rate:g}"
            for one in (before.adaptation, now.adaptation)
        )
        changed.append(f"learning rate {was}, now {rate}")
    return f"recorded with {'; '.join(changed)}" if changed else "recorded with the same package versions"


def _bend(now: Growth, before: Growth) -> list[str]:
    """That a further image has no price any more, where it had one."""
    if now.is_affine or not before.is_affine:
        return []
    one, many = show(now.flops_image, "FLOPs"), show(now.flops_image_large, "FLOPs")
    return [
        f"a further image no longer costs the same in every batch: one more costs {one}, each of those up to "
        f"{now.large_batch} {many}"
    ]
