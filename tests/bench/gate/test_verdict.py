"""Verdicts: just below, at and above each limit; and the words in which a failure is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.verdict import Terms, Verdict, judge, judge_measured
from peft_update_bench.bench.metrics import Evidence
from peft_update_bench.bench.record import SCHEMA, Record

from tests.helpers.records import LATENCY, LORA, VERSIONS, changed, extra_info, lacking, record
from tests.helpers.sessions import explain, run_cell, session

TOLERANCES = {"first_step": 1.0, "allocator_peak": 0.05, "rss_peak": 0.25, "latency": 0.1, "median_seconds": 1.0}


def verdicts(now: Record, before: Record | None, incomparable: str = "") -> dict[str, Verdict]:
    judged = judge(now, before, Terms(TOLERANCES, incomparable, error_rate=0.01))
    return {verdict.metric: verdict for verdict in judged}


def kinds(now: Record, before: Record | None, incomparable: str = "") -> dict[str, str]:
    return {name: verdict.kind for name, verdict in verdicts(now, before, incomparable).items() if verdict.kind != "ok"}


def test_unchanged_is_ok_in_every_metric() -> None:
    assert kinds(record(), record()) == {}
    rows = [row for row in metrics.rows() if row.metric.benchmark != "instructions"]  # which has records of its own
    judged = [row for row in rows if row.figure.evidence not in {Evidence.SHOWN, Evidence.SEEDS}]
    assert len(verdicts(record(), record())) == len(judged) - 4  # without GaLore's four


def test_without_a_baseline_a_cell_is_new() -> None:
    assert kinds(record(), None) == {"the cell": "new"}


@pytest.mark.parametrize(("tolerance", "limit"), [(0.13, 11_300), (0.15, 11_500), (0.29, 12_900), (0.1, 11_000)])
@pytest.mark.parametrize(("past", "kind"), [(-1, "ok"), (0, "ok"), (1, "regressed")])
def test_what_is_exactly_at_a_tolerance_is_within_it(tolerance: float, limit: int, past: int, kind: str) -> None:
    """In binary some 1 + tolerance are less than in decimal; the same holds the other way round, and of fractions."""
    assert judge_measured("m", "bytes", limit + past, 10_000, tolerance).kind == kind
    improved = {"ok": "ok", "regressed": "improved"}[kind]
    assert judge_measured("m", "bytes", 10_000, limit + past, tolerance).kind == improved
    assert judge_measured("m", "s", (limit + past) * 1.1e-5, 0.11, tolerance).kind == kind


COMPUTED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "flops.forward",
        changed("flops", forward=1001, total=3001),
        changed("flops", forward=999, total=2999),
        "improved",
    ),
    (
        "flops.backward",
        changed("flops", backward=2001, total=3001),
        changed("flops", backward=0, total=1000),
        "improved",
    ),
    ("flops.optimizer", changed("flops", optimizer=1, total=3001), {}, ""),
    ("flops.elementwise", changed("flops", elementwise=51), changed("flops", elementwise=49), "improved"),
    ("memory.peak", changed("memory", peak=1001, other=21), changed("memory", peak=999, other=19), "improved"),
    ("parameters.total", changed("parameters", total=1001), changed("parameters", total=999), "regressed"),
    ("parameters.trainable", changed("parameters", trainable=101), changed("parameters", trainable=99), "regressed"),
    ("parameters.statistics", changed("parameters", statistics=21), changed("parameters", statistics=0), "regressed"),
]


@pytest.mark.parametrize(("metric", "more", "less", "verdict_on_less"), COMPUTED)
def test_computed_metrics_tolerate_no_increase(
    metric: str, more: dict[str, Any], less: dict[str, Any], verdict_on_less: str
) -> None:
    assert kinds(record(**more), record()) == {metric: "regressed"}
    # The machine does not matter to them.
    assert kinds(record(**more), record(), "another CPU")[metric] == "regressed"
    if less:
        assert kinds(record(**less), record()) == {metric: verdict_on_less}


def test_the_stock_count_is_shown_and_not_gated() -> None:
    assert kinds(record(**changed("flops", stock_backward=9999)), record()) == {}


def test_categories_may_shift_under_an_unchanged_peak() -> None:
    assert kinds(record(**changed("memory", activations=390, temporaries=60)), record()) == {}


@pytest.mark.parametrize(
    ("bytes_now", "kind"),
    [(1155, "ok"), (1156, "regressed"), (1048, "ok"), (1047, "improved"), (1100, "ok")],
)
def test_measured_memory_at_its_tolerance(bytes_now: int, kind: str) -> None:
    now = record(**changed("measured_memory", allocator_peak=bytes_now))
    assert verdicts(now, record())["measured_memory.allocator_peak"].kind == kind
    assert verdicts(now, record(), "another CPU")["measured_memory.allocator_peak"].kind == "not comparable"


def scale_latency(factor: float) -> dict[str, Any]:
    """A latency whose CPU ratio is `factor` times as high; the wall clock's is unchanged."""
    return {"latency": {**LATENCY, **{k: LATENCY[k] * factor for k in ("relative", "relative_low", "relative_high")}}}


