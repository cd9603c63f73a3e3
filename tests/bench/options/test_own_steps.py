"""A user's own steps as options and pyproject.toml name them: accepted, or refused in one line before the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.options import OptionError, read_project

from tests.bench.options.test_options import read

MODULE = "tests.helpers.own_steps"
WHOLE, DESCRIBED = f"{MODULE}:whole", f"{MODULE}:described"


def test_cells_of_own_steps() -> None:
    run = read(steps=f"{WHOLE},{DESCRIBED}")
    assert [str(cell) for cell in run.selection.cells()] == [WHOLE, DESCRIBED]
    assert all(cell.is_step and cell.is_users and not cell.is_tests for cell in run.selection.cells())
    assert run.record_command == f"pytest --benchmark-save=baseline --steps {WHOLE},{DESCRIBED}"


def test_what_is_not_told_of_a_step_is_not_measured() -> None:
    named, usual = read(steps=WHOLE, metrics="flops,growth,result"), read(steps=WHOLE)
    assert (named.metrics, named.untold) == (("flops",), ("growth", "result"))
    assert not {"growth", "result"} & {*usual.metrics}
    assert usual.untold == (), "nobody has asked for them"
    with pytest.raises(OptionError, match=r"^--metrics is 'growth,result', which is not told of a step of one's own"):
        read(steps=WHOLE, metrics="growth,result")


def test_methods_on_own_steps() -> None:
    run = read(steps=DESCRIBED, methods="own,fft,lora", ranks="1,4")
    assert [str(cell) for cell in run.selection.cells()] == [
        DESCRIBED, f"{DESCRIBED}-fft", f"{DESCRIBED}-lora-r1", f"{DESCRIBED}-lora-r4",
    ]  # fmt: skip
    assert run.record_command.endswith(f"--steps {DESCRIBED} --methods own,fft,lora --ranks 1,4")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"steps": "60"}, "--steps is '60'; expected MODULE:NAME of an update step of your own, such as mypackage."),
        ({"steps": "build_step"}, "--steps is 'build_step': expected MODULE:NAME, such as "),
        ({"steps": "nowhere:build_step"}, "--steps is 'nowhere:build_step': there is no module 'nowhere'"),
        ({"steps": f"{MODULE}:wole"}, f"--steps is '{MODULE}:wole': the module '{MODULE}' has no 'wole'"),
        (
            {"steps": f"{MODULE}:NUMBER"},
            f"--steps is '{MODULE}:NUMBER': is of type int; expected the function that builds",
        ),
        (
            {"steps": f"{MODULE}:BUILT"},
            f"--steps is '{MODULE}:BUILT': is of type UpdateStep; expected the function that builds",
        ),
        (
            {"steps": WHOLE, "batch_size": "2"},
            "--batch-size is given beside --steps; expected one of the two, because a",
        ),
        ({"steps": WHOLE, "image_size": "32"}, "--image-size is given beside --steps; expected one of the two"),
        ({"steps": WHOLE, "device": "cpu"}, "--device is given beside --steps; expected one of the two"),
        (
            {"steps": WHOLE, "architectures": "resnet18"},
            "--architectures is given beside --steps; expected one of the two",
        ),
        ({"steps": WHOLE, "methods": "qlora"}, "--methods is 'qlora'; expected one of own, fft, head"),
        (
            {"methods": "own"},
            "--methods is 'own', which is a step of your own as it is; expected it beside --steps MOD",
        ),
        ({"steps": WHOLE, "metrics": "adaptation"}, "--steps is '"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        read(**given)
    assert str(error.value).startswith(complaint)
    assert "\n" not in str(error.value)


STEP = Cell(WHOLE, "own", is_step=True)


@pytest.mark.parametrize(
    ("selection", "lost"),
    [
        (Selection(), []),
        (Selection(architectures=("resnet18",)), []),
        (Selection(steps=(DESCRIBED,)), []),
        (Selection(steps=(WHOLE,), methods=("lora",)), []),
        (Selection(steps=(WHOLE,)), [Cell(WHOLE, "lora", 4, is_step=True)]),
    ],
)
def test_only_a_run_that_names_a_step_can_lose_its_cells(selection: Selection, lost: list[Cell]) -> None:
    recorded = [STEP, *lost] if lost else [STEP]
    lacking = [cell for cell in selection.no_longer_there(recorded, "core") if cell != STEP]
    assert lacking == []
    with_own = Selection(steps=(WHOLE,), methods=("own", "lora"), ranks=(1,))
    assert with_own.no_longer_there([Cell(WHOLE, "lora", 4, is_step=True)], "core") == [
        Cell(WHOLE, "lora", 4, is_step=True)
    ]


def project(folder: Path, *lines: str) -> options.Project:
    (folder / "pyproject.toml").write_text("\n".join(["[tool.peft-update-bench]", *lines]))
    return read_project(folder)


def test_a_project_lists_what_its_runs_are_of(tmp_path: Path) -> None:
    lists = f'steps = ["{WHOLE}", "{DESCRIBED}"]', 'methods = ["own", "fft"]', 'metrics = ["flops"]', "ranks = [1, 4]"
    found = project(tmp_path, *lists)
    run = options.read_for(found, {}, {"latency": 0.1})
    assert run.selection == Selection(steps=(WHOLE, DESCRIBED), methods=("own", "fft"), ranks=(1, 4))
    assert run.metrics == ("flops",)
    # What is typed counts, and names what is measured as a whole.
    typed = options.read_for(found, {"steps": WHOLE, "metrics": "memory"}, {"latency": 0.1})
    assert (typed.selection.steps, typed.metrics) == ((WHOLE,), ("memory",))
    matrix = options.read_for(found, {"architectures": "resnet18", "methods": "fft"}, {"latency": 0.1})
    assert (matrix.selection.steps, matrix.selection.architectures) == (None, ("resnet18",))


def test_a_number_of_steps_takes_no_projects_networks_from_it(tmp_path: Path) -> None:
    """Adaptation's --steps is a number, whatever the project's table calls steps."""
    found = project(tmp_path, 'architectures = ["mobilenet_v2"]', 'methods = ["lora"]')
    typed = {"metrics": "adaptation", "steps": "30", "data": "digits"}
    run = options.read_for(found, typed, {"latency": 0.1})
    assert run.selection.architectures == ("mobilenet_v2",)
    assert run.benchmark.repeat[:2] == ["--metrics adaptation", "--steps 30"]
    steps = project(tmp_path, f'steps = ["{WHOLE}"]')
    given = {"metrics": "adaptation", "data": "digits"}
    assert options.read_for(steps, given, {"latency": 0.1}).selection.steps is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('steps = "a:b"', "tool.peft-update-bench.steps is 'a:b'; expected a list of names"),
        ("steps = [3]", "tool.peft-update-bench.steps holds 3; expected a list of names"),
        ("modules = [3]", "tool.peft-update-bench.modules holds 3; expected a list of modules' names"),
        ('modules = [""]', "tool.peft-update-bench.modules holds ''; expected a list of modules' names"),
        ("ranks = [true]", "tool.peft-update-bench.ranks holds True; expected a list of whole numbers"),
        ('ranks = ["1"]', "tool.peft-update-bench.ranks holds '1'; expected a list of whole numbers"),
        ("metrics = []", "tool.peft-update-bench.metrics is empty; expected a list of names, or no such line"),
        ('storage = "file://a"', "tool.peft-update-bench.storage is 'file://a'; expected a folder"),
        ('storage = "~/a"', "tool.peft-update-bench.storage is '~/a'; expected a folder, by its path from this file"),
        ('step = ["a:b"]', "tool.peft-update-bench.step is not known; expected storage, tolerances, modules, steps"),
        (
            'steps = ["a:b"]\narchitectures = ["resnet18"]',
            "tool.peft-update-bench has steps and architectures; expected",
        ),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(OptionError) as error:
        project(tmp_path, line)
    assert str(error.value).startswith(f"{tmp_path / 'pyproject.toml'}: {complaint}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('metrics = ["speed"]', "tool.peft-update-bench.metrics is 'speed'; expected one of flops"),
        ('steps = ["nowhere:a"]', "tool.peft-update-bench.steps is 'nowhere:a': there is no module 'nowhere'"),
        ("ranks = [0]", "tool.peft-update-bench.ranks is '0'; expected a whole number of at least 1"),
    ],
)
def test_a_wrong_value_is_found_in_the_projects_file(tmp_path: Path, line: str, complaint: str) -> None:
    found = project(tmp_path, line)
    with pytest.raises(OptionError) as error:
        options.read_for(found, {}, {"latency": 0.1})
    assert str(error.value).startswith(f"{tmp_path / 'pyproject.toml'}: {complaint}")
