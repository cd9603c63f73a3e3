"""Which file is meant by a number, the beginning of a name, a path, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from peft_update_bench.bench.gate.baseline import BaselineError
from peft_update_bench.bench.gate.baseline_file import find
from peft_update_bench.bench.gate.machine import Machine

from tests.helpers.records import baseline_data, extra_info, write


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
    with pytest.raises(BaselineError, match=r"no baseline .* record one with: pytest --benchmark-storage=nowhere$"):
        find(tmp_path / "nowhere", None, "machine", record_command="pytest --benchmark-storage=nowhere")


def test_one_that_is_not_there_is_told_with_those_that_are(storage: Callable[..., Path]) -> None:
    folder = storage("0001_a.json", "0002_b.json", "machine/0003_c.json", "0004_d.json")
    for wanted in ("1", "a", "0001_b.json", "0001_a.jso"):
        with pytest.raises(BaselineError) as error:
            find(folder, wanted, "machine")
        few = "0004_d.json, 0003_c.json, 0002_b.json and 1 more"
        assert str(error.value) == f"no baseline {wanted!r} in {folder}; expected one of {few}"


def test_a_file_is_meant_by_its_whole_name(storage: Callable[..., Path]) -> None:
    """Which is how it is listed, and how pytest-benchmark takes it."""
    folder = storage("0001_a.json", "0001_a2.json", "machine/0003_c.json")
    assert find(folder, "0001_a.json", "machine").name == "0001_a.json"
    assert find(folder, "0003_c.json", "machine").name == "0003_c.json"


def test_a_path_that_leads_nowhere_is_told_as_such(storage: Callable[..., Path]) -> None:
    folder = storage("0001_a.json")
    (folder / "loop.json").symlink_to("loop.json")
    for name in ("0002_a.json", "loop.json", "machine/0001"):
        with pytest.raises(BaselineError) as error:
            find(folder, str(folder / name), "machine")
        assert str(error.value) == (
            f"--benchmark-compare is {str(folder / name)!r}, and there is no such file; expected a number, the "
            "beginning of a file name, or a path"
        )


def test_an_ambiguous_number(storage: Callable[..., Path]) -> None:
    folder = storage("0001_a.json", "0001_b.json")
    with pytest.raises(BaselineError) as error:
        find(folder, "0001", "machine")
    names = "0001_a.json, 0001_b.json"
    assert str(error.value) == f"--benchmark-compare=0001 means 2 files in {folder}: {names}; name one"


def test_two_files_of_the_newest_number_are_none_that_is_newest(storage: Callable[..., Path]) -> None:
    """As two branches leave them that recorded by two names; the last of them in the alphabet would judge."""
    folder = storage("0001_a.json", "0001_b.json", "0002_main.json", "0002_mine.json", "machine/0002_b.json")
    with pytest.raises(BaselineError) as error:
        find(folder, None, "elsewhere")
    assert str(error.value) == (
        f"{folder} has 2 files of the number 0002, as two branches leave them that are merged, and none is the newest: "
        "0002_main.json, 0002_mine.json; expected one: record the merged code and remove these, or name one, "
        "as --benchmark-compare=0002_main.json"
    )
    assert find(folder, "0002_main", "elsewhere").name == "0002_main.json"
    (folder / "0003_merged.json").touch()
    assert find(folder, None, "elsewhere").name == "0003_merged.json", "what is older may have twins"


def recorded(path: Path, cpu: str) -> Path:
    """A baseline that was measured on a machine with that CPU."""
    path.parent.mkdir(exist_ok=True)
    return write(path, {**baseline_data(), "machine_info": {"cpu": {"brand_raw": cpu, "count": 2}}})


def test_the_baseline_that_fits_the_machine_is_found_by_itself(tmp_path: Path) -> None:
    """In a folder of any name; else, and where the newest itself fits, the storage's root."""
    root = recorded(tmp_path / "0003_a.json", "A CPU")
    recorded(tmp_path / "laptop" / "0001_b.json", "B CPU")
    laptop = recorded(tmp_path / "laptop" / "0002_b.json", "B CPU")
    recorded(tmp_path / "board" / "0009_c.json", "C CPU")
    recorded(tmp_path / "other" / "0001_d.json", "A CPU")

    def found(cpu: str, wanted: str | None = None) -> Path:
        return find(tmp_path, wanted, "machine", lambda: Machine(cpu, 2))

    assert found("A CPU") == root
    assert found("B CPU") == laptop
    assert found("D CPU") == root
    assert found("an unknown CPU") == root
    assert found("B CPU", "0003") == root, "one that is named is meant"
    assert find(tmp_path, None, "machine") == root, "nothing is measured"


def test_other_benchmarks_folders_are_no_machines(tmp_path: Path) -> None:
    root = recorded(tmp_path / "0003_a.json", "A CPU")
    recorded(tmp_path / "instructions" / "0001_b.json", "B CPU")

    def never() -> Machine:
        raise AssertionError("to know the machine takes a second")

    assert find(tmp_path, None, "machine", never) == root


def test_a_folder_of_what_was_computed_alone_is_no_machines(tmp_path: Path) -> None:
    """Such as the full matrix's, which was recorded on some machine too."""
    root = recorded(tmp_path / "0003_a.json", "A CPU")
    computed = baseline_data(extra_info(measured_memory=None, latency=None, first_step=None))
    (tmp_path / "full").mkdir()
    computed["machine_info"] = {"cpu": {"brand_raw": "B CPU", "count": 2}}
    full = write(tmp_path / "full" / "0001_b.json", computed)
    machine = Machine("B CPU", 2)
    assert find(tmp_path, None, "machine", lambda: machine) == root
    assert find(full.parent, None, "machine", lambda: machine) == full
    write(full, {**computed, "benchmarks": baseline_data()["benchmarks"]})
    assert find(tmp_path, None, "machine", lambda: machine) == full


def test_an_unreadable_baseline_of_a_machine_is_not_passed_over(tmp_path: Path) -> None:
    recorded(tmp_path / "0003_a.json", "A CPU")
    recorded(tmp_path / "laptop" / "0001_b.json", "B CPU").write_text("{")
    with pytest.raises(BaselineError, match=r"0001_b\.json: is not complete JSON"):
        find(tmp_path, None, "machine", lambda: Machine("B CPU", 2))


@pytest.mark.parametrize("wanted", ["tests", "tests/test_update.py", "test_update.py::test_lora", "."])
def test_what_was_to_be_run_is_not_taken_for_a_baseline(
    storage: Callable[..., Path], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest-benchmark's option takes the word behind it: ``pytest --benchmark-compare tests``."""
    monkeypatch.chdir(Path(__file__).parents[3])
    with pytest.raises(BaselineError) as error:
        find(storage("0001_a.json"), wanted, "machine")
    assert f"expected it behind the tests: {wanted} --benchmark-compare" in str(error.value)


@pytest.mark.parametrize("wanted", ["", "*", "000[1]"])
def test_patterns_are_refused(storage: Callable[..., Path], wanted: str) -> None:
    with pytest.raises(BaselineError) as error:
        find(storage("0001_a.json"), wanted, "machine")
    assert str(error.value) == (
        f"--benchmark-compare is {wanted!r}; expected a number, the beginning of a file name, or a path"
    )
