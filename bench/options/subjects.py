"""What is benchmarked, by name: architectures, methods, optimizers and devices, and what users bring of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from peft_update_bench.bench.cells import Selection
from peft_update_bench.bench.options.values import OptionError, comma_separated, one_of
from peft_update_bench.fixtures.architecture_names import ARCHITECTURES, FURTHER_ARCHITECTURES
from peft_update_bench.fixtures.imported import is_imported
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.methods.names import AS_IT_IS
from peft_update_bench.fixtures.workload import OPTIMIZERS, Workload

if TYPE_CHECKING:
    from peft_update_bench.bench.benchmarks.base import Benchmark


def check_architecture(name: str) -> str:
    if is_imported(name):
        return name
    built_in = (*ARCHITECTURES, *FURTHER_ARCHITECTURES)
    return one_of("architectures", name, built_in, or_else="MODULE:NAME for a network of your own")


_OF_A_STEP = {
    "batch_size": "batch", "image_size": "batch", "num_classes": "network", "optimizer": "optimizer",
    "dtype": "network", "device": "device", "architectures": "network",
}  # fmt: skip
"""What a user's own step brings, by the option that says it elsewhere."""


def read_steps(given: Mapping[str, str | None], kind: type[Benchmark]) -> tuple[str, ...] | None:
    """A user's own steps, each imported and not yet built; None where none are named. Raises OptionError."""
    value = given.get("steps")
    if value is None or not kind.takes_steps:
        return None
    if value.isdigit():
        raise OptionError(
            f"--steps is {value!r}; expected MODULE:NAME of an update step of your own, such as mypackage.training:"
            "build_step, or --metrics adaptation beside a number of steps"
        )
    for option, brought in _OF_A_STEP.items():
        if given.get(option) is not None:
            raise OptionError(
                f"--{option.replace('_', '-')} is given beside --steps; expected one of the two, because a step brings "
                f"its {brought}"
            )
    return comma_separated(value, _check_step)


def _check_step(name: str) -> str:
    from peft_update_bench.fixtures.imported import ImportedNameError, load

    try:
        found = load(name)
        from peft_update_bench.fixtures.own_steps import must_build

        must_build(found, "of type")
    except ImportedNameError as error:
        raise OptionError(f"--steps is {name!r}: {error}") from None
    return name


def check_method(name: str, *, of_steps: bool = False) -> str:
    if name == AS_IT_IS:
        if of_steps:
            return name
        raise OptionError(
            f"--methods is {name!r}, which is a step of your own as it is; expected it beside --steps MODULE:NAME"
        )
    if not is_imported(name):
        allowed = (AS_IT_IS, *METHODS) if of_steps else METHODS
        return one_of("methods", name, allowed, or_else="MODULE:NAME for a method of your own")
    from peft_update_bench.fixtures.imported import ImportedNameError
    from peft_update_bench.fixtures.methods import method_named

    try:
        method_named(name)
    except ImportedNameError as error:
        raise OptionError(f"--methods is {name!r}: {error}") from None
    return name


def read_optimizer(value: str | None, device: str) -> str:
    known = {name.lower(): name for name in OPTIMIZERS}
    chosen = known[one_of("optimizer", (value or Workload.optimizer).lower(), known)]
    if chosen.endswith("-8bit"):
        if device != "cpu":
            # Where processes begin, bitsandbytes is imported with no GPU in sight (fixtures/gpus.py).
            raise OptionError(f"--optimizer is {value!r} with --device {device}; expected --device cpu, or another one")
        from peft_update_bench.fixtures.optimizers import OptimizerError, must_be_installed

        try:
            must_be_installed(chosen)
        except OptimizerError as error:
            raise OptionError(f"--optimizer is {value!r}, which {error}") from None
    return chosen


def check_optimizer_of(selection: Selection, optimizer: str) -> None:
    """Raise OptionError where a method of the selection brings its own."""
    from peft_update_bench.fixtures.methods import method_named

    methods = dict.fromkeys(cell.method for cell in selection.cells())
    bringing = [name for name in methods if method_named(name).brings_optimizer()]
    if bringing:
        others = [name for name in methods if name not in bringing]
        instead = f"--methods {','.join(others)}" if others else "no --optimizer"
        raise OptionError(
            f"--optimizer is {optimizer!r}, and {', '.join(bringing)} cannot do without an optimizer of its own; "
            f"expected {instead}"
        )


def read_device(value: str | None) -> str:
    device = one_of("device", value or "cpu", ("cpu", "cuda"))
    if device == "cuda":
        from peft_update_bench.fixtures import gpus

        if not gpus.are_there():
            raise OptionError("--device is 'cuda'; expected 'cpu', because torch finds no CUDA device on this machine")
    return device
