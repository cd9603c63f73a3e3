"""Which machines are alike: measured figures are compared on those only."""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.gate.machine import Machine, read_machine

EPYC: dict[str, Any] = {"brand_raw": "AMD EPYC", "family": 25, "model": 1, "stepping": 1, "count": 2}


def machine(**changes: Any) -> Machine:
    cpu = {key: value for key, value in {**EPYC, **changes}.items() if value is not None}
    return read_machine({"cpu": cpu})


def test_the_same_cpu_with_as_many_cores_is_alike() -> None:
    assert machine().is_like(machine())
    assert str(machine()) == "AMD EPYC (family 25, model 1, stepping 1), 2 cores"


@pytest.mark.parametrize("key", ["family", "model", "stepping", "count"])
def test_a_name_that_many_models_share_is_not_enough(key: str) -> None:
    assert not machine(**{key: 7}).is_like(machine())


def test_a_machine_whose_model_was_not_recorded_is_another() -> None:
    by_name = machine(family=None, model=None, stepping=None)
    assert str(by_name) == "AMD EPYC, 2 cores"
    assert not by_name.is_like(machine())
    assert by_name.is_like(machine(family=None, model=None, stepping=None)), "files from before the model was recorded"


@pytest.mark.parametrize("name", [None, "", 5])
def test_machines_that_nobody_knows_are_not_alike(name: object) -> None:
    unknown = machine(brand_raw=name)
    assert not unknown.is_like(machine(brand_raw=name))
    assert str(unknown).startswith("an unknown CPU")


def test_no_machine_is_like_none() -> None:
    assert not machine().is_like(None)
