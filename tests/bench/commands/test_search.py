"""``update-bench search``: what it tries, chooses, prints and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from peft_update_bench.bench.__main__ import main
from peft_update_bench.bench.commands.search_result import choose, report
from peft_update_bench.fixtures.methods import METHODS
from peft_update_bench.fixtures.methods.learning_rates import PATH
from peft_update_bench.fixtures.training.adaptation import Outcome, Update


def test_the_search_takes_the_best_mean_and_of_equal_ones_the_lowest_rate() -> None:
    scores = {"fft": {0.01: {"a": [0.5], "b": [0.7]}, 0.001: {"a": [0.6], "b": [0.6]}, 0.1: {"a": [0.9], "b": [0.1]}}}
    assert choose(scores) == {"fft": 0.001}


@pytest.mark.parametrize("rates", ["", "0", "2", "x", "1e-3,-1", "0.1,nan,0.2"])
def test_bad_rates_are_one_line(rates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", f"--rates={rates}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expected comma-separated numbers above 0 and at most 1" in error


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A search of one step, whose updates all end alike."""
    network = tmp_path / "network"
    network.touch()
    there = "peft_update_bench.bench.processes.update_runs"
    monkeypatch.setattr(f"{there}.pretraining.pretrained", lambda *_: (None, network))
    monkeypatch.setattr(f"{there}.adaptation.run", lambda update, *_: _outcome(update))
    options = ["--architectures=mobilenet_v3_small", "--tasks=unseen", "--steps=1", "--workers=1", "--rates=1e-3"]
    return lambda *more: main(["search", *options, f"--cache-dir={tmp_path}", *more])


def test_a_search_prints_its_choice_and_writes_nothing(
    search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The rates that methods read took hours; one network and one step must not replace them."""
    before = PATH.read_bytes()
    assert search() == 0
    assert PATH.read_bytes() == before
    assert re.search(r"^\| lora +\| 50.0% +\| 0.001 +\|$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (".", "Is a directory; expected a file in a folder that can be written"),
        ("nowhere/rates.json", "No such file or directory; expected a file in a folder that can be written"),
        ("-", "expected a file's name, such as /dev/stdout"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_search(
    search: Callable[..., int], output: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which takes hours."""
    assert search(f"--output={output}") == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"update-bench search: --output {output}: {why}\n")


def test_a_search_writes_its_choice_and_every_score(search: Callable[..., int], tmp_path: Path) -> None:
    output = tmp_path / "rates.json"
    assert search(f"--output={output}") == 0
    found = json.loads(output.read_text())
    assert found["chosen"] == dict.fromkeys(METHODS, 0.001)
    assert found["scores"]["dora"] == {"0.001": {"mobilenet_v3_small-unseen": [0.5]}}
    assert found["seed"] == 1000