@pytest.mark.parametrize(
    ("factor", "kind"), [(1.0, "ok"), (1.0999, "ok"), (1.101, "unstable"), (1.5, "regressed"), (0.6, "improved")]
)
def test_latency_by_intervals(factor: float, kind: str) -> None:
    judged = verdicts(record(**scale_latency(factor)), record())
    assert judged["latency.relative"].kind == kind
    assert judged["latency.wall_relative"].kind == "ok"
    elsewhere = verdicts(record(**scale_latency(factor)), record(), "another CPU")
    assert elsewhere["latency.relative"].kind == "not comparable"


def test_the_wall_clock_gates_too() -> None:
    wall = {k: LATENCY[k] * 1.5 for k in ("wall_relative", "wall_relative_low", "wall_relative_high")}
    assert kinds(record(latency={**LATENCY, **wall}), record()) == {"latency.wall_relative": "regressed"}


def test_an_interval_too_wide_to_judge_is_unstable() -> None:
    wide = {**LATENCY, "relative_low": 0.5, "relative_high": 1.3}
    assert kinds(record(latency=wide), record()) == {"latency.relative": "unstable"}


def test_another_reference_step_is_never_compared() -> None:
    now = record(latency={**LATENCY, "reference": "calibration"})
    assert set(kinds(now, record()).values()) == {"missing"}


@pytest.mark.parametrize("section", ["parameters", "flops", "memory", "measured_memory", "latency"])
def test_a_section_that_the_baseline_lacks_fails(section: str) -> None:
    missing = kinds(record(), lacking(section))
    assert set(missing.values()) == {"missing"}
    assert {name.partition(".")[0] for name in missing} == {section}


@pytest.mark.parametrize("section", ["parameters", "flops", "memory", "measured_memory", "latency"])
def test_a_section_that_was_not_measured_is_not_judged(section: str) -> None:
    judged = verdicts(lacking(section), record())
    assert judged
    assert all(verdict.kind == "ok" for verdict in judged.values())
    assert section not in {name.partition(".")[0] for name in judged}


def test_a_figure_that_only_one_side_has_fails() -> None:
    refreshing = changed("flops", optimizer_refresh=10, refresh_period=200, amortised_total=3000.05)
    refreshes = ("optimizer_refresh", "refresh_period", "amortised_total")
    expected = {f"flops.{name}": "missing" for name in refreshes}
    assert kinds(record(**refreshing), record()) == expected
    assert kinds(record(), record(**refreshing)) == expected


HERE = Machine("A CPU", 2)


def gate(before: Record, machine: Machine = HERE) -> Gate:
    baseline = Baseline(Path("baselines/0001_a.json"), {before.cell: before}, {before.cell: 0.05}, HERE, "core", False)
    return Gate(TOLERANCES, baseline, machine)


def failure(judge: Gate, now: Record, **run: Any) -> str:
    return explain(judge.judge(now), judge.baseline, **run)


def test_a_failure_names_metric_values_difference_tolerance_file_and_versions() -> None:
    judge = gate(record(versions={**VERSIONS, "peft": "0.14.0", "torch": "2.9.1"}))
    message = failure(judge, record(**changed("flops", forward=1_500_000, total=1_502_000)))
    assert message.splitlines() == [
        "resnet18-lora-r4 does not hold its baseline 0001_a.json:",
        "  flops.forward regressed: 1.000 kFLOPs → 1.500 MFLOPs (+149900.0 %, +1.499 MFLOPs; tolerance 0%)",
        "  recorded with peft 0.14.0, now 0.21.2; torch 2.9.1, now 2.14.1",
        "If the change is meant, record a new baseline: pytest --benchmark-save=baseline",
    ]


