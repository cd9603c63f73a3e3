"""The verdict on instructions: just below, at and above the tolerance, where they cannot be compared, and who moved."""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.gate.moved import LINES, what_moved
from peft_update_bench.bench.gate.verdict import Terms, Verdict, judge
from peft_update_bench.bench.metrics import default_tolerances
from peft_update_bench.bench.record import Record, RecordError, read_record
from peft_update_bench.bench.record.instructions import Instructions

from tests.helpers.records import FFT, extra_info

CONDITIONS = {"valgrind": "3.19.0", "libc": "glibc 2.36", "machine": "x86_64", "python": "3.11.7 (GCC 12.2.0)"}
COUNTED: dict[str, Any] = {
    "total": 1_000_000,
    "forward": 300_000,
    "backward": 500_000,
    "optimizer": 190_000,
    "zero_grad": 8_000,
    "other": 2_000,
    "conditions": CONDITIONS,
    "operators": {"aten::mm": 250_000, "aten::add": 4_000},
    "functions": {"im2col": 200_000, "malloc": 5_000},
    "python_calls": {"torch.nn.modules.module.Module._call_impl": 52},
}


def record(**changes: Any) -> Record:
    """A record of instructions; what its forward has more, its total has too."""
    counted = {**COUNTED, **changes}
    counted["total"] = sum(counted[phase] for phase in ("forward", "backward", "optimizer", "zero_grad", "other"))
    return read_record({**extra_info(FFT), "schema": 2, "instructions": counted})


def judged(now: Record, before: Record) -> dict[str, Verdict]:
    terms = Terms(default_tolerances(), "measured on another CPU")
    return {v.metric: v for v in judge(now, before, terms) if v.metric.startswith("instructions.")}


def instructions(of: Record) -> Instructions:
    assert of.instructions is not None
    return of.instructions


class TestVerdict:
    @pytest.mark.parametrize(
        ("more", "kind"),
        [(0, "ok"), (1, "ok"), (2_000, "ok"), (2_001, "regressed"), (-1_996, "ok"), (-1_997, "improved")],
    )
    def test_the_tolerance_on_another_cpu_too(self, more: int, kind: str) -> None:
        verdicts = judged(record(forward=300_000 + more), record())
        assert (verdicts["instructions.total"].kind, [*verdicts]) == (kind, ["instructions.total"])

    @pytest.mark.parametrize("more", [10_000, 20_000])
    def test_slowdowns_of_one_and_two_percent_fail_where_latency_is_not_comparable(self, more: int) -> None:
        terms = Terms(default_tolerances(), "measured on another CPU")
        verdicts = {v.metric: v for v in judge(record(forward=300_000 + more), record(), terms)}
        assert verdicts["latency.relative"].kind == "not comparable"
        assert verdicts["latency.relative"].note == "measured on another CPU"
        assert verdicts["instructions.total"].kind == "regressed"
        assert verdicts["instructions.total"].shown_change == f"+{more / 10_000:.1f} %"

    def test_periodic_work_has_its_own(self) -> None:
        verdicts = judged(record(periodic=2_100_000), record(periodic=2_000_000))
        assert {name: verdict.kind for name, verdict in verdicts.items()} == {
            "instructions.total": "ok",
            "instructions.periodic": "regressed",
        }

    @pytest.mark.parametrize(
        ("name", "other"),
        [("valgrind", "3.22.0"), ("libc", "glibc 2.39"), ("machine", "aarch64"), ("python", "3.12.3 (GCC 13.2.0)")],
    )
    def test_what_must_agree(self, name: str, other: str) -> None:
        verdict = judged(record(conditions={**CONDITIONS, name: other}), record())["instructions.total"]
        assert verdict.kind == "not comparable"
        assert verdict.note == f"counted with {name} {other}, the baseline's with {CONDITIONS[name]}"

    @pytest.mark.parametrize(
        ("now", "before", "which"),
        [({}, {"attribute_searches": 7}, ("without", "with")), ({"attribute_searches": 7}, {}, ("with", "without"))],
    )
    def test_names_of_functions_decide_what_a_total_holds(
        self, now: dict[str, int], before: dict[str, int], which: tuple[str, str]
    ) -> None:
        verdict = judged(record(**now), record(**before))["instructions.total"]
        words = f"counted with an interpreter {which[0]} names of functions, the baseline's {which[1]}"
        assert (verdict.kind, verdict.note) == ("not comparable", words)
        same = judged(record(attribute_searches=70), record(attribute_searches=7))["instructions.total"]
        assert same.kind == "ok"

    def test_phases_that_do_not_add_up_are_refused(self) -> None:
        with pytest.raises(RecordError, match="total is not the sum of its phases"):
            read_record({**extra_info(FFT), "schema": 2, "instructions": {**COUNTED, "forward": 1}})


