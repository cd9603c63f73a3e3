"""Which file is meant by a number, the beginning of a name, a path, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from peft_update_bench.bench.gate.baseline import BaselineError, find


@pytest.fixture
def storage(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def test_the_newest_number_is_meant(storage: Callable[..., Path]) -> None:
    assert find(storage("0004_d.json", "machine/0003_c.json"), None, "machine").name == "0004_d.json"
    (storage() / "0004_d.json").unlink()
    folder = storage("0001_b.json", "0002_a.json", "machine/0003_c.json", "other/0009_d.json", "x.json", "0010_e.txt")
    assert find(folder, None, "machine").name == "0003_c.json"
    assert find(folder, "0001", "machine").name == "0001_b.json"
    assert find(folder, "0002_a", "machine").name == "0002_a.json"


def test_a_path_is_meant_as_it_is(storage: Callable[..., Path]) -> None:
    folder = storage("x.json")
    assert find(folder, str(folder / "x.json"), "machine") == folder / "x.json"


def test_no_baseline(tmp_path: Path) -> None:
    how = f"in {tmp_path}; record one with: pytest --benchmark-save=baseline"
    for wanted, what in (
        (None, "no baseline (NNNN_*.json)"),
        ("0007", "no baseline '0007'"),
        ("a" * 300, f"no baseline {'a' * 300!r}"),  # found by the fuzzer
    ):
        with pytest.raises(BaselineError) as error:
            find(tmp_path, wanted, "machine")
        assert str(error.value) == f"{what} {how}"
    with pytest.raises(BaselineError, match="no baseline"):
        find(tmp_path / "nowhere", None, "machine")


def test_an_ambiguous_number(storage: Callable[..., Path]) -> None:
    folder = storage("0001_a.json", "0001_b.json")
    with pytest.raises(BaselineError) as error:
        find(folder, "0001", "machine")
    names = "0001_a.json, 0001_b.json"
    assert str(error.value) == f"--benchmark-compare=0001 means 2 files in {folder}: {names}; name one"


@pytest.mark.parametrize("wanted", ["../0001", "*", "000[1]", "machine/0001"])
def test_patterns_are_refused(storage: Callable[..., Path], wanted: str) -> None:
    with pytest.raises(BaselineError) as error:
        find(storage("0001_a.json"), wanted, "machine")
    assert str(error.value) == (
        f"--benchmark-compare is {wanted!r}; expected a number, the beginning of a file name, or a path"
    )
