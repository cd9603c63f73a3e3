"""The adaptation benchmark as a user runs it, on a small network and real digits: records, gate, sabotage, resuming."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from peft_update_bench.bench.processes import update_runs
from peft_update_bench.bench.processes.child_process import LostError, MeasurementError
from peft_update_bench.bench.processes.executor import Done, Task, Wall
from peft_update_bench.bench.processes.local_processes import LocalProcesses
from peft_update_bench.bench.processes.update_runs import UpdateRuns
from peft_update_bench.bench.unfinished import Unfinished
from peft_update_bench.fixtures.data import tasks
from peft_update_bench.fixtures.data.names import TASKS, DataChoice
from peft_update_bench.fixtures.training import adaptation
from peft_update_bench.fixtures.training.adaptation import Update
from peft_update_bench.fixtures.training.plan import Plan, Pretraining
from torch import nn

from tests.helpers.small_networks import build_small
from tests.sabotage.faults import FAULTS
from tests.whole.test_run import REPOSITORY, change, text

pytestmark = pytest.mark.slow

SMALL = DataChoice(name="digits", image_size=16)
COMPARE = "--benchmark-compare"

Suite = Callable[..., pytest.RunResult]


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    """Registers the small network as torchvision registers its own, and trains every network for a second only."""
    torchvision.models._api.BUILTIN_MODELS["small_separable"] = build_small
    with pytest.MonkeyPatch.context() as patch:
        training = Pretraining(steps=60, batch_size=64, peak_learning_rate=1e-2)
        patch.setattr(Pretraining.__init__, "__defaults__", astuple(training))
        yield
    del torchvision.models._api.BUILTIN_MODELS["small_separable"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's trained networks and its baseline are."""
    return tmp_path_factory.mktemp("adaptation")


@pytest.fixture
def suite(pytester: pytest.Pytester, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setattr("peft_update_bench.bench.options.subjects.FURTHER_ARCHITECTURES", ("small_separable",))

    def run(*options: str, storage: Path = folder / "baselines") -> pytest.RunResult:
        return pytester.runpytest_inprocess(
            REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY,
            "-p", "no:cacheprovider", f"--benchmark-storage=file://{storage}", "--benchmark-quiet",
            "--metrics=adaptation", "--architectures=small_separable", "--methods=fft,lora", "--data=digits",
            "--image-size=16", "--steps=24", "--seeds=3", "--workers=1", f"--cache-dir={folder / 'cache'}", *options,
        )  # fmt: skip

    return run


@pytest.fixture
def recorded(suite: Suite, folder: Path) -> Path:
    """The module's baseline, recorded once: one small network, fft and lora, both tasks, three seeds."""
    path = folder / "baselines" / "adaptation" / "0001_baseline.json"
    if not path.exists():
        result = suite("--benchmark-save=baseline")
        assert result.ret == 0, text(result)
    return path


def records(path: Path) -> dict[str, dict[str, Any]]:
    entries = json.loads(path.read_text())["benchmarks"]
    return {entry["name"].partition("[")[2].rstrip("]"): entry["extra_info"] for entry in entries}


def test_a_baseline_has_a_folder_of_its_own_and_holds_every_seed(recorded: Path) -> None:
    assert [path.name for path in recorded.parent.parent.iterdir()] == ["adaptation"]
    found = records(recorded)
    assert set(found) == {f"small_separable-{method}-{task}" for method in ("fft", "lora-r4") for task in TASKS}
    record = found["small_separable-lora-r4-shift"]
    assert record["workload"]["batch_size"] == 32
    adapted = record["adaptation"]
    assert [run["seed"] for run in adapted["runs"]] == [0, 1, 2]
    assert adapted["runs"][0]["curve"] != adapted["runs"][1]["curve"]
    assert adapted["evaluated_at"] == [0, 4, 8, 12, 16, 20, 24]
    assert adapted["adapted"]
    assert adapted["flops_total"] == 24 * record["flops"]["total"]
    assert adapted["flops_to_target"] == adapted["steps_to_target"] * record["flops"]["total"]
    assert adapted["peak_memory"] == record["memory"]["peak"]
    assert found["small_separable-lora-r4-unseen"]["adaptation"]["settings"]["new_classes"] == 3


def test_the_same_seeds_give_the_same_record_twice(suite: Suite, recorded: Path, tmp_path: Path) -> None:
    suite("--benchmark-save=again", "--tasks=shift", storage=tmp_path).assert_outcomes(passed=2)
    again = records(tmp_path / "adaptation" / "0001_again.json")
    first = records(recorded)
    assert again == {name: first[name] for name in again}


@pytest.mark.usefixtures("recorded")
def test_an_unchanged_run_holds_its_baseline(suite: Suite) -> None:
    result = suite(COMPARE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "update benchmark: 4 cells, adaptation, against */adaptation/0001_baseline.json",
            "cell * accuracy before → after * source before → after * steps to target *",
            "small_separable-lora-r4-shift *% → *% ± * MiB *ok",
            "4 cells, against 0001_baseline.json: 4 ok",
        ]
    )


