"""Every fault is seen where it should be, by as much as it should be, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from peft_update_bench.bench import metrics
from peft_update_bench.bench.metrics import Evidence
from peft_update_bench.fixtures.methods.names import STUDY_METHODS

from tests.sabotage.cases import ADAPTATION, COMPUTED, LASTING, LATENCY, MEASURED, Case, Instrument
from tests.sabotage.faults import FAULTS
from tests.sabotage.judged import cell_of, judge, run


def cases(*groups: Iterable[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=str(case)) for group in groups for case in group])


@cases(COMPUTED)
def test_a_computed_metric_catches_it(case: Case) -> None:
    assert run(case).complaints == ()


@cases(case for case in LASTING if case.instrument == "whole")
def test_a_figure_of_the_whole_update_catches_it(case: Case) -> None:
    assert run(case).complaints == ()


@cases(case for case in LASTING if case.instrument != "whole")
def test_executing_the_whole_update_catches_it(case: Case) -> None:
    assert run(case).complaints == ()


@cases(MEASURED)
def test_measured_memory_catches_it(case: Case) -> None:
    assert run(case).complaints == ()


@pytest.mark.study
@cases(LATENCY)
def test_a_clock_catches_it(case: Case) -> None:
    assert run(case).complaints == ()


@pytest.mark.study
@cases(ADAPTATION)
def test_accuracy_catches_it(case: Case) -> None:
    assert run(case).complaints == ()


@pytest.mark.parametrize(
    ("instrument", "every"),
    [("computed", COMPUTED), pytest.param("adaptation", ADAPTATION, marks=pytest.mark.study)],
)
def test_without_a_fault_all_is_quiet(instrument: Instrument, every: Iterable[Case]) -> None:
    """The cases' own cells: what the faults do is not what the machine or the packages do."""
    for name in {case.cell for case in every} | {name for case in every for name in case.quiet}:
        kinds = {verdict.kind for verdict in judge(None, name, instrument).verdicts}
        assert kinds == {"ok"}, name


def test_every_fault_metric_and_method_has_its_case() -> None:
    every = (*COMPUTED, *LASTING, *MEASURED, *LATENCY, *ADAPTATION)
    assert {case.fault for case in every} == set(FAULTS)
    assert len(FAULTS) >= 25
    assert {cell_of(case.cell, "computed").method for case in COMPUTED} == set(STUDY_METHODS)
    alarmed = {metric for case in every for metric in case.alarms}
    # Instructions have faults of their own, which cost no FLOPs and no bytes (test_instructions.py).
    judged = {str(row) for row in metrics.rows() if row.figure.evidence is not Evidence.SHOWN}
    assert alarmed == {name for name in judged if not name.startswith("instructions.")}