def test_a_memory_failure_says_what_grew_and_where() -> None:
    judge = gate(record())
    message = failure(judge, record(**changed("memory", peak=1600, activations=1000)))
    assert "memory.peak regressed: 1000 Bytes → 1.56 KiB (+60.0 %, +600 Bytes; tolerance 0%)" in message
    assert "at the peak (backward, layer4): activations 400 Bytes → 1000 Bytes" in message
    assert "recorded with the same package versions" in message


def test_what_does_not_fail_has_no_failure_message() -> None:
    judge = gate(record())
    for now in (record(), record(**changed("flops", elementwise=1)), record(Cell("resnet18", "fft"))):
        assert failure(judge, now) == ""


def test_measured_metrics_are_compared_on_a_comparable_machine_only() -> None:
    slow = record(**scale_latency(2.0))
    assert "latency.relative regressed" in failure(gate(record()), slow)
    for machine in (Machine("Another CPU", 2), Machine("A CPU", 4)):
        elsewhere = gate(record(), machine)
        result = elsewhere.judge(slow)
        assert explain(result, elsewhere.baseline) == ""
        notes = {v.note for v in result.verdicts if v.kind == "not comparable"}
        assert notes == {f"measured on {machine}; the baseline on A CPU, 2 cores"}


def test_measured_metrics_are_compared_on_the_same_gpu_only() -> None:
    slow = scale_latency(2.0)
    assert "latency.relative regressed" in failure(gate(record(gpu="A GPU")), record(gpu="A GPU", **slow))
    for ours, theirs in (("Another", "A GPU"), (None, "A GPU"), ("A GPU", None)):
        judge = gate(record(gpu=theirs))
        result = judge.judge(record(gpu=ours, **slow, **changed("flops", total=4000, backward=3000)))
        of = {None: "A CPU, 2 cores", "A GPU": "A CPU, 2 cores, A GPU", "Another": "A CPU, 2 cores, Another"}
        notes = {v.note for v in result.verdicts if v.kind == "not comparable"}
        assert notes == {f"measured on {of[ours]}; the baseline on {of[theirs]}"}
        assert "flops.backward regressed" in explain(result, judge.baseline)


def test_unstable_fails_only_when_asked_to() -> None:
    unstable = record(latency={**LATENCY, "relative_low": 0.5, "relative_high": 1.3})
    judge = gate(record())
    assert failure(judge, unstable) == ""
    assert "latency.relative unstable" in failure(judge, unstable, unstable="fail")
    assert judge.judge(unstable).is_unstable
    assert not judge.judge(record()).is_unstable


@pytest.mark.parametrize(("factor", "suspected"), [(1.09, False), (1.11, True), (1.5, True), (0.5, False)])
def test_a_slowdown_past_the_tolerance_is_measured_again(factor: float, suspected: bool) -> None:
    assert gate(record()).judge(record(**scale_latency(factor))).suspects_slowdown == suspected


def test_the_more_suspicions_of_a_run_came_to_nothing_the_more_evidence_the_next_needs() -> None:
    judge = gate(record())
    suspected, slow = record(**scale_latency(1.11)), record(**scale_latency(1.155))

    def kind(now: Record, *, confirming: bool) -> str:
        verdicts = judge.judge(now, confirming=confirming).verdicts
        return next(verdict.kind for verdict in verdicts if verdict.metric == "latency.relative")

    assert kind(slow, confirming=False) == "regressed"
    assert {kind(suspected, confirming=True) for _ in range(9)} == {"unstable"}
    assert kind(slow, confirming=True) == "unstable"
    assert judge.error_budget.tests == 10


def test_slowdowns_that_were_confirmed_do_not_shield_the_next() -> None:
    judge = gate(record())
    slow = record(**scale_latency(1.155))
    messages = [explain(judge.judge(slow, confirming=True), judge.baseline) for _ in range(10)]
    assert all(messages)


def test_a_second_measurement_knows_what_it_is_to_decide() -> None:
    decision = gate(record()).decision(record().cell)
    assert decision is not None
    assert decision.before["relative"].estimate == 0.8
    assert (decision.tolerance, decision.error_rate) == (0.1, 0.05 / 8)
    assert gate(record(latency=None)).decision(record().cell) is None
    assert Gate(TOLERANCES).decision(record().cell) is None


def test_a_lost_cell_fails() -> None:
    lost = Cell("resnet18", "lora", 2)
    run = session(record(lost))
    assert run.lost == {lost}
    assert "resnet18-lora-r2 is in 0001_a.json and no longer in the run" in run_cell(run, lost)
    assert session(record(LORA)).lost == frozenset()