def test_searched_rates_are_those_of_updates_and_records(suite: Suite, recorded: Path, tmp_path: Path) -> None:
    """A rate that moves next to nothing: what was learned with it shows, and the message has the cause."""
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps({"chosen": {"fft": 1e-3, "lora": 1e-9, "lora_plus": 1e-3}}))
    chosen = f"--learning-rates={rates}"
    result = suite(COMPARE, chosen, "--tasks=shift", "--benchmark-save=slow")
    assert result.ret == 1
    before = records(recorded)["small_separable-lora-r4-shift"]["adaptation"]["learning_rate"]
    assert f"learning rate {before:g}, now 1e-09" in text(result)
    assert f"{chosen.replace('=', ' ')}" in text(result)
    plus = suite(chosen, "--tasks=shift", "--methods=lora_plus", "--benchmark-save=plus", storage=tmp_path)
    assert plus.ret == 0, text(plus)
    # The highest of its groups': B learns 16 times as fast.
    found = records(tmp_path / "adaptation" / "0001_plus.json")["small_separable-lora_plus-r4-shift"]["adaptation"]
    assert found["learning_rate"] == pytest.approx(16e-3)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("fault", "task", "complaint"),
    [
        ("learning_rate_of_zero", "shift", "*adaptation.accuracy_after regressed: *"),
        # The head alone may adapt a small network as well; that the adapters are not trained shows all the same.
        ("adapters_frozen", "shift", "*parameters.trainable regressed: *"),
        (
            "labels_shuffled",
            "shift",
            "*adaptation.accuracy_after regressed: *points; tolerance *points; from the spread*",
        ),
        ("labels_shuffled", "unseen", "*adaptation.accuracy_after regressed: *"),
        (
            "head_not_extended",
            "unseen",
            "*: the network has 7 outputs; expected one for each of 10 classes: its head was not extended",
        ),
        ("held_out_learned", "shift", "*: * images of shift's test are learned from too; expected held-out ones"),
    ],
)
def test_a_method_broken_on_purpose_fails(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, fault: str, task: str, complaint: str
) -> None:
    """The study of these faults is in tests/sabotage; here they go through the door that a user takes."""
    FAULTS[fault](monkeypatch)
    result = suite(COMPARE, f"--tasks={task}", "--methods=lora")
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([complaint])
    assert "Traceback" not in text(result)


def test_an_interrupted_run_continues(suite: Suite, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = adaptation.run
    calls = folder / "calls"
    unfinished = folder / "cache" / "unfinished"

    def counted(*given: Any) -> adaptation.Outcome:
        with calls.open("a") as file:
            file.write("x")
        return real(*given)

    def interrupted(*given: Any, **more: Any) -> Any:
        if len(list(unfinished.rglob("*.json"))) >= 3:
            raise KeyboardInterrupt
        return wait(*given, **more)

    options = ("--tasks=unseen", "--steps=40", "--seeds=3")
    monkeypatch.setattr(adaptation, "run", counted)
    with monkeypatch.context() as patch:
        patch.setattr(update_runs, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            suite(*options)
    kept = len(list(unfinished.rglob("*.json")))
    assert 3 <= kept < 6
    calls.unlink()
    result = suite(*options)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"{kept} updates done by a run that did not finish, found in *"])
    assert len(calls.read_text()) == 6 - kept
    assert not list(unfinished.rglob("*.json")), "a whole run leaves nothing to reuse"