def test_a_score_is_the_mean_of_as_many_seeds(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the second of them no update comes to anything: the search counts them from 1000."""
    output = tmp_path / "rates.json"
    assert search("--methods=lora", "--seeds=3", f"--output={output}") == 0
    found = json.loads(output.read_text())
    assert (found["seed"], found["seeds"], found["finalists"]) == (1000, 3, None)
    assert '"mobilenet_v3_small-unseen": [0.5, 0.0, 0.5]' in output.read_text()
    assert re.search(r"^\| lora +\| 33.3% +\| 0.001 +\|$", capsys.readouterr().out, re.MULTILINE)


def test_seeds_after_the_first_try_each_method_s_best_rates(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best by the first seed diverges by the second, as one update's may."""
    output = tmp_path / "rates.json"
    of_three = ("--methods=lora", "--rates=1e-2,1e-3,1e-4", "--seeds=2", f"--output={output}")
    assert search(*of_three, "--finalists=2") == 0
    found = json.loads(output.read_text())
    by_rate = {rate: by_where["mobilenet_v3_small-unseen"] for rate, by_where in found["scores"]["lora"].items()}
    assert by_rate == {"0.0001": [0.4], "0.001": [0.5, 0.0], "0.01": [0.6, 0.0]}
    assert (found["chosen"], found["seeds"], found["finalists"]) == ({"lora": 0.01}, 2, 2)
    assert capsys.readouterr().out == (
        "|      | 0.0001   | 0.001   | 0.01   | chosen   |\n"
        "|:-----|:---------|:--------|:-------|:---------|\n"
        "| lora | (40.0%)  | 25.0%   | 30.0%  | 0.01     |\n"
        "\n"
        "In brackets: by the first seed alone.\n"
        "\n"
        "At an end of what was tried, beyond which a better rate may lie: lora (highest).\n"
    )
    assert search(*of_three, "--finalists=3") == 0
    assert "%)" not in capsys.readouterr().out
    assert json.loads(output.read_text())["scores"]["lora"]["0.0001"]["mobilenet_v3_small-unseen"] == [0.4, 0.0]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((0.6, 0.5, 0.4), "fft (lowest)"), ((0.5, 0.6, 0.4), ""), ((0.4, 0.5, 0.6), "fft (highest)"), ((0.5,), ""),
    ],
)  # fmt: skip
def test_a_choice_at_an_end_of_the_rates_is_told(scores: tuple[float, ...], said: str) -> None:
    found = report({"fft": {0.1 * (place + 1): {"a": [score]} for place, score in enumerate(scores)}})
    assert found.partition("better rate may lie: ")[2] == (said and f"{said}.")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--finalists=1"], "--finalists is 1; expected from 2 to the number of --rates, which is 2"),
        (["--finalists=3"], "--finalists is 3; expected from 2 to the number of --rates, which is 2"),
        (["--finalists=x"], "--finalists is 'x'; expected a whole number of at least 1"),
        (["--finalists=2", "--seeds=1"], "--finalists is for the seeds after the first, and there is one; expected "
         "--seeds 2 or more"),
    ],
)  # fmt: skip
def test_finalists_that_choose_nothing_are_refused(
    search: Callable[..., int], options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--rates=1e-3,1e-2", "--seeds=2", *options) == 2
    assert capsys.readouterr().err == f"update-bench search: {why}\n"


def test_a_search_leaves_the_file_s_other_methods(search: Callable[..., int], tmp_path: Path) -> None:
    output = tmp_path / "rates.json"
    assert search("--methods=lora,fft", f"--output={output}") == 0
    held = json.loads(output.read_text())
    held["scores"]["fft"]["0.001"]["mobilenet_v3_small-unseen"] = [0.75]
    output.write_text(json.dumps(held))
    assert search("--methods=bitfit,lora", f"--output={output}") == 0
    found = json.loads(output.read_text())
    assert list(found["chosen"]) == list(found["scores"]) == ["fft", "lora", "bitfit"]
    assert found["scores"]["fft"] == {"0.001": {"mobilenet_v3_small-unseen": [0.75]}}
    assert {**found, "chosen": 0, "scores": 0} == {**held, "chosen": 0, "scores": 0}


def test_rates_are_what_was_typed_to_the_last_digit(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, rates = tmp_path / "rates.json", ("0.0012345678", "0.0012345679")
    for method in ("lora", "fft"):
        assert search(f"--methods={method}", f"--rates={','.join(rates)}", f"--output={output}") == 0
    assert [tuple(of_rates) for of_rates in json.loads(output.read_text())["scores"].values()] == [rates, rates]
    assert [*rates] == capsys.readouterr().out.split("\n")[0].replace("|", " ").split()[:-1]


@pytest.mark.parametrize(
    ("option", "unlike"),
    [
        ("--steps=2", "steps"), ("--rates=1e-3,1e-2", "rates"), ("--tasks=shift", "architectures or tasks"),
        ("--image-size=28", "image_size"), ("--seeds=2", "seeds"),
    ],
)  # fmt: skip
def test_a_search_under_other_conditions_takes_another_file(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, unlike: str
) -> None:
    """Unless it searches all that the file holds."""
    output = tmp_path / "rates.json"
    assert search("--methods=lora", f"--output={output}") == 0
    held = output.read_bytes()
    capsys.readouterr()
    assert search("--methods=bitfit", option, f"--output={output}") == 2
    assert capsys.readouterr().err == (
        f"update-bench search: --output {output} holds lora, searched with other {unlike}; expected a new file, or the "
        "same search\n"
    )
    assert output.read_bytes() == held
    assert search("--methods=lora", option, f"--output={output}") == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"scores": 1}', '{"scores": {"fft": {"0.1": {"x": 0.5}}}}', '{"scores": {"fft": {"x": {}}}}'],
)
def test_a_search_does_not_replace_what_is_no_search_s(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    output = tmp_path / "rates.json"
    output.write_text(text)
    assert search("--methods=lora", f"--output={output}") == 2
    assert capsys.readouterr().err.endswith(f"{output} is there, and is no search's; expected one, or a new file\n")
    assert output.read_text() == text


def test_a_search_tries_the_methods_that_are_named(
    search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--methods=bitfit,lora") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert [row.split()[1] for row in rows] == ["bitfit", "lora"]


def test_a_search_on_other_images_says_which_it_lacks(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--data=fashion_mnist") == 2
    assert "the data set fashion_mnist needs --data-root DIR" in capsys.readouterr().err
    output = tmp_path / "rates.json"
    assert search("--methods=lora", "--data=digits", "--image-size=16", f"--output={output}") == 0
    found = json.loads(output.read_text())
    assert (found["data"], found["image_size"], found["weights"]) == ("digits", 16, "packaged")


def _outcome(update: Update) -> Outcome:
    by_rate = {1e-4: 0.4, 1e-3: 0.5, 1e-2: 0.6}.get(update.learning_rate, 0.5)
    return Outcome([0.1, 0.0 if update.seed == 1001 else by_rate], 0.9, 0.8)