@pytest.mark.parametrize(("seconds", "kind"), [(0.1, "ok"), (0.1001, "regressed"), (0.025, "ok"), (0.0249, "improved")])
def test_absolute_times_at_their_tolerance(seconds: float, kind: str) -> None:
    (verdict,) = [v for v in gate(record()).judge(record(), seconds).verdicts if v.metric == "stats.median"]
    assert verdict.kind == kind
    elsewhere = gate(record(), Machine("Another CPU", 2)).judge(record(), seconds)
    updated = gate(record()).judge(record(versions={**VERSIONS, "torch": "2.15.0"}), seconds)
    for result in (elsewhere, updated):
        (verdict,) = [v for v in result.verdicts if v.metric == "stats.median"]
        assert verdict.kind == "not comparable"


@pytest.mark.parametrize(("seconds", "kind"), [(0.1001, "regressed"), (0.025, "ok"), (0.0249, "ok")])
def test_nothing_improves_on_absolute_times_that_may_hold_waiting(seconds: float, kind: str) -> None:
    """An older record, made beside three busy processes, would call the same code improved ever after."""
    older = changed("latency")
    del older["latency"]["without_core"]
    (verdict,) = [v for v in gate(record(**older)).judge(record(), seconds).verdicts if v.metric == "stats.median"]
    assert verdict.kind == kind
    note = "the baseline does not say whether other work had the cores"
    assert verdict.note == (note if seconds < 0.025 else "")


BOTH_CLOCKS = ["latency.relative", "latency.wall_relative"]


def latency_verdicts(before: Record, incomparable: str = "") -> list[tuple[Any, ...]]:
    found = verdicts(record(), before, incomparable)
    return [(v.metric, v.kind, v.unit, v.now, v.before, v.tolerance, v.note) for v in found.values() if v.unit == "×"]


def test_both_clocks_say_what_is_missing() -> None:
    """What a message is made of: without these figures it would say that something is wrong, and not what."""
    note = "the baseline has no such figure"
    assert latency_verdicts(record(latency=None)) == [
        (clock, "missing", "×", 0.8, None, 0.1, note) for clock in BOTH_CLOCKS
    ]


def test_both_clocks_say_that_the_reference_is_another() -> None:
    before = record(**changed("latency", reference="calibration", relative=0.79, wall_relative=0.79))
    note = "timed against fft, the baseline against calibration"
    assert latency_verdicts(before) == [(clock, "missing", "×", 0.8, 0.79, 0.1, note) for clock in BOTH_CLOCKS]


def test_both_clocks_say_that_the_machine_is_another() -> None:
    before = record(**changed("latency", relative=0.79, wall_relative=0.79))
    assert latency_verdicts(before, "another CPU") == [
        (clock, "not comparable", "×", 0.8, 0.79, 0.1, "another CPU") for clock in BOTH_CLOCKS
    ]


def test_both_clocks_say_how_sure_they_are() -> None:
    for clock, found in zip(BOTH_CLOCKS, latency_verdicts(record()), strict=True):
        assert found[:6] == (clock, "ok", "×", 0.8, 0.8, 0.1)
        assert found[6].startswith("between -")


def test_a_measured_figure_carries_what_it_was_judged_by() -> None:
    found = verdicts(record(), record(), "another CPU")["measured_memory.rss_peak"]
    assert found == Verdict(
        "measured_memory.rss_peak", "not comparable", "bytes", 2000, 2000, TOLERANCES["rss_peak"], "another CPU"
    )


def test_a_figure_that_one_side_lacks_says_which_side() -> None:
    without = record()
    assert without.flops is not None
    refreshing = without.model_copy(update={"flops": without.flops.model_copy(update={"optimizer_refresh": 7})})
    metric = "flops.optimizer_refresh"
    lost, gained = verdicts(without, refreshing)[metric], verdicts(refreshing, without)[metric]
    assert lost == Verdict(metric, "missing", "FLOPs", None, 7, note="this run has no such figure")
    assert gained == Verdict(metric, "missing", "FLOPs", 7, None, note="the baseline has no such figure")


OLD: dict[str, Any] = {
    "schema": 2,
    "growth": None,
    "result": None,
    "first_step": None,
    "flops": {k: v for k, v in extra_info()["flops"].items() if not k.startswith("optimizer_")},
    "memory": {k: v for k, v in extra_info()["memory"].items() if k != "first_peak"},
}