def test_processes_give_what_this_one_gives(folder: Path) -> None:
    plan = Plan(data=SMALL, steps=2, evaluations=1, source_training=Pretraining(steps=3, batch_size=8))
    updates = [Update("small_separable", "head", None, task, seed, 0.01) for task in TASKS for seed in (0, 1)]
    start = partial(LocalProcesses, 2, Wall())
    with UpdateRuns(updates, plan, folder / "cache of two", start) as runs:
        found = runs.found(updates)
        runs.forget()
    assert not runs.folder.exists()
    assert [one.outcome for one in found] == [adaptation.run(u, plan, folder / "cache of one") for u in updates]
    assert {one.made_on for one in found} == {None}


class Losing:
    """An executor that does `number` tasks, and then is gone; or whose further tasks fail by themselves."""

    def __init__(self, number: int, error: MeasurementError) -> None:
        self._left = number
        self._error = error

    def submit(self, *given: Task[Any]) -> list[Future[Done[Any]]]:
        futures: list[Future[Done[Any]]] = [Future() for _ in given]
        for task, future in zip(given, futures, strict=True):
            if self._left:
                self._left -= 1
                future.set_result(Done(task.function(*task.args)))
            else:
                future.set_exception(self._error)
        return futures

    def share(self, name: str, content: bytes) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("error", [LostError("the cluster is gone"), MeasurementError("it raises")])
def test_what_had_finished_is_kept_where_the_rest_fails(error: MeasurementError, folder: Path) -> None:
    """Although each cell has been told of its failure."""
    plan = Plan(data=SMALL, steps=3, evaluations=1, source_training=Pretraining(steps=3, batch_size=8))
    updates = [Update("small_separable", "head", None, "unseen", seed, 0.01) for seed in (0, 1)]
    with UpdateRuns(updates, plan, folder / type(error).__name__, lambda: Losing(2, error)) as runs:
        for update in updates[::-1]:
            try:
                runs.found([update])
            except MeasurementError as raised:
                assert raised is error  # noqa: PT017 - one of the two has finished
    runs.forget()
    assert len([*runs.folder.glob("*.json")]) == 1


class WithOthersVariables(Losing):
    """Does updates where a variable has another value than where networks are trained, as nodes of a cluster may."""

    def share(self, name: str, content: bytes) -> None:
        os.environ["OWN_PLACE"] = "another"


def test_where_a_variable_differs_the_network_that_was_shared_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_place.py").write_text(
        "from tests.helpers.small_networks import build_small\nPLACE = 'OWN_PLACE'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OWN_PLACE", "the first")
    plan = Plan(data=SMALL, steps=3, evaluations=1, source_training=Pretraining(steps=3, batch_size=8))
    updates = [Update("own_place:build_small", "head", None, "unseen", seed, 0.01) for seed in (0, 1)]
    here = partial(WithOthersVariables, 3, LostError("there were three tasks"))
    with UpdateRuns(updates, plan, tmp_path / "kept", here) as runs:
        assert len(runs.found(updates)) == 2
    assert len([*(tmp_path / "kept").glob("*.pt")]) == 1


class Edited(Losing):
    """Does all but the last task, beside somebody who edits `file` once the network is trained."""

    def __init__(self, file: Path) -> None:
        super().__init__(2, LostError("there were two tasks"))
        self._file = file

    def share(self, name: str, content: bytes) -> None:
        self._file.write_text(self._file.read_text() + "# edited\n")


