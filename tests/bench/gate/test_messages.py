"""The gate's messages: each kind of failure in words, with its cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.record import Record

from tests.helpers.adaptation_records import SETTINGS, adapted
from tests.helpers.records import LORA, VERSIONS, changed, record
from tests.helpers.sessions import ADAPTING, HERE, SHIFT, TOLERANCES, explain, gate, of, session, slower


def failure(now: Record, before: Record, *, seconds: float | None = None, **run: Any) -> list[str]:
    """The lines between the first, which names cell and baseline, and the last, which names the command."""
    judge = gate(before)
    lines = explain(judge.judge(now, seconds), judge.baseline, **run).splitlines()
    assert lines[0] == f"{now.cell} does not hold its baseline 0001_a.json:"
    assert lines[-1] == f"If the change is meant, record a new baseline: {session(**run).run.record_command}"
    return lines[1:-1]


AS_BEFORE = "  recorded with the same package versions"


def test_a_missing_figure_in_words() -> None:
    assert failure(record(), record(flops=None))[0] == "  flops.forward is missing: the baseline has no such figure"


def test_fewer_parameters_in_words() -> None:
    assert failure(record(**changed("parameters", trainable=99)), record()) == [
        "  parameters.trainable regressed: 100 parameters → 99 parameters (-1.0 %, -1 parameters; tolerance 0%; "
        "fewer is another method, and no saving)",
        AS_BEFORE,
    ]


def test_measured_memory_in_words() -> None:
    assert failure(record(**changed("measured_memory", allocator_peak=2048)), record()) == [
        "  measured_memory.allocator_peak regressed: 1.07 KiB → 2.00 KiB (+86.2 %, +948 Bytes; tolerance 5%)",
        AS_BEFORE,
    ]


def of_seeds(after: float, **figures: Any) -> Record:
    """A record of two seeds that came to `after`, on ten test images: the tolerance is two of them."""
    runs = [
        {"seed": seed, "curve": [0.1, after], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}
        for seed in (0, 1)
    ]
    settings = {**SETTINGS, "corruption": "fog", "severity": 5, "test_images": 10}
    return adapted(SHIFT, 0.1, after, runs=runs, settings=settings, accuracy_spread=0.0, **figures)


def test_accuracy_in_words() -> None:
    assert failure(of_seeds(0.5), of_seeds(0.8), **ADAPTING) == [
        "  adaptation.accuracy_after regressed: 80.0% → 50.0% "
        "(-30.0 points; tolerance 20.0 points; from the spread over seeds)",
        AS_BEFORE,
    ]


def test_another_learning_rate_is_named_as_what_may_have_caused_it() -> None:
    *_, cause = failure(of_seeds(0.5, learning_rate=0.01), of_seeds(0.8, learning_rate=0.0003), **ADAPTING)
    assert cause == "  recorded with learning rate 0.0003, now 0.01"
    now = of_seeds(0.5)
    assert now.adaptation is not None
    without = now.model_copy(update={"adaptation": now.adaptation.model_copy(update={"learning_rate": None})})
    *_, cause = failure(without, of_seeds(0.8, learning_rate=0.0003), **ADAPTING)
    assert cause == "  recorded with learning rate 0.0003, now none"


def test_an_accuracy_from_another_machine_is_judged_as_another_networks() -> None:
    judge = gate(of_seeds(0.8))
    notes = []
    for machine in (HERE, Machine("Another CPU", 2), None):
        judge.machine = machine
        notes.append({verdict.note for verdict in judge.judge(of_seeds(0.8)).verdicts})
    same, other = "from the spread over seeds", "from the spread over seeds and between networks"
    assert notes == [{same}, {other}, {other}]


def test_an_adaptation_is_judged_beside_what_else_was_recorded() -> None:
    parameters = record().parameters
    assert parameters is not None
    now = of_seeds(0.5).model_copy(update={"parameters": parameters.model_copy(update={"trainable": 101})})
    before = of_seeds(0.8).model_copy(update={"parameters": parameters})
    failing = [line.split()[0] for line in failure(now, before, **ADAPTING)[:-1]]
    assert failing == ["parameters.trainable", "adaptation.accuracy_after"]


def test_a_latency_in_words() -> None:
    relative, wall, _ = failure(slower(1.5), record())
    words = "regressed: 0.800 × → 1.200 × (+50.0 %, +0.400 ×; tolerance 10%; between +"
    assert relative.startswith(f"  latency.relative {words}")
    assert wall.startswith(f"  latency.wall_relative {words}")


def test_a_latency_that_is_the_same_and_too_uncertain_in_words() -> None:
    wide = record(**changed("latency", relative_low=0.5, relative_high=1.3))
    line, _ = failure(wide, record(), unstable="fail")
    assert line.startswith("  latency.relative unstable: 0.800 × → 0.800 × (+0.0 %, +0.000 ×; tolerance 10%; between -")


def of_median(judge: Gate, now: Record, seconds: float | None) -> list[Verdict]:
    return [verdict for verdict in judge.judge(now, seconds).verdicts if verdict.metric == "stats.median"]


def test_what_is_said_of_absolute_times() -> None:
    def judge(machine: Machine = HERE) -> Gate:
        before = record()
        baseline = Baseline(Path("0001_a.json"), {before.cell: before}, {before.cell: 0.05}, HERE, "core", False)
        return Gate(TOLERANCES, baseline, machine)

    assert of_median(judge(), record(), 0.06) == [Verdict("stats.median", "ok", "s", 0.06, 0.05, 1.0, "")]
    updated = record(versions={**VERSIONS, "torch": "2.15.0"})
    note = "timed with other package versions"
    assert of_median(judge(), updated, 0.06) == [Verdict("stats.median", "not comparable", "s", 0.06, 0.05, 1.0, note)]
    elsewhere = judge(Machine("A CPU", 4))
    note = "measured on A CPU, 4 cores; the baseline on A CPU, 2 cores"
    assert of_median(elsewhere, updated, 0.06) == [
        Verdict("stats.median", "not comparable", "s", 0.06, 0.05, 1.0, note)
    ]
    assert of_median(judge(), record(), None) == []
    assert of_median(gate(record()), record(), 0.06) == [], "the baseline has no such figure"


def test_what_was_not_moved_at_the_peak_is_not_named() -> None:
    now = record(**changed("memory", peak=1100, activations=480, temporaries=70))
    assert failure(now, record()) == [
        "  memory.peak regressed: 1000 Bytes → 1.07 KiB (+10.0 %, +100 Bytes; tolerance 0%)",
        "  at the peak (backward, layer4): activations 400 Bytes → 480 Bytes, temporaries 50 Bytes → 70 Bytes",
        AS_BEFORE,
    ]


def test_categories_that_read_alike_are_told_by_how_far_they_moved() -> None:
    """As 192.20 KiB → 192.20 KiB nobody would see it."""
    before = changed("memory", peak=600 + 2**20, activations=2**20, other=20)
    now = changed("memory", peak=603 + 2**20, activations=2**20 + 4, other=19)
    assert failure(record(**now), record(**before))[1] == (
        "  at the peak (backward, layer4): activations +4 Bytes, other 20 Bytes → 19 Bytes"
    )
    assert "activations -4 Bytes" in failure(
        record(**changed("memory", peak=605 + 2**20, activations=2**20 - 4, other=29)), record(**before)
    )[1]  # fmt: skip


def test_a_peak_of_the_same_categories_says_so() -> None:
    """Only the refresh's peak grew: at the peak itself nothing did."""
    now, before = (record(**changed("memory", refresh_peak=peak)) for peak in (2000, 1000))
    assert failure(now, before)[1] == "  at the peak (backward, layer4): every category as before"