class TestWhatMoved:
    def test_the_function_the_operator_and_the_python_function_are_named(self) -> None:
        now = record(
            forward=500_000,
            functions={"im2col": 380_000, "malloc": 5_000},
            operators={"aten::mm": 450_000, "aten::add": 4_000},
            python_calls={"torch.nn.modules.module.Module._call_impl": 104, "copy.deepcopy": 12},
        )
        lines = what_moved(instructions(now), instructions(record()))
        assert lines == [
            "instructions moved in forward +200.0 k instructions:",
            "  operator aten::mm: 250.0 k instructions → 450.0 k instructions (+200.0 k instructions, +80.0 %)",
            "  function im2col: 200.0 k instructions → 380.0 k instructions (+180.0 k instructions, +90.0 %)",
            "  Python function copy.deepcopy called 0 → 12 times",
            "  Python function torch.nn.modules.module.Module._call_impl called 52 → 104 times",
        ]

    def test_what_was_added_goes_before_a_large_operator_that_is_a_little_more(self) -> None:
        many = {"aten::convolution": 200_000, "aten::item": 3_000}
        before = instructions(record(operators=many))
        now = record(forward=340_000, operators={"aten::convolution": 230_000, "aten::item": 18_000})
        assert what_moved(instructions(now), before)[1].startswith("  operator aten::item: ")

    def test_of_python_functions_called_as_often_pythons_own_come_last(self) -> None:
        now = record(forward=340_000, python_calls={"logging.Logger.debug": 9, "tests.described": 9, "torch.called": 1})
        before = instructions(record(python_calls={"torch.called": 1}))
        assert [line.split()[2] for line in what_moved(instructions(now), before) if "Python" in line] == [
            "tests.described",
            "logging.Logger.debug",
        ]

    def test_never_more_than_five_lines(self) -> None:
        functions = {f"function_{number}": 100_000 for number in range(50)}
        now = record(forward=1_300_000, functions=functions)
        assert len(what_moved(instructions(now), instructions(record()))) == LINES

    def test_what_was_too_small_to_be_listed_is_compared_with_the_least_that_was(self) -> None:
        listed = {f"function_{number}": 10_000 + number for number in range(60)}
        now = record(forward=400_000, functions={**listed, "grown": 110_000})
        lines = what_moved(instructions(now), instructions(record(functions=listed)))
        assert "function grown: 10.00 k instructions → 110.0 k instructions" in lines[1]

    def test_what_fell_off_the_list_is_compared_with_the_least_that_stayed(self) -> None:
        listed = {f"function_{number}": 10_000 + number for number in range(60)}
        before = record(forward=400_000, functions={**listed, "gone": 110_000})
        lines = what_moved(instructions(record(functions=listed)), instructions(before))
        assert "function gone: 110.0 k instructions → 10.00 k instructions (-100.0 k instructions, -90.9 %)" in lines[1]

    def test_the_same_counts_moved_nowhere(self) -> None:
        assert what_moved(instructions(record()), instructions(record())) == ["instructions moved in no phase:"]

    def test_the_three_phases_that_moved_most(self) -> None:
        now = record(forward=310_000, backward=501_000, optimizer=90_000, zero_grad=8_500)
        (line,) = what_moved(instructions(now), instructions(record()))
        assert line == (
            "instructions moved in optimizer -100.0 k instructions, forward +10.00 k instructions, "
            "backward +1.000 k instructions:"
        )

    def test_one_operator_and_one_function_come_before_the_python_functions(self) -> None:
        """What moved most, however large it is; of two alike the first by name."""
        now = record(
            forward=500_000,
            operators={"aten::mm": 270_000, "aten::add": 104_000},
            functions={"im2col": 300_000, "free": 100_000, "malloc": 5_000},
            python_calls={"torch.nn.modules.module.Module._call_impl": 53},
        )
        before = record(functions={"im2col": 200_000, "malloc": 5_000})
        assert what_moved(instructions(now), instructions(before))[1:] == [
            "  operator aten::add: 4.000 k instructions → 104.0 k instructions (+100.0 k instructions, +2500.0 %)",
            "  function free: 0.000 instructions → 100.0 k instructions (+100.0 k instructions)",
            "  Python function torch.nn.modules.module.Module._call_impl called 52 → 53 times",
            "  function im2col: 200.0 k instructions → 300.0 k instructions (+100.0 k instructions, +50.0 %)",
        ]

    def test_of_functions_that_moved_alike_the_first_by_name(self) -> None:
        before = record(functions={"b": 50_000, "a": 50_000})
        now = record(forward=500_000, functions={"b": 150_000, "a": 150_000})
        lines = what_moved(instructions(now), instructions(before))
        assert [line.split()[1] for line in lines[1:]] == ["a:", "b:"]

    def test_two_python_functions_are_named(self) -> None:
        now = record(forward=500_000, python_calls={"a": 3, "b": 2, "c": 1})
        lines = what_moved(instructions(now), instructions(record(python_calls={})))
        assert lines[1:] == ["  Python function a called 0 → 3 times", "  Python function b called 0 → 2 times"]