@pytest.mark.parametrize(("edited", "kept"), [("edited_net.py", 0), ("suite/method.py", 0), ("README.md", 1)])
def test_an_update_is_not_kept_under_code_that_was_edited_meanwhile(
    edited: str, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may have imported either."""
    (tmp_path / "suite").mkdir()
    for name in ("suite/method.py", "README.md"):
        (tmp_path / name).write_text("")
    (tmp_path / "edited_net.py").write_text("from tests.helpers.small_networks import build_small\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(update_runs, "_CODE", tmp_path / "suite")
    plan = Plan(data=SMALL, steps=3, evaluations=1, source_training=Pretraining(steps=3, batch_size=8))
    updates = [Update("edited_net:build_small", "head", None, "unseen", seed, 0.01) for seed in (0, 1)]
    with UpdateRuns(updates, plan, tmp_path / "cache", partial(Edited, tmp_path / edited)) as runs:
        assert len(runs.found(updates[:1])) == 1
    assert len([*runs.folder.glob("*.json")]) == kept


def test_what_cannot_be_kept_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(data=SMALL, steps=3, evaluations=1, source_training=Pretraining(steps=3, batch_size=8))
    update = Update("small_separable", "head", None, "unseen", 0, 0.01)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Unfinished, "keep", full)
    with UpdateRuns([update], plan, folder / "full", lambda: LocalProcesses(1, Wall())) as runs:
        assert len(runs.found([update])) == 1


@pytest.mark.parametrize("task", TASKS)
def test_what_is_updated_on_and_what_is_evaluated_never_overlap(
    task: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at every image that the network sees, by content: in train mode to learn, in eval mode for results."""
    seen: dict[bool, set[bytes]] = {True: set(), False: set()}
    start = adaptation.start

    def watched(*arguments: Any) -> Any:
        step = start(*arguments)

        def look(module: nn.Module, images: tuple[torch.Tensor, ...]) -> None:
            seen[module.training].update(image.numpy().tobytes() for image in images[0])

        step.network.register_forward_pre_hook(look)
        return step

    monkeypatch.setattr(adaptation, "start", watched)
    update = Update("small_separable", "fft", None, task, 0, 1e-3)
    adaptation.run(update, Plan(data=SMALL, steps=24), folder / "cache")
    assert len(seen[True]) > 300
    assert len(seen[False]) > 150
    assert seen[True].isdisjoint(seen[False])
    splits = tasks.load(task, SMALL)
    parts = [splits.source, splits.update, splits.validation, splits.test]
    positions = [position for part in parts for position in part.positions.tolist()]
    assert len(positions) == len(set(positions)), "an image is in two splits"


def test_a_baseline_of_one_seed_cannot_judge(suite: Suite, recorded: Path, tmp_path: Path) -> None:
    def drop_a_seed(info: dict[str, Any]) -> None:
        part = info["adaptation"]
        del part["runs"][1:], part["accuracy_spread"]
        only = part["runs"][0]
        part |= {
            "accuracy_before": only["curve"][0],
            "accuracy_after": only["curve"][-1],
            "source_accuracy_before": only["source_accuracy_before"],
            "source_accuracy_after": only["source_accuracy_after"],
        }

    path = tmp_path / "0001_one.json"
    path.write_text(recorded.read_text())
    change(path, drop_a_seed)
    result = suite(f"{COMPARE}={path}")
    assert result.ret == 4
    assert "was adapted with one seed; expected two or more" in text(result)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--metrics=adaptation,flops",), "expected adaptation alone"),
        (("--metrics=flops", "--seeds=2"), "is given without --metrics adaptation"),
        (("--severity=6",), "--severity is '6'; expected a whole number from 1 to 5"),
        (("--severity=0",), "--severity is '0'; expected a whole number from 1 to 5"),
        (("--corruption=rain",), "--corruption is 'rain'; expected one of gaussian_noise"),
        (("--data=cifar10",), "the data set cifar10 needs --data-root DIR"),
        (("--threads=2",), "runs on the CPU with one thread an update"),
        (("--steps=3",), None),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_bad_options_are_one_line(suite: Suite, options: tuple[str, ...], complaint: str | None) -> None:
    result = suite(COMPARE, *options)
    assert result.ret == 4
    errors = [line for line in text(result).splitlines() if line.startswith("ERROR")]
    assert len(errors) == 1
    assert (complaint or "was adapted otherwise: steps 24, this run 3") in errors[0]
    assert "Traceback" not in text(result)


def test_the_update_benchmark_has_no_adaptation_test(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(
        REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY, "--collect-only", "-q"
    )
    assert "test_update[resnet18-fft]" in text(result)
    assert "test_adaptation" not in text(result)