def test_a_peak_that_the_baseline_lacks_has_no_categories() -> None:
    assert failure(record(), record(memory=None)) == [
        "  memory.peak is missing: the baseline has no such figure",
        "  memory.first_peak is missing: the baseline has no such figure",
        AS_BEFORE,
    ]


def test_packages_that_only_one_side_has_are_named() -> None:
    now = record(**changed("flops", elementwise=51), versions={**VERSIONS, "timm": "1.0"})
    before = record(versions={**VERSIONS, "accelerate": "1.0"})
    assert failure(now, before)[1:] == ["  recorded with accelerate 1.0, now none; timm none, now 1.0"]


def test_nothing_is_explained_without_a_record_or_a_baseline() -> None:
    regressed = (Verdict("flops.forward", "regressed", "FLOPs", 1100, 1000),)
    assert explain(Result(LORA, None, regressed), of(record())) == ""
    assert explain(Result(LORA, record(), regressed), None) == ""


def counted(forward: int) -> dict[str, Any]:
    phases = {"forward": forward, "backward": 0, "optimizer": 0, "zero_grad": 0, "other": 0}
    conditions = {"valgrind": "3.19.0", "libc": "glibc 2.36", "machine": "x86_64", "python": "3.11.7"}
    lists: dict[str, Any] = {"operators": {}, "functions": {}, "python_calls": {}}
    return {"instructions": {"total": forward, **phases, "conditions": conditions, **lists}}


def test_more_instructions_are_explained_beside_what_else_grew() -> None:
    grown = changed("memory", peak=1100, activations=500)
    told = failure(record(**counted(1200), **grown), record(**counted(1000)), unstable="fail")
    assert [line.partition(":")[0] for line in told] == [
        "  memory.peak regressed",
        "  instructions.total regressed",
        "  at the peak (backward, layer4)",
        "  instructions moved in forward +200.0 instructions",
        AS_BEFORE,
    ]


def test_instructions_are_explained_only_where_they_fail_and_both_sides_have_them() -> None:
    moved = "instructions moved"
    grown = changed("memory", peak=1100, activations=500)
    held = failure(record(**counted(1001), **grown), record(**counted(1000)))
    older = failure(record(**counted(1000)), record())
    assert moved not in "".join([*held, *older])
    assert older[0] == "  instructions.total is missing: the baseline has no such figure"


def test_images_that_cost_the_same_in_every_batch_are_no_cause() -> None:
    now = record(**changed("growth", flops_image=2950, flops_image_large=2950))
    assert "a further image no longer" not in "".join(failure(now, record()))


def test_each_cause_stands_beside_the_others() -> None:
    """Of a larger peak, of an optimizer's other work, and of images that no longer cost the same."""
    operators = {"aten.add_": 1, "aten.sqrt": 1, "aten.mul_": 1}
    grown = changed("memory", peak=1100, activations=500)
    more = changed("flops", optimizer_elementwise=40, optimizer_operators=operators)
    now = record(**grown, **more, **changed("growth", flops_image=2950, flops_image_large=2970))
    causes = [line for line in failure(now, record()) if "tolerance" not in line]
    assert [" ".join(line.split()[:3]) for line in causes] == [
        "at the peak", "the optimizer's step", "a further image", "recorded with the"
    ]  # fmt: skip


def test_images_that_became_cheaper_are_no_cause_of_another_failure() -> None:
    cheaper = changed("growth", flops_image_large=2890)
    told = failure(record(**cheaper, **changed("parameters", trainable=99)), record())
    assert "a further image" not in "".join(told)