def test_an_older_baseline_cannot_judge_new_figures() -> None:
    """They are unrecorded, and do not fail; what the baseline has is judged as ever."""
    found = verdicts(record(), record(**OLD))
    since = {str(row) for row in metrics.rows() if row.figure.since == SCHEMA and row.metric.of(record()) is not None}
    assert {name for name, verdict in found.items() if verdict.kind == "unrecorded"} == since
    assert {verdict.kind for name, verdict in found.items() if name not in since} == {"ok"}
    older = "the baseline is older than this figure"
    assert found["memory.first_peak"] == Verdict(
        "memory.first_peak", "unrecorded", "bytes", extra_info()["memory"]["first_peak"], None, 0.0, older
    )
    seconds = extra_info()["first_step"]["seconds"]
    assert found["first_step.seconds"] == Verdict("first_step.seconds", "unrecorded", "s", seconds, None, 1.0, older)
    assert explain(gate(record(**OLD)).judge(record()), gate(record(**OLD)).baseline) == ""


def test_nor_can_the_first_baselines_of_a_schema_judge_what_later_ones_have() -> None:
    parameters = {k: v for k, v in extra_info()["parameters"].items() if k != "statistics"}
    found = verdicts(record(), record(**{**OLD, "schema": 1, "parameters": parameters}))
    assert found["parameters.statistics"].kind == "unrecorded"
    assert {verdict.kind for verdict in found.values()} == {"ok", "unrecorded"}


def test_a_baseline_of_this_schema_must_have_them() -> None:
    assert set(kinds(record(), lacking("growth")).values()) == {"missing"}


@pytest.mark.parametrize(("elements", "kind"), [(30, "ok"), (20, "improved"), (19, "regressed"), (31, "regressed")])
def test_an_optimizer_that_does_a_third_less_is_no_saving(elements: int, kind: str) -> None:
    """Two thirds of 30 are 20."""
    found = verdicts(record(**changed("flops", optimizer_elementwise=elements)), record())
    verdict = found["flops.optimizer_elementwise"]
    note = "so much less is no saving: something is left out" if elements == 19 else ""
    assert (verdict.kind, verdict.note) == (kind, note)


def test_what_the_optimizer_leaves_out_is_named() -> None:
    fewer = changed("flops", optimizer_elementwise=0, optimizer_operators={"aten.add_": 1})
    message = failure(gate(record()), record(**fewer))
    assert "no saving: something is left out" in message
    assert "  the optimizer's step calls aten.add_ 2 → 1 times, aten.sqrt 1 → 0 times" in message.splitlines()


def test_another_period_fails_with_both() -> None:
    refreshing = {"optimizer_refresh": 10, "amortised_total": 3000.05}
    before = record(**changed("flops", refresh_period=200, **refreshing))
    message = failure(gate(before), record(**changed("flops", refresh_period=20, **refreshing)))
    assert "flops.refresh_period regressed: 200 → 20 (" in message


@pytest.mark.parametrize(("many", "kind"), [(2899, "improved"), (2900, "ok"), (2901, "regressed")])
def test_a_slope_may_not_rise(many: int, kind: str) -> None:
    assert (
        verdicts(record(**changed("growth", flops_image_large=many)), record())["growth.flops_image_large"].kind == kind
    )


def test_a_batch_whose_images_differ_in_price_is_told() -> None:
    message = failure(gate(record()), record(**changed("growth", flops_image_large=29000)))
    assert (
        "a further image no longer costs the same in every batch: one more costs 2.900 kFLOPs, each of those up to 17 "
        "29.00 kFLOPs"
    ) in message


MIB = 2**20


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (10 * MIB, 13 * MIB, "ok"),  # as many of the libraries' pages as may be mapped or not
        (10 * MIB, 13 * MIB + 1, "regressed"),
        (13 * MIB + 1, 10 * MIB, "improved"),
        (13 * MIB, 10 * MIB, "ok"),
        (100 * MIB, 125 * MIB, "ok"),  # within the tolerance of a quarter
        (100 * MIB, 126 * MIB, "regressed"),
    ],
)
def test_a_few_pages_of_libraries_are_no_change(before: int, now: int, kind: str) -> None:
    memory = {"allocator_peak": MIB, "allocator_transient": MIB}
    then, this = (record(measured_memory={**memory, "rss_peak": rss}) for rss in (before, now))
    assert verdicts(this, then)["measured_memory.rss_peak"].kind == kind
