"""Methods and architectures by name: listed without what they are made of, imported at their first use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from peft_update_bench.fixtures import architecture_names, architectures, methods
from peft_update_bench.fixtures.methods import METHODS, base, learning_rates, method_named, takes_rank
from peft_update_bench.fixtures.methods.names import BUILT_IN

HEAVY = ("torch", "torchvision", "peft", "galore_torch", "transformers")


def imported_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after `code`."""
    told = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "from peft_update_bench.fixtures.methods.names import BUILT_IN; list(BUILT_IN)",
        "from peft_update_bench.fixtures.methods import METHODS, takes_rank; [takes_rank(name) for name in METHODS]",
        "from peft_update_bench.fixtures.architecture_names import ARCHITECTURES",
        "from peft_update_bench.bench.cells import Selection; Selection('full').cells()",
    ],
)
def test_names_are_listed_without_what_they_are_made_of(code: str) -> None:
    assert imported_by(code) == set()


def test_a_method_imports_only_what_it_needs() -> None:
    assert imported_by("from peft_update_bench.fixtures.methods import METHODS; METHODS['fft']") == {
        "torch", "torchvision"
    }  # fmt: skip


def test_the_names_say_what_the_classes_say() -> None:
    assert list(METHODS) == list(BUILT_IN) == ["fft", "head", "bn_head", "lora", "dora", "galore"]
    for name, method in METHODS.items():
        assert isinstance(method, base.Method)
        assert (method.name, method.takes_rank) == (name, BUILT_IN[name].takes_rank) == (name, takes_rank(name))
        assert METHODS[name] is method is method_named(name)


def test_what_is_not_there() -> None:
    assert "qlora" not in METHODS
    for ask in (METHODS.__getitem__, method_named, takes_rank):
        with pytest.raises(KeyError, match="qlora"):
            ask("qlora")
    with pytest.raises(AttributeError, match="no attribute 'Methods'"):
        methods.Methods  # noqa: B018


def test_the_interface_is_where_users_import_it_from() -> None:
    assert (methods.Method, methods.PeriodicWork) == (base.Method, base.PeriodicWork)
    for name in ("ARCHITECTURES", "CORE_ARCHITECTURES", "FURTHER_ARCHITECTURES"):
        assert getattr(architectures, name) is getattr(architecture_names, name)


def test_a_method_that_was_never_tuned_has_the_default_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not be tuned before it can be measured."""
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"chosen": {"fft": 0.5}}))
    monkeypatch.setattr(learning_rates, "PATH", path)
    learning_rates._search.cache_clear()
    try:
        assert (learning_rates.tuned("fft"), learning_rates.tuned("new")) == (0.5, learning_rates.UNTUNED)
    finally:
        learning_rates._search.cache_clear()
